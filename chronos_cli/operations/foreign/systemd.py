"""Timers of systemd with their services as jobs (systemd.timer(5), systemd.service(5)).

A timer's key is its name; one with several calendar events is as many jobs. A setting that would make the program run
differently and has no counterpart leaves the timer out, by name; what only limits or describes it is noted.
"""

from __future__ import annotations

import os
import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import is_job_id
from chronos_cli.core.cron_fields import fields_of
from chronos_cli.core.instant import named_zone
from chronos_cli.core.schedule import Cron, Interval, Once
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.durations import format_duration, parse_seconds
from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen
from chronos_cli.operations.foreign.calendar_events import from_event
from chronos_cli.operations.foreign.their_times import systemds_times
from chronos_cli.operations.foreign.units import Unit, commands_of, read_whole, timers_in, unescaped, words_of
from chronos_cli.operations.foreign.upsert import NO_LIMIT, ForeignJob, ForeignJobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from chronos_cli.core.schedule import Schedule
    from chronos_cli.operations.foreign.crontab import Machine

_ACCURACY_S: Final = 60
_SPANS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_WHOLE_SPANS: Final = re.compile(r"(?:\s*\d+(?:\.\d+)?\s*[A-Za-z]*)+\s*\Z")
_LONG_UNITS: Final = {"month": 2_629_800, "months": 2_629_800, "M": 2_629_800, "year": 31_557_600, "years": 31_557_600,
                      "y": 31_557_600, "hr": 3_600, "msec": 0.001, "ms": 0.001, "us": 1e-6, "usec": 1e-6}  # fmt: skip
_NO_TIMER: Final = ("OnUnitInactiveSec",)
_STARTS_ONLY: Final = ("OnBootSec", "OnStartupSec", "OnActiveSec")
_CHANGES: Final = ("OnClockChange", "OnTimezoneChange", "WakeSystem")
_NO_SERVICE: Final = ("ExecStartPre", "ExecStartPost", "ExecCondition", "ExecStop", "ExecStopPost", "PassEnvironment",
                      "UnsetEnvironment", "SuccessExitStatus", "RootDirectory", "RootImage",
                      "StandardInputText", "StandardInputData", "BusName", "DynamicUser", "LoadCredential")  # fmt: skip
_HANDLED: Final = frozenset({
    "Type", "ExecStart", "Environment", "EnvironmentFile", "WorkingDirectory", "User", "Group", "TimeoutStartSec",
    "TimeoutSec", "RuntimeMaxSec", "TimeoutStopSec", "StandardOutput", "StandardError", "SyslogIdentifier",
    "StandardInput", "Restart", "RemainAfterExit", "KillMode", "TimeoutStopFailureMode",
})  # fmt: skip
_OF_TIMERS: Final = frozenset({
    "OnCalendar", "OnUnitActiveSec", "OnBootSec", "OnStartupSec", "OnActiveSec", "Unit", "Persistent", "AccuracySec",
    "RandomizedDelaySec", "FixedRandomDelay", "OnClockChange", "OnTimezoneChange", "WakeSystem", "RemainAfterElapse",
})  # fmt: skip
_ONLY_WORDS: Final = frozenset({"Description", "Documentation", "SourcePath", "OnFailure", "DefaultDependencies"})
_OF_MACHINES: Final = frozenset({
    "ACPower", "Architecture", "CPUFeature", "CPUs", "Capability", "Firmware", "FirstBoot", "Host", "KernelCommandLine",
    "KernelVersion", "Memory", "OSRelease", "Security", "Virtualization",
})  # fmt: skip
_TYPES: Final = ("simple", "exec", "oneshot", "idle")
_VARIABLE_THERE: Final = re.compile(r"(?<!\$)(?:\$\$)*\$\{?[A-Za-z_][A-Za-z0-9_]*\}?")
_VARIABLE: Final = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@frozen
class _Begins:
    """A start of a timer: its schedule here, the name of its zone, and how it was written.

    `of_machine`: it names no zone, so that systemd takes the machine's. `of_calendar`: its times are those of a clock.
    """

    schedule: Schedule
    zone_name: str
    written: str
    of_machine: bool = False
    of_calendar: bool = True

    def theirs(self, machine: Machine, now: datetime) -> Callable[[datetime], Iterator[datetime]] | None:
        """Return systemd's own times; None for an interval that counts from a start there."""
        zone = named_zone(machine.zone_name if self.of_machine else self.zone_name)
        if isinstance(self.schedule, Cron):
            return partial(systemds_times, self.schedule.fields(), zone=zone)
        if isinstance(self.schedule, Once):
            at = parse_schedule(from_event(self.written)[0], now=now, zone=zone, allow_past=True)
            return lambda after: iter([at.at] if isinstance(at, Once) and at.at > after else [])
        if not self.of_calendar:
            return None
        seconds = tuple(range(0, 60, self.schedule.seconds))
        return partial(systemds_times, fields_of("* * * * *"), zone=zone, seconds=seconds)


