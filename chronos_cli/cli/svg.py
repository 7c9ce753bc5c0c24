"""The timeline as one self-contained SVG file: no script, no font, nothing fetched; hovering shows each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from chronos_cli.cli import humanize as words
from chronos_cli.cli.charts import ticks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from chronos_cli.operations.views.timeline import Bar, Lane, Timeline

_COLOURS: Final = {
    "ok": "#2e8b57", "running": "#1e88c8", "failed": "#c62828", "timeout": "#c62828", "interrupted": "#c62828",
    "lost": "#c62828", "missed": "#e69100", "skipped": "#9e9e9e", "queued": "#c0a000", "accepted": "#c0a000",
    "overdue": "#ad1457", "waited": "#e69100", "outage": "#c62828",
}  # fmt: skip
_LABEL: Final = 190
_CHART: Final = 900
_TOP: Final = 56
_ROW: Final = 26
_FOOT: Final = 40
_LEAST: Final = 3.0
"""Width of the shortest run that is drawn, in pixels."""


def render(facts: Timeline) -> str:
    """Return the whole file."""
    height = _TOP + _ROW * max(len(facts.lanes), 1) + _FOOT
    width = _LABEL + _CHART + 20
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{_text(title(facts))}</title>",
        f'<rect class="ground" width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text class="word" x="10" y="20" font-size="14" font-weight="bold" fill="#222222">{_text(title(facts))}',
        "</text>",
        *_grid(facts, height),
        *_outages(facts, height),
    ]
    for number, lane in enumerate(facts.lanes):
        lines += _lane(lane, facts, _TOP + _ROW * number)
    lines += [*_shifts(facts, height), *_now(facts, height), *_legend(height), "</svg>"]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Return text for between tags. XML cannot hold most control characters, so they are shown as escapes."""
    return escape(words.brief(text))


def title(facts: Timeline) -> str:
    """Return the title of the picture: when it was drawn."""
    return f"chronos timeline, {facts.now.astimezone(facts.zone):%Y-%m-%d %H:%M %Z}"


def _x(at: datetime, facts: Timeline) -> float:
    share = (at - facts.start) / (facts.end - facts.start)
    return round(_LABEL + min(max(share, 0.0), 1.0) * _CHART, 1)


def _grid(facts: Timeline, height: int) -> Iterator[str]:
    for at, text in ticks(facts, most=13):
        x = _x(at, facts)
        yield f'<line x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{height - _FOOT}" class="grid" stroke="#e4e4e4"/>'
        yield f'<text x="{x}" y="{_TOP - 14}" text-anchor="middle" class="faint" fill="#555555">{_text(text)}</text>'


def _lane(lane: Lane, facts: Timeline, top: int) -> Iterator[str]:
    middle = top + _ROW // 2
    whole = words.brief(lane.name)
    name = whole if len(whole) <= 26 else f"{whole[:24]}.."
    yield (
        f'<text class="word" x="10" y="{middle + 4}" fill="#222222">{_text(name)}'
        f"<title>{_text(lane.job_id)}</title></text>"
    )
    yield f'<line class="grid" x1="{_LABEL}" y1="{middle}" x2="{_LABEL + _CHART}" y2="{middle}" stroke="#f0f0f0"/>'
    if lane.problem is not None:
        said = _text(f"invalid: {lane.problem}")
        yield f'<text x="{_LABEL + 4}" y="{middle + 4}" fill="#c62828">{said[:150]}<title>{said}</title></text>'
    for at in lane.coming:
        if lane.overdue is not None and at <= facts.now:
            continue
        told = f"{whole}: {words.local(at, facts.zone)}"
        yield (
            f'<circle class="coming" cx="{_x(at, facts)}" cy="{middle}" r="3.5" fill="#ffffff" stroke="#1e88c8">'
            f"<title>{_text(told)}</title></circle>"
        )
    for bar in lane.past:
        if bar.due is not None:
            told = f"{whole}: due {words.local(bar.due, facts.zone)}, begun later"
            yield _thin("waited", _x(bar.due, facts), _x(bar.start, facts), middle, told)
        yield _bar(bar, lane, facts, middle)
    if lane.overdue is not None:
        told = f"{whole}: due since {words.local(lane.overdue, facts.zone)}"
        yield _thin("overdue", _x(lane.overdue, facts), _x(facts.now, facts), middle, told)


