"""Group commit: the first caller runs one transaction for every caller waiting behind it.

While one thread is in the store, others queue up behind it; the next one takes all of their items into one call, so
the cost of a transaction is shared and no thread is kept for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from chronos_cli.nas_server.timers.interface import RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Part(Generic[Item, Result]):
    """One caller's items, and what became of them."""

    __slots__ = ("error", "items", "results")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.results: list[Result] | None = None
        self.error: Exception | None = None


class GroupCommit(Generic[Item, Result]):
    """Calls `work(items) -> results` (one result an item, in order) for many callers, at most `most` items at once."""

    def __init__(self, work: Callable[[Sequence[Item]], list[Result]], *, most: int = 1_000) -> None:
        self._work = work
        self._most = most
        self._waiting: list[_Part[Item, Result]] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Have `items` done, alone or with others'. Raises what `work` raised for them."""
        part: _Part[Item, Result] = _Part(items)
        with self._lock:
            self._waiting.append(part)
        with self._turn:
            while part.results is None and part.error is None:
                self._lead()
        if part.error is not None:
            raise part.error
        return part.results or []

    def _lead(self) -> None:
        """Do a group: the oldest parts first, which in the end are the leader's own."""
        with self._lock:
            group: list[_Part[Item, Result]] = []
            size = 0
            while self._waiting and (not group or size + len(self._waiting[0].items) <= self._most):
                part = self._waiting.pop(0)
                group.append(part)
                size += len(part.items)
        self._do(group)

    def _do(self, group: list[_Part[Item, Result]]) -> None:
        try:
            results = self._work([item for part in group for item in part.items])
        except Exception as error:  # noqa: BLE001 - raised again in the callers whose work it was
            if len(group) == 1 or isinstance(error, RegistryUnavailableError):
                # The store itself is away: asked once for all, or the last would wait as often as there are callers.
                for part in group:
                    part.error = error
                return
            # One of them failed and nothing was done: each on its own, so that only that one fails.
            for part in group:
                self._do([part])
            return
        start = 0
        for part in group:
            part.results = results[start : start + len(part.items)]
            start += len(part.items)
