"""`chronos init`: make a home."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chronos_cli.errors import ConfigError, ConflictError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output

_KEYS = ("portal_url", "callback_url", "expected_audience", "nas_jwks_url")


def command(
    ctx: typer.Context,
    portal_url: Annotated[str | None, typer.Option(metavar="URL", help="NAS's base URL")] = None,
    callback_url: Annotated[str | None, typer.Option(metavar="URL", help="this agent's public base URL")] = None,
    audience: Annotated[str | None, typer.Option(metavar="AUD", help="the audience of fire tokens")] = None,
    jwks_url: Annotated[str | None, typer.Option(metavar="URL", help="where NAS publishes its keys")] = None,
    timezone: Annotated[str | None, typer.Option(metavar="ZONE", help="the zone of schedules that name none")] = None,
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="FILE", help="what `chronos-nas agent add --json` printed; - is stdin"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace a config.yaml that is there")] = False,
) -> int:
    """Make a home: its folders, readable by you alone, and a config.yaml.

    With --agent the lines of `chronos-nas agent add` are taken over, and the agent's token is written to a file of the
    home, mode 0600. A config.yaml that is there stays unless --force.

    Examples:
      chronos init
      chronos-nas agent add laptop --json | chronos init --agent - --callback-url http://127.0.0.1:8790
    """
    invocation: Invocation = ctx.obj
    from chronos_cli.config import find_home
    from chronos_cli.files import open_folder, place_of, write_file
    from chronos_cli.operations.views.trigger import INSTALL
    from chronos_cli.owners import require_own

    home = Path(find_home(invocation.home, invocation.environ)[0])
    path = home / "config.yaml"
    parts = (home, path, *(home / name for name in ("cron", "scripts", "plugins")))
    require_own(str(home), map(str, parts), invocation.environ)
    taken, token, name = _agent(agent)
    if path.exists() and not force:
        lost = f"; the token of --agent was not kept: `chronos-nas agent rotate {name}` makes another" if token else ""
        raise ConflictError(f"{path} is there already", hint=f"edit it, or replace it with --force{lost}")
    given = {"portal_url": portal_url, "callback_url": callback_url, "expected_audience": audience,
             "nas_jwks_url": jwks_url}  # fmt: skip
    chosen = taken | {key: value for key, value in given.items() if value}
    chosen.setdefault("nas_jwks_url", f"{chosen['portal_url']}/.well-known/jwks.json" if "portal_url" in chosen else "")
    text = _text(chosen, timezone, token_file="nas-token" if token else "")
    _try(text, invocation.environ)
    for names in ((), ("cron",), ("scripts",)):
        os.close(open_folder(home, *names, make=True))
    written = []
    for name, held in (("config.yaml", text), *([("nas-token", f"{token}\n")] if token else [])):
        with place_of(home, name) as place:
            write_file(place, held.encode())
        written.append(str(home / name))

    def render(out: Output) -> None:
        for name in written:
            out.line(f"wrote {name}")
        if not (chosen.get("portal_url") and chosen.get("callback_url")):
            out.note(f"nothing triggers the jobs of this home yet: `{INSTALL}` installs a tick")
        out.note("next: `chronos job add 'every 1h' --name hello --command echo hello`, then `chronos list`")

    return invocation.done({"home": str(home), "written": written}, render)


def _try(text: str, environ: Mapping[str, str]) -> None:
    """Read a config.yaml as the home will, before anything is written there. Raises ConfigError."""
    from tempfile import TemporaryDirectory

    from chronos_cli.config import load_config

    with TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text(text, encoding="utf-8")
        try:
            load_config(environ=environ, home=folder)
        except ConfigError as error:
            raise ConfigError(
                error.message.removeprefix(f"{folder}/"), hint=f"{error.hint}; nothing was written"
            ) from error


def _agent(source: str | None) -> tuple[dict[str, str], str, str]:
    """Return the config lines, the token and the agent's name in what `chronos-nas agent add --json` printed."""
    if source is None:
        return {}, "", ""
    try:
        document: Any = json.loads(sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8"))
        config = document["config"]
        lines = {key: str(config[key]) for key in _KEYS if config.get(key)}
        return lines, str(document.get("token", "")), str(document.get("name", "NAME"))
    except OSError as error:
        raise UsageError(
            f"{source} cannot be read: {error.strerror}", hint="name the file, or - for standard input"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            "--agent is no output of `chronos-nas agent add --json`", hint="pass it on as it is"
        ) from error


def _text(chosen: dict[str, str], timezone: str | None, *, token_file: str) -> str:
    lines = ["# Settings of this home; `chronos config show --origin` lists them all."]
    lines.append(f"timezone: {timezone}" if timezone else "# timezone: Europe/Berlin")
    connected = bool(chosen.get("portal_url") and chosen.get("callback_url"))
    lines += ["cron:", f"  provider: {'chronos' if connected else 'builtin'}", "  chronos:"]
    for key in _KEYS:
        value = chosen.get(key)
        lines.append(f"    {key}: {json.dumps(value)}" if value else f"    # {key}:")
    lines.append(f"    token_file: {token_file}" if token_file else "    # token_file: nas-token")
    if not any(chosen.get(key) for key in _KEYS) and not token_file:
        lines[4] = "  # chronos:"
    return "\n".join(lines) + "\n"
