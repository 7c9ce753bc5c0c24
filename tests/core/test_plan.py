"""What NAS should hold against what it says it holds, and which instant is sent."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chronos_cli.core.decision import Purpose, Wake
from chronos_cli.core.plan import Action, ArmReason, ArmState, DesiredArm, LastArm, instant_to_send, serves
from chronos_cli.frozen import replace
from tests.core.making import URL, T, at, plan_of

CURSOR = Wake(at=at(300), purpose=Purpose.CURSOR)


def plan(wishes, held, **more):
    return {step.job_id: step.action for step in plan_of(wishes, held, **more).steps}


def sent(**changes):
    given = {
        "wake": CURSOR.at,
        "fire_at": CURSOR.at,
        "purpose": "cursor",
        "state": ArmState.CONFIRMED,
        "callback_url": URL,
    }
    given["keys"] = {CURSOR.at: "cursor"}
    return LastArm(**(given | changes))


def test_each_action_has_its_reason():
    """Missing is armed, displaced is moved, unwanted is cancelled, right is kept, foreign is left alone."""
    wishes = [
        DesiredArm(job_id="missing", wake=CURSOR),
        DesiredArm(job_id="moved", wake=CURSOR, sent=sent()),
        DesiredArm(job_id="kept", wake=CURSOR, sent=sent()),
        DesiredArm(job_id="paused", wake=None, sent=sent()),
    ]
    held = {"moved": at(600), "kept": at(300), "paused": at(300), "foreign": at(300)}
    assert plan(wishes, held) == {
        "missing": Action.ARM,
        "moved": Action.MOVE,
        "kept": Action.KEEP,
        "paused": Action.CANCEL,
        "foreign": Action.ORPHAN,
    }


def test_what_was_sent_from_here_is_ours_though_nobody_knows_any_more_what():
    """A note that was made anew, in the place of one that could not be read, knows only that there was one."""
    anew = DesiredArm(job_id="j", wake=None, sent=LastArm(state=ArmState.UNCONFIRMED))
    assert plan([anew], {"j": at(300)}) == {"j": Action.CANCEL}
    assert plan([replace(anew, sent=LastArm())], {"j": at(300)}) == {"j": Action.ORPHAN}


def test_what_was_never_taken_back_is_cancelled_though_nas_does_not_list_it():
    """A list may lag. What another home of the fleet has is that home's."""
    paused = DesiredArm(job_id="j", wake=None, sent=sent(), owes_cancel=True)
    assert plan([paused], {}) == {"j": Action.CANCEL}
    assert plan([paused], {}, elsewhere={"j": "work"}) == {}
    assert plan([paused], {"j": at(300)}, elsewhere={"j": "work"}) == {"j": Action.KEEP}
    assert plan([replace(paused, owes_cancel=False)], {}) == {}


def test_a_wake_that_was_sent_a_second_later_is_kept():
    """What counts is the instant that was sent for the wake."""
    wish = DesiredArm(job_id="j", wake=CURSOR, sent=sent(fire_at=at(301)))
    assert plan([wish], {"j": at(301)}) == {"j": Action.KEEP}


@pytest.mark.parametrize("held", [None, at(1)])
def test_a_held_instant_that_is_unreadable_or_another_is_moved(held):
    """An arm whose time cannot be read is not known to be right."""
    assert plan([DesiredArm(job_id="j", wake=CURSOR, sent=sent())], {"j": held}) == {"j": Action.MOVE}


def test_another_callback_url_moves_every_arm():
    """NAS would call where nobody listens any more."""
    assert plan([DesiredArm(job_id="j", wake=CURSOR, sent=sent(callback_url="https://old"))], {"j": at(300)}) == {
        "j": Action.MOVE
    }


def test_an_empty_store_cancels_nothing_without_prune():
    """A store that lost its jobs must not take the timers with it."""
    gone = [DesiredArm(job_id="j", wake=None, sent=sent(), known=False)]
    assert plan(gone, {"j": at(300)}, store_has_jobs=False) == {"j": Action.ORPHAN}
    assert plan(gone, {"j": at(300)}, store_has_jobs=False, prune=True) == {"j": Action.CANCEL}


