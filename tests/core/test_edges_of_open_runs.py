"""Rules of the runs in hand at their edges: what becomes of each entry and its row at one look."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chronos_cli.core.claim import ClaimEffect, run_id_of
from chronos_cli.core.clock import UNCHECKED, Trust
from chronos_cli.core.decision import Facts, Liveness
from chronos_cli.core.open_runs import STARTS_WITHIN, OpenRuns, lease_of
from chronos_cli.core.row import LONGEST_RETRY, RunResult, RunState, begun, over, row_of
from chronos_cli.frozen import replace
from tests.core.making import T, at, entry, job

SECOND = timedelta(seconds=1)
NEWER = ClaimEffect(taken=at(300), missed=None, through=at(300))


def in_hand(*entries, through=T, **more):
    return job(ours={"open": list(entries), "claimed_through": through.isoformat()}, **more)


def surveyed(found, *rows, now=None, newer=None, asks="", **facts):
    runs = OpenRuns(found, Facts(rows={row.run_id: row for row in rows}, **facts), now or at(1), asks=asks)
    runs.survey(newer=newer)
    return runs


def accepted(found, number=0):
    return row_of("j", found.open[number], found.policy)


def running(found, *, lease=timedelta(hours=1)):
    return begun(accepted(found), starter="s", owner={}, now=T, lease_ends_at=T + lease)


def retrying(found, not_before, *, number=0):
    failed = over(
        begun(accepted(found, number), starter="s", owner={}, now=T, lease_ends_at=at(60)),
        RunState.FAILED,
        now=at(1),
        reason="no",
    )
    return replace(failed, state=RunState.ACCEPTED, attempt=2, not_before=not_before, finished_at=None)


def by_hand(**more):
    return entry(None, run="manual-20261120T120000Z-x", **more)


def ends(runs):
    """What went: each run's end and the reason."""
    return [(row.state, row.because or row.reason) for _, row in runs.dropped]


@pytest.mark.parametrize("kind", ["skipped", "missed", "queued"])
def test_a_row_that_is_owed_is_written_unless_it_is_there(kind):
    """A run's own is not: whoever starts it writes it."""
    more = {} if kind == "queued" else {"count": 1, "exact": True}
    found = in_hand(entry(T, kind, **more))
    owed = surveyed(found)
    assert [row.run_id for row in owed.settle] == [run_id_of(T)]
    assert surveyed(found, owed.settle[0]).settle == []
    assert [row.state.value for _, row in owed.dropped] == ([] if kind == "queued" else [kind])
    assert surveyed(in_hand(entry(T))).settle == []


def test_only_runs_make_a_job_busy():
    """A row that is owed does not."""
    assert surveyed(in_hand(entry(T))).busy
    assert surveyed(in_hand(entry(T, "queued"))).busy
    assert not surveyed(in_hand(entry(T, "missed", count=1, exact=True))).busy
    assert not surveyed(in_hand()).busy


def test_what_was_claimed_starts_unless_a_newer_occurrence_is_claimed_or_a_person_took_it_out_of_force():
    """A manual run goes on in either case."""
    for mine, manual in ((entry(T), False), (by_hand(), True)):
        found = in_hand(mine)
        assert [start.attempt for start in surveyed(found).ready] == [1]
        same = ClaimEffect(taken=found.open[0].fire_at, missed=None, through=T)
        assert len(surveyed(found, newer=same).ready) == 1
        after_newer = surveyed(found, newer=NEWER)
        assert ends(after_newer) == ([] if manual else [(RunState.MISSED, "a newer occurrence was due")])
        for off in ({"state": "paused"}, {"enabled": False}):
            shelved = surveyed(in_hand(mine, **off))
            assert ends(shelved) == ([] if manual else [(RunState.MISSED, "the job was paused")])
            assert len(shelved.ready) == manual


def test_what_only_its_asker_can_start_is_left_to_it_for_two_minutes():
    """To the second."""
    mine = by_hand(own=True, claim="me")
    found = in_hand(mine)
    began = found.open[0].claimed_at
    assert len(surveyed(found, asks="me", now=began + 2 * STARTS_WITHIN).ready) == 1
    waits = surveyed(found, asks="other", now=began + STARTS_WITHIN)
    assert (waits.ready, len(waits.open)) == ([], 1)
    gone = surveyed(found, asks="other", now=began + STARTS_WITHIN + SECOND)
    assert (len(gone.dropped), gone.open) == (1, [])


def test_a_run_that_runs_is_kept_and_doubted_once():
    """By a clock that has no witness, a day past its lease."""
    found = in_hand(entry(T))
    row = running(found)
    long_past = T + timedelta(hours=1) + UNCHECKED + SECOND
    for now, trust, doubted in (
        (at(60), Trust.ALONE, None),
        (long_past, Trust.ALONE, long_past),
        (long_past, Trust.UNHEARD, None),
    ):
        runs = surveyed(found, row, now=now, trust=trust)
        assert [kept.doubted_at for kept, _ in runs.running] == [kept.doubted_at for kept in runs.open] == [doubted]
        assert runs.settle == []


