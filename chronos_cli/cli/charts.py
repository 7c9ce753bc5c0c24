"""The timeline in a terminal: one line a job, one column a slice of time, the worst of a slice wins it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.cli import humanize as words
from chronos_cli.durations import span
from chronos_cli.screen import cut, padded, width_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from chronos_cli.cli.output import Output
    from chronos_cli.operations.views.timeline import Lane, Timeline

# state: (character, its ASCII stand-in, style, rank); the highest rank wins a column
_MARKS: Final[dict[str, tuple[str, str, str, int]]] = {
    "now": ("│", "|", "bold", 0),
    "waited": ("╌", "~", "yellow", 1),
    "coming": ("○", "o", "cyan", 1),
    "skipped": ("·", "-", "dim", 2),
    "ok": ("█", "#", "green", 3),
    "queued": ("░", ":", "yellow", 4),
    "accepted": ("░", ":", "yellow", 4),
    "running": ("▒", "=", "cyan", 5),
    "missed": ("◇", "!", "yellow", 6),
    "interrupted": ("✗", "x", "red", 7),
    "timeout": ("✗", "x", "red", 7),
    "lost": ("✗", "x", "red", 7),
    "failed": ("✗", "x", "red", 7),
    "overdue": ("▓", "%", "red", 8),
    "outage": ("▄", "^", "red", 8),
}
_LEGEND: Final = (
    "ok", "failed", "running", "queued", "missed", "skipped", "waited", "overdue", "outage", "coming", "now",
)  # fmt: skip
_SAME: Final = {"accepted": "queued", "timeout": "failed", "interrupted": "failed", "lost": "failed"}
"""States that are drawn as another, which stands for both in the legend."""

_DAY, _WEEK, _MONTH = 1_440, 10_080, 43_200
_STEPS: Final = (1, 5, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 43200, 129600, 527040)
_LABEL: Final = 24
_CHART_MOST: Final = 160
_TICK: Final = 12


def draw(out: Output, facts: Timeline) -> None:
    """Write the picture."""
    names = [out.known(words.brief(lane.name)) for lane in facts.lanes]
    label = max(min(_LABEL, max(map(width_of, [*names, "outages"])), out.width // 3), 4)
    ids = (width_of(lane.job_id) for lane in facts.lanes if lane.job_id == lane.name)
    label = max(label, min(max(ids, default=0), out.width // 2))  # an id is there to be typed on
    columns = min(max(out.width - label - 2, 8), _CHART_MOST)
    seen = {"now"}
    out.paragraph(f"{_span(facts)}; now {words.instant(facts.now, facts.zone)}", hang=2)
    for line in _axis(facts, columns):
        out.line(" " * (label + 2) + line)
    if facts.outages:
        cells = [""] * columns
        for outage in facts.outages:
            _fill(cells, outage.start, outage.end, "outage", facts)
        seen |= set(cells)
        out.line(padded("outages", label) + "  " + "".join(_styled(out, group) for group in _grouped(cells)))
    for lane, whole in zip(facts.lanes, names, strict=True):
        name = padded(cut(whole, label, out.ellipsis), label)
        if lane.problem is not None:
            said = cut(out.known(words.brief(f"invalid: {lane.problem}")), columns, out.ellipsis)
            out.line(f"{name}  {out.style(said, 'red')}")
            continue
        cells = _cells(lane, facts, columns)
        seen |= set(cells)
        out.line(f"{name}  " + "".join(_styled(out, group) for group in _grouped(cells)))
    _explain(out, facts, label, columns)
    drawn = {_SAME.get(state, state) for state in seen}
    out.paragraph("  ".join(f"{_glyph(out, state)} {state}" for state in _LEGEND if state in drawn), hang=0)


def _span(facts: Timeline) -> str:
    """Return how much is drawn: `1 h back and 6 h ahead`."""
    back, ahead = ((end - start).total_seconds() for start, end in ((facts.start, facts.now), (facts.now, facts.end)))
    return f"{span(back)} back and {span(ahead)} ahead"


def _explain(out: Output, facts: Timeline, label: int, columns: int) -> None:
    """Write what stands below the lanes: outages, changes of the clocks, and what is not drawn."""
    for outage in facts.outages:
        when = words.from_to(outage.start, outage.end, facts.zone)
        out.paragraph(f"outage {when}: {words.brief(outage.reason)}", hang=2, style="red")
    for shift in facts.shifts:
        by = int((shift.after - shift.before).total_seconds() // 60)
        said = f"^ {by:+d} min at {shift.at.astimezone(facts.zone):%a %H:%M %Z}"
        column = max(min(_column(shift.at, facts, columns), columns - len(said)), 0)
        out.line(f"{padded('clocks', label)[:label]}  {' ' * column}{said}")
    for lane in facts.lanes:
        if lane.overdue is not None:
            since = words.instant(lane.overdue, facts.zone)
            ago = span((facts.now - lane.overdue).total_seconds())
            out.paragraph(f"{words.brief(lane.name)}: due since {since}, {ago} ago", hang=2, style="red")
        if lane.cut:
            out.note(f"{words.brief(lane.name)}: only its next {len(lane.coming)} times are drawn")


def _cells(lane: Lane, facts: Timeline, columns: int) -> list[str]:
    cells = [""] * columns
    cells[_column(facts.now, facts, columns)] = "now"
    for at in lane.coming:
        if lane.overdue is None or at > facts.now:
            _put(cells, _column(at, facts, columns), "coming")
    for bar in lane.past:
        if bar.due is not None:
            _fill(cells, bar.due, bar.start, "waited", facts)
        _fill(cells, bar.start, bar.end, bar.state, facts)
    if lane.overdue is not None:
        _fill(cells, lane.overdue, facts.now, "overdue", facts)
    return cells


def _fill(cells: list[str], start: datetime, end: datetime, state: str, facts: Timeline) -> None:
    for column in range(_column(start, facts, len(cells)), _column(end, facts, len(cells)) + 1):
        _put(cells, column, state)


def _put(cells: list[str], column: int, state: str) -> None:
    if not cells[column] or _MARKS[state][3] > _MARKS[cells[column]][3]:
        cells[column] = state


def _column(at: datetime, facts: Timeline, columns: int) -> int:
    share = (at - facts.start) / (facts.end - facts.start)
    return min(max(int(share * columns), 0), columns - 1)


def _axis(facts: Timeline, columns: int) -> Iterator[str]:
    """Yield the line of times along the top, at round wall-clock times of the home's zone."""
    line = [" "] * columns
    free = 0
    for at, text in ticks(facts, most=max(columns // _TICK, 1)):
        column = _column(at, facts, columns)
        if column >= free and column + len(text) <= columns:
            line[column : column + len(text)] = text
            free = column + len(text) + 1
    yield "".join(line).rstrip()


def ticks(facts: Timeline, *, most: int) -> Iterator[tuple[datetime, str]]:
    """Yield about `most` round instants of the window at most, with their labels."""
    minutes = (facts.end - facts.start) / timedelta(minutes=1)
    step = next((step for step in _STEPS if minutes / step <= most), _STEPS[-1])
    local = facts.start.astimezone(facts.zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    number = 0
    while True:
        wall = midnight + timedelta(minutes=step * number)
        number += 1
        at = wall.replace(tzinfo=facts.zone)
        if at > facts.end:
            return
        if at >= facts.start:
            yield at, _label(wall, step)


def _label(wall: datetime, step: int) -> str:
    if step >= _MONTH:
        return f"{wall:%b %Y}"
    if step >= _WEEK:
        return f"{wall:%d %b}"
    return f"{wall:%a %d}" if step >= _DAY or (wall.hour, wall.minute) == (0, 0) else f"{wall:%H:%M}"


def _grouped(cells: list[str]) -> Iterator[tuple[str, int]]:
    start = 0
    for index in range(1, len(cells) + 1):
        if index == len(cells) or cells[index] != cells[start]:
            yield cells[start], index - start
            start = index


def _styled(out: Output, group: tuple[str, int]) -> str:
    state, count = group
    return " " * count if not state else out.style(_character(out, state) * count, _MARKS[state][2])


def _glyph(out: Output, state: str) -> str:
    return out.style(_character(out, state), _MARKS[state][2])


def _character(out: Output, state: str) -> str:
    fancy, plain, _, _ = _MARKS[state]
    return fancy if out.unicode else plain
