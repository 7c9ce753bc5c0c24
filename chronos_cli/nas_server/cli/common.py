"""Parts that the commands share: the options that name the home, and how results are written."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.durations import parse_seconds
from chronos_cli.errors import ConfigError
from chronos_cli.screen import Column, fitted, padded, width_of
from chronos_cli.streams import LINE, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chronos_cli.nas_server.home import NasHome
    from chronos_cli.nas_server.timers.interface import Backend

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="The folder of database and keys [$CHRONOS_NAS_HOME, ~/.chronos-nas].")
]
DbOption = Annotated[
    str | None, typer.Option("--db", help="sqlite:///PATH or postgresql://... [$CHRONOS_NAS_DB, a file in the home].")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def locate(folder: Path | None, database: str | None) -> NasHome:
    """Return the home that the options name."""
    from chronos_cli.nas_server.home import find_home

    return find_home(folder, database, os.environ)


@contextmanager
def opened(home: NasHome) -> Iterator[Backend]:
    """Open the home's store. Raises ConfigError where it cannot be used."""
    backend = home.backend()
    backend.prepare()
    try:
        yield backend
    finally:
        backend.close()


def show(command: str, document: dict[str, object]) -> None:
    """Write a command's JSON document."""
    say(json.dumps({"schema": f"chronos-nas.{command}/1", "ok": True, **document}))


def say(text: str = "") -> None:
    """Write a line on stdout."""
    sys.stdout.write(f"{one_line(text)}\n")
    sys.stdout.flush()


def rows(titles: Sequence[str], cells: Sequence[Sequence[str]], nothing: str) -> None:
    """Write a table: a line of titles, then one line a row, cut where a terminal is narrower; `nothing` for none."""
    if not cells:
        sys.stderr.write(f"{nothing}\n")
        return
    columns = [Column(title=title, least=8, drop=0) for title in titles]
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    shown = [[one_line(cell).encode(encoding, "backslashreplace").decode(encoding) for cell in row] for row in cells]
    mark = "\u2026" if encoding.lower().startswith("utf") else "..."
    heads, shown = fitted(columns, shown, _width(), mark)
    widths = [max(map(width_of, column)) for column in zip(heads, *shown, strict=True)]
    lines = ["  ".join(map(padded, row, widths)).rstrip() for row in (heads, *shown)]
    # In one piece: a flush a line is a second of a hundred thousand.
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def _width() -> int:
    """Return the columns of the terminal, or of what COLUMNS says; where neither bounds a line, more than any has."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return max(int(columns), 20)
    if not sys.stdout.isatty():
        return 100_000
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):  # a terminal that cannot be asked
        return 80


def brief(text: str | None) -> str:
    """Return a text of others, fit to stand among other things on a line."""
    return one_line(text or "", LINE)


def seconds(text: str | None) -> float | None:
    """Return the seconds of a duration such as `90s`, `15m`, `2h`, `30d`. Raises UsageError."""
    return None if text is None else parse_seconds(text, bare=False)


def moment(at: float | None) -> str | None:
    """Return an instant as text, whole seconds UTC."""
    return None if at is None else datetime.fromtimestamp(int(at), UTC).isoformat()


def clock() -> float:
    """Return the time, in seconds since the epoch."""
    return time.time()


def existing(home: NasHome) -> NasHome:
    """Return the home, if anything was ever kept in it. Raises ConfigError."""
    if not home.postgres and not home.sqlite_path.exists():
        raise ConfigError(
            f"there is no database {home.sqlite_path}", hint="name it with --home or --db, or start `chronos-nas serve`"
        )
    return home
