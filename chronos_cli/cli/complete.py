"""The candidates a shell asks for while a person types: job ids with their names, from the store's file, quickly.

No typer, no NAS, no lock, no bucket; after any error there are simply no candidates. A shell may take what it is
handed for code, so a candidate is an id that a job may have, and a name is shown in plain letters.
"""

from __future__ import annotations

import os
import sys

_MOST = 2_000
_MAX_BYTES = 64 * 2**20
_LONGEST_NAME = 60
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ._-+,:@/=#()")
"""Characters of a name that are shown: none of them means anything to a shell between quotes, or to a terminal."""


def main(arguments: list[str]) -> int:
    """Print one `id<TAB>name` a line, for `__complete jobs PREFIX [HOME]`."""
    if arguments[:1] != ["jobs"]:
        return 0
    prefix = arguments[1] if len(arguments) > 1 else ""
    home = arguments[2] if len(arguments) > 2 and arguments[2] else None
    shown = 0
    for job_id, name in _jobs(home):
        if job_id.startswith(prefix) and shown < _MOST:
            shown += 1
            label = "".join(c if c in _PLAIN else "?" for c in " ".join(name[: 4 * _LONGEST_NAME].split()))
            sys.stdout.write(f"{job_id}\t{label[:_LONGEST_NAME]}\n")
    return 0


def _jobs(home: str | None) -> list[tuple[str, str]]:
    from chronos_cli.config import load_config
    from chronos_cli.errors import ChronosError
    from chronos_cli.files import read_file

    try:
        config = load_config(environ=os.environ, home=home)
        folder = config.store or config.home
        data = read_file(os.path.join(folder, "cron", "jobs.json"), most=_MAX_BYTES)  # noqa: PTH118 - pathlib is slower
        return _named(_records(data))
    except (ChronosError, OSError):  # a person is typing: silence is right, the command itself will tell
        return []


def _records(data: bytes) -> list[object]:
    from chronos_cli.strict_json import NotJsonError, read_json

    try:
        document = read_json(data, max_bytes=_MAX_BYTES)
    except NotJsonError:  # one bad record leaves the others as they are; this way to them takes longer
        from chronos_cli.store.jobsfile import JobsFile

        return [record.value for record in JobsFile.parse(data).records if record.problem is None]
    records = document.get("jobs") if isinstance(document, dict) else document
    if isinstance(records, dict):
        return [{"id": key, **value} for key, value in records.items() if isinstance(value, dict)]
    return records if isinstance(records, list) else []


def _named(records: list[object]) -> list[tuple[str, str]]:
    from chronos_cli.contract import is_job_id

    found = [record for record in records if isinstance(record, dict) and is_job_id(record.get("id"))]
    return [(record["id"], str(record.get("name") or "")) for record in found]
