"""A home that hermes-agent 0.19 wrote, used as it is."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.agent_home import AgentHome
from tests.nas_process import running_nas

PAUSED = "255d0a07be98"
ONE_SHOT = "9bf1894e979a"
INSTANTS = ("created_at", "next_run_at", "paused_at", "last_run_at", "updated_at")


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    with running_nas(tmp_path_factory.mktemp("nas")) as running:
        yield running


@pytest.fixture
def agent(nas, fixture_home, tmp_path, request):
    jobs = (fixture_home / "cron" / "jobs.json").read_bytes()
    scripts = fixture_home / "scripts"
    made = AgentHome(tmp_path / "agent", nas, name=request.node.name[:40])
    config = (made.home / "config.yaml").read_text().replace("timezone: UTC", "timezone: America/New_York")
    (made.home / "config.yaml").write_text(config)
    (made.home / "cron").mkdir()
    (made.home / "cron" / "jobs.json").write_bytes(jobs)
    scripts.rename(made.home / "scripts")
    return made


def shifted(jobs, by):
    """Every instant of a home moved by one constant."""
    for job in jobs["jobs"]:
        for holder in (job, job["schedule"]):
            for key in (*INSTANTS, "run_at"):
                if holder.get(key):
                    holder[key] = (datetime.fromisoformat(holder[key]) + by).isoformat()
    return jobs


def test_list_offline_shows_the_seven_jobs_one_of_them_paused(fixture_home):
    """A copied Hermes home lists as it is, without a network."""
    command = [sys.executable, "-m", "chronos_cli", "--home", str(fixture_home), "list", "--offline", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    listed = json.loads(done.stdout)["jobs"]
    assert len(listed) == 7
    assert [job["id"] for job in listed if job["state"] == "paused"] == [PAUSED]


def test_reconcile_arms_exactly_the_six_that_should_be(agent, nas):
    """With every instant ahead, NAS then holds the six live jobs at their stored instants, and nothing of the file changed."""
    path = agent.home / "cron" / "jobs.json"
    jobs = json.loads(path.read_text())
    first = min(datetime.fromisoformat(job["next_run_at"]) for job in jobs["jobs"])
    jobs = shifted(jobs, datetime.now(UTC) + timedelta(hours=1) - first)
    path.write_text(json.dumps(jobs, indent=2))
    before = path.read_bytes()
    done = agent.chronos("reconcile")
    assert done.returncode == 0, done.stderr
    armed = {job_id: datetime.fromisoformat(arm["fire_at"]) for job_id, arm in nas.armed(agent.access).items()}
    expected = {
        job["id"]: datetime.fromisoformat(job["next_run_at"]).replace(microsecond=0)
        for job in jobs["jobs"]
        if job["enabled"]
    }
    assert len(armed) == 6
    assert armed == expected
    assert path.read_bytes() == before
    again = agent.chronos("reconcile", "--json")
    assert again.returncode == 0
    assert nas.armed(agent.access).keys() == expected.keys()


def test_a_one_shot_past_its_grace_is_missed_and_not_armed(agent, nas):
    """Unshifted and past its grace, the one-shot ends as missed; every key that is not ours stays byte for byte."""
    path = agent.home / "cron" / "jobs.json"
    jobs = shifted(json.loads(path.read_text()), timedelta(days=-3))
    path.write_text(json.dumps(jobs, indent=2))
    before = json.loads(path.read_text())
    done = agent.chronos("reconcile")
    assert done.returncode == 0, done.stderr
    assert ONE_SHOT not in nas.armed(agent.access)
    (row,) = agent.rows(ONE_SHOT)
    assert row["state"] == "missed"
    after = {job["id"]: job for job in agent.jobs()}
    ours = {"chronos", "next_run_at", "enabled", "state", "last_run_at", "fire_claim", "repeat"}
    for job in before["jobs"]:
        kept = {key: value for key, value in job.items() if key not in ours}
        assert list(kept.items()) == [(k, v) for k, v in after[job["id"]].items() if k not in ours]
    text = path.read_text()
    assert r'"prompt": "Poll the queue \u2603 \u201cquotes\u201d \\ back"' in text
    assert after[ONE_SHOT]["state"] == "completed"
