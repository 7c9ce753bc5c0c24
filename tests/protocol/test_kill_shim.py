"""kill -9 of the shim, and of the runner it starts, at every step (by default at each second one); judged by files and NAS alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import thoroughly
from tests.protocol.agents import KILL_AT, Agent, is_gone

SHIM = ("claiming", "claimed", "arming", "provisioned", "armed")[:: thoroughly(1, 2)]
RUNNER = ("starting", "running", "started", "ended", "concluded", "recorded", "settled")[:: thoroughly(1, 2)]
LOST = ("started", "ended")


@pytest.fixture(scope="module")
def wrecks(nas, tmp_path_factory):
    """One home for each step: the first fires met a kill there, then the shim was started anew and reconcile called."""
    folder = tmp_path_factory.mktemp("shims")
    agents = {step: Agent(folder / step, nas, name=f"shim-{step}") for step in (*SHIM, *RUNNER)}
    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(_wreck, agents, agents.values()))
            yield agents
    finally:
        for agent in agents.values():
            agent.stop_shim(9)


def _wreck(step, agent):
    jobs = ["skip", "rerun"] if step in RUNNER else ["skip"]
    agent.start_shim(**{KILL_AT: step})
    agent.due = agent.put_jobs(jobs, due_in=1.5, changes={"rerun": {"on_crash": "rerun"}})
    relayed = {job: agent.nas.wait_for("relayed", job_id=job, agent=agent.access.audience, timeout=30) for job in jobs}
    agent.first = {job: event["status"] for job, event in relayed.items()}
    if step in SHIM:
        agent.killed = agent.shim.wait(20)
    else:
        agent.wait_until("the runners are dead", lambda: all(_runner_is_gone(agent, job) for job in jobs))
        agent.killed = agent.shim.poll()
    agent.stop_shim(9)
    agent.start_shim()
    agent.reconcile()
    agent.quiet(jobs)
    agent.wait_for_cursors()


def _runner_is_gone(agent, job):
    return all(is_gone(row["owner"]["pid"]) for row in agent.rows(job) if "owner" in row)


@pytest.mark.parametrize("step", SHIM)
def test_a_killed_shim_loses_no_run_and_repeats_none(wrecks, step):
    """The occurrence runs once: a run under way outlives the shim, one not yet started is started on redelivery."""
    agent = wrecks[step]
    assert agent.killed == -9
    assert agent.first["skip"] is None
    (row,) = agent.judge("skip", since=agent.due)
    assert row["state"] == "ok"
    assert len(row["attempts"]) == len(agent.diary("skip")) == 1


@pytest.mark.parametrize("step", RUNNER)
def test_a_killed_runner_ends_as_its_policy_says(wrecks, step):
    """What was not started is started, what died is lost or runs again, what was over stays so; each has one row."""
    agent = wrecks[step]
    assert agent.killed is None
    (row,), (again,) = agent.judge("skip", since=agent.due), agent.judge("rerun", since=agent.due)
    assert agent.first["skip"] == (503 if step in ("starting", "running", "started") else 202)
    assert again["state"] == "ok"
    if step in LOST:
        assert row["state"] == "lost"
        assert len(agent.diary("skip")) <= 1
        assert [attempt["state"] for attempt in again["attempts"]] == ["lost", "ok"]
    else:
        assert row["state"] == "ok"
        assert agent.diary("skip") == agent.diary("rerun") == [row["scheduled_at"]]
