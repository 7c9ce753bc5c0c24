"""The on-failure command: real commands told of real ends, once each, and unable to change what is on record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest

from chronos_cli.cli.error_boundary import run_command
from chronos_cli.cli.invocation import Invocation
from chronos_cli.cli.output import Output
from chronos_cli.config import load_config
from chronos_cli.core.decision import FireRequest, Trigger
from chronos_cli.errors import TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.hermes.run import HermesProcesses
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.evaluate import evaluate
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.tick import tick
from chronos_cli.providers.builtin import BuiltinScheduler
from chronos_cli.providers.chronos import ChronosScheduler
from chronos_cli.providers.interface import Activation
from chronos_cli.running.alert_command import run_hook
from chronos_cli.running.interface import Processes
from tests import forked
from tests.callback.shim_home import ShimHome
from tests.cli.conftest import ROOT, connect, spawn, tree
from tests.fire_tokens import SigningKey
from tests.nas_process import running_nas

SCHEMA = json.loads((ROOT / "docs" / "schemas" / "events" / "chronos.failure.1.json").read_text())


@pytest.fixture
def told(home):
    """Adds a job with an on-failure command that keeps every event, and reads them, each held to the schema."""

    def add(shell, *words, hook=None):
        keep = f"cat >> {home}/events; env >> {home}/hook-env"
        hook = json.dumps(["/bin/sh", "-c", hook or keep])
        done = spawn("job", "add", "every 1h", "--id", "a", "--shell", shell, "--on-failure", hook, *words, home=home)
        assert done.code == 0, done.err

    def events():
        path = home / "events"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for event in found:
            jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(event)
        return found

    add.events = events
    return add


def due(home, ago=1.0):
    """Move the job's cursor to so many seconds ago."""
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=ago)
    document["jobs"][0]["next_run_at"] = at.isoformat()
    document["jobs"][0]["chronos"]["anchor"] = at.isoformat()
    path.write_text(json.dumps(document))
    return at


def row(home):
    """The newest row."""
    return json.loads(max((home / "cron" / "runs" / "a").glob("*.json")).read_text())


def test_a_failed_run_is_told_once_with_its_reason(home, told):
    """The event says what the row and the list say, and another tick tells nothing again."""
    told("echo broken; exit 3")
    at = due(home)
    assert spawn("tick", home=home).code == 10
    (event,) = told.events()
    assert (event["state"], event["exit_status"], event["repeats"]) == ("failed", 3, 0)
    assert event["reason"] == row(home)["reason"] == "exited with status 3: broken"
    assert datetime.fromisoformat(event["scheduled_at"]) == at
    assert event["failures_in_a_row"] == 1
    assert spawn(*event["logs"].split()[1:], home=home).out == "broken\n"
    assert row(home)["alert"]["told"] is True
    assert spawn("tick", home=home).code == 0
    assert len(told.events()) == 1


def test_a_run_that_goes_well_tells_nothing(home, told):
    """Nothing is told, and nothing that telling needs is even loaded."""
    told("true")
    due(home)
    program = (
        "import sys\nfrom chronos_cli.cli import main\ncode = main(['tick'])\n"
        "print(sorted({'chronos_cli.operations.alerts', 'chronos_cli.running.alert_command'} & set(sys.modules)), code)"
    )
    assert spawn(home=home, python=("-c", program)).out.splitlines()[-1] == "[] 0"
    assert told.events() == []


def test_only_the_last_attempt_of_a_retried_run_is_told(home, told):
    """While a retry is still to come nothing has failed for good."""
    told("exit 1", "--retries", "1")
    due(home)
    spawn("tick", home=home)
    assert row(home)["state"] == "accepted"
    assert told.events() == []


