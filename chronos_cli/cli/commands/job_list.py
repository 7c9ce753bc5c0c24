"""`chronos job list`: the stored jobs."""

from __future__ import annotations

import typer

from chronos_cli.cli.handlers.list import show_listing


def command(ctx: typer.Context) -> int:
    """List the jobs as stored, without asking NAS: what `chronos list --offline` shows.

    Examples:
      chronos job list
      chronos job list --json
    """
    return show_listing(ctx.obj, offline=True)
