"""Outcome of a command that changes one job: the job, its next times, and whether NAS follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.cli import field_plans
from chronos_cli.cli import humanize as words
from chronos_cli.cli.action_words import action_json, action_words
from chronos_cli.cli.notify import tell, tell_of_many
from chronos_cli.core.clock import Trust
from chronos_cli.core.job import Standing
from chronos_cli.core.schedule import normal_form
from chronos_cli.errors import ExitCode
from chronos_cli.frozen import replace
from chronos_cli.operations.views.preview import preview_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.cli.references import ChosenJobs
    from chronos_cli.core.job import Job
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.jobs.edit import JobChange
    from chronos_cli.operations.views.preview import Preview


def job_json(job: Job) -> dict[str, Any]:
    """Return a job as the commands that change it say it."""
    zone = job.timetable.zone
    return {
        "id": job.id,
        "name": job.name,
        "state": job.standing.value,
        "timezone": job.zone_name,
        "next_run_at": None if job.cursor is None else job.cursor.astimezone(zone).isoformat(),
    }


def finish(
    invocation: Invocation,
    ctx: Context,
    job: Job,
    verb: str,
    *,
    changed: bool,
    always: bool = False,
    brief: bool = False,
    again: Callable[[Context], JobChange] | None = None,
    plan: JobChange | None = None,
    **more: Any,
) -> int:
    """Tell the trigger, then show what became of the job.

    `always`: tell it even where nothing changed; `brief`: then that is all that is said. `again`: makes the change anew
    by NAS's clock, where NAS's answer shows that this machine's is far from it. `plan`: what is shown field by field.
    """
    off = job.standing is not Standing.LIVE
    told = tell(invocation, ctx, job.id, off=off, saved=changed) if changed or always else None
    if told is not None and ctx.ahead is None:
        right = ctx.by_witness(told.server_time)
        if right.trust is Trust.CORRECTED and again is not None and changed:
            made = again(right)
            job, plan = made.job, made if plan is not None else None
            told = tell(invocation, right, job.id, off=off)
        ctx = right
    seen = preview_of(job.timetable, zone_name=job.zone_name, now=ctx.clock(), first=job.cursor)
    seen = replace(seen, warnings=(*seen.warnings, *_warned_of_clock(ctx, corrected=again is not None)))
    if plan is not None:
        more |= {"dry_run": False, "plan": field_plans.plan_json(plan.changes), "runs": action_json(job.record)}
    document: dict[str, Any] = {"job": job_json(job), "changed": changed, **more, **_times(job, seen)}
    document["arm"] = told.as_json() if told is not None else None

    def show(out: Output) -> None:
        if out.quiet:
            out.line(job.id)
            return
        if plan is not None and plan.changes:
            show_plan(out, plan, dry_run=False)
        named = job.id if job.name == job.id else f"{job.id} ({words.brief(job.name)})"
        out.line(f"{verb} {named}" if changed else f"{named} is so already: nothing changed")
        if changed or not brief:
            _show_times(out, job, seen)
            if told is not None and told.armed:
                out.line("  armed at NAS")
            elif job.standing is Standing.LIVE and verb == "added":
                _warn_of_no_trigger(invocation, ctx, out)

    return invocation.done(document, show, error=told.error if told is not None else None)


def completed_stay(job: Job) -> str | None:
    """Return why a job that --all or a selector found is left out: there is nothing to switch of a completed one."""
    return "it is completed" if job.standing is Standing.COMPLETED else None


def finish_many(
    invocation: Invocation,
    ctx: Context,
    made: list[JobChange],
    verb: str,
    *,
    chosen: ChosenJobs,
    dry_run: bool = False,
    detailed: bool = False,
) -> int:
    """Tell the trigger of several changes at once, then show what became of each job; of a dry run what would."""
    changed = [one for one in made if one.changed]
    off = all(one.job.standing is not Standing.LIVE for one in made)
    error = tell_of_many(invocation, ctx, off=off) if made and not dry_run else None
    for job_id, reason in chosen.left_out.items():
        invocation.output.warn(f"{job_id} is left out: {reason}")
    document: dict[str, Any] = {
        "dry_run": dry_run,
        "jobs": [
            {"job": job_json(one.job), "changed": one.changed, "plan": field_plans.plan_json(one.changes)}
            for one in made
        ],
        "left_out": dict(chosen.left_out),
    }

    def show(out: Output) -> None:
        for one in made:
            named = one.job.id if one.job.name == one.job.id else f"{one.job.id} ({words.brief(one.job.name)})"
            if out.quiet:
                out.line(one.job.id)
            elif dry_run or verb == "changed":
                schedule = normal_form(one.job.timetable.schedule, one.job.timetable.zone)
                verdict = "change" if one.changed else "keep"
                field_plans.show_head(out, verdict, one.job.id, one.job.name, schedule)
                field_plans.show_changes(out, one.changes, one.job.timetable.zone, indent="    ")
            else:
                out.line(f"{verb} {named}" if one.changed else f"{named} is so already: nothing changed")
        if not out.quiet:
            counts = {"change": len(changed), "keep": len(made) - len(changed)}
            field_plans.show_counts(out, counts, dry_run=dry_run)

    code = ExitCode.PENDING if dry_run and detailed and changed else None
    return invocation.done(document, show, error=error, exit_code=code)


def _warned_of_clock(ctx: Context, *, corrected: bool) -> tuple[str, ...]:
    """Return the warning that this machine's clock is not NAS's. `corrected`: such a change goes by NAS's then."""
    clock = words.drift(ctx.ahead)
    by = ", by which this was done" if corrected and ctx.trust is Trust.CORRECTED else ""
    return (f"{clock}{by}; set it: `date -u` shows it",) if clock else ()


