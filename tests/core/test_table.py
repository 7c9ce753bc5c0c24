"""Every row of the protocol's table, and what each decision writes, starts and arms."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.core.claim import is_expired_completed, right_cursor
from chronos_cli.core.clock import Trust, is_ahead, is_near, may_settle
from chronos_cli.core.decision import Facts, FireRequest, Liveness, Outcome, Purpose, Trigger
from chronos_cli.core.job import HERMES_CLAIM_TTL, HomeDefaults, OpenKind, parse_job
from chronos_cli.core.occurrence import decide
from chronos_cli.core.row import Row, RunState, begun, kept_at, output_of, over, row_of

T = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
HOME = HomeDefaults(zone=UTC, zone_name="UTC")


def record(**changes):
    ours = {"timezone": "UTC", "anchor": (T - HOUR).isoformat(), "action": {"shell": "true"}} | changes.pop("ours", {})
    base = {
        "id": "j", "name": "J", "schedule": {"kind": "interval", "minutes": 60}, "enabled": True, "state": "scheduled",
        "next_run_at": T.isoformat(), "repeat": {"times": None, "completed": 0}, "chronos": ours,
    }  # fmt: skip
    return base | changes


def job(**changes):
    return parse_job(record(**changes), HOME)


def relay(fire_at=T, token="t"):
    return FireRequest(via=Trigger.RELAY, token=token, fire_at=fire_at)


def after(decision):
    return parse_job(decision.record, HOME)


def running(found, *, started=T, lease=HOUR, attempt=1):
    """A job whose first claim is running, and the facts of it."""
    entry = found.open[0]
    row = begun(row_of("j", entry, found.policy), starter="s", owner={}, now=started, lease_ends_at=started + lease)
    row = replace(row, attempt=attempt)
    return Facts(rows={entry.run: row}, liveness={entry.run: Liveness.ALIVE}), row


def claimed(**changes):
    """A job with one run in hand: claimed at T, cursor an hour on."""
    return after(decide(job(**changes), Facts(), relay(), T))


def test_a_due_occurrence_is_claimed_in_one_write_that_moves_the_cursor():
    """Claiming sets claimed_through, moves the cursor, enters the run, and arms the successor."""
    decision = decide(job(), Facts(), relay(), T + MINUTE)
    assert decision.outcome is Outcome.CLAIMED
    assert [start.entry.run for start in decision.starts] == ["20261120T120000Z"]
    assert (decision.wake.at, decision.wake.purpose) == (T + HOUR, Purpose.CURSOR)
    found = after(decision)
    assert (found.cursor, found.claimed_through) == (T + HOUR, T)
    assert [entry.claim for entry in found.open] == ["t"]
    assert found.record["fire_claim"]["by"].startswith("chronos:")


def test_a_second_fire_of_the_same_instant_is_a_duplicate_that_arms_the_present_wake():
    """An instant taken before is answered without a run; the wake is still provisioned."""
    found = claimed()
    facts, _ = running(found)
    decision = decide(found, facts, relay(token="u"), T + MINUTE)
    assert (decision.outcome, decision.starts, decision.record) == (Outcome.DUPLICATE, (), None)
    assert decision.wake.at == T + HOUR


def test_a_claim_whose_run_never_started_is_started_by_the_redelivery():
    """Still accepted: it is started now and answered as the first fire would be."""
    decision = decide(claimed(), Facts(), relay(token="u"), T + MINUTE)
    assert decision.outcome is Outcome.CLAIMED
    assert [start.attempt for start in decision.starts] == [1]


def test_a_claim_never_started_gives_way_to_a_newer_occurrence():
    """A newer occurrence is due: the older one is missed, and only one runs."""
    decision = decide(claimed(), Facts(), relay(T + HOUR, token="u"), T + HOUR)
    assert [row.state for row in decision.settle] == [RunState.MISSED]
    assert [start.entry.run for start in decision.starts] == ["20261120T130000Z"]


def test_early_is_told_to_come_back_and_nothing_is_armed_or_written():
    """The cursor is meant and lies ahead: 503 with the seconds left, at most 900."""
    decision = decide(job(), Facts(), relay(), T - timedelta(seconds=300))
    assert (decision.outcome, decision.retry_after, decision.record) == (Outcome.EARLY, 300, None)
    assert decide(job(), Facts(), relay(), T - HOUR).retry_after == 900


def test_up_to_a_minute_early_is_claimed_and_never_again():
    """A clock a little ahead claims the occurrence, and the successor lies after it."""
    decision = decide(job(), Facts(), relay(), T - MINUTE)
    assert decision.outcome is Outcome.CLAIMED
    assert after(decision).cursor == T + HOUR


def test_gone_ignored_and_stale_write_nothing():
    """An unknown job, a paused one, and an instant that never was: answered, so that NAS stops."""
    assert decide(None, Facts(), relay(), T).outcome is Outcome.GONE
    paused = decide(job(enabled=False, state="paused"), Facts(), relay(), T)
    assert (paused.outcome, paused.wake) == (Outcome.IGNORED, None)
    stale = decide(job(), Facts(), relay(T + timedelta(minutes=7)), T - MINUTE * 5)
    assert (stale.outcome, stale.record) == (Outcome.STALE, None)


def test_a_contradictory_record_does_not_run():
    """Enabled but paused, or disabled but scheduled: neither is runnable."""
    assert decide(job(state="paused"), Facts(), relay(), T).outcome is Outcome.IGNORED
    assert decide(job(enabled=False), Facts(), relay(), T).outcome is Outcome.IGNORED


def test_a_stop_holds_everything_and_the_chain_goes_on():
    """Held: nothing is claimed, and the wake lies a quarter of an hour ahead."""
    decision = decide(job(), Facts(held=True), relay(), T)
    assert (decision.outcome, decision.starts, decision.record) == (Outcome.HELD, (), None)
    assert decision.wake.at == T + timedelta(minutes=15)


def test_a_wake_with_nothing_left_to_do_is_idle():
    """A fire that names an armed wake and finds nothing is answered 200."""
    wake = T - timedelta(minutes=20)
    decision = decide(job(), Facts(armed=frozenset({wake})), relay(wake), wake)
    assert (decision.outcome, decision.starts) == (Outcome.IDLE, ())


def test_no_instant_means_whatever_is_due_else_duplicate():
    """Without fire_at the cursor is meant when it is due, with two seconds of tolerance; else the fire was had before."""
    assert decide(job(), Facts(), relay(None), T - timedelta(seconds=2)).outcome is Outcome.CLAIMED
    assert decide(job(), Facts(), relay(None), T - MINUTE * 7).outcome is Outcome.DUPLICATE


def test_no_instant_minutes_before_the_wake_is_an_early_fire():
    """A NAS whose clock runs ahead would fire what is armed again at once: it is told to come back instead."""
    decision = decide(job(), Facts(), relay(None), T - timedelta(seconds=290.5))
    assert (decision.outcome, decision.retry_after, decision.record) == (Outcome.EARLY, 290, None)
    assert decide(job(), Facts(), relay(None), T - timedelta(seconds=3)).outcome is Outcome.EARLY


def test_no_instant_right_after_a_fire_is_that_fire_again():
    """What comes within a minute of a callback that settled something is its second copy, whatever lies ahead."""
    now = T - MINUTE * 2
    echo = Facts(settled_at=now - timedelta(seconds=20))
    assert decide(job(), echo, relay(None), now).outcome is Outcome.DUPLICATE
    older = Facts(settled_at=now - timedelta(seconds=61))
    assert decide(job(), older, relay(None), now).outcome is Outcome.EARLY


@pytest.mark.parametrize(
    ("overlap", "outcome"), [("skip", Outcome.SKIPPED), ("queue", Outcome.QUEUED), ("allow", Outcome.CLAIMED)]
)
def test_overlap_decides_about_an_occurrence_that_meets_a_run(overlap, outcome):
    """Skip writes a row that names the run in flight, queue waits, allow runs; each moves the cursor."""
    found = claimed(ours={"policy": {"overlap": overlap, "timeout": 7200}})
    facts, row = running(found, lease=3 * HOUR)
    decision = decide(found, facts, relay(T + HOUR, token="u"), T + HOUR)
    assert decision.outcome is outcome
    assert after(decision).cursor == T + 2 * HOUR
    if overlap != "allow":
        assert row.run_id in decision.owed[0].because


def test_only_one_occurrence_is_queued():
    """A third one that meets run and queue is skipped."""
    found = claimed(ours={"policy": {"overlap": "queue"}})
    facts, row = running(found, lease=5 * HOUR)
    second = after(decide(found, facts, relay(T + HOUR, token="u"), T + HOUR))
    queued = row_of("j", second.open[1], second.policy)
    facts = replace(facts, rows={row.run_id: row, queued.run_id: queued})
    third = decide(second, facts, relay(T + 2 * HOUR, token="v"), T + 2 * HOUR)
    assert third.outcome is Outcome.SKIPPED


def test_the_end_of_a_run_starts_what_is_queued():
    """When the run is over its entry goes, and the queued one's turn has come."""
    found = claimed(ours={"policy": {"overlap": "queue"}})
    facts, row = running(found, lease=5 * HOUR)
    second = after(decide(found, facts, relay(T + HOUR, token="u"), T + HOUR))
    queued = row_of("j", second.open[1], second.policy)
    facts = Facts(rows={row.run_id: over(row, RunState.OK, now=T + HOUR), queued.run_id: queued})
    ended = decide(second, facts, FireRequest(via=Trigger.RUN_ENDED, token="w"), T + HOUR + MINUTE)
    assert [start.entry.run for start in ended.starts] == [queued.run_id]
    assert [entry.run for entry in after(ended).open] == [queued.run_id]
    assert ended.record["last_status"] == "ok"


