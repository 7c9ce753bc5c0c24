"""Rules of what is sent to NAS, each at its edge: whose wish it is, what a refusal and a newer wish mean, who needs no NAS."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chronos_cli.core.clock import Trust
from chronos_cli.core.plan import WANTED, Action, ArmReason, ArmState, Removals
from chronos_cli.errors import NasRejectedError, RefusedError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import Arm, ArmAnswer, ArmList
from chronos_cli.operations.arming import apply_plan as applying
from chronos_cli.operations.arming import arm as arming
from chronos_cli.operations.arming import carried, reconcile, slot_memory
from chronos_cli.operations.context import FleetJobs
from chronos_cli.operations.firing import answering, tick
from chronos_cli.store.documents import StoredDocument
from tests.core.making import T, job
from tests.faults.world import PERIOD, World
from tests.protocol.test_arming_rules import ARMED, DOOR, HOUR, NOW, SECOND, WAKE, context, relay, report_of, stored

SENT = replace(ARMED, state=ArmState.UNCONFIRMED)
LATER = replace(WAKE, at=WAKE.at + HOUR)
REFUSED = RefusedError("not this agent")
TAKEN = ArmAnswer(schedule_id="s", state="armed")


@pytest.mark.parametrize(
    ("document", "before", "ours"),
    [
        (SENT, None, True),
        (replace(SENT, generation=1), None, True),
        (replace(SENT, generation=0), None, False),
        (SENT, replace(ARMED, generation=4), True),
        (SENT, ARMED, False),
        (ARMED, None, False),
        (replace(SENT, wake=LATER.at), None, False),
    ],
)
def test_what_was_noted_since_the_plan_for_its_wake_and_is_on_its_way_is_ours(document, before, ours):
    """Each condition by itself: the first number is one as well, and a job that was never armed has none."""
    seen = {"j": None if before is None else StoredDocument(value=before, version="v")}
    facts = SimpleNamespace(settled=SimpleNamespace(arms=seen, wakes={"j": WAKE}))
    assert applying._is_ours(document, facts) is ours


class Telling:
    """A NAS that says to each request what it is told to, after what happens meanwhile."""

    server_time = None

    def __init__(self, *answers, meanwhile=lambda: None):
        self.answers, self.meanwhile, self.asked = list(answers), meanwhile, []

    def provision(self, request):
        self.asked.append(request)
        self.meanwhile()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def stale(generation):
    return NasRejectedError("stale", reason=arming.STALE_GENERATION, generation=generation)


@pytest.fixture
def wanting(monkeypatch):
    """The instant that the job wants, whenever it is asked for; a test may set another."""
    wanted = SimpleNamespace(wake=WAKE)
    monkeypatch.setattr(arming, "present_wake", lambda *_: wanted.wake)
    return wanted


def test_a_wish_that_nas_calls_old_is_told_again_at_its_own_instant_and_without_a_pause(wanting):
    """NAS numbers wishes: a newer number is all it takes, and nobody has to make room."""
    wanting.wake = replace(WAKE, at=NOW)
    document = replace(ARMED, features=("generation",))
    ctx, paused = context(document), []
    ctx.repository.pause = paused.append
    nas = Telling(stale(2**52), stale(2**52 + 9), ArmAnswer(schedule_id="s", state="armed", features=("generation",)))
    nas.answers[-1:] = [REFUSED]  # nothing more is asked once it has taken, or refuses, the wish
    arming.arm(ctx, nas, "j", wanting.wake)
    assert [request.fire_at for request in nas.asked[1:]] == [nas.asked[0].fire_at] * 2
    assert [request.generation for request in nas.asked[1:]] == [2**52 + 1, 2**52 + 10]
    assert paused == []


def test_what_nas_may_not_hold_is_sent_again_ever_later(wanting):
    """By one that numbers nothing only an instant that it has never seen surely replaces another."""
    wanting.wake = replace(WAKE, at=NOW)
    ctx, paused = context(), []
    ctx.repository.pause = paused.append
    delivered = ArmAnswer(schedule_id="s", state=arming.DELIVERED)
    nas = Telling(*[delivered] * 4, REFUSED)
    arming.arm(ctx, nas, "j", wanting.wake)
    assert [(request.fire_at - NOW).total_seconds() for request in nas.asked] == [1, 2, 3, 4, 8]
    assert paused == [3, 4, 5], "after the first time those who send at once make room for each other"
    wanting.wake, nas = WAKE, Telling(delivered, REFUSED)
    arming.arm(context(), nas, "j", WAKE)
    assert [request.fire_at for request in nas.asked] == [WAKE.at, WAKE.at + SECOND]


def test_what_was_past_when_nas_took_it_is_sent_again(wanting):
    """It may have been dropped on the way."""
    wanting.wake = replace(WAKE, at=NOW)
    ctx, now = context(), [NOW]
    ctx.clock = lambda: now[0]
    nas = Telling(TAKEN, REFUSED, meanwhile=lambda: now.append(now.pop() + 5 * SECOND))
    arming.arm(ctx, nas, "j", wanting.wake)
    assert [request.fire_at for request in nas.asked] == [NOW + SECOND, NOW + 6 * SECOND]


def test_a_wish_that_another_has_overtaken_is_sent_under_a_new_key(wanting):
    """NAS may hold either: the key of the other one may be spent by then."""
    ctx = context(ARMED)
    theirs = replace(SENT, generation=2**52)
    nas = Telling(TAKEN, TAKEN)
    nas.meanwhile = lambda: len(nas.asked) > 1 or ctx.repository.arms.change("j", lambda _: theirs)
    arming.arm(ctx, nas, "j", LATER)
    assert [request.fire_at for request in nas.asked] == [LATER.at, WAKE.at + SECOND]


def test_what_is_doubtful_stays_so_whatever_the_witness_says(wanting):
    """The answer that tells NAS's clock also says that the key was delivered before."""
    ctx = context()
    ctx.trust = Trust.UNHEARD
    right = SimpleNamespace(**{**vars(ctx), "trust": Trust.CONFIRMED})
    ctx.heard = lambda _: right
    nas = Telling(ArmAnswer(schedule_id="s", state=arming.DELIVERED), REFUSED)
    arming.arm(ctx, nas, "j", WAKE)
    assert len(nas.asked) == 2


