"""The registry's promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest

from chronos_cli.errors import ConflictError, NotFoundError
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.dead_letters import Operations
from chronos_cli.nas_server.timers.interface import RegistryUnavailableError
from chronos_cli.nas_server.timers.model import (
    Cancel,
    DeliveryOutcome,
    Fate,
    Provision,
    ProvisionEffect,
    Refusal,
    TimerState,
)
from chronos_cli.nas_server.timers.registry import FIRST, TimerRegistry
from tests.conftest import thoroughly

NOW = 1_800_000_000.0


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def registry(backend, clock):
    return TimerRegistry(backend, clock)


@pytest.fixture
def agent(backend, clock):
    return AgentRegister(backend, clock).add("one").agent


def wish(agent, job_id="job", fire_at=NOW + 60, **more):
    more = {
        "fire_text": f"at {int(fire_at)}",
        "callback_url": "https://a.example",
        "host": "https://a.example:443",
    } | more
    return Provision(agent_id=agent.id, job_id=job_id, fire_at=int(fire_at), **more)


def claim(registry, **more):
    return registry.claim([(due.schedule_id, due.attempts) for due in registry.due(**({"most": 10} | more)).timers])


def settle(registry, delivery, fate, clock, **more):
    return registry.settle([DeliveryOutcome(delivery=delivery, fate=fate, at=clock(), **more)])[0]


def jobs(registry, agent):
    return {one.job_id: one for one in registry.armed(agent, limit=100)}


def test_a_wish_replaces_the_one_that_was_never_tried(registry, agent):
    """A job has one timer: another instant takes its place, the same one changes nothing."""
    first, same, other = registry.apply([wish(agent), wish(agent), wish(agent, fire_at=NOW + 90)])
    assert first.schedule_id == same.schedule_id
    assert (first.changed, same.changed, other.changed) == (True, False, True)
    assert other.replaced == first.schedule_id
    assert jobs(registry, agent)["job"].fire_at == NOW + 90
    assert len(registry.armed(agent, limit=100)) == 1


def test_the_callback_of_the_same_instant_is_replaced_in_place(registry, agent):
    """The newest callback URL counts, without a new timer."""
    first = registry.apply([wish(agent)])[0]
    again = registry.apply([wish(agent, callback_url="https://b.example", host="https://b.example:443")])[0]
    assert again.schedule_id == first.schedule_id
    assert again.changed
    assert jobs(registry, agent)["job"].callback_url == "https://b.example"


def test_only_what_is_due_is_claimed_and_only_once(registry, agent, clock):
    """A claim takes due timers, longest waiting first, and a claimed timer is out of reach until its claim ends."""
    registry.apply([wish(agent, "late", NOW - 5), wish(agent, "later", NOW - 2), wish(agent, "ahead", NOW + 5)])
    assert [one.job_id for one in claim(registry)] == ["late", "later"]
    assert claim(registry) == []
    assert jobs(registry, agent)["late"].state is TimerState.IN_FLIGHT
    clock.now += 200
    again = claim(registry)
    assert {one.job_id for one in again} == {"late", "later", "ahead"}
    assert {one.job_id: one.attempt for one in again} == {"late": 2, "later": 2, "ahead": 1}


def test_lanes_that_want_no_more_are_passed_by(registry, agent):
    """What may not be called now is neither claimed nor in the way of the others."""
    registry.apply([wish(agent, "a", NOW - 9), wish(agent, "b", NOW - 1, host="https://b.example:443")])
    assert [one.job_id for one in claim(registry, skip=[(agent.id, "https://a.example:443")], most=1)] == ["b"]
    assert claim(registry, skip=[(agent.id, "https://a.example:443"), (7, "x"), (agent.id, "y")]) == []
    assert [one.job_id for one in claim(registry)] == ["a"]


def test_what_is_due_is_read_page_by_page_without_gap_or_repeat(registry, agent):
    """Rows that fall due in one second are many; a page looks at so many rows and the next goes on behind them."""
    registry.apply([wish(agent, f"j{n:02}", NOW - n // 20) for n in range(50)] + [wish(agent, "ahead", NOW + 1)])
    for scan, most, skip in ((7, 100, ()), (100, 7, ()), (9, 4, ((99, "other"),))):
        seen, edge, ended = [], FIRST, False
        while not ended:
            page = registry.due(after=edge, scan=scan, most=most, skip=skip)
            assert len(page.timers) <= min(scan, most)
            seen += [one.schedule_id for one in page.timers]
            edge, ended = page.edge, page.ended
        assert len(seen) == len(set(seen)) == 50
        assert edge == FIRST


def test_a_page_of_what_is_passed_by_costs_only_its_scan(registry, agent):
    """A backlog that may not be called now is walked in steps, and what stands behind it is reached."""
    registry.apply([wish(agent, f"j{n}", NOW - 9) for n in range(30)])
    registry.apply([wish(agent, "free", NOW - 1, host="https://b.example:443")])
    blocked = [(agent.id, "https://a.example:443")]
    pages, edge, ended = [], FIRST, False
    while not ended:
        page = registry.due(after=edge, scan=10, skip=blocked)
        pages.append([one.host for one in page.timers])
        edge, ended = page.edge, page.ended
    assert pages[:3] == [[], [], []]
    assert sum(pages, []) == ["https://b.example:443"]  # noqa: RUF017 - four of them


def test_a_superseded_timer_is_dropped_before_its_first_attempt(registry, agent):
    """A reminder of a generation that was replaced or cancelled before it was tried claims nothing."""
    first = registry.apply([wish(agent, fire_at=NOW - 1)])[0]
    registry.apply([wish(agent, fire_at=NOW + 60)])
    assert registry.claim([(first.schedule_id, 0)]) == []
    second = registry.apply([wish(agent, "other", fire_at=NOW - 1)])[0]
    registry.apply([Cancel(agent_id=agent.id, job_id="other")])
    assert registry.claim([(second.schedule_id, 0)]) == []


def test_the_outcome_of_an_old_delivery_touches_only_its_own(registry, agent, clock):
    """An arm that came during a relay survives the relay's success, and its failure, which stays owed beside it."""
    registry.apply([wish(agent, fire_at=NOW - 1)])
    delivery = claim(registry)[0]
    newer = registry.apply([wish(agent, fire_at=NOW + 60)])[0]
    assert settle(registry, delivery, Fate.RETRY, clock, next_at=NOW + 1, error="answered 503")
    clock.now += 2
    again = claim(registry)
    assert [one.schedule_id for one in again] == [delivery.schedule_id]
    assert again[0].attempt == 2
    assert jobs(registry, agent)["job"].schedule_id == newer.schedule_id
    assert settle(registry, again[0], Fate.DELIVERED, clock)
    assert jobs(registry, agent)["job"].schedule_id == newer.schedule_id
    assert jobs(registry, agent)["job"].state is TimerState.ARMED


