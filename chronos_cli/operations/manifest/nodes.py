"""Texts of YAML and JSON as values that know their line and column, bounded in size and depth.

A scalar keeps the text that was written: what becomes of `on`, `0123` or `5` is for the key to say, not for YAML.
"""

from __future__ import annotations

import re
from json import decoder
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.config.file import MAX_BYTES, measure_yaml
from chronos_cli.errors import ConfigError, UsageError
from chronos_cli.frozen import frozen
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

_YAML: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset({"str", "int", "float", "bool", "null", "timestamp", "value"})
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_LOOKS_LIKE_JSON: Final = re.compile(r"\s*\[?\s*\{\s*\"")
_PLAIN: Final = re.compile(r"[^\s,:\]}]+")
_UNPRINTABLE: Final = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@frozen
class Node:
    """One value and its place. `kind`: of a scalar `text`, `number`, `truth` or `null`; else `map` or `list`."""

    kind: str
    file: str
    line: int
    column: int
    text: str = ""
    pairs: tuple[tuple[Node, Node], ...] = ()
    items: tuple[Node, ...] = ()

    @property
    def at(self) -> str:
        """Return the place, as editors and compilers write it."""
        return f"{self.file}:{self.line}:{self.column}"

    def wrong(self, text: str, hint: str) -> UsageError:
        """Return the error that something is wrong here."""
        return UsageError(f"{self.at}: {text}", hint=hint)


def read_nodes(data: bytes, file: str) -> list[Node]:
    """Return the documents in the bytes of a file of YAML or JSON. Raises UsageError with the line and column."""
    if len(data) > MAX_BYTES:
        raise UsageError(f"{file} is larger than {MAX_BYTES} bytes", hint="take it apart into several files")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise UsageError(f"{file}:{line}:{column}: it is not UTF-8 text", hint="save it as UTF-8") from error
    if not text.strip():
        return []
    if text.lstrip()[0] in "{[":
        try:
            read_json(text)
        except NotJsonError as error:
            if file.endswith(".json") or _LOOKS_LIKE_JSON.match(text) or "not JSON" not in str(error):
                raise _not_json(file, text, error) from error
        else:
            return [_Json(text, file).document()]
    return list(_yaml_nodes(text, file))


def _not_json(file: str, text: str, error: NotJsonError) -> UsageError:
    place = re.search(r"\(line (\d+), column (\d+): (.*)\)", str(error))
    if place:
        return UsageError(f"{file}:{place[1]}:{place[2]}: it is not JSON: {place[3]}", hint="put that line right")
    line, column = _place(text, len(text) - len(text.lstrip()))
    return UsageError(f"{file}:{line}:{column}: {error}", hint="put the file right")


