"""Times at which other schedulers start what cron fields say, each by its own rules, so where clocks move too.

Debian's cron goes by the wall (cron.c), systemd by mktime (calendarspec.c), the cluster by hours that it adds
(spec.go of robfig/cron 3). All agree with the walk of ours but on the days on which clocks are moved. Nothing is run by
these times: they are what a plan shows beside ours.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.core.instant import SECOND, whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import tzinfo

    from chronos_cli.core.cron_fields import Fields

_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_MOST_YEARS: Final = 9
_CLUSTERS_YEARS: Final = 5


def debians_times(fields: Fields, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """Yield the starts of Debian's cron later than `after`, as often as it starts the command.

    A job with a star in minute or hour goes by the wall. Any other is started once for each of its times that a move
    skips, all at its end, and not again where a move repeats them. A move that leaves summer time as it is goes unseen;
    that cron makes up for no more than three hours changes nothing, as no summer time is so long.
    """
    passed: datetime | None = None  # on the wall: up to here everything has had its turn
    for begin, end, shift in _stretches(whole(after) - _DAY, zone):
        wall = _ceiled((begin + shift).replace(tzinfo=None))
        if passed is None or fields.starred:
            passed = wall - _MINUTE
        for due in fields.times(passed + _MINUTE):
            instant = max((due - shift).replace(tzinfo=UTC), begin)
            if instant >= end:
                break
            if instant > after:
                yield instant
        passed = max(passed, _floored((end - SECOND + shift).replace(tzinfo=None)))


def _stretches(start: datetime, zone: tzinfo) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Yield begin, end and offset of stretches of time, as one sees them that looks for summer time alone."""
    until = start + _MOST_YEARS * 366 * _DAY
    while start < until:
        shift, summer = _offset(start, zone), _is_summer(start, zone)
        low, high = start, start + _DAY
        while _is_summer(high, zone) == summer and high - start < 366 * _DAY:
            low, high = high, high + _DAY
        if _is_summer(high, zone) != summer:
            while high - low > SECOND:
                middle = whole(low + (high - low) / 2)
                low, high = (middle, high) if _is_summer(middle, zone) == summer else (low, middle)
        yield start, high, shift
        start = high


def systemds_times(
    fields: Fields, after: datetime, zone: tzinfo, *, seconds: tuple[int, ...] = (0,)
) -> Iterator[datetime]:
    """Yield when systemd's calendar elapses later than `after`; `seconds`: those of its minutes.

    A time that a move skips is left out, and nothing elapses again while a move repeats an hour.
    """
    calendar, instant = _Calendar(fields, zone, seconds), whole(after)
    while (found := calendar.next(instant)) is not None:
        instant = found
        yield instant


class _Calendar:
    """find_next of calendarspec.c, over a mktime that begins at its last offset, as the C library's does."""

    def __init__(self, fields: Fields, zone: tzinfo, seconds: tuple[int, ...]) -> None:
        self._months, self._days = sorted(fields.months), sorted(fields.days)
        self._of_month = bool(fields.nth) or min(fields.days, default=1) < 1
        self._fields, self._zone, self._seconds = fields, zone, seconds
        self._offset = timedelta()

    def next(self, after: datetime) -> datetime | None:
        """Return the first time later than `after`, None where none is in sight."""
        begin = wall = _wall(after, self._zone) + timedelta(microseconds=1)
        self._offset = timedelta()
        if _is_summer(self._mktime(wall), self._zone) != _is_summer(after, self._zone):
            self._offset = _offset(after, self._zone)
        while wall.year <= begin.year + _MOST_YEARS:
            wall = self._normal(wall)
            found = self._step(wall)
            if found != wall:
                wall = found
            elif wall > begin:
                return self._mktime(wall)
            else:  # mktime went back before a gap: on by an hour
                later = self._mktime(wall) + _HOUR
                wall, self._offset = _wall(later, self._zone), _offset(later, self._zone)
        return None

    def _step(self, wall: datetime) -> datetime:
        """Return `wall` where it is a time of the calendar, else the one to go on from."""
        fields, midnight = self._fields, datetime.combine(wall.date(), time())
        first = midnight.replace(day=1)
        if (month := _least(self._months, wall.month)) is None:
            return first.replace(year=wall.year + 1, month=1)
        if month > wall.month:
            return first.replace(month=month)
        next_month = (first + timedelta(days=32)).replace(day=1)
        day = _least(self._days_of(first), wall.day)
        if day is None or (found := first + timedelta(days=day - 1)) >= next_month:
            return next_month
        if day > wall.day:
            return self._reached(found, next_month)
        off = not self._of_month and wall.isoweekday() % 7 not in fields.weekdays
        if off or (hour := _least(fields.hours, wall.hour)) is None:
            return midnight + _DAY
        if hour > wall.hour:
            return self._reached(midnight.replace(hour=hour), midnight + _DAY)
        o_clock = midnight.replace(hour=wall.hour)
        if (minute := _least(fields.minutes, wall.minute)) is None:
            return o_clock + _HOUR
        if minute > wall.minute:
            return self._reached(o_clock.replace(minute=minute), o_clock + _HOUR)
        in_minute = o_clock.replace(minute=wall.minute)
        second = _least(self._seconds, wall.second + bool(wall.microsecond))
        return in_minute + _MINUTE if second is None else in_minute.replace(second=second)

    def _days_of(self, first: datetime) -> list[int]:
        """Return the days of a month by its first; where they hang on the month, those that are its last, or nth."""
        if not self._of_month:
            return self._days
        month = (first.date() + timedelta(days=number) for number in range(31))
        return [day.day for day in month if day.month == first.month and self._fields.on_day(day)]

    def _reached(self, wall: datetime, otherwise: datetime) -> datetime:
        """Return what mktime makes of a time, at the beginning of what it changed; `otherwise` where it goes back."""
        normal = self._normal(wall)
        if normal < wall:
            return otherwise
        if normal.date() != wall.date():
            return datetime.combine(normal.date(), time())
        return normal.replace(minute=0) if normal.hour != wall.hour else normal

    def _normal(self, wall: datetime) -> datetime:
        return _wall(self._mktime(wall), self._zone)

    def _mktime(self, wall: datetime) -> datetime:
        """Return what glibc's mktime does, not told of summer time: by its last offset, in a gap by summer time's."""
        moment = before = last = (wall - self._offset).replace(tzinfo=UTC)
        summer_before = False
        while (better := (wall - _offset(moment, self._zone)).replace(tzinfo=UTC)) != moment:
            summer = _is_summer(moment, self._zone)
            if moment == before and moment != last and summer_before <= summer:
                break
            before, last, moment, summer_before = last, moment, better, summer
        self._offset = wall - moment.replace(tzinfo=None)
        return moment


