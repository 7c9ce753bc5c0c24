"""Free a job by hand: settle open runs that nothing ends, and rows that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.core.claim import instant_of
from chronos_cli.core.job import OURS, Job, OpenKind, ours_of, parse_job, readable_open
from chronos_cli.core.row import Row, RunState, Timing, concluded, over, row_of
from chronos_cli.errors import ChronosError, NotFoundError, UnreadableError
from chronos_cli.frozen import replace
from chronos_cli.operations.evaluate import TORN, settle_new_row
from chronos_cli.operations.jobs.edit import settle_left_over
from chronos_cli.store.documents import StoredDocument
from chronos_cli.store.rows import open_runs

if TYPE_CHECKING:
    from collections.abc import Collection

    from chronos_cli.core.job import Open
    from chronos_cli.operations.context import Context
    from chronos_cli.store.jobsfile import JobsFile


def unlock(ctx: Context, job_id: str, *, who: str) -> list[str]:
    """Settle every open run as lost, also one whose owner lives; `who` stands in the reason. Returns the run ids.

    What the owner left running on this machine is ended. Also takes entries out that cannot be read, and closes rows
    that cannot.
    """
    token = ctx.token()
    freed: list[str] = []

    def once(jobs: JobsFile) -> None:
        freed.clear()
        record = jobs.get(job_id)
        torn = _settle_torn(ctx, job_id, but=open_runs(record))
        if record is None and not torn:  # else it was removed, and has left rows that cannot be read
            raise NotFoundError(f"there is no job '{job_id}'")
        job = None if record is None else _without_unreadable(ctx, jobs, record, token)
        if job is None or record is None:
            return
        for entry in (entry for entry in job.open if entry.kind in (OpenKind.RUN, OpenKind.QUEUED)):
            stored = _row_to_free(ctx, job, entry)
            first = row_of(job_id, entry, job.policy)
            row = stored.value if stored else first
            if row.terminal:
                continue
            freed.append(entry.run)
            closed = _freed(ctx, row, who)
            if stored is None:
                settle_new_row(ctx, first, closed)
            else:
                ctx.repository.rows.replace(closed, stored.version)
                ctx.processes.forget(row)
        changes = {name: None for name in ("fire_claim", "run_claim") if record.get(name)}
        if changes:
            jobs.put(job_id, record | changes)

    ctx.repository.change(once)
    if ctx.repository.jobs().get(job_id) is not None:
        settle_left_over(ctx, job_id)
    return freed


def _settle_torn(ctx: Context, job_id: str, *, but: Collection[str] = ()) -> list[str]:
    """Close the rows of a job that cannot be read, `but` these, and keep their bytes aside. Returns their run ids.

    Nothing is known of them but their names: each becomes a `lost` one that says so.
    """
    torn = []
    for run_id in ctx.repository.rows.ids(job_id):
        if run_id in but:
            continue
        try:
            ctx.repository.rows.get(job_id, run_id)
        except UnreadableError as error:
            aside, now = ctx.repository.set_aside(error), ctx.clock()
            at = instant_of(run_id)
            row = Row(
                job_id=job_id,
                run_id=run_id,
                state=RunState.LOST,
                kind=(Timing.MANUAL if at is None else Timing.ON_TIME).value,
                claim="",
                claimed_at=at or now,
                scheduled_at=at,
                finished_at=now,
                reason=f"{TORN}: {error.why}; its bytes are in {aside}",
            )
            ctx.repository.rows.replace(row, error.version)
            torn.append(run_id)
    return torn


def _without_unreadable(ctx: Context, jobs: JobsFile, record: dict[str, Any], token: str) -> Job | None:
    """Return the job of a record.

    None where it cannot be parsed: then its open runs that cannot be read are dropped.
    """
    try:
        return parse_job(record, ctx.home)
    except ChronosError:
        ours = ours_of(record)
        ours |= {"open": readable_open(ours.get("open")), "change": token}
        jobs.put(record["id"], record | {OURS: ours, "fire_claim": None})
        return None


def _row_to_free(ctx: Context, job: Job, entry: Open) -> StoredDocument[Row] | None:
    """Return the row of an entry.

    For one that cannot be read, whose bytes are kept aside, what its lock tells of it.
    """
    try:
        return ctx.repository.rows.get(job.id, entry.run)
    except UnreadableError as error:
        ctx.repository.set_aside(error)
        row, lock = row_of(job.id, entry, job.policy), ctx.processes.found(job.id, entry.run)
        if lock is not None:  # it had begun: how it ended may stand beside its lock
            row = replace(row, state=RunState.RUNNING, owner=lock[0], started_at=entry.claimed_at)
        return StoredDocument(value=row, version=error.version)


def _freed(ctx: Context, row: Row, who: str) -> Row:
    """Return a row as it stands once its run is ended by hand: lost, unless the run ended by itself and said so."""
    ctx.processes.end_leftovers(row)
    result = ctx.processes.result(row) if row.state is RunState.RUNNING else None
    if result is not None:
        return concluded(row, result, retries=0)
    return over(row, RunState.LOST, now=ctx.clock(), reason=f"unlocked by {who}")
