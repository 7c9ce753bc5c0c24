"""The timeline in a terminal: one line a job, one column a slice of time, the worst of a slice wins it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.cli import humanize as words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from chronos_cli.cli.output import Output
    from chronos_cli.operations.views.timeline import Lane, Timeline

# state: (character, its ASCII stand-in, style, rank); the highest rank wins a column
_MARKS: Final[dict[str, tuple[str, str, str, int]]] = {
    "now": ("│", "|", "bold", 0),
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
}
_LEGEND: Final = ("ok", "failed", "running", "missed", "skipped", "coming", "now")
_STEPS: Final = (1, 5, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 43200)
_LABEL: Final = 24
_CHART_MOST: Final = 160
_TICK: Final = 12


def draw(out: Output, facts: Timeline) -> None:
    """Write the picture."""
    names = [words.brief(lane.name) for lane in facts.lanes]
    label = min(_LABEL, max(map(len, names), default=4))
    columns = min(max(out.width - label - 2, 20), _CHART_MOST)
    for line in _axis(facts, columns):
        out.line(" " * (label + 2) + line)
    for lane, whole in zip(facts.lanes, names, strict=True):
        name = whole if len(whole) <= label else f"{whole[: label - 2]}.."
        cells = _cells(lane, facts, columns)
        out.line(f"{name:<{label}}  " + "".join(_styled(out, group) for group in _grouped(cells)))
    for shift in facts.shifts:
        by = int((shift.after - shift.before).total_seconds() // 60)
        column = _column(shift.at, facts, columns)
        out.line(f"{'clocks':<{label}}  {' ' * column}^ {by:+d} min at {shift.at.astimezone(facts.zone):%a %H:%M %Z}")
    for lane, whole in zip(facts.lanes, names, strict=True):
        if lane.cut:
            out.note(f"{whole}: only its next {len(lane.coming)} times are drawn")
    out.line("  ".join(f"{_glyph(out, state)} {state}" for state in _LEGEND))


def _cells(lane: Lane, facts: Timeline, columns: int) -> list[str]:
    cells = [""] * columns
    cells[_column(facts.now, facts, columns)] = "now"
    for at in lane.coming:
        _put(cells, _column(at, facts, columns), "coming")
    for bar in lane.past:
        for column in range(_column(bar.start, facts, columns), _column(bar.end, facts, columns) + 1):
            _put(cells, column, bar.state)
    return cells


def _put(cells: list[str], column: int, state: str) -> None:
    if not cells[column] or _MARKS[state][3] > _MARKS[cells[column]][3]:
        cells[column] = state


def _column(at: datetime, facts: Timeline, columns: int) -> int:
    share = (at - facts.start) / (facts.end - facts.start)
    return min(max(int(share * columns), 0), columns - 1)


def _axis(facts: Timeline, columns: int) -> Iterator[str]:
    """Times along the top, on round wall-clock times of the home's zone."""
    line = [" "] * columns
    free = 0
    for at, text in ticks(facts, most=max(columns // _TICK, 1)):
        column = _column(at, facts, columns)
        if column >= free and column + len(text) <= columns:
            line[column : column + len(text)] = text
            free = column + len(text) + 1
    yield "".join(line).rstrip()


def ticks(facts: Timeline, *, most: int) -> Iterator[tuple[datetime, str]]:
    """At most about `most` round instants of the window with their labels."""
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
            yield at, f"{wall:%a %d}" if step >= 1440 or (wall.hour, wall.minute) == (0, 0) else f"{wall:%H:%M}"


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
