"""Fair shares of what is under way, on both stores."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter

import pytest

from chronos_cli.nas_server.addresses import CallbackPolicy
from chronos_cli.nas_server.relay.waiting import LANE, MOST, REFILL, WaitingTimers
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.model import DueTimer, Provision
from chronos_cli.nas_server.timers.registry import TimerRegistry
from tests.nas_process import Callback, running_nas

PAST = "2020-01-01T00:00:00+00:00"


def due(agent: int, number: int, host: str = "h") -> DueTimer:
    return DueTimer(schedule_id=f"{agent}-{host}-{number}", agent_id=agent, host=host, due_at=float(number), attempts=0)


def test_lanes_are_served_in_turn():
    """An agent with few comes between the many of another, and the next batch goes on with whoever had least."""
    waiting = WaitingTimers()
    waiting.add([due(1, n) for n in range(50)] + [due(2, n) for n in range(3)])
    taken = waiting.take(6, lambda *_: True)
    assert [one.agent_id for one in taken] == [1, 2, 1, 2, 1, 2]
    waiting.add([due(3, 0)])
    assert 3 in [one.agent_id for one in waiting.take(2, lambda *_: True)]
    assert waiting.take(9, lambda _host, agent: agent == 9) == []


def test_a_lane_is_bounded_and_filled_again_when_it_has_drained():
    """What a lane does not take is left in the store, and asked for once there is room, once."""
    waiting = WaitingTimers()
    waiting.add([due(1, n) for n in range(LANE + 100)])
    waiting.add([due(1, n) for n in range(LANE + 100)])
    assert len(waiting) == LANE
    assert waiting.busy() == [(1, "h")]
    assert not waiting.drained()
    assert len(waiting.take(LANE - LANE // REFILL, lambda *_: True)) == LANE - LANE // REFILL
    assert waiting.drained()
    assert not waiting.drained()
    assert waiting.busy() == []


def test_an_agent_with_hosts_without_number_holds_a_bounded_part():
    """Lanes are short where there are many, and one agent's are a part of all; the rest is not read again meanwhile."""
    waiting = WaitingTimers()
    waiting.add([due(1, n, f"h{n}") for n in range(MOST)])
    assert len(waiting) == MOST // 4
    waiting.add([due(2, 0)])
    assert len(waiting) == MOST // 4 + 1
    assert len(waiting.busy()) == MOST // 4
    assert not waiting.drained()
    waiting.take(MOST // 5, lambda _host, agent: agent == 1)
    assert waiting.drained()


@pytest.mark.parametrize("hosts", [50, 200, 1_500])
def test_blocked_hosts_are_read_once(hosts):
    """However many hosts are blocked with more behind them, their lanes ask for nothing, and all are passed by."""
    waiting = WaitingTimers()
    for number in range(hosts):
        waiting.add([due(number, n, f"h{number}") for n in range(MOST // hosts + 50)])
    assert len(waiting.busy()) == hosts
    assert waiting.take(250, lambda *_: False) == []
    assert not waiting.drained()
    freed = waiting.take(MOST, lambda _host, agent: agent == 7)
    assert {one.agent_id for one in freed} == {7}
    assert waiting.drained()
    assert not waiting.drained()


def test_an_honest_agent_has_places_at_a_host_that_greedy_ones_hold(tmp_path, flags):
    """Behind one gateway, calls that hang are those of their agents: another's twelve come through within 2 s."""
    release = threading.Event()

    def answer(fire):
        if fire.body["job_id"].startswith("greedy"):
            release.wait(20)
        return 200

    with Callback(answer) as gateway, running_nas(tmp_path, *flags) as nas:
        for number in range(5):
            greedy = nas.add_agent(f"greedy-{number}", "--rate", "100000")
            batch = [one | {"job_id": f"greedy-{one['job_id']}"} for one in items(100, gateway.url)]
            nas.call("POST", "/api/agent-cron/batch", greedy.token, {"items": batch})
        honest = nas.add_agent("honest")
        gateway.wait(16)
        began = time.time()
        nas.call("POST", "/api/agent-cron/batch", honest.token, {"items": items(12, gateway.url)})
        deadline = time.monotonic() + 5
        while len(found := [f for f in gateway.fires if f.body["job_id"].startswith("job")]) < 12:
            assert time.monotonic() < deadline, f"{len(found)} of 12"
            time.sleep(0.01)
        release.set()
    assert max(fire.at for fire in found) - began < 2


@pytest.fixture
def flags(database):
    return ("--db", database, "--relay-timeout", "30s")


def items(count: int, url: str, when: str = PAST) -> list[dict[str, str]]:
    return [
        {"op": "provision", "job_id": f"job-{n}", "fire_at": when, "agent_callback_url": url, "dedup_key": f"{n}"}
        for n in range(count)
    ]


def test_greedy_agents_leave_an_honest_one_its_places(tmp_path, flags):
    """Five agents with hundreds due each, whose callbacks hang, and one with twelve: all twelve within 2 s."""
    release = threading.Event()
    with (
        Callback(lambda _: (release.wait(20), 200)[1]) as slow,
        Callback() as quick,
        running_nas(tmp_path, *flags) as nas,
    ):
        for number in range(5):
            greedy = nas.add_agent(f"greedy-{number}", "--rate", "100000")
            for host in range(4):
                batch = items(100, slow.url.replace("127.0.0.1", f"127.0.{number}.{host + 1}"))
                batch = [one | {"job_id": f"{one['job_id']}-{host}"} for one in batch]
                reply = nas.call("POST", "/api/agent-cron/batch", greedy.token, {"items": batch})
                assert all(one["ok"] for one in reply.json["results"])
        honest = nas.add_agent("honest")
        began = time.time()
        nas.call("POST", "/api/agent-cron/batch", honest.token, {"items": items(12, quick.url)})
        fires = quick.wait(12, timeout=5)
        late = max(fire.at for fire in fires) - began
        release.set()
    assert len({fire.body["job_id"] for fire in fires}) == 12
    assert late < 2


def most_at_once(tmp_path, count, took_s, answer):
    """The most calls of `count` that are under way together, where each is answered so after `took_s`."""
    lock, now, most = threading.Lock(), [0], [0]

    def counted(_):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(took_s)
        with lock:
            now[0] -= 1
        return answer

    with Callback(counted) as gateway, running_nas(tmp_path) as nas:
        agent = nas.add_agent("a")
        nas.call("POST", "/api/agent-cron/batch", agent.token, {"items": items(count, gateway.url)})
        gateway.wait(count, timeout=20)
        assert Counter(fire.body["job_id"] for fire in gateway.fires).most_common(1)[0][1] == 1
    return most[0]


def test_a_host_that_answers_quickly_is_given_more_at_once(tmp_path):
    """Hundreds of deliveries to one gateway are under way together, not sixteen."""
    assert most_at_once(tmp_path, 300, 0.3, 200) > 32


def test_a_host_that_asks_for_less_is_given_no_more(tmp_path):
    """A quick `503` with Retry-After is the answer of one that lives and has enough to do."""
    assert most_at_once(tmp_path, 120, 0.1, (503, {"Retry-After": "60"})) <= 16


def test_a_look_past_a_backlog_reads_only_its_scan(backend):
    """Fifty blocked hosts with many overdue are passed by in steps: a look returns nothing of theirs."""
    registry = TimerRegistry(backend, lambda: 1_000.0)
    agent = AgentRegister(backend, lambda: 1_000.0).add("a").agent
    hosts = [f"https://h{n}.example:443" for n in range(50)]
    wishes = [
        Provision(
            agent_id=agent.id, job_id=f"j{n}", fire_at=900, fire_text="t", callback_url="https://x", host=hosts[n % 50]
        )
        for n in range(1_000)
    ]
    registry.apply(wishes)
    page = registry.due(scan=400, skip=[(agent.id, host) for host in hosts])
    assert page.timers == []
    assert not page.ended
    assert page.edge > (0.0, "")


@pytest.mark.service
def test_an_arm_that_is_due_at_once_is_heard_of_by_a_worker_elsewhere(postgres, tmp_path):
    """What one process arms for now is called by another without waiting for its next look."""
    url, home = postgres.new_database(), tmp_path / "home"
    with (
        Callback() as callback,
        running_nas(tmp_path / "web", "--db", url, "--role", "web", home=home) as web,
        running_nas(tmp_path / "worker", "--db", url, "--role", "worker", home=home) as worker,
    ):
        agent = web.add_agent("a")
        while worker.call("GET", "/readyz").status != 200:
            time.sleep(0.1)
        time.sleep(1.0)
        delays = []
        for number in range(5):
            time.sleep(0.13)
            began = time.time()
            web.provision(agent, f"job-{number}", PAST, callback.url)
            delays.append(callback.wait(number + 1)[-1].at - began)
    # Five looks once a second would come half a second late on average.
    assert sum(delays) < 1.5


def test_an_agent_whose_names_nobody_answers_for_leaves_look_ups_to_others(monkeypatch):
    """A name server of its own that is silent, and hundreds of names: another agent's name is found at once."""
    import asyncio

    from chronos_cli.nas_server.relay.callbacks import CallbackClient

    slow = threading.Event()
    real = socket.getaddrinfo

    def look_up(host, *more, **named):
        if host.endswith(".silent.localhost"):
            slow.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real("127.0.0.1" if host == "agent.localhost" else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def all_at_once(port):
        async with CallbackClient(CallbackPolicy(allow_private=True), timeout=8) as client:
            hung = [
                asyncio.create_task(client.post(f"http://h{n}.silent.localhost:9/x", b"{}", {}, caller=n % 3))
                for n in range(300)
            ]
            await asyncio.sleep(0.1)
            began = time.monotonic()
            url = f"http://agent.localhost:{port}/api/cron/fire"
            assert (await client.post(url, b"{}", {}, caller="honest")).status == 200
            assert time.monotonic() - began < 2
            slow.set()
            assert len(await asyncio.gather(*hung, return_exceptions=True)) == 300

    with Callback() as callback:
        asyncio.run(all_at_once(callback.url.rpartition(":")[2]))


def test_names_that_nobody_answers_for_hold_up_no_call(tmp_path, monkeypatch):
    """A name server that is silent is waited for in threads of its own; addresses are called meanwhile."""
    import asyncio

    from chronos_cli.nas_server.relay.callbacks import CallbackClient, CallbackFailedError

    slow = threading.Event()
    real = socket.getaddrinfo

    def look_up(host, *more, **named):
        if host == "silent.localhost":
            slow.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def both(url):
        async with CallbackClient(CallbackPolicy(allow_private=True), timeout=8) as client:
            hung = [asyncio.create_task(client.post("http://silent.localhost:9/x", b"{}", {})) for _ in range(8)]
            await asyncio.sleep(0.1)
            assert (await client.post(f"{url}/api/cron/fire", b"{}", {})).status == 200
            assert not any(task.done() for task in hung)
            slow.set()
            for task in hung:
                with pytest.raises(CallbackFailedError):
                    await task

    with Callback() as callback:
        asyncio.run(both(callback.url))