def read_timers(place: Path, machine: Machine, *, zone_name: str, now: datetime, system: bool = False) -> ForeignJobs:
    """Read the timers of a folder, or one `.timer` file, each with the service beside it.

    `zone_name`: that of events that name none. `system`: services begin in `/`, else in the user's home. Raises
    UsageError where there is no timer.
    """
    files = timers_in(place) if place.is_dir() else [place]
    jobs: list[ForeignJob] = []
    left_out: list[str] = []
    refused: UsageError | None = None
    notes: dict[str, None] = {}
    held: set[str] = set()
    for path in files:
        said: list[str] = []
        try:
            jobs += _jobs(path, machine, zone_name, now, said, "/" if system else machine.folder)
        except UsageError as error:
            refused = UsageError(f"{path.name}: {error.message}", hint=error.hint)
            left_out.append(refused.line())
            held.add(path.name)
            continue
        notes |= dict.fromkeys(f"{path.name}: {note}" for note in said)
    if not files:
        raise UsageError(f"{place} has no timer", hint="name a folder of unit files, or a .timer file")
    if not jobs and refused is not None:
        raise refused
    return ForeignJobs(jobs=tuple(jobs), left_out=tuple(left_out), notes=tuple(notes), refused=frozenset(held))


def _jobs(
    path: Path, machine: Machine, zone_name: str, now: datetime, notes: list[str], begins_in: str
) -> list[ForeignJob]:
    if path.suffix != ".timer":
        raise UsageError("its name does not end in .timer", hint="name the timer, not the service")
    if path.stem.endswith("@"):
        raise UsageError("it is a template, which starts nothing itself", hint=f"name {path.stem}INSTANCE.timer")
    timer = read_whole(path)
    named = _specified(timer.last("Timer", "Unit") or f"{path.stem}.service", machine, timer)
    if not named.endswith(".service"):
        raise UsageError(f"it starts {named}, which is no plain service", hint="add a job with its command")
    job_id = path.stem.replace("@", ".", 1)
    if not is_job_id(job_id):
        raise UsageError(f"'{job_id[:40]}' cannot be a job id", hint="rename the unit")
    policy: dict[str, Any] = {}
    schedules = _schedules(timer, machine, zone_name, now, policy, notes)
    service = read_whole(path.with_name(named))
    if zone_name != machine.zone_name and any(schedule.of_machine for schedule in schedules):
        notes.append(f"its times are in {zone_name}; systemd's are in {machine.zone_name}, the machine's")
    env = _environment(service, machine, notes)
    files = _files(service, machine)
    action = _action(service, env, machine, files)
    env = _below_files(env, files, notes)
    _limits(service, policy, notes)
    _conditions(timer, service)
    ignored = sorted((service.keys("Service") - _HANDLED) | (timer.keys("Timer") - _OF_TIMERS)
                     | ((service.keys("Unit") | timer.keys("Unit")) - _ONLY_WORDS) | _elsewhere(service))  # fmt: skip
    if ignored:
        notes.append(f"not taken over: {', '.join(ignored)}")
    if service.last("Unit", "OnFailure"):
        notes.append("OnFailure starts nothing here: --on-failure names a program that hears of failures")
    folder = _folder(service, machine, begins_in)
    found = []
    for count, begun in enumerate(schedules):
        key = path.name if count == 0 else f"{path.name}#{count + 1}"
        found.append(
            ForeignJob(
                where=path.name,
                key=key,
                job_id=job_id if count == 0 else f"{job_id}-{count + 1}",
                name=_name(service, machine, job_id) if count == 0 else f"{job_id}-{count + 1}",
                schedule=begun.schedule,
                zone=named_zone(begun.zone_name),
                zone_name=begun.zone_name,
                action=action,
                env=env,
                env_file=files,
                workdir=folder,
                policy=policy,
                kept={"written": begun.written, "accuracy": timer.last("Timer", "AccuracySec")},
                theirs=begun.theirs(machine, now),
                untold="counts it from its last start there",
            )
        )
    return found


