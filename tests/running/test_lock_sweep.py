"""Lock files that no run needs any more go; none goes that a run may still need."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from chronos_cli.running.lock import LEFTOVER_AGE_S, RunLock, sweep_locks
from chronos_cli.running.lock_place import LockPlace


@pytest.fixture
def places(tmp_path):
    return LockPlace(tmp_path, lambda: "id")


def left(places, run_id, *, age=2 * LEFTOVER_AGE_S):
    """A lock file that its owner has let go of, so long ago."""
    lock = RunLock.acquire(places, "a.b", run_id)
    path = lock.path
    lock.release(keep=True)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def test_what_no_run_needs_is_removed(places):
    """Free for an hour, and of a run that is over."""
    path = left(places, "r1")
    asked = []
    sweep_locks(places, lambda *run: asked.append(run) or False)
    assert asked == [("a.b", "r1")]
    assert not os.path.lexists(path)


def test_what_a_run_needs_stays(places, tmp_path):
    """In hand, held, young, or no file of ours."""
    in_hand = left(places, "r1")
    young = left(places, "r2", age=LEFTOVER_AGE_S / 2)
    held = RunLock.acquire(places, "a.b", "r3")
    then = time.time() - 2 * LEFTOVER_AGE_S
    os.utime(held.path, (then, then))
    folder = tmp_path / "cron/locks"
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("nowhere")
    sweep_locks(places, lambda _, run_id: run_id == "r1")
    for path in (in_hand, young, held.path, folder / "sub", folder / "pipe", folder / "link"):
        assert os.path.lexists(path), path
    held.release()


def test_one_whose_note_is_torn_stands_for_no_run(places):
    """No row can find it; it goes as well."""
    path = left(places, "r1")
    with Path(path).open("r+b") as file:
        file.write(b"\0" * 1024)
    then = time.time() - 2 * LEFTOVER_AGE_S
    os.utime(path, (then, then))
    sweep_locks(places, lambda *_: False)
    assert not os.path.lexists(path)


def test_the_end_of_a_run_sweeps(tmp_path):
    """The real thing: a fire after which the leftover of a pruned run is gone."""
    from chronos_cli.operations.firing.launchers import InlineLauncher
    from chronos_cli.operations.firing.tick import tick
    from tests.faults.world import World

    world = World(tmp_path)
    places = LockPlace(world.home, lambda: "id")
    gone = left(places, "20200101T000000Z")
    tick(world.context(), InlineLauncher())
    assert not os.path.lexists(gone)
