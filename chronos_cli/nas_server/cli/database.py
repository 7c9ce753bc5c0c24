"""`chronos-nas db status|upgrade`."""

from __future__ import annotations

from typing import Annotated

import typer

from chronos_cli.errors import ExitCode
from chronos_cli.nas_server.cli.common import DbOption, HomeOption, JsonOption, existing, locate, say, show
from chronos_cli.nas_server.cli.help import NasCommand, NasGroup
from chronos_cli.nas_server.timers.schema import STEPS


def build() -> typer.Typer:
    """Return the subcommands."""
    app = typer.Typer(
        help="The tables, and the release they belong to.", cls=NasGroup, no_args_is_help=True, rich_markup_mode=None
    )
    app.command("status", cls=NasCommand)(status)
    app.command("upgrade", cls=NasCommand)(upgrade)
    return app


def status(
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 3 where steps are missing.")
    ] = False,
    home: HomeOption = None,
    db: DbOption = None,
    json_output: JsonOption = False,
) -> int:
    """Show the version of the tables, and what an upgrade would do.

    Examples:
      chronos-nas db status --detailed-exitcode
    """
    backend = existing(locate(home, db)).backend()
    found = backend.schema_status()
    if json_output:
        show(
            "db.status",
            {
                "version": found.version,
                "known": STEPS[-1].version,
                "current": found.current,
                "pending": [{"version": step.version, "does": step.does} for step in found.pending],
            },
        )
    else:
        say(f"version {found.version} of {STEPS[-1].version}: {'up to date' if found.current else 'behind'}")
        for step in found.pending:
            say(f"  {step.version}  {step.does}")
    return ExitCode.PENDING if detailed_exitcode and not found.current else ExitCode.OK


def upgrade(home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False) -> None:
    """Bring the tables to this release, one process at a time; what is up to date stays as it is.

    Examples:
      chronos-nas db upgrade --db postgresql://nas@db.example.com/nas
    """
    backend = locate(home, db).backend()
    done = backend.prepare()
    if json_output:
        show("db.upgrade", {"version": STEPS[-1].version, "done": done})
    else:
        for one in done:
            say(f"done: {one}")
        say(f"version {STEPS[-1].version}: up to date")
