"""A machine on standby: nothing is armed or fired from it, each door says so, and the store can still be worked on."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.config import load_config
from chronos_cli.errors import StandbyError
from chronos_cli.frozen import replace
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.evaluate import evaluate
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.run import RunTicket, begin
from chronos_cli.operations.firing.run_end import wait_and_follow_up
from chronos_cli.operations.firing.tick import tick
from chronos_cli.providers.chronos import ChronosScheduler
from chronos_cli.providers.interface import Activation
from tests.cli.conftest import chronos, clean_environment, home, tree  # noqa: F401 - fixtures of the command line
from tests.fire_tokens import SigningKey
from tests.nas_client.played_nas import played_nas

ON = {"CHRONOS_STANDBY": "1"}
WHERE = "this machine is on standby (CHRONOS_STANDBY)"
TO_DO = "do it on the active machine, or make this one active: take away cron.standby, CHRONOS_STANDBY"
KEY = SigningKey.es256()

REFUSED = [
    (("arm", "due"), "arm is refused"),
    (("arm", "--all"), "arm is refused"),
    (("reconcile",), "reconcile is refused"),
    (("reconcile", "--prune"), "reconcile is refused"),
    (("cancel", "due"), "cancel is refused"),
    (("cancel", "--all", "--yes"), "cancel is refused"),
    (("fire", "--job-id", "due"), "fire is refused"),
    (("fire", "--job-id", "due", "--detach"), "fire is refused"),
    (("tick",), "tick is refused"),
    (("tick", "--detach"), "tick is refused"),
    (("run", "due"), "run is refused"),
    (("run", "due", "--detach"), "run is refused"),
]


nas = played_nas()


@pytest.fixture
def shared(home, nas, chronos):  # noqa: F811
    """A home that is armed at a NAS, whose job came due a second ago."""
    (home / "config.yaml").write_text(
        "timezone: UTC\ncron:\n  provider: chronos\n  chronos:\n"
        f"    portal_url: {nas.url}\n    callback_url: http://127.0.0.1:9\n    expected_audience: agent:1\n"
        f"    nas_jwks_url: {nas.url}/jwks.json\n    token_file: token\n"
    )
    (home / "token").write_text("nas-token-of-tests")
    (home / "token").chmod(0o600)
    assert chronos("job", "add", "every 1h", "--id", "due", "--shell", "true", home=home).code == 0
    path = home / "cron/jobs.json"
    document = json.loads(path.read_text())
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
    document["jobs"][0]["next_run_at"] = document["jobs"][0]["chronos"]["anchor"] = at.isoformat()
    path.write_text(json.dumps(document))
    nas.calls.clear()
    return home


def opened(folder, **environ):
    """The home as an operation gets it."""
    config = load_config(environ=environ, home=str(folder))
    return config, open_home(config, ProcessEnvironment(environ={"PATH": "/usr/bin:/bin"}, secrets={}))


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_would_arm_or_fire_is_refused(chronos, shared, nas, words, said):  # noqa: F811
    """One line (what, why, what to do), exit 75, retryable in JSON; not a byte is written, NAS is not called, not even for keys."""
    before = tree(shared)
    env = {**ON, "CHRONOS_FIRE_TOKEN": KEY.token(iss=nas.url)}
    done = chronos(*words, home=shared, env=env)
    assert done.code == 75
    assert done.err == f"chronos: error: {said}: {WHERE}: {TO_DO}\n"
    error = chronos(*words, "--json", home=shared, env=env).json["error"]
    assert (error["code"], error["retryable"], error["hint"]) == ("standby", True, TO_DO)
    assert tree(shared) == before
    assert nas.calls == []


def test_dry_runs_only_look(chronos, shared, nas):  # noqa: F811
    """What a reconcile, an arm or a cancel would do can be asked on standby too, and changes nothing anywhere."""
    before = tree(shared)
    for words in (("reconcile",), ("arm", "--all"), ("cancel", "--all")):
        assert chronos(*words, "--dry-run", home=shared, env=ON).code == 0
    assert tree(shared) == before
    assert {(call.method, call.path.rpartition("/")[2]) for call in nas.calls} == {("GET", "list")}


def test_jobs_can_be_changed_and_nothing_is_armed(chronos, shared, nas):  # noqa: F811
    """Each change of a job is stored, says once that nothing is armed, exits with 0, and never calls NAS."""
    words = ("--shell", "true")
    for change in (
        ("add", "@daily", "--id", "new", *words), ("edit", "new", "--name", "other"), ("pause", "new"),
        ("resume", "new"), ("unlock", "new", "--yes"), ("remove", "new", "--yes"),
    ):  # fmt: skip
        done = chronos("job", *change, "--json", home=shared, env=ON)
        assert done.code == 0, done
        assert done.err == f"chronos: warning: nothing is armed or fires here: {WHERE}\n", change
        assert done.json["arm"] == {"armed": False, "state": "standby"}, change
    exported = shared.parent / "jobs.json"
    exported.write_text(chronos("job", "export", home=shared).out.replace('"due"', '"copied"'))
    imported = chronos("job", "import", exported, home=shared, env=ON)
    assert (imported.code, imported.err.count(WHERE)) == (0, 1)
    assert {job["id"] for job in json.loads((shared / "cron/jobs.json").read_text())["jobs"]} == {"due", "copied"}
    assert nas.calls == []


def test_a_job_removed_on_standby_is_cancelled_by_the_active_machine(chronos, shared, nas):  # noqa: F811
    """Its arm document stays, so that the next reconcile elsewhere still knows the timer for this store's own."""
    assert chronos("job", "add", "@daily", "--id", "other", "--shell", "true", home=shared).code == 0
    assert chronos("arm", "due", home=shared).code == 0
    assert chronos("job", "remove", "due", "--yes", home=shared, env=ON).code == 0
    assert set(nas.armed) == {"due", "other"}
    assert chronos("reconcile", home=shared).code == 0
    assert set(nas.armed) == {"other"}