class Dropping(Telling):
    """One that notes what is cancelled, too."""

    def __init__(self, *answers, error=None, meanwhile=lambda: None):
        super().__init__(*answers, meanwhile=meanwhile)
        self.cancelled, self.error = [], error

    def cancel(self, job_id, generation=None):
        self.cancelled.append(job_id)
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("document", "dropped", "asked"),
    [
        (ARMED, False, 1), (replace(ARMED, features=("spread",)), False, 1), (None, False, 1),
        (replace(ARMED, state=ArmState.CANCELLED), False, 0), (replace(ARMED, state=ArmState.CANCELLED), True, 1),
        (replace(ARMED, fire_at=NOW), False, 0),
    ],
)  # fmt: skip
def test_what_nobody_wants_is_dropped_where_nas_may_hold_it(document, dropped, asked, wanting):
    """As it may where nothing is known, and where somebody asks for it, whatever the document says."""
    wanting.wake, nas = None, Dropping()
    ctx = context(*([] if document is None else [document]))
    arming.arm(ctx, nas, "j", None, ArmReason(dropped=dropped))
    assert nas.cancelled == ["j"] * asked


def test_a_wake_that_nobody_wants_any_more_is_dropped_though_another_has_cancelled_it(wanting):
    """What was sent in the first round may have reached NAS after that cancel."""
    wanting.wake, ctx = None, context()
    nas = Dropping(TAKEN)
    nas.meanwhile = lambda: ctx.repository.arms.change("j", lambda found: replace(found, state=ArmState.CANCELLED))
    arming.arm(ctx, nas, "j", WAKE)
    assert nas.cancelled == ["j"]


def test_a_doubtful_wake_that_nobody_wants_any_more_is_dropped(wanting):
    """NAS may hold another for it: the cancel is asked for at once."""
    wanting.wake, nas = None, Dropping(ArmAnswer(schedule_id="s", state=arming.DELIVERED))
    ctx, paused = context(ARMED), []
    ctx.repository.pause = paused.append
    arming.arm(ctx, nas, "j", WAKE)
    assert (nas.cancelled, paused, stored(ctx).state) == (["j"], [], ArmState.CANCELLED)


def test_a_wish_after_a_cancel_that_nas_calls_old_has_a_new_key(wanting):
    """NAS holds something newer than the document tells of."""
    nas = Dropping(TAKEN, error=stale(2**52))
    arming.arm(context(ARMED), nas, "j", None)
    assert [request.fire_at for request in nas.asked] == [WAKE.at + SECOND]


