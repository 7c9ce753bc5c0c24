"""Jobs as the lines of a crontab."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from chronos_cli.core.cron_fields import fields_of
from chronos_cli.core.job import Standing, ours_of
from chronos_cli.core.schedule import Cron, Interval
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.operations.foreign.crontab_lines import command_and_input
from chronos_cli.operations.foreign.exported import AS_JSON, kept, own_action, own_env, without_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chronos_cli.core.job import Job

_OF_CRON: Final = ("SHELL", "HOME", "PATH", "LOGNAME")
_HOUR, _DAY_HOURS = 60, 24


def crontab_of(jobs: Iterable[Job], machine_zone: str) -> tuple[str, dict[str, str]]:
    """Return a crontab, and why jobs are not in it, by id. `machine_zone`: the zone in which cron runs here."""
    lines: list[str] = []
    given: dict[str, str] = {}
    left_out: dict[str, str] = {}
    settled: list[tuple[Job, dict[str, str]]] = []
    for job in jobs:
        try:
            without_files(job)
            settled.append((job, _settings(job, machine_zone)))
        except UsageError as error:
            left_out[job.id] = error.line()
    # A setting stands for all lines below it and cannot be taken back, so those with the fewest come first.
    for job, settings in sorted(settled, key=lambda pair: len(pair[1])):
        try:
            if above := [name for name in given.keys() - settings.keys() if name not in _OF_CRON]:
                hint = f"export it alone: `chronos job export {job.id} --format crontab`"
                raise UsageError(f"{above[0]} stands above it and cannot be taken back", hint=hint)
            said = [f"{name}={_cron_value(value)}" for name, value in settings.items() if given.get(name) != value]
            line = _cron_line(job)
        except ChronosError as error:
            left_out[job.id] = error.line()
            continue
        lines += [*said, line]
        given |= settings
    return "".join(f"{line}\n" for line in lines), left_out


def _settings(job: Job, machine_zone: str) -> dict[str, str]:
    env = {name: value for name, value in own_env(job).items() if name != "LOGNAME"}
    env.setdefault("SHELL", "/bin/sh")
    action = ours_of(job.record).get("action")
    words = action.get("command") if isinstance(action, dict) else None
    if isinstance(words, list) and len(words) == 3 and words[1] == "-c":
        env["SHELL"] = str(words[0])
    if isinstance(job.record.get("workdir"), str):
        env["HOME"] = job.record["workdir"]
    if job.zone_name != machine_zone or "CRON_TZ" in env:
        env["CRON_TZ"] = job.zone_name
    # Settings that every crontab has anyway are left out.
    plain = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    return {name: value for name, value in env.items() if plain.get(name) != value}


def _cron_value(text: str) -> str:
    if "\n" in text:
        raise UsageError("a setting of it has a line break", hint=AS_JSON)
    if text == text.strip() and not text.startswith(("'", '"')) and text:
        return text
    quote = "'" if '"' in text else '"'
    if quote in text:
        raise UsageError("a setting of it has both quotes", hint=AS_JSON)
    return f"{quote}{text}{quote}"


def _cron_line(job: Job) -> str:
    kind, what, stdin = own_action(job)
    if kind == "shell":
        command = str(what)
    elif len(what) == 3 and what[1] == "-c":
        command = str(what[2])
    else:
        command = shlex.join(what)
    if "\n" in command or command != command.lstrip():
        what = "has more than one line" if "\n" in command else "begins with a blank"
        raise UsageError(f"its command {what}", hint="put it into a file of its own, and that file's path in its place")
    before = kept(job, "written")
    same = isinstance(before, str) and command_and_input(before) == (command, stdin)
    paused = "#" if job.standing is not Standing.LIVE else ""
    return f"{paused}{_cron_fields(job)} {before if same else written(command, stdin)}"


def written(command: str, stdin: str | None) -> str:
    """Return a command and its standard input as a line of a crontab has them."""
    # Two backslashes are one to cron, and so is one before a percent sign; any other stands for itself.
    text = re.sub(r"\\+(?=%)|\\{2,}|%", lambda match: "\\%" if match[0] == "%" else match[0] * 2, command)
    if stdin is None:
        return text
    if text.endswith("\\") and not text.endswith("\\\\"):
        text += "\\"
    return f"{text}%" + stdin.removesuffix("\n").replace("%", "\\%").replace("\n", "%")


def _debians_fields(expr: str) -> str:
    """Return the fields as Debian's cron reads them, where a step needs a range. Raises UsageError."""
    fields = fields_of(expr)
    if fields.nth or min(fields.days, default=1) < 1:
        raise UsageError(f"'{expr}' is beyond cron's own fields", hint=AS_JSON)
    ends = (59, 23, 31, 12, 7)
    return " ".join(
        re.sub(r"(^|,)(\w+)/", rf"\g<1>\g<2>-{end}/", field) for field, end in zip(expr.split(), ends, strict=True)
    )


def _cron_fields(job: Job) -> str:
    schedule = job.timetable.schedule
    if isinstance(schedule, Cron):
        return schedule.expr if schedule.expr.startswith("@") else _debians_fields(schedule.expr)
    if isinstance(schedule, Interval) and schedule.seconds % _HOUR == 0:
        minutes = schedule.seconds // _HOUR
        if minutes < _HOUR and _HOUR % minutes == 0:
            return f"*/{minutes} * * * *" if minutes > 1 else "* * * * *"
        hours = minutes // _HOUR
        if minutes % _HOUR == 0 and hours <= _DAY_HOURS and _DAY_HOURS % hours == 0:
            anchor = job.timetable.anchor.astimezone(job.timetable.zone)
            if hours == 1:
                return f"{anchor.minute} * * * *"
            first = anchor.hour % hours
            return (
                f"{anchor.minute} {first}-23/{hours} * * *" if hours < _DAY_HOURS else f"{anchor.minute} {first} * * *"
            )
    raise UsageError("cron has no time for its schedule", hint=AS_JSON)
