"""What tests of real processes share: a supervisor program, jobs as small programs, and waiting for facts."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import chronos_cli
from chronos_cli.running.lock_place import LockPlace
from chronos_cli.running.process import RunFacts
from chronos_cli.running.references import Lookup

ROOT = Path(chronos_cli.__file__).parents[1]
FACTS = RunFacts("job", "run-1", "2026-11-20T15:34:15+00:00", 1)

NOTHING = Lookup(started_with={}, environment={}, folder="/", lock_fd=-1)
"""Looks up where nothing is to be found."""

RUN = ("job", "run-1")


def places_of(lock_dir):
    """The place of run locks that `lock_dir` is, inside its home."""
    return LockPlace(Path(lock_dir).parents[1], lambda: "store-1")


def eventually(fact, within_s=5.0):
    """Wait until a fact holds; what it last was."""
    until = time.monotonic() + within_s
    while not (found := fact()) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def is_running(pid):
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def read_pid(path):
    """The pid that a job wrote to a file, once it is there."""
    return int(eventually(lambda: path.exists() and path.read_text().strip()))


def python(code):
    """The argument list of a Python program given as text, without site-packages so that it starts quickly."""
    return [sys.executable, "-I", "-S", "-c", code]


def program_environment(**more):
    """An environment in which this package can be imported from anywhere."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


class Supervisor:
    """A started supervisor program and the job under it."""

    def __init__(self, tmp_path, lock_dir, argv, timeout_s, prefix, environment):
        spec = {"argv": argv, "lock_dir": str(lock_dir), "output": str(tmp_path / "out.log"), "timeout_s": timeout_s}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(Path(__file__).with_name("supervisor.py")), json.dumps(spec)],
            stdout=subprocess.PIPE,
            env=program_environment(**environment),
            text=True,
            start_new_session=True,
        )
        started = json.loads(self.process.stdout.readline())
        self.owner, self.child, self.guard = started["owner"], started["child"], started["guard"]

    def ended(self):
        text = self.process.stdout.readline()
        return json.loads(text) if text else None

    def clean_up(self):
        for kill in (lambda: os.killpg(self.child, signal.SIGKILL), self.process.kill):
            with suppress(ProcessLookupError):
                kill()
        self.process.wait(10)
        self.process.stdout.close()
