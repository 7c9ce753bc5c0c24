"""Connections that keep a waitress server waiting, and the end of its patience.

waitress counts a connection as busy while bytes come, however few, and stops accepting at its limit: as many clients
that send a byte now and then would shut everybody out. So a request has to be complete, and an answer to be taken,
within a time of its own, and of too many that are waited for the longest is closed, which makes room for the next.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ACCEPTED_BEYOND: Final = 64
"""The number beyond `most` that waitress itself has to accept, so that there is a next one to make room for."""


class Patience:
    """Watches the connections of one server.

    At most `most` may be waited for; each may take `request_s` for a whole request, header and body, and for taking its
    answer, and lie idle between requests for `idle_s`. A request that is being answered is not waited for.
    """

    def __init__(
        self, *, most: int, request_s: float, idle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._request_s = request_s
        self._idle_s = idle_s
        self._clock = clock
        self._waiting: dict[Any, tuple[object, float]] = {}

    def cut_the_slow(self, connected: Mapping[int, Any]) -> int:
        """Close what has been waited for too long, and the longest of too many; how many. Call it in each round."""
        now = self._clock()
        before, self._waiting = self._waiting, {}
        for channel in list(connected.values()):
            awaited = _awaited(channel)
            if awaited is not None:
                known, since = before.get(channel, (None, now))
                self._waiting[channel] = (awaited, since if known is awaited else now)
        closed = [
            channel
            for channel, (awaited, since) in self._waiting.items()
            if now - since >= (self._idle_s if awaited is _NOTHING else self._request_s)
        ]
        longest = sorted(self._waiting.keys() - closed, key=lambda channel: self._waiting[channel][1])
        closed += longest[: max(0, len(longest) - self._most)]
        for channel in closed:
            del self._waiting[channel]
            channel.will_close = True
            channel.handle_close()
        return len(closed)


_NOTHING: Final = object()
_ANSWER: Final = object()


def _awaited(channel: Any) -> object:
    """Return the wait a connection is in: for a request, for its answer to be taken, for a next; None while served.

    None too for what is no connection: the listening sockets, and what wakes the loop.
    """
    if not hasattr(channel, "requests") or channel.requests or channel.will_close:
        return None
    if channel.total_outbufs_len:
        return _ANSWER
    return _NOTHING if channel.request is None else channel.request
