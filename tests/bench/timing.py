"""Timing whole processes, fairly: every arm once per round, in turn, so that all of them meet the same machine.

A figure is the median over the rounds. A ratio is the median of the ratios within each round: what slows the machine
for a while slows both sides of it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


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


def measure(arms: Sequence[Arm], rounds: int, *, warmup: int = 1) -> dict[str, Samples]:
    """Run every arm once per round, in turn; the first `warmup` rounds are not counted. Raises RuntimeError."""
    found = {arm.name: Samples() for arm in arms}
    for number in range(-warmup, rounds):
        for arm in arms:
            if arm.prepare is not None:
                arm.prepare()
            run = once(arm)
            if arm.check is not None:
                arm.check(run)
            if number >= 0:
                found[arm.name].runs.append(run)
    return found


def once(arm: Arm) -> Run:
    """Start one command with nothing on stdin and its output in a file, and wait for it. Raises RuntimeError."""
    output = os.memfd_create("output") if hasattr(os, "memfd_create") else _nameless()
    nothing = os.open(os.devnull, os.O_RDONLY)
    actions = [(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    try:
        started_ns, begin = time.time_ns(), time.perf_counter()
        pid = os.posix_spawn(arm.argv[0], list(arm.argv), dict(arm.env), file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - begin
        os.lseek(output, 0, os.SEEK_SET)
        text = b"".join(iter(lambda: os.read(output, 1 << 16), b""))
    finally:
        os.close(output)
        os.close(nothing)
    code = os.waitstatus_to_exitcode(status)
    if code not in arm.codes:
        raise RuntimeError(f"{arm.name} ended with {code}: {text.decode(errors='replace')[-600:]}")
    # Linux counts in kibibytes, macOS in bytes.
    peak = usage.ru_maxrss * (1024 if os.uname().sysname == "Linux" else 1)
    return Run(wall=wall, cpu=usage.ru_utime + usage.ru_stime, peak=peak, started_ns=started_ns, output=text)


def _nameless() -> int:
    import tempfile

    fd, name = tempfile.mkstemp()
    Path(name).unlink()
    return fd
