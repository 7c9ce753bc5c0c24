"""Look-ups of names, in threads of their own: a name server that is silent holds nothing up but its agent's calls."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LOOKUPS = 64
"""The look-ups under way at once, those included whose call has given up: a thread cannot be called back."""


class LookupPool:
    """Threads that a loop's callers share: no caller holds more of them than are free besides."""

    def __init__(self, most: int = LOOKUPS) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="relay-names")
        self._free = most
        self._held: Counter[object] = Counter()
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def run(self, caller: object, work: Callable[..., T], *arguments: object) -> T:
        """Return what `work` returns, once there is a thread for this caller."""
        loop = asyncio.get_running_loop()
        while self._held[caller] >= self._free:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        self._held[caller] += 1
        self._free -= 1

        def ended(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._leave, caller)

        done = self._threads.submit(work, *arguments)
        done.add_done_callback(ended)
        return await asyncio.wrap_future(done)

    def close(self) -> None:
        """Begin no more; what is under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self, caller: object) -> None:
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)