def test_a_hold_is_set_and_lifted_without_arming(chronos, shared, nas):  # noqa: F811
    """The stop is one file of the shared store; lifting it from a standby arms nothing, and says so."""
    assert chronos("hold", "--reason", "a move", home=shared, env=ON).code == 0
    assert "a move" in (shared / "ESTOP").read_text()
    lifted = chronos("hold", "--off", home=shared, env=ON)
    assert (lifted.code, lifted.out) == (0, "the hold is lifted\n")
    assert WHERE in lifted.err
    assert not (shared / "ESTOP").exists()
    assert nas.calls == []


def test_status_list_and_doctor_say_it(chronos, shared):  # noqa: F811
    """Each says first that here nothing fires, and where that is set; doctor also how to end it. Without standby none does."""
    line = "ON STANDBY: nothing is armed or fires here (CHRONOS_STANDBY); that is left to the active machine"
    for words in (("status",), ("list",)):
        assert chronos(*words, "--offline", home=shared, env=ON).out.splitlines()[0] == line
        assert chronos(*words, "--offline", "--json", home=shared, env=ON).json["standby"] == "CHRONOS_STANDBY"
        assert chronos(*words, "--offline", "--json", home=shared).json["standby"] is None
        assert "STANDBY" not in chronos(*words, "--offline", home=shared).out
    status = chronos("status", "--offline", "--json", home=shared, env=ON).json
    assert (status["provider"]["active"], status["provider"]["configured"]) == ("standby", "chronos")
    checks = chronos("doctor", "--json", home=shared, env=ON).json["checks"]
    found = next(check for check in checks if check["name"] == "provider")
    assert (found["level"], found["code"]) == ("WARN", "standby")
    assert found["mend"] == "where it shall be active: unset CHRONOS_STANDBY, then chronos reconcile"


