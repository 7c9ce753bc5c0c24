"""Every job as it stands: what the store says, what NAS holds for it, and whether the two agree.

Reading only. What NAS holds is asked for by the caller; where it could not be had it is unknown, never nothing. What
decides and starts is imported for jobs with open runs only: a listing must be quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.clock import AGREES_WITHIN, AHEAD, displaced, doubt_about
from chronos_cli.core.instant import iso_text, parse_stored
from chronos_cli.core.job import OURS, OpenKind, Standing, parse_job
from chronos_cli.core.record_action import action_kind, unhandled_fields
from chronos_cli.core.schedule import normal_form
from chronos_cli.errors import ChronosError, DocumentError
from chronos_cli.frozen import field, opaque
from chronos_cli.operations.context import FleetJobs
from chronos_cli.operations.views.armed_wake import BAD, ArmedWake, ArmView, arm_view
from chronos_cli.operations.views.prospect import (
    Surroundings,
    clock_words,
    failing_since,
    held_words,
    obstacle,
    overdue,
    unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, tzinfo

    from chronos_cli.core.clock import TimeDoubt
    from chronos_cli.core.decision import Wake
    from chronos_cli.core.job import Job
    from chronos_cli.nas_client.interface import Arm, ArmList
    from chronos_cli.operations.context import Context
    from chronos_cli.store.arms.document import ArmDocument
    from chronos_cli.store.arms.store import Arms
    from chronos_cli.store.holds import Hold
    from chronos_cli.store.job_entries import Record

_MOST_SAID: Final = 300
"""The longest text about the fault of a record, which may quote it."""


@opaque
class LastRun:
    """The record's word on the last run: `ok`, or an error with its reason."""

    at: datetime | None
    status: str
    reason: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in JSON."""
        return {"at": iso_text(self.at), "status": self.status, "reason": self.reason}


@opaque
class JobView:
    """One job. `problem`: why its record cannot be run; then most of the rest is missing."""

    id: str
    name: str
    problem: str | None = None
    schedule: str | None = None
    zone: tzinfo | None = None
    zone_name: str | None = None
    state: str = "invalid"
    action: str = "none"
    labels: Mapping[str, str] | None = None
    next_at: datetime | None = None
    last: LastRun | None = None
    failures: int = 0
    overdue_s: float | None = None
    overrun_s: float | None = None
    running: tuple[str, ...] = ()
    paused_reason: str | None = None
    arm: ArmView = ArmView(state=ArmedWake.NONE)
    will_fire: bool | None = None
    why_not: str | None = None
    touched_at: datetime | None = None
    """When it was made or claimed, or its arm sent or called: just now, what is seen may be half of a change.

    None where NAS was not asked."""
    doubt: TimeDoubt | None = None
    unhandled: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """The faults of the job's unreadable documents; its record is not one of them."""
    mend: str | None = None
    """The command that gets a record with a problem out of the way; the problem's text ends with it."""

    @property
    def failing(self) -> bool:
        """Return whether its last run failed."""
        return self.last is not None and self.last.status == "error"

    @property
    def rank(self) -> int:
        """Return what comes first: what needs a look, then what comes next, then what is off."""
        if self.problem is not None or self.unreadable or self.overdue_s is not None or self.overrun_s is not None:
            return 0
        if self.failing:
            return 1
        if self.arm.state in BAD or self.doubt is not None:
            return 2
        return 3 if self.state == "live" else 4

    def as_json(self, now: datetime) -> dict[str, Any]:
        """Return it as `list --json` says it; times with the offset of the job's zone."""
        return {
            "id": self.id,
            "name": self.name,
            "problem": self.problem,
            "schedule": self.schedule,
            "timezone": self.zone_name,
            "state": self.state,
            "action": self.action,
            "labels": dict(self.labels or {}),
            "next_run_at": iso_text(self.next_at, self.zone),
            "next_in_s": None if self.next_at is None else round((self.next_at - now).total_seconds()),
            "last_run": self.last.as_json() if self.last else None,
            "failures_in_a_row": self.failures,
            "overdue_s": self.overdue_s,
            "overrun_s": self.overrun_s,
            "running": list(self.running),
            "paused_reason": self.paused_reason,
            "arm": self.arm.as_json(),
            "will_fire": self.will_fire,
            "why_not": self.why_not,
            "doubt": None if self.doubt is None else self.doubt.as_json(),
            "unhandled": list(self.unhandled),
            "unreadable": list(self.unreadable),
        }


