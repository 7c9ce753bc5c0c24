"""Rules of rows at their edges: what a start, an end and a loss make of one, and what a stored one may be."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from chronos_cli.core.job import MAX_COUNT
from chronos_cli.core.policy import OnCrash, Policy
from chronos_cli.core.row import (
    MAX_RERUNS,
    Row,
    RunResult,
    RunState,
    begun,
    concluded,
    died,
    given_up,
    is_output_of,
    kept_at,
    output_of,
    over,
    row_of,
    unstarted,
)
from chronos_cli.frozen import replace
from tests.core.making import T, at, entry, job

FIRST = row_of(
    "j", job(ours={"open": [entry(T, received_at=at(-1).isoformat(), delivery="d")]}).open[0], Policy(retries=2)
)


def start(row, now=T):
    return begun(row, starter="s", owner={"pid": 1}, now=now, lease_ends_at=now + timedelta(hours=1))


def test_a_run_that_starts_says_how_late_it_is_and_what_became_of_earlier_attempts_stays():
    """A retry is as late as the first attempt was, and one by hand is never late."""
    running = start(replace(FIRST, not_before=T, exit_status=1, reason="x", finished_at=T), at(1.5))
    assert (running.state, running.kind, running.lateness_s, running.starter, running.owner) == (
        RunState.RUNNING,
        "on_time",
        1.5,
        "s",
        {"pid": 1},
    )
    assert (running.not_before, running.finished_at, running.exit_status, running.reason) == (None, None, None, None)
    assert (running.started_at, running.lease_ends_at) == (at(1.5), at(3_601.5))
    again = start(over(running, RunState.FAILED, now=at(5), retries=1, exit_status=3), at(90))
    assert (again.kind, again.lateness_s, again.attempt) == ("retry", 1.5, 2)
    assert start(replace(FIRST, scheduled_at=None)).lateness_s is None


def test_an_attempt_is_kept_as_it_ended():
    """What is not known of it is left out."""
    running = replace(start(FIRST), output="o")
    full = over(running, RunState.TIMEOUT, now=at(9), exit_status=0, reason="late")
    assert full.attempts == ({"attempt": 1, "state": "timeout", "finished_at": at(9).isoformat(), "started_at": T.isoformat(),
                              "exit_status": 0, "reason": "late", "output": "o"},)  # fmt: skip
    bare = over(FIRST, RunState.LOST, now=at(9))
    assert bare.attempts == ({"attempt": 1, "state": "lost", "finished_at": at(9).isoformat()},)


@pytest.mark.parametrize(
    "state", [state for state in RunState if state not in (RunState.ACCEPTED, RunState.QUEUED, RunState.RUNNING)]
)
def test_only_what_failed_or_took_too_long_is_tried_again(state):
    """As often as the job says."""
    again = over(start(FIRST), state, now=at(9), retries=1)
    retried = state in (RunState.FAILED, RunState.TIMEOUT)
    assert (again.state, again.attempt, again.not_before) == (
        (RunState.ACCEPTED, 2, at(39)) if retried else (state, 1, None)
    )
    assert again.finished_at == (None if retried else at(9))
    last = over(start(again), state, now=at(50), retries=1) if retried else again
    assert (last.state, last.terminal) == (state, True)
    assert over(start(FIRST), state, now=at(9)).state is state


def test_a_run_of_which_the_result_is_known_ended_then_and_so():
    """With what it printed."""
    result = RunResult(state=RunState.FAILED, finished_at=at(7), exit_status=2, reason="r", output="o")
    ended = concluded(start(FIRST), result, retries=0)
    assert (ended.state, ended.finished_at, ended.exit_status, ended.reason, ended.output) == (
        RunState.FAILED,
        at(7),
        2,
        "r",
        "o",
    )
    assert concluded(start(FIRST), result, retries=1).attempt == 2


def test_a_run_that_never_began_is_as_it_was_before():
    """Its owner and its lease are gone."""
    anew = unstarted(start(FIRST))
    assert (anew.state, anew.starter, anew.owner, anew.started_at, anew.lease_ends_at) == (
        RunState.ACCEPTED,
        None,
        None,
        None,
        None,
    )


def test_a_run_whose_owner_is_gone_is_lost_or_comes_again_three_times():
    """At once, and it counts as a rerun."""
    lost = died(start(FIRST), now=at(9), policy=Policy(retries=5), reason="gone")
    assert (lost.state, lost.reason, lost.finished_at) == (RunState.LOST, "gone", at(9))
    row, policy = FIRST, Policy(on_crash=OnCrash.RERUN)
    for number in range(1, MAX_RERUNS + 1):
        row = died(start(row), now=at(9), policy=policy, reason="gone")
        assert (row.state, row.attempt, row.reruns, row.not_before, row.finished_at) == (
            RunState.ACCEPTED,
            number + 1,
            number,
            at(9),
            None,
        )
    assert died(start(row), now=at(9), policy=policy, reason="gone").state is RunState.LOST


def test_a_run_that_is_given_up_never_ran_or_ended_as_its_last_attempt_did():
    """At that one's time."""
    never = given_up(FIRST, now=at(9), because="b")
    assert (never.state, never.because, never.finished_at, never.attempt) == (RunState.MISSED, "b", at(9), 1)
    ended = given_up(over(start(FIRST), RunState.TIMEOUT, now=at(5), retries=1), now=at(9), because="b")
    assert (ended.state, ended.because, ended.finished_at, ended.attempt, ended.not_before) == (
        RunState.TIMEOUT,
        "b",
        at(5),
        1,
        None,
    )