def test_the_instant_in_flight_again_is_a_no_op(registry, agent):
    """Arming what is being relayed changes nothing, also when a newer wish stood in between."""
    first = registry.apply([wish(agent, fire_at=NOW - 1)])[0]
    claim(registry)
    same = registry.apply([wish(agent, fire_at=NOW - 1)])[0]
    assert (same.schedule_id, same.state, same.changed) == (first.schedule_id, TimerState.IN_FLIGHT, False)
    registry.apply([wish(agent, fire_at=NOW + 60)])
    back = registry.apply([wish(agent, fire_at=NOW - 1)])[0]
    assert back.schedule_id == first.schedule_id
    assert len(registry.armed(agent, limit=10)) == 1


def test_cancel_drops_the_arm_and_what_is_owed(registry, agent, clock):
    """After a cancel nothing is left, and the outcome of the relay on the wire brings nothing back."""
    registry.apply([wish(agent, fire_at=NOW - 1)])
    delivery = claim(registry)[0]
    registry.apply([wish(agent, fire_at=NOW + 60)])
    assert registry.apply([Cancel(agent_id=agent.id, job_id="job")])[0].dropped == 2
    assert not settle(registry, delivery, Fate.RETRY, clock, next_at=NOW + 1, error="x")
    assert registry.armed(agent, limit=10) == []
    assert registry.apply([Cancel(agent_id=agent.id, job_id="job")])[0].dropped == 0


