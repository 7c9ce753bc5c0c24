"""The cursor and its claim: which occurrence a look may take, what taking it covers, and what comes after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chronos_cli.core.clock import displaced
from chronos_cli.core.decision import Trigger
from chronos_cli.core.instant import SECOND, parse_stored, whole
from chronos_cli.core.job import Standing, ours_of
from chronos_cli.core.schedule import Once
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from chronos_cli.core.decision import FireRequest
    from chronos_cli.core.job import Job

EARLY_LIMIT = timedelta(seconds=60)
UNNAMED_TOLERANCE = timedelta(seconds=2)
ON_TIME_LIMIT = timedelta(seconds=5)
COMPLETED_STAYS = timedelta(days=7)


def run_id_of(instant: datetime) -> str:
    """Return the name of an occurrence's row: `20261120T153415Z`."""
    return f"{whole(instant):%Y%m%dT%H%M%SZ}"


def instant_of(run_id: str) -> datetime | None:
    """Return the instant that a row's name tells, None where it is that of a manual run or no name of ours."""
    try:
        return datetime.strptime(run_id, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def claimable_occurrence(job: Job, cursor: datetime | None, fire: FireRequest, now: datetime) -> datetime | None:
    """Return the occurrence this look may claim: the cursor, when it is named or due.

    Nothing else is ever claimable.
    """
    if cursor is None or job.standing is not Standing.LIVE or fire.via in (Trigger.MANUAL, Trigger.RUN_ENDED):
        return None
    if fire.via is Trigger.RELAY:
        named = fire.fire_at == cursor and cursor - now <= EARLY_LIMIT
        tolerance = UNNAMED_TOLERANCE if fire.fire_at is None else timedelta()
        return cursor if named or cursor <= now + tolerance else None
    return cursor if cursor <= now else None


def successor(job: Job, claimed_through: datetime | None, now: datetime) -> datetime | None:
    """Return the first instant of the schedule later than both now and everything ever claimed."""
    return job.timetable.after(now if claimed_through is None else max(now, claimed_through))


def right_cursor(job: Job, now: datetime) -> datetime | None:
    """Return the job's cursor, put right where it is null, unreadable, already claimed, or of another UTC offset.

    A live job whose runs are all counted has none left: hermes counts a single time before it runs it, and may have
    died in the run.
    """
    if job.standing is not Standing.LIVE:
        return job.cursor
    if job.used_up and not job.claimed_elsewhere(now):
        return None
    if job.cursor is not None and (job.claimed_through is None or job.cursor > job.claimed_through):
        return displaced(job) or job.cursor
    schedule = job.timetable.schedule
    if not isinstance(schedule, Once):
        return successor(job, job.claimed_through, now)
    spent = job.claimed_through is not None or job.record.get("last_run_at")
    return None if spent else schedule.at + job.timetable.offset


@frozen
class ClaimEffect:
    """The effect of taking `taken` (None: nothing of it may still run), and the range missed on the way."""

    taken: datetime | None
    missed: tuple[datetime, datetime] | None
    through: datetime


def claim_of(job: Job, cursor: datetime, now: datetime) -> ClaimEffect:
    """Apply grace to a cursor that is meant; it counts from the end of the job's tolerance.

    Within grace the cursor itself is taken; past it, the newest instant not later than now, if that one is within
    grace. What lies in between, on either side, is one missed range.
    """
    grace = (timedelta(seconds=job.policy.grace) or ON_TIME_LIMIT) + timedelta(seconds=job.policy.tolerance)
    if whole(now) - cursor <= grace:
        following = job.timetable.after(cursor)
        if following is None or following > now:
            return ClaimEffect(taken=cursor, missed=None, through=cursor)
        newest = job.timetable.latest(now) or following
        return ClaimEffect(taken=cursor, missed=(following, newest), through=newest)
    newest = max(job.timetable.latest(now) or cursor, cursor)
    if whole(now) - newest > grace:
        return ClaimEffect(taken=None, missed=(cursor, newest), through=newest)
    return ClaimEffect(taken=newest, missed=(cursor, newest - SECOND), through=newest)


def is_expired_completed(job: Job, now: datetime) -> bool:
    """Return whether a completed job has been shown as completed for long enough to leave the store."""
    if job.open or job.record.get("state") != "completed":
        return False
    done = parse_stored(ours_of(job.record).get("completed_at"), UTC) or parse_stored(
        job.record.get("last_run_at"), job.timetable.zone
    )
    return done is not None and now - done > COMPLETED_STAYS
