"""Instants are whole UTC seconds; text forms come and go at the edges only."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from chronos_cli.errors import ConfigError, UsageError

SECOND = timedelta(seconds=1)

_BRACKET = r"\[(?P<critical>!?)(?P<zone>[A-Za-z0-9._+/-]+)\]\Z"


def whole(moment: datetime) -> datetime:
    """Return the whole UTC second of an aware `moment`. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("an instant needs a UTC offset")
    return moment.astimezone(UTC).replace(microsecond=0)


def first_valid(wall: datetime, zone: tzinfo) -> datetime:
    """Return the instant a naive wall-clock time names in `zone`.

    In the hour that happens twice it is the first one; in the hour that is skipped, the first instant after the gap
    (the rule of Debian's cron, and so of every schedule here).
    """
    aware = wall.replace(tzinfo=zone, fold=0)
    instant = aware.astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    # In the gap both readings lie on either side of the transition: walk the shorter way, by halving.
    before, after = sorted((instant, wall.replace(tzinfo=zone, fold=1).astimezone(UTC)))
    offset = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def parse_stored(value: object, zone: tzinfo) -> datetime | None:
    """Return an instant as a job record holds it, or None for null, empty or unreadable text.

    A naive text (older writers left some) means the job's zone. A fraction counts as its second.
    """
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return whole(moment) if moment.tzinfo else whole(first_valid(moment, zone))
    except (ValueError, OverflowError):
        return None


def parse_aware(text: str, name: str) -> datetime:
    """Return an instant that was stored with its offset. Raises ValueError, which bears its `name`, for any other."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{name} has no UTC offset")
    return moment


def parse_time(text: str, zone: tzinfo) -> datetime:
    """Return an instant as a person writes it: ISO 8601, naive in `zone`, or RFC 9557 with `[Zone]`.

    Raises UsageError.
    """
    body = text.strip()
    named: tzinfo | None = None
    if body.endswith("]") and (match := re.search(_BRACKET, body)):
        named = named_zone(match["zone"])
        body = body[: match.start()]
    try:
        moment = datetime.fromisoformat(body)
        if moment.tzinfo is None:
            return whole(first_valid(moment, named or zone))
        instant = whole(moment)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"cannot read the time '{text}'", hint="write it as 2026-11-20T15:30 or 2026-11-20T15:30:00Z"
        ) from error
    if named is not None and instant.astimezone(named).utcoffset() != moment.utcoffset():
        raise UsageError(f"the offset and the zone of '{text}' contradict each other", hint="leave out one of the two")
    return instant


def named_zone(name: str) -> ZoneInfo:
    """Return the IANA zone of that name.

    Raises UsageError, ConfigError where no zone has data; never falls back to UTC.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        if name == "UTC":
            raise ConfigError("there is no data of time zones here", hint="pip install tzdata") from error
        named_zone("UTC")
        raise UsageError(
            f"there is no time zone '{name}'", hint="use an IANA name such as Europe/Berlin, or UTC"
        ) from error


def text_in(moment: datetime, zone: tzinfo) -> str:
    """Return the instant as a job record holds it: ISO 8601 with the offset of the job's zone, whole seconds."""
    return moment.astimezone(zone).isoformat()


def iso_text(moment: datetime | None, zone: tzinfo | None = None) -> str | None:
    """Return an instant in ISO 8601, with the offset of `zone` where one is given; None for None."""
    if moment is None:
        return None
    return (moment if zone is None else moment.astimezone(zone)).isoformat()
