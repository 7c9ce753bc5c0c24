"""`python -m tests.mutations`: change core and the fire path, one slip of the pen at a time, and count what notices it.

Mutants are drawn by `--seed`, each by itself: what changes elsewhere leaves a draw as it is. Each is tried by the tests that
run its very line, the cheapest first, and by some schedules of the simulation. What survives must stand in `survivors.txt`
with the reason; a reason whose mutant is no more fails, and one whose mutant is noticed now is named. Exit 1 also where less
than `--least` percent were noticed or explained, or, with `--strict`, a survivor has no reason.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.mutations.making import Mutant, mutants
from tests.mutations.targets import ROOT, TARGETS, TESTS, UNIT
from tests.mutations.trying import SIMULATION, WATCHES_S, Child, Trier, watched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EXPLAINED = Path(__file__).with_name("survivors.txt")


def main() -> int:
    """Parse, try, sum up."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--count", type=int, default=240, help="so many mutants (240)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--seen", type=Path, help="a file for what each test runs: what it lacks is watched, and written into it"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="a file for what was noticed: what stands there is not tried again; the rest is added",
    )
    parser.add_argument(
        "--only", action="append", default=[], help="only mutants whose text has this, or one of these if given again"
    )
    parser.add_argument("--again", type=Path, help="only mutants that stand in this file, as they are printed")
    parser.add_argument("--least", type=float, default=95.0, help="percent that must be noticed or explained (95)")
    parser.add_argument("--strict", action="store_true", help="every survivor needs a reason")
    parser.add_argument("--short", action="store_true", help="the cheap tests and few schedules alone")
    parser.add_argument(
        "--unit",
        action="store_true",
        help="the tests of single rules alone, without the simulation: what they notice is the least",
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no mutant after so long")
    parser.add_argument("--at-once", type=int, default=2, help="so many mutants at a time (2)")
    given = parser.parse_args()
    every = {mutant.key: mutant for file in TARGETS for mutant in mutants(ROOT, file)}
    explained = reasons()
    if gone := sorted(explained.keys() - every.keys()):
        print(*("a reason for what is no more: " + "\n".join(key) for key in gone), sep="\n\n")
        return 1
    named = given.again.read_text(encoding="utf-8") if given.again else None
    chosen = [
        mutant
        for mutant in every.values()
        if (not given.only or any(part in str(mutant) for part in given.only))
        and (named is None or str(mutant) in named)
    ]
    chosen = sorted(chosen, key=lambda mutant: random.Random(f"{given.seed} {mutant.key}").random())[: given.count]
    unshrunk = [phase for phase in hypothesis.Phase if phase not in (hypothesis.Phase.shrink, hypothesis.Phase.explain)]
    hypothesis.settings.register_profile("mutations", derandomize=True, database=None, deadline=None, phases=unshrunk)
    hypothesis.settings.load_profile("mutations")
    run = _Run(given, chosen, explained)
    wanted = "not soak and not bench and not interop and not service"
    options = ["-q", "-s", "-o", "addopts=", "-m", wanted, "-p", "no:cacheprovider", "-p", "no:xdist"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    pytest.main(
        [*options, "--rootdir", str(ROOT), *(str(ROOT / test) for test in (UNIT if given.unit else TESTS))],
        plugins=[run],
    )
    return run.exit_code


class _Run:
    """A plug-in of pytest that tries mutants instead of tests, once those are collected."""

    def __init__(self, given: argparse.Namespace, chosen: Sequence[Mutant], explained: Mapping[tuple, str]) -> None:
        self.given, self.chosen, self.explained = given, chosen, explained
        self.exit_code = 1

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try them all, and say what came of it."""
        import tests.sim.play
        import tests.sim.sabotage  # noqa: F401 - so that every fork has it

        folder = Path(tempfile.mkdtemp(prefix="mutations-"))
        folder.chmod(0o755)
        try:
            self.exit_code = self._tried({item.nodeid: item for item in session.items}, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _tried(self, items: Mapping[str, Any], folder: Path) -> int:
        found = self._seen(items, folder)
        if found is None or found.get("simulation"):
            print(f"without any change something fails already: {found and found['simulation']}")
            return 1
        if self.given.unit:
            found["seen"].pop(SIMULATION, None)
        for name in found["failed"]:
            print(f"fails without any change, and is left out: {name}")
        known = self._known()
        trier, began = Trier(items, found.pop("seen"), TARGETS, folder, thorough=not self.given.short), time.monotonic()
        verdicts, tried, waiting = [], 0, [mutant for mutant in self.chosen if mutant.key not in known]
        minutes = self.given.minutes or float("inf")
        in_time = (mutant for mutant in waiting if time.monotonic() - began < minutes * 60)
        for verdict in trier.verdicts(in_time, self.given.at_once):
            tried += 1
            by = verdict.by or ("nothing" if verdict.reached else "nothing, and nothing runs it")
            print(f"{verdict.seconds:5.1f} s  {verdict.mutant}\n  line {verdict.mutant.line}: {by}\n", flush=True)
            if verdict.by is None:
                verdicts.append((verdict.mutant, verdict.reached))
                continue
            known[verdict.mutant.key] = verdict.by
            if self.given.results:
                with self.given.results.open("a", encoding="utf-8") as file:
                    print(json.dumps([*verdict.mutant.key, verdict.by]), file=file)
        return self._summed_up(known, verdicts, (time.monotonic() - began) / max(1, tried))

    def _seen(self, items: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
        file = self.given.seen or folder / "seen.json"
        known: dict[str, Any] = (
            json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"seen": {}, "failed": []}
        )
        lacking = {
            name: item for name, item in items.items() if name not in known["seen"] and name not in known["failed"]
        }
        plays = not self.given.unit and "simulation" not in known
        if lacking or plays:
            print("watching which tests run which lines", flush=True)

            def work(say: Any) -> None:
                more = watched(lacking, TARGETS, simulates=plays)
                more["seen"], more["failed"] = known["seen"] | more["seen"], known["failed"] + more["failed"]
                file.write_text(json.dumps(known | more), encoding="utf-8")
                say("done")

            said = Child(folder / "watched", work, computes_s=WATCHES_S).result()
            if said != "done":
                print(f"the tests could not be watched: {said}")
                return None
            known = json.loads(file.read_text(encoding="utf-8"))
        return known

    def _known(self) -> dict[tuple[str, ...], str]:
        """Return what was noticed in an earlier run."""
        file, chosen = self.given.results, {mutant.key for mutant in self.chosen}
        lines = file.read_text(encoding="utf-8").splitlines() if file and file.exists() else []
        return {tuple(key): by for *key, by in map(json.loads, lines) if tuple(key) in chosen}

    def _summed_up(
        self, dead: Mapping[tuple[str, ...], str], alive: Sequence[tuple[Mutant, bool]], seconds: float
    ) -> int:
        for key in sorted(dead.keys() & self.explained.keys()):
            print("\n".join(("noticed now, and explained as a survivor:", *key, "")))
        unexplained = [(mutant, reached) for mutant, reached in alive if mutant.key not in self.explained]
        for mutant, reached in unexplained:
            print(
                f"survives without a reason{'' if reached else ', and nothing runs it'} (line {mutant.line}):\n{mutant}\n"
            )
        number = max(1, len(dead) + len(alive))
        explained = len(alive) - len(unexplained)
        rate = 100.0 * (len(dead) + explained) / number
        print(f"{number} mutants, {seconds:.1f} s each: {len(dead)} noticed ({100.0 * len(dead) / number:.1f} %), {explained} explained "
              f"(together {rate:.1f} %), {len(unexplained)} survive without a reason, "
              f"{sum(not reached for _, reached in unexplained)} of which nothing runs")  # fmt: skip
        played = sum(by.startswith(SIMULATION) for by in dead.values())
        ended = sum("::" not in by and not by.startswith(SIMULATION) for by in dead.values())
        print(
            f"noticed by a test: {len(dead) - played - ended}, by the simulation alone: {played}, because they hang or end the process: {ended}"
        )
        return 1 if rate < self.given.least or (self.given.strict and unexplained) else 0


def reasons() -> dict[tuple[str, str, str, str], str]:
    """Return what stands in the file of survivors: for each mutant's file, function, old and new text, why it may live."""
    found = {}
    for block in EXPLAINED.read_text(encoding="utf-8").split("\n\n"):
        lines = block.strip().splitlines()
        if lines and not lines[0].startswith("#"):
            place, old, new, reason = lines
            file, where = place.split(" ")
            found[file, where, old.removeprefix("- "), new.removeprefix("+ ")] = reason.removeprefix("# ")
    return found


if __name__ == "__main__":
    sys.exit(main())
