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


class Pulse:
    """Calls `look` every second until `stop`; failures go to the log, where they repeat only once."""

    def __init__(self, look: Callable[[], object], journal: EventLog) -> None:
        self._look, self._journal = look, journal
        self._stopping = threading.Event()
        self._looked_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Return whether the store was seen not long ago."""
        return time.monotonic() - self._looked_at < ALIVE_S

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def _run(self) -> None:
        said = None
        while not self._stopping.is_set():
            try:
                self._look()
                self._looked_at, said = time.monotonic(), None
            except RegistryUnavailableError as error:
                if error.line() != said:
                    said = error.line()
                    self._journal.write("error", where="pulse", message=said)
            self._stopping.wait(EVERY_S)
