"""Text on a screen of so many columns: how wide it is, where it is cut, how a table and a long line fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.frozen import frozen
from chronos_cli.streams import MARK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GAP: Final = 2
WHOLE: Final = 1_000
"""Wider than any screen: what is kept of a column that is to stay whole."""

_FORCED: Final = 4
"""The least width of a column on a screen that is too narrow for all."""


@frozen
class Column:
    """A column of a table.

    `least`: the width to which it may be cut, 0 where its cells stay whole. `drop`: the rank by which columns go where
    all cannot stay, the highest first; 0 stays. `keep`: so many columns of it are cut only where nothing else is left
    to give way: an id is there to be typed on.
    """

    title: str
    least: int = 0
    drop: int = 0
    keep: int = 0


def width_of(text: str) -> int:
    """Return how many columns a text takes: wide characters two, marks on a character none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(letter: str) -> int:
    if letter < "\u0300":
        return 1
    from unicodedata import category, east_asian_width

    if letter == "\ufe0f":  # asks for the picture of the character before it, which is wide
        return 1
    if category(letter) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(letter) in ("W", "F") else 1


def cut(text: str, most: int, mark: str) -> str:
    """Return a text of at most so many columns; what is cut ends with `mark`."""
    if width_of(text) <= most:
        return text
    left = most - len(mark)
    if left < 1:
        return mark[:most]
    kept = 0
    for letter in text:
        left -= _columns(letter)
        if left < 0:
            break
        kept += 1
    return f"{text[:kept].rstrip()}{mark}"


def padded(text: str, width: int) -> str:
    """Return a text filled with blanks to so many columns."""
    return text + " " * (width - width_of(text))


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, mark: str
) -> tuple[list[str], list[list[str]]]:
    """Return titles and rows whose lines take at most `width` columns, as far as there is anything left to cut.

    The widest columns are cut first, down to their least; then whole columns go; then what is kept is cut; then all.
    """
    widths = [max(map(width_of, cells)) for cells in zip((c.title for c in columns), *rows, strict=True)]
    kept, least = _held([max(c.least, c.keep) if c.least else 0 for c in columns], columns, widths, width)
    if sum(least) > width - _GAP * (len(kept) - 1):
        kept, least = _held([c.least for c in columns], columns, widths, width)
    room = width - _GAP * (len(kept) - 1)
    if sum(least) > room:
        least = [min(one, _FORCED) for one in least]
    given = _shared([widths[n] for n in kept], least, room)
    titles = [cut(columns[n].title, most, "") for n, most in zip(kept, given, strict=True)]
    return titles, [[cut(row[n], most, mark) for n, most in zip(kept, given, strict=True)] for row in rows]


def _held(
    leasts: Sequence[int], columns: Sequence[Column], widths: Sequence[int], width: int
) -> tuple[list[int], list[int]]:
    """Return which columns stay in so much width, as far as any may go, and the least that each of them takes."""
    kept = list(range(len(columns)))
    while True:
        least = [min(widths[n], leasts[n] or widths[n]) for n in kept]
        going = max(kept, key=lambda n: columns[n].drop)
        if sum(least) <= width - _GAP * (len(kept) - 1) or not columns[going].drop:
            return kept, least
        kept.remove(going)


def _shared(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return the widths of columns in so much room: the widest give way down to one level, none below its least."""
    level = max(wanted, default=0)
    while level > 0:
        given = [min(want, max(low, level)) for want, low in zip(wanted, least, strict=True)]
        if sum(given) <= room:
            return given
        level -= 1
    return list(least)


def folded(text: str, width: int, hang: int) -> Iterator[str]:
    """Give the lines of a text, folded at blanks; the lines after the first begin with `hang` blanks.

    What stands between backticks is a command, and stays on one line to be copied from, however long it is.
    """
    line, taken = "", 0
    for word in _words(text):
        bare = _without_styles(word.rstrip(" "))
        if line.strip() and taken + width_of(bare) > width:
            yield line.rstrip(" ")
            line, taken, word = " " * hang, hang, word.lstrip(" ")  # noqa: PLW2901
            bare = bare.lstrip(" ")
        while "`" not in bare and taken + width_of(bare) > width and bare == word.rstrip(" "):
            part = cut(word, width - taken, "")
            yield line + part
            line, taken, word = " " * hang, hang, word[len(part) :].lstrip(" ")  # noqa: PLW2901
            bare = word.rstrip(" ")
        line += word
        taken += width_of(_without_styles(word))
    if line.strip():
        yield line.rstrip(" ")


def _words(text: str) -> Iterator[str]:
    """Give the words of a text, each with the blanks after it; a command between backticks is one word."""
    pieces = text.split(" ")
    word, inside = "", False
    for number, piece in enumerate(pieces):
        word += piece + (" " if number < len(pieces) - 1 else "")
        if piece.count("`") % 2:
            inside = not inside
        if not inside and piece:
            yield word
            word = ""
    if word:
        yield word


def _without_styles(text: str) -> str:
    if MARK not in text:
        return text
    first, *rest = text.split(MARK)
    return first + "".join(piece.partition("m")[2] for piece in rest)
