"""Rules of a tick and of a reconcile, each at its edge and by itself."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Decision, Outcome
from chronos_cli.core.plan import Action
from chronos_cli.errors import HeldError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import Arm, ArmList
from chronos_cli.operations.arming import reconcile
from chronos_cli.operations.context import FleetJobs
from chronos_cli.operations.evaluate import Evaluation
from chronos_cli.operations.firing import tick
from chronos_cli.store.repository import STOP_KEY
from tests.core.making import T, at, job, record
from tests.faults.world import World
from tests.protocol.test_arming_rules import ARMED, HOUR, NOW, WAKE, context
from tests.protocol.test_rules_of_looks import home

IDLE = Evaluation(decision=Decision(outcome=Outcome.IDLE), job=None)


def ticking(monkeypatch, *records, **more):
    """A home whose looks find nothing to do; what is looked at, and whether alerts were sent."""
    ctx, told = home(*records, **more), []
    ctx.must_be_active, ctx.wire, ctx.send_alerts = lambda _: None, None, lambda: told.append("alerts")

    def together(_, fires):
        told.append([job_id for job_id, _ in fires])
        return [IDLE] * len(fires)

    monkeypatch.setattr(tick, "evaluate_together", together)
    return ctx, told


def named(job_id, seconds):
    return record(next_run_at=None if seconds is None else at(seconds).isoformat()) | {"id": job_id}


def test_what_has_waited_longest_is_claimed_first_and_alerts_go_out_at_the_end(monkeypatch):
    """One without a next time counts as due now; a job that is not due is left alone."""
    ctx, told = ticking(monkeypatch, named("a", -60), named("b", None), named("c", -600), named("d", 60))
    tick.tick(ctx, None)
    assert told == [["c", "a", "b"], "alerts"]


def test_nas_is_asked_for_its_clock_only_where_that_settles_something(monkeypatch):
    """A job that is long late needs a witness; one that has just come due does not."""
    for seconds, heard in ((-60, 0), (-3 * 86_400, 1)):
        ctx, _ = ticking(monkeypatch, named("a", seconds), trust=Trust.UNHEARD)
        asked = []
        monkeypatch.setattr(tick, "hear", lambda ctx, asked=asked: asked.append(1) or ctx)
        tick.tick(ctx, None)
        assert len(asked) == heard


def test_a_hold_that_is_over_by_a_clock_that_was_ahead_stands(monkeypatch):
    """NAS's clock tells so: nothing is claimed."""
    ctx, told = ticking(monkeypatch, named("a", 0), trust=Trust.UNHEARD, now=T + timedelta(days=3))
    ends = {"reason": "a test", "expires_at": at(3_600).isoformat()}
    ctx.repository.documents.create(STOP_KEY, json.dumps(ends).encode())
    right = SimpleNamespace(**{**vars(ctx), "clock": lambda: T, "trust": Trust.CORRECTED})
    monkeypatch.setattr(tick, "hear", lambda _: right)
    with pytest.raises(HeldError, match="a test"):
        tick.tick(ctx, None)
    assert told == []


def test_a_next_time_of_another_offset_is_looked_at_before_it_comes():
    """It is put right by the first tick, not at the wrong time."""
    daily = {"schedule": {"kind": "cron", "expr": "0 9 * * *"}}
    assert tick.is_due(job(next_run_at="2026-11-29T09:00:00+06:00", **daily), T)
    assert not tick.is_due(job(next_run_at="2026-11-29T09:00:00+00:00", **daily), T)


@pytest.mark.parametrize("trust", [Trust.UNHEARD, Trust.CONFIRMED, Trust.CORRECTED])
def test_what_was_sent_by_a_clock_ahead_is_known_once_a_witness_is_heard(trust):
    """Else it may be this one that is behind; what is no longer wanted is dropped whatever its time."""
    ctx = context()
    ctx.trust = trust
    late = replace(ARMED, sent_at=NOW + HOUR, fire_at=WAKE.at + HOUR)
    (wish,) = reconcile._wishes({"j": WAKE}, {"j": late}, ctx.wire, ctx)
    assert wish.sent.fire_at == (late.fire_at if trust is Trust.UNHEARD else None)
    (wish,) = reconcile._wishes({"j": None}, {"j": late}, ctx.wire, ctx)
    assert (wish.sent.fire_at, wish.owes_cancel) == (late.fire_at, True)


class Listing:
    """A NAS that lists these, and notes what is dropped and sent."""

    def __init__(self, world, **held):
        self.arms = tuple(
            Arm(job_id=job_id, fire_at=fire_at, fire_at_text="", schedule_id="1")
            for job_id, instants in held.items()
            for fire_at in instants
        )
        self.dropped, real = [], world.nas
        real.list = lambda: ArmList(arms=self.arms)
        real.cancel = lambda job_id, generation=None: self.dropped.append(job_id)


def test_only_where_nas_holds_several_timers_of_a_job_are_all_of_them_dropped_first(tmp_path):
    """One that stands at another time is replaced by the new one."""
    world = World(tmp_path, job_ids=("a", "b"))
    nas = Listing(
        world, a=[world.cursor("a") + 5 * HOUR, world.cursor("a") + 6 * HOUR], b=[world.cursor("b") + 5 * HOUR]
    )
    result = reconcile.reconcile(world.context())
    assert {step.job_id: step.action for step in result.plan.steps} == {"a": Action.MOVE, "b": Action.MOVE}
    assert nas.dropped == ["a"]
    assert set(world.nas.held) == {"a", "b"}


@pytest.mark.parametrize(("same_agent", "action"), [((), Action.CANCEL), (("a",), Action.KEEP)])
def test_a_timer_of_a_job_that_two_homes_have_is_this_ones_unless_they_share_its_slot(tmp_path, same_agent, action):
    """What no job here has is the other's either way."""
    world = World(tmp_path, job_ids=("a",))
    reconcile.reconcile(world.context())
    held = world.nas.held["a"]
    world.context().repository.change(
        lambda jobs: jobs.put("a", {**jobs.get("a"), "enabled": False, "state": "paused"})
    )
    Listing(world, a=[held], x=[held])
    fleet = FleetJobs(profile_of={"a": "p", "x": "p"}, same_agent=frozenset(same_agent))
    ctx = replace(world.context(), elsewhere=lambda: fleet)
    plan = reconcile.reconcile(ctx, dry_run=True).plan
    assert {step.job_id: step.action for step in plan.steps} == {"a": action, "x": Action.KEEP}
