"""Our plug-in in the newest hermes-agent, as a stand-in of its interface: what is found there is used, and nothing is bypassed."""

import contextvars
import importlib
import importlib.util
import json
import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.errors import AuthError
from chronos_cli.hermes import inside, run
from chronos_cli.hermes.judging import OtherTokenError, TokenJudge
from chronos_cli.running.errors import ActionError
from chronos_cli.trust.jti import JtiMemoryError
from tests.callback.shim_home import ROOT, ShimHome, add_job
from tests.errors.hinted import tries
from tests.fire_tokens import SigningKey
from tests.nas_client.played_nas import played_nas
from tests.played_server import Answer

STAND_IN = ROOT / "tests" / "newest_hermes"
PAUSED = {"enabled": False, "state": "paused", "paused_at": "2026-11-01T09:00:00+00:00", "paused_reason": "later"}
NAMES = ("cron", "plugins", "hermes_constants", "hermes_cli", "door")
FOLDER = ROOT / "chronos_cli" / "hermes" / "plugin" / "chronos-cron" / "__init__.py"


nas = played_nas("keeps-slot")


@pytest.fixture
def home(tmp_path, nas, monkeypatch):
    made = ShimHome(tmp_path, SigningKey.es256(), nas.url, monkeypatch)
    (made.home / "scripts").mkdir()
    (made.home / "scripts" / "note.sh").write_text(f"echo ran >> {tmp_path}/diary\n")
    made.diary = tmp_path / "diary"
    return made


@pytest.fixture
def hermes(home, monkeypatch):
    """The stand-in's modules in this process and in those that it starts, and our provider as its loader gets it."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(STAND_IN), str(ROOT))))
    monkeypatch.setenv("HERMES_HOME", str(home.home))
    forget()
    monkeypatch.setattr(inside, "_JUDGE", TokenJudge(inside._config, inside._log))
    provider = importlib.import_module("cron.scheduler_provider")
    spec = importlib.util.spec_from_file_location("their_plug_in", FOLDER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = []
    module.register(SimpleNamespace(register_cron_scheduler=found.append))
    assert isinstance(found[0], provider.CronScheduler)
    yield SimpleNamespace(provider=found[0], api=provider, door=importlib.import_module("door"), stop=threading.Event())
    forget()


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] in NAMES]:
        del sys.modules[name]


def start(hermes, **given):
    hermes.provider.start(hermes.stop, adapters=None, loop=None, interval=60, **given)


def put(home, job_id, *, ago=1.0, **fields):
    """A script job as hermes stores it, due `ago` seconds ago; returns its instant."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=ago)
    path = home.home / "cron" / "jobs.json"
    path.parent.mkdir(exist_ok=True)
    jobs = json.loads(path.read_text())["jobs"] if path.exists() else []
    record = {"id": job_id, "name": job_id, "prompt": "", "script": "note.sh", "no_agent": True, "enabled": True,
              "state": "scheduled", "schedule": {"kind": "interval", "minutes": 120}, "deliver": "local",
              "created_at": (at - timedelta(hours=2)).isoformat(), "next_run_at": at.isoformat()}  # fmt: skip
    path.write_text(json.dumps({"jobs": [*jobs, record | fields]}))
    return at


def states(home, job_id):
    return [row["state"] for row in home.rows(job_id)]


def token(home, job_id, at, **claims):
    return home.token(job_id=job_id, fire_at=at.isoformat(), **claims)


def test_a_made_job_is_armed_by_its_record_alone(home, hermes, nas):
    """`register_job` gets the record, or the id of older callers, and that one job is armed at NAS."""
    start(hermes)
    put(home, "made", ago=-3600)
    put(home, "other", ago=-3600)
    hermes.provider.register_job(home.jobs()["made"])
    assert set(nas.armed) == {"made"}
    hermes.provider.register_job("other")
    assert set(nas.armed) == {"made", "other"}


def test_what_could_not_be_armed_is_the_makers_to_know(home, hermes, nas):
    """`register_job` raises, so that whoever makes the job can say that it has no timer."""
    put(home, "made", ago=-3600)
    nas.answer = lambda _: Answer(401, {"error": "unauthorized"})
    with pytest.raises(AuthError, match="did not accept the token"):
        hermes.provider.register_job(home.jobs()["made"])


