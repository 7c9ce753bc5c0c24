"""Layouts of what a view shows (a table, `wide`, `json`, `name`), and a view that is drawn again and again."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ChronosError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.cli.invocation import Invocation

LAYOUTS: Final = ("wide", "json", "name")
OUTPUT_HELP: Final = "wide (nothing is cut), json, or name; else a table"
WATCH_HELP: Final = "draw it again every 2 s, until Ctrl-C"
INTERVAL_HELP: Final = "with --watch: how often [2s]"
_LEAST_S: Final = 0.2


def take_layout(invocation: Invocation, output: str | None, *, kinds: tuple[str, ...] = LAYOUTS) -> None:
    """Have the output as `--output` asks for it, one of `kinds`. Raises UsageError."""
    if output is None:
        return
    if output not in kinds:
        raise UsageError(f"there is no output '{output}'", hint=f"it may be {', '.join(kinds)}")
    if output == "json":
        invocation.note_option("json", value=True)
    elif invocation.json:
        raise UsageError(f"--json and -o {output} contradict each other", hint="give one of them")
    else:
        invocation.output.layout = output


def shown(
    invocation: Invocation,
    show: Callable[[], int],
    *,
    output: str | None = None,
    watch: bool = False,
    interval: str | None = None,
) -> int:
    """Show a view once, or until the user interrupts; `show` looks, writes, and returns the exit code."""
    take_layout(invocation, output)
    if interval is not None and not watch:
        raise UsageError("--interval belongs to --watch", hint="give both")
    if not watch:
        return show()
    every = _seconds(interval)
    _refuse_where_nothing_is_redrawn(invocation)
    while True:
        _frame(invocation, show, every)
        time.sleep(every)


def _seconds(interval: str | None) -> float:
    from chronos_cli.durations import parse_seconds

    every = 2.0 if interval is None else parse_seconds(interval)
    if every < _LEAST_S:
        raise UsageError(f"the interval '{interval}' is too short", hint="give a second or more")
    return every


def _refuse_where_nothing_is_redrawn(invocation: Invocation) -> None:
    out = invocation.output
    if out.json or out.layout == "name":
        raise UsageError("--watch is for people, not for -o json or -o name", hint="leave one of them out")
    if not sys.stdout.isatty():
        raise UsageError("--watch draws on a terminal, and standard output is none", hint="leave it out")
    if not out.terminal:
        raise UsageError("--watch cannot draw on a terminal that is dumb (TERM)", hint="leave it out")


def _frame(invocation: Invocation, show: Callable[[], int], every: float) -> None:
    """Draw one frame. An error is shown in it, and the next frame tries again."""
    out = invocation.output
    try:
        size = os.get_terminal_size(sys.stdout.fileno()).lines
    except (OSError, ValueError):  # a terminal that cannot be asked
        size = 0
    with out.frame(size or 24, f"every {every:g} s until Ctrl-C"):
        try:
            show()
        except UsageError:
            raise
        except ChronosError as error:
            out.error(error)
    invocation.begin_again()
