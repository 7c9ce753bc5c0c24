"""The engine within this process, on both stores: what it does when the store fails it."""

from __future__ import annotations

import io
import time
from contextlib import asynccontextmanager

import pytest

from chronos_cli.nas_server.event_log import EventLog
from chronos_cli.nas_server.metrics import Metrics
from chronos_cli.nas_server.relay.engine import RelayEngine
from chronos_cli.nas_server.relay.limits import Bounds, CallLimits
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.model import DeliveryOutcome, Fate, Provision
from chronos_cli.nas_server.timers.registry import TimerRegistry


class Relayed:
    """A relay that delivers at once, and knows what."""

    def __init__(self, clock):
        self.clock = clock
        self.jobs = []
        self.warm = False

    def warm_up(self):
        self.warm = True

    async def deliver(self, _client, delivery):
        assert self.warm, "the first signature of a process takes 30 ms"
        self.jobs.append(delivery.job_id)
        return DeliveryOutcome(delivery=delivery, fate=Fate.DELIVERED, at=self.clock(), status=200), True


@asynccontextmanager
async def no_client():
    yield None


@pytest.fixture
def registry(backend):
    return TimerRegistry(backend, backend.now)


def arm(registry, backend, count):
    agent = AgentRegister(backend, backend.now).add("a").agent
    wish = {"agent_id": agent.id, "fire_at": 1_700_000_000, "fire_text": "t", "callback_url": "https://x", "host": "h"}
    registry.apply([Provision(job_id=f"job-{n}", **wish) for n in range(count)])


def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_claim_whose_answer_is_lost_delays_nothing_by_a_whole_claim(registry, backend, monkeypatch, carried_out):
    """Whether the store did what was asked or not, all is delivered a moment after it answers again, and once."""
    arm(registry, backend, 20)
    write, failures = backend.write, []

    def lost(work):
        if carried_out:
            write(work)
        failures.append(work)
        if len(failures) == 2:
            monkeypatch.setattr(backend, "write", write)
        raise RegistryUnavailableError("the line broke")

    monkeypatch.setattr(backend, "write", lost)
    relay, log = Relayed(backend.now), io.StringIO()
    engine = RelayEngine(
        registry=registry,
        relay=relay,
        make_client=no_client,
        gate=CallLimits(Bounds(), time.monotonic),
        journal=EventLog(log, time.time),
        metrics=Metrics(),
        stop_s=5,
    )
    engine.start()
    try:
        until(lambda: len(relay.jobs) >= 20, 10)
    finally:
        assert engine.stop()
    assert sorted(relay.jobs) == sorted(f"job-{n}" for n in range(20))
    assert registry.due().timers == []
    assert log.getvalue().count("the line broke") == 2
