"""Pulse of a process: a thread that looks at the store; ready is a process whose last look is not long ago."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.interface import RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.event_log import EventLog

EVERY_S = 1.0
ALIVE_S = 8.0
"""The greatest age of the last look that ended well: beyond it the process is not ready. More than one deadline."""

CLOCK_OFF_S = 2.0
"""From here on a clock that differs from the database's is told of, and beyond the next the process is not ready."""

CLOCK_WRONG_S = 20.0


class Pulse:
    """Calls `measure` every second until `stop`; failures go to the log, where they repeat only once.

    `measure` looks at the store and returns how far this host's clock is ahead of the one that decides, in seconds.
    """

    def __init__(self, measure: Callable[[], float], journal: EventLog) -> None:
        self._measure, self._journal = measure, journal
        self.ahead_s = 0.0
        self._stopping = threading.Event()
        self._looked_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    def missing(self) -> str | None:
        """Return what keeps this process from being ready, if anything: no look of late, or a clock far off."""
        if time.monotonic() - self._looked_at >= ALIVE_S:
            return "the timers cannot be reached"
        if abs(self.ahead_s) > CLOCK_WRONG_S:
            return f"this host's clock is {abs(self.ahead_s):.0f} s off the database's"
        return None

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _run(self) -> None:
        said, was_off = None, False
        while not self._stopping.is_set():
            try:
                self.ahead_s = self._measure()
                self._looked_at, said = time.monotonic(), None
                off = abs(self.ahead_s) > CLOCK_OFF_S
                if off and not was_off:
                    self._journal.write("clock_off", ahead_s=round(self.ahead_s, 1))
                was_off = off
            except RegistryUnavailableError as error:
                if error.line() != said:
                    said = error.line()
                    self._journal.write("error", where="pulse", message=said)
            self._stopping.wait(EVERY_S)
