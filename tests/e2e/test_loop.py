"""The whole loop over real HTTP: a real NAS, the real shim, real runners, judged by what the jobs wrote down."""

import json
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pytest

from tests.agent_home import AgentHome, running_agent
from tests.nas_process import running_nas


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    with running_nas(tmp_path_factory.mktemp("nas"), "--retry-base", "0.2") as running:
        yield running


@pytest.fixture(scope="module")
def agent(nas, tmp_path_factory):
    with running_agent(tmp_path_factory.mktemp("agent"), nas) as running:
        yield running


def add(agent, job_id, schedule, script, *more):
    done = agent.chronos("job", "add", schedule, "--id", job_id, *more, "--shell", script)
    assert done.returncode == 0, done.stderr
    return done


def post(agent, body, token):
    request = urllib.request.Request(
        f"http://127.0.0.1:{agent.port}/api/cron/fire",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_job_is_armed_called_back_run_and_armed_again(nas, agent):
    """A recurring job added by the command is armed at once, and each occurrence runs once and arms the next."""
    diary = agent.home / "diary"
    add(agent, "beat", "every 2s", f"echo $CHRONOS_FIRE_AT >> {diary}")
    assert "beat" in nas.armed(agent.access)
    agent.wait_for_row("beat", count=2, state="ok")
    assert agent.chronos("job", "pause", "beat").returncode == 0
    time.sleep(0.5)
    ran = diary.read_text().split()
    assert len(ran) == len(set(ran)) >= 2
    assert "beat" not in nas.armed(agent.access)
    job = agent.job("beat")
    assert job["state"] == "paused"
    assert job["chronos"]["open"] == []


def test_a_second_relay_after_the_run_does_not_run_the_job_again(nas, agent):
    """A redelivery of a finished occurrence, with an honest token, is a duplicate and starts nothing."""
    diary = agent.home / "once-diary"
    add(agent, "single", "in 2s", f"echo ran >> {diary}")
    row = agent.wait_for_row("single", state="ok")[0]
    relayed = nas.wait_for("relayed", job_id="single", outcome="delivered")
    assert relayed["status"] == 202
    done = agent.chronos("fire", "--job-id", "single", "--token", "-", "--fire-at", row["scheduled_at"])
    assert done.returncode == 4
    assert diary.read_text() == "ran\n"
    assert agent.job("single")["state"] == "completed"


def test_an_edit_moves_the_timer_and_a_removed_job_has_none(nas, agent):
    """NAS follows every change of a job at once."""
    add(agent, "movable", "every 1h", "true")
    first = nas.armed(agent.access)["movable"]["fire_at"]
    assert agent.chronos("job", "edit", "movable", "--schedule", "every 2h").returncode == 0
    second = nas.armed(agent.access)["movable"]["fire_at"]
    assert datetime.fromisoformat(second) - datetime.fromisoformat(first) > timedelta(minutes=59)
    assert agent.chronos("job", "remove", "movable", "--yes").returncode == 0
    assert "movable" not in nas.armed(agent.access)


def test_a_strangers_call_is_refused_and_starts_nothing(agent):
    """A call without a good token gets the same 401 for a known and an unknown job."""
    add(agent, "quiet", "every 1h", "true")
    known = post(agent, {"job_id": "quiet", "fire_at": "2026-11-20T00:00:00Z"}, "a.b.c")
    unknown = post(agent, {"job_id": "nobody", "fire_at": "2026-11-20T00:00:00Z"}, "a.b.c")
    assert known == unknown == (401, {"result": "refused"})
    assert agent.rows("quiet") == []


def test_a_job_is_saved_and_said_to_be_unarmed_while_nas_is_down(nas, tmp_path):
    """A failed notification undoes nothing: the job is stored, the exit code is 75, and list shows it unarmed."""
    lonely = AgentHome(tmp_path / "lonely", nas, name="lonely")
    config = (lonely.home / "config.yaml").read_text().replace(nas.url, "http://127.0.0.1:9")
    (lonely.home / "config.yaml").write_text(config)
    done = lonely.chronos("job", "add", "every 1h", "--id", "kept", "--shell", "true")
    assert done.returncode == 75
    assert "saved, not armed" in done.stderr
    assert lonely.job("kept")["enabled"] is True
    listed = lonely.chronos("list", "--json")
    assert listed.returncode == 75
    (job,) = json.loads(listed.stdout)["jobs"]
    assert job["arm"] != "armed"


def test_the_shim_takes_no_fire_before_it_is_due(nas, agent):
    """A fire well before its time is answered 503 with the seconds left, and its redelivery runs it."""
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=10)
    add(agent, "later", soon.isoformat(), "true")
    assert nas.armed(agent.access)["later"]["fire_at"].startswith(soon.strftime("%Y-%m-%dT%H:%M"))
    assert agent.rows("later") == []
