"""One exchange a fire: the 2xx carries the next wake, and NAS settles and arms in one transaction. Spread. Failures told."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import jwt
import pytest

from chronos_cli.nas_server.bodies import BadRequestError, next_wake
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.decide import spread_s
from chronos_cli.nas_server.timers.model import Cancel, DeliveryOutcome, Fate, NextWake, Provision
from chronos_cli.nas_server.timers.registry import TimerRegistry
from tests.nas_process import Callback, running_nas

NOW = 1_800_000_000.0
URL, HOST = "https://a.example", "https://a.example:443"


@pytest.fixture
def agent(backend):
    return AgentRegister(backend, lambda: NOW).add("one", rate=7.0).agent


@pytest.fixture
def registry(backend):
    return TimerRegistry(backend, lambda: NOW)


def wish(agent, fire_at=NOW - 1, job_id="job", **more):
    more = {"callback_url": URL, "host": HOST, "accepts": frozenset({"arm-in-answer"})} | more
    return Provision(agent_id=agent.id, job_id=job_id, fire_at=int(fire_at), fire_text=f"at {int(fire_at)}", **more)


def take(registry):
    return registry.claim([(due.schedule_id, due.attempts) for due in registry.due(most=10).timers])


def answer(registry, delivery, fire_at=NOW + 60, generation=9, **more):
    wake = NextWake(
        generation=generation,
        fire_at=None if fire_at is None else int(fire_at),
        fire_text="" if fire_at is None else f"at {int(fire_at)}",
        **more,
    )
    outcome = DeliveryOutcome(delivery=delivery, fate=Fate.DELIVERED, at=NOW, status=200, next_wake=wake)
    return registry.settle([outcome])[0]


def held(registry, agent):
    return {one.job_id: one.fire_at - NOW for one in registry.armed(agent, limit=10)}


def fired(registry, agent, **more):
    registry.apply([wish(agent, **more)])
    return take(registry)[0]


def test_an_answer_settles_and_arms(registry, agent):
    """The delivery is gone and the next is armed, under the same callback, rights and the answer's generation."""
    delivery = fired(registry, agent, generation=3)
    assert (delivery.accepts, delivery.generation, delivery.rate) == ({"arm-in-answer"}, 3, 7.0)
    assert answer(registry, delivery, NOW - 0, generation=4)
    (after,) = take(registry)
    assert (after.accepts, after.generation, after.fire_at) == ({"arm-in-answer"}, 4, NOW)
    assert (after.callback_url, after.host, after.attempt) == (URL, HOST, 1)
    assert answer(registry, after, None, generation=5)
    assert held(registry, agent) == {}
    assert registry.apply([Cancel(agent_id=agent.id, job_id="job", generation=4)])[0].status == 409


def test_only_an_answer_newer_than_any_wish_counts(registry, agent):
    """An answer that comes late, twice or out of order settles its delivery and undoes nothing."""
    first = fired(registry, agent, generation=3)
    registry.apply([wish(agent, NOW + 30, generation=7)])
    for generation in (6, 7):
        answer(registry, first, NOW + 90, generation=generation)
        assert held(registry, agent) == {"job": 30}
    assert answer(registry, first, NOW + 91, generation=8) is False, "it was settled before"
    assert held(registry, agent) == {"job": 91}
    answer(registry, first, None, generation=8)
    assert held(registry, agent) == {"job": 91}


def test_a_cancel_outruns_the_answer_of_what_it_cancelled(registry, agent):
    """What was cancelled while its fire was under way stays cancelled, with a generation of the cancel or without."""
    for generation in (None, 20):
        delivery = fired(registry, agent)
        registry.apply([Cancel(agent_id=agent.id, job_id="job", generation=generation)])
        assert answer(registry, delivery, NOW + 60, generation=10) is False
        assert held(registry, agent) == {}


def test_an_answer_speaks_for_its_callback_only(registry, agent):
    """Once the job is armed for another callback, the old one's answer settles and changes nothing."""
    delivery = fired(registry, agent)
    registry.apply([wish(agent, NOW + 30, callback_url="https://b.example", host="https://b.example:443")])
    for fire_at in (NOW + 60, None):
        answer(registry, delivery, fire_at, generation=50)
        assert held(registry, agent) == {"job": 30}
    other = fired(registry, agent, job_id="moved")
    registry.apply([wish(agent, job_id="moved", callback_url="https://b.example", host="https://b.example:443")])
    assert answer(registry, other, NOW + 60, generation=51)
    assert "moved" not in held(registry, agent)


def test_an_answer_does_not_touch_what_is_owed(registry, agent):
    """A fire that was answered badly stays owed while a later one of its job is answered well."""
    owed = fired(registry, agent, fire_at=NOW - 9)
    registry.settle([DeliveryOutcome(delivery=owed, fate=Fate.RETRY, at=NOW, error="answered 503", next_at=NOW + 5)])
    later = fired(registry, agent, fire_at=NOW - 1)
    assert answer(registry, later, None, generation=2)
    assert held(registry, agent) == {"job": -9}
    assert registry.armed(agent, limit=1)[0].owed.last_error == "answered 503"


