"""The demo's environment: a temporary home, a `chronos-nas serve` and the shim, both on loopback, gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.errors import ConflictError, TemporaryError
from chronos_cli.files import make_folder, open_named, place_of, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

START_WITHIN_S: Final = 30.0
STOP_WITHIN_S: Final = 5.0

_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoHome:
    """A home that works: `home` of the agent, where NAS writes its log, and how to run commands there."""

    home: Path
    nas_url: str
    nas_log: Path
    environ: Mapping[str, str]


@contextmanager
def set_up(keep: Path | None, environ: Mapping[str, str]) -> Iterator[DemoHome]:
    """Bring everything up, and take it down again; with `keep` the folder stays there.

    Raises ConflictError where `keep` holds something already, TemporaryError where a part does not come up.
    """
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise ConflictError(f"{keep} is not empty", hint="name a folder that does not exist yet")
    folder = keep if keep is not None else Path(tempfile.mkdtemp(prefix="chronos-demo-"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        make_folder(folder)
        yield _start(folder.resolve(), environ, processes)
    finally:
        # The shim first: it ends after its runs, and those still have something to say to NAS.
        for process in reversed(processes):
            process.terminate()
            _end(process)
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, environ: Mapping[str, str], processes: list[subprocess.Popen[bytes]]) -> DemoHome:
    home, nas_home = folder / "agent", folder / "nas"
    home.mkdir(mode=0o700)
    nas_home.mkdir(mode=0o700)
    kept = {name: value for name, value in environ.items() if not name.startswith("CHRONOS_")}
    nas_environ = kept | {"CHRONOS_NAS_HOME": str(nas_home)}
    ready, nas_log = folder / "nas.url", folder / "nas.log"
    nas = [sys.executable, "-m", "chronos_cli.nas_server"]
    serve = [*nas, "serve", "--port", "0", "--allow-private-callbacks", "--ready-file", str(ready)]
    # The first token needs keys and a database; made here, they are there when the server starts.
    made = subprocess.run([*nas, "agent", "add", "demo", "--json"], env=nas_environ, capture_output=True, check=False)
    if made.returncode:
        raise TemporaryError(f"chronos-nas agent add failed: {made.stderr.decode(errors='replace').strip()}")
    agent: dict[str, Any] = json.loads(made.stdout)
    processes.append(_spawn([*serve, "--log-file", str(nas_log)], nas_environ, folder / "nas.err"))
    port = _free_port()
    agent_environ = kept | {"CHRONOS_HOME": str(home)}
    nas_url = _wait_ready(ready, processes[0], folder / "nas.err")
    _write_home(home, nas_url, f"http://{_HOST}:{port}", agent)
    shim = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"{_HOST}:{port}", "--wait-for-runs"]
    processes.append(_spawn(shim, agent_environ, folder / "shim.log"))
    _wait_listening(port, processes[1], folder / "shim.log")
    return DemoHome(home=home, nas_url=nas_url, nas_log=nas_log, environ=agent_environ)


def _write_home(home: Path, nas_url: str, callback_url: str, agent: Mapping[str, Any]) -> None:
    config = (
        "timezone: UTC\n"
        "cron:\n"
        "  provider: chronos\n"
        "  chronos:\n"
        f"    portal_url: {nas_url}\n"
        f"    callback_url: {callback_url}\n"
        f'    expected_audience: "{agent["audience"]}"\n'
        f"    nas_jwks_url: {nas_url}/.well-known/jwks.json\n"
        "    token_file: token\n"
    )
    for name, text in (("token", agent["token"] + "\n"), ("config.yaml", config)):
        with place_of(home, name) as place:
            write_file(place, text.encode())


def _spawn(argv: list[str], environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with os.fdopen(open_named(log, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        return subprocess.Popen(
            argv, env=dict(environ), stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=log.parent
        )


def _wait_ready(ready: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + START_WITHIN_S
    while not ready.exists():
        _check_up(process, log, until)
    return ready.read_text().strip()


def _wait_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_WITHIN_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((_HOST, port)) == 0:
                return
        _check_up(process, log, until)


def _check_up(process: subprocess.Popen[bytes], log: Path, until: float) -> None:
    if process.poll() is not None or time.monotonic() > until:
        said = log.read_text(errors="replace").strip().rpartition("\n")[2]
        raise TemporaryError(f"a part of the demo did not come up: {said or 'it said nothing in time'}")
    time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
