"""crontab(5) as jobs: each line becomes what cron would run, at the times at which cron would run it.

A job runs in HOME with the shell, PATH and settings of its crontab as its environment, and what follows `%` on its
standard input. What has no counterpart here (`@reboot`, another user) is left out by name; where a line is read in
another way than cron reads it, a note says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.instant import named_zone
from chronos_cli.core.schedule import NICKNAMES, Cron, parse_schedule
from chronos_cli.errors import ScheduleError, UsageError
from chronos_cli.frozen import frozen
from chronos_cli.operations.foreign.crontab_lines import (
    BYTE_ORDER_MARK,
    MOST_LINES,
    at_line,
    command_and_input,
    cut_settings,
    lines_of,
    refused_settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, tzinfo

    from chronos_cli.core.schedule import Schedule
    from chronos_cli.operations.foreign.crontab_lines import Line

SECONDS: Final = ("first", "last")
_USER: Final = re.compile(r"[A-Za-z_][\w.@+\\-]*\$?\Z", re.ASCII)
_OPTION: Final = re.compile(r"-[A-Za-z]+(?=[ \t]|\Z)")
_ELEMENT: Final = r"(?:\d+|[A-Za-z]{3})"
_DEBIANS: Final = re.compile(rf"(?:(?:\*|{_ELEMENT}-{_ELEMENT})(?:/\d+)?|{_ELEMENT})\Z")
_MOST_BYTES: Final = 998
"""The longest command that Debian's cron takes (MAX_COMMAND of its cron.h)."""
_OUR_TICK: Final = re.compile(r"(?:^| )CHRONOS_HOME=.* tick .*# ")
_MINUTE: Final = 60


@frozen
class Machine:
    """The machine and its user as cron knows them: the user's name and home, and the users there are.

    `is_user` answers for a name, `is_program` for a name and a PATH that counts besides the usual folders; `zone` is
    the machine's own.
    """

    user: str
    folder: str
    zone_name: str
    is_user: Callable[[str], bool]
    is_program: Callable[[str, str], bool]


@frozen
class CrontabLine:
    """One line that becomes a job. `line` is its number; `text` the command as it stands there, its identity.

    `cron` is None where Debian's cron would not read the line's times.
    """

    line: int
    text: str
    schedule: Schedule
    zone: tzinfo
    zone_name: str
    action: dict[str, Any]
    env: dict[str, str]
    workdir: str
    cron: Schedule | None


