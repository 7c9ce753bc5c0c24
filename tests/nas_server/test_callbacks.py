"""Calling agents back: where a connection may go, and what a misbehaving agent can do to us."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import threading
import time

import pytest

from chronos_cli.nas_server.addresses import CallbackPolicy, CallbackRefusedError
from chronos_cli.nas_server.relay.callbacks import MAX_ANSWER, CallbackClient, CallbackFailedError, retry_after_s
from tests.nas_process import Callback, running_nas

PUBLIC = CallbackPolicy()
LOCAL = CallbackPolicy(allow_private=True)
NETWORK = CallbackPolicy(networks=(ipaddress.ip_network("10.0.0.0/8"),))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost", "a.localhost", "2130706433", "0x7f000001", "127.1",
        "localhost.", "127.0.0.1.", "192.0.0.9", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.88.99.1",
        "192.31.196.1", "192.52.193.1", "192.175.48.1", "240.0.0.1", "[fec0::1]", "[2001:db8::1]", "[3fff::1]",
        "[2001::1]", "[2001:2::1]", "[2001:10::1]", "[2001:20::1]", "[2001:1ff::1]", "[2002:5db8:d822::1]",
        "[64:ff9b:1::1]", "[64:ff9b::a00:1]", "[100::1]", "[5f00::1]", "[2620:4f:8000::1]", "[::5db8:d822]", "[ff0e::1]",
        "[::ffff:0:5db8:d822]", "[4000::1]",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(host):
    """Private, loopback, link-local, mapped and disguised addresses are all refused as callbacks."""
    with pytest.raises(CallbackRefusedError):
        PUBLIC.check_url(f"https://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        'a"b.example', "a{b}.example", "a,b.example", "a..example", ".example", "-a.example", "a-.example", "a_b.example",
        "a%2eb.example", "x" * 64 + ".example", "a." * 130 + "example", "a!b", "[fe80::1%25eth0]", "[2606:2800::1%1]",
        "ex<script>.example", "a'b.example", "*.example", "a\\b.example",
        "[v1.fe80]", "[vf.a]", "[a.example]", "[1.1.1.1]", "a.example..", "b\u00fccher.example", "a.example:4_43",
        "a.example:+443", "user@a.example", "@a.example", "u:p@a.example", "a.example;b", "1.2.3.4.5",
        "256.1.1.1", "a.0x1",
    ],
)  # fmt: skip
def test_a_callback_host_is_a_host(host):
    """What no host is called is refused where it comes in, and so stands in no log, no metric and no query for a name."""
    for policy in (PUBLIC, LOCAL):
        with pytest.raises(CallbackRefusedError):
            policy.check_url(f"https://{host}/")


@pytest.mark.parametrize("end", ["#", "?", "/#", "/?", "/base#", "/base?", "?a=b", "#a", "/base?a", "/base#a"])
def test_a_callback_has_a_path_at_its_end(end):
    """Behind a query or a fragment, be it empty, the path of a fire would be none: another one would be called."""
    for policy in (PUBLIC, LOCAL):
        with pytest.raises(CallbackRefusedError, match="no user, query or fragment"):
            policy.check_url(f"https://agent.example.com{end}")


def test_a_port_below_1024_is_a_service_of_the_system():
    """443, 80 and those above 1023 are taken, others where the operator allows them, and 0 never."""
    for port in (443, 80, 1024, 8443, 65535):
        PUBLIC.check_url(f"https://agent.example.com:{port}")
    for port in (1, 22, 25, 389, 445, 1023):
        with pytest.raises(CallbackRefusedError, match=f"port {port} is none for a callback: 443, 80 or above 1023"):
            PUBLIC.check_url(f"https://agent.example.com:{port}")
        CallbackPolicy(ports=frozenset({port})).check_url(f"https://agent.example.com:{port}")
        LOCAL.check_url(f"http://127.0.0.1:{port}")
    for policy in (PUBLIC, LOCAL):
        with pytest.raises(CallbackRefusedError, match="port 0 is none for a callback"):
            policy.check_url("https://agent.example.com:0")


@pytest.mark.parametrize("host", ["agent.example.com", "93.184.216.34", "[2606:2800:220:1::1]", "[64:ff9b::5db8:d822]"])
def test_a_public_https_callback_is_taken(host):
    """Names and public addresses over https are fine; plain http to them never is, whatever is allowed."""
    assert PUBLIC.check_url(f"https://{host}/base/") == (f"https://{host}/base", f"https://{host}:443")
    for policy in (PUBLIC, LOCAL):
        with pytest.raises(CallbackRefusedError):
            policy.check_url(f"http://{host}")


def test_a_network_on_the_list_is_allowed_over_https_only():
    """An operator may allow one private network without allowing all, nor plain http."""
    NETWORK.check_url("https://10.1.2.3")
    for url in ("https://192.168.0.1", "http://10.1.2.3"):
        with pytest.raises(CallbackRefusedError):
            NETWORK.check_url(url)


def test_a_name_that_comes_to_mean_a_private_address_is_not_connected_to(monkeypatch):
    """The address that is connected to is the one that was checked: a rebound name reaches nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asked, real = [], socket.getaddrinfo

        def rebound(name, *args, **more):
            if name != "rebound.example":  # a thread of another test's server
                return real(name, *args, **more)
            asked.append(name)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        with pytest.raises(CallbackRefusedError, match="no address that may be called"):
            posted(PUBLIC, f"https://rebound.example:{port}/api/cron/fire")
        assert asked == ["rebound.example"]
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def posted(policy, url, body=b"{}", *, timeout=2, context=None):
    """The reply to one call."""

    async def call():
        async with CallbackClient(policy, timeout=timeout, context=context) as client:
            return await client.post(url, body, {})

    return asyncio.run(call())


