"""`chronos provider list`: what can trigger jobs here, and what does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output


def command(ctx: typer.Context) -> int:
    """List the trigger providers, which of them is active, and why another is not.

    Examples:
      chronos provider list
      CHRONOS_PROVIDER=builtin chronos provider list
    """
    invocation: Invocation = ctx.obj
    from chronos_cli.providers.builtin import BuiltinScheduler
    from chronos_cli.providers.chronos import ChronosScheduler
    from chronos_cli.providers.interface import Activation

    config, context = invocation.config(), invocation.context()
    resolved = invocation.provider(context)
    activation = Activation(config=config, context=context)
    known = [BuiltinScheduler(activation), ChronosScheduler(activation)]
    rows = [
        {
            "name": provider.name,
            "active": provider.name == resolved.provider.name,
            "available": provider.is_available(),
            "because": provider.unavailable_because(),
        }
        for provider in known
    ]
    if resolved.provider.name not in [row["name"] for row in rows]:
        rows.append({"name": resolved.provider.name, "active": True, "available": True, "because": None})

    def render(out: Output) -> None:
        cells = [
            ("*" if row["active"] else " ", str(row["name"]), str(row["because"] or "can be used")) for row in rows
        ]
        out.table(("", "NAME", ""), cells)

    document = {"providers": rows, "configured": resolved.wanted, "warning": resolved.warning}
    return invocation.done(document, render)
