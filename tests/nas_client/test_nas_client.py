"""The NAS client against a real HTTP server: what it sends, what it makes of each answer, and how long it takes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest
from played_nas import TOKEN, Token

from chronos_cli import __version__
from chronos_cli.errors import (
    AuthError,
    ChronosError,
    ConfigError,
    NasRejectedError,
    NasUnavailableError,
    RefusedError,
)
from chronos_cli.nas_client.answers import NasReply, read_page
from chronos_cli.nas_client.client import NasClient
from chronos_cli.nas_client.interface import ArmRequest
from chronos_cli.operations.views.prospect import failing_since
from tests.played_server import Answer, Call

AT = datetime(2026, 11, 20, 15, 34, 15, tzinfo=UTC)


def request(job_id="backup", fire_at=AT, generation=None):
    return ArmRequest(job_id=job_id, fire_at=fire_at, callback_url="https://agent.example.com", generation=generation)


def failure(work):
    """The error that `work` raises, having checked that neither it nor its traceback shows the token."""
    with pytest.raises(ChronosError) as caught:
        work()
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.line() + repr(caught.value)
    assert TOKEN not in shown
    assert "\n" not in caught.value.line()
    return caught.value


class TestWire:
    def test_provision(self, nas, connect):
        """A provision is the contract's request, in whole UTC seconds, and its answer is read."""
        nas.features = ["batch", "generation"]
        away = datetime(2026, 11, 20, 10, 34, 15, 999, tzinfo=timezone(timedelta(hours=-5)))
        answer = connect().provision(request(fire_at=away))
        (call,) = nas.calls
        assert (call.method, call.path) == ("POST", "/api/agent-cron/provision")
        assert call.body == {
            "job_id": "backup",
            "fire_at": "2026-11-20T15:34:15+00:00",
            "agent_callback_url": "https://agent.example.com",
            "dedup_key": "backup:2026-11-20T15:34:15+00:00",
        }
        assert call.headers["Authorization"] == f"Bearer {TOKEN}"
        assert call.headers["User-Agent"] == f"chronos/{__version__}"
        assert call.headers["Content-Type"] == "application/json"
        assert answer.schedule_id == "s-backup:2026-11-20T15:34:15+00:00"
        assert answer.features == {"batch", "generation"}
        assert answer.state == "armed"

    def test_the_generation_that_a_refusal_names(self, nas, connect):
        """NAS holds a newer wish, and says which: the error names it too."""
        nas.answer = lambda call: Answer(status=409, body={"error": "stale_generation", "generation": 9})
        with pytest.raises(NasRejectedError) as caught:
            connect(attempts=1).provision(request(generation=7))
        assert (caught.value.reason, caught.value.generation) == ("stale_generation", 9)

    def test_generation(self, nas, connect):
        """A generation goes along where there is one."""
        client = connect()
        client.provision(request(generation=7))
        client.cancel("backup", generation=8)
        assert [call.body["generation"] for call in nas.calls] == [7, 8]

    def test_cancel(self, nas, connect):
        """A cancel names the job; a job that NAS does not know is fine."""
        connect().cancel("backup")
        (call,) = nas.calls
        assert (call.method, call.path, call.body) == ("POST", "/api/agent-cron/cancel", {"job_id": "backup"})

    def test_cancel_with_an_empty_answer(self, nas, connect):
        """A cancel that is answered by a bare 200 was done."""
        nas.script = [Answer(body=b"")]
        connect().cancel("backup")

    def test_list(self, nas, connect):
        """A list has every arm with its instant, in whatever offset NAS wrote it, and NAS's own clock."""
        nas.armed = {
            "a": {"job_id": "a", "fire_at": "2026-11-20T10:34:15.250-05:00", "schedule_id": "s1", "state": "retrying"},
            "b": {"job_id": "b", "fire_at": "soon"},
        }
        listed = connect().list()
        first, second = listed.arms
        assert (first.fire_at, first.schedule_id, first.state) == (AT, "s1", "retrying")
        assert first.fire_at_text == "2026-11-20T10:34:15.250-05:00"
        assert (second.fire_at, second.fire_at_text, second.schedule_id) == (None, "soon", None)
        assert abs(listed.server_time - datetime.now(UTC)) < timedelta(seconds=5)
        assert listed.complete

    def test_base_path(self, nas, connect):
        """A portal below a path is called below that path, with one slash between."""
        connect(f"{nas.url}/base/").cancel("x")
        assert nas.calls[0].path == "/base/api/agent-cron/cancel"

    def test_connections_are_kept(self, nas, connect):
        """Twenty calls in a row use one connection."""
        client = connect()
        for number in range(20):
            client.provision(request(f"job{number}"))
        assert (len(nas.calls), nas.connections) == (20, 1)

    def test_no_cookies(self, nas, connect):
        """A cookie that NAS sets is not sent back: we are our token."""
        nas.script = [Answer(body={"ok": True}, headers={"Set-Cookie": "a=b"})]
        client = connect()
        client.cancel("x")
        client.cancel("x")
        assert "Cookie" not in nas.calls[1].headers

    def test_lazy_import(self):
        """Importing the client imports neither requests nor json's heavier friends; a client that is made neither."""
        code = (
            "import sys; from chronos_cli.nas_client.client import NasClient;"
            "NasClient('https://nas.example.com', None);"
            "assert not {'requests', 'urllib3', 'http.client', 'ssl'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


class TestEnvironment:
    def test_netrc_does_not_replace_the_token(self, nas, connect, tmp_path, monkeypatch):
        """A .netrc entry for the host leaves our Authorization header alone."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login canary password canary\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        connect().cancel("x")
        assert nas.calls[0].headers["Authorization"] == f"Bearer {TOKEN}"

    @pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
    def test_no_proxy_to_loopback(self, nas, other, connect, monkeypatch, name):
        """A proxy in the environment never sees what is meant for this machine in plain http."""
        monkeypatch.setenv(name, other.url)
        connect().cancel("x")
        assert len(nas.calls) == 1
        # A proxy is asked for a whole URL. Something late of another test may still call at a port that was its own.
        assert not [call.path for call in other.calls if call.path.startswith("http")]

    def test_proxy_elsewhere(self, nas, connect, monkeypatch):
        """A proxy is used for NAS elsewhere, as requests does, and one that fails is named as the cause."""
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        error = failure(lambda: connect("https://nas.invalid").cancel("x"))
        assert isinstance(error, NasUnavailableError)
        assert "through the proxy" in error.message

    @pytest.mark.parametrize("url", ["http://nas.example.com", "ftp://127.0.0.1", "nas", "https://u:p@h", "https://"])
    def test_refused_urls(self, url):
        """Where a token could be overheard, nothing is sent."""
        assert isinstance(failure(lambda: NasClient(url, Token())), ConfigError)

    def test_no_url(self):
        """No NAS configured is said as that."""
        assert (
            failure(lambda: NasClient("", Token())).line().startswith("no NAS is configured: set cron.chronos.portal")
        )

    def test_not_trusted(self, nas, connect):
        """A NAS that does not speak TLS at an https address is told as such."""
        error = failure(lambda: connect(nas.url.replace("http:", "https:")).cancel("x"))
        assert isinstance(error, NasUnavailableError)
        assert "could not be trusted" in error.message
        assert nas.calls == []


class TestTemporary:
    def test_closed_port(self, connect):
        """A NAS that is down is tried four times, with growing pauses, and told in the system's words."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            client = connect(f"http://127.0.0.1:{unused.getsockname()[1]}")
            error = failure(client.list)
        assert isinstance(error, NasUnavailableError)
        assert error.exit_code == 75
        assert "could not be reached: Connection refused" in error.message
        assert client.pauses == [0.25, 0.5, 1.0]

    def test_unknown_host(self, connect):
        """A name that cannot be resolved is told as such."""
        error = failure(lambda: connect("https://nas.invalid", attempts=1).list())
        assert isinstance(error, NasUnavailableError)
        assert "could not be reached" in error.message

    def test_stall(self, nas, connect):
        """A NAS that takes the request and says nothing is given up after the timeout."""
        nas.answer = lambda call: Answer(raw=nas.stall)
        error = failure(lambda: connect(timeout_s=0.1, attempts=2).list())
        assert "did not answer within 0.1 s" in error.message
        assert len(nas.calls) == 2

    @pytest.mark.parametrize(
        "ask",
        [lambda client: client.provision(request()), lambda client: client.cancel("x"), lambda client: client.list()],
        ids=["provision", "cancel", "list"],
    )
    def test_drip(self, nas, connect, ask):
        """A NAS that sends a byte now and then cannot stretch the budget, however long each wait may be."""
        nas.answer = lambda call: Answer(raw=nas.drip)
        start = time.monotonic()
        error = failure(lambda: ask(connect(budget_s=0.3, attempts=1)))
        assert isinstance(error, NasUnavailableError)
        assert "was not done within 0.3 s in all" in error.message
        assert time.monotonic() - start < 2

    @pytest.mark.parametrize("features", [None, ["batch"]])
    def test_drip_of_many(self, nas, connect, features):
        """Nor where many requests are carried out, side by side or as a batch: each ends within the budget."""
        client = connect(budget_s=0.3, attempts=1)
        if features is not None:
            nas.answer = lambda call: Answer(body={"armed": [], "features": features})
            client.list()
        nas.answer = lambda call: Answer(raw=nas.drip)
        start = time.monotonic()
        results = list(client.apply([request(job_id="a"), request(job_id="b")]))
        assert ["was not done within 0.3 s in all" in result.error.message for result in results] == [True, True]
        assert time.monotonic() - start < 3

    def test_slow_body(self, nas, connect):
        """The same in the body, where the call itself notices."""

        def slowly(stream):
            stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n")
            for _ in range(50):
                if nas.over.is_set():
                    return
                stream.write(b" " * 65536)
                time.sleep(0.03)

        nas.answer = lambda call: Answer(raw=slowly)
        error = failure(lambda: connect(timeout_s=0.1, attempts=1).list())
        assert "did not end its answer within 0.1 s" in error.message

    @pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425, 429, 403])
    def test_passes(self, nas, connect, status):
        """A status that may pass is tried again, and then all is well."""
        nas.script = [Answer(status, {"error": "hiccup"}), Answer(status, b"<html>")]
        client = connect()
        client.provision(request())
        assert len(nas.calls) == 3
        assert client.pauses == [0.25, 0.5]

    @pytest.mark.parametrize("how", ["hang_up", "half"])
    def test_broken_connections(self, nas, connect, how):
        """A connection that breaks before or in the answer is tried again."""
        nas.script = [Answer(raw=getattr(nas, how))]
        assert connect().list().arms == ()
        assert len(nas.calls) == 2

    def test_gives_up(self, nas, connect):
        """A NAS that stays broken is told with what it said last, bounded and on one line."""
        nas.answer = lambda call: Answer(500, {"error": "oops\n\x1b[31m", "message": f"{TOKEN} " + "x" * 5000})
        error = failure(lambda: connect().list())
        assert isinstance(error, NasUnavailableError)
        assert "answered 500 (oops" in error.message
        assert len(error.message) < 350
        assert "\x1b" not in error.message
        assert len(nas.calls) == 4

    def test_retry_after_seconds(self, nas, connect):
        """Retry-After in seconds is waited, plus a little that spreads the agents."""
        nas.script = [Answer(429, {}, {"Retry-After": "7"})]
        client = connect(clock=lambda: 0.0)
        client.cancel("x")
        assert client.pauses[0] == pytest.approx(7.7)

    def test_retry_after_date(self, nas, connect):
        """Retry-After as a date is meant by NAS's clock, however wrong ours is."""
        moment = datetime.now(UTC) + timedelta(seconds=20)
        nas.script = [Answer(503, {}, {"Retry-After": moment.strftime("%a, %d %b %Y %H:%M:%S GMT")})]
        client = connect(clock=lambda: 0.0, now=lambda: 0.0)
        client.cancel("x")
        assert client.pauses[0] == pytest.approx(21, abs=1.5)

    @pytest.mark.parametrize("text", ["soon", "-5", "", "1e3", "Wed, 99 Foo 2026"])
    def test_retry_after_nonsense(self, nas, connect, text):
        """A Retry-After nobody can read counts as none."""
        nas.script = [Answer(503, {}, {"Retry-After": text})]
        client = connect()
        client.cancel("x")
        assert client.pauses == [0.25]

    def test_retry_after_too_long(self, nas, connect):
        """A pause longer than the budget is not begun; the error says how long it should be, and the next call knows."""
        nas.answer = lambda call: Answer(503, {}, {"Retry-After": "3600"})
        client = connect(budget_s=10)
        error = failure(lambda: client.provision(request()))
        assert error.retry_after_s == 3600
        assert client.pauses == []
        error = failure(lambda: client.provision(request()))
        assert "left alone for another 3600 s" in error.message
        assert len(nas.calls) == 1

    def test_budget(self, nas, connect):
        """Attempts end when the budget does, even if there were more to make."""
        nas.answer = lambda call: Answer(500)
        client = connect(budget_s=0.6, attempts=50, sleep=time.sleep)
        start = time.monotonic()
        failure(lambda: client.provision(request()))
        assert time.monotonic() - start < 2
        assert 1 < len(nas.calls) < 5


