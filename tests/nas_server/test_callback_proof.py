"""Proof that an agent owns its callback: asked once a URL, over real HTTP, by a NAS that requires it and one that does not."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from chronos_cli.contract import callback_proof
from chronos_cli.errors import ChronosError
from chronos_cli.nas_server.keys import KeyRing
from chronos_cli.nas_server.relay import proving
from chronos_cli.nas_server.relay.callbacks import CallbackFailedError, CallbackReply
from chronos_cli.nas_server.relay.proving import PROVED, ProofRegister, ProofRequest
from chronos_cli.nas_server.timers.agents import AgentRegister
from tests.agent_home import running_agent
from tests.nas_process import Callback, running_nas

ABLE = {"accepts": ["callback-proof"]}
PROOF = "/api/cron/proof"


def later(seconds=3600):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def claims_of(fire):
    return jwt.decode(fire.token, options={"verify_signature": False})


def honest(fire):
    """What the shim of the agent that is asked answers."""
    if not fire.path.endswith(PROOF):
        return 200
    claims = claims_of(fire)
    return 200, {}, {"result": "proved", "proof": callback_proof(claims["nonce"], claims["aud"])}


def asked(callback):
    return [fire for fire in callback.fires if fire.path.endswith(PROOF)]


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    flags = ("--require-callback-proof", "--retry-base", "0.05", "--retry-doublings", "0")
    with running_nas(tmp_path_factory.mktemp("nas"), *flags) as running:
        yield running


@pytest.fixture
def agent(nas, request):
    return nas.add_agent(f"a{abs(hash(request.node.name)) % 10**9}")


def test_a_callback_is_asked_once_and_then_called(nas, agent):
    """The first wish for a URL has it asked; those after it, another job's and a batch's too, cost nothing more."""
    with Callback(honest) as callback:
        assert nas.provision(agent, "job", later(), callback.url, **ABLE).status == 200
        assert nas.provision(agent, "other", later(-1), callback.url).status == 200, "proved: it need not say so again"
        item = {
            "op": "provision",
            "job_id": "third",
            "fire_at": later().isoformat(),
            "agent_callback_url": callback.url,
        }
        batch = nas.call("POST", "/api/agent-cron/batch", agent.token, {"items": [item | ABLE]})
        assert batch.json["results"][0]["ok"] is True
        callback.wait(2)
        assert [fire.path for fire in callback.fires] == [PROOF, "/api/cron/fire"]
        nas.wait_for("callback_proved", callback_url=callback.url)


def test_the_challenge_is_a_token_that_starts_nothing(nas, agent):
    """Signed by a published key, for this agent, of its own purpose, short-lived, with a nonce that never repeats."""
    nonces = set()
    with Callback(honest) as callback:
        for home in ("a", "b"):
            assert nas.provision(agent, home, later(), f"{callback.url}/p/{home}", **ABLE).status == 200
        for fire in asked(callback):
            keys = jwt.PyJWKSet.from_dict(nas.call("GET", "/.well-known/jwks.json").json).keys
            claims = jwt.decode(fire.token, keys[0], algorithms=["ES256"], audience=agent.audience, issuer=nas.url)
            assert claims["purpose"] == "callback_proof"
            assert claims["exp"] - claims["iat"] <= 120
            assert claims["home"] == fire.path.split("/")[2]
            nonces.add(claims["nonce"])
            assert len(claims["nonce"]) >= 32
    assert len(nonces) == 2


def echo(fire):
    return 200, {}, {"proof": claims_of(fire)["nonce"], "token": fire.token}


def another_tenant(fire):
    return 200, {}, {"proof": callback_proof(claims_of(fire)["nonce"], "agent:another")}


def an_old_answer(fire):
    return 200, {}, {"proof": callback_proof("of an earlier challenge, seen on the way", claims_of(fire)["aud"])}


DISHONEST = {
    "echoes": (echo, 422),
    "is another tenant's": (another_tenant, 422),
    "replays": (an_old_answer, 422),
    "refuses": (lambda _: (401, {}, {"result": "refused"}), 422),
    "knows no such path": (lambda _: 404, 422),
    "says anything with 200": (lambda _: (200, {}, ["proof"]), 422),
    "says a number": (lambda _: (200, {}, {"proof": 7}), 422),
    "says 202 to all": (lambda _: 202, 422),
    "is out of order": (lambda _: 502, 503),
}


@pytest.mark.parametrize("kind", DISHONEST)
def test_a_callback_that_does_not_prove_itself_is_not_taken(nas, agent, kind):
    """Whatever stands there, it is refused with the reason, held nowhere, and not asked again for each wish."""
    answer, status = DISHONEST[kind]
    with Callback(answer) as callback:
        replies = [nas.provision(agent, f"job-{n}", later(), callback.url, **ABLE) for n in range(3)]
        assert {(one.status, one.json["error"]) for one in replies} == {(status, "callback_unproven")}
        assert callback.url in replies[0].json["message"]
        assert ("retry-after" in replies[0].headers) == (status == 503)
        assert len(callback.fires) == 1
    assert nas.armed(agent) == {}


def test_a_redirect_proves_nothing(nas, agent):
    """Where the URL points on to a callback that would answer, that one is not asked."""
    with Callback(honest) as real, Callback(lambda _: (307, {"Location": real.url + PROOF})) as hop:
        assert nas.provision(agent, "job", later(), hop.url, **ABLE).status == 422
        assert real.fires == []


def test_an_agent_that_knows_no_proof_is_refused_and_nobody_asked(nas, agent):
    """Without `accepts` nothing is sent to the URL that it names; a batch refuses it in its place."""
    with Callback(honest) as callback:
        reply = nas.provision(agent, "job", later(), callback.url)
        assert (reply.status, reply.json["error"]) == (422, "callback_unproven")
        item = {"op": "provision", "fire_at": later().isoformat(), "agent_callback_url": callback.url}
        items = [
            item | {"job_id": "a", "agent_callback_url": f"{callback.url}/p/a"},
            item | {"job_id": "b"} | ABLE,
            {"op": "cancel", "job_id": "a"},
        ]
        results = nas.call("POST", "/api/agent-cron/batch", agent.token, {"items": items}).json["results"]
        assert [one["ok"] for one in results] == [False, True, True]
        assert results[0]["status"] == 422
        assert len(callback.fires) == 1


def test_who_proved_a_url_speaks_for_himself_alone(nas, agent):
    """Another agent that names the same URL is asked for itself, and its challenge names it."""
    other = nas.add_agent(f"other-{agent.name}")

    def mine_alone(fire):
        return honest(fire) if claims_of(fire)["aud"] == agent.audience else (401, {})

    with Callback(mine_alone) as callback:
        assert nas.provision(agent, "job", later(), callback.url, **ABLE).status == 200
        assert nas.provision(other, "job", later(), callback.url, **ABLE).status == 422


def test_a_silent_callback_costs_its_agent_and_nobody_else(nas, agent):
    """While one agent's callbacks never answer, its wish is put off within seconds and others are served at once."""
    other = nas.add_agent(f"other-{agent.name}")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent, Callback(honest) as callback:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        replies = []

        def ask(number):
            replies.append(nas.provision(agent, f"job-{number}", later(), f"{url}/{number}", **ABLE))

        waiting = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
        for thread in waiting:
            thread.start()
        began = time.monotonic()
        assert nas.call("GET", "/api/agent-cron/list", other.token).status == 200
        assert time.monotonic() - began < 1.5
        for thread in waiting:
            thread.join()
        assert time.monotonic() - began < 8
        assert {one.status for one in replies} == {503}
        assert all(int(one.headers["retry-after"]) >= 1 for one in replies)
        reply = nas.provision(other, "job", later(), callback.url, **ABLE)
        while reply.status == 503:
            time.sleep(0.1)
            reply = nas.provision(other, "job", later(), callback.url, **ABLE)
        assert reply.status == 200


