"""What keeps jobs that are kept apart, and their moves from one layout to the other, from losing any, each taken out alone.

Joined to the rules of `sabotage`.
"""

from __future__ import annotations

from typing import Any, Final

from chronos_cli.store.apart import ApartJobs
from chronos_cli.store.layout import Layout
from tests.sim.rewriting import rule

_MOVES: Final[dict[str, Any]] = {
    "apart": True, "machines": 2, "locks": False, "characters": frozenset({"kind"}), "p_crash": 0.02, "p_stall": 0.05, "steps": 60,
    "p_operation": 0.25, "operations": ("move", "move", "move", "tick", "reconcile", "remove", "add", "manual", "edit"),
}  # fmt: skip
_REMOVES: Final = _MOVES | {"operations": ("remove", "add", "manual", "tick", "edit"), "p_stall": 0.1}

WORLDS: Final = {
    "a move marks what it takes": _MOVES,
    "a mark is looked behind": _MOVES,
    "a layout is looked at again": _MOVES,
    "a removal has a condition": _REMOVES,
}

RULES: Final = {
    "a move marks what it takes": (
        rule(Layout, "keep_together", "self.documents.each(self._mark, [*documents, *view.named_only])", "documents"),
    ),
    "a mark is looked behind": (
        rule(ApartJobs, "_read", "own.found is None or own.is_moved", "own.found is None"),
        rule(ApartJobs, "_to_change", "own.is_moved and self.listing is not None", "False"),
    ),
    "a layout is looked at again": (
        rule(ApartJobs, "_still_here", "raise JobsMovedError", "return"),
    ),
    "a removal has a condition": (
        rule(ApartJobs, "_drop", "self._store.replace(key, data, version)", "data"),
    ),
}  # fmt: skip
