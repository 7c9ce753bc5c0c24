"""Manual runs that make up for instants of a schedule: the work of `chronos run --backfill`."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.cli import humanize as words
from chronos_cli.cli import references
from chronos_cli.core.instant import SECOND
from chronos_cli.core.row import MADE_UP_FOR, RunState
from chronos_cli.errors import ExitCode, JobFailedError, UsageError

if TYPE_CHECKING:
    from datetime import tzinfo

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.core.job import Job
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.launchers import Running
    from chronos_cli.running.signals import Interrupts


_FIRST_YEAR: Final = 1970


def instants_in(job: Job, text: str, now: datetime, *, limit: int) -> list[datetime]:
    """Return the instants of a job's schedule from `FROM..TO`, both included, oldest first; a date is all of its day.

    Raises UsageError for a range that is none, lies ahead, or has more than `limit` of them.
    """
    first, dots, last = text.partition("..")
    zone = job.timetable.zone
    begin, end = (_bound(part, zone, ends=bool(at)) for at, part in enumerate((first, last)))
    if not dots or begin is None or end is None or begin > end:
        raise UsageError(f"--backfill is '{text:.60}'", hint="give FROM..TO, as 2026-11-01..2026-11-07")
    if begin > now:
        raise UsageError("the range of --backfill lies ahead", hint="the schedule brings those runs by itself")
    found: list[datetime] = []
    at = begin - SECOND
    while (following := job.timetable.after(at)) is not None and following <= min(end, now):
        if len(found) == limit:
            raise UsageError(f"the range has more than {limit} runs", hint="give a shorter one, or a higher --limit")
        found.append(following)
        at = following
    return found


def _bound(text: str, zone: tzinfo, *, ends: bool) -> datetime | None:
    """Return the instant of one end of a range; of a time that comes twice, both are in it."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if ends and _is_day(text.strip()):
            moment += timedelta(days=1) - SECOND
        if moment.year < _FIRST_YEAR:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone, fold=int(ends))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def run_backfill(invocation: Invocation, reference: str, text: str, *, limit: int, dry_run: bool) -> int:
    """Run a job for each instant of a range, or show them. Raises UsageError, and what a manual run raises."""
    from chronos_cli.operations.jobs import edit as jobs
    from chronos_cli.running.signals import Interrupts

    with Interrupts() as interrupts:
        context = invocation.context(interrupts=interrupts)
        context.must_be_active("run")
        if invocation.provider(context).provider.name == "builtin":
            context = invocation.context(armed=False, interrupts=interrupts)
        job_id = references.one(context, reference)
        found = instants_in(jobs.get(context, job_id), text, context.clock(), limit=limit)
        return _run_each(invocation, context, job_id, found, interrupts, dry_run=dry_run)


def _run_each(
    invocation: Invocation,
    context: Context,
    job_id: str,
    found: list[datetime],
    interrupts: Interrupts,
    *,
    dry_run: bool,
) -> int:
    """Run a job for each instant, one after the other, and say what came of it. A run that fails stops no other."""
    from chronos_cli.cli.echo import OutputEcho
    from chronos_cli.operations.firing.launchers import InlineLauncher, launch_each, wait_for
    from chronos_cli.operations.jobs import edit as jobs

    out = invocation.output
    rows: list[Row] = []
    started: list[str] = []
    before = set(context.repository.rows.ids(job_id))
    made_up = _made_up(context, job_id, before) if dry_run and not invocation.json else set()
    zone = jobs.get(context, job_id).timetable.zone
    if not invocation.json:
        for instant in found if dry_run else ():
            known = f"{instant:%Y%m%dT%H%M%SZ}" in before or instant in made_up
            out.line(f"{words.local(instant, zone)}{'  (has a row already)' if known else ''}")
        out.note(f"{_count(len(found))}{'; nothing was run' if dry_run else ''}")
    for instant in () if dry_run else found:
        if interrupts.signal is not None:
            break
        looked = jobs.claim_manual(context, job_id, stands_for=instant)
        echo = OutputEcho(out)
        started += [start.entry.run for start in looked.decision.starts]
        if not invocation.json:
            context.processes.show(started[-1], echo)
        running: list[Running] = []
        try:
            # Into the list one by one: what has started is waited for, also when the next one cannot start.
            running.extend(launch_each(context, looked, InlineLauncher()))
        finally:
            ended, trouble = wait_for(running)
            echo.finish()
        rows += ended
        out.note(f"{instant.isoformat()}: {', '.join(row.state.value for row in ended) or 'started elsewhere'}")
        if trouble:
            raise trouble[0]
    context.send_alerts()
    failed = [row for row in rows if row.state is not RunState.OK]
    error = JobFailedError(f"{len(failed)} of {len(rows)} runs failed", hint=f"see `chronos history {job_id}`")
    stopped = int(ExitCode.INTERRUPTED) if interrupts.signal is not None else None
    document: dict[str, Any] = {
        "job_id": job_id,
        "runs": started,
        "rows": [row.to_json() for row in rows],
        "backfill": [instant.isoformat() for instant in found],
    }
    return invocation.done(document, _nothing_more, error=error if failed else None, exit_code=stopped)


def _count(runs: int) -> str:
    if not runs:
        return "no time of its schedule lies in the range"
    return f"{runs} runs, one after the other" if runs > 1 else "1 run"


def _made_up(context: Context, job_id: str, run_ids: set[str]) -> set[datetime]:
    """Return the instants that manual runs have made up for already."""
    found = set()
    for run_id in run_ids:
        stored = context.repository.rows.get(job_id, run_id) if run_id.startswith("manual-") else None
        because = (stored.value.because if stored is not None else None) or ""
        if because.startswith(MADE_UP_FOR):
            with suppress(ValueError):  # another program's words
                found.add(datetime.fromisoformat(because.removeprefix(MADE_UP_FOR)))
    return found


def _nothing_more(out: Output) -> None:
    """Print nothing: all was said while it went."""
    del out
