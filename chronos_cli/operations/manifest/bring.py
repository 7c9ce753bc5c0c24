"""Bring a store to what files of jobs say: one plan for all of them, one change of the store, or none.

A job belongs to the set that it was applied from. One of another set is not taken unless that is asked for; one that
was made by hand is, once the file changes it, and the plan says so. Only what a set once applied is pruned with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.core import edits
from chronos_cli.core.clock import doubt_about
from chronos_cli.core.edits import PAUSED_BY_FILE
from chronos_cli.core.instant import named_zone
from chronos_cli.core.job import Standing, ours_of, parse_job
from chronos_cli.core.plan import HELD_STATES
from chronos_cli.core.record_action import action_kind
from chronos_cli.core.record_changes import record_changes
from chronos_cli.core.schedule import Once, normal_form
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ChronosError, ConflictError, DocumentError, ScheduleError, UsageError
from chronos_cli.frozen import opaque, replace
from chronos_cli.operations.jobs.edit import take_out, write_owed
from chronos_cli.operations.jobs.transfer import ImportItem, ImportVerdict
from chronos_cli.operations.manifest.words import skills_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta, tzinfo

    from chronos_cli.core.job import Job
    from chronos_cli.core.policy import Policy
    from chronos_cli.core.schedule import Schedule
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.manifest.spec import DescribedJob
    from chronos_cli.store.jobsfile import JobsFile


@opaque
class AppliedItem:
    """The fate of one job of the files, or of one that is gone from them.

    `before`: its record until now, None where there was none. `taken`: whose it was, where it changes hands: a set, or
    "" for one made by hand. `left_to`: the same of one that is as its file says and belongs elsewhere.
    """

    item: ImportItem
    before: Mapping[str, Any] | None = None
    taken: str | None = None
    left_to: str | None = None


@opaque
class WantedJobs:
    """Jobs that files ask for, and the sets that they are the whole of. Jobs without a set leave every set alone."""

    specs: tuple[DescribedJob, ...]
    sets: tuple[str, ...] = ()
    owned: bool = True
    """True where the files have a say in whose a job is; an import has none."""


def bring(
    ctx: Context,
    wanted: WantedJobs,
    *,
    prune: bool,
    take_over: bool = False,
    dry_run: bool,
    prunable: Collection[str] | None = None,
) -> list[AppliedItem]:
    """Bring the store to what files say, all of it in one change. Raises UsageError or ConflictError with the place.

    `prune`: remove what a set once applied and its files no longer have; of these at most `prunable`, where that is
    given. `dry_run`: the same plan, nothing written.
    """
    token = ctx.token()

    def once(jobs: JobsFile) -> list[AppliedItem]:
        now = ctx.clock()
        plan = [_bring_one(ctx, jobs, spec, wanted, take_over=take_over, now=now, token=token) for spec in wanted.specs]
        named = {spec.job_id for spec in wanted.specs}
        for stored in jobs.records:
            own = ours_of(stored.value).get("set") if isinstance(stored.value, dict) else None
            if stored.id is None or stored.id in named or own not in wanted.sets:
                continue
            name = str(stored.value.get("name") or stored.id)
            goes = prune and (prunable is None or stored.id in prunable)
            verdict = ImportVerdict.REMOVE if goes else ImportVerdict.GONE
            item = ImportItem(verdict=verdict, job_id=stored.id, name=name, schedule="")
            plan.append(AppliedItem(item=item, before=stored.value))
            if goes and not dry_run:
                take_out(ctx, jobs, stored.id)
        return plan

    if dry_run:
        return once(ctx.repository.jobs())
    plan = ctx.repository.change(once)
    for brought in plan:
        if brought.item.changes and brought.item.record is not None:
            write_owed(ctx, parse_job(brought.item.record, ctx.home))
    return plan


def _bring_one(
    ctx: Context, jobs: JobsFile, spec: DescribedJob, wanted: WantedJobs, *, take_over: bool, now: datetime, token: str
) -> AppliedItem:
    try:
        existing = jobs.get(spec.job_id)
        if existing is None or ours_of(existing).get("change") == token:
            record = existing or _added(ctx, spec, now=now, token=token)
            if existing is None:
                jobs.add(record)
            return AppliedItem(item=_item(ctx, record, ImportVerdict.ADD, now))
        job = parse_job(existing, ctx.home)
        own = ours_of(existing).get("set")
        owner = own if isinstance(own, str) else ""
        after = _changed(ctx, job, spec, now=now, token=token)
        changes = record_changes(existing, after, ctx.home)
        moves = wanted.owned and owner != (spec.set_name or "")
        if moves and owner and changes and not take_over:
            raise ConflictError(
                f"job {spec.job_id} belongs to the set {owner}",
                hint=f"change it there, or --take-over moves it to {spec.set_name or 'none'}",
            )
        moving = moves and (take_over or (bool(changes) and not owner))
        if moving:
            ours = {key: value for key, value in ours_of(after).items() if key != "set"}
            ours |= {"set": spec.set_name} if spec.set_name else {}
            after = after | {"chronos": ours | {"change": token}}
            changes = record_changes(existing, after, ctx.home)
        if changes:
            jobs.put(job.id, after)
    except ChronosError as error:
        kind = type(error) if isinstance(error, ConflictError | ScheduleError) else UsageError
        raise kind(f"{spec.at}: {error.message}", hint=error.hint) from error
    verdict = ImportVerdict.CHANGE if changes else ImportVerdict.KEEP
    item = replace(_item(ctx, after if changes else existing, verdict, now), changes=changes)
    return AppliedItem(
        item=item, before=existing, taken=owner if moving else None, left_to=owner if moves and not moving else None
    )


def _item(ctx: Context, record: Mapping[str, Any], verdict: ImportVerdict, now: datetime) -> ImportItem:
    job = parse_job(record, ctx.home)
    schedule = normal_form(job.timetable.schedule, job.timetable.zone)
    doubt = doubt_about(job, now)
    return ImportItem(
        verdict=verdict, job_id=job.id, name=job.name, schedule=schedule, doubt=doubt, record=record
    )  # fmt: skip


def _zone(ctx: Context, spec: DescribedJob) -> tuple[tzinfo, str]:
    if spec.zone_name is None:
        return ctx.home.zone, ctx.home.zone_name
    return named_zone(spec.zone_name), spec.zone_name


def _schedule(spec: DescribedJob, zone: tzinfo, now: datetime, *, past: bool) -> Schedule:
    """Return the schedule of a job in a file. Raises ScheduleError for one that each reading would put elsewhere."""
    from datetime import timedelta as span

    schedule = parse_schedule(spec.schedule, now=now, zone=zone, allow_past=past)
    if isinstance(schedule, Once):
        later: timedelta = span(hours=1)
        if parse_schedule(spec.schedule, now=now + later, zone=zone, allow_past=True) != schedule:
            raise ScheduleError(
                f"'{spec.schedule}' counts from now, so that each apply would move it",
                hint="write the time itself, or use `chronos job add`",
            )
    return schedule


def _policy(ctx: Context, spec: DescribedJob) -> Policy:
    return replace(ctx.home.policy, **spec.policy)


def _extras(spec: DescribedJob) -> dict[str, Any]:
    return {"env": dict(spec.env), "env_file": list(spec.env_file), "labels": dict(spec.labels)}


def _added(ctx: Context, spec: DescribedJob, *, now: datetime, token: str) -> dict[str, Any]:
    zone, zone_name = _zone(ctx, spec)
    fields = dict(spec.fields)
    if "skills" in fields:
        fields["skill"] = fields["skills"][0] if fields["skills"] else None
    draft = edits.JobDraft(
        job_id=spec.job_id,
        name=spec.name or spec.job_id,
        schedule=_schedule(spec, zone, now, past=False),
        zone=zone,
        zone_name=zone_name,
        policy=_policy(ctx, spec),
        action=spec.action,
        fields=fields,
        times=spec.times,
        extras=_extras(spec) | {"set": spec.set_name},
    )
    record = edits.new_record(draft, now=now, token=token, defaults=ctx.home.policy)
    if spec.paused:
        record = edits.paused(parse_job(record, ctx.home), reason=PAUSED_BY_FILE, now=now, token=token)
    return record


def _changed(ctx: Context, job: Job, spec: DescribedJob, *, now: datetime, token: str) -> dict[str, Any]:
    """Return the record of a job brought to what its file says; what means the same already is left as it is stored."""
    record, ours = job.record, ours_of(job.record)
    zone, zone_name = _zone(ctx, spec)
    same_zone = zone_name == job.zone_name
    current = job.timetable.schedule
    schedule = _schedule(spec, zone, now, past=True)
    moved = normal_form(schedule, zone) != normal_form(current, zone)
    if moved and isinstance(schedule, Once):
        schedule = _schedule(spec, zone, now, past=False)
    policy = _policy(ctx, spec)
    once = isinstance(schedule, Once)
    action, fields = _runs(record, ours, spec)
    change = edits.Edit(
        name=None if (spec.name or spec.job_id) == job.name else spec.name or spec.job_id,
        schedule=schedule if moved else None,
        zone=None if same_zone else zone,
        zone_name=None if same_zone else zone_name,
        policy=None if policy == job.policy else policy,
        action=action,
        fields=fields or None,
        times=None if once or spec.times == job.times else spec.times or 0,
        extras={key: value for key, value in _extras(spec).items() if value != (ours.get(key) or type(value)())},
    )
    after = edits.edited(job, change, now=now, token=token, defaults=ctx.home.policy, trust=ctx.trust)
    found = parse_job(after, ctx.home)
    if spec.paused and found.standing is Standing.LIVE:
        return edits.paused(found, reason=PAUSED_BY_FILE, now=now, token=token)
    ours_to_lift = spec.paused is None and record.get("paused_reason") == PAUSED_BY_FILE
    if found.standing in (Standing.PAUSED, Standing.DISABLED) and (spec.paused is False or ours_to_lift):
        return edits.resumed(found, now=now, token=token, trust=ctx.trust)
    return after


def _runs(
    record: Mapping[str, Any], ours: Mapping[str, Any], spec: DescribedJob
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the action and the fields that an edit is to set: none of those that mean the same already."""
    wanted, fields = spec.action, dict(spec.fields)
    kind = action_kind(record)
    action = None if wanted is None or _same_action(ours.get("action"), wanted) else dict(wanted)
    if wanted is None:
        said = {name: fields.pop(name) for name in ("script", "prompt", "no_agent")}
        same = (
            kind in ("script", "prompt")
            and (record.get("script") or None) == said["script"]
            and (record.get("prompt") or "") == said["prompt"]
            and (kind == "script") == said["no_agent"]
        )
        fields |= {} if same else said
    skills = fields.pop("skills", [])
    if skills != skills_of(record):
        fields |= {"skills": skills, "skill": skills[0] if skills else None}
    for name, silent in (("workdir", None), ("model", None), ("deliver", "local")):
        value = fields.pop(name, None) or silent
        if value != (record.get(name) or silent):
            fields[name] = value
    return action, fields


