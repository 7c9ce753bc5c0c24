"""No mend of a probe that does not mend: a real NAS and a real callback, each hop brought to fail and put right."""

from __future__ import annotations

import io
import json
import os
import shlex
import threading
import time
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime, timedelta
from itertools import count
from socketserver import ThreadingMixIn
from types import SimpleNamespace
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from chronos_cli.callback.wsgi import CallbackApplication
from chronos_cli.config import load_config
from chronos_cli.frozen import replace
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.doctor import probe_round_trip
from chronos_cli.operations.firing.probe import PROBE_ID
from tests.agent_home import AgentHome
from tests.callback.shim_home import ShimHome
from tests.errors.hinted import tries
from tests.fire_tokens import SigningKey
from tests.nas_client.played_nas import PlayedNas
from tests.nas_process import Callback, running_nas

COUNT = count(1)
IN_VAIN = 0.4
"""So many seconds a call is waited for that does not come: NAS is in this machine, and calls at once."""


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    """One NAS; what fails is tried again soon."""
    with running_nas(tmp_path_factory.mktemp("nas"), "--retry-base", "0.6") as running:
        yield running


@pytest.fixture
def agent(tmp_path, nas, monkeypatch, clean_environment):
    """A home at that NAS, whose probes are due at once."""
    monkeypatch.setattr(probe_round_trip, "AHEAD", timedelta())
    monkeypatch.setattr(probe_round_trip, "_SETTLE_S", 0.05)
    monkeypatch.setattr("chronos_cli.nas_client.client._BACKOFF_S", 0.01)
    monkeypatch.setattr("chronos_cli.operations.doctor.jobs.time", SimpleNamespace(sleep=lambda _: None))
    return AgentHome(tmp_path / "home", nas, name=f"probe-{tmp_path.name}"[-60:])


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def serving(home, port, **environ):
    """Serve the callback of a home, in this process, as if it had been started with these variables."""
    server = make_server("127.0.0.1", port, CallbackApplication(), _Server, _Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"CHRONOS_HOME": str(home), "CHRONOS_CALLBACK_WARM_RUNNER": "off", **environ}.items():
            patch.setenv(name, value)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def probed(home, *, wait_s=IN_VAIN):
    """The checks of a probe by name, by a clock whose second has just begun: then it waits as long as it is told.

    Each is for an instant of its own: NAS takes no two of one second.
    """
    config = load_config(environ={}, home=str(home))
    ctx = open_home(config, ProcessEnvironment(environ={}, secrets={}))
    back = timedelta(microseconds=datetime.now(UTC).microsecond)
    ctx = replace(ctx, clock=lambda: datetime.now(UTC) - back)
    ago = 100 * next(COUNT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_round_trip, "AHEAD", -timedelta(seconds=ago))
        return {check.name: check for check in probe_round_trip.probe_circle(config, ctx, wait_s=wait_s + ago)}


def fails(home, words, name="probe_received"):
    """Hold that the probe fails with these words; return its mend."""
    check = probed(home)[name]
    assert check.level.value != "OK", check
    assert words in check.mend, check
    return check.mend


def passes(home):
    """Hold that the probe goes all the way round."""
    checks = probed(home, wait_s=5)
    assert [check.level.value for check in checks.values()] == ["OK"] * 3, checks


def change(agent, key, value):
    """Change a setting of the agent's; returns what it was."""
    path = agent.home / "config.yaml"
    lines = path.read_text().splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.strip().startswith(f"{key}:"))
    before = lines[at].partition(": ")[2]
    lines[at] = f"    {key}: {value}"
    path.write_text("\n".join(lines) + "\n")
    return before


@tries("operations/doctor/probe_round_trip.py", "serve chronos_cli.callback.wsgi:application at", "/api/cron/fire to chronos_cli.callback.wsgi:application, past any login")  # fmt: skip
def test_a_callback_that_is_served_as_the_mend_says_is_reached(agent):
    """Nobody is there, then somebody else; with the callback there, and its route, the call comes in."""
    mend = fails(agent.home, "serve chronos_cli.callback.wsgi:application at")
    assert mend.endswith(f" at http://127.0.0.1:{agent.port}")
    with serving(agent.home, agent.port):
        passes(agent.home)
    with Callback(200) as page:
        url = change(agent, "callback_url", page.url)
        mend = fails(agent.home, "/api/cron/fire to chronos_cli.callback.wsgi:application, past any login")
        assert mend.startswith(f"route {page.url}/")
        assert change(agent, "callback_url", url) == page.url
    with serving(agent.home, agent.port):
        passes(agent.home)


