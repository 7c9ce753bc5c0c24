"""Shared by the tests of core: records, jobs, fires and facts in a line each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from chronos_cli.core.claim import run_id_of
from chronos_cli.core.decision import Facts, FireRequest, Trigger
from chronos_cli.core.job import HomeDefaults, Job, parse_job
from chronos_cli.core.occurrence import decide
from chronos_cli.core.plan import HeldTimers, Plan, Removals, make_plan

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME = HomeDefaults(zone=ZoneInfo("UTC"), zone_name="UTC")
URL = "https://agent"
"""The callback of the plans that are made here."""
T = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
"""The cursor of the job that most tests look at: every five minutes, this one is due."""


def at(seconds: float) -> datetime:
    """An instant relative to T."""
    return T + timedelta(seconds=seconds)


def record(
    *, ours: dict[str, Any] | None = None, policy: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """A record of a job that runs every five minutes, with whatever a test needs different."""
    stored: dict[str, Any] = {
        "id": "j",
        "name": "j",
        "schedule": {"kind": "interval", "minutes": 5, "display": "every 5m"},
        "repeat": {"times": None, "completed": 0},
        "enabled": True,
        "state": "scheduled",
        "next_run_at": T.isoformat(),
        "last_run_at": None,
        "chronos": {"anchor": at(-3_600).isoformat(), **({"policy": policy} if policy else {}), **(ours or {})},
    }
    return stored | fields


def job(**changes: Any) -> Job:
    """The parsed job of `record(**changes)`."""
    return parse_job(record(**changes), HOME)


def relay(named: datetime | None = T, **more: Any) -> FireRequest:
    """A fire from NAS."""
    return FireRequest(via=Trigger.RELAY, token="token", fire_at=named, **more)


def look(found: Job, came: FireRequest | None = None, *, now: datetime | None = None, **facts: Any) -> Any:
    """One decision: by default the fire of T, half a second late."""
    return decide(found, Facts(**facts), came or relay(), now or at(0.5))


def entry(instant: datetime | None, kind: str = "run", **more: Any) -> dict[str, Any]:
    """A stored entry of `open`."""
    run = more.pop("run", None) or run_id_of(instant)
    stored = {"run": run, "kind": kind, "claim": "earlier", "claimed_at": at(-10).isoformat(), **more}
    return stored | ({"fire_at": instant.isoformat()} if instant else {})


def plan_of(wishes: Any, held: Mapping[str, datetime | None], **more: Any) -> Plan:
    """The plan for what NAS holds; `several`, `prune` and `gone` beside what `make_plan` takes."""
    given: dict[str, Any] = {"callback_url": URL, "store_has_jobs": True} | more
    timers = HeldTimers(at=held, several=given.pop("several", {}))
    removals = Removals(prune=given.pop("prune", False), gone=frozenset(given.pop("gone", ())))
    return make_plan(wishes, timers, removals=removals, **given)
