"""`chronos hold`: stop all jobs, or let them go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.errors import ChronosError, TemporaryError, UsageError
from chronos_cli.operations.views.prospect import held_words

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.context import Context


def command(
    ctx: typer.Context,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="why, for whoever meets it")] = None,
    ttl: Annotated[
        str | None, typer.Option("--ttl", metavar="DURATION", help="when the hold ends by itself, counted from now")
    ] = None,
    on: Annotated[bool, typer.Option("--on", help="hold all jobs")] = False,
    off: Annotated[bool, typer.Option("--off", help="lift the hold")] = False,
) -> int:
    """Hold all jobs: no fire, tick or manual run starts anything until the hold is lifted. Runs go on.

    Without an option it shows the hold that stands. --on, --reason or --ttl hold, and write down who did and since
    when; the reason of a hold that stands stays, unless another is given. NAS keeps calling; each call is told to come
    again in 15 minutes. Lifting it arms every job at once.

    Examples:
      chronos hold
      chronos hold --reason 'database migration' --ttl 2h
      chronos hold --off
    """
    invocation: Invocation = ctx.obj
    given = {"--on": on, "--reason": reason is not None, "--ttl": ttl is not None}
    other = next((name for name, is_given in given.items() if is_given), None)
    if off and other is not None:
        raise UsageError(f"--off and {other} contradict each other", hint="give one of them")
    from chronos_cli.operations.jobs import hold

    context = invocation.context()
    before = context.repository.hold(context.clock())
    error: ChronosError | None = None
    if other is not None:
        from chronos_cli.durations import parse_duration

        reason = reason or ("held by hand" if before is None else None)
        hold.engage(context, reason=reason, ttl_s=None if ttl is None else parse_duration(ttl), by=invocation.user)
        if ttl is not None and before is not None:
            error = _follow(invocation, context, "held")  # what was armed under it may lie beyond its new end
    elif not off and before is None:
        raise UsageError("no job is held; `chronos hold` alone shows the hold", hint="to hold all jobs, give --on")
    elif off and before is not None:
        hold.lift(context)
        error = _follow(invocation, context, "lifted")
    now = context.repository.hold(context.clock())

    def render(out: Output) -> None:
        if now is not None:
            said = held_words(now, context.clock(), context.home.zone)
            out.line(f"all jobs are {said}")
        else:
            out.line("the hold is lifted" if before is not None else "no job was held")

    document = {
        "held": None if now is None else now.text,
        "expires_at": None if now is None or now.expires_at is None else now.expires_at.isoformat(),
        "changed": now != before,
    }
    return invocation.done(document, render, error=error)


def _follow(invocation: Invocation, context: Context, done: str) -> ChronosError | None:
    """Have the trigger follow. The hold stands either way; a trigger that was not told is the failure."""
    try:
        invocation.provider(context).on_jobs_changed()
    except ChronosError as failed:
        again = "run `chronos reconcile`"
        first = "" if isinstance(failed, TemporaryError) or again in failed.hint else f"{failed.hint}; then "
        return type(failed)(f"{done}, but not armed: {failed.message}", hint=f"{first}{again}")
    return None
