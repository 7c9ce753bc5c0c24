"""kill -9 of `chronos fire` at every step, with a NAS that redelivers; judged by files and NAS alone."""

import pytest

from tests.protocol.agents import command_agent

NOT_STARTED = ("claiming", "claimed", "starting", "running")
STARTED = ("started", "arming", "provisioned", "armed", "ended")
OVER = ("concluded", "recorded", "settled")
STEPS = (*NOT_STARTED, *STARTED, *OVER)
CASES = [*(("skip", step) for step in STEPS), *(("rerun", step) for step in STARTED)]


@pytest.fixture(scope="module")
def wreck(nas, tmp_path_factory):
    """One job for each step and policy; the first fire of each was killed at its step, the rest was left to NAS."""
    with command_agent(tmp_path_factory.mktemp("kills"), nas) as agent:
        jobs = {f"{policy}-{step}": step for policy, step in CASES}
        changes = {job_id: {"on_crash": job_id.partition("-")[0]} for job_id in jobs}
        agent.kills.update(jobs)
        agent.due = agent.put_jobs(list(jobs), due_in=1.5, changes=changes)
        agent.wait_until("every first fire came", lambda: len(agent.deliveries) >= len(jobs))
        due = agent.due.isoformat()
        agent.wait_until("NAS is at rest", lambda: all(arm["fire_at"] > due for arm in agent.armed_at_nas()))
        agent.reconcile()
        agent.quiet(list(jobs))
        agent.wait_for_cursors()
        agent.ok("job", "list", "--json")
        yield agent


@pytest.mark.parametrize(("policy", "step"), CASES)
def test_a_killed_fire_leaves_every_promise_standing(wreck, policy, step):
    """Whatever the step, the occurrence has one terminal row, ran as often as its policy says, and the next is armed."""
    job_id = f"{policy}-{step}"
    (first, *_) = [code for job, _, code in wreck.deliveries if job == job_id]
    assert first == -9, wreck.deliveries
    (row,) = wreck.judge(job_id, since=wreck.due)
    ran = wreck.diary(job_id)
    if step in NOT_STARTED or step in OVER:
        assert (row["state"], len(row["attempts"]), len(ran)) == ("ok", 1, 1)
    elif policy == "skip":
        assert row["state"] == "lost"
        assert len(ran) <= 1
    else:
        assert row["state"] == "ok"
        assert [attempt["state"] for attempt in row["attempts"]] == ["lost", "ok"]
        assert 1 <= len(ran) <= 2
