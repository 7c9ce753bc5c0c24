"""JSON Schema, written short, and the check that what is written here is what the code writes.

An object is the dict of its members; a name that ends in `?` may be missing. A Part is said once and referred to.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = Path(__file__).resolve().parent.parent.parent / "chronos_cli"

ANY: dict[str, Any] = {}
TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}
FLAG = {"type": "boolean"}
OPEN = {"type": "object"}
INSTANT = {"type": "string", "format": "date-time"}

_OF_HINT = {"str": TEXT, "int": WHOLE, "float": NUMBER, "bool": FLAG, "datetime": INSTANT}
_OF_HINT["tuple[str, ...]"] = {"type": "array", "items": TEXT}

_WIDTH = 120


@dataclass(frozen=True, kw_only=True)
class Part:
    """A shape with a name. `by`: what writes its members, as `written_by` takes it; empty for those of an enumeration.

    Functions are named `file.function` or `Class.method`, records `Class`, and tuples of names `file.TUPLE`.
    """

    name: str
    shape: dict[str, Any]
    by: tuple[str, ...] = ()


def obj(members: dict[str, Any], text: str = "", *, open_: bool = False, **more: Any) -> dict[str, Any]:
    """Return an object of these members and, unless it is `open_`, no others."""
    said = {"description": text} if text else {}
    required = [name for name in members if not name.endswith("?")]
    return {
        **said,
        "type": "object",
        "properties": {name.removesuffix("?"): shape for name, shape in members.items()},
        **({"required": required} if required else {}),
        **({} if open_ else {"additionalProperties": False}),
        **more,
    }


def maybe(shape: Any) -> dict[str, Any]:
    """Return a shape, or null."""
    if isinstance(shape, Part) or "type" not in shape:
        return {"anyOf": [shape, {"type": "null"}]}
    return {**shape, "type": [shape["type"], "null"]}


def many(shape: Any, text: str = "") -> dict[str, Any]:
    """Return a list of a shape."""
    return {**({"description": text} if text else {}), "type": "array", "items": shape}


def by_name(shape: Any, text: str = "") -> dict[str, Any]:
    """Return an object whose members have names that are data, and one shape."""
    return {**({"description": text} if text else {}), "type": "object", "additionalProperties": shape}


def word(*words: Any) -> dict[str, Any]:
    """Return one of some words; an enumeration or a table stands for all it has."""
    found: list[Any] = []
    for one in words:
        some = one if isinstance(one, type | list | tuple | dict | set | frozenset) else [one]
        found += [item.value if isinstance(item, Enum) else item for item in some]
    return {"enum": found}


def said(shape: Any, text: str) -> dict[str, Any]:
    """Return a shape with a word about it."""
    return {"description": text, **({"allOf": [shape]} if isinstance(shape, Part) else shape)}


def recorded(record: type, *, whole: bool = False, **instead: Any) -> dict[str, Any]:
    """Return the members of a frozen record, `instead` of what hints tell. Raises KeyError for a hint that tells none.

    What is null or empty is left out of what is written, unless it is written as a `whole`.
    """
    members = {}
    for name, hint in record.__annotations__.items():
        kind = hint.removesuffix(" | None")
        nullable = kind != hint
        shape = instead.get(name) or _OF_HINT[kind]
        optional = not whole and (nullable or kind.startswith("tuple["))
        members[name + "?" * optional] = maybe(shape) if whole and nullable else shape
    return members


def referred(shape: Any, place: str, found: dict[str, Any]) -> Any:
    """Return a shape with references to `place` for its parts, which are put into `found`."""
    if isinstance(shape, Part):
        if shape.name not in found:
            found[shape.name] = {}  # it may refer to itself
            found[shape.name] = referred(shape.shape, place, found)
        return {"$ref": f"{place}{shape.name}"}
    if isinstance(shape, dict):
        return {key: referred(value, place, found) for key, value in shape.items()}
    return [referred(one, place, found) for one in shape] if isinstance(shape, list) else shape


def printed(value: Any, indent: int = 0) -> str:
    """Return JSON with everything on one line that has room there."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent <= _WIDTH or not isinstance(value, dict | list):
        return flat
    gap = "\n" + " " * (indent + 1)
    if isinstance(value, list):
        return "[" + gap + f",{gap}".join(printed(one, indent + 1) for one in value) + "\n" + " " * indent + "]"
    items = [f"{json.dumps(key)}: {printed(one, indent + 1)}" for key, one in value.items()]
    return "{" + gap + f",{gap}".join(items) + "\n" + " " * indent + "}"


