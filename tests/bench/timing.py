"""Timing whole processes, fairly: every arm once per round, in turn, so that all of them meet the same machine.

A figure is the median over the rounds. A ratio is the median of the ratios within each round: what slows the machine
for a while slows both sides of it.
"""

from __future__ import annotations

import marshal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BARS_OF_MS = 82.0
"""Time that importing typer and PyJWT takes on the machine whose bars in seconds and milliseconds these are."""


def judged(bar_s: float | None, took_s: float, ratio: float) -> str:
    """A bar in seconds, and as a multiple of that import, each with whether a command meets it that took so long here."""
    if bar_s is None:
        return ""
    most = 1000 * bar_s / BARS_OF_MS
    return f"{bar_s:g} s: {verdict(took_s <= bar_s)}; {most:.1f} x: {verdict(ratio <= most)}"


def verdict(met: bool) -> str:
    """Whether a bar is met, in words."""
    return "met" if met else "NOT MET"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One command to be timed. `prepare` runs before each start, untimed; `check` after it, with the Run."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    prepare: Callable[[], None] | None = None
    check: Callable[[Run], None] | None = None
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: wall and CPU seconds, peak memory in bytes, and when it started (Unix nanoseconds)."""

    wall: float
    cpu: float
    peak: int
    started_ns: int
    output: bytes


@dataclass(kw_only=True)
class Samples:
    """All runs of one arm, one for each round."""

    runs: list[Run] = field(default_factory=list)

    @property
    def wall_ms(self) -> float:
        """Median wall time in milliseconds."""
        return 1000 * median(run.wall for run in self.runs)

    @property
    def cpu_ms(self) -> float:
        """Median CPU time (user and system) in milliseconds."""
        return 1000 * median(run.cpu for run in self.runs)

    @property
    def peak_mib(self) -> float:
        """Median peak memory in MiB."""
        return median(run.peak for run in self.runs) / 2**20

    def ratio(self, other: Samples) -> float:
        """Median of the wall-time ratios to another arm, round by round."""
        return median(mine.wall / theirs.wall for mine, theirs in zip(self.runs, other.runs, strict=True))

    def cpu_ratio(self, other: Samples) -> float:
        """The same of CPU time, which says more than wall time while others use the machine."""
        return median(mine.cpu / theirs.cpu for mine, theirs in zip(self.runs, other.runs, strict=True))


class Stopwatch:
    """Starts and times commands, through a small process of its own. Used as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "output"
        program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]
        self._launcher = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._launcher.communicate()

    def measure(self, arms: Sequence[Arm], rounds: int, *, warmup: int = 1) -> dict[str, Samples]:
        """Run every arm once per round, in turn; the first `warmup` rounds are not counted. Raises RuntimeError."""
        found = {arm.name: Samples() for arm in arms}
        for number in range(-warmup, rounds):
            for arm in arms:
                run = self.once(arm)
                if number >= 0:
                    found[arm.name].runs.append(run)
        return found

    def once(self, arm: Arm) -> Run:
        """Prepare and start one command with nothing on stdin, wait for it and check it. Raises RuntimeError."""
        if arm.prepare is not None:
            arm.prepare()
        stdin, stdout = self._launcher.stdin, self._launcher.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(marshal.dumps((list(arm.argv), dict(arm.env), str(self._output))))
        stdin.flush()
        code, wall, cpu, peak, started_ns = marshal.load(stdout)
        output = self._output.read_bytes()
        if code not in arm.codes:
            raise RuntimeError(f"{arm.name} ended with {code}: {output.decode(errors='replace')[-600:]}")
        run = Run(wall=wall, cpu=cpu, peak=peak, started_ns=started_ns, output=output)
        if arm.check is not None:
            arm.check(run)
        return run