def read_request(connection):
    """Read one request whose body is `{}`; empty when the client is gone."""
    data = b""
    while not data.endswith(b"{}"):
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    return data


def raw_server(talk):
    """A server that runs `talk(connection)` for each connection, after the request's head was read."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            read_request(connection)
            try:
                talk(connection)
            except OSError:
                pass  # the client had enough, which is what the tests are about
            finally:
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return server, f"http://127.0.0.1:{server.getsockname()[1]}/api/cron/fire"


def test_an_answer_that_drips_is_cut_off():
    """An agent that sends a byte now and then cannot hold a worker longer than one relay may take."""

    def drip(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            connection.sendall(b"X: y\r\n")
            time.sleep(0.1)

    server, url = raw_server(drip)
    began = time.monotonic()
    with server, pytest.raises(CallbackFailedError, match="in time"):
        posted(LOCAL, url, timeout=1)
    assert time.monotonic() - began < 4


def test_an_endless_answer_is_read_only_so_far():
    """A body without end is read up to a bound, and its status counts."""

    def flood(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    server, url = raw_server(flood)
    with server:
        reply = posted(LOCAL, url)
    assert (reply.status, len(reply.body)) == (200, MAX_ANSWER)


@pytest.mark.parametrize(
    "answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500]
)
def test_an_answer_that_is_none_is_a_failure(answer):
    """What is no HTTP answer counts as a failed delivery, never as a fault of ours."""
    server, url = raw_server(lambda connection: connection.sendall(answer))
    with server, pytest.raises(CallbackFailedError):
        posted(LOCAL, url)


def test_a_connection_is_kept_and_a_stale_one_replaced():
    """Callbacks to one host share a connection; one that the agent closed meanwhile costs no delivery."""
    accepted = []

    def twice(connection):
        accepted.append(connection)
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(ok)
        if read_request(connection):
            connection.sendall(ok)

    server, url = raw_server(twice)

    async def three_times():
        async with CallbackClient(LOCAL, timeout=5) as client:
            for _ in range(2):
                assert (await client.post(url, b"{}", {})).status == 200
            assert len(accepted) == 1
            time.sleep(0.1)  # noqa: ASYNC251 - so that the loop has not seen the connection's end yet
            assert (await client.post(url, b"{}", {})).status == 200
            assert len(accepted) == 2

    with server:
        asyncio.run(three_times())


def test_a_redirect_is_an_answer_and_no_second_call(tmp_path):
    """Where a callback points to is not followed: it was not vetted, and the token is not for it."""
    with Callback(lambda _: (307, {"Location": f"{callback.url}/elsewhere"})) as callback:
        assert posted(LOCAL, f"{callback.url}/api/cron/fire", b'{"job_id": "x"}').status == 307
        assert [fire.path for fire in callback.fires] == ["/api/cron/fire"]


def test_plain_http_to_a_name_leads_to_loopback_only(monkeypatch):
    """`localhost` that a resolver leads elsewhere is not called in the clear."""
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]
    )
    with pytest.raises(CallbackRefusedError, match="no address that may be called"):
        posted(LOCAL, "http://localhost:80/api/cron/fire")


def test_proxies_and_cookies_of_the_environment_play_no_part(monkeypatch):
    """A relay goes straight to the agent, and nothing that one answer set is sent with the next."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    async def twice(url):
        async with CallbackClient(LOCAL, timeout=5) as client:
            for _ in range(2):
                await client.post(f"{url}/api/cron/fire", b'{"job_id": "x"}', {})

    with Callback(lambda _: (200, {"Set-Cookie": "a=b"})) as callback:
        asyncio.run(twice(callback.url))
        assert ["cookie" in fire.headers for fire in callback.fires] == [False, False]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("5", 5.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("soon", None),
        (None, None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 50.0),
        ("9" * 30, 999999999.0),
        ("0", 0.0),
        ("Thursday, 01-Jan-70 00:01:40 GMT", 50.0),
        ("Thu Jan  1 00:01:40 1970", 50.0),
        ("Thu, 01 Jan 1970 00:00:10 GMT", 0.0),
        *((other, None) for other in ("", "1.5", "+5", "5, 10", "1e3", "\u0665", "1970-01-01T00:01:40Z")),
    ],
)
def test_retry_after_is_read_in_all_its_forms(header, seconds, monkeypatch):
    """Seconds and the three forms of dates are understood, in whatever zone this runs; anything else is not there."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert retry_after_s(header, 50.0) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


def certificate(folder, name):
    """A self-signed certificate for `name` and its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def test_https_is_verified(tmp_path):
    """A callback over https is delivered when its certificate holds, and fails by name when it does not."""
    trusted, stranger = certificate(tmp_path, "localhost"), certificate(tmp_path, "other")
    policy = CallbackPolicy(networks=(ipaddress.ip_network("127.0.0.0/8"),))
    for path, good in ((trusted, True), (stranger, False)):
        with Callback() as callback:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path)
            callback._server.socket = context.wrap_socket(callback._server.socket, server_side=True)
            port = callback.url.rsplit(":", 1)[1]
            trusting = ssl.create_default_context(cafile=trusted)
            url = f"https://localhost:{port}/api/cron/fire"
            if good:
                assert posted(policy, url, b'{"job_id": "x"}', context=trusting).status == 200
            else:
                with pytest.raises(CallbackFailedError, match="certificate does not hold"):
                    posted(policy, url, context=trusting)