def test_a_delivered_instant_is_remembered_for_a_day_and_arms_again_while_ahead(registry, agent, clock):
    """A request sent twice is not run twice; an instant that is still ahead may be armed again after its delivery."""
    past = registry.apply([wish(agent, fire_at=NOW - 1)])[0]
    settle(registry, claim(registry)[0], Fate.DELIVERED, clock)
    again = registry.apply([wish(agent, fire_at=NOW - 1)])[0]
    assert (again.schedule_id, again.state, again.changed) == (past.schedule_id, TimerState.DELIVERED, False)
    assert claim(registry) == []
    registry.apply([wish(agent, "ahead", NOW + 60)])
    clock.now += 61
    settle(registry, claim(registry)[0], Fate.DELIVERED, clock)
    clock.now -= 61
    assert registry.apply([wish(agent, "ahead", NOW + 60)])[0].state is TimerState.ARMED
    clock.now += 25 * 3600
    assert registry.sweep() >= 1
    assert registry.apply([wish(agent, fire_at=NOW - 1)])[0].state is TimerState.ARMED


def test_a_claim_whose_answer_was_lost_is_given_back(registry, backend, agent, clock, monkeypatch):
    """A line that broke after the claim delays nothing by a whole claim, and takes no other worker's away."""
    registry.apply([wish(agent, f"job-{n}", NOW - 1) for n in range(3)])
    entries = [(one.schedule_id, one.attempts) for one in registry.due().timers]
    write = backend.write

    def lost(work):
        write(work)
        raise RegistryUnavailableError("the line broke")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "write", lost)
        with pytest.raises(RegistryUnavailableError):
            registry.claim(entries)
    assert registry.due().timers == []
    assert registry.unheard.wanted
    # One of them ended since, and another worker has it.
    clock.now += 100
    other = TimerRegistry(backend, clock)
    taken = other.claim([(one.schedule_id, one.attempts) for one in other.due().timers[:1]])
    clock.now -= 100
    assert registry.unheard.give_back(clock.now) == 2
    assert {one.attempts for one in registry.due().timers} == {1}
    assert taken[0].schedule_id not in {one.schedule_id for one in registry.due().timers}
    assert not registry.unheard.wanted


def test_a_claim_that_reaches_the_store_late_is_given_back_too(registry, agent, clock):
    """What was cut off may be carried out a moment after the line works again: asked for until the claim would end."""
    registry.apply([wish(agent, fire_at=NOW - 1)])
    one = registry.due().timers[0]
    registry.unheard.add(clock.now + registry._claim_s, [one.schedule_id])
    assert registry.unheard.give_back(clock.now) == 0
    assert not registry.unheard.wanted  # not at once again
    assert len(registry.claim([(one.schedule_id, one.attempts)])) == 1
    assert registry.unheard.give_back(clock.now) == 1
    assert len(registry.due().timers) == 1
    registry.unheard.add(clock.now - 1, ["ended"])
    assert registry.unheard.give_back(clock.now) == 0
    registry.unheard._tried_at = float("-inf")
    assert not registry.unheard.wanted


def test_hosts_that_were_armed_for_of_late_are_known_to_every_process(registry, agent, clock):
    """The time of an arm stands in its id, whichever process took it."""
    registry.apply([wish(agent, "old", NOW + 60)])
    clock.now += 30
    registry.apply([wish(agent, "new", NOW + 90, host="https://new.example:443")])
    assert registry.hosts_since(clock.now - 2) == {"https://new.example:443"}
    assert len(registry.hosts_since(NOW - 2)) == 2
    clock.now += 30
    assert registry.hosts_since(clock.now - 2) == set()


def test_slots_go_when_nothing_needs_them(registry, backend, agent, clock):
    """A job that is gone leaves nothing: its delivery for a day, its generation for a week, and never while it holds."""
    registry.apply([wish(agent, "plain", NOW - 1), wish(agent, "numbered", NOW - 1, generation=5)])
    registry.apply([wish(agent, "held", NOW + 1e7, generation=1), wish(agent, "cancelled", generation=3)])
    registry.apply([Cancel(agent_id=agent.id, job_id="cancelled", generation=4)])
    for delivery in claim(registry):
        assert settle(registry, delivery, Fate.DELIVERED, clock)
    slots = lambda: {row[0] for row in backend.read(lambda s: s.all("SELECT job_id FROM slots"))}  # noqa: E731
    clock.now += 25 * 3600
    registry.sweep()
    assert slots() == {"numbered", "held", "cancelled"}
    clock.now += 7 * 24 * 3600
    registry.sweep()
    assert slots() == {"held"}
    assert registry.sweep() == 0