@tries("operations/doctor/probe_round_trip.py", "set cron.chronos.portal_url and callback_url in config.yaml, see chronos init", "chronos job remove")  # fmt: skip
def test_a_home_without_a_nas_and_one_with_a_job_of_the_probes_id(agent, chronos):
    """The settings are made, and the job is taken out, by the command as it stands there."""
    path = agent.home / "config.yaml"
    text = path.read_text()
    path.write_text("timezone: UTC\n")
    fails(agent.home, "set cron.chronos.portal_url and callback_url in config.yaml, see chronos init", "probe_armed")
    path.write_text(text)
    (agent.home / "cron").mkdir(exist_ok=True)
    (agent.home / "cron" / "jobs.json").write_text(json.dumps({"jobs": [{"id": PROBE_ID, "enabled": False}]}))
    mend = fails(agent.home, "chronos job remove", "probe_armed")
    done = chronos(*shlex.split(mend)[1:], home=agent.home)
    assert done.code == 0, done
    with serving(agent.home, agent.port):
        passes(agent.home)


@tries("operations/doctor/probe_round_trip.py", "see the callback's own log: it names what to put right", "see the callback's own log: it names the cause", "give the callback the same CHRONOS_HOME and store as this command", "run chronos doctor where the callback runs")  # fmt: skip
def test_a_callback_that_is_started_otherwise_is_put_right_as_the_mend_says(agent, chronos, tmp_path):
    """Without a configuration, on standby, with another store, and with a token of nobody."""
    log = io.StringIO()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("timezone: Mars\n")
    with redirect_stderr(log), serving(tmp_path / "broken", agent.port):
        fails(agent.home, "see the callback's own log: it names what to put right")
    assert "must be an IANA time zone" in log.getvalue()
    log.truncate(0)
    with redirect_stderr(log), serving(agent.home, agent.port, CHRONOS_STANDBY="1"):
        fails(agent.home, "see the callback's own log: it names the cause")
    assert "standby" in log.getvalue()
    with serving(agent.home, agent.port, CHRONOS_STORE=str(tmp_path / "other")):
        fails(agent.home, "give the callback the same CHRONOS_HOME and store as this command")
    with serving(agent.home, agent.port, CHRONOS_NAS_TOKEN="of-nobody"):
        fails(agent.home, "run chronos doctor where the callback runs", "probe_slot")
    there = chronos("doctor", "--json", home=agent.home, env={"CHRONOS_NAS_TOKEN": "of-nobody"}).json["checks"]
    assert [one["level"] for one in there if one["name"] == "token"] == ["FAIL"]
    with serving(agent.home, agent.port):
        passes(agent.home)


@tries("operations/doctor/probe_round_trip.py", "in config.yaml to what NAS mints and restart the callback")
@tries("operations/doctor/nas.py", "in config.yaml to what NAS mints", "chronos doctor --probe", "set it in config.yaml to what chronos-nas agent list shows")  # fmt: skip
def test_an_audience_is_set_as_the_mend_says(agent, chronos, nas):
    """None is named, then another's: NAS's own list has the right one, and a probe proves it once it is served."""

    def claim():
        checks = chronos("doctor", "--json", home=agent.home).json["checks"]
        return next(one for one in checks if one["name"] == "audience")

    change(agent, "expected_audience", '""')
    assert "chronos-nas agent list shows" in claim()["mend"]
    change(agent, "expected_audience", '"agent:another"')
    with serving(agent.home, agent.port):
        mend = fails(agent.home, "in config.yaml to what NAS mints and restart the callback")
        assert mend.startswith("set cron.chronos.expected_audience ")
        assert claim()["mend"] == f"{mend}, then chronos doctor --probe"
    (listed,) = (one for one in nas.command("agent", "list")["agents"] if one["name"] == agent.access.name)
    change(agent, "expected_audience", f'"{listed["audience"]}"')
    with serving(agent.home, agent.port):
        time.sleep(0.01)  # the file is older than the fire
        done = chronos("doctor", "--probe", "--json", home=agent.home)
        assert {one["name"]: one["level"] for one in done.json["checks"]}["probe_received"] == "OK", done
    assert claim()["level"] == "OK"
    change(agent, "expected_audience", f'"{listed["audience"]}"')  # written anew, it is to be proven anew
    os.utime(agent.home / "config.yaml", (time.time() + 1, time.time() + 1))
    assert (claim()["level"], claim()["mend"]) == ("WARN", "chronos doctor --probe")
    os.utime(agent.home / "config.yaml", (time.time(), time.time()))  # the kernel's clock may be another
    time.sleep(1 - datetime.now(UTC).microsecond / 1e6)  # NAS takes no two probes of one second
    with serving(agent.home, agent.port):
        assert chronos(*shlex.split(claim()["mend"])[1:], home=agent.home).code == 0
    assert claim()["level"] == "OK"


