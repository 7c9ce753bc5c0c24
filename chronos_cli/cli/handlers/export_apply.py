"""`chronos job export -o apply`: jobs in the words of `chronos apply`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.cli import references
from chronos_cli.cli.handlers.exported import hand_over
from chronos_cli.core.job import ours_of
from chronos_cli.operations.evaluate import read_record, why_unusable
from chronos_cli.operations.manifest.keys import ACTIONS, FILE_SCHEMA
from chronos_cli.operations.manifest.words import file_text, unsaid, words_of

if TYPE_CHECKING:
    from typing import Any

    from chronos_cli.cli.invocation import Invocation


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
            left_out[record.id or record.number] = why_unusable(record, problem)
            continue
        words = words_of(job, context.home)
        if not any(name in words for name in ACTIONS):
            left_out[job.id] = "it has nothing to run that a file can say"
            continue
        if silent := unsaid(job):
            invocation.output.warn(f"{job.id}: a file of jobs does not say {', '.join(silent)}")
        own = ours_of(job.record).get("set")
        sets.setdefault(own if isinstance(own, str) else None, []).append(words)
    files = {"": file_text(sets.items(), schema=FILE_SCHEMA)}
    return hand_over(invocation, files, count=sum(map(len, sets.values())), left_out=left_out, output=output)
