"""Durations as people write them (`90s`, `1h30m`, `2 days`) and their normal form."""

from __future__ import annotations

import re

from chronos_cli.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LONG = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "week", "weeks"),
}
_NAMES = {name: _UNITS[unit] for unit, names in _LONG.items() for name in names}
_TERM = re.compile(r"(\d+)\s*([a-z]+)\s*")

MAX_SECONDS = 100 * 366 * 86_400
"""A century: longer spans overflow calendars somewhere down the line."""


def parse_duration(text: str) -> int:
    """The seconds of `text`: one or more terms of number and unit (s, m, h, d, w). Zero is read; raises UsageError."""
    body = text.strip().lower()
    total, position = 0, 0
    while match := _TERM.match(body, position):
        number, unit = match.groups()
        if unit not in _NAMES:
            break
        total += int(number[:18]) * _NAMES[unit]
        position = match.end()
    if position != len(body) or not body:
        raise UsageError(f"cannot read the duration '{text}'", hint="write it as 90s, 30m, 2h or 1d")
    if total > MAX_SECONDS:
        raise UsageError(f"the duration '{text}' is longer than a century", hint="use a shorter one")
    return total


def format_duration(seconds: int) -> str:
    """The normal form: the largest unit that divides it (`90s`, `30m`, `2h`, `1d`)."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"
