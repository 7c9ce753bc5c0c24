"""Detached and synchronous answers, which of them `auto` picks, and what a runner brings along."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.callback.modes import FREEZING, Mode, choose
from chronos_cli.callback.wsgi import CallbackApplication
from chronos_cli.operations.firing import after_answer
from chronos_cli.running.descriptors import pipe
from chronos_cli.running.runner_channel import Reporter
from tests.callback.shim_home import ROOT
from tests.conftest import thoroughly


def mode(home, monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    home.application = CallbackApplication()
    return home


@pytest.mark.parametrize(("variable", "platform"), FREEZING)
def test_auto_answers_after_the_end_where_the_platform_freezes(variable, platform):
    """Each platform is known by a variable that it sets, and named in the reason."""
    chosen = choose("auto", {variable: "x"})
    assert (chosen.mode, chosen.freezes) == (Mode.SYNC, True)
    assert platform in chosen.because


def test_auto_answers_at_the_start_elsewhere_and_the_setting_decides_before_it():
    """On an ordinary host the run goes on by itself; what is configured is done, and said to be."""
    assert choose("auto", {"AWS_LAMBDA_RUNTIME_API": ""}).mode is Mode.DETACHED
    assert choose("sync", {}).freezes is False
    forced = choose("detached", {"K_SERVICE": "x"})
    assert (forced.mode, forced.freezes) == (Mode.DETACHED, True)


def test_health_names_the_platform(home, monkeypatch):
    """What was picked can be seen from outside."""
    mode(home, monkeypatch, K_SERVICE="agent")
    told = home.request(REQUEST_METHOD="GET", path="/healthz").json
    assert told["mode"] == "sync"
    assert "Cloud Run" in told["because"]


def test_synchronous_answers_when_the_run_is_over(home, nas, monkeypatch):
    """200 after the end, of a good run and of a bad one, with the next wake armed."""
    mode(home, monkeypatch, CHRONOS_CALLBACK_MODE="sync")
    home.add("good", "every 1h", "sleep 0.2", ago=1)
    home.add("bad", "every 1h", "exit 3", ago=1)
    for name, state in (("good", "ok"), ("bad", "failed")):
        reply = home.fire(name)
        assert (reply.status, reply.json["result"]) == (200, "claimed")
        assert [row["state"] for row in home.rows(name)] == [state]
        assert home.jobs()[name]["chronos"]["open"] == []
        assert name in nas.armed


def test_over_the_budget_the_answer_leaves_and_the_run_goes_on(home, monkeypatch):
    """Where nothing freezes, the budget is a limit for the answer alone; the redelivery is a duplicate."""
    mode(home, monkeypatch, CHRONOS_CALLBACK_MODE="sync", CHRONOS_CALLBACK_BUDGET="1")
    cursor = home.add("long", "every 1h", "sleep 1.6", ago=1)
    started = time.monotonic()
    reply = home.fire("long", cursor.isoformat())
    assert (reply.status, reply.json["result"]) == (202, "claimed")
    assert time.monotonic() - started < 1.6
    assert home.fire("long", cursor.isoformat()).json["result"] == "duplicate"
    assert len(home.wait_for_rows("long", state="ok")) == 1


def test_where_the_platform_freezes_the_budget_is_the_jobs_timeout(home, monkeypatch):
    """A run that cannot end in time is ended in time, so that its end is on record before the freeze."""
    mode(home, monkeypatch, K_SERVICE="agent", CHRONOS_CALLBACK_BUDGET="6")
    home.add("long", "every 1h", "sleep 30", ago=1)
    started = time.monotonic()
    reply = home.fire("long")
    assert time.monotonic() - started < 6
    assert reply.status == 200
    assert [row["state"] for row in home.rows("long")] == ["timeout"]


def test_a_nas_that_clears_its_slot_on_a_2xx_is_armed_once_more_after_the_answer(home, nas):
    """Only what is provisioned after the answer has left survives such a NAS; the runner waits for that moment."""
    nas.features = []
    cursor = home.add("beat", "every 1h", "true", ago=1)
    body = json.dumps({"job_id": "beat", "fire_at": cursor.isoformat()}).encode()
    kept = []
    real = home.application

    def held(environ, start_response):
        answer = real(environ, start_response)
        kept.append(answer)
        return [next(iter(answer))]  # the server has it, and has not written it yet

    home.application = held
    assert home.request(body, token=home.token(), checked=False).status == 202
    home.wait_for_rows("beat", state="ok")
    time.sleep(0.5)
    provisioned = len(nas.calls)
    nas.armed.clear()  # the 2xx has arrived, and this NAS takes the slot for spent
    kept[0].close()
    until = time.monotonic() + 10
    while "beat" not in nas.armed:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert len(nas.calls) > provisioned


def forgetful(nas, home):
    """A NAS that drops whatever it holds for a job when its 2xx arrives."""
    nas.features = []
    real = home.application

    def clearing(environ, start_response):
        body = real(environ, start_response)
        data = b"".join(body)
        body.close()
        nas.armed.clear()
        return [data]

    home.application = clearing


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """What looks at NAS one and five seconds after an answer looks sooner here."""
    monkeypatch.setattr(after_answer, "LOOKS_S", (0.2, 1.0))


def wait_until_armed(nas, name):
    until = time.monotonic() + 10
    while name not in nas.armed:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_such_a_nas_is_armed_again_long_before_a_long_run_ends(home, nas):
    """Were the machine to die in the middle of the run, the next occurrence still has its wake."""
    forgetful(nas, home)
    home.add("long", "every 1h", "sleep 4", ago=1)
    assert home.request(b'{"job_id": "long"}', token=home.token(), checked=False).status == 202
    wait_until_armed(nas, "long")
    assert [row["state"] for row in home.rows("long")] == ["running"]
    home.wait_for_rows("long", state="ok")


def test_such_a_nas_is_armed_again_after_a_duplicate(home, nas):
    """No run goes whose end would arm: the callback itself does it, once the 2xx has arrived."""
    nas.features = []
    cursor = home.add("beat", "every 1h", "true", ago=1)
    home.fire("beat", cursor.isoformat())
    home.wait_for_rows("beat", state="ok")
    time.sleep(0.5)  # what that answer owed is done: its wake was seen
    forgetful(nas, home)
    body = json.dumps({"job_id": "beat", "fire_at": cursor.isoformat()}).encode()
    reply = home.request(body, token=home.token(), checked=False)
    assert reply.json["result"] == "duplicate"
    wait_until_armed(nas, "beat")


@pytest.mark.parametrize(("features", "later"), [([], 1), (["keeps-slot"], 0)])
def test_a_key_that_a_late_call_has_displaced_is_not_sent_again(home, nas, features, later):
    """A fire of an instant sent earlier shows that it took the newer one's place, and NAS may remember the newer key."""
    nas.features = features
    cursor = home.add("beat", "every 1h", "true").replace(microsecond=0)
    stray = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=20)
    keys = {moment.isoformat(): "cursor" for moment in (stray, cursor)}
    at = {"wake": cursor.isoformat(), "fire_at": cursor.isoformat(), "purpose": "cursor", "keys": keys, "generation": 1}
    place = home.home / "cron/arms"
    place.mkdir(parents=True, exist_ok=True)
    (place / "beat.json").write_text(json.dumps({"job_id": "beat", "state": "confirmed", "features": features, **at}))
    assert home.fire("beat", stray.isoformat()).json["result"] == "stale"
    sent = datetime.fromisoformat(nas.calls[0].body["fire_at"])
    assert sent == cursor + timedelta(seconds=later)