def _place(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


class _Json:
    """The values of a text that is known to be JSON, with their places."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._lines = [match.end() for match in re.finditer("\n", text)]

    def document(self) -> Node:
        return self._value(self._skip(0))[0]

    def _skip(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at

    def _node(self, at: int, kind: str, **more: Any) -> Node:
        from bisect import bisect_right

        line = bisect_right(self._lines, at)
        start = self._lines[line - 1] if line else 0
        return Node(kind=kind, file=self._file, line=line + 1, column=at - start + 1, **more)

    def _value(self, at: int) -> tuple[Node, int]:
        first = self._text[at]
        if first == "{":
            return self._object(at)
        if first == "[":
            return self._list(at)
        if first == '"':
            text, end = decoder.scanstring(self._text, at + 1)  # type: ignore[attr-defined]
            return self._node(at, "text", text=text), end
        match = _PLAIN.match(self._text, at)
        word = match[0] if match else ""
        kind = {"true": "truth", "false": "truth", "null": "null"}.get(word, "number")
        return self._node(at, kind, text=word), at + len(word)

    def _object(self, at: int) -> tuple[Node, int]:
        pairs = []
        place = self._skip(at + 1)
        while self._text[place] != "}":
            place = self._skip(place + 1) if self._text[place] == "," else place
            key, place = self._value(place)
            value, place = self._value(self._skip(self._skip(place) + 1))
            pairs.append((key, value))
            place = self._skip(place)
        return _once(self._node(at, "map", pairs=tuple(pairs))), place + 1

    def _list(self, at: int) -> tuple[Node, int]:
        items = []
        place = self._skip(at + 1)
        while self._text[place] != "]":
            place = self._skip(place + 1) if self._text[place] == "," else place
            item, place = self._value(place)
            items.append(item)
            place = self._skip(place)
        return self._node(at, "list", items=tuple(items)), place + 1


def _yaml_nodes(text: str, file: str) -> Iterator[Node]:
    import yaml

    strange = _UNPRINTABLE.search(text)
    if strange:
        line, column = _place(text, strange.start())
        raise UsageError(f"{file}:{line}:{column}: a character that no text has", hint="take it out")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        measure_yaml(text, loader, file)
        documents = list(yaml.compose_all(text, loader))
    except ConfigError as error:
        raise UsageError(error.message, hint=error.hint) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = error.problem or error.context or "it cannot be read"
        raise UsageError(f"{file}{where}: it is not YAML: {problem}", hint="put that line right") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{file}: it is not YAML: {' '.join(str(error).split())[:200]}", hint="put the file right"
        ) from error
    for document in documents:
        node = _of_yaml(document, file, {})
        if node.kind != "null":
            yield node


def _of_yaml(found: Any, file: str, known: dict[int, Node]) -> Node:
    """Return one node of YAML's as ours; `known` are those that an alias may repeat. None lies within itself."""
    line, column = found.start_mark.line + 1, found.start_mark.column + 1
    here = Node(kind="null", file=file, line=line, column=column)
    if id(found) in known:
        return known[id(found)]
    tag = str(found.tag).removeprefix(_YAML)
    if found.id == "mapping" and tag == "map":
        known[id(found)] = _mapping(found, here, known)
    elif found.id == "sequence" and tag == "seq":
        items = tuple(_of_yaml(item, file, known) for item in found.value)
        known[id(found)] = Node(kind="list", file=file, line=line, column=column, items=items)
    elif found.id == "scalar" and tag in _SCALARS:
        kind = {"null": "null", "bool": "truth", "int": "number", "float": "number"}.get(tag, "text")
        known[id(found)] = Node(kind=kind, file=file, line=line, column=column, text=found.value)
    elif found.id == "scalar" and tag == "merge":
        known[id(found)] = Node(kind="merge", file=file, line=line, column=column, text=found.value)
    else:
        raise here.wrong(f"the tag {str(found.tag)[:60]} is none that is read here", "leave it out")
    return known[id(found)]


def _mapping(found: Any, here: Node, known: dict[int, Node]) -> Node:
    """Return a mapping, with what `<<` brings in standing behind what it says itself."""
    own: list[tuple[Node, Node]] = []
    merged: list[tuple[Node, Node]] = []
    for key_found, value_found in found.value:
        key = _of_yaml(key_found, here.file, known)
        value = _of_yaml(value_found, here.file, known)
        if key.kind == "merge":
            sources = value.items if value.kind == "list" else (value,)
            for source in sources:
                if source.kind != "map":
                    raise value.wrong("<< brings in a mapping, or a list of them", "name one by its alias: `<<: *base`")
                merged += source.pairs
        elif key.kind in ("map", "list", "null"):
            raise key.wrong("a key is a text", "put that line right")
        else:
            own.append((key, value))
    node = _once(Node(kind="map", file=here.file, line=here.line, column=here.column, pairs=tuple(own)))
    names = {key.text for key, _ in own}
    for key, value in merged:
        if key.text not in names:
            names.add(key.text)
            own.append((key, value))
    return Node(kind="map", file=node.file, line=node.line, column=node.column, pairs=tuple(own))


def _once(node: Node) -> Node:
    """Return a mapping as it is. Raises UsageError where a key stands in it twice: one of the two would be lost."""
    seen: dict[str, Node] = {}
    for key, _ in node.pairs:
        if key.text in seen:
            first = seen[key.text]
            raise key.wrong(f"'{key.text[:60]}' is said before, in line {first.line}", "say it once")
        seen[key.text] = key
    return node