def test_a_wish_without_the_handshake_takes_it_back(registry, agent):
    """An older worker that arms the same instant is called as it expects."""
    registry.apply([wish(agent, NOW - 1), wish(agent, NOW - 1, accepts=frozenset())])
    assert take(registry)[0].accepts == frozenset()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"status": "accepted"}', b'{"next": null}', b'{"next": "none"}', b'{"next": {}}',
        b'{"next": {"none": true}}', b'{"next": {"none": false, "generation": 1}}', b'{"next": {"generation": 1}}',
        b'{"next": {"none": true, "generation": -1}}', b'{"next": {"none": true, "generation": "1"}}',
        b'{"next": {"fire_at": "2031-01-01T00:00:00+00:00", "generation": 1}}',
        b'{"next": {"fire_at": "2031-01-01T00:00:00+00:00", "dedup_key": "x"}}',
        b'{"next": {"fire_at": "2031-01-01T00:00:00", "dedup_key": "x", "generation": 1}}',
        b'{"next": {"fire_at": "2031-01-01T00:00:00Z", "dedup_key": "", "generation": 1}}',
        b'{"next": {"fire_at": "2031-01-01T00:00:00Z", "dedup_key": "x", "generation": 1, "tolerance": -1}}',
        b'{"next": {"fire_at": "2031-01-01T00:00:00Z", "dedup_key": "x", "generation": 1, "none": true}}',
    ],
)  # fmt: skip
def test_what_is_no_next(body):
    """Whatever does not say plainly what is to be armed is no answer to a fire that asks for it."""
    with pytest.raises(BadRequestError):
        next_wake(body)


def test_what_a_next_is():
    """A wake, none, or what is there already."""
    assert next_wake(b'{"result": "gone", "next": "keep"}') is None
    assert next_wake(b'{"next": {"none": true, "generation": 4}}') == NextWake(generation=4)
    found = next_wake(
        b'{"next": {"fire_at": "2027-01-15T08:00:00Z", "dedup_key": "x", "generation": 0, "tolerance": 9}}'
    )
    assert found == NextWake(generation=0, fire_at=int(NOW), fire_text="2027-01-15T08:00:00Z", tolerance=9)


