"""What a NAS carries on this machine: provisions, batches, idle lateness, a herd due in one second, memory.

    python tests/bench/nas_load.py [--db postgresql://...] [--only provisions,batch,idle,herd,memory,agents] [--json]

Starts its own `chronos-nas serve` in a temporary folder, and its clients and callback in processes of their own, all
on loopback. Prints the environment beside the figures. Nothing here judges; it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import platform
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.nas_process import NasProcess, running_nas  # noqa: E402 - the checkout comes first

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

NEVER = "2035-01-01T00:00:00+00:00"
SINK = "http://127.0.0.1:9"


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _item(job_id: str, fire_at: str, callback: str) -> dict[str, str]:
    return {"job_id": job_id, "fire_at": fire_at, "agent_callback_url": callback, "dedup_key": f"{job_id}:{fire_at}"}


def _client(url: str, token: str, offset: int, count: int, threads: int, batch: int, out: Connection) -> None:
    """Provision `count` jobs through `threads` kept-alive connections; sends (seconds, failures)."""
    host = urlsplit(url).netloc
    failures = [0]

    def work(start: int, many: int) -> None:
        connection = http.client.HTTPConnection(host, timeout=30)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        step = batch or 1
        for first in range(start, start + many, step):
            if batch:
                items = [{"op": "provision"} | _item(f"job-{n}", NEVER, SINK) for n in range(first, first + step)]
                path, document = "/api/agent-cron/batch", {"items": items}
            else:
                path, document = "/api/agent-cron/provision", _item(f"job-{first}", NEVER, SINK)
            connection.request("POST", path, json.dumps(document), headers)
            reply = connection.getresponse()
            reply.read()
            failures[0] += reply.status != 200
        connection.close()

    share = count // threads
    workers = [threading.Thread(target=work, args=(offset + n * share, share)) for n in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    out.send((time.perf_counter() - began, failures[0]))


def _callback(out: Connection, expected: int, delay_s: float = 0.0) -> None:
    """A callback: answers 200 to every request, after `delay_s`, and sends the arrival times when `expected` came or it is late."""
    arrivals: list[tuple[float, str]] = []
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                arrivals.append((time.time(), json.loads(body)["job_id"]))
                if delay_s:
                    await asyncio.sleep(delay_s)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                if len(arrivals) >= expected:
                    done.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=256)
        out.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        try:
            await asyncio.wait_for(done.wait(), 120)
        except TimeoutError:
            print("the callback did not get all its fires", file=sys.stderr)
        out.send(arrivals)
        # The connections that are still open are of no interest.
        os._exit(0)

    asyncio.run(main())


def _spawn(target: Any, *arguments: Any) -> tuple[Any, Any]:
    mine, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    return process, mine


def provisions(nas: NasProcess, *, count: int = 8_000, threads: int = 8, batch: int = 0) -> dict[str, Any]:
    """Durable provisions a second from one client process."""
    agent = nas.add_agent(f"load-{batch}-{time.time_ns()}", "--rate", "1000000")
    process, pipe = _spawn(_client, nas.url, agent.token, 0, count, threads, batch)
    seconds, failures = pipe.recv()
    process.join()
    return {
        "count": count,
        "connections": threads,
        "batch": batch,
        "failures": failures,
        "per_second": round(count / seconds),
    }


def _callback_first(expected: int, delay_s: float = 0.0) -> tuple[Any, Any, str]:
    mine, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_callback, args=(theirs, expected, delay_s), daemon=True
    )
    process.start()
    return process, mine, mine.recv()


def idle(nas: NasProcess, *, count: int = 30) -> dict[str, Any]:
    """How late single timers fire, one a second."""
    agent = nas.add_agent(f"idle-{time.time_ns()}")
    process, pipe, url = _callback_first(count)
    base = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    due = {f"idle-{n}": base + timedelta(seconds=n) for n in range(count)}
    for job_id, when in due.items():
        nas.provision(agent, job_id, when, url)
    arrivals = pipe.recv()
    process.join()
    late = [(at - due[job_id].timestamp()) * 1000 for at, job_id in arrivals]
    return {"count": len(late), "p50_ms": round(percentile(late, 0.5), 1), "p95_ms": round(percentile(late, 0.95), 1)}


def herd(nas: NasProcess, *, count: int = 2_000) -> dict[str, Any]:
    """How late timers fire that are due in one second."""
    agent = nas.add_agent(f"herd-{time.time_ns()}", "--rate", "1000000")
    process, pipe, url = _callback_first(count)
    when = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
    for first in range(0, count, 1_000):
        items = [
            {"op": "provision"} | _item(f"herd-{n}", when.isoformat(), url)
            for n in range(first, min(count, first + 1_000))
        ]
        assert nas.call("POST", "/api/agent-cron/batch", agent.token, {"items": items}).status == 200
    arrivals = pipe.recv()
    process.join()
    first_of: dict[str, float] = {}
    for at, job_id in arrivals:
        first_of.setdefault(job_id, at - when.timestamp())
    late = list(first_of.values())
    return {
        "count": len(late),
        "p50_s": round(percentile(late, 0.5), 2),
        "p99_s": round(percentile(late, 0.99), 2),
        "max_s": round(max(late), 2),
        "twice": len(arrivals) - len(first_of),
    }


def memory(nas: NasProcess, *, count: int = 100_000) -> dict[str, Any]:
    """Resident memory of the process with so many timers armed."""
    agent = nas.add_agent(f"mem-{time.time_ns()}", "--rate", "1000000", "--max-timers", "1000000")
    began = time.perf_counter()
    for first in range(0, count, 1_000):
        items = [{"op": "provision"} | _item(f"mem-{n}", NEVER, SINK) for n in range(first, first + 1_000)]
        assert nas.call("POST", "/api/agent-cron/batch", agent.token, {"items": items}).status == 200
    seconds = time.perf_counter() - began
    listed = len(nas.armed(agent))
    status = Path(f"/proc/{nas.pid}/status").read_text(encoding="ascii")
    facts = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "armed": listed,
        "rss_mib": round(int(facts["VmRSS"].split()[0]) / 1024, 1),
        "peak_mib": round(int(facts["VmHWM"].split()[0]) / 1024, 1),
        "per_second": round(count / seconds),
    }


def agents(nas: NasProcess, *, count: int = 100_000) -> dict[str, Any]:
    """Seconds that `chronos-nas agent list` takes with so many agents, each with a token and a timer."""
    with closing(nas.backend()) as backend:
        ids, given = [(n, f"agent-{n}") for n in range(1, count + 1)], backend.given(n="bigint", name="text")
        for columns in (
            "agents (id, name, audience, created_at) SELECT n, name, 'agent:' || name, 1.8e9",
            "tokens (token_hash, agent_id, created_at) SELECT name, n, 1.8e9",
            "seen (agent_id, seen_at) SELECT n, 1.8e9",
            "timers (schedule_id, agent_id, job_id, fire_at, fire_text, callback_url, host, armed_at, due_at) SELECT"  # noqa: ISC004
            " name, n, 'job', 2000000000, 'then', 'https://x', 'https://x:443', 1.8e9, 2e9",
        ):
            statement = f"INSERT INTO {columns} FROM {given}"
            backend.write(lambda session, text=statement: session.run(text, backend.bind(ids, 2)))
    began = time.perf_counter()
    listed = len(nas.command("agent", "list")["agents"])
    return {"count": listed, "seconds": round(time.perf_counter() - began, 2)}


def environment(backend: str) -> dict[str, Any]:
    """What the figures depend on."""
    model = ""
    cpu = Path("/proc/cpuinfo")
    if cpu.exists():
        model = next((line.split(":")[1].strip() for line in cpu.read_text().splitlines() if "model name" in line), "")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "cpu": model,
        "load_before": [round(one, 2) for one in os.getloadavg()],
        "sqlite": sqlite3.sqlite_version,
        "backend": backend,
    }


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", help="postgresql://... instead of SQLite")
    parser.add_argument("--only", default="provisions,batch,idle,herd,memory,agents")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    results: dict[str, Any] = {"environment": environment("PostgreSQL" if chosen.db else "SQLite")}
    parts = {
        "provisions": provisions,
        "batch": lambda nas: provisions(nas, count=20_000, threads=2, batch=1_000),
        "idle": idle,
        "herd": herd,
        "memory": memory,
        "agents": agents,
    }
    flags = ("--db", chosen.db) if chosen.db else ()
    for name in chosen.only.split(","):
        # Each figure from a fresh process and, on SQLite, a fresh database.
        with tempfile.TemporaryDirectory() as folder, running_nas(Path(folder), *flags) as nas:
            results[name] = parts[name](nas)
        if not chosen.json:
            print(name, json.dumps(results[name]), flush=True)
    print(json.dumps(results, indent=None if chosen.json else 2))


if __name__ == "__main__":
    main()
