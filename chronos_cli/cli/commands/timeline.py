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
    last: Annotated[str | None, typer.Option(metavar="TIME", help="how far back [as far as there is to see]")] = None,
    following: Annotated[
        str | None, typer.Option("--next", metavar="TIME", help="how far ahead [as far as there is to see]")
    ] = None,
    svg: Annotated[str | None, typer.Option(metavar="FILE", help="write it as an SVG file")] = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="write it as one web page, with all runs")] = None,
) -> int:
    """Draw jobs over time: past runs by their result and length, what was missed or skipped, now, what is to come.

    Without --last and --next it is as long as there is something to see. Outages, what is overdue, and changes of the
    clocks in the home's zone are marked. The SVG and the web page hold the same, each in one file that needs no other
    and asks for none.

    Examples:
      chronos timeline
      chronos timeline --last 2h --next 6h
      chronos timeline --html jobs.html
      chronos timeline digest --svg week.svg --last 7d
    """
    invocation: Invocation = ctx.obj
    from chronos_cli.cli.charts import draw
    from chronos_cli.operations.views.timeline import timeline

    context = invocation.context(armed=False)
    only = references.several(context, jobs, everything=not jobs)
    sides = [None if text is None else timedelta(seconds=parse_duration(text)) for text in (last, following)]
    if None not in sides and sum(filter(None, sides), timedelta()) < timedelta(minutes=1):
        raise UsageError("the window is shorter than a minute", hint="give --last and --next such as 2h")
    facts = timeline(context, last=sides[0], following=sides[1], only=only)
    if svg is not None:
        from chronos_cli.cli.svg import render as render_svg
        from chronos_cli.files import write_output

        write_output(svg, render_svg(facts).encode(), shared=True)

    if html is not None:
        from chronos_cli.cli.web_page import render as render_html
        from chronos_cli.files import write_output

        write_output(html, render_html(facts).encode(), shared=True)

    def render(out: Output) -> None:
        for path in (svg, html):
            if path is not None:
                out.line(f"wrote {path}")
        if svg is None and html is None:
            draw(out, facts)

    return invocation.done(facts.as_json() | {"svg": svg, "html": html}, render)
