"""Output of runs: finding a run by how people name it, and reading or following its output."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chronos_cli.core.row import RunState, output_of
from chronos_cli.errors import ConflictError, DocumentError, NotFoundError
from chronos_cli.files import place_of
from chronos_cli.operations.evaluate import as_known
from chronos_cli.operations.views.find import find_job_id
from chronos_cli.store.disk_errors import disk_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context

_RUNS = "cron/runs/"


def job_ids_with_rows(ctx: Context) -> list[str]:
    """Return every job that has rows, the removed ones too."""
    keys = ctx.repository.keys(_RUNS)
    return sorted({key[len(_RUNS) :].partition("/")[0] for key in keys if key.endswith(".json")})


def find_row(ctx: Context, reference: str) -> Row:
    """Return the row that `JOB/RUN`, a run id, or a job (its newest run) names.

    Raises NotFoundError, or ConflictError where several jobs have a run of that id.
    """
    job, slash, run_id = reference.partition("/")
    if slash:
        known = job if job in job_ids_with_rows(ctx) else find_job_id(ctx.repository.jobs(), job)
        stored = ctx.repository.rows.get(known, run_id)
        if stored is None:
            raise NotFoundError(f"job {known} has no run '{run_id}'", hint=f"see `chronos history {known}`")
        return as_known(ctx, stored.value)
    having = [job_id for job_id in job_ids_with_rows(ctx) if _has_row(ctx, job_id, reference)]
    if len(having) > 1:
        listed = ", ".join(f"{job_id}/{reference}" for job_id in having[:5])
        raise ConflictError(f"several jobs have a run '{reference}'", hint=f"it may be {listed}")
    if having:
        stored = ctx.repository.rows.get(having[0], reference)
        if stored is not None:
            return as_known(ctx, stored.value)
    job_id = reference if reference in job_ids_with_rows(ctx) else find_job_id(ctx.repository.jobs(), reference)
    for row in ctx.repository.rows.of(job_id):
        if row.started_at is not None:
            return as_known(ctx, row)
    if any(ctx.repository.rows.ids(job_id)):
        raise NotFoundError(f"job {job_id} has no run that can be read", hint=f"see `chronos history {job_id}`")
    raise NotFoundError(f"job {job_id} has not run yet", hint="see `chronos list` for when it will")


def _has_row(ctx: Context, job_id: str, run_id: str) -> bool:
    try:
        return ctx.repository.rows.get(job_id, run_id) is not None
    except DocumentError:
        return True  # it has one, and reading it says what is wrong


def output_key(row: Row) -> str | None:
    """Return where the output of a row's newest attempt is kept, or None where it printed nothing."""
    if row.output:
        return row.output
    for attempt in reversed(row.attempts):
        if attempt.get("output"):
            return str(attempt["output"])
    return None


def read_output(ctx: Context, row: Row) -> bytes:
    """Return what a run printed."""
    key = output_key(row) or output_of(row.job_id, row.run_id, row.attempt)
    found = ctx.repository.read(key)
    return b"" if found is None else found.data


def last_lines(data: bytes, count: int | None) -> bytes:
    """Return the last lines of an output; None: all."""
    if count is None:
        return data
    at = len(data) - data.endswith(b"\n")
    for _ in range(count):
        at = data.rfind(b"\n", 0, max(at, 0))
        if at < 0:
            return data
    return data[at + 1 :] if count else b""


def follow(
    ctx: Context, row: Row, *, home: Path, sleep: Callable[[float], None], tail: int | None = None
) -> Iterator[bytes]:
    """Yield a run's output as it comes, until the run is over. The file becomes shorter when its middle is cut out.

    `tail`: of what is there already, so many lines.
    """
    key = output_key(row) or output_of(row.job_id, row.run_id, row.attempt)
    at = 0
    while True:
        stored = ctx.repository.rows.get(row.job_id, row.run_id)
        over = stored is None or as_known(ctx, stored.value).state is not RunState.RUNNING
        data, cut = read_on(home, key, at)
        if cut:
            yield b"\n[... older output was cut out ...]\n"
        at = len(data) + (0 if cut else at)
        data, tail = last_lines(data, tail), None
        if data:
            yield data
        if over:
            return
        sleep(0.2)


def read_on(home: Path, key: str, at: int) -> tuple[bytes, bool]:
    """Return what an output holds from byte `at` on; and True where it became shorter, then it is all that it holds.

    Raises StoreError where it cannot be read, as where another user's link stands in its place.
    """
    try:
        with place_of(home, key) as place, os.fdopen(place.open(os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            cut = file.seek(0, 2) < at
            file.seek(0 if cut else at)
            return file.read(), cut
    except FileNotFoundError:  # it has printed nothing yet
        return b"", False
    except OSError as error:
        raise disk_error("read", home / key, error) from error
