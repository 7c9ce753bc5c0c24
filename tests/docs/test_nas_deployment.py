"""The page on hosting a NAS: its processes over PostgreSQL are started as it shows them, and come up."""

import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.conftest import ROOT
from tests.docs.pages import blocks
from tests.ports import free_port
from tests.postgres_process import running_postgres

PAGE = "docs/nas/deployment.md"


@pytest.mark.service
def test_several_processes_share_a_postgresql(tmp_path):
    """A web process and a worker, each with the page's own words, are ready on their ports."""
    (block,) = [block for block in blocks(PAGE) if block.run_by]
    assert block.run_by == Path(__file__).relative_to(ROOT).as_posix()
    web, worker = free_port(), free_port()
    with running_postgres() as server:
        text = block.text.replace("postgresql://nas@db.example.com/nas", server.new_database())
        text = text.replace("--host 0.0.0.0", f"--host 127.0.0.1 --port {web}").replace("8788", str(worker))
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "CHRONOS_NAS_HOME": str(tmp_path / "nas")}
        environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
        shell = subprocess.Popen(
            ["bash", "-c", text + "\nwait"], env=environ, cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for port in (web, worker):
                _wait_ready(port)
        finally:
            os.killpg(shell.pid, 15)
            shell.wait(30)


def _wait_ready(port):
    until = time.monotonic() + 30
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
                assert answer.status == 200
                return
        except (URLError, OSError):
            assert time.monotonic() < until
            time.sleep(0.05)
