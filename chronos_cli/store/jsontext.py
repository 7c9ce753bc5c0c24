"""Edit JSON text in place: find the values, write new ones, and leave every other byte alone.

Positions are indexes into a str. Nothing here knows what the text is about.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from chronos_cli.frozen import frozen, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_COMMA: Final = re.compile(r"[ \t\n\r]*,[ \t\n\r]*").match
_SPACE: Final = re.compile(r"[ \t\n\r]*").match
# Control characters inside strings are what other programs have left behind; they are read, and kept as they are.
_DECODER: Final = json.JSONDecoder(strict=False)
_scan: Final[Callable[[str, int], tuple[Any, int]]] = _DECODER.scan_once  # type: ignore[attr-defined]

_MARKS: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"|\[+|\]+|\{+|\}+|[^\s,:\[\]{}"]+'

Edit = tuple[int, int, str]
"""Put this text in place of what stands from here to there."""


class Member(NamedTuple):
    """One item of an object or array: its whole span, where its value starts, and its key in an object.

    A tuple, because a file has tens of thousands of them.
    """

    start: int
    end: int
    value_start: int
    value: Any
    key: str | None = None


@frozen
class Container:
    """An object or array: where its brackets stand, and its items in order."""

    start: int
    end: int
    items: Sequence[Member]

    def last(self, key: str) -> Member | None:
        """Return the member that counts: of several with one key, readers of JSON take the last."""
        return next((item for item in reversed(self.items) if item.key == key), None)


def skip_space(text: str, at: int) -> int:
    """Return the next position that is not white space."""
    return _SPACE(text, at).end()  # type: ignore[union-attr]


def scan_value(text: str, at: int) -> tuple[Any, int]:
    """Return the value that starts at `at`, and where it ends. Raises ValueError."""
    try:
        return _scan(text, at)
    except StopIteration as error:
        raise json.JSONDecodeError("Expecting value", text, error.value) from None
    except RecursionError:
        raise BeyondError("it is nested too deep", text, at) from None
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise BeyondError("a number in it has too many digits", text, at) from None


class BeyondError(json.JSONDecodeError):
    """A value that is well formed as far as can be told, and more than can be read."""


@frozen
class UnreadableValue:
    """Stand-in for such a value: `why` it is more than can be read, and those members of an object that are not."""

    why: str
    known: Mapping[str, Any]


def scan_any(text: str, at: int) -> tuple[Any, int]:
    """Do as `scan_value`; a value that is too much to read becomes an `UnreadableValue`. Raises ValueError."""
    try:
        return scan_value(text, at)
    except BeyondError as error:
        end, known = skip_value(text, at), {}
        if text[at] == "{":
            members = scan_object(text, at, inside=_scan_known).items
            known = {
                member.key or "": member.value for member in members if not isinstance(member.value, UnreadableValue)
            }
        return UnreadableValue(why=error.msg, known=known), end


def _scan_known(_: str, text: str, at: int) -> tuple[Any, int]:
    try:
        return scan_value(text, at)
    except BeyondError as error:
        return UnreadableValue(why=error.msg, known={}), skip_value(text, at)


def skip_value(text: str, at: int) -> int:
    """Return the end of the value that starts at `at`, by its brackets alone, without recursion. Raise ValueError."""
    closing_of: Final = {"[": "]", "{": "}"}
    expected: list[str] = []
    for token in re.compile(_MARKS, re.DOTALL).finditer(text, at):
        marks = token[0]
        if marks[0] in closing_of:
            expected += [closing_of[marks[0]]] * len(marks)
        elif marks[0] in "]}":
            # A run of brackets may close what stands around the value too.
            most = min(len(marks), len(expected))
            if expected[len(expected) - most :] != list(marks[:most]):
                break
            del expected[len(expected) - most :]
            if not expected:
                return token.start() + most
        if not expected:
            return token.end()
    raise json.JSONDecodeError("Expecting the end of a value", text, at)


def after_comma(text: str, at: int) -> int | None:
    """Return where the next item starts after one that ended at `at`, or None where no comma follows."""
    comma = _COMMA(text, at)
    return comma.end() if comma else None


def scan_object(
    text: str, start: int, *, inside: Callable[[str, str, int], tuple[Any, int]] | None = None
) -> Container:
    """Return the object whose brace is at `start`, member by member. Raises ValueError.

    `inside(key, text, at)`: reads a member's value in place of `scan_value`.
    """
    items: list[Member] = []
    at = skip_space(text, start + 1)
    if text[at : at + 1] == "}":
        return Container(start=start, end=at + 1, items=items)
    while True:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        key, end = scan_value(text, at)
        colon = skip_space(text, end)
        if text[colon : colon + 1] != ":":
            raise json.JSONDecodeError("Expecting ':' delimiter", text, colon)
        value_start = skip_space(text, colon + 1)
        value, end = inside(key, text, value_start) if inside else scan_value(text, value_start)
        items.append(Member(at, end, value_start, value, key))
        after = after_comma(text, end)
        if after is None:
            return Container(start=start, end=closing(text, end, "}"), items=items)
        at = after


def closing(text: str, at: int, bracket: str) -> int:
    """Return where the container ends whose last item ended at `at`."""
    at = skip_space(text, at)
    if text[at : at + 1] != bracket:
        raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    return at + 1


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are one: of equal types all the way down (`1` is not `true`), NaN being itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right or (left != left and right != right))  # noqa: PLR0124 - the test for NaN


@frozen
class Style:
    """Layout of a text: its line ends, one step of indentation ("" for all on one line), and its escapes."""

    newline: str = "\n"
    step: str = "  "
    ascii_only: bool = True
    comma: str = ", "
    colon: str = ": "

    @classmethod
    def of(cls, text: str, outer: Container) -> Style:
        """Return the style of `text`, judged by the object or array that it is."""
        gap = text[outer.start + 1 : outer.items[0].start] if outer.items else "\n  "
        head = text[outer.start : outer.start + 4096]
        compact = ', "' not in head and ',"' in head
        return cls(
            newline="\r\n" if "\r\n" in head else "\n",
            step=gap.rpartition("\n")[2] if "\n" in gap else "",
            ascii_only=text.isascii() or text[1:].isascii(),  # The first character may be a byte order mark.
            comma="," if compact else ", ",
            colon=":" if compact else ": ",
        )

    def flat(self) -> Style:
        """Return the same on one line."""
        return replace(self, step="")

    def write(self, value: Any, indent: str) -> str:
        """Return `value` as text whose first line stands at `indent`."""
        text = self._dump(value, ("," if self.step else self.comma, ": " if self.step else self.colon))
        return text.replace("\n", self.newline + indent) if self.step else text

    def _dump(self, value: Any, separators: tuple[str, str]) -> str:
        step = self.step or None
        if not self.ascii_only:
            text = json.dumps(value, indent=step, ensure_ascii=False, separators=separators)
            try:
                text.encode()
            except UnicodeEncodeError:  # Half of a surrogate pair can only be written as an escape.
                pass
            else:
                return text
        return json.dumps(value, indent=step, separators=separators)


def in_order(old: Any, new: Any) -> Any:
    """Return `new` with the keys of its objects in the places that they have in `old`; those that are new come last."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    places = dict.fromkeys([*(key for key in old if key in new), *new])
    return {key: in_order(old.get(key), new[key]) for key in places}


