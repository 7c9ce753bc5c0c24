"""`chronos job remove`: take a job out of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.notify import tell
from chronos_cli.contract import is_job_id

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help=references.JOB_HELP)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> int:
    """Take a job out of the store, and its timer from NAS. Its history stays until retention takes it.

    On a terminal it asks first; elsewhere --yes is needed.

    Examples:
      chronos job remove digest --yes
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs

    job_id = references.one(context, job)
    invocation.confirm(f"remove job {job_id}?", yes=yes)
    jobs.remove(context, job_id)
    if not is_job_id(job_id):  # a record without one has no timer either
        document: dict[str, object] = {"job_id": job_id, "removed": True, "arm": {"armed": None, "state": "none"}}
        return invocation.done(document, lambda out: out.line(f"removed {job_id}"))
    told = tell(invocation, context, job_id, gone=True)
    document = {"job_id": job_id, "removed": True, "arm": told.as_json()}
    return invocation.done(document, lambda out: out.line(f"removed {job_id}"), error=told.error)
