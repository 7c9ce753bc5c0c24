"""`chronos tick`: run what is due, where no NAS calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.errors import JobFailedError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.tick import Ticked


def command(
    ctx: typer.Context,
    max_parallel: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, envvar="CHRONOS_MAX_PARALLEL", help="at most so many runs at once [0: all]"),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="return once the runs have started")] = False,
) -> int:
    """Run every job that is due, once, and return when the runs have ended.

    For a crontab, a systemd timer or a CronJob: nothing stays running. It uses the same claim as a call of NAS, so both
    may be live. It exits with 10 when a job ran and failed.

    Examples:
      chronos tick
      chronos tick --max-parallel 4 --detach
    """
    from chronos_cli.operations.starting import Detached
    from chronos_cli.operations.tick import tick
    from chronos_cli.running.detach import Runners

    invocation: Invocation = ctx.obj
    config = invocation.config()
    context = invocation.context()
    armed = invocation.provider(context).provider.name != "builtin"
    if not armed:
        context = invocation.context(armed=False)
    launcher = Detached(
        Runners(),
        launching={"home": config.home, "armed": armed},
        environment=invocation.environ,
        secrets=invocation.secrets,
        wait_s=0.0 if detach else None,
    )
    ticked = tick(context, launcher, max_parallel=config.max_parallel if max_parallel is None else max_parallel)
    error = next(iter(ticked.failed.values()), None)
    if error is None and ticked.unsuccessful:
        row = ticked.unsuccessful[0]
        error = JobFailedError(f"job {row.job_id} {row.state.value}: {row.reason or 'no reason is known'}")
    for job_id, problem in ticked.unarmed.items():
        invocation.output.warn(f"job {job_id} is not armed at NAS: {problem.message}")
    return invocation.done(_document(ticked), lambda out: _show(out, ticked), error=error)


def _document(ticked: Ticked) -> dict[str, object]:
    return {
        "started": list(ticked.started),
        "runs": [row.to_json() for row in ticked.rows],
        "failed": {job_id: error.as_json() for job_id, error in ticked.failed.items()},
        "unarmed": {job_id: error.as_json() for job_id, error in ticked.unarmed.items()},
    }


def _show(out: Output, ticked: Ticked) -> None:
    if not ticked.started and not ticked.failed:
        out.note("nothing was due")
    for row in ticked.rows:
        out.line(f"{row.job_id}  {row.run_id}  {row.state.value}{f': {row.reason}' if row.reason else ''}")
    if len(ticked.started) > len(ticked.rows):
        out.line(f"{len(ticked.started) - len(ticked.rows)} started")
    for job_id, error in ticked.failed.items():
        out.warn(f"job {job_id}: {error.message}")
