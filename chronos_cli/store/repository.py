"""The documents of one home, and the one way to change them.

Load, pure function, conditional write, again on conflict.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from zlib import crc32

from chronos_cli.contract import is_job_id
from chronos_cli.core.job import OURS, instants_of, ours_of
from chronos_cli.core.row import Row, kept_at
from chronos_cli.durations import span
from chronos_cli.errors import ChronosError, DocumentError, StoreError, TemporaryError, UnreadableError
from chronos_cli.frozen import frozen, replace
from chronos_cli.store.arms import ArmDocument, unreadable_arm
from chronos_cli.store.group_change import GroupChange, apply_each
from chronos_cli.store.interface import ARMS_PREFIX, JOBS_KEY, VersionConflict
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from chronos_cli.store.group_change import PendingChange
    from chronos_cli.store.holds import Hold
    from chronos_cli.store.interface import Document, DocumentStore
    from chronos_cli.store.packs import Line, Pack

T = TypeVar("T")

STORE_KEY: Final = "cron/store.json"
STOP_KEY: Final = "ESTOP"
ASIDE: Final = "cron/set-aside/"
"""Where the bytes of documents go that could not be read."""

_ATTEMPTS: Final = 60
_LONGEST_GAP: Final = timedelta(hours=25)


@frozen
class StoredDocument(Generic[T]):
    """A parsed document and the version it was read at."""

    value: T
    version: str


class Repository:
    """Jobs, rows, arm documents and the store's id, over any document store."""

    def __init__(
        self,
        documents: DocumentStore,
        *,
        sleep: Callable[[float], None],
        random: Callable[[], float],
        fleet: DocumentStore | None = None,
    ) -> None:
        """`fleet`: the documents of the home that this one is a profile of; a hold there is a hold here too."""
        self.documents = documents
        self._fleet = fleet
        self._sleep = sleep
        self._random = random
        self._jobs: StoredDocument[JobsFile] | None = None
        self._proven = False
        self._grouped = GroupChange(
            once=self._change_once, pause=lambda tries: self.pause(tries + 1), attempts=_ATTEMPTS
        )

    def pause(self, attempt: int) -> None:
        """Wait after a conflict: longer after each, and each process another time, so that all get through."""
        self._sleep(min(0.005 * 2 ** min(attempt, 7), 0.5) * (0.5 + self._random()))

    def wait_to_retry(self, tried: int) -> None:
        """Wait before trying again what failed `tried` times: 20 ms at first, five seconds at most, with jitter."""
        self._sleep(min(0.02 * 2 ** min(tried, 8), 5.0) * (0.5 + self._random()))

    # -- jobs --------------------------------------------------------------------------------------------------------

    def jobs(self) -> JobsFile:
        """The jobs as stored now, for reading. Raises StoreError; an absent file is an empty one that says so."""
        found = self.documents.read(JOBS_KEY)
        if found is None:
            return JobsFile.empty()
        if self._jobs is None or self._jobs.version != found.version:
            self._jobs = StoredDocument(value=self._parsed(found), version=found.version)
        return self._jobs.value

    def change(self, fn: Callable[[JobsFile], T]) -> T:
        """Run `fn` on a fresh copy of the jobs and store what it changed, again from the start on every conflict.

        `fn` may run several times, so it recognises its own earlier write by its token. What it raises leaves the
        store as it was; a VersionConflict it raises means that it too must look again. Raises StoreError,
        LockTimeoutError, or TemporaryError when conflicts do not clear. Changes that meet in threads of this process
        are written together (`group_change.py`), so `fn` may run in another of them.
        """
        self._prove()
        return self._grouped.make(fn)

    def _prove(self) -> None:
        if self.documents.needs_proof and not self._proven:
            from chronos_cli.store.proof import ensure_proven

            ensure_proven(self.documents)
            self._proven = True

    def change_together(self, fns: Sequence[Callable[[JobsFile], T]]) -> list[T | ChronosError]:
        """As `change` for each of them, with one write; what one raises stands in the place of its result."""
        self._prove()
        return self._grouped.make_all(fns)

    def _change_once(self, group: Sequence[PendingChange[object]]) -> None:
        """Make the changes of a group in one write; who is not over after it has met a conflict and must look again."""
        try:
            with self.exclusive():
                found = self.documents.read(JOBS_KEY)
                jobs = JobsFile.empty() if found is None else self._parsed(found)
                resting = apply_each(jobs, group)
                if resting:
                    self._store_for(resting, jobs, found)
        except Exception as error:  # noqa: BLE001 - raised again in each thread whose change it concerns
            for member in group:
                if not member.over:
                    member.fail(error)

    def _store_for(
        self, resting: Sequence[tuple[PendingChange[object], object]], jobs: JobsFile, found: Document | None
    ) -> None:
        """Write the jobs, and only then tell those whose results rest on it. Raises StoreError."""
        try:
            data = jobs.render()
        except Exception as error:  # noqa: BLE001 - a record that cannot be written
            if len(resting) == 1:
                resting[0][0].fail(error)
            else:  # each by itself, so that only that one fails
                for member, _ in resting:
                    self._change_once([member])
            return
        with suppress(VersionConflict):  # another's write, or the lost answer to ours: each finds out by its own token
            version = self._write(JOBS_KEY, data, found)
            # It reads as what was just written would, so nobody need parse that again.
            self._jobs = StoredDocument(value=jobs, version=version)
            for member, result in resting:
                member.done(result)

    def _parsed(self, found: Document) -> JobsFile:
        """The jobs of a document. Raises StoreError, naming the copy to go back to where nothing better is known."""
        try:
            known = None if self._jobs is None else self._jobs.value
            return JobsFile.parse(found.data, beside=found.beside, known=known)
        except StoreError as error:
            if error.hint != StoreError.default_hint:
                raise
            raise type(error)(error.message, hint=f"{error.hint}{self._way_back()}") from error

    def _way_back(self) -> str:
        """The command that brings back the newest copy that can be read, with its age and its number of jobs."""
        from shlex import quote

        for copy in self.documents.backups():
            try:
                jobs = JobsFile.parse(copy.data).records
            except StoreError:
                continue
            count = f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}"
            command = f"cp {quote(copy.path)} {quote(f'{self.documents.location}/{JOBS_KEY}')}"
            return f", or go back to what was there {span(copy.age_s)} ago ({count}) with `{command}`"
        return ", there is no copy of it that can be read"

    # -- any document ------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """The place of the documents, for people: a path or a URL without credentials."""
        return self.documents.location

    def read(self, key: str) -> Document | None:
        """Return a document as it is stored, None where there is none. Raises StoreError."""
        return self.documents.read(key)

    def keys(self, prefix: str) -> Iterable[str]:
        """Return the keys below `prefix`, sorted. Raises StoreError."""
        return self.documents.list(prefix)

    def update(self, key: str, fn: Callable[[Document | None], bytes | None], *, durable: bool = True) -> None:
        """Store what `fn` makes of a document (None: there is none), again from what is there then on every conflict.

        `fn` may run several times, and may find its own write, whose answer was lost. None from it leaves the document
        as it is. Raises StoreError, or TemporaryError when conflicts do not clear.
        """

        def once() -> None:
            found = self.documents.read(key)
            data = fn(found)
            if data is not None:
                self._write(key, data, found, durable=durable)

        self._until_stored(key, once)

    def delete(self, key: str) -> None:
        """Remove a document, durably; one that is not there is fine. Raises StoreError."""
        self.documents.delete(key)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other writers of the jobs out, where the place can. Raises LockTimeoutError."""
        return self.documents.exclusive(JOBS_KEY)

    def prove(self, token: Callable[[], str]) -> None:
        """Find out whether the store refuses writes with an old version. Raises StoreError where it takes them."""
        from chronos_cli.store.proof import prove_compare_and_swap

        prove_compare_and_swap(self.documents, token=token)

    def _write(
        self, key: str, data: bytes, found: Document | StoredDocument[Any] | None, *, durable: bool = True
    ) -> str:
        if found is None or not found.version:
            return self.documents.create(key, data, durable=durable)
        return self.documents.replace(key, data, found.version, durable=durable)

    def _until_stored(self, key: str, once: Callable[[], T]) -> T:
        """Load, change and write by `once` until nobody else has written meanwhile. Raises TemporaryError."""
        for attempt in range(_ATTEMPTS):
            try:
                return once()
            except VersionConflict:
                self.pause(attempt)
        raise TemporaryError(f"{key} changed under every attempt")

    # -- rows --------------------------------------------------------------------------------------------------------

    def row(self, job_id: str, run_id: str) -> StoredDocument[Row] | None:
        """One row, or None. Raises UnreadableError for what is no row of this run, and what reading raises."""
        if not (is_job_id(job_id) and is_job_id(run_id)):
            return None  # a record may have any id, and a person may type any run; neither names a document
        key = row_key(job_id, run_id)
        found = self.documents.read(key)
        if found is None:
            return None

        def read(document: Any) -> Row:
            row = Row.from_json(document)
            if (row.job_id, row.run_id) != (job_id, run_id):
                raise ValueError("it is the row of another run")
            return kept_at(row, job_id, run_id)

        return StoredDocument(
            value=_parse(key, found, read, f"`chronos job unlock {job_id}` settles it"), version=found.version
        )

    def create_row(self, row: Row) -> str:
        """Make a row, durable: the job file drops the entry that it could be made from. Raises VersionConflict."""
        return self.documents.create(row_key(row.job_id, row.run_id), _dump(row.to_json()))

    def replace_row(self, row: Row, version: str) -> str:
        """Replace a row read at `version`, durable as in `create_row`. Raises VersionConflict."""
        return self.documents.replace(row_key(row.job_id, row.run_id), _dump(row.to_json()), version)

    def run_ids(self, job_id: str) -> list[str]:
        """The names of a job's rows, oldest first (manual ones by their time too)."""
        if not is_job_id(job_id):
            return []
        prefix = f"cron/runs/{job_id}/"
        names = [key[len(prefix) : -len(".json")] for key in self.documents.list(prefix) if key.endswith(".json")]
        return sorted((name for name in names if "/" not in name), key=lambda name: name.removeprefix("manual-"))

    def rows(self, job_id: str, *, newest: int | None = None) -> Iterator[Row]:
        """A job's rows, newest first; those that cannot be read are left out."""
        names = self.run_ids(job_id)
        for name in reversed(names[-newest:] if newest else names):
            found = self._readable_row(job_id, name)
            if found is not None:
                yield found.value

    def _readable_row(self, job_id: str, run_id: str) -> StoredDocument[Row] | None:
        try:
            return self.row(job_id, run_id)
        except DocumentError:
            return None  # whoever needs this very row, history and doctor say so

    def set_aside(self, error: UnreadableError) -> str:
        """Keep the bytes of a document that cannot be read, durably, before it is written anew. Returns their key."""
        data = error.data
        aside = f"{ASIDE}{error.key.replace('/', '+')}.{crc32(data):08x}"

        def once() -> None:
            try:
                self.documents.create(aside, data)
            except VersionConflict:
                if self.documents.read(aside) is None:
                    raise  # a bucket may say so of what nobody has made

        self._until_stored(aside, once)
        return aside

    def prune_rows(
        self, job_id: str, *, keep: int, horizon: str, now: datetime | None = None, sure: bool = True
    ) -> int:
        """Delete terminal rows, with their output, beyond the newest `keep`, or named and settled before `horizon`.

        One whose run the job still has in `open` stays: without its row that run would look as if it had never
        started. So do the newest row, and the newest settled one of the schedule and of a person's runs, however few
        are kept: history and logs have the last of each. So does a person's run that ended just now: whoever asked for
        it, and did not hear that the claim was written, would claim it again. `horizon` is a run id's time,
        `20261120T153415Z`.

        Rows named for later than `now`, by whatever clock was ahead, take nobody's place. `sure` False: no witness
        knows that clock: the rows alone tell how old they are, and those since it leapt take no place of those before.
        Returns how many went.
        """
        names = self.run_ids(job_id)
        if len(names) <= keep and all(name.removeprefix("manual-") >= horizon for name in names[:1]):
            return 0
        # Read after the names: whoever has a row by then was in `open` before, and never comes back to it.
        record = self.jobs().get(job_id)
        in_hand = open_runs(record)
        past = [name for name in names if now is None or _time_of(name, now) <= now]
        parts = [past, names[len(past) :]]
        if now is not None and not sure:
            horizon = min(horizon, _lived_horizon(past, now, now - _time_of(horizon, now)))
            leap = min(instants_of(ours_of(record or {}).get("leapt_from")), default=now)
            before = [name for name in past if _time_of(name, now) < leap]
            parts = [before, past[len(before) :], parts[1]]
        newest = {name for part in parts for name in part[-keep:]} if keep else set()
        lately = None if now is None else f"{now - _STILL_ASKED_FOR:%Y%m%dT%H%M%SZ}"
        gone, last = 0, set[bool]()
        for name in reversed(names):
            if name in (names[-1], *past[-1:]):
                last = {True, False}
            manual = name.startswith("manual-")
            young = name in newest and name.removeprefix("manual-") >= horizon
            if name in in_hand or (young and manual not in last):
                continue
            found = self._readable_row(job_id, name)
            if found is None or not found.value.terminal:
                continue
            if manual in last:
                last.discard(manual)
                continue
            if young or (name in newest and _settled_at(found.value) >= horizon):
                continue  # kept; also a range of long ago that was settled lately
            if manual and lately is not None and _settled_at(found.value) > lately:
                continue
            self._drop_row(found.value)
            gone += 1
        return gone

    def _drop_row(self, row: Row) -> None:
        for attempt in row.attempts:
            if attempt.get("output"):  # one of this run's own: row() leaves no other
                self.documents.delete(attempt["output"], durable=False)
        self.documents.delete(row_key(row.job_id, row.run_id), durable=False)

    def may_be_in_hand(self, job_id: str, run_id: str) -> bool:
        """Return whether a run is in its job's hand, as far as that can be told: what cannot be read may have it."""
        jobs = self.jobs()
        record = jobs.get(job_id)
        unknown = record is None and any(item.problem for item in jobs.records)
        return unknown or run_id in open_runs(record)

    # -- arms --------------------------------------------------------------------------------------------------------

    def arm(self, job_id: str) -> StoredDocument[ArmDocument] | None:
        """A job's arm document; None when there is none. One that cannot be read is empty: it can be learned again.

        Its version is empty where only a pack has it: the first change makes a document of the job's own.
        """
        stored = self.own_arm(job_id)
        if stored is None:
            from chronos_cli.store.packs import find_line

            line = find_line(self.documents, job_id)
            stored = None if line is None else StoredDocument(value=_arm_of(job_id, line), version="")
        return stored

    def own_arm(self, job_id: str) -> StoredDocument[ArmDocument] | None:
        """A job's arm document, where it has one to itself."""
        found = self.documents.read(arm_key(job_id))
        if found is None:
            return None
        try:
            line = read_json(found.data)
        except NotJsonError as error:
            return StoredDocument(value=unreadable_arm(job_id, str(error)), version=found.version)
        return StoredDocument(value=_arm_of(job_id, line), version=found.version)

    def arms(self, *, but: Collection[str] = ()) -> Arms:
        """All arm documents, after one look at their folder and at all packs `but` these."""
        from chronos_cli.store.packs import read_packs

        # In this order: a pack goes only after what took its place is there.
        packs = read_packs(self.documents, but=but)
        try:
            return Arms(self, self._own_arms(), packs)
        except DocumentError:  # no folder stands there: whoever asks for a job's document is told so
            return Arms(self, None, packs)

    def _own_arms(self) -> frozenset[str]:
        names = [
            key[len(ARMS_PREFIX) : -len(".json")] for key in self.documents.list(ARMS_PREFIX) if key.endswith(".json")
        ]
        return frozenset(name for name in names if is_job_id(name))

    def create_pack(self, name: str, documents: Mapping[str, ArmDocument]) -> Pack:
        """Write the arm documents of many jobs in one. `name` was never used before. Raises StoreError."""
        from chronos_cli.store.packs import Pack, pack_key, render

        key, lines = pack_key(name), {job_id: document.to_json() for job_id, document in documents.items()}
        data = render(lines)

        def once() -> str:
            try:
                return self.documents.create(key, data)
            except VersionConflict:
                found = self.documents.read(key)  # nobody else has that name: the answer to our write was lost
                if found is not None and found.data == data:
                    return found.version
                raise

        return Pack(key=key, version=self._until_stored(key, once), lines=lines)

    def replace_pack(self, pack: Pack, lines: Mapping[str, Line]) -> None:
        """Write a pack again. Raises VersionConflict where somebody else did so, or deleted it, since it was read."""
        from chronos_cli.store.packs import render

        self.documents.replace(pack.key, render(lines), pack.version)

    def drop_pack(self, pack: Pack) -> None:
        """Delete a pack whose every line is superseded."""
        self.documents.delete(pack.key, durable=False)

    def change_arm(self, job_id: str, fn: Callable[[ArmDocument], ArmDocument]) -> ArmDocument:
        """Change a job's arm document by a pure function, again on conflict; returns what is stored then."""
        return self.swap_arm(job_id, fn).value

    def swap_arm(
        self, job_id: str, fn: Callable[[ArmDocument], ArmDocument], seen: StoredDocument[ArmDocument] | None = None
    ) -> StoredDocument[ArmDocument]:
        """As `change_arm`; returns the version too.

        `seen`: the document as it was last read or written, its version empty where there was none. It is tried first,
        which spares a read where nobody else writes; where somebody did, the version tells.
        """

        def change(found: StoredDocument[ArmDocument]) -> StoredDocument[ArmDocument]:
            after = fn(found.value)
            if after == found.value:
                return found
            version = self._write(arm_key(job_id), _dump(after.to_json()), found, durable=False)
            stored = StoredDocument(value=after, version=version)
            return stored if found.version else self._with_keys(job_id, stored, found.value)

        if seen is not None:
            with suppress(VersionConflict):
                stored = change(seen)
                if stored is not seen:
                    return stored
        return self._until_stored(arm_key(job_id), lambda: change(self.arm(job_id) or no_arm(job_id)))

    def _with_keys(
        self, job_id: str, made: StoredDocument[ArmDocument], base: ArmDocument
    ) -> StoredDocument[ArmDocument]:
        """A document just made, with the keys that a pack has used since the state it is founded on was read."""
        from chronos_cli.store.packs import find_line

        line = find_line(self.documents, job_id)
        keys = {} if line is None else _arm_of(job_id, line).keys
        if keys.keys() <= base.keys.keys() | made.value.keys.keys():
            return made
        after = self.swap_arm(job_id, lambda found: replace(found, keys={**keys, **found.keys}), made)
        return after if after.value.generation == made.value.generation else made

    def arm_ids(self) -> list[str]:
        """The jobs that have an arm document."""
        return sorted(self.arms().ids)

    def drop_arm(self, job_id: str) -> None:
        """Forget the wire side of a job that is gone."""
        self.documents.delete(arm_key(job_id), durable=False)

    # -- the home ----------------------------------------------------------------------------------------------------

    def hold(self, now: datetime) -> Hold | None:
        """Return why all jobs are held, None where they are not. A stop that is there but cannot be read is engaged."""
        from chronos_cli.store.holds import both

        own = _hold_in(self.documents, now, None)
        return own if self._fleet is None else both(own, _hold_in(self._fleet, now, self._fleet.location))

    def store_id(self, make: Callable[[], str]) -> str:
        """The store's id, made on first use, and anew where it cannot be read: each row names the lock of its run."""
        known: str | None = None

        def once(found: Document | None) -> bytes | None:
            nonlocal known
            try:
                known = _store_id(found)
            except UnreadableError as error:
                self.set_aside(error)
            if known is not None:
                return None
            known = make()
            return _dump({"id": known})

        try:
            known = _store_id(self.documents.read(STORE_KEY))
        except UnreadableError:
            known = None
        except DocumentError:  # closed to us: doctor says so, and jobs run by an id that all like us make alike
            return f"unreadable-{crc32(self.documents.location.encode()):08x}"
        if known is None:
            self.update(STORE_KEY, once)
        return str(known)

    def mend_store_id(self, make: Callable[[], str]) -> None:
        """Make the store's id anew where there is one that cannot be read."""
        try:
            _store_id(self.documents.read(STORE_KEY))
        except UnreadableError:
            self.store_id(make)
        except DocumentError:
            return  # closed to us: doctor says so


