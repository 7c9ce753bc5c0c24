"""Try one mutant: a child process imports the changed module and runs, cheapest first, what can notice it."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.util
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.mutations.targets import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.mutations.making import Mutant

CHEAP_S, ALL_S = 4.0, 30.0
"""So long may the first tests take, and all of them, as they were measured."""

FIRST, MORE = 60, 240
"""So many schedules of the simulation are played after the first tests, and where nothing has noticed by the end."""

CPU_S, WAIT_S = 90, 900.0
"""After so many seconds of one processor, or in all, a mutant hangs, and is noticed."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a mutant; `by` None: nothing noticed it."""

    mutant: Mutant
    by: str | None
    seconds: float


def attempt(mutant: Mutant, tests: Sequence[tuple[float, str]], *, thorough: bool = True) -> Verdict:
    """Try a mutant in a child. `tests`: what runs its line, with the seconds that takes, the cheapest first."""
    began = time.monotonic()
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _in_child(mutant, tests, theirs, thorough=thorough)
    os.close(theirs)
    said = b""
    while time.monotonic() - began < WAIT_S:
        if select.select([ours], [], [], 1.0)[0]:
            part = os.read(ours, 4096)
            said += part
            if not part:
                break
    else:
        said = b"it hangs"
    os.close(ours)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    by = said.decode(errors="replace") or "the process ends"
    return Verdict(mutant=mutant, by=None if by == "nothing" else by, seconds=time.monotonic() - began)


def _in_child(mutant: Mutant, tests: Sequence[tuple[float, str]], pipe: int, *, thorough: bool) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    said = "the process ends"
    try:
        sys.meta_path.insert(0, _Changed(mutant))
        said = _noticed(tests, thorough=thorough) or "nothing"
    except BaseException as error:  # noqa: BLE001 - whatever a mutant does in here is its end
        said = f"{type(error).__name__}"
    finally:
        os.write(pipe, said.encode()[:4000])
        os._exit(0)


def _noticed(tests: Sequence[tuple[float, str]], *, thorough: bool) -> str | None:
    """What notices a mutant, None where nothing does."""
    first, rest, spent = [], [], 0.0
    for seconds, name in tests:
        spent += seconds
        (first if spent <= CHEAP_S or not first else rest if spent <= ALL_S else []).append(name)
    if first and _fail(first):
        return "a test"
    if found := _simulated(0, FIRST):
        return found
    if thorough and rest and _fail(rest):
        return "a slower test"
    return _simulated(50_000, MORE) if thorough else None


def _fail(names: Sequence[str]) -> bool:
    import pytest

    # What the parent has imported for all children was imported before pytest could rewrite it.
    quiet = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return pytest.main([*quiet, *names]) != 0


def _simulated(first: int, count: int) -> str | None:
    from tests.sim.config import LEAPING
    from tests.sim.play import play
    from tests.sim.sabotage import WORLDS

    kinds: list[tuple[dict[str, Any], int]] = [({}, count)]
    kinds += [(LEAPING | {"nas": nas}, count // 4) for nas in (True, False)]
    kinds += [(WORLDS[name], count // 6) for name in ("the attempt", "the row that is torn", "lock's outcome", "change token", "look after the answer")]  # fmt: skip
    for forced, number in kinds:
        failures = play(first, number, **forced).failures
        if failures:
            return f"the simulation: {failures[0][1][:120]}"
    return None


class _Changed(importlib.abc.MetaPathFinder):
    """Gives the changed text of one module to whoever imports it."""

    def __init__(self, mutant: Mutant) -> None:
        self.path = ROOT / mutant.file
        self.name = mutant.file.removesuffix(".py").replace("/", ".")
        self.mutant = mutant

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(
            name, self.path, loader=_Loader(name, str(self.path), self.mutant)
        )


class _Loader(importlib.abc.SourceLoader):
    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        self.name, self.path, self.mutant = name, path, mutant

    def get_filename(self, fullname: str) -> str:
        return self.path

    def get_data(self, path: str) -> bytes:
        return self.mutant.text((ROOT / self.mutant.file).read_bytes())

    def get_code(self, fullname: str) -> Any:
        return compile(self.get_data(self.path), self.path, "exec")


@contextlib.contextmanager
def ready() -> Iterator[None]:
    """Import what every child needs and no mutant is in, so that a fork has it."""
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import requests  # noqa: F401
    import yaml  # noqa: F401

    assert not any(name.startswith("chronos_cli") for name in sys.modules), "a mutant would come too late"
    yield
