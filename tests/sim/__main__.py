"""`python -m tests.sim --seed N` tells the story of one schedule; `--count N` plays many and prints what they reached."""

from __future__ import annotations

import argparse
import sys

from tests.sim.play import STEPS, play, trace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--failures", type=int, default=1)
    given = parser.parse_args()
    if given.count == 1:
        story, verdict = trace(given.seed, steps=given.steps)
        print(story)
        print(f"\n{'FAILED: ' + verdict if verdict else 'held'}")
        return 1 if verdict else 0
    played = play(given.seed, given.count, steps=given.steps, stop_at=given.failures)
    for (family, name), number in sorted(played.covered.items()):
        print(f"{number:9} {family}: {name}")
    for seed, verdict in played.failures:
        print(f"seed {seed}: {verdict}")
    print(f"{played.schedules} schedules, {played.steps} steps, {played.seconds:.1f} s")
    return 1 if played.failures else 0


sys.exit(main())
