"""Our plug-in inside hermes-agent 0.19, unmodified: chosen by its own seam, arming at a real NAS, running under our claim.

`CHRONOS_HERMES_PYTHON` names the Python of an environment in which hermes-agent is installed; run with `-m interop`.
"""

import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from tests.agent_home import AgentHome
from tests.conftest import ROOT
from tests.hermes_process import Hermes
from tests.nas_process import Callback, running_nas
from tests.played_server import Answer, PlayedServer

pytestmark = pytest.mark.interop

PLUGIN = ROOT / "chronos_cli" / "hermes" / "plugin" / "chronos-cron"
CHOSEN = (
    "from cron.scheduler_provider import resolve_cron_scheduler\n"
    "provider = resolve_cron_scheduler()\n"
    "import threading\n"
)
START = CHOSEN + "provider.start(threading.Event())\n"
VERIFY = (
    "from plugins.cron_providers.chronos.verify import get_fire_verifier\n"
    "claims = get_fire_verifier()(token=given[0], expected_audience='', jwks_or_key=None, issuer=None)\n"
)


@pytest.fixture
def nas(tmp_path):
    with running_nas(tmp_path) as running:
        yield running


@pytest.fixture
def callback():
    with Callback() as listening:
        yield listening


@pytest.fixture
def agent(nas, callback, tmp_path):
    """A Hermes home that is connected to our NAS, with our plug-in dropped into it."""
    made = AgentHome(tmp_path / "home", nas)
    config = yaml.safe_load((made.home / "config.yaml").read_text())
    config["cron"]["provider"] = "chronos-cron"
    config["cron"]["chronos"]["callback_url"] = callback.url
    (made.home / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copytree(PLUGIN, made.home / "plugins" / "chronos-cron", ignore=shutil.ignore_patterns("__pycache__"))
    (made.home / "scripts").mkdir()
    (made.home / "scripts" / "note.sh").write_text(f'echo "ran" >> {tmp_path}/diary\necho said\n')
    return made


@pytest.fixture
def hermes(agent, tmp_path):
    """hermes-agent with our package installed beside it."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "chronos_cli").symlink_to(ROOT / "chronos_cli")
    return Hermes(agent.home, path=(packages,))


def fires(callback, count=1):
    """The fires so far, once there are `count`; what NAS asks a callback first is none."""
    until = time.monotonic() + 10
    while len(came := [fire for fire in callback.fires if "job_id" in fire.body]) < count:
        assert time.monotonic() < until, callback.fires
        time.sleep(0.005)
    return came


def make_due(agent, job_id):
    """Set a job's time to a second ago, but after it was made."""
    path = agent.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    job = next(job for job in document["jobs"] if job["id"] == job_id)
    made = datetime.fromisoformat(job["created_at"])
    while (moment := datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)) <= made:
        time.sleep(0.05)
    job["next_run_at"] = moment.isoformat()
    path.write_text(json.dumps(document, indent=2))
    return moment


def made_by_hermes(agent, hermes):
    hermes.cron("create", "every 2h", "--name", "note", "--script", "note.sh", "--no-agent", "--deliver", "local")
    return next(job["id"] for job in agent.jobs() if job["name"] == "note")


def test_hermes_chooses_it_and_falls_back_without_it(agent, hermes):
    """Its resolver picks our provider; where the configuration lacks the callback, its own trigger takes the place."""
    assert hermes.run(CHOSEN + "answer = provider.name") == "chronos-cron"
    config = yaml.safe_load((agent.home / "config.yaml").read_text())
    del config["cron"]["chronos"]["callback_url"]
    (agent.home / "config.yaml").write_text(yaml.safe_dump(config))
    assert hermes.run(CHOSEN + "answer = provider.name") == "builtin"


def test_chronos_in_the_same_home_takes_its_own_provider(agent):
    """Our command in that home understands the very name that hermes' configuration has."""
    done = agent.chronos("status", "--json")
    assert "cannot be used" not in done.stderr
    assert agent.chronos("job", "add", "every 2h", "--id", "ours", "--shell", "true").returncode == 0


THIRD = """
from pathlib import Path
try:
    from cron.scheduler_provider import CronScheduler
except ImportError:
    from chronos_cli.providers.interface import CronScheduler

class Third(CronScheduler):
    name = "third"

    def start(self, *args, **kwargs):
        pass

    def on_jobs_changed(self):
        with (Path(__file__).parent / "told").open("a") as file:
            file.write("changed\\n")

def register(ctx):
    ctx.register_hook("post_run", print)
    ctx.register_cron_scheduler(Third())
"""


