"""Where the package tells people what to do, read from its source: file, and the fixed words of the hint."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.conftest import ROOT
from tests.errors.raised import PACKAGE, _fixed, _trees

SAYS = ("hint", "mend")
"""Keywords under which a hint is given: of an error, and of a check or a doubt."""


def tries(path, *words):
    """Say that the test below brings about the fault of a hint of `path` that has these words, and follows it."""
    del path, words
    return lambda test: test


@cache
def tried():
    """File and words of each hint that a test with `tries` follows, wherever it stands."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "@tries(" in text else ():
            for mark in getattr(node, "decorator_list", ()):
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "tries":
                    at, *words = (ast.literal_eval(word) for word in mark.args)
                    found.update((at, one) for one in words)
    return found


@cache
def hints():
    """Every hint that stands in the source, as (file, its longest fixed words), in order."""
    found = {}
    for path, tree in _trees().items():
        name = path.relative_to(PACKAGE).as_posix()
        texts = _texts(tree)
        for node in ast.walk(tree):
            for value in _values(node):
                for words in filter(None, map(_fixed, _choices(value, texts))):
                    found[name, words] = None
    return tuple(found)


def _texts(tree):
    """What each name of a module is given that may be a text."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            for target in [node.target] if isinstance(node, ast.AnnAssign) else node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found


def _values(node):
    if isinstance(node, ast.Call):
        yield from (word.value for word in node.keywords if word.arg in SAYS)
    if isinstance(node, ast.AnnAssign | ast.Assign):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if node.value is not None and names & {"hint", "mend", "default_hint", "_HINT", "_HINTS", "_PROBE", "INSTALL"}:
            yield from node.value.values if isinstance(node.value, ast.Dict) else [node.value]
    if isinstance(node, ast.FunctionDef) and re.search("hint|mend", node.name):
        yield from (one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value is not None)


def _choices(value, texts):
    """The texts of which one is meant: both sides of a condition, and what a name stands for."""
    if isinstance(value, ast.IfExp):
        yield from _choices(value.body, texts)
        yield from _choices(value.orelse, texts)
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from _choices(part, texts)
    elif isinstance(value, ast.Name):
        yield from texts.get(value.id, ())
    else:
        yield value
