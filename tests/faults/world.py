"""A home whose disk fails when it is told to: the product's own code, a clock that can be moved, a NAS that says yes."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from chronos_cli.config import load_config
from chronos_cli.core import edits
from chronos_cli.core.policy import OnCrash, Policy
from chronos_cli.core.schedule import Interval
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import Arm, ArmAnswer, ArmList, ArmRequest, CallResult, Nas
from chronos_cli.operations.assembly import ProcessEnvironment, open_home, uploads_to
from chronos_cli.operations.context import NasTarget
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.running.lock_place import LockPlace
from chronos_cli.store.repository import Repository

PERIOD = timedelta(hours=1)
TERMINAL = {"ok", "failed", "timeout", "interrupted", "lost", "skipped", "missed"}


class World:
    """One home with hourly jobs that write their times into a diary; `moved` is how far its clock is ahead."""

    def __init__(self, folder, *, job_ids=("a",), documents=None, nas=True, on_crash=OnCrash.RERUN, timeout=30):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.environ = {
            "PATH": os.environ["PATH"],
            "CHRONOS_HOME": str(self.home),
            "TMPDIR": str(folder),
        }
        self.moved = timedelta()
        self.documents = documents
        self.nas = KindNas() if nas else None
        self.policy = Policy(timeout=timeout, on_crash=on_crash)
        for job_id in job_ids:
            jobs.add(self.context(), self.draft(job_id))
        self.moved += PERIOD

    def draft(self, job_id):
        """What a job is made from."""
        return edits.JobDraft(
            job_id=job_id, name=job_id, schedule=Interval(seconds=int(PERIOD.total_seconds())), zone=ZoneInfo("UTC"),
            zone_name="UTC", policy=self.policy, times=None,
            action={"shell": f"echo $CHRONOS_FIRE_AT >> {self.diary_of(job_id)}"},
        )  # fmt: skip

    def clock(self):
        return datetime.now(UTC) + self.moved

    def sleep(self, seconds):
        """Nobody waits: the clock moves instead."""
        self.moved += timedelta(seconds=seconds)

    def context(self, documents=None, machine="one"):
        """What one process has, as its door would put it together; the lease is counted by the clock that moves.

        With `documents` it is a bucket's: the locks of each `machine` are its own.
        """
        config = load_config(environ=self.environ, home=str(self.home))
        made = open_home(config, ProcessEnvironment(environ=self.environ, secrets={}), armed=False)
        made.processes.elapsed = lambda _: None
        store = documents or self.documents or made.repository.documents
        if store is not made.repository.documents:
            made.processes.keep_output = uploads_to(self.repository(store))
            own = self.folder / machine
            own.mkdir(exist_ok=True)
            made.processes.home = None
            made.processes.locks = LockPlace(None, lambda: "0123456789abcdef", machine_home=lambda: str(own))
        wire = NasTarget(
            portal_url="https://nas", callback_url="https://me", audience="agent:1", connect=lambda _: self.nas
        )
        return replace(
            made,
            repository=self.repository(store),
            clock=self.clock,
            wire=wire if self.nas is not None else None,
        )

    def repository(self, store):
        return Repository(store, sleep=self.sleep, random=lambda: 0.5)

    def diary_of(self, job_id):
        return self.folder / f"diary-{job_id}"

    def diary(self, job_id):
        path = self.diary_of(job_id)
        return path.read_text().split() if path.exists() else []

    def record(self, job_id):
        return self.context().repository.jobs().get(job_id)

    def cursor(self, job_id):
        return datetime.fromisoformat(self.record(job_id)["next_run_at"])

    def rows(self, job_id):
        """All rows, by the instant of their occurrence."""
        rows = self.context().repository.rows.of(job_id)
        return {row.scheduled_at: row for row in rows if row.scheduled_at is not None}

    def judge(self, job_id, instants, *, unsaid="ok"):
        """Each occurrence has one row that is settled, and ran once where that says so, and never twice.

        `unsaid`: what a run may be called as well whose end could be written down nowhere.
        """
        rows, ran = self.rows(job_id), self.diary(job_id)
        for at in instants:
            assert at in rows, f"{at} has no row: {sorted(rows)}"
            state, times = rows[at].state.value, ran.count(at.isoformat())
            assert state in TERMINAL, f"{at} is {state}"
            assert times <= 1, f"{at} ran {times} times"
            assert times == 1 or state != "ok", f"{at} is ok, and never ran"
            assert times == 0 or state in ("ok", unsaid), f"{at} ran, and is {state}: {rows[at].reason}"
        assert self.record(job_id)["chronos"].get("open", []) == []


class KindNas(Nas):
    """Holds what it is sent."""

    def __init__(self):
        self.held = {}

    def provision(self, request):
        self.held[request.job_id] = request.fire_at
        return ArmAnswer(schedule_id="1")

    def cancel(self, job_id, generation=None):
        self.held.pop(job_id, None)

    def list(self):
        arms = (
            Arm(job_id=job, fire_at=at, fire_at_text=at.isoformat(), schedule_id="1") for job, at in self.held.items()
        )
        return ArmList(arms=tuple(arms))

    def apply(self, requests, *, progress=None):
        for request in requests:
            if isinstance(request, ArmRequest):
                yield CallResult(request=request, answer=self.provision(request))
            else:
                self.cancel(request.job_id)
                yield CallResult(request=request)

    def close(self):
        pass


WRITES = {
    "open": (errno.ENOSPC, errno.EIO, errno.EROFS),
    "write": (errno.ENOSPC, errno.EIO),
    "pwrite": (errno.ENOSPC, errno.EIO),
    "posix_fallocate": (errno.ENOSPC, errno.EIO),
    "fsync": (errno.ENOSPC, errno.EIO),
    "utime": (errno.EROFS, errno.EIO),
    "fchmod": (errno.EROFS, errno.EIO),
    "fchown": (errno.EROFS, errno.EIO),
    "mkdir": (errno.ENOSPC, errno.EIO, errno.EROFS),
    "link": (errno.ENOSPC, errno.EIO, errno.EXDEV, errno.EROFS),
    "rename": (errno.ENOSPC, errno.EIO, errno.EXDEV, errno.EROFS),
    "replace": (errno.ENOSPC, errno.EIO, errno.EXDEV, errno.EROFS),
    "unlink": (errno.EIO, errno.EROFS),
    "flock": (errno.ENOLCK, errno.EIO),
}
"""What changes a disk, and what a disk may say to it."""


def once(at, choose):
    """The write number `at` fails, in one of the ways in which it can; the disk is well again after it."""

    def says(number, name, where):
        return WRITES[name][choose % len(WRITES[name])] if number == at else None

    return says


class Full:
    """The disk is full from write number `at` on: nothing new finds room, what has its room already is written."""

    def __init__(self, at):
        self.at = at
        self.without_room = set()

    def __call__(self, number, name, where):
        if number < self.at:
            return None
        if name == "posix_fallocate":
            self.without_room.add(where)
        if name == "pwrite" and where not in self.without_room:
            return None
        return errno.ENOSPC if errno.ENOSPC in WRITES[name] and name != "fsync" else None


class ReadOnly:
    """The disk is read-only from write number `at` on, as the kernel makes it after an error: nothing is written."""

    def __init__(self, at):
        self.at = at

    def __call__(self, number, name, where):
        return errno.EROFS if number >= self.at and name not in ("flock", "fsync") else None


class Faults:
    """Counts this process's writes below a folder, and fails those of which `says(number, name, path)` gives an errno."""

    def __init__(self, folder, says=lambda *_: None):
        self.folder = os.path.realpath(folder)
        self.says = says
        self.pid = os.getpid()
        self.seen = []

    def met(self, name, args, flags=0):
        where = self._where(name, args[0], flags) if os.getpid() == self.pid else None
        if where is None:
            return
        self.seen.append(name)
        error = self.says(len(self.seen) - 1, name, where)
        if error is not None:
            raise OSError(error, os.strerror(error), where)

    def _where(self, name, where, flags):
        """The path that a write goes to, if that is one of the home's."""
        if name == "open" and not flags & (os.O_CREAT | os.O_TRUNC):
            return None
        if isinstance(where, int):
            kind = os.fstat(where).st_mode
            if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                return None
            where = os.readlink(f"/proc/self/fd/{where}")  # noqa: PTH115 - a file that is gone has a name of its own
        path = os.path.abspath(os.fsdecode(where))  # noqa: PTH100 - a link is not followed
        return path if path.startswith(self.folder) else None


@contextmanager
def failing(faults):
    """Have every write go past `faults` first."""

    def wrap(name, real):
        def write(*args, **more):
            faults.met(name, args, args[1] if name == "open" and len(args) > 1 else 0)
            return real(*args, **more)

        return write

    places = [(fcntl if name == "flock" else os, name) for name in WRITES]
    before = [(module, name, getattr(module, name)) for module, name in places]
    for module, name, real in before:
        setattr(module, name, wrap(name, real))
    try:
        yield faults
    finally:
        for module, name, real in before:
            setattr(module, name, real)
