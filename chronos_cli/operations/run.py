"""One run, from its claim to its end: hold it, mark it running, begin its process, wait, record, look again.

Whoever holds a claim does this: the command `chronos fire` in its own process, the detached runner in its own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.job import Job, Open, Policy, parse_job
from chronos_cli.core.row import LEASE_MARGIN, Row, RunState, begun, lease_end, over, row_of
from chronos_cli.errors import ChronosError, TemporaryError
from chronos_cli.frozen import frozen, replace
from chronos_cli.running.interface import Ended, Task
from chronos_cli.store.interface import JOBS_KEY, VersionConflict
from chronos_cli.store.repository import row_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.core.decision import Start
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.look import Looked
    from chronos_cli.running.interface import Attempt, Held
    from chronos_cli.store.repository import Stored

_TRIES: Final = 20
_SYNC_MARGIN = timedelta(seconds=5)


@frozen
class Claim:
    """What a runner is handed: the record as claimed, the entry, which attempt, and the starter's token. No secrets."""

    record: Mapping[str, Any]
    entry: Open
    attempt: int
    starter: str

    @classmethod
    def of(cls, job: Job, start: Start, starter: str) -> Claim:
        """The claim of one start that was decided."""
        return cls(record=job.record, entry=start.entry, attempt=start.attempt, starter=starter)

    def to_json(self) -> dict[str, Any]:
        """As it goes through the runner's stdin."""
        return {
            "record": dict(self.record),
            "entry": self.entry.to_record(),
            "attempt": self.attempt,
            "starter": self.starter,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Claim:
        """Read it back. Raises KeyError, TypeError or ValueError."""
        return cls(
            record=document["record"],
            entry=Open.from_record(document["entry"]),
            attempt=int(document["attempt"]),
            starter=str(document["starter"]),
        )


@frozen
class Begun:
    """A run that this process started and still has to see to its end."""

    claim: Claim
    row: Row
    version: str
    policy: Policy
    held: Held
    attempt: Attempt | None
    failure: str | None = None


def begin(ctx: Context, claim: Claim) -> Begun | None:
    """Mark the run as running and begin its process; None when somebody else has started it.

    Raises ChronosError when no lock can be had or the ledger cannot be written; then nothing runs, and the claim is
    started by the next look. A process that cannot be started is a run that failed, not an error.
    """
    job = parse_job(claim.record, ctx.home)
    task = Task(
        record=claim.record, job_id=job.id, run_id=claim.entry.run, fire_at=claim.entry.fire_at, attempt=claim.attempt
    )
    held = ctx.processes.hold(task)
    try:
        won = _mark_running(ctx, job, claim, held)
    except BaseException:
        held.release()
        raise
    if won is None:
        held.release()
        return None
    ctx.checkpoint("running")
    row = won.value
    now = ctx.clock()
    lease = lease_end(row, ctx.processes.elapsed(held.owner), now) or now
    attempt, failure = None, None
    try:
        # Others count the lease from the row's start, so a process that was suspended since then has less time left.
        left = (lease - LEASE_MARGIN - now).total_seconds()
        if left > 0:
            # A platform that freezes us stops every clock but the wall's.
            attempt = held.begin(lease_ends_at=None if ctx.budget_s is None else lease, timeout_s=left)
        else:
            failure = "it was suspended past its time before it could start"
    except (ChronosError, OSError) as error:
        failure = error.line() if isinstance(error, ChronosError) else f"it could not be started: {error}"
    ctx.checkpoint("started")
    return Begun(
        claim=claim, row=row, version=won.version, policy=job.policy, held=held, attempt=attempt, failure=failure
    )


def finish(ctx: Context, run: Begun) -> Row:
    """Wait for the end of a begun run and record it. Returns the row as it then stands.

    A row that somebody settled meanwhile (its lease was over) stays as they left it.
    """
    try:
        if run.attempt is None:
            ended = Ended(state=RunState.FAILED, reason=run.failure)
        else:
            ended = run.attempt.wait()
        ctx.checkpoint("ended")
        row = _record_end(ctx, run, ended)
        ctx.checkpoint("recorded")
        return row
    finally:
        run.held.release()


def after_end(ctx: Context, job_id: str) -> Looked:
    """Look at a job whose run is over: take the entry out, start what was queued, say which wake it now needs."""
    from chronos_cli.core.decision import Fire, Via
    from chronos_cli.operations.look import look  # needed at the end alone: the job has started before it is loaded

    looked = look(ctx, job_id, Fire(via=Via.END, token=ctx.token()))
    ctx.checkpoint("settled")
    return looked


def _mark_running(ctx: Context, job: Job, claim: Claim, held: Held) -> Stored[Row] | None:
    """Swap the row to running, with our token. Ours also when only the answer to our write was lost."""
    from chronos_cli.store.repository import Stored

    made = False
    for _ in range(_TRIES):
        stored = ctx.repository.row(job.id, claim.entry.run)
        if stored is not None and stored.value.state is RunState.RUNNING and stored.value.starter == claim.starter:
            return _if_in_hand(ctx, claim, stored) if made else stored
        if stored is not None and not _startable(stored.value, claim):
            return None
        now = ctx.clock()
        before = stored.value if stored is not None else row_of(job.id, claim.entry, job.policy)
        lease = now + timedelta(seconds=_timeout_s(ctx, job.policy)) + LEASE_MARGIN
        row = begun(before, starter=claim.starter, owner=held.owner, now=now, lease_ends_at=lease)
        row = replace(row, unhandled=held.unhandled)
        ctx.checkpoint("starting")
        try:
            if stored is None:
                made = True
                return _if_in_hand(ctx, claim, Stored(value=row, version=ctx.repository.create_row(row)))
            return Stored(value=row, version=ctx.repository.replace_row(row, stored.version))
        except VersionConflict:
            continue  # somebody else's swap, or the lost answer to ours: the row tells
    raise TemporaryError(f"the row of run {claim.entry.run} changed under every attempt")


def _if_in_hand(ctx: Context, claim: Claim, made: Stored[Row]) -> Stored[Row] | None:
    """The row just made, if its run is still in hand; else it ended, and its row was pruned, before this one was made.

    An entry leaves `open` after its row is terminal, and no row is pruned before that. So whose claim still stands in
    the record after the row was made has not run yet. The claim's token is looked for in the bytes: no need to parse.
    """
    jobs = ctx.repository.documents.read(JOBS_KEY)
    if jobs is not None and claim.entry.claim.encode() in jobs.data:
        return made
    ctx.repository.documents.delete(row_key(made.value.job_id, made.value.run_id))
    return None


def _startable(row: Row, claim: Claim) -> bool:
    return row.state in (RunState.ACCEPTED, RunState.QUEUED) and row.attempt == claim.attempt


def _record_end(ctx: Context, run: Begun, ended: Ended) -> Row:
    row, version = run.row, run.version
    if run.attempt is not None:
        row = replace(row, output=run.attempt.output)
    after = over(
        row,
        ended.state,
        now=ctx.clock(),
        retries=run.policy.retries,
        exit_status=ended.exit_status,
        reason=ended.reason,
    )
    for _ in range(_TRIES):
        try:
            ctx.repository.replace_row(after, version)
        except VersionConflict:
            stored = ctx.repository.row(row.job_id, row.run_id)
            if (
                stored is None
                or stored.value.starter != run.claim.starter
                or stored.value.state is not RunState.RUNNING
            ):
                return stored.value if stored is not None else after
            version = stored.version
        else:
            return after
    raise TemporaryError(f"the end of run {row.run_id} could not be recorded")


def _timeout_s(ctx: Context, policy: Policy) -> float:
    """The job's timeout, cut to what the platform leaves a synchronous run."""
    if ctx.budget_s is None:
        return policy.timeout
    return max(1.0, min(policy.timeout, ctx.budget_s - _SYNC_MARGIN.total_seconds()))
