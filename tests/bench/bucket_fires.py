"""How many fires a second the replicas of a bucket home make: `python tests/bench/bucket_fires.py [--jobs 50] [--delay 0.03]`.

Whole fires, from the call to the end of the run, of `--jobs` jobs whose command is `true`, by 1, 4 and 8 replicas, each a
process with a share of the jobs. The documents are in the memory of one more process, and each call takes `--delay` seconds
longer; NAS is in each replica's memory. Both layouts: jobs that are kept apart, and together in one document. Prints fires a
second, conflicts, calls for each fire, the longest fire, and fires a second beside as many times one replica's. With --url and
--endpoint the documents are in a bucket of yours.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from chronos_cli.frozen import frozen, replace  # noqa: E402 - the checkout first
from chronos_cli.operations.firing.fire import fire  # noqa: E402
from chronos_cli.operations.firing.launchers import InlineLauncher  # noqa: E402
from chronos_cli.operations.jobs import edit  # noqa: E402
from chronos_cli.store.open import open_store  # noqa: E402
from chronos_cli.store.repository import Repository  # noqa: E402
from tests.bench.bucket_scaling import PROCESSES, Far, side_by_side  # noqa: E402
from tests.faults.world import PERIOD, World  # noqa: E402
from tests.memory_store import MemoryStore  # noqa: E402

if TYPE_CHECKING:
    from datetime import datetime
    from multiprocessing.connection import Connection

REPLICAS = (1, 4, 8)


class Held(MemoryStore):
    """Documents that threads share."""

    def __init__(self) -> None:
        super().__init__()
        self._guard = threading.Lock()

    def create(self, key: str, data: bytes, *, durable: bool = True) -> str:
        with self._guard:
            return super().create(key, data)

    def replace(self, key: str, data: bytes, version: str, *, durable: bool = True) -> str:
        with self._guard:
            return super().replace(key, data, version)


class Holder(BaseManager):
    """The process that holds the documents of each home."""


_HELD: dict[str, Held] = {}


def _held(name: str) -> Held:
    return _HELD.setdefault(name, Held())


Holder.register("held", callable=_held, exposed=("create", "delete", "list", "read", "replace"))


@frozen
class Home:
    """Where the documents are: an address of the holder, or a bucket, and the name of the home there."""

    address: Any
    endpoint: str | None
    name: str

    def open(self, delay_s: float = 0.0) -> Far:
        """The documents behind a wire."""
        if isinstance(self.address, str) and "://" in self.address:
            near = open_store(f"{self.address}/{self.name}", endpoint=self.endpoint, lock_timeout_s=30.0)
            return Far(near, delay_s)
        holder = Holder(address=self.address, authkey=b"bench")
        holder.connect()
        far = Far(holder.held(self.name), delay_s)  # type: ignore[attr-defined] # registered above
        far.apart = True
        return far


def replica(home: Home, delay_s: float, mine: dict[str, datetime], seconds: float, out: Connection) -> None:
    """Fire one's own jobs, `mine` with their next times, one after the other, round after round."""
    with tempfile.TemporaryDirectory() as folder:
        store = home.open(delay_s)
        world = World(Path(folder), job_ids=(), documents=store)
        ctx = world.context(store)
        ctx.repository.change(lambda jobs: jobs.get(min(mine)))  # the layout is known, and the bucket proven
        out.send("ready")
        out.recv()
        store.calls.clear()
        store.conflicts = 0
        until, rounds, fires, longest, refused = time.monotonic() + seconds, 0, 0, 0.0, 0
        while time.monotonic() < until:
            for job_id, due in mine.items():
                began = time.monotonic()
                report = fire(ctx, job_id, fire_at=due + rounds * PERIOD, delivery=None, launcher=InlineLauncher())
                longest = max(longest, time.monotonic() - began)
                refused += (report.http_status, report.outcome.value) != (200, "claimed")
                fires += 1
                if time.monotonic() >= until:
                    break
            rounds += 1
            world.moved += PERIOD
        out.send((fires, store.calls, store.conflicts, longest, refused))


def measure(home: Home, count: int, options: argparse.Namespace, *, together: bool) -> float:
    """Print one line: so many replicas at once. Returns the fires a second."""
    near = home.open()
    repository = Repository(near, sleep=time.sleep, random=lambda: 0.5)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), job_ids=(), documents=near)
        world.moved -= PERIOD
        for number in range(options.jobs):
            draft = world.draft(f"nightly-{number:04d}")
            edit.add(world.context(near), replace(draft, action={"command": ["true"]}))
        if together and repository.layout is not None:
            repository.layout.keep_together()
        due = {str(record.id): world.cursor(record.id) for record in repository.jobs().records}
    shares = [{job_id: due[job_id] for job_id in sorted(due)[number::count]} for number in range(count)]
    found = side_by_side(replica, [(home, options.delay, mine, options.seconds) for mine in shares])
    fires, conflicts, refused = (sum(one[at] for one in found) for at in (0, 2, 4))
    calls: Counter[str] = sum((one[1] for one in found), Counter())
    each = ", ".join(f"{number / fires:.1f} {kind}s" for kind, number in sorted(calls.items()))
    print(f"{count:8} {fires / options.seconds:8.1f} {conflicts:10}  {sum(calls.values()) / fires:10.1f}  "
          f"{max(one[3] for one in found):7.2f} s  {each}" + (f"; {refused} refused" if refused else ""), flush=True)  # fmt: skip
    return float(fires) / options.seconds


def main() -> None:
    """Measure both layouts, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--delay", type=float, default=0.03)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--url")
    parser.add_argument("--endpoint")
    options = parser.parse_args()
    with Holder(authkey=b"bench", ctx=PROCESSES) as holder:
        for layout in ("apart", "together"):
            print(f"{layout}: {options.jobs} jobs, {1000 * options.delay:.0f} ms for each call, "
                  f"{options.seconds:.0f} s each; load {os.getloadavg()[0]:.1f}")  # fmt: skip
            print("replicas  fires/s  conflicts  calls/fire    longest")
            rates = {}
            for count in REPLICAS:
                home = Home(address=options.url or holder.address, endpoint=options.endpoint, name=f"{layout}-{count}")
                rates[count] = measure(home, count, options, together=layout == "together")
            beside = (f"{rates[count] / rates[1] / count:.2f} with {count}" for count in REPLICAS[1:])
            print(f"of as many times one replica's: {', '.join(beside)}")


if __name__ == "__main__":
    main()
