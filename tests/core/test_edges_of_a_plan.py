"""Rules of a plan for NAS at their edges: what is moved and why, whose it is, and when cancels are held back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chronos_cli.core.decision import Purpose, Wake
from chronos_cli.core.plan import (
    Action,
    ArmReason,
    ArmState,
    DesiredArm,
    LastArm,
    backoff,
    instant_to_send,
    off_by,
    serves,
)
from chronos_cli.frozen import replace
from tests.core.making import URL, T, at, plan_of

WAKE = Wake(at=at(300), purpose=Purpose.CURSOR)


def sent(**changes):
    given = {"wake": WAKE.at, "fire_at": WAKE.at, "purpose": "cursor", "state": ArmState.CONFIRMED, "callback_url": URL}
    return LastArm(**(given | changes))


def step(wish, held, **more):
    """The one step for job j: its action and its reason; None where there is none."""
    found = plan_of([] if wish is None else [wish], held, **more).steps
    return (found[0].action, found[0].reason) if found else None


def wanting(**changes):
    return DesiredArm(job_id="j", wake=WAKE, sent=sent(**changes))


@pytest.mark.parametrize(
    ("changes", "held", "action", "reason"),
    [
        ({}, WAKE.at, Action.KEEP, ""),
        ({"unreadable": True}, WAKE.at, Action.MOVE, "its arm document cannot be read"),
        ({"callback_url": "https://other"}, WAKE.at, Action.MOVE, "the callback URL changed"),
        ({"callback_url": None}, WAKE.at, Action.KEEP, ""),
        ({"wake": at(600), "fire_at": at(600)}, WAKE.at, Action.MOVE, "NAS lists it, but has taken another since"),
        ({"wake": at(600), "fire_at": at(600)}, at(301), Action.MOVE, "armed for another time"),
        ({"wake": at(600), "fire_at": at(600), "state": ArmState.UNCONFIRMED}, WAKE.at, Action.KEEP, ""),
        ({"fire_at": at(303)}, at(303), Action.KEEP, "held 3 s later than wanted"),
        ({"fire_at": at(303)}, at(304), Action.MOVE, "armed for another time"),
        ({"wake": T, "fire_at": at(303)}, at(303), Action.MOVE, "armed for another time"),
        ({"fire_at": None}, None, Action.MOVE, "armed for another time"),
        ({"tolerance": 60}, WAKE.at, Action.MOVE, "its tolerance changed"),
        ({"tolerance": 0}, WAKE.at, Action.KEEP, ""),
        ({"tolerance": 60, "fire_at": at(303)}, WAKE.at, Action.KEEP, ""),
    ],
)  # fmt: skip
def test_what_is_held_is_kept_or_moved_for_a_reason(changes, held, action, reason):
    """An instant that was sent for what is wanted serves it, and any other does not."""
    assert step(wanting(**changes), {"j": held}) == (action, reason)


def test_a_timer_is_off_by_what_a_person_would_notice():
    """A second is nothing."""
    words = {-2: "held 2 s earlier than wanted", -1: "", 0: "", 1: "", 1.9: "", 2: "held 2 s later than wanted"}
    assert {seconds: off_by(at(seconds), T) for seconds in words} == words
    assert off_by(None, T) == ""


def test_what_is_not_held_is_armed_whoever_has_a_job_of_that_name():
    """A cancel that is owed is not, where it may be another profile's."""
    for elsewhere in (None, {}, {"j": "p"}):
        assert step(wanting(), {}, elsewhere=elsewhere) == (Action.ARM, "not armed")
    owed = DesiredArm(job_id="j", wake=None, sent=sent(), owes_cancel=True)
    assert step(owed, {}, elsewhere={"j": "p"}) is None
    assert step(owed, {})[0] is step(owed, {}, elsewhere={"k": "p"})[0] is Action.CANCEL
    assert step(DesiredArm(job_id="j", wake=None, sent=sent()), {}) is None


def test_what_another_profile_has_is_kept_unless_it_is_wanted_here():
    """Whoever armed it."""
    unwanted = DesiredArm(job_id="j", wake=None, sent=sent())
    for wish in (None, unwanted):
        assert step(wish, {"j": T}, elsewhere={"j": "p"}) == (Action.KEEP, "a job of the profile p")
    assert step(wanting(), {"j": WAKE.at}, elsewhere={"j": "p"}) == (Action.KEEP, "")


def test_several_timers_are_moved_into_one_and_what_goes_goes_whole():
    """Only of a job that is wanted."""
    several = {"several": {"j": 2}}
    for held in (WAKE.at, at(400)):
        assert step(wanting(), {"j": held}, **several) == (Action.MOVE, "NAS holds 2 timers for it")
    assert step(DesiredArm(job_id="j", wake=None, sent=sent()), {"j": T}, **several)[0] is Action.CANCEL
    assert step(None, {"j": T}, **several)[0] is Action.ORPHAN