class Arms:
    """All arm documents as one look found them: the names are at hand, documents are read when they are asked for.

    `own`: the jobs that have a document to themselves, none where their folder cannot be listed; `packs`: what speaks
    for all others.
    """

    def __init__(self, repository: Repository, own: frozenset[str] | None, packs: Sequence[Pack]) -> None:
        from chronos_cli.store.packs import newest

        self._repository = repository
        self._listed = own is not None
        self.own = own or frozenset()
        self.packs = packs
        self.lines: Mapping[str, Line] = newest(packs)

    @property
    def ids(self) -> frozenset[str]:
        """All jobs that have an arm document."""
        return self.own.union(self.lines)

    def get(self, job_id: str) -> StoredDocument[ArmDocument] | None:
        """A job's arm document, or None; one made since the look shows in its generation."""
        stored = self._repository.own_arm(job_id) if job_id in self.own or not self._listed else None
        if stored is None and job_id in self.lines:
            return StoredDocument(value=_arm_of(job_id, self.lines[job_id]), version="")
        return stored


def _hold_in(documents: DocumentStore, now: datetime, where: str | None) -> Hold | None:
    """Return the hold that a store's document makes, None where there is none or its end is past."""
    from chronos_cli.store.holds import Hold, read_hold

    try:
        found = documents.read(STOP_KEY)
    except StoreError as error:
        return Hold(reason=f"ESTOP cannot be read ({error.message})", where=where)
    if found is None:
        return None
    hold = read_hold(found.data, where=where)
    return None if hold.is_over(now) else hold


