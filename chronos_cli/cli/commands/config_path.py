"""`chronos config path`: where config.yaml is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(ctx: typer.Context) -> int:
    """Print where config.yaml is, or would be.

    Examples:
      chronos config path
      "$EDITOR" "$(chronos config path)"
    """
    invocation: Invocation = ctx.obj
    from chronos_cli.config import find_home

    home, origin = find_home(invocation.home, invocation.environ)
    path = Path(home, "config.yaml")
    document = {"path": str(path), "exists": path.is_file(), "home_origin": origin}
    return invocation.done(document, lambda out: out.line(str(path)))
