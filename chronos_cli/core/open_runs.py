"""Open runs of a job: the entries of `open` and their rows, settled as far as time has settled them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chronos_cli.core.clock import Lease
from chronos_cli.core.decision import Liveness, Purpose, Start, Wake
from chronos_cli.core.instant import SECOND
from chronos_cli.core.job import HERMES_CLAIM_TTL, OpenKind, Standing
from chronos_cli.core.policy import OnCrash, Overlap
from chronos_cli.core.row import (
    LEASE_MARGIN,
    LONGEST_RETRY,
    Row,
    RunState,
    concluded,
    died,
    given_up,
    row_of,
    unstarted,
)
from chronos_cli.frozen import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chronos_cli.core.claim import ClaimEffect
    from chronos_cli.core.decision import Facts
    from chronos_cli.core.job import Job, Open

STARTS_WITHIN = timedelta(minutes=2)
"""Time for which a run is left to its requester, where no other process may start it."""


class OpenRuns:
    """The entries of `open`, each where it belongs; lives for a single decision.

    `settle`: rows to write. `open`: the entries that stay; of them run `running`, wait for a retry `waiting`, may start
    `ready`, wait for their turn `queued`. `dropped`: the entries that go, each with the terminal row it ended as.
    """

    def __init__(self, job: Job, facts: Facts, now: datetime, *, asks: str = "") -> None:
        """Begin. `asks`: the token of the fire that is decided on."""
        self.job, self.facts, self.now, self.asks = job, facts, now, asks
        self.settle: list[Row] = []
        self.open: list[Open] = []
        self.dropped: list[tuple[Open, Row]] = []
        self.running: list[tuple[Open, Row]] = []
        self.waiting: list[tuple[Open, Row]] = []
        self.ready: list[Start] = []
        self.queued: list[Open] = []

    @property
    def shelved(self) -> bool:
        """Return whether the job is paused or disabled."""
        return self.job.standing in (Standing.PAUSED, Standing.DISABLED)

    @property
    def busy(self) -> bool:
        """Return whether a run is open, and not only a row that is owed."""
        return any(entry.kind in (OpenKind.RUN, OpenKind.QUEUED) for entry in self.open)

    def survey(self, *, newer: ClaimEffect | None) -> None:
        """Settle every entry of `open` as far as time has settled it. `newer`: the claim about to be made, if any."""
        for entry in self.job.open:
            row = self.facts.rows.get(entry.run)
            if row is None and entry.kind in (OpenKind.SKIPPED, OpenKind.MISSED, OpenKind.QUEUED):
                row = row_of(self.job.id, entry, self.job.policy)
                self.settle.append(row)
            self._survey_one(entry, row, newer=newer is not None and newer.taken != entry.fire_at)

    def _survey_one(self, entry: Open, row: Row | None, *, newer: bool) -> None:
        if row is not None and row.state is RunState.RUNNING:
            after = self._after_running(entry, row)
            if after is None:
                lease = self._lease(entry, row)
                doubted = lease.is_doubted(self.now, self.facts.trust)
                self._keep(replace(entry, doubted_at=self.now) if doubted else entry, self.running, row)
                return
            row = after
            self.settle.append(row)
        if row is not None and row.terminal:
            self.dropped.append((entry, row))
        elif row is not None and row.state is RunState.QUEUED:
            if self.shelved:
                self._give_up(entry, row, "the job was paused")
            else:
                self.open.append(entry)
                self.queued.append(entry)
        elif row is not None and row.awaits_attempt:
            self._survey_attempt(entry, row)
        elif self.shelved and not entry.manual:
            self._give_up(entry, row, "the job was paused")
        elif newer and not entry.manual:
            self._give_up(entry, row, "a newer occurrence was due")
        else:
            self._survey_unstarted(entry, row)

    def _survey_unstarted(self, entry: Open, row: Row | None) -> None:
        """Have a claimed run start now, unless only its requester can start it."""
        others = entry.own and entry.claim != self.asks
        if others and self.now - entry.claimed_at > STARTS_WITHIN:
            self._give_up(entry, row, "it did not start, and only whoever asked for it had what it was given")
            return
        self.open.append(entry)
        if not others:
            self.ready.append(Start(entry=entry, attempt=1))

    def _survey_attempt(self, entry: Open, row: Row) -> None:
        # A range that a claim passed over as missed is no newer occurrence: it was past when the claim was made.
        through = self.job.claimed_through
        newer = entry.fire_at is not None and through is not None and through > max(entry.fire_at, entry.claimed_at)
        if self.shelved or newer:
            self._give_up(entry, row, "the next occurrence ended its retries" if newer else "the job was paused")
        elif row.not_before is None or not self.now < row.not_before <= self.now + LONGEST_RETRY:
            self.open.append(entry)
            self.ready.append(Start(entry=entry, attempt=row.attempt))
        else:
            self._keep(entry, self.waiting, row)

    def overlap(self) -> tuple[OpenKind, str | None]:
        """Return what the job's overlap makes of an occurrence that is taken now, and why."""
        if self.job.policy.overlap is Overlap.ALLOW:
            return OpenKind.RUN, None
        if self.job.policy.overlap is Overlap.REPLACE:
            self.end_queued("a newer occurrence took its place")
        scheduled = [row.run_id for entry, row in self.running if not entry.manual and row.attempt == 1]
        scheduled += [entry.run for entry in self.queued]
        if self.job.claimed_elsewhere(self.now):
            scheduled.append("a run of hermes")
        aside = [row.run_id for entry, row in self.running if entry.manual or row.attempt > 1]
        aside += [start.entry.run for start in self.ready if start.entry.manual]
        if not scheduled and not aside:
            return OpenKind.RUN, None
        if scheduled and self.job.policy.overlap is Overlap.SKIP:
            return OpenKind.SKIPPED, f"{scheduled[0]} was still under way"
        if self.queued and not self.is_clear():
            return OpenKind.SKIPPED, f"{self.queued[0].run} was queued already"
        return OpenKind.QUEUED, f"{(scheduled or aside)[0]} was still under way"

    def is_clear(self) -> bool:
        """Return whether nothing stands before the queued run."""
        return not self.running and not self.ready and not self.job.claimed_elsewhere(self.now)

    def replaced(self) -> tuple[Row, ...]:
        """Return the runs that are to end for what waits behind them, where the job says `overlap: replace`.

        Every look that may start something asks them again: nothing is lost with a look that died before it asked. What
        cannot be asked from there is waited for, and so is a run that a person asked for.
        """
        if self.job.policy.overlap is not Overlap.REPLACE or not self.queued:
            return ()
        return tuple(row for entry, row in self.running if not entry.manual)

    def end_retries(self) -> None:
        """End what waits for a further attempt, as it stands: the next occurrence is claimed."""
        for entry, row in self.waiting:
            self._close_retry(entry, row)
        for start in [s for s in self.ready if s.attempt > 1 and not s.entry.manual]:
            self.ready.remove(start)
            self._close_retry(start.entry, self._settled_row(start.entry))
        self.waiting = [pair for pair in self.waiting if pair[0] in self.open]

    def end_queued(self, because: str) -> None:
        """Give up what still waits for its turn, since a newer occurrence takes its place."""
        for entry in self.queued:
            self.open.remove(entry)
            self._give_up(entry, self._settled_row(entry), because)
        self.queued = []

    def _close_retry(self, entry: Open, row: Row | None) -> None:
        if row is None or entry.manual:
            return
        self.open.remove(entry)
        self._give_up(entry, row, "the next occurrence ended its retries")

    def _settled_row(self, entry: Open) -> Row | None:
        return next((r for r in self.settle if r.run_id == entry.run), self.facts.rows.get(entry.run))

    def _keep(self, entry: Open, where: list[tuple[Open, Row]], row: Row) -> None:
        self.open.append(entry)
        where.append((entry, row))

    def _give_up(self, entry: Open, row: Row | None, because: str) -> None:
        row = row or row_of(self.job.id, entry, self.job.policy)
        closed = given_up(row, now=self.now, because=because)
        self.settle = [other for other in self.settle if other.run_id != row.run_id]
        self.settle.append(closed)
        self.dropped.append((entry, closed))

    def _after_running(self, entry: Open, row: Row) -> Row | None:
        """Return the row of a run that no longer runs, or None while it does.

        It is over when its runner has written down how it ended, when its lock is free, or, wherever its owner is, when
        its lease is. One whose job was never begun may still start.
        """
        result = self.facts.results.get(row.run_id)
        if result is not None:
            return concluded(row, result, retries=0 if entry.own else self.job.policy.retries)
        if self.facts.liveness.get(row.run_id) is Liveness.UNSTARTED:
            return unstarted(row)
        if not self._is_over(entry, row):
            return None
        policy = replace(self.job.policy, on_crash=OnCrash.SKIP) if entry.own else self.job.policy
        return died(row, now=self.now, policy=policy, reason=self._cause_of_death(row))

    def _is_over(self, entry: Open, row: Row) -> bool:
        dead = self.facts.liveness.get(row.run_id) is Liveness.DEAD
        return dead or self._lease(entry, row).is_over(self.now, self.facts.trust)

    def _lease(self, entry: Open, row: Row) -> Lease:
        return lease_of(row, entry, self.facts.leases.get(row.run_id))

    def wakes(self, starts: Sequence[Start]) -> list[Wake]:
        """Return when to look at these runs: for a retry, at a lease's end, or soon. `starts`: what starts now."""
        wakes = [Wake(at=row.not_before, purpose=Purpose.RETRY) for _, row in self.waiting if row.not_before]
        if self.queued or self.job.policy.on_crash is OnCrash.RERUN:
            lease = timedelta(seconds=self.job.policy.timeout) + LEASE_MARGIN
            ends = [self._lease(entry, row).looked_at(self.now, self.facts.trust) for entry, row in self.running]
            ends += [self.now + lease for _ in starts]
            wakes += [Wake(at=end, purpose=Purpose.LEASE) for end in ends if end]
        if self.queued and not self.running and not starts:
            ahead = HERMES_CLAIM_TTL if self.job.claimed_elsewhere(self.now) else SECOND
            wakes.append(Wake(at=self.now + ahead, purpose=Purpose.LOOK))
        if self.ready and not starts:
            wakes.append(Wake(at=self.now + SECOND, purpose=Purpose.LOOK))
        return wakes

    def _cause_of_death(self, row: Row) -> str:
        if self.facts.liveness.get(row.run_id) is Liveness.DEAD:
            return "its process died without a word"
        return "its lease ended without a word"


def lease_of(row: Row, entry: Open, counted: datetime | None) -> Lease:
    """Return the lease of an open run. `counted`: its end by the boot clock, None if that is not known."""
    length = row.lease_ends_at - row.started_at if row.lease_ends_at and row.started_at else timedelta()
    return Lease(
        end=row.lease_ends_at if counted is None else counted,
        length=length,
        counted=counted is not None,
        doubted_at=entry.doubted_at,
    )