@tries("operations/doctor/probe_round_trip.py", "chronos doctor --probe --wait 75; if that fails too, ask who runs NAS why its relay is late")  # fmt: skip
def test_a_nas_that_calls_late_is_waited_for_as_the_mend_says(tmp_path, monkeypatch, chronos, agent):
    """It holds the one-shot and does not call; asked again with the longer wait, the call comes in."""
    played = PlayedNas()
    home = ShimHome(tmp_path / "late", SigningKey.es256(), played.url, monkeypatch)
    home.port = agent.port
    change(home, "callback_url", f"http://127.0.0.1:{agent.port}")
    try:
        with serving(home.home, agent.port):
            mend = fails(home.home, "chronos doctor --probe --wait 75; if that fails too, ask who runs NAS")
            provision = played.provision

            def call(item):
                row = provision(item)
                if len(played.calls) and not called:
                    called.append(item)
                    threading.Timer(0.2, home.fire, (item["job_id"], item["fire_at"])).start()
                return row

            called = []
            played.provision = call
            done = chronos(*shlex.split(mend.partition(";")[0])[1:], "--json", home=home.home)
        assert {one["name"]: one["level"] for one in done.json["checks"]}["probe_received"] == "OK", done
    finally:
        played.close()


@tries("operations/doctor/__init__.py", "start the callback there, or set cron.chronos.callback_url to where it is; then chronos doctor --probe")  # fmt: skip
@tries("operations/doctor/jobs.py", "chronos doctor --probe")
def test_a_callback_that_was_down_is_started_as_the_mends_say(agent, chronos, nas):
    """NAS's calls fail and a start is overdue: the probe names the callback, and once it is there all is well."""
    assert chronos("job", "add", "every 1h", "--id", "late", "--shell", "true", home=agent.home).code == 0
    path = agent.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=20)
    document["jobs"][0]["next_run_at"] = document["jobs"][0]["chronos"]["anchor"] = at.isoformat()
    path.write_text(json.dumps(document))
    assert chronos("reconcile", home=agent.home).code == 0
    nas.wait_for("relayed", agent=agent.access.audience, job_id="late")

    def check(name):
        checks = chronos("doctor", "--json", home=agent.home).json["checks"]
        return next(one for one in checks if one["name"] == name)

    assert (check("overdue")["level"], check("overdue")["mend"]) == ("FAIL", "chronos doctor --probe")
    found = check("callback")
    assert found["level"] == "FAIL"
    assert found["mend"].startswith("start the callback there, or set cron.chronos.callback_url to where it is; then ")
    with serving(agent.home, agent.port):
        done = chronos(*shlex.split(found["mend"].partition("; then ")[2])[1:], "--json", home=agent.home)
        assert {one["name"]: one["level"] for one in done.json["checks"]}["probe_received"] == "OK", done
        until = time.monotonic() + 20
        while check("overdue")["level"] != "OK" or check("callback")["level"] != "OK":
            assert time.monotonic() < until, (check("overdue"), check("callback"))
            time.sleep(0.05)
    assert chronos("history", "late", "--json", home=agent.home).json["rows"]


@tries("operations/doctor/__init__.py", "set cron.chronos.callback_url to the public https address of the callback")
def test_a_callback_url_of_this_machine_is_made_a_public_one(agent, chronos, monkeypatch):
    """NAS is elsewhere, and cannot call 127.0.0.1."""

    def nobody(*_):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr("socket.getaddrinfo", nobody)
    change(agent, "portal_url", "https://nas.example.com")
    change(agent, "nas_jwks_url", "https://nas.example.com/keys")

    def check():
        return next(
            one for one in chronos("doctor", "--json", home=agent.home).json["checks"] if one["name"] == "callback"
        )

    assert check()["mend"] == "set cron.chronos.callback_url to the public https address of the callback"
    change(agent, "callback_url", "https://agent.example.com")
    assert check()["level"] == "OK"
