"""The ledger's row: one occurrence (or one range of them that did not run), from claim to end.

    accepted -> running -> ok | failed | timeout | interrupted | lost
    (queued before accepted; skipped and missed without a run)

A row is terminal when no further attempt can follow; attempts live inside it. Every function here returns a new row.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.instant import parse_aware
from chronos_cli.core.job import MAX_COUNT, Open, OpenKind
from chronos_cli.core.policy import OnCrash, Policy
from chronos_cli.frozen import frozen, names, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_RERUNS: Final = 3
LEASE_MARGIN = timedelta(seconds=60)
"""Between the job's timeout, which its supervisor enforces, and the moment others may take the run for dead."""


_RETRY_BASE_S: Final = 30
_RETRY_CAP_S: Final = 3_600
REPLACED: Final = "ended for the next occurrence, which replaces it"
"""The reason of a run that its job's `overlap: replace` has ended: no failure of the job's."""

LONGEST_RETRY = timedelta(seconds=2 * _RETRY_CAP_S)
"""A retry that would be further off than this was put there by a clock that was ahead."""


class RunState(StrEnum):
    """State of a row."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    LOST = "lost"
    SKIPPED = "skipped"
    MISSED = "missed"


TERMINAL: Final = frozenset(RunState) - {RunState.ACCEPTED, RunState.QUEUED, RunState.RUNNING}
RETRIABLE: Final = frozenset({RunState.FAILED, RunState.TIMEOUT})


@frozen
class RunResult:
    """The end of an attempt, as its own runner wrote it down; the row says it once it can be written."""

    state: RunState
    finished_at: datetime
    exit_status: int | None = None
    reason: str | None = None
    output: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form in the run's lock file."""
        return {
            "state": self.state.value,
            "finished_at": self.finished_at.isoformat(),
            "exit_status": self.exit_status,
            "reason": self.reason,
            "output": self.output,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RunResult:
        """Read it back. Raises KeyError, TypeError or ValueError."""
        status, reason, output = (document.get(name) for name in ("exit_status", "reason", "output"))
        finished_at, state = datetime.fromisoformat(document["finished_at"]), RunState(document["state"])
        if finished_at.tzinfo is None or state not in TERMINAL:
            raise ValueError("not the end of a run")
        return cls(
            state=state,
            finished_at=finished_at,
            exit_status=status if isinstance(status, int) else None,
            reason=None if reason is None else str(reason),
            output=None if output is None else str(output),
        )


class Timing(StrEnum):
    """The origin of a run's time."""

    ON_TIME = "on_time"
    LATE = "late"
    CATCH_UP = "catch_up"
    MANUAL = "manual"
    RETRY = "retry"


@frozen
class Row:
    """One row. Instants are aware; `lateness_s` is started (else finished) minus scheduled, in seconds."""

    job_id: str
    run_id: str
    state: RunState
    kind: str
    claim: str
    claimed_at: datetime
    scheduled_at: datetime | None = None
    through: datetime | None = None
    count: int = 1
    exact: bool = True
    because: str | None = None
    received_at: datetime | None = None
    delivery_id: str | None = None
    attempt: int = 1
    reruns: int = 0
    not_before: datetime | None = None
    starter: str | None = None
    owner: Mapping[str, Any] | None = None
    started_at: datetime | None = None
    lease_ends_at: datetime | None = None
    finished_at: datetime | None = None
    lateness_s: float | None = None
    exit_status: int | None = None
    reason: str | None = None
    output: str | None = None
    unhandled: tuple[str, ...] = ()
    policy: Mapping[str, Any] | None = None
    attempts: tuple[Mapping[str, Any], ...] = ()
    alert: Mapping[str, Any] | None = None
    """Set before the on-failure command runs for this row, so that it runs once; see operations/alerts.py."""

    @property
    def replaced(self) -> bool:
        """Return whether it was ended for the next occurrence."""
        return self.state is RunState.INTERRUPTED and (self.reason or "").startswith(REPLACED)

    @property
    def terminal(self) -> bool:
        """Return whether nothing more can follow."""
        return self.state in TERMINAL

    @property
    def awaits_attempt(self) -> bool:
        """Return whether an earlier attempt is over and another is to come."""
        return self.state is RunState.ACCEPTED and self.attempt > 1

    def to_json(self) -> dict[str, Any]:
        """Return the stored form; instants as ISO 8601 text, nothing that is null."""
        values = ((name, getattr(self, name)) for name in names(self))
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in values
            if value is not None and value != ()
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Row:
        """Read a stored row; keys of later versions are passed over. Raises KeyError, TypeError or ValueError."""
        known: dict[str, Any] = {}
        for name in names(cls):
            value = document.get(name)
            if value is not None:
                known[name] = _READ[name](name, value)
        row = cls(**known)
        if row.attempt > 1 and not row.terminal and not row.attempts:
            raise ValueError("it names a further attempt, but none before it")
        return row


def kept_at(row: Row, job_id: str, run_id: str) -> Row:
    """Return a row as the place where it is kept has it: of that job and that run, and with outputs of its own alone.

    A row is data that others may have written: it may name no other run, and no other file.
    """

    def own(key: object) -> bool:
        return key is None or is_output_of(key, job_id, run_id)

    attempts = tuple({k: v for k, v in attempt.items() if k != "output" or own(v)} for attempt in row.attempts)
    output = row.output if own(row.output) else None
    return replace(row, job_id=job_id, run_id=run_id, output=output, attempts=attempts)


def output_of(job_id: str, run_id: str, attempt: int) -> str:
    """Return the key of what one attempt of a run printed."""
    return f"cron/output/{job_id}/{run_id}{f'.{attempt}' if attempt > 1 else ''}.log"


def is_output_of(key: object, job_id: str, run_id: str) -> bool:
    """Return whether a key is that of the output of one of this run's attempts."""
    first = output_of(job_id, run_id, 1)
    if not isinstance(key, str) or key == first:
        return key == first
    number = key.removeprefix(first.removesuffix("log")).removesuffix(".log")
    return number.isascii() and number.isdecimal() and key == output_of(job_id, run_id, int(number))


def _a(kind: type | tuple[type, ...]) -> Callable[[str, Any], Any]:
    """Return a reader that takes a value of this kind as it is, and raises TypeError for any other."""

    def read(name: str, value: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{name} is of the wrong type")
        if isinstance(value, int | float) and not -MAX_COUNT <= value <= MAX_COUNT:
            raise ValueError(f"{name} is too large")
        return value

    return read


def _instant(name: str, value: Any) -> datetime:
    return parse_aware(_a(str)(name, value), name).astimezone(UTC)


def _items(kind: type) -> Callable[[str, Any], Any]:
    def read(name: str, value: Any) -> Any:
        return tuple(_a(kind)(name, item) for item in _a(list)(name, value))

    return read


def _attempts(name: str, value: Any) -> Any:
    found = _items(dict)(name, value)
    for item in found:
        RunState(item["state"])
        _instant("finished_at", item["finished_at"])
        _a(str)("output", item.get("output", ""))
    return found


def _alert(name: str, value: Any) -> Any:
    found = _a(dict)(name, value)
    _instant("told_at", found["told_at"])
    for count in ("untold", "repeats"):
        if count in found:
            _a(int)(count, found[count])
    return found


_READ: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    **dict.fromkeys(
        ("job_id", "run_id", "kind", "claim", "because", "delivery_id", "starter", "reason", "output"), _a(str)
    ),
    **dict.fromkeys(("count", "attempt", "reruns", "exit_status"), _a(int)),
    **dict.fromkeys(("claimed_at", "scheduled_at", "through", "received_at", "not_before", "started_at"), _instant),
    **dict.fromkeys(("lease_ends_at", "finished_at"), _instant),
    **dict.fromkeys(("owner", "policy"), _a(dict)),
    "state": lambda _, value: RunState(value),
    "exact": _a(bool),
    "lateness_s": _a((int, float)),
    "unhandled": _items(str),
    "attempts": _attempts,
    "alert": _alert,
}
"""Readers of each stored value: a value of the wrong kind makes the row unreadable, and nothing fails later."""

_FIRST_STATE: Final = {
    OpenKind.RUN: RunState.ACCEPTED,
    OpenKind.QUEUED: RunState.QUEUED,
    OpenKind.SKIPPED: RunState.SKIPPED,
    OpenKind.MISSED: RunState.MISSED,
}


MADE_UP_FOR: Final = "made up for "
"""The reason of a manual run that stands for a time of the schedule begins so; the time follows."""


def row_of(job_id: str, entry: Open, policy: Policy) -> Row:
    """Return the first row of an entry of `open`: the same from every process."""
    state = _FIRST_STATE[entry.kind]
    return Row(
        job_id=job_id,
        run_id=entry.run,
        state=state,
        kind=entry.timing,
        claim=entry.claim,
        claimed_at=entry.claimed_at,
        scheduled_at=entry.fire_at,
        through=entry.through,
        count=entry.count,
        exact=entry.exact,
        because=entry.because,
        received_at=entry.received_at,
        delivery_id=entry.delivery,
        finished_at=entry.claimed_at if state in TERMINAL else None,
        policy={"overlap": policy.overlap.value, "grace": policy.grace, "retries": 0 if entry.own else policy.retries},
    )


def begun(row: Row, *, starter: str, owner: Mapping[str, Any], now: datetime, lease_ends_at: datetime) -> Row:
    """Return the row of a run that starts now."""
    lateness = None if row.scheduled_at is None else round((now - row.scheduled_at).total_seconds(), 3)
    return replace(
        row,
        state=RunState.RUNNING,
        kind=Timing.RETRY.value if row.attempt > 1 else row.kind,
        starter=starter,
        owner=dict(owner),
        started_at=now,
        lease_ends_at=lease_ends_at,
        lateness_s=lateness if row.attempt == 1 else row.lateness_s,
        not_before=None,
        finished_at=None,
        exit_status=None,
        reason=None,
    )


def over(
    row: Row,
    state: RunState,
    *,
    now: datetime,
    retries: int = 0,
    exit_status: int | None = None,
    reason: str | None = None,
) -> Row:
    """Return the row of a run whose attempt is over: terminal, or accepted again for a retry that is still to come."""
    closed = replace(
        row,
        state=state,
        finished_at=now,
        exit_status=exit_status,
        reason=reason,
        attempts=(*row.attempts, _attempt(row, state, now, exit_status, reason)),
    )
    if state not in RETRIABLE or row.attempt - row.reruns > retries:
        return closed
    delay = min(_RETRY_BASE_S * 2 ** (row.attempt - row.reruns - 1), _RETRY_CAP_S)
    return replace(
        closed,
        state=RunState.ACCEPTED,
        attempt=row.attempt + 1,
        not_before=now + timedelta(seconds=delay),
        finished_at=None,
    )


def concluded(row: Row, result: RunResult, *, retries: int) -> Row:
    """Return the row of a running attempt of which the result is known."""
    return over(
        replace(row, output=result.output),
        result.state,
        now=result.finished_at,
        retries=retries,
        exit_status=result.exit_status,
        reason=result.reason,
    )


def unstarted(row: Row) -> Row:
    """Return the row of a run that was marked as running and certainly never began: it may still start."""
    return replace(row, state=RunState.ACCEPTED, starter=None, owner=None, started_at=None, lease_ends_at=None)


def died(row: Row, *, now: datetime, policy: Policy, reason: str) -> Row:
    """Return the row of a run whose owner is gone: lost, or accepted again where the job wants a rerun."""
    closed = over(row, RunState.LOST, now=now, reason=reason)
    if policy.on_crash is not OnCrash.RERUN or row.reruns >= MAX_RERUNS:
        return closed
    return replace(
        closed,
        state=RunState.ACCEPTED,
        attempt=row.attempt + 1,
        reruns=row.reruns + 1,
        not_before=now,
        finished_at=None,
    )


def given_up(row: Row, *, now: datetime, because: str) -> Row:
    """Return the row of an occurrence of which no (further) attempt follows.

    One that never ran is missed; one that waited for a retry ends as its last attempt did.
    """
    if row.attempt == 1:
        return replace(row, state=RunState.MISSED, because=because, finished_at=now)
    last = row.attempts[-1]
    return replace(
        row,
        state=RunState(last["state"]),
        attempt=row.attempt - 1,
        not_before=None,
        because=because,
        finished_at=datetime.fromisoformat(last["finished_at"]),
    )


def _attempt(row: Row, state: RunState, now: datetime, exit_status: int | None, reason: str | None) -> dict[str, Any]:
    record: dict[str, Any] = {"attempt": row.attempt, "state": state.value, "finished_at": now.isoformat()}
    if row.started_at is not None:
        record["started_at"] = row.started_at.isoformat()
    more = {"exit_status": exit_status, "reason": reason, "output": row.output}
    return record | {name: value for name, value in more.items() if value is not None}
