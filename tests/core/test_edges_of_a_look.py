"""Rules of a look at their edges: each is one condition of a decision, and says what is done where it just holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.core.claim import right_cursor
from chronos_cli.core.clock import Trust, displaced, doubt_about
from chronos_cli.core.decision import FireRequest, Liveness, Outcome, Purpose, Trigger
from chronos_cli.core.job import jitter_of, parse_job
from chronos_cli.core.policy import OnCrash, Policy
from chronos_cli.core.row import MAX_RERUNS, REPLACED, RunState, begun, died, is_output_of, output_of, over, row_of
from chronos_cli.core.schedule import check_cron
from chronos_cli.errors import ScheduleError
from chronos_cli.frozen import replace
from tests.core.making import HOME, T, at, entry, job, look, record, relay

NEXT = at(300)
RECONCILE = FireRequest(via=Trigger.RECONCILE, token="r")


def in_hand(**more):
    """A job whose run of T is in hand, and whose next occurrence is five minutes on."""
    ours = {"claimed_through": T.isoformat(), "open": [entry(T)]}
    return job(next_run_at=NEXT.isoformat(), ours=ours, **more)


def retrying(found, not_before):
    """The row of its run, which failed once and is tried again at an instant."""
    failed = over(row_of("j", found.open[0], found.policy), RunState.FAILED, now=at(1), reason="no")
    last = failed.attempts[-1]
    return replace(failed, state=RunState.ACCEPTED, attempt=2, not_before=not_before, attempts=(last,))


def test_what_waits_to_be_started_has_somebody_come_at_once():
    """Reconcile starts nothing: where a run is claimed and has not started, its wake is the next second."""
    decision = look(in_hand(), RECONCILE, now=at(5))
    assert decision.starts == ()
    assert (decision.wake.at, decision.wake.purpose) == (at(6), Purpose.LOOK)


def test_a_start_writes_the_record_only_where_the_run_may_be_over_and_pruned():
    """Its row is there: then the row decides who starts it, and the record may stay as it is."""
    found = in_hand()
    row = row_of("j", found.open[0], found.policy)
    with_row, without = look(found, now=at(1), rows={row.run_id: row}), look(found, now=at(1))
    assert (
        [start.entry.run for start in with_row.starts] == [start.entry.run for start in without.starts] == [row.run_id]
    )
    assert with_row.record is None
    assert without.record is not None


def test_reconcile_moves_a_cursor_past_its_grace_to_the_newest_instant_and_claims_nothing():
    """What lies before that one is missed, in the same write."""
    decision = look(job(policy={"grace": 200}), RECONCILE, now=at(700))
    assert decision.record["next_run_at"] == at(600).isoformat()
    assert [row.state for row in decision.owed] == [RunState.MISSED]
    assert decision.starts == ()


def test_the_latest_instant_that_was_taken_is_a_duplicate_also_where_a_wake_was_armed_for_it():
    """One later than that, with nothing left to do, is idle."""
    found = job(next_run_at=NEXT.isoformat(), ours={"claimed_through": T.isoformat()})
    assert look(found, relay(T), now=at(1), armed=frozenset({T})).outcome is Outcome.DUPLICATE
    assert look(found, relay(at(1)), now=at(1), armed=frozenset({at(1)})).outcome is Outcome.IDLE


@pytest.mark.parametrize(
    ("seconds", "outcome"), [(29, Outcome.EARLY), (3, Outcome.EARLY), (2, Outcome.IDLE), (1, Outcome.IDLE)]
)
def test_a_fire_that_names_the_very_wake_that_is_wanted_is_early_more_than_two_seconds_before_it(seconds, outcome):
    """Armed anew it would come as early again; closer to its time nothing is early."""
    found = in_hand()
    row, wake = retrying(found, at(30)), at(30)
    decision = look(
        found, relay(wake), now=wake - timedelta(seconds=seconds), rows={row.run_id: row}, armed=frozenset({wake})
    )
    assert (decision.outcome, decision.starts) == (outcome, ())
    assert decision.wake.at == wake
    assert decision.retry_after == (seconds if outcome is Outcome.EARLY else None)


def test_a_fire_that_names_what_was_never_armed_is_stale_however_near_the_wake_is():
    """The job was edited since: what is wanted is armed anew."""
    found = in_hand()
    row = retrying(found, at(30))
    decision = look(found, relay(at(40)), now=at(10), rows={row.run_id: row})
    assert (decision.outcome, decision.retry_after) == (Outcome.STALE, None)


def test_a_retry_that_the_next_occurrence_ends_leaves_its_failure_on_the_job():
    """The run is over as its last attempt was, and is counted so."""
    found = in_hand()
    row = retrying(found, at(400))
    decision = look(found, relay(NEXT), now=at(300.5), rows={row.run_id: row})
    assert [(row.run_id, row.state) for row in decision.settle] == [("20261120T120000Z", RunState.FAILED)]
    assert decision.record["last_status"] == "error"
    assert decision.record["chronos"]["failures"] == 1
    assert [entry["run"] for entry in decision.record["chronos"]["open"]] == ["20261120T120500Z"]


def test_a_run_that_is_rerun_after_a_crash_is_looked_at_when_its_lease_ends():
    """That is its timeout and a minute after its start."""
    decision = look(job(policy={"on_crash": "rerun", "timeout": 60}), now=at(0.5))
    assert (decision.wake.at, decision.wake.purpose) == (at(120.5), Purpose.LEASE)


def test_a_time_of_another_offset_is_put_right_with_its_jitter():
    """What its schedule gives is on the minute once the jitter is off; a time with a fraction was set by somebody."""
    policy = {"jitter": 600}
    offset = jitter_of("j", Policy(jitter=600))
    assert offset.seconds % 60 not in (0, 30)
    nine = datetime(2026, 11, 29, 9, tzinfo=UTC) + offset
    daily = {"kind": "cron", "expr": "0 9 * * *"}
    stored = nine.isoformat().replace("+00:00", "+06:00")
    assert displaced(job(schedule=daily, policy=policy, next_run_at=stored)) == nine
    fraction = nine.replace(microsecond=250_000).isoformat().replace("+00:00", "+06:00")
    assert displaced(job(schedule=daily, policy=policy, next_run_at=fraction)) is None


def test_a_next_time_that_was_claimed_already_gives_way_to_the_one_after_it():
    """Whoever stored it again did not know of the claim."""
    found = job(ours={"claimed_through": T.isoformat()})
    assert right_cursor(found, at(1)) == NEXT
    decision = look(found, now=at(1))
    assert (decision.starts, decision.record["next_run_at"]) == ((), NEXT.isoformat())


@pytest.mark.parametrize(("seconds", "starts"), [(-2, 1), (-2.1, 0)])
def test_only_a_fire_that_names_no_instant_may_take_one_two_seconds_ahead(seconds, starts):
    """One that names another instant takes what is due, and nothing of what comes next."""
    assert len(look(job(), relay(None), now=at(seconds)).starts) == starts
    assert look(job(), relay(at(-100)), now=at(-1)).starts == ()
    assert len(look(job(), relay(at(-100)), now=at(0)).starts) == 1


@pytest.mark.parametrize("manual", [True, False])
def test_a_paused_job_gives_up_what_its_schedule_had_claimed_and_starts_what_a_person_asked_for(manual):
    """Neither has a row yet."""
    open_ = entry(None, run="manual-20261120T115000Z-x") if manual else entry(T)
    found = job(enabled=False, state="paused", next_run_at=NEXT.isoformat(), ours={"open": [open_]})
    decision = look(found, FireRequest(via=Trigger.TICK, token="t"), now=at(1))
    assert len(decision.starts) == manual
    assert [row.state for row in decision.settle] == ([] if manual else [RunState.MISSED])


def test_a_job_that_is_completed_is_not_completed_again():
    """The day on which it was stays."""
    done = job(enabled=False, state="completed", next_run_at=None, ours={"completed_at": T.isoformat()})
    assert look(done, RECONCILE, now=at(86_400)).record is None


def test_a_fire_that_names_the_next_time_or_what_was_armed_minutes_before_it_is_early():
    """Whichever of the two it is; anything else is stale."""
    found = in_hand()
    row = retrying(found, at(400))
    known = {"rows": {row.run_id: row}, "now": at(10)}
    assert look(found, relay(NEXT), **known).outcome is Outcome.EARLY
    armed = look(found, relay(at(400)), armed=frozenset({at(400)}), **known)
    assert (armed.outcome, armed.retry_after) == (Outcome.EARLY, 390)
    assert look(found, relay(at(400)), **known).outcome is Outcome.STALE


def test_who_only_peeks_keeps_the_wake_of_a_job_that_the_next_look_pauses():
    """Its last run failed once too often: whoever writes that down is the one that pauses it."""
    found = in_hand(policy={"pause_after_failures": 1})
    failed = over(row_of("j", found.open[0], found.policy), RunState.FAILED, now=at(2))
    rows = {failed.run_id: failed}
    peek = look(found, FireRequest(via=Trigger.INSPECT, token=""), now=at(3), rows=rows)
    ended = look(found, FireRequest(via=Trigger.RUN_ENDED, token="e"), now=at(3), rows=rows)
    assert (peek.wake.at, ended.wake) == (NEXT, None)
    assert ended.record["state"] == "paused"


@pytest.mark.parametrize("own", [True, False])
def test_a_run_that_died_is_run_again_where_the_job_says_so_unless_only_its_asker_could_start_it(own):
    """What that was given is nowhere kept."""
    found = in_hand(policy={"on_crash": "rerun"})
    running = replace(row_of("j", found.open[0], found.policy), state=RunState.RUNNING, started_at=T)
    hand = replace(found, open=(replace(found.open[0], own=own),))
    decision = look(
        hand,
        FireRequest(via=Trigger.RUN_ENDED, token="e"),
        now=at(5),
        rows={running.run_id: running},
        liveness={running.run_id: Liveness.DEAD},
    )
    assert [row.state for row in decision.settle] == [RunState.LOST if own else RunState.ACCEPTED]


def test_an_end_of_no_known_time_counts_as_of_now():
    """Another program may have written such a row: what is known of the others is not lost by it."""
    found = job(next_run_at=NEXT.isoformat(), ours={"open": [entry(T), entry(at(-300))]})
    rows = {
        open_.run: replace(over(row_of("j", open_, found.policy), state, now=at(-60)), finished_at=finished)
        for open_, state, finished in zip(found.open, (RunState.FAILED, RunState.OK), (None, at(-60)), strict=True)
    }
    record = look(found, RECONCILE, now=at(5), rows=rows).record
    assert (record["last_status"], record["last_run_at"]) == ("error", at(5).isoformat())


@pytest.mark.parametrize(
    ("seconds", "outcome"), [(60, Outcome.DUPLICATE), (60.1, Outcome.EARLY), (-60, Outcome.DUPLICATE)]
)
def test_a_nameless_fire_within_a_minute_of_one_that_settled_something_is_that_one_again(seconds, outcome):
    """Later it is one that came before its time."""
    found = job(next_run_at=NEXT.isoformat(), ours={"claimed_through": T.isoformat()})
    now = at(100)
    decision = look(found, relay(None), now=now, settled_at=now - timedelta(seconds=seconds))
    assert (decision.outcome, decision.starts) == (outcome, ())


def test_the_next_occurrence_ends_no_retry_of_what_a_person_asked_for():
    """Somebody comes for it in time."""
    manual = entry(None, run="manual-20261120T115000Z-x")
    found = job(next_run_at=NEXT.isoformat(), ours={"open": [manual]}, policy={"overlap": "allow"})
    row = retrying(found, at(400))
    decision = look(found, relay(NEXT), now=at(300.5), rows={row.run_id: row})
    assert [start.entry.fire_at for start in decision.starts] == [NEXT]
    assert (decision.wake.at, decision.wake.purpose) == (at(400), Purpose.RETRY)


@pytest.mark.parametrize("via", [Trigger.RELAY, Trigger.TICK, Trigger.RECONCILE])
@pytest.mark.parametrize(
    "off",
    [{"state": "paused"}, {"enabled": False}, {"state": "completed", "enabled": False}],
    ids=["paused", "off", "done"],
)
def test_what_came_due_of_a_job_that_is_out_of_force_is_not_claimed(off, via):
    """Whoever calls for it, and however due it is: nothing of it is taken, owed or moved."""
    named = T if via is Trigger.RELAY else None
    decision = look(job(**off), FireRequest(via=via, token="t", fire_at=named), now=at(400))
    assert (decision.starts, decision.owed, decision.settle, decision.record) == ((), (), (), None)


def test_what_another_version_keeps_with_us_stays_as_it_is():
    """Also where it is empty; of ours only what counts no more is taken out."""
    found = job(ours={"of a later version": 0, "leapt_from": [], "aligned": None})
    assert look(found).record["chronos"].items() >= {"of a later version": 0}.items()
    assert not {"leapt_from", "aligned"} & look(found).record["chronos"].keys()


@pytest.mark.parametrize(
    ("came", "held", "given_up"),
    [(relay(NEXT), False, True), (relay(NEXT), True, False), (RECONCILE, False, False),
     (FireRequest(via=Trigger.INSPECT, token=""), False, False)],
)  # fmt: skip
def test_a_run_that_has_not_started_gives_way_to_the_next_occurrence_once_that_is_claimed(came, held, given_up):
    """Who may claim nothing leaves it to be started."""
    decision = look(in_hand(), came, now=at(301), held=held)
    assert [row.state for row in decision.settle] == ([RunState.MISSED] if given_up else [])
    assert [start.entry.fire_at for start in decision.starts] == ([NEXT] if given_up else [])


@pytest.mark.parametrize("overlap", ["queue", "allow", "replace"])
@pytest.mark.parametrize("manual", [True, False])
@pytest.mark.parametrize("held", [True, False])
def test_only_where_the_job_says_so_is_a_run_asked_to_end_for_the_one_behind_it(overlap, manual, held):
    """And never one that a person asked for, or under a hold; nor where nothing waits."""
    going = entry(None, run="manual-20261120T115000Z-x") if manual else entry(T)
    waits = entry(at(60), "queued")
    found = job(next_run_at=NEXT.isoformat(), ours={"open": [going, waits]}, policy={"overlap": overlap})
    rows = {open_.run: row_of("j", open_, found.policy) for open_ in found.open}
    running = replace(rows[going["run"]], state=RunState.RUNNING, started_at=T)
    rows[running.run_id] = running
    decision = look(found, FireRequest(via=Trigger.TICK, token="t"), now=at(61), rows=rows, held=held)
    ends = overlap == "replace" and not manual and not held
    assert (decision.replaced, decision.starts) == ((running,) if ends else (), ())
    alone = replace(found, open=found.open[:1])
    assert look(alone, FireRequest(via=Trigger.TICK, token="t"), now=at(61), rows=rows).replaced == ()


@pytest.mark.parametrize(
    ("not_before", "starts"),
    [(None, True), (at(9), True), (at(10), True), (at(10.1), False), (at(7_210), False), (at(7_211), True)],
)
def test_a_retry_starts_when_its_time_has_come_or_was_never_meant(not_before, starts):
    """One further off than any is was put there by a clock that was ahead."""
    found = in_hand()
    row = retrying(found, not_before)
    decision = look(found, FireRequest(via=Trigger.TICK, token="t"), now=at(10), rows={row.run_id: row})
    assert [start.attempt for start in decision.starts] == ([2] if starts else [])


def test_what_a_claim_passed_over_ends_no_retry_of_a_run_that_was_claimed_with_it():
    """Only an occurrence that came after the claim does; a person's run goes on being tried."""
    tick = FireRequest(via=Trigger.TICK, token="t")
    for through, claimed_at, ends in ((at(300), at(-10), True), (at(300), at(300), False), (T, at(-10), False)):
        ours = {"claimed_through": through.isoformat(), "open": [entry(T) | {"claimed_at": claimed_at.isoformat()}]}
        found = job(next_run_at=at(600).isoformat(), ours=ours)
        row = retrying(found, at(9))
        decision = look(found, tick, now=at(310), rows={row.run_id: row})
        assert [settled.state for settled in decision.settle] == ([RunState.FAILED] if ends else [])
    ours = {"claimed_through": at(300).isoformat(), "open": [entry(None, run="manual-20261120T115000Z-x")]}
    manual = job(next_run_at=at(600).isoformat(), ours=ours)
    row = retrying(manual, at(9))
    assert look(manual, tick, now=at(310), rows={row.run_id: row}).settle == ()


