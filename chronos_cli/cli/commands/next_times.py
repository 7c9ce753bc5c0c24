"""`chronos next`: when a schedule comes due."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import humanize as words
from chronos_cli.core.instant import named_zone

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.views.preview import Preview


def command(
    ctx: typer.Context,
    schedule: Annotated[str, typer.Argument(metavar="SCHEDULE", help="cron, 'every 30m', 'in 90s' or a time")],
    tz: Annotated[str | None, typer.Option(metavar="ZONE", help="the zone it is meant in; else the home's")] = None,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, max=1000, help="how many times [5]")] = 5,
) -> int:
    """Show a schedule in its normal form and when it next comes due, in its zone and in UTC.

    Nothing is stored. It exits with 2 for what is no schedule, and says what to write instead.

    Examples:
      chronos next '0 9 * * 1-5' --tz Europe/Berlin
      chronos next 'every 90s' -n 3 --json
    """
    from chronos_cli.operations.views.preview import preview

    invocation: Invocation = ctx.obj
    name = tz or invocation.config().timezone
    found = preview(schedule, zone=named_zone(name), zone_name=name, count=count)
    return invocation.done(found.as_json(), lambda out: show(out, found))


def show(out: Output, found: Preview) -> None:
    """Print the normal form, the warnings and the times, for people."""
    for warning in found.warnings:
        out.warn(warning)
    out.line(f"{found.schedule}  ({found.zone_name})")
    if not found.times:
        out.line("  never again")
    for moment in found.times:
        utc = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
        out.line(f"  {words.local(moment, found.zone)}  {utc}  {words.relative(moment, found.now)}")
