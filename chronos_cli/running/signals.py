"""Note SIGTERM, SIGINT and SIGHUP, so that the runs under this process are ended properly and written down."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def signal_name(number: int) -> str:
    """Return the name of a signal; a real-time one has none but its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Interrupts:
    """A context in which those signals are noted instead of ending this process; only for the main thread.

    `signal` is the first that came, or None. `fd` becomes readable with it, for poll(2). What was inherited from
    whoever started us is put right too: a blocked mask would make us deaf, an ignored SIGCHLD would lose exit statuses.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.fd = -1
        self._write_fd = -1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)
        for number in STOPPING:
            self._before[number] = signal.signal(number, self._note)
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOPPING, signal.SIGCHLD))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        os.close(self.fd)
        os.close(self._write_fd)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal is None:
            self.signal = number
        with suppress(BlockingIOError):  # full of earlier ones: it is readable anyway
            os.write(self._write_fd, b"!")