def test_it_says_that_fires_come_over_the_loopback_server(hermes):
    """Without that word the server is not kept up, and each fire is a 503; and both halves of a fire are ours."""
    assert hermes.api.provider_fires_over_loopback(hermes.provider)
    assert hermes.api.provider_supports_split_fire(hermes.provider)


def test_the_sweep_for_what_nobody_came_for_runs_under_our_claim(home, hermes, nas):
    """Claimed as by a fire, with a row, its next time armed before it runs; a second sweep finds nothing."""
    start(hermes)
    at = put(home, "late")
    assert hermes.api.sweep(hermes.provider, ["late", "nobodys"]) == 1
    assert states(home, "late") == ["ok"]
    assert datetime.fromisoformat(home.rows("late")[0]["scheduled_at"]) == at
    assert datetime.fromisoformat(nas.armed["late"]["fire_at"]) == at + timedelta(hours=2)
    assert hermes.api.sweep(hermes.provider, ["late"]) == 0
    assert home.diary.read_text() == "ran\n"


@pytest.mark.parametrize("asked_in_thread", [False, True])
def test_a_token_that_is_judged_in_another_thread_binds_its_fire(home, hermes, asked_in_thread):
    """To its job and instant, and for one use: another job's token starts nothing, nor does the same one again."""
    start(hermes)
    at, other = put(home, "job"), put(home, "other")

    def post(text, job_id):
        return hermes.door.post(hermes.provider, text, job_id, asked_in_thread=asked_in_thread)

    assert post("no token", "job") == 401
    assert post(token(home, "job", at, aud="agent:somebody"), "job") == 401
    assert post(token(home, "other", other), "job") == 200
    assert states(home, "job") == states(home, "other") == []
    if asked_in_thread:  # that token is still waited for: it is the other job's, and serves its fire
        assert post(token(home, "other", other), "other") == 202
    once = token(home, "job", at)
    assert (post(once, "job"), post(once, "job")) == (202, 200)
    assert post(token(home, "job", at + timedelta(hours=2)), "job") == 503  # its instant lies ahead: it comes again
    assert states(home, "job") == ["ok"]


def test_one_request_serves_one_fire(home, hermes):
    """Whatever is called after it in the same request has no token any more, and takes nothing that is not due."""
    start(hermes)
    at = put(home, "job")
    put(home, "second")
    verify = importlib.import_module("plugins.cron_providers.chronos.verify")
    assert verify.get_fire_verifier()(token=token(home, "job", at))["job_id"] == "job"
    assert hermes.provider.fire_due("job") is True
    assert hermes.provider.fire_due("job") is False
    assert states(home, "job") == ["ok"]


def test_a_one_shot_runs_though_its_claim_has_switched_it_off(home, hermes):
    """Hermes looks once more whether the job may run: to it, what we have claimed is live and claimed by the same owner."""
    start(hermes)
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
    put(home, "once", schedule={"kind": "once", "run_at": at.isoformat()}, repeat={"times": 1, "completed": 0})
    assert hermes.api.sweep(hermes.provider, ["once"]) == 1
    assert states(home, "once") == ["ok"]
    assert home.diary.read_text() == "ran\n"


@pytest.mark.parametrize("how", [{"manual": True}, {"force": True}])
def test_a_run_that_a_person_asks_for_is_none_of_the_schedules(home, hermes, how):
    """Its row is a manual one, and the next occurrence stays where it was; a paused job is not resumed for it."""
    start(hermes)
    at = put(home, "asked", ago=-3600, **(PAUSED if "force" in how else {}))
    assert hermes.provider.fire_due("asked", **how) is True
    (row,) = home.rows("asked")
    assert (row["state"], row["timing"] if "timing" in row else row["kind"]) == ("ok", "manual")
    record = home.jobs()["asked"]
    assert record["next_run_at"] == at.isoformat()
    assert record["enabled"] is ("manual" in how)


