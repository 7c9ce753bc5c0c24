"""A document store on a disk: one file per document, under one home.

jobs.json is guarded by an exclusive flock on `cron/.jobs.lock`, the lock that hermes takes, so that both keep out of
each other's way. Any other document is guarded by a flock on its own file: writers of one document wait for each
other, and nobody else does.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import DocumentError, LockTimeoutError, StoreError
from chronos_cli.files import Place, leads_nowhere, open_folder, place_of, read_file
from chronos_cli.store.atomic import (
    NEW_FILE_MODE,
    NotDurableError,
    remove_leftovers,
    signature,
    sync,
    write_new,
    write_over,
)
from chronos_cli.store.backups import SUFFIX, Backup, is_due, move_on, older
from chronos_cli.store.disk_errors import disk_error
from chronos_cli.store.filelock import locked
from chronos_cli.store.interface import ARMS_PREFIX, JOBS_KEY, Document, DocumentStore, VersionConflict, check_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronos_cli.store.split import RuntimeRows

LOCK_NAME: Final = ".jobs.lock"
_LOCK_KEY: Final = f"{JOBS_KEY.rpartition('/')[0]}/{LOCK_NAME}"
MAX_FILE_BYTES: Final = 256 * 2**20
"""The largest file that is read: 10,000 jobs take ten megabytes. A larger one would take this process's memory."""

RUNS: Final = "runs"
"""The folder that has a folder of rows for each job."""

_OF_JOBS: Final = frozenset({RUNS, "output"})
"""Folders of which each entry is a folder named as a job, which may end as a document does."""

_AND: Final = "+"
"""Between the version of jobs.json and that of what a newer hermes keeps beside it."""


