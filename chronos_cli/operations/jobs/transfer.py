"""Jobs on the move: out as one document, in from a document, a crontab or another home. Coming in is an upsert.

A job that is new here keeps what it knows of its past (what was claimed, how often it ran), so that nothing runs twice;
its next time is the first of its schedule still ahead. One that is here already is edited: only what defines it is
compared, and importing the same again changes nothing.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import is_job_id
from chronos_cli.core import edits
from chronos_cli.core.claim import successor
from chronos_cli.core.clock import doubt_about
from chronos_cli.core.instant import text_in
from chronos_cli.core.job import OURS, Standing, ours_of, parse_job
from chronos_cli.core.policy import Policy
from chronos_cli.core.record_action import action_kind
from chronos_cli.core.record_changes import record_changes
from chronos_cli.core.schedule import normal_form
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.frozen import frozen, names, replace
from chronos_cli.operations.evaluate import mend_of_entry, read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from chronos_cli.core.clock import TimeDoubt
    from chronos_cli.core.job import HomeDefaults, Job
    from chronos_cli.core.record_changes import FieldChange
    from chronos_cli.operations.context import Context
    from chronos_cli.store.jobsfile import JobsFile

SCHEMA: Final = "chronos.export/1"

_RUNTIME: Final = ("fire_claim", "run_claim")
_OUR_RUNTIME: Final = ("open", "change")
_FIELDS: Final = ("prompt", "skills", "skill", "model", "provider", "base_url", "script", "no_agent", "context_from",
                  "deliver", "enabled_toolsets", "workdir")  # fmt: skip

_OUR_KEYS: Final = ("timezone", "policy", "action", "env", "env_file", "labels", "set", "imported", "anchor",
                    "claimed_through", "leapt_from", "aligned", "open", "failures", "change",
                    "completed_at")  # fmt: skip
_ACTION_KEYS: Final = ("command", "shell", "http", "stdin")
_HTTP_KEYS: Final = ("url", "method", "headers", "body", "body_from")
_KNOWN: Final = frozenset((*_FIELDS, *_RUNTIME, OURS, "id", "name", "schedule", "schedule_display", "repeat", "enabled",
                           "state", "paused_at", "paused_reason", "created_at", "next_run_at", "last_run_at",
                           "last_status", "last_error", "last_delivery_error", "provider_snapshot", "model_snapshot",
                           "origin"))  # fmt: skip


class ImportVerdict(StrEnum):
    """The actions of an import for one job."""

    ADD = "add"
    CHANGE = "change"
    KEEP = "keep"
    GONE = "gone"
    REMOVE = "remove"


@frozen
class ImportItem:
    """One job of an import; `changes`: every field that differs, `record`: the job afterwards, if it stays."""

    verdict: ImportVerdict
    job_id: str
    name: str
    schedule: str
    doubt: TimeDoubt | None = None
    changes: tuple[FieldChange, ...] = ()
    record: Mapping[str, Any] | None = None


@frozen
class ExportResult:
    """The document, and the records that could not go into it, each with its reason."""

    document: dict[str, Any]
    left_out: Mapping[str, str]


def export(ctx: Context, only: frozenset[str] | None = None) -> ExportResult:
    """Return jobs (all, or `only` these) as one document that `import_jobs` reads."""
    jobs = ctx.repository.jobs()
    found, left_out = records_of(jobs, ctx, only)
    mends = {record.id or record.number: mend_of_entry(record) for record in jobs.records if left_out}
    left_out = {name: f"{why}; {mends[name]}" for name, why in left_out.items()}
    at = ctx.clock().isoformat(timespec="seconds")
    return ExportResult(document={"schema": SCHEMA, "exported_at": at, "jobs": found}, left_out=left_out)


def records_of(
    jobs: JobsFile, ctx: Context, only: frozenset[str] | None = None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the records of a store without their open runs, each naming its zone; and why others are left out."""
    found, left_out = [], {}
    for record in jobs.records:
        if only is not None and record.id not in only:
            continue
        job, problem = read_record(ctx, record)
        if job is None:
            left_out[record.id or record.number] = problem or "it cannot be read"
            continue
        value = {key: item for key, item in record.value.items() if key not in _RUNTIME}
        ours = {key: item for key, item in ours_of(value).items() if key not in _OUR_RUNTIME}
        found.append(value | {OURS: ours | {"timezone": job.zone_name}})
    return found, left_out


def doubts_about(jobs: JobsFile, ctx: Context) -> dict[str, TimeDoubt]:
    """Return the doubts about the times of another home's jobs, by id: the exported records no longer tell them."""
    now = ctx.clock()
    read = (read_record(ctx, record)[0] for record in jobs.records)
    found = {job.id: doubt_about(job, now, paused=True) for job in read if job is not None}
    return {job_id: doubt for job_id, doubt in found.items() if doubt is not None}


def records_in(document: object) -> list[dict[str, Any]]:
    """Return the records of an exported document, or of a jobs.json. Raises UsageError for anything else."""
    jobs = document.get("jobs") if isinstance(document, dict) else document
    if not isinstance(jobs, list) or not all(isinstance(item, dict) for item in jobs):
        raise UsageError("the document has no list of jobs", hint="give what `chronos job export` wrote")
    for item in jobs:
        if not is_job_id(item.get("id")):
            raise UsageError(f"'{str(item.get('id'))[:40]}' cannot be a job id", hint="put that record right")
        _refuse_unknown(item)
    return jobs


