"""Reconcile after whatever happened to the store or to NAS: it recovers, runs nothing, and cancels only its own."""

import json
import resource
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.protocol.agents import Agent, command_agent


@pytest.fixture
def agent(nas, tmp_path):
    with command_agent(tmp_path, nas) as running:
        yield running


def put_cursor(agent, job_id, text):
    path = agent.home / "cron/jobs.json"
    document = json.loads(path.read_text())
    next(job for job in document["jobs"] if job["id"] == job_id)["next_run_at"] = text
    path.write_text(json.dumps(document))


def held(agent):
    return {arm["job_id"]: arm["fire_at"] for arm in agent.armed_at_nas()}


def counted(agent, event):
    return len(agent.nas.events(event, agent=agent.access.audience))


@pytest.mark.parametrize("cursor", [None, "soon"])
def test_a_cursor_that_is_gone_is_put_right_once(agent, cursor):
    """A null or unreadable next_run_at becomes the schedule's next instant, is armed, and nothing is run."""
    agent.put_jobs(["a"], due_in=1800)
    anchor = agent.job("a")["chronos"]["anchor"]
    put_cursor(agent, "a", cursor)
    assert agent.json("reconcile")["settled"] == ["a"]
    assert agent.job("a")["next_run_at"] == anchor
    agent.judge("a")
    before = (agent.home / "cron/jobs.json").read_bytes()
    assert agent.json("reconcile")["settled"] == []
    assert (agent.home / "cron/jobs.json").read_bytes() == before
    assert agent.diary("a") == []


def test_a_year_of_minutes_is_settled_in_a_moment(agent):
    """A job every minute, a year overdue: one wake for the newest instant and one missed range, in under a second."""
    agent.ok(
        "job",
        "add",
        "* * * * *",
        "--id",
        "minutely",
        "--shell",
        f"echo $CHRONOS_FIRE_AT >> {agent.home}/diary-minutely",
    )
    year_ago = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=365)
    put_cursor(agent, "minutely", year_ago.isoformat())
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    plan = agent.json("reconcile")
    elapsed, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"a year of minutes was settled in {elapsed:.2f} s, {took:.2f} s of them computing, start-up included")
    assert plan["settled"] == ["minutely"]
    assert took < 1.0
    agent.wait_for_row("minutely", state="ok")
    missed, ran = agent.rows("minutely")[:2]
    assert (missed["state"], missed["count"], missed["exact"]) == ("missed", 1000, False)
    assert missed["scheduled_at"] == year_ago.isoformat()
    step = datetime.fromisoformat(ran["scheduled_at"]) - datetime.fromisoformat(missed["through"])
    assert step == timedelta(minutes=1)
    agent.wait_until("the job is at rest", lambda: not agent.job("minutely")["chronos"]["open"])
    diary = agent.diary("minutely")
    assert len(diary) == len(set(diary)) <= 2
    assert held(agent)["minutely"] > datetime.now(UTC).isoformat()


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_store_that_lost_its_jobs_cancels_nothing(agent, how):
    """A store that is gone or empty while NAS holds arms cancels nothing, and says why; --prune means it."""
    agent.put_jobs(["a", "b", "c"], due_in=1800)
    path = agent.home / "cron/jobs.json"
    if how == "missing":
        path.unlink()
    else:
        path.write_text('{"jobs": []}')
    before = held(agent)
    done = agent.chronos("reconcile", "--json")
    assert held(agent) == before
    assert len(before) == 3
    assert "no jobs" in done.stdout
    assert counted(agent, "cancelled") == 0
    pruned = agent.chronos("reconcile", "--prune", "--json")
    assert pruned.returncode == 0, pruned.stderr
    assert held(agent) == {}


