"""Timers and abandoned deliveries, as operators see and handle them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.errors import ConflictError, NotFoundError
from chronos_cli.nas_server.timers.model import ArmedTimer, DeadDelivery, TimerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.timers.interface import Backend, Row, Session

_DEAD = (
    "SELECT schedule_id, COALESCE((SELECT name FROM agents WHERE agents.id = dead.agent_id), 'unknown'),"
    " job_id, fire_at, fire_text, callback_url, attempts, first_attempt_at, died_at, last_error FROM dead"
)


class Operations:
    """The operators' side of one backend. `clock`: seconds since the epoch."""

    def __init__(self, backend: Backend, clock: Callable[[], float]) -> None:
        self._backend = backend
        self._clock = clock

    def timers(self, *, agent: str | None = None, limit: int = 100) -> list[ArmedTimer]:
        """Return timers by when they are due, with superseded ones that are still owed."""
        rows = self._backend.read(
            lambda session: session.all(
                "SELECT job_id, fire_at, fire_text, schedule_id, in_flight, attempts, callback_url, due_at, last_error,"
                " name FROM timers JOIN agents ON agents.id = agent_id WHERE name = COALESCE(?, name)"
                " ORDER BY due_at LIMIT ?",
                (agent, limit),
            )
        )
        return [
            ArmedTimer(
                job_id=row[0],
                fire_at=row[1],
                fire_text=row[2],
                schedule_id=row[3],
                state=TimerState.IN_FLIGHT if row[4] else TimerState.RETRYING if row[5] else TimerState.ARMED,
                attempts=row[5],
                callback_url=row[6],
                due_at=row[7],
                last_error=row[8],
                agent=row[9],
            )
            for row in rows
        ]

    def dead(self, *, limit: int = 100) -> list[DeadDelivery]:
        """Return the dead list, the latest first."""
        rows = self._backend.read(lambda s: s.all(f"{_DEAD} ORDER BY died_at DESC LIMIT ?", (limit,)))
        return [_dead(row) for row in rows]

    def show(self, schedule_id: str) -> DeadDelivery:
        """Return one entry of the dead list. Raises NotFoundError."""
        rows = self._backend.read(lambda s: s.all(f"{_DEAD} WHERE schedule_id = ?", (schedule_id,)))
        if not rows:
            raise NotFoundError(f"nothing dead is named {schedule_id}", hint="see `chronos-nas dead list`")
        return _dead(rows[0])

    def redrive(self, schedule_id: str) -> DeadDelivery:
        """Deliver a dead one again, from now, under the same delivery id. Raises NotFoundError and ConflictError."""
        entry = self.show(schedule_id)
        now = self._clock()

        def work(session: Session) -> None:
            row = session.all(
                "DELETE FROM dead WHERE schedule_id = ?"
                " RETURNING agent_id, job_id, fire_at, fire_text, callback_url, host",
                (schedule_id,),
            )
            if not row:
                raise NotFoundError(f"nothing dead is named {schedule_id}", hint="see `chronos-nas dead list`")
            agent_id, job_id, fire_at = row[0][:3]
            held = session.all(
                "SELECT current, fire_at FROM timers WHERE agent_id = ? AND job_id = ?", (agent_id, job_id)
            )
            if any(one[1] == fire_at for one in held):
                hint = f"drop this one with `chronos-nas dead drop {schedule_id}`; the other will be delivered"
                raise ConflictError(f"job {job_id} is armed for {entry.fire_text} again", hint=hint)
            # A newer wish stays the newest: the redriven one stands beside it, owed.
            current = 0 if any(one[0] for one in held) else 1
            session.run(
                "INSERT INTO timers (schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, armed_at,"
                " due_at, current) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (schedule_id, *row[0], now, now, current),
            )
            self._backend.announce(session, now)

        self._backend.write(work)
        return entry

    def drop(self, schedule_id: str) -> DeadDelivery:
        """Forget a dead one. Raises NotFoundError."""
        entry = self.show(schedule_id)
        self._backend.write(lambda s: s.run("DELETE FROM dead WHERE schedule_id = ?", (schedule_id,)))
        return entry


def _dead(row: Row) -> DeadDelivery:
    return DeadDelivery(
        schedule_id=row[0],
        agent=row[1],
        job_id=row[2],
        fire_at=row[3],
        fire_text=row[4],
        callback_url=row[5],
        attempts=row[6],
        first_attempt_at=row[7],
        died_at=row[8],
        last_error=row[9],
    )
