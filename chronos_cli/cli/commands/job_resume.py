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
    job: Annotated[str, typer.Argument(metavar="JOB", help=references.JOB_HELP)],
) -> int:
    """Switch a job on again, at its next instant. What came due meanwhile is entered as skipped.

    Examples:
      chronos job resume digest
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs
    from chronos_cli.operations.witness import hear_for_change

    job_id = references.one(context, job)
    context = hear_for_change(context, jobs.get(context, job_id))
    changed = jobs.resume(context, job_id)

    def again(right: Context) -> JobChange:
        jobs.undo(right, changed)
        return jobs.resume(right, job_id)

    return changes.finish(
        invocation, context, changed.job, "resumed", changed=changed.changed, always=True, again=again
    )
