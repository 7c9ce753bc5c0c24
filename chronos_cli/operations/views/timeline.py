"""Timeline of past and coming runs: the facts behind the picture, however it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.claim import instant_of, run_id_of
from chronos_cli.core.instant import iso_text
from chronos_cli.core.job import Standing
from chronos_cli.core.row import RunState, Timing
from chronos_cli.errors import DocumentError
from chronos_cli.operations.evaluate import read_record
from chronos_cli.operations.views.outages import Outage, outages
from chronos_cli.operations.views.prospect import OVERDUE_AFTER, held_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, tzinfo

    from chronos_cli.core.job import Job
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context

MOST: Final = 5_000
"""At most so many past rows and so many coming instants of one job are drawn."""

_HOUR = timedelta(hours=1)

_STEPS: Final = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440, 2880, 10080, 20160, 43200, 129600, 259200, 527040)
)

FURTHEST: Final = _STEPS[-1]
"""A year: nothing is looked for that is further away."""

_FINEST: Final = 100
"""So many times the distance of the busiest job's neighbours a side may be long, or they run into one."""

_LEAST_SHARE: Final = 4
"""Neither side is less than this part of the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A run from its start to its end, or one moment at which nothing ran (`skipped`, `missed`)."""

    start: datetime
    end: datetime
    state: str
    run_id: str
    note: str = ""
    due: datetime | None = None
    """When it should have begun, where the first look came later."""

    def as_json(self) -> dict[str, Any]:
        """Return it as `timeline --json` says it."""
        document = {"run_id": self.run_id, "state": self.state, "start": self.start.isoformat(),
                    "end": self.end.isoformat()}  # fmt: skip
        due = {} if self.due is None else {"due": self.due.isoformat()}
        return document | ({"note": self.note} if self.note else {}) | due


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One job: its past and its future, in order.

    `overdue`: since when an occurrence is due that has not begun. `problem`: why its record cannot be run.
    """

    job_id: str
    name: str
    past: tuple[Bar, ...]
    coming: tuple[datetime, ...]
    overdue: datetime | None = None
    problem: str | None = None

    @property
    def cut(self) -> bool:
        """Return whether there are more coming instants in the window than are drawn."""
        return len(self.coming) >= MOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """The clocks of the home's zone change at `at`, from one UTC offset to another."""

    at: datetime
    before: timedelta
    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A window of time and the lanes in it."""

    start: datetime
    now: datetime
    end: datetime
    zone: tzinfo
    zone_name: str
    lanes: tuple[Lane, ...]
    shifts: tuple[Shift, ...]
    outages: tuple[Outage, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as `timeline --json` says it."""
        return {
            "start": self.start.isoformat(),
            "now": self.now.isoformat(),
            "end": self.end.isoformat(),
            "timezone": self.zone_name,
            "jobs": [
                {
                    "job_id": lane.job_id,
                    "name": lane.name,
                    "past": [bar.as_json() for bar in lane.past],
                    "coming": [at.isoformat() for at in lane.coming],
                    "cut": lane.cut,
                    "overdue_since": iso_text(lane.overdue),
                    "problem": lane.problem,
                }
                for lane in self.lanes
            ],
            "clock_changes": [
                {"at": shift.at.isoformat(), "by_s": int((shift.after - shift.before).total_seconds())}
                for shift in self.shifts
            ],
            "outages": [outage.as_json() for outage in self.outages],
        }


def timeline(
    ctx: Context,
    *,
    last: timedelta | None = None,
    following: timedelta | None = None,
    only: frozenset[str] | None = None,
) -> Timeline:
    """Return the facts of a window around now; without its bounds as much as there is to see. Raises StoreError."""
    now = ctx.clock().replace(microsecond=0)
    jobs = []
    for record in ctx.repository.jobs().records:
        job_id = record.id or record.number
        if only is None or job_id in only:
            jobs.append((job_id, record, *read_record(ctx, record)))
    hold = ctx.repository.hold(now)
    late = {job_id: _overdue(job, now) for job_id, _, job, _ in jobs if job is not None and hold is None}
    behind = [_newest(ctx, job_id, now) for job_id, *_ in jobs] + [[at] for at in late.values() if at is not None]
    ahead = [_next_two(job, now) for _, _, job, _ in jobs if job is not None]
    back, on = _window(
        [[now - at for at in times] for times in behind], [[at - now for at in times] for times in ahead]
    )
    start, end = now - (last or back), now + (following or on)
    lanes = []
    for job_id, record, job, problem in jobs:
        name = record.value.get("name") if isinstance(record.value, dict) else None
        lanes.append(
            Lane(
                job_id=job_id,
                name=str(name or job_id),
                past=tuple(_past(ctx, job_id, start, now)) if record.id is not None else (),
                coming=() if job is None else tuple(_coming(job, now, end)),
                overdue=late.get(job_id),
                problem=problem,
            )
        )
    lanes.sort(key=lambda lane: (lane.coming[0] if lane.coming else end, lane.name))
    found = list(outages(lanes, now))
    if hold is not None:
        since = hold.engaged_at if hold.engaged_at is not None and hold.engaged_at < now else now
        found.append(Outage(start=since, end=now, reason=held_words(hold, now, ctx.home.zone)))
    return Timeline(
        start=start,
        now=now,
        end=end,
        zone=ctx.home.zone,
        zone_name=ctx.home.zone_name,
        lanes=tuple(lanes),
        shifts=tuple(_shifts(ctx.home.zone, start, end)),
        outages=tuple(outage for outage in found if outage.end >= start),
    )


