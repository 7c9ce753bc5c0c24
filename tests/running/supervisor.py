"""A program that supervises one job as the product does, for tests that must be able to kill the supervisor.

Reads {"argv", "lock_dir", "output", "timeout_s", "before"?} from its first argument; prints the owner, then the end.
"""

import json
import os
import sys
from pathlib import Path

from chronos_cli.running.actions import ProcessAction
from chronos_cli.running.lock import RunLock
from chronos_cli.running.lock_place import LockPlace
from chronos_cli.running.process import RunFacts, start
from chronos_cli.running.secrecy import take_secrets
from chronos_cli.running.signals import Interrupts
from chronos_cli.running.spawn import death_wrapper
from chronos_cli.running.supervise import wait

spec = json.loads(sys.argv[1])
take_secrets(os.environ)
lock = RunLock.acquire(LockPlace(Path(spec["lock_dir"]).parents[1], lambda: "store-1"), "job", "run-1")
with Interrupts() as interrupts:
    child = start(
        ProcessAction("command", tuple(spec["argv"]), "/"),
        facts=RunFacts("job", "run-1", "2026-11-20T15:34:15+00:00", 1),
        environment=os.environ,
        lock=lock,
        output=Path(spec["output"]),
        wrapper=death_wrapper() if os.environ.pop("WRAPPER", "") else (),
    )
    print(json.dumps({"owner": lock.owner(), "child": child.pid, "guard": child.guard.pid}), flush=True)
    ended = wait(child, timeout_s=spec["timeout_s"], interrupts=interrupts)
    print(json.dumps(ended._asdict()), flush=True)
lock.release()
