"""Import PyJWT for one verification, without what a verification does not need.

`import jwt` brings a client of JWKS with urllib, and cryptography's X.509 and SSH keys: more than half of its time. For
a process that judges one token and ends, `jwt.api_jwk` is imported here without them: the package without the names
that its `__init__` gathers, and in the place of X.509 and of SSH keys modules that import the real ones once they are
asked for anything. Nothing of this stays in `sys.modules`, so a later import of these libraries has them whole.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LATER: Final = ("cryptography.x509", "cryptography.hazmat.primitives.serialization.ssh")
_PARTIAL: Final = ("jwt", "cryptography.hazmat.primitives.serialization", *_LATER)
"""Modules that are incomplete after it, with all below them: taken out of `sys.modules` again."""


def import_jwk(*, light: bool) -> tuple[type[Any], type[Exception]]:
    """Return PyJWT's class of a key and its error, imported lightly, or plainly where these libraries look different.

    Nothing is loaded twice: a process that has imported one of them already has paid for it. Without `light`, as in a
    process that serves others' requests too, it is the plain import. Raises ImportError where there is no PyJWT.
    """
    if light and not any(name in sys.modules for name in _PARTIAL):
        try:
            found = _lightly()
        except Exception:  # noqa: BLE001 - whatever is different there, the plain import knows it
            found = None
        finally:
            _forget()
        if found is not None:
            return found
    from jwt.api_jwk import PyJWK
    from jwt.exceptions import PyJWTError

    return PyJWK, PyJWTError


def _lightly() -> tuple[type[Any], type[Exception]] | None:
    from importlib.machinery import PathFinder

    spec = PathFinder.find_spec("jwt")
    if spec is None or spec.submodule_search_locations is None:
        return None
    package = ModuleType("jwt")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["jwt"] = package
    for name in _LATER:
        sys.modules[name] = _Later(name)
    from jwt import algorithms
    from jwt.api_jwk import PyJWK
    from jwt.exceptions import PyJWTError

    return (PyJWK, PyJWTError) if algorithms.has_crypto else None


class _Later(ModuleType):
    """A module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(self.__name__, name)


class _Named:
    """One name of such a module; what it stands for is found when it is called or looked into."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._real()(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def _real(self) -> Any:
        from importlib import import_module

        return getattr(import_module(self._module), self._name)


def _forget() -> None:
    for name in list(_partial_modules()):
        module = sys.modules.pop(name)
        parent, _, last = name.rpartition(".")
        if getattr(sys.modules.get(parent), last, None) is module:
            delattr(sys.modules[parent], last)


def _partial_modules() -> Iterator[str]:
    for name in sys.modules:
        if any(name == top or name.startswith(f"{top}.") for top in _PARTIAL):
            yield name
