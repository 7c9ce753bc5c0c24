"""Each character of NAS, and pairs of them, met by an hourly job on a calm day: every hour runs once, and few calls do it.

The simulation shows that nothing is lost under faults; here nothing fails, and what is judged is the peace: a NAS that
fires too soon, or drops what it is sent, must not be asked over and over.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zlib import crc32

import pytest

from chronos_cli.core import edits
from chronos_cli.core.decision import Purpose, Wake
from chronos_cli.core.plan import ArmReason, ArmState
from chronos_cli.core.policy import OnCrash, Policy
from chronos_cli.core.row import RunState
from chronos_cli.core.schedule import Interval
from chronos_cli.nas_client.answers import read_generation
from chronos_cli.nas_client.interface import ArmAnswer, ArmRequest
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming import reconcile as reconciling
from chronos_cli.operations.arming import slot_memory
from chronos_cli.operations.context import NasTarget
from chronos_cli.operations.firing import fire as firing
from chronos_cli.operations.firing import run_end
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.operations.views.armed_wake import ArmedWake
from chronos_cli.operations.views.listing import listing
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.repository import Repository
from tests.memory_store import MemoryStore
from tests.sim import backends
from tests.sim.checks import RAN, Violation
from tests.sim.config import ORDINARY
from tests.sim.nas import CHARACTERS, SPREADS, Server, SimNas
from tests.sim.world import World

HOURS = 4
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PAIRS = (
    ("no fire_at", "clock ahead"),
    ("no fire_at", "keys for ever"),
    ("no fire_at", "keys for ever", "clock ahead"),
    ("2xx clears slot", "keys for ever"),
    ("2xx clears slot", "keys for ever", "no fire_at"),
    ("2xx clears slot", "clock ahead", "no fire_at"),
)


class Calm(World):
    """A world in which nothing fails, that counts what is asked of NAS and what NAS asks."""

    def __init__(self, characters, **more) -> None:
        never = dict.fromkeys(("p_crash", "p_conflict", "p_write_fails", "p_answer_lost", "p_read_fails", "p_nas_lost", "p_nas_answer_lost", "p_drop", "p_spoiled", "p_unseen"), 0.0)  # fmt: skip
        plain = {
            "nas": True,
            "mode": "detached",
            "machines": 1,
            "jumps": False,
            "put_at": None,
            "zone": "UTC",
            "start": ORDINARY,
        }
        super().__init__(1, characters=frozenset(characters), **{**plain, **never, **more})
        self.faults = False
        self.fires = 0
        self.nas.patient = True

    def start_door(self, delivery, token, named) -> None:
        self.fires += 1
        super().start_door(delivery, token, named)

    def add(self, job: str, seconds: int, **policy) -> None:
        draft = edits.JobDraft(job_id=job, name=job, schedule=Interval(seconds=seconds), zone=self.zone, zone_name="UTC",
                            policy=Policy(**policy), action={"shell": "true"})  # fmt: skip

        def body(task, ctx):
            jobs.add(ctx, draft)
            self.notify(ctx, job)

        self.spawn("add", job, body)

    def go_on(self, seconds: float, *, stop=lambda: False) -> None:
        """Let so much time pass, and all that is due in it happen, until `stop` says that it is enough."""
        until = self.now + seconds
        for _ in range(100_000):
            self.check.chain()
            if stop():
                return
            ready = [task for task in self.tasks.all if task.ready(self.now)]
            due = self.nas.next_due()
            if ready:
                self._resume(self.rng.choice(ready))
            elif due is not None and due <= self.now:
                self.nas.turn()
            elif not self._advance(due, limit=until):
                self.now = until
                return
        raise AssertionError("no peace")


def test_a_timer_at_the_end_of_a_lease_is_wanted_while_a_row_cannot_be_read():
    """Its run was over when the row rotted: a paused job's lease is waited for all the same, and then none is left."""
    world = Calm({"kind"}, machines=2, locks=False, apart=True, p_shared_end=0.0)
    try:
        world.add("job1", 3_600, on_crash=OnCrash.RERUN, timeout=300)
        world.go_on(4_000, stop=lambda: any(row["state"] in RAN for row in world.check.rows.values()))
        ((key, _),) = world.check.rows.items()
        (run,) = world.runs.values()
        world._crash(run.supervisor)
        run.released = True  # its machine is gone, and its locks with it
        world.store.rot(key, b"\0")
        world.check.rotted(key)
        world.op_pause("job1")
        world.go_on(5.0)
        assert world.nas.slots["job1"].fire_at > world.now
        world._quiet()
        assert not world.nas.slots
        assert world.check.rows[key]["state"] == "lost"
    finally:
        world.tasks.kill_all()