def test_what_this_store_did_not_arm_is_cancelled_only_to_prune():
    """Nothing is held back then, in any number."""
    strangers = dict.fromkeys("abcdef", T)
    assert {s.action for s in plan_of([], strangers).steps} == {Action.ORPHAN}
    pruned = plan_of([], strangers, prune=True, store_has_jobs=False)
    assert {s.action for s in pruned.steps} == {Action.CANCEL}
    assert pruned.guard is None


def vanished(names, *, known=False):
    """Jobs that are armed from here and wanted no more; `known`: they are in the store."""
    return [DesiredArm(job_id=name, wake=None, sent=sent(), known=known) for name in names]


@pytest.mark.parametrize(
    ("unknown", "held", "is_held_back"), [(2, 4, False), (3, 4, True), (3, 3, False), (3, 5, True), (3, 6, False)]
)
def test_jobs_that_vanish_are_suspicious_from_more_than_half_of_four(unknown, held, is_held_back):
    """Then nothing is cancelled of them."""
    wishes = vanished("abcdef"[:unknown])
    others = [DesiredArm(job_id=name, wake=WAKE, sent=sent()) for name in "uvwxyz"[: held - unknown]]
    found = plan_of([*wishes, *others], {wish.job_id: WAKE.at for wish in (*wishes, *others)})
    assert (found.guard is not None) == is_held_back
    assert [s.action for s in found.steps[:unknown]] == [Action.ORPHAN if is_held_back else Action.CANCEL] * unknown
    assert all(s.reason == found.guard for s in found.steps[:unknown]) == is_held_back


def test_what_another_profile_holds_is_no_part_of_what_is_held_here():
    """Nor is what a person has just taken out, or what the store knows, among what vanished."""
    held = dict.fromkeys("abcdxyz", WAKE.at)
    theirs = dict.fromkeys("xyz", "p")
    assert plan_of(vanished("abc"), held, elsewhere=theirs).guard is not None
    assert plan_of(vanished("abc"), held).guard is None
    assert plan_of(vanished("abc"), held, elsewhere=theirs, gone=["a"]).guard is None
    assert plan_of(vanished("abc", known=True), held, elsewhere=theirs).guard is None
    assert plan_of([*vanished("bc"), *vanished("a", known=True)], held, elsewhere=theirs).guard is None


def test_a_store_without_jobs_cancels_nothing_that_vanished():
    """One is enough."""
    assert plan_of(vanished("a"), {"a": T}, store_has_jobs=False).guard == "the store has no jobs while NAS holds arms"
    assert plan_of(vanished("a", known=True), {"a": T}, store_has_jobs=False).guard is None
    assert plan_of(vanished("a"), {"a": T}).guard is None


def test_a_plan_counts_its_steps_and_names_those_that_call_nas():
    """Kept and foreign ones do not."""
    wishes = [
        DesiredArm(job_id="armed", wake=WAKE), DesiredArm(job_id="kept", wake=WAKE, sent=sent()),
        DesiredArm(job_id="moved", wake=WAKE, sent=sent(callback_url="x")), DesiredArm(job_id="off", wake=None, sent=sent()),
    ]  # fmt: skip
    found = plan_of(wishes, {"kept": WAKE.at, "moved": WAKE.at, "off": WAKE.at, "odd": WAKE.at})
    assert [s.job_id for s in found.changes] == ["armed", "moved", "off"]
    assert found.counts() == {"arm": 1, "move": 1, "cancel": 1, "keep": 1, "orphan": 1}


def test_a_wake_that_found_nothing_moves_on_by_five_seconds_doubled():
    """Up to a quarter of an hour, and past what came."""
    assert [backoff(idle).total_seconds() for idle in (0, 1, 2, 7, 8, 9, 10, 99)] == [
        5,
        10,
        20,
        640,
        900,
        900,
        900,
        900,
    ]
    wake = Wake(at=at(1), purpose=Purpose.LOOK)
    assert instant_to_send(wake, LastArm(idle=1), T, ArmReason(idle_fire=T)) == at(10)
    assert instant_to_send(wake, LastArm(idle=1), T, ArmReason(idle_fire=at(9))) == at(10)
    assert instant_to_send(wake, LastArm(idle=1), T, ArmReason(idle_fire=at(10))) == at(11)
    assert instant_to_send(wake, LastArm(idle=1), T, ArmReason(dropped=True)) == at(1)
    assert instant_to_send(Wake(at=at(60), purpose=Purpose.LOOK), LastArm(), T, ArmReason(idle_fire=T)) == at(60)


