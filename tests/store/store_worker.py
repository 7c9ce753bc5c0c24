"""A process that uses a store: `python store_worker.py ACTION JSON`. It starts when its standard input is closed."""

import json
import os
import sys
import time
from pathlib import Path

from chronos_cli.store.interface import JOBS_KEY, VersionConflict
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.open import open_store


def main(action, given):
    store = open_store(given["url"], endpoint=given.get("endpoint"), lock_timeout_s=given.get("lock_timeout_s", 60.0))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    ACTIONS[action](store, given)


def add_or_pause(store, given):
    """Change one record of jobs.json the way every command does."""
    while True:
        try:
            with store.exclusive(JOBS_KEY):
                found = store.read(JOBS_KEY)
                jobs = JobsFile.parse(found.data)
                value = jobs.get(given["id"])
                if value is None:
                    jobs.add({"id": given["id"], "enabled": True})
                else:
                    jobs.put(given["id"], {**value, "enabled": False, "state": "paused"})
                store.replace(JOBS_KEY, jobs.render(), found.version)
        except VersionConflict:
            time.sleep(0.01 + os.urandom(1)[0] / 2000)
        else:
            break
    print("done")


def create(store, given):
    try:
        store.create(given["key"], str(os.getpid()).encode())
    except VersionConflict:
        print("lost")
    else:
        print("won")


def replace(store, given):
    try:
        store.replace(given["key"], str(os.getpid()).encode(), given["version"])
    except VersionConflict:
        print("lost")
    else:
        print("won")


def count(store, given):
    """Add one to a number, as often as asked, through compare-and-swap alone."""
    for _ in range(given["times"]):
        while True:
            found = store.read(given["key"])
            try:
                store.replace(given["key"], str(int(found.data) + 1).encode(), found.version, durable=False)
            except VersionConflict:
                continue
            break
    print("done")


def claim_all(store, given):
    """Claim every job of one document that nobody has claimed yet, through the repository."""
    import random

    from chronos_cli.store.repository import Repository

    repository = Repository(store, sleep=time.sleep, random=random.random)
    mine = 0
    for job_id in given["ids"]:

        def claim(jobs, job_id=job_id):
            value = jobs.get(job_id)
            if value["claimed_by"] is not None:
                return value["claimed_by"]
            jobs.put(job_id, {**value, "claimed_by": given["me"]})
            return given["me"]

        mine += repository.change(claim) == given["me"]
    print(mine)


def die_at(store, given):
    """Replace jobs.json and be killed at the step given: before that call to the system, or in the middle of a write."""
    steps = {"left": given["step"]}

    def watched(name, real):
        def call(*args, **more):
            steps["left"] -= 1
            if steps["left"] == 0:
                if name == "write" and given["half"]:
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), 9)
            return real(*args, **more)

        return call

    found = store.read(JOBS_KEY)
    with store.exclusive(JOBS_KEY):
        for name in ("open", "write", "fsync", "utime", "fchmod", "fchown", "link", "close", "fstat"):
            setattr(os, name, watched(name, getattr(os, name)))
        for name in ("replace", "unlink"):
            setattr(Path, name, watched(name, getattr(Path, name)))
        store.replace(JOBS_KEY, given["data"].encode(), found.version)
    os.write(1, b"finished\n")
    os.kill(os.getpid(), 9)


def small_files_only(store, given):
    """Replace jobs.json under a limit on the size of files."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (given["limit"], given["limit"]))
    report(lambda: store.replace(JOBS_KEY, b"x" * given["size"], store.read(JOBS_KEY).version))


def as_another(store, given):
    """Read or replace jobs.json as a user without rights."""
    import grp  # noqa: F401 - while the interpreter's own files can still be read
    import pwd  # noqa: F401 - likewise

    os.setgroups([])
    os.setgid(given["gid"])
    os.setuid(given["uid"])
    found = store.read(JOBS_KEY) if given["reads"] else None
    report(lambda: store.replace(JOBS_KEY, b"{}", found.version) if found else store.read(JOBS_KEY))


def report(attempt):
    try:
        attempt()
    except Exception as error:  # noqa: BLE001 - the parent judges what it was
        print(json.dumps({"error": type(error).__name__, "text": str(error), "hint": getattr(error, "hint", None)}))
    else:
        print(json.dumps({"error": None}))


ACTIONS = {
    action.__name__: action
    for action in (add_or_pause, create, replace, count, claim_all, die_at, small_files_only, as_another)
}

if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
