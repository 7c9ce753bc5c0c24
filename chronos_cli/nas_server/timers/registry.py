"""The registry of timers: the rows are the truth, everything else a reminder to look at them.

Every method is one transaction. Work of the same kind that meets in a group commit is handed over as one list, so the
cost of reaching the disk is shared.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from chronos_cli.nas_server.timers.agent_list import list_armed
from chronos_cli.nas_server.timers.decide import (
    DELIVERED_MEMORY_S,
    Changes,
    Slot,
    Timer,
    decide,
    spread_s,
    take_answer,
)
from chronos_cli.nas_server.timers.group_commit import GroupCommit
from chronos_cli.nas_server.timers.model import (
    Agent,
    Answer,
    ArmedTimer,
    Delivery,
    DeliveryOutcome,
    DueTimer,
    Fate,
    TimerRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from chronos_cli.nas_server.timers.interface import Backend, Session

CLAIM_S = 90.0
"""The time a claim holds: longer than any relay may take. After it, another worker may take the timer."""

COUNT_AGE_S = 1.0
"""The greatest age of the count of an agent's timers that its limit is compared with."""

_TIMER = (
    "schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, armed_at, attempts, in_flight, current,"
    " accepts, tolerance, generation"
)


class TimerRegistry:
    """Timers of all agents in one backend. `clock`: seconds since the epoch; `claim_s`: how long a claim holds.

    `apply` carries out wishes, `settle` writes down what became of deliveries (False where the timer is gone or another
    attempt has it): lists in and out, one transaction, shared with other threads that call at the same time.
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
        if changes.removed:
            session.many("DELETE FROM timers WHERE schedule_id = ?", [(one,) for one in changes.removed])
            self.backend.forget(session, changes.removed)
        if changes.updated:
            session.many(
                "UPDATE timers SET fire_text = ?, callback_url = ?, host = ?, current = ?, accepts = ?, tolerance = ?,"
                " generation = ?, due_at = CASE WHEN attempts = 0 THEN ? ELSE due_at END WHERE schedule_id = ?",
                [
                    (
                        t.fire_text,
                        t.callback_url,
                        t.host,
                        int(t.current),
                        _named(t.accepts),
                        t.tolerance,
                        t.generation,
                        t.due_at,
                        t.schedule_id,
                    )
                    for t in changes.updated.values()
                ],
            )
        if changes.added:
            session.many(
                "INSERT INTO timers (schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, armed_at,"
                " due_at, current, accepts, tolerance, generation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        t.schedule_id,
                        t.agent_id,
                        t.job_id,
                        t.fire_at,
                        t.fire_text,
                        t.callback_url,
                        t.host,
                        t.armed_at,
                        t.due_at,
                        int(t.current),
                        _named(t.accepts),
                        t.tolerance,
                        t.generation,
                    )
                    for t in changes.added.values()
                ],
            )
            self.backend.remind(session, [(t.schedule_id, 0, t.due_at) for t in changes.added.values()])
        if changes.generations:
            session.many(
                "INSERT INTO slots (agent_id, job_id, generation) VALUES (?, ?, ?)"
                " ON CONFLICT (agent_id, job_id) DO UPDATE SET generation = excluded.generation",
                [(agent_id, job_id, generation) for (agent_id, job_id), generation in changes.generations.items()],
            )

    # -- relays ----------------------------------------------------------------------------------------------------

    def take(
        self,
        *,
        lag: float,
        limit: int,
        skip_hosts: Collection[str],
        skip_agents: Collection[int],
        admit: Callable[[DueTimer], bool],
    ) -> list[Delivery]:
        """Claim at most `limit` due timers, longest waiting first, none of the hosts and agents named, as `admit` says.

        `lag`: only what has been due for so many seconds. `admit` may be asked about a timer twice when the store
        repeats the transaction.
        """
        statement = "SELECT schedule_id, agent_id, host, due_at, attempts FROM timers WHERE due_at <= ?"
        if skip_hosts:
            statement += f" AND host NOT IN ({_marks(len(skip_hosts))})"
        if skip_agents:
            statement += f" AND agent_id NOT IN ({_marks(len(skip_agents))})"
        statement += " ORDER BY due_at LIMIT ?"
        parameters = (self._clock() - lag, *skip_hosts, *skip_agents, limit)
        if not self.backend.read(lambda session: session.all(statement, parameters)):
            return []

        def work(session: Session) -> list[Delivery]:
            rows = session.all(statement + self.backend.skip_locked, parameters)
            found = [DueTimer(schedule_id=r[0], agent_id=r[1], host=r[2], due_at=r[3], attempts=r[4]) for r in rows]
            return self.claim_in(session, [(one.schedule_id, one.attempts) for one in found if admit(one)])

        return self.backend.write(work)

    def look_up(self, schedule_ids: Sequence[str]) -> list[DueTimer]:
        """The timers of these ids that are still there."""
        rows = self.backend.read(
            lambda session: session.all(
                "SELECT schedule_id, agent_id, host, due_at, attempts FROM timers"  # noqa: S608 - only question marks
                f" WHERE schedule_id IN ({_marks(len(schedule_ids))})",
                schedule_ids,
            )
        )
        return [DueTimer(schedule_id=r[0], agent_id=r[1], host=r[2], due_at=r[3], attempts=r[4]) for r in rows]

    def next_due_at(self) -> float | None:
        """When the next timer is due, or None where there is none."""
        rows = self.backend.read(lambda session: session.all("SELECT min(due_at) FROM timers"))
        return None if rows[0][0] is None else float(rows[0][0])

    def claim(self, entries: Sequence[tuple[str, int]]) -> list[Delivery]:
        """Claim `(schedule id, attempts so far)` for one attempt each; what has moved on meanwhile is left out."""
        return self.backend.write(lambda session: self.claim_in(session, entries))

    def claim_in(self, session: Session, entries: Sequence[tuple[str, int]]) -> list[Delivery]:
        """`claim` within a transaction of the caller's."""
        if not entries:
            return []
        now = self._clock()
        rows = session.all(
            "UPDATE timers SET in_flight = 1, attempts = attempts + 1, due_at = ?,"  # noqa: S608 - only question marks
            " first_attempt_at = COALESCE(first_attempt_at, ?)"
            f" WHERE schedule_id IN ({_marks(len(entries))}) AND {self._still(len(entries))}"
            " RETURNING schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, attempts, armed_at,"
            " first_attempt_at, (SELECT audience FROM agents WHERE agents.id = timers.agent_id AND revoked_at IS NULL),"
            " (SELECT rate FROM agents WHERE agents.id = timers.agent_id), accepts, tolerance, generation",
            (
                now + self._claim_s,
                now,
                *(entry[0] for entry in entries),
                *(part for entry in entries for part in entry),
            ),
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
        return sorted(deliveries, key=lambda one: one.due_at)

    @staticmethod
    def _still(count: int) -> str:
        """The condition that these (schedule id, attempts) still stand."""
        return f"(schedule_id, attempts) IN (VALUES {_marks(count, '(?, ?)')})"

    def settle_in(self, session: Session, outcomes: Sequence[DeliveryOutcome]) -> list[bool]:
        """Write down what became of deliveries within a transaction; False where it changed nothing."""
        keys = sorted({(outcome.delivery.agent_id, outcome.delivery.job_id) for outcome in outcomes})
        self.backend.lock_slots(session, keys)
        kept = self._settle_delivered(session, [one for one in outcomes if one.fate is Fate.DELIVERED])
        kept |= self._settle_retries(session, [one for one in outcomes if one.fate is Fate.RETRY])
        kept |= self._settle_dead(session, [one for one in outcomes if one.fate is Fate.DEAD])
        return [outcome.delivery.schedule_id in kept for outcome in outcomes]

    def _settle_delivered(self, session: Session, outcomes: Sequence[DeliveryOutcome]) -> set[str]:
        """A 2xx ends the timer, whoever else may have claimed it meanwhile."""
        if not outcomes:
            return set()
        rows = session.all(
            f"DELETE FROM timers WHERE schedule_id IN ({_marks(len(outcomes))})"  # noqa: S608 - only question marks
            " RETURNING schedule_id, callback_url",
            [outcome.delivery.schedule_id for outcome in outcomes],
        )
        gone = {row[0]: row[1] for row in rows}
        session.many(
            "INSERT INTO slots (agent_id, job_id, done_fire_at, done_schedule_id, done_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (agent_id, job_id) DO UPDATE SET done_fire_at = excluded.done_fire_at,"
            " done_schedule_id = excluded.done_schedule_id, done_at = excluded.done_at",
            [
                (one.delivery.agent_id, one.delivery.job_id, one.delivery.fire_at, one.delivery.schedule_id, one.at)
                for one in outcomes
                if one.delivery.schedule_id in gone
            ],
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
        kept = set()
        for one in outcomes:
            mine = (one.delivery.schedule_id, one.delivery.attempt)
            touched = session.run(
                "UPDATE timers SET in_flight = 0, due_at = ?, last_error = ? WHERE schedule_id = ? AND attempts = ?",
                (one.next_at, one.error, *mine),
            )
            if touched and one.next_at is not None:
                self.backend.remind(session, [(*mine, one.next_at)])
                kept.add(one.delivery.schedule_id)
        return kept

    def _settle_dead(self, session: Session, outcomes: Sequence[DeliveryOutcome]) -> set[str]:
        kept = set()
        for one in outcomes:
            mine = (one.delivery.schedule_id, one.delivery.attempt)
            moved = session.run(
                "INSERT INTO dead (schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, attempts,"
                " first_attempt_at, died_at, last_error) SELECT schedule_id, agent_id, job_id, fire_at, fire_text,"
                " callback_url, host, attempts, first_attempt_at, ?, ? FROM timers"
                " WHERE schedule_id = ? AND attempts = ? ON CONFLICT (schedule_id) DO NOTHING",
                (one.at, one.error, *mine),
            )
            if moved:
                session.run("DELETE FROM timers WHERE schedule_id = ? AND attempts = ?", mine)
                kept.add(one.delivery.schedule_id)
        return kept

    def release_claims(self) -> int:
        """Make every claimed timer due now: for a store with one process, when that process starts."""
        now = self._clock()
        return self.backend.write(
            lambda session: session.run("UPDATE timers SET in_flight = 0, due_at = ? WHERE in_flight = 1", (now,))
        )

    def sweep(self, limit: int = 1_000) -> int:
        """Forget deliveries that are too old to matter, and return how many."""
        before = self._clock() - DELIVERED_MEMORY_S
        return self.backend.write(
            lambda session: session.run(
                "DELETE FROM slots WHERE (agent_id, job_id) IN (SELECT agent_id, job_id FROM slots"
                " WHERE done_at < ? AND generation IS NULL LIMIT ?)",
                (before, limit),
            )
        )

    # -- lists -----------------------------------------------------------------------------------------------------

    def armed(self, agent: Agent, *, after: str = "", limit: int) -> list[ArmedTimer]:
        """Return what one agent's list shows: one entry per job later than `after`, by job id, at most `limit`."""
        return list_armed(self.backend, agent, after=after, limit=limit)


def _new_id(now: float) -> str:
    return f"{int(now * 1000):012x}{secrets.token_hex(8)}"


def _features(text: str) -> frozenset[str]:
    return frozenset(text.split(",")) if text else frozenset()


def _named(features: frozenset[str]) -> str:
    return ",".join(sorted(features))


def _marks(count: int, mark: str = "?") -> str:
    """So many question marks."""
    return ", ".join([mark] * count)
