"""What strangers can take of a server: connections for a bounded time, and a bounded part of its log."""

import json
import socket
import sys
import time
from types import SimpleNamespace

import pytest

from chronos_cli.callback import log as callback_log
from chronos_cli.callback.log import LINES, WINDOW_S, BoundedLog
from chronos_cli.connections import Patience
from chronos_cli.operations.firing.refused_token import FILE, SIGNED
from chronos_cli.trust import token_errors as refusals
from tests.callback.hosts import Caller, serving
from tests.callback.shim_home import PATH
from tests.ports import free_port

HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\nContent-Length: 60000\r\n"


class Clock:
    def __init__(self):
        self.at = 1_000.0

    def __call__(self):
        return self.at


class Channel(SimpleNamespace):
    """As much of a connection of waitress as is looked at."""

    def __init__(self, **values):
        super().__init__(requests=[], request=None, total_outbufs_len=0, will_close=False, closed=False, **values)

    def __hash__(self):
        return id(self)

    def __eq__(self, other):
        return self is other

    def handle_close(self):
        self.closed = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def patience(clock):
    return Patience(most=3, request_s=10, idle_s=60, clock=clock)


def watch(patience, clock, channels, seconds):
    """Look once a second, as a server does; the numbers of those that were closed."""
    connected = {0: SimpleNamespace(accepting=True)} | dict(enumerate(channels, 1))
    for _ in range(seconds):
        patience.cut_the_slow(
            {fd: channel for fd, channel in connected.items() if not getattr(channel, "closed", False)}
        )
        clock.at += 1
    return [number for number, channel in enumerate(channels) if channel.closed]


def test_a_request_has_to_be_whole_in_time_however_it_drips(patience, clock):
    """Header, body or the taking of an answer: 10 s each; lying idle: 60 s; being answered: as long as it takes."""
    half, answer, idle, served = Channel(), Channel(), Channel(), Channel()
    half.request, answer.total_outbufs_len, served.requests = object(), 5, [object()]
    patience._most = 9
    assert watch(patience, clock, [half, answer, idle, served], 10) == []
    assert watch(patience, clock, [half, answer, idle, served], 1) == [0, 1]
    assert watch(patience, clock, [half, answer, idle, served], 49) == [0, 1]
    assert watch(patience, clock, [half, answer, idle, served], 100) == [0, 1, 2]


def test_each_request_of_a_kept_connection_has_its_own_time(patience, clock):
    """A connection that sends one request after another is never too old."""
    channel = Channel()
    for _ in range(10):
        channel.request = object()
        assert watch(patience, clock, [channel], 8) == []
        channel.request = None
        assert watch(patience, clock, [channel], 30) == []


def test_the_longest_waited_for_makes_room(patience, clock):
    """Beyond three the oldest goes; one that is being answered neither counts nor goes."""
    served = Channel()
    served.requests = [object()]
    channels = [served]
    for _ in range(5):
        channels.append(Channel())
        watch(patience, clock, channels, 1)
    assert [channel.closed for channel in channels] == [False, True, True, False, False, False]


