"""Instants and lengths of time in the words a person uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.durations import span
from chronos_cli.streams import LINE, one_line

if TYPE_CHECKING:
    from datetime import datetime, tzinfo


def brief(text: str) -> str:
    """A text of a record, or of somebody else, as it stands among others: on one line, and cut."""
    return one_line(text, LINE)


def relative(moment: datetime, now: datetime) -> str:
    """An instant as seen from now: `in 3 h`, `5 min ago`, `now`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def local(moment: datetime, zone: tzinfo) -> str:
    """An instant on a job's wall clock, with the zone's own abbreviation: `Fri 2026-11-20 09:00:00 EST`."""
    return moment.astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z")


def instant(moment: datetime, zone: tzinfo) -> str:
    """An instant on a wall clock, its zone with it: `2026-11-20 09:00:00 EST`."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def from_to(before: datetime, after: datetime, zone: tzinfo) -> str:
    """Two instants on a wall clock: the day is said again where it differs, the zone once unless it does."""
    old, new = before.astimezone(zone), after.astimezone(zone)
    if old.tzname() != new.tzname() or old.utcoffset() != new.utcoffset():
        return f"{instant(before, zone)} -> {instant(after, zone)}"
    form = "%H:%M:%S %Z" if old.date() == new.date() else "%Y-%m-%d %H:%M:%S %Z"
    return f"{old:%Y-%m-%d %H:%M:%S} -> {new.strftime(form)}"
