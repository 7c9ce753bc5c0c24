"""`python -m tests.sim --seed N` tells all that happens in one schedule, and with `--explain` the short story of a failure.

`--count N` plays many from `--start` on and prints what they reached; with `--resume FILE` what was played so far is kept
there after each part, with its commit, seeds and failures, and the same command goes on from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.sim.play import Played, explained, play_wide, trace

PART = 5_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", "--start", type=int, default=0, help="the first (0)")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--steps", type=int, help="so many in each schedule (as its seed has it)")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many (1)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--explain", action="store_true", help="make a failure short, and tell it in words")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep what was played there, and go on from it")
    given = parser.parse_args()
    if given.count == 1:
        story, verdict = (explained if given.explain else trace)(given.seed, steps=given.steps)
        print(story)
        print(f"\n{'FAILED: ' + verdict if verdict else 'held'}")
        return 1 if verdict else 0
    played = Played()
    if given.resume is not None and given.resume.exists():
        found = json.loads(given.resume.read_text(encoding="utf-8"))
        if (found.pop("first"), found.pop("commit")) != (given.seed, commit()):
            parser.error(f"{given.resume} is of other seeds, or of another commit: name another file")
        played = _read(found)
    while played.schedules < given.count and len(played.failures) < given.failures:
        first, part = given.seed + played.schedules, min(PART, given.count - played.schedules)
        left = given.failures - len(played.failures)
        part = part if given.resume is not None else given.count
        played.add(play_wide(first, part, processes=given.processes, steps=given.steps, stop_at=left))
        if given.resume is not None:
            _write(given.resume, played, given.seed)
    print(played.report())
    for seed, verdict in played.failures:
        print(f"seed {seed}: {verdict}")
    if given.explain and played.failures:
        print(explained(played.failures[0][0], steps=given.steps)[0])
    return 1 if played.failures else 0


def commit() -> str:
    """The commit that is played, with a plus where files differ from it."""
    here = Path(__file__).parent
    said = [
        subprocess.run(["git", *asked], cwd=here, capture_output=True, text=True, check=False).stdout.strip()
        for asked in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    ]
    return said[0] + ("+" if said[1] else "")


def _read(found: dict[str, Any]) -> Played:
    del found["last"]
    covered = Counter({tuple(name.split(": ", 1)): number for name, number in found.pop("covered").items()})
    failures = [(seed, verdict) for seed, verdict in found.pop("failures")]
    return Played(covered=covered, failures=failures, **found)


def _write(file: Path, played: Played, first: int) -> None:
    covered = {": ".join(name): number for name, number in sorted(played.covered.items())}
    found = {"commit": commit(), "first": first, "last": first + played.schedules - 1, "failures": played.failures,
             "schedules": played.schedules, "steps": played.steps, "seconds": played.seconds, "wall": played.wall,
             "covered": covered}  # fmt: skip
    beside = file.with_name(file.name + ".new")
    beside.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    beside.replace(file)


if __name__ == "__main__":
    sys.exit(main())
