"""One fault at every single write of a fire, a tick and a reconcile.

However the disk refuses, each occurrence ends on one row, runs at most once, and the next of these finds nothing stuck.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pytest

from chronos_cli.core.policy import OnCrash
from chronos_cli.errors import ChronosError
from chronos_cli.operations.arming.reconcile import reconcile
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.tick import tick
from chronos_cli.running import liveness
from tests.conftest import at_length, thoroughly
from tests.faults.world import Faults, Full, ReadOnly, World, failing, once

MEMORY = "/dev/shm"
LEASE_S = 120
"""More than the timeout of the jobs and what is added to it."""


@pytest.fixture
def folder():
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="chronos-faults-", dir=place) as made:
        yield Path(made)


def do(kind, world):
    """One process: what it raises must be of the one family. The reports of runs are not looked at."""
    ctx = world.context()
    try:
        if kind == "fire":
            fire(ctx, "a", fire_at=world.due, delivery="1", launcher=InlineLauncher())
        elif kind == "tick":
            tick(ctx, InlineLauncher())
        else:
            reconcile(ctx)
    except ChronosError as error:
        return error
    return None


def prepared(folder, kind, on_crash=OnCrash.RERUN):
    """A home in which the operation has something to write: an occurrence that is due, or a day of missed ones."""
    world = World(folder, on_crash=on_crash)
    world.due = world.cursor("a")
    world.instants = [world.due]
    if kind == "reconcile":
        world.moved += timedelta(days=2)
    return world


def settle(world, kind, *, unlink_fails=False, unsaid="ok"):
    """What comes after the fault, with the disk in order again: the next of these, and the next occurrence."""
    world.sleep(2)
    do("tick" if kind == "reconcile" else kind, world)
    world.sleep(2)
    do("tick", world)
    before = world.rows("a")
    running = [at for at, row in before.items() if not row.terminal]
    assert running == [], {at: before[at].state for at in running}
    following = world.cursor("a")
    world.moved += following - world.clock() + timedelta(seconds=1)
    do("tick", world)
    world.judge("a", [*(at for at in world.instants if at in world.rows("a")), following], unsaid=unsaid)
    assert world.rows("a")[following].state.value == "ok", world.rows("a")[following]
    if kind != "reconcile":
        world.judge("a", world.instants, unsaid=unsaid)
    left = [path for path in (world.home / "cron/locks").rglob("*") if path.is_file()]
    assert left == [] or unlink_fails, left


def writes_of(folder, kind):
    """How many writes an undisturbed one makes."""
    world = prepared(folder, kind)
    with failing(Faults(world.folder)) as faults:
        assert do(kind, world) is None
    settle(world, kind)
    return faults.seen


@pytest.mark.parametrize("step", [thoroughly(3, 13), pytest.param(1, marks=pytest.mark.soak)], ids=["some", "each"])
@pytest.mark.parametrize("kind", ["fire", "tick", "reconcile"])
def test_no_fault_at_any_write_loses_doubles_or_blocks_an_occurrence(folder, kind, step, monkeypatch):
    """Each write in turn fails (some of them, where there is little time), each in another of its ways; afterwards the disk is in order again."""
    monkeypatch.setattr(liveness, "END_WITHIN_S", 0.02)  # this very process supervises, and so outlives its runs
    (folder / "count").mkdir()
    seen = writes_of(folder / "count", kind)
    assert len(seen) > 20
    bad = []
    for at, name in list(enumerate(seen))[::step]:
        place = folder / str(at)
        place.mkdir()
        world = prepared(place, kind)
        with failing(Faults(world.folder, once(at, at))):
            trouble = do(kind, world)
        try:
            settle(world, kind, unlink_fails=name == "unlink")
        except AssertionError as error:
            bad.append(f"{name}, number {at} of {len(seen)} ({trouble}): {str(error)[:400]}")
        shutil.rmtree(place)
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    "step", [thoroughly(9, 34), pytest.param(at_length(1, 4), marks=pytest.mark.soak)], ids=["some", "each"]
)
@pytest.mark.parametrize("disk", [Full, ReadOnly])
@pytest.mark.parametrize("kind", ["fire", "tick", "reconcile"])
def test_a_disk_that_stays_full_or_read_only_ends_what_meets_it(folder, kind, disk, step, monkeypatch):
    """From each write on everything fails: it ends soon, in one of our errors, and with room again nothing is stuck.

    A disk that takes nothing back at all holds whoever has the only copy of a run's result, until the lease ends; then
    the run is lost, and whether that is run again is the job's own choice.
    """
    on_crash, unsaid = (OnCrash.RERUN, "ok") if disk is Full else (OnCrash.SKIP, "lost")
    monkeypatch.setattr(liveness, "END_WITHIN_S", 0.02)
    (folder / "count").mkdir()
    seen = writes_of(folder / "count", kind)
    bad = []
    for at in range(0, len(seen), step):
        place = folder / str(at)
        place.mkdir()
        world = prepared(place, kind, on_crash)
        began, moved = time.monotonic(), world.moved
        with failing(Faults(world.folder, disk(at))) as faults:
            trouble = do(kind, world)
        took, waited = time.monotonic() - began, (world.moved - moved).total_seconds()
        try:
            assert took < 20
            assert len(faults.seen) < 3 * len(seen) + 100, f"it tried {len(faults.seen)} writes"
            assert waited < (8 if disk is Full else LEASE_S), f"it waited {waited} s"
            settle(world, kind, unlink_fails=True, unsaid=unsaid)
        except AssertionError as error:
            bad.append(f"{seen[at]}, from number {at} of {len(seen)} on ({trouble}): {str(error)[:400]}")
        shutil.rmtree(place)
    assert not bad, "\n".join(bad)
