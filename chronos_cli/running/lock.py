"""The lock that says "this run lives": a flock(2) held by its supervisor and by every process it starts.

A lock belongs to an open file description, which children inherit, so it is free only when the last of them is gone; no
crash leaves it behind, and nothing has to be refreshed. The file lies on the machine's own disk, because over a network
such locks lie. It also holds what only this machine can use: which process group the run's job is.

The folder is not $XDG_RUNTIME_DIR: services have none, and it is wiped at the user's last logout, jobs or no jobs.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.running.errors import LockDirError
from chronos_cli.running.machine import boot_clock, machine_identity, start_time

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCK_DIR_VARIABLE: Final = "CHRONOS_LOCK_DIR"
MAX_LOCK_BYTES: Final = 4096


def default_lock_dir(store_id: str, environment: Mapping[str, str]) -> Path:
    """The private folder for the run locks of one store, made if need be.

    It is STORE_ID below $CHRONOS_LOCK_DIR, or below `chronos-UID` in $TMPDIR or /tmp. Raises LockDirError unless both
    folders are real ones, ours, and closed to others: in /tmp anybody could have put a link there first.
    """
    if "/" in store_id or store_id in ("", ".", ".."):
        raise LockDirError(f"a store cannot have the id {store_id!r}", hint="put cron/store.json right")
    chosen = environment.get(LOCK_DIR_VARIABLE)
    parent = Path(chosen).absolute() if chosen else Path(environment.get("TMPDIR") or "/tmp", f"chronos-{os.getuid()}")  # noqa: S108 - checked below
    _private(parent)
    _private(parent / store_id)
    return parent / store_id


def _private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise LockDirError(f"{folder} is not a folder (a link is not followed)")
        if found.st_uid != os.getuid():
            raise LockDirError(f"{folder} belongs to user {found.st_uid}, not to {os.getuid()}")
        if found.st_mode & 0o077:
            folder.chmod(0o700)  # ours, only too open: an umask, or an administrator's mkdir
    except OSError as error:
        raise LockDirError(f"cannot use {folder} for run locks: {error.strerror}") from error


class RunLock:
    """The held lock of one attempt of a run."""

    def __init__(self, fd: int, path: Path, run_id: str, token: str) -> None:
        self.fd = fd
        self.run_id = run_id
        self.path = path
        self.token = token

    @classmethod
    def acquire(cls, lock_dir: Path, job_id: str, run_id: str) -> RunLock:
        """Make and take a lock that nobody has had before. Raises LockDirError.

        Each attempt has a file of its own (a random token is in its name), so a retry never waits for a leftover.
        """
        token = os.urandom(8).hex()
        path = lock_dir / f"{job_id}.{run_id}.{token}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LockDirError(f"cannot lock {path}: {error.strerror}") from error
        return cls(fd, path, run_id, token)

    def owner(self) -> dict[str, Any]:
        """Who runs this, as JSON for the run's row; `liveness` reads it."""
        found = os.fstat(self.fd)
        return {
            "machine": machine_identity(),
            "pid": os.getpid(),
            "started": start_time(os.getpid()),
            "lock": str(self.path),
            "file": [found.st_dev, found.st_ino],
            "token": self.token,
            "clock": boot_clock(),
        }

    def record_group(self, pgid: int) -> None:
        """Note the process group that the job runs in, with its leader's start time, in the lock file."""
        note = {"token": self.token, "pgid": pgid, "started": start_time(pgid), "run_id": self.run_id}
        os.pwrite(self.fd, json.dumps(note).encode(), 0)

    def release(self) -> None:
        """Give the lock up and remove its file. Only once the run's end is on disk: a missing lock says nothing."""
        if self.fd < 0:
            return
        self.path.unlink(missing_ok=True)  # something may clean this folder by age; the lock was held all the same
        os.close(self.fd)
        self.fd = -1
