// ioredis, unmodified and with its defaults, through Sentinel: increments one after the other until standard input ends.
const Redis = require("ioredis");
const { run } = require("./run.cjs");
const redis = new Redis({ sentinels: run.sentinels, name: run.name });
redis.on("error", (e) => run.note(e));
run.loop(() => redis.incr(run.key), () => redis.disconnect());
