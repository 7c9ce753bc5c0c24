"""Write one file so that a reader sees the old bytes or the new ones, at any time.

A temporary file in the same folder gets the bytes, is made durable, and takes the name; then the folder is made
durable too. The name is only touched by one rename or link.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from chronos_cli.files import Place, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEW_FILE_MODE: Final = 0o600
TEMP_PREFIX: Final = ".chronos-"
TEMP_SUFFIX: Final = ".tmp"
LEFTOVER_AGE_S: Final = 3600.0
"""A temporary file this old whose writer holds no lock on it belongs to a process that was killed."""

_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK})
_FULL_SYNC: Final = getattr(fcntl, "F_FULLFSYNC", None)


class NotDurableError(Exception):
    """The new content is in place, but the folder could not be made durable: a power cut may bring back the old."""


def signature(found: os.stat_result) -> str:
    """Return the version of a file: which inode, when changed, how long.

    Sound because every write here makes a new inode and gives it a modification time later than its predecessor's
    (`_stamp`): a reused inode number cannot bear the same time again.
    """
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def write_new(place: Place, data: bytes, *, durable: bool) -> str:
    """Make `place`, which must not exist, and return its version. Raises FileExistsError and OSError."""
    if place.exists():  # Saves the losers of a race most of the work; the link below decides it.
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place.path)
    with _temporary(place, data, kept=None, durable=durable) as (temporary, fd):
        try:
            os.link(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            _rename_new(temporary, place)
        else:
            os.unlink(temporary, dir_fd=place.folder)
        version = signature(os.fstat(fd))
    if durable:
        sync(place)
    return version


def write_over(place: Place, data: bytes, kept: os.stat_result, *, durable: bool) -> str:
    """Replace `place`, of which `kept` is the stat, and return its new version.

    Owner, group and mode are those of `kept`; where they cannot be had, OSError is raised before anything changes.
    """
    with _temporary(place, data, kept=kept, durable=durable) as (temporary, fd):
        os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        version = signature(os.fstat(fd))
    if durable:
        sync(place)
    return version


def sync(place: Place) -> None:
    """Make the names in a place's folder durable. Raises NotDurableError."""
    try:
        sync_folder(place.folder)
    except OSError as error:
        raise NotDurableError(error.strerror or str(error)) from error


def remove_leftovers(folder: Path | str, *, now: float, within: int | None = None) -> None:
    """Remove the temporary files in `folder` of writers that were killed. `now`: seconds since the epoch.

    `within`: an open folder that `folder` is relative to.
    """
    with suppress(OSError):  # Tidying is never a reason to fail; the write beside it reports what is wrong.
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=within)
        try:
            for name in filter(is_temporary, os.listdir(at)):  # noqa: PTH208 - what is open, not a path
                with suppress(OSError):  # As above; or its writer has just finished and it is gone.
                    _remove_leftover(at, name, now)
        finally:
            os.close(at)


def _remove_leftover(at: int, name: str, now: float) -> None:
    if now - os.stat(name, dir_fd=at, follow_symlinks=False).st_mtime < LEFTOVER_AGE_S:
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=at)
    finally:
        os.close(fd)


def is_temporary(name: str) -> bool:
    """Return whether `name` is one that this module gives to its temporary files."""
    return name.startswith(TEMP_PREFIX) and name.endswith(TEMP_SUFFIX)


@contextmanager
def _temporary(place: Place, data: bytes, *, kept: os.stat_result | None, durable: bool) -> Iterator[tuple[str, int]]:
    """Make a temporary file beside `place` with `data`, ready to take its name; remove it if that does not happen."""
    temporary = f"{TEMP_PREFIX}{place.name}.{os.getpid()}.{os.urandom(4).hex()}{TEMP_SUFFIX}"
    fd = place.sibling(temporary).open(os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_FILE_MODE)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Tells `remove_leftovers` that its writer lives.
        _write_all(fd, data)
        _settle_owner(fd, place, kept)
        _stamp(fd, kept)
        if durable:
            _sync_file(fd)
        yield temporary, fd
    except BaseException:
        with suppress(FileNotFoundError):  # Already renamed or linked away.
            os.unlink(temporary, dir_fd=place.folder)
        raise
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]


def _settle_owner(fd: int, place: Place, kept: os.stat_result | None) -> None:
    """Give the new file the owner, group and mode of the one it replaces.

    A new file made by root belongs to the owner of its folder: a `docker exec` as root must not lock the agent out.
    """
    made = os.fstat(fd)
    if kept is not None:
        owner, mode = kept, stat.S_IMODE(kept.st_mode)
    elif os.geteuid() == 0:
        owner, mode = os.fstat(place.folder), NEW_FILE_MODE
    else:
        owner, mode = made, NEW_FILE_MODE
    if (made.st_uid, made.st_gid) != (owner.st_uid, owner.st_gid):
        try:
            os.fchown(fd, owner.st_uid, owner.st_gid)
        except OSError as error:
            reason = f"its owner and group cannot be kept ({os.strerror(error.errno or errno.EPERM)})"
            raise OSError(error.errno, reason, place.path) from error
    if stat.S_IMODE(made.st_mode) != mode:
        os.fchmod(fd, mode)


def _stamp(fd: int, kept: os.stat_result | None) -> None:
    """Give the file a modification time of its own, later than its predecessor's.

    The kernel's stamps advance by ticks of some milliseconds, in which an inode number can come round twice. File
    systems with coarse times need a larger step.
    """
    before = kept.st_mtime_ns if kept is not None else 0
    wanted = max(time.time_ns(), before + 1)
    os.utime(fd, ns=(wanted, wanted))
    step = 1
    while os.fstat(fd).st_mtime_ns <= before and step < 10**10:
        step *= 1000
        os.utime(fd, ns=(before + step, before + step))


def _sync_file(fd: int) -> None:
    if _FULL_SYNC is not None:  # macOS: a plain fsync leaves the bytes in the drive's cache.
        with suppress(OSError):  # A file system that cannot; the plain one is what there is then.
            fcntl.fcntl(fd, _FULL_SYNC)
            return
    os.fsync(fd)


def _rename_new(temporary: str, place: Place) -> None:
    """Take a free name where the file system has no hard links. Raises FileExistsError.

    Its caller holds the folder's lock, so no other process can take the name between look and rename.
    """
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.folder)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if place.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place.path)
        os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
    finally:
        os.close(fd)
