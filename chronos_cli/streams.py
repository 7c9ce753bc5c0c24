"""Standard output and error as every program here writes them: nothing steers a terminal, and no stream ends a command.

`gated` puts a `Gate` in the place of both. Whatever is written through it, ours or a stranger's, by us or by a library,
shows control, bidirectional, invisible and invalid characters as escapes; only what `raw` is given passes as it is. A
stream that is closed, full, or that nobody reads is remembered, and told of once the command has done its work.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

LINE: Final = 200
"""So many characters of a text fit on a line beside others: a reason, a name, a message of somebody else."""

MARK: Final = f"\x1b{os.urandom(8).hex()}"
"""The mark that begins an escape sequence of our own for a `Gate`: nobody outside this process can write it."""

_FILLERS: Final = "\u115f\u1160\u3164\uffa0"
"""Letters by their category that show nothing."""


def shown(text: str, *, keep: str = "\n\t") -> str:
    r"""Return `text` with all that is not printable, but for `keep`, as escapes such as `\x1b` and `\u202e`."""
    bare = text
    for letter in keep:
        bare = bare.replace(letter, "")
    if bare.isprintable() and (bare.isascii() or not any(letter in bare for letter in _FILLERS)):
        return text
    return "".join(letter if letter in keep or _harmless(letter) else _escape(letter) for letter in text)


def one_line(text: str, most: int | None = None) -> str:
    """Return `text` on one line: line ends and other white space as blanks, the rest as `shown` does.

    `most`: how many characters of it; what is cut ends with `...`.
    """
    if most is not None and len(text) > most:
        text = text[: most + 1]  # escapes only make it longer
    if not text.isprintable():
        text = "".join(" " if letter.isspace() else letter for letter in text)
    text = shown(text, keep="")
    return text if most is None or len(text) <= most else f"{text[: most - 3]}..."


def log(line: str) -> None:
    """Write one line of a server or a run to standard error, whoever owns that. A stream that is gone loses it."""
    try:
        sys.stderr.write(f"chronos: {one_line(line)}\n")
    except (OSError, ValueError, AttributeError):  # full, closed, or none at all: the log is not the work
        return


class OutputGate:
    """A text stream that shows what it is given, and is never the end of who writes to it.

    `lost`: why something written did not arrive, None while all did.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.lost: OSError | None = None
        # Not every stream can: a test may have put another in its place, which takes every character anyway.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Write a text, and return its length; line ends and tabs stay."""
        safe = "\x1b".join(map(shown, text.split(MARK))) if MARK in text else shown(text)
        self._attempt(lambda stream: stream.write(safe))
        return len(text)

    def raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._attempt(lambda stream: _write_bytes(stream, data))

    def flush(self) -> None:
        """Send on what was written."""
        if self.stream is not None:  # nothing is owed to one that was closed from the start
            self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return self.stream is not None and self.stream.isatty()

    @property
    def gone(self) -> bool:
        """Return whether its reader has gone away: people end a long output that way."""
        return isinstance(self.lost, BrokenPipeError)

    def __getattr__(self, name: str) -> Any:
        """Return what the stream itself has: its encoding, descriptor, buffer."""
        if name == "stream":
            raise AttributeError(name)
        return getattr(self.stream, name)

    def _attempt(self, do: Callable[[TextIO], object]) -> None:
        if self.lost is not None:
            return
        try:
            if self.stream is None:
                raise OSError(errno.EBADF, "it is closed")
            do(self.stream)
        except OSError as error:
            self.lost = error
            self._divert()
        except ValueError as error:  # closed by somebody in this process
            self.lost = OSError(errno.EBADF, str(error))

    def _divert(self) -> None:
        """Let what is still held back go nowhere, so that the interpreter has nothing left to fail with at its end."""
        try:
            number = self.stream.fileno() if self.stream is not None else -1
            if number >= 0:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
        except (OSError, ValueError):  # a stream of a test has no descriptor
            return


def gated(program: str, body: Callable[[], int]) -> int:
    """Run `body` with everything that is written to standard output and error passing a `Gate`; return the exit code.

    Where standard output could not be written it says so on a line of error, and 0 (or 3) becomes 1: a command that
    failed keeps its own code, and a reader that went away is no error.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    if None in before:
        _fill()
        sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - as long as this process
    sys.stdout, sys.stderr = (stream if isinstance(stream, OutputGate) else OutputGate(stream) for stream in before[1:])
    try:
        return _settled(program, body())
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def _settled(program: str, code: int) -> int:
    sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None and not isinstance(lost, BrokenPipeError):
        from chronos_cli.errors import ExitCode

        hint = "what the command did stands; look at it again once that is put right"
        sys.stderr.write(f"{program}: error: standard output could not be written: {lost.strerror}: {hint}\n")
        code = ExitCode.FAULT if code in (ExitCode.OK, ExitCode.PENDING) else code
    sys.stderr.flush()
    return int(code)


def pass_on(data: bytes) -> None:
    """Write what programs read, or a job wrote, to standard output: byte for byte, but shown where it is a terminal.

    Where the locale is not UTF-8, what it cannot show is an escape. Nothing is written where there is nothing: a full
    disk, or none, is no error then.
    """
    if not data:
        return
    stream: Any = sys.stdout
    exact = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
    if isinstance(stream, OutputGate) and exact and not stream.isatty():
        stream.raw(data)
    else:
        stream.write(data.replace(b"\r\n", b"\n").decode("utf-8", "backslashreplace"))
    stream.flush()


def flat(text: str) -> str:
    """Return `text` on one line, its own escape sequences kept."""
    return text if text.isprintable() else MARK.join(map(one_line, text.split(MARK)))


def _fill() -> None:
    """Open what was closed before us on nothing: else the next file opened would be taken for standard output."""
    while True:
        number = os.open(os.devnull, os.O_RDWR)
        if number > 2:
            os.close(number)
            return
        os.set_inheritable(number, True)


def _write_bytes(stream: TextIO, data: bytes) -> None:
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(data.decode("utf-8", "backslashreplace"))
        return
    stream.flush()
    buffer.write(data)


def _harmless(letter: str) -> bool:
    return letter.isprintable() and letter not in _FILLERS


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