class TestGarbage:
    CASES = (
        (b"<!DOCTYPE html><html>", "with an HTML page"),
        (b"", "not with JSON"),
        (b"\x00\xff\xfe", "not with JSON"),
        (b"[" * 100_000, "not with JSON"),
        (b'{"armed": [', "not with JSON"),
        ([1], "with JSON that is no object"),
    )

    @pytest.mark.parametrize(("body", "said"), CASES)
    @pytest.mark.parametrize("verb", ["provision", "list"])
    def test_not_the_contract(self, nas, connect, body, said, verb):
        """A 200 over anything but a JSON object is an error that says what came instead."""
        nas.answer = lambda call: Answer(body=body)
        client = connect()
        error = failure(lambda: client.provision(request()) if verb == "provision" else client.list())
        assert isinstance(error, NasUnavailableError)
        assert said in error.message

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ({}, "without the list `armed`"),
            ({"armed": None}, "without the list `armed`"),
            ({"armed": {}}, "without the list `armed`"),
            ({"armed": [None]}, "names no job"),
            ({"armed": [{"fire_at": "x"}]}, "names no job"),
            ({"armed": [{"job_id": 5}]}, "names no job"),
            ({"armed": [{"job_id": ""}]}, "names no job"),
            ({"armed": [], "next_cursor": 5}, "next_cursor is no text"),
        ],
    )
    def test_list_of_other_shapes(self, nas, connect, body, said):
        """A list of another shape is an error, never "nothing armed"."""
        nas.answer = lambda call: Answer(body=body)
        assert said in failure(lambda: connect().list()).message

    @pytest.mark.parametrize("body", [{"schedule_id": 5}, {"ok": False}])
    def test_provision_of_other_shapes(self, nas, connect, body):
        """A provision whose answer does not say that it was taken is an error."""
        nas.answer = lambda call: Answer(body=body)
        assert isinstance(failure(lambda: connect().provision(request())), NasUnavailableError)

    def test_cancel_that_is_not_ok(self, nas, connect):
        """A cancel that says it is not ok is an error."""
        nas.answer = lambda call: Answer(body={"ok": False})
        assert isinstance(failure(lambda: connect().cancel("x")), NasUnavailableError)

    def test_provision_without_an_id(self, nas, connect):
        """A provision that names no schedule is taken, but the answer shows that only a list can confirm it."""
        nas.answer = lambda call: Answer(body={"features": "batch"})
        answer = connect().provision(request())
        assert (answer.schedule_id, answer.features) == (None, frozenset())

    def test_too_large(self, nas, connect):
        """An answer beyond any sense is not read to its end."""
        nas.answer = lambda call: Answer(body=b" " * (4 * 2**20 + 1))
        assert "more than 4194304 bytes" in failure(lambda: connect(attempts=1).cancel("x")).message


