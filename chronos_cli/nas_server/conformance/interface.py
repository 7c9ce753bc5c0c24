"""A clause: a sentence of the contract, and a function that finds out whether a NAS keeps it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.nas_server.conformance.probe import ContractProbe


class BrokenError(Exception):
    """The clause is not kept; the text says what was seen."""


class NotTestedError(Exception):
    """The clause could not be tried; the text says why."""


class ClauseVerdict(StrEnum):
    """The possible findings about a clause."""

    KEPT = "kept"
    BROKEN = "broken"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One clause. `hop`: 1 for agent to NAS, 3 for NAS to agent. `check` raises BrokenError or NotTestedError."""

    name: str
    hop: int
    text: str
    check: Callable[[ContractProbe], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The finding about one clause."""

    clause: Clause
    verdict: ClauseVerdict
    detail: str = ""


def shown(value: object) -> str:
    """Return a value that a NAS said as it said it: JSON."""
    return json.dumps(value, ensure_ascii=False, default=str)


def demand(condition: object, detail: str) -> None:
    """Raise BrokenError with `detail` unless `condition` holds."""
    if not condition:
        raise BrokenError(detail)
