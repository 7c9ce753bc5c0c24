"""Calendar events of systemd (systemd.time(7)) as cron expressions and intervals, and back.

An event is `DAYS YEAR-MONTH-DAY HOUR:MINUTE:SECOND ZONE`, each part left out at will. One that no cron expression can
say (a year, days counted from the end of a month, seconds, a weekday and a day together) is refused by name; the last
day of a month (`*-*~01`), its last Friday (`Fri *-*~07/1`) and its first (`Fri *-*-01..07`) are `L`, `5L` and `5#1`.
"""

from __future__ import annotations

import re
from typing import Final

from chronos_cli.core.instant import named_zone
from chronos_cli.core.schedule import NICKNAMES, Cron, Once
from chronos_cli.errors import ChronosError, UsageError

WORDS: Final = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "semi-annually": "*-01,07-01 00:00:00",
    "biannually": "*-01,07-01 00:00:00",
    "bi-annually": "*-01,07-01 00:00:00",
}
DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMES: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_DAY: Final = re.compile(r"(sun|mon|tue|wed|thu|fri|sat)(?:day|sday|nesday|rsday|urday)?", re.IGNORECASE)
_DAYS: Final = re.compile(r"[A-Za-z]{3,9}(?:(?:\.\.|-|,)[A-Za-z]{3,9})*,?\Z")
_DATE: Final = re.compile(r"(?:(?P<year>[^-\s]+)-)?(?P<month>[^-\s]+)-(?P<day>[^-\s]+)\Z")
_CLOCK: Final = re.compile(r"(?P<hour>[^:\s]+):(?P<minute>[^:\s]+)(?::(?P<second>[^:\s]+))?\Z")
_ITEM: Final = re.compile(r"(?:(\*)|(\d+)(?:\.\.(\d+))?)(?:/(\d+))?\Z")
_MINUTE: Final = 60


def from_event(text: str) -> tuple[str, str | None]:
    """Return an event as a schedule of ours, in words, and its zone if it names one. Raises UsageError."""
    body, zone = _zone_apart(" ".join(text.split()))
    body = WORDS.get(body.lower(), body)
    parts = body.split(" ")
    days = "*"
    if parts and _DAYS.match(parts[0]):
        days = _weekdays(parts.pop(0), text)
    counted = bool(parts) and "~" in parts[0]
    date = _DATE.match(parts[0].replace("~", "-", 1)) if parts else None
    if date is not None:
        parts.pop(0)
    clock = _CLOCK.match(parts[0]) if parts else None
    if clock is not None:
        parts.pop(0)
    if parts or (date is None and clock is None and days == "*"):
        raise UsageError(f"the calendar event '{text}' cannot be read", hint="see `systemd-analyze calendar`")
    year, month, day = (date["year"] or "*", date["month"], date["day"]) if date else ("*", "*", "*")
    hour, minute, second = (clock["hour"], clock["minute"], clock["second"] or "0") if clock else ("0", "0", "0")
    if year != "*":
        return _once(text, days, (year, month, day), (hour, minute, second)), zone
    minutes, hours = _field(minute, 0, 59, text), _field(hour, 0, 23, text)
    if second.lstrip("0"):
        return _seconds(second, (minutes, hours, day, month, days), text), zone
    dates = _field(day, 1, 31, text)
    if counted or (dates != "*" and days != "*"):
        dates, days = _of_month(day, days, text, counted=counted)
    return " ".join((minutes, hours, dates, _field(month, 1, 12, text), days)), zone


