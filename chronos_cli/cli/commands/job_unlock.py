"""`chronos job unlock`: give up a job's unfinished runs."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.notify import tell
from chronos_cli.errors import NotFoundError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help=references.JOB_HELP)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> int:
    """Settle a job's unfinished runs as lost, whatever their owner's state, and end what they left on this machine.

    For a run whose machine is gone and whose lease is long. The rows name who did it. Rows of the job that cannot be
    read become lost ones; their bytes are kept in cron/set-aside.

    Examples:
      chronos job unlock backup --yes
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs.unlock import unlock

    try:
        job_id = references.one(context, job)
    except NotFoundError:
        from chronos_cli.operations.views.logs import job_ids_with_rows

        if job not in job_ids_with_rows(context):
            raise
        job_id = job  # it was removed, and has rows that cannot be read
    invocation.confirm(f"settle the runs of job {job_id} as lost?", yes=yes)
    freed = unlock(context, job_id, who=f"{invocation.user}@{socket.gethostname()}")
    told = tell(invocation, context, job_id)
    text = f"settled as lost: {', '.join(freed)}" if freed else f"job {job_id} had no run under way"
    return invocation.done(
        {"job_id": job_id, "lost": freed, "arm": told.as_json()}, lambda out: out.line(text), error=told.error
    )
