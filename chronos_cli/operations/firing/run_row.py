"""The two writes of a run to its row: that it runs, and how it ended. Each may fail, or succeed and lose its answer.

A process knows its own write by the token of the lock that it alone holds: whoever is handed the same ticket again, and
finds the row running under the same starter, has not won it.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from chronos_cli.core.clock import lease_end
from chronos_cli.core.row import LEASE_MARGIN, RunState, begun, concluded, row_of
from chronos_cli.errors import ChronosError, TemporaryError, UnreadableError
from chronos_cli.frozen import replace
from chronos_cli.store.documents import StoredDocument
from chronos_cli.store.interface import OutcomeUnknown, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from chronos_cli.core.job import Job
    from chronos_cli.core.policy import Policy
    from chronos_cli.core.row import Row, RunResult
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.run import BegunRun, RunTicket
    from chronos_cli.running.interface import LockedRun

_CONFLICTS: Final = 20
_ERRORS: Final = 3
_TRIES_AT_LEAST: Final = 5
"""So often an end is tried although its lease is over, or this process was told to stop."""
_TRIES_WAITED_FOR: Final = 8
"""Tries, over some three seconds, where a caller waits: the next look finds the result beside the lock."""

_SYNC_MARGIN = timedelta(seconds=5)


def mark_running(ctx: Context, job: Job, ticket: RunTicket, locked: LockedRun) -> StoredDocument[Row] | None:
    """Swap the row to running; None when another process has it. Without a win the lock is let go of.

    Raises ChronosError. Where the row may then say `running` all the same, the lock's file stays and says that no job
    was begun, so that the next look starts it.
    """
    marking = _Marking(ctx, job, ticket, locked)
    try:
        won = marking.won()
    except BaseException:
        locked.release(keep=marking.in_doubt)
        raise
    if won is None:
        locked.release()
    return won


class _Marking:
    """One attempt to win a row. `in_doubt`: a write of ours may stand there, though its answer was lost."""

    def __init__(self, ctx: Context, job: Job, ticket: RunTicket, locked: LockedRun) -> None:
        self.ctx, self.job, self.ticket, self.locked = ctx, job, ticket, locked
        self.in_doubt = False
        self._answer_lost = False
        self._unsynced = False
        self._made = False
        self._first: Row | None = None

    def won(self) -> StoredDocument[Row] | None:
        """Return the row, once it is certain.

        While the answer to a write is lost nothing is given up before the lease of the first attempt is over: on
        another machine the row may read as running. A write that fails is tried a few times, after any error.
        """
        errors = 0
        trouble: ChronosError = TemporaryError(f"the row of run {self.ticket.entry.run} changed under every attempt")
        for tried in count():
            try:
                return self._once()
            except VersionConflict:
                if tried < _CONFLICTS and not self.in_doubt:
                    continue  # another process's swap: the row tells
            except ChronosError as error:
                trouble, errors = error, errors + 1
            given_up = self.ctx.processes.told_to_stop or self._lease_is_over()
            patient = self.in_doubt and self._answer_lost and not given_up
            if not patient and not 0 < errors < _ERRORS:
                raise trouble
            self.ctx.repository.wait_to_retry(tried)
        raise AssertionError("unreachable")

    def _once(self) -> StoredDocument[Row] | None:
        ctx, ticket = self.ctx, self.ticket
        stored = ctx.repository.rows.get(self.job.id, ticket.entry.run)
        mine = stored is not None and is_ours(stored.value, ticket.starter, self.locked.owner)
        if stored is not None and mine and not self._unsynced:
            return self._if_in_hand(stored) if self._made else stored
        if not mine:
            self.in_doubt, self._unsynced = self._answer_lost, False
            if stored is not None and not _startable(stored.value, ticket):
                return None
        row = stored.value if stored is not None and mine else self._begun(stored)
        ctx.checkpoint("starting")
        self.in_doubt = True
        try:
            self._made = self._made or stored is None or stored.value.attempt == 1
            if stored is None:
                version = ctx.repository.rows.create(row)
            else:
                version = ctx.repository.rows.replace(row, stored.version)
        except OutcomeUnknown:
            self._answer_lost = True
            raise
        except VersionConflict:
            self.in_doubt = self._answer_lost
            raise
        except ChronosError:
            self._unsynced = True  # if it stands, a power cut may still take it away: then it is written again
            raise
        self._unsynced = False
        won = StoredDocument(value=row, version=version)
        return self._if_in_hand(won) if self._made else won

    def _begun(self, stored: StoredDocument[Row] | None) -> Row:
        now = self.ctx.clock()
        before = stored.value if stored is not None else row_of(self.job.id, self.ticket.entry, self.job.policy)
        until = now + timedelta(seconds=_timeout_s(self.ctx, self.job.policy)) + LEASE_MARGIN
        starter, owner = self.ticket.starter, self.locked.owner
        row = begun(before, starter=starter, owner=owner, now=now, lease_ends_at=until)
        row = replace(row, unhandled=self.locked.unhandled)
        self._first = self._first or row
        return row

    def _lease_is_over(self) -> bool:
        return self._first is None or _lease_is_over(self.ctx, self._first, self.locked)

    def _if_in_hand(self, made: StoredDocument[Row]) -> StoredDocument[Row] | None:
        """Return the row just made if its run is still open, else None: it ended and was pruned before that.

        See `RowStore.make`: neither does a row prove anything that others have just made from the entry.
        """
        rows = self.ctx.repository.rows
        if rows.is_in_hand(made.value):
            return made
        rows.take_back(made.value, made.version)
        return None


def is_ours(row: Row, starter: str, owner: Mapping[str, Any]) -> bool:
    """Return whether a row is running by the write of the process that holds just this lock."""
    theirs = (row.owner or {}).get("token")
    return row.state is RunState.RUNNING and row.starter == starter and theirs == owner["token"]


def record_end(ctx: Context, run: BegunRun, result: RunResult, *, waited_for: bool = False) -> Row:
    """Write a run's result beside its lock, and then into its row; returns the row as it then stands.

    Where the row cannot be written it is tried again, with the lock held, until the lease ends. Whoever looks at the
    job meanwhile settles it by the result that stands beside the lock. `waited_for`: a process that somebody waits for
    tries for a few seconds only, where the result is safe and every look at this store sees it. Raises TemporaryError.
    """
    recording = _Recording(ctx, run, result)
    durable = False
    _conclude(run, result, durable=False)
    ctx.checkpoint("concluded")
    for tried in count():
        try:
            row = recording.once(last=tried >= _ERRORS)
        except ChronosError as error:
            trouble = error.message
        else:
            if row is not None:
                return row
            if tried < _CONFLICTS:
                continue
            trouble = "its row changed under every attempt"
        settled_by_others = durable and waited_for and ctx.processes.results_are_seen
        if (settled_by_others and tried >= _TRIES_WAITED_FOR) or (
            tried >= _TRIES_AT_LEAST and (ctx.processes.told_to_stop or _lease_is_over(ctx, run.row, run.locked))
        ):
            raise TemporaryError(
                f"the end of run {run.row.run_id} could not be recorded: {trouble}",
                hint="its result is kept beside its lock; the next fire, tick or reconcile on this machine records it",
            )
        durable = durable or _conclude(run, result, durable=True)
        ctx.repository.wait_to_retry(tried)
    raise AssertionError("unreachable")


class _Recording:
    """One end on its way into its row."""

    def __init__(self, ctx: Context, run: BegunRun, result: RunResult) -> None:
        self.ctx, self.run, self._result = ctx, run, result
        self._after = concluded(run.row, result, retries=run.policy.retries)
        self._version = run.version

    def once(self, *, last: bool) -> Row | None:
        """Try to write it: the row as it stands then, or None where it must be tried again.

        What stands there and may not be durable is written again, unless this is the `last` time for that.
        """
        repository, row = self.ctx.repository, self.run.row
        trouble: ChronosError | None = None
        try:
            repository.rows.replace(self._after, self._version)
        except VersionConflict:
            pass  # another process's swap, or the lost answer to ours: the row tells
        except ChronosError as error:
            trouble = error
        else:
            return self._after
        try:
            stored = repository.rows.get(row.job_id, row.run_id)
        except UnreadableError as error:  # it was ours, and is written anew
            repository.set_aside(error)
            if not repository.rows.is_in_hand(row):  # settled before: it is not tried again
                self._after = concluded(row, self._result, retries=0)
            self._version = error.version
            return None
        if stored is None:
            return self._after
        self._version = stored.version
        if not is_ours(stored.value, self.run.ticket.starter, self.run.locked.owner) and (
            stored.value != self._after or trouble is None or last
        ):
            return stored.value
        if trouble is not None:
            raise trouble
        return None


def _conclude(run: BegunRun, result: RunResult, *, durable: bool) -> bool:
    """Write the result beside the lock; whether that went well. Where it did not, the row alone can tell."""
    try:
        run.locked.conclude(result, durable=durable)
    except OSError:
        return False
    return True


def _lease_is_over(ctx: Context, row: Row, locked: LockedRun) -> bool:
    now = ctx.clock()
    end = lease_end(row, ctx.processes.elapsed(locked.owner), now)
    return end is None or now >= end


def _startable(row: Row, ticket: RunTicket) -> bool:
    return row.state in (RunState.ACCEPTED, RunState.QUEUED) and row.attempt == ticket.attempt


def _timeout_s(ctx: Context, policy: Policy) -> float:
    """Return the job's timeout, cut to what the platform leaves a synchronous run."""
    if ctx.budget_s is None:
        return policy.timeout
    return max(1.0, min(policy.timeout, ctx.budget_s - _SYNC_MARGIN.total_seconds()))
