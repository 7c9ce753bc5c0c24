"""The wall clock is set while a run goes: its lease is counted by the clock of the boot, which nobody sets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.config import load_config
from chronos_cli.core.decision import FireRequest, Trigger
from chronos_cli.core.edits import JobDraft
from chronos_cli.core.row import LEASE_MARGIN, RunState
from chronos_cli.core.schedule import Interval
from chronos_cli.frozen import replace
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.evaluate import evaluate
from chronos_cli.operations.firing.launchers import InlineLauncher, launch_each
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.operations.views.listing import listing
from chronos_cli.running import local, machine

TIMEOUT_S = 600


@pytest.fixture
def ctx(tmp_path):
    """A home whose one job is due and runs until its file is there."""
    environ = {"PATH": "/usr/bin:/bin", "CHRONOS_LOCK_DIR": str(tmp_path / "locks")}
    found = open_home(load_config(environ={}, home=str(tmp_path)), ProcessEnvironment(environ=environ, secrets={}))
    draft = JobDraft(
        job_id="j",
        name="j",
        schedule=Interval(seconds=60),
        zone=UTC,
        zone_name="UTC",
        policy=replace(found.home.policy, timeout=TIMEOUT_S),
        action={"shell": f"until [ -e {tmp_path}/go ]; do sleep 0.02; done"},
    )
    jobs.add(at(found, timedelta(minutes=-1)), draft)
    return found


def at(ctx, by):
    """The same home, seen by a process whose wall clock was moved."""
    return replace(ctx, clock=lambda: datetime.now(UTC) + by)


def begin(ctx):
    """Start what is due; the run."""
    looked = evaluate(ctx, "j", FireRequest(via=Trigger.TICK, token=ctx.token()))
    (run,) = launch_each(ctx, looked, InlineLauncher())
    return run


def row(ctx):
    """The row of the one run."""
    return next(
        stored.value
        for name in ctx.repository.rows.ids("j")
        if (stored := ctx.repository.rows.get("j", name)) and stored.value.started_at
    )


@pytest.mark.parametrize("hours", [3, -3, 24 * 4_000])
def test_a_healthy_run_outlives_a_step_of_the_wall_clock(ctx, tmp_path, hours):
    """Far past its lease by the wall, and yet nobody ends it, calls it overdue or calls it lost: it ends well."""
    run = begin(ctx)
    moved = at(ctx, timedelta(hours=hours))
    evaluate(moved, "j", FireRequest(via=Trigger.RUN_ENDED, token="t"))
    assert row(ctx).state is RunState.RUNNING
    (view,) = listing(moved, arming=False, held=None, prompt_runner=False).jobs
    assert (view.running, view.overrun_s) == ((row(ctx).run_id,), None)
    (tmp_path / "go").touch()
    assert run.wait().state is RunState.OK


def test_the_lease_of_a_run_that_was_suspended_ends(ctx, tmp_path, monkeypatch):
    """Time that passed while the machine slept is counted, though the wall clock was set back meanwhile."""
    run = begin(ctx)
    lease = TIMEOUT_S + LEASE_MARGIN.total_seconds()
    monkeypatch.setattr(local, "seconds_since", lambda _: lease + 10)
    evaluate(at(ctx, timedelta(hours=-3)), "j", FireRequest(via=Trigger.RUN_ENDED, token="t"))
    assert row(ctx).state is RunState.LOST
    (tmp_path / "go").touch()  # its supervisor is this very process, which nobody kills
    assert run.wait().state is RunState.LOST


def test_a_step_between_claim_and_start_takes_no_time_from_the_job(ctx, tmp_path):
    """What is left of the timeout is counted from the lock, by the clock that nobody sets."""
    steps = iter([timedelta()] * 2)
    stepping = replace(ctx, clock=lambda: datetime.now(UTC) + next(steps, timedelta(hours=3)))
    run = begin(stepping)
    (tmp_path / "go").touch()
    assert run.wait().state is RunState.OK


def test_the_clock_of_another_boot_says_nothing():
    """Nor does one of another time namespace, or what an older version left."""
    here = json.loads(json.dumps(machine.boot_clock()))
    assert 0 <= machine.seconds_since(here) < 60
    assert machine.seconds_since({**here, "seconds": here["seconds"] - 100}) >= 100
    for other in (
        None,
        {},
        "x",
        {**here, "boot": "another"},
        {**here, "namespace": "time:[1]"},
        {**here, "seconds": None},
    ):
        assert machine.seconds_since(other) is None


def test_without_a_boot_id_no_clock_is_recorded_as_ours(monkeypatch):
    """Where the boot cannot be told from another one, only the wall clock counts."""
    monkeypatch.setattr(machine, "_boot", lambda: "")
    assert machine.seconds_since(machine.boot_clock()) is None
