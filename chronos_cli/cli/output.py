"""Where a command's words go: data on stdout, everything else on stderr, each one made for who reads it.

No escape sequence goes where there is no terminal, or where NO_COLOR or TERM=dumb ask for none. What steers a terminal
in any text, and what the locale cannot show, is written as its escape (`streams.Gate`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.streams import MARK, flat, one_line, pass_on

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronos_cli.errors import ChronosError

_STYLES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_NARROW: Final = 40
_USUAL: Final = 80
_PART: Final = 200
"""So many items of a long list are encoded at once."""


class Output:
    """The two streams of one command."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.json = False
        self.quiet = False
        self.verbosity = 0
        self._environ = environ

    # -- stdout --------------------------------------------------------------------------------------------------------

    def document(self, command: str, document: Mapping[str, Any], error: ChronosError | None = None) -> None:
        """The one JSON object of a command. An iterator in it becomes a list, made part by part."""
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
        """A line of data for people; of what is in it, only our own styles reach a terminal."""
        sys.stdout.write(f"{flat(text)}\n")

    def text(self, text: str | bytes) -> None:
        """What a program reads, or a job wrote: as it is, but on a terminal as it can be shown."""
        pass_on(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))

    def flush(self) -> None:
        """Send on what was written."""
        sys.stdout.flush()

    @property
    def gone(self) -> bool:
        """Whether whoever read stdout has gone away."""
        return bool(getattr(sys.stdout, "gone", False))

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Sequence[str] = ()) -> None:
        """A table; `styles`: one for each row, or none. Columns are as wide as they must be, the last runs free."""
        rows = [[one_line(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
        for number, row in enumerate([headers, *rows]):
            text = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            style = "bold" if number == 0 else styles[number - 1] if styles else ""
            self.line(self.style(text, style))

    @property
    def terminal(self) -> bool:
        """Whether stdout is a terminal that may be styled."""
        return sys.stdout.isatty() and self._environ.get("TERM") != "dumb"

    @property
    def width(self) -> int:
        """How many columns a line may have: the terminal's, or as many as it likes."""
        columns = self._environ.get("COLUMNS", "")
        if columns.isdecimal() and int(columns) > 0:
            return max(int(columns), _NARROW)
        if not sys.stdout.isatty():
            return 10_000
        try:
            known = os.get_terminal_size(sys.stdout.fileno()).columns
        except (OSError, ValueError):  # a terminal that cannot be asked
            known = 0
        return max(known, _NARROW) if known else _USUAL  # 0: one that does not know its size

    @property
    def unicode(self) -> bool:
        """Whether stdout can show block and line characters."""
        encoding = (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "")
        return encoding.startswith("utf")

    def style(self, text: str, style: str) -> str:
        """`text` styled, where that is wanted."""
        if not style or not self.terminal or self._environ.get("NO_COLOR"):
            return text
        return f"{MARK}[{_STYLES[style]}m{text}{MARK}[0m"

    # -- stderr --------------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """A word to people beside the data."""
        if not self.quiet:
            _stderr(text)

    def warn(self, text: str) -> None:
        """A warning, on one line."""
        _stderr(f"chronos: warning: {one_line(text)}")

    def detail(self, text: str) -> None:
        """What only `-v` shows."""
        if self.verbosity:
            _stderr(f"chronos: {one_line(text)}")

    def error(self, error: ChronosError) -> None:
        """The one line of a failure."""
        _stderr(f"chronos: error: {error.line()}")


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
    # What goes to a person is to come after the data it belongs to, also when both go to one file.
    sys.stdout.flush()
    sys.stderr.write(f"{flat(text)}\n")
    sys.stderr.flush()