def test_a_caller_that_stops_waiting_stops_no_run(home, hermes):
    """Where hermes shuts down, its event ends the wait alone: the run has a process of its own."""
    (home.home / "scripts" / "note.sh").write_text(f"sleep 1\necho ran >> {home.diary}\n")
    start(hermes)
    put(home, "long")
    claimed = hermes.provider.claim_fire("long")
    assert states(home, "long") == ["running"]
    stopping = threading.Event()
    stopping.set()
    assert hermes.provider.fire_claimed(claimed, cancel_event=stopping) is True
    assert states(home, "long") == ["running"]
    home.wait_for_rows("long", state="ok")
    assert hermes.provider.fire_claimed(claimed) is False


def test_no_yes_before_the_next_time_is_armed(home, hermes, nas):
    """While NAS cannot be told, the job runs and the door answers 503, so that NAS comes again."""
    start(hermes)
    at = put(home, "job")
    nas.answer = lambda _: Answer(500, {"error": "down"})
    assert hermes.door.post(hermes.provider, token(home, "job", at), "job") == 503
    home.wait_for_rows("job", state="ok")


def refusing(call):
    return Answer(403, {"error": "invalid_client"})


def test_after_a_refusal_for_good_hermes_ticks_by_itself(home, hermes, nas):
    """Once, with what hermes gave and its ticker knows, until hermes stops; a job that is made says that it is refused."""
    put(home, "job", ago=-3600)
    nas.answer = refusing
    start(hermes, can_dispatch=None, unknown="x")
    until = time.monotonic() + 10
    while not hermes.api.TICKING and time.monotonic() < until:
        time.sleep(0.01)
    assert hermes.api.TICKING == [{"adapters": None, "interval": 60, "can_dispatch": None}]
    hermes.provider.on_jobs_changed()
    with pytest.raises(Exception, match="refuses this agent for good"):
        hermes.provider.register_job("job")
    assert len(hermes.api.TICKING) == 1
    hermes.stop.set()
    while len(hermes.api.TICKING) == 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert hermes.api.TICKING[-1] == "stopped"


def test_a_failure_that_may_pass_starts_no_ticker(home, hermes, nas):
    """NAS may be back in a minute, and its timers with it."""
    put(home, "job", ago=-3600)
    nas.answer = lambda _: Answer(401, {"error": "unauthorized"})
    start(hermes)
    hermes.provider.rearm_aborted_claim({"id": "job"}, later="keyword")
    assert hermes.api.TICKING == []
    nas.answer = nas.by_contract
    hermes.provider.on_jobs_changed()
    assert set(nas.armed) == {"job"}


def test_start_recovers_what_hermes_has_in_hand(home, hermes):
    """Hermes' own audit of interrupted attempts is told of every start."""
    put(home, "job", ago=-3600)
    start(hermes)
    assert importlib.import_module("cron.executions").RECOVERED == [True]


def log_in(home, **state):
    """A login of a month ago, and no other source of a token."""
    ended = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    state = {"access_token": "old", "refresh_token": "again", "expires_at": ended, **state}
    (home.home / "auth.json").write_text(json.dumps({"providers": {"nous": state}}))
    config = home.home / "config.yaml"
    config.write_text(config.read_text().replace("    token_file: token\n", ""))


def bearers(nas):
    return {call.headers["Authorization"] for call in nas.calls}


def test_after_a_months_sleep_hermes_renews_its_login_and_the_fire_arms(home, hermes, nas):
    """Our provider stays available, the token is the renewed one, and it is Hermes that keeps it."""
    log_in(home)
    at = put(home, "job")
    assert hermes.provider.is_available()
    start(hermes)
    assert hermes.door.post(hermes.provider, token(home, "job", at), "job") == 202
    assert bearers(nas) == {"Bearer renewed"}
    assert datetime.fromisoformat(nas.armed["job"]["fire_at"]) == at + timedelta(hours=2)
    assert json.loads((home.home / "auth.json").read_text())["providers"]["nous"]["access_token"] == "renewed"


def test_our_own_callback_beside_hermes_renews_it_as_well(home, hermes, nas):
    """So does every command of ours in that environment, without any setting."""
    log_in(home)
    put(home, "job", ago=1)
    assert home.fire("job").json["result"] == "claimed"
    home.wait_for_rows("job", state="ok")
    assert bearers(nas) == {"Bearer renewed"}


