"""Claims whose answer was lost: the store may hold them, and they are not delivered until their end.

They are given back once the store answers again, so that a line that broke in between delays nothing by a whole claim.
The end of a claim, to the microsecond, tells it from one that another worker took since.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronos_cli.nas_server.timers.interface import Backend, Session

AGAIN_S = 0.5
"""The wait between two tries: a transaction that was cut off may still reach the store a moment later."""


class UnheardClaims:
    """The claims of one process. Used from one thread at a time."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._groups: list[tuple[float, set[str]]] = []
        self._tried_at = float("-inf")

    def add(self, until: float, ids: Sequence[str]) -> None:
        """Note schedule ids that were to be claimed until then."""
        self._groups.append((until, set(ids)))

    @property
    def wanted(self) -> bool:
        """Return whether it is time to give some back."""
        return bool(self._groups) and time.monotonic() - self._tried_at >= AGAIN_S

    def give_back(self, now: float) -> int:
        """Make due what the store holds as claimed by these; returns how many. Ended claims are free anyway."""
        self._tried_at = time.monotonic()
        self._groups = [(until, ids) for until, ids in self._groups if ids and until > now]
        groups, given = self._groups, self._backend.given(id="text")

        def work(session: Session) -> list[set[str]]:
            statement = (
                "UPDATE timers SET in_flight = 0, due_at = ? WHERE in_flight = 1 AND due_at = ?"  # noqa: S608
                f" AND schedule_id IN (SELECT id FROM {given}) RETURNING schedule_id"
            )
            return [
                {row[0] for row in session.all(statement, (now, until, *self._backend.bind([(i,) for i in ids], 1)))}
                for until, ids in groups
            ]

        freed = self._backend.write(work) if groups else []
        for (_, ids), gone in zip(groups, freed, strict=True):
            ids.difference_update(gone)
        return sum(map(len, freed))
