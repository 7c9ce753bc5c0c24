"""Load: what must hold whatever the machine. The figures are printed by tests/bench/callback_load.py."""

import json
import socket
import statistics
import sys
import time

import pytest

from tests.bench.callback_load import measure
from tests.callback.hosts import Caller, serving
from tests.callback.shim_home import PATH
from tests.fire_tokens import SigningKey
from tests.ports import free_port


@pytest.mark.bench
def test_two_hundred_fires_in_one_second_are_all_accepted_and_run_once(tmp_path):
    """Every fire gets its 202, every job runs, none twice; the time it took is printed."""
    for scene, figures in measure(tmp_path, ["alone", "crowd", "second"]).items():
        print(scene, json.dumps(figures))


@pytest.mark.bench
def test_a_401_takes_as_long_for_a_job_that_is_there(home):
    """A token of another key, for a known and for an unknown job in turn: the same bytes; the medians are printed."""
    home.add("known", "every 1h", "true")
    token = SigningKey.es256().token(iss=home.issuer)
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    answers = set()
    for _ in range(1_000):
        for name, times in took.items():
            started = time.perf_counter()
            reply = home.request(json.dumps({"job_id": name}).encode(), token=token, checked=False)
            times.append(time.perf_counter() - started)
            answers.add((reply.status, reply.body))
    assert answers == {(401, b'{"result": "refused"}')}
    print(", ".join(f"{name} {statistics.median(times) * 1000:.3f} ms" for name, times in took.items()))


def test_slow_strangers_do_not_hold_up_a_fire(home, nas, tmp_path):
    """Forty connections that send a header, or a body, byte by byte take no thread from those who mean it."""
    port = free_port()
    home.add("beat", "every 1h", "true", ago=1)
    argv = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}", "--threads", "2"]
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\nContent-Length: 60000\r\n"
    with serving(argv, port, tmp_path / "log"):
        slow = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(40)]
        try:
            for number, connection in enumerate(slow):
                connection.sendall((head if number % 2 else head + "\r\n").encode() + b"x")
            started = time.monotonic()
            assert Caller(port)(b'{"job_id": "beat"}', token=home.token()).status == 202
            assert time.monotonic() - started < 10
        finally:
            for connection in slow:
                connection.close()
        home.wait_for_rows("beat", state="ok")


def test_a_flood_of_headers_is_cut_off_by_our_own_server(home, tmp_path):
    """Past 32 KiB of headers the server answers by itself and goes on serving."""
    port = free_port()
    argv = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}"]
    with serving(argv, port, tmp_path / "log"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as flood:
            flood.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode())
            flood.sendall(b"".join(b"X-%d: %s\r\n" % (number, b"v" * 100) for number in range(400)) + b"\r\n")
            assert flood.recv(100).startswith((b"HTTP/1.1 431", b"HTTP/1.0 431"))
        assert Caller(port)(b"{}").status == 401
