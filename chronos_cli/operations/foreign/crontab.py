"""crontab(5) as jobs: each line becomes what cron would run, at the times at which cron would run it.

A job runs in HOME with the shell, PATH and settings of its crontab as its environment, and what follows `%` on its
standard input. Lines without a counterpart here (`@reboot`, another user) are left out by name; where a line is read in
another way than cron reads it, a note says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.instant import named_zone
from chronos_cli.core.schedule import Cron
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ScheduleError, UsageError
from chronos_cli.frozen import frozen
from chronos_cli.operations.foreign.crontab_lines import (
    RefusedLine,
    at_line,
    command_and_input,
    cut_settings,
    lines_of,
)
from chronos_cli.operations.foreign.debians_reading import debians_reading, is_never_due, refused_there

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, tzinfo

    from chronos_cli.core.schedule import Schedule
    from chronos_cli.operations.foreign.crontab_lines import Line

SECONDS: Final = ("first", "last")
_USER: Final = re.compile(r"[A-Za-z_][\w.@+\\-]*\$?\Z", re.ASCII)
_OPTION: Final = re.compile(r"-[A-Za-z]+(?=[ \t]|\Z)")
_OUR_TICK: Final = re.compile(r"(?:^| )CHRONOS_HOME=.* tick .*# ")
_MINUTE: Final = 60
_FIELDS: Final = 5


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
    strangers: bool
    """Lines of it run as other users."""


def read_crontab(
    table: bytes,
    machine: Machine,
    *,
    zone_name: str,
    now: datetime,
    seconds: str | None = None,
    system: bool = False,
    wrong: list[UsageError] | None = None,
) -> Crontab:
    """Read a user's crontab, or with `system` one that has a user in each line.

    `zone_name` is the zone of lines without CRON_TZ. `wrong`: takes the error of each line that cannot be understood,
    in their order, and the others are read; without it the first is raised. Raises UsageError for the other kind of
    crontab.
    """
    entries, left_out, notes = [], [], dict[str, None]()
    refused_lines: list[RefusedLine] = []
    strangers = False
    lines = tuple(lines_of(table, refused_lines, seconds=seconds))
    if not system:
        _be_a_users(lines, machine, notes)
    for number, name in cut_settings(table):
        notes[f"line {number} is longer than what Debian's cron reads of a setting: there {name} is cut off"] = None
    for line in lines:
        try:
            command, missing = _command(line, machine, system=system)
            strangers = strangers or (missing or "").startswith("it runs as ")
            times, second = _times(line, seconds) if missing is None else (line.times, None)
            if missing is None and is_never_due(times):
                missing = f"no day matches '{times}', so that cron never starts it"
            if missing is None:
                entries.append(_entry(line, times, second, command, machine, zone_name, now=now, notes=notes))
            else:
                left_out.append(f"line {line.number}: {missing}: {command}")
        except UsageError as error:
            refused_lines.append(RefusedLine(number=line.number, text=f"{line.times} {line.rest}", error=error))
    refused_lines.sort(key=lambda line: line.number)
    if refused_lines and wrong is None:
        raise refused_lines[0].at_line()
    if wrong is not None:
        wrong += [line.at_line() for line in refused_lines]
    refused = (
        "reads no seconds"
        if seconds is not None
        else refused_there(table, lines, entries, machine if system else None, refused_lines)
    )
    if refused is not None and seconds is None:
        notes[f"Debian's cron {refused}"] = None
    return Crontab(
        entries=tuple(entries), left_out=tuple(left_out), notes=tuple(notes), refused=refused, strangers=strangers
    )


def be_of(machine: Machine, tables: Sequence[Crontab]) -> None:
    """Raise UsageError where all that runs in these crontabs runs as other users."""
    if any(table.strangers for table in tables) and not any(table.entries for table in tables):
        raise UsageError(
            f"no line of the crontab runs as {machine.user}", hint="import it as the user whose lines it has"
        )


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
    """Return the line's command, and why it is left out, or None. Raises UsageError for a line without a user."""
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
    times: str,
    second: str | None,
    text: str,
    machine: Machine,
    zone_name: str,
    *,
    now: datetime,
    notes: dict[str, None],
) -> CrontabLine:
    """Return a line as a job. `times`: its schedule in our words; `second`: the one of the minute that it loses."""
    settings = dict(line.settings)
    own_zone = settings.get("CRON_TZ") or zone_name
    zone = named_zone(own_zone)
    schedule = parse_schedule(times, now=now, zone=zone)
    command, given = command_and_input(text)
    shell = settings.get("SHELL") or "/bin/sh"
    # The arguments of execle in do_command.c: the shell by its full name, the line, and nothing of the settings.
    plain = shell == "/bin/sh" and command.strip()  # an empty shell line is no action here
    action: dict[str, Any] = {"shell": command} if plain else {"command": [shell, "-c", command]}
    if given is not None:
        action["stdin"] = given
    home = settings.get("HOME") or machine.folder
    if not home.startswith("/"):
        raise UsageError(f"HOME={home} is no absolute path", hint="name the folder in full")
    defaults = {"SHELL": "/bin/sh", "HOME": home, "PATH": "/usr/bin:/bin"}
    for note in _notes(line, text, settings, own_zone, machine, second):
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
        cron=debians_reading(times, text, now, zone) if isinstance(schedule, Cron) and times == line.times else None,
    )


def _times(line: Line, seconds: str | None) -> tuple[str, str | None]:
    """Return the line's times as a schedule of ours, and a second of the minute that it loses. Raises ScheduleError."""
    fields = line.times.split()
    if line.times.startswith("@") or len(fields) == _FIELDS or seconds is None:
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