def seconds_of(text: str) -> float:
    """Return the seconds of a time span as systemd writes them (`5min 20s`; a bare number is seconds).

    Raises UsageError.
    """
    if not _WHOLE_SPANS.match(text):
        raise UsageError(f"'{text}' is no time span", hint="write it as 90s, 5min or 1h")
    total = 0.0
    for number, unit in _SPANS.findall(text):
        factor = _LONG_UNITS.get(unit) or _LONG_UNITS.get(unit.lower() if unit != "M" else unit)
        total += float(number) * factor if factor is not None else parse_seconds(f"{number}{unit}")
    return total


def _name(service: Unit, machine: Machine, job_id: str) -> str:
    description = service.last("Unit", "Description") or job_id
    try:
        return _specified(description, machine, service)[:100]
    except UsageError:
        return description[:100]


def _schedules(
    timer: Unit, machine: Machine, zone_name: str, now: datetime, policy: dict[str, Any], notes: list[str]
) -> list[_Begins]:
    """Return the starts of a timer. Adds to `policy` and `notes`."""
    for key in (*_NO_TIMER, *_CHANGES):
        value = timer.last("Timer", key)
        if value is not None and (key in _NO_TIMER or timer.flag("Timer", key, default=False)):
            raise UsageError(f"{key}={value} has no counterpart", hint="add a job with `chronos job add`")
    found: list[_Begins] = []
    for written in timer.all("Timer", "OnCalendar"):
        event = _specified(written, machine, timer)
        text, zone_of = from_event(event)
        named = zone_of or zone_name
        schedule = parse_schedule(text, now=now, zone=named_zone(named))
        found.append(_Begins(schedule=schedule, zone_name=named, written=event, of_machine=zone_of is None))
    if not timer.flag("Timer", "Persistent", default=False):
        # A time that passed while the machine was off is not made up for.
        accuracy = seconds_of(timer.last("Timer", "AccuracySec") or f"{_ACCURACY_S}")
        policy["grace"] = max(_ACCURACY_S, int(accuracy))
    found += _rate(timer, zone_name, notes)
    if not found:
        raise UsageError("it has neither OnCalendar nor OnUnitActiveSec", hint="put the timer right")
    delay = int(seconds_of(timer.last("Timer", "RandomizedDelaySec") or "0"))
    if delay:
        policy["jitter"] = delay
        if not timer.flag("Timer", "FixedRandomDelay", default=False):
            notes.append("RandomizedDelaySec becomes a delay that is the same each time, as with FixedRandomDelay")
    return found


