"""Power cuts of every operation, in process: at each of its writes, whatever subset of what was not synced is kept.

After each the home can be read, what was acknowledged stands, every occurrence ends in one terminal row and none has
run twice. With one kind of sync taken out this fails, for each kind.
"""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from chronos_cli import files
from chronos_cli.core import edits
from chronos_cli.core.decision import FireRequest, Trigger
from chronos_cli.core.policy import OnCrash
from chronos_cli.frozen import replace
from chronos_cli.operations.arming.reconcile import reconcile
from chronos_cli.operations.evaluate import evaluate
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.tick import tick
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.operations.jobs import hold
from chronos_cli.running import liveness, lock, machine, reboot
from chronos_cli.store import atomic
from chronos_cli.store.documents import ASIDE
from chronos_cli.store.local import LocalStore
from tests.conftest import at_length, thoroughly
from tests.faults.world import PERIOD, World
from tests.power.recorded import RecordedDisk, recording, restore

MEMORY = "/dev/shm"
WHOLE = ("nothing", "names", "zeros", "all")
"""What is kept: nothing that was not synced; the names without their data; with zero bytes for data; everything."""


class Died(BaseException):
    """A process dies here."""


@pytest.fixture
def folder():
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="chronos-cuts-", dir=place) as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def boots(monkeypatch):
    """The number of this boot, which a test raises; this machine is none of a container, its disk is built in."""
    boot = ["1"]
    monkeypatch.setattr(machine, "_boot", lambda: boot[0])
    monkeypatch.setattr(reboot, "on_fixed_disk", lambda _: True)
    for module in (lock, reboot):
        monkeypatch.setattr(module, "bare_machine", lambda: "this machine")
    monkeypatch.setattr(liveness, "END_WITHIN_S", 0.02)
    return boot


def claimed_only(world):
    """A process claims what is due, a missed range and a run, and dies before it has made any row."""

    def stop(label):
        if label == "claimed":
            raise Died

    ctx = replace(world.context(), checkpoint=stop)
    with suppress(Died):
        evaluate(ctx, "a", FireRequest(via=Trigger.TICK, token=ctx.token()))
    assert world.record("a")["chronos"]["open"]
    assert world.rows("a") == {}


class Scenario:
    """One operation: what comes before it, and what must hold after it was acknowledged."""

    behind = 0
    """By how many occurrences the job is behind."""

    def before(self, world):
        pass

    def do(self, world):
        raise NotImplementedError

    def stands(self, world):
        """What was acknowledged, looked at right after the cut."""

    def judge(self, world):
        """What else must hold at any cut, once the home has gone on."""


class Firing(Scenario):
    def do(self, world):
        assert fire(
            world.context(), "a", fire_at=world.due, delivery="1", launcher=InlineLauncher()
        ).outcome.value == "claimed"  # fmt: skip

    def stands(self, world):
        assert world.rows("a")[world.due].state.value == "ok"


class FirstFire(Firing):
    """In a home without a folder of rows or locks."""

    def before(self, world):
        assert not (world.home / "cron/runs").exists()


class LaterFire(Firing):
    """In a home where jobs have run before."""

    def before(self, world):
        tick(world.context(), InlineLauncher())
        world.moved += PERIOD
        world.due = world.cursor("a")


class AfterOneThatDied(Firing):
    """In a home where a process died right after it had made the folder of a job's rows."""

    def do(self, world):
        def die(_):
            raise Died

        os.close(files.open_folder(world.home, "cron", "runs", make=True))
        with pytest.MonkeyPatch.context() as patch, suppress(Died):
            patch.setattr(files, "sync_folder", die)
            files.open_folder(world.home, "cron", "runs", "a", make=True)
        super().do(world)


class CatchUp(Scenario):
    behind = 5

    def do(self, world):
        assert tick(world.context(), InlineLauncher()).failed == {}

    def stands(self, world):
        assert len(list(spans_of(world, "a"))) == self.behind + 1
        assert sorted(row.state.value for row in world.rows("a").values()) == ["missed", "ok"]


class Reconciled(Scenario):
    behind = 48

    def do(self, world):
        reconcile(world.context())

    def stands(self, world):
        assert world.rows("a")[world.due].state.value == "missed"


class Owing(Reconciled):
    """A reconcile after a process that died with all that it owed still to be written."""

    behind = 48

    def before(self, world):
        claimed_only(world)


