"""The number of files that a serving process may hold open: connections of agents, of callbacks, and of the store."""

from __future__ import annotations

import resource
from dataclasses import dataclass

KEPT_IDLE = 2
"""Callback connections that are kept for the next fire, for each relay that may go on at once."""

SPARE = 256
"""Files beside the connections: the store's, look-ups of names, modules, keys, the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimits:
    """The soft limit `before` and `now`, and how many files may be `needed`."""

    before: int
    now: int
    needed: int

    @property
    def enough(self) -> bool:
        """Return whether all connections that are let in or made can be had at once."""
        return self.now >= self.needed


def raise_open_files(*, connections: int, relays: int) -> FileLimits:
    """Raise this process's soft limit on open files to what these may need, as far as the hard limit goes.

    `connections`: of agents, waited for at once; `relays`: under way at once. It is never lowered.
    """
    needed = connections + relays * (1 + KEPT_IDLE) + SPARE
    soft, hard = (_number(one) for one in resource.getrlimit(resource.RLIMIT_NOFILE))
    now = max(soft, min(needed, hard))
    if now > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return FileLimits(before=soft, now=now, needed=needed)


def _number(limit: int) -> int:
    """Return a limit as a number that compares: none at all is a very large one."""
    return 2**31 if limit == resource.RLIM_INFINITY else limit
