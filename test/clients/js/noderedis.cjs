// node-redis, unmodified and with its defaults, through Sentinel: increments one after the other until standard input ends.
const { createSentinel } = require("redis");
const { run } = require("./run.cjs");
const sentinel = createSentinel({ name: run.name, sentinelRootNodes: run.sentinels });
sentinel.on("error", (e) => run.note(e));
sentinel.connect().then(() => run.loop(() => sentinel.incr(run.key), () => sentinel.destroy()));
