"""Where the package tells people what to do, read from its source: file, and the fixed words of the hint."""

from __future__ import annotations

import ast
from functools import cache

from tests.errors.raised import PACKAGE, _fixed, _trees

SAYS = ("hint", "mend")
"""Keywords under which a hint is given: of an error, and of a check or a doubt."""


@cache
def hints():
    """Every hint that stands in the source, as (file, its longest fixed words), in order."""
    found = {}
    for path, tree in _trees().items():
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(tree):
            for value in _values(node):
                for words in filter(None, map(_fixed, _choices(value))):
                    found[name, words] = None
    return tuple(found)


def _values(node):
    if isinstance(node, ast.Call):
        yield from (word.value for word in node.keywords if word.arg in SAYS)
    if isinstance(node, ast.AnnAssign | ast.Assign):
        targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if node.value is not None and any(_gives(name) for name in names):
            yield node.value


def _gives(name):
    """Say if what is put into a variable of that name is a hint."""
    return name in {"hint", "mend", "default_hint", "_PROBE", "INSTALL", "AS_JSON"} or name.endswith("_HINT")


def _choices(value):
    """The texts of which one is meant: both sides of a condition."""
    if isinstance(value, ast.IfExp):
        yield from _choices(value.body)
        yield from _choices(value.orelse)
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from _choices(part)
    else:
        yield value