def test_a_nas_without_the_flag_refuses_private_callbacks(tmp_path):
    """By default neither loopback nor plain http can be provisioned."""
    with running_nas(tmp_path, "--no-private") as nas:
        agent = nas.add_agent("a")
        for url in ("http://127.0.0.1:9", "https://127.0.0.1", "https://[::ffff:10.0.0.1]", "http://example.com"):
            reply = nas.provision(agent, "job", "2031-01-01T00:00:00+00:00", url)
            assert (reply.status, reply.json["error"]) == (400, "callback_refused")
        assert nas.provision(agent, "job", "2031-01-01T00:00:00+00:00", "https://agent.example.com").status == 200


def test_a_dead_host_does_not_delay_the_others(tmp_path):
    """Fifty timers of a host that never answers leave the timer of another host on time."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as hole,
        Callback() as callback,
        running_nas(tmp_path) as nas,
    ):
        silent, lively = nas.add_agent("silent"), nas.add_agent("lively")
        past = "2020-01-01T00:00:00+00:00"
        for number in range(50):
            nas.provision(silent, f"job-{number}", past, f"http://127.0.0.1:{hole.getsockname()[1]}")
        began = time.time()
        nas.provision(lively, "job", past, callback.url)
        assert callback.wait(1, timeout=5)[0].at - began < 1
        in_flight = [one for one in nas.armed(silent).values() if one["state"] == "in_flight"]
        assert len(in_flight) == 4
        nas.kill()
        nas.start()
        nas.command("agent", "revoke", "silent")
        nas.kill()
