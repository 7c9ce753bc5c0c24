"""`chronos job export -o apply`: jobs in the words of `chronos apply`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.cli import references
from chronos_cli.core.job import ours_of
from chronos_cli.files import write_output
from chronos_cli.operations.evaluate import read_record
from chronos_cli.operations.manifest.keys import ACTIONS, FILE_SCHEMA
from chronos_cli.operations.manifest.words import file_text, unsaid, words_of

if TYPE_CHECKING:
    from typing import Any

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output


def run(invocation: Invocation, jobs: list[str] | None, *, output: str | None) -> int:
    """Write jobs as a file of jobs, a document for each set, and name those that cannot be said."""
    context = invocation.context(armed=False)
    only = references.several(context, jobs, everything=not jobs)
    sets: dict[str | None, list[dict[str, Any]]] = {}
    left_out: dict[str, str] = {}
    for record in context.repository.jobs().records:
        if only is not None and record.id not in only:
            continue
        job, problem = read_record(context, record)
        if job is None:
            left_out[record.id or record.number] = problem or "it cannot be read"
            continue
        words = words_of(job, context.home)
        if not any(name in words for name in ACTIONS):
            left_out[job.id] = "it has nothing to run that a file can say"
            continue
        if silent := unsaid(job):
            invocation.output.warn(f"{job.id}: a file of jobs does not say {', '.join(silent)}")
        own = ours_of(job.record).get("set")
        sets.setdefault(own if isinstance(own, str) else None, []).append(words)
    for job_id, reason in left_out.items():
        invocation.output.warn(f"{job_id} is left out: {reason}")
    text = file_text(sets.items(), schema=FILE_SCHEMA)
    count = sum(map(len, sets.values()))
    if output is not None:
        write_output(output, text.encode())

    def render(out: Output) -> None:
        if output is None:
            out.text(text)
        else:
            out.line(f"wrote {count} jobs to {output}")

    return invocation.done({"files": {"": text}, "left_out": left_out, "output": output}, render)