def _warn_of_no_trigger(invocation: Invocation, ctx: Context, out: Output) -> None:
    from chronos_cli.cli.handlers.list import nothing_triggers

    nothing = nothing_triggers(invocation.config(), ctx, ctx.clock())
    if nothing is not None:
        out.note(nothing)


def planned(invocation: Invocation, ctx: Context, change: JobChange, *, detailed: bool, **more: Any) -> int:
    """Show what a change would do, without making it. `detailed`: exit 3 where it would do anything."""
    job = change.job
    seen = preview_of(job.timetable, zone_name=job.zone_name, now=ctx.clock(), first=job.cursor)
    document: dict[str, Any] = {"job": job_json(job), "changed": change.changed, "dry_run": True, **more}
    document |= {"plan": field_plans.plan_json(change.changes), "runs": action_json(job.record), **_times(job, seen)}

    def show(out: Output) -> None:
        show_plan(out, change, seen, dry_run=True)

    return invocation.done(document, show, exit_code=ExitCode.PENDING if detailed and change.changed else None)


def show_plan(out: Output, change: JobChange, seen: Preview | None = None, *, dry_run: bool) -> None:
    """Write the plan of one job: a line for each field, or a new job with its times (`seen`), and the count."""
    if out.quiet:
        return
    if change.created and seen is not None:
        field_plans.show_head(out, "add", change.job.id, change.job.name, seen.schedule)
        _show_times(out, change.job, seen)
    field_plans.show_changes(out, change.changes, change.job.timetable.zone)
    counts = {"add": int(change.created), "change": int(bool(change.changes))}
    field_plans.show_counts(out, {word: count for word, count in counts.items() if count}, dry_run=dry_run)


def _times(job: Job, seen: Preview) -> dict[str, Any]:
    """Return the schedule and the next times of a job, as documents have them; none where it is switched off."""
    told = {key: value for key, value in seen.as_json().items() if key != "timezone"}
    return told if job.standing is Standing.LIVE else told | {"next": []}


def _show_times(out: Output, job: Job, seen: Preview) -> None:
    """Write what a job runs and when, and what about that may surprise."""
    for warning in seen.warnings:
        out.warn(warning)
    out.line(f"  {seen.schedule}  ({job.zone_name})")
    out.line(f"  runs: {action_words(job.record)}")
    for moment in seen.times if job.standing is Standing.LIVE else ():
        utc = moment.strftime("%Y-%m-%d %H:%M:%SZ")
        out.line(f"  {words.local(moment, seen.zone)}  {utc}  {words.relative(moment, seen.now)}")