@pytest.mark.parametrize(("words", "state"), [(("--timeout", "1s"), "timeout"), ((), "interrupted")])
def test_a_run_that_is_stopped_is_told(home, told, words, state):
    """A run past its time, and one whose runner is told to stop, are ends like any other."""
    told("exec sleep 30", *words)
    if words:
        assert spawn("run", "a", home=home).code == 10
    else:
        words = ("--home", str(home), "run", "a")
        with forked.start(words, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            while not list(home.glob("cron/output/a/*.log")):
                time.sleep(0.02)
            running.send_signal(signal.SIGTERM)
            assert running.wait(10) == 130
    (event,) = told.events()
    assert (event["state"], event["kind"], event["scheduled_at"]) == (state, "manual", None)


def test_a_lost_run_is_told_by_whoever_finds_it(home, told):
    """A runner killed in the middle says nothing; the next tick enters the run as lost and tells."""
    told("true")
    due(home)
    spawn("tick", home=home, env={"CHRONOS_TEST_KILL_AT": "started"})
    assert row(home)["state"] == "running"
    assert told.events() == []
    spawn("tick", home=home)
    (event,) = told.events()
    assert (event["state"], event["reason"]) == ("lost", "its process died without a word")


def test_what_was_missed_is_told_as_one_range(home, told):
    """Three hours of an hourly job are one event that counts them; the run that catches up is none."""
    told("true", "--grace", "10m")
    due(home, ago=3 * 3600 - 60)
    assert spawn("tick", home=home).code == 0
    (event,) = told.events()
    assert (event["state"], event["count"], event["attempts"]) == ("missed", 3, 0)
    assert event["reason"] == "nobody came for it in time"


def test_reconcile_tells_what_it_enters_itself(home, told, tmp_path, chronos):
    """A reconcile runs no job, but what it enters as missed nobody else would tell of; a dry run tells nothing."""
    told("true", "--grace", "10m")
    with running_nas(tmp_path / "nas") as nas:
        connect(home, nas, nas.add_agent("a"), "http://127.0.0.1:9")
        due(home, ago=3 * 3600 - 60)
        before = tree(home)
        assert chronos("reconcile", "--dry-run", home=home).code == 0
        assert tree(home) == before
        assert chronos("reconcile", home=home).code == 0
        assert [event["state"] for event in told.events()] == ["missed"]
        assert chronos("reconcile", home=home).code == 0
    assert len(told.events()) == 1


def test_repeats_are_collapsed_into_a_count(home, told):
    """While it goes on failing the command runs once an hour, with the number of those in between; a good run ends that."""
    told(f"test -e {home}/well", "--overlap", "allow")
    start = due(home)
    ctx = open_home(
        load_config(environ={}, home=str(home)), ProcessEnvironment(environ={"PATH": "/usr/bin:/bin"}, secrets={})
    )
    path = home / "cron" / "jobs.json"
    path.write_text(path.read_text().replace('"minutes": 60', '"minutes": 20').replace("every 60m", "every 20m"))

    def tick_at(number):
        (home / "well").unlink(missing_ok=True) if number != 5 else (home / "well").touch()
        tick(replace(ctx, clock=lambda: start + timedelta(minutes=20 * number, seconds=1)), InlineLauncher())

    for number in range(5):
        tick_at(number)
    assert [event["repeats"] for event in told.events()] == [0, 2]
    tick_at(5)
    tick_at(6)
    assert [event["repeats"] for event in told.events()] == [0, 2, 1]
    assert [event["failures_in_a_row"] for event in told.events()] == [1, 4, 1]


def test_no_secret_reaches_it(home, told):
    """A token in the environment of the command that runs the job is in neither the variables nor the event."""
    told("exit 1")
    env = {"CHRONOS_NAS_TOKEN": "canary-41", "CHRONOS_FIRE_TOKEN": "canary-42"}
    spawn("run", "a", home=home, env=env)
    (event,) = told.events()
    seen = (home / "hook-env").read_text()
    assert "canary" not in seen + json.dumps(event)
    assert f"CHRONOS_RUN_ID={event['run_id']}" in seen
    assert "CHRONOS_RUN_STATE=failed" in seen


def test_one_that_fails_changes_nothing_but_its_own_note(home, told):
    """The job's state and the exit code are those of the run; the hook's own failure is a line, and on the row."""
    told("exit 3", hook="echo no mail here >&2; exit 7")
    done = spawn("run", "a", home=home)
    assert done.code == 10
    said = "the on-failure command /bin/sh exited with status 7: no mail here"
    assert f"chronos: job a: {said}\n" in done.err
    assert (row(home)["state"], row(home)["exit_status"]) == ("failed", 3)
    assert row(home)["alert"]["error"] == "exited with status 7: no mail here"
    missing = spawn("job", "edit", "a", "--on-failure", "/nowhere/mailer", home=home)
    assert "on_failure: /bin/sh" in missing.out
    assert "/nowhere/mailer cannot be started: No such file" in spawn("run", "a", home=home).err


def test_the_home_names_one_for_all_and_a_job_may_have_none(home):
    """`policy.on_failure` holds for every job; `--on-failure none` takes one out, and is kept."""
    (home / "config.yaml").write_text(f"policy:\n  on_failure: [touch, {home}/told]\n")
    for job_id, words in (("quiet", ("--on-failure", "none")), ("loud", ())):
        spawn("job", "add", "every 1h", "--id", job_id, "--shell", "exit 1", *words, home=home)
    spawn("run", "quiet", home=home)
    assert not (home / "told").exists()
    spawn("run", "loud", home=home)
    assert (home / "told").exists()
    for text in ("sh -c 'unclosed", "[1]"):
        refused = spawn("job", "edit", "loud", "--on-failure", text, home=home)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "--on-failure must be a list of texts" in refused.err


def test_it_is_bounded_in_time_and_takes_its_children_along(tmp_path):
    """After its time the command and what it started are killed, and that is said; its output cannot block it."""
    script = f"yes >&2 & echo $! > {tmp_path}/pid; sleep 30"
    started = time.monotonic()
    said = run_hook(["/bin/sh", "-c", script], b"{}", environment={"PATH": "/usr/bin:/bin"}, cwd="/", timeout_s=0.3)
    assert said == "was still running after 0.3 s and was killed"
    assert time.monotonic() - started < 5
    pid = int((tmp_path / "pid").read_text())
    until = time.monotonic() + 5
    while time.monotonic() < until:
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        if not state.strip() or state.startswith("Z"):
            break
        time.sleep(0.02)
    assert not state.strip() or state.startswith("Z")


def test_a_child_left_behind_does_not_hold_it_up(tmp_path):
    """A command that ends is over, also where something it started still has its descriptors."""
    started = time.monotonic()
    assert run_hook(["/bin/sh", "-c", "sleep 2 & exit 0"], b"{}", environment={}, cwd="/nowhere", timeout_s=20) is None
    assert time.monotonic() - started < 1.5
    assert (
        run_hook(["/bin/sh", "-c", "kill -9 $$"], b"", environment={}, cwd="/", timeout_s=20)
        == "was killed by signal 9"
    )


@pytest.mark.parametrize("platform", ["", "K_SERVICE"])
def test_a_fire_through_the_callback_tells_what_it_missed(tmp_path, monkeypatch, platform):
    """After the answer, or before it where the platform freezes what comes after: told once either way."""
    if platform:
        monkeypatch.setenv(platform, "agent")
    extra = f"policy:\n  grace: 1m\n  on_failure: [/bin/sh, -c, 'cat >> {tmp_path}/events']\n"
    shim = ShimHome(tmp_path, SigningKey.rs256(), "http://127.0.0.1:9", monkeypatch, extra=extra)
    shim.add("a", "every 1h", "true", ago=1800)
    assert shim.fire("a").status in (200, 503)
    assert (tmp_path / "events").exists() or not platform
    until = time.monotonic() + 10
    while not ((tmp_path / "events").exists() and (tmp_path / "events").stat().st_size) and time.monotonic() < until:
        time.sleep(0.02)
    (event,) = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert (event["job_id"], event["state"], event["count"]) == ("a", "missed", 1)


@pytest.mark.parametrize("provider", ["builtin", "chronos"])
def test_a_provider_that_is_asked_to_fire_tells_too(home, told, provider):
    """Whoever asks a provider for what is due, a plug-in's host for one, has failures told like everybody else."""
    told("exit 5", "--grace", "10m")
    due(home, ago=3 * 3600 - 60)
    config = load_config(environ={}, home=str(home))
    ctx = open_home(config, ProcessEnvironment(environ={"PATH": "/usr/bin:/bin"}, secrets={}))
    made = {"builtin": BuiltinScheduler, "chronos": ChronosScheduler}[provider](Activation(config=config, context=ctx))
    made.fire_due("a")
    assert sorted(event["state"] for event in told.events()) == ["missed"]


def test_the_simulated_machine_and_others_without_commands_say_so():
    """Processes of another kind have no command to run, which is said like any failure of it."""
    made = type("Other", (Processes,), dict.fromkeys(("lock", "liveness", "end_leftovers")))()
    assert made.alert(("x",), b"", facts={}, timeout_s=1) == "cannot be run here"


def test_inside_hermes_the_command_is_run_by_this_machine(home, told):
    """Where hermes runs the job, the command is still run here."""
    ctx = open_home(
        load_config(environ={}, home=str(home)), ProcessEnvironment(environ={"PATH": "/usr/bin:/bin"}, secrets={})
    )
    inside = HermesProcesses(ctx.processes, ctx.processes.locks)
    assert inside.alert(("/bin/sh", "-c", f"cat > {home}/seen"), b"{}", facts={}, timeout_s=5) is None
    assert (home / "seen").read_text() == "{}"


def test_an_edit_tells_what_it_enters_as_missed(home, told):
    """A person's change settles what was missed before it, and that is told as any other end is."""
    told("true", "--grace", "10m")
    due(home, ago=3 * 3600 - 60)
    assert spawn("job", "edit", "a", "--schedule", "every 2h", home=home).code == 0
    assert [event["state"] for event in told.events()] == ["missed"]
    assert spawn("tick", home=home).code == 0
    assert len(told.events()) == 1


def test_a_command_that_fails_tells_what_it_had_found(home, told):
    """Whatever a command ends with: the run it took out of hand is told, since nobody else will come upon it."""
    told("true", "--grace", "10m")
    due(home, ago=3 * 3600 - 60)
    invocation = Invocation({"PATH": "/usr/bin:/bin"}, {}, Output({}))
    invocation.home = str(home)

    def body():
        context = invocation.context()
        evaluate(context, "a", FireRequest(via=Trigger.RECONCILE, token="t"))
        assert told.events() == []
        raise TemporaryError("the disk went away")

    assert run_command(invocation, [], body) == TemporaryError.exit_code
    assert [event["state"] for event in told.events()] == ["missed"]