def _arm_of(job_id: str, line: object) -> ArmDocument:
    try:
        document = ArmDocument.from_json(line)  # type: ignore[arg-type]
        if document.job_id != job_id:
            raise ValueError("it is that of another job")
    except NOT_READ as error:
        return unreadable_arm(job_id, why_not(error))
    return document


def _time_of(name: str, otherwise: datetime) -> datetime:
    """Return the time in the name of a row, or `otherwise` where it tells none."""
    try:
        return datetime.fromisoformat(name.removeprefix("manual-")[:16]).astimezone(UTC)
    except ValueError:
        return otherwise


_STILL_ASKED_FOR: Final = timedelta(minutes=10)
"""For so long whoever asked for a run may be trying to claim it: locks and buckets are waited for no longer."""


def _lived_horizon(names: Sequence[str], now: datetime, span: timedelta) -> str:
    """Return the time before which rows are older than `span`, as far as they tell; empty where none is.

    `names`: oldest first. What lies between two runs counts, unless it is longer than a day: then a clock may have
    leapt, and it counts for nothing.
    """
    age, later = timedelta(), now
    for name in reversed(names):
        at = _time_of(name, later)
        age += later - at if later - at <= _LONGEST_GAP else timedelta()
        if age > span:
            return f"{later:%Y%m%dT%H%M%SZ}"
        later = at
    return ""


