"""Try mutants: each in a fork of a process that has imported and collected everything, with the changed code put in."""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import resource
import select
import shutil
import signal
import sys
import threading
import time
import types
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.mutations.targets import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tests.mutations.making import Mutant

SIMULATION = "the simulation"
FIRST_S, SHORT_S, ALL_S = 2.0, 4.0, 40.0
"""So long may the tests take that come before the simulation, all of a short run, and all, as they were measured."""

LIKELY_S, MOST_LIKELY = 0.25, 12
"""Tests that noticed a change of a function are tried first for the next: as cheap as this, and so many of them."""

FIRST, MORE = 40, 160
"""So many schedules are played after the first tests, and where nothing has noticed by the end."""

PATIENCE_S = 10.0
"""After so long, and ten times what it takes else, of its processor a test hangs, and has noticed. So does the simulation."""

COMPUTES_S, WATCHES_S, STILL_S = 240.0, 900.0, 60.0
"""A mutant hangs that has used so much of the processors, or has wanted none for so long; that counts as noticed. One that
takes five times as long by the clock on the wall may wait for a busy machine: nothing has noticed it. The second is for
watching all tests."""

IN_TIME: Final = "nothing in time"
MOST_SAID, MOST_MEMORY = 4000, 4 << 30
"""Bytes: what a child may say of what it found, and may use."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a mutant; `by` None: nothing noticed it; `reached`: something runs its line."""

    mutant: Mutant
    by: str | None
    seconds: float
    reached: bool


class Child:
    """A fork that does some `work(say)`, and whose temporary files go into `folder`; it may compute for `computes_s`."""

    def __init__(
        self, folder: Path, work: Callable[[Callable[[str], None]], None], *, computes_s: float = COMPUTES_S
    ) -> None:
        self.folder, self.began, self._computes_s = folder, time.monotonic(), computes_s
        self._used, self._worked_at, self._seen_at = 0.0, self.began, self.began
        ours, theirs = os.pipe()
        self.pid, self._pipe = os.fork(), ours
        if self.pid:
            os.close(theirs)
            return
        try:
            os.setpgid(0, 0)
            os.close(ours)
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            nothing = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(nothing, descriptor)
            folder.mkdir(mode=0o755)
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
            work(lambda text: _say(theirs, text))
        except BaseException as error:  # noqa: BLE001 - whatever a mutant does in here is its end
            _say(theirs, f"{type(error).__name__}")
        finally:
            os._exit(0)

    def said(self) -> str | None:
        """Return what it has said, once it has, or has ended, or was ended as hanging or late; None while it works."""
        if select.select([self._pipe], [], [], 0.05)[0]:
            said = os.read(self._pipe, MOST_SAID).decode(errors="replace") or "the process ends"
        elif self._hangs():
            said = "it hangs"
        elif time.monotonic() - self.began > 5 * self._computes_s:
            said = IN_TIME
        else:
            return None
        os.close(self._pipe)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        shutil.rmtree(self.folder, ignore_errors=True)
        return said

    def result(self) -> str:
        """Wait for what it says."""
        while (said := self.said()) is None:
            pass
        return said

    def _hangs(self) -> bool:
        """Return whether it and what it has started use too much of the processors, or for long want none at all."""
        now = time.monotonic()
        if now - self._seen_at < 1.0:
            return False
        self._seen_at = now
        used, wanting = _of_group(self.pid)
        if wanting or used != self._used:
            self._used, self._worked_at = used, now
        return used > self._computes_s or now - self._worked_at > STILL_S


def _of_group(leader: int) -> tuple[float, bool]:
    """Return the seconds that the processes of a group have used, with those they have seen end, and if one wants more."""
    used, wanting = 0, False
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            fields = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == leader:
                used += sum(map(int, fields[11:15]))
                wanting = wanting or fields[0] in "RD"
    return used / os.sysconf("SC_CLK_TCK"), wanting


def _say(pipe: int, text: str) -> None:
    os.write(pipe, text.encode()[:MOST_SAID])


class _Lines:
    """The lines of some files that ran, here or in a fork of this process: a byte for each, in memory that forks share."""

    def __init__(self, files: Iterable[str]) -> None:
        self.begins, end = {}, 0
        for file in files:
            self.begins[file] = end
            end += len((ROOT / file).read_bytes().splitlines()) + 2
        self.ran = mmap.mmap(-1, end + 1)

    def clear(self) -> None:
        """Forget them."""
        self.ran[:] = bytes(len(self.ran))

    def sorted(self) -> list[tuple[str, int]]:
        """Return each line that ran, with its file."""
        ran = [n for n, byte in enumerate(self.ran[:]) if byte]
        begins = list(self.begins.items())
        found = ((bisect_right(begins, n, key=lambda item: item[1]) - 1, n) for n in ran)
        return [(begins[at][0], n - begins[at][1]) for at, n in found]


