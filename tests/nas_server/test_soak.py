"""What is promised under fire: workers killed, the database restarted, and still nothing lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest

from tests.nas_process import Callback, running_nas

TIMERS = 5_000
SPREAD_S = 15


@pytest.mark.soak
@pytest.mark.service
def test_nothing_is_lost_when_a_worker_is_killed_and_postgres_restarted(postgres, tmp_path, capsys):
    """Every one of 5,000 timers is delivered at least once, and fewer than one in a hundred twice.

    Three workers; one is killed with -9 in mid-relay, and PostgreSQL is restarted as after a crash.
    """
    url = postgres.new_database()
    home = tmp_path / "home"
    with ExitStack() as stack:
        callback = stack.enter_context(Callback(lambda _: (time.sleep(0.1), 200)[1]))
        web = stack.enter_context(running_nas(tmp_path / "web", "--db", url, "--role", "web", home=home))
        flags = ("--db", url, "--role", "worker", "--relay-timeout", "5s")
        workers = [stack.enter_context(running_nas(tmp_path / f"w{n}", *flags, home=home)) for n in range(3)]
        agent = web.add_agent("soak", "--rate", "100000")
        start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=8)
        for first in range(0, TIMERS, 1_000):
            items = []
            for number in range(first, first + 1_000):
                text = (start + timedelta(seconds=number % SPREAD_S)).isoformat()
                job = {"job_id": f"job-{number}", "fire_at": text, "dedup_key": f"job-{number}:{text}"}
                items.append({"op": "provision", "agent_callback_url": callback.url} | job)
            reply = web.call("POST", "/api/agent-cron/batch", agent.token, {"items": items})
            assert all(one["ok"] for one in reply.json["results"])
        killer = threading.Timer(start.timestamp() + 4 - time.time(), workers[0].kill)
        killer.start()
        time.sleep(max(0.0, start.timestamp() + 8 - time.time()))
        postgres.restart("immediate")
        deadline = time.monotonic() + 120
        while len({fire.body["job_id"] for fire in callback.fires}) < TIMERS and time.monotonic() < deadline:
            time.sleep(0.2)
        # What was answered but not written down in time would come again within a claim.
        while web.armed(agent) and time.monotonic() < deadline:
            time.sleep(0.5)
        killer.join()
        counts = Counter(fire.body["job_id"] for fire in callback.fires)
        twice = sum(count > 1 for count in counts.values())
        with capsys.disabled():
            print(f"\n{len(counts)} of {TIMERS} delivered, {twice} more than once ({twice / TIMERS:.2%})")
        assert not workers[0].running
        assert len(counts) == TIMERS
        assert web.armed(agent) == {}
        assert twice < TIMERS / 100


@pytest.mark.soak
def test_a_thousand_fires_leave_one_arm_and_none_after_cancel(tmp_path):
    """An agent that arms its next wake in every fire has one arm after 1,000 of them, and none after its cancel."""
    fired = threading.Event()
    with running_nas(tmp_path) as nas:
        agent = nas.add_agent("loop", "--rate", "100000")
        base = int(time.time()) - 5_000

        def answer(_):
            number = len(callback.fires)
            if number >= 1_000:
                when = "2031-01-01T00:00:00+00:00"
                fired.set()
            else:
                when = datetime.fromtimestamp(base + number, UTC)
            assert nas.provision(agent, "job", when, callback.url).status == 200
            return 200

        with Callback(answer) as callback:
            nas.provision(agent, "job", datetime.fromtimestamp(base, UTC), callback.url)
            assert fired.wait(60)
            nas.wait_for("relayed", count=1_000, outcome="delivered")
            assert len(callback.fires) == 1_000
            assert len(nas.timers()) == 1
            nas.cancel(agent, "job")
            assert nas.timers() == []