def _same_action(stored: object, wanted: Mapping[str, Any]) -> bool:
    """Say whether a stored action runs just what is wanted."""
    if not isinstance(stored, dict):
        return False
    if "http" not in wanted:
        return {key: stored.get(key) for key in ("command", "shell", "stdin")} == {
            key: wanted.get(key) for key in ("command", "shell", "stdin")
        }
    one, other = (_request(value["http"]) for value in (stored if stored.get("http") else {"http": None}, wanted))
    return one == other


def _request(given: object) -> object:
    if not isinstance(given, dict):
        return given
    method = given.get("method") or "GET"
    headers = given.get("headers") or {}
    headers = {str(name): value if isinstance(value, dict) else str(value) for name, value in headers.items()}
    body = {"from": given["body_from"]} if given.get("body_from") else given.get("body") or None
    return {"url": given.get("url"), "method": str(method).upper(), "headers": headers, "body": body}


def is_owed(ctx: Context, plan: Sequence[AppliedItem]) -> bool:
    """Say whether NAS may not hold one of these jobs that is to run, as after an apply that could not tell it.

    It goes by what is stored; NAS is not asked.
    """
    if ctx.wire is None or ctx.standby:
        return False
    arms = ctx.repository.arms.all()
    for one in plan:
        if one.item.record is not None and parse_job(one.item.record, ctx.home).standing is Standing.LIVE:
            try:
                document = arms.get(one.item.job_id)
            except DocumentError:
                return True  # telling NAS says what is wrong with it
            if document is None or document.value.state not in HELD_STATES:
                return True
    return False


def gone_of(plan: Sequence[AppliedItem]) -> frozenset[str]:
    """Return the ids of the jobs that a plan takes out."""
    return frozenset(one.item.job_id for one in plan if one.item.verdict is ImportVerdict.REMOVE)
