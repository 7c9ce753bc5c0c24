"""`chronos tick`: run what is due, where no NAS calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.errors import JobFailedError, UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.firing.tick import TickResult


def command(
    ctx: typer.Context,
    max_parallel: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, envvar="CHRONOS_MAX_PARALLEL", help="at most so many runs at once [0: all]"),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="return once the runs have started")] = False,
    install: Annotated[
        str | None,
        typer.Option("--install", metavar="KIND", help="run nothing: show how crontab, systemd or kubernetes runs it"),
    ] = None,
    every: Annotated[str | None, typer.Option("--every", metavar="SPAN", help="with --install: how often [1m]")] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="with --install kubernetes: what has chronos")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="with --install: install it, in place of what is there")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="with --install: take it away again")] = False,
) -> int:
    """Run every job that is due, once, and return when the runs have ended.

    For a crontab, a systemd timer or a CronJob: nothing stays running. It uses the same claim as a call of NAS, so both
    may be live. It exits with 10 when a job ran and failed. --install shows the line, unit or manifest that runs it for
    this home; with --yes it is installed, and the same again changes nothing.

    Examples:
      chronos tick
      chronos tick --max-parallel 4 --detach
      chronos tick --install crontab --every 5m --yes
    """
    invocation: Invocation = ctx.obj
    if install is not None:
        from chronos_cli.cli.installing import install_tick

        return install_tick(invocation, install, every=every, image=image, yes=yes, remove=remove)
    if every is not None or image is not None or yes or remove:
        raise UsageError("--every, --image, --yes and --remove belong to --install", hint="say --install crontab")
    from chronos_cli.operations.firing.launchers import DetachedLauncher
    from chronos_cli.operations.firing.tick import tick
    from chronos_cli.running.detach import Runners

    config = invocation.config()
    context = invocation.context()
    context.must_be_active("tick")
    armed = invocation.provider(context).provider.name != "builtin"
    if not armed:
        context = invocation.context(armed=False)
    launcher = DetachedLauncher(
        Runners(),
        launching={"home": config.home, "armed": armed},
        environment=invocation.environ,
        secrets=invocation.secrets,
        wait_s=0.0 if detach else None,
    )
    parallel = config.max_parallel if max_parallel is None else max_parallel
    ticked = tick(context, launcher, max_parallel=parallel, leave_s=config.fallback_after)
    error = next(iter(ticked.failed.values()), None)
    if error is None and ticked.unsuccessful:
        row = ticked.unsuccessful[0]
        hint = f"see `chronos logs {row.job_id}/{row.run_id}`"
        error = JobFailedError(f"job {row.job_id} {row.state.value}: {row.reason or 'no reason is known'}", hint=hint)
    for job_id, problem in ticked.unarmed.items():
        invocation.output.warn(f"job {job_id} is not armed at NAS: {problem.message}")
    return invocation.done(_document(ticked), lambda out: _show(out, ticked), error=error)


def _document(ticked: TickResult) -> dict[str, object]:
    return {
        "started": list(ticked.started),
        "runs": [row.to_json() for row in ticked.rows],
        "failed": {job_id: error.as_json() for job_id, error in ticked.failed.items()},
        "unarmed": {job_id: error.as_json() for job_id, error in ticked.unarmed.items()},
        "doubts": {job_id: doubt.as_json() for job_id, doubt in ticked.doubts.items()},
        "install": None,
    }


def _show(out: Output, ticked: TickResult) -> None:
    if not ticked.started and not ticked.failed:
        out.note("nothing was started" if ticked.owed else "nothing was due")
    # It runs every minute, often under cron, which mails all that is printed: only trouble is.
    for row in () if out.quiet else ticked.rows:
        out.line(f"{row.job_id}  {row.run_id}  {row.state.value}{f': {row.reason}' if row.reason else ''}")
    for row in () if out.quiet else ticked.owed:
        out.line(f"{row.job_id}  {row.run_id}  {row.state.value}{f': {row.because}' if row.because else ''}")
    if len(ticked.started) > len(ticked.rows) and not out.quiet:
        out.line(f"{len(ticked.started) - len(ticked.rows)} started")
    for job_id, error in ticked.failed.items():
        out.warn(f"job {job_id}: {error.line()}")
    for job_id, doubt in ticked.doubts.items():
        out.warn(f"job {job_id}: {doubt.text}; {doubt.mend}")
