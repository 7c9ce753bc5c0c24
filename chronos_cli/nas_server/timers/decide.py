"""Effect of a timer request on the timers of its job: a pure decision, the same for every backend.

At most one timer of a job is its *current* one, the newest wish. Others are owed: tried at least once, not answered
yet. A wish replaces the current timer only while that was never tried; else the two stand side by side.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from chronos_cli.nas_server.timers.model import (
    Answer,
    Cancel,
    CancelEffect,
    Delivery,
    NextWake,
    Provision,
    ProvisionEffect,
    Refusal,
    TimerRequest,
    TimerState,
)

DELIVERED_MEMORY_S = 24 * 3600.0
"""The time a delivered instant is remembered, so that a request sent twice is not run twice."""


@dataclass(slots=True, kw_only=True)
class Timer:
    """A timer of a job as it is stored. `stored` is False until it has been written."""

    schedule_id: str
    agent_id: int
    job_id: str
    fire_at: int
    fire_text: str
    callback_url: str
    host: str
    armed_at: float
    attempts: int = 0
    in_flight: bool = False
    current: bool = True
    stored: bool = True
    accepts: frozenset[str] = frozenset()
    tolerance: int = 0
    generation: int | None = None

    @property
    def due_at(self) -> float:
        """Return when it is to be relayed first: `fire_at`, spread over its tolerance."""
        return self.fire_at + spread_s(self.agent_id, self.job_id, self.tolerance)

    @property
    def state(self) -> TimerState:
        """Return where it stands."""
        if self.in_flight:
            return TimerState.IN_FLIGHT
        return TimerState.RETRYING if self.attempts else TimerState.ARMED


@dataclass(slots=True, kw_only=True)
class Slot:
    """All that is stored about one (agent, job). `generation`: the highest seen; `done_*`: the last delivery."""

    agent_id: int
    job_id: str
    generation: int | None = None
    done_fire_at: int | None = None
    done_schedule_id: str | None = None
    done_at: float | None = None
    timers: list[Timer] = field(default_factory=list)

    @property
    def current(self) -> Timer | None:
        """Return the newest wish."""
        return next((timer for timer in self.timers if timer.current), None)

    def at(self, fire_at: int) -> Timer | None:
        """Return the timer of that instant."""
        return next((timer for timer in self.timers if timer.fire_at == fire_at), None)


@dataclass(slots=True, kw_only=True)
class Changes:
    """Changes to write: rows to add, to remove and to update, and generations to remember."""

    added: dict[str, Timer] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    updated: dict[str, Timer] = field(default_factory=dict)
    generations: dict[tuple[int, str], int] = field(default_factory=dict)


def decide(slot: Slot, wish: TimerRequest, *, now: float, new_id: str, held: int, changes: Changes) -> Answer:
    """Carry out one wish on `slot` (changed in place) and note in `changes` what must be written.

    `new_id`: the schedule id of a timer that this adds. `held`: how many timers the agent holds already.
    """
    if wish.generation is not None:
        if slot.generation is not None and wish.generation < slot.generation:
            return Refusal(
                status=409,
                error="stale_generation",
                message=f"generation {wish.generation} of job {wish.job_id} is older than {slot.generation}",
                extra={"generation": slot.generation},
            )
        if wish.generation != slot.generation:
            slot.generation = changes.generations[(slot.agent_id, slot.job_id)] = wish.generation
    if isinstance(wish, Cancel):
        return _cancel(slot, changes)
    return _provision(slot, wish, now=now, new_id=new_id, held=held, changes=changes)


def take_answer(slot: Slot, delivery: Delivery, wake: NextWake, *, now: float, new_id: str, changes: Changes) -> bool:
    """Carry out what the answer to a settled fire asks for; False where it does not count.

    Only one that is newer than any wish seen counts, and only while the job's arm leads to the callback that answered.
    A fire that is owed stays owed. The job's own place is filled again, so no limit is passed.
    """
    current = slot.current
    if slot.generation is not None and wake.generation <= slot.generation:
        return False
    if current is not None and current.callback_url != delivery.callback_url:
        return False
    if wake.fire_at is not None:
        wish = Provision(
            agent_id=delivery.agent_id,
            job_id=delivery.job_id,
            fire_at=wake.fire_at,
            fire_text=wake.fire_text,
            callback_url=delivery.callback_url,
            host=delivery.host,
            generation=wake.generation,
            accepts=delivery.accepts,
            tolerance=wake.tolerance,
        )
        decide(slot, wish, now=now, new_id=new_id, held=0, changes=changes)
        return True
    slot.generation = changes.generations[(slot.agent_id, slot.job_id)] = wake.generation
    if current is not None:
        _supersede(slot, current, changes)
    return True


def spread_s(agent_id: int, job_id: str, tolerance: int) -> float:
    """Return the seconds by which a job's fires come after their instants: the same each time, at most `tolerance`."""
    if not tolerance:
        return 0.0
    digest = hashlib.blake2b(f"{agent_id}/{job_id}".encode(), digest_size=4).digest()
    return round(int.from_bytes(digest, "big") / 2**32 * tolerance, 3)


