"""Slots of jobs that hold nothing any more: forgotten page by page, so that a million that are held cost no pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.decide import DELIVERED_MEMORY_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.timers.interface import Backend, Session

GENERATION_MEMORY_S = 7 * 24 * 3600.0
PAGE = 2_000
_FIRST = (-1, "")
_OLD = "changed_at < ? AND (generation IS NULL OR changed_at < ?)"
# No EXISTS, which PostgreSQL may answer by reading all timers into a hash.
_EMPTY = "(SELECT 1 FROM timers WHERE timers.agent_id = {0}.agent_id AND timers.job_id = {0}.job_id LIMIT 1) IS NULL"


class SlotRetention:
    """A pass through the slots by key that goes on where it ended. `clock`: seconds since the epoch."""

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self._backend, self._clock = backend, clock
        self._after: tuple[int, str] = _FIRST

    def __call__(self, page: int = PAGE) -> int:
        """Forget the slots of the next page that hold nothing and have not changed for long; returns how many.

        A delivery is remembered for a day, a generation for a week: an older request is on no wire any more.
        """
        now = self._clock()
        old = (now - DELIVERED_MEMORY_S, now - GENERATION_MEMORY_S)
        statement = (
            f"SELECT agent_id, job_id, CASE WHEN {_OLD} AND {_EMPTY.format('page')} THEN 1 ELSE 0 END FROM"  # noqa: S608
            " (SELECT agent_id, job_id, changed_at, generation FROM slots WHERE (agent_id, job_id) > (?, ?)"
            " ORDER BY agent_id, job_id LIMIT ?) AS page ORDER BY agent_id, job_id"
        )
        rows = self._backend.read(lambda session: session.all(statement, (*old, *self._after, page)))
        self._after = (rows[-1][0], rows[-1][1]) if len(rows) == page else _FIRST
        gone = [(row[0], row[1]) for row in rows if row[2]]
        return self._backend.write(lambda session: self._forget(session, gone, old)) if gone else 0

    def _forget(self, session: Session, keys: list[tuple[int, str]], old: tuple[float, float]) -> int:
        """Forget them, if that still holds: looked at again under a lock."""
        given, bound = self._backend.given(agent="bigint", job="text"), self._backend.bind(keys, 2)
        locked = session.all(
            f"SELECT agent_id, job_id FROM slots WHERE (agent_id, job_id) IN (SELECT agent, job FROM {given})"  # noqa: S608
            f" AND {_OLD}{self._backend.skip_locked}",
            (*bound, *old),
        )
        return session.run(
            f"DELETE FROM slots WHERE (agent_id, job_id) IN (SELECT agent, job FROM {given})"  # noqa: S608
            f" AND {_EMPTY.format('slots')}",
            self._backend.bind([(row[0], row[1]) for row in locked], 2),
        )
