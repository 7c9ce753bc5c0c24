"""Schedules in the spelling of other programs, and how to write them here. Read only where a text is refused."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"minute": "m", "hour": "h", "day": "d"}
_NUMBER: Final = re.compile(r"\d+")


def told(text: str) -> tuple[str, str] | None:
    """The reason why another program's text is no schedule here, and what to write; None for an unknown text."""
    body = " ".join(text.split())
    lower = body.lower()
    for pattern, reason, hint in _KNOWN:
        match = re.search(pattern, lower)
        if match is not None:
            return f"'{text}' {reason}", hint(body, match) if callable(hint) else hint
    return None


def _rate(_: str, match: re.Match[str]) -> str:
    return f"write 'every {match[1]}{_UNITS[match[2]]}'"


def _seconds(_: str, match: re.Match[str]) -> str:
    return f"write 'every {match[1]}s', which counts from start to start"


def _without_dash(body: str, _: re.Match[str]) -> str:
    return f"write '{body[1:]}'"


def _aws(body: str, _: re.Match[str]) -> str:
    fields = body[body.index("(") + 1 : -1].split()
    if len(fields) != 6 or fields[5] != "*":
        return "write its five fields without the year"
    return _without_question_marks(" ".join(fields[:5]), counted_from_one=True)


def _zone(body: str, match: re.Match[str]) -> str:
    name, rest = body[match.start(1) : match.end(1)], body[match.end() :]
    return f"write '{rest}' and give --tz {name}"


def _question_marks(body: str, _: re.Match[str]) -> str:
    return _without_question_marks(body)


def _without_question_marks(body: str, *, counted_from_one: bool = False) -> str:
    fields = body.replace("?", "*").split()
    if counted_from_one and _NUMBER.search(fields[4]):
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
    (r"^@reboot$", "is when a machine boots, and nothing is booted here", "let the machine's init start it"),
    (r"^@(?:every_minute|minutely)$", "is a word of other crons", "write '* * * * *'"),
    (r"^@every_second$", "is a word of other crons", "write 'every 1s'"),
    (r"^@(\d+)$", "counts seconds from the end of a run, as FreeBSD's cron does", _seconds),
    (r"^@quarterly$", "is a word of other crons", "write '0 0 1 1,4,7,10 *'"),
    (r"^@(?:semi|bi)-?annually$", "is a word of other crons", "write '0 0 1 1,7 *'"),
    (r"^-(\S+(?: \S+){4})$", "begins with '-', which keeps a line of cronie's out of its log", _without_dash),
    (r"^rate\((\d+) (minute|hour|day)s?\)$", "is a rate of AWS", _rate),
    (r"^cron\(.*\)$", "is an expression of AWS", _aws),
    (r"^(?:cron_)?tz=(\S+) ", "names its zone before its fields", _zone),
    (r"^(?:daily|hourly|weekly|monthly|yearly|annually|midnight)$", "is a word of other programs", _nickname),
    (r"^every (minute|hour|day|week)$", "has no number", _one),
    (_WORDS, "is in words", _weekdays),
    (rf"^(?=[\d*].*{_FULL_NAMES})" + _FIVE, "has a name in full, where cron has three letters", _short_names),
    (r"^(?=.*\?)" + _FIVE, "has a '?', which is Quartz's", _question_marks),
    (
        r"\d+w(?: |$)",
        "has a 'W', the nearest weekday, unknown here",
        "give the days, or LW for the last one",
    ),
    (r"^(?=.*(?:^| )h(?:[ /(]|$))" + _FIVE, "has an 'H', which is Jenkins'", _random),
    (r"^(?=.*~)" + _FIVE, "has a '~', a random number of other crons", _random),
)