def test_a_callback_that_comes_up_later_is_taken_then(nas, agent):
    """One that was down is asked again after its pause, and no kept failure stands in the way for long."""
    with Callback(lambda _: 503) as callback:
        assert nas.provision(agent, "job", later(), callback.url, **ABLE).status == 503
        callback.answer = honest
        until = time.monotonic() + 10
        while (reply := nas.provision(agent, "job", later(), callback.url, **ABLE)).status != 200:
            assert reply.status == 503
            assert time.monotonic() < until
            time.sleep(0.2)


@pytest.mark.parametrize("able", [True, False])
def test_what_was_armed_before_it_was_required_is_asked_before_it_is_called(tmp_path, able):
    """After the switch, a timer of an unproved callback has it asked first; one that proves nothing is never called."""
    with running_nas(tmp_path, "--retry-base", "0.05", "--retry-doublings", "0") as open_nas:
        agent = open_nas.add_agent("one")
        with Callback(honest if able else lambda _: 404) as callback:
            assert open_nas.provision(agent, "job", later(2), callback.url).status == 200
            assert callback.fires == []
            open_nas.stop()
            open_nas._flags += ("--require-callback-proof",)
            open_nas.start()
            if able:
                open_nas.wait_for("relayed", job_id="job", outcome="delivered")
                assert [fire.path for fire in callback.fires] == [PROOF, "/api/cron/fire"]
            else:
                line = open_nas.wait_for("relayed", job_id="job", outcome="retry")
                assert "has not proved whose it is" in line["error"]
                assert {fire.path for fire in callback.fires} == {PROOF}