def test_an_occurrence_that_meets_a_manual_run_waits_for_it():
    """It is queued, never skipped, although the job says skip."""
    manual = after(
        decide(job(), Facts(), FireRequest(via=Trigger.MANUAL, token="m", run_id="manual-1"), T - MINUTE * 5)
    )
    facts, _ = running(manual)
    decision = decide(manual, facts, relay(), T)
    assert decision.outcome is Outcome.QUEUED


def test_a_manual_run_consumes_nothing():
    """It has its own identity; the cursor, the count and claimed_through stay."""
    decision = decide(job(), Facts(), FireRequest(via=Trigger.MANUAL, token="m", run_id="manual-1"), T - MINUTE * 5)
    found = after(decision)
    assert [start.entry.run for start in decision.starts] == ["manual-1"]
    assert (found.cursor, found.claimed_through, found.completed) == (T, None, 0)


def test_past_its_grace_the_newest_instant_runs_and_the_rest_is_one_range():
    """Three days late: one run, and one missed range for all before it."""
    late = T + timedelta(days=3, minutes=5)
    decision = decide(job(), Facts(), relay(), late)
    (missed,) = decision.owed
    assert decision.starts[0].entry.fire_at == T + timedelta(days=3)
    assert (missed.state, missed.scheduled_at, missed.count) == (RunState.MISSED, T, 72)
    assert missed.through == T + timedelta(days=3) - HOUR
    assert after(decision).cursor == T + timedelta(days=3) + HOUR


