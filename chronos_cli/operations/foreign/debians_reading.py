"""Debian's reading of a crontab: its dialect is smaller than ours, and for one bad line it takes none of a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from chronos_cli.core.schedule import NICKNAMES, comes_due
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ScheduleError
from chronos_cli.operations.foreign.crontab_lines import BYTE_ORDER_MARK, MOST_LINES, refused_settings, setting_of

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from chronos_cli.core.schedule import Schedule
    from chronos_cli.operations.foreign.crontab import CrontabLine, Machine
    from chronos_cli.operations.foreign.crontab_lines import Line, RefusedLine

_FIVE: Final = 5
_ELEMENT: Final = r"(?:\d+|[A-Za-z]{3})"
_DEBIANS: Final = re.compile(rf"(?:(?:\*|{_ELEMENT}-{_ELEMENT})(?:/\d+)?|{_ELEMENT})\Z")
_ITEM: Final = re.compile(
    r"(?:(\*)|([A-Za-z0-9]+)(?=-|/|[^A-Za-z0-9]|\Z))(?:(?<=\*)/(\d+)(?![A-Za-z0-9])|-([A-Za-z0-9]+)(?:/(\d+)(?![A-Za-z0-9]))?)?",
    re.ASCII,
)
_SPANS: Final = (
    (0, 59, ()),
    (0, 23, ()),
    (1, 31, ()),
    (1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    (0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_MOST_BYTES: Final = 998
"""The longest command that Debian's cron takes (MAX_COMMAND of its cron.h)."""


def refused_there(
    table: bytes,
    lines: tuple[Line, ...],
    entries: list[CrontabLine],
    machine: Machine | None,
    refused_lines: list[RefusedLine],
) -> str | None:
    """Return why Debian's cron takes no line of the crontab, as a clause; None where it takes them.

    `machine`: whose users the lines of a system crontab name. One line that it cannot read is enough.
    """
    if table.startswith(BYTE_ORDER_MARK):
        return "takes no crontab that begins with a byte order mark"
    last = table.rpartition(b"\n")[2].lstrip(b" \t")
    if last and not last.startswith(b"#"):
        return "ignores a crontab whose last line has no line end"
    if table.count(b"\n") > MOST_LINES:
        return f"ignores a crontab of more than {MOST_LINES} lines"
    found = list(refused_settings(table))
    unread = [entry.line for entry in entries if entry.cron is None]
    unread += [line.number for line in refused_lines if not _is_read_there(line.text)]
    found += [(number, "it does not read its times or its command") for number in unread]
    found += [(line.number, "it knows @reboot in small letters") for line in lines
              if line.times.lower() == "@reboot" != line.times]  # fmt: skip
    if machine is not None:
        users = ((line.number, line.rest.split(None, 1)[0]) for line in lines)
        found += [(number, f"there is no user {user}") for number, user in users if not machine.is_user(user)]
    if not found:
        return None
    number, why = min(found)
    return f"takes no line of this crontab, for line {number}: {why}"


def debians_reading(times: str, command: str, now: datetime, zone: tzinfo) -> Schedule | None:
    """Return how Debian's cron reads the times of a line, or None where it does not.

    Its dialect is smaller than ours, and a command has an end there. What follows a `#` in a field it passes over.
    """
    there = " ".join(field.partition("#")[0] for field in times.split())
    if len(command.encode("utf-8", "surrogateescape")) > _MOST_BYTES:
        return None
    if there.startswith("@"):
        known = there in NICKNAMES
    else:
        known = all(_DEBIANS.match(item) for item in there.replace(" ", ",").split(","))
    return parse_schedule(there, now=now, zone=zone) if known else None


def _is_read_there(text: str) -> bool:
    """Return False for a line that Debian's cron cannot read, of those that are refused here."""
    if "\0" in text:
        return False  # the line ends there, and what follows is another
    if setting_of(text) is not None:
        return True
    count = 1 if text.startswith("@") else _FIVE
    words = re.split(r"[ \t]+", text, maxsplit=count)
    if len(words) < count or "".join(words[count:]).startswith("*"):
        return False
    if count == 1:
        return words[0] in (*NICKNAMES, "@reboot")
    return all(_is_field_there(*one) for one in zip(words, _SPANS, strict=False))


def _is_field_there(field: str, span: tuple[int, int, tuple[str, ...]]) -> bool:
    """Read a field as get_list and get_range of entry.c do: what follows an item, and is no comma, is passed over."""
    low, high, names = span

    def number(text: str) -> int:
        return names.index(text.lower()) + low if text.lower() in names else int(text) if text.isdigit() else -1

    while True:
        match = _ITEM.match(field)
        if match is None or (match[3] or match[5] or "1").strip("0") == "":
            return False
        rest = field[match.end() :]
        if match[1] is None:
            first = number(match[2])
            last = first if match[4] is None else number(match[4])
            if min(first, last) < 0 or (first <= last and not low <= first <= last <= high):
                return False
        if rest[:1] == "/":
            return False
        if rest[:1] != ",":
            return True
        field = rest[1:]


def is_never_due(times: str) -> bool:
    """Return True for well-formed fields that no day matches; what is no such is judged where it is read."""
    try:
        return len(times.split()) == _FIVE and not comes_due(times)
    except ScheduleError:
        return False