@pytest.mark.parametrize("seconds", [3_600, 60])
@pytest.mark.parametrize("characters", [*((name,) for name in CHARACTERS), *PAIRS], ids=" + ".join)
def test_every_character_is_met_in_peace(characters, seconds):
    """Each occurrence runs once, with at most a few fires and arms for each."""
    world = Calm(characters)
    try:
        world.add("job1", seconds)
        world.go_on((HOURS + 0.5) * max(seconds, 360) + 400)
        starts = [start for start in world.check.starts if start[0] == "job1"]
        assert len(starts) >= HOURS
        assert len({run for _, run, _ in starts}) == len(starts)
        # A minutely job stands before a NAS five minutes ahead: each of its arms is fired at once, and told to wait.
        most = 4 if seconds == 3_600 else 6
        assert world.fires <= most * (len(starts) + 1), f"{world.fires} fires for {len(starts)} runs"
        assert world.nas.serial <= 8 * (len(starts) + 1), f"{world.nas.serial} arms for {len(starts)} runs"
    finally:
        world.tasks.kill_all()


@pytest.mark.parametrize("beside", [(), ("kind",), ("arms by answer",)], ids="".join)
def test_what_comes_within_the_tolerance_is_not_missed(beside):
    """Grace counts from the tolerance's end, so a job without any runs each time, as late as NAS has spread it."""
    world = Calm((SPREADS, *beside))
    try:
        world.add("job1", 3_600, tolerance=3_000, grace=0)
        late = crc32(b"job1") % 3_001
        assert late > 240
        world.go_on((HOURS + 0.9) * 3_600)
        starts = [start for start in world.check.starts if start[0] == "job1"]
        assert len(starts) == len({run for _, run, _ in starts}) >= HOURS
        assert world.fires <= len(starts) + 1
    finally:
        world.tasks.kill_all()