def test_a_run_that_died_is_the_next_attempt():
    """As often as its job may be run again after a crash."""
    row = replace(row_of("j", in_hand().open[0], Policy()), state=RunState.RUNNING, started_at=T)
    policy = Policy(on_crash=OnCrash.RERUN)
    again = died(row, now=at(5), policy=policy, reason="gone")
    assert (again.state, again.attempt, again.reruns, again.not_before) == (RunState.ACCEPTED, 2, 1, at(5))
    for reruns, state in ((MAX_RERUNS - 1, RunState.ACCEPTED), (MAX_RERUNS, RunState.LOST)):
        assert died(replace(row, reruns=reruns), now=at(5), policy=policy, reason="gone").state is state
    assert died(row, now=at(5), policy=Policy(), reason="gone").state is RunState.LOST


def test_only_outputs_of_a_runs_own_attempts_are_its_own():
    """A row is data that others may have written."""
    first = output_of("j", "r", 1)
    assert (first, output_of("j", "r", 2)) == ("cron/output/j/r.log", "cron/output/j/r.2.log")
    own = [key for key in (first, output_of("j", "r", 12)) if is_output_of(key, "j", "r")]
    assert len(own) == 2
    for key in (
        "cron/output/j/r.02.log",
        "cron/output/j/r.1.log",
        "cron/output/k/r.log",
        "cron/output/j/r.x.log",
        7,
        None,
        "2",
    ):
        assert not is_output_of(key, "j", "r")