class TestRefusals:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirects(self, nas, other, connect, status):
        """A redirect is refused: the second host sees neither a request nor the token."""
        nas.answer = lambda call: Answer(status, b"x" * 10, {"Location": f"{other.url}/{TOKEN}?canary"})
        client = connect()
        for work in (client.list, lambda: client.provision(request()), lambda: client.cancel("x")):
            error = failure(work)
            assert isinstance(error, NasUnavailableError)
            assert f"answered {status}, a redirect to http://127.0.0.1, which is refused" in error.message
        assert (len(nas.calls), other.connections) == (3, 0)

    def test_refused_for_good(self, nas, connect):
        """403 invalid_client ends it at once, with its own class, exit code and remedy."""
        nas.answer = lambda call: Answer(403, {"error": "invalid_client", "error_description": "not an agent"})
        token = Token(TOKEN, "other")
        error = failure(lambda: connect(token=token).provision(request()))
        assert isinstance(error, RefusedError)
        assert error.exit_code == 4
        assert "403 (invalid_client: not an agent)" in error.message
        assert "provision this agent" in error.hint
        assert (len(nas.calls), token.renewals) == (1, 0)

    @pytest.mark.parametrize("body", [{"error": "rate_limited"}, {"error": ["invalid_client"]}, b"<html>", [], {}])
    def test_other_403(self, nas, connect, body):
        """Any other 403 may pass."""
        nas.answer = lambda call: Answer(403, body)
        error = failure(lambda: connect().provision(request()))
        assert isinstance(error, NasUnavailableError)
        assert not isinstance(error, RefusedError)
        assert len(nas.calls) == 4

    def test_401(self, nas, connect):
        """401 with nothing to renew ends it at once, and names where the token came from."""
        nas.answer = lambda call: Answer(401, {"error": "invalid_token"})
        error = failure(lambda: connect().list())
        assert type(error) is AuthError
        assert "did not accept the token from the test (invalid_token)" in error.message
        assert len(nas.calls) == 1

    def test_401_renewed(self, nas, connect):
        """After a 401 the token is renewed once and the call repeated."""
        nas.script = [Answer(401)]
        token = Token(TOKEN, "fresh")
        connect(token=token).provision(request())
        assert [call.headers["Authorization"] for call in nas.calls] == [f"Bearer {TOKEN}", "Bearer fresh"]

    def test_401_renewed_in_vain(self, nas, connect):
        """A renewed token that is refused too ends it: there is one renewal a call."""
        nas.answer = lambda call: Answer(401)
        token = Token(TOKEN, "fresh", "fresher")
        assert type(failure(lambda: connect(token=token).provision(request()))) is AuthError
        assert (len(nas.calls), token.renewals) == (2, 1)

    @pytest.mark.parametrize("status", [400, 404, 405, 409, 413, 422, 451])
    def test_rejected(self, nas, connect, status):
        """Another 4xx is about the request: not repeated, and told with what NAS said."""
        nas.answer = lambda call: Answer(status, {"error": "callback_refused", "message": "must be https"})
        error = failure(lambda: connect().provision(request()))
        assert isinstance(error, NasRejectedError)
        assert (error.status, error.reason) == (status, "callback_refused")
        assert f"rejected the request: {status} (callback_refused: must be https)" in error.message
        assert len(nas.calls) == 1

    def test_token_in_the_answer(self, nas, connect):
        """A NAS that repeats our token in its error does not get it printed."""
        nas.answer = lambda call: Answer(400, {"error": f"bad {call.headers['Authorization']}"})
        assert "bad Bearer ***" in failure(lambda: connect().cancel("x")).message