def test_with_no_grace_a_late_occurrence_is_missed():
    """`grace: 0` never starts late."""
    decision = decide(job(ours={"policy": {"grace": 0}}), Facts(), relay(), T + MINUTE)
    assert (decision.outcome, decision.starts) == (Outcome.MISSED, ())
    assert after(decision).claimed_through == T


def test_a_year_of_minutes_is_settled_at_once():
    """A minutely job a year behind: one start, one range that says at least a thousand."""
    old = job(schedule={"kind": "cron", "expr": "* * * * *"}, next_run_at=(T - timedelta(days=365)).isoformat())
    decision = decide(old, Facts(), relay(None), T)
    assert len(decision.starts) == 1
    assert (decision.owed[0].count, decision.owed[0].exact) == (1000, False)
    assert after(decision).cursor == T + MINUTE


def test_reconcile_starts_nothing_and_wakes_somebody_at_once():
    """What is overdue gets a wake a second ahead; the claim is left to it."""
    decision = decide(job(), Facts(), FireRequest(via=Trigger.RECONCILE, token="r"), T + MINUTE)
    assert (decision.starts, decision.record) == ((), None)
    assert decision.wake.at == T + MINUTE + timedelta(seconds=1)


@pytest.mark.parametrize("cursor", [None, "nonsense", ""])
def test_a_lost_cursor_is_put_right(cursor):
    """A null or unreadable next_run_at becomes the first instant ahead."""
    decision = decide(job(next_run_at=cursor), Facts(), FireRequest(via=Trigger.RECONCILE, token="r"), T + MINUTE)
    assert after(decision).cursor == T + HOUR


