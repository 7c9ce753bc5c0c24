"""The timeline as one web page that needs nothing else: no script, no font, no request, and a policy that allows none.

The picture is that of `svg`, with colours for a dark and a light screen; below it stands every run in words, so that
nothing is told by colour or by hovering alone.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Final

from chronos_cli.cli import humanize as words
from chronos_cli.cli import svg
from chronos_cli.durations import span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.operations.views.timeline import Bar, Lane, Timeline

_MOST_ROWS: Final = 200
"""So many runs of a job stand in its table, the newest."""

_STYLE: Final = """
:root { color-scheme: light dark; --ground: #ffffff; --word: #222222; --faint: #555555; --grid: #e4e4e4; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15181c; --word: #e6e6e6; --faint: #a8b0b8; --grid: #2c3238; }
}
body { margin: 1.5rem; background: var(--ground); color: var(--word); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.picture { overflow-x: auto; } .faint { color: var(--faint); fill: var(--faint); }
.ground { fill: var(--ground); } .word { fill: var(--word); } .grid { stroke: var(--grid); }
.now { stroke: var(--word); } .coming, .coming-mark { fill: var(--ground); }
table { border-collapse: collapse; } th, td { text-align: left; padding: 0.15rem 1rem 0.15rem 0; }
th { color: var(--faint); font-weight: normal; } tr { border-bottom: 1px solid var(--grid); }
td { overflow-wrap: anywhere; vertical-align: top; } summary { cursor: pointer; }
.bad { color: #c62828; font-weight: bold; }
@media (prefers-color-scheme: dark) { .bad { color: #ff7b72; } }
"""
_BAD: Final = frozenset({"failed", "timeout", "interrupted", "lost", "missed"})


def render(facts: Timeline) -> str:
    """Return the whole page."""
    digest = b64encode(sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    back, ahead = ((end - start).total_seconds() for start, end in ((facts.start, facts.now), (facts.now, facts.end)))
    lines = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{_text(svg.title(facts))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{_text(svg.title(facts))}</h1>",
        f'<p class="faint">{_text(f"{span(back)} back and {span(ahead)} ahead, times of {facts.zone_name}")}</p>',
        *_alarms(facts),
        '<div class="picture">',
        svg.render(facts).rstrip(),
        "</div>",
    ]
    for lane in facts.lanes:
        lines += _lane(lane, facts)
    return "\n".join([*lines, "</body>\n</html>"]) + "\n"


def _alarms(facts: Timeline) -> Iterator[str]:
    for outage in facts.outages:
        when = words.from_to(outage.start, outage.end, facts.zone)
        yield f'<p class="bad">{_text(f"outage {when}: {outage.reason}")}</p>'
    for lane in facts.lanes:
        if lane.overdue is not None:
            since = words.instant(lane.overdue, facts.zone)
            yield f'<p class="bad">{_text(f"{lane.name}: due since {since}, and not begun")}</p>'


def _lane(lane: Lane, facts: Timeline) -> Iterator[str]:
    named = lane.name if lane.name == lane.job_id else f"{lane.name} ({lane.job_id})"
    yield f"<h2>{_text(named)}</h2>"
    if lane.problem is not None:
        yield f'<p class="bad">{_text(f"invalid: {lane.problem}")}</p>'
    following = next((at for at in lane.coming if at > facts.now), None)
    coming = "nothing is to come in this time" if following is None else f"next {words.local(following, facts.zone)}"
    yield f"<p>{_text(coming)}</p>"
    if not lane.past:
        return
    newest = lane.past[: -_MOST_ROWS - 1 : -1]
    cut = f", the newest {len(newest)} of {len(lane.past)}" if len(newest) < len(lane.past) else ""
    yield f"<details><summary>{_text(f'what ran, and what did not{cut}')}</summary>"
    yield "<table><tr><th>run</th><th>state</th><th>from</th><th>took</th><th>why</th></tr>"
    yield from (_run(bar, facts) for bar in newest)
    yield "</table></details>"


def _run(bar: Bar, facts: Timeline) -> str:
    bad = ' class="bad"' if bar.state in _BAD else ""
    cells = (words.instant(bar.start, facts.zone), span((bar.end - bar.start).total_seconds()), bar.note)
    told = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
    return f"<tr><td>{_text(bar.run_id)}</td><td{bad}>{_text(bar.state)}</td>{told}</tr>"


def _text(text: str) -> str:
    return escape(words.brief(text))
