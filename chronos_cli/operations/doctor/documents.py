"""The check of the documents beside jobs.json: rows, arm documents, packs, and the small ones of the store."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ChronosError, DocumentError, UnreadableError
from chronos_cli.operations.doctor.check import Check, fail, failed_with, ok
from chronos_cli.operations.firing.probe import PROBE_KEY, Probe
from chronos_cli.operations.views.logs import job_ids_with_rows
from chronos_cli.store.arms.pack import MAX_PACK_BYTES, PREFIX
from chronos_cli.store.documents import NOT_READ, why_not
from chronos_cli.store.repository import STORE_KEY, id_in
from chronos_cli.store.ticks import TICK_KEY
from chronos_cli.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.operations.context import Context

ROWS_AT_MOST: Final = 5_000
"""So many rows are read, of each job the newest first: each is a file."""

_EACH: Final = 50
_SMALL: Final = (
    (STORE_KEY, id_in, "chronos tick"),
    (TICK_KEY, lambda document: datetime.fromisoformat(document.get("at") or document["installed"]), "chronos tick"),
    (PROBE_KEY, Probe.from_json, "chronos doctor --probe"),
)
"""Documents of which there is one, how each is read, and the command that makes it anew."""


def check_documents(ctx: Context) -> Check:
    """Check whether everything beside jobs.json can be read, with what mends the first of those that cannot."""
    found: list[tuple[str, str]] = []
    read = 0
    try:
        found += [*_small(ctx), *_arms(ctx)]
        for job_id, why in _rows(ctx):
            read += 1
            if why is not None:
                found.append(why if why[1] else (why[0], f"chronos job unlock {job_id} --yes"))
            if read == ROWS_AT_MOST:
                break
    except ChronosError as error:
        return failed_with("documents", error)
    if not found:
        return ok("documents", f"what lies beside the jobs can be read ({read} rows)")
    text, mend = found[0]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return fail("documents", f"{text}{more}", code="unreadable", mend=mend)


def _small(ctx: Context) -> Iterator[tuple[str, str]]:
    packs = [(key, _lines, "chronos reconcile") for key in ctx.repository.keys(PREFIX)]
    for key, read, mend in (*_SMALL, *packs):
        try:
            stored = ctx.repository.read(key)
            if stored is not None:
                read(read_json(stored.data, max_bytes=MAX_PACK_BYTES))
        except DocumentError as error:
            yield error.message, error.hint
        except NOT_READ as error:
            yield f"{key} cannot be read: {why_not(error)}", mend


def _lines(document: dict[str, object]) -> None:
    if not all(isinstance(line, dict) for line in document.values()):
        raise TypeError("a line of it is no object")


def _arms(ctx: Context) -> Iterator[tuple[str, str]]:
    arms = ctx.repository.arms.all()
    for job_id in sorted(arms.own):
        try:
            stored = arms.get(job_id)
        except DocumentError as error:
            yield error.message, error.hint
            continue
        if stored is not None and stored.value.unreadable:
            error_of = stored.value.error or {}
            yield f"job {job_id}: {error_of.get('message')}", "chronos reconcile"


def _rows(ctx: Context) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Yield every row read with its job, and what is wrong with it; without a mend where unlocking the job is it."""
    for job_id in job_ids_with_rows(ctx):
        try:
            run_ids = ctx.repository.rows.ids(job_id)[-_EACH:]
        except DocumentError as error:
            yield job_id, (error.message, error.hint)
            continue
        for run_id in reversed(run_ids):
            try:
                ctx.repository.rows.get(job_id, run_id)
            except UnreadableError as error:
                yield job_id, (error.message, "")
            except DocumentError as error:
                yield job_id, (error.message, error.hint)
            else:
                yield job_id, None