def test_what_is_put_right_after_a_clock_ahead_stands_where_its_schedule_gives_it():
    """One that had to pass over rows says so, lest it be taken for ahead again."""
    confirmed = {"trust": Trust.CONFIRMED, "now": at(1)}
    ahead = job(next_run_at=at(86_400 * 900).isoformat(), ours={"claimed_through": at(86_400 * 899).isoformat()})
    plain = look(ahead, RECONCILE, ahead=frozenset(), **confirmed).record
    assert (plain["next_run_at"], plain["chronos"].get("aligned")) == (NEXT.isoformat(), None)
    passed = look(ahead, RECONCILE, ahead=frozenset({NEXT}), **confirmed).record
    assert (passed["next_run_at"], passed["chronos"]["aligned"]) == (at(600).isoformat(),) * 2
    assert look(ahead, RECONCILE, ahead=frozenset(), trust=Trust.UNHEARD, now=at(1)).record is None


def test_a_doubt_about_the_zone_is_one_of_paused_jobs_alone_and_where_it_is_asked_for():
    """Nothing else tells when such a job comes due next."""
    foreign = record(
        schedule={"kind": "cron", "expr": "0 9 * * *"}, state="paused", next_run_at="2026-11-29T09:00:00+06:00"
    )
    del foreign["chronos"]
    found = parse_job(foreign, HOME)
    assert doubt_about(found, T, paused=True).code == "displaced"
    assert doubt_about(found, T) is None
    assert doubt_about(parse_job(foreign | {"state": "completed"}, HOME), T, paused=True) is None
    last = foreign | {"next_run_at": None, "last_run_at": "2026-11-19T09:00:00+06:00"}
    assert "last_run_at says" in doubt_about(parse_job(last, HOME), T, paused=True).text
    for change in ({"next_run_at": "2026-11-29T09:00:00+00:00"}, {"next_run_at": "2026-11-29T09:00:00"}, {"next_run_at": None},
                   {"tz": "UTC"}, {"chronos": {}}, {"schedule": {"kind": "interval", "minutes": 5}}):  # fmt: skip
        assert doubt_about(parse_job(foreign | change, HOME), T, paused=True) is None


