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
    job: Annotated[str, typer.Argument(metavar="JOB", help=references.JOB_HELP)],
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="why, for those who see it paused")] = None,
) -> int:
    """Switch a job off until it is resumed, and drop its timer at NAS. What runs goes on to its end.

    Examples:
      chronos job pause digest --reason 'the source moves on Friday'
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs

    changed = jobs.pause(context, references.one(context, job), reason=reason)
    return changes.finish(invocation, context, changed.job, "paused", changed=changed.changed, always=True)
