"""Entries of a jobs.json: where they stand, in whichever form the file has, and what makes one unusable as a job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import is_job_id
from chronos_cli.errors import StoreError
from chronos_cli.frozen import frozen
from chronos_cli.store.jsonarray import ArrayItems, scan_array
from chronos_cli.store.jsontext import Container, Member, UnreadableValue, scan_any, scan_object, scan_value, skip_space
from chronos_cli.strict_json import MAX_DEPTH, is_deep

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


BOM: Final = "\ufeff"
UPDATED: Final = "updated_at"
JOBS: Final = "jobs"


@frozen
class Record:
    """One entry of the file. `problem`: why it cannot be used, or None; `index`: its place among the records.

    `id` is None where there is none to speak of.
    """

    id: str | None
    value: Any
    problem: str | None
    index: int

    @property
    def number(self) -> str:
        """Return how a record is named that cannot be by its id."""
        return f"record {self.index + 1}"


def decoded(data: bytes, where: str) -> str:
    """Return the text of a file of jobs. Raises StoreError, naming `where`, for what is no text, or none at all."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise StoreError(f"{where} is UTF-16 text, not UTF-8", hint="nothing was changed; save it as UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise StoreError(f"{where} is not UTF-8 text (byte {error.start})") from error
    if not text.strip(BOM + " \t\r\n\0"):
        raise StoreError(f"{where} is empty, which no complete write leaves behind")
    return text


def find_jobs(text: str, where: str, known: ArrayItems | None) -> tuple[Container, Container | None, Member | None]:
    """Return the whole of a file, the container of its records, and the member of the whole that this is, or should be.

    `known`: items that were read before, taken over where they stand unchanged. Raises ValueError for what is no JSON,
    StoreError, naming `where`, for what is not certainly a file of jobs.
    """
    start = skip_space(text, 1 if text.startswith(BOM) else 0)
    found: list[Container] = []

    def inside(key: str, text: str, at: int) -> tuple[Any, int]:
        bracket = text[at : at + 1]
        if key != JOBS or bracket not in {"[", "{"}:
            return scan_any(text, at)
        found.append(scan_array(text, at, known=known) if bracket == "[" else scan_object(text, at, inside=_any_member))
        return found[-1], found[-1].end

    holder: Member | None
    jobs: Container | None
    if text[start : start + 1] == "[":
        top = scan_array(text, start, known=known)
        holder, jobs = None, top
    elif text[start : start + 1] == "{":
        top = scan_object(text, start, inside=inside)
        holder = top.last(JOBS)
        jobs = _jobs_of(top, holder, where)
    else:
        value, end = scan_value(text, start)
        _nothing_after(text, end)
        raise StoreError(f"{where} holds {_kind(value)} where an object with `jobs` belongs")
    _nothing_after(text, top.end)
    return top, jobs, holder


def _jobs_of(top: Container, holder: Member | None, where: str) -> Container | None:
    """Return where the records stand in an object; None where they are to be made.

    Raises StoreError for an object that may mean anything.
    """
    if holder is not None:
        if isinstance(holder.value, Container):
            return holder.value
        if holder.value is None:
            return None
        raise StoreError(f"{where} has {_kind(holder.value)} as its `jobs`, not a list")
    entries = [item for item in top.items if _is_entry(item)]
    if not entries:
        return None
    if all(isinstance(item.value, dict) and _is_job(item) for item in entries):
        return top
    names = ", ".join(f"'{(item.key or '')[:20]}'" for item in entries[:5])
    raise StoreError(f"{where} has no `jobs`, and its keys are not jobs either ({names})")


def entries_of(jobs: Container | None) -> tuple[Sequence[Member], list[Any], list[str] | None, Sequence[int]]:
    """Return the records of a container: the items, their values, in an object their keys, and their places in it."""
    if jobs is None:
        return [], [], None, []
    if isinstance(jobs.items, ArrayItems):
        return jobs.items, jobs.items.values, None, range(len(jobs.items))
    places = [place for place, item in enumerate(jobs.items) if _is_entry(item)]
    items = [jobs.items[place] for place in places]
    return items, [item.value for item in items], [item.key or "" for item in items], places


def read_records(values: list[Any], keys: list[str] | None) -> Iterator[Record]:
    """Yield the entries, each with what makes it unusable. Of two with one id, the first is the job."""
    seen: dict[str, Record] = {}
    for index, stored in enumerate(values):
        key = keys[index] if keys else None
        beyond = stored if isinstance(stored, UnreadableValue) else None
        value = with_id(key, dict(beyond.known) if beyond else stored)
        if not isinstance(value, dict):
            yield Record(id=key, value=value, problem=f"it is {_kind(value)}, not an object", index=index)
            continue
        job_id = value.get("id")
        problem = beyond.why if beyond else None
        if problem is None and is_deep(value):
            problem, value = f"it is nested deeper than {MAX_DEPTH} levels", _shallow(value)
        if not isinstance(job_id, str):
            problem = "it has no id" if job_id is None else f"its id is {_kind(job_id)}, not a text"
            job_id = key
        elif not is_job_id(job_id):
            problem = f"its id '{job_id[:40]}' is not one: letters, digits, dot, dash and underscore, at most 128"
        elif key is not None and key != job_id:
            problem = f"its id '{job_id}' is not the key '{key}' it stands under"
        elif (twin := seen.get(job_id.lower())) is not None:
            how = "the id" if twin.id == job_id else f"but for case the id ({twin.id})"
            problem = f"it has {how} of record {twin.index + 1}"
        record = Record(id=job_id, value=value, problem=problem, index=index)
        if problem is None:
            seen[str(job_id).lower()] = record
        yield record


def _nothing_after(text: str, end: int) -> None:
    at = skip_space(text, end)
    if at != len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def _is_entry(item: Member) -> bool:
    """Return whether a member of an id-keyed object may be a job."""
    return item.key not in {UPDATED, "version"}


def _is_job(item: Member) -> bool:
    return "schedule" in item.value or item.value.get("id") == item.key


def is_usable(value: Any) -> bool:
    """Return whether a value may be read as a record: an object of bounded depth."""
    return isinstance(value, dict) and not is_deep(value)


def _shallow(value: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a record that are no lists or objects: what can be said of one that is nested too deep."""
    return {key: item for key, item in value.items() if not isinstance(item, dict | list)}


def with_id(key: str | None, value: Any) -> Any:
    """Return a record with its key as its id, where it stands under one in an object and has none itself."""
    if key is not None and isinstance(value, dict) and value.get("id") is None:
        return {**value, "id": key}
    return value


def _any_member(_: str, text: str, at: int) -> tuple[Any, int]:
    return scan_any(text, at)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
