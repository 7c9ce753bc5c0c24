"""`chronos demo`: the whole loop at work."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from chronos_cli.errors import ChronosError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.demo.events import Event
    from chronos_cli.demo.scenario import DemoVerdict

_MARKS: Final = {
    "armed": ("◷", "@", "cyan"),
    "re-armed": ("◷", "@", "cyan"),
    "relayed": ("→", ">", "dim"),
    "verified": ("✓", "v", "dim"),
    "claimed": ("●", "*", "bold"),
    "running": ("▶", ">", "yellow"),
    "answered": ("←", "<", "dim"),
    "ok": ("✔", "+", "green"),
    "failed": ("✘", "x", "red"),
}


class OccurrencesError(ChronosError):
    """An occurrence did not run exactly once."""

    code = "demo"
    default_hint = "run it again with --keep DIR; if it stays, `chronos --home DIR/agent history` shows each run"


def command(
    ctx: typer.Context,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", envvar="CHRONOS_DEMO_KEEP", help="leave the home there, working")
    ] = None,
) -> int:
    """Show a job being armed at a NAS, called back, verified, claimed, run and armed again. Takes about 12 seconds.

    Everything is real and on this machine only: `chronos-nas serve`, the WSGI shim, signed tokens, processes. It ends
    by itself, with 0 only if every occurrence that was due ran exactly once, or stands on record as passed over since
    this machine was too busy, and leaves nothing behind.

    Examples:
      chronos demo
      chronos demo --keep ./demo-home
    """
    from chronos_cli.demo.environment import set_up
    from chronos_cli.demo.scenario import DemoPlay

    invocation: Invocation = ctx.obj
    out = invocation.output
    seen: list[Event] = []
    with set_up(keep, os.environ) as stage:
        if not invocation.json:
            out.line(
                f"chronos-nas listens on {stage.nas_url}, the shim beside it; three jobs are added and reconciled."
            )
            out.line()
        play = DemoPlay(stage)
        for event in play.events():
            seen.append(event)
            if not invocation.json:
                out.line(_line(out, event))
        verdict = play.verdict()
    faults = verdict.faults
    error = OccurrencesError(faults[0]) if faults else None
    return invocation.done(_document(verdict, seen, keep), lambda out: _sum_up(out, verdict, keep), error=error)


def _line(out: Output, event: Event) -> str:
    fancy, plain, style = _MARKS.get(event.what, ("·", "-", "dim"))
    mark = fancy if out.unicode else plain
    clock = f"{event.at:%H:%M:%S}.{event.at.microsecond // 1000:03d}"
    text = f"{clock}  {event.job_id:<6} {mark} {event.what:<9} {event.detail}"
    return out.style(text[: out.width] if out.terminal else text, style)


def _sum_up(out: Output, verdict: DemoVerdict, keep: Path | None) -> None:
    out.line()
    for job_id, instants in verdict.due.items():
        ran, passed = sum(verdict.ran[job_id].values()), len(verdict.passed_over[job_id])
        out.line(f"{job_id:<6}  {len(instants)} due, {ran} run" + (f", {passed} passed over" if passed else ""))
    late = sum(map(len, verdict.passed_over.values()))
    if not verdict.faults and late:
        were = "occurrence was" if late == 1 else "occurrences were"
        out.line(
            f"This machine was busy: {late} {were} passed over, and on record as that. Every other ran exactly once."
        )
    elif not verdict.faults:
        out.line("Every occurrence that was due ran exactly once.")
    if keep is not None:
        out.line(f"The home is in {keep}: try `chronos --home {keep}/agent history`.")


def _document(verdict: DemoVerdict, seen: list[Event], keep: Path | None) -> dict[str, Any]:
    return {
        "jobs": [
            {
                "id": job_id,
                "due": [at.isoformat() for at in instants],
                "runs": sum(verdict.ran[job_id].values()),
                "passed_over": [at.isoformat() for at in verdict.passed_over[job_id]],
            }
            for job_id, instants in verdict.due.items()
        ],
        "events": dict(Counter(event.what for event in seen)),
        "faults": verdict.faults,
        "kept": None if keep is None else str(keep),
    }
