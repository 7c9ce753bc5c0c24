"""How long it takes to load 10,000 jobs, change one and save them durably: `python tests/bench/store_rewrite.py [ROUNDS]`.

Beside it, the same with the whole file parsed and written again as JSON, under the same lock and with the same care for
durability. The jobs are those of the fixture, a file that hermes-agent 0.19 wrote, over and over. Prints milliseconds.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from chronos_cli.store.interface import JOBS_KEY
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.local import LocalStore

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "hermes-0.19" / "cron" / "jobs.json"
JOBS = 10_000


def sample():
    """The bytes of a file with that many jobs."""
    document = json.loads(FIXTURE.read_bytes())
    shapes = document["jobs"]
    jobs = [{**shapes[number % len(shapes)], "id": f"{number:012x}"} for number in range(JOBS)]
    return json.dumps({**document, "jobs": jobs}, indent=2).encode()


def spliced(store, job_id, mark):
    """One change, rewriting the bytes of what changed."""
    with store.exclusive(JOBS_KEY):
        found = store.read(JOBS_KEY)
        jobs = JobsFile.parse(found.data)
        jobs.put(job_id, {**jobs.get(job_id), "last_status": mark})
        store.replace(JOBS_KEY, jobs.render(), found.version)


def whole(store, job_id, mark):
    """One change, writing everything again."""
    with store.exclusive(JOBS_KEY):
        found = store.read(JOBS_KEY)
        document = json.loads(found.data)
        next(job for job in document["jobs"] if job["id"] == job_id)["last_status"] = mark
        store.replace(JOBS_KEY, json.dumps(document, indent=2).encode(), found.version)


def main(rounds):
    data = sample()
    print(f"{JOBS} jobs, {len(data) / 1e6:.1f} MB, {rounds} rounds; milliseconds: least, median, most")
    with tempfile.TemporaryDirectory() as home:
        store = LocalStore(Path(home), lock_timeout_s=10)
        store.create(JOBS_KEY, data)
        store.replace(JOBS_KEY, data, store.read(JOBS_KEY).version)  # The day's backup is made once.
        for change in (spliced, whole):
            took = []
            for number in range(rounds):
                start = time.perf_counter()
                change(store, f"{number * 997 % JOBS:012x}", f"round {number}")
                took.append((time.perf_counter() - start) * 1000)
            print(f"{change.__name__:8} {min(took):6.0f} {statistics.median(took):6.0f} {max(took):6.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
