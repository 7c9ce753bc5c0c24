"""`chronos-nas agent add|list|revoke|rotate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.contract import JWKS_PATH
from chronos_cli.errors import ChronosError
from chronos_cli.nas_server.cli.common import (
    DbOption,
    HomeOption,
    JsonOption,
    clock,
    existing,
    locate,
    moment,
    opened,
    rows,
    say,
    seconds,
    show,
)
from chronos_cli.nas_server.cli.help import NasCommand, NasGroup
from chronos_cli.nas_server.home import DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    from chronos_cli.nas_server.timers.agents import NewToken
    from chronos_cli.nas_server.timers.interface import Backend

Name = Annotated[str, typer.Argument(help="The agent's name here.")]
Expires = Annotated[
    str | None, typer.Option("--expires", "--expires-in", help="Let the token end after 30d, 12h ... [never].")
]
Portal = Annotated[str | None, typer.Option("--portal-url", help="The URL agents reach us at [as last served].")]


def build() -> typer.Typer:
    """Return the subcommands."""
    app = typer.Typer(help="Who may hold timers here.", cls=NasGroup, no_args_is_help=True, rich_markup_mode=None)
    app.command("add", cls=NasCommand)(add)
    app.command("list", cls=NasCommand)(list_agents)
    app.command("revoke", cls=NasCommand)(revoke)
    app.command("rotate", cls=NasCommand)(rotate)
    return app


def add(
    name: Name,
    callback_url: Annotated[str, typer.Option(help="Goes into the lines to paste.")] = "https://agent.example.com",
    expires_in: Expires = None,
    max_timers: Annotated[int | None, typer.Option(min=1, help="How many timers it may hold.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="How many requests a second it may make.")] = None,
    portal_url: Portal = None,
    home: HomeOption = None,
    db: DbOption = None,
    json_output: JsonOption = False,
) -> None:
    """Let an agent in. Its token is shown this once.

    Examples:
      chronos-nas agent add laptop
      chronos-nas agent add laptop --json | chronos init --agent - --callback-url http://127.0.0.1:8790
    """
    from chronos_cli.nas_server.timers.agents import AgentRegister

    with opened(locate(home, db)) as backend:
        fresh = AgentRegister(backend, clock).add(
            name, expires_in=seconds(expires_in), max_timers=max_timers, rate=rate
        )
        portal = portal_url or _portal(backend)
    _show_token("agent.add", fresh, portal, callback_url, json_output=json_output)


def rotate(
    name: Name,
    overlap: Annotated[str, typer.Option(help="How long the old tokens go on.")] = "0s",
    expires_in: Expires = None,
    portal_url: Portal = None,
    home: HomeOption = None,
    db: DbOption = None,
    json_output: JsonOption = False,
) -> None:
    """Give an agent a new token, shown this once.

    Examples:
      chronos-nas agent rotate laptop --overlap 1h
    """
    from chronos_cli.nas_server.timers.agents import AgentRegister

    with opened(existing(locate(home, db))) as backend:
        roster = AgentRegister(backend, clock)
        fresh = roster.rotate(name, overlap=seconds(overlap) or 0.0, expires_in=seconds(expires_in))
        portal = portal_url or _portal(backend)
    _show_token("agent.rotate", fresh, portal, "https://agent.example.com", json_output=json_output)


def revoke(name: Name, home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False) -> None:
    """Refuse an agent for good and drop its timers.

    Examples:
      chronos-nas agent revoke laptop
    """
    from chronos_cli.nas_server.timers.agents import AgentRegister

    with opened(existing(locate(home, db))) as backend:
        agent, dropped = AgentRegister(backend, clock).revoke(name)
    if json_output:
        show("agent.revoke", {"name": agent.name, "audience": agent.audience, "dropped": dropped})
    else:
        say(f"revoked {agent.name}; {dropped} timers dropped")


def list_agents(home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False) -> None:
    """Show the agents, never their tokens.

    Examples:
      chronos-nas agent list
      chronos-nas agent list -o json | jq '.agents[] | select(.timers > 0)'
    """
    from chronos_cli.nas_server.timers.agents import AgentRegister

    with opened(existing(locate(home, db))) as backend:
        found = AgentRegister(backend, clock).all()
    if json_output:
        entries = [
            {
                "name": one.agent.name,
                "audience": one.agent.audience,
                "created_at": moment(one.agent.created_at),
                "revoked_at": moment(one.agent.revoked_at),
                "expires_at": moment(one.expires_at),
                "last_seen_at": moment(one.seen_at),
                "timers": one.timers,
                "max_timers": one.agent.max_timers,
                "rate": one.agent.rate,
            }
            for one in found
        ]
        show("agent.list", {"agents": entries})
        return
    cells = [
        (
            one.agent.name,
            one.agent.audience,
            "revoked" if one.agent.revoked else "active",
            str(one.timers),
            _token_end(one.expires_at),
            moment(one.seen_at) or "never",
        )
        for one in found
    ]
    titles = ("NAME", "AUDIENCE", "STATE", "TIMERS", "TOKEN", "LAST SEEN")
    rows(titles, cells, "no agent yet; `chronos-nas agent add NAME` lets one in")


def _token_end(expires_at: float | None) -> str:
    if expires_at is None:
        return "does not expire"
    return f"{'expired' if expires_at <= clock() else 'expires'} {moment(expires_at)}"


def _portal(backend: Backend) -> str:
    from chronos_cli.nas_server.timers.meta import NasMeta

    return NasMeta(backend, clock).recall("portal_url") or f"http://{DEFAULT_HOST}:{DEFAULT_PORT}"


def _show_token(command: str, fresh: NewToken, portal: str, callback_url: str, *, json_output: bool) -> None:
    config = {
        "portal_url": portal,
        "callback_url": callback_url,
        "expected_audience": fresh.agent.audience,
        "nas_jwks_url": portal + JWKS_PATH,
    }
    if json_output:
        facts = {"name": fresh.agent.name, "audience": fresh.agent.audience, "token": fresh.token}
        show(command, {**facts, "expires_at": moment(fresh.expires_at), "config": config})
        _not_lost(fresh)
        return
    ends = f", until {moment(fresh.expires_at)}" if fresh.expires_at is not None else ""
    say(f"# The token of {fresh.agent.name}, shown this once{ends}; for $CHRONOS_NAS_TOKEN or a file of mode 0600:")
    say(fresh.token)
    for line in ("", "# For the agent's config.yaml:", "cron:", "  provider: chronos", "  chronos:"):
        say(line)
    for key, value in config.items():
        say(f"    {key}: {value}")
    _not_lost(fresh)


def _not_lost(fresh: NewToken) -> None:
    """Raise ChronosError where the token, which is shown this once, did not arrive where it was written."""
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None:
        raise ChronosError(
            f"the token of {fresh.agent.name} could not be written, and is lost: {lost.strerror}",
            hint=f"`chronos-nas agent rotate {fresh.agent.name}` makes another",
        )
