"""`chronos job list`: the stored jobs."""

from __future__ import annotations

from typing import Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.handlers.list import show_listing
from chronos_cli.cli.layouts import INTERVAL_HELP, OUTPUT_HELP, WATCH_HELP


def command(
    ctx: typer.Context,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help=references.SELECTOR_HELP)
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="KIND", help=OUTPUT_HELP)] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help=WATCH_HELP)] = False,
    interval: Annotated[str | None, typer.Option("--interval", metavar="TIME", help=INTERVAL_HELP)] = None,
) -> int:
    """List the jobs as stored, without asking NAS: what `chronos list --offline` shows.

    Examples:
      chronos job list
      chronos job list --json
      chronos job list -l 'team in (ops,dev)'
    """
    return show_listing(ctx.obj, offline=True, selector=selector, output=output, watch=watch, interval=interval)
