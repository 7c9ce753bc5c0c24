"""No token in any process that is started for a fire, nor in the shim that starts them: /proc is sampled all along."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.callback.hosts import Caller, command, serving
from tests.ports import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

CANARY = "canary-nas-token-5f1c0ffee"


class Sampler:
    """Reads the arguments and environments of all processes again and again, and keeps those that hold a secret."""

    def __init__(self, secrets):
        self.secrets = secrets
        self.found, self.seen, self.over = set(), set(), threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        own = {os.getpid()}
        while not self.over.is_set():
            for folder in Path("/proc").iterdir():
                if not folder.name.isdecimal() or int(folder.name) in own:
                    continue
                for name in ("cmdline", "environ"):
                    try:
                        data = (folder / name).read_bytes()
                    except OSError:
                        continue  # it has ended meanwhile
                    if b"sampled-home" in data:
                        self.seen.add((int(folder.name), name))
                    for secret in self.secrets:
                        if secret.encode() in data:
                            self.found.add((name, data[:200]))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_no_token_shows_in_any_process_or_file_during_fires(home, nas, tmp_path, monkeypatch):
    """The NAS token and the fires' own stay out of the shim, its runners, their jobs, the log, the rows and the output."""
    (home.home / "token").unlink()
    config = (home.home / "config.yaml").read_text().replace("    token_file: token\n", "")
    (home.home / "config.yaml").write_text(config)
    port = free_port()
    names = [f"job-{number}" for number in range(6)]
    tokens = {name: home.token() for name in names}
    script = "env; tr '\\0' '\\n' < /proc/$PPID/environ; tr '\\0' ' ' < /proc/$PPID/cmdline; sleep 0.2"
    for name in names:
        home.add(name, "every 1h", script, ago=1)
    variables = {"CHRONOS_NAS_TOKEN": CANARY, "SAMPLED": "sampled-home"}
    with serving(command("wsgi.md", "waitress-serve", port), port, tmp_path / "log", CHRONOS_DEBUG="1", **variables):
        assert Caller(port)(b"{}").status == 401  # the first request takes the secrets out of sight
        with Sampler([CANARY, *tokens.values()]) as sampler:
            for name in names:
                reply = Caller(port)(json.dumps({"job_id": name}).encode(), token=tokens[name])
                assert reply.status == 202, reply
            for name in names:
                home.wait_for_rows(name, state="ok")
            time.sleep(0.2)
    assert {call.headers["Authorization"] for call in nas.calls} == {f"Bearer {CANARY}"}
    assert sampler.found == set()
    assert len({pid for pid, name in sampler.seen if name == "environ"}) > len(names), "too few processes were seen"
    kept = [path for path in [*home.home.rglob("*"), tmp_path / "log"] if path.is_file()]
    assert any(b"sampled-home" in path.read_bytes() for path in kept)
    for path in kept:
        data = path.read_bytes()
        assert not [secret for secret in (CANARY, *tokens.values()) if secret.encode() in data], path