# -- what the code writes ----------------------------------------------------------------------------------------------


def members_of(shape: Any) -> Iterator[str]:
    """Yield the names of all members that a shape has, those of its parts left out."""
    if isinstance(shape, dict):
        yield from shape.get("properties", ())
        for value in shape.values():
            yield from members_of(value)
    elif isinstance(shape, list):
        for value in shape:
            yield from members_of(value)


def parts_in(shape: Any) -> Iterator[Part]:
    """Yield every part that a part, a shape or several have, themselves among them."""
    if isinstance(shape, Part):
        yield shape
        shape = shape.shape
    for value in shape.values() if isinstance(shape, dict) else shape if isinstance(shape, list | tuple) else ():
        yield from parts_in(value)


def unlike(parts: Iterable[Part]) -> list[str]:
    """Return, in words, each member that is described and not written by the code, or written and not described."""
    known: dict[str, set[str]] = {}
    parts = [part for part in parts if part.by]
    there = functions().keys() | tables().keys()
    faults = [f"{by} is no function" for part in parts for by in part.by if by.partition("(")[0] not in there]
    if faults:
        return faults
    for part in parts:
        members = set(members_of(part.shape))
        written = {name for function in part.by for name in written_by(function)}
        faults += [f"{part.name} describes {name}, which {part.by} do not write" for name in sorted(members - written)]
        for function in part.by:
            known.setdefault(function, set()).update(members)
    return faults + [
        f"{function} writes {name}, which nothing describes"
        for function, members in known.items()
        for name in sorted(set(written_by(function)) - members)
    ]


def written_by(function: str) -> list[str]:
    """Return the members that a function writes: keys of its dicts. `file.function(a b)`: no others but those named.

    Where they are named, a text or a keyword of that name is enough. A record and a tuple are their names.
    """
    if function in tables():
        return tables()[function]
    function, chosen, names = function.removesuffix(")").partition("(")
    nodes = list(ast.walk(functions()[function]))
    if not chosen:
        return [name for node in nodes for key in _keys(node) for name in _names(key)]
    there = {node.value for node in nodes if isinstance(node, ast.Constant)}
    there |= {node.arg for node in nodes if isinstance(node, ast.keyword)}
    return [name for name in names.split() if name in there]


def _keys(node: ast.AST) -> list[ast.expr | None]:
    if isinstance(node, ast.Dict):
        return list(node.keys)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "document.get":  # what is read of a request
        return [node.args[0]]
    if isinstance(node, ast.Assign):
        return [target.slice for target in node.targets if isinstance(target, ast.Subscript)]
    return []


def _names(key: ast.expr | None) -> list[str]:
    if isinstance(key, ast.IfExp):
        return _names(key.body) + _names(key.orelse)
    return [str(key.value)] if isinstance(key, ast.Constant) else []


@cache
def functions() -> dict[str, ast.AST]:
    """Return every function of the package, as `file.function` or `Class.method`."""
    found: dict[str, ast.AST] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            where = node.name if isinstance(node, ast.ClassDef) else path.stem
            for inner in node.body if isinstance(node, ast.ClassDef) else [node]:
                if isinstance(inner, ast.FunctionDef):
                    found[f"{where}.{inner.name}"] = inner
    return found


@cache
def tables() -> dict[str, list[str]]:
    """Return the fields of each record of the package, as `Class`, and the texts of each tuple, as `file.TUPLE`."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
                found[node.name] = [field.id for field in fields if isinstance(field, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Tuple):
                texts = [one.value for one in node.value.elts if isinstance(one, ast.Constant)]
                found[f"{path.stem}.{ast.unparse(node.target)}"] = [str(text) for text in texts]
    return found
