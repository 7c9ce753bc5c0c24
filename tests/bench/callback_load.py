"""What a callback carries on this machine: the time until its 202, and 200 fires that arrive within one second.

    python tests/bench/callback_load.py [--only alone,crowd,second] [--json]

Starts a real `chronos-nas` and the callback on waitress as processes of their own, on loopback, and posts fires as NAS
does. Every job is a process that ends at once, so runners compete with the callback for the same cores. `own_ms` is the
processor time that the callback's process spends on one fire, `runner_ms` that of its runner and its job. Nothing here judges by a clock; what must hold whatever
the machine (all accepted, all run, none twice) is checked.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.agent_home import AgentHome  # noqa: E402 - the checkout comes first
from tests.callback.shim_home import PATH, add_job  # noqa: E402
from tests.fire_tokens import SigningKey, serve_jwks  # noqa: E402
from tests.nas_process import running_nas  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def used(pid: int) -> tuple[float, float]:
    """The processor time of a process, and of the children that it has reaped, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, reaped = (sum(map(int, fields[first : first + 2])) for first in (11, 13))
    return own / os.sysconf("SC_CLK_TCK"), reaped / os.sysconf("SC_CLK_TCK")


class Bench:
    """One callback and its NAS, and what is fired at it."""

    def __init__(self, agent: AgentHome, key: SigningKey, issuer: str) -> None:
        self.agent, self.key, self.issuer = agent, key, issuer
        self.count = 0

    def due(self, many: int) -> list[str]:
        """So many new jobs that came due a second ago."""
        names = [f"job-{self.count + number:05}" for number in range(many)]
        self.count += many
        for name in names:
            add_job(self.agent.home, name, "every 1h", f"echo $CHRONOS_RUN_ID >> {self.agent.home}/ran-{name}", ago=1)
        return names

    @contextmanager
    def poster(self) -> Iterator[Callable[[str], tuple[int, float]]]:
        """Give a caller with a connection of its own: it posts one fire, gives its status and the seconds it took."""

        def post(name: str) -> tuple[int, float]:
            token = self.key.token(iss=self.issuer, aud=self.agent.access.audience, job_id=name)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            started = time.perf_counter()
            connection.request("POST", PATH, json.dumps({"job_id": name}), headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, time.perf_counter() - started

        with closing(http.client.HTTPConnection("127.0.0.1", self.agent.port, timeout=60)) as connection:
            yield post

    def used_seconds(self) -> tuple[float, float]:
        """The processor time used so far by the callback's process, and by the runners and jobs that it has reaped.

        The warm runner counts among the latter: itself, and what it has reaped.
        """
        assert self.agent.shim is not None
        own, reaped = used(self.agent.shim.pid)
        for child in Path(f"/proc/{self.agent.shim.pid}/task").glob("*/children"):
            for pid in child.read_text().split():
                with suppress(OSError):
                    reaped += sum(used(int(pid)))
        return own, reaped

    def sweep(self) -> None:
        """Have the callback reap what is over."""
        time.sleep(0.3)
        with self.poster() as post:
            post(self.due(1)[0])
        time.sleep(1.0)

    def fire_all(self, names: list[str], callers: int, *, within_s: float = 0.0) -> dict[str, Any]:
        """Fire all of them through so many callers, spread over `within_s`; wait until all have run; the figures."""
        found: list[tuple[int, float]] = []
        self.sweep()
        before, began = self.used_seconds(), time.perf_counter()

        def work(mine: list[tuple[int, str]]) -> None:
            with self.poster() as post:
                for number, name in mine:
                    pause = began + within_s * number / len(names) - time.perf_counter()
                    if pause > 0:
                        time.sleep(pause)
                    found.append(post(name))

        numbered = list(enumerate(names))
        threads = [threading.Thread(target=work, args=(numbered[first::callers],)) for first in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answered = time.perf_counter() - began
        own = (self.used_seconds()[0] - before[0]) / len(names)
        for name in names:
            self.agent.wait_for_row(name, state="ok", timeout=120)
        taken = [seconds for _, seconds in found]
        assert [status for status, _ in found] == [202] * len(names), sorted({status for status, _ in found})
        for name in names:
            assert len((self.agent.home / f"ran-{name}").read_text().split()) == 1, name
        all_run = time.perf_counter() - began
        self.sweep()
        # What reaps is one more fire: it was there before, too.
        runners = (self.used_seconds()[1] - before[1]) / len(names)
        return {
            "fires": len(names),
            "callers": callers,
            "median_ms": round(1000 * percentile(taken, 0.5), 1),
            "p99_ms": round(1000 * percentile(taken, 0.99), 1),
            "own_ms": round(1000 * own, 1),
            "runner_ms": round(1000 * runners, 1),
            "cpu_ms": round(1000 * (own + runners), 1),
            "all_answered_s": round(answered, 2),
            "all_run_s": round(all_run, 2),
        }


WAYS = {"warm": "auto", "started": "off"}
"""How runners come to be, and the setting that makes them so."""
SCENES = {"alone": (100, 1, 0.0), "crowd": (200, 8, 0.0), "second": (200, 200, 1.0)}
"""Fires, callers, and the seconds over which they are spread."""


def measure(folder: Path, only: Sequence[str], ways: Sequence[str] = tuple(WAYS)) -> dict[str, Any]:
    """The figures by the names of scene and way; in each scene the ways take turns, so that they meet one machine."""
    key = SigningKey.rs256()
    figures: dict[str, Any] = {}
    with running_nas(folder, "--rate", "100000") as nas, serve_jwks(key) as jwks, ExitStack() as stack:
        benches = {}
        for way in ways:
            agent = AgentHome(folder / way, nas, name=way)
            config = agent.home / "config.yaml"
            config.write_text(config.read_text().replace(f"{nas.url}/.well-known/jwks.json", jwks.url))
            agent.start_shim(CHRONOS_CALLBACK_WARM_RUNNER=WAYS[way])
            stack.callback(agent.stop_shim)
            benches[way] = Bench(agent, key, nas.url)
            benches[way].fire_all(benches[way].due(10), 2)
        for scene in only:
            many, callers, within_s = SCENES[scene]
            for way, bench in benches.items():
                figures[f"{scene}, {way}"] = bench.fire_all(bench.due(many), callers, within_s=within_s)
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="alone,crowd,second")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.only.split(","))
    here = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    if options.json:
        print(json.dumps({"environment": here, **figures}))
        return 0
    print(", ".join(f"{name} {value}" for name, value in here.items()))
    for name, scene in figures.items():
        print(f"{name:16}", "  ".join(f"{what} {value}" for what, value in scene.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