def test_a_run_is_over_by_its_result_its_process_or_its_lease():
    """And one that was never begun may still start."""
    found = in_hand(entry(T), policy={"retries": 1})
    row = running(found)
    name = row.run_id
    result = {"results": {name: RunResult(state=RunState.FAILED, finished_at=at(9))}}
    again = surveyed(found, row, now=at(9), **result)
    assert [(r.state, r.attempt, r.not_before) for r in again.settle] == [(RunState.ACCEPTED, 2, at(39))]
    assert [kept.run for kept, _ in again.waiting] == [name]
    own = in_hand(entry(T, own=True, claim="me"), policy={"retries": 1})
    assert [r.state for r in surveyed(own, running(own), now=at(9), **result).settle] == [RunState.FAILED]
    anew = surveyed(found, row, liveness={name: Liveness.UNSTARTED})
    assert [(r.state, r.started_at) for r in anew.settle] == [(RunState.ACCEPTED, None)]
    assert [start.attempt for start in anew.ready] == [1]
    dead = surveyed(found, row, liveness={name: Liveness.DEAD})
    assert ends(dead) == [(RunState.LOST, "its process died without a word")]
    late = surveyed(found, row, now=at(3_600), liveness={name: Liveness.UNSEEN})
    assert ends(late) == [(RunState.LOST, "its lease ended without a word")]
    assert surveyed(found, row, now=at(3_599), liveness={name: Liveness.UNSEEN}).settle == []
    counted = {"leases": {name: at(4_000)}}
    assert surveyed(found, row, now=at(3_999), **counted).settle == []
    assert len(surveyed(found, row, now=at(4_000), **counted).dropped) == 1


def test_a_run_that_a_corrected_clock_finds_past_its_lease_is_looked_at_when_it_is_over():
    """And not each second until then: by NAS's clock, five minutes ahead, it is past while the run still goes."""
    found = in_hand(entry(T), policy={"on_crash": "rerun"})
    row = running(found)
    for seconds, looked in ((3_599, 3_600), (3_600, 3_900), (3_899, 3_900)):
        kept = surveyed(found, row, now=at(seconds), trust=Trust.CORRECTED)
        assert (kept.settle, [wake.at for wake in kept.wakes([])]) == ([], [at(looked)])
    over_now = surveyed(found, row, now=at(3_900), trust=Trust.CORRECTED)
    assert [(r.state, r.attempt) for r in over_now.settle] == [(RunState.ACCEPTED, 2)]


def test_a_run_that_died_comes_again_where_the_job_wants_that_and_anybody_may_start_it():
    """One that only its asker can start is lost."""
    dead = {"liveness": {run_id_of(T): Liveness.DEAD}}
    found = in_hand(entry(T), policy={"on_crash": "rerun"})
    assert [start.attempt for start in surveyed(found, running(found), **dead).ready] == [2]
    own = in_hand(entry(T, own=True, claim="me"), policy={"on_crash": "rerun"})
    assert [r.state for r in surveyed(own, running(own), **dead).settle] == [RunState.LOST]


@pytest.mark.parametrize(
    ("not_before", "starts"),
    [
        (None, True),
        (at(1), True),
        (at(2), False),
        (at(1) + LONGEST_RETRY, False),
        (at(1) + LONGEST_RETRY + SECOND, True),
    ],
)
def test_a_retry_waits_until_its_time_and_never_longer_than_any_does(not_before, starts):
    """One that is further off was put there by a clock that was ahead."""
    found = in_hand(entry(T))
    runs = surveyed(found, retrying(found, not_before))
    assert ([start.attempt for start in runs.ready], len(runs.waiting)) == (([2], 0) if starts else ([], 1))
    assert len(runs.open) == 1


def test_a_retry_ends_as_its_last_attempt_did_where_something_newer_was_claimed_or_the_job_is_out_of_force():
    """What its own claim passed over is not newer; of a manual run nothing is."""
    for through, newer in ((T, False), (at(5), False), (at(6), True)):
        found = in_hand(entry(T, claimed_at=at(5).isoformat()), through=through)
        runs = surveyed(found, retrying(found, at(60)), now=at(9))
        assert ends(runs) == ([(RunState.FAILED, "the next occurrence ended its retries")] if newer else [])
    held = in_hand(entry(T), state="paused")
    assert ends(surveyed(held, retrying(held, at(60)))) == [(RunState.FAILED, "the job was paused")]
    manual = in_hand(by_hand(), through=at(900))
    assert len(surveyed(manual, retrying(manual, at(60))).waiting) == 1
    early = job(ours={"open": [entry(T)]})
    assert len(surveyed(early, retrying(early, at(60))).waiting) == 1


