"""`chronos job layout`: how the jobs of a bucket home are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    to: Annotated[
        str | None, typer.Argument(metavar="[apart|together]", help="move them; without it, they are only looked at")
    ] = None,
) -> int:
    """Show how the jobs of a bucket home are kept, or move them: apart, a document each, or together in one.

    Apart, jobs never wait for each other. Together is what homes from before have, and what an older chronos reads; it
    refuses a home whose jobs are apart, so update every replica first. Jobs fire on meanwhile, and the same
    command again goes on with a move that has stopped. On a disk there is one file, which Hermes reads too.

    Examples:
      chronos job layout
      chronos job layout apart
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    from chronos_cli.operations.jobs import layout

    found = layout.layout_of(context) if to is None else layout.move(context, to)
    jobs = f"{found.jobs} {'job' if found.jobs == 1 else 'jobs'}"
    how = "moved" if found.moved else "kept"
    return invocation.done(
        {"layout": found.layout, "jobs": found.jobs, "moved": found.moved},
        lambda out: out.line(f"{jobs} at {context.repository.location}, {how} {found.layout}"),
    )