def test_more_than_half_of_all_arms_is_too_many_to_cancel_at_once():
    """Three jobs gone of four held are suspicious; one of four is not."""
    gone = [DesiredArm(job_id=f"gone{n}", wake=None, sent=sent(), known=False) for n in range(3)]
    kept = [DesiredArm(job_id=f"kept{n}", wake=CURSOR, sent=sent()) for n in range(3)]
    many = {wish.job_id: at(300) for wish in [*gone, kept[0]]}
    few = {wish.job_id: at(300) for wish in [gone[0], *kept]}
    assert set(plan([*gone, kept[0]], many).values()) == {Action.ORPHAN, Action.KEEP}
    assert plan([gone[0], *kept], few)["gone0"] is Action.CANCEL


def test_a_wake_is_never_sent_for_now_or_the_past():
    """At the earliest one second ahead."""
    assert instant_to_send(Wake(at=at(-5), purpose=Purpose.CURSOR), LastArm(), at(0.9)) == at(1)


def test_the_same_wake_is_the_same_key_and_another_purpose_a_second_later():
    """NAS may remember keys for ever, so a key is used again only for what it was made for."""
    assert instant_to_send(CURSOR, sent(), T) == at(300)
    assert instant_to_send(CURSOR, sent(purpose="retry", keys={at(300): "retry"}), T) == at(301)
    assert instant_to_send(CURSOR, sent(spent=True), T) == at(301)
    assert instant_to_send(CURSOR, sent(state=ArmState.CANCELLED), T) == at(301)


def test_a_wake_with_nothing_to_do_backs_off():
    """Five seconds, then ten, up to a quarter of an hour, and never at the instant that just fired."""
    look = Wake(at=at(1), purpose=Purpose.LOOK)
    waits = [
        (instant_to_send(look, LastArm(idle=idle), T, ArmReason(idle_fire=T)) - T).total_seconds()
        for idle in (0, 1, 2, 20)
    ]
    assert waits == [5, 10, 20, 900]


@pytest.mark.parametrize(
    ("off", "said"),
    [(0, ""), (1, ""), (-1, ""), (3, "held 3 s later than wanted"), (-60, "held 60 s earlier than wanted")],
)
def test_a_timer_held_beside_its_instant_is_said(off, said):
    """More than a second from the wanted instant is in the plan's line, also where the timer is kept."""
    wanted = at(300)
    sent = LastArm(wake=wanted, fire_at=wanted + timedelta(seconds=off), purpose="cursor", state=ArmState.CONFIRMED)
    wish = DesiredArm(job_id="a", wake=Wake(at=wanted, purpose=Purpose.CURSOR), sent=sent)
    (step,) = plan_of([wish], {"a": wanted + timedelta(seconds=off)}).steps
    assert (step.action, step.reason) == (Action.KEEP, said)


def test_several_timers_of_a_job_are_one_too_many():
    """Even where one of them is the wanted one, the plan moves it and says how many there are."""
    wanted = at(300)
    wish = DesiredArm(job_id="a", wake=Wake(at=wanted, purpose=Purpose.CURSOR))
    (step,) = plan_of([wish], {"a": wanted}, several={"a": 3}).steps
    assert (step.action, step.reason) == (Action.MOVE, "NAS holds 3 timers for it")


def test_a_key_that_another_instant_has_displaced_is_not_used_again():
    """What is armed is the later one; for the same wake that is the one that is sent."""
    twice = sent(fire_at=at(301), keys={at(300): "cursor", at(301): "cursor"})
    assert instant_to_send(CURSOR, twice, T) == at(301)


