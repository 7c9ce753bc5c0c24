"""`chronos job export --format crontab|kubernetes|systemd`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chronos_cli.cli import references
from chronos_cli.config.zone import machine_zone
from chronos_cli.errors import UsageError
from chronos_cli.files import write_output
from chronos_cli.operations.foreign.exports import FORMATS, export_as

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output


def run(invocation: Invocation, form: str, jobs: list[str] | None, *, output: str | None, image: str | None) -> int:
    """Write jobs in another scheduler's words, and name those that it cannot say."""
    if form not in FORMATS:
        raise UsageError(f"there is no format '{form}'", hint=f"use apply, {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    context = invocation.context(armed=False)
    only = references.several(context, jobs, everything=not jobs)
    found = export_as(context, form, only, image=image, machine_zone=machine_zone(invocation.environ, etc="/etc")[0])
    for job_id, reason in found.left_out.items():
        invocation.output.warn(f"{job_id} is left out: {reason}")
    if output is not None:
        for name, text in found.files.items():
            if name:
                Path(output).mkdir(mode=0o700, parents=True, exist_ok=True)
            write_output(str(Path(output, name)) if name else output, text.encode())

    def render(out: Output) -> None:
        if output is not None:
            out.line(f"wrote {found.count} jobs to {output}")
        else:
            for name, text in found.files.items():
                out.text(f"# {name}\n{text}\n" if name else text)

    document = {"files": dict(found.files), "left_out": dict(found.left_out), "output": output}
    return invocation.done(document, render)
