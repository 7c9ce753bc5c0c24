"""Rules of a decision at their edges: what a run that ended leaves on its job, what stands before a queued run, what is early."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chronos_cli.core.claim import EARLY_LIMIT, UNNAMED_TOLERANCE
from chronos_cli.core.decision import Facts, FireRequest, Outcome, Purpose, Trigger
from chronos_cli.core.occurrence import UNNAMED_AHEAD, decide
from chronos_cli.core.row import REPLACED, RunState, begun, over, row_of
from chronos_cli.frozen import replace
from tests.core.making import T, at, entry, job, look, relay

NINE, NOW, NEXT = at(9), at(10), at(300)
TICK = FireRequest(via=Trigger.TICK, token="t")
OURS, THEIRS = ({"at": T.isoformat(), "by": by} for by in ("chronos:earlier", "host:1"))


def in_hand(*entries, ours=None, **more):
    """A job with these runs in hand, whose next occurrence is five minutes on."""
    mine = {"claimed_through": T.isoformat(), "open": list(entries), **(ours or {})}
    return job(next_run_at=NEXT.isoformat(), ours=mine, **more)


def by_hand():
    return entry(None, run="manual-20261120T120000Z-x")


def ended(found, number=0, state=RunState.FAILED, *, reason="no", finished_at=NINE, **more):
    """The row of one of its runs, which is over."""
    row = row_of("j", found.open[number], found.policy)
    return replace(over(row, state, now=at(9), reason=reason), finished_at=finished_at, **more)


def running(found, number=0):
    row = row_of("j", found.open[number], found.policy)
    return begun(row, starter="s", owner={}, now=T, lease_ends_at=at(3_600))


def left(found, *rows, came=TICK, now=NOW, **facts):
    """The record after a look that finds these rows."""
    return look(found, came, now=now, rows={row.run_id: row for row in rows}, **facts).record


@pytest.mark.parametrize(("held", "outcome"), [(True, Outcome.HELD), (False, Outcome.GONE)])
def test_a_job_that_is_nowhere_is_gone_unless_the_home_is_held(held, outcome):
    """Under a hold NAS comes again: by then the job may be back."""
    assert decide(None, Facts(held=held), relay(), T).outcome is outcome


@pytest.mark.parametrize(
    ("state", "reason", "status", "error"),
    [
        (RunState.FAILED, "no", "error", "no"),
        (RunState.FAILED, None, "error", "failed"),
        (RunState.LOST, None, "error", "lost"),
        (RunState.OK, None, "ok", None),
        (RunState.OK, "a word", "ok", None),
    ],
)
def test_an_end_leaves_its_time_its_status_and_the_reason_of_a_failure(state, reason, status, error):
    """One without a reason says its state; one that went well says nothing."""
    found = in_hand(entry(T))
    record = left(found, ended(found, state=state, reason=reason))
    assert (record["last_run_at"], record["last_status"], record["last_error"]) == (at(9).isoformat(), status, error)


def test_an_end_without_a_time_is_of_now():
    """A row that another program wrote may lack it."""
    found = in_hand(entry(T))
    assert left(found, ended(found, finished_at=None))["last_run_at"] == at(10).isoformat()


@pytest.mark.parametrize("state", [RunState.SKIPPED, RunState.MISSED])
def test_what_never_ran_leaves_no_end(state):
    """It leaves the hand and no more."""
    found = in_hand(entry(T))
    record = left(found, ended(found, state=state))
    assert (record.get("last_status"), record["last_run_at"]) == (None, None)
    assert (record["chronos"]["open"], "failures" in record["chronos"]) == ([], False)


@pytest.mark.parametrize(
    ("first", "second", "last"),
    [(at(9), at(8), "first"), (at(8), at(9), "second"), (None, at(9), "first"), (at(9), None, "second")],
)
def test_of_two_ends_the_later_one_stays(first, second, last):
    """In whichever order they are in hand; one without a time ended just now."""
    found = in_hand(entry(T), entry(at(-300)))
    rows = [ended(found, 0, reason="first", finished_at=first), ended(found, 1, reason="second", finished_at=second)]
    assert left(found, *rows)["last_error"] == last


@pytest.mark.parametrize(
    ("state", "more", "before", "failures"),
    [
        (RunState.FAILED, {}, 0, 1), (RunState.FAILED, {}, 2, 3), (RunState.OK, {}, 2, 0), (RunState.OK, {}, 0, 0),
        (RunState.INTERRUPTED, {}, 2, 3), (RunState.INTERRUPTED, {"reason": REPLACED}, 2, 2),
    ],
)  # fmt: skip
def test_failures_in_a_row_are_counted(state, more, before, failures):
    """One that went well begins anew; one that was ended for a newer occurrence is neither."""
    found = in_hand(entry(T), ours={"failures": before})
    assert left(found, ended(found, state=state, **more))["chronos"].get("failures", 0) == failures


def test_a_manual_run_is_not_counted():
    """It tells nothing of the schedule, and leaves its end all the same."""
    found = in_hand(by_hand(), ours={"failures": 2})
    record = left(found, ended(found))
    assert (record["last_error"], record["chronos"]["failures"]) == ("no", 2)


@pytest.mark.parametrize(
    ("limit", "before", "state", "standing", "pauses"),
    [
        (3, 2, RunState.FAILED, {}, True), (3, 3, RunState.FAILED, {}, True), (3, 1, RunState.FAILED, {}, False),
        (0, 9, RunState.FAILED, {}, False), (1, 5, RunState.OK, {}, False),
        (1, 5, RunState.FAILED, {"enabled": False, "state": "paused", "paused_reason": "by hand"}, False),
    ],
)  # fmt: skip
def test_so_many_failures_in_a_row_pause_the_job(limit, before, state, standing, pauses):
    """From the very number on, where one is set, and not what a person has paused."""
    found = in_hand(entry(T), ours={"failures": before}, policy={"pause_after_failures": limit}, **standing)
    record = left(found, ended(found, state=state))
    assert record.get("paused_reason") == (
        f"{before + 1} runs in a row failed" if pauses else standing.get("paused_reason")
    )
    assert (record["enabled"], record["state"]) == (
        (False, "paused") if pauses else (not standing, standing.get("state", "scheduled"))
    )
    assert record.get("paused_at") == (at(10).isoformat() if pauses else None)


@pytest.mark.parametrize(
    ("stamp", "after"), [(OURS, None), (THEIRS, THEIRS), ("a text", "a text"), ({"at": 1}, {"at": 1}), (None, None)]
)
def test_the_last_end_takes_our_stamp_off_the_record(stamp, after):
    """Nobody else's, whatever it is."""
    found = in_hand(entry(T), fire_claim=stamp)
    assert left(found, ended(found))["fire_claim"] == after