def test_a_refusal_is_final_whatever_somebody_has_sent_meanwhile(wanting):
    """The identity is refused, not the wish: it is not sent again, and the newer document stays as it is."""
    ctx = context(ARMED)
    newer = replace(ARMED, state=ArmState.UNCONFIRMED, generation=2**52)
    nas = Telling(REFUSED, meanwhile=lambda: ctx.repository.arms.change("j", lambda _: newer))
    document = arming.arm(ctx, nas, "j", LATER)
    assert (document.state, len(nas.asked)) == (ArmState.REFUSED, 1)
    assert stored(ctx) == newer


def test_an_arm_that_nas_takes_is_certain_whatever_its_clock_says_of_ours(wanting):
    """One that was sent too late by a clock that NAS's own corrects is sent once more, as it is meant."""
    for trust, astray, calls in (
        (Trust.CORRECTED, True, 2),
        (Trust.CONFIRMED, False, 1),
        (Trust.CORRECTED, False, 1),
    ):
        sent_by = NOW + 24 * HOUR if astray else NOW
        ctx = context(now=sent_by)
        ctx.trust = Trust.UNHEARD
        right = SimpleNamespace(**{**vars(ctx), "clock": lambda: NOW, "trust": trust})
        ctx.heard = lambda _, right=right: right
        wake = replace(WAKE, at=NOW - HOUR if astray else WAKE.at)
        wanting.wake = wake
        nas = Telling(*[ArmAnswer(schedule_id="s", state="armed")] * 2)
        nas.answers[1:] = [REFUSED]
        arming.arm(ctx, nas, "j", wake)
        assert len(nas.asked) == calls, trust


def test_what_nas_may_have_dropped_is_sent_under_a_new_key_in_every_round(wanting):
    """After a cancel, and as long as it takes to tell NAS all of it."""
    nas = Dropping(TAKEN)
    arming.arm(context(ARMED), nas, "j", None)
    assert [request.fire_at for request in nas.asked] == [WAKE.at + SECOND]
    spreads = replace(TAKEN, features=("spread",))
    wanting.wake = replace(
        WAKE, tolerance=60
    )  # which NAS is told in the second round: its first answer says that it may be
    for dropped, sent in ((True, [WAKE.at + SECOND, WAKE.at + 2 * SECOND]), (False, [WAKE.at, WAKE.at])):
        told = Telling(spreads, spreads)
        arming.arm(context(ARMED), told, "j", wanting.wake, ArmReason(dropped=dropped))
        assert [request.fire_at for request in told.asked] == sent
        assert [request.tolerance for request in told.asked] == [0, 60]


ANSWERED = replace(ARMED, state=ArmState.ANSWERED, answered_to="d")


@pytest.mark.parametrize(
    ("document", "needed", "reasons"),
    [
        (replace(ANSWERED, generation=9), WAKE, [WANTED]),
        (replace(ARMED, generation=9), WAKE, [None]),
        (replace(ARMED, generation=9, wake=None), WAKE, [WANTED]),
        (replace(ARMED, generation=9, features=("spread",)), None, [WANTED]),
        (replace(ARMED, state=ArmState.CANCELLED), None, []),
        (replace(ARMED, state=ArmState.CANCELLED), WAKE, [WANTED]),
        (replace(ARMED, generation=9, state=ArmState.CANCELLED, wake=None), None, [WANTED]),
    ],
)
def test_an_answer_says_again_what_the_runs_end_has_left(document, needed, reasons, monkeypatch):
    """Provisioned once more unless NAS has confirmed just this; a cancel is no wake whatever its document still says."""
    sent = []
    monkeypatch.setattr(answering, "present_wake", lambda *_: needed)
    monkeypatch.setattr(answering, "answer_with", lambda *given: sent.append(given[-1]) or ARMED)
    answering.carried_to_the_end(context(document), report_of(ARMED), relay(NOW), DOOR)
    assert sent == reasons


