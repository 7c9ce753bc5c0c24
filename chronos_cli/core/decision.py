"""The shapes of a decision about one job: what came, what was found, and what must be done.

`core.occurrence` fills them in; every door and every operation speaks them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.clock import Trust
from chronos_cli.frozen import field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chronos_cli.core.job import Open
    from chronos_cli.core.row import Row, RunResult


class Outcome(StrEnum):
    """The word of the answer; docs/protocol.md has the table."""

    HELD = "held"
    GONE = "gone"
    IGNORED = "ignored"
    DUPLICATE = "duplicate"
    EARLY = "early"
    IDLE = "idle"
    STALE = "stale"
    SKIPPED = "skipped"
    QUEUED = "queued"
    MISSED = "missed"
    CLAIMED = "claimed"
    PROBE = "probe"


NO_EFFECT_OUTCOMES: Final = frozenset(
    {Outcome.DUPLICATE, Outcome.STALE, Outcome.EARLY, Outcome.IGNORED, Outcome.GONE, Outcome.HELD, Outcome.IDLE}
)
"""Deliveries that settle nothing: a note on the job, never a row."""


class Trigger(StrEnum):
    """The trigger of an evaluation. INSPECT only sees which wake the job needs; nothing is settled or moved."""

    RELAY = "relay"
    TICK = "tick"
    MANUAL = "manual"
    RUN_ENDED = "end"
    RECONCILE = "reconcile"
    INSPECT = "peek"


class Liveness(StrEnum):
    """The state of a run's owner. UNSEEN (another machine, a frozen function): only its lease counts.

    UNSTARTED: dead, and certainly before the job was begun.
    """

    ALIVE = "alive"
    DEAD = "dead"
    UNSTARTED = "unstarted"
    UNSEEN = "unseen"


class Purpose(StrEnum):
    """Reason for which a wake is armed."""

    CURSOR = "cursor"
    RETRY = "retry"
    LEASE = "lease"
    LOOK = "look"


@frozen
class Wake:
    """The instant at which someone must look at the job next, or up to `tolerance` seconds later."""

    at: datetime
    purpose: Purpose
    tolerance: int = 0


@frozen
class FireRequest:
    """The event to decide on. `token` was made before the first attempt and marks all that this fire writes.

    `generation`: that of the wish which armed this fire, where NAS says so. `by_answer`: the answer has to carry the
    next wake.
    """

    via: Trigger
    token: str
    fire_at: datetime | None = None
    delivery: str | None = None
    run_id: str | None = None
    generation: int | None = None
    by_answer: bool = False
    stands_for: datetime | None = None
    own: bool = False
    """Of a manual run: the instant that it makes up for, and whether only this request has what it is given."""


@frozen
class Facts:
    """The facts beside the record: rows and owners of the open runs, the stop, the instants last armed.

    `held_until`: when the stop ends by itself, None where it stands until it is lifted.
    `trust`: what is known of the clock; `ahead`: where a clock was ahead (`is_ahead`), the instants still to come that
    have rows; None where what comes next is as the schedule explains.
    `leases`: when the leases of running ones end, where the boot clock tells it.
    `results`: of runs that are over though their rows still say `running`.
    `settled_at`: when the last callback came, if it settled something; None if it did not.
    """

    rows: Mapping[str, Row] = field(default_factory=dict)
    liveness: Mapping[str, Liveness] = field(default_factory=dict)
    leases: Mapping[str, datetime] = field(default_factory=dict)
    results: Mapping[str, RunResult] = field(default_factory=dict)
    held: bool = False
    held_until: datetime | None = None
    armed: frozenset[datetime] = frozenset()
    trust: Trust = Trust.ALONE
    ahead: frozenset[datetime] | None = None
    settled_at: datetime | None = None


@frozen
class Start:
    """A run to start now: `attempt` 1 without a row creates it as running, anything else swaps the row it has."""

    entry: Open
    attempt: int


@frozen
class Decision:
    """The steps to take, in this order: `settle`, `record`, `replaced`, `owed`, `starts`, `wake`, then the answer.

    `replaced`: rows of runs that go, and are to be asked to end for the sake of a newer occurrence.
    """

    outcome: Outcome
    record: Mapping[str, Any] | None = None
    settle: tuple[Row, ...] = ()
    replaced: tuple[Row, ...] = ()
    owed: tuple[Row, ...] = ()
    starts: tuple[Start, ...] = ()
    wake: Wake | None = None
    retry_after: int | None = None
    reason: str | None = None