def rewritten(text: str, item: Member, old: Any, new: Mapping[str, Any], style: Style) -> Edit:
    """Return the edit that writes an object anew, in the layout of the text and with its keys in their places."""
    if "\n" not in text[item.value_start : item.end]:
        style = style.flat()
    return item.value_start, item.end, style.write(in_order(old, new), _indent_of_line(text, item.value_start))


def edit_items(text: str, found: Container, gone: Sequence[int], added: Sequence[str], style: Style) -> list[Edit]:
    """Return the edits that drop (`gone`: in order) and append items of a container."""
    items = found.items
    first = next((index for index, at in enumerate([*gone, len(items)]) if index != at), len(items))
    last = next((index for index in range(len(items) - 1, -1, -1) if index not in gone), None)
    if last is None:
        return [(found.start + 1, found.end - 1, _interior(text, found, added, style))] if gone or added else []
    edits = [(items[index - 1].end, items[index].end, "") for index in gone if index > first]
    if first > 0:
        edits.append((items[0].start, items[first].start, ""))
    if added:
        glue, at = _glue(text, found, style), items[last].end
        edits.append((at, at, "".join(glue + item for item in added)))
    return edits


def apply(text: str, edits: Sequence[Edit]) -> str:
    """Return the text with all edits made; they do not overlap."""
    pieces: list[str] = []
    at = 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):
        pieces += (text[at:start], new)
        at = end
    pieces.append(text[at:])
    return "".join(pieces)


def indent_inside(text: str, found: Container, style: Style) -> str:
    """Return the white space that an item of `found` stands behind on its line."""
    if found.items:
        gap = text[found.start + 1 : found.items[0].start]
        return gap.rpartition("\n")[2] if "\n" in gap else ""
    return _indent_of_line(text, found.start) + style.step


def _indent_of_line(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at].removeprefix("\ufeff")
    return line[: len(line) - len(line.lstrip(" \t"))]


def _glue(text: str, found: Container, style: Style) -> str:
    """Return what stands between two items."""
    items = found.items
    if len(items) > 1:
        return text[items[-2].end : items[-1].start]
    lead = text[found.start + 1 : items[0].start]
    return "," + lead if "\n" in lead else style.comma


def colon_inside(text: str, found: Container, style: Style) -> str:
    """Return what stands between a key and its value in this object."""
    if not found.items:
        return ": " if style.step else style.colon
    first = found.items[0]
    return text[scan_any(text, first.start)[1] : first.value_start]


def _interior(text: str, found: Container, added: Sequence[str], style: Style) -> str:
    """Return what stands between the brackets once nothing of the old is left."""
    if not added:
        return ""
    if not style.step:
        return style.comma.join(added)
    lead = style.newline + indent_inside(text, found, style)
    tail = style.newline + _indent_of_line(text, found.start)
    return lead + f",{lead}".join(added) + tail
