"""Choice of how runners are started: each anew, or, while fires come closely together, forked from a warm one.

A warm runner is there only beside a server that stays anyway. Where the server itself is started for a call and ends
after it, or the platform freezes it between two, there is none. Nor is there one where something replaces threads: what
listens to runners waits in a thread, which must not be all that the server has.
"""

from __future__ import annotations

import _thread
import sys
import threading
import time
from contextlib import suppress
from types import BuiltinFunctionType
from typing import TYPE_CHECKING

from chronos_cli.errors import ChronosError
from chronos_cli.frozen import frozen
from chronos_cli.running.warm import IDLE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.running.detach import Runners


@frozen
class RunnerChoice:
    """The answer to whether a warm runner may be started, and the reason."""

    warm: bool
    because: str


def choose_runner(configured: str, environ: Mapping[str, str], *, freezes: bool, passing: bool = False) -> RunnerChoice:
    """Return what `callback.warm_runner` says, or, for `auto`, what suits; `passing`: this server ends when idle."""
    if configured == "off":
        return RunnerChoice(warm=False, because="callback.warm_runner says so")
    if sys.platform != "linux":
        return RunnerChoice(warm=False, because="this is not Linux")
    if freezes:
        return RunnerChoice(warm=False, because="the platform freezes what goes on after the answer")
    if passing or environ.get("LISTEN_FDS"):
        return RunnerChoice(warm=False, because="the server is there only while somebody calls")
    replaced = threads_replaced_by()
    if replaced is not None:
        because = f"each is started anew, since {replaced} replaces threads here: one that waits would stop the server"
        return RunnerChoice(warm=False, because=because)
    return RunnerChoice(warm=True, because=f"fires within {IDLE_S:g} s of each other share a warm one")


def threads_replaced_by() -> str | None:
    """Return the name of the package that replaces threads now; None where they are the system's own.

    gevent's monkey patch makes greenlets of them, and eventlet's does the same: all share one thread of the system. One
    that waits in a system call, or for a lock that was made before the patch, stops all of them.
    """
    start: object = _thread.start_new_thread
    if isinstance(start, BuiltinFunctionType):
        return None
    return str(getattr(start, "__module__", None) or "a library").partition(".")[0]


class WarmStart:
    """Starts the warm runner of this process once two answers have left within its idle time. Safe between threads."""

    def __init__(
        self,
        runners: Runners,
        choose: Callable[[], RunnerChoice],
        settings: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`choose`: asked each time, since threads may be replaced at any time.

        `settings`: the files that the configuration was read from; when they change, it ends.
        """
        self._choose = choose
        self._runners = runners
        self._argv = (sys.executable, "-P", "-m", "chronos_cli", "fire", "--warm", *settings)
        self._clock = clock
        self._guard = threading.Lock()
        self._last: float | None = None

    @property
    def choice(self) -> RunnerChoice:
        """Return the present answer to whether a warm runner may be started."""
        return self._choose()

    def answered(self, environment: Mapping[str, str]) -> bool:
        """Note that the answer to a fire has left which started a run, with these variables.

        Return whether there is a warm runner now, or about to be.
        """
        if not self.choice.warm:
            return False
        now = self._clock()
        with self._guard:
            before, self._last = self._last, now
        if before is not None and now - before <= IDLE_S:
            with suppress(ChronosError):  # runners are then started as ever
                self._runners.warm_up(self._argv, environment)
                return True
        return False
