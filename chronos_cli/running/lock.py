"""The lock that says "this run lives": a flock(2) held by its supervisor and by every process it starts.

A lock belongs to an open file description, which children inherit, so it is free only when the last of them is gone; no
crash leaves it behind, and nothing has to be refreshed. Its file also says what may be killed for that run: which
process supervises it and which group its job is, of which boot of which machine. A row only says that there is a run:
what it names counts where a file in our own folder (`lock_place`) bears the run's own name and token. It holds two
lines of a fixed size:

    the note      whose lock it is, whether the job's process was begun, and which process group it is
    the result    how the run ended, written before its row is: where the row cannot be written, it is found here

The space of both is taken when the lock is, so that a disk that fills up meanwhile cannot refuse them. The file is only
removed once the end is on record: a run whose file is gone says nothing any more.

To have a run end, since its job replaces it, a look puts an empty file of the same name and `.end` beside it. The
supervisor looks for it; no signal is sent, and nothing outside of our own folder counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.files import PRIVATE_FILE, Place
from chronos_cli.frozen import frozen
from chronos_cli.running.errors import LockDirError
from chronos_cli.running.machine import boot_clock, machine_identity, start_time
from chronos_cli.running.reboot import bare_machine
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.running.lock_place import LockPlace

LOCK_BYTES: Final = 4096
NOTE_BYTES: Final = 1024
"""The note comes first, the result takes the rest."""
LEFTOVER_AGE_S: Final = 3600.0
_ASKED: Final = ".end"
_TOKEN_DIGITS: Final = 16


class RunLock:
    """The held lock of one attempt of a run."""

    def __init__(self, fd: int, place: Place, note: dict[str, Any]) -> None:
        self.fd = fd
        self._place = place
        self._note = note

    @property
    def run_id(self) -> str:
        """Return the run."""
        return str(self._note["run_id"])

    @property
    def token(self) -> str:
        """Return what the row and the file bear, and no other run's do."""
        return str(self._note["token"])

    @property
    def path(self) -> str:
        """Return the lock file, for messages."""
        return self._place.path

    @classmethod
    def acquire(cls, places: LockPlace, job_id: str, run_id: str) -> RunLock:
        """Make and take a lock that no process has had before. Raises LockDirError.

        Each attempt has a file of its own (a random token is in its name), so a retry never waits for a leftover.
        """
        token = os.urandom(_TOKEN_DIGITS // 2).hex()
        folder, path = places.make()
        name = lock_name(job_id, run_id, token)
        place = Place(folder, name, os.path.join(path, name))
        fd = -1
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
                "begun": False,
            }
            _take_space(fd)
            lock = cls(fd, place, note)
            lock._write()
        except OSError as error:
            if fd >= 0:
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)
                os.close(fd)
            place.close()
            raise LockDirError(f"cannot lock {place.path}: {error.strerror}") from error
        return lock

    def owner(self) -> dict[str, Any]:
        """Return the owner of the run, as JSON for its row; `liveness` reads it."""
        found = os.fstat(self.fd)
        return {
            "machine": self._note["machine"],
            "pid": self._note["pid"],
            "started": self._note["started"],
            "lock": self._place.name,
            "file": [found.st_dev, found.st_ino],
            "token": self.token,
            "clock": boot_clock(),
            "bare": bare_machine(),
        }

    def record_begun(self) -> None:
        """Note that the job is about to be started. Until then a free lock means that it never was. Raises OSError."""
        self._note |= {"begun": True}
        self._write()

    def record_group(self, pgid: int) -> None:
        """Note the process group that the job runs in, with its leader's start time. Raises OSError."""
        self._note |= {"pgid": pgid, "group_started": start_time(pgid)}
        self._write()

    def record_result(self, result: Mapping[str, Any], *, durable: bool) -> None:
        """Write down how the run ended, to survive this process and, `durable`, a power cut. Raises OSError.

        A `reason` too long for its place is cut.
        """
        room = LOCK_BYTES - NOTE_BYTES
        said = {"token": self.token, **result}
        while len(line := _line(said, room)) > room:
            said["reason"] = str(said.get("reason"))[: len(str(said.get("reason"))) // 2]
        os.pwrite(self.fd, line, NOTE_BYTES)
        if durable:
            os.fsync(self.fd)

    def is_asked_to_end(self) -> bool:
        """Return whether the end of this run was asked for."""
        try:
            os.stat(self._place.name + _ASKED, dir_fd=self._place.folder, follow_symlinks=False)
        except OSError:
            return False
        return True

    def release(self, *, keep: bool = False) -> None:
        """Give the lock up and remove its file; `keep` it where the run's end is not on record.

        A file that is kept tells the next look how the run ended, or that its job was never started.
        """
        if self.fd < 0:
            return
        for name in (self._place.name + _ASKED, *(() if keep else (self._place.name,))):
            with suppress(OSError):  # something may clean this folder by age, or the disk has gone bad
                os.unlink(name, dir_fd=self._place.folder)
        self._place.close()
        os.close(self.fd)
        self.fd = -1

    def _write(self) -> None:
        os.pwrite(self.fd, _line(self._note, NOTE_BYTES), 0)


def _take_space(fd: int) -> None:
    """Have the file's blocks allocated, or hear now that the disk is full. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        with suppress(OSError):  # not every file system can; what is full shows in the next line
            os.posix_fallocate(fd, 0, LOCK_BYTES)
    os.pwrite(fd, b" " * (LOCK_BYTES - 1) + b"\n", 0)


def _line(document: Mapping[str, Any], size: int) -> bytes:
    """Return a document as one line that fills its place."""
    return json.dumps(document).encode().ljust(size - 1) + b"\n"


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
    begun: bool = True
    """False where the job was certainly not begun."""
    result: Mapping[str, Any] | None = None
    """End of the run, where its own process has said so."""


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
            note = _said(fd, NOTE_BYTES, 0)
            if (note.get("token"), note.get("job_id"), note.get("run_id")) == (token, job_id, run_id):
                return SeenLock(
                    fd=fd,
                    status=found,
                    machine=note.get("machine"),
                    supervisor=_process(note.get("pid"), note.get("started"), least=1),
                    group=_process(note.get("pgid"), note.get("group_started"), least=2),
                    begun=note.get("begun") is not False,
                    result=_result(fd, token),
                )
        os.close(fd)
    return None


def ask_to_end(places: LockPlace, owner: Mapping[str, Any], job_id: str, run_id: str) -> bool:
    """Ask the supervisor of a run to end it. Returns whether it can be asked: its lock is one of ours, and is held."""
    lock = find_lock(places, owner, job_id, run_id)
    if lock is None:
        return False
    try:
        fcntl.flock(lock.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        places_of_it = places.find(lock_name(job_id, run_id, owner["token"]))
        return any(_asked(place, lock) for place in places_of_it)
    except OSError:
        return False  # a file system without locks
    finally:
        os.close(lock.fd)
    return False  # it is over


def _asked(place: Place, lock: SeenLock) -> bool:
    """Leave the word beside a lock, if it lies here. A disk that takes none has the run waited for."""
    try:
        found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
        if (found.st_dev, found.st_ino) != (lock.status.st_dev, lock.status.st_ino):
            return False
        fd = place.sibling(place.name + _ASKED).open(os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return True  # it was asked before
    except OSError:
        return False
    os.fchmod(fd, PRIVATE_FILE)
    os.close(fd)
    return True


def remove_lock(places: LockPlace, owner: Mapping[str, Any], job_id: str, run_id: str) -> None:
    """Remove the lock file of a run whose end is on record now. One that cannot be removed does no harm."""
    lock = find_lock(places, owner, job_id, run_id)
    if lock is None:
        return
    os.close(lock.fd)
    for place in places.find(lock_name(job_id, run_id, owner["token"])):
        for name in (place.name, place.name + _ASKED):
            with suppress(OSError):
                os.unlink(name, dir_fd=place.folder)


def sweep_locks(places: LockPlace, in_hand: Callable[[str, str], bool]) -> None:
    """Remove lock files that are free, untouched for an hour, and of runs that are over.

    They are those of starts that were in doubt, and of runs that were settled where the file could not be seen. One
    whose note is torn stands for no run. Never raises OSError: they do no harm.
    """
    with suppress(OSError):
        for place in places.find("*"):
            listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.folder)
            try:
                names = os.listdir(listed)
            finally:
                os.close(listed)
            for name in names:
                with suppress(OSError):  # gone meanwhile, held, or no file of ours
                    _sweep_one(place.sibling(name), in_hand)


def _sweep_one(place: Place, in_hand: Callable[[str, str], bool]) -> None:
    fd = place.open(os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not _is_ours(found) or time.time() - found.st_mtime < LEFTOVER_AGE_S:
            return
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        note = _said(fd, NOTE_BYTES, 0)
        if not in_hand(str(note.get("job_id")), str(note.get("run_id"))):
            os.unlink(place.name, dir_fd=place.folder)
    finally:
        os.close(fd)


def _result(fd: int, token: str) -> dict[str, Any] | None:
    said = _said(fd, LOCK_BYTES - NOTE_BYTES, NOTE_BYTES)
    return said if said.get("token") == token else None


def _is_ours(found: os.stat_result) -> bool:
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_uid == os.geteuid()
        and found.st_nlink == 1
        and found.st_mode & 0o077 == 0
    )


def _said(fd: int, size: int, at: int) -> dict[str, Any]:
    """Return one of the file's two lines.

    Empty where it is torn by a crash: then nothing is known, and the lease counts.
    """
    try:
        said = read_json(os.pread(fd, size, at).strip(b" \0\n"))
    except (OSError, NotJsonError):
        return {}
    return said if isinstance(said, dict) else {}


def _process(number: object, started: object, *, least: int) -> tuple[int, int] | None:
    if type(number) is int and type(started) is int and number >= least:
        return number, started
    return None
