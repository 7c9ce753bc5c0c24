"""Bounds, breakers, waits and rates, with the clock in the test's hand."""

from __future__ import annotations

import asyncio
import random

import pytest

from chronos_cli.nas_server.http.rates import Rates
from chronos_cli.nas_server.relay.backoff import Backoff
from chronos_cli.nas_server.relay.engine import RelayEngine
from chronos_cli.nas_server.relay.limits import Bounds, CallLimits, Circuit


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def fail(gate, times, host="h"):
    for _ in range(times):
        assert gate.enter(host, 1)
        gate.leave(host, 1, healthy=False)


def full(gate, host="h", agent=1):
    """How many places there are."""
    return next(number for number in range(10_000) if not gate.enter(host, agent))


def test_a_host_gets_few_places_until_it_answered(clock):
    """A host that never answered holds at most the probation's places; one that did, more."""
    gate = CallLimits(Bounds(per_host=6, per_agent=99, probation=2), clock)
    assert full(gate) == 2
    gate.leave("h", 1, healthy=True)
    assert full(gate) == 5


def answer_all(gate, count, took_s, healthy=True):
    for _ in range(count):
        gate.leave("h", 1, healthy=healthy, took_s=took_s)


def test_the_window_follows_how_fast_and_healthy_a_host_answers(clock):
    """Quick answers triple it a round, slow ones leave the floor, failures halve it."""
    gate = CallLimits(Bounds(total=10_000, per_agent=5_000, per_host=500), clock)
    rounds = []
    for _ in range(5):
        rounds.append(full(gate))
        answer_all(gate, rounds[-1], 0.2)
    assert rounds[0] == 4
    assert rounds == sorted(rounds)
    assert rounds[-1] > 400
    assert full(gate) == 500
    answer_all(gate, 1, 0.2, healthy=False)
    answer_all(gate, 499, 1.5)
    assert full(gate) == 250
    answer_all(gate, 250, 25.0)
    assert full(gate) == 16


def test_an_agent_has_its_own_bound_over_all_hosts(clock):
    """One agent with many hosts holds no more places than its bound."""
    gate = CallLimits(Bounds(per_agent=3), clock)
    assert sum(gate.enter(f"h{n}", 1) for n in range(9)) == 3
    assert gate.enter("h0", 2)


def test_no_agent_holds_more_than_is_left_for_the_others(clock):
    """Whatever five agents hold on to, a sixth finds places; one alone gets half of all."""
    gate = CallLimits(Bounds(total=96, per_agent=96, probation=1), clock)
    held = [sum(gate.enter(f"h{agent}-{n}", agent) for n in range(96)) for agent in range(5)]
    assert held[0] == 48
    assert sum(gate.enter(f"honest-{n}", 9) for n in range(3)) >= 2
    # And once the first have ended a call each, the places are shared evenly.
    for _ in range(300):
        for agent in range(5):
            if held[agent]:
                gate.leave(f"h{agent}-{held[agent] - 1}", agent, healthy=None)
                held[agent] -= 1
            while gate.enter(f"h{agent}-{held[agent]}", agent):
                held[agent] += 1
    assert max(held) <= 24
    assert gate.free >= 12


def test_each_agent_has_a_few_places_of_its_own_at_a_shared_host(clock):
    """Whatever others hold there, and fewer the more they hold; a host that is given up has none for anybody."""
    gate = CallLimits(Bounds(), clock)
    held = [full(gate, agent=agent) for agent in range(24)]
    assert held[:5] == [4] * 5
    assert min(held[:20]) >= 1
    assert sum(held) <= 64
    for agent in range(6):
        gate.leave("h", agent, healthy=False)
    assert not gate.enter("h", 99)
    single = CallLimits(Bounds(per_host=1), clock)
    assert [single.enter("h", agent) for agent in range(3)] == [True, False, False]


def test_hosts_without_number_are_forgotten(clock, monkeypatch):
    """Agents choose the names: those that are not called just now go, the oldest first; one that is called stays."""
    monkeypatch.setattr("chronos_cli.nas_server.relay.limits.KNOWN", 10)
    gate = CallLimits(Bounds(failures=1), clock)
    assert gate.enter("busy", 7)
    for number in range(100):
        fail(gate, 1, f"h{number}")
    assert set(gate.circuits()) <= {f"h{number}" for number in range(89, 100)}
    assert len(gate.circuits()) >= 9
    gate.leave("busy", 7, healthy=True)


def test_a_breaker_lets_one_probe_through_in_five_seconds_whoever_provisions(clock):
    """An agent that shows life has its host probed soon, and never more often than the shortest pause."""
    gate = CallLimits(Bounds(), clock)
    fail(gate, 5)
    for _ in range(4):
        clock.now += 60
        fail(gate, 1)
    assert not gate.enter("h", 1)
    gate.seen("h")
    assert not gate.enter("h", 1)
    clock.now += 5
    probes = 0
    for _ in range(100):
        gate.seen("h")
        if gate.enter("h", 1):
            probes += 1
            gate.leave("h", 1, healthy=False)
        clock.now += 0.1
    assert probes == 2
    gate.seen("elsewhere")


