"""`chronos hold`: stop all jobs, or let them go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.errors import ChronosError, UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output


def command(
    ctx: typer.Context,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="why, for whoever meets it")] = None,
    off: Annotated[bool, typer.Option("--off", help="lift the hold")] = False,
) -> int:
    """Hold all jobs: no fire, tick or manual run starts anything until the hold is lifted. What runs goes on.

    NAS keeps calling; each call is told to come again in 15 minutes. Lifting it arms every job at once.

    Examples:
      chronos hold --reason 'database migration'
      chronos hold --off
    """
    invocation: Invocation = ctx.obj
    if off and reason is not None:
        raise UsageError("--off and --reason contradict each other", hint="give one of them")
    from chronos_cli.operations.jobs import hold

    context = invocation.context()
    before = context.repository.stop_reason()
    error: ChronosError | None = None
    if not off:
        hold.engage(context, reason or "held by hand")
    elif before is not None:
        hold.lift(context)
        try:
            invocation.provider(context).on_jobs_changed()
        except ChronosError as failed:  # the hold is lifted either way; that nobody was told is the command's error
            error = type(failed)(f"lifted, but not armed: {failed.message}", hint="run `chronos reconcile`")
    now = context.repository.stop_reason()

    def render(out: Output) -> None:
        if now is not None:
            out.line(f"all jobs are held: {now}")
        else:
            out.line("the hold is lifted" if before is not None else "no job was held")

    return invocation.done({"held": now, "changed": now != before}, render, error=error)