def test_a_fire_is_spread_within_its_tolerance_and_the_same_each_time(registry, agent):
    """Due after its instant by a part of the tolerance that agent and job decide; `fire_at` stays the nominal one."""
    registry.apply([wish(agent, NOW - 100, f"j{n}", tolerance=200) for n in range(200)])
    offsets = [spread_s(agent.id, f"j{n}", 200) for n in range(200)]
    assert all(0 <= offset <= 200 for offset in offsets)
    assert len({int(offset // 20) for offset in offsets}) == 10, "spread over the whole of it"
    assert spread_s(agent.id, "j1", 200) != spread_s(agent.id + 1, "j1", 200)
    assert spread_s(agent.id, "j1", 0) == 0
    due = registry.claim([(due.schedule_id, due.attempts) for due in registry.due(most=500).timers])
    assert {one.job_id for one in due} == {f"j{n}" for n, offset in enumerate(offsets) if offset <= 100}
    assert {one.fire_at for one in due} == {NOW - 100}
    assert all(one.due_at == max(NOW, NOW - 100 + spread_s(agent.id, one.job_id, 200)) for one in due)


def test_another_tolerance_of_the_same_instant_counts(registry, agent):
    """The newest wish says how late it may be, also in an answer."""
    registry.apply([wish(agent, NOW - 1, tolerance=86_400), wish(agent, NOW - 1)])
    delivery = take(registry)[0]
    answer(registry, delivery, NOW - 0, generation=1, tolerance=86_400)
    assert take(registry) == []


# -- over the wire -------------------------------------------------------------------------------------------------


def text(at):
    return datetime.fromtimestamp(int(at), UTC).isoformat()


def arm(nas, agent, url, job_id="job", at=None, **more):
    more = {"accepts": ["arm-in-answer", "something-else"], "generation": 1} | more
    return nas.provision(agent, job_id, text(time.time() - 1 if at is None else at), url, **more)


def following(at, generation, **more):
    return 200, {}, {"next": {"fire_at": text(at), "dedup_key": "k", "generation": generation, **more}}


def claims(fire):
    return jwt.decode(fire.token, options={"verify_signature": False})


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    with running_nas(tmp_path_factory.mktemp("nas"), "--retry-base", "0.2", "--retry-cap", "0.4s") as running:
        yield running


def test_a_chain_of_fires_costs_one_exchange_each(nas):
    """Only the first wake is provisioned; each token names the generation that armed it, and says how to answer."""
    agent = nas.add_agent("chain")
    assert {"arm-in-answer", "spread", "deliveries"} <= set(
        nas.call("GET", "/api/agent-cron/list", agent.token).json["features"]
    )

    def more(fire):
        generation = claims(fire)["generation"]
        if generation < 4:
            return following(time.time() + 1, generation + 1)
        return 200, {}, {"next": {"none": True, "generation": generation + 1}}

    with Callback(more) as callback:
        arm(nas, agent, callback.url)
        fires = callback.wait(4)
        nas.wait_for("relayed", job_id="job", agent=agent.audience, count=4)
    assert [(claims(fire)["arm"], claims(fire)["generation"]) for fire in fires] == [
        ("answer", n) for n in (1, 2, 3, 4)
    ]
    assert len(nas.events("provisioned", agent=agent.audience)) == 1
    assert nas.armed(agent) == {}
    assert nas.provision(agent, "job", "2031-01-01T00:00:00Z", callback.url, generation=4).status == 409


def test_a_2xx_that_does_not_say_what_is_next_is_repeated(nas):
    """A gateway's own 202, or a worker that does not know, settles nothing; the list tells why."""
    agent = nas.add_agent("mute")
    replies = [202, (200, {}, {"status": "accepted"}), (202, {}, {"next": {"fire_at": "soon"}})]

    def say(_):
        return replies.pop(0) if replies else following(time.time() + 3600, 2)

    with Callback(say) as callback:
        arm(nas, agent, callback.url)
        fires = callback.wait(4)
        nas.wait_for("relayed", agent=agent.audience, outcome="delivered")
    assert len({claims(fire)["jti"] for fire in fires}) == 1
    errors = [one["error"] for one in nas.events("relayed", agent=agent.audience, outcome="retry")]
    assert errors[0] == "answered 202 without a next that could be armed: the body is not JSON"
    assert errors[2].startswith("answered 202 without a next that could be armed: next needs a generation")
    assert list(nas.armed(agent)) == ["job"]


def test_an_agent_that_does_not_accept_it_is_called_as_ever(nas):
    """No claim, and a 2xx with any body settles."""
    agent = nas.add_agent("plain")
    with Callback(lambda _: following(time.time() + 3600, 5)) as callback:
        arm(nas, agent, callback.url, accepts=[])
        fire = callback.wait()[0]
        nas.wait_for("relayed", agent=agent.audience, outcome="delivered")
    assert "arm" not in claims(fire)
    assert nas.armed(agent) == {}
    for bad in ("arm-in-answer", [1], {"a": 1}, ["x"] * 33):
        assert arm(nas, agent, callback.url, accepts=bad).json["error"] == "invalid_request"
    for bad in (-1, 1.5, "1", True, 86_401):
        assert arm(nas, agent, callback.url, tolerance=bad).json["error"] == "invalid_request"


def test_an_answer_costs_what_a_provision_costs(nas):
    """An agent over its rate is not armed by an answer either: its fire is repeated until there is room."""
    agent = nas.add_agent("fast", "--rate", "1")
    past = time.time() - 1000

    def again(fire):
        return following(past + claims(fire)["generation"], claims(fire)["generation"] + 1)

    with Callback(again) as callback:
        arm(nas, agent, callback.url)
        nas.wait_for("relayed", agent=agent.audience, outcome="retry")
        time.sleep(2)
        delivered = len(nas.events("relayed", agent=agent.audience, outcome="delivered"))
        callback.answer = lambda fire: (200, {}, {"next": {"none": True, "generation": 10**6}})
    error = nas.events("relayed", agent=agent.audience, outcome="retry")[0]["error"]
    assert error == "answered 200, its next wake is over the agent's rate of requests"
    assert 1 <= delivered <= 6


def test_a_list_tells_of_failed_attempts(nas):
    """Attempts, the last error in words and the next try; beside a newer arm too."""
    agent = nas.add_agent("failing")
    with Callback((503, {"Retry-After": "30"}, {"error": "not now"})) as callback:
        arm(nas, agent, callback.url, accepts=[])
        nas.wait_for("relayed", agent=agent.audience, outcome="retry")
        before = nas.armed(agent)["job"]
        arm(nas, agent, callback.url, at=time.time() + 3600, accepts=[], generation=2)
        arm(nas, agent, callback.url, "well", at=time.time() + 3600, accepts=[])
        after = nas.armed(agent)
    told = before["deliveries"]
    assert (told["fire_at"], told["attempts"]) == (before["fire_at"], 1)
    assert told["last_error"].startswith("answered 503")
    assert 20 < datetime.fromisoformat(told["next_try"]).timestamp() - time.time() < 40
    assert after["job"]["fire_at"] != before["fire_at"]
    assert after["job"]["deliveries"] == told
    assert "deliveries" not in after["well"]
