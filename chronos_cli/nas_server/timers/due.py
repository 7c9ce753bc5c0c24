"""Timers that are due, read page by page: no backlog makes one look long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.model import DueTimer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chronos_cli.nas_server.timers.interface import Backend

SCAN = 5_000
"""The rows that one look reads through at most."""

Edge = tuple[float, str]
FIRST: Edge = (-1e300, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DuePage:
    """Due timers, where the next page begins, and whether all that was due has been read (`edge` is then the first)."""

    timers: list[DueTimer]
    edge: Edge
    ended: bool


def read_due(
    backend: Backend, now: float, *, after: Edge, scan: int, most: int, skip: Sequence[tuple[int, str]]
) -> DuePage:
    """Read at most `most` timers that are due, longest waiting first, from behind `after`, through at most `scan` rows.

    `skip`: (agent id, host) that are passed by without cost. Claims nothing.
    """
    given = backend.given(agent_id="bigint", host="text")
    statement = (
        "WITH page AS MATERIALIZED (SELECT due_at, schedule_id, host, agent_id, attempts FROM timers"  # noqa: S608
        " WHERE (due_at, schedule_id) > (?, ?) AND due_at <= ? ORDER BY due_at, schedule_id LIMIT ?),"
        " seen AS MATERIALIZED (SELECT count(*) AS number, max(due_at) AS last FROM page)"
        " SELECT due_at, schedule_id, host, agent_id, attempts, 0 FROM page"
        f" WHERE (agent_id, host) NOT IN (SELECT agent_id, host FROM {given})"
        " UNION ALL SELECT last, (SELECT max(schedule_id) FROM page WHERE due_at = last), NULL, NULL, number, 1"
        " FROM seen ORDER BY 6 DESC, 1, 2 LIMIT ?"
    )
    parameters = (*after, now, scan, *backend.bind(skip, 2), most + 1)
    edge, *rows = backend.read(lambda session: session.all(statement, parameters))
    timers = [DueTimer(schedule_id=r[1], agent_id=r[3], host=r[2], due_at=r[0], attempts=r[4]) for r in rows]
    if len(timers) == most:
        return DuePage(timers=timers, edge=(timers[-1].due_at, timers[-1].schedule_id), ended=False)
    if edge[4] < scan:
        return DuePage(timers=timers, edge=FIRST, ended=True)
    return DuePage(timers=timers, edge=(edge[0], edge[1]), ended=False)


def next_due_at(backend: Backend, after: float) -> float | None:
    """Return when the next timer later than `after` is due, or None where there is none."""
    statement = "SELECT min(due_at) FROM timers WHERE due_at > ?"
    rows = backend.read(lambda session: session.all(statement, (max(after, FIRST[0]),)))
    return None if rows[0][0] is None else float(rows[0][0])
