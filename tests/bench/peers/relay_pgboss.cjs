// pg-boss: each job is one POST. `node relay_pgboss.cjs DB URL COUNT DUE`; prints `ready` when it works.
const PgBoss = require("pg-boss");
const { post } = require("./relay_post.cjs");
const [db, url, count, due] = process.argv.slice(2);
(async () => {
  const boss = new PgBoss(db);
  await boss.start();
  await boss.createQueue("fire");
  const startAfter = new Date(Number(due) * 1000);
  const jobs = Array.from({ length: Number(count) }, (_, n) => ({
    name: "fire", data: { job_id: `job-${n}`, fire_at: "then" }, startAfter,
  }));
  await boss.insert(jobs);
  await boss.work("fire", { batchSize: 250, pollingIntervalSeconds: 0.5 }, (found) =>
    Promise.all(found.map((job) => post(url, job.data))));
  console.log("ready");
})();
