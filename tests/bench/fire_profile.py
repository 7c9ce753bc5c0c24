"""Where the time of one fire goes, from the request to its 202 and on to the end: `python tests/bench/fire_profile.py`.

The callback and its runners note the time at each step of the protocol, by a `sitecustomize` that this script puts in
their way; a note is one write(2). One caller, one fire after the other; medians of what passes between two steps.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.agent_home import AgentHome  # noqa: E402 - the checkout comes first
from tests.bench.callback_load import Bench  # noqa: E402
from tests.fire_tokens import SigningKey, serve_jwks  # noqa: E402
from tests.nas_process import running_nas  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRES = 60
CUSTOM = """
import importlib.abc, importlib.machinery, os, sys, time
into = os.environ.get("FIRE_PROFILE")
if into:
    fd = os.open(into, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)
    def mark(step):
        os.write(fd, f"{step} {time.time_ns()}\\n".encode())
    if "--claimed" in sys.orig_argv:
        mark("python")
    spawn = os.posix_spawn
    def spawned(path, argv, *rest, **more):
        if "--claimed" in argv:
            mark("spawning")
        return spawn(path, argv, *rest, **more)
    os.posix_spawn = spawned
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "chronos_cli.operations.assembly":
                return None
            sys.meta_path.remove(self)
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            execute = spec.loader.exec_module
            def patched(module):
                execute(module)
                module.checkpoint_of = lambda environ: mark
            spec.loader.exec_module = patched
            return spec
    sys.meta_path.insert(0, Finder())
"""
STEPS = (
    ("sent", "claiming", "token verified, jobs read, decided"),
    ("claiming", "claimed", "the claim, durable (2 fsyncs)"),
    ("claimed", "spawning", "claim handed over"),
    ("spawning", "python", "the runner's interpreter starts"),
    ("python", "starting", "it imports, reads its configuration, takes the run's lock"),
    ("starting", "running", "the row, durable (2 fsyncs)"),
    ("running", "started", "the job's process is made, with its guard"),
    ("started", "arming", "the callback hears of it, and notes the arm"),
    ("arming", "provisioned", "the call of NAS"),
    ("provisioned", "armed", "its answer noted"),
    ("armed", "answered", "a last look at the job, and the answer on its way"),
)
AFTER = (
    ("started", "ended", "the job runs"),
    ("ended", "recorded", "its outcome in the row, durable (2 fsyncs)"),
    ("recorded", "settled", "the run taken out of hand, durable (2 fsyncs)"),
)


def profile(folder: Path) -> list[Mapping[str, int]]:
    """The time of each step of each fire, in Unix nanoseconds."""
    (folder / "custom").mkdir()
    (folder / "custom" / "sitecustomize.py").write_text(CUSTOM)
    notes, key, found = folder / "notes", SigningKey.rs256(), []
    with running_nas(folder, "--rate", "100000") as nas, serve_jwks(key) as jwks:
        agent = AgentHome(folder / "home", nas)
        config = agent.home / "config.yaml"
        config.write_text(config.read_text().replace(f"{nas.url}/.well-known/jwks.json", jwks.url))
        path = os.pathsep.join([str(folder / "custom"), str(ROOT)])
        agent.start_shim(PYTHONPATH=path, FIRE_PROFILE=str(notes))
        try:
            bench = Bench(agent, key, nas.url)
            with bench.poster() as post:
                for name in bench.due(FIRES + 5):
                    os.truncate(notes, 0)
                    sent = time.time_ns()
                    status, _ = post(name)
                    answered = time.time_ns()
                    assert status == 202
                    agent.wait_for_row(name, state="ok")
                    time.sleep(0.1)
                    steps = {"sent": sent, "answered": answered}
                    for line in notes.read_text().splitlines():
                        step, at = line.split()
                        steps.setdefault(step, int(at))
                    found.append(steps)
        finally:
            agent.stop_shim()
    return found[5:]


def main() -> None:
    """Measure and print."""
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}, {FIRES} fires\n")
    with tempfile.TemporaryDirectory() as folder:
        fires = profile(Path(folder))
    print("| step | median |\n| --- | ---: |")
    for first, last, what in STEPS:
        print(f"| {what} | {_between(fires, first, last):.1f} ms |")
    print(f"| **from the request to its 202** | **{_between(fires, 'sent', 'answered'):.1f} ms** |")
    for first, last, what in AFTER:
        print(f"| {what} | {_between(fires, first, last):.1f} ms |")


def _between(fires: list[Mapping[str, int]], first: str, last: str) -> float:
    return median((fire[last] - fire[first]) / 1e6 for fire in fires if first in fire and last in fire)


if __name__ == "__main__":
    main()