@pytest.mark.parametrize(
    "command", [["-P", "-m", "chronos_cli.hermes.login"], [str(ROOT / "chronos_cli" / "hermes" / "login.py")]]
)
def test_it_is_a_token_command_for_a_hermes_elsewhere(home, hermes, nas, command):
    """Named with the Python that hermes is installed for, as a module or as a file; it prints the token alone."""
    log_in(home)
    config = home.home / "config.yaml"
    argv = json.dumps([sys.executable, *command])
    config.write_text(config.read_text().replace("  chronos:\n", f"  chronos:\n    token_command: {argv}\n"))
    put(home, "job", ago=-3600)
    hermes.provider.register_job("job")
    assert bearers(nas) == {"Bearer renewed"}


def test_a_login_that_nas_calls_over_is_renewed_too(home, hermes, nas):
    """NAS's clock is ahead of ours, or the login does not tell its end: a 401 has Hermes renew it, once."""

    def strict(call):
        return nas.by_contract(call) if call.headers["Authorization"] == "Bearer renewed" else Answer(401, {})

    log_in(home, expires_at=None)
    at = put(home, "job")
    start(hermes)
    nas.answer = strict
    assert hermes.door.post(hermes.provider, token(home, "job", at), "job") == 202
    assert datetime.fromisoformat(nas.armed["job"]["fire_at"]) == at + timedelta(hours=2)
    nas.answer = lambda _: Answer(401, {})
    put(home, "made", ago=-3600)
    with pytest.raises(AuthError, match="did not accept the token"):
        hermes.provider.register_job("made")


@pytest.mark.parametrize("as_command", [False, True])
def test_a_profile_has_its_roots_login_renewed(home, hermes, nas, as_command):
    """Where it has none of its own, as in Hermes: what is renewed is kept where it was found."""
    log_in(home)
    profile = home.home / "profiles" / "work"
    profile.mkdir(parents=True)
    config = (home.home / "config.yaml").read_text()
    if as_command:
        argv = json.dumps([sys.executable, "-P", "-m", "chronos_cli.hermes.login"])
        config = config.replace("  chronos:\n", f"  chronos:\n    token_command: {argv}\n")
    (profile / "config.yaml").write_text(config)
    add_job(profile, "theirs", "every 1h", "true", ago=1)
    assert home.fire("theirs").json["result"] == "claimed"
    until = time.monotonic() + 20
    while "theirs" not in nas.armed and time.monotonic() < until:
        time.sleep(0.02)
    assert bearers(nas) == {"Bearer renewed"}
    assert json.loads((home.home / "auth.json").read_text())["providers"]["nous"]["access_token"] == "renewed"
    assert not (profile / "auth.json").exists()


def test_a_login_that_hermes_cannot_renew_says_why(home, hermes, nas):
    """In one line: a person has to log in again."""
    log_in(home, refresh_token=None)
    put(home, "job", ago=-3600)
    with pytest.raises(
        AuthError, match=r"ended with status 1 \(AuthError: Session expired and no refresh token is available"
    ):
        hermes.provider.register_job("job")


def test_without_hermes_an_expired_login_stays_an_error(home, nas):
    """Nothing of hermes' login is done here: where it is not installed, the login is over until it is renewed there."""
    log_in(home)
    put(home, "job", ago=-3600)
    with pytest.raises(AuthError, match=r"the login in .* expired at ") as caught:
        inside.own_provider(home.home).register_job("job")
    assert "let hermes renew it" in caught.value.line()


@tries("hermes/judging.py", "the fire of its own token, or the next sweep, runs what is due")
def test_a_fire_whose_token_is_not_its_own_is_refused(home, hermes):
    """A second call of one request, and one that may belong to the token of another job."""
    at = put(home, "job")
    put(home, "second", ago=-3600)
    judge = TokenJudge(inside._config, inside._log)
    assert judge.admitted("job") is None  # nothing was judged: hermes itself asks
    elsewhere = contextvars.copy_context()
    judge.verifier()(token=token(home, "job", at))
    request = contextvars.copy_context()
    with pytest.raises(OtherTokenError, match="a token is judged for another job than second"):
        elsewhere.run(judge.admitted, "second")
    assert request.run(judge.admitted, "job").fire_at == at
    with pytest.raises(OtherTokenError, match="the token of this request has served a fire, or was refused"):
        judge.admitted("job")
    assert elsewhere.run(judge.admitted, "second") is None
    own = contextvars.copy_context()
    own.run(lambda: judge.verifier()(token=token(home, "second", at)))
    assert own.run(judge.admitted, "second").fire_at == at


