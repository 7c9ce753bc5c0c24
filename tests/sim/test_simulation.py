"""The protocol under every crash and fault that the simulation knows, over the real operations and documents."""

import os

from tests.sim.play import play, trace

COUNT = int(os.environ.get("CHRONOS_SIM_COUNT", "300"))


def test_no_schedule_breaks_a_promise():
    """Nothing starts twice, nothing stays without an end, no live job without a wake, and the store always reads."""
    played = play(0, COUNT)
    if played.failures:
        seed, verdict = played.failures[0]
        story, _ = trace(seed)
        raise AssertionError(f"{verdict}\n{story}\nagain with: python -m tests.sim --seed {seed}")
    assert played.schedules == COUNT
    for (family, name), number in sorted(played.covered.items()):
        print(f"{number:9} {family}: {name}")