def test_a_nas_that_keeps_its_slot_is_not_asked_twice(home, nas):
    """The promise saves a call to NAS for every run (this one ends after NAS has made it)."""
    home.add("beat", "every 1h", "sleep 0.5", ago=1)
    assert home.fire("beat").status == 202
    home.wait_for_rows("beat", state="ok")
    time.sleep(0.5)
    assert len(nas.calls) == 1


def test_a_reporter_sees_when_its_reader_is_gone():
    """Waiting ends with the reader's descriptor, or with the time."""
    read_fd, write_fd = pipe()
    reporter = Reporter(write_fd)
    assert reporter.wait_until_unread(0.05) is False
    threading.Timer(0.1, os.close, [read_fd]).start()
    started = time.monotonic()
    assert reporter.wait_until_unread(10) is True
    assert time.monotonic() - started < 5
    reporter.close()
    assert reporter.wait_until_unread(0) is True


RUNNER = """
import sys, json
from chronos_cli.cli import main
code = main(["fire", "--claimed", "x"])
print(json.dumps([code, sorted(sys.modules)]))
"""


def test_a_runner_is_lean(home, monkeypatch):
    """From its claim to the recorded end a run needs no command line, no terminal, no token and no HTTP library."""
    captured = []

    def keep(argv, claim, **_):
        captured.append(claim)
        raise OSError("kept")

    monkeypatch.setattr("chronos_cli.running.detach.start_runner", keep)
    home.add("beat", "every 1h", "true", ago=1)
    assert home.fire("beat").status == 503
    payload = json.loads(captured[0])
    assert "token" not in {*payload, *payload["launching"], *payload["claim"]}
    payload["launching"]["armed"] = False
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=json.dumps(payload), env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    code, modules = json.loads(done.stdout)
    assert code == 0
    assert [row["state"] for row in home.rows("beat")] == ["ok"]
    assert not {"typer", "click", "rich", "jwt", "requests", "yaml", "obstore", "waitress", "asyncio", "logging"} & set(
        modules
    )


def test_fires_of_many_threads_share_what_they_can(home, nas):
    """Eight threads, many jobs: each runs once, and NAS sees at most a connection for each thread.

    A run that ends before NAS has first said that it keeps its slots arms once more, over a connection of its own.
    """
    names = [f"j{number}" for number in range(thoroughly(40, 16))]
    for name in names:
        home.add(name, "every 1h", "true", ago=1)
    answers = []

    def work(mine):
        answers.extend(home.fire(name).status for name in mine)

    threads = [threading.Thread(target=work, args=(names[number::8],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [202] * len(names)
    for name in names:
        home.wait_for_rows(name, state="ok")
        assert len(home.rows(name)) == 1
    assert nas.connections <= 8 + 1 + (len(nas.calls) - len(names))
    assert all(datetime.fromisoformat(arm["fire_at"]) > datetime.now(UTC) for arm in nas.armed.values())
