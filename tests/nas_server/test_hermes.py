"""hermes-agent 0.19, unmodified, against our NAS: its client, its reconcile and its verifier.

`CHRONOS_HERMES_PYTHON` names the Python of an environment in which hermes-agent is installed; run with `-m interop`.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from tests.conftest import ROOT, _missing
from tests.nas_process import Callback, running_nas

pytestmark = pytest.mark.interop

PEER = """
import json, sys
from plugins.cron_providers.chronos import ChronosCronScheduler
from plugins.cron_providers.chronos._nas_client import NasCronClient
from plugins.cron_providers.chronos.verify import verify_nas_fire_token
portal, what, *rest = sys.argv[1:]
client = NasCronClient(portal)
if what == "calls":
    job, when, url = rest
    answer = client.provision(job_id=job, fire_at=when, agent_callback_url=url, dedup_key=f"{job}:{when}")
    listed = client.list_armed()
    print(json.dumps({"answer": answer, "listed": listed, "cancelled": client.cancel(job_id=job), "left": client.list_armed()}))
elif what == "reconcile":
    ChronosCronScheduler().reconcile()
    print("{}")
elif what == "verify":
    token, audience, issuer = rest
    keys = portal + "/.well-known/jwks.json"
    good = verify_nas_fire_token(token=token, expected_audience=audience, jwks_or_key=keys, issuer=issuer)
    other = verify_nas_fire_token(token=token, expected_audience="agent:other", jwks_or_key=keys, issuer=issuer)
    print(json.dumps({"good": good, "other": other}))
"""


@pytest.fixture
def hermes(tmp_path):
    """Runs a piece of hermes-agent in its own environment, with a home that is logged in at our NAS."""
    python = os.environ.get("CHRONOS_HERMES_PYTHON") or _missing("hermes-agent (CHRONOS_HERMES_PYTHON)")
    home = tmp_path / "hermes"
    (home / "cron").mkdir(parents=True)

    def run(nas, agent, what, *arguments):
        config = {"cron": {"provider": "chronos", "chronos": {**agent.config, "callback_url": "http://127.0.0.1:9"}}}
        (home / "config.yaml").write_text(yaml.safe_dump(config))
        state = {"access_token": agent.token, "expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
        (home / "auth.json").write_text(
            json.dumps({"version": 1, "providers": {"nous": state}, "active_provider": "nous"})
        )
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HERMES_HOME": str(home)}
        command = [python, "-c", PEER, nas.url, what, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    run.home = home
    return run


def test_its_client_provisions_lists_and_cancels(hermes, tmp_path):
    """The peer's own NAS client arms, sees and cancels a job at our NAS."""
    with running_nas(tmp_path) as nas:
        agent = nas.add_agent("hermes")
        seen = hermes(nas, agent, "calls", "job-1", "2031-01-01T09:00:00-05:00", "http://127.0.0.1:9")
    assert seen["listed"][0]["schedule_id"] == seen["answer"]["schedule_id"]
    assert seen["listed"][0]["fire_at"] == "2031-01-01T09:00:00-05:00"
    assert seen["cancelled"]["ok"] is True
    assert seen["left"] == []


def test_its_reconcile_converges(hermes, tmp_path):
    """Its reconcile arms what a real home wants, finds nothing to do the second time, and cancels an orphan."""
    document = json.loads((ROOT / "tests" / "fixtures" / "hermes-0.19" / "cron" / "jobs.json").read_text())
    for job in document["jobs"]:
        if job.get("next_run_at"):
            moment = datetime.fromisoformat(job["next_run_at"]) + timedelta(days=3650)
            job["next_run_at"] = moment.isoformat()
    jobs = hermes.home / "cron" / "jobs.json"
    jobs.write_text(json.dumps(document))
    wanted = {job["id"]: job for job in document["jobs"] if job.get("enabled") and job.get("next_run_at")}
    wanted = {job_id: job for job_id, job in wanted.items() if job.get("state") != "paused"}
    with running_nas(tmp_path) as nas:
        agent = nas.add_agent("hermes")
        hermes(nas, agent, "reconcile")
        assert set(nas.armed(agent)) == set(wanted)
        calls = len(nas.events("provisioned"))
        hermes(nas, agent, "reconcile")
        assert len(nas.events("provisioned")) == calls
        gone = min(wanted)
        document["jobs"] = [job for job in document["jobs"] if job["id"] != gone]
        jobs.write_text(json.dumps(document))
        hermes(nas, agent, "reconcile")
        assert set(nas.armed(agent)) == set(wanted) - {gone}


def test_its_verifier_accepts_our_tokens(hermes, tmp_path):
    """A fire token of ours passes its verifier, and not for another audience."""
    with Callback() as callback, running_nas(tmp_path) as nas:
        agent = nas.add_agent("hermes")
        nas.provision(agent, "job", "2020-01-01T00:00:00+00:00", callback.url)
        token = callback.wait()[0].token
        seen = hermes(nas, agent, "verify", token, agent.audience, nas.url)
    assert seen["good"]["purpose"] == "cron_fire"
    assert seen["good"]["job_id"] == "job"
    assert seen["other"] is None
