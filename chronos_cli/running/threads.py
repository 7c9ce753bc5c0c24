"""Find out whether the threads of this process are the system's, or whether a library has put something in their place.

gevent's monkey patch makes greenlets of them, and eventlet's does the same: all share one thread of the system. One
that waits in a system call, or for a lock that was made before the patch, stops all of them.
"""

from __future__ import annotations

import _thread
from types import BuiltinFunctionType


def threads_replaced_by() -> str | None:
    """Return the name of the package that replaces threads now; None where they are the system's own."""
    start: object = _thread.start_new_thread
    if isinstance(start, BuiltinFunctionType):
        return None
    return str(getattr(start, "__module__", None) or "a library").partition(".")[0]
