"""The fire protocol's decision: from what is stored, what was found and what came, to what must be done.

`decide` is a pure function; everything around it only obeys: settle the rows it names, write the record, create the
rows owed, start the runs, arm the wake, answer. docs/protocol.md states the rules and the failure behind each.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.claim import (
    EARLY_LIMIT,
    ON_TIME_LIMIT,
    UNNAMED_TOLERANCE,
    claim_of,
    claimable_occurrence,
    right_cursor,
    run_id_of,
    successor,
)
from chronos_cli.core.clock import Trust, displaced, is_near, leaps_left, may_settle, mended_by, put_right
from chronos_cli.core.decision import Decision, Outcome, Purpose, Start, Trigger, Wake
from chronos_cli.core.instant import SECOND, text_in, whole
from chronos_cli.core.job import CLAIM_PREFIX, OURS, Open, OpenKind, Standing, ours_of
from chronos_cli.core.open_runs import OpenRuns
from chronos_cli.core.row import MADE_UP_FOR, Row, RunState, Timing, row_of
from chronos_cli.core.schedule import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chronos_cli.core.decision import Facts, FireRequest
    from chronos_cli.core.job import Job

HOLD_AHEAD = timedelta(minutes=15)
MAX_RETRY_AFTER_S: Final = 900
UNNAMED_AHEAD = timedelta(minutes=6)
"""The most a clock of NAS may run ahead of ours for a fire without an instant to count as early."""

ASKED_RUNS: Final = frozenset({"pending_slot", "manual_run_at", "manual_run_prompt"})
"""Where newer Hermes versions keep a run that was asked for, and the slot that it displaced, until one is claimed."""

LEAPS_KEPT: Final = 4
ECHO = timedelta(seconds=60)
"""For how long a fire that names no instant is taken for the one before it, delivered twice."""


def decide(job: Job | None, facts: Facts, fire: FireRequest, now: datetime) -> Decision:
    """Return everything that follows from one look at one job. Never raises."""
    if job is None:
        return Decision(outcome=Outcome.HELD if facts.held else Outcome.GONE)
    return _Look(job, facts, fire, now).decision()


class _Look:
    """One decision in the making; lives for a single call."""

    def __init__(self, job: Job, facts: Facts, fire: FireRequest, now: datetime) -> None:
        self.job, self.facts, self.fire, self.now = job, facts, fire, now
        self.may_start = not facts.held and fire.via not in (Trigger.RECONCILE, Trigger.INSPECT)
        self.cursor = right_cursor(job, now)
        self.claimed_through = job.claimed_through
        self.changes: dict[str, Any] = {}
        self.ours: dict[str, Any] = {}
        if self.cursor not in (None, job.cursor) and self.cursor == displaced(job):
            self.ours["aligned"] = self.cursor.isoformat()
        self._mend_ahead()
        self.target = self._target()
        self.effect = None if self.target is None else claim_of(self.job, self.target, now)
        self.hand = OpenRuns(job, facts, now, asks=fire.token)
        self.owed: list[Row] = []
        self.claimed: OpenKind | None = None

    # -- the clock -------------------------------------------------------------------------------------------------

    def _mend_ahead(self) -> None:
        """Bring back what a clock that was ahead has claimed, where this one is known to be right."""
        rows = self.facts.ahead
        if rows is None or self.fire.via in (Trigger.MANUAL, Trigger.RUN_ENDED):
            return
        if mended_by(self.job, self.now, self.facts.trust):
            self.claimed_through, self.cursor = put_right(self.job, rows, self.now)
            passed = self.cursor is not None and self.cursor != self.job.timetable.after(self.now)
            leaps = leaps_left(self.job, self.now, self.facts.trust)
            self.ours["leapt_from"] = [moment.isoformat() for moment in leaps]
            self.ours |= {"aligned": self.cursor.isoformat() if passed and self.cursor else None}

    def _note_leap(self, cursor: datetime) -> None:
        """Note from where a clock without a witness goes far ahead, for the case that it is wrong."""
        if self.facts.trust is Trust.ALONE and not is_near(self.job, cursor, self.now):
            self.ours["leapt_from"] = [moment.isoformat() for moment in (*self.job.leapt_from, cursor)][-LEAPS_KEPT:]

    def _target(self) -> datetime | None:
        """Return the claimable occurrence, unless it is long past by a clock alone that no witness knows."""
        target = claimable_occurrence(self.job, self.cursor, self.fire, self.now)
        if target is None or may_settle(self.job, target, self.now, self.facts.trust):
            return target
        return None

    # -- claim -----------------------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Take the cursor, in the same write that moves it on."""
        claim = self.effect
        if self.target is None or claim is None or not self.may_start:
            return
        self.claimed_through = claim.through
        self._note_leap(self.target)
        if claim.missed is not None:
            self._owe_missed(*claim.missed)
        if claim.taken is None:
            self.claimed = OpenKind.MISSED
        elif all(entry.fire_at != claim.taken for entry in self.hand.open):
            # Else it was taken under a clock that was ahead, then brought back, and goes on as it is.
            self._take(claim.taken, caught_up=claim.missed is not None)
        self._advance()

    def _owe_missed(self, first: datetime, last: datetime, because: str = "nobody came for it in time") -> None:
        through, count, exact = self.job.timetable.passed(first, last)
        entry = self._entry(
            OpenKind.MISSED,
            first,
            timing=Timing.LATE.value,
            because=because,
            through=through,
            count=count,
            exact=exact,
        )
        self._owe(entry)

    def _take(self, instant: datetime, *, caught_up: bool) -> None:
        self.hand.end_retries()
        kind, because = self.hand.overlap()
        late = whole(self.now) - instant > ON_TIME_LIMIT + timedelta(seconds=self.job.policy.tolerance)
        timing = Timing.CATCH_UP if caught_up else Timing.LATE if late else Timing.ON_TIME
        entry = self._entry(kind, instant, because=because, timing=timing.value)
        self.claimed = kind
        if kind is OpenKind.RUN:
            self.hand.open.append(entry)
            self.hand.ready.append(Start(entry=entry, attempt=1))
        else:
            self._owe(entry)
            if kind is OpenKind.QUEUED:
                self.hand.queued.append(entry)

    def _advance(self) -> None:
        """Move the cursor; without a successor the schedule is spent."""
        counted = self.claimed in (OpenKind.RUN, OpenKind.QUEUED)
        completed = self.job.completed + 1 if counted else self.job.completed
        spent = self.job.times is not None and completed >= self.job.times
        following = None if spent or self.job.once else successor(self.job, self.claimed_through, self.now)
        if counted and isinstance(self.job.record.get("repeat"), dict):
            self.changes["repeat"] = {**self.job.record["repeat"], "completed": completed}
        if counted:
            stamp = self._text(self.now)
            if not self.job.claimed_elsewhere(self.now):
                self.changes["fire_claim"] = {"at": stamp, "by": CLAIM_PREFIX + self.fire.token}
            if following is None:
                self.changes["last_run_at"] = stamp
        if following is None:
            self.changes["enabled"] = False
        if isinstance(self.job.timetable.schedule, Interval):
            self.ours["anchor"] = self.job.timetable.anchor.isoformat()
        self.cursor = following

    def _entry(self, kind: OpenKind, instant: datetime | None, **more: Any) -> Open:
        run = self.fire.run_id if instant is None else run_id_of(instant)
        return Open(
            run=run or "",
            kind=kind,
            fire_at=instant,
            claim=self.fire.token,
            claimed_at=self.now,
            received_at=self.now,
            delivery=self.fire.delivery,
            **more,
        )

    def _owe(self, entry: Open) -> None:
        self.hand.open.append(entry)
        self.owed.append(row_of(self.job.id, entry, self.job.policy))

    # -- start -----------------------------------------------------------------------------------------------------

    def starts(self) -> tuple[Start, ...]:
        """Return what starts now: everything ready, a manual run asked for, and the queued run whose turn has come."""
        asked = self.fire.via is Trigger.MANUAL and not self.facts.held
        if asked and all(entry.run != self.fire.run_id for entry in self.job.open):  # else this very request is known
            entry = self._entry(OpenKind.RUN, None, timing=Timing.MANUAL.value, **self._asked())
            self.hand.open.append(entry)
            self.hand.ready.append(Start(entry=entry, attempt=1))
        if not self.may_start:
            return ()
        if self.hand.queued and self.hand.is_clear():
            self.hand.ready.append(Start(entry=self.hand.queued.pop(0), attempt=1))
        return tuple(self.hand.ready)

    def _asked(self) -> dict[str, Any]:
        """Return what was asked for with a manual run."""
        at = self.fire.stands_for
        because = None if at is None else f"{MADE_UP_FOR}{at.isoformat()}"
        return {"stands_for": at, "own": self.fire.own, "because": because}

    # -- record ----------------------------------------------------------------------------------------------------

    def record(self) -> Mapping[str, Any] | None:
        """Return the record as it must be stored, or None when it may stay as it is."""
        for _, row in sorted(self.hand.dropped, key=lambda pair: pair[1].finished_at or self.now):
            self._note_end(row)
        if not self.hand.busy and self.hand.dropped and self._stamped():
            self.changes["fire_claim"] = None
        if self.cursor != self.job.cursor or self.job.cursor_unreadable:
            self.changes["next_run_at"] = None if self.cursor is None else self._text(self.cursor)
        if self.claimed_through != self.job.claimed_through and self.claimed_through is not None:
            self.ours["claimed_through"] = self.claimed_through.isoformat()
        if tuple(self.hand.open) != self.job.open:
            self.ours["open"] = [entry.to_record() for entry in self.hand.open]
        if self._complete():
            self.changes |= {"state": "completed", "enabled": False}
            self.ours["completed_at"] = whole(self.now).isoformat()
        if not self.changes and not self.ours and not self._resumes():
            return None
        return {**self._unasked(), **self.changes, OURS: self._ours_after()}

    def _ours_after(self) -> dict[str, Any]:
        """Return our part of the record as it must be stored, without what counts no more."""
        ours = ours_of(self.job.record) | self.ours | {"change": self.fire.token}
        if self.cursor != self.job.cursor and "aligned" not in self.ours:
            ours.pop("aligned", None)
        return {name: value for name, value in ours.items() if value or name not in ("leapt_from", "aligned")}

    def _unasked(self) -> Mapping[str, Any]:
        """Return the record as it was, without what asks hermes for a run that a claim just made is or replaces."""
        record = self.job.record
        if self.claimed_through == self.job.claimed_through:
            return record
        return {key: value for key, value in record.items() if key not in ASKED_RUNS}

    def _resumes(self) -> bool:
        """Return whether a run without a row is started that an earlier look claimed.

        Its row may also be missing because it ended and was pruned after the record was read: the write finds out.
        """
        return self.may_start and any(
            start.entry in self.job.open and start.entry.run not in self.facts.rows for start in self.hand.ready
        )

    def _note_end(self, row: Row) -> None:
        """Return what a finished run leaves on the job."""
        if row.state in (RunState.SKIPPED, RunState.MISSED):
            return
        failed = row.state is not RunState.OK
        self.changes["last_run_at"] = self._text(row.finished_at or self.now)
        self.changes["last_status"] = "error" if failed else "ok"
        self.changes["last_error"] = (row.reason or row.state.value) if failed else None
        if row.scheduled_at is None or row.replaced:
            return
        counted = self.ours.get("failures", self.job.failures)
        failures = counted + 1 if failed else 0
        if failures != counted:
            self.ours["failures"] = failures
        limit = self.job.policy.pause_after_failures
        if limit and failures >= limit and self.job.standing is Standing.LIVE:
            reason = f"{failures} runs in a row failed"
            self.changes |= {"enabled": False, "state": "paused", "paused_reason": reason}
            self.changes["paused_at"] = self._text(self.now)

    def _stamped(self) -> bool:
        """Return whether the record bears a claim stamp of ours; one of hermes is not ours to clear."""
        claim = self.job.record.get("fire_claim")
        return isinstance(claim, dict) and str(claim.get("by", "")).startswith(CLAIM_PREFIX)

    def _complete(self) -> bool:
        """Return whether the job is complete now: its schedule is spent, and nothing of it is open."""
        spent = self.job.standing is Standing.COMPLETED or self.changes.get("enabled") is False
        if self.job.standing is Standing.LIVE and (self.job.once or self.job.used_up) and self.cursor is None:
            spent = True
        return (
            spent
            and self.cursor is None
            and not self.hand.open
            and self.job.record.get("state") != "completed"
            and self.changes.get("state") != "paused"
        )

    def _text(self, moment: datetime) -> str:
        return text_in(whole(moment), self.job.timetable.zone)

    # -- wake and answer -------------------------------------------------------------------------------------------

    def wake(self, starts: tuple[Start, ...]) -> Wake | None:
        """Return the earliest instant at which to look at the job: its cursor, a retry, or the end of a lease."""
        wakes = []
        # An inspection writes nothing: a pause that only the next look will write is no pause yet.
        paused = self.hand.shelved or (self.changes.get("state") == "paused" and self.fire.via is not Trigger.INSPECT)
        if self.cursor is not None and not paused:
            tolerance = self.job.policy.tolerance
            wakes.append(Wake(at=self.cursor, purpose=Purpose.CURSOR, tolerance=tolerance))
        wakes += self.hand.wakes(starts)
        if not wakes:
            return None
        first = min(wakes, key=lambda wake: wake.at)
        if self.facts.held:
            again = self.now + HOLD_AHEAD
            if self.facts.held_until is not None:  # what came due under the hold is looked at when it ends
                again = min(again, self.facts.held_until)
            first = Wake(at=max(first.at, again), purpose=Purpose.LOOK)
        floor = whole(self.now) + SECOND
        return first if first.at >= floor else Wake(at=floor, purpose=first.purpose)

    def decision(self) -> Decision:
        """Survey, claim, start, and put it together."""
        self.hand.survey(newer=self.effect if self.may_start else None)
        self.move_overdue()
        self.claim()
        starts = self.starts()
        record = self.record()
        wake = self.wake(starts)
        early = self._early(starts, wake)
        outcome = self.outcome(starts, early)
        return Decision(
            outcome=outcome,
            record=record,
            settle=tuple(self.hand.settle),
            replaced=self.hand.replaced() if self.may_start else (),
            owed=tuple(self.owed),
            starts=starts,
            wake=wake,
            retry_after=self._seconds_left(early) if early is not None and outcome is Outcome.EARLY else None,
            reason=self.job.standing.value if outcome is Outcome.IGNORED else None,
        )

    def move_overdue(self) -> None:
        """Move a cursor past its grace to the newest instant, where nothing may be claimed (reconcile)."""
        claim = self.effect
        if self.target is None or claim is None or self.fire.via is not Trigger.RECONCILE:
            return
        if claim.taken == self.target:
            return
        self._note_leap(self.target)
        if claim.missed is not None:
            self._owe_missed(*claim.missed)
        if claim.taken is None:
            self.claimed_through = claim.through
            self._advance()
        else:
            self.claimed_through = claim.taken - SECOND
            self.cursor = claim.taken

    def _early(self, starts: tuple[Start, ...], wake: Wake | None) -> datetime | None:
        """Return the instant that the fire came well before: the cursor or the wake it names. NAS delivers it again.

        One that names none, and finds nothing due, is early where the present wake lies minutes ahead: NAS's clock may
        be ahead of ours, and would fire at once whatever is armed before then. One that comes right after another that
        settled something reads as that one, delivered twice.
        """
        named = self.fire.fire_at
        if self.fire.via is not Trigger.RELAY:
            return None
        armed = named in self.facts.armed
        if named is not None and named - self.now > EARLY_LIMIT:
            # An occurrence that was taken does not come again, though a clock set back since may call it ahead.
            taken = any(entry.fire_at == named for entry in self.job.open)
            return named if not taken and (named == self.cursor or armed) else None
        if starts or self.claimed is not None or wake is None or wake.purpose is Purpose.LOOK:
            return None
        ahead = UNNAMED_TOLERANCE < wake.at - self.now <= UNNAMED_AHEAD
        if named is not None:  # seconds before the very wake that is wanted: armed anew, it would come as early again
            return named if armed and ahead and wake.at <= named else None
        echo = self.facts.settled_at is not None and abs(self.now - self.facts.settled_at) <= ECHO
        return wake.at if ahead and not echo else None

    def _seconds_left(self, until: datetime) -> int:
        return max(1, min(MAX_RETRY_AFTER_S, int((until - self.now).total_seconds())))

    def outcome(self, starts: tuple[Start, ...], early: datetime | None) -> Outcome:
        """Return the word of the answer: the first row of the table that matches."""
        named = self.fire.fire_at
        if self.facts.held:
            return Outcome.HELD
        if self.fire.via is Trigger.RELAY and (
            self.hand.shelved or (self.job.standing is Standing.COMPLETED and not self.job.open)
        ):
            return Outcome.IGNORED
        if early is not None:
            return Outcome.EARLY
        if named is not None and named != self.job.cursor and named not in self.facts.armed:
            if any(start.entry.fire_at == named for start in starts):
                return Outcome.CLAIMED
            taken = self.job.claimed_through is not None and named <= self.job.claimed_through
            return Outcome.DUPLICATE if taken else Outcome.STALE
        if self.claimed is not None and self.claimed is not OpenKind.RUN:
            return Outcome(self.claimed.value)
        if starts:
            return Outcome.CLAIMED
        taken = named is None or (self.job.claimed_through is not None and named <= self.job.claimed_through)
        return Outcome.DUPLICATE if taken else Outcome.IDLE