def test_hundreds_of_dripping_connections_do_not_stop_the_callback(home, nas, tmp_path):
    """Six hundred connections that send a byte now and then: fires are answered while they last."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2_000:
        pytest.skip("too few open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    port = free_port()
    home.add("beat", "every 1h", "true", ago=1)
    argv = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}", "--threads", "2"]
    slow = []
    try:
        with serving(argv, port, tmp_path / "log"):
            for number in range(600):
                slow.append(socket.create_connection(("127.0.0.1", port), timeout=10))
                slow[-1].sendall((HEAD if number % 2 else HEAD + "\r\n").encode() + b"x")
            started = time.monotonic()
            assert Caller(port)(b'{"job_id": "beat"}', token=home.token()).status == 202
            assert Caller(port)(b"", path="/healthz", method="GET").status == 200
            assert time.monotonic() - started < 10
            home.wait_for_rows("beat", state="ok")
    finally:
        for connection in slow:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.soak
def test_a_dripping_connection_is_closed(home, nas, tmp_path):
    """A byte every second keeps nothing open past the time of a request."""
    port = free_port()
    argv = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}"]
    with serving(argv, port, tmp_path / "log"), socket.create_connection(("127.0.0.1", port), timeout=1) as slow:
        slow.sendall(HEAD.encode() + b"X-Slow: ")
        started = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - whichever call meets the closed connection first
            while time.monotonic() - started < 40:
                slow.sendall(b"x")
                time.sleep(1)
                slow.sendall(b"x")
        assert 10 < time.monotonic() - started < 25


def test_refused_calls_leave_a_bounded_number_of_lines(home, capsys, monkeypatch):
    """Each cause has its twenty lines a minute; then one line says how many more there were."""
    clock = Clock()
    home.request(b"{}", token="a.b.c")
    monkeypatch.setattr(home.application.callback(), "_log", BoundedLog(clock))
    capsys.readouterr()
    for _ in range(500):
        assert home.request(b"{}", token="a.b.c").status == 401
        assert home.request(b"{}").status in (401, 400)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "refused: malformed" in line]) == LINES
    assert len(lines) <= 2 * LINES
    clock.at += WINDOW_S
    assert home.request(b"", path="/healthz", REQUEST_METHOD="GET").status == 200
    assert f"chronos: malformed: {500 - LINES} more lines like the last were left out" in capsys.readouterr().err


def test_refused_calls_write_no_more_than_their_lines(home, monkeypatch):
    """An old token of NAS that is sent again and again writes the note for the doctor as often as a line, not more."""
    from chronos_cli.callback import app

    noted = []
    monkeypatch.setattr(app, "note_refused", lambda *_, **__: noted.append(1))
    old = home.token(exp=int(time.time()) - 600)
    for _ in range(100):
        assert home.request(json.dumps({"job_id": "a"}).encode(), token=old).status == 401
    assert len(noted) == LINES
    assert not (home.home / "cache" / FILE).exists()


def test_nor_do_calls_that_meet_a_fault_or_a_wrong_configuration(home, capsys, monkeypatch):
    """Whoever finds out that each call leaves a line when something is wrong here has no more of them either."""
    calls = 3 * LINES
    monkeypatch.setattr(home.application.callback(), "_route", lambda _: 1 / 0)
    monkeypatch.setattr(home.application.callback(), "_environ", {"CHRONOS_DEBUG": "1"})
    assert {home.request(b"{}", token="a.b.c").status for _ in range(calls)} == {500}
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "a fault: ZeroDivisionError" in line]) == LINES
    assert len([line for line in lines if "Traceback" in line]) == LINES
    (home.home / "config.yaml").write_text("timezone: [\n")
    monkeypatch.setattr(home.application, "_callback", None)
    assert {home.request(b"{}", token="a.b.c").status for _ in range(calls)} == {503}
    assert len(capsys.readouterr().err.splitlines()) == LINES


def test_nor_do_connections_that_a_stranger_breaks_off_or_piles_up(home, nas, tmp_path):
    """What the server's library says of them is lines of ours: bounded, and without what was sent or a traceback."""
    port = free_port()
    argv = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}", "--threads", "1"]
    with serving(argv, port, tmp_path / "log"):
        for _ in range(10):
            many = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
            for one in many:
                one.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode() * 3)
            for one in many:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                one.close()
        assert Caller(port)(b"", path="/healthz", method="GET").status == 200
    lines = (tmp_path / "log").read_text().splitlines()
    assert "Traceback" not in "\n".join(lines)
    assert all(line.startswith("chronos: ") for line in lines), lines
    assert any("Task queue depth" in line for line in lines), "the library has something to say"
    assert len(lines) < 5 * LINES


def test_a_log_that_stays_below_says_everything(capsys):
    """Lines within the share are all written, and nothing is said of lines left out."""
    clock = Clock()
    lines = BoundedLog(clock)
    for number in range(LINES):
        assert lines.write("a", f"line {number}")
    assert not lines.write("a", "one more")
    assert lines.write("b", "another kind")
    clock.at += WINDOW_S
    lines.settle()
    lines.settle()
    said = capsys.readouterr().err.splitlines()
    assert said == [
        *(f"chronos: line {number}" for number in range(LINES)),
        "chronos: another kind",
        "chronos: a: 1 more lines like the last were left out",
    ]
    assert callback_log.LINES == LINES


def test_every_cause_that_is_found_after_the_signature_is_noted():
    """What NAS signed and what is refused all the same is a matter for the doctor."""
    before = {
        "missing_authorization", "malformed", "no_key_configured", "no_audience_configured", "no_issuer_configured",
        "algorithm", "crit", "unknown_key", "signature", "refused_by_verifier",
    }  # fmt: skip
    kinds = [kind for kind in vars(refusals).values() if isinstance(kind, type)]
    codes = {kind.code for kind in kinds if issubclass(kind, refusals.FireTokenError)} - {"token_refused"}
    assert codes - before == SIGNED