def test_a_clock_set_back_never_takes_an_instant_twice():
    """With the clock three hours back, the successor still lies after everything claimed."""
    found = claimed()
    facts, _ = running(found, lease=9 * HOUR)
    behind = replace(found, cursor=None)
    decision = decide(behind, facts, FireRequest(via=Trigger.RECONCILE, token="r"), T - 3 * HOUR)
    assert after(decision).cursor == T + HOUR


def test_a_dead_run_is_lost_unless_the_job_wants_it_again():
    """on_crash decides: lost, or the next attempt at once, three times at most."""
    for policy, state, starts in (({}, RunState.LOST, 0), ({"on_crash": "rerun"}, RunState.ACCEPTED, 1)):
        found = claimed(ours={"policy": policy})
        facts, row = running(found)
        facts = replace(facts, liveness={row.run_id: Liveness.DEAD})
        decision = decide(found, facts, relay(token="u"), T + MINUTE)
        assert [settled.state for settled in decision.settle] == [state]
        assert len(decision.starts) == starts
    worn = replace(row, reruns=3)
    decision = decide(found, replace(facts, rows={row.run_id: worn}), relay(token="u"), T + MINUTE)
    assert [settled.state for settled in decision.settle] == [RunState.LOST]


def test_where_the_owner_cannot_be_seen_only_the_lease_counts():
    """Unseen and within its lease a run lives; past it, it is over, whatever the lock says."""
    found = claimed()
    for liveness in (Liveness.UNSEEN, Liveness.ALIVE):
        facts, row = running(found, lease=HOUR / 2)
        facts = replace(facts, liveness={row.run_id: liveness})
        assert decide(found, facts, relay(token="u"), T + MINUTE).settle == ()
        past = decide(found, facts, relay(token="u"), T + HOUR / 2)
        assert [settled.state for settled in past.settle] == [RunState.LOST]


def test_a_retry_is_woken_by_arming_and_ended_by_the_next_claim():
    """A failed attempt with retries left waits for its wake; claiming the next occurrence ends it as it failed."""
    found = claimed(ours={"policy": {"retries": 2}})
    _, row = running(found)
    waiting = over(row, RunState.FAILED, now=T + MINUTE, retries=2, exit_status=1)
    facts = Facts(rows={row.run_id: waiting})
    looked = decide(found, facts, FireRequest(via=Trigger.RUN_ENDED, token="e"), T + MINUTE)
    assert (looked.wake.at, looked.wake.purpose) == (waiting.not_before, Purpose.RETRY)
    again = decide(found, facts, relay(waiting.not_before, token="u"), waiting.not_before)
    assert [start.attempt for start in again.starts] == [2]
    ended = decide(found, facts, relay(T + HOUR, token="u"), T + HOUR)
    assert [settled.state for settled in ended.settle] == [RunState.FAILED]
    assert [start.entry.fire_at for start in ended.starts] == [T + HOUR]


