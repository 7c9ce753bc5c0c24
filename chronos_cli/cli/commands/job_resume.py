"""`chronos job resume`: switch a job on again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.handlers import job_change as changes

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.jobs.edit import JobChange


def command(
    ctx: typer.Context,
    job: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help=references.JOBS_HELP)] = None,
    everything: Annotated[bool, typer.Option("--all", help=references.ALL_HELP)] = False,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help=references.SELECTOR_HELP)
    ] = None,
) -> int:
    """Switch jobs on again, each at its next instant. Times that came meanwhile are entered as skipped.

    Examples:
      chronos job resume digest
      chronos job resume --all
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs
    from chronos_cli.operations.witness import hear_for_change, stored_jobs

    chosen = references.choose(context, job, everything=everything, selector=selector, fits=changes.completed_stay)
    if not chosen.named:
        context = hear_for_change(context, *stored_jobs(context, set(chosen.ids)))
        work = jobs.resuming(context)
        return changes.finish_many(
            invocation, context, jobs.change_many(context, dict.fromkeys(chosen.ids, work)), "resumed", chosen=chosen
        )
    job_id = chosen.ids[0]
    context = hear_for_change(context, jobs.get(context, job_id))
    changed = jobs.resume(context, job_id)

    def again(right: Context) -> JobChange:
        jobs.undo(right, changed)
        return jobs.resume(right, job_id)

    return changes.finish(
        invocation, context, changed.job, "resumed", changed=changed.changed, always=True, again=again
    )
