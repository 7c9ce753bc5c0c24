"""Keep this process's memory to itself: no other process of its user can read it, and no dump shows it.

A job runs as the user who runs chronos, so the kernel lets it read the memory of its ancestors, which hold the token
for NAS and those of other fires. PR_SET_DUMPABLE (prctl(2)) takes that away: /proc/PID/mem, environ, maps and fd, a
debugger's ptrace and a core dump. A program that is started anew by execve(2) is like any other again, jobs included.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

OPEN_VARIABLE: Final = "CHRONOS_DUMPABLE"
"""Set to 1 it leaves processes open to debuggers and profilers of their user, and so to jobs."""

_PR_GET_DUMPABLE: Final = 3
_PR_SET_DUMPABLE: Final = 4


def hide_memory() -> bool:
    """Close this process to the others of its user, and turn core dumps off; whether it is closed now.

    Where there is no prctl (macOS, some sandboxes), only core dumps are turned off, for the jobs too. Root, and whoever
    may trace any process, looks into all of them as before.
    """
    if os.environ.get(OPEN_VARIABLE) == "1":
        return False
    if _prctl(_PR_SET_DUMPABLE, 0) == 0:
        return True
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    return False


@contextmanager
def shown_memory() -> Iterator[None]:
    """Open this process for as long as it changes what /proc/self/mem shows, which a closed one may not."""
    closed = _prctl(_PR_GET_DUMPABLE) == 0
    if closed:
        _prctl(_PR_SET_DUMPABLE, 1)
    try:
        yield
    finally:
        if closed:
            _prctl(_PR_SET_DUMPABLE, 0)


def _prctl(option: int, argument: int = 0) -> int:
    """Return what prctl(2) says; -1 where there is none."""
    if sys.platform != "linux":
        return -1
    import ctypes

    try:
        call: Any = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):  # a static or unusual libc
        return -1
    rest = (ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    return int(call(ctypes.c_int(option), *rest))
