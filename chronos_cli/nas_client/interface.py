"""The requests of an agent to NAS, over any transport: arm, cancel, list, and many of these at once.

The wire is docs/chronos-managed-cron-contract.md. Instants are whole UTC seconds: the contract's granularity, and what
two readings of a time are compared in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Self

    from chronos_cli.errors import ChronosError


@frozen
class ArmRequest:
    """The wish that NAS calls `callback_url` back about this job at `fire_at` (aware), replacing what it held for it.

    `generation`: grows with each wish for the job. A NAS that knows generations refuses an older one than it holds, so
    that a delayed request never undoes a newer; others ignore it. `accepts`: the features that the callback takes part
    in, so that NAS may use them for this arm (`contract.FEATURE_ARM_IN_ANSWER`). `tolerance`: the seconds by which NAS
    may call later.
    """

    job_id: str
    fire_at: datetime
    callback_url: str
    generation: int | None = None
    accepts: tuple[str, ...] = ()
    tolerance: int = 0


@frozen
class CancelRequest:
    """The wish that NAS holds nothing for this job."""

    job_id: str
    generation: int | None = None


@frozen
class ArmAnswer:
    """NAS took the arm.

    `schedule_id`: NAS's own name for it; None where it gave none, and then only a `list` shows that it is held.
    `features`: the optional abilities NAS named (`contract.FEATURE_*`). `state`: in NAS's own words, empty where it
    gave none; ours says `delivered` where this instant had its callback before, and then nothing is armed.
    """

    schedule_id: str | None
    features: frozenset[str] = frozenset()
    state: str = ""


@frozen
class Arm:
    """One one-shot that NAS says it holds.

    `fire_at` is None where `fire_at_text` is no readable instant. `state`: in NAS's own words, empty where it gave
    none; ours says `armed`, `in_flight` or `retrying`. `failed`: what came of the last try to call, empty where none
    failed or NAS does not tell; `attempts`: how many tries there were, `next_try`: when the next one is. `failed_fire`:
    the instant of the fire that fails, which may be owed beside a newer arm.
    """

    job_id: str
    fire_at: datetime | None
    fire_at_text: str
    schedule_id: str | None
    state: str = ""
    failed: str = ""
    attempts: int = 0
    next_try: datetime | None = None
    failed_fire: datetime | None = None

    def is_tried(self, now: datetime, within: timedelta) -> bool:
        """Return whether NAS says that it is calling, or comes again by itself within a time from now."""
        return self.state == "in_flight" or (self.next_try is not None and abs(self.next_try - now) <= within)


@frozen
class ArmList:
    """Every one-shot NAS holds for this agent: all pages, or there is no ArmList.

    `server_time`: NAS's own clock, from the Date header of the first page (whole seconds, UTC).
    """

    arms: tuple[Arm, ...]
    features: frozenset[str] = frozenset()
    server_time: datetime | None = None
    complete: bool = True


@frozen
class CallResult:
    """The answer or the error of one request of many. Both are None after a successful cancel."""

    request: ArmRequest | CancelRequest
    answer: ArmAnswer | None = None
    error: ChronosError | None = None

    @property
    def ok(self) -> bool:
        """Return whether NAS did what was asked."""
        return self.error is None


class TokenSource(Protocol):
    """Source of the agent's NAS access token. Both methods take at most `within_s` seconds."""

    @property
    def origin(self) -> str:
        """Return where that is, for people; never the token."""

    def get(self, *, within_s: float) -> str:
        """Return the token. Raises AuthError, ConfigError or TemporaryError where there is none."""

    def renew(self, rejected: str, *, within_s: float) -> str | None:
        """Return another token than the one NAS did not accept; None where the source has no other."""


class Nas(ABC):
    """The agent's side of hop 1.

    Every method raises RefusedError (refused for good), AuthError (not authenticated), NasRejectedError (NAS will never
    take this request as it is) or NasUnavailableError (may pass; already retried within the budget), and ConfigError
    where the configuration lets no call be made. A call that raised may still have had its effect.
    """

    @property
    def server_time(self) -> datetime | None:
        """Return NAS's clock, by the Date of its last answer to any call; None where none was heard."""
        return None

    @abstractmethod
    def provision(self, request: ArmRequest) -> ArmAnswer:
        """Arm one job. The same request again is a no-op at NAS."""

    @abstractmethod
    def cancel(self, job_id: str, generation: int | None = None) -> None:
        """Drop a job's one-shot. A job unknown to NAS is a no-op."""

    @abstractmethod
    def list(self) -> ArmList:
        """Return all that NAS holds for this agent, through all pages. Any page that fails fails the list."""

    @abstractmethod
    def apply(
        self,
        requests: Sequence[ArmRequest | CancelRequest],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[CallResult]:
        """Carry out many requests, and yield each one's result as it comes, in any order.

        At most one request per job (ValueError), since they run at the same time. What befalls one request is its
        result's `error`, never raised; what makes every further call hopeless (refused, NAS down) becomes the error
        of all that is left, without calling. `progress(done, total)` is called in the caller's thread.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