class Counted(Server):
    """Counts what it is asked, and keeps what it was sent."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.sent, self.lists = [], 0

    def provision(self, request):
        self.sent.append(request.fire_at)
        return super().provision(request)

    def list(self):
        self.lists += 1
        return super().list()


@pytest.mark.parametrize(("seconds", "fires"), [(2, 30), (60, 12), (3_600, 12)])
def test_a_nas_that_keeps_to_the_contract_is_asked_once_a_fire_for_the_exact_instant(seconds, fires):
    """Nothing is promised and the slot is kept: one provision a fire, at the very instant, none missed; then no list either."""
    world = Calm(())
    world.nas = Counted(world, world.nas.char)
    try:
        world.add("job1", seconds)
        world.go_on(30 if seconds > 30 else 0.5)
        begun = world.nas.sent[0]
        world.go_on(seconds * fires + 10)
        ran = len({run for job, run, _ in world.check.starts if job == "job1"})
        assert ran in (fires, fires + 1, fires + 5)
        assert len(world.nas.sent) == ran + 1
        assert [(moment - begun).total_seconds() / seconds for moment in world.nas.sent] == list(range(ran + 1))
        before = world.nas.lists
        assert before <= (2 * ran if seconds <= 60 else 2 * 6)
        world.go_on(seconds * 3)
        assert world.nas.lists == before or seconds <= 60
    finally:
        world.tasks.kill_all()


@pytest.mark.parametrize("fires", [150, pytest.param(1_000, marks=pytest.mark.soak)])
def test_as_many_fires_of_mixed_schedules_make_as_many_provisions(fires):
    """Jobs of seconds, minutes and hours side by side: each fire provisions once, each wake is its schedule's own instant."""
    world = Calm(())
    world.nas = Counted(world, world.nas.char)
    sent = {}

    class Kept(Counted):
        def provision(self, request):
            sent.setdefault(request.job_id, []).append(request.fire_at.timestamp())
            return super().provision(request)

    world.nas = Kept(world, world.nas.char)
    rates = {"job1": 11, "job2": 17, "job3": 60, "job4": 300, "job5": 3_600}
    try:
        for name, seconds in rates.items():
            world.add(name, seconds)
            world.go_on(0.4)
        world.go_on(6 * fires)
        ran = len({(job, run) for job, run, _ in world.check.starts})
        assert ran >= fires
        assert len(world.nas.sent) == ran + len(rates)
        assert {status for key, status in states(world) if status != "ok"} == set()
        for name, seconds in rates.items():
            assert {(moment - sent[name][0]) % seconds for moment in sent[name]} == {0.0}, name
    finally:
        world.tasks.kill_all()


def test_a_fire_that_has_started_its_run_says_that_it_was_claimed():
    """Neither a duplicate nor idle: each of these fires came once, for what was due."""
    world = Calm(("kind",))
    try:
        world.add("job1", 60)
        world.go_on(200)
        said = {word: number for (family, word), number in world.covered.items() if family == "outcome"}
        assert said == {"claimed": world.fires}
    finally:
        world.tasks.kill_all()


