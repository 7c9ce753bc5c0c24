"""Bare PgQueuer: each entry is one POST. `python relay_pgqueuer.py DB URL COUNT DUE`; prints `ready` when it works."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import timedelta
from typing import Any

import aiohttp
import asyncpg  # type: ignore[import-not-found, unused-ignore]
from pgqueuer import PgQueuer  # type: ignore[import-not-found, unused-ignore]
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver  # type: ignore[import-not-found, unused-ignore]
from pgqueuer.queries import Queries  # type: ignore[import-not-found, unused-ignore]


async def main(db: str, url: str, count: int, due: float) -> None:
    """Enqueue, then work until killed."""
    first = await asyncpg.connect(db)
    queries = Queries(AsyncpgDriver(first))
    await queries.install()
    after = timedelta(seconds=due - time.time())
    bodies = [json.dumps({"job_id": f"job-{n}", "fire_at": "then"}).encode() for n in range(count)]
    await queries.enqueue(["fire"] * count, bodies, [0] * count, [after] * count)
    pool = await asyncpg.create_pool(db, min_size=2, max_size=4)
    queue = PgQueuer(AsyncpgPoolDriver(pool))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=250)) as session:

        @queue.entrypoint("fire")
        async def fire(job: Any) -> None:
            async with session.post(f"{url}/api/cron/fire", data=job.payload) as answer:
                await answer.read()

        print("ready", flush=True)
        await queue.run(batch_size=250, dequeue_timeout=timedelta(seconds=0.25))


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
