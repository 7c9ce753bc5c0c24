"""Wait for an exclusive flock, for a bounded time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from chronos_cli.errors import LockTimeoutError
from chronos_cli.flock import wait_for_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronos_cli.files import Place


@contextmanager
def locked(
    place: Place,
    flags: int,
    *,
    timeout_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    mode: int = 0o600,
) -> Iterator[int]:
    """Hold the exclusive lock of the file `place`, opened with `flags`; yields its descriptor.

    The lock belongs to the descriptor, so two threads of one process exclude each other too. A file that lost its
    name while we waited protects nothing any more; it is opened anew. Raises LockTimeoutError and OSError.
    """
    deadline = clock() + timeout_s
    while True:
        fd = place.open(flags | os.O_NONBLOCK, mode)  # a pipe in its place does not block
        try:
            if not wait_for_lock(fd, deadline, clock=clock, sleep=sleep):
                holder = _holder(fd)
                by = f" by pid {holder}" if holder else ""
                raise LockTimeoutError(f"{place.path} is locked{by}; nothing was written")
            if not _still_named(fd, place):
                continue
            try:
                yield fd
            finally:
                with suppress(OSError):  # then it goes with the descriptor, which is closed next
                    fcntl.flock(fd, fcntl.LOCK_UN)  # A forked child may hold a copy: closing ours would not let go.
            return
        finally:
            os.close(fd)


def _still_named(fd: int, place: Place) -> bool:
    try:
        named = place.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))


def _holder(fd: int) -> int | None:
    """Return the lock's holder, where the system tells (Linux), for the message alone."""
    inode = f":{os.fstat(fd).st_ino} "
    try:
        with open("/proc/locks", encoding="ascii") as table:  # noqa: PTH123 - a kernel table, not a path of ours
            for line in table:
                if inode in line and "FLOCK" in line and "->" not in line:
                    return int(line.split()[4])
    except (OSError, ValueError, IndexError):  # No such table here, or of another shape: the message does without.
        return None
    return None
