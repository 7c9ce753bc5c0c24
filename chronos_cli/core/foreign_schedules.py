"""Schedules in the spelling of other programs, and how to write them here. Read only where a text is refused."""

from __future__ import annotations

import re
from typing import Final

from chronos_cli.core.field_faults import fault_of

_COUNTS: Final = {"other": 2, "second": 2, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10,
                  "twelve": 12, "fifteen": 15, "twenty": 20, "thirty": 30}  # fmt: skip


def told(text: str) -> tuple[str, str] | None:
    """Return the reason why another program's text is no schedule here, and what to write; None for an unknown text."""
    body = " ".join(text.split())
    lower = body.lower()
    for pattern, reason, hint in _KNOWN:
        match = re.search(pattern, lower)
        if match is not None:
            return f"'{text}' {reason}", hint(body, match) if callable(hint) else hint
    fault = fault_of(body)
    return None if fault is None else (f"'{text}' {fault[0]}", fault[1])


def _rate(_: str, match: re.Match[str]) -> str:
    if match[2][:1] not in tuple("mhd") or match[1] == "0":
        return "its unit is minutes, hours or days: write 'every 5m'"
    return f"write 'every {int(match[1])}{match[2][0]}'"


def _iso_8601(_: str, match: re.Match[str]) -> str:
    return f"write 'every {(match[1] or '') + (match[2] or '')}'"


def _counted(_: str, match: re.Match[str]) -> str:
    return f"write 'every {_COUNTS[match[1]]}{match[2][0]}'"


def _spaced(_: str, match: re.Match[str]) -> str:
    return f"write 'every {match[1]}'"


def _day_time(_: str, match: re.Match[str]) -> str:
    if match[1]:
        return "write '0 12 * * *' for every day"
    hour, minute = int(match[2]), int(match[3] or 0)
    if hour > 23 or minute > 59 or (match[4] and not 1 <= hour <= 12):
        return "write a time as 9am, 9:30pm or 21:30"
    if match[4]:
        hour = hour % 12 + (12 if match[4] == "pm" else 0)
    return f"write '{minute} {hour} * * *' for every day"


def _unquoted(body: str, _: re.Match[str]) -> str:
    return f"write {body[1:-1].strip()}"


def _quartz(body: str, _: re.Match[str]) -> str:
    second, *fields = body.replace("?", "*").split()
    if second not in ("0", "00") or fields[5:] not in ([], ["*"]):
        return "use five fields, without the second that stands first and the year"
    return _without_question_marks(" ".join(fields[:5]), counted_from_one=True)


def _seconds(_: str, match: re.Match[str]) -> str:
    return f"write 'every {match[1]}s', which counts from start to start"


def _without_dash(body: str, _: re.Match[str]) -> str:
    return f"write '{body[1:]}'"


def _aws(body: str, _: re.Match[str]) -> str:
    fields = body[body.index("(") + 1 : -1].split()
    if len(fields) not in (5, 6) or fields[5:] not in ([], ["*"]):
        return "write its five fields without the year"
    return _without_question_marks(" ".join(fields[:5]), counted_from_one=True)


def _zone(body: str, match: re.Match[str]) -> str:
    name, rest = body[match.start(1) : match.end(1)], body[match.end() :]
    return f"write '{rest}' and give --tz {name}"


def _question_marks(body: str, _: re.Match[str]) -> str:
    return _without_question_marks(body)


def _without_question_marks(body: str, *, counted_from_one: bool = False) -> str:
    fields = body.replace("?", "*").split()
    if "w" in fields[2].lower().replace("lw", ""):
        return "give the days, or LW for the last weekday of a month"
    if re.search(r"l-\d", fields[2].lower()):
        return "give the days, or L for the last one"
    counted = re.search(r"\d" if counted_from_one else r"\d[l#]", re.sub(r"/\d+", "", fields[4].lower()))
    if counted or fields[4].lower() == "l":
        return "write '*' for '?', and weekdays by name: there Sunday is 1"
    return f"write '{' '.join(fields)}'"


def _weekdays(_: str, match: re.Match[str]) -> str:
    word = match[1] or match[2]
    days = {"weekdays": "1-5", "weekends": "6-7", "daily": "*", "day": "*"}.get(word, word[:3])
    hour, minute = int(match[3]), int(match[4] or 0)
    if hour > 23 or minute > 59 or (match[5] and not 1 <= hour <= 12):
        return "write a time as 9am, 9:30pm or 21:30"
    if match[5]:
        hour = hour % 12 + (12 if match[5] == "pm" else 0)
    return f"write '{minute} {hour} * * {days}'"


def _nickname(body: str, _: re.Match[str]) -> str:
    return f"write '@{body.lower()}'"


def _one(_: str, match: re.Match[str]) -> str:
    return f"write 'every {'7d' if match[1] == 'week' else '1' + match[1][0]}'"


def _short_names(body: str, _: re.Match[str]) -> str:
    return f"write '{re.sub(_FULL_NAMES, lambda name: name[0][:3].lower(), body, flags=re.IGNORECASE)}'"


