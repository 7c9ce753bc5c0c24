"""Mutants of a module: one small change of its text each, as a slip of the pen or a forgotten case would be."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMPARED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "is": "is not", "is not": "is",
            "in": "not in", "not in": "in"}  # fmt: skip
_SYMBOLS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*",
}  # fmt: skip
_SWAPPED = {"+": "-", "-": "+", "*": "+"}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change: in `file` (from the repository's root) the bytes `start` to `end` become `after`."""

    file: str
    where: str
    """The qualified name of the function, or `module`."""
    line: int
    start: int
    end: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file} {self.where}: {' '.join(self.before.split())} -> {' '.join(self.after.split())}"

    def text(self, source: bytes) -> bytes:
        """The module with the change."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def mutants(root: Path, file: str) -> list[Mutant]:
    """Every mutant of one module that still compiles, in the order of its text; docstrings and types are left alone."""
    source = (root / file).read_bytes()
    found = []
    for mutant in _Finder(file, source).all():
        text = mutant.text(source)
        try:
            compile(text, file, "exec")
        except SyntaxError:
            continue
        found.append(mutant)
    return sorted(set(found), key=lambda mutant: (mutant.start, mutant.end, mutant.after))


class _Finder:
    """Walks one module."""

    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def all(self) -> Iterator[Mutant]:
        yield from self._in(ast.parse(self.source), "module")

    def _in(self, node: ast.AST, where: str) -> Iterator[Mutant]:
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", None)
            inner = where
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = str(name) if where == "module" else f"{where}.{name}"
            if _is_of_types(child):
                continue
            yield from self._of(child, where)
            if isinstance(child, ast.FunctionDef):
                for statement in (*child.body, *child.args.defaults, *(d for d in child.args.kw_defaults if d)):
                    yield from self._of(statement, inner)
                    yield from self._in(statement, inner)
            elif isinstance(child, ast.AnnAssign):
                if child.value is not None:
                    yield from self._of(child.value, inner)
                    yield from self._in(child.value, inner)
            else:
                yield from self._in(child, inner)

    def _of(self, node: ast.AST, where: str) -> Iterator[Mutant]:
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            symbol = _SYMBOLS.get(type(node.ops[0]))
            if symbol is not None:
                yield self._joined(node, node.left, node.comparators[0], COMPARED[symbol], where)
        elif isinstance(node, ast.BoolOp):
            other = " or " if isinstance(node.op, ast.And) else " and "
            parts = [self._text(value) for value in node.values]
            yield self._made(node, f"({other.join(parts)})", where)
            for left_out in range(len(parts)):
                word = " and " if isinstance(node.op, ast.And) else " or "
                rest = [part for n, part in enumerate(parts) if n != left_out]
                yield self._made(node, f"({word.join(rest)})", where)
        elif isinstance(node, ast.BinOp) and _SYMBOLS.get(type(node.op)) in _SWAPPED:
            symbol = _SWAPPED[_SYMBOLS[type(node.op)]]
            if not any(
                isinstance(side, ast.Constant | ast.JoinedStr) and not _is_number(side)
                for side in (node.left, node.right)
            ):
                yield self._joined(node, node.left, node.right, symbol, where)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield self._made(node, f"bool({self._text(node.operand)})", where)
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield self._made(node, str(not node.value), where)
        elif isinstance(node, ast.Constant) and _is_number(node):
            yield self._made(node, str(node.value + 1), where)
        elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
            yield self._made(node, "return None", where)
        elif isinstance(node, ast.IfExp):
            yield self._made(node, f"({self._text(node.body)})", where)
            yield self._made(node, f"({self._text(node.orelse)})", where)
        elif isinstance(node, ast.Expr | ast.AugAssign) and not _is_docstring(node):
            yield self._made(node, "pass", where)
        elif isinstance(node, ast.If | ast.While):
            yield self._made(node.test, f"not ({self._text(node.test)})", where)

    def _joined(self, node: ast.AST, left: ast.AST, right: ast.AST, word: str, where: str) -> Mutant:
        return self._made(node, f"({self._text(left)} {word} {self._text(right)})", where)

    def _made(self, node: ast.AST, after: str, where: str) -> Mutant:
        start, end = self._span(node)
        before = self.source[start:end].decode()
        return Mutant(
            file=self.file, where=where, line=node.lineno, start=start, end=end, before=before, after=after  # type: ignore[attr-defined]
        )  # fmt: skip

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


def _is_of_types(node: ast.AST) -> bool:
    """Whether it is there for type checkers alone."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
