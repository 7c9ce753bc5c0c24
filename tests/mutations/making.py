"""Mutants of a module: one small change of its text each, as a slip of the pen or a forgotten case would be.

What nobody could notice is left alone: docstrings and types, the wording of errors, logs and reasons, what a `repr` shows,
pauses and patience, writes that are surer than they need be, and what stands outside functions (settings, and the defaults of records).
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMPARED: Final = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is", "in": "not in",
    "not in": "in",
}  # fmt: skip
_SYMBOLS: Final[dict[type[ast.AST], str]] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*",
}  # fmt: skip
_SWAPPED: Final = {"+": "-", "-": "+", "*": "+"}

WORDS: Final = frozenset({"strict", "indent", "because", "reason", "message", "hint", "detail", "doing", "what"})
"""Arguments that are words for people, or say what would be a fault of this program."""

PATIENCE: Final = frozenset(
    {"checkpoint", "timeout", "pause", "patience", "sleep", "_sleep", "wait_to_retry", "within"}
)
"""Arguments and functions that say how long is waited, and the places at which tests end a process."""

SHOWN: Final = frozenset({"__repr__", "__str__", "line"})
"""Functions that say something to people and do nothing else."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change: in `file` (from the repository's root) the bytes `start` to `end` become `after`."""

    file: str
    where: str
    """The qualified name of the outermost function that it is in."""
    line: int
    start: int
    end: int
    after: str
    old: str
    """The lines that change, as they are, in one."""
    new: str
    """The same, changed."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names it for as long as its text stands."""
        return self.file, self.where, self.old, self.new

    def __str__(self) -> str:
        return f"{self.file} {self.where}\n- {self.old}\n+ {self.new}"

    def text(self, source: bytes) -> bytes:
        """The module with the change."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutants(root: Path, file: str) -> list[Mutant]:
    """Every mutant of one module that still compiles, in the order of its text; docstrings and types are left alone."""
    source = (root / file).read_bytes()
    found = {}
    for mutant in _Finder(file, source).all():
        try:
            compile(mutant.text(source), file, "exec")
        except SyntaxError:
            continue
        found[mutant.key] = mutant
    return sorted(found.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.after))


class _Finder:
    """Walks one module."""

    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def all(self) -> Iterator[Mutant]:
        """Return the mutants of every function and method."""
        for node in ast.parse(self.source).body:
            if isinstance(node, ast.FunctionDef):
                yield from self._of_function(node, node.name)
            elif isinstance(node, ast.ClassDef):
                for part in node.body:
                    if isinstance(part, ast.FunctionDef):
                        yield from self._of_function(part, f"{node.name}.{part.name}")

    def _of_function(self, node: ast.FunctionDef, where: str) -> Iterator[Mutant]:
        if node.name not in SHOWN:
            for statement in node.body:
                yield from self._in(statement, where)

    def _in(self, node: ast.AST, where: str) -> Iterator[Mutant]:
        if _is_for_people(node) or _is_patience(node):
            return
        yield from self._of(node, where)
        inside = node.body if isinstance(node, ast.FunctionDef) else ast.iter_child_nodes(node)
        if isinstance(node, ast.AnnAssign):
            inside = () if node.value is None else (node.value,)
        for child in inside:
            yield from self._in(child, where)

    def _of(self, node: ast.AST, where: str) -> Iterator[Mutant]:
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            symbol = _SYMBOLS.get(type(node.ops[0]))
            if symbol is not None:
                yield self._joined(node, node.left, node.comparators[0], COMPARED[symbol], where)
        elif isinstance(node, ast.BoolOp):
            word, other = (" and ", " or ") if isinstance(node.op, ast.And) else (" or ", " and ")
            parts = [self._text(value) for value in node.values]
            yield self._made(node, f"({other.join(parts)})", where)
            for left_out in range(len(parts)):
                yield self._made(node, f"({word.join(part for n, part in enumerate(parts) if n != left_out)})", where)
        elif isinstance(node, ast.BinOp) and _SYMBOLS.get(type(node.op)) in _SWAPPED:
            if not any(isinstance(side, ast.Constant) and not _is_number(side) for side in (node.left, node.right)):
                yield self._joined(node, node.left, node.right, _SWAPPED[_SYMBOLS[type(node.op)]], where)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield self._made(node, f"bool({self._text(node.operand)})", where)
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield self._made(node, str(not node.value), where)
        elif _is_number(node):
            yield self._made(node, str(node.value + 1), where)  # type: ignore[attr-defined]
        elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
            yield self._made(node, "return None", where)
        elif isinstance(node, ast.IfExp):
            yield self._made(node, f"({self._text(node.body)})", where)
            yield self._made(node, f"({self._text(node.orelse)})", where)
        elif isinstance(node, ast.Expr | ast.AugAssign) and not _is_docstring(node):
            yield self._made(node, "pass", where)
        elif isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.BoolOp | ast.Compare):
            yield self._made(node.test, f"not ({self._text(node.test)})", where)

    def _joined(self, node: ast.AST, left: ast.AST, right: ast.AST, word: str, where: str) -> Mutant:
        return self._made(node, f"({self._text(left)} {word} {self._text(right)})", where)

    def _made(self, node: ast.AST, after: str, where: str) -> Mutant:
        start, end = self._span(node)
        before = self.source[self.lines[node.lineno - 1] : start].decode()  # type: ignore[attr-defined]
        behind = self.source[end : self.lines[node.end_lineno]].decode()  # type: ignore[attr-defined]
        old = " ".join(f"{before}{self.source[start:end].decode()}{behind}".split())
        return Mutant(file=self.file, where=where, line=node.lineno, start=start, end=end, after=after, old=old,  # type: ignore[attr-defined]
                      new=" ".join(f"{before}{after}{behind}".split()))  # fmt: skip

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        text = self.source[start:end].decode()
        return (
            f"({text})" if isinstance(node, ast.BoolOp | ast.IfExp | ast.Compare | ast.Lambda | ast.NamedExpr) else text
        )

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self.lines[node.lineno - 1] + node.col_offset,  # type: ignore[attr-defined]
            self.lines[node.end_lineno - 1] + node.end_col_offset,  # type: ignore[attr-defined]
        )


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_people(node: ast.AST) -> bool:
    """Say if it is words: an error and how it is made, a text with values in it, an argument that is a reason."""
    return isinstance(node, ast.Raise | ast.JoinedStr) or (isinstance(node, ast.keyword) and node.arg in WORDS)


def _is_patience(node: ast.AST) -> bool:
    """Say if it is how long somebody waits before he looks again, or gives up, or a place where tests may end a process."""
    if isinstance(node, ast.Expr):
        return _is_patience(node.value)
    if isinstance(node, ast.keyword):
        surer = node.arg == "durable" and isinstance(node.value, ast.Constant) and node.value.value is False
        return surer or node.arg in PATIENCE
    called = node.func if isinstance(node, ast.Call) else None
    return getattr(called, "attr", getattr(called, "id", None)) in PATIENCE
