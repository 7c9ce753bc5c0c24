"""`chronos run` of several jobs: a few at a time, each with its own row, and one exit code for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.cli import references
from chronos_cli.cli.handlers.fire import detached
from chronos_cli.cli.handlers.job_change import completed_stay
from chronos_cli.core.row import RunState
from chronos_cli.durations import span
from chronos_cli.errors import ChronosError, ExitCode, JobFailedError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.launchers import Running

AT_ONCE: Final = 8
"""So many jobs run at a time where this command waits for them."""


def run_many(
    invocation: Invocation, jobs: list[str] | None, *, everything: bool, selector: str | None, detach: bool
) -> int:
    """Run several jobs now. One that cannot begin stops none of the others. Raises what choosing them raises."""
    from chronos_cli.operations.firing.launchers import DetachedLauncher, InlineLauncher
    from chronos_cli.running.signals import Interrupts

    rows: list[Row] = []
    begun: dict[str, list[str]] = {}
    failures: dict[str, ChronosError] = {}
    with Interrupts() as interrupts:
        context = invocation.context(interrupts=interrupts)
        context.must_be_active("run")
        if invocation.provider(context).provider.name == "builtin":
            context = invocation.context(armed=False, interrupts=interrupts)
        chosen = references.choose(context, jobs, everything=everything, selector=selector, fits=completed_stay)
        launcher: InlineLauncher | DetachedLauncher = detached(invocation) if detach else InlineLauncher()
        shown = None if detach or invocation.json else invocation.output
        for some in _batches(chosen.ids):
            if interrupts.signal is None:
                rows += _run(context, some, launcher, begun, failures, shown=shown)
        if isinstance(launcher, DetachedLauncher):
            launcher.answered()
        context.send_alerts()
        stopped = interrupts.signal is not None
    for job_id, reason in chosen.left_out.items():
        invocation.output.warn(f"{job_id} is left out: {reason}")
    bad = [row for row in rows if row.state not in (RunState.OK, RunState.RUNNING)]

    for job_id, error in failures.items():
        invocation.output.warn(f"{job_id} was not run: {error.line()}")
    document: dict[str, Any] = {
        "jobs": [
            {"job_id": job_id, "runs": runs, "rows": [row.to_json() for row in rows if row.job_id == job_id]}
            for job_id, runs in begun.items()
        ],
        "left_out": {**chosen.left_out, **{job_id: error.message for job_id, error in failures.items()}},
    }
    failed = _failed(bad, failures, len(chosen.ids))
    return invocation.done(
        document,
        lambda out: _show(out, rows, begun),
        error=failed,
        exit_code=int(ExitCode.INTERRUPTED) if stopped else None,
    )


def _show(out: Output, rows: list[Row], begun: dict[str, list[str]]) -> None:
    """Write how each run ended; of those that go on their names."""
    for row in rows:
        took = (row.finished_at - row.started_at).total_seconds() if row.finished_at and row.started_at else 0
        out.note(f"{row.job_id} {row.run_id}: {row.state.value} in {span(took)}")
    ended = {row.job_id for row in rows}
    for job_id, runs in begun.items():
        for run_id in runs if job_id not in ended else ():
            out.line(f"{job_id}/{run_id}")


def _batches(ids: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [ids[at : at + AT_ONCE] for at in range(0, len(ids), AT_ONCE)]


def _run(
    context: Context,
    ids: tuple[str, ...],
    launcher: Any,
    begun: dict[str, list[str]],
    failures: dict[str, ChronosError],
    *,
    shown: Output | None,
) -> list[Row]:
    """Claim and start the runs of these jobs, then wait for all of them: their rows; what failed by job.

    What they say is `shown` as it comes, each line after the name of its job.
    """
    from chronos_cli.cli.echo import NamedEcho, OutputEcho
    from chronos_cli.operations.firing.launchers import launch_each, wait_for
    from chronos_cli.operations.jobs import edit as jobs

    running: list[Running] = []
    rows: tuple[Row, ...] = ()
    echo = None if shown is None else OutputEcho(shown)
    named: list[NamedEcho] = []
    width = max(map(len, ids), default=0)
    try:
        for job_id in ids:
            try:
                looked = jobs.claim_manual(context, job_id)
                if echo is not None and looked.decision.starts:
                    named.append(NamedEcho(echo, f"{job_id:<{width}}"))
                    context.processes.show(looked.decision.starts[-1].entry.run, named[-1])
                running.extend(launch_each(context, looked, launcher))
            except ChronosError as error:
                failures[job_id] = error
                continue
            begun[job_id] = [start.entry.run for start in looked.decision.starts]
    finally:
        rows, trouble = wait_for(running)
        for one in named:
            one.finish()
        if echo is not None:
            echo.finish()
    if trouble:
        raise trouble[0]
    return list(rows)


def _failed(bad: list[Row], failures: dict[str, ChronosError], count: int) -> ChronosError | None:
    """Return the one error for all of them: that runs failed, else why some could not begin."""
    if bad:
        names = ", ".join(sorted({row.job_id for row in bad}))
        return JobFailedError(f"{len(bad)} of {count} failed: {names}", hint=f"see `chronos history {bad[0].job_id}`")
    return next(iter(failures.values()), None)
