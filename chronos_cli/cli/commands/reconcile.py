"""`chronos reconcile`: make what NAS holds agree with the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli.handlers.reconcile import show_reconcile

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan, change nothing")] = False,
    detailed: Annotated[
        bool, typer.Option("--detailed-exitcode", help="exit 3 when there is something to change, or was")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="also cancel what this store did not arm")] = False,
) -> int:
    """Make what NAS holds agree with the store. It runs no job.

    One list call, and no other when all is well. It cancels only what this store armed, unless --prune. A list that
    fails changes nothing. Safe from any number of places at once.

    Examples:
      chronos reconcile --dry-run
      chronos reconcile --dry-run --detailed-exitcode --json
    """
    invocation: Invocation = ctx.obj
    return show_reconcile(invocation, invocation.context(), dry_run=dry_run, detailed=detailed, prune=prune)
