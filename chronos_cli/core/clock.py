"""Rules of which clock may be believed, and which next time a schedule does not explain.

A wrong clock must not settle for good what has not come yet. So before an occurrence is entered as missed, claimed far
ahead or completed, the clock is held against a witness: another machine's, heard in this very process. What is stored
is no witness, as it may be from the same wrong clock.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from chronos_cli.core.instant import SECOND, first_valid, parse_stored, text_in, whole
from chronos_cli.core.job import OURS, Standing, names_zone, ours_of
from chronos_cli.core.schedule import Cron, Interval, normal_form
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Collection

    from chronos_cli.core.job import Job
    from chronos_cli.core.row import Row

AGREES_WITHIN: Final = timedelta(minutes=10)
"""Clocks this close agree: NAS's may be five minutes off, and an answer takes its time."""

WITNESS_OFF: Final = timedelta(minutes=5)
"""The most that the witness's clock is ahead, and with it one that it corrects."""

UNCHECKED: Final = timedelta(days=1)
"""So long after its time an occurrence is settled without a witness: a wrong clock then costs a day at most."""

_ZONES_SPAN: Final = timedelta(hours=26)
"""So far apart may the dates of two zones be: what has run where it came from may be ahead of us in another."""

_SOON: Final = timedelta(days=8)
AHEAD: Final = "ahead"
DISPLACED: Final = "displaced"


class Trust(StrEnum):
    """Knowledge of the clock that a decision is made by.

    CONFIRMED: a witness agrees. CORRECTED: a witness contradicts, and the earlier of the two is taken, by which nothing
    is past that is not past by both. ALONE: no witness can be had, since the tick alone triggers this home. UNHEARD:
    there is a witness, and it has not been heard.
    """

    CONFIRMED = "confirmed"
    CORRECTED = "corrected"
    ALONE = "alone"
    UNHEARD = "unheard"


def judged(now: datetime, witness: datetime) -> tuple[timedelta, Trust]:
    """Return how far a clock that says `now` must be set back, and what is known of it then."""
    ahead = now - witness
    if abs(ahead) <= AGREES_WITHIN:
        return timedelta(), Trust.CONFIRMED
    return max(ahead, timedelta()), Trust.CORRECTED


def may_settle(job: Job, cursor: datetime, now: datetime, trust: Trust) -> bool:
    """Return whether what came due at `cursor` and since may be settled for good."""
    return trust is not Trust.UNHEARD or is_near(job, cursor, now)


def is_near(job: Job, cursor: datetime, now: datetime) -> bool:
    """Return whether now is so soon after the cursor that the last state explains it."""
    return now - cursor <= max(timedelta(seconds=job.policy.grace), UNCHECKED)


def is_ahead(job: Job, now: datetime) -> bool:
    """Return whether a live job's next time, or the latest claimed, is later than its schedule explains at `now`."""
    if job.standing is not Standing.LIVE or job.once:
        return False
    through, latest = job.claimed_through, now + AGREES_WITHIN
    if through is not None and through > latest:
        return True
    if job.cursor is None or job.cursor <= latest or job.cursor == job.aligned:
        return False
    if not ours_of(job.record):
        latest += _SOON  # a record that is another program's alone: that may have put it off by up to a week
    meant = displaced(job)
    return _is_beyond(job, job.cursor, latest) if meant is None else _is_beyond(job, meant, latest + _ZONES_SPAN)


def _is_beyond(job: Job, cursor: datetime, latest: datetime) -> bool:
    """Return whether a next time is later than the schedule's own next one after `latest`.

    A hermes on the same home counts an interval from its last run, and knows no jitter: that much later may it be.
    """
    table = job.timetable
    if isinstance(table.schedule, Interval):
        return cursor > latest + timedelta(seconds=table.schedule.seconds)
    following = table.after(latest + table.offset)
    return following is None or cursor > following