@pytest.mark.parametrize(
    ("changes", "at_once"),
    [({}, True), ({"state": ArmState.CANCELLED}, False), ({"spent": True}, False), ({"purpose": "look"}, False),
     ({"fire_at": at(301)}, False), ({"state": ArmState.REFUSED}, True), ({"state": ArmState.UNCONFIRMED}, True)],
)  # fmt: skip
def test_a_key_that_was_sent_is_sent_again_only_for_what_is_still_armed_by_it(changes, at_once):
    """Else the next second that is free."""
    keys = {WAKE.at: "cursor", at(301): "cursor"}
    expected = at(302) if "fire_at" not in changes else at(301)
    assert instant_to_send(WAKE, sent(keys=keys, **changes), T) == (WAKE.at if at_once else expected)


def test_no_instant_is_sent_that_has_come():
    """The next whole second is the first that has not."""
    for now, expected in ((at(300), at(301)), (at(300.5), at(301)), (at(299), at(300)), (at(299.9), at(300))):
        assert instant_to_send(WAKE, LastArm(), now) == expected


LOOK, LEASE = (Wake(at=at(300), purpose=purpose) for purpose in (Purpose.LOOK, Purpose.LEASE))


@pytest.mark.parametrize(
    ("wake", "held", "now", "changes", "serving"),
    [
        # A look that comes sooner than wanted finds nothing and arms the next.
        (LOOK, at(300), T, {}, True), (LOOK, at(301), T, {}, False), (LOOK, at(1), T, {}, True),
        (WAKE, at(200), T, {}, False),
        # A lease that is read twice is the same within five seconds.
        (LEASE, at(290), T, {"purpose": "lease", "wake": at(295)}, True), (LEASE, at(290), T, {"purpose": "lease", "wake": at(294)}, False),
        (LEASE, at(310), T, {"purpose": "lease", "wake": at(305)}, True), (LEASE, at(290), T, {"purpose": "look", "wake": at(295)}, False),
        # What has come is served for as long as NAS may yet call: a minute.
        (WAKE, at(296), at(295), {}, True), (WAKE, at(297), at(295), {}, False), (WAKE, at(235), at(295), {}, True),
        (WAKE, at(234), at(295), {}, False), (WAKE, at(294), at(294), {}, False), (LOOK, T, T, {}, True), (LOOK, at(-61), T, {}, False),
        # Something was sent, it is what is held, and it is not gone.
        (LOOK, None, T, {}, False), (LOOK, at(300), T, {"wake": None}, False), (LOOK, at(300), T, {"fire_at": at(299)}, False),
        (LOOK, at(300), T, {"spent": True}, False), (LOOK, at(300), T, {"state": ArmState.CANCELLED}, False),
        (LOOK, at(300), T, {"state": ArmState.REFUSED}, False), (LOOK, at(300), T, {"state": ArmState.UNCONFIRMED}, True),
    ],
)  # fmt: skip
def test_the_timer_that_was_sent_serves_another_wish(wake, held, now, changes, serving):
    """As far as it does what that one asks."""
    assert serves(sent(**({"fire_at": held} | changes)), wake, held, now) == serving


def test_where_nas_comes_again_by_itself_what_has_come_serves_for_as_long():
    """A minute or an hour."""
    hour = timedelta(hours=1)
    assert serves(sent(fire_at=T), LOOK, T, T + hour, tried=True)
    assert not serves(sent(fire_at=T), LOOK, T, T + hour)
    assert not serves(sent(fire_at=at(2)), WAKE, at(2), T, tried=True)


def test_an_instant_that_nas_may_have_dropped_goes_a_second_later():
    """NAS may remember the key; one that is still armed, and was dropped by nobody, is sent as it is."""
    wake = Wake(at=at(60), purpose=Purpose.LOOK)
    sent = LastArm(wake=at(60), fire_at=at(60), purpose="look", state=ArmState.CONFIRMED, keys={at(60): "look"})
    assert instant_to_send(wake, sent, T) == at(60)
    assert instant_to_send(wake, sent, T, ArmReason(dropped=True)) == at(61)


def test_what_stands_behind_an_owed_redelivery_is_in_whole_seconds():
    """And so far from now at least."""
    wake, behind = Wake(at=at(60), purpose=Purpose.LOOK), ArmReason(behind=timedelta(seconds=90))
    assert instant_to_send(wake, LastArm(), T + timedelta(microseconds=1), behind) == at(90)
    assert instant_to_send(replace(wake, at=at(100)), LastArm(), T, behind) == at(100)
