"""A store that somebody hostile has written to: rows that name what is not theirs."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chronos_cli.running.machine import machine_identity, start_time

_KILL = os.kill  # a test may have put another in its place

RUN = "20261120T153415Z"
HOLDER = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def holding(path):
    """A process that holds the flock of a file, as a database server does of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, start_new_session=True
    )
    process.stdout.readline()
    try:
        yield process
    finally:
        _KILL(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def dead_pid():
    """The number of a process that is over."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def owner_of(lock, *, token="0123456789abcdef", pid=None, group=None):
    """An owner as a row records it, which names this machine, a dead supervisor, and a lock file of its choice."""
    found = Path(lock).stat()
    return {
        "machine": machine_identity(),
        "pid": pid or dead_pid(),
        "started": 1,
        "lock": str(lock),
        "file": [found.st_dev, found.st_ino],
        "token": token,
        **({"pgid": group, "group_started": start_time(group)} if group else {}),
    }


def put_run(home, owner, *, job_id="a", run_id=RUN, lease_over=True, **more):
    """Write a job with a run in hand, and its row, as somebody would who may write the store and nothing else."""
    now = datetime.now(UTC).replace(microsecond=0)
    claimed = now - timedelta(hours=3)
    entry = {"run": run_id, "kind": "run", "claim": "c", "fire_at": claimed.isoformat(),
             "claimed_at": claimed.isoformat(), "timing": "on_time"}  # fmt: skip
    job = {"id": job_id, "name": job_id, "schedule": {"kind": "interval", "minutes": 60}, "enabled": True,
           "next_run_at": (now + timedelta(minutes=30)).isoformat(),
           "chronos": {"action": {"command": ["true"]}, "open": [entry]}}  # fmt: skip
    row = {"job_id": job_id, "run_id": run_id, "state": "running", "kind": "on_time", "claim": "c",
           "claimed_at": claimed.isoformat(), "scheduled_at": claimed.isoformat(), "starter": "s", "owner": owner,
           "started_at": claimed.isoformat(),
           "lease_ends_at": (now + timedelta(hours=-1 if lease_over else 1)).isoformat(), **more}  # fmt: skip
    (home / "cron" / "runs" / job_id).mkdir(parents=True, exist_ok=True)
    (home / "cron" / "jobs.json").write_text(json.dumps({"jobs": [job], "updated_at": now.isoformat()}))
    (home / "cron" / "runs" / job_id / f"{run_id}.json").write_text(json.dumps(row))
    return job, row