def _of_month(day: str, days: str, whole: str, *, counted: bool) -> tuple[str, str]:
    """Return the two days of an event that names the last day of a month, or one week of it. Raises UsageError."""
    if counted and days == "*" and day.strip("0") == "1":
        return "L", "*"
    last = re.fullmatch(r"0?7/0?1|0?1\.\.0?7", day) if counted else None
    begin, _, end = ("" if counted else day).partition("..")
    sign = "L" if last else _WEEKS.get((begin.lstrip("0"), end.lstrip("0")))
    if days != "*" and sign is not None:
        return "*", ",".join(f"{number}{sign}" for number in _numbers_of(days))
    if counted:
        raise UsageError(f"'{whole}' counts days from the end of the month", hint="`add` reads L, the last day")
    raise UsageError(
        f"'{whole}' needs the day of the month and of the week together, and cron runs on either",
        hint="keep one of the two",
    )


_WEEKS: Final = {
    ("1", "7"): "#1",
    ("8", "14"): "#2",
    ("15", "21"): "#3",
    ("22", "28"): "#4",
    ("29", "31"): "#5",
}
"""The first to the fifth of a weekday in a month, by the days that it may be."""


def _numbers_of(days: str) -> list[int]:
    """Return the days of a field of the week, 0 for Sunday, each once."""
    spans = (item.partition("-") for item in days.split(","))
    return sorted({day % 7 for low, _, high in spans for day in range(int(low), int(high or low) + 1)})


def _zone_apart(text: str) -> tuple[str, str | None]:
    head, _, last = text.rpartition(" ")
    if not head or not last[:1].isalpha() or _DAY.match(last):
        return text, None
    try:
        named_zone(last)
    except ChronosError as error:
        if "/" not in last:
            return text, None
        raise UsageError(f"'{last}' is no time zone", hint="name an IANA zone, or UTC") from error
    return head, last


def _weekdays(text: str, whole: str) -> str:
    found: list[str] = []
    for item in text.rstrip(",").split(","):
        names = re.split(r"\.\.|-", item)
        numbers = [DAYS.index(name.lower()[:3]) if _DAY.fullmatch(name) else -1 for name in names]
        if -1 in numbers or len(numbers) > 2:
            raise UsageError(f"'{item}' in '{whole}' is no day of the week", hint="write Mon, or Mon..Fri")
        if len(numbers) == 2:
            low, high = numbers[0] or 7, numbers[1] or 7  # Sunday ends a week there
            if low > high:
                raise UsageError(f"'{item}' in '{whole}' goes past the end of the week", hint="write its two parts")
            found.append(str(low) if low == high else f"{low}-{high}")
        else:
            found.append(str(numbers[0]))
    return ",".join(found)


def _field(text: str, low: int, high: int, whole: str) -> str:
    """Return one field of an event as cron's."""
    found = []
    for item in text.split(","):
        match = _ITEM.match(item)
        if match is None or item.startswith("*/"):  # systemd refuses a step of a star
            raise UsageError(f"'{item}' in '{whole}' has no counterpart", hint="use numbers, a..b, a/n and *")
        star, first, last, step = match.groups()
        if step and not last and int(first) + int(step) > high:  # systemd refuses a step that takes no second
            raise UsageError(f"the step of '{item}' in '{whole}' leaves its field", hint=f"write {int(first):02} alone")
        every = f"/{int(step)}" if step else ""
        if star:
            found.append(f"*{every}")
        elif last is None and step is None:
            found.append(str(int(first)))
        elif int(first) == low and step and (last is None or int(last) == high):
            found.append(f"*{every}")
        else:
            found.append(f"{int(first)}-{high if last is None else int(last)}{every}")
    return ",".join(found)


def _seconds(second: str, others: tuple[str, ...], text: str) -> str:
    step = re.fullmatch(r"\*|0?0(?:/0?(\d+))?", second)
    every = int(step[1] or 1) if step else 0
    if others == ("*",) * 5 and every and _MINUTE % every == 0:
        return f"every {every}s"
    raise UsageError(f"'{text}' starts within a minute", hint="use seconds 00, or *:*:0/n with an n that divides 60")


