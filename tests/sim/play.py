"""Many worlds, one after the other or over processes; what they reached; and the trace of one that failed."""

from __future__ import annotations

import contextlib
import io
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.sim.checks import Violation
from tests.sim.world import World

STEPS = 32


@dataclass(slots=True)
class Played:
    """What came of a range of seeds."""

    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0  # of one processor
    covered: Counter = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Played) -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.seconds += other.seconds
        self.covered.update(other.covered)
        self.failures += other.failures


def play(first: int, count: int, *, steps: int = STEPS, stop_at: int = 1, **forced: Any) -> Played:
    """Play seeds from `first` on; ends early after `stop_at` failures."""
    played = Played()
    start = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        for seed in range(first, first + count):
            world = World(seed, steps=steps, cover=played.covered, **forced)
            try:
                world.run()
            except (Exception, Violation) as error:  # noqa: BLE001 - whatever a world raises is its verdict
                played.failures.append((seed, f"{type(error).__name__}: {error}"))
                if len(played.failures) >= stop_at:
                    break
            played.schedules += 1
            played.steps += world.steps
    played.seconds = time.process_time() - start
    return played


def trace(seed: int, *, steps: int = STEPS, **forced: Any) -> tuple[str, str | None]:
    """Play one seed again, and tell its story."""
    lines: list[str] = []
    world = World(seed, steps=steps, trace=lines, **forced)
    verdict = None
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            world.run()
        except Violation as error:
            verdict = str(error)
        except Exception:  # noqa: BLE001 - a fault of the code under test is shown whole
            verdict = traceback.format_exc()
    return f"seed {seed}: {world.cfg}\n" + "\n".join(lines), verdict