def test_the_doctor_probes_nothing_on_standby(chronos, shared, nas):  # noqa: F811
    """A probe arms, so it is refused like everything that does."""
    checks = chronos("doctor", "--probe", "--json", home=shared, env=ON).json["checks"]
    assert [check["text"] for check in checks if check["name"] == "probe_armed"] == [f"a probe is refused: {WHERE}"]
    assert all(call.method == "GET" for call in nas.calls)


def test_without_a_tick_the_trigger_is_to_be_installed_on_the_active_machine(chronos, home):  # noqa: F811
    """Where no trigger works at all, the advice names the machine whose work it is."""
    assert chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home).code == 0
    shown = chronos("status", home=home, env=ON).out
    assert (
        "NO WORKING TRIGGER: no tick has run yet; `chronos tick --install crontab --yes` on the active machine" in shown
    )


def test_the_tick_of_a_standby_can_be_shown(chronos, shared):  # noqa: F811
    """The line for a crontab is printed as always, with the setting that it then runs under."""
    done = chronos("tick", "--install", "crontab", home=shared, env=ON)
    assert done.code == 0
    assert "CHRONOS_STANDBY=1" in done.out


def test_the_file_can_say_it_and_the_variable_goes_before(chronos, shared):  # noqa: F811
    """`cron.standby` like every setting: the file's is named with its place, a variable overrules it, nonsense is exit 2."""
    path = shared / "config.yaml"
    path.write_text(path.read_text().replace("cron:\n", "cron:\n  standby: true\n"))
    said = chronos("tick", home=shared).err
    assert said.startswith(f"chronos: error: tick is refused: this machine is on standby ({path}: cron.standby): ")
    mend = [c["mend"] for c in chronos("doctor", "--json", home=shared).json["checks"] if c["code"] == "standby"]
    assert mend == [f"where it shall be active: take standby out of the section cron of {path}, then chronos reconcile"]
    assert chronos("tick", home=shared, env={"CHRONOS_STANDBY": "off"}).code == 0
    wrong = chronos("tick", home=shared, env={"CHRONOS_STANDBY": "maybe"})
    assert (wrong.code, wrong.err.count("must be true or false, not 'maybe'")) == (2, 1)


def test_no_way_past_the_doors(shared, nas):
    """A provider that is called directly, as inside hermes, is refused as well: below every door stands the same check."""
    config, ctx = opened(shared, CHRONOS_STANDBY="1")
    provider = ChronosScheduler(Activation(config=config, context=ctx))
    assert provider.is_available(), "else hermes would take its own trigger"
    for refused in (provider.start, provider.on_jobs_changed, provider.reconcile):
        with pytest.raises(StandbyError, match="reconcile is refused"):
            refused()
    with pytest.raises(StandbyError, match="arming job due is refused"):
        provider.register_job("due")
    with pytest.raises(StandbyError, match="looking at job due is refused"):
        provider.fire_due("due")
    with pytest.raises(StandbyError, match="a tick is refused"):
        tick(ctx, InlineLauncher())
    assert nas.calls == []
    assert not (shared / "cron/runs/due").exists()


def test_a_run_that_was_going_is_recorded_and_what_follows_is_left(shared, nas, capsys):
    """Put on standby during a run, a machine records its end, but arms nothing: one line says so, and reconcile elsewhere does it."""
    from chronos_cli.core.decision import FireRequest, Trigger

    _, active = opened(shared)
    looked = evaluate(active, "due", FireRequest(via=Trigger.RELAY, token="f" * 16))
    begun = begin(active, RunTicket.of(looked.job, looked.decision.starts[0], "f" * 16))
    row = wait_and_follow_up(replace(active, standby="CHRONOS_STANDBY"), begun)
    assert row.state.value == "ok"
    assert nas.calls == []
    said = capsys.readouterr().err
    assert said.startswith("chronos: job due ended, but its wake was not armed: arming is refused: ")
    record = json.loads((shared / "cron/jobs.json").read_text())["jobs"][0]
    assert not record["chronos"].get("open")
