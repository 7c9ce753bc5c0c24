"""Statements of a NAS: their texts do not vary with lengths, and nothing is counted or read more often than it has to be."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from chronos_cli.nas_server.timers import sweep as sweeping
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.meta import NasMeta
from chronos_cli.nas_server.timers.model import Cancel, DeliveryOutcome, Fate, Provision
from chronos_cli.nas_server.timers.registry import TimerRegistry

NOW = 1_800_000_000.0


class Clock:
    """A clock in the test's hand."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@contextmanager
def noted(backend, monkeypatch):
    """The statements that the block runs, in order."""
    texts = []

    def watched(session):
        kind = type(session)

        class Noted(kind):
            def all(self, statement, parameters=()):
                texts.append(statement)
                return kind.all(self, statement, parameters)

            def run(self, statement, parameters=()):
                texts.append(statement)
                return kind.run(self, statement, parameters)

            def many(self, statement, rows):
                texts.extend([statement] * len(rows))
                return kind.many(self, statement, rows)

        return Noted(session.connection)

    read, write = backend.read, backend.write
    with monkeypatch.context() as patch:
        patch.setattr(backend, "read", lambda work: read(lambda session: work(watched(session))))
        patch.setattr(backend, "write", lambda work: write(lambda session: work(watched(session))))
        yield texts


def wish(agent, job, at=NOW - 1, **more):
    return Provision(
        agent_id=agent.id, job_id=job, fire_at=int(at), fire_text="t", callback_url="https://x", host="h", **more
    )


def day(registry, agent, size, clock):
    """All that happens to `size` timers: armed, armed anew, moved, cancelled, claimed, settled in each way, swept."""
    jobs = [f"{size}-{n}" for n in range(size)]
    for generation, at in ((1, NOW + 60), (2, NOW + 90), (3, NOW - 1)):
        registry.apply([wish(agent, job, at, generation=generation, max_timers=10**6) for job in jobs])
    registry.apply([Cancel(agent_id=agent.id, job_id=f"gone-{job}", generation=4) for job in jobs])
    for fate in (Fate.RETRY, Fate.DEAD, Fate.DELIVERED):
        page = registry.due(skip=[(agent.id, f"busy-{n}") for n in range(size)])
        claimed = registry.claim([(one.schedule_id, one.attempts) for one in page.timers])
        assert len(claimed) == size
        outcomes = [
            DeliveryOutcome(delivery=one, fate=fate, at=clock.now, next_at=clock.now - 1, error="x") for one in claimed
        ]
        assert registry.settle(outcomes) == [True] * size
        if fate is Fate.DEAD:
            registry.apply([wish(agent, job, NOW - 2, generation=5) for job in jobs])
    registry.unheard.add(NOW, ["none"] * size)
    registry.unheard.give_back(NOW - 1)
    clock.now += 8 * 24 * 3600
    assert registry.sweep() == size * 2
    clock.now = NOW


def test_a_text_is_the_same_for_one_row_and_for_many(backend, monkeypatch, clock):
    """A server that keeps plans and statistics by text sees each statement once, whatever the lengths."""
    agent = AgentRegister(backend, clock).add("a").agent
    backend.now()
    seen = []
    for size in (1, 3, 40):
        registry = TimerRegistry(backend, clock)
        with noted(backend, monkeypatch) as texts:
            day(registry, agent, size, clock)
        seen.append(set(texts))
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) < 30


def test_a_scrape_counts_the_table_at_most_once(backend, monkeypatch, clock):
    """One statement in which the table is named once; scrapes that follow closely take the same count."""
    AgentRegister(backend, clock).add("a")
    meta = NasMeta(backend, clock)
    with noted(backend, monkeypatch) as texts:
        first = meta.gauges()
    assert len(texts) == 1
    assert texts[0].count("timers") == 1
    monkeypatch.setattr(meta, "_counted_until", float("inf"))
    with noted(backend, monkeypatch) as texts:
        assert meta.gauges() == first
    assert texts == []


def test_agents_are_listed_by_one_statement(backend, monkeypatch, clock):
    """However many there are, and with what each holds."""
    register = AgentRegister(backend, clock)
    made = [register.add(f"agent-{n}").agent for n in range(30)]
    TimerRegistry(backend, clock).apply([wish(one, f"job-{n}") for one in made for n in range(2)])
    with noted(backend, monkeypatch) as texts:
        listed = register.all()
    assert len(texts) == 1
    assert [one.timers for one in listed] == [2] * 30


def test_a_table_is_written_in_one_piece(monkeypatch):
    """A hundred thousand rows are no hundred thousand writes."""
    from chronos_cli.nas_server.cli import common

    class Out:
        encoding = "utf-8"
        writes: list[str] = []  # noqa: RUF012 - one test, one list

        def write(self, text):
            self.writes.append(text)

        def flush(self):
            self.writes.append("")

        def isatty(self):
            return False

    monkeypatch.setattr(common.sys, "stdout", Out())
    common.rows(("A", "B"), [("x", str(n)) for n in range(500)], "nothing")
    assert len(Out.writes) == 2
    assert len(Out.writes[0].splitlines()) == 501


def test_a_sweep_reads_a_page_and_goes_on_from_there(backend, monkeypatch, clock):
    """Slots that are held cost no pass: a page each time, round and round, and what is forgotten is found in one round."""
    registry = TimerRegistry(backend, clock)
    agent = AgentRegister(backend, clock).add("a").agent
    registry.apply([wish(agent, f"held-{n:02}", NOW + 10**8, generation=1) for n in range(40)])
    registry.apply([Cancel(agent_id=agent.id, job_id=f"held-{n:02}-gone", generation=1) for n in range(0, 40, 4)])
    clock.now += 8 * 24 * 3600
    with noted(backend, monkeypatch) as texts:
        swept = [registry.sweep(10) for _ in range(6)]
    assert sum(swept) == 10
    assert max(swept) < 10
    assert all("LIMIT" in text for text in texts if text.startswith("SELECT agent_id, job_id, CASE"))
    registry.apply([Cancel(agent_id=agent.id, job_id="held-00-more", generation=1)])
    clock.now += 8 * 24 * 3600
    assert sum(registry.sweep(10) for _ in range(5)) == 1
    assert backend.read(lambda s: s.all("SELECT count(*) FROM slots"))[0][0] == 40
    assert registry.sweep() == 0
    assert sweeping.PAGE >= 1_000
