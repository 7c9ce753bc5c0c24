"""A plan of changes to jobs, field by field and in the units that people set them in: `timeout: 1h -> 5m`."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.cli import humanize as words
from chronos_cli.cli.action_words import action_words
from chronos_cli.core.instant import named_zone, parse_stored
from chronos_cli.core.job import ours_of
from chronos_cli.core.record_changes import ABSENT, HIDDEN
from chronos_cli.durations import format_duration
from chronos_cli.errors import ExitCode
from chronos_cli.streams import LINE, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import tzinfo

    from chronos_cli.cli.output import Output
    from chronos_cli.core.job import HomeDefaults
    from chronos_cli.core.record_changes import FieldChange
    from chronos_cli.operations.jobs.transfer import ImportItem

SPANS: Final = frozenset({"grace", "timeout", "jitter", "tolerance", "on_failure_again"})
"""The fields that hold seconds."""
_COUNTS: Final = {"repeat": "forever", "pause_after_failures": "never"}
_NAMES: Final = {
    "chronos.anchor": "counted from",
    "chronos.claimed_through": "settled up to",
    "chronos.open": "open runs",
    "chronos.failures": "failures in a row",
    "completed_at": "completed",
}
_SHOWN: Final = 80
_AROUND: Final = 20
SIGN: Final = {"add": "+", "change": "~", "keep": "=", "gone": "?", "remove": "-"}
_STYLE: Final = {"add": "green", "change": "yellow", "remove": "red", "gone": "cyan"}


def plan_json(changes: Iterable[FieldChange]) -> list[dict[str, Any]]:
    """Return the changes of a job as a document has them: `what`, `from`, `to`; durations in seconds."""
    return [change.as_json() for change in changes]


def item_json(item: ImportItem) -> dict[str, Any]:
    """Return one job of an import as documents have it; of one that changes with its plan."""
    known = {
        "action": item.verdict.value,
        "job_id": item.job_id,
        "name": item.name,
        "schedule": item.schedule,
    }
    return known | ({"plan": plan_json(item.changes)} if item.changes else {})


def pending(items: Iterable[ImportItem], *, detailed: bool) -> int | None:
    """Return the exit code of a dry run: 3 where it is wanted and any job would change."""
    differ = any(item.verdict.value not in ("keep", "gone") for item in items)
    return ExitCode.PENDING if detailed and differ else None


def show_items(out: Output, items: Iterable[ImportItem], home: HomeDefaults) -> None:
    """Write what becomes of each job, with every field that changes; of a new one what it runs."""
    for item in items:
        show_head(out, item.verdict.value, item.job_id, item.name, item.schedule)
        if item.verdict.value == "add" and item.record is not None:
            out.line(f"    runs: {action_words(item.record)}")
        named = None if item.record is None else ours_of(item.record).get("timezone")
        show_changes(out, item.changes, named_zone(named) if isinstance(named, str) else home.zone, indent="    ")


def show_head(out: Output, verdict: str, job_id: str, name: str, schedule: str) -> None:
    """Write the line of a job in a plan: `~ change digest (Digest)  0 9 * * *`."""
    named = job_id if name == job_id else f"{job_id} ({words.brief(name)})"
    out.line(out.style(f"{SIGN[verdict]} {verdict:<6} {named}  {schedule}".rstrip(), _STYLE.get(verdict, "")))


def counts_of(items: Iterable[ImportItem]) -> dict[str, int]:
    """Return how many jobs of an import are added, changed, kept, and removed if any are."""
    found = Counter(item.verdict.value for item in items)
    counts = {word: found[word] for word in ("add", "change", "keep")}
    return counts | ({"remove": found["remove"]} if found["remove"] else {})


def show_changes(out: Output, changes: Iterable[FieldChange], zone: tzinfo, *, indent: str = "") -> None:
    """Write a line for each field that changes, the next time of the job as a move. `zone`: the job's afterwards."""
    known = tuple(changes)
    before = next((change.before for change in known if change.what == "timezone"), None)
    for change in known:
        text = change_words(change, zone, before=named_zone(before) if isinstance(before, str) else zone)
        out.line(out.style(f"{indent}~ {text}", "yellow"))


