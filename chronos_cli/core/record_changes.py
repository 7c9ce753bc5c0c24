"""Differences between two records of a job, field by field: what every plan of a change is made of.

A record counts as changed exactly where this names something, so that no plan can leave a change out.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.instant import named_zone
from chronos_cli.core.job import OURS, ours_of
from chronos_cli.core.policy import Policy
from chronos_cli.core.schedule import from_record, normal_form
from chronos_cli.core.variables import reference_of, shown_value
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import frozen, names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chronos_cli.core.job import HomeDefaults


class Absent(Enum):
    """The value of a field that a record does not have."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
HIDDEN: Final = "***"
"""Stands for a value that may be a secret: a variable of a job, a header of its request, a template it came from."""

_PATHS: Final = ("name", "schedule", "timezone", "next_run_at", "state", "enabled", "repeat")
_ACTION: Final = (OURS, "action")
_POLICY: Final = (OURS, "policy")
_VALUES: Final = ((OURS, "env"), (*_ACTION, "http", "headers"))
"""Where values are texts, which may be secrets, or references to them, which are none."""
_SECRETS: Final = (*_VALUES, (OURS, "imported"))
_DEPTH: Final = 5
"""Objects nested deeper than this are compared as one value; ours are not."""


@frozen
class FieldChange:
    """One field that differs. `what` is its place; ABSENT stands where a record lacks it, HIDDEN for a secret."""

    what: str
    before: Any
    after: Any

    def as_json(self) -> dict[str, Any]:
        """Return the change as the `plan` of a document has it."""
        old, new = (None if value is ABSENT else value for value in (self.before, self.after))
        return {"what": self.what, "from": old, "to": new}


def without_token(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without what a mere attempt at a change leaves: two that are equal so are the same job."""
    if not isinstance(record.get(OURS, {}), dict):
        return dict(record)
    ours = {key: value for key, value in ours_of(record).items() if key != "change" and value not in ({}, 0, [])}
    return {key: value for key, value in record.items() if key != OURS} | ({OURS: ours} if ours else {})


def record_changes(before: Mapping[str, Any], after: Mapping[str, Any], home: HomeDefaults) -> tuple[FieldChange, ...]:
    """Return what differs between two records, the fields that people set first; empty where they are the same job.

    Where a record is silent about a policy or its zone, the home's value stands for it.
    """
    old, new = (dict(_leaves(without_token(record), ())) for record in (before, after))
    found = {
        path: (old.get(path, ABSENT), new.get(path, ABSENT))
        for path in {**old, **new}
        if not _same(old.get(path, ABSENT), new.get(path, ABSENT))
    }
    if ("schedule",) in found:
        found.pop(("schedule_display",), None)  # it only repeats the schedule
        found["schedule",] = _schedules(before, after, home) or found["schedule",]
    changes = [_change(path, *values, home) for path, values in found.items()]
    return tuple(sorted(changes, key=lambda change: _RANK.get(change.what.partition(".")[0], len(_RANK))))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values of a record by their places; an object without keys, a list and a schedule are values."""
    divided = isinstance(value, dict) and (value or not path) and path != ("schedule",) and len(path) < _DEPTH
    if divided and not (path[:-1] in _VALUES and reference_of(value) is not None):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    else:
        yield path, value


def _same(one: Any, other: Any) -> bool:
    """Say if two values are the same in JSON, where true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _schedules(before: Mapping[str, Any], after: Mapping[str, Any], home: HomeDefaults) -> tuple[Any, Any] | None:
    """Return both schedules in their normal form, or None where that does not tell them apart."""
    try:
        old, new = (_schedule(record, home) for record in (before, after))
    except (ChronosError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
        return None  # one that cannot be read is shown as it is stored
    return None if old == new else (old, new)


def _schedule(record: Mapping[str, Any], home: HomeDefaults) -> str:
    named = ours_of(record).get("timezone")
    zone = named_zone(named) if isinstance(named, str) else home.zone
    return normal_form(from_record(record.get("schedule"), zone), zone)


def _change(path: tuple[str, ...], old: Any, new: Any, home: HomeDefaults) -> FieldChange:
    if any(path[: len(secret)] == secret for secret in _SECRETS):
        old, new = (value if value is ABSENT else shown_value(value, HIDDEN) for value in (old, new))
    if path[:-1] == _POLICY or path == (OURS, "timezone"):
        default = getattr(home.policy, path[-1], ABSENT) if path[:-1] == _POLICY else home.zone_name
        default = list(default) if isinstance(default, tuple) else default
        known = tuple(default if value is ABSENT else value for value in (old, new))
        old, new = (old, new) if _same(*known) else known
    return FieldChange(what=_what(path), before=old, after=new)


def _what(path: tuple[str, ...]) -> str:
    """Return the name of a place: `timeout`, `http.url`, `env.HOME`, `repeat`; else its keys with dots between."""
    if path == ("repeat", "times"):
        return "repeat"
    for above in (_ACTION, _POLICY):
        if path[: len(above)] == above and len(path) > len(above):
            return ".".join(path[len(above) :])
    if path in (
        *((OURS, key) for key in ("timezone", "env_file", "set")),
        *((OURS, key, *path[2:3]) for key in ("env", "imported", "labels")),
    ):
        return ".".join(path[1:])
    return ".".join(path)


_RANK: Final = {
    name: rank
    for rank, name in enumerate(
        (*_PATHS, "command", "shell", "stdin", "http", "env", "env_file", "labels", "set", *names(Policy()))
    )
}
