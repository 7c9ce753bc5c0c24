"""Exchanges with NAS for each fire: one provision at the contract and no more, none at a NAS that arms by answers.

Real HTTP, the real shim, real runners. Figures are printed (`-s`).
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import requests

from tests.agent_home import running_agent
from tests.conftest import at_length
from tests.fire_tokens import SigningKey
from tests.nas_process import AgentAccess, running_nas
from tests.played_server import Answer, PlayedServer

AUDIENCE = "agent:bare"


class BareNas:
    """The published contract and no more: three calls, no features, one timer a job, a fire at its second."""

    def __init__(self) -> None:
        self.key = SigningKey.es256()
        self.slots: dict[str, tuple[str, str]] = {}
        self.provisions: list[tuple[str, str]] = []
        self.fires: list[tuple[str, str, float, float]] = []
        self.lists = 0
        self._guard = threading.Lock()
        self._over = threading.Event()
        self.server = PlayedServer(lambda call: Answer(body=self.answer(call.path, call.body or {})))
        self.url = self.server.url

    def add_agent(self, name: str) -> AgentAccess:
        return AgentAccess(name=name, token="t", audience=AUDIENCE, config={})

    def answer(self, path: str, body: dict) -> dict:
        with self._guard:
            if path.endswith("jwks.json"):
                return self.key.jwks()
            if path.endswith("/provision"):
                self.slots[body["job_id"]] = (body["fire_at"], body["agent_callback_url"])
                self.provisions.append((body["job_id"], body["fire_at"]))
                assert body.keys() == {"job_id", "fire_at", "agent_callback_url", "dedup_key"}
                return {"schedule_id": uuid.uuid4().hex}
            if path.endswith("/cancel"):
                self.slots.pop(body["job_id"], None)
                return {"ok": True}
            self.lists += 1
            return {
                "armed": [{"job_id": job, "fire_at": at, "schedule_id": "s"} for job, (at, _) in self.slots.items()]
            }

    def relay(self) -> None:
        """Fire what is due, each in a thread of its own, and again on anything but a 2xx."""
        while not self._over.wait(0.01):
            now = datetime.now(UTC)
            with self._guard:
                due = [job for job, (at, _) in self.slots.items() if datetime.fromisoformat(at) <= now]
                taken = [(job, *self.slots.pop(job)) for job in due]
            for job, at, url in taken:
                threading.Thread(target=self._fire, args=(job, at, url), daemon=True).start()

    def _fire(self, job: str, at: str, url: str) -> None:
        began = time.time()
        for _ in range(20):
            token = self.key.token(iss=self.url, aud=AUDIENCE, job_id=job, fire_at=at)
            with suppress(requests.ConnectionError):  # as where the agent is gone before its NAS
                reply = requests.post(
                    f"{url}/api/cron/fire", json={"job_id": job, "fire_at": at}, timeout=30,
                    headers={"Authorization": f"Bearer {token}"},
                )  # fmt: skip
                self.fires.append((job, at, began, time.time()))
                if reply.ok:
                    return
            if self._over.wait(0.5):
                return

    @contextmanager
    def running(self):
        """Serve, and fire."""
        relay = threading.Thread(target=self.relay)
        relay.start()
        try:
            yield self
        finally:
            self._over.set()
            relay.join()
            self.server.close()


RATES = {"two": 2, "three": 3, "five": 5, "seven": 7, **{f"six-{number}": 6 for number in range(12)}}
"""Seconds between the occurrences of jobs at a fixed rate."""


def add_all(agent) -> dict[str, int]:
    """Add the jobs of `RATES`, two that a cron expression names and three that come once; the seconds between."""
    jobs = {name: f"every {rate}s" for name, rate in RATES.items()}
    jobs |= {"minutely": "* * * * *", "odd": "1-59/2 * * * *"}
    jobs |= {f"once-{late}": f"in {late}s" for late in (25, 30, 35)}
    for name, schedule in jobs.items():
        done = agent.chronos("job", "add", schedule, "--id", name, "--shell", "true", "--grace", "0s")
        assert done.returncode == 0, done.stderr
    return {**RATES, "minutely": 60, "odd": 120}


@pytest.mark.soak
def test_at_the_bare_contract_each_fire_is_one_provision_for_the_exact_second(tmp_path):
    """A thousand fires of `every 2s` beside slower jobs: no occurrence is missed, none is re-armed late, or twice."""
    with BareNas().running() as nas, running_agent(tmp_path, nas) as agent:
        rates = add_all(agent)
        began, earlier, start = len(nas.provisions), len(nas.fires), time.monotonic()
        time.sleep(at_length(330, 60))
        fires, provisions, lists, lasted = list(nas.fires), list(nas.provisions), nas.lists, time.monotonic() - start
        ran = {name: [row["state"] for row in agent.rows(name)] for name in rates}
    fired, sent = len(fires) - earlier, len(provisions) - began
    late = [began - datetime.fromisoformat(at).timestamp() for _, at, began, _ in fires]
    print(f"{fired} fires, {sent / fired:.3f} provisions a fire, {lists} lists, at most {max(late):.2f} s late")
    assert fired >= at_length(1_000, 150)
    assert {state for states in ran.values() for state in states} <= {"ok", "running", "accepted"}, ran
    assert sum(job == "two" for job, _, _, _ in fires) >= lasted // 2 - 3
    answered = {(job, datetime.fromisoformat(at)): ended for job, at, _, ended in fires}
    assert abs(sent - fired) <= len(rates)  # what is under way at each end, and those that come once
    for name, rate in rates.items():
        instants = [datetime.fromisoformat(at) for job, at in provisions if job == name]
        for first, second in pairwise(instants):
            following = first + timedelta(seconds=rate) - (first - instants[0]) % timedelta(seconds=rate)
            # A fire that this machine was so slow to call, or to answer, cannot be armed for what is past by then.
            overdue = answered.get((name, first), 0.0) >= following.timestamp()
            assert second == following or overdue, (name, first, second)


@pytest.mark.soak
def test_in_steady_state_our_nas_is_asked_nothing(tmp_path):
    """Once the handshake is made, a fire is one exchange: NAS's call, whose answer arms the next."""
    with running_nas(tmp_path) as nas, running_agent(tmp_path, nas) as agent:
        rates = add_all(agent)
        for name in at_length(("minutely", "odd"), ("six-0", "seven")):
            nas.wait_for("relayed", job_id=name, outcome="delivered", timeout=150)
        time.sleep(6)
        # The others have yet to meet: a minute may begin at any time.
        steady = {event["job_id"] for event in nas.events("relayed", outcome="delivered")}
        before = {name: len(nas.events(name)) for name in ("provisioned", "relayed")}
        time.sleep(at_length(330, 30))
        after = {name: [e for e in nas.events(name)[start:] if e["job_id"] in steady] for name, start in before.items()}
        states = [row["state"] for name in rates for row in agent.rows(name)]
        assert json.loads((agent.home / "cron/nas.json").read_text())["answers"] is True
    fires, provisions = (len(after[name]) for name in ("relayed", "provisioned"))
    print(f"{fires} fires, {provisions} provisions, {before['provisioned']} before them; states {set(states)}")
    assert steady >= RATES.keys()
    assert fires >= at_length(1_000, 70)
    assert provisions == 0
    assert set(states) <= {"ok", "running", "accepted"}
