"""Functions of the code under test with one piece of their text taken out, or made another."""

from __future__ import annotations

import inspect
import textwrap
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def rewritten(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """A function of the code under test with one piece of its text, which must stand there, replaced."""
    text = textwrap.dedent(inspect.getsource(function))
    assert old in text, f"{function.__qualname__} no longer says {old!r}"
    names: dict[str, Any] = {}
    home = function.__globals__
    exec(
        compile("from __future__ import annotations\n" + text.replace(old, new), home["__file__"], "exec"), home, names
    )
    made = names[function.__name__]
    found = FunctionType(made.__code__, home, made.__name__, function.__defaults__, function.__closure__)
    found.__kwdefaults__ = function.__kwdefaults__
    return found


def rule(place: Any, name: str, old: str, new: str) -> tuple[Any, str, Callable[..., Any]]:
    """One function with one piece of text replaced, as an entry of RULES."""
    return place, name, rewritten(getattr(place, name), old, new)