def test_the_first_row_of_an_entry_says_all_that_it_does():
    """One that did not run was over when it was claimed; one with input of its asker's has no retries."""
    assert (FIRST.received_at, FIRST.delivery_id, FIRST.scheduled_at, FIRST.claimed_at, FIRST.finished_at) == (
        at(-1),
        "d",
        T,
        at(-10),
        None,
    )
    assert FIRST.policy == {"overlap": "skip", "grace": 86_400, "retries": 2}
    own = job(ours={"open": [entry(T, own=True)]}).open[0]
    assert row_of("j", own, Policy(retries=2)).policy["retries"] == 0
    states = {kind: row_of("j", job(ours={"open": [entry(T, kind, count=3, exact=False, because="b", through=at(9).isoformat())]}).open[0], Policy())
              for kind in ("run", "queued", "skipped", "missed")}  # fmt: skip
    assert {kind: (row.state.value, row.finished_at) for kind, row in states.items()} == {
        "run": ("accepted", None), "queued": ("queued", None), "skipped": ("skipped", at(-10)), "missed": ("missed", at(-10)),
    }  # fmt: skip
    assert (states["missed"].count, states["missed"].exact, states["missed"].because, states["missed"].through) == (
        3,
        False,
        "b",
        at(9),
    )


def test_a_row_that_waits_for_an_attempt_has_one_behind_it():
    """One that is over need not."""
    for state, attempt, waits in (("accepted", 1, False), ("accepted", 2, True), ("running", 2, False)):
        assert replace(FIRST, state=RunState(state), attempt=attempt).awaits_attempt == waits
    stored = replace(FIRST, attempt=2).to_json()
    with pytest.raises(ValueError, match="none before it"):
        Row.from_json(stored)
    assert Row.from_json(stored | {"state": "failed", "finished_at": T.isoformat()}).attempt == 2
    assert Row.from_json(
        json.loads(json.dumps(over(start(FIRST), RunState.FAILED, now=T, retries=1).to_json()))
    ).awaits_attempt


def test_a_result_of_another_shape_says_what_it_can():
    """A status that is no number is none."""
    stored = RunResult(state=RunState.OK, finished_at=T, exit_status=0, reason="r", output="o").to_json()
    assert stored == {"state": "ok", "finished_at": T.isoformat(), "exit_status": 0, "reason": "r", "output": "o"}
    assert RunResult.from_json(stored | {"exit_status": "0", "reason": 7, "output": None}) == RunResult(
        state=RunState.OK, finished_at=T, reason="7"
    )
    assert RunResult.from_json(stored | {"reason": None, "output": 5}).output == "5"


def test_a_value_of_a_row_is_of_its_kind_and_size():
    """The largest one is let pass."""
    for name in ("count", "attempt", "reruns", "exit_status"):
        assert getattr(Row.from_json(FIRST.to_json() | {name: -MAX_COUNT}), name) == -MAX_COUNT
        for odd in (MAX_COUNT + 1, True, 1.0, "1", [1]):
            with pytest.raises((TypeError, ValueError)):
                Row.from_json(FIRST.to_json() | {name: odd})
    assert Row.from_json(FIRST.to_json() | {"lateness_s": 2, "unhandled": ["a"]}).unhandled == ("a",)
    for odd in ({"lateness_s": "2"}, {"lateness_s": True}, {"unhandled": "a"}, {"unhandled": [1]}, {"owner": []}, {"exact": 1}, {"claim": 1},
                {"attempts": [{"state": "failed"}]}, {"attempts": [{"state": "odd", "finished_at": T.isoformat()}]},
                {"attempts": [{"state": "failed", "finished_at": T.isoformat(), "output": 1}]}, {"alert": {}},
                {"alert": {"told_at": T.isoformat(), "untold": "1"}}, {"alert": {"told_at": T.isoformat(), "repeats": True}}):  # fmt: skip
        with pytest.raises((KeyError, TypeError, ValueError)):
            Row.from_json(FIRST.to_json() | odd)
    told = {"told_at": T.isoformat()}
    assert Row.from_json(FIRST.to_json() | {"alert": told}).alert == told


def test_an_output_is_named_by_its_attempt():
    """And by nothing that is near it."""
    assert [output_of("j", "r", attempt) for attempt in (1, 2, 12)] == [
        "cron/output/j/r.log",
        "cron/output/j/r.2.log",
        "cron/output/j/r.12.log",
    ]
    for key, mine in {"r.log": True, "r.2.log": True, "r.12.log": True, "r.1.log": False, "r.02.log": False, "r..log": False, "r.0.log": False,
                      "r.-2.log": False, "r.\u0662.log": False, "r.x.log": False, "r.2": False, "q.log": False}.items():  # fmt: skip
        assert is_output_of(f"cron/output/j/{key}", "j", "r") == mine, key
    assert not is_output_of(None, "j", "r")
    assert not is_output_of(7, "j", "r")


def test_a_row_is_of_the_place_where_it_is_kept():
    """An output that is another's is none of it."""
    mine, other = output_of("k", "r", 1), output_of("j", "r", 1)
    attempts = ({"output": mine, "a": 1}, {"output": other, "a": 2}, {"a": 3})
    kept = kept_at(replace(FIRST, output=other, attempts=attempts), "k", "r")
    assert (kept.job_id, kept.run_id, kept.output) == ("k", "r", None)
    assert kept.attempts == ({"output": mine, "a": 1}, {"a": 2}, {"a": 3})
    assert kept_at(replace(FIRST, output=mine), "k", "r").output == mine
