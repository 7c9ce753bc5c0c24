"""Read a node as the text, truth, number, choice, list or mapping that its key takes. Errors name the place."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.durations import parse_duration
from chronos_cli.errors import ChronosError
from chronos_cli.operations.manifest.keys import MEANT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chronos_cli.operations.manifest.nodes import Node


_KINDS: Final = {
    "text": "text", "number": "number", "truth": "true or false", "null": "nothing", "map": "mapping", "list": "list",
    "merge": "text",
}  # fmt: skip


def known_keys(node: Node, known: Collection[str], what: str) -> dict[str, Node]:
    """Return the members of a mapping by name. Raises UsageError naming the nearest key for one that is not known."""
    if node.kind != "map":
        raise node.wrong(f"{what} is `key: value` lines, not a {_KINDS[node.kind]}", f"it may have {', '.join(known)}")
    for key, _ in node.pairs:
        if key.text not in known:
            raise key.wrong(f"{what} has no key '{key.text[:60]}'", nearest_key(key.text, known))
    return {key.text: value for key, value in node.pairs}


def nearest_key(name: str, known: Collection[str]) -> str:
    """Return the hint for a key that is none of the known."""
    meant = MEANT.get(name)
    if meant in known:
        return f"write '{meant}'"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"it may have {', '.join(known)}"


def text_of(node: Node, name: str, *, empty: bool = False) -> str:
    """Return a scalar as it was written. Raises UsageError for anything else, and, unless `empty`, for a blank one."""
    if node.kind in ("map", "list", "null", "merge"):
        raise node.wrong(f"{name} is a text, not a {_KINDS[node.kind]}", "write a text; '' is an empty one")
    if not empty and not node.text.strip():
        raise node.wrong(f"{name} is empty", "say what it is, or take it out")
    if "\0" in node.text or any("\ud800" <= letter <= "\udfff" for letter in node.text):
        raise node.wrong(f"{name} has a character that no text has", "take it out")
    return node.text


def truth_of(node: Node, name: str) -> bool:
    """Return true or false. Raises UsageError for anything else."""
    if node.kind != "truth":
        raise node.wrong(f"{name} is true or false, not a {_KINDS[node.kind]}", "write true or false")
    return node.text.lower() in ("true", "yes", "on")


def texts_of(node: Node, name: str, *, empty: bool = False) -> list[str]:
    """Return the texts of a list. Raises UsageError for anything else."""
    if node.kind != "list":
        raise node.wrong(f"{name} is a list of texts, not a {_KINDS[node.kind]}", "write [a, b]")
    return [text_of(item, f"a word of {name}", empty=empty) for item in node.items]


def mapping_of(node: Node, name: str, read: Callable[[str, str], Any]) -> dict[str, Any]:
    """Return a mapping, its values as `read` returns them from their name and text. Raises UsageError."""
    if node.kind != "map":
        raise node.wrong(f"{name} is `NAME: value` lines, not a {_KINDS[node.kind]}", "write each on a line of its own")
    found = {}
    for key, value in node.pairs:
        text = text_of(value, f"{name}.{key.text[:60]}", empty=True)
        found[key.text] = at_place(key, lambda key=key, text=text: read(key.text, text))  # type: ignore[misc]
    return found


def at_place(node: Node, work: Callable[[], Any]) -> Any:
    """Return what `work` returns; its error names the place."""
    try:
        return work()
    except ChronosError as error:
        raise node.wrong(error.message, error.hint) from error


def count_of(node: Node, name: str, word: str, most: int) -> int | None:
    """Return a whole number from 1 to `most`, None for `word`. Raises UsageError for anything else."""
    text = text_of(node, name)
    if text.lower() == word:
        return None
    if not 0 < (number := _whole(text)) <= most:
        raise node.wrong(f"{name} is '{text[:40]}'", f"give a whole number from 1 to {most}, or {word}")
    return number


def number_of(node: Node, name: str, most: int) -> int:
    """Return a whole number from 0 to `most`. Raises UsageError for anything else."""
    text = text_of(node, name)
    if not 0 <= (number := _whole(text)) <= most:
        raise node.wrong(f"{name} is '{text[:40]}'", f"give a whole number from 0 to {most}")
    return number


def seconds_of(node: Node, name: str) -> int:
    """Return the seconds of a duration. Raises UsageError for what is none, and for a timeout of none."""
    text = text_of(node, name)
    seconds: int = at_place(node, lambda: parse_duration(text, bare=True))
    if name == "timeout" and seconds < 1:
        raise node.wrong(f"timeout {text} is too short", "write it as 90s, 15m or 24h")
    return seconds


def choice_of(node: Node, name: str, kind: Any) -> Any:
    """Return the member of an enum that a text names. Raises UsageError for any other."""
    text = text_of(node, name)
    if text not in list(kind):
        raise node.wrong(f"{name} is '{text[:40]}'", f"it may be {', '.join(kind)}")
    return kind(text)


def _whole(text: str) -> int:
    """Return a whole number, of a longer one its first nine digits; -1 for what is none."""
    return int(text.lstrip("0")[:9] or "0") if text.isascii() and text.isdecimal() else -1


def plain_of(node: Node) -> Any:
    """Return a value as JSON has it. Raises UsageError for a number that JSON cannot write."""
    import json

    if node.kind == "map":
        return {key.text: plain_of(value) for key, value in node.pairs}
    if node.kind == "list":
        return [plain_of(item) for item in node.items]
    if node.kind == "truth":
        return truth_of(node, "it")
    if node.kind == "null":
        return None
    if node.kind == "number":
        try:
            return json.loads(node.text, parse_constant=lambda _: node.text)
        except ValueError:  # a number of YAML that JSON would not write so
            return node.text
    return text_of(node, "it", empty=True)