def test_a_worker_hears_of_a_provision_that_another_process_took(clock):
    """A host that was given up is asked soon by a process that answers no agents too; one look a second asks for it."""
    asked, gate = [], CallLimits(Bounds(), clock)

    class Registry:
        """What the engine asks of it here."""

        def hosts_since(self, at):
            asked.append(at)
            return {"h", "elsewhere"}

    engine = RelayEngine.__new__(RelayEngine)
    engine._registry, engine._gate, engine._heard_at = Registry(), gate, float("-inf")

    async def at_once(work, *arguments):
        return work(*arguments)

    engine._in_store = at_once
    fail(gate, 5)
    for _ in range(4):
        clock.now += 60
        fail(gate, 1)
    clock.now += 5.1
    assert not gate.enter("h", 1)
    for now in (1000.0, 1000.5, 1001.0):
        asyncio.run(engine._hear_of(gate.circuits(), now))
    assert asked == [989.0, 999.0]
    assert gate.enter("h", 1)


def test_the_breaker_opens_lets_one_through_and_closes(clock):
    """After five failures in a row nothing goes to the host for a while, then one call, whose fate decides."""
    gate = CallLimits(Bounds(failures=5, open_s=5, open_max_s=8), clock)
    fail(gate, 5)
    assert gate.circuits() == {"h": Circuit.OPEN}
    assert not gate.enter("h", 1)
    clock.now += 5
    assert gate.circuits() == {"h": Circuit.HALF_OPEN}
    assert gate.enter("h", 1)
    assert not gate.enter("h", 1)
    gate.leave("h", 1, healthy=False)
    clock.now += 7.9
    assert not gate.enter("h", 1)
    clock.now += 0.1
    assert gate.enter("h", 1)
    gate.leave("h", 1, healthy=True)
    assert gate.circuits() == {}
    assert gate.enter("h", 1)
    assert gate.enter("h", 1)


def test_failures_that_are_not_in_a_row_open_nothing(clock):
    """A success between failures starts the count anew, and what says nothing about the host does not count."""
    gate = CallLimits(Bounds(failures=3), clock)
    fail(gate, 2)
    gate.enter("h", 1)
    gate.leave("h", 1, healthy=True)
    fail(gate, 2)
    gate.enter("h", 1)
    gate.leave("h", 1, healthy=None)
    assert gate.circuits() == {}


def test_waits_double_up_to_the_cap_with_full_jitter():
    """The wait lies anywhere between the floor and a ceiling that doubles so many times, and never above the cap."""
    backoff = Backoff(base_s=1, cap_s=100, doublings=5, floor_s=0.1)
    assert [backoff.ceiling(n) for n in (1, 2, 3, 6, 7, 50)] == [1, 2, 4, 32, 32, 32]
    assert Backoff(base_s=1, cap_s=10).ceiling(9) == 10
    draw = random.Random(1).random
    waits = [backoff.next_at(attempt=4, now=0, first_attempt_at=0, asked=None, draw=draw) for _ in range(500)]
    assert min(waits) >= 0.1
    assert max(waits) <= 8
    assert min(waits) < 1
    assert max(waits) > 7


def test_retry_after_is_never_undercut_but_bounded():
    """The agent's Retry-After is a lower bound on the wait, up to an hour."""
    backoff = Backoff()
    assert backoff.next_at(attempt=1, now=0, first_attempt_at=0, asked=30, draw=lambda: 0.5) == 30
    assert backoff.next_at(attempt=1, now=0, first_attempt_at=0, asked=9e9, draw=lambda: 0.5) == 3600


def test_it_gives_up_a_day_after_the_first_attempt():
    """The last attempt is made when the day is over; one that fails then is the last."""
    backoff = Backoff()
    day = 24 * 3600.0
    assert backoff.next_at(attempt=9, now=day - 1, first_attempt_at=0, asked=60, draw=lambda: 0.5) == day
    assert backoff.next_at(attempt=9, now=day, first_attempt_at=0, asked=None, draw=lambda: 0.5) is None


def test_a_rate_allows_a_burst_then_its_pace(clock):
    """A bucket holds two seconds' worth, refills with time, and says how long to wait."""
    rates = Rates(clock)
    assert [rates.wait_s(1, 2.0) for _ in range(4)] == [0, 0, 0, 0]
    assert rates.wait_s(1, 2.0) == 0.5
    assert rates.wait_s(2, 2.0) == 0
    clock.now += 0.5
    assert rates.wait_s(1, 2.0) == 0
    assert rates.wait_s(1, 2.0, cost=50) > 0
    clock.now += 60
    assert rates.wait_s(1, 2.0, cost=50) == 0
    assert rates.wait_s(1, 2.0) == pytest.approx(23.5)