def test_an_arm_that_was_not_confirmed_is_sent_again(agent):
    """What was stored while NAS was away is armed by the next reconcile, and then nothing is left to do."""
    agent.put_jobs(["a", "b"], due_in=1800)
    config = agent.home / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace(f"portal_url: {agent.nas.url}", "portal_url: http://127.0.0.1:9"))
    done = agent.chronos("job", "edit", "a", "--schedule", "every 2h")
    assert done.returncode == 75
    config.write_text(text)
    assert held(agent)["a"] != agent.job("a")["next_run_at"]
    agent.ok("reconcile")
    agent.judge("a")
    again = counted(agent, "provisioned")
    assert agent.chronos("reconcile", "--dry-run", "--detailed-exitcode").returncode == 0
    agent.ok("reconcile")
    assert counted(agent, "provisioned") == again


def test_a_new_callback_url_arms_every_job_again(agent):
    """Timers that would call the old place are sent again for the new one, once."""
    agent.put_jobs(["a", "b"], due_in=1800)
    config = agent.home / "config.yaml"
    old = next(line for line in config.read_text().splitlines() if "callback_url" in line)
    config.write_text(config.read_text().replace(old, "    callback_url: http://127.0.0.1:9/moved"))
    assert agent.chronos("reconcile", "--dry-run", "--detailed-exitcode").returncode == 3
    before = counted(agent, "provisioned")
    agent.ok("reconcile")
    assert counted(agent, "provisioned") == before + 2
    assert agent.arm("a")["callback_url"].endswith("/moved")
    assert agent.chronos("reconcile", "--dry-run", "--detailed-exitcode").returncode == 0


def test_another_store_on_the_same_identity_is_left_alone(nas, agent, tmp_path):
    """Two homes share an identity at NAS: neither cancels what the other armed, unless it prunes."""
    agent.put_jobs(["mine"], due_in=1800)
    other = Agent(tmp_path / "other", nas, name=f"other-{tmp_path.name}")
    other.access = agent.access
    (other.home / "token").write_text(agent.access.token)
    (other.home / "config.yaml").write_text((agent.home / "config.yaml").read_text())
    other.put_jobs(["theirs"], due_in=1800)
    for home in (agent, other):
        home.ok("reconcile")
    assert set(held(agent)) == {"mine", "theirs"}
    assert counted(agent, "cancelled") == 0
    other.ok("reconcile", "--prune")
    assert set(held(agent)) == {"theirs"}


def test_a_copied_store_under_another_identity_touches_nothing_of_the_first(nas, agent, tmp_path):
    """A store copied to a new identity arms its jobs there; what the first identity holds stays as it was."""
    agent.put_jobs(["a"], due_in=1800)
    staging = Agent(tmp_path / "staging", nas, name=f"staging-{tmp_path.name}")
    (staging.home / "cron").mkdir()
    for name in ("jobs.json", "arms"):
        source, target = agent.home / "cron" / name, staging.home / "cron" / name
        if source.is_dir():
            target.mkdir()
            for file in source.iterdir():
                (target / file.name).write_bytes(file.read_bytes())
        else:
            target.write_bytes(source.read_bytes())
    before = held(agent)
    staging.ok("reconcile")
    assert held(agent) == before
    assert set(held(staging)) == {"a"}
    staging.ok("job", "remove", "a", "--yes")
    staging.ok("reconcile")
    assert held(agent) == before
    assert held(staging) == {}


def test_what_died_unseen_is_settled_and_run_as_policy_says(agent):
    """After a machine's death, reconcile elsewhere on it settles the dead run and wakes what must run again."""
    agent.put_jobs(["skip", "rerun"], due_in=1800, changes={"rerun": {"on_crash": "rerun"}})
    due = datetime.now(UTC).replace(microsecond=0)
    for job_id in ("skip", "rerun"):
        agent.put_due(job_id, due)
        assert agent.fire(job_id, due.isoformat(), CHRONOS_TEST_KILL_AT="started")[0] == -9
    result = agent.json("reconcile")
    assert sorted(result["settled"]) == ["rerun", "skip"]
    assert agent.rows("skip")[0]["state"] == "lost"
    assert agent.rows("rerun")[0]["state"] == "accepted"
    agent.wait_for_row("rerun", state="ok")
    agent.quiet(["rerun"])
    agent.wait_for_cursors()
    agent.judge("skip")
    agent.judge("rerun")