def test_a_third_partys_folder_works_in_both(agent, hermes):
    """One folder, registered as hermes has it: hermes' own loader takes it, and so does chronos; both tell it of changes."""
    folder = agent.home / "plugins" / "third"
    folder.mkdir()
    (folder / "plugin.yaml").write_text("name: third\n")
    (folder / "__init__.py").write_text(THIRD)
    config = yaml.safe_load((agent.home / "config.yaml").read_text())
    config["cron"]["provider"] = "third"
    (agent.home / "config.yaml").write_text(yaml.safe_dump(config))
    assert hermes.run(CHOSEN + "answer = provider.name") == "third"
    job_id = made_by_hermes(agent, hermes)
    by_hermes = (folder / "told").read_text().count("changed")
    assert by_hermes
    status = json.loads(agent.chronos("status", "--offline", "--json").stdout)
    assert status["provider"] == {"active": "third", "configured": "third", "warning": None}
    assert agent.chronos("job", "pause", job_id).returncode == 0
    assert (folder / "told").read_text().count("changed") == by_hermes + 1


def test_on_standby_hermes_keeps_it_and_it_arms_and_takes_nothing(agent, hermes, nas, callback):
    """Our provider stays hermes' choice, so that its own trigger does not start; NAS is told nothing, and its fires are refused."""
    nas.provision(agent.access, "any", datetime.now(UTC) - timedelta(seconds=1), callback.url)
    token = fires(callback)[0].token
    assert hermes.run(START + VERIFY + "answer = claims is not None", token) is True
    config = yaml.safe_load((agent.home / "config.yaml").read_text())
    config["cron"]["standby"] = True
    (agent.home / "config.yaml").write_text(yaml.safe_dump(config))
    made_by_hermes(agent, hermes)
    assert hermes.run(START + VERIFY + "answer = [provider.name, claims]", token) == ["chronos-cron", None]
    assert nas.armed(agent.access) == {}


def test_start_and_changes_arm_at_nas(agent, hermes, nas):
    """What hermes' command adds, pauses and removes is armed and cancelled at once; start arms what is missing."""
    job_id = made_by_hermes(agent, hermes)
    assert set(nas.armed(agent.access)) == {job_id}
    hermes.cron("pause", job_id)
    assert nas.armed(agent.access) == {}
    hermes.cron("resume", job_id)
    assert set(nas.armed(agent.access)) == {job_id}
    nas.cancel(agent.access, job_id)
    assert nas.armed(agent.access) == {}
    assert hermes.run(START + "answer = True") is True
    assert set(nas.armed(agent.access)) == {job_id}
    armed = datetime.fromisoformat(nas.armed(agent.access)[job_id]["fire_at"])
    stored = datetime.fromisoformat(agent.job(job_id)["next_run_at"])
    # A second later for each time that this instant was sent before: made, resumed and started again in one second.
    assert abs(armed - stored) < timedelta(seconds=3)


def test_a_fire_runs_hermes_job_under_our_claim(agent, hermes, nas, callback, tmp_path):
    """With a token of NAS for it, a job of hermes' own runs once in hermes, is on our ledger, and is armed again."""
    job_id = made_by_hermes(agent, hermes)
    at = make_due(agent, job_id)
    nas.provision(agent.access, job_id, at, callback.url)
    token = fires(callback)[0].token
    fire = START + VERIFY + "answer = [claims['job_id'], *[provider.fire_due(given[1]) for _ in range(2)]]"
    assert hermes.run(fire, token, job_id) == [job_id, True, False]
    assert (tmp_path / "diary").read_text() == "ran\n"
    (row,) = agent.rows(job_id)
    assert row["state"] == "ok"
    assert datetime.fromisoformat(row["scheduled_at"]) == at
    job = agent.job(job_id)
    assert (job["last_status"], job["fire_claim"], job["chronos"].get("open") or []) == ("ok", None, [])
    assert "said" in next((agent.home / "cron" / "output" / job_id).glob("*.md")).read_text()
    assert datetime.fromisoformat(nas.armed(agent.access)[job_id]["fire_at"]) > datetime.now(UTC)
    seen = hermes.run("from cron.executions import latest_execution\nanswer = latest_execution(given[0])", job_id)
    assert seen["status"] == "completed"