def mended_by(job: Job, now: datetime, trust: Trust) -> bool:
    """Return whether this clock may put right what is ahead: a witness agrees with it, or the state from before does.

    A tick that leapt without a witness noted from where; a clock by which it is about that time is the one that was
    right. Else nothing is done, since the clock may be wrong now as well as then.
    """
    if trust is not Trust.ALONE:
        return trust is Trust.CONFIRMED
    return any(_is_about(job, came_next, now) for came_next in job.leapt_from)


def leaps_left(job: Job, now: datetime, trust: Trust) -> tuple[datetime, ...]:
    """Return the leaps that stay noted once what is ahead was put right: those before the one that is undone.

    A clock that is ahead as well, only less, may have undone the last of several.
    """
    if trust is not Trust.ALONE:
        return ()
    undone = next((n for n, came_next in enumerate(job.leapt_from) if _is_about(job, came_next, now)), 0)
    return job.leapt_from[:undone]


def _is_about(job: Job, came_next: datetime, now: datetime) -> bool:
    # A job that leapt twice slept past rows: past one of a slow schedule, or some of a fast one.
    following = job.timetable.after(now + AGREES_WITHIN) or now
    soon = came_next - now <= _SOON or not _is_beyond(job, came_next, following)
    return soon and is_near(job, came_next, now)


@frozen
class Lease:
    """The time that a run has, as far as it is known.

    `counted`: its end was worked out by the boot clock. `doubted_at`: when a clock without a witness found it
    long over, if one did.
    """

    end: datetime | None
    length: timedelta = timedelta()
    counted: bool = False
    doubted_at: datetime | None = None

    def is_over(self, now: datetime, trust: Trust) -> bool:
        """Return whether it is over: one that only a wall clock without its witness calls long over is not.

        Where there is no witness at all, it is once its whole length has passed since that was found: by then it is
        over by any clock, unless that one leapt meanwhile.
        """
        if self.end is None or now < self.end + self._allowed(trust):
            return False
        if self.counted or trust in (Trust.CONFIRMED, Trust.CORRECTED) or now - self.end <= UNCHECKED:
            return True
        if trust is Trust.UNHEARD or self.doubted_at is None:
            return False
        return timedelta() <= now - self.doubted_at - self.length <= UNCHECKED

    def looked_at(self, now: datetime, trust: Trust) -> datetime | None:
        """Return when to look at it: at its end, or, where that is past, when it is over."""
        return self.end if self.end is None or now < self.end else self.end + self._allowed(trust)

    def _allowed(self, trust: Trust) -> timedelta:
        """Return for how long after its end it may go on by a right clock: a corrected one is as far ahead as NAS's."""
        return WITNESS_OFF if trust is Trust.CORRECTED and not self.counted else timedelta()

    def is_doubted(self, now: datetime, trust: Trust) -> bool:
        """Return whether to note that a clock without a witness finds it long over, unless that is noted already."""
        if trust is not Trust.ALONE or self.end is None or now < self.end or self.is_over(now, trust):
            return False
        return self.doubted_at is None or not timedelta() <= now - self.doubted_at <= self.length + UNCHECKED


CLOCK_DRIFT = timedelta(seconds=5)
"""The most that the wall clock and the boot clock may part within a run and still agree."""


def lease_end(row: Row, elapsed_s: float | None, now: datetime) -> datetime | None:
    """Return when a run's lease ends, on the clock that `now` is of.

    `elapsed_s`: for how long it has gone, by the boot clock; None: only the wall clock tells. A wall clock
    that was set meanwhile moves the end with it. A few seconds are the drift of clocks: a stable instant is worth more.
    """
    if row.lease_ends_at is None or row.started_at is None or elapsed_s is None:
        return row.lease_ends_at
    moved = timedelta(seconds=round((now - row.started_at).total_seconds() - elapsed_s))
    return row.lease_ends_at + moved if abs(moved) > CLOCK_DRIFT else row.lease_ends_at


def put_right(job: Job, rows: Collection[datetime], now: datetime) -> tuple[datetime, datetime | None]:
    """Return what is claimed through and what comes next, by a right clock: the first instant ahead without a row.

    `rows`: the instants that have a row of any kind: none of these runs again.
    """
    following = job.timetable.after(now)
    while following is not None and following in rows:
        following = job.timetable.after(following)
    return whole(now), following


