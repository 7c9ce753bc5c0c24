"""Records of NAS: agents, their requests, the timers that come of them, deliveries and their outcomes.

Instants are whole UTC seconds as int where they name an occurrence, and seconds with a fraction as float (both since
the epoch) where they say when something happened or is due.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class TimerState(StrEnum):
    """State of a timer."""

    ARMED = "armed"
    IN_FLIGHT = "in_flight"
    RETRYING = "retrying"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """One agent that may hold timers here. `audience` goes into the tokens its callbacks carry."""

    id: int
    name: str
    audience: str
    created_at: float
    revoked_at: float | None = None
    max_timers: int | None = None
    rate: float | None = None

    @property
    def revoked(self) -> bool:
        """Return whether this identity is refused for good."""
        return self.revoked_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """The wish of an agent to be called back about a job at `fire_at`.

    `fire_text`: the instant as the agent wrote it. `host`: scheme, name and port of the callback, what breakers and
    bounds go by. `generation`: orders the wishes for one job, None where the agent does not say. `accepts`: the
    features that it may be called back with. `tolerance`: the seconds after `fire_at` within which it may be called.
    `proves`: the callback answers a challenge.
    """

    agent_id: int
    job_id: str
    fire_at: int
    fire_text: str
    callback_url: str
    host: str
    generation: int | None = None
    max_timers: int | None = None
    accepts: frozenset[str] = frozenset()
    tolerance: int = 0
    proves: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """The wish of an agent to hold nothing for a job."""

    agent_id: int
    job_id: str
    generation: int | None = None


TimerRequest = Provision | Cancel


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionEffect:
    """A provision was taken. `changed`: it was not a no-op. `replaced`: the schedule id it took the place of."""

    schedule_id: str
    state: TimerState
    changed: bool
    replaced: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEffect:
    """A cancel was carried out. `dropped`: how many timers went."""

    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A wish was not taken, and why."""

    status: int
    error: str
    message: str
    extra: dict[str, object] = field(default_factory=dict)


Answer = ProvisionEffect | CancelEffect | Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTimer:
    """A timer whose moment has come: what is needed to decide whether it may be relayed now.

    `attempts` is how often it was tried; a claim succeeds only while that number still stands.
    """

    schedule_id: str
    agent_id: int
    host: str
    due_at: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A claimed timer, to be relayed now, once. `attempt` counts from 1; `due_at` is when this attempt was due."""

    schedule_id: str
    agent_id: int
    audience: str
    job_id: str
    fire_at: int
    fire_text: str
    callback_url: str
    host: str
    attempt: int
    due_at: float
    armed_at: float
    first_attempt_at: float
    accepts: frozenset[str] = frozenset()
    generation: int | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextWake:
    """The wake of a job as the answer to its fire names it; `fire_at` None where the job has none."""

    generation: int
    fire_at: int | None = None
    fire_text: str = ""
    tolerance: int = 0


class Fate(StrEnum):
    """The possible outcomes of a delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOutcome:
    """The outcome of one delivery. `next_at`: when it is tried again; `error`: one line, for people.

    `next_wake`: what the answer wants armed, in the transaction that settles the delivery.
    """

    delivery: Delivery
    fate: Fate
    at: float
    status: int | None = None
    error: str | None = None
    next_at: float | None = None
    next_wake: NextWake | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmedTimer:
    """One entry of a list."""

    job_id: str
    fire_at: int
    fire_text: str
    schedule_id: str
    state: TimerState
    callback_url: str = ""
    agent: str = ""
    due_at: float = 0.0
    attempts: int = 0
    last_error: str | None = None
    owed: OwedFire | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedFire:
    """A fire that failed and is still owed. `failed`: attempts so far; `next_try`: None while one is under way."""

    fire_text: str
    failed: int
    last_error: str | None
    next_try: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadDelivery:
    """A delivery that was given up."""

    schedule_id: str
    agent: str
    job_id: str
    fire_at: int
    fire_text: str
    callback_url: str
    attempts: int
    first_attempt_at: float
    died_at: float
    last_error: str | None
