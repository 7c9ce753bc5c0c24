"""Beside the callback: what users pick instead, or would write by hand, under the same calls and with the same job.

    python tests/bench/callback_peers.py

`webhook` is the program of the Debian package of that name (Go). The other is a route of a dozen lines on Flask and
waitress that starts the job by `subprocess.Popen`. Both answer as soon as the job's process is made, and that is all
they do; LACKS says what a user of them does without. One that is not installed is left out.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LACKS = {
    "webhook": "a delivery that comes twice runs twice; no row, output, exit code, timeout or retry of a run, no timer armed; a shared secret in place of a signed token that expires",
    "Flask and Popen": "the same, and what it has started is lost track of when it is restarted",
}
TOKEN = "a-shared-secret"
FLASK = """
import subprocess, sys
from flask import Flask, request
from waitress import serve
app = Flask(__name__)
@app.post("/fire")
def fire():
    if request.headers.get("Authorization") != "Bearer " + sys.argv[2]:
        return {"result": "refused"}, 401
    name = request.get_json()["job_id"]
    subprocess.Popen(["/bin/sh", "-c", f"echo {name} >> {sys.argv[3]}/ran-{name}"])
    return {"result": "started"}, 202
serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=8)
"""
HOOK = {
    "id": "fire",
    "execute-command": "/bin/sh",
    "pass-arguments-to-command": [
        {"source": "string", "name": "-c"},
        {"source": "string", "name": 'echo "$1" >> "$0/ran-$1"'},
        {"source": "string", "name": ""},
        {"source": "payload", "name": "job_id"},
    ],
    "trigger-rule": {
        "match": {
            "type": "value",
            "value": f"Bearer {TOKEN}",
            "parameter": {"source": "header", "name": "Authorization"},
        }
    },
}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _argv(name: str, folder: Path, port: int) -> list[str] | None:
    """How a peer is started; None where it is not installed."""
    if name == "webhook":
        program = shutil.which("webhook")
        hook = json.loads(json.dumps(HOOK))
        hook["pass-arguments-to-command"][2]["name"] = str(folder)
        (folder / "hooks.json").write_text(json.dumps([hook]))
        return program and [program, "-hooks", str(folder / "hooks.json"), "-ip", "127.0.0.1", "-port", str(port)]  # type: ignore[return-value]
    if find_spec("flask") is None or find_spec("waitress") is None:
        return None
    return [sys.executable, "-W", "ignore", "-c", FLASK, str(port), TOKEN, str(folder)]


def _answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(name: str, folder: Path) -> Iterator[tuple[int, str, int] | None]:
    """The port, the path and the process of a peer that answers; None where it is not installed."""
    port = _free_port()
    argv = _argv(name, folder, port)
    if argv is None:
        yield None
        return
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while not _answers(port) and time.monotonic() < until:
            time.sleep(0.02)
        yield port, "/hooks/fire" if name == "webhook" else "/fire", process.pid
    finally:
        process.terminate()
        process.wait()


def used_ms(pid: int) -> float:
    """The processor time of a process and of all that it has reaped."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def fire_all(
    port: int, path: str, pid: int, folder: Path, names: Sequence[str], callers: int, within_s: float
) -> dict[str, Any]:
    """Call for each name once, as `callback_load` does; the figures."""
    taken: list[float] = []
    before, began = used_ms(pid), time.perf_counter()

    def work(mine: list[tuple[int, str]]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for number, name in mine:
            time.sleep(max(0.0, began + within_s * number / len(names) - time.perf_counter()))
            started = time.perf_counter()
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps({"job_id": name}), headers)
            answer = connection.getresponse()
            answer.read()
            assert 200 <= answer.status < 300, answer.status
            taken.append(time.perf_counter() - started)
        connection.close()

    numbered = list(enumerate(names))
    threads = [threading.Thread(target=work, args=(numbered[first::callers],)) for first in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        while not (folder / f"ran-{name}").exists():
            time.sleep(0.002)
    all_run = time.perf_counter() - began
    time.sleep(0.3)
    ordered = sorted(taken)
    return {
        "fires": len(names),
        "callers": callers,
        "median_ms": round(1000 * ordered[len(ordered) // 2], 1),
        "p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
        "cpu_ms": round((used_ms(pid) - before) / len(names), 1),
        "all_run_s": round(all_run, 2),
    }


def measure_peers(folder: Path, many: int = 200) -> dict[str, dict[str, Any]]:
    """The figures of each peer that is installed: one caller, and `many` calls that arrive within one second."""
    figures: dict[str, dict[str, Any]] = {}
    for name in LACKS:
        place = Path(tempfile.mkdtemp(dir=folder))
        with running(name, place) as peer:
            if peer is None:
                continue
            with suppress(FileNotFoundError):
                fire_all(*peer, place, ["warm-up"], 1, 0.0)
            for scene, callers, within_s in (("alone", 1, 0.0), ("second", many, 1.0)):
                names = [f"{scene}-{number}" for number in range(many)]
                figures[f"{name}, {scene}"] = fire_all(*peer, place, names, callers, within_s)
    return figures


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for what, found in measure_peers(Path(temporary)).items():
            print(f"{what:24}", "  ".join(f"{key} {value}" for key, value in found.items()))
