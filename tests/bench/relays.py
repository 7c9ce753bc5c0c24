"""What a relay costs and how late a herd comes, beside what users pick instead, in one run.

    python -m tests.bench.relays [--count 5000] [--only chronos,PgQueuer,graphile-worker,pg-boss,BullMQ,slow,SQLite,three]

Each has `count` entries due in one second and POSTs each to the same callback, which is a process of its own and not
counted. Processor time is the worker's and its database's, from a second before they are due until all have come.
Ours signs a token for each; the others sign nothing. Peers are found by their package's name (`pip install pgqueuer
asyncpg`, `npm install graphile-worker pg-boss bullmq ioredis`, PYTHONPATH and NODE_PATH count), `redis-server` on the
path; one that is missing is left out with the reason.

`slow`: ours with 2,000 due and a callback that takes 200 ms; `SQLite`: ours on that store; `three`: ours with three
processes on one database.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.nas_arms import postmaster_of, used_s
from tests.bench.nas_load import _callback_first, _item, percentile
from tests.nas_process import running_nas
from tests.postgres_process import running_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

PEERS = Path(__file__).parent / "peers"
AHEAD_S = 9
PAGE = Path(__file__).resolve().parents[2] / "docs/decisions/rows-are-the-queue.md"
HEAD = "**Figures.**"
NODE = {"graphile-worker": "relay_graphile.cjs", "pg-boss": "relay_pgboss.cjs", "BullMQ": "relay_bullmq.cjs"}
OURS = ("chronos", "slow", "SQLite", "three")
ALL = ("chronos", "PgQueuer", *NODE, *OURS[1:])
SLOW, SLOW_S = 2_000, 0.2


def missing(name: str) -> str | None:
    """Why a peer cannot be measured here, or None."""
    if name in OURS:
        return None
    if name == "PgQueuer":
        return None if find_spec("pgqueuer") and find_spec("asyncpg") else "pgqueuer or asyncpg is not installed"
    if shutil.which("node") is None:
        return "node is not installed"
    # BullMQ leaves the choice of its client to whoever installs it.
    for package in (name.lower(), *(("ioredis",) if name == "BullMQ" else ())):
        if subprocess.run(["node", "-e", f"require('{package}')"], capture_output=True, check=False).returncode:
            return f"{package} is not installed"
    return "redis-server is not installed" if name == "BullMQ" and shutil.which("redis-server") is None else None


def _process_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _peer(name: str, db: str, url: str, count: int, due: float) -> Iterator[list[int]]:
    with ExitStack() as stack:
        more, place = [], db
        if name == "BullMQ":
            with socket.create_server(("127.0.0.1", 0)) as found:
                place = str(found.getsockname()[1])
            redis = subprocess.Popen(["redis-server", "--port", place, "--save", "", "--appendonly", "yes", "--dir",
                                      stack.enter_context(tempfile.TemporaryDirectory())], stdout=subprocess.DEVNULL)  # fmt: skip
            stack.callback(redis.wait)
            stack.callback(redis.terminate)
            while not _answers(int(place)):
                time.sleep(0.05)
            more = [redis.pid]
        program = [sys.executable, str(PEERS / "relay_pgqueuer.py")] if name == "PgQueuer" else ["node", str(PEERS / NODE[name])]  # fmt: skip
        process = subprocess.Popen([*program, place, url, str(count), str(due)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        stack.callback(process.stdout.close)
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout.readline().strip() == "ready", f"{name} did not start"
        yield [process.pid, *more]


@contextmanager
def _chronos(folder: Path, db: str, url: str, count: int, due: float, *, more: int) -> Iterator[list[int]]:
    with ExitStack() as stack:
        nas = stack.enter_context(running_nas(folder, "--db", db))
        others = [
            stack.enter_context(running_nas(folder / f"{n}", "--db", db, "--role", "worker", home=nas.home))
            for n in range(more)
        ]
        agent = nas.add_agent("herd", "--rate", "1000000")
        text = datetime.fromtimestamp(due, UTC).isoformat()
        for first in range(0, count, 1_000):
            numbers = range(first, min(first + 1_000, count))
            items = [{"op": "provision"} | _item(f"job-{n}", text, url) for n in numbers]
            assert nas.call("POST", "/api/agent-cron/batch", agent.token, {"items": items}).status == 200
        yield [nas.pid, *(one.pid for one in others)]


def measure(name: str, db: str, folder: Path, count: int) -> dict[str, Any]:
    """The figures of one: microseconds of processor time a relay, and seconds from due to the callback."""
    load = round(os.getloadavg()[0], 1)
    count = SLOW if name == "slow" else count
    db = f"sqlite:///{folder / 'timers.sqlite'}" if name == "SQLite" else db
    callback, pipe, url = _callback_first(count, SLOW_S if name == "slow" else 0.0)
    due = float(int(time.time()) + AHEAD_S)
    postmaster = 0 if name == "BullMQ" else postmaster_of(db)
    started = (
        _chronos(folder, db, url, count, due, more=2 if name == "three" else 0)
        if name in OURS
        else _peer(name, db, url, count, due)
    )
    with started as pids:
        assert time.time() < due - 1, f"{name} was not ready in time: raise AHEAD_S"
        time.sleep(max(0.0, due - 1 - time.time()))
        before = used_s(postmaster) + sum(map(_process_s, pids))
        arrivals = pipe.recv()
        time.sleep(0.5)  # what it writes down after the last
        spent = used_s(postmaster) + sum(map(_process_s, pids)) - before
    callback.join()
    first_of: dict[str, float] = {}
    for at, job in arrivals:
        first_of.setdefault(job, at - due)
    late = sorted(first_of.values())
    return {
        "cpu_us": round(spent * 1e6 / len(late)),
        "p50_s": round(percentile(late, 0.5), 2),
        "p99_s": round(percentile(late, 0.99), 2),
        "last_s": round(late[-1], 2),
        "lost": count - len(late),
        "twice": len(arrivals) - len(late),
        "load": load,
    }


def main() -> None:
    """Measure what is asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5_000)
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--page", action="store_true", help="write the table of the decision's page")
    chosen = parser.parse_args()
    rows: dict[str, Any] = {}
    with running_postgres() as server:
        for name in chosen.only.split(","):
            reason = missing(name)
            with tempfile.TemporaryDirectory() as folder:
                found = reason or measure(name, server.new_database(), Path(folder), chosen.count)
            print(f"{name:16}", json.dumps(found), flush=True)
            rows[name] = found
    if chosen.page:
        text = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(f"{text.partition(HEAD)[0].rstrip()}\n\n{HEAD}{table(rows, chosen.count)}", encoding="utf-8")


def table(rows: dict[str, Any], count: int) -> str:
    """The figures as the decision's page has them."""
    lines = [
        f" `python -m tests.bench.relays --page`, {count:,} due in one second, {os.cpu_count()} cores shared with the callback,",
        "the database and whatever else ran (the load column). Ours signs each delivery (ES256), the peers sign none and keep no tenant apart.",
        "",
        "| | processor time a relay, us | late p50, s | p99, s | last, s | twice | load |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in rows.items():
        if isinstance(found, dict):
            keys = ("cpu_us", "p50_s", "p99_s", "last_s", "twice", "load")
            lines.append(f"| {name} | " + " | ".join(str(found[key]) for key in keys) + " |")
    return "\n".join(lines) + "\n\nThe plans of the statements stand in [their page](../nas/plans.md).\n"


if __name__ == "__main__":
    main()
