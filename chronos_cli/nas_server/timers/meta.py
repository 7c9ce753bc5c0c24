"""Facts that the commands of one NAS share, and the counts of its tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.schema import read_meta, write_meta

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.timers.interface import Backend


_GAUGES = (
    ("chronos_nas_armed", "Timers held."),
    ("chronos_nas_due", "Timers whose moment has come, not being relayed."),
    ("chronos_nas_in_flight", "Timers being relayed."),
    ("chronos_nas_retrying", "Timers that wait for another attempt."),
    ("chronos_nas_dead", "Deliveries given up."),
    ("chronos_nas_agents", "Agents not revoked."),
)


class NasMeta:
    """The facts in one backend. `clock`: seconds since the epoch."""

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._clock = clock
        self._counted: dict[str, tuple[str, float]] = {}
        self._counted_until = 0.0

    def remember(self, name: str, value: str) -> None:
        """Keep a fact about this NAS for its other commands."""
        self._backend.write(lambda session: write_meta(session, name, value))

    def recall(self, name: str) -> str | None:
        """Return a fact that was remembered."""
        return self._backend.read(lambda session: read_meta(session, name))

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Return what the tables hold, by metric name: (help, value), counted in one pass.

        A count is as old as ten times what it cost, so that scrapes of a large table stay a small part of its work.
        """
        began = time.monotonic()
        if began < self._counted_until:
            return self._counted
        now = self._clock()
        statement = (
            "SELECT count(*), sum(CASE WHEN in_flight = 0 AND due_at <= ? THEN 1 ELSE 0 END), sum(in_flight),"
            " sum(CASE WHEN attempts > 0 AND in_flight = 0 THEN 1 ELSE 0 END), (SELECT count(*) FROM dead),"
            " (SELECT count(*) FROM agents WHERE revoked_at IS NULL) FROM timers"
        )
        row = self._backend.read(lambda session: session.all(statement, (now,)))[0]
        counts = [float(value or 0) for value in row]
        self._counted = {name: (text, count) for (name, text), count in zip(_GAUGES, counts, strict=True)}
        self._counted_until = time.monotonic() + min(60.0, 10 * (time.monotonic() - began))
        return self._counted
