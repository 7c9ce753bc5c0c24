"""`chronos run`: run a job now, outside its schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import references
from chronos_cli.cli.handlers.fire import detached
from chronos_cli.core.row import RunState
from chronos_cli.durations import span
from chronos_cli.errors import ExitCode, JobFailedError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.firing.fire import Running


def command(
    ctx: typer.Context,
    job: Annotated[list[str] | None, typer.Argument(metavar="[JOB...]", help=references.JOBS_HELP)] = None,
    everything: Annotated[bool, typer.Option("--all", help=references.ALL_HELP)] = False,
    selector: Annotated[
        str | None, typer.Option("--selector", "-l", metavar="LABELS", help=references.SELECTOR_HELP)
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="return once the run has started; it goes on")] = False,
) -> int:
    """Run a job now. It neither takes nor moves a scheduled occurrence, and does not count for --repeat.

    Its output is shown as it comes, but with --json and --detach. Ctrl-C ends the run, with exit 130; a run with
    --detach goes on whatever becomes of this command. Exit 10: it ran and failed. A hold stops this too.

    Examples:
      chronos run digest
      chronos run digest --detach
      chronos run -l team=ops
    """
    invocation: Invocation = ctx.obj
    if everything or selector is not None or len(job or ()) != 1:
        from chronos_cli.cli.handlers.run_many import run_many

        return run_many(invocation, job, everything=everything, selector=selector, detach=detach)
    return _run_one(invocation, (job or [""])[0], detach=detach)


def _run_one(invocation: Invocation, job: str, *, detach: bool) -> int:
    from chronos_cli.cli.echo import OutputEcho
    from chronos_cli.operations.firing.fire import launch_each, wait_for
    from chronos_cli.operations.firing.launchers import DetachedLauncher, InlineLauncher
    from chronos_cli.operations.jobs import edit as jobs
    from chronos_cli.running.signals import Interrupts

    with Interrupts() as interrupts:
        context = invocation.context(interrupts=interrupts)
        context.must_be_active("run")
        if invocation.provider(context).provider.name == "builtin":
            context = invocation.context(armed=False, interrupts=interrupts)
        job_id = references.one(context, job)
        looked = jobs.claim_manual(context, job_id)
        launcher: InlineLauncher | DetachedLauncher = detached(invocation) if detach else InlineLauncher()
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
        if isinstance(launcher, DetachedLauncher):
            launcher.answered()
        context.send_alerts()
        stopped = interrupts.signal is not None
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
