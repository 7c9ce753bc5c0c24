"""Real servers for the callback, started as the recipes say, and one check that all of them must pass."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.callback.shim_home import PATH, ROOT, Reply, unique
from tests.conftest import require_program
from tests.docs.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.callback.shim_home import ShimHome


def recipe(page: str, marker: str) -> str:
    """The block of a deployment page that holds this text."""
    return next(block.text for block in blocks(f"docs/deploy/{page}") if marker in block.text)


def command(page: str, marker: str, port: int) -> list[str]:
    """The command of a recipe, on another port, its program the one beside this interpreter or on the path."""
    words = recipe(page, marker).replace("8790", str(port)).split()
    beside = Path(sys.executable).with_name(words[0])
    if words[0] == "python":
        return [sys.executable, *words[1:]]
    return [str(beside) if beside.exists() else require_program(words[0]), *words[1:]]


@contextmanager
def serving(
    argv: list[str], port: int, log: Path, *, ready: bool = True, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server while the block runs; it is listening when the block starts, and gone with all its workers after."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    with log.open("ab") as said:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        until = time.monotonic() + 30
        while ready and not _listens(port):
            ended = process.poll()
            assert ended is None, f"{argv[0]} did not start, exit {ended}: {log.read_text()}"
            assert time.monotonic() < until, f"{argv[0]} does not listen on port {port}: {log.read_text()}"
            time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Caller:
    """What NAS does: posts over HTTP."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, body: bytes, *, token: str | None = None, path: str = PATH, method: str = "POST") -> Reply:
        """One request on a connection of its own."""
        headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()


def check(home: ShimHome, call: Callable[..., Reply], nas: Any, *, mode: str) -> None:
    """The whole loop through a host: who it is, strangers, a fire, its redelivery, a malformed and an odd one."""
    health = call(b"", path="/healthz", method="GET")
    assert (health.status, health.json["mode"]) == (200, mode), health
    job = f"job-{unique()}"
    cursor = home.add(job, "every 1h", "sleep 0.1; env", ago=1)
    body = json.dumps({"job_id": job, "fire_at": cursor.isoformat()}).encode()
    for token in (None, "a.b.c", home.token(aud="agent:other")):
        refused = call(body, token=token)
        assert (refused.status, refused.body) == (401, b'{"result": "refused"}')
    assert home.rows(job) == []
    fired = call(body, token=home.token())
    assert (fired.status, fired.json["result"]) == ((202 if mode == "detached" else 200), "claimed"), fired
    assert fired.json["runs"] == [row["run_id"] for row in home.rows(job)]
    assert job in nas.armed
    (row,) = home.wait_for_rows(job, state="ok")
    again = call(body, token=home.token())
    assert (again.status, again.json["result"]) == (200, "duplicate")
    assert call(b'{"job_id": "nobody"}', token=home.token()).json["result"] == "gone"
    assert call(b"{", token=home.token()).status == 400
    assert call(b"", method="GET").status == 405
    assert call(b"{}", path="/elsewhere").status == 404
    assert len(home.rows(job)) == 1
    assert row["attempt"] == 1


def chunked(port: int, body: bytes, token: str) -> int:
    """The status of a request whose body comes in chunks, without a length."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode() + b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body))))
        connection.sendall(b"0\r\n\r\n")
        answer = connection.makefile("rb").read()
    found = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    assert found is not None, answer
    return int(found[1])


def which(name: str) -> str:
    """A program, also where only root's path has it."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or require_program(name)
