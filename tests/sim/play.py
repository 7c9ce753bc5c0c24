"""Many worlds, one after the other or over processes; what they reached; and the trace of one that failed."""

from __future__ import annotations

import contextlib
import gc
import io
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any

from tests.sim.checks import Violation
from tests.sim.quick import quickly
from tests.sim.story import Case, shrunk, told
from tests.sim.world import World

CHUNK = 250
"""So many schedules are handed to a process at a time, and garbage is looked for as often."""


@dataclass(slots=True)
class Played:
    """What came of a range of seeds."""

    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0  # of one processor
    wall: float = 0.0
    covered: Counter = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Played) -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.seconds += other.seconds
        self.covered.update(other.covered)
        self.failures += other.failures
        self.wall += other.wall

    def report(self) -> str:
        """What was reached and how often, and what it took."""
        lines = [f"{number:9} {family}: {name}" for (family, name), number in sorted(self.covered.items())]
        lines.append(
            f"{self.schedules} schedules, {self.steps} steps before the quiet that ends each; "
            f"{self.seconds:.0f} s of one processor, {self.wall:.0f} s in all"
        )
        return "\n".join(lines)


def play(first: int, count: int, *, steps: int | None = None, stop_at: int = 1, **forced: Any) -> Played:
    """Play seeds from `first` on; ends early after `stop_at` failures."""
    played = Played()
    start = time.process_time()
    with quickly(), contextlib.redirect_stderr(io.StringIO()):
        for seed in range(first, first + count):
            world = World(seed, steps=steps, cover=played.covered, **forced)
            try:
                world.run()
            except (Exception, Violation) as error:  # noqa: BLE001 - whatever a world raises is its verdict
                played.failures.append((seed, f"{type(error).__name__}: {error}"))
                if len(played.failures) >= stop_at:
                    break
            if played.schedules % CHUNK == 0:
                gc.collect()
            played.schedules += 1
            played.steps += world.steps
            vars(world).clear()  # what refers to one another goes through it: little is left for the collector
    played.seconds = time.process_time() - start
    return played


def play_wide(
    first: int, count: int, *, processes: int = 2, steps: int | None = None, stop_at: int = 1, chunk: int = CHUNK
) -> Played:
    """Play seeds from `first` on over several processes, a chunk at a time; what they reached is added up."""
    total, start = Played(), time.monotonic()
    starts = range(first, first + count, chunk)
    sizes = [min(chunk, first + count - start) for start in starts]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for part in pool.map(partial(play, steps=steps, stop_at=stop_at), starts, sizes):
            total.add(part)
            if len(total.failures) >= stop_at:
                pool.shutdown(cancel_futures=True)
                break
    total.wall = time.monotonic() - start
    return total


def explained(seed: int, *, steps: int | None = None, **forced: Any) -> tuple[str, str | None]:
    """Play one seed; where it fails, make it as short as it can be, and tell its story as a person would."""
    world, verdict, lines = _told(Case(seed=seed, forced=forced, steps=steps))
    case = Case(seed=seed, forced=forced, steps=steps, verdict=verdict or "nothing")
    if verdict is not None:
        case = shrunk(case, lambda found: _told(found)[1], world.cfg, world.steps)
        world, verdict, lines = _told(case)
    return told(case, lines, world.cfg), verdict


def _told(case: Case) -> tuple[World, str | None, list[str]]:
    """Play a case: its world, what is wrong with it, and what happened, one line each."""
    lines: list[str] = []
    world = World(case.seed, steps=case.steps, trace=lines, left_out=case.left_out, **case.forced)
    verdict = None
    with quickly(), contextlib.redirect_stderr(io.StringIO()):
        try:
            world.run()
        except Violation as error:
            verdict = str(error)
        except Exception:  # noqa: BLE001 - a fault of the code under test is shown whole
            verdict = traceback.format_exc()
    return world, verdict, lines


def trace(seed: int, *, steps: int | None = None, **forced: Any) -> tuple[str, str | None]:
    """Play one seed again, and tell all that happened."""
    world, verdict, lines = _told(Case(seed=seed, forced=forced, steps=steps))
    return f"seed {seed}: {world.cfg}\n" + "\n".join(lines), verdict