@pytest.mark.parametrize(("status", "leaves"), [(199, False), (200, True), (299, True), (300, False)])
def test_only_an_answer_that_settles_the_delivery_carries_a_wake(status, leaves, monkeypatch):
    """Any other arms nothing at NAS, and the document says so."""
    monkeypatch.setattr(answering, "present_wake", lambda *_: WAKE)
    ctx = context(ANSWERED)
    report = answering.carried_to_the_end(ctx, report_of(ANSWERED, status=status), relay(NOW), DOOR)
    assert (report.next is not None, stored(ctx).state) == (
        leaves,
        ArmState.ANSWERED if leaves else ArmState.UNCONFIRMED,
    )


@pytest.mark.parametrize("lacks", ["wire", "document"])
def test_an_answer_carries_nothing_else_where_nothing_can_be_armed(lacks, monkeypatch):
    """No NAS is configured, or nothing was ever sent: the report leaves as it is."""
    monkeypatch.setattr(answering, "present_wake", lambda *_: LATER)
    ctx = context(*([] if lacks == "document" else [ARMED]))
    if lacks == "wire":
        ctx.wire = None
    report = report_of(ARMED)
    assert answering.carried_to_the_end(ctx, report, relay(NOW), DOOR) is report


def test_an_answer_says_the_instant_its_key_and_its_number():
    """And how late it may come, where it may; a cancel says that there is none."""
    at, key = "2026-11-20T13:00:00+00:00", "j:2026-11-20T13:00:00+00:00"
    plain = {"fire_at": at, "dedup_key": key, "generation": 5}
    assert carried.next_of(ARMED) == plain
    assert carried.next_of(replace(ARMED, tolerance=60)) == plain | {"tolerance": 60}
    for nothing in ({"state": ArmState.CANCELLED}, {"fire_at": None}):
        assert carried.next_of(replace(ARMED, tolerance=60, **nothing)) == {"none": True, "generation": 5}


def test_without_a_nas_nothing_is_left_to_it():
    """Whatever the arm document says from the time when there was one."""
    ctx = context(replace(ARMED, wake=T, fire_at=T, keys={T: "cursor"}), now=T)
    assert tick._left_to_nas(ctx, job(), 30.0) is True
    ctx.wire = None
    assert tick._left_to_nas(ctx, job(), 30.0) is False


def home(tmp_path, *job_ids):
    """A home whose jobs have an hour until they are due, and are armed."""
    world = World(tmp_path, job_ids=job_ids)
    world.moved -= PERIOD
    reconcile.reconcile(world.context())
    return world


def listing(world, **held):
    """Have NAS list these instants, each under a number of its own."""
    arms = [
        Arm(job_id=name, fire_at=at, fire_at_text="", schedule_id=f"of {name}", state="armed")
        for name, at in held.items()
    ]
    world.nas.list = lambda: ArmList(arms=tuple(arms))


def test_a_list_confirms_what_was_sent_and_never_answered(tmp_path):
    """By the number that NAS has for it; a dry run notes nothing, nor does what is kept for another home."""
    world = home(tmp_path, "a", "b")
    ctx = world.context()
    arms = ctx.repository.arms
    for name in ("a", "b"):
        arms.change(name, lambda found: replace(found, state=ArmState.UNCONFIRMED, schedule_id=None))
    listing(world, **world.nas.held)
    reconcile.reconcile(world.context(), dry_run=True)
    assert arms.get("a").value.state is ArmState.UNCONFIRMED
    steps = [
        SimpleNamespace(job_id=name, action=Action.KEEP, wanted=wanted) for name, wanted in (("a", WAKE), ("b", None))
    ]
    documents = {name: arms.get(name).value for name in ("a", "b")}
    assert [reconcile._shown(step, documents) for step in steps] == [True, False]
    assert reconcile._shown(SimpleNamespace(job_id="a", action=Action.MOVE, wanted=WAKE), documents) is False
    assert reconcile._shown(SimpleNamespace(job_id="c", action=Action.KEEP, wanted=WAKE), documents) is False
    reconcile.reconcile(world.context())
    for name in ("a", "b"):
        found = arms.get(name).value
        assert (found.state, found.schedule_id) == (ArmState.CONFIRMED, f"of {name}")
        assert found.generation == documents[name].generation, "nothing is sent again"
    confirmed = {"a": arms.get("a").value}
    assert reconcile._shown(SimpleNamespace(job_id="a", action=Action.KEEP, wanted=WAKE), confirmed) is False


