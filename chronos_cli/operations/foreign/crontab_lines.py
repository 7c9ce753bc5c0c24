"""The lines of a crontab, read as Debian's cron reads them: load_env of env.c, load_entry of entry.c, do_command.c.

A crontab is bytes whose lines end with a line feed and nothing else. Settings count for the lines below them. A `%`
that is not escaped ends the command and starts its standard input.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from chronos_cli.core.foreign_schedules import told
from chronos_cli.core.schedule import Interval, Once, Schedule, normal_form
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ScheduleError, UsageError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SPACE: Final = " \t\n\v\f\r"
_BLANKS: Final = re.compile(r"[ \t]+")
_FIVE: Final = 5
_FIELD: Final = re.compile(r"[\d*?][\d*?,/LW#-]*\Z", re.IGNORECASE)
_WEEKDAY: Final = "(?:sun|mon|tue|wed|thu|fri|sat)"
_NAMED: Final = re.compile(rf"{_WEEKDAY}(?:[,-](?:{_WEEKDAY}|[0-7]))*\Z", re.IGNORECASE)
_TIME: Final = re.compile(r"(?:[\d*][\d*,/-]*|[A-Za-z]{3}(?:[,-][A-Za-z]{3})*)\Z")
_NICKNAME: Final = re.compile(
    r"@(?:every|hourly|daily|midnight|weekly|monthly|yearly|annually|reboot)\Z", re.IGNORECASE
)
_CALL: Final = re.compile(r"(?:rate|cron)\(.*?\)", re.IGNORECASE)
"""A schedule of AWS."""
_ZONES: Final = ("TZ", "CRON_TZ")


BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
MOST_LINES: Final = 10_000
"""The longest crontab that Debian's cron takes, in lines (MAX_TAB_LINES of its cron.h)."""
_MOST_BYTES: Final = 998
"""The bytes of a line with a setting that its load_env reads."""


_MOST_WORDS: Final = 8
_ANY_TIME: Final = datetime(2001, 1, 1, tzinfo=UTC)


@frozen
class Line:
    """One job's line: its number, its times as they stand, what follows them, and the settings above it.

    Bytes that are no UTF-8 are surrogates in all of them, as in file names.
    """

    number: int
    times: str
    rest: str
    settings: Mapping[str, str]


@frozen
class RefusedLine:
    """A line that cannot be taken over: its number, its text and the reason."""

    number: int
    text: str
    error: UsageError

    def at_line(self) -> UsageError:
        """Return the error with the line it is about."""
        return at_line(self.number, self.error)


def lines_of(table: bytes, refused: list[RefusedLine], *, seconds: str | None = None) -> Iterator[Line]:
    """Yield the job lines of a crontab. `seconds` ("first" or "last"): lines may have six or seven time fields.

    Adds to `refused` each line that cannot be read.
    """
    settings: dict[str, str] = {}
    for number, body in _bodies(table):
        try:
            text = _text(body)
            setting = setting_of(text)
            if setting is not None:
                _be_a_setting(text, *setting)
                settings[setting[0]] = setting[1]
                continue
            times, rest = _split(text, seconds=seconds is not None)
        except UsageError as error:
            refused.append(RefusedLine(number=number, text=body.decode("utf-8", "surrogateescape"), error=error))
            continue
        yield Line(number=number, times=times, rest=rest, settings=dict(settings))