class Ordered(Server):
    """Takes the wish that was sent first last."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.held = []

    def provision(self, request):
        sender = self.world.tasks.current
        if not self.held and sender.kind == "idle":
            self.held.append(request.fire_at.timestamp())
            self.world.pause(sender, "on its way", until=self.world.now + 8.0)
        return super().provision(request)


def test_a_wish_that_reaches_nas_after_a_newer_one_is_seen_to(monkeypatch):
    """A wake with nothing to do puts the next one off; another sends the right one meanwhile, and that is what NAS holds."""

    def play(overtook=ArmDocument.overtook):
        monkeypatch.setattr(ArmDocument, "overtook", overtook)
        world = Calm(())
        world.nas = Ordered(world, world.nas.char)
        try:
            world.add("job1", 3_600)
            world.go_on(30)
            due = world.check.jobs["job1"].first
            wake = Wake(at=datetime.fromtimestamp(due, UTC), purpose=Purpose.CURSOR)

            def slow(task, ctx):
                named = wake.at + timedelta(seconds=20)
                with ctx.wire.connect(10.0) as nas:
                    arming.arm(ctx, nas, "job1", wake, ArmReason(idle_fire=named))

            world.spawn("idle", "job1", slow)
            world.go_on(2)
            assert world.nas.held == [due + 21]
            world.spawn("reconcile", "job1", lambda _, ctx: run_end.rearm(ctx, "job1", wake, force=True))
            world.go_on(40)
            return world.nas.slots["job1"].fire_at - due
        finally:
            world.tasks.kill_all()

    assert play() <= 3
    with pytest.raises(Violation, match="notes that NAS has"):
        play(lambda *_: False)


def test_a_nameless_fire_may_have_been_the_very_wake_that_is_armed():
    """Its key is spent then at a NAS that remembers keys, whether or not that NAS is known to keep its slot."""
    world = Calm(("clock ahead", "keys for ever", "no fire_at"), knows=5)
    try:
        world.add("job1", 60)
        world.go_on(3_000)
        assert len({run for _, run, _ in world.check.starts}) >= HOURS
        assert world.nas.owed("job1")
    finally:
        world.tasks.kill_all()


def states(world):
    """The state of every row, by its key."""
    keys = [key for key in world.store.list("cron/runs/") if not key.endswith("/")]
    return [(key, json.loads(world.store.read(key).data)["state"]) for key in keys]


def test_a_nas_that_clears_its_slot_pays_for_it_alone():
    """Every wake is missed at both looks and sent again, a second later; nothing is ever learned from it."""
    world = Calm(("2xx clears slot",))
    world.nas = Counted(world, world.nas.char)
    try:
        world.add("job1", 3_600)
        world.go_on(3_600 * 8 + 60)
        ran = len({run for job, run, _ in world.check.starts if job == "job1"})
        assert ran == 8
        assert len(world.nas.sent) == 2 * ran + 1
        assert world.nas.lists == 2 * ran
    finally:
        world.tasks.kill_all()


def test_a_forced_arm_never_uses_a_key_twice():
    """What NAS may have dropped goes a second later: it may remember the key it was dropped under."""
    world = Calm(("keys for ever", "2xx clears slot"))
    sent = []

    class Watched(Server):
        def provision(self, request):
            sent.append(request.fire_at)
            return super().provision(request)

    world.nas = Watched(world, world.nas.char)
    try:
        world.add("job1", 3_600)
        world.go_on(30)

        def again(task, ctx):
            for _ in range(2):
                wake = Wake(at=sent[0], purpose=Purpose.CURSOR)
                world.check.excuse("job1", "this test clears the slot")
                world.nas.slots.clear()
                run_end.rearm(ctx, "job1", wake, force=True)

        world.spawn("reconcile", "job1", again)
        world.go_on(30)
        assert [(moment - sent[0]).total_seconds() for moment in sent] == [0, 1, 2]
        assert world.nas.slots["job1"].fire_at == sent[2].timestamp()
    finally:
        world.tasks.kill_all()


@pytest.mark.parametrize("packed", [False, True])
def test_a_refused_generation_is_counted_on_from(packed):
    """NAS has seen a generation of a clock that was years ahead: the wish that it refuses is sent again, above that."""
    world = Calm(("kind",))
    world.seed = int(packed)
    try:
        world.add("job1", 3_600)
        world.go_on(30)
        ahead = world.nas.generations["job1"] = 10**13
        world.nas.slots.clear()
        before = world.nas.serial

        world.spawn("reconcile", None, lambda _, ctx: world.reconcile(ctx))
        world.go_on(30)
        assert world.nas.generations["job1"] == ahead + 1
        assert 0 <= world.nas.slots["job1"].fire_at - world.check.jobs["job1"].first < 5  # under a fresh key
        assert world.nas.serial == before + 1
    finally:
        world.tasks.kill_all()


@pytest.mark.parametrize("named", [None, "7", True, -1, 0, 2**63 - 1, 10**30])
def test_a_generation_that_cannot_be_counted_on_from_is_not_taken_over(named):
    """What NAS names leaves room for a newer one, or it names none."""
    assert read_generation({"generation": named}) == 0


def test_an_answer_that_names_no_features_has_none():
    """What NAS could do last week says nothing about the one that answers today."""
    sent = ArmDocument(job_id="j", features=("batch", "generation", "keeps-slot"), generation=7)
    assert sent.confirmed(sent, "s1", ArmAnswer(schedule_id="s1").features, NOW).features == ()


class RunsFor(Calm):
    """Whose runs take so many seconds each."""

    lasts = 0.2

    def fate_of_run(self, run):
        return self.lasts, RunState.OK


@pytest.mark.parametrize(
    ("every", "lasts", "cleared"), [(3_600, 3.0, 4.0), (3_600, 1.5, 2.0), (6, 0.2, 2.0), (6, 0.2, 4.0)]
)
def test_a_slot_that_is_cleared_between_the_looks_is_filled_again(monkeypatch, every, lasts, cleared):
    """What a run's end has sent since the answer goes as well, and so does what comes due before anybody has looked."""
    monkeypatch.setattr(backends, "_CLEARS_AFTER_S", (cleared,))
    world = RunsFor((backends.CLEARS_LATE,))
    world.lasts = lasts
    try:
        world.add("job1", every, on_crash=OnCrash.RERUN)  # its lease is armed while it goes
        world.go_on(every * 3 + 60)
        assert len({run for _, run, _ in world.check.starts}) >= 3
        assert world.nas.owed("job1") or any(task.after for task in world.tasks.all)
    finally:
        world.tasks.kill_all()