@pytest.mark.parametrize("namesake", [True, False])
def test_a_cancel_that_is_owed_is_none_where_another_home_has_the_slot(namesake, tmp_path):
    """NAS lists nothing of the job: what comes into its slot is that home's."""
    world = home(tmp_path, "a")
    world.context().repository.change(
        lambda jobs: jobs.put("a", {**jobs.get("a"), "enabled": False, "state": "paused"})
    )
    listing(world)
    fleet = FleetJobs(profile_of={"a": "p"}, same_agent=frozenset({"a"})) if namesake else FleetJobs()
    plan = reconcile.reconcile(replace(world.context(), elsewhere=lambda: fleet), dry_run=True).plan
    assert [step.action for step in plan.changes] == ([] if namesake else [Action.CANCEL])


def test_other_homes_are_read_only_where_nas_holds_what_nobody_here_wants(tmp_path):
    """A list of what is wanted costs a home nothing of its neighbours."""
    world, asked = home(tmp_path, "a"), []
    for held, number in (({}, 0), ({"x": world.clock() + HOUR}, 1)):
        listing(world, **world.nas.held, **held)
        ctx = replace(world.context(), elsewhere=lambda: asked.append(1) or FleetJobs())
        reconcile.reconcile(ctx, dry_run=True, removals=Removals(prune=True))
        assert len(asked) == number


def test_what_is_known_of_answers_is_dated_anew_after_half_a_month():
    """Before that nothing is written; the contrary, another portal, and an undated one are at once."""
    ctx, now = context(), [NOW]
    ctx.clock = lambda: now[0]

    def noted(wire=ctx.wire, *, taken=True):
        slot_memory.note_answers(ctx, wire, taken=taken)
        memory = slot_memory.recall(ctx)
        return (memory.portal_url, memory.answers, memory.answers_at)

    portal = ctx.wire.portal_url
    assert noted() == (portal, True, NOW)
    now[0] = NOW + slot_memory.RENEWED_AFTER - SECOND
    assert noted() == (portal, True, NOW)
    now[0] = NOW + slot_memory.RENEWED_AFTER
    assert noted() == (portal, True, now[0])
    now[0] += SECOND
    assert noted(taken=False) == (portal, False, now[0])
    now[0] += SECOND
    assert noted(replace(ctx.wire, portal_url="https://other"), taken=False) == ("https://other", False, now[0])
    slot_memory.note_probed(ctx, keeps=True)
    undated = slot_memory.recall(ctx)
    assert (undated.portal_url, undated.answers, undated.answers_at) == (portal, None, None)
    assert noted() == (portal, True, now[0])


def test_nas_is_looked_at_where_it_may_not_hold_what_the_document_says():
    """After an answer that carries a wake, until it was seen to arm one; after any other, until it keeps slots."""
    for taken, looks in ((None, True), (False, True), (True, False)):
        ctx = context()
        if taken is not None:
            slot_memory.note_answers(ctx, ctx.wire, taken=taken)
        assert slot_memory.needs_look(ctx, ANSWERED) is looks
        assert slot_memory.needs_look(ctx, ARMED) is True
        assert slot_memory.needs_look(ctx, replace(ARMED, features=(slot_memory.FEATURE_KEEPS_SLOT,))) is False


def test_a_wake_that_is_missing_is_noted_once_of_its_own_portal(monkeypatch):
    """What another's slot has kept stays; where nothing was seen there is nothing to forget."""
    ctx, written = context(), []
    store = ctx.repository.update
    monkeypatch.setattr(ctx.repository, "update", lambda key, once, **how: store(key, noting(once), **how))

    def noting(once):
        return lambda found: written.append(once(found)) or written[-1]

    slot_memory.note_missing(ctx, ARMED)
    assert written == [None]
    slot_memory.note_probed(ctx, keeps=True)
    slot_memory.note_missing(ctx, replace(ARMED, portal_url="https://other"))
    assert (written.pop(), slot_memory.recall(ctx).delivered) == (None, slot_memory.ENOUGH)
    ctx.clock = lambda: NOW + HOUR
    for missed in (NOW + HOUR, None):
        slot_memory.note_missing(ctx, ARMED)
        assert (written.pop() is None) is (missed is None)
        memory = slot_memory.recall(ctx)
        assert (memory.delivered, memory.since, memory.missed_at) == (0, NOW + HOUR, NOW + HOUR)


def test_an_arm_that_says_for_nothing_is_none():
    """Whatever instant it has."""
    assert not arming.is_armed(replace(ARMED, purpose=None), WAKE, context().wire, NOW)
