"""A real authority in its own process: arm, list, be called back, cancel, survive."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import jwt
import pytest

from chronos_cli.contract import home_named_by
from tests.nas_process import Callback, running_nas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.nas_process import AgentAccess, NasProcess


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NasProcess]:
    with running_nas(tmp_path_factory.mktemp("nas"), "--retry-base", "0.1") as running:
        yield running


@pytest.fixture(scope="module")
def agent(nas: NasProcess) -> AgentAccess:
    return nas.add_agent("first")


def soon(seconds: float) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)


def test_a_due_timer_is_relayed_at_its_second_with_a_bound_token(nas, agent):
    """A timer fires at its second, never before (the benchmark has the lateness), with a token bound to the job and instant, and is gone after."""
    with Callback() as callback:
        when = soon(2)
        reply = nas.provision(agent, "job-1", when, callback.url)
        assert reply.status == 200
        assert reply.json["features"] == [
            "batch",
            "generation",
            "keeps-slot",
            "arm-in-answer",
            "spread",
            "deliveries",
            "callback-proof",
        ]
        assert nas.armed(agent)["job-1"]["fire_at"] == when.isoformat()
        fire = callback.wait()[0]
    assert fire.path == "/api/cron/fire"
    assert fire.body == {"job_id": "job-1", "fire_at": when.isoformat()}
    assert 0 <= fire.at - when.timestamp() < 5
    key = jwt.PyJWKClient(nas.url + "/.well-known/jwks.json").get_signing_key_from_jwt(fire.token)
    claims = jwt.decode(fire.token, key.key, algorithms=["ES256"], audience=agent.audience, issuer=nas.url)
    assert claims["purpose"] == "cron_fire"
    assert claims["job_id"] == "job-1"
    assert claims["fire_at"] == when.isoformat()
    assert claims["exp"] - claims["iat"] == 90
    assert "home" not in claims
    assert claims["jti"] == fire.headers["chronos-delivery"] == reply.json["schedule_id"]
    nas.wait_for("relayed", job_id="job-1", outcome="delivered")
    assert "job-1" not in nas.armed(agent)


def test_a_callback_url_that_names_a_home_is_in_the_token(nas, agent):
    """Of several homes behind one address the token is good for the one that its timer was armed for."""
    with Callback() as callback:
        nas.provision(agent, "job-of-a-home", soon(1), f"{callback.url}/p/team")
        fire = callback.wait()[0]
    assert fire.path == "/p/team/api/cron/fire"
    assert jwt.decode(fire.token, options={"verify_signature": False})["home"] == "team"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://a.example/p/team", "team"),
        ("https://a.example/x/p/team/", "team"),
        ("https://a.example/work", None),
        ("https://a.example/p/", None),
        ("https://a.example/p/a%20b", None),
        ("https://a.example/xp/work", None),
    ],
)
def test_names_of_homes_in_callback_urls(url, name):
    """`/p/NAME` at the end, and nothing else, names a home."""
    assert home_named_by(url) == name


def test_the_keys_may_be_kept_for_five_minutes(nas):
    """The JWKS says how long it may be kept, and holds no private member."""
    reply = nas.call("GET", "/.well-known/jwks.json")
    assert reply.headers["cache-control"] == "public, max-age=300"
    assert set(reply.json["keys"][0]) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


def test_the_same_wish_again_is_a_no_op_and_another_time_replaces(nas, agent):
    """There is one timer per job: the same instant changes nothing, whatever its text; another replaces it."""
    first = nas.provision(agent, "job-2", "2030-01-01T00:00:00+00:00", "http://127.0.0.1:9")
    same = nas.provision(agent, "job-2", "2030-01-01T01:00:00+01:00", "http://127.0.0.1:9")
    other = nas.provision(agent, "job-2", "2031-01-01T00:00:00+00:00", "http://127.0.0.1:9")
    assert first.json["schedule_id"] == same.json["schedule_id"] != other.json["schedule_id"]
    assert nas.armed(agent)["job-2"]["fire_at"] == "2031-01-01T00:00:00+00:00"
    assert nas.cancel(agent, "job-2").json == {"ok": True, "cancelled": 1}
    assert nas.cancel(agent, "job-2").json == {"ok": True, "cancelled": 0}
    assert "job-2" not in nas.armed(agent)


def test_an_arm_during_a_relay_is_kept_and_the_relay_stays_owed(nas, agent):
    """A newer arm that comes in the middle of a relay stays, and the refused fire comes back all the same."""
    arrived, release = threading.Event(), threading.Event()

    def answer(fire):
        if len(callback.fires) == 1:
            arrived.set()
            release.wait(10)
            return 503
        return 200

    with Callback(answer) as callback:
        nas.provision(agent, "job-3", soon(-5), callback.url)
        assert arrived.wait(5)
        assert nas.provision(agent, "job-3", "2030-01-01T00:00:00+00:00", callback.url).status == 200
        release.set()
        first, again = callback.wait(2)[:2]
        assert first.body == again.body
        assert first.headers["chronos-delivery"] == again.headers["chronos-delivery"]
        nas.wait_for("relayed", job_id="job-3", outcome="delivered")
    assert nas.armed(agent)["job-3"]["fire_at"] == "2030-01-01T00:00:00+00:00"
    nas.cancel(agent, "job-3")


def test_retries_back_off_and_survive_kill_9(tmp_path):
    """A fire that the agent refuses is tried again, also by the process that takes over after kill -9."""
    with Callback(503) as callback, running_nas(tmp_path, "--retry-base", "0.4", "--retry-cap", "1s") as nas:
        agent = nas.add_agent("a")
        nas.provision(agent, "job", soon(-1), callback.url)
        callback.wait(2)
        nas.kill()
        callback.answer = 200
        seen = len(callback.fires)
        nas.start()
        callback.wait(seen + 1)
        nas.wait_for("relayed", outcome="delivered")
        assert nas.armed(agent) == {}
        assert len({fire.headers["chronos-delivery"] for fire in callback.fires}) == 1


def test_a_fire_in_flight_at_kill_9_is_delivered_again(tmp_path):
    """What was on the wire when the process died is not lost."""
    hold = threading.Event()
    with Callback(lambda _: (hold.wait(10), 200)[1]) as callback, running_nas(tmp_path) as nas:
        agent = nas.add_agent("a")
        nas.provision(agent, "job", soon(-1), callback.url)
        callback.wait(1)
        nas.kill()
        hold.set()
        nas.start()
        callback.wait(2)


def test_sigterm_lets_the_relay_in_flight_finish(tmp_path):
    """A graceful stop waits for the agent's answer and writes it down."""
    with Callback(lambda _: (time.sleep(1), 200)[1]) as callback, running_nas(tmp_path) as nas:
        agent = nas.add_agent("a")
        nas.provision(agent, "job", soon(-1), callback.url)
        callback.wait(1)
        assert nas.stop() == 0
        nas.wait_for("relayed", outcome="delivered")
        nas.start()
        assert nas.armed(agent) == {}
        assert len(callback.fires) == 1