def test_a_stamp_stays_while_a_run_goes_on_and_where_nothing_ended():
    """The next claim's own is not taken off with the end before it."""
    found = in_hand(entry(T), entry(at(-300)), fire_claim=OURS)
    assert left(found, ended(found), running(found, 1))["fire_claim"] == OURS
    idle = in_hand(fire_claim=OURS)
    assert left(idle) is None
    again = in_hand(entry(T), fire_claim=OURS)
    record = left(again, ended(again), came=relay(NEXT), now=NEXT)
    assert record["fire_claim"] == {"at": NEXT.isoformat(), "by": "chronos:token"}


@pytest.mark.parametrize(
    "before",
    [
        {"entries": [entry(at(-300))], "number": None},
        {"entries": [entry(at(-300))], "number": 1},
        {"entries": [], "number": None, "fire_claim": THEIRS},
    ],
    ids=["ready", "running", "of hermes"],
)
def test_a_queued_run_waits_for_what_is_ready_runs_or_is_of_hermes(before):
    """Alone it starts."""
    found = in_hand(entry(T, "queued"), *before["entries"], fire_claim=before.get("fire_claim"))
    rows = [] if before["number"] is None else [running(found, before["number"])]
    starts = look(found, TICK, now=at(10), rows={row.run_id: row for row in rows}).starts
    assert found.open[0].run not in [start.entry.run for start in starts]
    alone = in_hand(entry(T, "queued"))
    assert [start.entry.run for start in look(alone, TICK, now=at(10)).starts] == [alone.open[0].run]


