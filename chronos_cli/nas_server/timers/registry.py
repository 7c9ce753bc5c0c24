"""The registry of timers: the rows are the truth, everything else a reminder to look at them.

Every method is one transaction. Work of the same kind that meets in a group commit is handed over as one list, so the
cost of reaching the disk is shared.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.agent_list import list_armed
from chronos_cli.nas_server.timers.decide import (
    Changes,
    Slot,
    Timer,
    decide,
    spread_s,
    take_answer,
)
from chronos_cli.nas_server.timers.due import FIRST, SCAN, DuePage, Edge, next_due_at, read_due
from chronos_cli.nas_server.timers.group_commit import GroupCommit
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.model import (
    Agent,
    Answer,
    ArmedTimer,
    Delivery,
    DeliveryOutcome,
    Fate,
    TimerRequest,
)
from chronos_cli.nas_server.timers.sweep import SlotRetention
from chronos_cli.nas_server.timers.unheard import UnheardClaims

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronos_cli.nas_server.timers.interface import Backend, Session

CLAIM_S = 90.0
"""The time a claim holds: longer than any relay may take. After it, another worker may take the timer."""

SOON_S = 2.0
"""Arms that are due within this are announced: sooner than every worker looks by itself."""

COUNT_AGE_S = 1.0
"""The greatest age of the count of an agent's timers that its limit is compared with."""

_TIMER = (
    "schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, armed_at, attempts, in_flight, current,"
    " accepts, tolerance, generation"
)

_STATED = {
    "fire_text": "text",
    "callback_url": "text",
    "host": "text",
    "current": "int",
    "accepts": "text",
    "tolerance": "bigint",
    "generation": "bigint",
    "due_at": "float8",
}
"""Columns that a wish states of a timer, and may state otherwise later, with their types."""


