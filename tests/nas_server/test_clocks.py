"""Clocks that are wrong: the database's decides, and a host that is off it says so, or is not ready."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.nas_server import pulse
from chronos_cli.nas_server.event_log import EventLog
from tests import nas_process
from tests.nas_process import Callback, running_nas

OFF = "import time; real = time.time; time.time = lambda: real() + {ahead};"


class Written:
    """A stream whose lines are events."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        """Nothing is held."""

    def events(self):
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.mark.parametrize(
    ("ahead", "told", "ready"),
    [
        *((0.0, False, True), (1.9, False, True), (-1.9, False, True)),
        *((2.1, True, True), (-2.1, True, True), (19.9, True, True), (-19.9, True, True)),
        *((20.1, True, False), (-20.1, True, False), (86_400.0, True, False)),
    ],
)
def test_a_host_off_its_databases_clock_says_so_and_far_off_is_not_ready(monkeypatch, ahead, told, ready):
    """Told once, in either direction; beyond 20 s no request should come here."""
    monkeypatch.setattr(pulse, "EVERY_S", 0.001)
    looks, stream = [], Written()

    def measure():
        looks.append(1)
        return ahead

    beating = pulse.Pulse(measure, EventLog(stream, time.time))
    try:
        deadline = time.monotonic() + 5
        while len(looks) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        missing = beating.missing()
    finally:
        beating.stop()
    assert [one["ahead_s"] for one in stream.events() if one["event"] == "clock_off"] == [round(ahead, 1)] * told
    assert missing == (None if ready else f"this host's clock is {abs(ahead):.0f} s off the database's")


def test_a_clock_that_was_put_right_is_told_of_again_when_it_goes_off(monkeypatch):
    """One line each time that it leaves the range, none while it stays out."""
    monkeypatch.setattr(pulse, "EVERY_S", 0.001)
    offs, stream = iter([3.0, 4.0, 0.0, 5.0, 5.0]), Written()
    beating = pulse.Pulse(lambda: next(offs, 5.0), EventLog(stream, time.time))
    deadline = time.monotonic() + 5
    while len(stream.events()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    beating.stop()
    assert [one["ahead_s"] for one in stream.events()] == [3.0, 5.0]


@pytest.mark.service
def test_no_worker_fires_by_its_own_clock(postgres, tmp_path, monkeypatch):
    """Three workers, one 40 s ahead and one 5 s behind: of 200 timers none is early, none late, none comes twice."""
    url, home = postgres.new_database(), tmp_path / "home"

    def worker(stack, name, ahead):
        with monkeypatch.context() as patch:
            patch.setattr(nas_process, "BEFORE", OFF.format(ahead=ahead))
            return stack.enter_context(running_nas(tmp_path / name, "--db", url, "--role", "worker", home=home))

    with Callback() as callback, ExitStack() as stack:
        web = stack.enter_context(running_nas(tmp_path / "web", "--db", url, "--role", "web", home=home))
        agent = web.add_agent("a", "--rate", "100000")
        workers = {name: worker(stack, name, ahead) for name, ahead in {"ahead": 40, "behind": -5, "right": 0}.items()}
        base = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
        items = [
            {
                "op": "provision",
                "job_id": f"job-{number}",
                "fire_at": (base + timedelta(seconds=number % 3)).isoformat(),
                "agent_callback_url": callback.url,
            }
            for number in range(200)
        ]
        reply = web.call("POST", "/api/agent-cron/batch", agent.token, {"items": items})
        assert all(one["ok"] for one in reply.json["results"])
        callback.wait(200, timeout=20)
        assert workers["ahead"].wait_for("clock_off")["ahead_s"] == pytest.approx(40, abs=2)
        assert workers["behind"].wait_for("clock_off")["ahead_s"] == pytest.approx(-5, abs=2)
        assert workers["right"].events("clock_off") == []
        assert workers["ahead"].call("GET", "/readyz").status == 503
        assert {workers[name].call("GET", "/readyz").status for name in ("behind", "right")} == {200}
        shown = (
            workers["ahead"].call("GET", "/metrics").body.decode().partition("\nchronos_nas_clock_ahead_seconds ")[2]
        )
        assert float(shown.split()[0]) == pytest.approx(40, abs=2)
        relayed = Counter(name for name, one in workers.items() for _ in one.events("relayed"))
    late = [fire.at - datetime.fromisoformat(fire.body["fire_at"]).timestamp() for fire in callback.fires]
    assert min(late) > -0.05, relayed
    assert max(late) < 4, relayed
    assert set(Counter(fire.body["job_id"] for fire in callback.fires).values()) == {1}


@pytest.mark.service
@pytest.mark.parametrize("ahead", [40, -40])
def test_a_worker_alone_goes_by_the_databases_clock_however_wrong_its_own(postgres, tmp_path, monkeypatch, ahead):
    """Nobody else is there who could fire in time for it; tokens are good by the database's clock too."""
    import jwt

    url = postgres.new_database()
    monkeypatch.setattr(nas_process, "BEFORE", OFF.format(ahead=ahead))
    with Callback() as callback, running_nas(tmp_path, "--db", url) as nas:
        agent = nas.add_agent("a", "--expires", "1h")
        when = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
        assert nas.provision(agent, "job", when, callback.url).status == 200
        fire = callback.wait(1)[0]
    assert -0.05 < fire.at - when.timestamp() < 2
    claims = jwt.decode(fire.token, options={"verify_signature": False})
    assert claims["iat"] == pytest.approx(fire.at, abs=2)
