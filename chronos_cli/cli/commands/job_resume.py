"""`chronos job resume`: switch a job on again."""

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
) -> int:
    """Switch a job on again, at its next instant. What came due meanwhile is entered as skipped.

    Examples:
      chronos job resume digest
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs

    changed = jobs.resume(context, references.one(context, job))
    return changes.finish(invocation, context, changed.job, "resumed", changed=changed.changed, always=True)