@pytest.mark.parametrize("cursor", [T.isoformat(), None], ids=["due", "null"])
@pytest.mark.parametrize(
    "schedule", [{"kind": "interval", "minutes": 60}, {"kind": "once", "run_at": T.isoformat()}], ids=["hourly", "once"]
)
def test_a_job_whose_runs_are_all_counted_is_complete_and_not_run_again(schedule, cursor):
    """Hermes counts a single time before it runs it, and may have died since: a second start is none of ours."""
    found = job(schedule=schedule, next_run_at=cursor, repeat={"times": 2, "completed": 2})
    decision = decide(found, Facts(), relay(), T)
    assert (decision.starts, decision.wake) == ((), None)
    assert (decision.record["state"], decision.record["enabled"]) == ("completed", False)
    assert decision.record["next_run_at"] is None


def test_while_hermes_still_runs_the_last_of_a_job_it_is_not_completed_under_its_hands():
    """Its claim is alive, so it writes the end."""
    claim = {"at": T.isoformat(), "by": "host:1"}
    single = {"kind": "once", "run_at": T.isoformat()}
    found = job(schedule=single, repeat={"times": 1, "completed": 1}, run_claim=claim)
    decision = decide(found, Facts(), FireRequest(via=Trigger.RECONCILE, token="r"), T - MINUTE)
    assert (decision.starts, decision.record) == ((), None)


def test_the_last_repeat_completes_the_job_once_its_run_is_over():
    """The count goes with the claim; the state only when nothing is in hand, and hermes cannot revive it."""
    found = claimed(repeat={"times": 1, "completed": 0})
    assert (found.cursor, found.record["enabled"], found.record["state"]) == (None, False, "scheduled")
    assert found.record["last_run_at"]
    _, row = running(found)
    ended = decide(
        found,
        Facts(rows={row.run_id: over(row, RunState.FAILED, now=T)}),
        FireRequest(via=Trigger.RUN_ENDED, token="e"),
        T,
    )
    assert (ended.record["state"], ended.record["last_status"]) == ("completed", "error")
    assert ended.wake is None


def test_failures_in_a_row_pause_the_job():
    """pause_after_failures counts scheduled runs that did not end well, and says why the job stands still."""
    found = claimed(ours={"policy": {"pause_after_failures": 2}, "failures": 1})
    _, row = running(found)
    ended = decide(
        found,
        Facts(rows={row.run_id: over(row, RunState.TIMEOUT, now=T)}),
        FireRequest(via=Trigger.RUN_ENDED, token="e"),
        T,
    )
    assert (ended.record["state"], ended.record["enabled"], ended.wake) == ("paused", False, None)
    assert "2 runs in a row failed" in ended.record["paused_reason"]


def test_a_live_claim_of_hermes_counts_as_a_run_in_hand():
    """A fresh fire_claim of its own makes ours wait; an old one or ours does not."""
    fresh = {"fire_claim": {"at": (T - MINUTE).isoformat(), "by": "host:1"}}
    assert decide(job(**fresh), Facts(), relay(), T).outcome is Outcome.SKIPPED
    old = {"fire_claim": {"at": (T - HOUR).isoformat(), "by": "host:1"}}
    assert decide(job(**old), Facts(), relay(), T).outcome is Outcome.CLAIMED


def test_a_tick_claims_only_what_has_come():
    """The built-in trigger takes a cursor at or before now, and nothing ahead."""
    tick = FireRequest(via=Trigger.TICK, token="k")
    assert decide(job(), Facts(), tick, T).outcome is Outcome.CLAIMED
    assert decide(job(), Facts(), tick, T - timedelta(seconds=1)).starts == ()


def test_what_a_late_claim_passed_over_does_not_end_its_retries():
    """Two hours late, the first hour runs and the next is missed: its failed run is tried again all the same."""
    late = T + HOUR + MINUTE
    claim = decide(job(ours={"policy": {"retries": 1}}), Facts(), relay(), late)
    found = after(claim)
    assert [row.state for row in claim.owed] == [RunState.MISSED]
    entry = next(entry for entry in found.open if entry.kind == "run")
    row = begun(row_of("j", entry, found.policy), starter="s", owner={}, now=late, lease_ends_at=late + HOUR)
    failed = over(row, RunState.FAILED, now=late, retries=1)
    looked = decide(found, Facts(rows={entry.run: failed}), FireRequest(via=Trigger.RUN_ENDED, token="e"), late)
    assert (looked.wake.at, looked.wake.purpose) == (failed.not_before, Purpose.RETRY)


