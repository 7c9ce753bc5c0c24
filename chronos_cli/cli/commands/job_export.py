"""`chronos job export`: jobs as one document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help="only these; else all")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE|apply", help="write it there; apply: as --format apply"),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="json|apply|crontab|kubernetes|systemd", help="whose words it is in")
    ] = "json",
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="of CronJobs: the image of containers that have none")
    ] = None,
) -> int:
    """Write jobs as one JSON document that `chronos job import` reads. Runs are not part of it.

    It holds what the jobs run as it is, headers of HTTP actions included: keep it as you keep the store. With -o apply
    it is YAML in the words of `chronos apply`, on standard output, and applying it changes nothing. With --format it is
    a crontab, CronJobs (JSON, which is YAML) or units of systemd (-o names their folder); a job that the other
    scheduler cannot say is named and left out.

    Examples:
      chronos job export > jobs.json
      chronos job export digest -o digest.json
      chronos job export -o apply > jobs.yaml
      chronos job export --format crontab
      chronos job export --format systemd -o units
    """
    invocation: Invocation = ctx.obj
    if output == "apply" and form == "json":
        form, output = "apply", None
    if form == "apply":
        from chronos_cli.cli.handlers.export_apply import run as run_apply

        return run_apply(invocation, jobs, output=output)
    if form != "json":
        from chronos_cli.cli.foreign_export import run

        return run(invocation, form, jobs, output=output, image=image)
    from chronos_cli.cli.handlers.exported import hand_over
    from chronos_cli.operations.jobs.transfer import export

    context = invocation.context(armed=False)
    exported = export(context, references.several(context, jobs, everything=not jobs))
    return hand_over(
        invocation,
        {"": json.dumps(exported.document, indent=2) + "\n"},
        count=len(exported.document["jobs"]),
        left_out=exported.left_out,
        output=output,
        content={"export": exported.document},
    )
