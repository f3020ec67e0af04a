// What both clients share: arguments (group, key, host:port …), and a loop that prints "ok N" or "err REASON" for each increment.
const [name, key, ...addrs] = process.argv.slice(2);
let ended = false;
process.stdin.resume();
process.stdin.on("end", () => { ended = true; });
exports.run = {
  name,
  key,
  sentinels: addrs.map((a) => ({ host: a.slice(0, a.lastIndexOf(":")), port: Number(a.slice(a.lastIndexOf(":") + 1)) })),
  note: (e) => console.log("note " + String(e && e.message).replace(/\n/g, " ")),
  loop: async (incr, close) => {
    while (!ended) {
      try {
        console.log("ok " + (await incr()));
      } catch (e) {
        console.log("err " + String(e && e.message).replace(/\n/g, " "));
        await new Promise((done) => setTimeout(done, 20));
      }
    }
    close();
    process.exit(0);
  },
};
