"""Read a long JSON array quickly, and still know where each item stands.

Asking the decoder for one item after the other costs half as much again as one call for all, because it remembers keys
only within a call. So a long array is decoded in pieces of many items, cut where an item seems to end. The cut is
proven by the decoding itself: from the start of one item, what comes before the cut has to be whole items with nothing
left over, or the rest is read item by item. Where an item stands within its piece is found out only when asked.

A process that has read the array before decodes only what is new: from the start of an item on, the same text is the
same items.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, overload

from chronos_cli.store.jsontext import Container, Member, after_comma, closing, scan_any, scan_value, skip_space

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = 256
"""Characters by which the start of an item is looked for again: enough to hold the id of a job."""
PIECE: Final = 1 << 16
"""Characters in a piece, at least: enough items to share their keys, few enough to look for one again."""


class ArrayItems(Sequence[Member]):
    """The items of an array: their values at hand, their places on demand."""

    def __init__(self, text: str, values: list[Any], pieces: list[tuple[int, int]]) -> None:
        """`pieces`: the index of the first item of each piece, and where that item starts."""
        self.values = values
        self._text = text
        self._pieces = pieces

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> Member: ...
    @overload
    def __getitem__(self, index: slice) -> list[Member]: ...
    def __getitem__(self, index: int | slice) -> Member | list[Member]:
        """Return one item with its place; slices are lists."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        wanted = index + len(self) if index < 0 else index
        if not 0 <= wanted < len(self):
            raise IndexError(index)
        first, at = self._pieces[bisect_right(self._pieces, wanted, key=lambda piece: piece[0]) - 1]
        while True:
            _, end = scan_any(self._text, at)
            if first == wanted:
                return Member(at, end, at, self.values[wanted])
            at = after_comma(self._text, end) or end
            first += 1

    def __iter__(self) -> Iterator[Member]:
        """Yield all items in order, each found from the one before."""
        at = self._pieces[0][1] if self._pieces else 0
        for value in self.values:
            _, end = scan_any(self._text, at)
            yield Member(at, end, at, value)
            at = after_comma(self._text, end) or end

    def chunks(self) -> Iterator[tuple[str, list[Any], str]]:
        """Give the text of each piece but the last, up to the next one's start, its values, and how the next begins."""
        for (first, at), (following, end) in pairwise(self._pieces):
            yield self._text[at:end], self.values[first:following], self._text[end : end + _HEAD]


def scan_array(text: str, start: int, *, piece: int = PIECE, known: ArrayItems | None = None) -> Container:
    """Return the array whose bracket is at `start`; `known`: an array of which much may stand here too.

    Raises ValueError.
    """
    values: list[Any] = []
    pieces: list[tuple[int, int]] = []
    items = ArrayItems(text, values, pieces)
    at = skip_space(text, start + 1)
    if text[at : at + 1] == "]":
        return Container(start=start, end=at + 1, items=items)
    if known is not None:
        at = _take_known(text, at, known, values, pieces)
    at = _scan_pieces(text, at, piece, values, pieces)
    while True:
        pieces.append((len(values), at))  # what is read singly is also found singly
        value, end = scan_any(text, at)
        values.append(value)
        after = after_comma(text, end)
        if after is None:
            return Container(start=start, end=closing(text, end, "]"), items=items)
        at = after


def _take_known(text: str, at: int, known: ArrayItems, values: list[Any], pieces: list[tuple[int, int]]) -> int:
    """Take over the pieces that stand at `at` as they stood before, and decode what came between.

    Returns where the item starts that is to be read next.
    """
    for chunk, before, head in known.chunks():
        some = before if text.startswith(chunk, at) else None
        end = at + len(chunk)
        if some is None:
            end = text.find(head, at)
            if end == at:  # what stood there is gone
                continue
            between = text[at : max(end, at)].rstrip(" \t\n\r")
            some = _whole_items(between[:-1]) if between.endswith(",") else None
            if not some:
                break
        pieces.append((len(values), at))
        values += some
        at = end
    return at


def _scan_pieces(text: str, at: int, piece: int, values: list[Any], pieces: list[tuple[int, int]]) -> int:
    """Decode piece by piece from the item at `at`, and return where the item starts that is to be read singly."""
    if len(text) - at <= 2 * piece:
        return at
    _, end = scan_any(text, at)
    following = after_comma(text, end)
    if following is None:
        return at
    # How one item ends and the next begins here, for instance "\n    },\n    {".
    line = text.rfind("\n", at, end)
    tail = end - line if line >= 0 else 1
    mark = text[end - tail : following + 1]
    while (cut := text.find(mark, at + piece)) >= 0:
        some = _whole_items(text[at : cut + tail])
        if some is None:
            break
        pieces.append((len(values), at))
        values += some
        at = cut + len(mark) - 1
    return at


def _whole_items(text: str) -> list[Any] | None:
    """Return the items that `text` is, or None where it is anything else."""
    framed = f"[{text}]"
    try:
        value, end = scan_value(framed, 0)
    except json.JSONDecodeError:  # Not the end of an item after all, or an item that is more than can be read.
        return None
    return value if end == len(framed) else None
