"""How many changes a second one jobs document in a bucket takes: `python tests/bench/bucket_scaling.py [--jobs 100] [--delay 0.03]`.

Starts moto, a real S3 API on loopback, and for 1, 2, 4, 8 and 16 writers so many processes, each of which claims jobs
of its own, one after the other, through the same load-change-save that a fire uses. `--delay`: seconds that are added
to each call, since loopback has none; a bucket in the same region takes some 30 ms. Or give a bucket of your own with
--url and --endpoint, and credentials in the environment. Prints, for each number of writers, changes and conflicts.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from chronos_cli.store.bucket import BucketStore  # noqa: E402 - the checkout first
from chronos_cli.store.interface import JOBS_KEY, DocumentStore, VersionConflict  # noqa: E402 - the checkout first
from chronos_cli.store.open import open_store  # noqa: E402
from chronos_cli.store.repository import Repository  # noqa: E402
from tests.bench.scenes import record  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

WRITERS = (1, 2, 4, 8, 16)
# Not fork: what speaks to the bucket has threads of its own.
PROCESSES = multiprocessing.get_context("spawn")


class Far(DocumentStore):
    """A store behind a wire: each call takes so much longer. Counts the conflicts, and the calls by their kind."""

    def __init__(self, near: DocumentStore, delay_s: float) -> None:
        self._near, self._delay_s, self.conflicts = near, delay_s, 0
        self.calls: Counter[str] = Counter()
        self.apart = getattr(near, "keeps_jobs_apart", False)

    @property
    def keeps_jobs_apart(self) -> bool:  # type: ignore[override] # as it is there
        return self.apart

    @property
    def location(self) -> str:
        return getattr(self._near, "location", "elsewhere")

    def read(self, key: str) -> Any:
        self.calls["read"] += 1
        time.sleep(self._delay_s)
        return self._near.read(key)

    def create(self, key: str, data: bytes, *, durable: bool = True) -> str:
        self.calls["write"] += 1
        time.sleep(self._delay_s)
        return self._near.create(key, data, durable=durable)

    def replace(self, key: str, data: bytes, version: str, *, durable: bool = True) -> str:
        self.calls["write"] += 1
        # Half on the way there, half on the way back: what comes between is a conflict.
        time.sleep(self._delay_s / 2)
        try:
            return self._near.replace(key, data, version, durable=durable)
        except VersionConflict:
            self.conflicts += 1
            raise
        finally:
            time.sleep(self._delay_s / 2)

    def list(self, prefix: str) -> Any:
        self.calls["list"] += 1
        time.sleep(self._delay_s)
        return self._near.list(prefix)

    def delete(self, key: str, *, durable: bool = True) -> None:
        self.calls["delete"] += 1
        time.sleep(self._delay_s)
        self._near.delete(key)

    each = BucketStore.each


def write(url: str, endpoint: str | None, delay_s: float, mine: list[str], seconds: float, out: Connection) -> None:
    """Claim one's own jobs over and over; sends the changes made, the conflicts met, and the longest wait."""
    store = Far(open_store(url, endpoint=endpoint, lock_timeout_s=30.0), delay_s)
    repository = Repository(store, sleep=time.sleep, random=random.random)
    out.send("ready")
    out.recv()
    until, changes, longest, gave_up = time.monotonic() + seconds, 0, 0.0, 0
    while time.monotonic() < until:
        job_id, began = mine[changes % len(mine)], time.monotonic()
        try:
            repository.change(
                lambda jobs, job_id=job_id, mark=f"{changes}": jobs.put(
                    job_id, {**jobs.get(job_id), "last_status": mark}
                )
            )
        except Exception:  # noqa: BLE001 - counted: it is what a fire would answer with 503
            gave_up += 1
        else:
            changes += 1
        longest = max(longest, time.monotonic() - began)
    out.send((changes, store.conflicts, longest, gave_up))


@contextmanager
def s3() -> Iterator[tuple[str, str]]:
    """A bucket in a new S3 server on loopback: its URL and the endpoint."""
    os.environ.update({"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "us-east-1"})
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "store" / "s3_server.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        address = f"127.0.0.1:{int(server.stdout.readline())}"
        with closing(http.client.HTTPConnection(address, timeout=20)) as connection:
            connection.request("PUT", "/bucket")
            connection.getresponse().read()
        yield "s3://bucket/bench", f"http://{address}"
    finally:
        server.terminate()
        server.wait(10)


def side_by_side(target: Callable[..., None], given: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Run `target` in a process for each of its arguments, all from one moment on; what each sends back."""
    pipes, workers = [], []
    for one in given:
        here, there = PROCESSES.Pipe()
        workers.append(PROCESSES.Process(target=target, args=(*one, there)))
        pipes.append(here)
    for worker in workers:
        worker.start()
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    found = [pipe.recv() for pipe in pipes]
    for worker in workers:
        worker.join()
    return found


def measure(url: str, endpoint: str | None, options: argparse.Namespace) -> None:
    """Print one line for each number of writers."""
    from datetime import UTC, datetime

    ids = [f"nightly-{number:04d}" for number in range(options.jobs)]
    due = datetime.now(UTC).replace(microsecond=0)
    data = json.dumps({"jobs": [record(n, due=due, command=["true"]) for n in range(options.jobs)]}, indent=2).encode()
    store = open_store(url, endpoint=endpoint, lock_timeout_s=30.0)
    store.delete(JOBS_KEY)
    store.create(JOBS_KEY, data)
    print(f"{options.jobs} jobs, {len(data) / 1000:.0f} kB, {1000 * options.delay:.0f} ms added to each call, "
          f"{options.seconds:.0f} s each; load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print("writers  changes/s  conflicts for each change  longest wait  given up")
    for count in WRITERS:
        found = side_by_side(
            write, [(url, endpoint, options.delay, ids[number::count], options.seconds) for number in range(count)]
        )
        changes, conflicts = sum(item[0] for item in found), sum(item[1] for item in found)
        print(f"{count:7}  {changes / options.seconds:9.1f}  {conflicts / max(1, changes):25.1f}  "
              f"{max(item[2] for item in found):10.1f} s  {sum(item[3] for item in found):8}")  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--delay", type=float, default=0.03)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--url")
    parser.add_argument("--endpoint")
    options = parser.parse_args()
    if options.url:
        measure(options.url, options.endpoint, options)
        return
    with s3() as (url, endpoint):
        measure(url, endpoint, options)


if __name__ == "__main__":
    main()
