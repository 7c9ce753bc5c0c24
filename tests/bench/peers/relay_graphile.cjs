// graphile-worker: each job is one POST. `node relay_graphile.cjs DB URL COUNT DUE`; prints `ready` when it works.
const { run, makeWorkerUtils, Logger } = require("graphile-worker");
const { post } = require("./relay_post.cjs");
const [db, url, count, due] = process.argv.slice(2);
const logger = new Logger(() => () => {});
(async () => {
  const utils = await makeWorkerUtils({ connectionString: db, logger });
  await utils.migrate();
  const jobs = Array.from({ length: Number(count) }, (_, n) => ({
    identifier: "fire", payload: { job_id: `job-${n}`, fire_at: "then" }, runAt: new Date(Number(due) * 1000),
  }));
  await utils.addJobs(jobs);
  await run({
    connectionString: db, concurrency: 100, maxPoolSize: 10, pollInterval: 250, logger,
    preset: { worker: { localQueue: { size: 250 }, completeJobBatchDelay: 10, failJobBatchDelay: 10 } },
    taskList: { fire: (payload) => post(url, payload) },
  });
  console.log("ready");
})();
