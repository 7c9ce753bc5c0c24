"""`python -m tests.mutations`: change core and the fire path, one slip of the pen at a time, and count what notices it.

Mutants are drawn by `--seed`, so many from each module as it has. Each is tried by the tests that run its very line, the
cheapest first, and by some schedules of the simulation. What survives must stand in `survivors.txt` with the reason;
a reason for what does not survive any more is named too. Exit 1 where less than `--least` percent were noticed, or, with
`--strict`, a survivor has no reason.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.mutations.making import Mutant, mutants
from tests.mutations.targets import ROOT, TARGETS, TESTS
from tests.mutations.trying import Verdict, attempt, ready

EXPLAINED = Path(__file__).with_name("survivors.txt")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--count", type=int, default=240, help="so many mutants (240)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--seen", type=Path, help="a file for what each test runs: read where it is there, else written"
    )
    parser.add_argument("--only", default="", help="only mutants whose line of text has this")
    parser.add_argument("--least", type=float, default=95.0, help="percent that must be noticed (95)")
    parser.add_argument("--strict", action="store_true", help="every survivor needs a reason")
    parser.add_argument("--short", action="store_true", help="the cheap tests and few schedules alone")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no mutant after so long")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ready():
        seen = json.loads(_seen(given.seen or Path(folder, "seen.json")).read_text(encoding="utf-8"))
        chosen = drawn(given.count, given.seed, given.only)
        began, verdicts = time.monotonic(), []
        same = replace(chosen[0], after=chosen[0].before)
        control = attempt(same, _tests_of(same, seen), thorough=not given.short)
        if control.by is not None:
            print(f"without any change something fails already: {control.by}")
            return 1
        for mutant in chosen:
            if given.minutes and time.monotonic() - began > given.minutes * 60:
                break
            verdicts.append(attempt(mutant, _tests_of(mutant, seen), thorough=not given.short))
            _tell(verdicts[-1])
    return _summed_up(verdicts, time.monotonic() - began, given.least, strict=given.strict)


def drawn(count: int, seed: int, only: str = "") -> list[Mutant]:
    """So many mutants, in no order that means anything; the same ones for the same seed and text."""
    every = [mutant for file in TARGETS for mutant in mutants(ROOT, file) if only in str(mutant)]
    return random.Random(seed).sample(every, min(count, len(every)))


def _seen(file: Path) -> Path:
    if not file.exists():
        print("watching which tests run which lines", flush=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-n",
            "0",
            "-p",
            "tests.mutations.seen",
            "--seen",
            str(file),
            *TESTS,
        ]
        subprocess.run(command, cwd=ROOT, check=True)
    return file


def _tests_of(mutant: Mutant, seen: dict) -> list[tuple[float, str]]:
    """The tests that run the line of a mutant, cheapest first; of what is run by an import, those that run its module."""
    of_line = [(seconds, name) for name, (seconds, lines) in seen.items() if [mutant.file, mutant.line] in lines]
    of_file = [
        (seconds, name) for name, (seconds, lines) in seen.items() if any(file == mutant.file for file, _ in lines)
    ]
    return sorted(of_line or of_file)


def _tell(verdict: Verdict) -> None:
    print(f"{'killed  ' if verdict.by else 'SURVIVED'} {verdict.seconds:5.1f} s  {verdict.mutant}"
          f"{f'  [{verdict.by}]' if verdict.by else f' (line {verdict.mutant.line})'}", flush=True)  # fmt: skip


def reasons() -> dict[str, str]:
    """What stands in the file of survivors: a mutant's text and, behind ` # `, why it may live."""
    lines = EXPLAINED.read_text(encoding="utf-8").splitlines()
    split = (line.split("  # ", 1) for line in lines if line and not line.startswith("#"))
    return {mutant.strip(): reason for mutant, reason in split}


def _summed_up(verdicts: list[Verdict], seconds: float, least: float, *, strict: bool) -> int:
    explained = reasons()
    alive = [str(verdict.mutant) for verdict in verdicts if verdict.by is None]
    dead = [str(verdict.mutant) for verdict in verdicts if verdict.by is not None]
    rate = 100.0 * len(dead) / max(1, len(verdicts))
    for name in sorted(set(dead) & explained.keys()):
        print(f"noticed now, and explained as a survivor: {name}")
    unexplained = [name for name in alive if name not in explained]
    for name in unexplained:
        print(f"survives without a reason: {name}")
    print(f"{len(dead)} of {len(verdicts)} mutants were noticed, {rate:.1f} %, in {seconds:.0f} s; "
          f"{len(alive) - len(unexplained)} survivors are explained")  # fmt: skip
    return 1 if rate < least or (strict and unexplained) else 0


if __name__ == "__main__":
    sys.exit(main())
