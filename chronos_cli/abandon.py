"""Waits for a piece of work no longer than agreed, whatever holds it up."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")


def within(seconds: float, work: Callable[[], Value], late: Exception, *, name: str = "chronos-nas") -> Value:
    """Return what `work` returns or raise what it raises; raise `late` if that takes longer than `seconds`.

    Socket timeouts bound each wait and not their sum, and name resolution has no timeout at all. So the work goes on in
    a thread of its own, which is left to itself when time is up: it ends by its own bounds, and holds up no exit.
    """
    outcome: SimpleQueue[tuple[Value, None] | tuple[None, BaseException]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits, who raises it
            outcome.put((None, error))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        value, error = outcome.get(timeout=seconds)
    except Empty:
        raise late from None
    thread.join()  # it has nothing left to do; whoever forks next has one thread
    if error is not None:
        raise error
    return value  # type: ignore[return-value] # one of the two is set
