"""Output of a command: data on stdout, everything else on stderr, each made for its reader.

No escape sequence goes where there is no terminal, or where NO_COLOR or TERM=dumb ask for none. What steers a terminal
in any text, and what the locale cannot show, is written as its escape (`streams.Gate`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.streams import MARK, flat, one_line, pass_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TextIO

    from chronos_cli.errors import ChronosError
    from chronos_cli.screen import Column

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_NARROW: Final = 20
_USUAL: Final = 80
_BOUNDLESS: Final = 10_000
"""The width of a line where there is no screen."""

_PART: Final = 200
"""So many items of a long list are encoded at once."""


class Output:
    """The two streams of one command."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.json = False
        self.quiet = False
        self.verbosity = 0
        self.layout = ""
        self._environ = environ
        self._frame: list[str] | None = None

    # -- stdout --------------------------------------------------------------------------------------------------------

    def document(self, command: str, document: Mapping[str, Any], error: ChronosError | None = None) -> None:
        """Print the one JSON object of a command. An iterator in it becomes a list, made part by part."""
        import json

        envelope: dict[str, Any] = {"schema": f"chronos.{command}/1", "ok": error is None}
        envelope |= dict(document)
        if error is not None:
            envelope["error"] = error.as_json()
            if getattr(error, "retry_after_s", None) is not None:
                envelope["error"]["retry_after"] = error.retry_after_s  # type: ignore[attr-defined]
        separator = "{"
        for name, value in envelope.items():
            sys.stdout.write(f"{separator}{json.dumps(name)}: ")
            if isinstance(value, Iterator):
                _write_list(value)
            else:
                sys.stdout.write(json.dumps(value))
            separator = ", "
        sys.stdout.write("}\n")

    def line(self, text: str = "") -> None:
        """Print a line of data for people; of escapes in it, only our own styles reach a terminal."""
        self._write(f"{flat(text)}\n")

    def paragraph(self, text: str, *, hang: int = 4, style: str = "") -> None:
        """Print a line, folded at blanks where the screen is narrower, its rest `hang` columns further in."""
        for part in self._folded(flat(text), hang):
            self.line(self.style(part, style))

    def text(self, text: str | bytes) -> None:
        """Print what a program reads, or a job wrote: as it is, but on a terminal as it can be shown."""
        pass_on(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))

    def flush(self) -> None:
        """Send on what was written."""
        sys.stdout.flush()

    @property
    def gone(self) -> bool:
        """Return whether the reader of stdout has gone away."""
        return bool(getattr(sys.stdout, "gone", False))

    def table(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        *,
        styles: Sequence[str] = (),
        whole: bool = False,
    ) -> None:
        """Print a table, one line a row; `styles`: one for each row, or none.

        Columns are as wide as they must be. A text too wide for the screen is cut, and ends with an ellipsis, unless
        all is to stay `whole`.
        """
        from chronos_cli.screen import fitted, padded, width_of

        shown = [[self.known(one_line(cell)) for cell in row] for row in rows]
        titles, shown = fitted(columns, shown, _BOUNDLESS if whole else self.width, self.ellipsis)
        widths = [max(map(width_of, cells)) for cells in zip(titles, *shown, strict=True)]
        for number, row in enumerate([titles, *shown]):
            text = "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
            style = "bold" if number == 0 else styles[number - 1] if styles else ""
            self.line(self.style(text, style))

    def _write(self, text: str) -> None:
        if self._frame is None:
            sys.stdout.write(text)
        else:
            self._frame.append(text)

    def known(self, text: str) -> str:
        """Return a text as the locale can show it, so that it is as wide as it was measured."""
        if text.isascii() or self.unicode:
            return text
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def _folded(self, text: str, hang: int) -> Iterable[str]:
        width = self.width
        if len(text) * 2 <= width:  # no character takes more than two columns
            return (text,)
        from chronos_cli.screen import folded

        return folded(self.known(text), width, hang)

    @property
    def ellipsis(self) -> str:
        """Return the mark of what was cut."""
        return "\u2026" if self.unicode else "..."

    @property
    def wide(self) -> bool:
        """Return whether a table has all its columns, uncut: that is asked for, or nothing bounds a line."""
        return self.layout == "wide" or self.width >= _BOUNDLESS

    @property
    def terminal(self) -> bool:
        """Return whether stdout is a terminal that may be styled."""
        return sys.stdout.isatty() and self._environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """Return how many columns a line may have: the terminal's, or as many as it likes."""
        return (_screen_width(sys.stdout, self._environ) if self.layout != "wide" else 0) or _BOUNDLESS

    @property
    def unicode(self) -> bool:
        """Return whether stdout can show block and line characters."""
        encoding = (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "")
        return encoding.startswith("utf")

    def style(self, text: str, style: str) -> str:
        """Return `text` styled, where that is wanted."""
        if not style or not self.terminal or self._environ.get("NO_COLOR"):
            return text
        return f"{MARK}[{_STYLES[style]}m{text}{MARK}[0m"

    @contextmanager
    def frame(self, height: int, title: str) -> Iterator[None]:
        """Draw all that is written within at once, in place of the last frame, cut to the screen."""
        at = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        self._frame = [self.style(f"{title}; {at}", "dim") + "\n"]
        try:
            yield
        finally:
            lines, self._frame = self._frame, None
            if len(lines) > height - 1:
                left = len(lines) - height + 2
                lines = [*lines[: height - 2], f"{self.ellipsis} {left} more lines\n"]
            clear = f"{MARK}[K\n"
            sys.stdout.write(f"{MARK}[H" + "".join(line.replace("\n", clear) for line in lines) + f"{MARK}[J")
            sys.stdout.flush()

    # -- stderr --------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Print a word to people beside the data."""
        if not self.quiet:
            self._tell(text)

    def warn(self, text: str) -> None:
        """Print a warning, on one line."""
        self._tell(f"chronos: warning: {one_line(text)}")

    def detail(self, text: str) -> None:
        """Print what only `-v` shows."""
        if self.verbosity:
            self._tell(f"chronos: {one_line(text)}")

    def error(self, error: ChronosError) -> None:
        """Print the one line of a failure."""
        self._tell(f"chronos: error: {error.line()}")

    def _tell(self, text: str) -> None:
        """Write to people: on a terminal folded at blanks as everything else, else on one line."""
        if self._frame is not None:
            self.paragraph(text, hang=2)
        elif len(text) * 2 > _NARROW and sys.stderr.isatty():
            from chronos_cli.screen import folded

            for part in folded(flat(text), _screen_width(sys.stderr, self._environ) or _USUAL, 2):
                _stderr(part)
        else:
            _stderr(text)


def _screen_width(stream: TextIO, environ: Mapping[str, str]) -> int:
    """Return the columns of a terminal, or of what COLUMNS says of any other stream; 0 where nothing bounds a line."""
    columns = environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return max(int(columns), _NARROW)
    if not stream.isatty():
        return 0
    try:
        known = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # a terminal that cannot be asked
        known = 0
    return max(known, _NARROW) if known else _USUAL  # 0: one that does not know its size


def _write_list(items: Iterator[Any]) -> None:
    import json
    from itertools import islice

    encode = json.JSONEncoder().encode
    sys.stdout.write("[")
    separator = ""
    while part := list(islice(items, _PART)):
        sys.stdout.write(separator + encode(part)[1:-1])
        separator = ", "
    sys.stdout.write("]")


def _stderr(text: str) -> None:
    # Words to a person come after the data that they belong to, also when both go to one file.
    sys.stdout.flush()
    sys.stderr.write(f"{flat(text)}\n")
    sys.stderr.flush()
