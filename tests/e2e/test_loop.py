"""The whole loop over real HTTP: a real NAS, the real shim, real runners, judged by what the jobs wrote down."""

import json
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from chronos_cli.nas_server.keys import KeyRing
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


def honest_token(nas, agent, job_id, fire_at):
    """A token as this NAS signs it for a fire, by its own key."""
    key = KeyRing(nas.home / "keys", time.time).signing()
    now = int(time.time())
    claims = {
        "iss": nas.url, "aud": agent.access.audience, "purpose": "cron_fire", "iat": now, "exp": now + 90,
        "jti": uuid.uuid4().hex, "job_id": job_id, "fire_at": fire_at,
    }  # fmt: skip
    return jwt.encode(claims, key.private, algorithm=key.alg, headers={"kid": key.kid})


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
    """A redelivery of a finished occurrence, with an honest token, is answered 200 and starts nothing."""
    diary = agent.home / "once-diary"
    add(agent, "single", "in 2s", f"echo ran >> {diary}")
    row = agent.wait_for_row("single", state="ok")[0]
    relayed = nas.wait_for("relayed", job_id="single", outcome="delivered")
    assert relayed["status"] == 202
    until = time.monotonic() + 20
    while agent.job("single")["state"] != "completed":  # its row is written first
        assert time.monotonic() < until
        time.sleep(0.05)
    at = row["scheduled_at"]
    status, said = post(agent, {"job_id": "single", "fire_at": at}, honest_token(nas, agent, "single", at))
    assert (status, said["result"]) == (200, "ignored")
    assert diary.read_text() == "ran\n"


def test_an_edit_moves_the_timer_and_a_removed_job_has_none(nas, agent):
    """NAS follows every change of a job at once."""
    add(agent, "movable", "every 1h", "true")
    first = nas.armed(agent.access)["movable"]["fire_at"]
    assert agent.chronos("job", "edit", "movable", "--schedule", "every 2h").returncode == 0
    second = nas.armed(agent.access)["movable"]["fire_at"]
    assert datetime.fromisoformat(second) - datetime.fromisoformat(first) > timedelta(minutes=59)
    assert agent.chronos("job", "remove", "movable", "--yes").returncode == 0
    assert "movable" not in nas.armed(agent.access)


def test_a_strangers_call_is_refused_and_starts_nothing(nas, agent):
    """A call without a good token gets the same 401 for a known and an unknown job; the same with one starts it."""
    add(agent, "quiet", "in 1h", "true")
    path = agent.home / "cron/jobs.json"
    due = datetime.now(UTC).replace(microsecond=0).isoformat()
    document = json.loads(path.read_text())
    next(job for job in document["jobs"] if job["id"] == "quiet")["next_run_at"] = due
    path.write_text(json.dumps(document))
    honest = honest_token(nas, agent, "quiet", due)
    for bad in ("a.b.c", honest[:-6] + "AAAAAA"):
        known = post(agent, {"job_id": "quiet", "fire_at": due}, bad)
        unknown = post(agent, {"job_id": "nobody", "fire_at": due}, bad)
        assert known[0] == unknown[0] == 401
        assert known[1]["result"] == unknown[1]["result"] == "refused"
    assert agent.rows("quiet") == []
    assert post(agent, {"job_id": "quiet", "fire_at": due}, honest)[0] == 202
    agent.wait_for_row("quiet", state="ok")


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
    assert (job["arm"]["state"], job["will_fire"]) == ("unconfirmed", None)


def test_the_shim_takes_no_fire_before_it_is_due(nas, agent):
    """A fire well before its time, with an honest token, is answered 503 and starts nothing."""
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=10)
    add(agent, "later", soon.isoformat(), "true")
    at = nas.armed(agent.access)["later"]["fire_at"]
    assert at.startswith(soon.strftime("%Y-%m-%dT%H:%M"))
    status, said = post(agent, {"job_id": "later", "fire_at": at}, honest_token(nas, agent, "later", at))
    assert (status, said["result"]) == (503, "early")
    assert agent.rows("later") == []