def show_counts(out: Output, counts: Mapping[str, int], *, dry_run: bool) -> None:
    """Write the line that ends a plan; it counts jobs."""
    said = ", ".join(f"{count} to {word}" for word, count in counts.items())
    out.line(f"Plan: {said or 'nothing to change'}.{' Nothing was changed.' if dry_run else ''}")


def change_words(change: FieldChange, zone: tzinfo, *, before: tzinfo) -> str:
    """Return a change on one line; both sides differ. `before`: the zone until now."""
    if HIDDEN in (change.before, change.after):
        known = {(True, True): "changes", (True, False): "goes", (False, True): "is new"}
        fate = known[change.before is not ABSENT, change.after is not ABSENT]
        return f"{one_line(change.what, LINE)}: {fate} (its value is not shown)"
    name = "move  " if change.what == "next_run_at" else f"{_NAMES.get(change.what) or one_line(change.what, LINE)}:"
    old, new = _shown(change.what, change.before, before), _shown(change.what, change.after, zone)
    moments = parse_stored(change.before, before), parse_stored(change.after, zone)
    if name == "move  " and moments[0] and moments[1] and before == zone and old != new:
        return f"{name} {words.from_to(moments[0], moments[1], zone)}"
    if old == new:
        old, new = (_raw(value) for value in (change.before, change.after))
    return f"{name} {' -> '.join(_cut(old, new))}"


def _shown(what: str, value: Any, zone: tzinfo) -> str:
    """Return a value as it is said to people."""
    if what == "inherit_env":
        return inherited_words(value)
    if what in _COUNTS and value in (0, None, ABSENT):
        return _COUNTS[what]
    if value is ABSENT or value in (None, "") or (isinstance(value, list | dict) and not value):
        return "none"
    if isinstance(value, bool):
        return ("no", "yes")[value]
    if what in SPANS and isinstance(value, int):
        return format_duration(value)
    if what in ("command", "on_failure") and isinstance(value, list | tuple):
        return shlex.join(map(str, value))
    if what == "chronos.open" and isinstance(value, list):
        return ", ".join(str(item.get("run")) if isinstance(item, dict) else _raw(item) for item in value)
    if isinstance(value, list | tuple):
        return ", ".join(item if isinstance(item, str) else _raw(item) for item in value)
    if isinstance(value, str):
        moment = parse_stored(value, zone) if what.endswith(("_at", "anchor", "claimed_through")) else None
        return value if moment is None else words.instant(moment, zone)
    return _raw(value)


def inherited_words(value: Any) -> str:
    """Return what a policy says of the variables that come in: `all`, `none`, or their names."""
    if not isinstance(value, list | tuple):
        return "not set" if value in (None, ABSENT) else _raw(value)
    return "all" if list(value) == ["*"] else ", ".join(map(str, value)) or "none"


def _raw(value: Any) -> str:
    return "absent" if value is ABSENT else json.dumps(value, sort_keys=True)


def _cut(old: str, new: str) -> tuple[str, str]:
    """Return two texts on a line, of long ones the part where they begin to differ."""
    pairs = enumerate(zip(old, new, strict=False))
    start = next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))
    if max(len(old), len(new)) <= _SHOWN:
        start = 0
    first = max(0, start - _AROUND) if start > _SHOWN // 2 else 0
    parts = [one_line(f"{'...' if first else ''}{text[first:]}", _SHOWN) for text in (old, new)]
    if parts[0] == parts[1]:  # white space, which a line does not show
        parts = [one_line(json.dumps(text[first:]), LINE) for text in (old, new)]
    return parts[0], parts[1]