def test_the_next_claim_ends_every_retry_of_an_earlier_one_and_no_first_attempt():
    """Whether it waits or might start now; a manual run keeps its retries."""
    found = in_hand(entry(at(-300)), entry(T), entry(at(-600)), by_hand())
    rows = [retrying(found, at(60), number=0), retrying(found, at(1), number=1), retrying(found, at(1), number=3)]
    runs = surveyed(found, *rows)
    assert [start.entry.run for start in runs.ready] == [found.open[n].run for n in (1, 2, 3)]
    runs.end_retries()
    assert [start.entry.run for start in runs.ready] == [found.open[n].run for n in (2, 3)]
    assert [gone.run for gone, _ in runs.dropped] == [found.open[n].run for n in (0, 1)]
    assert ends(runs) == [(RunState.FAILED, "the next occurrence ended its retries")] * 2
    assert (runs.waiting, [kept.run for kept in runs.open]) == ([], [found.open[n].run for n in (2, 3)])
    waits = in_hand(by_hand())
    held = surveyed(waits, retrying(waits, at(60)))
    held.end_retries()
    assert (len(held.waiting), len(held.open), held.dropped) == (1, 1, [])


def test_what_is_queued_waits_until_it_is_given_up():
    """Each row is written once, as it ended; the others stay as they are."""
    found = in_hand(entry(T, "queued"), entry(at(-300), "queued"), entry(at(-600), "missed", count=1, exact=True))
    runs = surveyed(found)
    assert [kept.run for kept in runs.queued] == [found.open[0].run, found.open[1].run]
    runs.end_queued("it was replaced")
    assert runs.queued == runs.open == []
    assert {row.run_id: row.state for row in runs.settle} == dict.fromkeys((e.run for e in found.open), RunState.MISSED)
    assert len(runs.settle) == 3
    held = surveyed(in_hand(entry(T, "queued"), state="paused"))
    assert ends(held) == [(RunState.MISSED, "the job was paused")]
    assert [row.state for row in held.settle] == [RunState.MISSED]


def test_a_lease_is_as_long_as_its_row_says_and_ends_where_it_is_counted():
    """One of which either end is not known has no length."""
    found = in_hand(entry(T))
    row, mine = running(found), found.open[0]
    lease = lease_of(row, mine, None)
    assert (lease.end, lease.length, lease.counted, lease.doubted_at) == (at(3_600), timedelta(hours=1), False, None)
    counted = lease_of(row, replace(mine, doubted_at=T), at(7))
    assert (counted.end, counted.length, counted.counted, counted.doubted_at) == (at(7), timedelta(hours=1), True, T)
    for lacking in ({"started_at": None}, {"lease_ends_at": None}, {"started_at": None, "lease_ends_at": None}):
        assert lease_of(replace(row, **lacking), mine, at(7)).length == timedelta()


def wakes(runs, *starts):
    return [(wake.at, wake.purpose.value) for wake in runs.wakes(starts)]


def test_somebody_comes_for_a_retry_at_its_time():
    """And at once for what might start, and does not."""
    found = in_hand(entry(T))
    assert wakes(surveyed(found, retrying(found, at(60)))) == [(at(60), "retry")]
    ready = surveyed(found)
    assert wakes(ready) == [(at(2), "look")]
    assert wakes(ready, *ready.ready) == []


def test_somebody_comes_at_the_end_of_a_lease_where_something_depends_on_it():
    """What is queued behind it, or a rerun; what starts now has its timeout and a minute."""
    plain = in_hand(entry(T))
    assert wakes(surveyed(plain, running(plain))) == []
    rerun = in_hand(entry(T), policy={"on_crash": "rerun", "timeout": 100})
    assert wakes(surveyed(rerun, running(rerun))) == [(at(3_600), "lease")]
    assert wakes(surveyed(rerun, running(rerun), leases={run_id_of(T): at(50)})) == [(at(50), "lease")]
    assert wakes(surveyed(rerun, replace(running(rerun), lease_ends_at=None))) == []
    ready = surveyed(rerun)
    assert wakes(ready, *ready.ready) == [(at(161), "lease")]
    queued = in_hand(entry(T), entry(at(-300), "queued"))
    assert wakes(surveyed(queued, running(queued))) == [(at(3_600), "lease")]


def test_what_is_queued_behind_nothing_has_somebody_come_at_once():
    """Unless another program is at the job: then when its claim is over."""
    queued = entry(T, "queued")
    assert wakes(surveyed(in_hand(queued))) == [(at(2), "look")]
    held = in_hand(queued, fire_claim={"at": T.isoformat(), "by": "h"})
    assert wakes(surveyed(held)) == [(at(301), "look")]
    both = surveyed(in_hand(queued, entry(at(-300))))
    assert [purpose for _, purpose in wakes(both, *both.ready)] == ["lease"]
