"""The very end of the program."""

from __future__ import annotations

import os
import sys

to_come = False
"""True in a process that is the command's own and ends with it: other programs run commands, too."""


def leave(code: int) -> int:
    """End this process at once: taking down the libraries it has loaded takes longer than many a command.

    Exit functions are run and output is flushed first. Returns `code` where something is left that the interpreter
    has to end properly: another thread, or a stream that cannot be flushed.
    """
    import atexit

    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        return code
    try:
        atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter would do next
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError, AttributeError):  # closed, full, or none at all
        return code
    os._exit(code)
