"""Outages of a home, as its ledger tells of them: jobs came due, and none was started until later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.core.row import RunState
from chronos_cli.operations.views.prospect import OVERDUE_AFTER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from chronos_cli.operations.views.timeline import Bar, Lane


_OUTAGE: Final = timedelta(minutes=1)
"""The shortest time without a start, where there were to be some, that counts as an outage."""

_UNSTARTED: Final = frozenset(
    {RunState.MISSED.value, RunState.SKIPPED.value, RunState.ACCEPTED.value, RunState.QUEUED.value}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time in which jobs came due and none was started, or may be none is: `reason` says which."""

    start: datetime
    end: datetime
    reason: str

    def as_json(self) -> dict[str, str]:
        """Return it as `timeline --json` says it."""
        return {"start": self.start.isoformat(), "end": self.end.isoformat(), "reason": self.reason}


def _by_itself(bar: Bar) -> bool:
    return bar.due is None and bar.state not in _UNSTARTED and not bar.run_id.startswith("manual-")


def outages(lanes: Sequence[Lane], now: datetime) -> Iterator[Outage]:
    """Find the times in which an occurrence of some job came due, and no job's was started until later."""
    starts = sorted(bar.start for lane in lanes for bar in lane.past if _by_itself(bar))
    waits = [(bar.due, bar.start) for lane in lanes for bar in lane.past if bar.due is not None]
    waits += [(bar.start, bar.end) for lane in lanes for bar in lane.past if bar.state == RunState.MISSED.value]
    waits += [(lane.overdue, now) for lane in lanes if lane.overdue is not None]
    merged: list[tuple[datetime, datetime]] = []
    for begin, end in sorted(waits):
        # Where another job began meanwhile by itself, what triggers jobs was at work.
        until = next((at for at in starts if begin + OVERDUE_AFTER < at < end - OVERDUE_AFTER), end)
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until))
        else:
            merged.append((begin, until))
    for begin, end in merged:
        if end - begin >= _OUTAGE:
            goes = "jobs are due and none is started" if end == now else "jobs came due and none was started"
            yield Outage(start=begin, end=end, reason=goes)