def _rate(timer: Unit, zone_name: str, notes: list[str]) -> list[_Begins]:
    """Return the interval of a timer that goes by its last start, if it does. Raises UsageError."""
    every = timer.last("Timer", "OnUnitActiveSec")
    first = next((key for key in _STARTS_ONLY if timer.last("Timer", key)), None)
    if every is None:
        if first is not None:
            raise UsageError(f"{first} is a start, once, of the machine or the timer", hint="keep it there")
        return []
    span = seconds_of(every)
    if span < 1 or span != int(span):
        raise UsageError(f"OnUnitActiveSec={every} is no whole number of seconds", hint="use whole seconds")
    if first is not None:
        notes.append(f"{first} is left out: it begins {format_duration(int(span))} after the import")
    return [_Begins(schedule=Interval(seconds=int(span)), zone_name=zone_name, written=every, of_calendar=False)]


def _conditions(timer: Unit, service: Unit) -> None:
    """Raise UsageError where a file or a user decides whether it runs; what a machine must be is noted by its name."""
    for key in sorted(timer.keys("Unit") | service.keys("Unit")):
        if key.startswith(("Condition", "Assert")) and key.removeprefix("Condition") not in _OF_MACHINES:
            raise UsageError(f"{key} decides whether it runs", hint="put what it does into the command")


def _elsewhere(service: Unit) -> frozenset[str]:
    """Return the handled keys whose value sends output elsewhere, changes the group, or keeps it from running again."""
    places = ("file", "append", "truncate", "socket", "tty", "fd")
    outputs = ("StandardOutput", "StandardError")
    found = {key for key in outputs if (service.last("Service", key) or "").partition(":")[0] in places}
    return frozenset(
        found | {key for key in ("Group", "RemainAfterExit") if service.last("Service", key) not in (None, "no")}
    )