def _refuse_unknown(record: Mapping[str, Any]) -> None:
    """Refuse a key of ours that is not known. Raises UsageError with the nearest.

    Other keys of a record are its program's and are kept, but for one that is a known key misspelled.
    """
    import difflib

    ours = ours_of(record)
    policy, action = ours.get("policy"), ours.get("action")
    http = action.get("http") if isinstance(action, dict) else None
    places: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
        ("chronos", ours, _OUR_KEYS),
        ("chronos.policy", policy if isinstance(policy, dict) else {}, names(Policy())),
        ("chronos.action", action if isinstance(action, dict) else {}, _ACTION_KEYS),
        ("chronos.action.http", http if isinstance(http, dict) else {}, _HTTP_KEYS),
    )
    for place, found, known in places:
        for key in found:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
                other = difflib.get_close_matches(str(key), names(Policy()), n=1, cutoff=0.6) if not near else []
                meant = f"did you mean '{near[0]}'?" if near else f"did you mean 'policy.{other[0]}'?" if other else ""
                hint = meant or f"it may have {', '.join(known)}"
                raise UsageError(f"job {record['id']}: {place} has no key '{str(key)[:60]}'", hint=hint)
    for key in record.keys() - _KNOWN:
        near = difflib.get_close_matches(str(key), _KNOWN, n=1, cutoff=0.85)
        if near and near[0] not in record:
            hint = f"did you mean '{near[0]}'?"
            raise UsageError(f"job {record['id']}: a record has no key '{str(key)[:60]}'", hint=hint)


def import_jobs(
    ctx: Context,
    records: Iterable[Mapping[str, Any]],
    *,
    dry_run: bool,
    doubts: Mapping[str, TimeDoubt] = MappingProxyType({}),
) -> list[ImportItem]:
    """Import records, all in one change or not at all. Raises UsageError naming a job that cannot come in.

    `dry_run`: the same plan, nothing written. `doubts`: those about jobs where they come from, by their ids.
    """
    token = ctx.token()
    incoming = [dict(record) for record in records]

    def once(jobs: JobsFile) -> list[ImportItem]:
        now = ctx.clock()
        items = [_import_one(jobs, record, ctx.home, now=now, token=token) for record in incoming]
        return [replace(item, doubt=item.doubt or doubts.get(item.job_id)) for item in items] if doubts else items

    return once(ctx.repository.jobs()) if dry_run else ctx.repository.change(once)


def _import_one(
    jobs: JobsFile, incoming: dict[str, Any], home: HomeDefaults, *, now: datetime, token: str
) -> ImportItem:
    job_id = str(incoming["id"])
    changes: tuple[FieldChange, ...] = ()
    try:
        arriving = parse_job(incoming, home)
        if action_kind(incoming) == "none":
            raise UsageError("it has nothing to run", hint="give it a prompt, a script or an action")
        existing = jobs.get(job_id)
        if existing is None:
            verdict = ImportVerdict.ADD
            jobs.add(_new_record_from(arriving, now=now, token=token))
        elif ours_of(existing).get("change") == token:
            verdict = ImportVerdict.ADD  # our own write, whose answer was lost
        else:
            after = edits.edited(
                parse_job(existing, home), _edit_to(arriving), now=now, token=token, defaults=home.policy
            )
            changes = record_changes(existing, after, home)
            verdict = ImportVerdict.CHANGE if changes else ImportVerdict.KEEP
            if changes:
                jobs.put(job_id, after)
    except ChronosError as error:
        raise UsageError(f"job {job_id} cannot be imported: {error.message}", hint=error.hint) from error
    schedule = normal_form(arriving.timetable.schedule, arriving.timetable.zone)
    return ImportItem(
        verdict=verdict,
        job_id=job_id,
        name=arriving.name,
        schedule=schedule,
        doubt=doubt_about(arriving, now, paused=True),
        changes=changes,
        record=jobs.get(job_id),
    )


def _new_record_from(job: Job, *, now: datetime, token: str) -> dict[str, Any]:
    """Return the record of a job that is new to this store."""
    record = {key: value for key, value in job.record.items() if key not in _RUNTIME}
    ours = {key: value for key, value in ours_of(record).items() if key not in _OUR_RUNTIME}
    ours |= {"timezone": job.zone_name, "change": token}
    if job.standing is Standing.LIVE and not job.once and (job.cursor is None or job.cursor <= now):
        following = successor(job, job.claimed_through, now)
        record["next_run_at"] = None if following is None else text_in(following, job.timetable.zone)
    return record | {OURS: ours}


def _edit_to(job: Job) -> edits.Edit:
    """Return the edit that brings a job of this store to an arriving one."""
    action = ours_of(job.record).get("action")
    return edits.Edit(
        name=job.name,
        schedule=job.timetable.schedule,
        zone=job.timetable.zone,
        zone_name=job.zone_name,
        policy=job.policy,
        action=action if isinstance(action, dict) else None,
        fields={key: job.record[key] for key in _FIELDS if key in job.record},
        times=0 if job.times is None else job.times,
        extras={key: ours_of(job.record).get(key) for key in ("env", "env_file", "imported", "labels")},
    )