def _random(body: str, _: re.Match[str]) -> str:
    del body
    return "write one number, and let --jitter spread the jobs"


_DAYS: Final = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_FULL_NAMES: Final = (
    rf"\b(?:{_DAYS}|january|february|march|april|june|july|august|september|october|november|december)\b"
)
_WORDS: Final = rf"^(?:(weekdays|weekends|daily)|(?:every )?(day|{_DAYS})) (?:at )?(\d{{1,2}})(?::(\d\d))? ?(am|pm)?$"
_FIVE: Final = r"\S+( \S+){4}$"
_KNOWN: Final = (
    (
        r"^@(?:re|on_?)?boot$|^@startup$",
        "is when a machine boots, and nothing is booted here",
        "let the machine's init start it",
    ),
    (r"^@(?:every_minute|minutely)$", "is a word of other crons", "write '* * * * *'"),
    (r"^@every_second$", "is a word of other crons", "write 'every 1s'"),
    (r"^@(\d+)$", "counts seconds from the end of a run, as FreeBSD's cron does", _seconds),
    (r"^@bi-?weekly$", "is a word of other programs", "write 'every 14d'"),
    (r"^@weekdays?$", "is a word of other programs", "write '0 0 * * 1-5'"),
    (r"^@weekends?$", "is a word of other programs", "write '0 0 * * 6,0'"),
    (r"^@every[ _-]?(\d+)$", "has no unit", lambda _, match: f"write 'every {match[1]}s'"),
    (r"^@?every \d+(?:\.\d+)? ?(?:ms|msec\w*|us|ns|millis\w*)$", "is shorter than a second", "write 'every 1s'"),
    (r"^@(?:every[_-]?)?((?:\d+(?:\.\d+)? ?[a-z]+ ?)+)$", "is a length with an '@'", _spaced),
    (
        r"^@?every (other|second|two|three|four|five|six|ten|twelve|fifteen|twenty|thirty) (minute|hour|day|week)s?$",
        "has its number in words",
        _counted,
    ),
    (
        r"^@?every ((?:\d+(?:\.\d+)? ?(?:s|sec|seconds?|m|mins?|minutes?|h|hours?|d|days?|w|weeks?) ?)+)(?<= ).+$",
        "has something behind its length",
        lambda _, match: f"write 'every {match[1].strip()}'",
    ),
    (r"^every (month|year)$", "has no number", lambda _, match: f"write '@{match[1]}ly'"),
    (r"^every quarter$", "has no number", "write '0 0 1 1,4,7,10 *'"),
    (r"^(['\"])[^'\"]*\1$", "stands in quotes that are a part of it", _unquoted),
    (r"^at\((\S+)\)$", "is one time of AWS", lambda body, _: f"write '{body[3:-1]}'"),
    (r"^r?\d*/?p(\d+[dw])?(?:t(\d+[hms]))?$", "is a length of ISO 8601", _iso_8601),
    (r"(?:^| )\*-[\d*]+-|\.\.", "is a calendar event of systemd", "write five fields, as '0 9 * * 1-5'"),
    (
        r"^(?:at )?(?:(noon|midday)|(\d{1,2})(?::(\d\d))? ?(am|pm)?)(?: (?:daily|every ?day))?$",
        "has a time and no day",
        _day_time,
    ),
    (r"^@quarterly$", "is a word of other crons", "write '0 0 1 1,4,7,10 *'"),
    (r"^@(?:semi|bi)-?annually$", "is a word of other crons", "write '0 0 1 1,7 *'"),
    (r"^-(\S+(?: \S+){4})$", "begins with '-', which keeps a line of cronie's out of its log", _without_dash),
    (r"^rate\( ?(\d+) ?([a-z]*) ?\)$", "is a rate of AWS", _rate),
    (r"^cron\(.*\)$", "is an expression of AWS", _aws),
    (r"^(?:cron_)?tz=(\S+) ", "names its zone before its fields", _zone),
    (r"^(?:daily|hourly|weekly|monthly|yearly|annually|midnight)$", "is a word of other programs", _nickname),
    (r"^every (minute|hour|day|week)$", "has no number", _one),
    (_WORDS, "is in words", _weekdays),
    (rf"^(?=[\d*].*{_FULL_NAMES})" + _FIVE, "has a name in full, where cron has three letters", _short_names),
    (r"^(?=[\d*?])(?=.*\?)\S+(?: \S+){5,6}$", "has a '?', which is Quartz's, with the second first", _quartz),
    (r"^(?=[\d*?])(?=.*\?)" + _FIVE, "has a '?', which is Quartz's", _question_marks),
    (
        r"\d+w(?: |$)",
        "has a 'W', the nearest weekday, unknown here",
        "give the days, or LW for the last one",
    ),
    (r"^(?=.*(?:^| )h(?:[ /(]|$))" + _FIVE, "has an 'H', which is Jenkins'", _random),
    (r"^(?=.*~)" + _FIVE, "has a '~', a random number of other crons", _random),
)
