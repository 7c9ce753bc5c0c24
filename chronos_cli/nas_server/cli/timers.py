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
    say,
    show,
)

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
    """Show the timers, by when they are due."""
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
    for one in found:
        line = f"{moment(one.due_at)}  {one.state:<9}  {one.agent:<16}  {one.job_id:<24}  {brief(one.last_error)}"
        say(line.rstrip())


def build_dead() -> typer.Typer:
    """The subcommands of `dead`."""
    app = typer.Typer(help="Deliveries that were given up.", no_args_is_help=True, rich_markup_mode=None)
    app.command("list")(dead_list)
    app.command("show")(dead_show)
    app.command("redrive")(dead_redrive)
    app.command("drop")(dead_drop)
    return app


def dead_list(
    limit: Limit = 100, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False
) -> None:
    """Show what was given up, the latest first."""
    from chronos_cli.nas_server.timers.dead_letters import Operations

    with opened(existing(locate(home, db))) as backend:
        found = Operations(backend, backend.now).dead(limit=limit)
    if json_output:
        show("dead.list", {"dead": [_entry(one) for one in found]})
        return
    for one in found:
        line = f"{one.schedule_id}  {moment(one.died_at)}  {one.agent:<16}  {one.job_id:<24}  {brief(one.last_error)}"
        say(line.rstrip())


def dead_show(schedule_id: Id, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False) -> None:
    """Show one of them."""
    _one("show", schedule_id, home, db, json_output=json_output)


def dead_redrive(
    schedule_id: Id, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False
) -> None:
    """Deliver one of them again, from now."""
    _one("redrive", schedule_id, home, db, json_output=json_output)


def dead_drop(schedule_id: Id, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False) -> None:
    """Forget one of them."""
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
