"""Debian's rules for cron and clocks, minute by minute, as docs/schedules.md has them: slow, plain, and all our own.

Nothing of the product is used here: fields are read with a few lines, and no minute is ever skipped.
"""

from datetime import UTC, datetime, timedelta

MINUTE = timedelta(minutes=1)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def values(field, low, high):
    """The numbers of one field: stars, numbers, ranges and steps, joined by commas."""
    found = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(first), int(last or first))
        found.update(range(begin, end + 1, int(step or 1)))
    return found


class Rules:
    """One expression: which times of the wall it names, and whether it is a job with a star in minute or hour."""

    def __init__(self, expr):
        fields = expr.split()
        self.minutes, self.hours, self.days, self.months, weekdays = (
            values(field, *span) for field, span in zip(fields, RANGES, strict=True)
        )
        self.weekdays = {day % 7 for day in weekdays}
        self.both = fields[2].startswith("*") or fields[4].startswith("*")
        self.starred = fields[0].startswith("*") or fields[1].startswith("*")

    def names(self, wall):
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return (day and weekday) if self.both else (day or weekday)


def walls(zone, start, end):
    """Each real minute of (start, end] with what the wall shows then. `start` must be whole minutes in UTC."""
    count = int((end - start) / MINUTE)
    instants = [start + MINUTE * number for number in range(1, count + 1)]
    return [(instant, instant.astimezone(zone).replace(tzinfo=None)) for instant in instants]


def due(expr, minutes):
    """The instants at which the expression comes due among `minutes`, of which the first is before any move of the clocks.

    A job with a star runs whenever the wall shows a time that matches. Any other runs for each time of the wall once:
    not when the wall shows it again, and for times that the wall never showed, when the clocks have jumped over them.
    """
    rules = Rules(expr)
    if rules.starred:
        return [instant for instant, wall in minutes if rules.names(wall)]
    found = []
    shown = minutes[0][1] - MINUTE
    for instant, wall in minutes:
        over = False
        while shown < wall:
            shown += MINUTE
            over = rules.names(shown) or over
        if over:
            found.append(instant)
    return found


def moves(zone, start, end):
    """Each move of a zone's clocks in [start, end): its instant, and what the wall shows before and after it."""
    found = []
    at, step = start, timedelta(hours=6)
    while at < end:
        low, high = at, at + step
        before = low.astimezone(zone).utcoffset()
        if high.astimezone(zone).utcoffset() != before:
            while high - low > timedelta(seconds=1):
                middle = datetime.fromtimestamp((low.timestamp() + high.timestamp()) // 2, UTC)
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
            found.append((high, (high + before).time(), high.astimezone(zone).time()))
        at += step
    return found