def test_of_several_timers_the_list_shows_what_was_sent_last():
    """At a NAS that never replaces one, an older timer beside the wanted one does not read as another wake."""
    world = Calm((backends.NEVER_REPLACES,))
    try:
        world.add("job1", 3_600)
        world.go_on(30)
        old = world.nas.slots["job1"]
        world.nas.beside["job1"] = [replace(old, fire_at=old.fire_at - 900, due=old.due - 900)]
        task = world.spawn(
            "view", None, lambda _, ctx: listing(ctx, arming=True, held=world.nas.list(), prompt_runner=False)
        )
        world.go_on(1)
        (view,) = task.result.jobs
        assert (view.will_fire, view.arm.state) == (True, ArmedWake.ARMED)
        assert view.arm.held.timestamp() == old.fire_at
    finally:
        world.tasks.kill_all()


def test_every_character_has_its_price():
    """The table of what a fire costs names each character, and no other."""
    assert backends.PRICE.keys() == set(CHARACTERS)


@pytest.mark.parametrize("state", [ArmState.CONFIRMED, ArmState.UNCONFIRMED])
@pytest.mark.parametrize("keys", [(), ("keys for ever",)])
def test_reconcile_leaves_one_timer_where_nas_held_several(keys, state):
    """A NAS that never replaces has two timers after an edit; reconcile drops both and sends the one that is wanted.

    Under a key that NAS does not know yet, whether or not it is known to have taken the last one.
    """
    world = Calm((backends.NEVER_REPLACES, *keys))
    results = []
    try:
        world.add("job1", 3_600)
        world.go_on(30)
        world.spawn("edit", "job1", lambda _, ctx: world.nas.provision(ArmRequest(
            job_id="job1", fire_at=datetime.fromtimestamp(world.now + 900, UTC), callback_url="https://me")))  # fmt: skip
        world.go_on(30)
        assert len(world.nas.list().arms) == 2
        world.spawn(
            "edit", "job1", lambda _, ctx: ctx.repository.arms.change("job1", lambda one: replace(one, state=state))
        )
        world.go_on(1)
        world.spawn("reconcile", None, lambda _, ctx: results.append(reconciling.reconcile(ctx)))
        world.go_on(30)
        (step,) = results[0].plan.steps
        assert step.reason == "NAS holds 2 timers for it"
        (arm,) = world.nas.list().arms
        assert 0 <= (arm.fire_at - step.wanted).total_seconds() <= 1
        world.spawn("reconcile", None, lambda _, ctx: results.append(reconciling.reconcile(ctx)))
        world.go_on(30)
        assert results[1].plan.changes == ()
    finally:
        world.tasks.kill_all()


@pytest.mark.parametrize("heard", [True, False], ids=["at once", "by the next reconcile"])
def test_a_wake_that_a_clock_ahead_has_sent_late_is_sent_again(monkeypatch, heard):
    """By a clock three hours ahead all that comes next is past, and goes a second later by that clock: three hours late."""
    world = Calm(())
    if not heard:
        monkeypatch.setattr(SimNas, "server_time", None)
    try:
        world.add("job1", 3_600)
        world.go_on(30)
        due = world.nas.slots["job1"].fire_at
        world.skews[0], world.loose_time = 3 * 3_600.0, True
        wake = Wake(at=datetime.fromtimestamp(due, UTC), purpose=Purpose.CURSOR)
        world.spawn("edit", "job1", lambda _, ctx: run_end.rearm(ctx, "job1", wake, force=True))
        world.go_on(30)
        world.skews[0] = 0.0
        held = world.nas.slots["job1"].fire_at
        assert (held - due < 5) if heard else (held - due > 3_600)
        world.spawn("reconcile", None, lambda _, ctx: world.reconcile(ctx))
        world.go_on(30)
        assert 0 <= world.nas.slots["job1"].fire_at - due < 5
    finally:
        world.tasks.kill_all()


