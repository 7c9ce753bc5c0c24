"""A crontab brought into the store, again and again: each line is one job, the same one at every import.

A line is known by its command and its place among the lines with the same command, within its source. What changed in
a line changes its job; a job whose line is gone is named, and removed where that is asked for. Jobs of the first way of
importing, which were known by a hash of everything, are found by their command and taken over.
"""

from __future__ import annotations

import hashlib
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core import edits
from chronos_cli.core.instant import whole
from chronos_cli.core.job import ours_of, parse_job
from chronos_cli.core.schedule import Timetable, normal_form
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.frozen import frozen
from chronos_cli.operations.jobs.edit import without_token
from chronos_cli.operations.jobs.transfer import ImportItem, ImportVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, tzinfo

    from chronos_cli.operations.context import Context
    from chronos_cli.operations.foreign.crontab import Crontab, CrontabLine
    from chronos_cli.store.jobsfile import JobsFile

_NAME_LENGTH: Final = 48
_FIRST_ID: Final = re.compile(r"cron-[0-9a-f]{8}\Z")


@frozen
class LinePlan:
    """The fate of one line, or of a job whose line is gone (`line` None).

    `next`: its next two times here; `cron_next`: those at which Debian's cron would run the line.
    """

    item: ImportItem
    line: int | None
    zone_name: str
    next: tuple[datetime, ...] = ()
    cron_next: tuple[datetime, ...] = ()


def import_crontab(
    ctx: Context, table: Crontab, *, source: str, cron_zone: tzinfo, prune: bool, dry_run: bool
) -> list[LinePlan]:
    """Bring the store to a crontab, in one change. `cron_zone` is the zone in which cron runs here.

    Raises UsageError naming a job that cannot be changed. `dry_run`: the same plan, nothing written.
    """
    token = ctx.token()

    def once(jobs: JobsFile) -> list[LinePlan]:
        known = _Known(jobs, source)
        now = ctx.clock()
        plan = []
        for key, entry in _keyed(table.entries, source):
            item = _bring(ctx, jobs, known.job_of(key, entry), key, entry, source, now=now, token=token)
            plan.append(_planned(item, entry, cron_zone, now))
        for job_id, name in known.left():
            item = ImportItem(
                verdict=ImportVerdict.REMOVE if prune else ImportVerdict.GONE, job_id=job_id, name=name, schedule=""
            )
            plan.append(LinePlan(item=item, line=None, zone_name=""))
            if prune:
                jobs.remove(job_id)
        return plan

    return once(ctx.repository.jobs()) if dry_run else ctx.repository.change(once)


def _keyed(entries: tuple[CrontabLine, ...], source: str) -> Iterator[tuple[str, CrontabLine]]:
    """Each entry with its key: source, command, and place among equals."""
    counts: dict[str, int] = {}
    for entry in entries:
        command = entry.text.strip()
        place = counts[command] = counts.get(command, -1) + 1
        digest = hashlib.sha256("\0".join((source, command, str(place))).encode()).hexdigest()
        yield f"cron-{digest[:12]}", entry


class _Known:
    """The jobs of a store that an import of this source made, and which of them no line has claimed yet."""

    def __init__(self, jobs: JobsFile, source: str) -> None:
        self._by_key: dict[str, str] = {}
        self._first: dict[str, dict[str, Any]] = {}
        self._names: dict[str, str] = {}
        for stored in jobs.records:
            record = stored.value
            if stored.id is None or not isinstance(record, dict):
                continue
            imported = ours_of(record).get("imported")
            if isinstance(imported, dict) and imported.get("source") == source:
                self._by_key[str(imported.get("line"))] = stored.id
            elif imported is None and source == "crontab" and _FIRST_ID.match(stored.id):
                self._first[stored.id] = record
            else:
                continue
            self._names[stored.id] = str(record.get("name") or stored.id)

    def job_of(self, key: str, entry: CrontabLine) -> str | None:
        """The id of the line's job, claimed by asking; None for a line that has none yet."""
        found = self._by_key.pop(key, None) or self._first_of(entry)
        if found is not None:
            self._names.pop(found, None)
        return found

    def _first_of(self, entry: CrontabLine) -> str | None:
        same = [job_id for job_id, record in self._first.items() if _ran(record, entry)]
        schedule = normal_form(entry.schedule, entry.zone)
        same.sort(key=lambda job_id: _expression(self._first[job_id]) != schedule)
        if not same:
            return None
        del self._first[same[0]]
        return same[0]

    def left(self) -> list[tuple[str, str]]:
        """The ids and names of the jobs that no line claimed."""
        return sorted(self._names.items())