@frozen
class Crontab:
    """The result of reading a crontab: its entries, the lines left out with the reason, and notes.

    `refused`: why Debian's cron takes no line of it, None where it takes them.
    """

    entries: tuple[CrontabLine, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    refused: str | None


def read_crontab(
    table: bytes, machine: Machine, *, zone_name: str, now: datetime, seconds: str | None = None, system: bool = False
) -> Crontab:
    """Read a user's crontab, or with `system` one that has a user in each line.

    `zone_name` is the zone of lines without CRON_TZ. Raises UsageError naming the first line that cannot be understood,
    or that stands in the other kind of crontab.
    """
    entries, left_out, notes = [], [], dict[str, None]()
    lines = tuple(lines_of(table, seconds=seconds))
    if not system:
        _be_a_users(lines, machine, notes)
    for number, name in cut_settings(table):
        notes[f"line {number} is longer than what Debian's cron reads of a setting: there {name} is cut off"] = None
    for line in lines:
        try:
            command, missing = _command(line, machine, system=system)
            if missing is None:
                entries.append(_entry(line, command, machine, zone_name, now=now, seconds=seconds, notes=notes))
            else:
                left_out.append(f"line {line.number}: {missing}: {command}")
        except UsageError as error:
            raise at_line(line.number, error) from error
    if left_out and not entries and system:
        raise UsageError(
            f"no line of the crontab runs as {machine.user}", hint="import it as the user whose lines it has"
        )
    refused = (
        "reads no seconds" if seconds is not None else _refused(table, lines, entries, machine if system else None)
    )
    if refused is not None and seconds is None:
        notes[f"Debian's cron {refused}"] = None
    return Crontab(entries=tuple(entries), left_out=tuple(left_out), notes=tuple(notes), refused=refused)


def _refused(table: bytes, lines: tuple[Line, ...], entries: list[CrontabLine], machine: Machine | None) -> str | None:
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
    found += [(entry.line, "it does not read its times or its command") for entry in entries if entry.cron is None]
    found += [(line.number, "it knows @reboot in small letters") for line in lines
              if line.times.lower() == "@reboot" != line.times]  # fmt: skip
    if machine is not None:
        users = ((line.number, line.rest.split(None, 1)[0]) for line in lines)
        found += [(number, f"there is no user {user}") for number, user in users if not machine.is_user(user)]
    if not found:
        return None
    number, why = min(found)
    return f"takes no line of this crontab, for line {number}: {why}"


def _be_a_users(lines: tuple[Line, ...], machine: Machine, notes: dict[str, None]) -> None:
    """Note commands that begin with a user; raise UsageError where all of them may: then it is a system crontab."""
    named: list[tuple[Line, str]] = []
    all_may = True
    for line in lines:
        word, *more = line.rest.split(None, 2)
        path = line.settings.get("PATH", "")
        user, program = word == "root" or machine.is_user(word), machine.is_program(word, path)
        all_may = all_may and bool(more) and _USER.match(word) is not None and (user or not program)
        # `man /usr/bin/mandb`: a user's name that is a program's too, before a program of its own.
        if more and user and (not program or (more[0].startswith("/") and machine.is_program(more[0], path))):
            named.append((line, word))
    if named and all_may:
        line, user_name = named[0]
        raise at_line(
            line.number,
            UsageError(
                f"its command begins with the user '{user_name}': this is a system crontab",
                hint="--system reads the user of each line",
            ),
        )
    for line, word in named:
        notes[f"the command of line {line.number} begins with '{word}', which is a user here"] = None


def _command(line: Line, machine: Machine, *, system: bool) -> tuple[str, str | None]:
    """The line's command, and why it is left out, or None. Raises UsageError for a line without a user."""
    user, _, rest = line.rest.replace("\t", " ").partition(" ")
    command = line.rest
    if system:
        if not rest.strip() or not (_USER.match(user) or machine.is_user(user)):
            raise UsageError(
                "it has no user and command after its times", hint="leave out --system for a user's crontab"
            )
        command = line.rest[len(user) :].lstrip(" \t")
        if user != machine.user:
            return command, f"it runs as {user}, and this is {machine.user}"
    if line.times.lower() == "@reboot":
        return command, "@reboot has no counterpart"
    if _OUR_TICK.search(command):
        return command, "it is what triggers a home of chronos"
    if option := _OPTION.match(command):
        raise UsageError(f"its command begins with '{option[0]}', an option of other crons", hint="leave it out")
    return command, None


def _entry(
    line: Line,
    text: str,
    machine: Machine,
    zone_name: str,
    *,
    now: datetime,
    seconds: str | None,
    notes: dict[str, None],
) -> CrontabLine:
    settings = dict(line.settings)
    own_zone = settings.get("CRON_TZ") or zone_name
    zone = named_zone(own_zone)
    times, left = _times(line, seconds)
    schedule = parse_schedule(times, now=now, zone=zone)
    command, given = command_and_input(text)
    shell = settings.get("SHELL") or "/bin/sh"
    # What execle gets in do_command.c: the shell by its full name, the line, and nothing of the settings.
    plain = shell == "/bin/sh" and command.strip()  # an empty shell line is no action here
    action: dict[str, Any] = {"shell": command} if plain else {"command": [shell, "-c", command]}
    if given is not None:
        action["stdin"] = given
    home = settings.get("HOME") or machine.folder
    if not home.startswith("/"):
        raise UsageError(f"HOME={home} is no absolute path", hint="name the folder in full")
    defaults = {"SHELL": "/bin/sh", "HOME": home, "PATH": "/usr/bin:/bin"}
    for note in _notes(line, text, settings, own_zone, machine, left):
        notes[note] = None
    return CrontabLine(
        line=line.number,
        text=text,
        schedule=schedule,
        zone=zone,
        zone_name=own_zone,
        action=action,
        env={**defaults, **settings, "LOGNAME": machine.user},
        workdir=home,
        cron=_debians(times, text, now, zone) if isinstance(schedule, Cron) and times == line.times else None,
    )


def _debians(times: str, command: str, now: datetime, zone: tzinfo) -> Schedule | None:
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


def _times(line: Line, seconds: str | None) -> tuple[str, str | None]:
    """The line's times as a schedule of ours, and a second of the minute that it loses. Raises ScheduleError."""
    fields = line.times.split()
    if line.times.startswith("@") or len(fields) == 5 or seconds is None:
        return line.times, None
    if len(fields) == 7 and fields.pop() != "*":
        raise ScheduleError("it is for one year only", hint="give `chronos job add` the time itself")
    second = fields.pop(0) if seconds == "first" else fields.pop(5)
    if second.isdigit() and int(second) < _MINUTE:
        return " ".join(fields), None if int(second) == 0 else second
    step = re.fullmatch(r"(?:\*|0|0-59)(?:/(\d+))?", second)
    every = int(step[1] or 1) if step else 0
    if fields == ["*"] * 5 and every and _MINUTE % every == 0:
        return f"every {every}s", None
    raise ScheduleError(
        f"the seconds '{second}' have no counterpart beside its other fields",
        hint="seconds are one number, or */n with * in every other field",
    )


def _notes(
    line: Line, text: str, settings: dict[str, str], zone_name: str, machine: Machine, second: str | None
) -> list[str]:
    found = []
    if second is not None:
        found.append(f"line {line.number} starts at second 0 of its minutes, not at second {second}")
    if text.endswith("\r"):
        found.append(f"line {line.number} ends with a carriage return, which its command gets, as from cron")
    if settings.get("MAILTO"):
        found.append(f"nothing is mailed to {settings['MAILTO']}: --on-failure names a program that hears of failures")
    if settings.get("TZ") and settings["TZ"].lstrip(":") != zone_name:
        found.append(f"TZ={settings['TZ']} is for the commands, as in cron: their times are in {zone_name}")
    if settings.get("CRON_TZ") and zone_name != machine.zone_name:
        found.append(
            f"CRON_TZ={zone_name} moves the times below it; Debian's cron ignores it, others do the same as here"
        )
    elif zone_name != machine.zone_name:
        found.append(f"the times are in {zone_name}, the home's zone; cron's are in {machine.zone_name}, the machine's")
    if settings.get("RANDOM_DELAY"):
        found.append("RANDOM_DELAY has no counterpart: --jitter gives each job a delay of its own")
    return found
