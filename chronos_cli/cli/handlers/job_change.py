"""What the commands that change one job show afterwards: the job, its next times, and whether NAS follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.cli import humanize as words
from chronos_cli.cli.notify import tell
from chronos_cli.core.job import Standing
from chronos_cli.operations.views.preview import preview_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.notify import NotifyReport
    from chronos_cli.cli.output import Output
    from chronos_cli.core.job import Job
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.views.preview import Preview


def job_json(job: Job) -> dict[str, Any]:
    """A job as the commands that change it say it."""
    zone = job.timetable.zone
    return {
        "id": job.id,
        "name": job.name,
        "state": job.standing.value,
        "timezone": job.zone_name,
        "next_run_at": None if job.cursor is None else job.cursor.astimezone(zone).isoformat(),
    }


def finish(
    invocation: Invocation, ctx: Context, job: Job, verb: str, *, changed: bool, always: bool = False, **more: Any
) -> int:
    """Tell the trigger, then show what became of the job. `always`: tell it even where nothing changed."""
    told = tell(invocation, ctx, job.id) if changed or always else None
    seen = preview_of(job.timetable, zone_name=job.zone_name, now=ctx.clock(), first=job.cursor)
    document: dict[str, Any] = {"job": job_json(job), "changed": changed, **more}
    document |= {key: value for key, value in seen.as_json().items() if key != "timezone"}
    if job.standing is not Standing.LIVE:
        document["next"] = []
    document["arm"] = told.as_json() if told is not None else None
    return invocation.done(
        document, shower(job, seen, told, verb, changed=changed), error=told.error if told is not None else None
    )


def shower(job: Job, seen: Preview, told: NotifyReport | None, verb: str, *, changed: bool) -> Callable[[Output], None]:
    """What shows the outcome to people."""

    def show(out: Output) -> None:
        if out.quiet:
            out.line(job.id)
            return
        named = job.id if job.name == job.id else f"{job.id} ({job.name})"
        out.line(f"{verb} {named}" if changed else f"{named} is so already: nothing changed")
        for warning in seen.warnings:
            out.warn(warning)
        if job.standing is Standing.LIVE:
            out.line(f"  {seen.schedule}  ({job.zone_name})")
            for moment in seen.times:
                utc = moment.strftime("%Y-%m-%d %H:%M:%SZ")
                out.line(f"  {words.local(moment, seen.zone)}  {utc}  {words.relative(moment, seen.now)}")
        if told is not None and told.armed:
            out.line("  armed at NAS")

    return show
