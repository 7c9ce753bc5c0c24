"""The protocol under every fault that can be thought of, by the thousand; and the checker without each of its rules.

A failure prints a seed: `python -m tests.sim --seed N` tells the story of that schedule. CHRONOS_SIM_SCHEDULES sets how
many the default run plays (2,000), CHRONOS_SIM_SOAK how many the soak does
(a million), CHRONOS_SIM_SEED where that begins.

What the protocol survives is played one by one, and in twos and threes where the pair can be survived at all:

- a NAS whose 2xx clears the slot is played with detached runners only, since nothing else can provision after an
  answer; where such an answer had no runner of its own, the next reconcile has to mend it, and the chain is excused
- a NAS that ignores past instants while saying yes is played with clocks that agree, and without one that runs ahead
- a NAS that remembers keys for ever is not paired with one that clears, or retakes, the slot those keys were for
- fires that name no instant are not paired with such keys, with a NAS clock ahead of ours, nor with clocks that jump:
  before the instant by our clock they read as duplicates
- clocks of two machines differ by at most 40 s, which the lease's margin covers; one machine's clock jumps by hours

Likewise only reconcile mends what a killed or failing command, runner or tick left undone between its own two writes.
"""

from __future__ import annotations

import os
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from chronos_cli.core.decision import Outcome
from tests.sim.nas import CHARACTERS
from tests.sim.play import Played, play, trace
from tests.sim.sabotage import RULES, WORLDS, without

EFFECTS = (
    "create row",
    "replace row",
    "replace jobs",
    "replace arm",
    "nas provision",
    "nas cancel",
    "nas list",
    "process start",
    "runner start",
    "answer",
)
STORE_FAULTS = ("answer lost", "conflict", "conflict out of nothing", "read fails", "write fails", "lock timeout")
NAS_FAULTS = ("answer lost", "call lost", "down", "drops", "waits no longer", "delivers again", "past fires at once")
ANSWERS = (
    "claimed, detached",
    "claimed, waited, exit 0",
    "claimed, waited, exit 10",
    "its wake",
    "no runner",
    "arm: refused",
)
CHUNK = 250


def expected() -> set[tuple[str, str]]:
    """Everything that a run has to have reached: rows of the table, crash points, characters and faults."""
    wanted = {("outcome", outcome.value) for outcome in set(Outcome) - {Outcome.PROBE}} | {
        ("outcome", answer) for answer in ANSWERS
    }
    wanted |= {(f"crash {side}", effect) for side in ("before", "after") for effect in EFFECTS}
    wanted |= {("nas", name) for name in (*CHARACTERS, *NAS_FAULTS, "older generation refused")}
    wanted |= {("store", fault) for fault in STORE_FAULTS}
    wanted |= {("clock", way) for way in ("back", "ahead")}
    wanted |= {("liveness", seen) for seen in ("alive", "dead", "unseen", "leftover killed")}
    return wanted | {
        ("row", state) for state in ("ok", "failed", "timeout", "interrupted", "lost", "skipped", "missed", "queued")
    }


def play_wide(first: int, count: int) -> Played:
    """Play on two processors; prints what was reached, and the story of the first failure."""
    total = Played()
    starts = range(first, first + count, CHUNK)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for part in pool.map(play, starts, [min(CHUNK, first + count - start) for start in starts]):
            total.add(part)
            if total.failures:
                pool.shutdown(cancel_futures=True)
                break
    for (family, name), number in sorted(total.covered.items()):
        print(f"{number:9} {family}: {name}")
    print(f"{total.schedules} schedules from seed {first}, {total.steps} steps, {total.seconds:.0f} s of one processor")
    for seed, verdict in total.failures[:1]:
        story, _ = trace(seed)
        pytest.fail(f"{verdict}\n{story}\nplay it again: python -m tests.sim --seed {seed}", pytrace=False)
    return total


def test_the_protocol_holds_in_every_schedule_and_every_corner_was_visited():
    """Thousands of random schedules break no promise, and together they reach every row, crash point and character."""
    total = play_wide(0, int(os.environ.get("CHRONOS_SIM_SCHEDULES", "2000")))
    assert total.steps >= 20 * total.schedules
    missing = sorted(expected() - set(total.covered))
    assert not missing, f"never reached: {missing}"


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_checker_notices_when_a_rule_is_taken_out(rule):
    """Without one rule of the protocol, and with all others in place, a promise is seen to break."""
    with without(rule):
        failures = play(0, 300, **WORLDS.get(rule, {})).failures
    assert failures, f"nothing was noticed without the {rule}"
    assert failures[0][1].startswith("Violation"), failures


def test_a_seed_tells_the_same_story_twice():
    """A schedule depends on its seed alone, so that a failure can be played again."""
    assert trace(12) == trace(12)


@pytest.mark.soak
def test_the_protocol_holds_for_a_million_schedules():
    """Other schedules each time: the seed is printed, and can be given."""
    first = int(os.environ.get("CHRONOS_SIM_SEED", random.SystemRandom().randrange(10**9)))
    print(f"CHRONOS_SIM_SEED={first}")
    play_wide(first, int(os.environ.get("CHRONOS_SIM_SOAK", "1000000")))
