"""`python -m tests.sim --seed N` tells the story of one schedule; `--count N` plays many and prints what they reached."""

from __future__ import annotations

import argparse
import sys

from tests.sim.play import play_wide, trace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--steps", type=int, help="so many in each schedule (as its seed has it)")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many (1)")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    if given.count == 1:
        story, verdict = trace(given.seed, steps=given.steps)
        print(story)
        print(f"\n{'FAILED: ' + verdict if verdict else 'held'}")
        return 1 if verdict else 0
    played = play_wide(given.seed, given.count, processes=given.processes, steps=given.steps, stop_at=given.failures)
    print(played.report())
    for seed, verdict in played.failures:
        print(f"seed {seed}: {verdict}")
    return 1 if played.failures else 0


if __name__ == "__main__":
    sys.exit(main())
