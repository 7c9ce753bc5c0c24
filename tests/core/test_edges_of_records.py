"""Rules of rows and of edits at their edges: each is one condition, and says what becomes of a row or record by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.core.clock import CLOCK_DRIFT, displaced, lease_end
from chronos_cli.core.edits import Edit, _settled, edited, new_record, resumed
from chronos_cli.core.job import parse_job
from chronos_cli.core.policy import Policy
from chronos_cli.core.row import REPLACED, Row, RunResult, RunState, over, row_of
from chronos_cli.core.schedule import Interval, Once, from_record
from chronos_cli.errors import ScheduleError, UsageError
from chronos_cli.frozen import replace
from tests.core.making import HOME, T, at, entry, job
from tests.core.test_edits import draft

ROW = row_of("j", job(ours={"open": [entry(T)]}).open[0], Policy(retries=1))


def edit(found, **changes):
    return edited(found, Edit(**changes), now=at(-60), token="edit", defaults=Policy())


def test_a_stored_row_has_no_nulls():
    """What is not known is not there; so it reads back."""
    assert None not in ROW.to_json().values()
    assert Row.from_json(ROW.to_json()) == ROW


def test_a_rerun_after_a_crash_is_none_of_the_retries():
    """The first attempt that fails is tried again after half a minute, whichever number it has."""
    rerun = replace(ROW, state=RunState.RUNNING, attempt=2, reruns=1, attempts=({"attempt": 1},))
    again = over(rerun, RunState.FAILED, now=at(10), retries=1)
    assert (again.state, again.attempt, again.not_before) == (RunState.ACCEPTED, 3, at(40))
    last = over(replace(again, state=RunState.RUNNING), RunState.FAILED, now=at(50), retries=1)
    assert (last.state, last.attempt) == (RunState.FAILED, 3)


@pytest.mark.parametrize("drift", [timedelta(), CLOCK_DRIFT, -CLOCK_DRIFT])
def test_a_lease_ends_at_the_same_instant_while_clocks_only_drift(drift):
    """One that was set meanwhile moves it."""
    row = replace(ROW, started_at=T, lease_ends_at=at(600))
    assert lease_end(row, 60.0, at(60) + drift) == at(600)
    set_ahead = timedelta(hours=2)
    assert lease_end(row, 60.0, at(60) + set_ahead) == at(600) + set_ahead
    assert lease_end(replace(row, lease_ends_at=None), 60.0, at(60)) is None
    assert lease_end(row, None, at(60) + set_ahead) == at(600)


@pytest.mark.parametrize("change", [{"state": "running"}, {"finished_at": "2026-11-20T12:00:00"}])
def test_a_result_is_the_end_of_a_run_at_an_instant(change):
    """One that is no end, or of no known time, is none."""
    result = RunResult(state=RunState.OK, finished_at=T)
    assert RunResult.from_json(result.to_json()) == result
    with pytest.raises(ValueError, match="not the end of a run"):
        RunResult.from_json(result.to_json() | change)


def test_an_instant_of_a_row_is_kept_in_utc():
    """Whatever offset it was written with."""
    stored = ROW.to_json() | {"claimed_at": "2026-11-20T17:00:00+05:00"}
    read = Row.from_json(stored).claimed_at
    assert (read, read.tzinfo) == (T, UTC)


def test_a_new_job_has_what_it_was_given_besides():
    """What is empty is not kept."""
    ours = new_record(draft(extras={"labels": {"team": "a"}, "env": {}}), now=T, token="t", defaults=Policy())[
        "chronos"
    ]
    assert ours["labels"] == {"team": "a"}
    assert "env" not in ours


def test_a_job_that_is_given_an_action_asks_no_agent_any_more():
    """Its prompt and script go."""
    record = edit(job(prompt="do", script="x.py", no_agent=False), action={"shell": "true"})
    assert (record["prompt"], record["script"], record["no_agent"]) == ("", None, True)
    assert record["chronos"]["action"] == {"shell": "true"}


def test_a_tolerance_that_somebody_else_has_stored_keeps_nobody_from_an_edit_of_something_else():
    """Only a new one is held against the schedule."""
    wide = job(policy={"tolerance": 400})
    assert edit(wide, name="other")["name"] == "other"
    with pytest.raises(UsageError, match="tolerance is not shorter"):
        edit(wide, policy=replace(wide.policy, tolerance=500))


def test_a_single_time_may_be_moved_ahead_alone():
    """Another one in the past never comes; the same one, settled, stays as it is for another jitter."""
    once = job(schedule={"kind": "once", "run_at": at(600).isoformat()}, next_run_at=at(600).isoformat())
    with pytest.raises(UsageError, match="never comes due again"):
        edit(once, schedule=Once(at=at(-600)))
    moved = parse_job(edit(once, schedule=Once(at=at(900))), HOME)
    assert moved.cursor == at(900)


def test_a_time_in_the_offset_of_its_zone_or_without_one_may_stand():
    """Though its schedule does not give it: somebody has set it."""
    daily = {"kind": "cron", "expr": "0 9 * * *"}
    for text in ("2026-11-29T09:07:00", "2026-11-29T09:07:00+00:00"):
        assert displaced(job(schedule=daily, next_run_at=text)) is None


def test_a_time_of_another_offset_is_put_right_whatever_was_claimed_long_before():
    """Only what was claimed since is not due again."""
    nine = datetime(2026, 11, 29, 9, tzinfo=UTC)
    stored = {"schedule": {"kind": "cron", "expr": "0 9 * * *"}, "next_run_at": "2026-11-29T09:00:00+06:00"}
    for days in (1, 5):
        claimed = {"claimed_through": (nine - timedelta(days=days)).isoformat()}
        assert displaced(job(ours=claimed, **stored)) == nine
    assert displaced(job(ours={"claimed_through": nine.isoformat()}, **stored)) == nine + timedelta(days=1)


def test_only_an_interrupted_run_was_replaced():
    """Another end may be worded alike."""
    said = {"reason": f"{REPLACED} and more", "finished_at": T}
    assert replace(ROW, state=RunState.INTERRUPTED, **said).replaced
    assert not replace(ROW, state=RunState.FAILED, **said).replaced
    assert not replace(ROW, state=RunState.INTERRUPTED).replaced


def test_a_slot_that_was_claimed_is_not_due_again_for_another_jitter():
    """Its instant moves with it, and never back behind what was claimed."""
    hourly = {"schedule": {"kind": "cron", "expr": "0 * * * *"}}
    old, new = (job(policy={"jitter": jitter}, **hourly) for jitter in (3_000, 1_000))
    through = T + old.timetable.offset
    assert old.timetable.offset > new.timetable.offset
    args = old.timetable.schedule, old.timetable.zone
    assert _settled(old, through, *args, new.timetable) == through
    back = T + new.timetable.offset
    assert _settled(new, back, *args, old.timetable) == through
    assert _settled(new, back, Once(at=T), old.timetable.zone, old.timetable) == back


def test_a_number_in_a_row_is_no_truth():
    """Nor is a text one."""
    for value in (True, "2", 2**60):
        with pytest.raises((TypeError, ValueError)):
            Row.from_json(ROW.to_json() | {"count": value})
    with pytest.raises(TypeError):
        Row.from_json(ROW.to_json() | {"exact": 1})


def test_a_job_goes_on_with_its_action_unless_it_is_given_an_agents_or_another():
    """Words about the agent alone change nothing of it."""
    found = job(ours={"action": {"shell": "true"}})
    assert edit(found, fields={"prompt": "hi"})["chronos"]["action"] == {"shell": "true"}
    assert "action" not in edit(found, fields={"no_agent": False, "prompt": "hi"})["chronos"]


def test_what_was_claimed_is_not_passed_over_again_by_a_pause():
    """Only what came due since is skipped."""
    held = job(state="paused", ours={"claimed_through": T.isoformat()})
    assert not resumed(held, now=at(1), token="t")["chronos"].get("open")
    later = job(state="paused", next_run_at=at(300).isoformat(), ours={"claimed_through": T.isoformat()})
    assert len(resumed(later, now=at(301), token="t")["chronos"]["open"]) == 1


@pytest.mark.parametrize(
    "schedule", [{"kind": "odd", "expr": "0 9 * * *"}, {"kind": "odd"}, {}, {"kind": "once"}, {"kind": "once", "run_at": 7},
                 {"kind": "once", "run_at": "x" * 5_000}]
)  # fmt: skip
def test_a_schedule_of_a_kind_that_is_not_known_or_without_its_time_is_none(schedule):
    """And is not quoted at length."""
    with pytest.raises(ScheduleError) as raised:
        from_record(schedule, UTC)
    assert len(raised.value.message) < 200


def test_a_schedule_without_a_kind_is_read_as_its_text():
    """Whichever key has it."""
    for key in ("expr", "value", "text", "display"):
        assert (
            from_record({key: "every 5m"}, UTC)
            == from_record({"kind": "natural", key: "every 5m"}, UTC)
            == Interval(seconds=300)
        )


def test_each_retry_waits_twice_as_long_as_the_one_before():
    """Up to an hour."""
    waits = []
    for attempt in range(1, 10):
        row = replace(ROW, state=RunState.RUNNING, attempt=attempt, attempts=({"attempt": 1},))
        waits.append((over(row, RunState.FAILED, now=T, retries=20).not_before - T).total_seconds())
    assert waits == [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]


def test_a_job_that_goes_on_has_no_failures_behind_it():
    """Else the next one would pause it again."""
    again = resumed(job(state="paused", ours={"failures": 3}, next_run_at=at(300).isoformat()), now=at(1), token="t")
    assert (again["chronos"]["failures"], again["chronos"]["change"]) == (0, "t")


def test_a_next_time_that_cannot_be_read_is_of_no_offset():
    """It is put right as one that is absent."""
    assert displaced(job(schedule={"kind": "cron", "expr": "0 9 * * *"}, next_run_at="soon")) is None
