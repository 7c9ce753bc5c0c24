"""`chronos arm`: make NAS hold the wake of jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.handlers.reconcile import show_reconcile

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    jobs: Annotated[list[str] | None, typer.Argument(metavar="JOB...", help=references.JOBS_HELP)] = None,
    everything: Annotated[bool, typer.Option("--all", help="every job of the store")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan, change nothing")] = False,
    detailed: Annotated[
        bool, typer.Option("--detailed-exitcode", help="exit 3 when there is something to change, or was")
    ] = False,
) -> int:
    """Make NAS hold the next wake of jobs, and drop what it holds for those that have none.

    It compares with what NAS holds first: a timer that is right is kept. Only the jobs named are looked at.

    Examples:
      chronos arm backup
      chronos arm --all --dry-run
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    only = references.several(context, jobs, everything=everything)
    if only is None:
        only = frozenset(record.id for record in context.repository.jobs().records if record.id is not None)
    return show_reconcile(invocation, context, only=only, dry_run=dry_run, detailed=detailed, strict=True)
