// Writes to stdout in the way HOW says, then makes the file DONE and lives on. If HOW
// is `killed`, it lives until there is a file DONE.go: then it writes, and kills itself. For node
// and bun.

import { closeSync, existsSync, unlinkSync, writeFileSync, writeSync } from "node:fs";
import { Worker, isMainThread, workerData } from "node:worker_threads";

const alphabet = "abcdefghijklmnopqrstuvwxyz";
const text = (length) => alphabet.repeat(Math.ceil(length / 26)).slice(0, length);
const print = (data) => new Promise((done) => process.stdout.write(data, done));

// As console.log does, but from a thread, whose own goes through the main one.
const many = (thread) => {
  for (let number = 0; number < 2000; number++) writeSync(1, `${thread} ${number} a line\n`);
};

const ways = {
  eight: () => print(text(8 << 20)),
  long: async () => {
    for (let line = 0; line < 3; line++) await print(`${text(1 << 20)}\n`);
  },
  nul: () => print("a\0b\0\0\nc\0\n".repeat(1000)),
  tail: () => print("one\ntwo\nno newline"),
  threads: () => {
    const start = (thread) => new Worker(new URL(import.meta.url), { workerData: { thread } });
    const ended = (worker) => new Promise((done) => worker.on("exit", done));
    return Promise.all([0, 1, 2, 3].map((thread) => ended(start(thread))));
  },
  closed: async () => {
    await print("before\n");
    closeSync(1);
    writeSync(2, "still here\n");
  },
  killed: () => {
    const go = `${process.env.DONE}.go`;
    setInterval(async () => {
      if (!existsSync(go)) return;
      unlinkSync(go);
      await print(`${"last words\n".repeat(3000)}and no`);
      process.kill(process.pid, "SIGKILL");
    }, 10);
  },
};

if (isMainThread) {
  await ways[process.env.HOW]();
  writeFileSync(process.env.DONE, "");
  setInterval(() => {}, 3_600_000);
} else {
  many(workerData.thread);
}
