"""Look at all jobs of a home at once: settle what is over, put right what is off, in one write; start nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.core.claim import is_expired_completed
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import FireRequest, Trigger, Wake
from chronos_cli.core.occurrence import decide
from chronos_cli.errors import DocumentError
from chronos_cli.frozen import field, frozen, replace
from chronos_cli.operations.evaluate import create_owed, gather_rows, read_record, rows_over, write_settled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.core.clock import TimeDoubt
    from chronos_cli.core.job import Job
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.store.arms.document import ArmDocument
    from chronos_cli.store.arms.store import Arms
    from chronos_cli.store.documents import StoredDocument
    from chronos_cli.store.jobsfile import JobsFile


@frozen
class EvaluationOfAll:
    """Findings of a look at all jobs: their wakes, which records were put right, which cannot be read.

    `arms`: the arm documents of these jobs (None: there is none), each read before the job's wake was worked out;
    `index`: all there were.
    """

    wakes: Mapping[str, Wake | None]
    arms: Mapping[str, StoredDocument[ArmDocument] | None]
    changed: tuple[str, ...]
    invalid: Mapping[str, str]
    any_jobs: bool
    index: Arms
    doubts: Mapping[str, TimeDoubt] = field(default_factory=dict)
    """Doubts about next times that were not put right."""


def evaluate_all(ctx: Context, *, only: frozenset[str] | None = None, write: bool = True) -> EvaluationOfAll:
    """Look at all jobs (or `only` these) without starting anything; all that must be put right is one write."""
    snapshot, _ = _survey_all(ctx, ctx.repository.jobs(), only, write=False)
    if not snapshot.changed or not write:
        return snapshot
    owed: list[Row] = []

    def once(jobs: JobsFile) -> tuple[EvaluationOfAll, list[tuple[Job, Row]]]:
        owed.clear()
        return _survey_all(ctx, jobs, only, write=True, owed=owed)

    settled, over = ctx.repository.change(once)
    ctx.outbox.extend(over)
    create_owed(ctx, owed)
    if not owed:
        return settled
    # Now that their rows exist, the entries that owed them go; a schedule that is spent is then complete.
    return replace(ctx.repository.change(once)[0], changed=settled.changed)


def _survey_all(
    ctx: Context, jobs: JobsFile, only: frozenset[str] | None, *, write: bool, owed: list[Row] | None = None
) -> tuple[EvaluationOfAll, list[tuple[Job, Row]]]:
    """Return what all jobs need, and the rows that are over after this look."""
    now, token = ctx.clock(), ctx.token()
    wakes: dict[str, Wake | None] = {}
    arms: dict[str, StoredDocument[ArmDocument] | None] = {}
    changed: list[str] = []
    invalid: dict[str, str] = {}
    over: list[tuple[Job, Row]] = []
    doubts: dict[str, TimeDoubt] = {}
    any_jobs = False
    hold = ctx.repository.hold(now)
    index = ctx.repository.arms.all()
    for record in jobs.records:
        any_jobs = True
        job_id = record.id or record.number
        if only is not None and job_id not in only:
            continue
        job, problem = read_record(ctx, record)
        if job is None:
            invalid[job_id] = problem or "it cannot be read"
            continue
        if is_expired_completed(job, now) and ctx.trust is not Trust.UNHEARD:
            changed.append(job_id)
            if write:
                jobs.remove(job_id)
            continue
        try:
            arms[job_id] = index.get(job.id)
            found = gather_rows(ctx, job, now, hold=hold, arm=arms[job_id], ending=write)
        except DocumentError as error:
            invalid[job_id] = error.message
            arms.pop(job_id, None)
            continue
        decision = decide(job, found.facts, FireRequest(via=Trigger.RECONCILE, token=token), now)
        wakes[job_id] = decision.wake
        doubts |= {job_id: found.doubt} if found.doubt is not None and decision.record is None else {}
        over += rows_over(ctx, job, decision, found.facts)
        if decision.record is None and not decision.settle and not found.rebuilt:
            continue
        changed.append(job_id)
        if write:
            write_settled(ctx, job, decision, found)
            if decision.record is not None:
                jobs.put(job_id, dict(decision.record))
            (owed if owed is not None else []).extend(decision.owed)
    return EvaluationOfAll(
        wakes=wakes,
        arms=arms,
        changed=tuple(changed),
        invalid=invalid,
        any_jobs=any_jobs,
        index=index,
        doubts=doubts,
    ), over
