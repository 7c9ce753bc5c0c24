"""`chronos job realign`: bring back a job that a wrong clock has put far ahead."""

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
    """Bring a job back that a wrong clock has put far ahead: its next time is the first after now.

    You vouch for this machine's clock: look at `date -u` first. An occurrence that has a row never runs again. A
    job whose next time its schedule explains stays as it is. With a NAS, `chronos reconcile` does the same, and holds
    the clock against NAS's.

    Examples:
      chronos job realign digest
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs

    changed = jobs.realign(context, references.one(context, job))
    return changes.finish(invocation, context, changed.job, "realigned", changed=changed.changed, always=True)
