"""Schedules in words where a crontab has five fields: `every 5m x`, `@every 5 minutes x`, `weekdays at 9am x`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from chronos_cli.core.foreign_schedules import told
from chronos_cli.core.schedule import Interval, Once, Schedule, normal_form
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ScheduleError, UsageError

_MOST_WORDS: Final = 8
_ANY_TIME: Final = datetime(2001, 1, 1, tzinfo=UTC)


def be_no_words(line: str) -> None:
    """Raise ScheduleError, naming the right spelling, for a line whose times are words, or a length of several."""
    every = line[:7].lower() == "@every "
    if not (every or line[:1].isalpha() or re.match(r"\d{4}-", line)):
        return  # no minute begins with a letter
    words = line.split(None, _MOST_WORDS + 1)
    for count in range(min(len(words) - 1, _MOST_WORDS), 2 if every else 0, -1):
        text = " ".join(words[:count])
        try:
            schedule = parse_schedule(text, now=_ANY_TIME, zone=UTC, allow_past=True)
        except UsageError as error:
            known = None if every else told(text)
            if known is not None and "behind" not in known[0]:
                raise ScheduleError(known[0], hint=known[1]) from error
            continue
        raise ScheduleError(f"'{text}' is no time of a crontab", hint=_written(schedule))


def _written(schedule: Schedule) -> str:
    if isinstance(schedule, Once):
        return "it is one time: add it with `chronos job add`"
    spelled = normal_form(schedule, UTC)
    return f"write '{'@' if isinstance(schedule, Interval) else ''}{spelled}' before its command"
