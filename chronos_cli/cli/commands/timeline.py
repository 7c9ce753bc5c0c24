"""`chronos timeline`: past and coming runs over time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.durations import parse_duration
from chronos_cli.errors import UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output


def command(
    ctx: typer.Context,
    jobs: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help="only these; else all")] = None,
    last: Annotated[str, typer.Option(metavar="TIME", help="how far back [24h]")] = "24h",
    following: Annotated[str, typer.Option("--next", metavar="TIME", help="how far ahead [24h]")] = "24h",
    svg: Annotated[str | None, typer.Option(metavar="FILE", help="write it as an SVG file")] = None,
) -> int:
    """Draw jobs over time: past runs by their result and length, what was missed or skipped, now, what is to come.

    Changes of the clocks in the home's zone are marked. The SVG holds the same, in one file that needs no other.

    Examples:
      chronos timeline --last 2h --next 6h
      chronos timeline digest --svg week.svg --last 7d
    """
    invocation: Invocation = ctx.obj
    from chronos_cli.cli.charts import draw
    from chronos_cli.operations.views.timeline import timeline

    context = invocation.context(armed=False)
    only = references.several(context, jobs, everything=not jobs)
    before, after = parse_duration(last), parse_duration(following)
    if before + after < 60:
        raise UsageError("the window is shorter than a minute", hint="give --last and --next such as 2h")
    facts = timeline(context, last=timedelta(seconds=before), following=timedelta(seconds=after), only=only)
    if svg is not None:
        from chronos_cli.cli.svg import render as render_svg
        from chronos_cli.files import write_output

        write_output(svg, render_svg(facts).encode(), shared=True)

    def render(out: Output) -> None:
        if svg is not None:
            out.line(f"wrote {svg}")
        else:
            draw(out, facts)

    return invocation.done(facts.as_json() | {"svg": svg}, render)
