"""`chronos logs`: the output of a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.errors import UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output


def command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="JOB/RUN, a run id, or a job: its newest run")],
    following: Annotated[bool, typer.Option("--follow", "-f", help="go on until the run is over")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", metavar="N", min=0, max=10_000_000, help="only the last N lines of it")
    ] = None,
) -> int:
    """Show what a run printed, its standard output and error together.

    To a file or a pipe byte for byte; on a terminal what could steer it (colours too) is shown as escapes.

    Examples:
      chronos logs digest -f --tail 20
      chronos logs digest/20261120T153415Z
    """
    invocation: Invocation = ctx.obj
    from chronos_cli.operations.views.logs import find_row, follow, last_lines, read_output

    context = invocation.context(armed=False)
    row = find_row(context, run)
    remote = "://" in invocation.config().store
    if following and (remote or invocation.json):
        raise UsageError("--follow needs a local store and no --json", hint="read it once it has ended")
    if following:
        for chunk in follow(context, row, home=Path(invocation.config().home), sleep=time.sleep, tail=tail):
            invocation.output.text(chunk)
            if invocation.output.gone:
                break
        return 0
    data = last_lines(read_output(context, row), tail)
    text = data.decode("utf-8", "replace")

    def render(out: Output) -> None:
        out.note(f"{row.job_id}/{row.run_id}: {row.state.value}" + (f": {row.reason}" if row.reason else ""))
        out.text(data)

    return invocation.done(
        {"job_id": row.job_id, "run_id": row.run_id, "state": row.state.value, "output": text}, render
    )