def _expression(record: dict[str, Any]) -> object:
    schedule = record.get("schedule")
    return schedule.get("expr") if isinstance(schedule, dict) else None


def _ran(record: dict[str, Any], entry: CrontabLine) -> bool:
    """Say if a job of the first way of importing runs this entry's command, whatever the settings were then."""
    action = ours_of(record).get("action")
    if not isinstance(action, dict):
        return False
    given = action.get("shell") or action.get("command")
    text = given[2] if isinstance(given, list) and len(given) == 3 else given
    before = _first_form(entry.text.strip())
    return isinstance(text, str) and (text == before or (text.startswith("export ") and text.endswith(f"; {before}")))


def _first_form(command: str) -> str:
    """The shell text that the first way of importing made of a command."""
    parts = [part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", command)]
    if len(parts) == 1:
        return parts[0]
    lines = "\n".join(parts[1:])
    return f"{{ {parts[0].strip()}\n}} <<'CHRONOS_STDIN'\n{lines}\nCHRONOS_STDIN"


def _bring(
    ctx: Context,
    jobs: JobsFile,
    job_id: str | None,
    key: str,
    entry: CrontabLine,
    source: str,
    *,
    now: datetime,
    token: str,
) -> ImportItem:
    fields = {"workdir": entry.workdir}
    extras = {"env": entry.env, "imported": {"source": source, "line": key}}
    existing = None if job_id is None else jobs.get(job_id)
    name = _name(entry)
    try:
        if existing is None:
            draft = edits.JobDraft(
                job_id=key,
                name=name,
                schedule=entry.schedule,
                zone=entry.zone,
                zone_name=entry.zone_name,
                policy=ctx.home.policy,
                action=entry.action,
                fields=fields,
                extras=extras,
            )
            jobs.add(edits.new_record(draft, now=now, token=token, defaults=ctx.home.policy))
            verdict = ImportVerdict.ADD
        elif ours_of(existing).get("change") == token:
            verdict = ImportVerdict.ADD  # our own write, whose answer was lost
        else:
            job = parse_job(existing, ctx.home)
            name = job.name
            change = edits.Edit(
                schedule=entry.schedule,
                zone=entry.zone,
                zone_name=entry.zone_name,
                action=entry.action,
                fields=fields,
                extras=extras,
            )
            after = edits.edited(job, change, now=now, token=token, defaults=ctx.home.policy)
            verdict = ImportVerdict.KEEP if without_token(after) == without_token(existing) else ImportVerdict.CHANGE
            if verdict is ImportVerdict.CHANGE:
                jobs.put(job.id, after)
    except ChronosError as error:
        raise UsageError(f"line {entry.line} of the crontab: {error.message}", hint=error.hint) from error
    return ImportItem(
        verdict=verdict, job_id=job_id or key, name=name, schedule=normal_form(entry.schedule, entry.zone)
    )


def _name(entry: CrontabLine) -> str:
    name = " ".join(entry.text.split())
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}..."


def _planned(item: ImportItem, entry: CrontabLine, cron_zone: tzinfo, now: datetime) -> LinePlan:
    here = Timetable(schedule=entry.schedule, zone=entry.zone, anchor=whole(now))
    there = None if entry.cron is None else Timetable(schedule=entry.cron, zone=cron_zone, anchor=whole(now))
    return LinePlan(
        item=item,
        line=entry.line,
        zone_name=entry.zone_name,
        next=tuple(islice(here.walk(now), 2)),
        cron_next=() if there is None else tuple(islice(there.walk(now), 2)),
    )
