"""The half of a store that newer Hermes versions keep in `cron/runtime.db`, beside jobs.json.

jobs.json has what a person declares, the database what the scheduler keeps of each job: its next time, its claims, its
last end. A job is both together, and a field that stands in the file wins. So what is changed here is written to the
file alone: Hermes takes it from there, and brings it into its database with its own next write.

    job_runtime (job_id TEXT PRIMARY KEY, state_json TEXT)
    pending_definitions: a write that Hermes began and has not ended; until it has, the file may be the older one

Read only, and only while the lock of jobs.json is held or a version is compared afterwards.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from chronos_cli.errors import StoreError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_NAME: Final = "runtime.db"

_TABLE: Final = "job_runtime"
_PENDING: Final = "pending_definitions"


class SplitStoreError(StoreError):
    """The half of a store that Hermes keeps in its database cannot be read."""

    code = "split_store"


@frozen
class RuntimeRows:
    """Content of the database by job id, and a mark that changes when any of it does."""

    rows: Mapping[str, Mapping[str, Any]]
    mark: str


def read_rows(path: str, *, home: str, timeout_s: float) -> RuntimeRows:
    """Return what the database at `path` holds. Raises SplitStoreError, which says how the jobs can be had anyhow.

    `timeout_s`: how long to wait for a writer.
    """
    import sqlite3
    from urllib.parse import quote

    if os.path.islink(path):  # noqa: PTH114 - plain text in, plain text out
        raise _unread(home, "it is a link, which is not followed")
    if not os.path.isfile(path):  # noqa: PTH113 - as above
        raise _unread(home, "it is no regular file")  # to open a pipe would wait for ever
    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, timeout=timeout_s)
    except sqlite3.Error as error:
        raise _unread(home, str(error)) from error
    try:
        connection.execute("BEGIN")  # one moment for all that is read
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            return RuntimeRows(rows={}, mark="0")
        if _TABLE not in tables:
            raise _unread(home, f"it has no table {_TABLE}, so it is of a form that is not known here")
        if _PENDING in tables and connection.execute(f"SELECT 1 FROM {_PENDING} LIMIT 1").fetchone():  # noqa: S608
            raise _unread(home, "hermes has begun a write of its jobs and not ended it; `hermes cron list` ends it")
        found = connection.execute(f"SELECT job_id, state_json FROM {_TABLE} ORDER BY job_id").fetchall()  # noqa: S608
    except sqlite3.Error as error:
        raise _unread(home, str(error)) from error
    finally:
        connection.close()
    if not all(isinstance(job_id, str) for job_id, _ in found):
        raise _unread(home, f"a job_id in its table {_TABLE} is no text")
    rows = {job_id: _state(home, job_id, text) for job_id, text in found}
    return RuntimeRows(rows=rows, mark=f"{crc32(repr(found).encode('utf-8', 'surrogatepass')):08x}")


def _state(home: str, job_id: str, text: object) -> Mapping[str, Any]:
    try:
        state = json.loads(text) if isinstance(text, str | bytes) else None
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise _unread(home, f"its row of job '{job_id[:128]}' is no JSON object")
    return state


def _unread(home: str, why: str) -> SplitStoreError:
    return SplitStoreError(
        f"cron/{STATE_NAME} of {home}, where hermes keeps when its jobs are due, cannot be read: {why}",
        hint=f"`chronos job import --from {home}` brings the jobs into another home; until then fires are put off",
    )
