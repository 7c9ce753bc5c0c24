"""Retries, pauses, repeats and one-shots: real processes and a real NAS; the clock alone is moved on by hand."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.config import load_config
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from tests.protocol.agents import command_agent


@pytest.fixture(scope="module")
def agent(nas, tmp_path_factory):
    with command_agent(tmp_path_factory.mktemp("attempts"), nas) as running:
        yield running


def later(agent, job_id, fire_at, seconds):
    """A fire as it would be so many seconds from now: the real operation in this process, its clock moved on."""
    config = load_config(environ=agent.env())
    ctx = open_home(config, ProcessEnvironment(environ=agent.env(), secrets={}))
    ctx = replace(ctx, clock=lambda: datetime.now(UTC) + timedelta(seconds=seconds))
    at = None if fire_at is None else datetime.fromisoformat(fire_at)
    return fire(ctx, job_id, fire_at=at, delivery=None, launcher=InlineLauncher())


def put_due_now(agent, job_id, **options):
    agent.put_jobs([job_id], due_in=1800, **options)
    due = datetime.now(UTC).replace(microsecond=0)
    agent.put_due(job_id, due)
    return due.isoformat()


def held_for(agent, job_id):
    (arm,) = [arm for arm in agent.armed_at_nas() if arm["job_id"] == job_id]
    return arm["fire_at"]


def test_a_retry_is_woken_by_an_arm_and_backs_off(agent):
    """Each failure arms the next attempt at NAS, twice as far ahead; the attempts live in one row; the last one counts."""
    fails_twice = f'echo "$CHRONOS_FIRE_AT" >> {agent.home}/diary-retry; [ $CHRONOS_ATTEMPT = 3 ]'
    due = put_due_now(agent, "retry", script=fails_twice, options=["--retries", "3"])
    assert agent.fire("retry", due)[0] == 10
    passed = 0
    for attempt, delay in ((2, 30), (3, 60)):
        (row,) = agent.rows("retry")
        assert (row["state"], row["attempt"]) == ("accepted", attempt)
        last = datetime.fromisoformat(row["attempts"][-1]["finished_at"])
        wait = datetime.fromisoformat(row["not_before"]) - last
        assert wait == timedelta(seconds=delay)
        arm = agent.arm("retry")
        assert (arm["purpose"], arm["state"]) == ("retry", "confirmed")
        assert held_for(agent, "retry") == arm["fire_at"]
        assert abs(datetime.fromisoformat(arm["fire_at"]) - last - wait) <= timedelta(seconds=2)
        early = later(agent, "retry", arm["fire_at"], passed)
        assert early.outcome in ("early", "idle")
        passed += delay + 3
        report = later(agent, "retry", agent.arm("retry")["fire_at"], passed)
        assert report.outcome == "claimed"
    (row,) = agent.judge("retry")
    assert [attempt["state"] for attempt in row["attempts"]] == ["failed", "failed", "ok"]
    assert (row["state"], row["kind"]) == ("ok", "retry")
    assert agent.diary("retry") == [due] * 3


def test_the_next_occurrence_ends_the_retries(agent):
    """Claiming the next occurrence closes the row of the one before as its last attempt ended; nothing runs beside it."""
    due = put_due_now(agent, "next", script="exit 3", options=["--retries", "5"])
    assert agent.fire("next", due)[0] == 10
    following = (datetime.fromisoformat(due) + timedelta(seconds=1)).isoformat()
    agent.put_due("next", datetime.fromisoformat(following))
    report = later(agent, "next", following, 2)
    assert report.outcome == "claimed"
    first, second = agent.rows("next")
    assert (first["state"], first["exit_status"], first["because"]) == (
        "failed", 3, "the next occurrence ended its retries",
    )  # fmt: skip
    assert (second["state"], second["attempt"]) == ("accepted", 2)
    assert agent.arm("next")["purpose"] == "retry"


def test_a_job_that_keeps_failing_is_paused(agent):
    """After so many failures in a row the job is paused, saying why, and NAS holds nothing for it."""
    due = put_due_now(agent, "weak", script="exit 1", options=["--pause-after-failures", "2"])
    assert agent.fire("weak", due)[0] == 10
    assert agent.job("weak")["state"] == "scheduled"
    following = datetime.fromisoformat(due) + timedelta(seconds=1)
    agent.put_due("weak", following)
    assert later(agent, "weak", following.isoformat(), 1).exit_code == 10
    job = agent.job("weak")
    assert (job["state"], job["paused_reason"]) == ("paused", "2 runs in a row failed")
    assert [arm for arm in agent.armed_at_nas() if arm["job_id"] == "weak"] == []
    assert agent.fire("weak", following.isoformat())[1]["result"] == "ignored"


def test_a_job_runs_as_often_as_it_may_and_is_then_complete(agent):
    """The last of its runs completes a job, manual runs not counted; NAS holds nothing, and `run` says conflict."""
    due = put_due_now(agent, "twice", options=["--repeat", "2"])
    agent.ok("run", "twice")
    assert agent.fire("twice", due)[0] == 0
    agent.quiet(["twice"])  # NAS may have asked for it first, and that run still go
    following = datetime.fromisoformat(due) + timedelta(seconds=1)
    agent.put_due("twice", following)
    assert later(agent, "twice", following.isoformat(), 1).outcome == "claimed"
    job = agent.job("twice")
    assert (job["state"], job["next_run_at"], job["repeat"]["completed"]) == ("completed", None, 2)
    assert [arm for arm in agent.armed_at_nas() if arm["job_id"] == "twice"] == []
    done = agent.chronos("run", "twice", "--json")
    assert done.returncode == 6
    assert json.loads(done.stdout)["error"]["hint"]
    assert agent.fire("twice", due)[1]["result"] == "ignored"
    assert agent.diary("twice") == ["manual", due, following.isoformat()]


def test_a_one_shot_whose_run_is_killed_is_not_revived(agent):
    """A one-shot killed in its run ends as lost and the job as completed, however often NAS asks for it again."""
    due = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    agent.ok("job", "add", due.isoformat(), "--id", "once", "--shell", "sleep 30")
    agent.put_due("once", now := datetime.now(UTC).replace(microsecond=0))
    assert agent.fire("once", now.isoformat(), CHRONOS_TEST_KILL_AT="started")[0] == -9
    code, _ = agent.fire("once", now.isoformat())
    assert code == 0
    (row,) = agent.rows("once")
    assert row["state"] == "lost"
    assert agent.job("once")["state"] == "completed"
    assert agent.fire("once", now.isoformat())[1]["result"] == "ignored"
    assert agent.chronos("run", "once").returncode == 6
    agent.ok("reconcile")
    assert [arm for arm in agent.armed_at_nas() if arm["job_id"] == "once"] == []


class SteppedClock:
    """The system's clock, put back or ahead by hand."""

    def __init__(self):
        self.step = timedelta()

    def __call__(self):
        return datetime.now(UTC) + self.step