ONCE = {"schedule": {"kind": "once", "run_at": T.isoformat()}}


@pytest.mark.parametrize(("state", "completes"), [("scheduled", True), ("paused", False)])
def test_only_a_job_in_force_is_completed_once_nothing_of_it_is_left(state, completes):
    """A paused one is whoever's who paused it."""
    found = job(**ONCE, state=state, next_run_at=None, last_run_at=T.isoformat())
    record = look(found, RECONCILE, now=at(60)).record
    assert (record is not None and record["state"] == "completed") is completes


def test_a_next_time_that_cannot_be_read_is_taken_out_where_none_is_left():
    """Nobody reads it again."""
    found = job(**ONCE, next_run_at="soon", last_run_at=T.isoformat())
    assert look(found, RECONCILE, now=at(60)).record["next_run_at"] is None


@pytest.mark.parametrize(("reason", "failures"), [(REPLACED, 2), ("stopped", 3)])
def test_a_run_that_made_room_for_the_next_is_no_failure_of_its_job(reason, failures):
    """Its end is shown all the same."""
    found = job(next_run_at=NEXT.isoformat(), ours={"open": [entry(T)], "failures": 2})
    ended = over(row_of("j", found.open[0], found.policy), RunState.INTERRUPTED, now=at(2), reason=reason)
    record = look(found, RECONCILE, now=at(5), rows={ended.run_id: ended}).record
    assert (record["chronos"]["failures"], record["last_status"]) == (failures, "error")