@pytest.mark.parametrize("here", ["paused", "unknown"])
def test_a_fire_for_a_job_of_another_profile_is_put_off(home, hermes, caplog, here):
    """It is another gateway's: Hermes' door answers 503, and never that it is done with."""
    start(hermes)
    put(home, "job" if here == "paused" else "other", state="paused", enabled=False)
    work = home.home / "profiles" / "work"
    work.mkdir(parents=True)
    (work / "config.yaml").write_text("{}")
    at = add_job(work, "job", "every 1h", "true", ago=1)
    assert hermes.door.post(hermes.provider, token(home, "job", at), "job") == 503
    assert "job job is one of the profile work, which is not served here" in caplog.text
    assert not (work / "cron" / "runs").exists()


def test_a_fire_that_nobody_could_judge_is_put_off(home, hermes, monkeypatch):
    """Its token held, and could then not be remembered: it comes again, and is not answered as if it were refused."""
    start(hermes)
    at = put(home, "job")

    def full(*_, **__):
        raise JtiMemoryError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("chronos_cli.trust.jti.bind_jti", full)
        assert hermes.door.post(hermes.provider, token(home, "job", at), "job") == 503
    assert hermes.door.post(hermes.provider, token(home, "job", at), "job") == 202


def test_what_nas_asks_a_callback_is_no_fire_that_is_refused(home, hermes, caplog):
    """Hermes has no answer for it; the log says what it was. A token for anything else is refused by its name."""
    start(hermes)
    judge = importlib.import_module("plugins.cron_providers.chronos.verify").get_fire_verifier()
    assert judge(token=home.token(purpose="callback_proof", nonce="n" * 20)) is None
    assert "NAS asks whose callback this is, which hermes has no answer for; no fire was refused" in caplog.text
    assert "fire refused" not in caplog.text
    assert judge(token=home.token(purpose="something else")) is None
    assert "fire refused: purpose" in caplog.text


@pytest.mark.parametrize("field", ["interpreter", "monitor_url", "monitor_tool"])
def test_a_field_that_its_version_does_not_know_is_refused(home, hermes, monkeypatch, field):
    """A job is not run without what it asks for; what the version knows is its to honour."""
    jobs = importlib.import_module("cron.jobs")
    if field != "monitor_tool":
        run.must_be_known({"id": "job", field: "x"})
        monkeypatch.setattr(jobs, "create_job", lambda prompt, schedule: None)
    line = f"the job has the field {field}, which this version of hermes does not know and would run without"
    with pytest.raises(ActionError, match=line):
        run.must_be_known({"id": "job", field: "x"})
    run.must_be_known({"id": "job", field: None})
    monkeypatch.setattr(jobs, "create_job", lambda prompt, schedule, **more: None)
    run.must_be_known({"id": "job", field: "x"})


@tries("hermes/run.py", "run it in the version that made it, or take that field out")
def test_such_a_job_fails_with_the_reason(home, hermes):
    """It is claimed and armed as any other, and its row says why it was not run; without the field it is."""
    start(hermes)
    at = put(home, "job", ago=5, monitor_tool={"name": "x"})
    assert hermes.provider.fire_due("job") is True
    (row,) = home.rows("job")
    assert row["state"] == "failed"
    assert "the job has the field monitor_tool" in row["reason"]
    assert "run it in the version that made it, or take that field out" in row["reason"]
    assert not home.diary.exists()
    record = home.jobs()["job"]
    del record["monitor_tool"]
    path = home.home / "cron" / "jobs.json"
    path.write_text(json.dumps({"jobs": [{**record, "next_run_at": (at + timedelta(seconds=2)).isoformat()}]}))
    assert hermes.provider.fire_due("job") is True
    assert states(home, "job")[-1] == "ok"
