"""The lock that says "this run lives": a flock(2) held by its supervisor and by every process it starts.

A lock belongs to an open file description, which children inherit, so it is free only when the last of them is gone; no
crash leaves it behind, and nothing has to be refreshed. Its file also says what may be killed for that run: which
process supervises it and which group its job is, of which boot of which machine. A row only says that there is a run:
what it names counts where a file in our own folder (`lock_place`) bears the run's own name and token.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.files import PRIVATE_FILE, Place
from chronos_cli.frozen import frozen
from chronos_cli.running.errors import LockDirError
from chronos_cli.running.machine import boot_clock, machine_identity, start_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.running.lock_place import LockPlace

MAX_LOCK_BYTES: Final = 4096
_TOKEN_DIGITS: Final = 16


class RunLock:
    """The held lock of one attempt of a run."""

    def __init__(self, fd: int, place: Place, note: dict[str, Any]) -> None:
        self.fd = fd
        self._place = place
        self._note = note

    @property
    def run_id(self) -> str:
        """The run."""
        return str(self._note["run_id"])

    @property
    def token(self) -> str:
        """What the row and the file bear, and no other run's do."""
        return str(self._note["token"])

    @property
    def path(self) -> str:
        """The lock file, for messages."""
        return self._place.path

    @classmethod
    def acquire(cls, places: LockPlace, job_id: str, run_id: str) -> RunLock:
        """Make and take a lock that nobody has had before. Raises LockDirError.

        Each attempt has a file of its own (a random token is in its name), so a retry never waits for a leftover.
        """
        token = os.urandom(_TOKEN_DIGITS // 2).hex()
        folder, path = places.make()
        name = lock_name(job_id, run_id, token)
        place = Place(folder, name, os.path.join(path, name))
        try:
            fd = place.open(os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.fchmod(fd, PRIVATE_FILE)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            pid = os.getpid()
            note = {
                "token": token,
                "job_id": job_id,
                "run_id": run_id,
                "machine": machine_identity(),
                "pid": pid,
                "started": start_time(pid),
            }
            lock = cls(fd, place, note)
            lock._write()
        except OSError as error:
            place.close()
            raise LockDirError(f"cannot lock {place.path}: {error.strerror}") from error
        return lock

    def owner(self) -> dict[str, Any]:
        """Return who runs this, as JSON for the run's row; `liveness` reads it."""
        found = os.fstat(self.fd)
        return {
            "machine": self._note["machine"],
            "pid": self._note["pid"],
            "started": self._note["started"],
            "lock": self._place.name,
            "file": [found.st_dev, found.st_ino],
            "token": self.token,
            "clock": boot_clock(),
        }

    def record_group(self, pgid: int) -> None:
        """Note the process group that the job runs in, with its leader's start time, in the lock file."""
        self._note |= {"pgid": pgid, "group_started": start_time(pgid)}
        self._write()

    def release(self) -> None:
        """Give the lock up and remove its file. Only once the run's end is on disk: a missing lock says nothing."""
        if self.fd < 0:
            return
        with suppress(FileNotFoundError):  # something may clean this folder by age; the lock was held all the same
            os.unlink(self._place.name, dir_fd=self._place.folder)
        self._place.close()
        os.close(self.fd)
        self.fd = -1

    def _write(self) -> None:
        os.pwrite(self.fd, json.dumps(self._note).encode(), 0)


@frozen
class SeenLock:
    """A lock file of ours that was found, open for reading, and what its holder wrote there."""

    fd: int
    status: os.stat_result
    machine: object = None
    supervisor: tuple[int, int] | None = None
    """Its pid and start time."""
    group: tuple[int, int] | None = None
    """The job's process group and the start time of its leader."""


def lock_name(job_id: str, run_id: str, token: str) -> str:
    """Return the name of the lock file of one attempt."""
    return f"{job_id}.{run_id}.{token}"


def find_lock(places: LockPlace, owner: Mapping[str, Any], job_id: str, run_id: str) -> SeenLock | None:
    """Open the lock of a run, None where it cannot be seen from here. The caller closes `fd`.

    The name is made of the run's own; of what the row says only the token is used, and the file must bear it too. It
    lies in a folder of ours, belongs to us, and is the very one that the run locked.
    """
    token = owner.get("token")
    if not isinstance(token, str) or len(token) != _TOKEN_DIGITS or not token.isalnum() or "/" in job_id + run_id:
        return None
    for place in places.find(lock_name(job_id, run_id, token)):
        try:
            fd = place.open(os.O_RDONLY | os.O_NONBLOCK)
        except (OSError, ValueError):
            continue
        found = os.fstat(fd)
        if _is_ours(found) and [found.st_dev, found.st_ino] == owner.get("file"):
            note = _read(fd)
            if (note.get("token"), note.get("job_id"), note.get("run_id")) == (token, job_id, run_id):
                return SeenLock(
                    fd=fd,
                    status=found,
                    machine=note.get("machine"),
                    supervisor=_process(note.get("pid"), note.get("started"), least=1),
                    group=_process(note.get("pgid"), note.get("group_started"), least=2),
                )
        os.close(fd)
    return None


def _is_ours(found: os.stat_result) -> bool:
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_uid == os.geteuid()
        and found.st_nlink == 1
        and found.st_mode & 0o077 == 0
    )


def _read(fd: int) -> dict[str, Any]:
    try:
        note = json.loads(os.pread(fd, MAX_LOCK_BYTES, 0) or b"{}")
    except (OSError, ValueError, RecursionError):
        return {}  # torn by a crash: then nothing is known, and the lease counts
    return note if isinstance(note, dict) else {}


def _process(number: object, started: object, *, least: int) -> tuple[int, int] | None:
    if type(number) is int and type(started) is int and number >= least:
        return number, started
    return None