class Torn(CatchUp):
    """A tick that finds a row which cannot be read, in hand: it is made anew, and its bytes are kept."""

    behind = 0

    def before(self, world):
        claimed_only(world)
        ctx = world.context()
        run = world.record("a")["chronos"]["open"][0]["run"]
        ctx.repository.documents.create(f"cron/runs/a/{run}.json", b"\0garbage")

    def stands(self, world):
        assert world.rows("a")[world.due].terminal

    def judge(self, world):
        kept = [path.read_bytes() for path in (world.home / ASIDE).glob("*")]
        assert b"\0garbage" in kept, "what could not be read was written over, and is kept nowhere"


class Added(Scenario):
    def do(self, world):
        jobs.add(world.context(), world.draft("b"))

    def stands(self, world):
        assert world.record("b")["name"] == "b"


class Edited(Scenario):
    def do(self, world):
        jobs.edit(world.context(), "a", edits.Edit(name="another"))

    def stands(self, world):
        assert world.record("a")["name"] == "another"


class Paused(Scenario):
    """Behind, so that what has passed is owed a row."""

    def do(self, world):
        jobs.pause(world.context(), "a")

    def stands(self, world):
        assert world.record("a")["enabled"] is False


class Removed(Scenario):
    behind = 5

    def before(self, world):
        claimed_only(world)

    def do(self, world):
        jobs.remove(world.context(), "a")

    def stands(self, world):
        assert world.record("a") is None

    def judge(self, world):
        if world.record("a") is None:
            assert len(list(spans_of(world, "a"))) == self.behind + 1


class Held(Scenario):
    def do(self, world):
        hold.engage(world.context(), reason="stop")

    def stands(self, world):
        assert world.context().repository.hold(world.clock()).reason == "stop"


class HeldAnew(Held):
    def before(self, world):
        hold.engage(world.context(), reason="before")


class Lifted(Scenario):
    def before(self, world):
        hold.engage(world.context(), reason="stop")

    def do(self, world):
        hold.lift(world.context())

    def stands(self, world):
        assert world.context().repository.hold(world.clock()) is None


SCENARIOS = {
    kind.__name__: kind()
    for kind in (FirstFire, LaterFire, AfterOneThatDied, CatchUp, Reconciled, Owing, Torn, Added, Edited, Paused, Removed, Held, HeldAnew,
                 Lifted)
}  # fmt: skip


def spans_of(world, job_id):
    """Every occurrence of a job's rows, each once for each row that it is in."""
    for row in world.rows(job_id).values():
        assert row.terminal, f"{row.scheduled_at} is {row.state.value}"
        count = row.count or 1
        yield from (row.scheduled_at + PERIOD * n for n in range(count))


def look(world, scenario):
    """The home after a reboot: it can be read, it goes on, and nothing is lost, doubled or stuck."""
    ran = world.diary("a")
    if (world.home / "ESTOP").exists():
        hold.lift(world.context())
    present = world.record("a")
    if present is not None and present["enabled"]:
        assert tick(world.context(), InlineLauncher()).failed == {}
        reconcile(world.context())
        record = world.record("a")
        assert record["chronos"].get("open", []) == []
        through = world.context().repository.jobs().get("a")["chronos"]["claimed_through"]
        found = sorted(spans_of(world, "a"))
        expected = [world.first + PERIOD * n for n in range(len(found))]
        assert found == expected, f"{len(found)} occurrences in rows: {[str(at) for at in found]}"
        assert found[-1].isoformat() == through, f"{through} is claimed, rows reach {found[-1]}"
        # An instant whose key NAS may have dropped meanwhile goes a second later.
        assert world.cursor("a") <= world.nas.held["a"] <= world.cursor("a") + timedelta(seconds=2)
    after = world.diary("a")
    assert len(after) == len(set(after)), f"it ran twice: {after}"
    for at, row in world.rows("a").items():
        assert row.state.value != "ok" or at.isoformat() in after
        assert row.state.value in ("ok", "lost") or at.isoformat() not in ran, f"{at} ran, and is {row.state.value}"
    scenario.judge(world)


