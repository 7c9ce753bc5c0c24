"""Waits before a delivery is tried again: exponential, with full jitter, doublings and a cap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """The wait after attempt n is anywhere in 0 to min(cap, base * 2^min(n-1, doublings)), all in seconds.

    Full jitter, so that fires which failed together do not come back together. `floor_s` keeps a lucky draw from being
    no wait at all. `give_up_after_s` counts from the first attempt; `ask_max_s` bounds what Retry-After may ask for.
    """

    base_s: float = 1.0
    cap_s: float = 900.0
    doublings: int = 10
    floor_s: float = 0.1
    give_up_after_s: float = 24 * 3600.0
    ask_max_s: float = 3600.0

    def ceiling(self, attempt: int) -> float:
        """Return the longest wait after this attempt (from 1)."""
        return float(min(self.cap_s, self.base_s * 2 ** min(attempt - 1, self.doublings)))

    def next_at(
        self, *, attempt: int, now: float, first_attempt_at: float, asked: float | None, draw: Callable[[], float]
    ) -> float | None:
        """Return when to try again after attempt `attempt` failed, or None to give up.

        `asked`: what the agent's Retry-After said, never undercut. `draw`: uniform in [0, 1).
        """
        wait = max(self.floor_s, self.ceiling(attempt) * draw())
        if asked is not None:
            wait = max(wait, min(asked, self.ask_max_s))
        give_up_at = first_attempt_at + self.give_up_after_s
        if now >= give_up_at:
            return None
        return min(now + wait, give_up_at)