class TimerRegistry:
    """Timers of all agents in one backend. `clock`: seconds since the epoch; `claim_s`: how long a claim holds.

    `apply` carries out wishes, `settle` writes down what became of deliveries (False where the timer is gone or another
    attempt has it): lists in and out, one transaction, shared with other threads that call at the same time. `sweep`
    forgets what is too old to matter, a page at a time. `unheard`: claims whose answer did not come.
    """

    def __init__(self, backend: Backend, clock: Callable[[], float], *, claim_s: float = CLAIM_S) -> None:
        self.backend = backend
        self._clock = clock
        self._claim_s = claim_s
        self.apply: Callable[[Sequence[TimerRequest]], list[Answer]] = GroupCommit[TimerRequest, Answer](
            lambda wishes: backend.write(lambda session: self.apply_in(session, wishes))
        )
        self.settle: Callable[[Sequence[DeliveryOutcome]], list[bool]] = GroupCommit[DeliveryOutcome, bool](
            lambda outcomes: backend.write(lambda session: self.settle_in(session, outcomes))
        )
        self.sweep = SlotRetention(backend, clock)
        self.unheard = UnheardClaims(backend)
        self._counts: dict[int, tuple[float, int]] = {}

    # -- wishes ----------------------------------------------------------------------------------------------------

    def apply_in(self, session: Session, wishes: Sequence[TimerRequest]) -> list[Answer]:
        """Carry out wishes in order within a transaction; each answer stands at the place of its wish."""
        now = self._clock()
        keys = sorted({(wish.agent_id, wish.job_id) for wish in wishes})
        slots = self._load(session, keys)
        limited = {wish.agent_id for wish in wishes if getattr(wish, "max_timers", None) is not None}
        held = {agent: self._held(session, agent, now) for agent in limited}
        changes = Changes()
        answers: list[Answer] = []
        for wish in wishes:
            slot = slots[wish.agent_id, wish.job_id]
            before = len(slot.timers)
            new_id = _new_id(now)
            count = held.get(wish.agent_id, 0)
            answers.append(decide(slot, wish, now=now, new_id=new_id, held=count, changes=changes))
            if wish.agent_id in held:
                held[wish.agent_id] = count + len(slot.timers) - before
        self._store(session, changes)
        for agent, count in held.items():
            self._counts[agent] = (self._counts[agent][0], count)
        return answers

    def _load(self, session: Session, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], Slot]:
        self.backend.lock_slots(session, keys)
        slots = {key: Slot(agent_id=key[0], job_id=key[1]) for key in keys}
        for agent_id, job_id, generation, fire_at, schedule_id, at in self.backend.select_by_key(
            session, "SELECT agent_id, job_id, generation, done_fire_at, done_schedule_id, done_at FROM slots", keys
        ):
            slot = slots[agent_id, job_id]
            slot.generation, slot.done_fire_at, slot.done_schedule_id, slot.done_at = (
                generation,
                fire_at,
                schedule_id,
                at,
            )
        for row in self.backend.select_by_key(session, f"SELECT {_TIMER} FROM timers", keys):  # noqa: S608 - constants
            timer = Timer(
                schedule_id=row[0],
                agent_id=row[1],
                job_id=row[2],
                fire_at=row[3],
                fire_text=row[4],
                callback_url=row[5],
                host=row[6],
                armed_at=row[7],
                attempts=row[8],
                in_flight=bool(row[9]),
                current=bool(row[10]),
                accepts=_features(row[11]),
                tolerance=row[12],
                generation=row[13],
            )
            slots[timer.agent_id, timer.job_id].timers.append(timer)
        return slots

    def _held(self, session: Session, agent_id: int, now: float) -> int:
        """Count an agent's timers, afresh every second: counting 100,000 for each request would cost."""
        counted_at, count = self._counts.get(agent_id, (0.0, 0))
        if not 0 <= now - counted_at < COUNT_AGE_S:
            count = int(session.all("SELECT count(*) FROM timers WHERE agent_id = ?", (agent_id,))[0][0])
            self._counts[agent_id] = (now, count)
        return count

    def _store(self, session: Session, changes: Changes) -> None:
        """Write changes down: one statement of each kind, for any number."""
        given, bind = self.backend.given, self.backend.bind
        if changes.removed:
            session.run(
                f"DELETE FROM timers WHERE schedule_id IN (SELECT id FROM {given(id='text')})",  # noqa: S608
                bind([(one,) for one in changes.removed], 1),
            )
        if changes.updated:
            session.run(
                "UPDATE timers SET fire_text = given.fire_text, callback_url = given.callback_url, host = given.host,"  # noqa: S608
                " current = given.current, accepts = given.accepts, tolerance = given.tolerance,"
                " generation = given.generation,"
                " due_at = CASE WHEN attempts = 0 THEN given.due_at ELSE timers.due_at END"
                f" FROM {given(id='text', **_STATED)} WHERE schedule_id = given.id",
                bind([(t.schedule_id, *_stated(t)) for t in changes.updated.values()], 1 + len(_STATED)),
            )
        if changes.added:
            columns = {"schedule_id": "text", "agent_id": "bigint", "job_id": "text", "fire_at": "bigint"}
            columns |= {"armed_at": "float8", **_STATED}
            names = ", ".join(columns)
            session.run(
                f"INSERT INTO timers ({names}) SELECT {names} FROM {given(**columns)}",  # noqa: S608
                bind(
                    [
                        (t.schedule_id, t.agent_id, t.job_id, t.fire_at, t.armed_at, *_stated(t))
                        for t in changes.added.values()
                    ],
                    len(columns),
                ),
            )
            soonest = min(t.due_at for t in changes.added.values())
            if soonest < self._clock() + SOON_S:
                self.backend.announce(session, soonest)
        if changes.generations:
            rows = given(agent="bigint", job="text", number="bigint")
            session.run(
                "INSERT INTO slots (agent_id, job_id, generation, changed_at)"  # noqa: S608 - words of ours
                f" SELECT agent, job, number, ? FROM {rows} WHERE true ON CONFLICT (agent_id, job_id)"
                " DO UPDATE SET generation = excluded.generation, changed_at = excluded.changed_at",
                [self._clock(), *bind([(*key, number) for key, number in sorted(changes.generations.items())], 3)],
            )

    # -- relays ----------------------------------------------------------------------------------------------------

    def due(
        self, *, after: Edge = FIRST, scan: int = SCAN, most: int = 1_000, skip: Sequence[tuple[int, str]] = ()
    ) -> DuePage:
        """Read a page of what is due now; see `read_due`."""
        return read_due(self.backend, self._clock(), after=after, scan=scan, most=most, skip=skip)

    def next_due_at(self, after: float = float("-inf")) -> float | None:
        """Return when the next timer later than `after` is due, or None where there is none."""
        return next_due_at(self.backend, after)

    def hosts_since(self, at: float) -> set[str]:
        """Return the callback hosts for which timers were armed since then, by any process: ids tell when."""
        statement = "SELECT DISTINCT host FROM timers WHERE schedule_id > ?"
        return {row[0] for row in self.backend.read(lambda session: session.all(statement, (_id_time(at),)))}

    def claim(self, entries: Sequence[tuple[str, int]]) -> list[Delivery]:
        """Claim `(schedule id, attempts so far)` for one attempt each; what has moved on meanwhile is left out."""
        if not entries:
            return []
        now = self._clock()
        try:
            return self.backend.write(lambda session: self._claim_in(session, entries, now))
        except RegistryUnavailableError:
            self.unheard.add(now + self._claim_s, [one for one, _ in entries])
            raise

    def _claim_in(self, session: Session, entries: Sequence[tuple[str, int]], now: float) -> list[Delivery]:
        """Do as `claim` within its transaction: one statement for any number."""
        given = self.backend.given(id="text", attempt="bigint")
        rows = session.all(
            "UPDATE timers SET in_flight = 1, attempts = attempts + 1, due_at = ?,"  # noqa: S608 - words of ours
            " first_attempt_at = COALESCE(first_attempt_at, ?) WHERE schedule_id IN (SELECT schedule_id FROM timers"
            f" WHERE (schedule_id, attempts) IN (SELECT id, attempt FROM {given}){self.backend.skip_locked})"
            " RETURNING schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, attempts, armed_at,"
            " first_attempt_at, (SELECT audience FROM agents WHERE agents.id = timers.agent_id AND revoked_at IS NULL),"
            " (SELECT rate FROM agents WHERE agents.id = timers.agent_id), accepts, tolerance, generation",
            (now + self._claim_s, now, *self.backend.bind(entries, 2)),
        )
        orphans = [(row[0],) for row in rows if row[10] is None]
        if orphans:
            # Armed in the very second in which their agent was revoked.
            session.many("DELETE FROM timers WHERE schedule_id = ?", orphans)
        deliveries = [
            Delivery(
                schedule_id=row[0],
                agent_id=row[1],
                job_id=row[2],
                fire_at=row[3],
                fire_text=row[4],
                callback_url=row[5],
                host=row[6],
                attempt=row[7],
                due_at=max(row[3] + spread_s(row[1], row[2], row[13]), row[8]),
                armed_at=row[8],
                first_attempt_at=row[9],
                audience=row[10],
                rate=row[11],
                accepts=_features(row[12]),
                generation=row[14],
            )
            for row in rows
            if row[10] is not None
        ]
        return sorted(deliveries, key=lambda one: (one.due_at, one.fire_at))

    def settle_in(self, session: Session, outcomes: Sequence[DeliveryOutcome]) -> list[bool]:
        """Write down what became of deliveries within a transaction; False where it changed nothing."""
        keys = sorted({(outcome.delivery.agent_id, outcome.delivery.job_id) for outcome in outcomes})
        self.backend.lock_slots(session, keys)
        kept: set[str] = set()
        for fate, write in (
            (Fate.DELIVERED, self._settle_delivered),
            (Fate.RETRY, self._settle_retries),
            (Fate.DEAD, self._settle_dead),
        ):
            some = [one for one in outcomes if one.fate is fate]
            kept |= write(session, some) if some else set()
        return [outcome.delivery.schedule_id in kept for outcome in outcomes]

    def _settle_delivered(self, session: Session, outcomes: Sequence[DeliveryOutcome]) -> set[str]:
        """Delete the timers that a 2xx has ended, also when claimed again meanwhile; return their ids."""
        rows = session.all(
            "DELETE FROM timers WHERE schedule_id IN"  # noqa: S608 - words of ours
            f" (SELECT id FROM {self.backend.given(id='text')}) RETURNING schedule_id, callback_url",
            self.backend.bind([(one.delivery.schedule_id,) for one in outcomes], 1),
        )
        gone = {row[0]: row[1] for row in rows}
        # The last of a job counts where two instants of it ended together.
        done = {
            (one.delivery.agent_id, one.delivery.job_id): (one.delivery.fire_at, one.delivery.schedule_id, one.at)
            for one in outcomes
            if one.delivery.schedule_id in gone
        }
        given = self.backend.given(agent="bigint", job="text", fire_at="bigint", id="text", at="float8")
        session.run(
            "INSERT INTO slots (agent_id, job_id, done_fire_at, done_schedule_id, done_at, changed_at)"  # noqa: S608
            f" SELECT agent, job, fire_at, id, at, at FROM {given} WHERE true"
            " ON CONFLICT (agent_id, job_id) DO UPDATE SET done_fire_at = excluded.done_fire_at,"
            " done_schedule_id = excluded.done_schedule_id, done_at = excluded.done_at,"
            " changed_at = excluded.changed_at",
            self.backend.bind([(*key, *value) for key, value in sorted(done.items())], 5),
        )
        self._take_answers(session, [one for one in outcomes if one.next_wake is not None], gone)
        return set(gone)

    def _take_answers(self, session: Session, outcomes: Sequence[DeliveryOutcome], gone: Mapping[str, str]) -> None:
        """Arm what the answers name, in the transaction that settles them. `gone`: settled now, by callback URL."""
        if not outcomes:
            return
        now = self._clock()
        slots = self._load(session, sorted({(one.delivery.agent_id, one.delivery.job_id) for one in outcomes}))
        changes = Changes()
        for one in outcomes:
            delivery = one.delivery
            slot = slots[delivery.agent_id, delivery.job_id]
            # Gone before without having been delivered: it was cancelled, and its answer with it.
            url = gone.get(
                delivery.schedule_id,
                delivery.callback_url if slot.done_schedule_id == delivery.schedule_id else None,
            )
            if url == delivery.callback_url and one.next_wake is not None:
                take_answer(slot, delivery, one.next_wake, now=now, new_id=_new_id(now), changes=changes)
        self._store(session, changes)

    def _settle_retries(self, session: Session, outcomes: Sequence[DeliveryOutcome]) -> set[str]:
        given = self.backend.given(id="text", attempt="bigint", next_at="float8", error="text")
        rows = session.all(
            "UPDATE timers SET in_flight = 0, due_at = given.next_at, last_error = given.error"  # noqa: S608
            f" FROM {given} WHERE schedule_id = given.id AND attempts = given.attempt RETURNING schedule_id",
            self.backend.bind([(*_mine(one), one.next_at, one.error) for one in outcomes], 4),
        )
        return {row[0] for row in rows}

    def _settle_dead(self, session: Session, outcomes: Sequence[DeliveryOutcome]) -> set[str]:
        given = self.backend.given(id="text", attempt="bigint", at="float8", error="text")
        session.run(
            "INSERT INTO dead (schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host,"  # noqa: S608
            " attempts, first_attempt_at, died_at, last_error) SELECT schedule_id, agent_id, job_id, fire_at,"
            " fire_text, callback_url, host, attempts, first_attempt_at, given.at, given.error"
            f" FROM timers JOIN {given} ON schedule_id = given.id AND attempts = given.attempt"
            " WHERE true ON CONFLICT (schedule_id) DO NOTHING",
            self.backend.bind([(*_mine(one), one.at, one.error) for one in outcomes], 4),
        )
        given = self.backend.given(id="text", attempt="bigint")
        rows = session.all(
            f"DELETE FROM timers WHERE (schedule_id, attempts) IN (SELECT id, attempt FROM {given})"  # noqa: S608
            " RETURNING schedule_id",
            self.backend.bind([_mine(one) for one in outcomes], 2),
        )
        return {row[0] for row in rows}

    def release_claims(self) -> int:
        """Make every claimed timer due now: for a store with one process, when that process starts."""
        now = self._clock()
        return self.backend.write(
            lambda session: session.run("UPDATE timers SET in_flight = 0, due_at = ? WHERE in_flight = 1", (now,))
        )

    # -- lists -----------------------------------------------------------------------------------------------------

    def armed(self, agent: Agent, *, after: str = "", limit: int) -> list[ArmedTimer]:
        """Return what one agent's list shows: one entry per job later than `after`, by job id, at most `limit`."""
        return list_armed(self.backend, agent, after=after, limit=limit)


def _stated(t: Timer) -> tuple[object, ...]:
    """Return the columns of `_STATED`."""
    current = int(t.current)
    return t.fire_text, t.callback_url, t.host, current, _named(t.accepts), t.tolerance, t.generation, t.due_at


def _new_id(now: float) -> str:
    return _id_time(now) + secrets.token_hex(8)


def _id_time(at: float) -> str:
    """Return how the ids of that moment begin."""
    return f"{int(at * 1000):012x}"


def _features(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) if text else frozenset()


def _named(features: frozenset[str]) -> str:
    return ",".join(sorted(features))


def _mine(one: DeliveryOutcome) -> tuple[str, int]:
    return one.delivery.schedule_id, one.delivery.attempt
