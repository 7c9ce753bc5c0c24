"""`chronos job remove`: take a job out of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.notify import tell, tell_of_many
from chronos_cli.contract import is_job_id

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.context import Context


def command(
    ctx: typer.Context,
    job: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help=references.JOBS_HELP)] = None,
    everything: Annotated[bool, typer.Option("--all", help=references.ALL_HELP)] = False,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help=references.SELECTOR_HELP)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> int:
    """Take jobs out of the store, and their timers from NAS. Their history stays until retention takes it.

    What would go is named. On a terminal it asks first; elsewhere --yes is needed.

    Examples:
      chronos job remove digest --yes
      chronos job remove -l team=ops
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import edit as jobs

    chosen = references.choose(context, job, everything=everything, selector=selector)
    if not chosen.named:
        return _remove_many(invocation, context, chosen.ids, yes=yes)
    job_id = chosen.ids[0]
    invocation.confirm(f"remove job {job_id}?", yes=yes)
    jobs.remove(context, job_id)
    if not is_job_id(job_id):  # a record without one has no timer either
        document: dict[str, object] = {"job_id": job_id, "removed": True, "arm": {"armed": None, "state": "none"}}
        return invocation.done(document, lambda out: out.line(f"removed {job_id}"))
    told = tell(invocation, context, job_id, gone=True)
    document = {"job_id": job_id, "removed": True, "arm": told.as_json()}
    return invocation.done(document, lambda out: out.line(f"removed {job_id}"), error=told.error)


def _remove_many(invocation: Invocation, context: Context, ids: tuple[str, ...], *, yes: bool) -> int:
    from chronos_cli.operations.jobs import edit as jobs

    named = ", ".join(ids)
    if ids:
        invocation.confirm(f"remove {len(ids)} jobs ({named})?" if len(ids) > 1 else f"remove job {named}?", yes=yes)
        jobs.remove_many(context, ids)
    error = tell_of_many(invocation, context, ids, off=True) if ids else None

    def render(out: Output) -> None:
        for job_id in ids:
            out.line(f"removed {job_id}")
        if not ids:
            out.note("there are no jobs")

    document = {"jobs": [{"job_id": job_id, "removed": True} for job_id in ids]}
    return invocation.done(document, render, error=error)
