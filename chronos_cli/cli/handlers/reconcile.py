"""A reconcile, carried out and shown: the work of `chronos reconcile`, without its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.cli import humanize as words
from chronos_cli.cli import plans
from chronos_cli.cli.progress import progress_line
from chronos_cli.collector import collector_paused
from chronos_cli.core.clock import Trust
from chronos_cli.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.context import Context

SETTLED_BY_BOTH: Final = ", so only what is past by both was settled, and nothing was brought back"


def show_reconcile(
    invocation: Invocation,
    context: Context,
    *,
    only: frozenset[str] | None = None,
    dry_run: bool = False,
    detailed: bool = False,
    prune: bool = False,
    strict: bool = False,
) -> int:
    """Plan, carry out unless it is a dry run, and show the plan either way.

    `detailed`: exit 3 where there was something to do, whether it is pending (a dry run) or done.
    `strict`: a job that cannot be read is the command's failure, once the others are done.
    """
    from chronos_cli.core.plan import Removals
    from chronos_cli.operations.arming.reconcile import reconcile

    if not dry_run:
        context.must_be_active("reconcile" if only is None else "arm")
    context.require_wire()
    progress = None if dry_run else progress_line(invocation.output, "telling NAS")
    with collector_paused():
        result = reconcile(context, only=only, dry_run=dry_run, removals=Removals(prune=prune), progress=progress)
    error = plans.failure_of(result)
    if strict and error is None and result.invalid:
        job_id, reason = next(iter(result.invalid.items()))
        error = UsageError(f"job {job_id} cannot be armed: {reason}", hint=f"see `chronos job show {job_id}`")
    planned = {step.job_id for step in result.plan.steps}
    idle = sorted((only or frozenset()) - planned - set(result.invalid or {})) if strict else []
    pending = bool(result.plan.changes or (dry_run and result.settled))
    ahead = result.ahead
    failed = {done.step.job_id: done.error for done in result.failed if done.error is not None}
    document = {
        "dry_run": dry_run,
        "plan": plans.plan_json(result.plan),
        "settled": list(result.settled),
        "invalid": dict(result.invalid or {}),
        "failed": {job_id: problem.as_json() for job_id, problem in failed.items()},
        "pending": pending if dry_run else bool(failed),
        "clock": {"trust": result.trust.value, "ahead_s": None if ahead is None else round(ahead.total_seconds())},
        "doubts": {job_id: doubt.as_json() for job_id, doubt in result.doubts.items()},
    }

    def render(out: Output) -> None:
        from chronos_cli.cli import references

        clock = words.drift(ahead)
        if clock:
            out.warn(f"{clock}{SETTLED_BY_BOTH if result.trust is Trust.CORRECTED else ''}; set it: `date -u` shows it")
        for job_id, doubt in result.doubts.items():
            out.warn(f"job {job_id}: {doubt.text}; {doubt.mend}")
        names = references.names_of(context.repository.jobs())
        plans.show_plan(out, result.plan, names, context.home.zone, dry_run=dry_run, settled=result.settled)
        for job_id in idle:
            out.note(f"{job_id} wants no timer: it is paused, switched off or completed")
        plans.note_unread(out, result)
        for job_id, problem in failed.items():
            out.note(f"! {job_id}: {problem.line()}")

    found = bool(result.plan.changes or result.settled)
    code = ExitCode.PENDING if detailed and error is None and found else None
    return invocation.done(document, render, error=error, exit_code=code)