def play(folder, scenario):
    """Do it once, recorded. The world, the disk."""
    world = World(folder, on_crash=OnCrash.SKIP)
    world.due = world.first = world.cursor("a")
    world.moved += scenario.behind * PERIOD
    scenario.before(world)
    disk = RecordedDisk(world.home, lambda: world.diary_of("a").read_bytes() if world.diary("a") else b"")
    with recording(disk):
        scenario.do(world)
    return world, disk


def faults_of(world, disk, scenario, boots, *, chances=(), first=False, step=1):
    """Cut the power behind each write (or each `step`th, and the last), in each way; what was wrong after which cut."""
    moved, last = world.moved, len(disk.seen) - 1
    seen, bad = set(), []
    for event in sorted({*range(-1, last + 1, step), last}):
        ways = [*WHOLE, *(random.Random(f"{event}/{n}") for n in chances)]
        for way in ways:
            digest, left, inodes = disk.cut(event, way)
            key = (digest, event == last)
            if key in seen:
                continue
            seen.add(key)
            restore(world.home, left, inodes)
            world.diary_of("a").write_bytes(disk.seen[event][2] if event >= 0 else disk.before)
            world.moved, boots[0] = moved, str(len(seen) + 1)
            world.nas.held.clear()
            try:
                if event == last:
                    scenario.stands(world)
                look(world, scenario)
            except Exception as error:  # noqa: BLE001 - whatever comes of it is the fault that is looked for
                what = f"behind {disk.seen[event][:2]} (event {event} of {last})" if event >= 0 else "before anything"
                bad.append(f"{what}, keeping {way}: {type(error).__name__} {str(error)[:300]}")
                if first:
                    return bad
    return bad


@pytest.mark.parametrize(
    ("chances", "step"),
    [(1, thoroughly(2, 11)), pytest.param(at_length(12, 4), 1, marks=pytest.mark.soak)],
    ids=["few", "many"],
)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_power_cut_at_any_write_leaves_a_home_that_goes_on(folder, boots, name, chances, step):
    """Whatever subset is kept: readable, what was acknowledged stands, one terminal row each, none run twice."""
    world, disk = play(folder, SCENARIOS[name])
    assert disk.syncs
    bad = faults_of(world, disk, SCENARIOS[name], boots, chances=range(chances), step=step)
    assert not bad, "\n".join(bad)


def undurable(verb, of):
    """The store with one kind of write no longer durable: `verb` of the documents whose key begins with `of`."""
    real = getattr(LocalStore, verb)

    def write(self, key, *args, durable=True):
        return real(self, key, *args, durable=durable and not key.startswith(of))

    return LocalStore, verb, write


SYNCS = {
    "rows that are owed": ("CatchUp", undurable("create", "cron/runs/")),
    "the row of a run that starts": ("FirstFire", undurable("create", "cron/runs/")),
    "the row of a run that ends": ("LaterFire", undurable("replace", "cron/runs/")),
    "rows of a job that is removed": ("Removed", undurable("create", "cron/runs/")),
    "rows that a reconcile owes": ("Owing", undurable("create", "cron/runs/")),
    "the jobs": ("Edited", undurable("replace", "cron/jobs.json")),
    "what could not be read": ("Torn", undurable("create", ASIDE)),
    "the row that is made anew": ("Torn", undurable("replace", "cron/runs/")),
    "a hold": ("Held", undurable("create", "ESTOP")),
    "a hold that is changed": ("HeldAnew", undurable("replace", "ESTOP")),
    "a hold that is lifted": ("Lifted", undurable("delete", "ESTOP")),
    "a folder that is made": ("CatchUp", (files, "_made_durable", lambda found, fd: found)),
    "a folder that one who died had made": ("AfterOneThatDied", (files, "_made_durable", lambda found, fd: found)),
    "the bytes of a document": ("CatchUp", (atomic, "_sync_file", lambda fd: None)),
    "the name of a document": ("CatchUp", (atomic, "sync", lambda place: None)),
}
"""Each thing that is made durable, an operation that needs it, and what takes its place in the code."""


@pytest.mark.parametrize("name", [*SYNCS][:: thoroughly(1, 3)])
def test_a_sync_that_is_taken_out_is_missed(folder, boots, name):
    """After some cut something is lost, doubled, or cannot be read."""
    scenario, (place, attribute, instead) = SYNCS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, attribute, instead)
        world, disk = play(folder, SCENARIOS[scenario])
    assert faults_of(world, disk, SCENARIOS[scenario], boots, first=True)