def _newest(ctx: Context, job_id: str, now: datetime) -> list[datetime]:
    try:
        names = ctx.repository.rows.ids(job_id)
    except DocumentError:
        return []
    moments = sorted((at for name in names if (at := _instant(name)) is not None and at <= now), reverse=True)
    return moments[:2]


def _instant(name: str) -> datetime | None:
    """Return the instant in the name of a row, a manual run's too."""
    return instant_of(name.removeprefix("manual-").partition("-")[0])


def _next_two(job: Job, now: datetime) -> list[datetime]:
    return list(islice(_coming(job, now, now + FURTHEST), 2))


def _overdue(job: Job, now: datetime) -> datetime | None:
    if job.standing is not Standing.LIVE or job.cursor is None or now - job.cursor <= OVERDUE_AFTER:
        return None
    return job.cursor


def _past(ctx: Context, job_id: str, start: datetime, now: datetime) -> Iterator[Bar]:
    """Yield the rows of the window, oldest first.

    A run that began before it counts if it reached into it by its name.
    """
    earliest = run_id_of(start)
    try:
        names = [name for name in ctx.repository.rows.ids(job_id) if name.removeprefix("manual-") >= earliest][-MOST:]
    except DocumentError:
        return  # history and doctor name what cannot be read; a picture shows the rest
    for name in names:
        try:
            stored = ctx.repository.rows.get(job_id, name)
        except DocumentError:
            continue
        if stored is not None:
            bar = _bar(stored.value, now)
            if bar is not None:
                yield bar


def _bar(row: Row, now: datetime) -> Bar | None:
    begin = row.started_at or row.scheduled_at
    if begin is None:
        return None
    end = now if row.state is RunState.RUNNING else row.finished_at or begin
    if row.started_at is None:
        end = row.through or begin
    late = row.kind in (Timing.LATE, Timing.CATCH_UP) and row.attempt == 1 and row.started_at is not None
    due = (
        row.scheduled_at if late and row.scheduled_at is not None and begin - row.scheduled_at > OVERDUE_AFTER else None
    )
    count = f"{row.count} times; " if row.count > 1 else ""
    return Bar(
        start=begin, end=max(begin, end), state=row.state.value, run_id=row.run_id,
        note=f"{count}{row.reason or row.because or ''}".rstrip("; "), due=due,
    )  # fmt: skip


def _coming(job: Job, now: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the cursor and what follows it; a job that is switched off has no future."""
    if job.standing is not Standing.LIVE or job.cursor is None:
        return
    if job.cursor > end:
        return
    yield max(job.cursor, now)
    if job.once:
        return
    left = MOST if job.times is None else max(job.times - job.completed - 1, 0)
    for at in islice(job.timetable.walk(max(job.cursor, now)), min(left, MOST - 1)):
        if at > end:
            return
        yield at


def _shifts(zone: tzinfo, start: datetime, end: datetime) -> Iterator[Shift]:
    """Return where the zone's UTC offset changes, to the second."""
    at = start
    while at < end:
        later = min(at + _HOUR, end)
        before, after = at.astimezone(zone).utcoffset(), later.astimezone(zone).utcoffset()
        if before is not None and after is not None and before != after:
            low, high = at, later
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                if middle.astimezone(zone).utcoffset() == before:
                    low = middle
                else:
                    high = middle
            yield Shift(at=high.replace(microsecond=0), before=before, after=after)
        at = later


def _window(back: Sequence[Sequence[timedelta]], ahead: Sequence[Sequence[timedelta]]) -> tuple[timedelta, timedelta]:
    """Return how far back and ahead to draw: to each job's nearest, as far as the busiest can still be told apart.

    `back` and `ahead`: how far the two nearest rows, and times to come, of each job are away, the nearest first.
    """
    behind, before = _reach(back), _reach(ahead)
    if behind is None and before is None:
        return _HOUR, _HOUR
    behind, before = behind or timedelta(), before or timedelta()
    return max(behind, before / _LEAST_SHARE), max(before, behind / _LEAST_SHARE)


def _reach(distances: Sequence[Sequence[timedelta]]) -> timedelta | None:
    known = [times for times in distances if times]
    if not known:
        return None
    busiest = min(max(times) for times in known)
    furthest = max(min(times) for times in known)
    wanted = max(busiest, min(furthest, max(busiest, timedelta(seconds=1)) * _FINEST))
    return next((step for step in _STEPS if step > wanted), _STEPS[-1])
