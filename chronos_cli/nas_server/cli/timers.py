"""`chronos-nas timers` and `chronos-nas dead list|show|redrive|drop`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.nas_server.cli.common import (
    DbOption,
    HomeOption,
    JsonOption,
    brief,
    existing,
    locate,
    moment,
    opened,
    rows,
    say,
    show,
)
from chronos_cli.nas_server.cli.help import NasCommand, NasGroup

if TYPE_CHECKING:
    from pathlib import Path

    from chronos_cli.nas_server.timers.model import DeadDelivery

Limit = Annotated[int, typer.Option(min=1, max=1_000_000, help="Show at most so many.")]
Id = Annotated[str, typer.Argument(help="The delivery's id, as listed.")]


def timers(
    agent: Annotated[str | None, typer.Option(help="Only this agent's.")] = None,
    limit: Limit = 100,
    home: HomeOption = None,
    db: DbOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show the timers, by when they are due.

    Examples:
      chronos-nas timers --agent laptop
      chronos-nas timers -o json | jq '.timers[] | select(.last_error)'
    """
    from chronos_cli.nas_server.timers.dead_letters import Operations

    with opened(existing(locate(home, db))) as backend:
        found = Operations(backend, backend.now).timers(agent=agent, limit=limit)
    if json_output:
        entries = [
            {
                "agent": one.agent,
                "job_id": one.job_id,
                "fire_at": one.fire_text,
                "schedule_id": one.schedule_id,
                "state": one.state.value,
                "due_at": moment(one.due_at),
                "attempts": one.attempts,
                "callback_url": one.callback_url,
                "last_error": one.last_error,
            }
            for one in found
        ]
        show("timers", {"timers": entries})
        return
    cells = [(moment(one.due_at) or "", one.state.value, one.agent, one.job_id, brief(one.last_error)) for one in found]
    rows(("DUE", "STATE", "AGENT", "JOB", "LAST ERROR"), cells, "no timer is held")


def build_dead() -> typer.Typer:
    """Return the subcommands of `dead`."""
    app = typer.Typer(help="Deliveries that were given up.", cls=NasGroup, no_args_is_help=True, rich_markup_mode=None)
    app.command("list", cls=NasCommand)(dead_list)
    app.command("show", cls=NasCommand)(dead_show)
    app.command("redrive", cls=NasCommand)(dead_redrive)
    app.command("drop", cls=NasCommand)(dead_drop)
    return app


def dead_list(
    limit: Limit = 100, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False
) -> None:
    """Show what was given up, the latest first.

    Examples:
      chronos-nas dead list
    """
    from chronos_cli.nas_server.timers.dead_letters import Operations

    with opened(existing(locate(home, db))) as backend:
        found = Operations(backend, backend.now).dead(limit=limit)
    if json_output:
        show("dead.list", {"dead": [_entry(one) for one in found]})
        return
    cells = [
        (one.schedule_id, moment(one.died_at) or "", one.agent, one.job_id, brief(one.last_error)) for one in found
    ]
    rows(("ID", "GIVEN UP", "AGENT", "JOB", "LAST ERROR"), cells, "nothing was given up")


def dead_show(schedule_id: Id, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False) -> None:
    """Show one of them.

    Examples:
      chronos-nas dead show ID
    """
    _one("show", schedule_id, home, db, json_output=json_output)


def dead_redrive(
    schedule_id: Id, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False
) -> None:
    """Deliver one of them again, from now.

    Examples:
      chronos-nas dead redrive ID
    """
    _one("redrive", schedule_id, home, db, json_output=json_output)


def dead_drop(schedule_id: Id, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False) -> None:
    """Forget one of them.

    Examples:
      chronos-nas dead drop ID
    """
    _one("drop", schedule_id, home, db, json_output=json_output)


def _one(verb: str, schedule_id: str, home: Path | None, db: str | None, *, json_output: bool) -> None:
    from chronos_cli.nas_server.timers.dead_letters import Operations

    with opened(existing(locate(home, db))) as backend:
        entry: DeadDelivery = getattr(Operations(backend, backend.now), verb)(schedule_id)
    if json_output:
        show(f"dead.{verb}", {"dead": _entry(entry)})
        return
    for key, value in _entry(entry).items():
        say(f"{key:<18} {value}")


def _entry(one: DeadDelivery) -> dict[str, object]:
    return {
        "delivery": one.schedule_id,
        "agent": one.agent,
        "job_id": one.job_id,
        "fire_at": one.fire_text,
        "callback_url": one.callback_url,
        "attempts": one.attempts,
        "first_attempt_at": moment(one.first_attempt_at),
        "died_at": moment(one.died_at),
        "last_error": one.last_error,
    }