def replacing():
    """A job that replaces what runs, with one run in hand, and the facts of it when the next occurrence is due."""
    found = claimed(ours={"policy": {"overlap": "replace"}})
    return found, *running(found, lease=9 * HOUR)


def waiting_for(found, facts):
    """The job with the next occurrence queued behind its run, and the facts of both."""
    second = after(decide(found, facts, relay(found.cursor), found.cursor))
    queued = row_of("j", second.open[1], second.policy)
    return second, replace(facts, rows={**facts.rows, queued.run_id: queued})


def test_a_newer_occurrence_has_the_run_asked_to_end_and_waits_for_that():
    """It is queued, whether or not the run can be asked: what waits is never lost with a look that dies."""
    found, facts, row = replacing()
    second = decide(found, facts, relay(found.cursor), found.cursor)
    assert (second.outcome, second.replaced, second.starts) == (Outcome.QUEUED, (row,), ())
    waiting, facts = waiting_for(found, facts)
    assert decide(waiting, facts, relay(None), found.cursor + MINUTE).replaced == (row,)
    for via in (Trigger.RECONCILE, Trigger.INSPECT):
        assert decide(waiting, facts, FireRequest(via=via, token="t"), found.cursor).replaced == ()
    over_ = replace(facts, liveness={row.run_id: Liveness.DEAD})
    ended = decide(waiting, over_, FireRequest(via=Trigger.RUN_ENDED, token="t"), found.cursor + MINUTE)
    assert ([start.entry.fire_at for start in ended.starts], ended.replaced) == ([found.cursor], ())


def test_of_occurrences_that_wait_for_a_run_that_cannot_be_ended_the_newest_stays():
    """The one before it is missed, and says why; so no more than one waits."""
    found, facts, _ = replacing()
    waiting, facts = waiting_for(found, facts)
    third = decide(waiting, facts, relay(waiting.cursor), waiting.cursor)
    (row,) = [row for row in third.settle if row.scheduled_at == found.cursor]
    assert (row.state, row.because) == (RunState.MISSED, "a newer occurrence took its place")
    left = [(entry.fire_at, entry.kind) for entry in after(third).open]
    assert left[1:] == [(waiting.cursor, OpenKind.QUEUED)]


def test_with_nothing_in_the_way_a_job_that_replaces_runs():
    """And nobody is asked for anything."""
    first = decide(job(ours={"policy": {"overlap": "replace"}}), Facts(), relay(), T)
    assert (first.outcome, len(first.starts), first.replaced) == (Outcome.CLAIMED, 1, ())


def test_a_run_that_was_given_something_is_started_by_whoever_has_it():
    """Others leave it for two minutes, and then close it; it is tried no second time."""
    asked = FireRequest(via=Trigger.MANUAL, token="mine", run_id="manual-1", own=True)
    first = decide(job(ours={"policy": {"retries": 2}}), Facts(), asked, T - MINUTE)
    assert [start.entry.own for start in first.starts] == [True]
    found = after(first)
    assert [start.entry.run for start in decide(found, Facts(), asked, T - MINUTE).starts] == ["manual-1"]
    other = FireRequest(via=Trigger.RUN_ENDED, token="other")
    waits = decide(found, Facts(), other, T - MINUTE)
    assert (waits.starts, waits.settle) == ((), ())
    (closed,) = decide(found, Facts(), other, T + 2 * MINUTE).settle
    assert closed.state is RunState.MISSED
    assert "only whoever asked for it had what it was given" in closed.because
    assert row_of("j", found.open[0], found.policy).policy["retries"] == 0


def test_a_miss_before_the_schedule_began_reaches_to_its_own_instant():
    """A single time that somebody brought forward has nothing of the schedule at or before it."""
    late = job(schedule={"kind": "once", "run_at": (T + timedelta(days=10)).isoformat()})
    (missed,) = decide(late, Facts(), relay(), T + timedelta(days=3)).owed
    assert (missed.scheduled_at, missed.through, missed.count) == (T, T, 1)


