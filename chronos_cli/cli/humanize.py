"""Instants and lengths of time in the words a person uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.durations import span
from chronos_cli.streams import LINE, one_line

if TYPE_CHECKING:
    from datetime import datetime, timedelta, tzinfo

DRIFT_S: Final = 5.0
"""Clocks this close are not worth a word: NAS's Date has whole seconds, and an answer takes its time."""


def brief(text: str) -> str:
    """Return a text of a record, or of another program, fit to stand among others: on one line, and cut."""
    return one_line(text, LINE)


def drift(ahead: timedelta | None) -> str:
    """Return how this machine's clock stands to NAS's; empty where it is not worth a word, or not known."""
    if ahead is None or abs(ahead.total_seconds()) <= DRIFT_S:
        return ""
    seconds = ahead.total_seconds()
    return f"this machine's clock is {span(seconds)} {'ahead of' if seconds > 0 else 'behind'} NAS's"


def relative(moment: datetime, now: datetime) -> str:
    """Return an instant as seen from now: `in 3 h`, `5 min ago`, `now`."""
    seconds = (moment - now).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def local(moment: datetime, zone: tzinfo) -> str:
    """Return an instant on a job's wall clock, with the zone's own abbreviation: `Fri 2026-11-20 09:00:00 EST`."""
    return moment.astimezone(zone).strftime("%a %Y-%m-%d %H:%M:%S %Z")


def instant(moment: datetime, zone: tzinfo) -> str:
    """Return an instant on a wall clock, its zone with it: `2026-11-20 09:00:00 EST`."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def from_to(before: datetime, after: datetime, zone: tzinfo) -> str:
    """Return two instants on a wall clock: the day twice where it differs, the zone once unless that differs too."""
    old, new = before.astimezone(zone), after.astimezone(zone)
    if old.tzname() != new.tzname() or old.utcoffset() != new.utcoffset():
        return f"{instant(before, zone)} -> {instant(after, zone)}"
    form = "%H:%M:%S %Z" if old.date() == new.date() else "%Y-%m-%d %H:%M:%S %Z"
    return f"{old:%Y-%m-%d %H:%M:%S} -> {new.strftime(form)}"
