"""A job as its record in jobs.json says it is: read leniently, judged strictly.

Field names are those of hermes-agent 0.19; what chronos adds lives under the record's key `chronos`:

    timezone         IANA name of the zone the schedule is walked in
    policy           overlap, grace, timeout, retries, on_crash, jitter, pause_after_failures (durations in seconds),
                     on_failure (the program told of a failure), on_failure_again, inherit_env
    action           what to run, where it is not a hermes prompt or script
    env              the job's own variables by name, texts or references (core/variables.py)
    env_file         paths of files with lines NAME=VALUE, read when a run starts; `-` before one that may be absent
    imported         where an import found it: {"source", "line"}
    labels           what selectors choose by: {"team": "ops"}
    set              the set of files that it was applied from
    anchor           the instant an interval counts from
    claimed_through  the latest instant ever claimed or settled
    leapt_from       the last few next times from which a tick, without a witness for its clock, went far ahead
    aligned          the next time that was set past instants which have rows, when a claim was brought back
    open             the open runs, and ranges whose row is still owed
    failures         how many runs in a row have failed
    change           the token of the last change
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.instant import named_zone, parse_aware, parse_stored
from chronos_cli.core.policy import HINT, SHOWN, Policy
from chronos_cli.core.schedule import Once, Schedule, Timetable, from_record
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.frozen import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS: Final = "chronos"
"""The one key of a record under which everything of ours lives."""

CLAIM_PREFIX: Final = "chronos:"
"""Marks a hermes `fire_claim` as stamped by us."""

_ZONE_KEYS: Final = ("tz", "timezone", "timeZone", "time_zone")
_ACTIONS: Final = (OURS, "prompt", "script", "skills", "skill")
"""The keys under which a record may say what to run."""

HERMES_CLAIM_TTL = timedelta(seconds=300)
HERMES_RUN_CLAIM_TTL = timedelta(seconds=1800)
_RUN_ID: Final = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
MAX_COUNT: Final = 2**53
MAX_ZONE: Final = 100


class OpenKind(StrEnum):
    """The debt of an entry of `open`: a run, or a row for what did not run."""

    RUN = "run"
    QUEUED = "queued"
    SKIPPED = "skipped"
    MISSED = "missed"


@frozen
class Open:
    """One open run, or one row still owed. Everything its row needs is here, so any process can write that row."""

    run: str
    kind: OpenKind
    fire_at: datetime | None
    claim: str
    claimed_at: datetime
    received_at: datetime | None = None
    timing: str = "on_time"
    through: datetime | None = None
    count: int = 1
    exact: bool = True
    because: str | None = None
    delivery: str | None = None
    stands_for: datetime | None = None
    """The instant of the schedule that a manual run makes up for."""
    own: bool = False
    """True for a run with input that only its requester has: no other process may start it."""
    doubted_at: datetime | None = None
    """When a clock that has no witness found its lease long over; see `core.clock.Lease`."""

    @property
    def manual(self) -> bool:
        """Return whether a person asked for this run, outside the schedule."""
        return self.fire_at is None

    @classmethod
    def from_record(cls, value: Mapping[str, Any]) -> Open:
        """Read a stored entry. Raises KeyError, TypeError or ValueError where it is not one."""
        return cls(
            run=_run_id(value["run"]),
            kind=OpenKind(value["kind"]),
            fire_at=parse_stored(value.get("fire_at"), UTC),
            claim=str(value["claim"]),
            claimed_at=parse_aware(value["claimed_at"], "claimed_at"),
            received_at=parse_aware(value["received_at"], "received_at") if value.get("received_at") else None,
            timing=str(value.get("timing", "on_time")),
            through=parse_stored(value.get("through"), UTC),
            count=min(int(value.get("count", 1)), MAX_COUNT),
            exact=bool(value.get("exact", True)),
            because=_text_or_none(value.get("because")),
            delivery=_text_or_none(value.get("delivery")),
            stands_for=parse_stored(value.get("stands_for"), UTC),
            own=value.get("own") is True,
            doubted_at=parse_stored(value.get("doubted_at"), UTC),
        )

    def to_record(self) -> dict[str, Any]:
        """Return the stored form, without what it need not say."""
        record: dict[str, Any] = {"run": self.run, "kind": self.kind.value, "claim": self.claim}
        for name in ("fire_at", "claimed_at", "received_at", "through", "stands_for", "doubted_at"):
            moment = getattr(self, name)
            if moment is not None:
                record[name] = moment.isoformat()
        record["timing"] = self.timing
        if self.own:
            record["own"] = True
        if self.kind in (OpenKind.MISSED, OpenKind.SKIPPED):
            record |= {"count": self.count, "exact": self.exact}
        for name in ("because", "delivery"):
            if getattr(self, name) is not None:
                record[name] = getattr(self, name)
        return record


def _run_id(value: object) -> str:
    """Return a run's name, which is that of its row's file too. Raises ValueError."""
    if not isinstance(value, str) or not re.fullmatch(_RUN_ID, value):
        raise ValueError("a run's id is a name, no path")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)


class Standing(StrEnum):
    """The state of a job's schedule: in force or not."""

    LIVE = "live"
    PAUSED = "paused"
    DISABLED = "disabled"
    COMPLETED = "completed"


