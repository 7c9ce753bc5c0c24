"""The one wait for an exclusive flock."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_WAIT_S: Final = 0.001
_LONGEST_WAIT_S: Final = 0.008
"""LOCK_NB has no queue: a waiter that sleeps long loses again and again, so waits stay short."""


def wait_for_lock(
    fd: int,
    deadline: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Take the exclusive lock of an open file, and return whether it was had before `clock` reached `deadline`.

    Raises OSError where the file system knows no such lock.
    """
    wait = _FIRST_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - clock()
            if left <= 0:
                return False
            jitter = 0.5 + os.urandom(1)[0] / 255
            sleep(min(wait * jitter, left))
            wait = min(wait * 1.5, _LONGEST_WAIT_S)
        else:
            return True