NAS = NasTarget(portal_url="https://nas", callback_url="https://me", audience="agent:1", connect=lambda _: None)
SENT = ArmDocument(
    job_id="j", state=arming.ArmState.CONFIRMED, fire_at=NOW + timedelta(hours=1), sent_at=NOW, portal_url="https://nas",
    audience="agent:1", in_answer=True,
)  # fmt: skip


def context_at(store, now):
    """The outside as the memory of a slot needs it."""
    return SimpleNamespace(
        repository=Repository(store, sleep=lambda _: None, random=lambda: 0.5),
        clock=lambda: now,
        wire=NAS,
        checkpoint=lambda _: None,
    )


def test_five_wakes_teach_that_a_slot_is_kept_and_one_missing_ends_it():
    """What counts is written while it changes something, and no more; a missing wake begins it anew; a month forgets it."""
    store = MemoryStore()
    ctx = context_at(store, NOW)
    for count in range(1, 6):
        assert not slot_memory.keeps_slot(ctx, SENT)
        slot_memory.note_delivered(ctx, SENT)
        assert slot_memory.recall(ctx).delivered == count
    assert slot_memory.keeps_slot(ctx, SENT)
    version = store.read(slot_memory.MEMORY_KEY).version
    slot_memory.note_delivered(ctx, SENT)
    assert store.read(slot_memory.MEMORY_KEY).version == version
    assert not slot_memory.keeps_slot(context_at(store, NOW + timedelta(days=31)), SENT)
    slot_memory.note_delivered(context_at(store, NOW + timedelta(days=20)), SENT)
    assert slot_memory.keeps_slot(context_at(store, NOW + timedelta(days=31)), SENT)
    other = firing.replace(SENT, audience="agent:2")
    assert not slot_memory.keeps_slot(ctx, other)
    slot_memory.note_missing(ctx, other)
    assert slot_memory.keeps_slot(ctx, SENT)
    slot_memory.note_missing(ctx, SENT)
    assert not slot_memory.keeps_slot(ctx, SENT)
    assert slot_memory.recall(ctx).missed_at == NOW


@pytest.mark.parametrize(
    "change",
    [
        {"in_answer": False},
        {"fire_at": NOW + timedelta(seconds=60)},
        {"fire_at": None},
        {"features": ("keeps-slot",)},
        {"state": arming.ArmState.UNCONFIRMED},
    ],
)
def test_what_proves_nothing_teaches_nothing(change):
    """A wake sent again after an answer, one due soon, one of a NAS that promises it anyway, one never confirmed."""
    store = MemoryStore()
    slot_memory.note_delivered(context_at(store, NOW), firing.replace(SENT, **change))
    assert store.read(slot_memory.MEMORY_KEY) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"portal_url": 1}', b'{"delivered": "x"}', b"null"])
def test_a_memory_that_cannot_be_read_is_none(data):
    """It is learned anew, over what stood there."""
    store = MemoryStore()
    store.create(slot_memory.MEMORY_KEY, data)
    ctx = context_at(store, NOW)
    assert slot_memory.recall(ctx) is None
    slot_memory.note_probed(ctx, keeps=True)
    assert slot_memory.keeps_slot(ctx, SENT)
    slot_memory.note_probed(ctx, keeps=False)
    assert not slot_memory.keeps_slot(ctx, SENT)
