"""The list of one agent: the newest wish of each job, and of what is owed beside it the failures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.model import Agent, ArmedTimer, OwedFire, TimerState

if TYPE_CHECKING:
    from chronos_cli.nas_server.timers.interface import Backend, Row


def list_armed(backend: Backend, agent: Agent, *, after: str, limit: int) -> list[ArmedTimer]:
    """Return one entry per job later than `after`, by job id, at most `limit`."""
    found: dict[str, ArmedTimer] = {}
    while len(found) < limit:
        rows = _page(backend, agent, after, limit)
        for row in rows:
            known = found.get(row[0])
            if known is None and len(found) < limit:
                found[row[0]] = _armed(row, agent.name)
            elif known is not None and known.owed is None:
                found[row[0]] = replace(known, owed=_owed(row))
        if len(rows) < limit:
            break
        after = rows[-1][0]
    return list(found.values())


def _page(backend: Backend, agent: Agent, after: str, limit: int) -> list[Row]:
    """Return the timers of the next jobs, the newest wish of each first."""
    return backend.read(
        lambda session: session.all(
            "SELECT job_id, fire_at, fire_text, schedule_id, in_flight, attempts, callback_url, due_at, last_error"
            " FROM timers WHERE agent_id = ? AND job_id > ?"
            " ORDER BY job_id, current DESC, schedule_id DESC LIMIT ?",
            (agent.id, after, limit),
        )
    )


def _armed(row: Row, agent: str) -> ArmedTimer:
    in_flight, attempts = row[4], row[5]
    waiting = TimerState.RETRYING if attempts else TimerState.ARMED
    return ArmedTimer(
        job_id=row[0],
        fire_at=row[1],
        fire_text=row[2],
        schedule_id=row[3],
        state=TimerState.IN_FLIGHT if in_flight else waiting,
        attempts=attempts,
        callback_url=row[6],
        due_at=row[7],
        last_error=row[8],
        agent=agent,
        owed=_owed(row),
    )


def _owed(row: Row) -> OwedFire | None:
    """Return the failures of a timer, if there are any: an attempt under way has not failed yet."""
    in_flight, attempts = row[4], row[5]
    failed = attempts - (1 if in_flight else 0)
    if failed < 1:
        return None
    return OwedFire(fire_text=row[2], failed=failed, last_error=row[8], next_try=None if in_flight else row[7])