def early(found, named, now, *, via=Trigger.RELAY, rows=(), **facts):
    """Whether a fire is early, and after how many seconds NAS is to come again."""
    came = FireRequest(via=via, token="t", fire_at=named, run_id="manual-x" if via is Trigger.MANUAL else None)
    decision = look(found, came, now=now, rows={row.run_id: row for row in rows}, **facts)
    return decision.retry_after if decision.outcome is Outcome.EARLY else None


def test_a_fire_long_before_the_cursor_or_a_wake_that_it_names_is_early():
    """From a second past the limit on; what was taken already does not come again, nor what nobody armed."""
    limit = int(EARLY_LIMIT.total_seconds())
    second = timedelta(seconds=1)
    assert early(in_hand(), NEXT, NEXT - EARLY_LIMIT - second) == limit + 1
    assert early(in_hand(), NEXT, NEXT - EARLY_LIMIT) is None
    other = at(290)
    assert early(in_hand(), other, at(10)) is None
    assert early(in_hand(), other, at(10), armed=frozenset({other})) == 280
    assert early(in_hand(), other, other - EARLY_LIMIT, armed=frozenset({other})) is None
    taken = in_hand(entry(other))
    assert early(taken, other, at(10), rows=[running(taken)], armed=frozenset({other})) is None
    assert early(in_hand(entry(T)), NEXT, at(10)) == 290, "another run in hand takes nothing of it"
    assert early(in_hand(), NEXT, at(10), via=Trigger.TICK) is None, "nobody comes again for a tick"


def test_a_fire_that_names_nothing_is_early_minutes_before_the_wake():
    """More than two seconds before it and no more than six minutes; not one that does something, nor a second copy."""
    second = timedelta(seconds=1)
    for ahead, seconds in (
        (UNNAMED_TOLERANCE, None),
        (UNNAMED_TOLERANCE + second, UNNAMED_TOLERANCE.total_seconds() + 1),
        (timedelta(seconds=200), 200),
    ):
        assert early(in_hand(), None, NEXT - ahead) == seconds
    far = job(next_run_at=at(600).isoformat(), ours={"claimed_through": T.isoformat()})
    assert early(far, None, at(600) - UNNAMED_AHEAD) == UNNAMED_AHEAD.total_seconds()
    assert early(far, None, at(600) - UNNAMED_AHEAD - second) is None
    assert early(in_hand(entry(T)), None, at(100)) is None, "it starts what is ready"
    assert early(in_hand(), None, at(100), settled_at=at(40)) is None
    assert early(in_hand(), None, at(100), settled_at=at(39)) == 200
    over_and_out = job(next_run_at=None, enabled=False, state="completed")
    assert early(over_and_out, None, at(100)) is None


def test_an_occurrence_that_a_fire_skips_was_not_early():
    """It names none, claims what is due, and the next one is minutes ahead."""
    found = job(ours={"open": [entry(at(-300))], "claimed_through": at(-300).isoformat()})
    row = running(found)
    decision = look(found, relay(None), now=at(1), rows={row.run_id: row})
    assert (decision.outcome, decision.wake.at, decision.retry_after) == (Outcome.SKIPPED, NEXT, None)


def test_what_comes_due_as_a_queued_run_starts_is_queued_behind_it():
    """Nothing stands before the one that waited: it goes, and the newer waits in its place."""
    found = in_hand(entry(T, "queued"), policy={"overlap": "queue"})
    decision = look(found, relay(NEXT), now=NEXT)
    assert decision.outcome is Outcome.QUEUED
    assert [start.entry.run for start in decision.starts] == [found.open[0].run]
    busy = in_hand(entry(T, "queued"), entry(at(-300)), policy={"overlap": "queue"})
    row = running(busy, 1)
    assert look(busy, relay(NEXT), now=NEXT, rows={row.run_id: row}).outcome is Outcome.SKIPPED


def test_a_look_that_is_owed_makes_nothing_early():
    """What is queued behind another program's run is looked at when that is over: nobody has armed it as a time."""
    found = job(
        next_run_at=at(3_600).isoformat(),
        ours={"claimed_through": T.isoformat(), "open": [entry(T, "queued")]},
        fire_claim=THEIRS,
    )
    decision = look(found, relay(None), now=NOW)
    assert (decision.wake.at, decision.wake.purpose) == (at(310), Purpose.LOOK)
    assert decision.outcome is not Outcome.EARLY
