"""jobs.json as other programs left it, and changes to its records that leave all others as they are.

The file is read whole and written whole, but only records that changed (and `updated_at`) get new bytes: such a record
is written anew in the file's own layout, its keys in their places. Everything else stays byte for byte.
A file that cannot be understood as jobs is refused, never read as "no jobs".
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from chronos_cli.collector import collector_paused
from chronos_cli.contract import is_job_id
from chronos_cli.errors import ConflictError, NotFoundError, StoreError
from chronos_cli.frozen import replace
from chronos_cli.store.interface import JOBS_KEY
from chronos_cli.store.job_entries import (
    JOBS,
    UPDATED,
    Record,
    decoded,
    entries_of,
    find_jobs,
    is_usable,
    read_records,
    with_id,
)
from chronos_cli.store.jsonarray import ArrayItems
from chronos_cli.store.jsontext import (
    Container,
    Edit,
    Member,
    Style,
    UnreadableValue,
    apply,
    colon_inside,
    edit_items,
    indent_inside,
    rewritten,
    same,
    scan_value,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


_MILLISECONDS_FROM: Final = 1e11
"""An epoch number this large counts milliseconds."""


class JobsFile:
    """The jobs of one version of jobs.json, and the changes to be made to it.

    `absent`: there was no such file. The values handed out are copies: a change counts once it is `put`.
    """

    def __init__(self, text: str, *, top: Container | None, jobs: Container | None, holder: Member | None) -> None:
        """Use `parse` or `empty`. `holder`: the member of `top` whose value `jobs` is, or should be."""
        self._text = text
        self._top = top
        self._jobs = jobs
        self._holder = holder
        self._items, self._values, self._keys, self._places = entries_of(jobs)
        self._put: dict[int, dict[str, Any]] = {}
        self._removed: set[int] = set()
        self._added: dict[str, dict[str, Any]] = {}
        self._parsed: list[Record] | None = None
        self._beside: Mapping[str, Mapping[str, Any]] = {}
        # Two dicts rather than one of lists: ten thousand new lists would set the garbage collector going.
        self._first: dict[str, int] | None = None
        self._again: dict[str, list[int]] = {}
        self.absent = top is None

    @classmethod
    def empty(cls) -> Self:
        """Return what an absent file stands for."""
        return cls("", top=None, jobs=None, holder=None)

    @classmethod
    def parse(
        cls,
        data: bytes,
        *,
        where: str = JOBS_KEY,
        beside: Mapping[str, Mapping[str, Any]] | None = None,
        known: JobsFile | None = None,
    ) -> Self:
        """Read a file's bytes. Raises StoreError, naming `where`, for what is not certainly a file of jobs.

        `beside`: fields of jobs, by id, that another program keeps elsewhere; those that the file has win. What is put
        is written to the file as far as it differs from both. `known`: what was read before, whose records are taken
        over where they stand unchanged.
        """
        text = decoded(data, where)
        before = known._items if known is not None and isinstance(known._items, ArrayItems) else None  # noqa: SLF001
        try:
            with collector_paused():
                top, jobs, holder = find_jobs(text, where, before)
                return cls(text, top=top, jobs=jobs, holder=holder).beside(beside or {})
        except ValueError as error:
            raise StoreError(f"{where} cannot be parsed: {error}") from error

    def beside(self, fields: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return these jobs, with the fields of each that another program keeps elsewhere."""
        self._beside = fields
        return self

    @property
    def records(self) -> list[Record]:
        """Return every entry in the order of the file, unusable ones too, with the changes made here."""
        if not (self._put or self._removed or self._added):
            return self._original()
        now = [
            replace(record, value=self._put.get(record.index, record.value))
            for record in self._original()
            if record.index not in self._removed
        ]
        start = len(self._values)
        return now + [
            Record(id=key, value=value, problem=None, index=start + at)
            for at, (key, value) in enumerate(self._added.items())
        ]

    @property
    def changed(self) -> bool:
        """Return whether there is anything to write."""
        return bool(self._put or self._removed or self._added)

    def member(self, name: str) -> Any:
        """Return what the file has beside its jobs under this name, None where it has nothing."""
        found = None if self._top is None or isinstance(self._top.items, ArrayItems) else self._top.last(name)
        return None if found is None else found.value

    def problem_of(self, job_id: str) -> str | None:
        """Return why the record of this id cannot be used; None where it can, or where there is none."""
        return next((record.problem for record in self.records if record.id == job_id), None)

    def mark(self) -> tuple[dict[int, dict[str, Any]], set[int], dict[str, dict[str, Any]]]:
        """Return the changes made so far, for `reset`."""
        return dict(self._put), set(self._removed), dict(self._added)

    def reset(self, mark: tuple[dict[int, dict[str, Any]], set[int], dict[str, dict[str, Any]]]) -> None:
        """Take back what was changed since `mark`, which is used up by it."""
        self._put, self._removed, self._added = mark

    def get(self, job_id: str) -> dict[str, Any] | None:
        """Return a copy of a usable record's value, or None."""
        changed = self._added.get(job_id)
        index = self._find(job_id) if changed is None else None
        if index is not None:
            changed = self._put.get(index)
            return self._stored(index) if changed is None else dict(_copy(changed))
        return None if changed is None else dict(_copy(changed))

    def put(self, job_id: str, value: dict[str, Any]) -> None:
        """Replace a record in place. Raises NotFoundError.

        Its members keep their places, also where `value` has another order; new ones come last.
        """
        _check_id(value, job_id)
        if job_id in self._added:
            self._added[job_id] = value
            return
        index = self._find(job_id)
        if index is None:
            raise NotFoundError(f"no job '{job_id}' in this store")
        if same(value, self._stored(index)):
            self._put.pop(index, None)
        else:
            self._put[index] = value

    def add(self, value: dict[str, Any]) -> None:
        """Append a record. Raises ConflictError where its id, in any case, is taken."""
        job_id = value.get("id")
        if not is_job_id(job_id):
            raise ValueError(f"not a job id: {job_id!r}")
        value = value | dict.fromkeys(self._beside.get(str(job_id), {}).keys() - value.keys())
        taken = [name for name in self._added if name.lower() == str(job_id).lower()]
        taken += [str(self._id(index)) for index in self._alike(str(job_id))]
        if taken:
            raise ConflictError(f"there is a job '{taken[0]}' already", hint="choose another id, or edit that job")
        self._added[str(job_id)] = value

    def remove(self, job_id: str) -> None:
        """Drop the record of this id, and any second one that bears the same. Raises NotFoundError."""
        if self._added.pop(job_id, None) is not None:
            return
        gone = {index for index in self._alike(job_id) if self._id(index) == job_id}
        if not gone:
            raise NotFoundError(f"no job '{job_id}' in this store")
        self._removed |= gone
        for index in gone:
            self._put.pop(index, None)

    def remove_record(self, index: int) -> None:
        """Drop the entry at this place, usable or not."""
        self._removed.add(index)
        self._put.pop(index, None)

    def render(self, now: datetime | None = None) -> bytes:
        """Return the file's new bytes; `now` (aware) is what `updated_at` becomes, in the form it has."""
        now = now or datetime.now(UTC)
        if self._top is None:
            fresh = {JOBS: list(self._added.values()), UPDATED: now.isoformat()}
            return json.dumps(fresh, indent=2).encode()
        if not self.changed:
            return self._text.encode()
        style = Style.of(self._text, self._top)
        return apply(self._text, self._edits(self._top, style) + self._stamp(self._top, style, now)).encode()

    def _edits(self, top: Container, style: Style) -> list[Edit]:
        text = self._text
        edits: list[Edit] = []
        for index, value in self._put.items():
            item, kept = self._items[index], self._for_the_file(index, value)
            edits.append(rewritten(text, item, self._in_the_file(index), kept, style))
        if not (self._removed or self._added):
            return edits
        if self._jobs is not None:
            gone = sorted(self._places[index] for index in self._removed)
            return edits + edit_items(text, self._jobs, gone, self._new_entries(self._jobs, style), style)
        fresh = style.write(list(self._added.values()), style.step)
        if self._holder is not None:
            return [(self._holder.value_start, self._holder.end, fresh)]
        return edit_items(text, top, [], [f'"{JOBS}"{colon_inside(text, top, style)}{fresh}'], style)

    def _new_entries(self, jobs: Container, style: Style) -> list[str]:
        text = self._text
        indent = indent_inside(text, jobs, style)
        keyed = text[jobs.start] == "{"
        if self._items:  # As the last one is laid out.
            last = self._items[-1]
            if text.find("\n", last.value_start, last.end) < 0:
                style = style.flat()
        colon = colon_inside(text, jobs, style)
        return [
            (json.dumps(job_id) + colon if keyed else "") + style.write(value, indent)
            for job_id, value in self._added.items()
        ]

    def _stamp(self, top: Container, style: Style, now: datetime) -> list[Edit]:
        """Return the edit that refreshes `updated_at` where there is one."""
        member = None if isinstance(top.items, ArrayItems) else top.last(UPDATED)
        if member is None:
            return []
        return [(member.value_start, member.end, style.write(_refreshed(member.value, now), ""))]

    def _stored(self, index: int) -> dict[str, Any]:
        """Return a fresh value of a usable record, from the text, which does not change."""
        return self._with_beside(self._in_the_file(index))

    def _in_the_file(self, index: int) -> dict[str, Any]:
        value, _ = scan_value(self._text, self._items[index].value_start)
        return with_id(self._key(index), value)  # type: ignore[no-any-return]

    def _with_beside(self, value: dict[str, Any]) -> dict[str, Any]:
        row = self._beside.get(str(value.get("id")))
        return value if row is None else {**value, **{key: _copy(row[key]) for key in row.keys() - value.keys()}}

    def _for_the_file(self, index: int, value: dict[str, Any]) -> dict[str, Any]:
        """Return what the file is to hold of a record, so that with what lies beside it the whole is `value`."""
        row = self._beside.get(str(value.get("id")))
        if row is None:
            return value
        before = self._in_the_file(index)
        kept = {key: item for key, item in value.items() if key in before or key not in row or item != row[key]}
        return kept | dict.fromkeys(row.keys() - value.keys())

    def _find(self, job_id: str) -> int | None:
        """Return the usable record of this id. It does not read `records`, which takes longer than all the rest.

        The first usable one of those alike in all but case is the job; the others are refused.
        """
        for index in self._alike(job_id):
            name, value = self._id(index), self._values[index]
            if is_job_id(name) and is_usable(value) and self._key(index) in {None, name}:
                return index if name == job_id else None
        return None

    def _alike(self, job_id: str) -> list[int]:
        """Return the records left that have this id but for case."""
        if self._first is None:
            self._first = {}
            for index, value in enumerate(self._values):
                name = value.get("id") if self._keys is None and type(value) is dict else self._id(index)
                if isinstance(name, str) and self._first.setdefault(name.lower(), index) != index:
                    self._again.setdefault(name.lower(), []).append(index)
        wanted = job_id.lower()
        if wanted not in self._first:
            return []
        return [at for at in (self._first[wanted], *self._again.get(wanted, ())) if at not in self._removed]

    def _key(self, index: int) -> str | None:
        return self._keys[index] if self._keys else None

    def _id(self, index: int) -> Any:
        """Return the id that a record claims, or that its key gives it."""
        value = self._values[index]
        value = value.known if isinstance(value, UnreadableValue) else value
        own = value.get("id") if isinstance(value, dict) else None
        return self._key(index) if own is None else own

    def _whole(self, record: Record) -> Record:
        if record.problem is not None or not self._beside:
            return record
        return replace(record, value=self._with_beside(record.value))

    def _original(self) -> list[Record]:
        if self._parsed is None:
            self._parsed = [self._whole(record) for record in read_records(self._values, self._keys)]
        return self._parsed


def _check_id(value: dict[str, Any], job_id: str) -> None:
    if value.get("id") != job_id:
        raise ValueError(f"the record of {job_id!r} must keep its id, not {value.get('id')!r}")


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _refreshed(old: Any, now: datetime) -> Any:
    """Return `now` in the form that the old stamp has: its offset, its fraction, or a number."""
    if isinstance(old, bool) or old is None:
        return old
    if isinstance(old, int | float):
        scale = 1000 if abs(old) >= _MILLISECONDS_FROM else 1
        stamp = now.timestamp() * scale
        return int(stamp) if isinstance(old, int) else stamp
    try:
        before = datetime.fromisoformat(old)
    except (TypeError, ValueError):  # An old form that nothing reads: a time that every reader understands is better.
        return now.isoformat()
    if before.tzinfo is not None:
        now = now.astimezone(before.tzinfo)
    text = now.isoformat(timespec="microseconds" if "." in old else "seconds")
    return text.replace("+00:00", "Z") if old.endswith("Z") else text
