"""Jobs of another scheduler brought into the store, again and again: the same one of theirs is the same one here.

A job is known by its key within its source. What changed there changes it here, and nothing else of it; one that is
gone there is named, and removed where that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from chronos_cli.core import edits
from chronos_cli.core.instant import whole
from chronos_cli.core.job import Standing, ours_of, parse_job
from chronos_cli.core.record_changes import record_changes
from chronos_cli.core.schedule import Timetable, normal_form
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.frozen import field, frozen, replace
from chronos_cli.operations.jobs.transfer import ImportItem, ImportVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime, tzinfo

    from chronos_cli.core.job import Job
    from chronos_cli.core.record_changes import FieldChange
    from chronos_cli.core.schedule import Schedule
    from chronos_cli.operations.context import Context
    from chronos_cli.store.jobsfile import JobsFile

SUSPENDED: Final = "it is suspended where it came from"


@frozen
class ForeignJob:
    """One job of another scheduler, in our words.

    `where` names it in messages, `key` is its identity within its source, `job_id` its id when it is new. `policy`:
    the fields of a Policy that the source states. `kept`: what going back needs. `paused` None: the source has no such
    state. `theirs`: the other program's own times later than an instant; None where there are none, as `untold` says.
    """

    where: str
    key: str
    job_id: str
    name: str
    schedule: Schedule
    zone: tzinfo
    zone_name: str
    action: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=dict)
    env_file: tuple[str, ...] | None = None
    """Paths of files of variables; None where the source has no such thing, and what a job has of it stays."""
    workdir: str | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    paused: bool | None = None
    file: str = ""
    """The name of its file, where a whole folder is read."""
    line: int | None = None
    theirs: Callable[[datetime], Iterator[datetime]] | None = None
    untold: str = "cannot read it"


@frozen
class ForeignJobs:
    """The result of reading another scheduler's files: jobs, what is left out with its reason, and notes."""

    jobs: tuple[ForeignJob, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    refused: frozenset[str] = frozenset()
    """The keys of those that are there and are left out, so that what is stored of them is not gone."""


class EarlierWay(Protocol):
    """An earlier way of importing the same source: which jobs it made, and which of them is a given one."""

    def made(self, job_id: str) -> bool:
        """Return True for the id of a job that it may have made."""

    def job_of(self, records: Mapping[str, Mapping[str, Any]], job: ForeignJob) -> str | None:
        """Return the id of the job that it made of this one, None where there is none."""


NO_LIMIT: Final = (
    "its runs have no time limit there, and end here by the home's timeout: `job edit --timeout` sets another"
)
"""The note on a job of which the other scheduler ends no run."""

Settle = Callable[[tuple[ForeignJob, ...], Mapping[str, Mapping[str, Any]]], tuple[ForeignJob, ...]]
"""Gives jobs the keys of the stored ones that they are; those are records by their keys."""


def _none(_: str) -> bool:
    return False


@frozen
class ForeignSource:
    """The jobs of one source, and the name that they are known by.

    `earlier`: knows the jobs that an earlier way of importing made of it. `settle`: decides which stored ones they are,
    where their own keys do not. `still_there`: True for the key of a stored job that is not among these and not gone.
    `was`: another name that it was known by.
    """

    name: str
    was: str | None = None
    jobs: tuple[ForeignJob, ...] = ()
    earlier: EarlierWay | None = None
    settle: Settle | None = None
    still_there: Callable[[str], bool] = _none


@frozen
class ForeignPlan:
    """The fate of one job of theirs, or of a job here whose source is gone (`job` None).

    `next`: its next two times here; `their_next`: those of the other program.
    """

    item: ImportItem
    job: ForeignJob | None = None
    next: tuple[datetime, ...] = ()
    their_next: tuple[datetime, ...] = ()


def import_foreign(
    ctx: Context,
    sources: Sequence[ForeignSource],
    *,
    prune: bool,
    dry_run: bool,
    moving: bool = False,
    within: str | None = None,
) -> list[ForeignPlan]:
    """Bring the store to what another scheduler has, in one change. Raises UsageError naming a job that cannot be had.

    `moving`: they are about to be taken out of their source, so that a job is not gone when it is found there no more.
    `within`: the beginning of the names of sources that are gone where they are not among these. `dry_run`: the same
    plan, nothing written.
    """
    token = ctx.token()
    _be_different(job for source in sources for job in source.jobs)

    def once(jobs: JobsFile) -> list[ForeignPlan]:
        gone = () if within is None else _sources_in(jobs, within) - {source.name for source in sources}
        everything = (*sources, *(ForeignSource(name=name) for name in sorted(gone)))
        return [
            item
            for source in everything
            for item in _brought(ctx, jobs, source, prune=prune, moving=moving, token=token)
        ]

    return once(ctx.repository.jobs()) if dry_run else ctx.repository.change(once)


def _brought(
    ctx: Context, jobs: JobsFile, source: ForeignSource, *, prune: bool, moving: bool, token: str
) -> Iterator[ForeignPlan]:
    """Yield what becomes of each job of a source, and of each stored one that is gone from it."""
    now, earlier, arriving = ctx.clock(), source.earlier, source.jobs
    by_key, moved, before = _known(jobs, {source.name, source.was}, earlier)
    if source.settle is not None:
        arriving = source.settle(arriving, {key: jobs.get(job_id) or {} for key, job_id in by_key.items()})
    for job in arriving:
        job_id = by_key.pop(job.key, None)
        if job_id is None and earlier is not None:
            job_id = earlier.job_of(before, job)
            before.pop(job_id or "", None)
        item = _bring(ctx, jobs, job_id, job, _imported(job, source.name, moving=moving), now=now, token=token)
        yield _planned(item, job, now)
    gone = {job_id for key, job_id in by_key.items() if not source.still_there(key)}
    gone |= {job_id for job_id in before if not source.still_there("")}
    for job_id in sorted(gone - moved):
        name = str((jobs.get(job_id) or {}).get("name") or job_id)
        verdict = ImportVerdict.REMOVE if prune else ImportVerdict.GONE
        yield ForeignPlan(item=ImportItem(verdict=verdict, job_id=job_id, name=name, schedule=""))
        if prune:
            jobs.remove(job_id)


def _sources_in(jobs: JobsFile, within: str) -> set[str]:
    """Return the names of the stored jobs' sources that are this and one more word of a path."""
    found = (ours_of(stored.value).get("imported") for stored in jobs.records if isinstance(stored.value, dict))
    names = {str(imported.get("source")) for imported in found if isinstance(imported, dict)}
    return {name for name in names if name.startswith(within) and "/" not in name[len(within) :]}


def _known(
    jobs: JobsFile, names: set[str | None], earlier: EarlierWay | None
) -> tuple[dict[str, str], set[str], dict[str, Mapping[str, Any]]]:
    """Return the ids of this source's jobs by key, the ids moved here, and records of the earlier way by id."""
    by_key: dict[str, str] = {}
    moved: set[str] = set()
    before: dict[str, Mapping[str, Any]] = {}
    for stored in jobs.records:
        record = stored.value
        if stored.id is None or not isinstance(record, dict):
            continue
        imported = ours_of(record).get("imported")
        if isinstance(imported, dict) and imported.get("source") in names:
            by_key[str(imported.get("line"))] = stored.id
            if imported.get("moved") is True:
                moved.add(stored.id)
        elif imported is None and earlier is not None and earlier.made(stored.id):
            before[stored.id] = record
    return by_key, moved, before


def _be_different(arriving: Iterable[ForeignJob]) -> None:
    """Raise UsageError for two that would be one job here: the second would take the place of the first."""
    seen: dict[str, str] = {}
    for job in arriving:
        if job.job_id in seen:
            raise UsageError(
                f"{job.where} and {seen[job.job_id]} would both be the job '{job.job_id}'",
                hint="leave out one of the two",
            )
        seen[job.job_id] = job.where


def _imported(arriving: ForeignJob, source: str, *, moving: bool) -> dict[str, Any]:
    """Return what a record keeps of its source."""
    return {"source": source, "line": arriving.key, **arriving.kept} | ({"moved": True} if moving else {})


def _bring(
    ctx: Context,
    jobs: JobsFile,
    job_id: str | None,
    arriving: ForeignJob,
    imported: dict[str, Any],
    *,
    now: datetime,
    token: str,
) -> ImportItem:
    existing = jobs.get(arriving.job_id if job_id is None else job_id)
    name = arriving.name
    changes: tuple[FieldChange, ...] = ()
    try:
        if existing is None:
            jobs.add(_added(ctx, arriving, imported, now=now, token=token))
            verdict = ImportVerdict.ADD
        elif ours_of(existing).get("change") == token:
            verdict = ImportVerdict.ADD  # our own write, whose answer was lost
        elif job_id is None:
            raise UsageError(
                f"a job '{arriving.job_id}' is here already, from elsewhere", hint="rename it where it comes from"
            )
        else:
            job = parse_job(existing, ctx.home)
            name = job.name
            after = _changed(ctx, job, arriving, imported, now=now, token=token)
            changes = record_changes(existing, after, ctx.home)
            verdict = ImportVerdict.CHANGE if changes else ImportVerdict.KEEP
            if changes:
                jobs.put(job.id, after)
    except ChronosError as error:
        raise UsageError(f"{arriving.where}: {error.message}", hint=error.hint) from error
    schedule = normal_form(arriving.schedule, arriving.zone)
    job_id = job_id or arriving.job_id
    return ImportItem(
        verdict=verdict, job_id=job_id, name=name, schedule=schedule, changes=changes, record=jobs.get(job_id)
    )


def _added(
    ctx: Context, arriving: ForeignJob, imported: dict[str, Any], *, now: datetime, token: str
) -> dict[str, Any]:
    home = ctx.home
    draft = edits.JobDraft(
        job_id=arriving.job_id,
        name=arriving.name,
        schedule=arriving.schedule,
        zone=arriving.zone,
        zone_name=arriving.zone_name,
        policy=replace(home.policy, **arriving.policy),
        action=arriving.action,
        fields=_fields(arriving),
        extras=_extras(arriving, imported),
    )
    record = edits.new_record(draft, now=now, token=token, defaults=home.policy)
    if arriving.paused:
        record = edits.paused(parse_job(record, home), reason=SUSPENDED, now=now, token=token)
    return record


def _changed(
    ctx: Context, job: Job, arriving: ForeignJob, imported: dict[str, Any], *, now: datetime, token: str
) -> dict[str, Any]:
    home = ctx.home
    change = edits.Edit(
        schedule=arriving.schedule,
        zone=arriving.zone,
        zone_name=arriving.zone_name,
        policy=replace(job.policy, **arriving.policy) if arriving.policy else None,
        action=arriving.action,
        fields=_fields(arriving),
        extras=_extras(arriving, imported),
    )
    record = edits.edited(job, change, now=now, token=token, defaults=home.policy)
    if arriving.paused and job.standing is Standing.LIVE:
        return edits.paused(parse_job(record, home), reason=SUSPENDED, now=now, token=token)
    if arriving.paused is False and job.standing is Standing.PAUSED and record.get("paused_reason") == SUSPENDED:
        return edits.resumed(parse_job(record, home), now=now, token=token)
    return record


def _fields(arriving: ForeignJob) -> dict[str, Any]:
    return {} if arriving.workdir is None else {"workdir": arriving.workdir}


def _extras(arriving: ForeignJob, imported: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"env": dict(arriving.env)}
    if arriving.env_file is not None:
        own["env_file"] = list(arriving.env_file)
    return own | {"imported": imported}


def _planned(item: ImportItem, job: ForeignJob, now: datetime) -> ForeignPlan:
    here = Timetable(schedule=job.schedule, zone=job.zone, anchor=whole(now)).walk(now)
    there = () if job.theirs is None else tuple(islice(job.theirs(now), 2))
    return ForeignPlan(item=item, job=job, next=tuple(islice(here, 2)), their_next=there)
