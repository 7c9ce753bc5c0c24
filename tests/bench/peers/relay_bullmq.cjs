// BullMQ: each job is one POST. `node relay_bullmq.cjs REDIS-PORT URL COUNT DUE`; prints `ready` when it works.
const { Queue, Worker } = require("bullmq");
const { post } = require("./relay_post.cjs");
const [port, url, count, due] = process.argv.slice(2);
const connection = { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null };
(async () => {
  const queue = new Queue("fire", { connection });
  const jobs = Array.from({ length: Number(count) }, (_, n) => ({
    name: "fire", data: { job_id: `job-${n}`, fire_at: "then" },
    opts: { delay: Math.max(0, Number(due) * 1000 - Date.now()), removeOnComplete: true },
  }));
  await queue.addBulk(jobs);
  new Worker("fire", (job) => post(url, job.data), { connection, concurrency: 250 });
  console.log("ready");
})();