@frozen
class Job:
    """One job, parsed. `record` is the stored object itself and is never changed in place."""

    id: str
    name: str
    record: Mapping[str, Any]
    timetable: Timetable
    zone_name: str
    policy: Policy
    standing: Standing
    cursor: datetime | None
    cursor_unreadable: bool
    claimed_through: datetime | None
    leapt_from: tuple[datetime, ...] = ()
    aligned: datetime | None = None
    open: tuple[Open, ...] = ()
    times: int | None = None
    completed: int = 0
    failures: int = 0
    change: str | None = None
    foreign_claims: tuple[tuple[datetime, timedelta], ...] = field(default=())

    @property
    def once(self) -> bool:
        """Return whether the schedule is a single instant."""
        return isinstance(self.timetable.schedule, Once)

    @property
    def used_up(self) -> bool:
        """Return whether all runs that it is to have in all are counted."""
        return self.times is not None and self.completed >= self.times

    def claimed_elsewhere(self, now: datetime) -> bool:
        """Return whether a hermes process on this home holds a live claim; its machine's clock may be ahead."""
        return any(abs(now - at) < ttl for at, ttl in self.foreign_claims)


@frozen
class HomeDefaults:
    """The values a job inherits where its record is silent."""

    zone: tzinfo
    zone_name: str
    policy: Policy = Policy()


def parse_job(record: Mapping[str, Any], home: HomeDefaults) -> Job:
    """Read one record. Raises ChronosError with the reason where the job cannot be run as it stands.

    Missing keys and nulls mean their defaults; a number spelled as text is read; a null or unreadable `next_run_at`
    is no error (`cursor` is None, and reconcile puts it right).
    """
    try:
        return _parse(record, home)
    except ChronosError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        # Any other fault of a record is of this record alone, and must not keep the others from being read.
        why = f"{type(error).__name__}: {str(error)[:SHOWN]}"
        raise UsageError(f"the record cannot be read: {why}", hint=HINT) from error


def _parse(record: Mapping[str, Any], home: HomeDefaults) -> Job:
    ours = _object(record.get(OURS))
    own_zone = ours.get("timezone") or _zone_of_another_program(record)
    zone_name = own_zone or home.zone_name
    if not isinstance(zone_name, str) or len(zone_name) > MAX_ZONE:
        raise UsageError("the time zone is no name of one", hint="use an IANA name such as Europe/Berlin, or UTC")
    zone = named_zone(zone_name) if own_zone else home.zone
    if record.get("payload") and not any(record.get(key) for key in _ACTIONS):
        raise UsageError(
            "its action `payload` is another program's, which is not read here",
            hint="give it what it shall run: a prompt, a script or an action",
        )
    schedule = from_record(record.get("schedule"), zone)
    policy = Policy.from_record(ours.get("policy"), home.policy)
    job_id = str(record["id"])
    cursor = parse_stored(record.get("next_run_at"), zone)
    repeat = _object(record.get("repeat"))
    return Job(
        id=job_id,
        name=str(record.get("name") or job_id),
        record=record,
        timetable=Timetable(
            schedule=schedule, zone=zone, anchor=_anchor(record, ours, zone, cursor), offset=jitter_of(job_id, policy)
        ),
        zone_name=zone_name,
        policy=policy,
        standing=_standing(record, schedule, cursor),
        cursor=cursor,
        cursor_unreadable=cursor is None and bool(record.get("next_run_at")),
        claimed_through=parse_stored(ours.get("claimed_through"), UTC),
        leapt_from=instants_of(ours.get("leapt_from")),
        aligned=parse_stored(ours.get("aligned"), UTC),
        open=_open(ours.get("open")),
        times=_positive(repeat.get("times")),
        completed=_positive(repeat.get("completed")) or 0,
        failures=_positive(ours.get("failures")) or 0,
        change=_text_or_none(ours.get("change")),
        foreign_claims=_foreign(record, zone),
    )


