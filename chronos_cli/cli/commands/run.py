"""`chronos run`: run a job now, outside its schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.handlers.fire import detached
from chronos_cli.core.row import RunState
from chronos_cli.durations import span
from chronos_cli.errors import ExitCode, JobFailedError, UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.launchers import Launcher, Running


def command(
    ctx: typer.Context,
    job: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help=references.JOBS_HELP)] = None,
    everything: Annotated[bool, typer.Option("--all", help=references.ALL_HELP)] = False,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help=references.SELECTOR_HELP)
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="return once the run has started; it goes on")] = False,
    env: Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="a variable of this run; as with job add")
    ] = None,
    given: Annotated[
        str | None, typer.Option("--input", metavar="FILE|-", help="the standard input of this run's command")
    ] = None,
    backfill: Annotated[
        str | None,
        typer.Option("--backfill", metavar="FROM..TO", help="a run for each time of its schedule in a range"),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="of --backfill: at most so many [100]")
    ] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="of --backfill: show the times, run nothing")] = False,
) -> int:
    """Run a job now. It neither takes nor moves a scheduled occurrence, and does not count for --repeat.

    Its output is shown as it comes, but with --json and --detach. Ctrl-C ends the run, with exit 130; a run with
    --detach goes on without this command. Exit 10: it ran and failed. A hold stops this too.

    A run that is given --env or --input is not retried: no other process has what it was given. With --backfill the job
    runs once for each time of its schedule from FROM to TO (dates or times, both included), one run after the other,
    each told its time in CHRONOS_FIRE_AT.

    Examples:
      chronos run digest
      chronos run digest --detach
      chronos run -l team=ops
      chronos run digest --env MODE=full --input list.txt
      chronos run digest --backfill 2026-11-01..2026-11-07 --dry-run
    """
    invocation: Invocation = ctx.obj
    own = bool(env) or given is not None
    if backfill is not None and (detach or own):
        raise UsageError("--backfill goes with neither --detach, --env nor --input", hint="give it alone")
    if dry_run and backfill is None:
        raise UsageError("--dry-run belongs to --backfill", hint="`chronos job show` says what a run would do")
    if everything or selector is not None or len(job or ()) != 1:
        if own or backfill is not None:
            raise UsageError("--env, --input and --backfill are for one job", hint="name one job")
        from chronos_cli.cli.handlers.run_many import run_many

        return run_many(invocation, job, everything=everything, selector=selector, detach=detach)
    reference = (job or [""])[0]
    if backfill is not None:
        from chronos_cli.cli.handlers.backfill import run_backfill

        return run_backfill(invocation, reference, backfill, limit=limit, dry_run=dry_run)
    return _run_one(invocation, reference, detach=detach, env=env, given=given)


def _run_one(invocation: Invocation, job: str, *, detach: bool, env: list[str] | None, given: str | None) -> int:
    from chronos_cli.operations.firing.launchers import DetachedLauncher, InlineLauncher
    from chronos_cli.operations.jobs import edit as jobs
    from chronos_cli.running.signals import Interrupts

    with Interrupts() as interrupts:
        context = invocation.context(interrupts=interrupts)
        context.must_be_active("run")
        if invocation.provider(context).provider.name == "builtin":
            context = invocation.context(armed=False, interrupts=interrupts)
        job_id = references.one(context, job)
        launcher: Launcher = detached(invocation) if detach else InlineLauncher()
        if env or given is not None:
            from chronos_cli.cli.handlers.given import GivenLauncher, with_given

            record = with_given(jobs.get(context, job_id).record, env, given)
            started, rows = _run(invocation, context, job_id, GivenLauncher(launcher, record), detach=detach, own=True)
        else:
            started, rows = _run(invocation, context, job_id, launcher, detach=detach, own=False)
        if isinstance(launcher, DetachedLauncher):
            launcher.answered()
        context.send_alerts()
        stopped = interrupts.signal is not None
    return _said(invocation, job_id, started, rows, stopped=stopped)


def _run(
    invocation: Invocation, context: Context, job_id: str, launcher: Launcher, *, detach: bool, own: bool
) -> tuple[list[str], tuple[Row, ...]]:
    """Run a job once, its output shown as it comes; the runs that were started, and the rows of those that ended."""
    from chronos_cli.cli.echo import OutputEcho
    from chronos_cli.operations.firing.launchers import launch_each, wait_for
    from chronos_cli.operations.jobs import edit as jobs

    looked = jobs.claim_manual(context, job_id, own=own)
    started = [start.entry.run for start in looked.decision.starts]
    echo = OutputEcho(invocation.output)
    if started and not invocation.json and not detach:
        context.processes.show(started[-1], echo)
    running: list[Running] = []
    try:
        # Into the list one by one: what has started is waited for, also when the next one cannot start.
        running.extend(launch_each(context, looked, launcher))
    finally:
        rows, trouble = wait_for(running)
        echo.finish()
    if trouble:
        raise trouble[0]
    return started, rows


def _said(invocation: Invocation, job_id: str, started: list[str], rows: tuple[Row, ...], *, stopped: bool) -> int:
    """Say what came of a run."""
    failed = [row for row in rows if row.state not in (RunState.OK, RunState.RUNNING)]
    error = None
    if failed:
        row = failed[-1]
        hint = f"see `chronos logs {job_id}/{row.run_id}`" if row.output else f"see `chronos history {job_id}`"
        error = JobFailedError(row.reason or row.state.value, hint=hint)

    def render(out: Output) -> None:
        if stopped:
            out.note("interrupted: the run was ended (with --detach it would have gone on)")
        for row in rows:
            took = (row.finished_at - row.started_at).total_seconds() if row.finished_at and row.started_at else 0
            out.note(f"{job_id} {row.run_id}: {row.state.value} in {span(took)}")
        for run_id in started if not rows else ():
            out.line(f"{job_id}/{run_id}")
            out.note(f"started; follow it with `chronos logs {job_id}/{run_id} -f`")

    document = {"job_id": job_id, "runs": started, "rows": [row.to_json() for row in rows]}
    code = int(ExitCode.INTERRUPTED) if stopped else None
    return invocation.done(document, render, error=error, exit_code=code)