def test_an_instant_that_never_was_is_stale_also_after_others_were_claimed():
    """Later than everything claimed it is stale, at or before it a duplicate."""
    found = claimed()
    facts, _ = running(found)
    outcomes = [
        decide(found, facts, relay(T + MINUTE * minutes, token="u"), T + MINUTE).outcome for minutes in (-7, 0, 1)
    ]
    assert outcomes == [Outcome.DUPLICATE, Outcome.DUPLICATE, Outcome.STALE]


def test_a_queued_run_that_nothing_of_ours_holds_up_is_looked_at_again():
    """While hermes runs the job its claim has to pass first; under a stop the next second is not waited for."""
    found = claimed(ours={"policy": {"overlap": "queue"}})
    facts, row = running(found, lease=5 * HOUR)
    second = after(decide(found, facts, relay(T + HOUR, token="u"), T + HOUR))
    queued = row_of("j", second.open[1], second.policy)
    now = T + HOUR + MINUTE
    ended = Facts(rows={row.run_id: over(row, RunState.OK, now=now), queued.run_id: queued})
    theirs = parse_job(dict(second.record) | {"fire_claim": {"at": now.isoformat(), "by": "host:1"}}, HOME)
    looked = decide(theirs, ended, FireRequest(via=Trigger.RUN_ENDED, token="w"), now)
    assert looked.starts == ()
    assert (looked.wake.at, looked.wake.purpose) == (now + HERMES_CLAIM_TTL, Purpose.LOOK)
    waiting = decide(second, ended, FireRequest(via=Trigger.RECONCILE, token="r"), now)
    assert (waiting.wake.at, waiting.wake.purpose) == (now + timedelta(seconds=1), Purpose.LOOK)


def test_lateness_is_that_of_the_first_attempt():
    """A retry is not late because it waited."""
    found = claimed()
    row = row_of("j", found.open[0], found.policy)
    first = begun(row, starter="s", owner={}, now=T + timedelta(seconds=2.5), lease_ends_at=T + HOUR)
    assert (first.lateness_s, first.kind) == (2.5, "on_time")
    again = begun(replace(first, attempt=2), starter="s", owner={}, now=T + MINUTE, lease_ends_at=T + HOUR)
    assert (again.lateness_s, again.kind) == (2.5, "retry")


def completed(**changes):
    ours = {"completed_at": T.isoformat()} | changes.pop("ours", {})
    return job(**{"enabled": False, "state": "completed", "next_run_at": None, "ours": ours} | changes)


def test_a_completed_job_leaves_the_store_after_a_week():
    """Counted from its completion, or from its last run where another program completed it; nothing in hand goes."""
    week = timedelta(days=7)
    assert is_expired_completed(completed(), T + week + timedelta(seconds=1))
    assert not is_expired_completed(completed(), T + week)
    theirs = completed(ours={"completed_at": None}, last_run_at=T.isoformat())
    assert is_expired_completed(theirs, T + week + timedelta(seconds=1))
    never = completed(ours={"completed_at": None})
    assert not is_expired_completed(never, T + 2 * week)
    assert not is_expired_completed(job(ours={"completed_at": T.isoformat()}), T + 2 * week)
    entry = {"run": "r", "kind": "run", "claim": "c", "claimed_at": T.isoformat()}
    assert not is_expired_completed(completed(ours={"open": [entry]}), T + 2 * week)


def test_a_single_run_that_was_had_is_not_had_again():
    """Its cursor is gone: by what was claimed, or by what hermes noted, it is spent; else it is still to come."""
    single = {"kind": "once", "run_at": T.isoformat()}
    cursors = [
        right_cursor(job(schedule=single, next_run_at=None, **more), T - MINUTE)
        for more in ({}, {"last_run_at": T.isoformat()}, {"ours": {"claimed_through": T.isoformat()}})
    ]
    assert cursors == [T, None, None]


