"""A progress line on a terminal, for what takes longer than a second; nothing anywhere else."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.cli.output import Output

_PATIENCE_S = 1.0
_EVERY_S = 0.1


def progress_line(out: Output, verb: str) -> Callable[[int, int], None] | None:
    """Return what an operation calls with how much is done of how much; None without a terminal."""
    if out.quiet or out.json or not sys.stderr.isatty():
        return None
    started = time.monotonic()
    shown = started

    def progress(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - started < _PATIENCE_S or (now - shown < _EVERY_S and done < total):
            return
        shown = now
        text = f"\r{verb} {done} of {total}" + ("\r\033[K" if done == total else "")
        raw = getattr(sys.stderr, "raw", None)
        raw(text.encode()) if raw is not None else sys.stderr.write(text)
        sys.stderr.flush()

    return progress