def jitter_of(job_id: str, policy: Policy) -> timedelta:
    """Return the job's constant offset: stable over re-arms and machines, spread evenly over [0, jitter]."""
    return timedelta(seconds=zlib.crc32(job_id.encode()) % (policy.jitter + 1)) if policy.jitter else timedelta()


def ours_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of what chronos keeps in the record."""
    return dict(_object(record.get(OURS)))


def _standing(record: Mapping[str, Any], schedule: Schedule, cursor: datetime | None) -> Standing:
    state = str(record.get("state") or "").strip()
    enabled = record.get("enabled", True)
    if state == "completed":
        return Standing.COMPLETED
    if state == "paused" or record.get("paused_at"):  # hermes runs no job that bears either mark
        return Standing.PAUSED
    if not enabled or enabled == "false":  # to hermes, null and all that is empty is off as well
        # A job that was switched off may be meant as paused; only a spent schedule is done.
        spent = cursor is None and (isinstance(schedule, Once) or _exhausted(record))
        return Standing.COMPLETED if spent else Standing.DISABLED
    return Standing.LIVE


def _exhausted(record: Mapping[str, Any]) -> bool:
    repeat = _object(record.get("repeat"))
    times, completed = _positive(repeat.get("times")), _positive(repeat.get("completed")) or 0
    return times is not None and completed >= times


def _anchor(record: Mapping[str, Any], ours: Mapping[str, Any], zone: tzinfo, cursor: datetime | None) -> datetime:
    """Return an interval's anchor: ours, else what hermes counts from."""
    anchor = parse_stored(ours.get("anchor"), UTC) or cursor
    return anchor or parse_stored(record.get("created_at"), zone) or datetime(2020, 1, 1, tzinfo=UTC)


def instants_of(value: object) -> tuple[datetime, ...]:
    """Return the instants of a list of ours, without those that cannot be read."""
    if not isinstance(value, list):
        return ()
    found = [parse_stored(item, UTC) for item in value]
    return tuple(moment for moment in found if moment is not None)


def _open(value: object) -> tuple[Open, ...]:
    if not isinstance(value, list):
        return ()
    entries = []
    for item in value:
        try:
            entries.append(Open.from_record(item))
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise ChronosError("an entry of chronos.open cannot be read", hint="see `chronos job unlock`") from error
    return tuple(entries)


def readable_open(value: object) -> list[Any]:
    """Return the stored entries of `open` that can be read."""
    found = []
    for item in value if isinstance(value, list) else []:
        try:
            _open([item])
        except ChronosError:
            continue
        found.append(item)
    return found


def _foreign(record: Mapping[str, Any], zone: tzinfo) -> tuple[tuple[datetime, timedelta], ...]:
    found = []
    for key, ttl in (("fire_claim", HERMES_CLAIM_TTL), ("run_claim", HERMES_RUN_CLAIM_TTL)):
        if not record.get(key):
            continue
        claim = _object(record[key])
        at = parse_stored(claim.get("at"), zone)
        if at is not None and not str(claim.get("by", "")).startswith(CLAIM_PREFIX):
            found.append((at, ttl))
    return tuple(found)


def names_zone(record: Mapping[str, Any]) -> bool:
    """Return True for a record that names the zone of its schedule, in our words or another program's."""
    return bool(_object(record.get(OURS)).get("timezone") or _zone_of_another_program(record))


def _zone_of_another_program(record: Mapping[str, Any]) -> str | None:
    """Return the zone that a record of another program names for its schedule, or None.

    Hermes' own records name none. Raises UsageError for one that is no text.
    """
    schedule = _object(record.get("schedule"))
    if schedule.keys().isdisjoint(_ZONE_KEYS) and record.keys().isdisjoint(_ZONE_KEYS):  # as nearly all are
        return None
    for place in (schedule, record):
        for key in _ZONE_KEYS:
            found = place.get(key)
            if not found:
                continue
            if not isinstance(found, str):
                raise UsageError(
                    "it has a time zone that is not read here", hint="name an IANA zone such as Europe/Berlin"
                )
            return found
    return None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _positive(value: object) -> int | None:
    """Return a whole number above zero, also when spelled as text; anything else means none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return min(number, MAX_COUNT) if number > 0 else None
