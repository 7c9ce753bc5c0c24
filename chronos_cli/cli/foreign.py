"""`chronos job import --from crontab|kubernetes|systemd`: what it reads, the plan that it shows, what it takes out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.cli import field_plans
from chronos_cli.cli.foreign_sources import Options, read_sources
from chronos_cli.cli.handlers.list import nothing_triggers
from chronos_cli.cli.notify import tell_of_many
from chronos_cli.core.instant import named_zone, text_in, whole
from chronos_cli.core.schedule import Timetable
from chronos_cli.errors import ChronosError, ExitCode, UsageError
from chronos_cli.operations.foreign.crontab import SECONDS
from chronos_cli.operations.foreign.crontab_source import take_out
from chronos_cli.operations.foreign.upsert import import_foreign
from chronos_cli.operations.witness import hear_for_change, stored_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from chronos_cli.cli.foreign_sources import ImportSource
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.core.job import HomeDefaults
    from chronos_cli.operations.foreign.upsert import ForeignJob, ForeignPlan

KINDS: Final = ("crontab", "kubernetes", "systemd")


def run(invocation: Invocation, options: Options) -> int:
    """Import what another scheduler has and show what became of each of its jobs."""
    _check(options)
    context, config = invocation.context(), invocation.config()
    nothing = nothing_triggers(config, context, context.clock())
    source = read_sources(invocation, options, context)
    if not options.dry_run:
        context = hear_for_change(context, *stored_jobs(context))
    plan = import_foreign(
        context,
        source.sources,
        prune=options.prune,
        dry_run=options.dry_run,
        moving=options.disable_source,
        within=source.within,
    )
    error: ChronosError | None = None
    if not options.dry_run and any(one.item.verdict.value not in ("keep", "gone") for one in plan):
        removed = {one.item.job_id for one in plan if one.item.verdict.value == "remove"}
        error = tell_of_many(invocation, context, removed)
    kept = None
    if error is None:
        kept, error = _disabled(invocation, options, source, plan, context.clock())
    notes = [*source.notes, *(_moved_clocks(plan, context.clock(), options) if options.dry_run else ())]
    _warn(invocation.output, source, notes, plan, options, nothing=None if kept is None else nothing)
    document: dict[str, Any] = {
        "dry_run": options.dry_run,
        "jobs": [_as_json(one, options.kind) for one in plan],
        "left_out": list(source.left_out),
        "ignored": list(source.ignored),
        "refused": [error.line() for error in source.refused],
        "notes": notes,
        "backup": None if kept is None else str(kept),
    }

    def render(out: Output) -> None:
        _show(out, plan, kept, context.home, options)
        if nothing is not None and kept is None and not options.dry_run:
            out.note(nothing)

    code = field_plans.pending((one.item for one in plan), detailed=options.detailed and options.dry_run)
    if source.refused and error is None:
        code = ExitCode.NEEDS_A_LOOK
    return invocation.done(document, render, error=error, exit_code=code)


def _disabled(
    invocation: Invocation, options: Options, source: ImportSource, plan: list[ForeignPlan], now: datetime
) -> tuple[Path | None, ChronosError | None]:
    """Take the lines that are jobs now out of the crontab, where asked. Returns the file that keeps it, or why not."""
    taken = {one.job.line for one in plan if one.job is not None and one.job.line is not None}
    if options.dry_run or not options.disable_source or not taken:
        return None, None
    try:
        return take_out(source.table, taken, invocation.environ, Path(invocation.config().home), now), None
    except ChronosError as error:  # the jobs are in: the plan is shown all the same
        return None, error


def _moved_clocks(plan: list[ForeignPlan], now: datetime, options: Options) -> Iterator[str]:
    """Yield where the two programs part on the next days of moved clocks, of jobs whose next times are the same."""
    from chronos_cli.operations.foreign.moved_clocks import first_difference

    known: dict[tuple[object, ...], tuple[list[datetime], list[datetime]]] = {}
    for one in plan:
        job = one.job
        if job is None or job.theirs is None or one.next != one.their_next:
            continue
        key = (job.schedule, job.zone_name)
        if key not in known:
            here = Timetable(schedule=job.schedule, zone=job.zone, anchor=whole(now)).walk
            known[key] = first_difference(here, job.theirs, job.zone, now)
        mine, theirs = known[key]
        if mine or theirs:
            said = [f"only {who} starts it at {_times((found[0],), job.zone_name)[0]}"
                    + (f" and {len(found) - 1} more" if found[1:] else "")
                    for who, found in (("chronos", mine), (_other(options), theirs)) if found]  # fmt: skip
            yield f"{_where(job)}: when clocks move, {', and '.join(said)}"


def _other(options: Options) -> str:
    return {"crontab": "cron", "kubernetes": "the cluster", "systemd": "systemd"}[options.kind]


def _warn(
    output: Output,
    source: ImportSource,
    notes: list[str],
    plan: list[ForeignPlan],
    options: Options,
    *,
    nothing: str | None,
) -> None:
    """Say what is read otherwise, what is left out and what is gone; `nothing`: that no trigger takes their place."""
    for note in notes:
        output.warn(note)
    if nothing is not None:
        output.warn(nothing)
    for text in source.ignored:
        output.warn(f"ignored: {text}")
    for text in source.left_out:
        output.warn(f"left out: {text}")
    for error in source.refused:
        output.warn(f"refused: {error.line()}")
    for one in plan:
        if one.item.verdict.value == "gone":
            gone = f"{one.item.job_id} ({one.item.name})"
            output.warn(f"no longer in {_place(options)}: {gone}; --prune removes it")


def _check(options: Options) -> None:
    if options.seconds not in (None, *SECONDS):
        raise UsageError(f"--seconds is first or last, not '{options.seconds}'", hint="say where the seconds stand")
    of_crontabs = {"--seconds": options.seconds is not None, "--disable-source": options.disable_source}
    for name, given in of_crontabs.items():
        if given and options.kind != "crontab":
            raise UsageError(f"{name} is for crontabs", hint="leave it out, or say --from crontab")
    if options.local and options.kind != "kubernetes":
        raise UsageError("--local is for CronJobs", hint="leave it out, or say --from kubernetes")
    if options.system and options.kind == "kubernetes":
        raise UsageError("--system is for crontabs and systemd", hint="leave it out")
    if options.disable_source and (options.file is not None or options.system):
        raise UsageError("--disable-source is for your own crontab", hint="leave out FILE and --system")
    if options.skip_refused and options.kind != "crontab":
        raise UsageError("--skip-refused is for crontabs", hint="leave it out: of others the rest comes in anyway")


def _place(options: Options) -> str:
    return "the crontab" if options.kind == "crontab" else f"{options.file or 'the units'}"


def _where(job: ForeignJob) -> str:
    return job.where if job.line is None else f"{job.file}{', ' if job.file else ''}line {job.line}"


def _times(moments: tuple[datetime, ...], zone_name: str) -> list[str]:
    return [text_in(moment, named_zone(zone_name)) for moment in moments]


def _as_json(one: ForeignPlan, kind: str) -> dict[str, Any]:
    item, job = one.item, one.job
    known = field_plans.item_json(item)
    if job is None:
        return known
    theirs: dict[str, Any] = {"line": job.line} if kind == "crontab" else {"where": job.where}
    theirs |= {"file": job.file} if job.file else {}
    return (
        known
        | theirs
        | {
            "timezone": job.zone_name,
            "next": _times(one.next, job.zone_name),
            "cron_next" if kind == "crontab" else "their_next": _times(one.their_next, job.zone_name),
        }
    )


def _show(out: Output, plan: list[ForeignPlan], kept: Path | None, home: HomeDefaults, options: Options) -> None:
    if out.quiet:
        return
    other = _other(options)
    for one in plan:
        field_plans.show_items(out, (one.item,), home)
        job = one.job
        if options.dry_run and job is not None:
            here, there = _times(one.next, job.zone_name), _times(one.their_next, job.zone_name)
            said = "the same" if here == there else ", ".join(there) or ("never" if job.theirs else job.untold)
            out.line(f"    {_where(job)}, {job.zone_name}: {', '.join(here) or 'never'}; {other}: {said}")
    field_plans.show_counts(out, field_plans.counts_of(one.item for one in plan), dry_run=options.dry_run)
    if kept is not None:
        out.line(f"The lines are out of your crontab; what it held is in {kept}")
