"""`chronos config show`: every setting, its value, and where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.screen import Column

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output


def command(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="also where each value came from")] = False,
) -> int:
    """Show every setting: a flag wins over its variable, that over config.yaml, that over the default.

    No token is shown, and of a program that prints one only its name.

    Examples:
      chronos config show --origin
      CHRONOS_TIMEZONE=UTC chronos config show --json
    """
    invocation: Invocation = ctx.obj
    from chronos_cli.config import iter_shown

    config = invocation.config()
    rows = [
        {"key": setting.key, "value": value, "origin": origin_text, "variable": setting.env, "help": setting.help}
        for setting, value, origin_text in iter_shown(config)
    ]

    def render(out: Output) -> None:
        cells = [(str(row["key"]), _shown(row["value"]), str(row["origin"])) for row in rows]
        if origin:
            out.table([Column(title="KEY"), Column(title="VALUE"), Column(title="FROM")], cells, whole=True)
        else:
            out.table([Column(title="KEY"), Column(title="VALUE")], [row[:2] for row in cells], whole=True)

    document = {"home": config.home, "path": config.path, "home_origin": config.origin("home"), "settings": rows}
    return invocation.done(document, render)


def _shown(value: object) -> str:
    if value in ("", None, [], {}):
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