def test_an_older_generation_is_refused(registry, agent):
    """Generations order the wishes for a job, through cancels too; wishes without one are always taken."""
    assert isinstance(registry.apply([wish(agent, generation=5)])[0], ProvisionEffect)
    stale = registry.apply([wish(agent, fire_at=NOW + 90, generation=4)])[0]
    assert isinstance(stale, Refusal)
    assert (stale.status, stale.error, stale.extra) == (409, "stale_generation", {"generation": 5})
    assert isinstance(registry.apply([Cancel(agent_id=agent.id, job_id="job", generation=4)])[0], Refusal)
    registry.apply([Cancel(agent_id=agent.id, job_id="job", generation=6)])
    assert isinstance(registry.apply([wish(agent, generation=5)])[0], Refusal)
    assert isinstance(registry.apply([wish(agent)])[0], ProvisionEffect)


def test_a_limit_counts_timers_and_not_replacements(registry, agent):
    """An agent at its limit may replace and cancel, and is told the limit when it asks for more."""
    answers = registry.apply([wish(agent, f"j{n}", max_timers=2) for n in range(3)])
    assert isinstance(answers[2], Refusal)
    assert (answers[2].status, answers[2].extra) == (422, {"limit": 2})
    assert isinstance(registry.apply([wish(agent, "j1", NOW + 99, max_timers=2)])[0], ProvisionEffect)
    registry.apply([Cancel(agent_id=agent.id, job_id="j0")])
    assert isinstance(registry.apply([wish(agent, "j2", max_timers=2), wish(agent, "j3", max_timers=2)])[1], Refusal)


def test_dead_ones_can_be_seen_dropped_and_delivered_again(registry, backend, agent, clock):
    """The dead list keeps what was given up; a redrive delivers it under the same id, beside a newer wish."""
    operations = Operations(backend, clock)
    registry.apply([wish(agent, fire_at=NOW - 1)])
    delivery = claim(registry)[0]
    assert settle(registry, delivery, Fate.DEAD, clock, error="answered 500")
    assert registry.armed(agent, limit=10) == []
    assert operations.dead()[0].last_error == "answered 500"
    registry.apply([wish(agent, fire_at=NOW + 60)])
    assert operations.redrive(delivery.schedule_id).job_id == "job"
    again = claim(registry)[0]
    assert (again.schedule_id, again.attempt) == (delivery.schedule_id, 1)
    settle(registry, again, Fate.DEAD, clock, error="x")
    operations.drop(delivery.schedule_id)
    with pytest.raises(NotFoundError, match="nothing dead"):
        operations.show(delivery.schedule_id)
    assert jobs(registry, agent)["job"].fire_at == NOW + 60


def test_a_dead_instant_may_be_armed_again(registry, agent, clock):
    """After the dead list took it, the newest wish counts again."""
    registry.apply([wish(agent, fire_at=NOW - 1)])
    settle(registry, claim(registry)[0], Fate.DEAD, clock, error="x")
    assert registry.apply([wish(agent, fire_at=NOW - 1)])[0].state is TimerState.ARMED
    assert len(claim(registry)) == 1


def test_agents_are_apart_and_revoking_drops_theirs(registry, backend, agent, clock):
    """The same job id of two agents is two jobs; a revoked agent's timers go, the other's stay."""
    roster = AgentRegister(backend, clock)
    other = roster.add("two").agent
    registry.apply([wish(agent), wish(other, fire_at=NOW + 90)])
    assert jobs(registry, agent)["job"].fire_at == NOW + 60
    assert roster.revoke("two")[1] == 1
    assert registry.armed(other, limit=10) == []
    assert jobs(registry, agent)["job"].fire_at == NOW + 60
    registry.apply([wish(other, fire_at=NOW - 1)])
    assert claim(registry) == []
    with pytest.raises(ConflictError):
        roster.add("two")


