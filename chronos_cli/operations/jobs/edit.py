"""Changes of jobs by a person: add, edit, pause, resume, remove, run. Each is one change of the store.

None of these speaks to NAS: the caller tells the active provider afterwards, and a failure there undoes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.contract import is_job_id
from chronos_cli.core import edits
from chronos_cli.core.claim import run_id_of
from chronos_cli.core.clock import Trust, displaced, is_ahead
from chronos_cli.core.decision import FireRequest, Trigger
from chronos_cli.core.job import Job, OpenKind, Standing, ours_of, parse_job
from chronos_cli.core.record_changes import record_changes
from chronos_cli.core.row import RunState, given_up, row_of
from chronos_cli.errors import ChronosError, ConflictError, HeldError, NotFoundError, UnreadableError, UsageError
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.evaluate import Evaluation, evaluate, rebuilt_row, settle_new_row, usable
from chronos_cli.operations.firing.probe import PROBE_ID
from chronos_cli.operations.witness import hear

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from chronos_cli.core.record_changes import FieldChange
    from chronos_cli.operations.context import Context
    from chronos_cli.store.jobsfile import JobsFile


@frozen
class JobChange:
    """One job after a change, or after one that is only planned. `changes` has every field that differs."""

    job: Job
    changes: tuple[FieldChange, ...] = ()
    created: bool = False
    before: Mapping[str, Any] | None = None
    """The record as it was before; None where there was none, or nothing changed."""

    @property
    def changed(self) -> bool:
        """Return whether anything differs; False where it was so already."""
        return self.created or bool(self.changes)


def add(ctx: Context, draft: edits.JobDraft, *, dry_run: bool = False) -> JobChange:
    """Add a job, or, where its id exists, bring that job to the draft (an upsert: the same again changes nothing).

    `dry_run`: the same answer, nothing written. Raises UsageError for an id that cannot be one, or a schedule that
    never comes due.
    """
    if not is_job_id(draft.job_id):
        raise UsageError(
            f"'{draft.job_id}' cannot be a job id", hint="use letters, digits, '.', '_' and '-', at most 128 of them"
        )
    if draft.job_id == PROBE_ID:
        raise UsageError(f"'{PROBE_ID}' is kept for `chronos doctor --probe`", hint="choose another id")
    token = ctx.token()

    def once(jobs: JobsFile) -> JobChange:
        now = ctx.clock()
        existing = jobs.get(draft.job_id)
        if existing is not None and ours_of(existing).get("change") != token:
            return _put(ctx, jobs, existing, lambda job: _brought_to(ctx, job, draft, token))
        record = edits.new_record(draft, now=now, token=token, defaults=ctx.home.policy)
        if existing is None:
            jobs.add(record)
        return JobChange(job=parse_job(record, ctx.home), created=True)

    return _made(ctx, once, dry_run=dry_run)


def edit(ctx: Context, job_id: str, change: edits.Edit, *, dry_run: bool = False) -> JobChange:
    """Change a job. An edit that changes nothing writes nothing; `dry_run`: the same answer, and nothing does."""
    return _change(ctx, job_id, editing(ctx, change), dry_run=dry_run)


def pause(ctx: Context, job_id: str, *, reason: str | None = None) -> JobChange:
    """Switch a job off until it is resumed. Its runs go on to their end."""
    return _change(ctx, job_id, pausing(ctx, reason))


def resume(ctx: Context, job_id: str) -> JobChange:
    """Switch a job on again at its next instant; what came due meanwhile is entered as skipped."""
    return _change(ctx, job_id, resuming(ctx))


def change_many(
    ctx: Context, work: Mapping[str, Callable[[Job], dict[str, Any]]], *, dry_run: bool = False
) -> list[JobChange]:
    """Change several jobs, by id, all in one write or none. Raises what an edit raises, naming the job."""

    def once(jobs: JobsFile) -> list[JobChange]:
        done = []
        for job_id, fn in work.items():
            record = jobs.get(job_id)
            if record is None:
                raise NotFoundError(f"there is no job '{job_id}'")
            try:
                done.append(_put(ctx, jobs, record, fn))
            except (UsageError, ConflictError) as error:
                told = error.message if f"job {job_id}" in error.message else f"job {job_id}: {error.message}"
                raise type(error)(told, hint=error.hint) from error
        return done

    if dry_run:
        return once(ctx.repository.jobs())
    changed = ctx.repository.change(once)
    for one in changed:
        if one.changed:
            write_owed(ctx, one.job)
    return changed


def pausing(ctx: Context, reason: str | None) -> Callable[[Job], dict[str, Any]]:
    """Return what `pause` makes of a job."""
    token = ctx.token()
    return lambda job: edits.paused(job, reason=reason, now=ctx.clock(), token=token)


def resuming(ctx: Context) -> Callable[[Job], dict[str, Any]]:
    """Return what `resume` makes of a job."""
    token = ctx.token()
    return lambda job: edits.resumed(job, now=ctx.clock(), token=token, trust=ctx.trust)


def editing(ctx: Context, change: edits.Edit) -> Callable[[Job], dict[str, Any]]:
    """Return what `edit` makes of a job."""
    token = ctx.token()
    return lambda job: edits.edited(
        job, change, now=ctx.clock(), token=token, defaults=ctx.home.policy, trust=ctx.trust
    )


def remove_many(ctx: Context, job_ids: Collection[str]) -> None:
    """Take several jobs out of the store in one write, as `remove` does one. Raises NotFoundError."""

    def once(jobs: JobsFile) -> None:
        for job_id in job_ids:
            take_out(ctx, jobs, job_id)

    ctx.repository.change(once)


def undo(ctx: Context, change: JobChange) -> None:
    """Take a change back that was just made, unless the job has been changed since."""
    token = change.job.change

    def once(jobs: JobsFile) -> None:
        record = jobs.get(change.job.id)
        if record is None or not change.changed or ours_of(record).get("change") != token:
            return
        if change.before is None:
            jobs.remove(change.job.id)
        else:
            jobs.put(change.job.id, dict(change.before))

    ctx.repository.change(once)


def realign(ctx: Context, job_id: str) -> JobChange:
    """Bring a job back that a wrong clock has put ahead, by this machine's clock, for which a person vouches.

    Raises ConflictError where NAS's clock contradicts.
    """
    ctx = hear(ctx)
    if ctx.trust is Trust.CORRECTED:
        raise ConflictError("this machine's clock and NAS's disagree", hint="put it right first: `date -u` shows it")
    before = get(ctx, job_id)
    sure = replace(ctx, trust=Trust.CONFIRMED)
    if not is_ahead(before, ctx.clock()) and displaced(before) is None:
        return JobChange(job=before)
    settle_left_over(sure, job_id)
    after = get(ctx, job_id)
    return JobChange(job=after, changes=record_changes(before.record, after.record, ctx.home))


def remove(ctx: Context, job_id: str) -> None:
    """Take a job out of the store; its rows stay until retention takes them. Raises NotFoundError.

    Open runs that have not started get their last row first: it could not be made afterwards. A
    record that cannot be used goes by its id or, as `record 3`, by its place.
    """
    ctx.repository.change(lambda jobs: take_out(ctx, jobs, job_id))


def take_out(ctx: Context, jobs: JobsFile, job_id: str) -> None:
    """Take a job out of jobs that are to be written, as `remove` does. Raises NotFoundError."""
    record = jobs.get(job_id)
    if record is not None:
        _close_open(ctx, record)
        jobs.remove(job_id)
        return
    broken = [item for item in jobs.records if item.problem and job_id in (item.id, item.number)]
    if not broken:
        raise NotFoundError(f"there is no job '{job_id}'")
    for item in broken:
        jobs.remove_record(item.index)


def _close_open(ctx: Context, record: dict[str, Any]) -> None:
    """Write the last row of every entry of `open` that does not run. Raises VersionConflict where one just began."""
    try:
        job = parse_job(record, ctx.home)
    except ChronosError:
        return  # its open runs cannot be read either
    for entry in job.open:
        torn, version, first = None, "", row_of(job.id, entry, job.policy)
        try:
            stored = ctx.repository.rows.get(job.id, entry.run)
            before = row = first if stored is None else stored.value
            version = "" if stored is None else stored.version
        except UnreadableError as error:
            before, (row, _) = None, rebuilt_row(ctx, job, entry, error, ctx.clock())
            torn, version = error, error.version
        if row.state in (RunState.ACCEPTED, RunState.QUEUED):
            row = given_up(row, now=ctx.clock(), because="the job was removed")
        if not version:
            settle_new_row(ctx, first, row)
        elif torn is not None and row.state is not RunState.RUNNING:  # else its own process writes down how it ends
            ctx.repository.set_aside(torn)
            ctx.repository.rows.replace(row, version)
        elif torn is None and row != before:
            ctx.repository.rows.replace(row, version)


def get(ctx: Context, job_id: str) -> Job:
    """Return one job as stored. Raises NotFoundError, or ChronosError where its record cannot be used."""
    record = ctx.repository.jobs().get(job_id)
    if record is None:
        raise NotFoundError(f"there is no job '{job_id}'")
    return usable(ctx, record)


def claim_manual(ctx: Context, job_id: str, *, stands_for: datetime | None = None, own: bool = False) -> Evaluation:
    """Claim a run outside the schedule. `stands_for`, `own`: as in its entry of `open`.

    Raises StandbyError, HeldError under a stop, ConflictError if completed.
    """
    ctx.must_be_active("a run")
    hold = ctx.repository.hold(ctx.clock())
    if hold is not None:
        raise HeldError(f"all jobs are held: {hold.words(ctx.home.zone)}", hint=f"lift it with `{hold.lifted_by}`")
    job = get(ctx, job_id)
    if job.standing is Standing.COMPLETED:
        raise ConflictError(
            f"job {job_id} is completed", hint=f"give it a new time: `chronos job edit {job_id} --schedule 'in 1m'`"
        )
    token = ctx.token()
    run_id = f"manual-{run_id_of(ctx.clock())}-{token[:8]}"
    asked = FireRequest(via=Trigger.MANUAL, token=token, run_id=run_id, stands_for=stands_for, own=own)
    return evaluate(ctx, job_id, asked)


def _brought_to(ctx: Context, job: Job, draft: edits.JobDraft, token: str) -> dict[str, Any]:
    """Return the record of an existing job brought to a draft; what the draft does not name stays."""
    change = edits.Edit(
        name=draft.name,
        schedule=draft.schedule,
        zone=draft.zone,
        zone_name=draft.zone_name,
        policy=draft.policy,
        action=draft.action,
        fields=draft.fields,
        times=draft.times or None,
        extras=draft.extras,
    )
    record = edits.edited(job, change, now=ctx.clock(), token=token, defaults=ctx.home.policy, trust=ctx.trust)
    if not draft.paused or job.standing is Standing.COMPLETED:
        return record
    return edits.paused(parse_job(record, ctx.home), reason=edits.PAUSED_FROM_START, now=ctx.clock(), token=token)


def _change(ctx: Context, job_id: str, fn: Callable[[Job], dict[str, Any]], *, dry_run: bool = False) -> JobChange:
    def once(jobs: JobsFile) -> JobChange:
        record = jobs.get(job_id)
        if record is None:
            raise NotFoundError(f"there is no job '{job_id}'")
        return _put(ctx, jobs, record, fn)

    return _made(ctx, once, dry_run=dry_run)


def _made(ctx: Context, once: Callable[[JobsFile], JobChange], *, dry_run: bool) -> JobChange:
    """Make a change of the store, and settle what it leaves over; a dry run changes a copy that is not written."""
    if dry_run:
        return once(ctx.repository.jobs())
    changed = ctx.repository.change(once)
    if changed.changed:
        write_owed(ctx, changed.job)
    return changed


def _put(ctx: Context, jobs: JobsFile, record: dict[str, Any], fn: Callable[[Job], dict[str, Any]]) -> JobChange:
    job = usable(ctx, record)
    after = fn(job)
    changes = record_changes(record, after, ctx.home)
    if not changes:
        return JobChange(job=job)
    jobs.put(job.id, after)
    return JobChange(job=parse_job(after, ctx.home), changes=changes, before=record)


def write_owed(ctx: Context, job: Job) -> None:
    """Write the rows of what an edit settled (skipped while paused, missed before), and take their entries out."""
    if any(entry.kind in (OpenKind.SKIPPED, OpenKind.MISSED) for entry in job.open):
        settle_left_over(ctx, job.id)


def settle_left_over(ctx: Context, job_id: str) -> None:
    """Settle what a person's change left over."""
    evaluate(ctx, job_id, FireRequest(via=Trigger.RECONCILE, token=ctx.token()))
