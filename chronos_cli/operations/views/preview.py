"""A schedule before it is stored: its normal form, its next times, and what about it may surprise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from chronos_cli.core.schedule import Timetable, both_days, normal_form
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from datetime import tzinfo

BOTH_DAYS = "day of month and day of week are both set: cron runs it on either, not only where both hold"


@frozen
class Preview:
    """The meaning of a schedule. `times`: its next instants, in UTC."""

    schedule: str
    zone: tzinfo
    zone_name: str
    now: datetime
    times: tuple[datetime, ...]
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as `next --json` and `job add --json` say it."""
        return {
            "schedule": self.schedule,
            "timezone": self.zone_name,
            "next": [
                {"at": moment.astimezone(self.zone).isoformat(), "utc": moment.astimezone(UTC).isoformat()}
                for moment in self.times
            ],
            "warnings": list(self.warnings),
        }


def preview(text: str, *, zone: tzinfo, zone_name: str, count: int = 5, now: datetime | None = None) -> Preview:
    """Read a schedule as a person writes it. Raises ScheduleError naming what to write instead."""
    moment = now or datetime.now(UTC)
    schedule = parse_schedule(text, now=moment, zone=zone)
    table = Timetable(schedule=schedule, zone=zone, anchor=moment.replace(microsecond=0), offset=timedelta())
    return preview_of(table, zone_name=zone_name, count=count, now=moment)


def preview_of(
    table: Timetable, *, zone_name: str, count: int = 5, now: datetime, first: datetime | None = None
) -> Preview:
    """Return the same of a schedule that a job has, its jitter included.

    `first`: the next time that is stored, if one is.
    """
    stored = () if first is None else (first,)
    return Preview(
        schedule=normal_form(table.schedule, table.zone),
        zone=table.zone,
        zone_name=zone_name,
        now=now,
        times=(*stored, *islice(table.walk(first or now), count - len(stored))),
        warnings=(BOTH_DAYS,) if both_days(table.schedule) else (),
    )
