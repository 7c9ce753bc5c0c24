"""What a job and its runner have inherited: a program for a job that tells it, and the comparison of two such tales."""

from __future__ import annotations

from typing import Any

DUMP = """\
import json, os, signal, sys
def of(pid):
    status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open(f"/proc/{pid}/status") if ":\\t" in line)
    kept = ("Umask", "SigBlk", "SigIgn", "SigCgt", "Uid", "Gid", "Groups", "NoNewPrivs", "Threads", "CapEff")
    found = {name: status.get(name) for name in kept}
    for name in ("SigBlk", "SigIgn", "SigCgt"):  # two are the C library's own: its posix_spawn(3) ignores them
        found[name] = int(found[name], 16) & ~0x180000000
    found["limits"] = open(f"/proc/{pid}/limits").read()
    found["own session"] = os.getsid(pid) == pid
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    found["own group"], found["nice"] = int(fields[2]) == pid, fields[16]
    try:
        # The lock's number and name are the run's own; that there is just one such is seen.
        names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        # Some builds of libffi, which ctypes loads, keep their own file open.
        found["files"] = sorted(
            "own" if name.endswith(".log") or "/locks/" in name else name.split(":")[0]
            for name in names if "/libffi" not in name
        )
        found["cwd"] = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        pass
    return found
own = {name: value for name, value in os.environ.items() if name not in ("CHRONOS_RUN_ID", "CHRONOS_FIRE_AT", "CHRONOS_JOB_ID")}
parent = int(open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1])
dump = {"job": of(os.getpid()), "runner": of(os.getppid()), "environment": own}
words = open(f"/proc/{os.getppid()}/cmdline").read().split("\\0")
print(json.dumps({"dump": dump, "from": parent, "words": words}))
"""
"""A job of this program prints all that it and its runner have of their starter, the pid of that, and the
runner's command line."""


def differences(started: dict[str, Any], forked: dict[str, Any]) -> dict[str, Any]:
    """What two dumps do not have in common."""
    return {
        f"{of}: {name}": (started[of].get(name), forked[of].get(name))
        for of in ("job", "runner", "environment")
        for name in started[of].keys() | forked[of].keys()
        if started[of].get(name) != forked[of].get(name)
    }