def test_tokens_are_hashed_expire_and_rotate(backend, clock):
    """A token is nowhere in the store; it ends at its time, and a rotation ends the old one after its overlap."""
    roster = AgentRegister(backend, clock)
    first = roster.add("one", expires_in=100)
    rows = backend.read(lambda session: session.all("SELECT * FROM tokens"))
    assert first.token not in repr(rows)
    assert roster.authenticate(first.token) == first.agent
    assert roster.authenticate(first.token + "x") is None
    second = roster.rotate("one", overlap=10)
    clock.now += 5
    assert roster.authenticate(first.token) is not None
    clock.now += 6
    assert roster.authenticate(first.token) is None
    assert roster.authenticate(second.token) == first.agent
    third = roster.rotate("one", expires_in=50)
    clock.now += 49
    assert roster.authenticate(third.token) is not None
    clock.now += 2
    assert roster.authenticate(third.token) is None


def test_a_list_pages_by_job_id(registry, agent):
    """Pages follow each other without gap or overlap, in the order of job ids, capitals first."""
    names = sorted(f"{letter}{n}" for letter in "aBc" for n in range(4))
    registry.apply([wish(agent, name) for name in names])
    seen: list[str] = []
    while page := registry.armed(agent, after=seen[-1] if seen else "", limit=5):
        seen += [one.job_id for one in page]
    assert seen == names


def test_racing_upserts_cancels_and_relays_never_lose_the_newest_wish(registry, agent, clock):
    """Many threads wish, cancel, claim and settle the same jobs; each job ends with the last wish made for it."""
    last: dict[str, int | None] = {}
    errors: list[BaseException] = []
    stop = threading.Event()

    def wishes(job_id: str, seed: int) -> None:
        draw = random.Random(seed)
        try:
            for generation in range(thoroughly(40, 15)):
                fire_at = int(NOW) + draw.choice([-3, -2, -1, 1000 + generation])
                if draw.random() < 0.2:
                    registry.apply([Cancel(agent_id=agent.id, job_id=job_id, generation=generation)])
                    last[job_id] = None
                else:
                    registry.apply([wish(agent, job_id, fire_at, generation=generation)])
                    last[job_id] = fire_at
            registry.apply([wish(agent, job_id, NOW + 5000, generation=99)])
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    def relays(seed: int) -> None:
        draw = random.Random(seed)
        try:
            while not stop.is_set():
                for delivery in claim(registry, most=3):
                    settle(registry, delivery, draw.choice([Fate.DELIVERED, Fate.RETRY]), clock, next_at=NOW, error="x")
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    wishing = [threading.Thread(target=wishes, args=(f"job-{n}", n)) for n in range(4)]
    relaying = [threading.Thread(target=relays, args=(n,)) for n in range(3)]
    for thread in wishing + relaying:
        thread.start()
    for thread in wishing:
        thread.join(30)
    stop.set()
    for thread in relaying:
        thread.join(30)
    assert errors == []
    held = jobs(registry, agent)
    assert {job_id: one.fire_at for job_id, one in held.items()} == {f"job-{n}": NOW + 5000 for n in range(4)}


def test_many_wishes_are_as_many_statements_as_one(registry, backend, agent, clock, monkeypatch):
    """A batch that arms, arms anew, moves what is tried and cancels runs each kind of statement once for all rows."""
    texts = []
    run = type(backend).write

    def write(self, work):
        def watched(session):
            kind = type(session)

            class Counted(kind):
                def all(self, statement, parameters=()):
                    texts.append(statement)
                    return kind.all(self, statement, parameters)

                def run(self, statement, parameters=()):
                    texts.append(statement)
                    return kind.run(self, statement, parameters)

                def many(self, statement, rows):
                    texts.extend([statement] * len(rows))
                    return kind.many(self, statement, rows)

            return work(Counted(session.connection))

        return run(self, watched)

    def batch(size):
        texts.clear()
        registry.apply([wish(agent, f"new-{size}-{n}", clock.now + 60, generation=1) for n in range(size)])
        registry.apply([wish(agent, f"new-{size}-{n}", clock.now + 60, generation=2) for n in range(size)])
        registry.apply([wish(agent, f"new-{size}-{n}", clock.now + 90, generation=3) for n in range(size)])
        registry.apply([Cancel(agent_id=agent.id, job_id=f"new-{size}-{n}", generation=4) for n in range(size)])
        return Counter(text.split()[0] + text.split()[2] for text in texts if not text.startswith("SELECT"))

    monkeypatch.setattr(type(backend), "write", write)
    assert batch(1) == batch(40)
    assert batch(3)["DELETEtimers"] == 2
    assert registry.armed(agent, limit=9) == []