class LocalStore(DocumentStore):
    """Documents as files under `home`.

    `lock_timeout_s`: how long a writer waits for another, in seconds. `clock` is monotonic, `wall` the time of day,
    both in seconds. `by_person`: what is written first is a person's change, so a copy of what was there is kept.
    """

    def __init__(
        self,
        home: Path,
        *,
        lock_timeout_s: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        by_person: bool = False,
    ) -> None:
        self._home = home
        self._lock_timeout_s = lock_timeout_s
        self._sleep = sleep
        self._clock = clock
        self._wall = wall
        self._held = threading.local()
        self._turn = threading.Lock()
        self._tidied: set[Path] = set()
        self._by_person = by_person
        self._copied = False

    @property
    def location(self) -> str:
        """Return the home's path."""
        return str(self._home)

    def read(self, key: str) -> Document | None:
        """Return the file's bytes; None only when it certainly is not there."""
        try:
            with place_of(self._home, check_key(key)) as place:
                fd = place.open(os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError as error:
            if leads_nowhere(self._home, key):
                raise _not_read(key, self._path(key), error) from error
            return None
        except OSError as error:
            raise _not_read(key, self._path(key), error) from error
        try:
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            if found.st_size > MAX_FILE_BYTES:
                raise OSError(errno.EFBIG, f"it is larger than {MAX_FILE_BYTES} bytes")
            data = _read_all(fd, found.st_size)
        except OSError as error:
            raise _not_read(key, self._path(key), error) from error
        finally:
            os.close(fd)
        split = self._split(key)
        if split is None:
            return Document(data=data, version=signature(found))
        return Document(data=data, version=f"{signature(found)}{_AND}{split.mark}", beside=split.rows)

    def create(self, key: str, data: bytes, *, durable: bool = True) -> str:
        """Make the file, private to its owner. Raises VersionConflict if it exists."""
        self._split(check_key(key))  # jobs are not added to a store of which one half cannot be read
        with self.exclusive(key), _reported("create", self._home, key), place_of(self._home, key, make=True) as place:
            try:
                return write_new(place, data, durable=durable)
            except FileExistsError:
                raise VersionConflict(key) from None

    def replace(self, key: str, data: bytes, version: str, *, durable: bool = True) -> str:
        """Replace the file if it is at `version`; a symbolic link stays one. Raises VersionConflict if it is not."""
        with self.exclusive(check_key(key)), _reported("write", self._home, key):
            try:
                with place_of(self._home, key) as place, self._guard(key, place):
                    found = place.stat()
                    own, _, mark = version.partition(_AND)
                    split = self._split(key)
                    if signature(found) != own or mark != ("" if split is None else split.mark):
                        raise VersionConflict(key)
                    if key == JOBS_KEY:
                        self._keep_copy(place, found)
                    return write_over(place, data, found, durable=durable) + (f"{_AND}{mark}" if mark else "")
            except FileNotFoundError:
                if self._path(key).exists():
                    raise
                raise VersionConflict(key) from None

    def list(self, prefix: str) -> list[str]:
        """Return the keys of the files below `prefix`, sorted; names that begin with a dot are not documents."""
        top = self._path(prefix.rstrip("/"))
        keys: list[str] = []
        folders = [(top, prefix)]
        while folders:
            folder, base = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.startswith("."):
                            continue
                        # A folder with a document's name is a document that cannot be read, not a folder of others.
                        named = entry.name.endswith(".json") and folder.name not in _OF_JOBS
                        if entry.is_dir(follow_symlinks=False) and not named:
                            folders.append((folder / entry.name, f"{base}{entry.name}/"))
                        else:
                            keys.append(base + entry.name)
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not leads_nowhere(self._home, base.rstrip("/")):
                    continue
                said = disk_error("list", folder, error)
                if folder.parent.name != RUNS and base != ARMS_PREFIX:
                    raise said from error
                if folder == top:  # one job's rows, or what can be learned again: the rest is not concerned
                    raise DocumentError(said.message, hint=said.hint, key=base) from error
                keys.append(f"{base}.json")
        return sorted(keys)

    def delete(self, key: str, *, durable: bool = True) -> None:
        """Remove the file. Without `durable` a power cut may bring it back."""
        path = self._path(key)
        with self.exclusive(key), _reported("delete", self._home, key):
            try:
                names = key.split("/")
                folder = open_folder(self._home, *names[:-1])
                with Place(folder, names[-1], str(path)) as place:
                    try:
                        with self._guard(key, place):
                            os.unlink(place.name, dir_fd=folder)
                    except OSError as error:
                        # A link, a socket, or closed to a user that must lock it; the folder may be ours all the same.
                        if error.errno not in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO):
                            raise
                        os.unlink(place.name, dir_fd=folder)
                    if durable:
                        sync(place)
            except FileNotFoundError:
                return
            self._tidy(path.parent)

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        """Hold the lock of jobs.json, which hermes takes too; any other key is guarded in `replace` alone.

        May be nested in one thread. Raises LockTimeoutError.
        """
        if key != JOBS_KEY or getattr(self._held, "jobs", False):
            yield
            return
        path = self._home / _LOCK_KEY
        # Threads of one process take turns among themselves: each is woken at once, and one alone asks for the file's.
        if not self._turn.acquire(timeout=self._lock_timeout_s):
            raise LockTimeoutError(f"{path} is locked by another thread of this process; nothing was written")
        with ExitStack() as stack:
            stack.callback(self._turn.release)
            with _reported("lock", self._home, _LOCK_KEY):
                place = stack.enter_context(self._place_of_lock(path))
                self._make_lock(place)
                # A lock file that we may only read locks just as well on a local disk.
                access = os.O_RDWR if os.access(place.name, os.W_OK, dir_fd=place.folder) else os.O_RDONLY
                stack.enter_context(self._locked(place, access | os.O_CREAT))
            self._held.jobs = True
            try:
                yield
            finally:
                self._held.jobs = False

    def _guard(self, key: str, place: Place) -> AbstractContextManager[object]:
        """Keep other writers of this one document out. Raises FileNotFoundError if there is none."""
        return nullcontext() if key == JOBS_KEY else self._locked(place, os.O_RDONLY)

    def _locked(self, place: Place, flags: int) -> AbstractContextManager[object]:
        return locked(place, flags, timeout_s=self._lock_timeout_s, clock=self._clock, sleep=self._sleep)

    def _place_of_lock(self, path: Path) -> Place:
        """Make and open the lock's folder. A link there is not followed: a lock is where every other program has it."""
        place = Place(open_folder(self._home, *Path(JOBS_KEY).parts[:-1], make=True), path.name, str(path))
        if place.exists() and stat.S_ISLNK(place.stat().st_mode):
            place.close()
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))
        return place

    def _make_lock(self, place: Place) -> None:
        """Make the lock file if there is none, for the owner of jobs.json: its other users must be able to lock it."""
        if place.exists():
            return
        try:
            with place_of(self._home, JOBS_KEY) as jobs:
                like = jobs.stat()
            mode = stat.S_IMODE(like.st_mode) & 0o666 | NEW_FILE_MODE
        except FileNotFoundError:
            like, mode = os.fstat(place.folder), NEW_FILE_MODE
        try:
            fd = place.open(os.O_RDWR | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE)
        except FileExistsError:  # Another process was faster, and settles whose it is.
            return
        try:
            if os.geteuid() == 0:
                os.fchown(fd, like.st_uid, like.st_gid)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def _keep_copy(self, place: Place, found: os.stat_result) -> None:
        """Keep what jobs.json was beside its name, where that is due, and tidy up after writers that were killed.

        Where the name is a link, their temporary files lie in the folder that it leads to.
        """
        backup = self._path(JOBS_KEY + SUFFIX)
        by_person, now = self._by_person and not self._copied, self._wall()
        try:
            kept = backup.lstat()
        except FileNotFoundError:
            kept = None
        if kept is not None and kept.st_mtime > now:
            # What a clock that was ahead has done since is not to take the place of what was before it: not now.
            with self._beside_jobs(backup) as beside:
                os.utime(beside.name, (now, now), dir_fd=beside.folder, follow_symlinks=False)
                kept = beside.stat()
        if not is_due(kept, now, by_person=by_person):
            return
        # The backup takes the owner and mode of what it copies, not those of an older backup.
        fd = place.open(os.O_RDONLY)
        try:
            data = _read_all(fd, found.st_size)
        finally:
            os.close(fd)
        with self._beside_jobs(backup) as beside:
            if kept is not None:
                move_on(beside, kept)
            try:
                write_over(beside, data, found, durable=True)
            except NotDurableError as error:  # of the copy: what it is of was not touched yet
                raise OSError(errno.EIO, f"its copy {backup.name} could not be made durable: {error}") from error
            os.utime(beside.name, (now, now), dir_fd=beside.folder, follow_symlinks=False)
        self._copied = True
        remove_leftovers(".", now=now, within=place.folder)
        cron = self._home / "cron"
        for folder in (backup.parent, cron / "arms", cron / "arm-packs"):
            self._tidy(folder)

    def backups(self) -> Iterator[Backup]:
        """Give the copies of jobs.json that are there and can be read, the newest first."""
        newest = self._path(JOBS_KEY + SUFFIX)
        try:
            names = [newest.name, *older(os.listdir(newest.parent), newest.name)]  # noqa: PTH208 - names alone
        except OSError:
            return
        for name in names:
            try:
                with place_of(self._home, f"{JOBS_KEY.rpartition('/')[0]}/{name}") as place:
                    found, data = place.stat(), read_file(place.path, most=MAX_FILE_BYTES)
            except OSError:
                continue
            yield Backup(path=place.path, age_s=max(self._wall() - found.st_mtime, 0.0), data=data)

    def _beside_jobs(self, path: Path) -> Place:
        return Place(open_folder(self._home, *Path(JOBS_KEY).parts[:-1]), path.name, str(path))

    def _tidy(self, folder: Path) -> None:
        """Look for leftovers, once per folder in the life of this object: each look is a scan of the folder."""
        if folder not in self._tidied:
            self._tidied.add(folder)
            remove_leftovers(folder, now=self._wall())

    def _split(self, key: str) -> RuntimeRows | None:
        """Return what a newer hermes keeps of its jobs beside jobs.json; None where there is no such thing."""
        if key != JOBS_KEY or not os.path.lexists(self._home / "cron" / "runtime.db"):
            return None
        from chronos_cli.store.split import STATE_NAME, read_rows

        path = str(self._home / "cron" / STATE_NAME)
        return read_rows(path, home=str(self._home), timeout_s=self._lock_timeout_s)

    def _path(self, key: str) -> Path:
        return self._home / check_key(key)


def _read_all(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)
    if len(data) == size:
        return data
    chunks = [data]
    while chunks[-1]:
        chunks.append(os.read(fd, 1 << 20))
    return b"".join(chunks)


def _not_read(key: str, path: Path, error: OSError) -> StoreError:
    """Return the error of a file that could not be read: of one document alone, unless it is the one of all jobs."""
    said = disk_error("read", path, error)
    return said if key == JOBS_KEY else DocumentError(said.message, hint=said.hint, key=key)


@contextmanager
def _reported(action: str, home: Path, key: str) -> Iterator[None]:
    """Turn what the disk says into an error of ours."""
    try:
        yield
    except NotDurableError as error:
        raise StoreError(
            f"{home / key} was written, but its folder could not be made durable: {error}",
            hint="check that disk; the change is there now but may not survive a power cut",
        ) from error
    except OSError as error:
        raise disk_error(action, home / key, error) from error
