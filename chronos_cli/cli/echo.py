"""The output of a job on this command's own stdout, while the job runs."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from chronos_cli.cli.output import Output

_PIECE: Final = 4096
"""So much a pipe takes without waiting once poll(2) says that it takes something."""
_MOST_WAITING: Final = 1 << 20
_LONGEST_LINE: Final = 1 << 16


class OutputEcho:
    """Shows what comes as it comes; a reader that stands still holds up neither the job nor its supervisor."""

    def __init__(self, out: Output) -> None:
        self.shown = False
        self._out = out
        self._waiting = bytearray()
        self._ends_line = True
        try:
            self._fd = sys.stdout.fileno()
        except (OSError, ValueError, AttributeError):
            self._fd = -1  # a stream of another program's making

    def show(self, data: bytes) -> None:
        """Show this next; of what a reader leaves waiting, the oldest goes once it is too much."""
        if data:
            self.shown, self._ends_line = True, data.endswith(b"\n")
            self._waiting += data
        if len(self._waiting) > _MOST_WAITING:
            del self._waiting[: len(self._waiting) - _MOST_WAITING]
            self._waiting[:0] = b"\n[... some output was left out here ...]\n"
        self.go_on()

    def go_on(self) -> None:
        """Show what had to wait, as far as that can be done now."""
        while self._waiting and self._can_write():
            self._write(_PIECE)

    def finish(self) -> None:
        """Show all that is left, and end the line."""
        self._write(len(self._waiting))
        if self.shown and not self._ends_line:
            self._out.text("\n")

    def _write(self, size: int) -> None:
        piece = bytes(self._waiting[:size])
        del self._waiting[:size]
        if piece and not self._out.gone:
            self._out.text(piece)
            self._out.flush()

    def _can_write(self) -> bool:
        if self._fd < 0 or self._out.gone:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))


class NamedEcho:
    """Shows the whole lines of one of several jobs, each after its name: `digest | 3 sent`."""

    def __init__(self, echo: OutputEcho, name: str) -> None:
        self._echo = echo
        self._name = f"{name} | ".encode()
        self._line = bytearray()

    def show(self, data: bytes) -> None:
        """Show the lines that this ends, and keep what it begins."""
        self._line += data
        whole, newline, rest = bytes(self._line).rpartition(b"\n")
        if len(rest) > _LONGEST_LINE:
            whole, newline, rest = bytes(self._line), b"\n", b""
        if newline:
            self._echo.show(b"".join(self._name + line + b"\n" for line in whole.split(b"\n")))
        self._line = bytearray(rest)
        self.go_on()

    def go_on(self) -> None:
        """Show what had to wait, as far as that can be done now."""
        self._echo.go_on()

    def finish(self) -> None:
        """Show the line that nothing ended."""
        if self._line:
            self.show(b"\n")
