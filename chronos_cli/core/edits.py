"""Edits of a job by a person: add, edit, pause, resume. Pure functions from record to record.

A new record has the fields of hermes-agent 0.19, in its order, so that hermes reads it as one of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.claim import right_cursor, run_id_of, successor
from chronos_cli.core.clock import Trust, may_settle
from chronos_cli.core.instant import text_in, whole
from chronos_cli.core.job import OURS, Open, OpenKind, Standing, jitter_of, ours_of
from chronos_cli.core.policy import DAY_S, Policy
from chronos_cli.core.schedule import Interval, Once, Schedule, Timetable, normal_form, shortest_gap, to_record
from chronos_cli.errors import ConflictError, UsageError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo

    from chronos_cli.core.job import Job

PAUSED_FROM_START: Final = "added paused"
PAUSED_BY_FILE: Final = "its file says so"


@frozen
class JobDraft:
    """A job as a person describes it.

    `fields` are hermes' own (`prompt`, `script`, `no_agent`, `workdir`, ...); `action` is ours, and so is what `extras`
    holds (`env`, `env_file`, `imported`, `labels`, `set`); `times` None repeats for ever; `paused`
    adds it switched off.
    """

    job_id: str
    name: str
    schedule: Schedule
    zone: tzinfo
    zone_name: str
    policy: Policy
    action: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] | None = None
    times: int | None = None
    extras: Mapping[str, Any] | None = None
    paused: bool = False


def new_record(draft: JobDraft, *, now: datetime, token: str, defaults: Policy) -> dict[str, Any]:
    """Return the record of a new job, its cursor at the first instant ahead. Raises UsageError where there is none."""
    stored = to_record(draft.schedule, draft.zone)
    ours: dict[str, Any] = {"timezone": draft.zone_name}
    if policy := draft.policy.to_record(defaults):
        ours["policy"] = policy
    if draft.action is not None:
        ours["action"] = dict(draft.action)
    ours |= {key: value for key, value in (draft.extras or {}).items() if value}
    if isinstance(draft.schedule, Interval):
        ours["anchor"] = whole(now).isoformat()
    table = Timetable(
        schedule=draft.schedule, zone=draft.zone, anchor=whole(now), offset=jitter_of(draft.job_id, draft.policy)
    )
    _check_spans(table, draft.policy, now)
    first = table.after(now)
    if first is None and isinstance(draft.schedule, Once):
        first = draft.schedule.at
    if first is None:
        raise UsageError("the schedule never comes due again", hint="give one that does")
    ours["change"] = token
    times = 1 if isinstance(draft.schedule, Once) else draft.times
    record: dict[str, Any] = {
        "id": draft.job_id,
        "name": draft.name,
        "prompt": "",
        "skills": [],
        "skill": None,
        "model": None,
        "provider": None,
        "provider_snapshot": None,
        "model_snapshot": None,
        "base_url": None,
        "script": None,
        "no_agent": draft.action is not None,
        "context_from": None,
        "schedule": stored,
        "schedule_display": stored["display"],
        "repeat": {"times": times, "completed": 0},
        "enabled": True,
        "state": "scheduled",
        "paused_at": None,
        "paused_reason": None,
        "created_at": text_in(whole(now), draft.zone),
        "next_run_at": text_in(first, draft.zone),
        "last_run_at": None,
        "last_status": None,
        "last_error": None,
        "last_delivery_error": None,
        "deliver": "local",
        "origin": None,
        "enabled_toolsets": None,
        "workdir": None,
    }
    if draft.paused:
        record |= _paused(text_in(whole(now), draft.zone), PAUSED_FROM_START)
    return record | dict(draft.fields or {}) | {OURS: ours}


def _paused(at: str, reason: str | None) -> dict[str, Any]:
    return {"enabled": False, "state": "paused", "paused_at": at, "paused_reason": reason}


@frozen
class Edit:
    """Changes to a job; None leaves a thing as it is. `times` 0 means for ever; what is empty in `extras` goes."""

    name: str | None = None
    schedule: Schedule | None = None
    zone: tzinfo | None = None
    zone_name: str | None = None
    policy: Policy | None = None
    action: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] | None = None
    times: int | None = None
    extras: Mapping[str, Any] | None = None


def edited(
    job: Job, edit: Edit, *, now: datetime, token: str, defaults: Policy, trust: Trust = Trust.ALONE
) -> dict[str, Any]:
    """Return the record after an edit.

    Only a changed schedule, zone or jitter moves the cursor, to the first instant later than now and than everything
    claimed; it starts nothing. Occurrences that were due before the edit and not claimed are entered as missed
    (skipped, of a paused job), unless only a clock whose witness was not heard says so. The count of `repeat` is kept.
    """
    record, ours = dict(job.record), ours_of(job.record)
    zone = edit.zone or job.timetable.zone
    schedule = edit.schedule or job.timetable.schedule
    policy = edit.policy or job.policy
    moved = (
        normal_form(schedule, zone) != normal_form(job.timetable.schedule, job.timetable.zone)
        or (edit.zone_name or job.zone_name) != job.zone_name
        or policy.jitter != job.policy.jitter
    )
    if edit.name is not None:
        record["name"] = edit.name
    record |= dict(edit.fields or {})
    if edit.action is not None:
        ours["action"] = dict(edit.action)
        record |= {"prompt": "", "script": None, "no_agent": True}
    elif edit.fields and "no_agent" in edit.fields:
        ours.pop("action", None)
    for key, value in (edit.extras or {}).items():
        if value:
            ours[key] = value
        else:
            ours.pop(key, None)
    if edit.policy is not None:
        ours["policy"] = policy.to_record(defaults)
    if edit.zone_name is not None:
        ours["timezone"] = edit.zone_name
    if edit.times is not None:
        record["repeat"] = {**_repeat(record), "times": edit.times or None}
    _check_unmoved(job, policy, now, moved=moved)
    if moved:
        record, ours = _moved(job, record, ours, schedule, zone, policy, now, token, trust)
    return record | {OURS: ours | {"change": token}}


def paused(job: Job, *, reason: str | None, now: datetime, token: str) -> dict[str, Any]:
    """Return the record of a paused job; a paused one stays as it is. Raises ConflictError for a completed one."""
    if job.standing is Standing.PAUSED:
        return dict(job.record)
    if job.standing is Standing.COMPLETED:
        hint = "it runs no more, paused or not; `chronos job remove` takes it out"
        raise ConflictError(f"job {job.id} is completed", hint=hint)
    at = text_in(whole(now), job.timetable.zone)
    return {**job.record, **_paused(at, reason), OURS: ours_of(job.record) | {"change": token}}


def resumed(job: Job, *, now: datetime, token: str, trust: Trust = Trust.ALONE) -> dict[str, Any]:
    """Return the record of a job whose schedule goes on at its next instant.

    What came due while it was paused is entered as skipped, one range; not so where it is long ago by a clock whose
    witness was not heard. Raises ConflictError where nothing is left to
    come: a completed job, or a one-shot whose time has passed.
    """
    if job.standing is Standing.LIVE:
        return dict(job.record)
    if job.standing is Standing.COMPLETED:
        raise ConflictError(f"job {job.id} is completed", hint="give it a new schedule with `chronos job edit`")
    ours = ours_of(job.record)
    through = job.claimed_through
    entry = _passed(job, now, token, OpenKind.SKIPPED, "the job was paused", trust)
    if entry is not None:
        through = entry.through
        ours |= _owing(job, entry)
    following = successor(job, through, now)
    if following is None:
        raise ConflictError(
            f"the time of job {job.id} passed while it was paused", hint="give it a new one with `chronos job edit`"
        )
    changes = {
        "enabled": True,
        "state": "scheduled",
        "paused_at": None,
        "paused_reason": None,
        "next_run_at": text_in(following, job.timetable.zone),
    }
    ours |= {"failures": 0, "change": token}
    return {**job.record, **changes, OURS: ours}


def _moved(
    job: Job,
    record: dict[str, Any],
    ours: dict[str, Any],
    schedule: Schedule,
    zone: tzinfo,
    policy: Policy,
    now: datetime,
    token: str,
    trust: Trust,
) -> tuple[dict[str, Any], dict[str, Any]]:
    stored = to_record(schedule, zone)
    record |= {"schedule": stored, "schedule_display": stored["display"]}
    through = job.claimed_through
    kind, because = OpenKind.SKIPPED, "the job was paused"
    if job.standing is Standing.LIVE:
        kind, because = OpenKind.MISSED, "the schedule was changed"
    entry = None if job.standing is Standing.COMPLETED else _passed(job, now, token, kind, because, trust)
    if entry is not None:
        through = entry.through
        ours |= _owing(job, entry)
    anchor = job.timetable.anchor if schedule == job.timetable.schedule else whole(now)
    if isinstance(schedule, Interval):
        ours["anchor"] = anchor.isoformat()
    table = Timetable(schedule=schedule, zone=zone, anchor=anchor, offset=jitter_of(job.id, policy))
    _check_spans(table, policy, now)
    following = table.after(now if through is None else max(now, _settled(job, through, schedule, zone, table)))
    if following is None and _same_times(job, schedule, zone):
        # A single instant that was settled is not due again for another jitter.
        spent = (
            {} if entry is None else {"next_run_at": None, "enabled": False, "last_run_at": text_in(whole(now), zone)}
        )
        return record | spent, ours
    if following is None:
        raise UsageError("the new schedule never comes due again", hint="give a time ahead")
    record["next_run_at"] = text_in(following, zone)
    if isinstance(schedule, Once):
        record["repeat"] = {"times": 1, "completed": 0}
    elif job.once:
        record["repeat"] = {"times": None, "completed": 0}
    if job.standing is Standing.COMPLETED:
        record |= {"enabled": True, "state": "scheduled"}
        ours.pop("completed_at", None)
    return record, ours


def _same_times(job: Job, schedule: Schedule, zone: tzinfo) -> bool:
    """Return whether an edit leaves the schedule itself as it is, so that only the jitter moves its instants."""
    return normal_form(schedule, zone) == normal_form(job.timetable.schedule, job.timetable.zone)


def _settled(job: Job, through: datetime, schedule: Schedule, zone: tzinfo, table: Timetable) -> datetime:
    """Return what the new instants must be later than: a slot that was claimed is not due again a little later."""
    if not _same_times(job, schedule, zone):
        return through
    return max(through, through - job.timetable.offset + table.offset)


def _passed(job: Job, now: datetime, token: str, kind: OpenKind, because: str, trust: Trust) -> Open | None:
    """Return the range of unclaimed instants from the cursor to now, as an entry whose row is owed."""
    cursor = right_cursor(job, now)
    if cursor is None or cursor > now or (job.claimed_through is not None and cursor <= job.claimed_through):
        return None
    if not may_settle(job, cursor, now, trust):
        return None
    through, count, exact = job.timetable.passed(cursor, now)
    return Open(
        run=run_id_of(cursor),
        kind=kind,
        fire_at=cursor,
        claim=token,
        claimed_at=whole(now),
        through=through,
        count=count,
        exact=exact,
        because=because,
    )


def _check_unmoved(job: Job, policy: Policy, now: datetime, *, moved: bool) -> None:
    """Check a new tolerance against the schedule that stays. Raises UsageError."""
    if not moved and policy.tolerance != job.policy.tolerance:
        _check_spans(job.timetable, policy, now)


def _check_spans(table: Timetable, policy: Policy, now: datetime) -> None:
    """Check that jitter and tolerance leave each occurrence before the next one. Raises UsageError."""
    if policy.tolerance > DAY_S:
        raise UsageError("the tolerance is longer than a day", hint="use a smaller --tolerance")
    if isinstance(table.schedule, Once) or not (policy.jitter or policy.tolerance):
        return
    gap = shortest_gap(table, now)
    for name, span in (("jitter", policy.jitter), ("tolerance", policy.tolerance)):
        if span >= gap:
            raise UsageError(
                f"the {name} is not shorter than the shortest gap of the schedule", hint=f"use a smaller --{name}"
            )


def _owing(job: Job, entry: Open) -> dict[str, Any]:
    """Return what the record holds of its open runs, with an entry whose range counts as claimed."""
    through = entry.through or entry.claimed_at
    return {"open": [*(run.to_record() for run in job.open), entry.to_record()], "claimed_through": through.isoformat()}


def _repeat(record: Mapping[str, Any]) -> dict[str, Any]:
    repeat = record.get("repeat")
    return dict(repeat) if isinstance(repeat, dict) else {"times": None, "completed": 0}
