"""A plan as people and programs read it: the same for a dry run and for the run that carries it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.cli import humanize as words
from chronos_cli.core.instant import iso_text
from chronos_cli.core.plan import Action
from chronos_cli.errors import AuthError, ChronosError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, tzinfo

    from chronos_cli.cli.output import Output
    from chronos_cli.core.plan import Plan, Step
    from chronos_cli.operations.arming.apply_plan import StepResult
    from chronos_cli.operations.arming.reconcile import ReconcileResult

_SIGN: Final = {Action.ARM: "+", Action.MOVE: "~", Action.CANCEL: "-", Action.KEEP: "=", Action.ORPHAN: "?"}
_STYLE: Final = {Action.ARM: "green", Action.MOVE: "yellow", Action.CANCEL: "red", Action.ORPHAN: "cyan"}


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the steps and their counts."""
    return {
        "steps": [
            {
                "action": step.action.value,
                "job_id": step.job_id,
                "held": iso_text(step.held),
                "wanted": iso_text(step.wanted),
                "reason": step.reason or None,
            }
            for step in plan.steps
        ],
        "counts": plan.counts(),
        "guard": plan.guard,
    }


def show_plan(
    out: Output,
    plan: Plan,
    names: Mapping[str, str],
    zone: tzinfo,
    *,
    dry_run: bool,
    settled: Sequence[str] = (),
) -> None:
    """Print one line a step, and a summary line. `settled`: the jobs whose records are put right in the store."""

    def called(job_id: str) -> str:
        name = names.get(job_id)
        return f"{job_id} ({words.brief(name)})" if name and name != job_id else job_id

    for step in plan.steps:
        if out.quiet or (step.action is Action.KEEP and len(plan.steps) > 100 and not out.verbosity):
            continue
        out.line(out.style(f"{_SIGN[step.action]} {step.action.value:<6} {called(step.job_id)}  {_what(step, zone)}"
                           .rstrip(), _STYLE.get(step.action, "")))  # fmt: skip
    for job_id in () if out.quiet else settled:
        out.line(out.style(f"~ settle {called(job_id)}  (what came due or ended is written into the store)", "yellow"))
    if plan.guard is not None:
        out.warn(f"nothing is cancelled: {plan.guard}; --prune cancels all the same")
    if not out.quiet:
        counts = plan.counts()
        text = (
            f"{counts['arm']} to arm, {counts['move']} to move, {counts['cancel']} to cancel, {counts['keep']} to keep"
        )
        if counts["orphan"]:
            text += f", {counts['orphan']} not ours"
        if settled:
            text += f", {len(settled)} to settle"
        idle = " Nothing to change." if not plan.changes and not settled else ""
        out.line(f"Plan: {text}.{' Nothing was changed.' if dry_run and not idle else idle}")


def note_unread(out: Output, result: ReconcileResult) -> None:
    """Name the jobs whose record, or whose note of what was sent, cannot be read."""
    for job_id, reason in (result.invalid or {}).items():
        out.note(f"! {job_id} cannot be read and is left alone: {reason}")


def failure_of(result: ReconcileResult) -> ChronosError | None:
    """Return the one error that a run with failed steps ends with."""
    return failure_of_steps(result.failed, len(result.plan.changes))


def failure_of_steps(
    failed: tuple[StepResult, ...], total: int, *, again: str = "run `chronos reconcile` again"
) -> ChronosError | None:
    """Return the error of the steps that NAS did not take: a refusal if there is one, else `again`."""
    if not failed:
        return None
    errors = [done.error for done in failed if done.error is not None]
    worst = next((error for error in errors if isinstance(error, AuthError)), errors[0])
    text = f"NAS did not take {len(failed)} of {total}: {worst.message}"
    if isinstance(worst, AuthError):
        return type(worst)(text, hint=worst.hint)
    if isinstance(worst, TemporaryError):
        return TemporaryError(text, hint=again)
    partial = ChronosError(text, hint=worst.hint)
    return type(worst)(text, hint=worst.hint) if failed else partial


def _what(step: Step, zone: tzinfo) -> str:
    if step.action is Action.MOVE:
        return f"{_times(step.held, step.wanted, zone)}  ({step.reason})"
    at = step.wanted or step.held
    text = "" if at is None else words.instant(at, zone)
    return f"{text}  ({step.reason})" if step.action in (Action.ORPHAN, Action.KEEP) and step.reason else text


def _times(held: datetime | None, wanted: datetime | None, zone: tzinfo) -> str:
    """Return from when to when; the day is said where it differs."""
    if wanted is None:
        return "-"
    return f"? -> {words.instant(wanted, zone)}" if held is None else words.from_to(held, wanted, zone)
