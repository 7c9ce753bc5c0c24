"""`chronos job pause`: switch a job off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.handlers import job_change as changes

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    job: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help=references.JOBS_HELP)] = None,
    everything: Annotated[bool, typer.Option("--all", help=references.ALL_HELP)] = False,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help=references.SELECTOR_HELP)
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="why, for those who see it paused")] = None,
) -> int:
    """Switch jobs off until they are resumed, and drop their timers at NAS. Runs go on to their end.

    Examples:
      chronos job pause digest --reason 'the source moves on Friday'
      chronos job pause -l team=ops
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs

    chosen = references.choose(context, job, everything=everything, selector=selector, fits=changes.completed_stay)
    if not chosen.named:
        work = jobs.pausing(context, reason)
        return changes.finish_many(
            invocation, context, jobs.change_many(context, dict.fromkeys(chosen.ids, work)), "paused", chosen=chosen
        )
    changed = jobs.pause(context, chosen.ids[0], reason=reason)
    return changes.finish(invocation, context, changed.job, "paused", changed=changed.changed, always=True)
