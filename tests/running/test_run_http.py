"""An HTTP action against a real server on loopback."""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from real_processes import NOTHING

from chronos_cli.running.actions import resolve_action
from chronos_cli.running.http_request import SHOWN_BYTES
from tests.played_server import Answer, PlayedServer

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of fork: the server is a thread


@pytest.fixture
def serve():
    """Start a server with given answers: `serve({path: Answer(...)})`."""
    with ExitStack() as started:
        yield lambda answers: started.enter_context(
            PlayedServer(lambda call: answers.get(call.path, Answer(404, b"nothing here")))
        )


@pytest.fixture
def request_(run, tmp_path):
    """Run an HTTP action to its end."""

    def make(**http):
        job = {"chronos": {"action": {"http": http}}}
        return run(
            resolve_action(job, scripts_dir=tmp_path / "scripts", prompt_runner=None, lookup=NOTHING),
            environment={"no_proxy": "*"},
        )

    return make


def test_a_2xx_is_ok(serve, request_):
    """Method, headers and body arrive; status and body are the output."""
    server = serve({"/hook?a=1": Answer(201, b"made\n")})
    ended = request_(url=f"{server.url}/hook?a=1", method="post", headers={"X-Key": "k"}, body={"n": "ü"})
    assert (ended.state, ended.output_tail) == ("ok", "HTTP 201 Created\nmade\n")
    [call] = server.calls
    assert (call.method, call.data) == ("POST", '{"n": "ü"}'.encode())
    assert call.headers["X-Key"] == "k"
    assert call.headers["Content-Type"] == "application/json"
    assert call.headers["User-Agent"] == "chronos-cron"


@pytest.mark.parametrize("status", [400, 404, 500, 503, 304])
def test_anything_else_fails_and_says_so(serve, request_, status):
    """The reason has method, address without its query, and status; the body is in the output."""
    url = serve({"/a?key=secret": Answer(status, b"" if status == 304 else b"why")}).url
    ended = request_(url=f"{url}/a?key=secret")
    assert (ended.state, ended.exit_status) == ("failed", 1)
    assert f"GET {url}/a?... answered {status}" in ended.reason
    assert "secret" not in ended.output_tail


def test_a_redirect_on_the_same_host_is_followed(serve, request_):
    """A server may move a path."""
    url = serve({"/old": Answer(302, b"", {"Location": "/new"}), "/new": Answer(200, b"here")}).url
    assert request_(url=f"{url}/old").state == "ok"


def test_a_redirect_to_another_host_is_not_followed(serve, request_):
    """The headers, a key among them, stay with the host they were meant for; so does a loop end."""
    other = serve({"/": Answer(200, b"gotcha")})
    moved, loop = Answer(302, b"", {"Location": f"{other.url}/"}), Answer(302, b"", {"Location": "/loop"})
    url = serve({"/": moved, "/loop": loop}).url
    ended = request_(url=f"{url}/", headers={"Authorization": "Bearer k"})
    assert ended.state == "failed"
    assert "answered 302" in ended.reason
    assert other.calls == []
    assert request_(url=f"{url}/loop").state == "failed"


def test_a_large_body_is_cut(serve, request_):
    """Only the beginning of an answer is shown, and a word says so."""
    url = serve({"/": Answer(200, b"x" * (SHOWN_BYTES * 3))}).url
    ended = request_(url=f"{url}/")
    assert ended.state == "ok"
    assert ended.output_bytes < SHOWN_BYTES + 200
    assert "is not shown" in ended.output_tail


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "http://name.invalid/", "https://127.0.0.1:9/"])
def test_a_host_that_cannot_be_reached_fails_with_the_reason(request_, url):
    """One plain line, no traceback."""
    ended = request_(url=url)
    assert ended.state == "failed"
    assert "Traceback" not in ended.output_tail
    assert ended.reason.startswith(f"exited with status 1: GET {url}: ")


def test_a_server_that_talks_nonsense_fails_plainly(serve, request_):
    """An http server behind an https address is told in one line."""
    url = serve({}).url
    ended = request_(url=url.replace("http:", "https:") + "/")
    assert ended.state == "failed"
    assert "Traceback" not in ended.output_tail


def test_a_server_that_stalls_is_ended_by_the_runs_timeout(serve, run, tmp_path):
    """The request has no limit of its own; the run's does it."""
    url = serve({"/": Answer(raw=lambda _: time.sleep(3))}).url
    action = resolve_action(
        {"chronos": {"action": {"http": {"url": f"{url}/"}}}},
        scripts_dir=Path(tmp_path),
        prompt_runner=None,
        lookup=NOTHING,
    )
    assert run(action, environment={"no_proxy": "*"}, timeout_s=0.5).state == "timeout"
