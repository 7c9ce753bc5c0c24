"""Providers that were made for hermes: the interface they are written against, and what fits them to ours."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.providers.interface import CronScheduler, Notified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

THEIR_BASE: Final = "CronScheduler"
"""The name of the class that hermes' providers derive from, in hermes and in its stand-in here."""

THEIR_MODULES: Final = ("cron", "cron.scheduler_provider")
"""Where hermes has it."""


class AdoptedProvider(CronScheduler):
    """A provider made for hermes, or another that only looks like one: what it lacks has the default.

    `record_of`: the record of a job, None where there is none. Newer versions of hermes hand over records, older ones
    none at all; which of them a provider expects is told by its parameter's name.
    """

    def __init__(self, inner: Any, record_of: Callable[[str], Mapping[str, Any] | None] = lambda _: None) -> None:
        self._inner = inner
        self._record_of = record_of

    @property
    def name(self) -> str:
        """Return its own name."""
        return str(self._inner.name)

    def is_available(self) -> bool:
        """Return its own word, if it has one."""
        return bool(self._call("is_available", default=True))

    def start(self, *args: Any, **kwargs: Any) -> None:
        """Start it."""
        self._inner.start(*args, **kwargs)

    def stop(self) -> None:
        """Stop it."""
        self._call("stop")

    def on_jobs_changed(self) -> None:
        """Tell it."""
        self._call("on_jobs_changed")

    def register_job(self, job_id: str) -> Notified:
        """Tell it of one job, or, where it knows no single jobs, of all.

        One that takes records is told so of jobs that are to be armed alone, as hermes does: of a job that is paused or
        gone it hears as of any other change.
        """
        wanted = _wanted(self._inner)
        given: object = job_id
        if wanted == "record":
            record = self._record_of(job_id) or {}
            given = dict(record) if _is_live(record) else None
        if wanted is None or not given:
            self.on_jobs_changed()
            return Notified(armed=None)
        told = self._inner.register_job(given)
        return told if isinstance(told, Notified) else Notified(armed=None)

    def fire_due(self, job_id: str, **kwargs: Any) -> bool:
        """Have it run a job."""
        return bool(self._inner.fire_due(job_id, **kwargs)) if hasattr(self._inner, "fire_due") else False

    def reconcile(self) -> object:
        """Have it reconcile."""
        return self._call("reconcile")

    def _call(self, method: str, *, default: object = None) -> object:
        return getattr(self._inner, method)() if hasattr(self._inner, method) else default


def _is_live(record: Mapping[str, Any]) -> bool:
    paused = str(record.get("state") or "").strip() == "paused" or record.get("paused_at")
    return bool(record.get("enabled", True)) and not paused


def _wanted(inner: Any) -> str | None:
    """Return what `register_job` of a provider takes: an id, a record, or None where it has none of its own."""
    if not hasattr(inner, "register_job"):
        return None
    owner = next((base for base in type(inner).__mro__ if "register_job" in vars(base)), None)
    if owner is not None and owner.__name__ == THEIR_BASE:
        return None  # hermes' own default, which does nothing
    try:
        first = next(iter(inspect.signature(inner.register_job).parameters.values()), None)
    except (TypeError, ValueError):
        return "id"
    if first is None or first.kind in (first.VAR_POSITIONAL, first.VAR_KEYWORD):
        return "id"
    return "id" if "id" in first.name.split("_") or first.annotation in (str, "str") else "record"


class _TheirScheduler(ABC):
    """The stand-in of hermes' interface where hermes is not installed: two methods to write, the others default."""

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    def start(self, stop_event: Any, *, adapters: Any = None, loop: Any = None, interval: int = 60) -> None: ...

    def is_available(self) -> bool:
        return True

    def stop(self) -> None:
        return None

    def on_jobs_changed(self) -> None:
        return None

    def register_job(self, job: Any) -> None:
        del job

    def recover_interrupted(self) -> int:
        return 0

    def reconcile(self) -> None:
        return None


_TheirScheduler.__name__ = THEIR_BASE


@contextmanager
def their_interface() -> Iterator[None]:
    """Have `from cron.scheduler_provider import CronScheduler` work in the block, though hermes is not installed."""
    if any(name in sys.modules for name in THEIR_MODULES):
        yield
        return
    package, module = (ModuleType(name) for name in THEIR_MODULES)
    package.__path__ = []
    module.CronScheduler = _TheirScheduler  # type: ignore[attr-defined]
    sys.modules |= dict(zip(THEIR_MODULES, (package, module), strict=True))
    try:
        yield
    finally:
        for name in THEIR_MODULES:
            sys.modules.pop(name, None)


def subclass_in(module: ModuleType) -> object | None:
    """Return an instance of the first provider class that a module defines or imports, None where there is none."""
    for name in dir(module):
        found = getattr(module, name, None)
        if not inspect.isclass(found) or inspect.isabstract(found) or found.__name__ == THEIR_BASE:
            continue
        if any(base.__name__ == THEIR_BASE for base in found.__mro__[1:]):
            return found()
    return None
