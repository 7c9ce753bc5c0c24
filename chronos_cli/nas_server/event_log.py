"""The events of this NAS, as JSON lines: one event a line, for people with jq and for programs.

Every line has `time` (UTC, ISO 8601) and `event`. No token and no key is ever written.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_LINE = json.JSONEncoder(separators=(",", ":"), default=str).encode


class EventLog:
    """Writes events to a stream; None writes nothing. `clock`: seconds since the epoch."""

    def __init__(self, stream: TextIO | None, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._lock = threading.Lock()

    def write(self, event: str, **fields: object) -> None:
        """Write one event. A reader that went away ends the log, not the service."""
        self.write_all([(event, fields)])

    def write_all(self, events: Iterable[tuple[str, Mapping[str, object]]]) -> None:
        """Write events that became known together, at the cost of one."""
        if self._stream is None:
            return
        time = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        lines = "".join(_LINE({"time": time, "event": event, **fields}) + "\n" for event, fields in events)
        with self._lock:
            try:
                self._stream.write(lines)
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None