@pytest.mark.parametrize("hours", [-3, 1])
def test_a_clock_that_is_put_while_a_job_runs_neither_repeats_nor_forgets(agent, hours):
    """Hours back or ahead in the middle of a run: the instant is a duplicate, the run ends as it would, once."""
    job_id = f"clock{hours}"
    going, over = agent.home / f"{job_id}.going", agent.home / f"{job_id}.over"
    script = f'echo "$CHRONOS_FIRE_AT" >> {agent.home}/diary-{job_id}; touch {going}; until [ -e {over} ]; do sleep 0.05; done'
    due = put_due_now(agent, job_id, script=script, options=["--timeout", "5h"])
    clock = SteppedClock()
    config = load_config(environ=agent.env())

    def fires(fire_at):
        ctx = replace(open_home(config, ProcessEnvironment(environ=agent.env(), secrets={})), clock=clock)
        return fire(ctx, job_id, fire_at=datetime.fromisoformat(fire_at), delivery=None, launcher=InlineLauncher())

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fires, due)
        try:
            agent.wait_until("the job runs", going.exists)
            agent.wait_until("its next wake is armed", lambda: agent.arm(job_id).get("state") == "confirmed")
            following = agent.job(job_id)["next_run_at"]
            clock.step = timedelta(hours=hours)
            assert fires(due).outcome == "duplicate"
            assert (agent.rows(job_id)[0]["state"], agent.diary(job_id)) == ("running", [due])
            assert (agent.job(job_id)["next_run_at"] == following) == (hours < 0)
            assert fires(following).outcome == ("early" if hours < 0 else "duplicate")
        finally:
            over.touch()
        report = running.result(timeout=60)
    assert (report.outcome, report.exit_code) == ("claimed", 0)
    assert agent.diary(job_id) == [due]
    assert fires(due).outcome == "duplicate"
    first, *_ = agent.judge(job_id)
    assert (first["state"], len(first["attempts"])) == ("ok", 1)
    assert datetime.fromisoformat(agent.job(job_id)["next_run_at"]) > max(datetime.fromisoformat(due), clock())