def test_another_tolerance_moves_an_arm_whose_tolerance_is_known():
    """Of what was sent for this wake alone, and where NAS spreads at all."""
    wish = Wake(at=at(300), purpose=Purpose.CURSOR, tolerance=60)
    assert plan([DesiredArm(job_id="j", wake=wish, sent=sent(tolerance=30))], {"j": at(300)}) == {"j": Action.MOVE}
    assert plan([DesiredArm(job_id="j", wake=wish, sent=sent(tolerance=60))], {"j": at(300)}) == {"j": Action.KEEP}
    assert plan([DesiredArm(job_id="j", wake=wish, sent=sent(tolerance=None))], {"j": at(300)}) == {"j": Action.KEEP}
    other = sent(tolerance=30, fire_at=at(301))
    assert plan([DesiredArm(job_id="j", wake=wish, sent=other)], {"j": at(300)}) == {"j": Action.KEEP}


@pytest.mark.parametrize("state", [ArmState.CONFIRMED, ArmState.ANSWERED])
def test_a_list_that_is_late_does_not_speak_against_what_nas_took_since(state):
    """A look was armed in place of the cursor, and the list has the cursor still: it is sent again."""
    look = sent(fire_at=at(900), wake=at(900), purpose="look", state=state)
    assert plan([DesiredArm(job_id="j", wake=CURSOR, sent=look)], {"j": CURSOR.at}) == {"j": Action.MOVE}
    unsure = sent(fire_at=at(900), wake=at(900), purpose="look", state=ArmState.UNCONFIRMED)
    assert plan([DesiredArm(job_id="j", wake=CURSOR, sent=unsure)], {"j": CURSOR.at}) == {"j": Action.KEEP}


def test_a_job_of_another_profile_is_kept_only_where_it_is_held():
    """And not where this store wants it as well."""
    wishes = [DesiredArm(job_id="gone", wake=None), DesiredArm(job_id="both", wake=CURSOR, sent=sent())]
    elsewhere = {"gone": "p", "there": "p", "both": "p"}
    assert plan(wishes, {"there": at(300), "both": at(300)}, elsewhere=elsewhere) == {
        "there": Action.KEEP,
        "both": Action.KEEP,
    }
    assert plan(wishes, {"there": at(300), "both": at(1)}, elsewhere=elsewhere)["both"] is Action.MOVE


def test_only_what_would_be_cancelled_unasked_is_counted_as_gone():
    """Timers that were not armed from here are left alone whatever their number; what a person took out is known."""
    gone = [DesiredArm(job_id=f"gone{n}", wake=None, sent=sent(), known=False) for n in range(3)]
    kept = DesiredArm(job_id="kept", wake=CURSOR, sent=sent())
    held = {wish.job_id: at(300) for wish in [*gone, kept]}
    asked = plan([*gone, kept], held, gone={wish.job_id for wish in gone})
    assert set(asked.values()) == {Action.CANCEL, Action.KEEP}
    foreign = {f"foreign{n}": at(300) for n in range(3)} | {"kept": at(300)}
    assert plan_of([kept], foreign).guard is None


