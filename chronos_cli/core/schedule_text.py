"""Schedules as a person writes them: `0 9 * * 1-5`, `@daily`, `every 30m`, `in 90s`, a time, or plain words."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from chronos_cli.core.instant import parse_time, text_in, whole
from chronos_cli.core.schedule import (
    LOOKS_LIKE_CRON,
    Interval,
    Once,
    Schedule,
    check_cron,
    nickname,
    read_words,
    span_seconds,
)
from chronos_cli.durations import parse_duration
from chronos_cli.errors import ScheduleError, UsageError

if TYPE_CHECKING:
    from datetime import datetime, tzinfo


def parse_schedule(text: str, *, now: datetime, zone: tzinfo, allow_past: bool = False) -> Schedule:
    """Read a schedule as a person writes it. Raises ScheduleError naming what to write instead.

    Forms: five cron fields, `@hourly` ... `@yearly`, `every 30m` (or `@every 30m`), `in 90s`, `+90s`, an ISO 8601 time,
    and words with one reading, as `weekdays at 9am`.
    """
    try:
        return _parsed(text, now=now, zone=zone, allow_past=allow_past)
    except ScheduleError:
        from chronos_cli.core.foreign_schedules import told

        known = told(text) if (schedule := read_words(text)) is None else None
        if schedule is not None:
            return schedule
        if known is None:
            raise
        raise ScheduleError(known[0], hint=known[1]) from None


def _parsed(text: str, *, now: datetime, zone: tzinfo, allow_past: bool) -> Schedule:
    body = " ".join(text.split())
    lower = body.lower()
    if not body:
        raise ScheduleError("the schedule is empty")
    try:
        if lower.startswith(("every ", "@every ")):
            return Interval(seconds=span_seconds(body.partition(" ")[2], text))
        if lower.startswith(("in ", "+")):
            span = body[3:] if lower.startswith("in ") else body[1:]
            return Once(at=_later(now, span_seconds(span, text)))
        if lower.startswith("@"):
            return nickname(lower)
        if _is_bare_duration(lower):
            raise ScheduleError(
                f"'{text}' can be read as once or as every", hint=f"write 'in {lower}' or 'every {lower}'"
            )
        if len(body.split()) > 1 and LOOKS_LIKE_CRON.match(body) and not re.match(r"\d{4}-\d", body):
            return check_cron(body)
        at = parse_time(body, zone)
    except ScheduleError:
        raise
    except UsageError as error:
        raise _refused(text, lower, error) from error
    if at <= now and not allow_past:
        raise ScheduleError(f"{text_in(at, zone)} is past", hint="give a time ahead, or 'in 1m'")
    return Once(at=at)


def _refused(text: str, lower: str, error: UsageError) -> ScheduleError:
    """Return what is wrong with a text: of one that was understood in part, what is wrong with the rest."""
    if re.match(r"every |in |\+|\d{4}-\d|.*\[", lower):
        return ScheduleError(error.message, hint=error.hint)
    hint = "write '0 9 * * 1-5', '@daily', 'every 30m', 'in 90s' or 2026-11-20T15:30"
    return ScheduleError(f"cannot read the schedule '{text}'", hint=hint)


def _later(now: datetime, seconds: int) -> datetime:
    try:
        return whole(now) + timedelta(seconds=seconds)
    except OverflowError as error:
        raise ScheduleError("that time is beyond the calendar", hint="give a nearer time") from error


def _is_bare_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except UsageError:
        return False
    return True
