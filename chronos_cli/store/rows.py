"""Rows: what became of each run, `cron/runs/<job_id>/<run_id>.json`."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import is_job_id
from chronos_cli.core.job import OURS, instants_of, ours_of
from chronos_cli.core.row import Row, RunState, kept_at
from chronos_cli.errors import DocumentError, UnreadableError
from chronos_cli.store.documents import StoredDocument, dump, parse
from chronos_cli.store.interface import JOBS_KEY, OutcomeUnknown, VersionConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chronos_cli.store.interface import DocumentStore
    from chronos_cli.store.jobsfile import JobsFile

_LONGEST_GAP: Final = timedelta(hours=25)
_STILL_ASKED_FOR: Final = timedelta(minutes=10)
"""Time for which a requester may be trying to claim a run: locks and buckets are waited for no longer."""


class RowStore:
    """The rows of a home's runs: a run that a job has in hand keeps its row.

    `jobs` reads the jobs as stored now, `entry_bytes` the bytes in which one job's record stands.
    """

    def __init__(
        self, documents: DocumentStore, jobs: Callable[[], JobsFile], entry_bytes: Callable[[str], bytes]
    ) -> None:
        self._documents = documents
        self._jobs = jobs
        self._entry_bytes = entry_bytes

    def get(self, job_id: str, run_id: str) -> StoredDocument[Row] | None:
        """Return one row, or None. Raises UnreadableError for what is no row of this run, and what reading raises."""
        if not (is_job_id(job_id) and is_job_id(run_id)):
            return None  # a record may have any id, and a person may type any run; neither names a document
        key = row_key(job_id, run_id)
        found = self._documents.read(key)
        if found is None:
            return None

        def read(document: Any) -> Row:
            row = Row.from_json(document)
            if (row.job_id, row.run_id) != (job_id, run_id):
                raise ValueError("it is the row of another run")
            return kept_at(row, job_id, run_id)

        return StoredDocument(
            value=parse(key, found, read, f"`chronos job unlock {job_id}` settles it"), version=found.version
        )

    def create(self, row: Row) -> str:
        """Make a row, durable: the job file drops the entry that it could be made from. Raises VersionConflict."""
        return self._documents.create(row_key(row.job_id, row.run_id), dump(row.to_json()))

    def replace(self, row: Row, version: str) -> str:
        """Replace a row read at `version`, durable as in `create`. Raises VersionConflict."""
        return self._documents.replace(row_key(row.job_id, row.run_id), dump(row.to_json()), version)

    def make(self, first: Row) -> str:
        """Make the first row of an entry of `open`; returns its version. Raises VersionConflict where there is no need.

        An entry leaves `open` after its row is terminal, and no row is pruned before that. So a row that is not
        terminal, and whose entry is gone once it was made, is that of a run which is over and pruned: it is taken back.
        A terminal one says what the pruned row said.
        """
        try:
            version = self.create(first)
        except OutcomeUnknown:
            stored = None
            with suppress(UnreadableError):  # it rotted since: the next look finds it torn
                stored = self.get(first.job_id, first.run_id)
            if stored is None or stored.value != first:
                raise
            version = stored.version
        if not first.terminal and not self.is_in_hand(first):
            self.take_back(first, version)
            raise VersionConflict(row_key(first.job_id, first.run_id))
        return version

    def is_in_hand(self, row: Row) -> bool:
        """Return whether the entry of a run stands in its job's record: in the bytes, which need not be parsed.

        A claim's token stands elsewhere too, with more around it, and in the other entries of the same claim. Raises
        StoreError.
        """
        data = self._entry_bytes(row.job_id)
        by, run = (f'"{text}"'.encode() for text in (row.claim, row.run_id))
        at = data.find(by)
        while at >= 0 and run not in data[data.rfind(b"{", 0, at) : data.find(b"}", at)]:
            at = data.find(by, at + 1)
        return at >= 0

    def take_back(self, row: Row, version: str) -> None:
        """Delete a row that was made too late, if it still stands as it was made: what was settled since stays."""
        with self._documents.exclusive(JOBS_KEY):  # whoever settles a row holds it
            stored = self.get(row.job_id, row.run_id)
            if stored is not None and stored.version == version:
                self._documents.delete(row_key(row.job_id, row.run_id))

    def ids(self, job_id: str) -> list[str]:
        """Return the names of a job's rows, oldest first (manual ones by their time too)."""
        if not is_job_id(job_id):
            return []
        prefix = f"cron/runs/{job_id}/"
        names = [key[len(prefix) : -len(".json")] for key in self._documents.list(prefix) if key.endswith(".json")]
        return sorted((name for name in names if "/" not in name), key=lambda name: name.removeprefix("manual-"))

    def of(self, job_id: str, *, newest: int | None = None) -> Iterator[Row]:
        """Yield a job's rows, newest first; those that cannot be read are left out."""
        names = self.ids(job_id)
        for name in reversed(names[-newest:] if newest else names):
            found = self._readable(job_id, name)
            if found is not None:
                yield found.value

    def _readable(self, job_id: str, run_id: str) -> StoredDocument[Row] | None:
        try:
            return self.get(job_id, run_id)
        except DocumentError:
            return None  # history and doctor name it, and so does a command that needs this very row

    def prune(
        self,
        job_id: str,
        *,
        keep: int,
        horizon: str,
        now: datetime | None = None,
        sure: bool = True,
        unbegun: Callable[[Row], bool] = lambda _: False,
    ) -> int:
        """Delete terminal rows, with their output, beyond the newest `keep`, or named and settled before `horizon`.

        One whose run the job still has in `open` stays: without its row that run would look as if it had never
        started. So do the newest row, and the newest settled one of the schedule and of a person's runs, however few
        are kept: history and logs have the last of each. So does a person's run that ended just now: whoever asked for
        it, and did not hear that the claim was written, would claim it again. `horizon` is a run id's time,
        `20261120T153415Z`.

        Rows named for later than `now`, by whatever clock was ahead, take nobody's place. `sure` False: no witness
        knows that clock: the rows alone tell how old they are, and those since it leapt take no place of those before.

        What was made too late goes as well, where its maker died before it took that back: a row in nobody's hand that
        waits to start, or that runs while its process is `unbegun`. Returns how many went.
        """
        names = self.ids(job_id)
        if len(names) <= keep and all(name.removeprefix("manual-") >= horizon for name in names[:1]):
            return 0
        # Read after the names: a run with a row by then was in `open` before, and never comes back to it.
        record = self._jobs().get(job_id)
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
            found = self._readable(job_id, name)
            if found is None or not found.value.terminal:
                gone += found is not None and self._drops_left_back(record, found.value, unbegun)
                continue
            if manual in last:
                last.discard(manual)
                continue
            if young or (name in newest and _settled_at(found.value) >= horizon):
                continue  # kept; also a range of long ago that was settled lately
            if manual and lately is not None and _settled_at(found.value) > lately:
                continue
            self._drop(found.value)
            gone += 1
        return gone

    def _drops_left_back(self, record: Mapping[str, Any] | None, row: Row, unbegun: Callable[[Row], bool]) -> bool:
        """Delete a row that is not terminal and in nobody's hand, where nobody will end it; return whether it went.

        What runs under a job that was removed, and added again, still writes down its end.
        """
        known = record is not None and isinstance(ours_of(record).get("open", []), list)
        if not known or not (row.state in (RunState.ACCEPTED, RunState.QUEUED) or unbegun(row)):
            return False
        self._drop(row)
        return True

    def _drop(self, row: Row) -> None:
        for attempt in row.attempts:
            if attempt.get("output"):  # one of this run's own: row() leaves no other
                self._documents.delete(attempt["output"], durable=False)
        self._documents.delete(row_key(row.job_id, row.run_id), durable=False)

    def may_be_in_hand(self, job_id: str, run_id: str) -> bool:
        """Return whether a run is in its job's hand, as far as that can be told: what cannot be read may have it."""
        jobs = self._jobs()
        record = jobs.get(job_id)
        unknown = record is None and any(item.problem for item in jobs.records)
        return unknown or run_id in open_runs(record)


def _time_of(name: str, otherwise: datetime) -> datetime:
    """Return the time in the name of a row, or `otherwise` where it tells none."""
    try:
        return datetime.fromisoformat(name.removeprefix("manual-")[:16]).astimezone(UTC)
    except ValueError:
        return otherwise


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
    """Return the open runs of a job's record, as far as they can be read."""
    ours = (record or {}).get(OURS)
    entries = ours.get("open") if isinstance(ours, dict) else None
    listed = entries if isinstance(entries, list) else []
    return frozenset(str(entry.get("run")) for entry in listed if isinstance(entry, dict))


def row_key(job_id: str, run_id: str) -> str:
    """Return where a row is stored."""
    return f"cron/runs/{job_id}/{run_id}.json"
