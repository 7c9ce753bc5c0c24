"""`chronos job import FILE`: records of a store, or jobs in the words of `chronos apply`, told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.cli.handlers.apply import show
from chronos_cli.errors import UsageError
from chronos_cli.operations.foreign.crontab_source import read_file
from chronos_cli.operations.jobs.transfer import records_in
from chronos_cli.operations.manifest.bring import WantedJobs, bring
from chronos_cli.operations.manifest.files import is_manifest, wanted_of
from chronos_cli.operations.manifest.nodes import read_nodes
from chronos_cli.operations.witness import hear_for_change, stored_jobs
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation

_MAX_BYTES: Final = 256 * 2**20
_OF_RECORDS: Final = ("chronos", "enabled", "state", "next_run_at", "created_at", "no_agent", "schedule_display")


def read_either(file: str) -> list[dict[str, Any]] | WantedJobs:
    """Return the records of a file, or the jobs that it says in the words of `apply`. Raises UsageError."""
    data = read_file(file)
    try:
        document = read_json(data, max_bytes=_MAX_BYTES)
    except NotJsonError as error:
        if "UTF-8" in str(error):
            raise UsageError(f"{file} is not UTF-8 text", hint="save it as UTF-8") from error
        refused = UsageError(f"{file} is not JSON: {error}", hint="a crontab needs --from crontab")
        if data.lstrip()[:1] in (b"{", b"["):
            raise refused from error
        try:
            nodes = read_nodes(data, file)
        except UsageError as wrong:
            raise (wrong if file.endswith((".yaml", ".yml")) else refused) from error
        if not nodes or not is_manifest(nodes):
            raise refused from error
        return wanted_of(nodes)
    return wanted_of(read_nodes(data, file)) if _says_words(document) else records_in(document)


def _says_words(document: Any) -> bool:
    """Say whether a document of JSON has jobs in the words of `apply`, and not records."""
    if isinstance(document, dict) and ("schema" in document or not {"jobs", "id", "schedule"} & document.keys()):
        return False
    jobs = document.get("jobs", [document]) if isinstance(document, dict) else document
    if not isinstance(jobs, list) or not jobs or not all(isinstance(job, dict) for job in jobs):
        return False
    return all(isinstance(job.get("schedule"), str) and not any(key in job for key in _OF_RECORDS) for job in jobs)


def import_words(invocation: Invocation, wanted: WantedJobs, *, dry_run: bool, detailed: bool) -> int:
    """Import jobs that are said in words. Whose they are stays as it is."""
    context = invocation.context()
    if not dry_run:
        context = hear_for_change(context, *stored_jobs(context, {spec.job_id for spec in wanted.specs}))
    plan = bring(context, wanted, prune=False, dry_run=dry_run)
    return show(invocation, context, plan, dry_run=dry_run, detailed=detailed, left_out=[])
