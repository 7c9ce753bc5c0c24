"""The emergency stop, as every door meets it."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.protocol.agents import command_agent


@pytest.fixture
def agent(nas, tmp_path):
    with command_agent(tmp_path, nas) as running:
        yield running


@pytest.mark.parametrize("unreadable", [False, True])
def test_a_hold_stops_every_door_and_the_chain_goes_on(agent, unreadable):
    """Fire, tick and manual run start nothing; the fire's wake is armed 15 minutes ahead; lifting settles by policy."""
    agent.put_jobs(["held", "strict"], due_in=1800, changes={"strict": {"grace": 0}})
    due = datetime.now(UTC).replace(microsecond=0)
    if unreadable:
        (agent.home / "ESTOP").mkdir()
    else:
        agent.ok("hold", "--reason", "migration")
    agent.put_due("held", due)
    agent.put_due("strict", due - timedelta(seconds=30))
    code, document = agent.fire("held", due.isoformat())
    assert (code, document["ok"]) == (75, False)
    assert document["result"] == "held"
    ahead = datetime.fromisoformat(agent.arm("held")["fire_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < ahead <= timedelta(minutes=15, seconds=2)
    (armed,) = [arm for arm in agent.armed_at_nas() if arm["job_id"] == "held"]
    assert armed["fire_at"] == agent.arm("held")["fire_at"]
    assert agent.chronos("tick").returncode == 75
    assert agent.chronos("run", "held").returncode == 75
    assert agent.diary("held") == agent.rows("held") == []
    assert agent.job("held")["next_run_at"] == due.isoformat()
    if unreadable:
        (agent.home / "ESTOP").rmdir()
        agent.ok("reconcile")
    else:
        assert agent.json("status")["held"]
        agent.ok("hold", "--off")
    agent.wait_for_row("held", state="ok")
    agent.wait_for_row("strict", state="missed")
    agent.quiet(["held", "strict"])
    agent.wait_for_cursors()
    assert [row["state"] for row in agent.judge("held")] == ["ok"]
    (strict,) = agent.judge("strict")
    assert agent.diary("held") == [due.isoformat()]
    assert (strict["state"], agent.diary("strict")) == ("missed", [])


def test_what_runs_goes_on_under_a_hold(agent):
    """A hold starts nothing, and ends nothing: the run in hand ends by itself, and its end starts nothing either."""
    agent.put_jobs(["going"], due_in=1800, options=["--overlap", "queue"])
    due = datetime.now(UTC).replace(microsecond=0)
    agent.put_due("going", due)
    with agent.start_fire("going", due.isoformat()) as fire:
        agent.wait_until("it runs", lambda: agent.diary("going"))
        agent.ok("hold", "--on")
        fire.communicate(timeout=60)
    assert agent.rows("going")[0]["state"] == "ok"
    code, document = agent.fire("going", None)
    assert (code, document["result"]) == (75, "held")
    agent.ok("hold", "--off")
    agent.judge("going")
