"""One run, from its claim to its end: lock it, mark it running, begin its process, wait, record, look again.

The holder of a claim does this: the command `chronos fire`, or a detached runner, each in its own process.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.clock import lease_end
from chronos_cli.core.job import Job, Open, parse_job
from chronos_cli.core.row import LEASE_MARGIN, Row, RunResult, RunState
from chronos_cli.errors import ChronosError, machine_refused
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.firing.run_row import mark_running, record_end
from chronos_cli.running.interface import AttemptEnd, Task
from chronos_cli.store.interface import VersionConflict
from chronos_cli.streams import log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.core.decision import Start
    from chronos_cli.core.policy import Policy
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.evaluate import Evaluation
    from chronos_cli.running.interface import Attempt, LockedRun

_OUTPUT_TRIES: Final = 3
_OUTPUT_PAUSES: Final = 3


@frozen
class RunTicket:
    """Ticket of a runner: the record as claimed, the entry, which attempt, and the starter's token. No secrets."""

    record: Mapping[str, Any]
    entry: Open
    attempt: int
    starter: str

    @classmethod
    def of(cls, job: Job, start: Start, starter: str) -> RunTicket:
        """Return the ticket of one start that was decided."""
        return cls(record=job.record, entry=start.entry, attempt=start.attempt, starter=starter)

    def to_json(self) -> dict[str, Any]:
        """Return the form that goes through the runner's stdin."""
        return {
            "record": dict(self.record),
            "entry": self.entry.to_record(),
            "attempt": self.attempt,
            "starter": self.starter,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RunTicket:
        """Read it back. Raises KeyError, TypeError or ValueError."""
        return cls(
            record=document["record"],
            entry=Open.from_record(document["entry"]),
            attempt=int(document["attempt"]),
            starter=str(document["starter"]),
        )


@frozen
class BegunRun:
    """A run that this process started and still has to see to its end."""

    ticket: RunTicket
    row: Row
    version: str
    policy: Policy
    locked: LockedRun
    attempt: Attempt | None
    failure: str | None = None


def begin(ctx: Context, ticket: RunTicket) -> BegunRun | None:
    """Mark the run as running and begin its process; None when another process has started it.

    Raises ChronosError when no lock can be had or the ledger cannot be written; then nothing runs, and the claim is
    started by the next look. A process that cannot be started is a run that failed, not an error.
    """
    job = parse_job(ticket.record, ctx.home)
    task = Task(
        record=ticket.record,
        job_id=job.id,
        run_id=ticket.entry.run,
        fire_at=ticket.entry.fire_at or ticket.entry.stands_for,
        attempt=ticket.attempt,
        inherit_env=job.policy.inherit_env,
        zone_name=job.zone_name,
    )
    locked = ctx.processes.lock(task)
    won = mark_running(ctx, job, ticket, locked)
    if won is None:
        return None
    ctx.checkpoint("running")
    row = won.value
    now = ctx.clock()
    lease = lease_end(row, ctx.processes.elapsed(locked.owner), now) or now
    attempt, failure = None, None
    try:
        # Others count the lease from the row's start, so a process that was suspended since then has less time left.
        left = (lease - LEASE_MARGIN - now).total_seconds()
        if left > 0:
            # A platform that freezes us stops every clock but the wall's.
            attempt = locked.begin(lease_ends_at=None if ctx.budget_s is None else lease, timeout_s=left)
        else:
            failure = "it was suspended past its time before it could start"
    except (ChronosError, OSError) as error:
        failure = (error if isinstance(error, ChronosError) else machine_refused(error)).line()
    except BaseException:
        locked.release(keep=True)  # what is kept says whether the job was begun
        raise
    ctx.checkpoint("started")
    return BegunRun(
        ticket=ticket,
        row=row,
        version=won.version,
        policy=replace(job.policy, retries=0) if ticket.entry.own else job.policy,
        locked=locked,
        attempt=attempt,
        failure=failure,
    )


def finish(ctx: Context, run: BegunRun, *, waited_for: bool = False) -> Row:
    """Wait for the end of a begun run and record it. Returns the row as it then stands.

    The result comes first, beside the lock and then in the row; the output follows, and never decides. A row that
    somebody settled meanwhile (by that result, or its lease was over) stays as they left it. Raises TemporaryError
    where the row cannot be written until the lease ends (or, `waited_for`, for some seconds): then the next look does
    it, by the result that is kept.
    """
    recorded = False
    try:
        if run.attempt is None:
            ended = AttemptEnd(state=RunState.FAILED, reason=run.failure)
        else:
            ended = run.attempt.wait()
        ctx.checkpoint("ended")
        result = RunResult(
            state=ended.state,
            finished_at=ctx.clock(),
            exit_status=ended.exit_status,
            reason=ended.reason,
            output=run.row.output if run.attempt is None else run.attempt.output,
        )
        row = record_end(ctx, run, result, waited_for=waited_for)
        recorded = True
        ctx.checkpoint("recorded")
    finally:
        run.locked.release(keep=not recorded)
    return row if run.attempt is None else _with_output(ctx, row, run.attempt)


def _with_output(ctx: Context, row: Row, attempt: Attempt) -> Row:
    """Bring the output where it belongs; that it could not be is said in the row, as well as that can be done."""
    trouble = ""
    for tried in range(_OUTPUT_TRIES):
        try:
            attempt.keep_output()
        except (ChronosError, OSError) as error:
            trouble = error.message if isinstance(error, ChronosError) else str(error)
            ctx.repository.wait_to_retry(tried + _OUTPUT_PAUSES)
        else:
            return row
    log(f"the output of run {row.job_id}/{row.run_id} could not be kept: {trouble}")
    with suppress(ChronosError, VersionConflict):
        stored = ctx.repository.rows.get(row.job_id, row.run_id)
        if stored is not None and stored.value == row and row.terminal:
            reason = "; ".join(text for text in (row.reason, f"its output could not be kept: {trouble}") if text)
            said = replace(row, reason=reason)
            ctx.repository.rows.replace(said, stored.version)
            return said
    return row


def after_end(ctx: Context, job_id: str, token: str) -> Evaluation:
    """Look at a job whose run is over: take the entry out, claim what was queued, say which wake it now needs."""
    from chronos_cli.core.decision import FireRequest, Trigger
    from chronos_cli.operations.evaluate import (
        evaluate,  # needed at the end alone: the job has started before it is loaded
    )

    looked = evaluate(ctx, job_id, FireRequest(via=Trigger.RUN_ENDED, token=token))
    ctx.checkpoint("settled")
    return looked