class TestPaging:
    def test_to_the_end(self, nas, connect):
        """A list follows the cursors to the last page."""
        nas.armed = {f"j{n:03}": {"job_id": f"j{n:03}", "fire_at": "2026-11-20T15:34:15Z"} for n in range(25)}
        nas.page = 10
        listed = connect().list()
        assert [arm.job_id for arm in listed.arms] == sorted(nas.armed)
        assert [call.path.partition("?")[2] for call in nas.calls] == ["", "cursor=10", "cursor=20"]

    def test_broken_midway(self, nas, connect):
        """A page that fails fails the list: there is no partial one."""
        nas.armed = {f"j{n}": {"job_id": f"j{n}", "fire_at": ""} for n in range(9)}
        nas.page = 3
        nas.answer = lambda call: Answer(500) if "cursor=6" in call.path else nas.by_contract(call)
        assert isinstance(failure(lambda: connect().list()), NasUnavailableError)

    def test_hiccup_midway(self, nas, connect):
        """A page that fails once is asked for again, and nothing is missing or double."""
        nas.armed = {f"j{n}": {"job_id": f"j{n}", "fire_at": ""} for n in range(9)}
        nas.page = 3
        nas.script = [nas.by_contract(_listing("")), Answer(502), nas.by_contract(_listing("?cursor=3"))]
        assert [arm.job_id for arm in connect().list().arms] == sorted(nas.armed)

    def test_circles(self, nas, connect):
        """Cursors that lead back to where one was are an error, not a life's work."""
        nas.answer = lambda call: Answer(body={"armed": [], "next_cursor": "b" if call.path.endswith("=a") else "a"})
        assert "go round in circles" in failure(lambda: connect().list()).message
        assert len(nas.calls) == 3


def _listing(query):
    return Call("GET", f"/api/agent-cron/list{query}", {})


def test_since_when_calls_fail_is_told_of_the_fire_that_fails():
    """Of the owed fire, not of the newer arm beside it; one that is ahead by this clock has failed since no time yet."""
    entry = {"job_id": "a", "fire_at": "2027-01-01T00:00:00+00:00", "schedule_id": "s"}
    told = {"attempts": 1, "last_error": "connection refused", "fire_at": "2026-11-28T10:00:00+00:00"}
    now = datetime(2026, 11, 28, 10, 5, tzinfo=UTC)

    def since(deliveries):
        body = json.dumps({"armed": [entry | {"deliveries": deliveries}]}).encode()
        arms, _, _ = read_page(NasReply(status=200, body=body, nas="NAS", redirect="", date=None, wait_s=None))
        return failing_since(tuple(arms), now)

    assert since(told) == now - timedelta(minutes=5)
    assert since(told | {"fire_at": "soon"}) is None
    assert since(told | {"last_error": "answered 503"}) is None