@opaque
class Listing:
    """All jobs, those that need a look first, and what NAS holds for no job here."""

    jobs: tuple[JobView, ...]
    orphans: tuple[Arm, ...]
    """Timers at NAS for no job here, and for none of another home of the fleet."""

    now: datetime
    of_profiles: tuple[tuple[str, Arm], ...] = ()
    """Timers at NAS for jobs of the other homes of the fleet, each with its profile."""

    unread_profiles: Mapping[str, str] = field(default_factory=dict)
    """The reason why a profile's jobs are not known, where some of the orphans may be its own."""

    hold: Hold | None = None
    clock: str = ""
    """The distance of this machine's clock from NAS's, where NAS's calls are refused for it; else empty."""

    held: str = ""
    """The hold in words: `held since 01:12 UTC by ann: db migration`; empty where there is none."""

    unreachable: str | None = None
    """Outcome of NAS's calls, where it tells that they do not get through at all."""

    not_reached_since: datetime | None = None
    """The earliest instant of a fire that NAS could not deliver."""

    @property
    def held_reason(self) -> str | None:
        """Return why all jobs are held, None where they are not."""
        return None if self.hold is None else self.hold.text


def listing(
    ctx: Context,
    *,
    arming: bool,
    held: ArmList | None,
    prompt_runner: bool,
    only: frozenset[str] | None = None,
    refused: tuple[datetime, str] | None = None,
) -> Listing:
    """Look at every job (or `only` these).

    `arming`: whether the active provider arms at NAS at all. `held`: what NAS says it holds, None where it was not
    asked or did not say. `refused`: when and why the token of a call was last refused. Raises StoreError where the
    store cannot be read.
    """
    now = ctx.clock()
    jobs = ctx.repository.jobs()
    arms = ctx.repository.arms.all() if arming else None
    chosen = [record for record in jobs.records if only is None or record.id in only or record.number in only]
    documents = {} if arms is None else {one.id: _document(arms, one.id) for one in chosen if one.id is not None}
    by_id = None if held is None else _by_id(held.arms, documents)
    hold = ctx.repository.hold(now)
    calls = (one.last_callback_at for one in documents.values() if one and one.last_callback_at)
    called = max((at for at in calls if at <= now + AGREES_WITHIN), default=None)  # later: by a clock that was ahead
    around = Surroundings(
        now=now,
        zone=ctx.home.zone,
        standby=ctx.standby,
        hold=hold,
        refused=refused[1] if refused is not None and (called is None or refused[0] > called) else None,
        unreachable=unreachable(held.arms) if held is not None else None,
        clock="" if held is None else clock_words(held.server_time, now),
    )
    views = [
        _view(ctx, one, documents.get(one.id or ""), by_id, around, arming=arming, prompt_runner=prompt_runner)
        for one in chosen
    ]
    views.sort(key=lambda view: (view.rank, view.next_at is None, view.next_at or now, view.id))
    known = {record.id for record in jobs.records}
    beside = () if held is None or only is not None else tuple(arm for arm in held.arms if arm.job_id not in known)
    fleet = ctx.elsewhere() if beside else FleetJobs()
    return Listing(
        jobs=tuple(views),
        orphans=tuple(arm for arm in beside if arm.job_id not in fleet.profile_of),
        of_profiles=tuple((fleet.profile_of[arm.job_id], arm) for arm in beside if arm.job_id in fleet.profile_of),
        unread_profiles=fleet.unread,
        now=now,
        hold=hold,
        clock=around.clock,
        held="" if hold is None else held_words(hold, now, ctx.home.zone),
        unreachable=around.unreachable,
        not_reached_since=None if held is None else failing_since(held.arms, now),
    )


def _by_id(arms: Iterable[Arm], documents: Mapping[str, ArmDocument | None]) -> dict[str, Arm]:
    """Return what NAS holds for each job: of several timers, at a NAS that never replaces one, what was sent last."""
    found: dict[str, Arm] = {}
    for arm in arms:
        sent, before = documents.get(arm.job_id), found.get(arm.job_id)
        if before is None or sent is None or before.fire_at != sent.fire_at:
            found[arm.job_id] = arm
    return found


def _document(arms: Arms, job_id: str) -> ArmDocument | None:
    try:
        stored = arms.get(job_id)
    except DocumentError as error:
        from chronos_cli.store.arms.document import unreadable_arm

        return unreadable_arm(job_id, error.line())
    return stored.value if stored is not None else None


