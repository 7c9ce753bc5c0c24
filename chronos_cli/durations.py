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
_NUMBER = r"([0-9]{1,18})(?:\.([0-9]{1,3}))?"  # patterns are texts: compiling them all would slow every start
_TERM = _NUMBER + r"\s*([a-z]+)\s*"

_STEPS = ((86_400 * 2, 86_400, "d"), (3_600 * 2, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))

MAX_SECONDS = 100 * 366 * 86_400
"""A century: longer spans overflow calendars somewhere down the line."""


def parse_duration(text: str, *, bare: bool = False) -> int:
    """Return the whole seconds of one or more terms of number and unit: `90s`, `1h30m`, `1.5h`, `2 days`, `1w`.

    A unit is s, m, h, d or w, or its word, in either case. A number alone is seconds where `bare` is set. Zero is read.
    Raises UsageError.
    """
    seconds = parse_seconds(text, bare=bare)
    if seconds != int(seconds):
        raise UsageError(f"the duration '{text}' is no whole number of seconds", hint="write it as 90s, 30m, 2h or 1d")
    return int(seconds)


def parse_seconds(text: str, *, bare: bool = True) -> float:
    """Return the seconds of a duration as `parse_duration` reads it, a fraction of a second included."""
    body = text.strip().lower()
    if bare and re.fullmatch(_NUMBER, body):
        body += "s"
    total, position, term = 0, 0, re.compile(_TERM)
    while match := term.match(body, position):
        number, fraction, unit = match.groups()
        if unit not in _NAMES:
            break
        total += (int(number) * 1000 + int((fraction or "").ljust(3, "0"))) * _NAMES[unit]
        position = match.end()
    if position != len(body) or not body:
        raise UsageError(f"cannot read the duration '{text[:60]}'", hint="write it as 90s, 30m, 2h or 1d")
    if total > MAX_SECONDS * 1000:
        raise UsageError(f"the duration '{text[:60]}' is longer than a century", hint="use a shorter one")
    return total / 1000


def format_duration(seconds: int) -> str:
    """Return the normal form: the largest unit that divides it (`90s`, `30m`, `2h`, `1d`)."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds // _UNITS[unit]}{unit}"
    return f"{seconds}s"


def span(seconds: float) -> str:
    """Return a length of time in its largest sensible unit, for people: `45 s`, `3 h`, `12 d`."""
    whole = abs(round(seconds))
    unit, name = next((unit, name) for least, unit, name in _STEPS if whole >= least)
    return f"{whole // unit} {name}"
