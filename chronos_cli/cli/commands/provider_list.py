"""`chronos provider list`: what can trigger jobs here, and what does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from chronos_cli.screen import Column

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.providers.interface import Activation
    from chronos_cli.providers.resolve import ActiveProvider


def command(ctx: typer.Context) -> int:
    """List the trigger providers: which one is active, and why another cannot be used.

    Plug-ins are looked for among installed packages and in the home's plugins folder, and loaded to find out.

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
    rows = [
        {
            "name": provider.name,
            "origin": "bundled",
            "active": provider.name == resolved.provider.name,
            "available": provider.is_available(),
            "because": provider.unavailable_because(),
        }
        for provider in (BuiltinScheduler(activation), ChronosScheduler(activation))
    ]
    rows += _plugins(activation, resolved)

    def render(out: Output) -> None:
        cells = [
            ("*" if row["active"] else " ", str(row["name"]), str(row["because"] or "can be used"), str(row["origin"]))
            for row in rows
        ]
        out.table([Column(title=title) for title in ("", "NAME", "", "FROM")], cells, whole=True)

    document = {"providers": rows, "configured": resolved.wanted, "warning": resolved.warning}
    return invocation.done(document, render)


def _plugins(activation: Activation, resolved: ActiveProvider) -> list[dict[str, Any]]:
    """Return what others wrote: active, merely there, or broken, with its error."""
    from chronos_cli.providers.plugins import ask_plugin, find_plugins, load_plugin

    rows: list[dict[str, Any]] = []
    for found in find_plugins(activation.config.home):
        active = found.name == resolved.wanted and resolved.warning is None
        provider, problem = (resolved.provider, None) if active else load_plugin(found.name, activation)
        if provider is not None:
            problem = ask_plugin(provider)
        rows.append(
            {
                "name": found.name,
                "origin": found.origin,
                "active": active,
                "available": problem is None,
                "because": None if problem is None else " ".join(problem.split()),
            }
        )
    return rows