def _once(text: str, days: str, date: tuple[str, ...], clock: tuple[str, ...]) -> str:
    if days == "*" and "~" not in text and all(part.isdigit() for part in (*date, *clock)):
        numbers = [int(part) for part in (*date, *clock)]
        if len(date[0]) <= 2:  # as systemd reads two digits
            numbers[0] += 2000 if numbers[0] < 70 else 1900
        return "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}".format(*numbers)
    raise UsageError(f"'{text}' is for some years only", hint="leave out the year, or give one whole time")


def to_events(schedule: Cron | Once, zone_name: str) -> tuple[str, ...]:
    """Return a schedule as calendar events, each of which makes it due. Raises UsageError where it has none."""
    if isinstance(schedule, Once):
        return (f"{schedule.at:%Y-%m-%d %H:%M:%S} UTC",)
    minute, hour, day, month, weekday = NICKNAMES.get(schedule.expr.lower(), schedule.expr).upper().split()
    time = f"{_back(hour, 0, 23)}:{_back(minute, 0, 59)}:00 {zone_name}"
    months = _back(month, 1, 12, _MONTHS)
    if day == "L" and weekday == "*":
        return (f"*-{months}~01 {time}",)
    if day == "*" and (special := _of_months_back(weekday, months)):
        return tuple(f"{event} {time}" for event in special)
    starred = day.startswith("*") or weekday.startswith("*")
    dates, week = f"*-{months}-{_back(day, 1, 31)}", _week_back(weekday)
    if day == "*" or weekday == "*" or starred:
        return (" ".join(part for part in (week, dates, time) if part),)
    return f"{dates} {time}", f"{week} *-{months}-* {time}"


_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def _of_months_back(weekday: str, months: str) -> list[str]:
    """Return the dates of a field of the week that is of `5L` and `1#2` alone, none for any other."""
    found = []
    signs = {sign: span for span, sign in _WEEKS.items()}
    for item in _numbers(weekday, 0, tuple(name.upper() for name in _NAMES)).split(","):
        match = re.fullmatch(r"([0-7])(L|#[1-5])", item)
        if match is None:
            return []
        begin, end = signs.get(match[2], ("", ""))
        days = f"-{int(begin):02}..{end:0>2}" if begin else "~07/1"
        found.append(f"{_NAMES[int(match[1]) % 7]} *-{months}{days}")
    return found


def _numbers(text: str, first: int, names: tuple[str, ...]) -> str:
    for place, name in enumerate(names):
        text = text.replace(name, str(place + first))
    return text


def _back(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> str:
    found = []
    for item in _numbers(text, low, names).split(","):
        match = re.fullmatch(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?", item)
        if match is None:
            raise UsageError(f"'{item}' has no counterpart in a calendar event", hint="give the days by their numbers")
        star, first, last, step = match.groups()
        begin, every = low if star else int(first), int(step or 1)
        # Not `00/7`: without an end a step leaves out its first value as some months begin (systemd 252).
        end = int(last) if last else high if star or step else begin
        if star and every == 1:
            found.append("*")
        elif begin + every > end:
            found.append(f"{begin:02}")
        else:
            found.append(f"{begin:02}..{end:02}" + (f"/{every}" if every > 1 else ""))
    return "*" if "*" in found else ",".join(found)  # systemd takes no list with a star


def _week_back(text: str) -> str:
    """Return the days of the week by their names, "" for all."""
    if text in ("*", "*/1"):
        return ""
    days: set[int] = set()
    for item in _numbers(text, 0, tuple(name.upper() for name in _NAMES)).split(","):
        match = re.fullmatch(r"(?:(\*)|(\d)(?:-(\d))?)(?:/(\d+))?", item)
        if match is None:
            raise UsageError(f"'{item}' has no counterpart in a calendar event", hint="give the days by their numbers")
        star, first, last, step = match.groups()
        low = 0 if star else int(first)
        high = 7 if star or (last is None and step) else int(last or first)
        days |= {day % 7 for day in range(low, high + 1, int(step or 1))}
    return ",".join(_NAMES[day] for day in (1, 2, 3, 4, 5, 6, 0) if day in days)