@pytest.mark.parametrize(
    ("held", "wanted", "purpose", "sent", "more", "serves_it"),
    [
        (+60, +900, "look", {"purpose": "cursor"}, {}, True),  # a look under a hold that comes sooner
        (+900, +905, "look", {"purpose": "look"}, {}, True),
        (+906, +905, "look", {"purpose": "look"}, {}, False),
        (+60, +900, "cursor", {"purpose": "cursor"}, {}, False),
        (+900, +60, "cursor", {"purpose": "look"}, {}, False),
        (-30, +1, "cursor", {"purpose": "cursor"}, {}, True),  # NAS has a minute to call, or to say that it tries
        (-90, +1, "cursor", {"purpose": "cursor"}, {}, False),
        (-90, +1, "cursor", {"purpose": "cursor"}, {"tried": True}, True),
        (-90, +60, "cursor", {"purpose": "cursor"}, {"tried": True}, False),
        (-90, +900, "look", {"purpose": "cursor"}, {"tried": True}, True),
        (+10, +1, "retry", {"purpose": "retry"}, {"tried": True}, False),
        (+600, +603, "lease", {"purpose": "lease"}, {}, True),
        (+600, +606, "lease", {"purpose": "lease"}, {}, False),
        (+600, +603, "lease", {"purpose": "retry"}, {}, False),
        (-30, +1, "cursor", {"purpose": "cursor", "state": ArmState.CANCELLED}, {}, False),
        (-30, +1, "cursor", {"purpose": "cursor", "spent": True}, {}, False),
        (-30, +1, "cursor", {"purpose": "cursor", "fire_at": 0}, {}, False),
        (None, +1, "cursor", {"purpose": "cursor"}, {}, False),
    ],
)
def test_what_stands_in_for_a_wish(held, wanted, purpose, sent, more, serves_it):
    """Only what was sent last, held still, and either a sooner look or a call for what is due."""
    then = None if held is None else at(held)
    last = {"state": ArmState.CONFIRMED, "wake": then or at(0), "fire_at": then, **sent}
    if last["fire_at"] == 0:
        last["fire_at"] = at(0)
    wake = Wake(at=at(wanted), purpose=Purpose(purpose))
    assert serves(LastArm(**last), wake, then, at(0), **more) is serves_it


LOOK = Wake(at=at(300), purpose=Purpose.LOOK)
LEASE = Wake(at=at(300), purpose=Purpose.LEASE)


@pytest.mark.parametrize(
    ("change", "wake", "seconds", "tried", "does"),
    [
        ({}, LOOK, 0, False, True), ({}, replace(LOOK, at=at(299)), 0, False, False), ({}, CURSOR, 0, False, False),
        ({}, replace(CURSOR, at=at(303)), 299, False, True), ({}, replace(CURSOR, at=at(303)), 298, False, False), ({}, replace(CURSOR, at=at(305)), 300, False, True),
        ({}, replace(CURSOR, at=at(306)), 300, False, False), ({}, replace(CURSOR, at=at(361)), 360, False, True),
        ({}, replace(CURSOR, at=at(362)), 361, False, False), ({}, replace(CURSOR, at=at(362)), 361, True, True),
        ({}, replace(LOOK, at=at(900)), 300, False, True), ({}, replace(LOOK, at=at(900)), 361, False, False),
        ({"purpose": "lease"}, replace(LEASE, at=at(305)), 0, False, True),
        ({"purpose": "lease"}, replace(LEASE, at=at(295)), 0, False, True),
        ({"purpose": "lease"}, replace(LEASE, at=at(306)), 0, False, False),
        ({"purpose": "lease"}, replace(CURSOR, at=at(301)), 0, False, False), ({}, replace(LEASE, at=at(301)), 0, False, False),
        ({"spent": True}, LOOK, 0, False, False), ({"state": ArmState.REFUSED}, LOOK, 0, False, False),
        ({"state": ArmState.CANCELLED}, LOOK, 0, False, False), ({"state": ArmState.UNCONFIRMED}, LOOK, 0, False, True),
        ({"wake": None}, LOOK, 0, False, False), ({"fire_at": at(301)}, LOOK, 0, False, False),
    ],
)  # fmt: skip
def test_a_timer_that_nas_holds_serves_a_wish_that_it_will_see_to(change, wake, seconds, tried, does):
    """A look before it is wanted, what is due while NAS may yet call, and one lease read twice."""
    assert serves(sent(**change), wake, at(300), at(seconds), tried=tried) is does
    assert serves(sent(**change), wake, None, at(seconds), tried=tried) is False


def test_a_wake_with_nothing_to_do_that_named_no_instant_backs_off_from_now():
    """As one that did."""
    assert instant_to_send(Wake(at=at(1), purpose=Purpose.LOOK), LastArm(), T, ArmReason(idle_fire=T)) == at(5)
    assert instant_to_send(Wake(at=at(1), purpose=Purpose.LOOK), LastArm(), T, ArmReason(idle_fire=at(30))) == at(31)
