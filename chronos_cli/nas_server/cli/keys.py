"""`chronos-nas keys list|rotate|retire`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.errors import ConfigError, TemporaryError, UsageError
from chronos_cli.nas_server.cli.common import (
    DbOption,
    HomeOption,
    JsonOption,
    clock,
    locate,
    moment,
    opened,
    rows,
    say,
    seconds,
    show,
)
from chronos_cli.nas_server.cli.help import NasCommand, NasGroup

if TYPE_CHECKING:
    from chronos_cli.nas_server.home import NasHome
    from chronos_cli.nas_server.keys import KeyRecord


def build() -> typer.Typer:
    """Return the subcommands."""
    app = typer.Typer(help="The keys that sign fire tokens.", cls=NasGroup, no_args_is_help=True, rich_markup_mode=None)
    app.command("list", cls=NasCommand)(list_keys)
    app.command("rotate", cls=NasCommand)(rotate)
    app.command("retire", cls=NasCommand)(retire)
    return app


def list_keys(home: HomeOption = None, db: DbOption = None, json_output: JsonOption = False) -> None:
    """Show the published keys.

    Examples:
      chronos-nas keys list
    """
    records = locate(home, db).key_ring(clock, os.environ).records()
    if json_output:
        show("keys.list", {"keys": [_entry(record) for record in records]})
        return
    rows(("KEY", "ALG", "STATE"), [(one.kid, one.alg, _state(one)) for one in records], "no key yet")


def rotate(
    alg: Annotated[str, typer.Option(help="ES256, or RS256.")] = "ES256",
    after: Annotated[str, typer.Option(help="When the new key begins to sign; agents keep the old list 5m.")] = "5m",
    now: Annotated[bool, typer.Option("--now", help="Let the new key sign at once.")] = False,
    home: HomeOption = None,
    db: DbOption = None,
    json_output: JsonOption = False,
) -> None:
    """Publish a new key; the old ones sign until it does, and stay published ten minutes longer.

    Examples:
      chronos-nas keys rotate
      chronos-nas keys rotate --now
    """
    from chronos_cli.nas_server.keys import KeyAlgorithm

    if alg not in set(KeyAlgorithm):
        raise UsageError(f"--alg {alg} is unknown", hint="choose ES256 or RS256")
    found = locate(home, db)
    record = found.key_ring(clock, os.environ).rotate(KeyAlgorithm(alg), after=0.0 if now else seconds(after) or 0.0)
    _note(found, "keys.rotate", record)
    if json_output:
        show("keys.rotate", {"key": _entry(record)})
    else:
        say(f"{record.kid}  {record.alg}  {_state(record)}")


def retire(
    kid: Annotated[str, typer.Argument(help="The key's id, as listed.")],
    home: HomeOption = None,
    db: DbOption = None,
    json_output: JsonOption = False,
) -> None:
    """Stop publishing a key now, and delete its private half: agents refuse what it signed within five minutes.

    Examples:
      chronos-nas keys retire KEY
    """
    found = locate(home, db)
    record = found.key_ring(clock, os.environ).retire(kid)
    _note(found, "keys.retire", record)
    if json_output:
        show("keys.retire", {"key": _entry(record)})
    else:
        say(f"retired {record.kid}")


def _note(home: NasHome, action: str, record: KeyRecord) -> None:
    """Write a change of keys into the audit log; the change stands, also where that fails."""
    from chronos_cli.nas_server.timers.audit import record_alone

    try:
        with opened(home) as backend:
            record_alone(backend, clock, action, record.kid, alg=record.alg, signs_from=moment(record.signs_from))
    except (ConfigError, TemporaryError) as error:
        sys.stderr.write(f"chronos-nas: done, but not in the audit log: {error.line()}\n")


def _entry(record: KeyRecord) -> dict[str, object]:
    return {
        "kid": record.kid,
        "alg": record.alg,
        "created_at": moment(record.created_at),
        "signs_from": moment(record.signs_from),
        "retires_at": moment(record.retires_at),
    }


def _state(record: KeyRecord) -> str:
    text = "signs" if record.signs_from <= clock() else f"signs from {moment(record.signs_from)}"
    return text if record.retires_at is None else f"published until {moment(record.retires_at)}"