def _view(
    ctx: Context,
    record: Record,
    document: ArmDocument | None,
    held: Mapping[str, Arm] | None,
    around: Surroundings,
    *,
    arming: bool,
    prompt_runner: bool,
) -> JobView:
    now = around.now
    job, problem = _read(ctx, record)
    job_id = record.id or record.number
    if job is None:
        from chronos_cli.operations.evaluate import mend_of_entry

        mend = mend_of_entry(record)
        problem = f"{problem}; {mend}"
        value = record.value if isinstance(record.value, dict) else {}
        arm = arm_view(None, document, held, job_id, now) if arming else ArmView(state=ArmedWake.NONE)
        name = str(value.get("name") or job_id)
        return JobView(id=job_id, name=name, problem=problem, mend=mend, arm=arm, will_fire=False)
    live = job.standing is Standing.LIVE
    doubt = doubt_about(job, now, paused=True)
    cursor = _cursor(job, now, doubt) if live else None
    wish = cursor
    unreadable, running, overrun = _open_runs(ctx, job, now) if job.open else ([], (), None)

    def needed() -> Wake | None:
        from chronos_cli.operations.evaluate import wake_of

        return wake_of(ctx, job, now, hold=around.hold, document=document)

    if arming and not unreadable and any(entry.kind in (OpenKind.RUN, OpenKind.QUEUED) for entry in job.open):
        wake = needed()
        wish = wake.at if wake is not None else None
    url = ctx.wire.callback_url if ctx.wire is not None else None
    arm = arm_view(wish, document, held, job.id, now, url, needed) if arming else ArmView(state=ArmedWake.NONE)
    if document is not None and document.unreadable:
        unreadable.append(str((document.error or {}).get("message")))
    kind = action_kind(job.record)
    why_not = obstacle(arm, around, tolerance=job.policy.tolerance) if live else None
    if doubt is not None and doubt.code == AHEAD:
        why_not = why_not or doubt.text
    return JobView(
        id=job.id,
        name=job.name,
        schedule=normal_form(job.timetable.schedule, job.timetable.zone),
        zone=job.timetable.zone,
        zone_name=job.zone_name,
        state=job.standing.value,
        action=kind,
        labels=_labels(job),
        next_at=cursor,
        last=_last(job),
        failures=job.failures,
        overdue_s=overdue(cursor, around, arming=arming, tolerance=job.policy.tolerance),
        overrun_s=overrun,
        running=running,
        paused_reason=job.record.get("paused_reason") if job.standing is Standing.PAUSED else None,
        arm=arm,
        will_fire=_will_fire(job, arm, why_not),
        why_not=why_not,
        touched_at=None if held is None else _touched(job, arm),
        doubt=doubt,
        unhandled=unhandled_of(job.record, kind, prompt_runner=prompt_runner),
        unreadable=tuple(unreadable),
    )


def _open_runs(ctx: Context, job: Job, now: datetime) -> tuple[list[str], tuple[str, ...], float | None]:
    """Return what is wrong with rows that cannot be read, and of the others what `running_now` says."""
    from chronos_cli.operations.views.open_runs import open_rows, running_now

    rows, unreadable = open_rows(ctx, job)
    return unreadable, *running_now(ctx, job, rows, now)


def _touched(job: Job, arm: ArmView) -> datetime | None:
    created = parse_stored(job.record.get("created_at"), job.timetable.zone)
    moments = [*(entry.claimed_at for entry in job.open), *(at for at in (arm.moved_at, created) if at is not None)]
    return max(moments, default=None)


def _labels(job: Job) -> Mapping[str, str] | None:
    stored = job.record.get(OURS)
    if not isinstance(stored, dict) or "labels" not in stored:
        return None
    from chronos_cli.core.labels import labels_of  # few jobs have some

    return labels_of(job.record)


def _read(ctx: Context, record: Record) -> tuple[Job | None, str | None]:
    """Return the job of a record, or None with the reason why it cannot be run."""
    if record.problem is not None:
        return None, record.problem
    try:
        return parse_job(record.value, ctx.home), None
    except ChronosError as error:
        return None, error.message[:_MOST_SAID]


def _cursor(job: Job, now: datetime, doubt: TimeDoubt | None) -> datetime | None:
    """Return the next instant of a live job: the stored one, or what it must be put right to."""
    if job.cursor is not None and (job.claimed_through is None or job.cursor > job.claimed_through):
        if doubt is None:
            return job.cursor
        return doubt.taken or displaced(job) or job.cursor
    from chronos_cli.core.claim import right_cursor

    return right_cursor(job, now)


def unhandled_of(record: Mapping[str, Any], kind: str, *, prompt_runner: bool) -> tuple[str, ...]:
    """Return what the record, whose action is of this kind, asks for that nothing here carries out."""
    if kind == "prompt" and not prompt_runner:
        return ("prompt (runners.prompt is not set)", *unhandled_fields(record))
    return unhandled_fields(record) if kind != "none" else ()


def _will_fire(job: Job, arm: ArmView, why_not: str | None) -> bool | None:
    """Return True for an arm that NAS has just shown, and for nothing else; None: it is not known."""
    if job.standing is not Standing.LIVE or why_not is not None:
        return False
    if arm.checked:
        return arm.state is ArmedWake.ARMED
    return None


def _last(job: Job) -> LastRun | None:
    status, last_at = job.record.get("last_status"), job.record.get("last_run_at")
    if status is not None and not isinstance(status, str):
        status = "of no kind that is known"
    if not status and not last_at:
        return None
    at = parse_stored(last_at, job.timetable.zone)
    if at is None and not status:
        return None
    reason = job.record.get("last_error") if status not in ("ok", None) else None
    known = {"ok": "ok", None: "unknown"}.get(status, "error")
    return LastRun(at=at, status=known, reason=str(reason) if reason else None)
