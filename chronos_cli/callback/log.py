"""The lines that requests leave on stderr, bounded so that no number of calls fills a disk."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from chronos_cli import streams

if TYPE_CHECKING:
    from collections.abc import Callable

LINES: Final = 20
WINDOW_S: Final = 60.0


class BoundedLog:
    """At most LINES lines a minute of each kind; what more there was is counted, and the count is a line.

    The count comes with the first call of `settle` or `write` after the minute. Safe to share between threads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._kinds: dict[str, tuple[float, int]] = {}

    def write(self, kind: str, line: str) -> bool:
        """Write a line unless its kind has had its share; whether it was written. Kinds are few: codes of errors."""
        self.settle()
        with self._guard:
            since, count = self._kinds.get(kind, (self._clock(), 0))
            self._kinds[kind] = (since, count + 1)
        if count >= LINES:
            return False
        streams.log(line)
        return True

    def settle(self) -> None:
        """Say of each kind whose minute is over how many lines were left out."""
        now = self._clock()
        with self._guard:
            over = {kind: count for kind, (since, count) in self._kinds.items() if now - since >= WINDOW_S}
            for kind in over:
                del self._kinds[kind]
        for kind, count in over.items():
            if count > LINES:
                streams.log(f"{kind}: {count - LINES} more lines like the last were left out")