@pytest.mark.parametrize(
    "expr", ["60 * * * *", "* 24 * * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "99 99 99 99 99"]
)
def test_a_schedule_with_a_field_out_of_range_is_refused(expr):
    """Whichever it is."""
    with pytest.raises(ScheduleError):
        check_cron(expr)


@pytest.mark.parametrize("before", [0, 1, 5])
def test_ends_that_one_look_comes_upon_are_counted_in_the_order_in_which_they_ended(before):
    """One that went well ends the count of those before it, also where that was none before this look."""
    found = job(next_run_at=at(600).isoformat(), ours={"open": [entry(T), entry(NEXT)], "failures": before})
    first, second = (row_of("j", open_run, found.policy) for open_run in found.open)
    for states, count in (
        ((RunState.FAILED, RunState.OK), 0),
        ((RunState.OK, RunState.FAILED), 1),
        ((RunState.FAILED, RunState.FAILED), before + 2),
        ((RunState.OK, RunState.OK), 0),
    ):
        ended = [over(row, state, now=at(2 + n)) for n, (row, state) in enumerate(zip((first, second), states, strict=True))]  # fmt: skip
        record = look(found, RECONCILE, now=at(5), rows={row.run_id: row for row in ended}).record
        assert parse_job(record, HOME).failures == count, states


@pytest.mark.parametrize(("trust", "noted"), [(Trust.ALONE, True), (Trust.CONFIRMED, False), (Trust.CORRECTED, False)])
def test_only_a_clock_without_a_witness_notes_from_where_it_goes_far_ahead(trust, noted):
    """So that what it has claimed can be brought back."""
    late = job(policy={"grace": 60})
    ours = look(late, relay(T), now=at(3 * 86_400), trust=trust).record["chronos"]
    assert ours.get("leapt_from") == ([T.isoformat()] if noted else None)
    assert "leapt_from" not in look(late, relay(T), now=at(86_400), trust=trust).record["chronos"]


def test_an_occurrence_that_is_skipped_uses_up_none_of_those_that_a_job_has_left():
    """Its last one is still to come."""
    found = job(policy={"overlap": "skip"}, repeat={"times": 2, "completed": 1}, ours={"open": [entry(at(-300))]})
    row = begun(row_of("j", found.open[0], Policy()), starter="s", owner={}, now=at(-300), lease_ends_at=at(900))
    decision = look(found, rows={row.run_id: row}, liveness={row.run_id: Liveness.ALIVE})
    assert decision.outcome is Outcome.SKIPPED
    after = decision.record
    assert (after["enabled"], after["repeat"]["completed"], after["next_run_at"]) == (True, 1, at(300).isoformat())