def displaced(job: Job) -> datetime | None:
    """Return where a cursor of another UTC offset belongs, if its schedule does not give it; None where it may stand.

    The zone's rules have changed since it was stored, or another program stored it in another zone. The same time on
    the wall of the same date is what was meant: so once a day stays once a day.
    """
    text = job.record.get("next_run_at")
    if job.cursor is None or not isinstance(job.timetable.schedule, Cron) or not isinstance(text, str):
        return None
    stored = datetime.fromisoformat(text)
    zone, offset = job.timetable.zone, job.timetable.offset
    if stored.tzinfo is None or stored.utcoffset() == job.cursor.astimezone(zone).utcoffset():
        return None
    on_the_minute = not stored.microsecond and not (job.cursor - offset).second
    if not on_the_minute or job.timetable.after(job.cursor - SECOND) == job.cursor:
        return None  # no schedule gives such a time, so a person has set it
    meant = whole(first_valid(stored.replace(tzinfo=None), zone))
    is_given = job.timetable.after(meant - SECOND) == meant
    floor = (meant if is_given else job.cursor) - SECOND
    return job.timetable.after(max(floor, job.claimed_through or floor))


@frozen
class TimeDoubt:
    """Doubt about a job's next time: `code` (`ahead`, `displaced`), in words, and the command that mends.

    `taken`: what a displaced one is put right to.
    """

    code: str
    text: str
    mend: str
    taken: datetime | None = None

    def as_json(self) -> dict[str, str]:
        """Return it as `list --json` says it."""
        return {"code": self.code, "text": self.text, "mend": self.mend}


def doubt_about(job: Job, now: datetime, *, paused: bool = False) -> TimeDoubt | None:
    """Return what is strange about a live job's next time by a clock that says `now`; `paused`: a paused one's too."""
    if job.standing is not Standing.LIVE:
        return _doubt_about_zone(job) if paused and job.standing is Standing.PAUSED else None
    zone = job.timetable.zone
    if is_ahead(job, now):
        latest = max(moment for moment in (job.cursor, job.claimed_through) if moment is not None)
        return TimeDoubt(
            code=AHEAD,
            text=f"it sleeps until {text_in(latest, zone)}, further than '{normal_form(job.timetable.schedule, zone)}'"
            " explains: a clock was ahead then, or this one is behind now",
            mend=f"chronos job realign {job.id}",
        )
    meant = displaced(job)
    if meant is None:
        return _doubt_about_zone(job) if job.cursor is None else None
    expr, stored = normal_form(job.timetable.schedule, zone), job.record.get("next_run_at")
    return TimeDoubt(
        code=DISPLACED,
        text=f"next_run_at says {stored}, but the zone that is used is {job.zone_name}, where '{expr}' gives"
        f" {text_in(meant, zone)}, and that is taken",
        mend=f"chronos job edit {job.id} --tz ZONE, or set `timezone` in config.yaml, if another zone was meant",
        taken=meant,
    )


def _doubt_about_zone(job: Job) -> TimeDoubt | None:
    """Return the doubt about a job that only another program has written, in an offset that is none of its zone.

    Nothing of it says when it comes due next, so that the offset of its other times has to tell.
    """
    schedule, zone = job.timetable.schedule, job.timetable.zone
    if not isinstance(schedule, Cron) or OURS in job.record or names_zone(job.record):
        return None
    for key in ("next_run_at", "last_run_at"):
        text = job.record.get(key)
        moment = parse_stored(text, zone)
        if moment is None or not isinstance(text, str):
            continue
        offset = datetime.fromisoformat(text).utcoffset()
        if offset in (None, moment.astimezone(zone).utcoffset()):
            return None
        return TimeDoubt(
            code=DISPLACED,
            text=f"{key} says {text}, but the zone that is used is {job.zone_name}: '{schedule.expr}' is meant there",
            mend=f"chronos job edit {job.id} --tz ZONE, or set `timezone` in config.yaml, if another zone was meant",
        )
    return None
