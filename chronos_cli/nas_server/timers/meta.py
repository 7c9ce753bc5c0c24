"""Facts that the commands of one NAS share, and the counts of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.registry import CLAIM_S
from chronos_cli.nas_server.timers.schema import read_meta, write_meta

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.timers.interface import Backend, Session


class NasMeta:
    """The facts in one backend. `clock`: seconds since the epoch; `claim_s`: how long a claim holds."""

    def __init__(self, backend: Backend, clock: Callable[[], float], *, claim_s: float = CLAIM_S) -> None:
        self._backend = backend
        self._clock = clock
        self._claim_s = claim_s

    def remember(self, name: str, value: str) -> None:
        """Keep a fact about this NAS for its other commands."""
        self._backend.write(lambda session: write_meta(session, name, value))

    def recall(self, name: str) -> str | None:
        """A fact that was remembered."""
        return self._backend.read(lambda session: read_meta(session, name))

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Return what the tables hold, by metric name: (help, value)."""
        now = self._clock()

        def work(session: Session) -> dict[str, tuple[str, float]]:
            def count(statement: str, *parameters: object) -> float:
                return float(session.all(statement, parameters)[0][0])

            return {
                "chronos_nas_armed": ("Timers held.", count("SELECT count(*) FROM timers")),
                "chronos_nas_due": (
                    "Timers whose moment has come, not being relayed.",
                    count("SELECT count(*) FROM timers WHERE due_at <= ?", now),
                ),
                "chronos_nas_in_flight": (
                    "Timers being relayed.",
                    count(
                        "SELECT count(*) FROM timers WHERE due_at > ? AND due_at <= ? AND in_flight = 1",
                        now,
                        now + CLAIM_S,
                    ),
                ),
                "chronos_nas_retrying": (
                    "Timers that wait for another attempt.",
                    count("SELECT count(*) FROM timers WHERE attempts > 0 AND in_flight = 0"),
                ),
                "chronos_nas_dead": ("Deliveries given up.", count("SELECT count(*) FROM dead")),
                "chronos_nas_agents": (
                    "Agents not revoked.",
                    count("SELECT count(*) FROM agents WHERE revoked_at IS NULL"),
                ),
            }

        return self._backend.read(work)