def refused_settings(table: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines, by number, for which Debian's load_env takes no crontab, though their settings are read here."""
    for number, body in _bodies(table):
        name, equals, value = body.decode("utf-8", "surrogateescape").partition("=")
        if equals and not value.strip(_SPACE) and setting_of(f"{name}=") is not None:
            yield number, f'{name.strip(_SPACE)}= has no value, where Debian\'s cron wants {name.strip(_SPACE)}=""'


def cut_settings(table: bytes) -> Iterator[tuple[int, str]]:
    """Yield the number and name of each setting whose line is longer than what Debian's load_env reads of it."""
    for number, body in _bodies(table):
        if len(body) > _MOST_BYTES and (setting := setting_of(body.decode("utf-8", "surrogateescape"))) is not None:
            yield number, setting[0]


def _bodies(table: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each line that says something, and the line without the blanks before it."""
    for number, raw in enumerate(table.removeprefix(BYTE_ORDER_MARK).split(b"\n"), start=1):
        body = raw.lstrip(b" \t")
        if body.strip() and not body.startswith(b"#"):
            yield number, body


def at_line(number: int, error: UsageError) -> UsageError:
    """Return the error with the line it is about, and its hint in a crontab's words."""
    hint = error.hint.replace("write 'every ", "write '@every ")
    return UsageError(f"line {number} of the crontab: {error.message}", hint=hint)


def setting_of(line: str) -> tuple[str, str] | None:
    """Return the name and value of `NAME = value`, either of which may be quoted; None for a line that is no setting.

    As load_env has it: a name is anything up to a blank or `=`, and in quotes anything but `=`.
    """
    name, rest = _quoted(line, "=") if line[:1] in ("'", '"') else _bare(line)
    if not name:
        return None
    rest = rest.lstrip(_SPACE)
    if not rest.startswith("="):
        return None
    value = rest[1:].lstrip(_SPACE)
    if not value and name.startswith("@"):
        return None  # load_env takes no empty value, and load_entry has `=` for its command
    if value[:1] in ("'", '"'):
        inner, after = _quoted(value, "")
        if inner is None or after.strip(_SPACE):
            return None
        value = inner
    value = value.rstrip(_SPACE)
    if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
        value = value[1:-1]
    return name, value


def command_and_input(text: str) -> tuple[str, str | None]:
    r"""Return the command and its standard input (None: empty). `\%` is a percent sign, `\\` a backslash in it.

    In the input `%` is a line break, `\%` a percent sign, and every other backslash stands for itself.
    """
    command: list[str] = []
    rest, escaped = iter(text), False
    for character in rest:
        if escaped:
            if character in "%\\":
                command.pop()
            command.append(character)
            escaped = False
            continue
        if character == "%":
            break
        command.append(character)
        escaped = character == "\\"
    else:
        return "".join(command), None
    given = re.sub(r"(\\%)|%", lambda match: "%" if match[1] else "\n", "".join(rest))
    if given and not given.endswith("\n"):
        given += "\n"
    return "".join(command), given or None


def _be_a_setting(line: str, name: str, value: str) -> None:
    """Raise UsageError for a setting before times and a command, as other crons read it: to cron all is a value."""
    given = line[line.index("=", len(name)) + 1 :].lstrip(_SPACE)
    words = value.split()
    if given[:1] in ("'", '"') or len(words) < 3:
        return
    times = words[1 : _FIVE + 1]
    fields = len(words) > _FIVE + 1 and all(_TIME.match(word) for word in times)
    if (fields and (name in _ZONES or "*" in "".join(times))) or _NICKNAME.match(words[1]):
        raise UsageError(
            f"to cron it is the setting {name}, with times and a command in its value",
            hint="put the setting on a line of its own",
        )


def _text(line: bytes) -> str:
    if b"\0" in line:
        raise UsageError("it has a NUL character, where cron ends the line", hint="put that line right")
    return line.decode("utf-8", "surrogateescape")


def _bare(line: str) -> tuple[str | None, str]:
    match = re.match(r"[^=" + _SPACE + "]+", line)
    return (match[0], line[match.end() :]) if match else (None, "")


def _quoted(text: str, forbidden: str) -> tuple[str | None, str]:
    end = text.find(text[0], 1)
    inner = text[1:end]
    return (None, "") if end < 0 or (forbidden and forbidden in inner) else (inner, text[end + 1 :])


def _split(line: str, *, seconds: bool) -> tuple[str, str]:
    """Return the times and what follows them. Raises ScheduleError where the two cannot be told apart for sure."""
    if called := _CALL.match(line):  # it is refused with what to write
        return called[0], line[called.end() :].strip() or called[0]
    be_no_words(line)
    count = _FIVE
    if line.startswith("@"):
        count = 2 if re.match(r"@every[ \t]", line, re.IGNORECASE) else 1
    words = _BLANKS.split(line, count)
    if len(words) != count + 1 or not words[count].strip():
        raise ScheduleError(f"'{_short(line)}' has no command after its times", hint="put that line right")
    if count != _FIVE and words[count].startswith("*"):
        raise ScheduleError("its command begins with '*', which cron refuses", hint="put that line right")
    if count != _FIVE:
        return " ".join(words[:count]), words[count]
    extra = _extra(words[count])
    if extra and not seconds:
        raise ScheduleError(
            f"it has {_FIVE + extra} fields of time, or a command that begins with '{words[count].split()[0]}'",
            hint="--seconds first or --seconds last reads six or seven fields",
        )
    if extra:
        words = _BLANKS.split(line, count + extra)
    if len(words) < _FIVE + extra + 1 or not words[-1].strip():
        raise ScheduleError(f"'{_short(line)}' has no command after its times", hint="put that line right")
    if words[-1].startswith("*"):
        raise ScheduleError("its command begins with '*', which cron refuses", hint="put that line right")
    return " ".join(words[:-1]), words[-1]


def _extra(rest: str) -> int:
    """Return how many fields of time stand where a command should begin."""
    first, *others = _BLANKS.split(rest, 2)
    if not (_FIELD.match(first) or (others and _NAMED.match(first))):
        return 0
    return 2 if len(others) > 1 and _FIELD.match(others[0]) else 1


def _short(line: str) -> str:
    return line if len(line) <= 60 else f"{line[:57]}..."


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