def test_a_token_of_another_job_fires_nothing(agent, hermes, nas, callback, tmp_path):
    """A token that NAS made for another job, or for another agent, starts nothing."""
    job_id = made_by_hermes(agent, hermes)
    nas.provision(agent.access, "other", datetime.now(UTC) - timedelta(seconds=1), callback.url)
    stranger = nas.add_agent("stranger")
    nas.provision(stranger, job_id, datetime.now(UTC) - timedelta(seconds=1), callback.url)
    tokens = {fire.body["job_id"]: fire.token for fire in fires(callback, 2)}
    make_due(agent, job_id)
    assert hermes.run(START + VERIFY + "answer = provider.fire_due(given[1])", tokens["other"], job_id) is False
    assert hermes.run(START + VERIFY + "answer = claims", tokens[job_id]) is None
    assert not (tmp_path / "diary").exists()
    assert agent.rows(job_id) == []


def test_what_hermes_cannot_run_we_run(agent, hermes, tmp_path):
    """A shell job of ours, fired through hermes, runs as everywhere else; one that fails is a started run that failed."""
    agent.chronos("job", "add", "every 2h", "--id", "ours", "--shell", f"echo ours >> {tmp_path}/diary")
    agent.chronos("job", "add", "every 2h", "--id", "bad", "--shell", "exit 3")
    make_due(agent, "ours")
    make_due(agent, "bad")
    fired = hermes.run(START + "answer = [provider.fire_due('ours'), provider.fire_due('bad')]")
    assert fired == [True, True]
    assert (tmp_path / "diary").read_text() == "ours\n"
    assert [row["state"] for row in agent.rows("ours") + agent.rows("bad")] == ["ok", "failed"]


def test_a_hermes_job_past_its_time_is_ended(agent, hermes):
    """A run that outlasts the job's timeout ends there, with hermes itself unharmed."""
    (agent.home / "scripts" / "note.sh").write_text("sleep 30\n")
    job_id = made_by_hermes(agent, hermes)
    agent.chronos("job", "edit", job_id, "--timeout", "2s")
    make_due(agent, job_id)
    assert hermes.run(START + "answer = provider.fire_due(given[0])", job_id) is True
    assert [row["state"] for row in agent.rows(job_id)] == ["timeout"]


@pytest.mark.parametrize("field", ["interpreter", "monitor_url"])
def test_what_only_newer_versions_know_is_not_run_without_it(agent, hermes, tmp_path, field):
    """A monitor, and a script that names its interpreter, fail with the reason where hermes would run them plainly."""
    job_id = made_by_hermes(agent, hermes)
    path = agent.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    next(job for job in document["jobs"] if job["id"] == job_id)[field] = "x"
    path.write_text(json.dumps(document))
    make_due(agent, job_id)
    assert hermes.run(START + "answer = provider.fire_due(given[0])", job_id) is True
    assert f"the job has the field {field}" in agent.job(job_id)["last_error"]
    assert not (tmp_path / "diary").exists()


def test_an_expired_login_is_renewed_by_hermes_own_resolver(agent, hermes, monkeypatch):
    """The token_command that we ship, run by hermes' Python, prints what hermes renewed and keeps itself."""
    renewed = {"access_token": "renewed", "refresh_token": "next", "expires_in": 3600}
    portal = PlayedServer(Answer(body=renewed, headers={"Content-Type": "application/json"}))
    state = {"access_token": "old", "refresh_token": "again", "expires_at": "2026-01-01T00:00:00+00:00"}
    (agent.home / "auth.json").write_text(
        json.dumps({"version": 1, "providers": {"nous": state}, "active_provider": "nous"})
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(agent.home.parent), "HERMES_PORTAL_BASE_URL": portal.url}
    profile = agent.home / "profiles" / "work"  # it has no login of its own, so hermes gives it its root's
    profile.mkdir(parents=True)
    try:
        done, below = (
            subprocess.run([hermes.python, str(ROOT / "chronos_cli" / "hermes" / "login.py")], cwd=place, env=env,
                           capture_output=True, text=True, timeout=90, check=False)
            for place in (agent.home, profile)
        )  # fmt: skip
    finally:
        portal.close()
    assert (done.returncode, done.stdout) == (0, "renewed\n"), done.stderr
    assert (below.returncode, below.stdout) == (0, "renewed\n"), below.stderr
    assert json.loads((agent.home / "auth.json").read_text())["providers"]["nous"]["refresh_token"] == "next"
    (agent.home / "auth.json").unlink()
    lost = subprocess.run([hermes.python, str(ROOT / "chronos_cli" / "hermes" / "login.py")], cwd=agent.home,
                          env=env | {"HERMES_HOME": str(agent.home)}, capture_output=True, text=True, timeout=90, check=False)  # fmt: skip
    assert lost.returncode == 1
    assert "AuthError: Hermes is not logged into" in lost.stderr.splitlines()[-1]