def _thin(kind: str, left: float, right: float, middle: int, told: str) -> str:
    """Return a stretch in which something was to run and did not."""
    width = round(max(right - left, _LEAST), 1)
    return (
        f'<rect class="{kind}" x="{left}" y="{middle - 2}" width="{width}" height="4" fill="{_COLOURS[kind]}">'
        f"<title>{_text(told)}</title></rect>"
    )


def _outages(facts: Timeline, height: int) -> Iterator[str]:
    for outage in facts.outages:
        left, right = _x(outage.start, facts), _x(outage.end, facts)
        told = f"outage {words.from_to(outage.start, outage.end, facts.zone)}: {outage.reason}"
        width = round(max(right - left, _LEAST), 1)
        yield (
            f'<rect class="outage" x="{left}" y="{_TOP - 8}" width="{width}" height="{height - _FOOT - _TOP + 8}"'
            f' fill="{_COLOURS["outage"]}" fill-opacity="0.12"><title>{_text(told)}</title></rect>'
        )


def _bar(bar: Bar, lane: Lane, facts: Timeline, middle: int) -> str:
    left, right = _x(bar.start, facts), _x(bar.end, facts)
    colour = _COLOURS.get(bar.state, "#555555")
    told = f"{words.brief(lane.name)}: {bar.state} {words.local(bar.start, facts.zone)}" + (
        f", {bar.note}" if bar.note else ""
    )
    title = f"<title>{_text(told)}</title>"
    if bar.state in ("missed", "skipped") and right - left < _LEAST:
        points = f"{left},{middle - 6} {left + 6},{middle} {left},{middle + 6} {left - 6},{middle}"
        return f'<polygon class="{bar.state}" points="{points}" fill="{colour}">{title}</polygon>'
    width = round(max(right - left, _LEAST), 1)
    faint = ' fill-opacity="0.45"' if bar.state in ("missed", "skipped") else ""
    return (
        f'<rect class="{bar.state}" x="{left}" y="{middle - 7}" width="{width}" height="14" rx="2"'
        f' fill="{colour}"{faint}>{title}</rect>'
    )


def _shifts(facts: Timeline, height: int) -> Iterator[str]:
    for shift in facts.shifts:
        x = _x(shift.at, facts)
        by = int((shift.after - shift.before).total_seconds() // 60)
        yield f'<line x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{height - _FOOT}" stroke="#8e24aa" stroke-dasharray="4 3"/>'
        yield f'<text x="{x + 4}" y="{_TOP - 28}" fill="#8e24aa">clocks {by:+d} min</text>'


def _now(facts: Timeline, height: int) -> Iterator[str]:
    x = _x(facts.now, facts)
    place = f'x1="{x}" y1="{_TOP - 8}" x2="{x}" y2="{height - _FOOT}"'
    yield f'<line class="now" {place} stroke="#222222" stroke-width="1.5"/>'
    yield f'<text x="{x}" y="{height - _FOOT + 14}" text-anchor="middle" class="word" fill="#222222">now</text>'


def _legend(height: int) -> Iterator[str]:
    x = 10
    for state in ("ok", "failed", "running", "missed", "skipped", "waited", "overdue", "outage"):
        yield f'<rect x="{x}" y="{height - 18}" width="12" height="10" fill="{_COLOURS[state]}"/>'
        yield f'<text x="{x + 16}" y="{height - 9}" class="faint" fill="#555555">{state}</text>'
        x += 80
    yield f'<circle cx="{x + 6}" cy="{height - 13}" r="3.5" class="coming-mark" fill="#ffffff" stroke="#1e88c8"/>'
    yield f'<text x="{x + 16}" y="{height - 9}" class="faint" fill="#555555">coming</text>'
