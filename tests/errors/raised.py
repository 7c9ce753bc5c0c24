"""Where the package makes errors of its family, read from its source: file, class, and the fixed words of the message."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

from tests.conftest import ROOT

PACKAGE = ROOT / "chronos_cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place that makes an error.

    `words`: the longest fixed part of its message, "" where the message is made elsewhere. `hint`: whether what to do
    is said there: None leaves it to the class.
    """

    path: str
    line: int
    kind: str
    words: str
    hint: bool | None

    def __str__(self):
        return f"{self.path}:{self.line} {self.kind} {self.words!r}"


@cache
def _trees():
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def _nodes():
    found = defaultdict(list)
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            found[type(node)].append((path, node))
    return found


def nodes(kind):
    """Every node of one kind in the package, each with its file."""
    return _nodes()[kind]


@cache
def family():
    """The names of ChronosError and all its subclasses."""
    bases = {
        node.name: {base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases}
        for _, node in nodes(ast.ClassDef)
    }
    found = {"ChronosError"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found


@cache
def sites():
    """Every place, in order."""
    return tuple(_sites())


def _sites():
    known = family()
    for path, node in nodes(ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in known:
            hint = next((word.value for word in node.keywords if word.arg == "hint"), None)
            yield Site(
                path=path.relative_to(PACKAGE).as_posix(),
                line=node.lineno,
                kind=name,
                words=_fixed(node.args[0]) if node.args else "",
                hint=None if hint is None else not (isinstance(hint, ast.Constant) and not hint.value),
            )


def _fixed(node):
    """The longest text that stands in a message whatever is filled in."""
    if isinstance(node, ast.BinOp):
        return max(_fixed(node.left), _fixed(node.right), key=len)
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return max((text.strip(" :,;'()\"") for text in texts), key=len, default="")


def texts_of_tests():
    """Every text that stands in a test, this folder's machinery aside."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.parent.name == "errors" and not path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                yield node.value if isinstance(node.value, str) else node.value.decode("latin-1")