def watched(items: Mapping[str, Any], files: Iterable[str], *, simulates: bool) -> dict[str, Any]:
    """Run every test, and some schedules where it `simulates`; return the seconds and the lines of each, fallen ones aside."""
    lines = _Lines(files)
    paths = {str(ROOT / file): begin for file, begin in lines.begins.items()}

    def called(frame: Any, event: str, arg: Any) -> Any:
        begin = paths.get(frame.f_code.co_filename)
        if begin is None:
            return None

        def within(frame: Any, event: str, arg: Any) -> Any:
            lines.ran[begin + frame.f_lineno] = 1
            return within

        return within(frame, event, arg)

    @contextlib.contextmanager
    def noted(name: str) -> Iterator[None]:
        lines.clear()
        began = time.monotonic()
        threading.settrace(called)
        sys.settrace(called)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            seen[name] = [time.monotonic() - began, lines.sorted()]

    seen: dict[str, Any] = {}
    failed = []
    for name, (item, following) in _pairs(items, list(items)).items():
        with noted(name):
            passed = passes(item, following)
        if not passed:
            failed.append(name)
            del seen[name]
    found: dict[str, Any] = {"seen": seen, "failed": failed}
    if simulates:
        with noted(SIMULATION):
            found["simulation"] = simulated(0, FIRST)
    return found


def passes(item: Any, following: Any) -> bool:
    """Run one test; a skipped one has passed."""
    from _pytest.runner import runtestprotocol

    return not any(report.failed for report in runtestprotocol(item, nextitem=following, log=False))