def test_where_it_is_not_required_nobody_waits_or_is_refused(tmp_path):
    """A callback that can is asked by the way, kept over a restart; one that cannot, or does not, is called all the same."""
    with running_nas(tmp_path) as nas, Callback(honest) as able, Callback(lambda fire: 200) as unable:
        agent = nas.add_agent("one")
        assert "callback-proof" in nas.call("GET", "/api/agent-cron/list", agent.token).json["features"]
        assert nas.provision(agent, "plain", later(-1), unable.url).status == 200
        assert nas.provision(agent, "lying", later(-1), unable.url, **ABLE).status == 200
        nas.wait_for("relayed", job_id="lying", outcome="delivered")
        nas.wait_for("callback_unproved", callback_url=unable.url)
        assert nas.provision(agent, "able", later(), able.url, **ABLE).status == 200
        nas.wait_for("callback_proved", callback_url=able.url)
        nas.kill()
        nas._flags += ("--require-callback-proof",)
        nas.start()
        assert nas.provision(agent, "able", later(7200), able.url).status == 200
        assert len(able.fires) == 1
        assert nas.provision(agent, "plain", later(), unable.url).status == 422


def test_a_revoked_agents_proofs_go_with_it(backend):
    """What it proved is forgotten: nobody who comes after has it."""
    roster = AgentRegister(backend, time.time)
    agent = roster.add("one").agent
    backend.write(
        lambda session: session.run("INSERT INTO proofs VALUES (?, ?, ?)", (agent.id, "https://a.example", 1.0))
    )
    roster.revoke("one")
    assert backend.read(lambda session: session.all("SELECT * FROM proofs")) == []


def test_the_real_shim_proves_itself_to_a_real_nas(nas, tmp_path):
    """A job added by the command is armed at a NAS that requires the proof, and fires; the callback is asked once."""
    with running_agent(tmp_path, nas) as home:
        done = home.chronos("job", "add", "every 2s", "--id", "beat", "--shell", "true")
        assert done.returncode == 0, done.stderr
        nas.wait_for("relayed", job_id="beat", outcome="delivered", count=2)
        assert len(nas.events("callback_proved", agent=home.access.audience)) == 1
        done = home.chronos("reconcile")
        assert done.returncode == 0, done.stderr


