"""A crontab brought into the store: each line is one job, the same one at every import.

A line is known by its command and its place among the lines with the same command, within its source. Jobs of the first
way of importing, which were known by a hash of everything, are found by their command and taken over.
"""

from __future__ import annotations

import hashlib
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.job import ours_of
from chronos_cli.core.schedule import Cron, normal_form
from chronos_cli.frozen import replace
from chronos_cli.operations.foreign.crontab_export import written
from chronos_cli.operations.foreign.crontab_lines import command_and_input
from chronos_cli.operations.foreign.their_times import debians_times
from chronos_cli.operations.foreign.upsert import ForeignJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import tzinfo

    from chronos_cli.operations.foreign.crontab import Crontab, CrontabLine

_NAME_LENGTH: Final = 48
_FIRST_ID: Final = re.compile(r"cron-[0-9a-f]{8}\Z")


_Run = tuple[object, object]


def settled(arriving: tuple[ForeignJob, ...], stored: Mapping[str, Mapping[str, Any]]) -> tuple[ForeignJob, ...]:
    """Return the jobs with the keys of those that they are. `stored`: the records of the same source by their keys.

    Of equal lines the one with a stored job's times is that job, and only the others go by their place: a line that is
    taken out from among its equals leaves those alone.
    """
    groups: dict[_Run, list[ForeignJob]] = {}
    for job in arriving:
        groups.setdefault(_run_of(job.action), []).append(job)
    own = {job.key: run for run, group in groups.items() for job in group}
    there: dict[_Run, list[str]] = {}
    for key, record in stored.items():
        action = ours_of(record).get("action")
        run = _run_of(action) if isinstance(action, dict) else None
        if run is not None and own.get(key, run) == run:  # one that was edited here is still known by its place
            there.setdefault(run, []).append(key)
    keys: dict[str, str] = {}
    for run, group in groups.items():
        free: dict[tuple[object, object], list[str]] = {}
        for key in there.get(run, ()):
            free.setdefault((_expression(stored[key]), ours_of(stored[key]).get("timezone")), []).append(key)
        others = []
        for job in group:
            if same := free.get((normal_form(job.schedule, job.zone), job.zone_name)):
                keys[job.key] = same.pop(0)
            else:
                others.append(job)
        left = {key: None for same in free.values() for key in same}
        left |= {job.key: None for job in group if job.key not in there.get(run, ())}
        for job in sorted(others, key=lambda job: job.key not in left):
            taken = job.key if job.key in left else next(iter(left))
            del left[taken]
            keys[job.key] = taken
    return tuple(replace(job, key=keys[job.key], job_id=keys[job.key]) for job in arriving)


def _run_of(action: Mapping[str, Any]) -> _Run:
    """Return the shell text and standard input of an action, which are a line's command in any shell."""
    given = action.get("shell") or action.get("command")
    return (given[2] if isinstance(given, list) and len(given) == 3 else str(given)), action.get("stdin")


def jobs_of(
    tables: Iterable[tuple[str, Crontab]], *, source: str, cron_zone: tzinfo
) -> tuple[tuple[ForeignJob, ...], FirstWay | None]:
    """Return the jobs of the crontabs of a source, and the way in which they came in first.

    `tables`: each with the name of its file where a folder of them is read. `cron_zone` is cron's own zone here.
    """
    jobs: list[ForeignJob] = []
    commands: dict[str, str] = {}
    counts: dict[str, int] = {}
    for name, table in tables:
        for key, line in _keyed(table.entries, source, counts):
            jobs.append(_as_job(key, line, cron_zone, table.refused, name))
            commands[key] = line.text.strip()
    return tuple(jobs), FirstWay(commands) if source == "crontab" else None


def _keyed(entries: tuple[CrontabLine, ...], source: str, counts: dict[str, int]) -> Iterator[tuple[str, CrontabLine]]:
    """Yield each entry with its key: source, command, and place among equals, which `counts` keeps."""
    for entry in entries:
        command = entry.text.strip()
        place = counts[command] = counts.get(command, -1) + 1
        digest = hashlib.sha256("\0".join((source, command, str(place))).encode("utf-8", "surrogateescape")).hexdigest()
        yield f"cron-{digest[:12]}", entry


def _as_job(key: str, line: CrontabLine, cron_zone: tzinfo, refused: str | None, file: str) -> ForeignJob:
    text = line.text.strip()
    theirs = None
    if isinstance(line.cron, Cron) and refused is None:
        theirs = partial(debians_times, line.cron.fields(), zone=cron_zone)
    plain = written(*command_and_input(text)) == text
    return ForeignJob(
        where=f"{file}{': ' if file else ''}line {line.line} of the crontab",
        file=file,
        key=key,
        job_id=key,
        name=_name(line),
        schedule=line.schedule,
        zone=line.zone,
        zone_name=line.zone_name,
        action=line.action,
        env=line.env,
        workdir=line.workdir,
        kept={} if plain else {"written": text},
        line=line.line,
        theirs=theirs,
        untold=refused or "cannot read it",
    )


def _name(entry: CrontabLine) -> str:
    name = " ".join(entry.text.split())
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."


class FirstWay:
    """The first way of importing a crontab. `commands`: the command of each line, by its key."""

    def __init__(self, commands: Mapping[str, str]) -> None:
        self._commands = commands

    def made(self, job_id: str) -> bool:
        """Return True for an id that it may have given."""
        return _FIRST_ID.match(job_id) is not None

    def job_of(self, records: Mapping[str, Mapping[str, Any]], job: ForeignJob) -> str | None:
        """Return the id of the line's job, that of the same schedule first where several run its command."""
        same = [job_id for job_id, record in records.items() if _ran(record, self._commands[job.key])]
        schedule = normal_form(job.schedule, job.zone)
        return min(same, key=lambda job_id: _expression(records[job_id]) != schedule, default=None)


def _expression(record: Mapping[str, Any]) -> object:
    schedule = record.get("schedule")
    return schedule.get("expr") if isinstance(schedule, dict) else None


def _ran(record: Mapping[str, Any], command: str) -> bool:
    """Return True where a job of the first way runs this command, under any settings."""
    action = ours_of(record).get("action")
    if not isinstance(action, dict):
        return False
    text, _ = _run_of(action)
    before = _first_form(command)
    return isinstance(text, str) and (text == before or (text.startswith("export ") and text.endswith(f"; {before}")))


def _first_form(command: str) -> str:
    """Return the shell text that the first way of importing made of a command."""
    parts = [part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", command)]
    if len(parts) == 1:
        return parts[0]
    lines = "\n".join(parts[1:])
    return f"{{ {parts[0].strip()}\n}} <<'CHRONOS_STDIN'\n{lines}\nCHRONOS_STDIN"