def _least(values: Sequence[int], least: int) -> int | None:
    return next((value for value in values if value >= least), None)


def clusters_times(fields: Fields, after: datetime, zone: tzinfo) -> Iterator[datetime]:
    """Yield the times of a CronJob later than `after`: Next of spec.go.

    It adds hours to an instant: a time that a move skips is left out, and one that a move repeats comes twice.
    """
    instant = whole(after)
    while (found := _clusters_next(fields, instant, zone)) is not None:
        instant = found
        yield instant


def _clusters_next(fields: Fields, after: datetime, zone: tzinfo) -> datetime | None:
    moment, begun = after + SECOND, False
    wall = _wall(moment, zone)
    last_year = wall.year + _CLUSTERS_YEARS
    while wall.year <= last_year:
        if wall.month not in fields.months:
            if not begun:
                moment, begun = _gos_date(wall.replace(day=1, hour=0, minute=0, second=0), zone), True
            moment = _gos_date((_wall(moment, zone) + timedelta(days=32)).replace(day=1), zone)
        elif not fields.on_day(wall.date()):
            if not begun:
                moment, begun = _gos_date(wall.replace(hour=0, minute=0, second=0), zone), True
            moment = _gos_date(_wall(moment, zone) + _DAY, zone)
            if hour := _wall(moment, zone).hour:
                moment += timedelta(hours=24 - hour if hour > 12 else -hour)
        else:
            moment, begun, ended = _within(fields, moment, zone, begun=begun)
            if ended:
                return moment
        wall = _wall(moment, zone)
    return None


def _within(fields: Fields, moment: datetime, zone: tzinfo, *, begun: bool) -> tuple[datetime, bool, bool]:
    """Go on within a day that matches: the instant, if something was added, and if it is a time of the fields."""
    while (wall := _wall(moment, zone)).hour not in fields.hours:
        if not begun:
            moment, begun = _gos_date(wall.replace(minute=0, second=0), zone), True
        moment += _HOUR
        if not _wall(moment, zone).hour:
            return moment, begun, False
    while _wall(moment, zone).minute not in fields.minutes:
        moment, begun = moment.replace(second=0) + _MINUTE, True
        if not _wall(moment, zone).minute:
            return moment, begun, False
    if moment.second:
        moment, begun = moment.replace(second=0) + _MINUTE, True
        return moment, begun, False
    return moment, begun, True


def _gos_date(wall: datetime, zone: tzinfo) -> datetime:
    """Return what Go's time.Date does: by the offset of the time read as UTC, or by the one that holds."""
    read = wall.replace(tzinfo=UTC)
    offset = _offset(read, zone)
    return read - _offset(read - offset, zone) if offset else read


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _is_summer(moment: datetime, zone: tzinfo) -> bool:
    return bool(moment.astimezone(zone).dst())


def _floored(wall: datetime) -> datetime:
    return wall.replace(second=0)


def _ceiled(wall: datetime) -> datetime:
    return wall.replace(second=0) + _MINUTE if wall.second else wall
