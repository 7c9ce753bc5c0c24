"""`chronos job export --format crontab|kubernetes|systemd`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.cli import references
from chronos_cli.cli.handlers.exported import hand_over
from chronos_cli.config.zone import machine_zone
from chronos_cli.errors import UsageError
from chronos_cli.operations.foreign.exports import FORMATS, export_as

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def run(invocation: Invocation, form: str, jobs: list[str] | None, *, output: str | None, image: str | None) -> int:
    """Write jobs in another scheduler's words, and name those that it cannot say."""
    if form not in FORMATS:
        raise UsageError(f"there is no format '{form}'", hint=f"use apply, {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    context = invocation.context(armed=False)
    only = references.several(context, jobs, everything=not jobs)
    found = export_as(context, form, only, image=image, machine_zone=machine_zone(invocation.environ, etc="/etc")[0])
    for job_id, silent in found.unsaid.items():
        invocation.output.warn(f"{job_id}: not said in it: {', '.join(silent)}")
    return hand_over(invocation, found.files, count=found.count, left_out=found.left_out, output=output)