def _settled_at(row: Row) -> str:
    """Return when a row became what it is, in the form of a run id's time."""
    return f"{(row.finished_at or row.claimed_at).astimezone(UTC):%Y%m%dT%H%M%SZ}"


def open_runs(record: Mapping[str, Any] | None) -> frozenset[str]:
    """The runs that a job's record has in hand, as far as it can be read."""
    ours = (record or {}).get(OURS)
    entries = ours.get("open") if isinstance(ours, dict) else None
    listed = entries if isinstance(entries, list) else []
    return frozenset(str(entry.get("run")) for entry in listed if isinstance(entry, dict))


def id_in(document: Any) -> str:
    """The id in the store's document. Raises LookupError, TypeError or ValueError."""
    if not is_job_id(document["id"]):
        raise ValueError("its id is not one")
    return str(document["id"])


def _store_id(found: Document | None) -> str | None:
    return None if found is None else _parse(STORE_KEY, found, id_in)


def no_arm(job_id: str) -> StoredDocument[ArmDocument]:
    """Return what stands for an arm document that is not there."""
    return StoredDocument(value=ArmDocument(job_id=job_id), version="")


def row_key(job_id: str, run_id: str) -> str:
    """Return where a row is stored."""
    return f"cron/runs/{job_id}/{run_id}.json"


def arm_key(job_id: str) -> str:
    """Return where a job's arm document is stored."""
    return f"{ARMS_PREFIX}{job_id}.json"


def _dump(document: dict[str, Any]) -> bytes:
    """A line for each value: readable, and one call of the quick encoder, which `indent` is not."""
    return ("{\n " + json.dumps(document, separators=(",\n ", ": "))[1:-1] + "\n}\n").encode()


NOT_READ: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""All that reading a value from a document raises where the document is not what it should be."""


def _parse(key: str, found: Document, read: Callable[[Any], T], hint: str | None = None) -> T:
    try:
        return read(read_json(found.data))
    except NOT_READ as error:
        raise UnreadableError(why_not(error), hint=hint, key=key, data=found.data, version=found.version) from error


def why_not(error: Exception) -> str:
    """The reason in words; a KeyError's text is the key alone."""
    return f"it has no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)[:200]
