"""`chronos cancel`: drop timers at NAS; the jobs stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import plans, references
from chronos_cli.core.plan import Action, Plan, Step
from chronos_cli.errors import ExitCode, NasUnavailableError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.context import Context

_NAMED = 5
AGAIN = "the next `chronos reconcile` arms them again; `chronos job pause` keeps a job off"
_ONCE_MORE = "cancel again later"
_LIST_BUDGET_S = 30.0


def command(
    ctx: typer.Context,
    jobs: Annotated[list[str] | None, typer.Argument(metavar="JOB...", help=references.JOBS_HELP)] = None,
    everything: Annotated[bool, typer.Option("--all", help="whatever NAS holds for jobs of this store")] = False,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="whatever NAS holds for no job of this store or its profiles")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan, change nothing")] = False,
    detailed: Annotated[
        bool, typer.Option("--detailed-exitcode", help="with --dry-run: exit 3 when changes are pending")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> int:
    """Drop the timers that NAS holds. The jobs stay as they are.

    The next reconcile arms them again: to keep a job off, `chronos job pause` it. --all and --orphans ask first.

    Examples:
      chronos cancel backup
      chronos cancel --orphans --dry-run
    """
    invocation: Invocation = ctx.obj
    context = invocation.context()
    if not dry_run:
        context.must_be_active("cancel")
    context.require_wire()
    if sum((bool(jobs), everything, orphans)) != 1:
        raise UsageError("it must be said what to cancel", hint="name jobs, or give one of --all and --orphans")
    held = _held(context)
    known = references.names_of(context.repository.jobs())
    if jobs:
        chosen = [_id_of(context, reference, held) for reference in jobs]
    elif everything:
        chosen = [job_id for job_id in held if job_id in known]
    else:
        unexplained = held.keys() - known.keys()
        chosen = sorted(unexplained - context.elsewhere().all_known().profile_of.keys()) if unexplained else []
    plan = _plan(chosen, held)
    if not dry_run and plan.changes and not jobs:
        invocation.confirm(_question(plan, held, orphans=orphans), yes=yes)
    error = None
    if not dry_run and plan.changes:
        from chronos_cli.operations.arming.reconcile import cancel

        done = cancel(context, [step.job_id for step in plan.changes])
        failed = tuple(item for item in done if item.error is not None)
        error = plans.failure_of_steps(failed, len(done), again=_ONCE_MORE)
    again = AGAIN if not orphans else ""

    def render(out: Output) -> None:
        plans.show_plan(out, plan, known, context.home.zone, dry_run=dry_run)
        if again and plan.changes and not dry_run:
            out.note(again)

    document = {"dry_run": dry_run, "plan": plans.plan_json(plan), "note": again or None}
    code = ExitCode.PENDING if detailed and dry_run and plan.changes else None
    return invocation.done(document, render, error=error, exit_code=code)


def _question(plan: Plan, held: Mapping[str, datetime | None], *, orphans: bool) -> str:
    """Ask by name: a timer for no job here may have been armed by another machine under the same identity."""
    named = [step.job_id for step in plan.changes]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    text = f"cancel {len(named)} of {len(held)} timers at NAS: {', '.join(named[:_NAMED])}{more}"
    return f"{text}; another machine with this agent's token may have armed them" if orphans else text


def _held(context: Context) -> Mapping[str, datetime | None]:
    try:
        with context.require_wire().connect(_LIST_BUDGET_S) as nas:
            return {arm.job_id: arm.fire_at for arm in nas.list().arms}
    except NasUnavailableError as error:  # `reconcile`, its usual hint, would arm what is to be cancelled
        raise NasUnavailableError(error.message, hint=_ONCE_MORE, retry_after_s=error.retry_after_s) from error


def _id_of(context: Context, reference: str, held: Mapping[str, datetime | None]) -> str:
    """Return a job of the store, or one that only NAS knows by this very id."""
    try:
        return references.one(context, reference)
    except NotFoundError:
        if reference in held:
            return reference
        raise


def _plan(chosen: list[str], held: Mapping[str, datetime | None]) -> Plan:
    steps = [
        Step(action=Action.CANCEL, job_id=job_id, held=held[job_id], reason="asked for")
        for job_id in sorted(set(chosen))
        if job_id in held
    ]
    return Plan(steps=tuple(steps))