def _environment(service: Unit, machine: Machine, notes: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in service.all("Service", "Environment"):
        for word in words_of(line, lambda text: _specified(text, machine, service)):
            name, equals, value = word.partition("=")
            if not equals or not name:
                notes.append(f"Environment: '{name}' has no value and is left out")
                continue
            found[name] = value
    return found


def _files(service: Unit, machine: Machine) -> tuple[str, ...]:
    """Return the files of variables, a dash before one that need not be there. Raises UsageError."""
    found = []
    for line in service.all("Service", "EnvironmentFile"):
        path = _specified(line, machine, service)
        bare = path.removeprefix("-")
        if not bare.startswith("/") or any(letter in bare for letter in "*?["):
            raise UsageError(f"EnvironmentFile={line} is not the whole path of one file", hint="name each file")
        found.append(path)
    return tuple(found)


def _below_files(env: Mapping[str, str], files: tuple[str, ...], notes: list[str]) -> dict[str, str]:
    """Return the variables of Environment that no file sets: systemd prefers a file's, chronos would prefer these."""
    if not files or not env:
        return dict(env)
    from chronos_cli.running.env_file import read_env_file

    named: set[str] = set()
    for path in files:
        try:
            named |= read_env_file(Path(path.removeprefix("-")).read_text(encoding="utf-8", errors="replace")).keys()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            notes.append(f"{path} cannot be read now ({why}): what it sets besides Environment counts for less here")
    if both := sorted(named & env.keys()):
        notes.append(f"Environment is left out where EnvironmentFile sets the same: {', '.join(both)}")
    return {name: value for name, value in env.items() if name not in named}


def _specified(text: str, machine: Machine, unit: Unit) -> str:
    """Return the text with its specifiers (`%h`) replaced. Raises UsageError for one that is not known here."""
    stem = unit.name.rpartition(".")[0]
    prefix, _, instance = stem.partition("@")
    final = prefix.rpartition("-")[2]
    known = {"%": "%", "h": machine.folder, "u": machine.user, "n": unit.name, "N": stem, "p": prefix, "i": instance,
             "j": final, "P": unescaped(prefix), "I": unescaped(instance), "J": unescaped(final),
             "U": str(os.geteuid())}  # fmt: skip

    def one(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise UsageError(f"the specifier %{match[1]} is not known here", hint="write its value")
        return known[match[1]]

    return re.sub(r"%(.)", one, text)


def _action(service: Unit, env: Mapping[str, str], machine: Machine, files: tuple[str, ...]) -> dict[str, Any]:
    kind = service.last("Service", "Type") or "simple"
    if kind not in _TYPES:
        raise UsageError(f"a service of Type={kind} does not end with its program", hint="use oneshot or exec")
    user = service.last("Service", "User")
    if user not in (None, machine.user, str(os.geteuid())):
        raise UsageError(f"it runs as {user}, and this is {machine.user}", hint="import it as that user")
    for key in _NO_SERVICE:
        if service.last("Service", key) is not None:
            raise UsageError(f"{key} has no counterpart", hint="put what it does into the command")
    if service.last("Service", "Restart") not in (None, "no"):
        raise UsageError("Restart starts it again by itself", hint="use --retries with `chronos job add`")
    if service.last("Service", "StandardInput") not in (None, "null"):
        raise UsageError("StandardInput has no counterpart", hint="put what it reads into the command")
    lines = [one for line in service.all("Service", "ExecStart") for one in commands_of(line)]
    if not lines or (len(lines) > 1 and kind != "oneshot"):
        raise UsageError(f"it has {len(lines) or 'no'} ExecStart", hint="put the service right")
    if files and (named := next((match[0] for match in map(_VARIABLE_THERE.search, lines) if match), None)):
        raise UsageError(
            f"ExecStart has {named}, which an EnvironmentFile may set when it starts", hint="write sh -c '...' there"
        )
    own = {"HOME": machine.folder, "USER": machine.user, "LOGNAME": machine.user}
    commands = [_command(line, own | dict(env), machine, service) for line in lines]
    if len(commands) == 1 and not commands[0][1]:
        return {"command": commands[0][0]}
    # The next starts where the one before went well, or began with a dash.
    texts = [f"{{ {shlex.join(words)} || true; }}" if ignored else shlex.join(words) for words, ignored in commands]
    return {"shell": " && ".join(texts)}


def _command(line: str, env: Mapping[str, str], machine: Machine, service: Unit) -> tuple[list[str], bool]:
    """Return the words of a command line, and whether its failure counts for nothing."""
    body = line.lstrip("@-:+!|")
    prefix = line[: len(line) - len(body)]
    if set(prefix) - {"-"}:
        raise UsageError(f"ExecStart begins with '{prefix}', which has no counterpart", hint="leave it out")
    words: list[str] = []
    for word in words_of(body, lambda text: _specified(text, machine, service)):
        bare = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word)
        if bare:
            words += env.get(bare[1], "").split()  # a variable that is a whole word is split at its blanks
        else:
            words.append(_VARIABLE.sub(lambda match: "$" if match[1] is None else env.get(match[1], ""), word))
    if not words:
        raise UsageError("ExecStart has no program", hint="put the service right")
    return words, bool(prefix)


def _limits(service: Unit, policy: dict[str, Any], notes: list[str]) -> None:
    oneshot = (service.last("Service", "Type") or "simple") == "oneshot"
    keys = ("TimeoutStartSec", "TimeoutSec") if oneshot else ("RuntimeMaxSec",)
    for key in keys:
        value = service.last("Service", key)
        if value is not None and value != "infinity" and seconds_of(value):
            policy["timeout"] = max(1, int(seconds_of(value)))
            return
    notes.append(NO_LIMIT)


def _folder(service: Unit, machine: Machine, begins_in: str) -> str:
    given = service.last("Service", "WorkingDirectory")
    if given is None:
        return begins_in
    folder = _specified(given.removeprefix("-"), machine, service)
    if folder != "~" and not folder.startswith("/"):
        raise UsageError(f"WorkingDirectory={given} is no whole path", hint="name the folder in full")
    return machine.folder if folder == "~" else folder