def _cancel(slot: Slot, changes: Changes) -> CancelEffect:
    dropped = len(slot.timers)
    for timer in list(slot.timers):
        _drop(slot, timer, changes)
    return CancelEffect(dropped=dropped)


def _provision(slot: Slot, wish: Provision, *, now: float, new_id: str, held: int, changes: Changes) -> Answer:
    current = slot.current
    same = slot.at(wish.fire_at)
    if same is not None:
        replaced = None
        if current is not None and current is not same:
            replaced = current.schedule_id
            _supersede(slot, current, changes)
        wanted = (wish.fire_text, wish.callback_url, wish.accepts, wish.tolerance)
        changed = not same.current or (same.fire_text, same.callback_url, same.accepts, same.tolerance) != wanted
        if changed or same.generation != wish.generation:
            same.current, same.fire_text, same.generation = True, wish.fire_text, wish.generation
            same.callback_url, same.host = wish.callback_url, wish.host
            same.accepts, same.tolerance = wish.accepts, wish.tolerance
            if same.stored:
                changes.updated[same.schedule_id] = same
        return ProvisionEffect(schedule_id=same.schedule_id, state=same.state, changed=changed, replaced=replaced)
    if (
        wish.fire_at == slot.done_fire_at
        and wish.fire_at <= now
        and slot.done_schedule_id is not None
        and slot.done_at is not None
        and now - slot.done_at < DELIVERED_MEMORY_S
    ):
        return ProvisionEffect(schedule_id=slot.done_schedule_id, state=TimerState.DELIVERED, changed=False)
    if wish.max_timers is not None and held >= wish.max_timers and current is None:
        return Refusal(
            status=422,
            error="too_many_timers",
            message=f"this agent holds {held} timers and may hold {wish.max_timers}",
            extra={"limit": wish.max_timers},
        )
    if current is not None:
        _supersede(slot, current, changes)
    timer = Timer(
        schedule_id=new_id,
        agent_id=wish.agent_id,
        job_id=wish.job_id,
        fire_at=wish.fire_at,
        fire_text=wish.fire_text,
        callback_url=wish.callback_url,
        host=wish.host,
        armed_at=now,
        stored=False,
        accepts=wish.accepts,
        tolerance=wish.tolerance,
        generation=wish.generation,
    )
    slot.timers.append(timer)
    changes.added[new_id] = timer
    return ProvisionEffect(
        schedule_id=new_id,
        state=TimerState.ARMED,
        changed=True,
        replaced=None if current is None else current.schedule_id,
    )


def _supersede(slot: Slot, timer: Timer, changes: Changes) -> None:
    """Make room for a newer wish: what was never tried goes, what was tried stays owed."""
    if timer.attempts == 0:
        _drop(slot, timer, changes)
    else:
        timer.current = False
        changes.updated[timer.schedule_id] = timer


def _drop(slot: Slot, timer: Timer, changes: Changes) -> None:
    slot.timers.remove(timer)
    changes.updated.pop(timer.schedule_id, None)
    if timer.stored:
        changes.removed.append(timer.schedule_id)
    else:
        del changes.added[timer.schedule_id]
