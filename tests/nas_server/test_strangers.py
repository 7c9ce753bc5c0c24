"""What a stranger can do to NAS: nothing is read of a body before its token holds, and nobody else is kept waiting."""

from __future__ import annotations

import json
import os
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from tests.nas_process import METRICS_TOKEN, NasProcess, run_nas, running_nas

PROVISION = "/api/agent-cron/provision"
BATCH = "/api/agent-cron/batch"


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    with running_nas(tmp_path_factory.mktemp("nas"), "--operator-listen", "127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="module")
def agent(nas):
    return nas.add_agent("honest")


def connect(nas: NasProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(nas.url.rsplit(":", 1)[1])), timeout=20)


def head(token="cnas_wrong", length=4_000_000, path=BATCH, more=""):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def answered(one: socket.socket) -> bytes:
    return one.recv(65536)


def resident_mib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


def files_of(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except OSError:
            continue
    return [name for name in found if name.startswith("/") and "deleted" in name]


def honest_call_s(nas, agent) -> float:
    begun = time.monotonic()
    assert nas.call("GET", "/api/agent-cron/list", agent.token).status == 200
    return time.monotonic() - begun


def test_the_token_is_judged_before_the_body_comes(nas):
    """The refusal is there though not one byte of the body was sent."""
    for token, status in (("cnas_wrong", b"401"), ("", b"401")):
        with connect(nas) as one:
            one.sendall(head(token))
            assert answered(one).startswith(b"HTTP/1.1 " + status)


def test_bodies_of_strangers_leave_nothing_behind(nas, agent):
    """Thirty connections that send all they can make no file and no memory."""
    before = resident_mib(nas.pid)
    ends = [connect(nas) for _ in range(30)]
    for one in ends:
        one.sendall(head())
        one.settimeout(0.05)
        try:
            for _ in range(60):
                one.sendall(b"x" * 65536)
        except OSError:
            pass  # it has been cut off, which is as good
    assert files_of(nas.pid) == []
    assert resident_mib(nas.pid) - before < 30
    assert honest_call_s(nas, agent) < 5
    for one in ends:
        one.close()


@pytest.mark.parametrize("whose", ["stranger", "agent"])
def test_a_thousand_half_sent_requests_stop_nobody(nas, agent, whose):
    """Whoever holds connections with half a header or half a body keeps no one else out, agents neither."""
    token = agent.token if whose == "agent" else "cnas_wrong"
    ends = []
    try:
        for number in range(1_005):
            one = connect(nas)
            ends.append(one)
            one.sendall(head(token, 1000)[:60] if number % 2 else head(token, 1000) + b"{")
        assert honest_call_s(nas, agent) < 5
        reply = nas.provision(agent, "held", "2031-01-01T00:00:00Z", "http://127.0.0.1:9")
        assert reply.status == 200
    finally:
        for one in ends:
            one.close()


def test_a_body_that_is_waited_for_is_asked_for(nas, agent):
    """Expect: 100-continue is answered once the token holds, and never to a stranger."""
    body = json.dumps({"items": []}).encode()
    with connect(nas) as one:
        one.sendall(head(agent.token, len(body), more="Expect: 100-continue\r\n"))
        assert answered(one).startswith(b"HTTP/1.1 100 Continue")
        one.sendall(body)
        assert b" 200 OK" in answered(one)
    with connect(nas) as one:
        one.sendall(head("cnas_wrong", len(body), more="Expect: 100-continue\r\n"))
        assert answered(one).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/9\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"POST /api/agent-cron/batch HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET /readyz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_http_is_a_plain_400(nas, raw, status):
    """Our own shape, and not a word of what was sent."""
    with connect(nas) as one:
        one.sendall(raw)
        reply = answered(one)
    assert b" " + status + b" " in reply.partition(b"\r\n")[0]
    assert json.loads(reply.partition(b"\r\n\r\n")[2]) == {
        "error": "invalid_request",
        "message": "this is no HTTP request",
    }
    assert b"aiohttp" not in reply


def test_a_chunked_body_is_bounded_too(nas, agent):
    """Without a length it is counted as it comes; a broken one is a 400."""
    start = head(agent.token, 0, PROVISION, "Transfer-Encoding: chunked\r\n").replace(b"Content-Length: 0\r\n", b"")
    with connect(nas) as one:
        one.sendall(start + b"2\r\n{}\r\n0\r\n\r\n")
        assert b" 400 " in answered(one).partition(b"\r\n")[0]
    with connect(nas) as one:
        one.sendall(start + b"10000\r\n" + b"x" * 65536 + b"\r\n10000\r\n" + b"x" * 65536)
        assert answered(one).startswith(b"HTTP/1.1 413")
    with connect(nas) as one:
        one.sendall(start + b"zz\r\n")
        assert b" 400 " in answered(one).partition(b"\r\n")[0]


def test_readiness_is_a_bare_status(nas):
    """Anybody may ask, and learns nothing else."""
    reply = nas.call("GET", "/readyz")
    assert (reply.status, reply.body) == (200, b"")


def test_metrics_are_the_operators(nas, agent, tmp_path):
    """On their address they are open; on the agents' the token is needed, and without one set there is no such path."""
    port = nas.events("listening")[0]["operator_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        assert b"chronos_nas_armed" in reply.read()
    for token in (None, "wrong", agent.token):
        reply = nas.call("GET", "/metrics", token)
        assert (reply.status, reply.json["error"]) == (401, "invalid_token")
        assert reply.json["message"] == "the operators' token is needed"
    assert nas.call("GET", "/metrics", METRICS_TOKEN).status == 200
    secret = tmp_path / "token"
    secret.write_text("from-a-file\n")
    with running_nas(tmp_path / "a", "--metrics-token-file", str(secret)) as other:
        assert other.call("GET", "/metrics", "from-a-file").status == 200
    with running_nas(tmp_path / "b", env={"CHRONOS_NAS_METRICS_TOKEN": ""}) as other:
        assert other.call("GET", "/metrics", "").status == 404


def test_labels_are_escaped_and_bounded():
    """A host is somebody else's text: it cannot break out of its label, nor be a series for each of a million names."""
    from prometheus_client.parser import text_string_to_metric_families

    from chronos_cli.nas_server.metrics import MAX_HOSTS, Metrics

    counts = Metrics()
    evil = 'https://a"} 1\nevil{x="\\:443'
    circuits = {f"https://h{n}.example:443": "open" for n in range(5_000)} | {evil: "half-open"}
    text = counts.render({"chronos_nas_armed": ("Timers held.", 7)}, circuits).decode()
    found = {family.name: family for family in text_string_to_metric_families(text)}
    hosts = [sample.labels["host"] for sample in found["chronos_nas_circuit_open"].samples]
    assert evil in hosts
    assert "evil" not in found
    assert len(hosts) == MAX_HOSTS
    states = {sample.labels["state"]: sample.value for sample in found["chronos_nas_circuits"].samples}
    assert states == {"open": 5_000, "half-open": 1}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--operator-listen", "9787"), "--operator-listen 9787 is no HOST:PORT: write it like 127.0.0.1:9787"),
        (("--metrics-token-file", "/nowhere"), "cannot read the token /nowhere: "),
        (
            ("--metrics-token-file", "/dev/null"),
            "the token /dev/null is empty: name the file that holds it with --metrics-token-file",
        ),
    ],
)
def test_what_operators_say_wrongly_is_one_line(tmp_path, flags, said):
    """Nothing is served where operators would find it closed, or open."""
    done = run_nas("serve", "--port", "0", *flags, home=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
