"""`chronos list`: each job beside what NAS holds for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.handlers.list import show_listing
from chronos_cli.cli.layouts import INTERVAL_HELP, OUTPUT_HELP, WATCH_HELP

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="what the store knows; NAS is not asked")] = False,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help=references.SELECTOR_HELP)
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="KIND", help=OUTPUT_HELP)] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help=WATCH_HELP)] = False,
    interval: Annotated[str | None, typer.Option("--interval", metavar="TIME", help=INTERVAL_HELP)] = None,
) -> int:
    """Show each job: its next time, its last run, and whether NAS holds its timer.

    What needs a look comes first: broken, overdue, failed, not armed. "will fire" is said only of a timer that NAS
    has just shown. When NAS does not answer the store's side is shown all the same, with exit 75 (or 4): what NAS
    holds is then unknown.

    One row a job. On a screen long cells are cut; a pipe or a file gets the wide table, and nothing is cut.

    Examples:
      chronos list
      chronos list -o wide
      chronos list -l team=ops
      chronos list --watch
      chronos list --offline --json | jq '.jobs[] | select(.arm.state != "armed")'
    """
    invocation: Invocation = ctx.obj
    return show_listing(invocation, offline=offline, selector=selector, output=output, watch=watch, interval=interval)