def test_an_agent_without_its_callback_is_told_what_to_do(nas, tmp_path):
    """Where something else answers at the URL, the command says so in one line."""
    with running_agent(tmp_path, nas, name="lost") as home, Callback(lambda _: 404) as other:
        config = home.home / "config.yaml"
        config.write_text(config.read_text().replace(f"http://127.0.0.1:{home.port}", other.url))
        done = home.chronos("job", "add", "every 1h", "--id", "beat", "--shell", "true")
        assert "has not proved that it is this agent's" in done.stderr


# -- bounds, with the client in the test's hand ------------------------------------------------------------------------


class SlowClient:
    """Answers nothing for a while, and counts how many challenges are under way at once."""

    def __init__(self):
        self.now = self.most = 0
        self.posted = []

    async def post(self, url, *_, **__):
        import asyncio

        self.posted.append(url)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.02)
        self.now -= 1
        raise CallbackFailedError("no answer in time")

    async def __aexit__(self, *_):
        pass


class Lines:
    def __init__(self):
        self.written = []

    def write(self, event, **fields):
        self.written.append((event, fields))


@pytest.fixture
def proofs(backend, tmp_path):
    ring = KeyRing(tmp_path / "keys", time.time)
    ring.prepare()
    client = SlowClient()
    made = ProofRegister(backend, ring, lambda: client, Lines(), issuer=lambda: "https://nas", clock=lambda: 1000.0)
    made.client = client
    yield made
    made.close()


def callee(number, agent=1, host=None):
    return ProofRequest(
        agent_id=agent, audience=f"agent:{agent}", url=f"https://h{number}/x", host=host or f"https://h{number}"
    )


def test_challenges_of_one_agent_are_few_at_once_and_bounded(proofs):
    """An agent with URLs without number has two asked at a time, so many wait, and the rest is put off."""
    found = proofs.wait([callee(n) for n in range(80)])
    assert proofs.client.most <= proving.AT_ONCE_EACH
    assert len(proofs.client.posted) <= proving.MAX_PENDING_EACH
    assert any("too many" in one.why for one in found.values())
    assert not any(one.proved for one in found.values())


def test_a_host_that_fails_is_not_flooded_by_new_urls_of_it(proofs):
    """The pause is the host's: another path of it is not asked within it, whoever's server that is."""
    proofs.wait([callee(0, host="https://victim:443")])
    found = proofs.wait([callee(n, host="https://victim:443") for n in range(1, 9)])
    assert len(proofs.client.posted) == 1
    assert all(one.passing and one.again_s >= 1 for one in found.values())


def test_the_pause_doubles_to_a_minute(proofs):
    """However often it is asked, a dead host is called once a minute in the end, and one that answers starts anew."""
    pauses = []
    for n in range(9):
        proofs._clock = lambda at=1000.0 * (n + 1): at
        pauses.append(proofs.wait([callee(0)])[callee(0)].again_s)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_store_that_is_away_proves_nothing(proofs, monkeypatch):
    """Where the proofs cannot be read nothing is asked, and nothing taken."""

    class AwayError(ChronosError):
        pass

    def away(_):
        raise AwayError("away")

    monkeypatch.setattr(proofs._backend, "read", away)
    found = proofs.wait([callee(0)])[callee(0)]
    assert (found.proved, found.passing) == (False, True)
    assert proofs.client.posted == []


@pytest.mark.parametrize(("status", "passing"), [(429, True), (500, True), (302, False), (403, False)])
def test_what_an_answer_means(status, passing):
    """A 5xx and a 429 may pass; anything else that is no proof stands until the callback changes."""
    found = proving._judge(CallbackReply(status=status, retry_after=None, body=b'{"proof": "x"}'), "x")
    assert (found.proved, found.passing) == (False, passing)
    assert proving._judge(CallbackReply(status=200, retry_after=None, body=b'{"proof": "x"}'), "x") is PROVED