def test_only_a_witness_or_a_day_at_most_lets_a_late_occurrence_be_settled():
    """The day itself is still near, and so is as much as the job's grace says."""
    day = timedelta(days=1)
    assert is_near(job(), T, T + day)
    assert not is_near(job(), T, T + day + timedelta(seconds=1))
    assert is_near(job(ours={"policy": {"grace": 3 * 86_400}}), T, T + 3 * day)
    for trust in Trust:
        assert may_settle(job(), T, T + 2 * day, trust) == (trust is not Trust.UNHEARD)
        assert may_settle(job(), T, T + day, trust)


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_run_that_went_well_ends_the_count_of_failures(before):
    """And one that did not goes on with it; a manual run counts for neither."""
    found = claimed(ours={"failures": before})
    _, row = running(found)
    for state, count in ((RunState.OK, 0), (RunState.FAILED, before + 1)):
        facts = Facts(rows={row.run_id: over(row, state, now=T)})
        assert after(decide(found, facts, FireRequest(via=Trigger.RUN_ENDED, token="e"), T)).failures == count


def test_a_single_time_that_somebody_put_off_is_not_ahead():
    """A schedule of one instant explains nothing later, and nobody brings it back."""
    single = job(schedule={"kind": "once", "run_at": T.isoformat()}, next_run_at=(T + timedelta(days=20)).isoformat())
    assert not is_ahead(single, T + HOUR)
    assert is_ahead(job(next_run_at=(T + timedelta(days=20)).isoformat()), T + HOUR)


def test_a_row_that_waits_for_its_next_attempt_is_read_again_with_those_before_it():
    """One that names a further attempt and none before it was not written by us."""
    _, row = running(claimed())
    waiting = over(row, RunState.FAILED, now=T + MINUTE, retries=2, exit_status=1)
    assert Row.from_json(waiting.to_json() | {"attempts": list(waiting.attempts)}) == waiting
    assert (waiting.attempt, len(waiting.attempts), waiting.awaits_attempt) == (2, 1, True)
    assert Row.from_json(row.to_json()) == row
    with pytest.raises(ValueError, match="none before it"):
        Row.from_json({key: value for key, value in waiting.to_json().items() if key != "attempts"})
    ended = over(replace(row, attempt=2), RunState.FAILED, now=T)
    assert Row.from_json({**ended.to_json(), "attempts": []}).terminal


def test_a_spent_job_that_its_failures_pause_is_paused_and_not_completed():
    """Hermes counted its last time before it ran it: a person decides what comes next."""
    entry = {
        "run": "20261120T110000Z",
        "kind": "run",
        "claim": "c",
        "claimed_at": T.isoformat(),
        "fire_at": (T - HOUR).isoformat(),
    }
    ours = {"policy": {"pause_after_failures": 1}, "open": [entry], "claimed_through": (T - HOUR).isoformat()}
    found = job(next_run_at=None, repeat={"times": 2, "completed": 2}, ours=ours)
    _, row = running(found, started=T - HOUR)
    for state, left in ((RunState.FAILED, "paused"), (RunState.OK, "completed")):
        facts = Facts(rows={row.run_id: over(row, state, now=T)})
        ended = decide(found, facts, FireRequest(via=Trigger.RUN_ENDED, token="e"), T)
        assert (ended.record["state"], ended.record["enabled"]) == (left, False)


def test_a_row_names_outputs_of_its_own_run_alone():
    """What it says of another's file is not believed, in itself or in an earlier attempt."""
    row = row_of("j", claimed().open[0], claimed().policy)
    own, second, other = output_of("j", row.run_id, 1), output_of("j", row.run_id, 2), output_of("k", row.run_id, 1)
    kept = kept_at(
        replace(row, output=second, attempts=({"output": own}, {"output": other, "n": 1}, {})), "j", row.run_id
    )
    assert (kept.output, kept.attempts) == (second, ({"output": own}, {"n": 1}, {}))
    assert kept_at(replace(row, output=other), "j", row.run_id).output is None
    assert (kept_at(row, "k", "r").job_id, kept_at(row, "k", "r").run_id) == ("k", "r")
