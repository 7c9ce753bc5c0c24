"""What costs more in a world than it is worth: the same is done in less time, by other means.

A world writes jobs.json thousands of times, and `json` lays out text with line ends in Python alone. The bytes here are
the same (`test_simulation.py`).
"""

from __future__ import annotations

import contextlib
import gc
import json
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from chronos_cli.core import edits
from chronos_cli.store.jsontext import Style

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from chronos_cli.core.schedule import Timetable

_dump, _measure = Style._dump, edits.shortest_gap


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """Lay out text and work out a schedule's shortest gap once; garbage is looked for by `play`."""
    known: dict[Any, int] = {}
    collected = gc.isenabled()

    def shortest_gap(timetable: Timetable, start: datetime) -> int:
        what = (timetable.schedule, timetable.zone)
        if what not in known:
            known[what] = _measure(timetable, start)
        return known[what]

    edits.shortest_gap, Style._dump = shortest_gap, dump
    gc.disable()
    try:
        yield
    finally:
        edits.shortest_gap, Style._dump = _measure, _dump
        if collected:
            gc.enable()


def dump(style: Style, value: Any, separators: tuple[str, str]) -> str:
    """What `Style` makes of a value."""
    if not style.step or not style.ascii_only:
        return _dump(style, value, separators)
    return _laid_out(value, "\n", style.step, *separators)


def _laid_out(value: Any, lead: str, step: str, comma: str, colon: str) -> str:
    kind, inner = type(value), lead + step
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is dict and value:
        between = comma + inner
        items = [encode_basestring_ascii(key) + colon + _laid_out(item, inner, step, comma, colon) for key, item in value.items()]  # fmt: skip
        return "{" + inner + between.join(items) + lead + "}"
    if kind is list and value:
        return (
            "["
            + inner
            + (comma + inner).join([_laid_out(item, inner, step, comma, colon) for item in value])
            + lead
            + "]"
        )
    return json.dumps(value)