def _pairs(items: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Each test with the one after it."""
    return {name: (items[name], items[after] if after else None) for name, after in zip(names, [*names, None][1:], strict=True)}  # fmt: skip


def noticed(items: Mapping[str, Any], tests: Mapping[str, float], *, simulates: bool, thorough: bool) -> str | None:
    """Return what notices the change that is in this process, None where nothing does; the cheapest `tests` come first."""
    spent = list(accumulate(tests.values()))
    first = sum(so_far <= FIRST_S for so_far in spent)
    most = sum(so_far <= (ALL_S if thorough else SHORT_S) for so_far in spent)
    names = list(tests)
    return (
        _failing(items, names[:first], tests)
        or (simulated(0, FIRST) if simulates else None)
        or _failing(items, names[first:most], tests)
        or (simulated(50_000, MORE) if simulates and thorough else None)
    )


def _failing(items: Mapping[str, Any], names: Sequence[str], seconds: Mapping[str, float]) -> str | None:
    for name, (item, following) in _pairs(items, names).items():
        _bounded(PATIENCE_S + 10 * seconds[name])
        if not passes(item, following) and not passes(item, following):  # one that passes then has met a busy machine
            return name
    return None


def _bounded(seconds: float) -> None:
    """End this process by a signal if it computes for longer than that: it hangs."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def simulated(first: int, number: int) -> str | None:
    """Play schedules of several kinds; return what is wrong with the first that fails."""
    from tests.sim.config import LEAPING
    from tests.sim.play import play
    from tests.sim.sabotage import WORLDS

    _bounded(PATIENCE_S + number / 2)
    kinds: list[tuple[dict[str, Any], int]] = [({}, number)]
    kinds += [(LEAPING | {"nas": nas}, number // 4) for nas in (True, False)]
    kinds += [(WORLDS[name], number // 6) for name in ("the attempt", "the row that is torn", "lock's outcome", "change token", "look after the answer")]  # fmt: skip
    for forced, schedules in kinds:
        failures = play(first, schedules, **forced).failures
        if failures:
            return f"{SIMULATION}: {failures[0][1][:160]}"
    return None


def functions(files: Iterable[str]) -> dict[tuple[str, str], list[types.FunctionType]]:
    """Every function that is there of these files, by its file and qualified name."""
    paths = {str(ROOT / file): file for file in files}
    found: dict[tuple[str, str], list[types.FunctionType]] = {}
    gc.unfreeze()  # what a test's helper has frozen would not be found, and no change would be put in
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType) and (file := paths.get(thing.__code__.co_filename)):
            found.setdefault((file, thing.__code__.co_qualname), []).append(thing)
    return found


def changed(mutant: Mutant) -> types.CodeType:
    """Return the changed code of a mutant's function."""
    path = ROOT / mutant.file
    module = compile(mutant.text(path.read_bytes()), str(path), "exec", dont_inherit=True)
    named = [code for code in _codes(module) if code.co_qualname == mutant.where]
    return max((code for code in named if code.co_firstlineno <= mutant.line), key=lambda code: code.co_firstlineno)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield inner
            if "<locals>" not in inner.co_qualname:
                yield from _codes(inner)


def _all_inside(code: types.CodeType) -> Iterator[types.CodeType]:
    """Every function that is made within one."""
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield inner
            yield from _all_inside(inner)


class Trier:
    """Tries mutants, some at once."""

    def __init__(
        self, items: Mapping[str, Any], seen: Mapping[str, Any], files: Iterable[str], folder: Path, *, thorough: bool
    ) -> None:
        self.items, self.folder, self.thorough = items, folder, thorough
        self.names = sorted(seen, key=lambda name: seen[name][0])
        self.took = {name: seen[name][0] for name in self.names}
        self.running: dict[tuple[str, int], array[int]] = {}
        """What runs each line, as numbers of names, the cheapest first."""
        for number, name in enumerate(self.names):
            for file, line in seen[name][1]:
                self.running.setdefault((file, line), array("H")).append(number)
        for file in files:  # what is imported only where it is needed has its changes too
            import_module(file.removesuffix(".py").replace("/", "."))
        self.functions = functions(files)
        self.sound: dict[str, bool] = {}
        """Whether a test that failed under a change passes without it."""
        self.noticed: dict[tuple[str, str], list[str]] = {}
        """The tests that noticed changes of each function, the last first: they come before cheaper ones."""
        self._places = count()

    def verdicts(self, chosen: Iterable[Mutant], at_once: int) -> Iterator[Verdict]:
        """Try them; a test that fails without the change as well counts for nothing."""
        gc.collect()
        gc.freeze()  # else every fork copies all that is there when it looks for garbage
        waiting, at_work = iter(chosen), []
        while True:
            while len(at_work) < at_once and (mutant := next(waiting, None)) is not None:
                at_work.append((mutant, self._begin(mutant)))
            if not at_work:
                return
            for work in list(at_work):
                mutant, child = work
                said = child.said()
                if said is None:
                    continue
                at_work.remove(work)
                if said in self.items and not self._is_sound(said):
                    at_work.append((mutant, self._begin(mutant)))
                    continue
                if said in self.items:
                    self._came_first(mutant, said)
                yield Verdict(
                    mutant=mutant,
                    by=None if said in ("nothing", IN_TIME) else said,
                    seconds=time.monotonic() - child.began,
                    reached=(mutant.file, mutant.line) in self.running,
                )

    def _came_first(self, mutant: Mutant, name: str) -> None:
        """Have a test that noticed a change of a function come first for the next of them, if it is cheap."""
        if self.took[name] <= LIKELY_S:
            earlier = self.noticed.setdefault((mutant.file, mutant.where), [])
            earlier[:] = [name, *(other for other in earlier if other != name)][:MOST_LIKELY]

    def _begin(self, mutant: Mutant) -> Child:
        names = [self.names[number] for number in self.running.get((mutant.file, mutant.line), ())]
        likely = [name for name in self.noticed.get((mutant.file, mutant.where), ()) if name in names]
        names = [*likely, *(name for name in names if name not in likely)]
        running = {name: self.took[name] for name in names}
        simulates = running.pop(SIMULATION, None) is not None
        tests = {name: took for name, took in running.items() if name in self.items and self.sound.get(name, True)}

        code = changed(mutant)
        if (mutant.file, mutant.where) not in self.functions:
            raise LookupError(f"no such function is imported, so nothing can notice its change: {mutant}")

        def work(say: Callable[[str], None]) -> None:
            self._put_in(code, mutant.file)
            say(noticed(self.items, tests, simulates=simulates, thorough=self.thorough) or "nothing")

        return self._child(work)

    def _put_in(self, code: types.CodeType, file: str) -> None:
        """Give a function its changed code, and what it has made already as well: readers made at import, decorators."""
        inner = [found for found in _all_inside(code) if "<lambda>" not in found.co_qualname]
        for found in (code, *inner):
            for function in self.functions.get((file, found.co_qualname), ()):
                if found is code and function.__code__.co_firstlineno != code.co_firstlineno:
                    continue  # another function of the same name, as a property's setter is
                with contextlib.suppress(ValueError):  # the change took a name that it closes over
                    function.__code__ = found

    def _child(self, work: Callable[[Callable[[str], None]], None]) -> Child:
        return Child(self.folder / str(next(self._places)), work)

    def _is_sound(self, name: str) -> bool:
        """Return whether a test passes while nothing is changed."""
        if name not in self.sound:
            child = self._child(lambda say: say("yes" if passes(self.items[name], None) else "no"))
            self.sound[name] = child.result() == "yes"
        return self.sound[name]
