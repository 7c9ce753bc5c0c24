"""Rules of rows and of edits at their edges: each is one condition, and says what becomes of a row or record by it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from chronos_cli.core.clock import CLOCK_DRIFT, displaced, lease_end
from chronos_cli.core.edits import Edit, _settled, edited, new_record, resumed
from chronos_cli.core.job import Standing, jitter_of, parse_job
from chronos_cli.core.policy import Policy
from chronos_cli.core.row import REPLACED, Row, RunResult, RunState, over, row_of
from chronos_cli.core.schedule import Cron, Interval, Once, from_record
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


def made(schedule, **changes):
    """A new record, and the job that it reads as."""
    stored = new_record(draft(schedule=schedule, **changes), now=T, token="t", defaults=Policy())
    return stored, parse_job(stored, HOME)


def test_a_new_job_comes_due_once_or_as_often_as_it_is_told():
    """A single time that is past comes due at that time; one ahead with its jitter."""
    for instant, seconds in ((at(-4_000), 0), (at(60), jitter_of("j", Policy(jitter=3_000)).total_seconds())):
        stored, read = made(Once(at=instant), policy=Policy(jitter=3_000), times=7)
        assert read.cursor == instant + timedelta(seconds=seconds)
        assert stored["repeat"] == {"times": 1, "completed": 0}
        assert "anchor" not in stored["chronos"]
    assert jitter_of("j", Policy(jitter=3_000))
    stored, read = made(Interval(seconds=300), times=7)
    assert (stored["repeat"]["times"], stored["chronos"]["anchor"], read.cursor) == (7, T.isoformat(), at(300))
    assert "anchor" not in made(Cron(expr="0 9 * * *"))[0]["chronos"]


def test_a_new_job_that_never_comes_due_is_refused():
    """At the end of the calendar nothing is left."""
    last = datetime(9999, 12, 31, 23, 59, 30, tzinfo=UTC)
    with pytest.raises(UsageError, match="never comes due again"):
        new_record(draft(schedule=Cron(expr="0 9 * * *")), now=last, token="t", defaults=Policy())


def test_a_new_job_is_an_agents_unless_it_has_an_action():
    """Fields of hermes are taken as they are; a paused one is off from the start."""
    plain, _ = made(Interval(seconds=300), fields={"prompt": "hi", "deliver": "none"})
    assert (plain["no_agent"], plain["prompt"], plain["deliver"], plain["enabled"]) == (False, "hi", "none", True)
    acting, read = made(Interval(seconds=300), action={"shell": "true"}, paused=True)
    assert (acting["no_agent"], acting["chronos"]["action"]) == (True, {"shell": "true"})
    assert (acting["enabled"], acting["state"], acting["paused_at"]) == (False, "paused", T.isoformat())
    assert read.standing is Standing.PAUSED


def test_an_edit_writes_what_it_was_given_and_nothing_else():
    """What is empty goes; what is not given stays as it is."""
    found = job(ours={"labels": {"a": "b"}, "env": {"X": "1"}, "policy": {"retries": 3}}, deliver="local")
    record = edit(found, name="other", fields={"prompt": "hi"}, extras={"labels": {}, "env_file": ["/x"]})
    assert (record["name"], record["prompt"], record["deliver"]) == ("other", "hi", "local")
    ours = found.record["chronos"]
    assert record["chronos"] == {"anchor": ours["anchor"], "env": {"X": "1"}, "policy": {"retries": 3}, "env_file": ["/x"], "change": "edit"}  # fmt: skip
    assert {key: value for key, value in record.items() if key not in ("name", "prompt", "chronos")} == {
        key: value for key, value in found.record.items() if key not in ("name", "chronos")
    }
    assert edit(found, policy=replace(found.policy, retries=0))["chronos"]["policy"] == {}
    assert edit(found, times=0)["repeat"] == {"times": None, "completed": 0}
    assert edit(job(repeat=None), times=4)["repeat"] == {"times": 4, "completed": 0}


def test_another_zone_moves_what_comes_next():
    """The schedule is the same, and another time is meant by it; the zone's own name alone moves nothing."""
    daily = job(schedule={"kind": "cron", "expr": "0 9 * * *"}, next_run_at=at(75_600).isoformat())
    tokyo = ZoneInfo("Asia/Tokyo")
    record = edit(daily, zone=tokyo, zone_name="Asia/Tokyo")
    assert (record["next_run_at"], record["chronos"]["timezone"]) == ("2026-11-21T09:00:00+09:00", "Asia/Tokyo")
    odd = job(schedule={"kind": "cron", "expr": "0 9 * * *"}, next_run_at=at(75_660).isoformat())
    same = edit(odd, zone=odd.timetable.zone, zone_name="UTC")
    assert (same["next_run_at"], same["chronos"]["timezone"]) == (at(75_660).isoformat(), "UTC")
    assert edit(odd, zone=ZoneInfo("Etc/UTC"), zone_name="Etc/UTC")["next_run_at"] == at(75_600).isoformat()


def test_a_new_rate_counts_from_its_edit_and_the_same_one_from_where_it_did():
    """A cron expression counts from nothing."""
    record = edit(job(), schedule=Interval(seconds=420))
    assert (record["schedule"]["display"], record["schedule_display"]) == ("every 7m", "every 7m")
    assert (record["chronos"]["anchor"], record["next_run_at"]) == (at(-60).isoformat(), at(360).isoformat())
    assert (
        edit(job(), schedule=Interval(seconds=300), policy=Policy(jitter=5))["chronos"]["anchor"]
        == at(-3_600).isoformat()
    )
    assert edit(job(), schedule=Cron(expr="0 9 * * *"))["chronos"]["anchor"] == at(-3_600).isoformat()


def test_a_job_with_a_new_time_has_that_one_run():
    """One that was completed is so no more, and nothing of it had come due since."""
    done = job(
        state="completed", enabled=False, ours={"completed_at": at(-90).isoformat()}, next_run_at=at(-300).isoformat()
    )
    record = edit(done, schedule=Once(at=at(600)))
    assert (record["repeat"], record["enabled"], record["state"]) == ({"times": 1, "completed": 0}, True, "scheduled")
    assert not {"completed_at", "open", "claimed_through"} & record["chronos"].keys()


def test_a_single_instant_that_was_settled_stays_as_it_is_for_another_jitter():
    """One that had come due and was not is missed."""
    once = {"schedule": {"kind": "once", "run_at": at(-600).isoformat()}}
    done = job(
        **once, next_run_at=None, enabled=False, state="completed", ours={"claimed_through": at(-600).isoformat()}
    )
    record = edit(done, policy=Policy(jitter=7))
    assert (record["last_run_at"], record["next_run_at"], record["enabled"]) == (None, None, False)
    due = edit(job(**once, next_run_at=at(-600).isoformat()), policy=Policy(jitter=7))
    assert (due["last_run_at"], due["next_run_at"], due["enabled"]) == (at(-60).isoformat(), None, False)
    assert [entry["kind"] for entry in due["chronos"]["open"]] == ["missed"]


@pytest.mark.parametrize(
    ("cursor", "count", "through"),
    [(at(-60), 1, at(-60)), (at(-360), 2, at(-60)), (at(-359), 2, at(-300)), (at(-59), 0, None), (None, 0, None)],
)
def test_what_came_due_before_an_edit_is_one_range_up_to_its_moment(cursor, count, through):
    """What comes at that very second has come; what was claimed is none of it."""
    every = {"schedule": {"kind": "interval", "minutes": 5}, "next_run_at": cursor and cursor.isoformat()}
    anchor = {"anchor": (at(-60) if cursor != at(-359) else at(-300)).isoformat()}
    ours = edit(job(**every, ours=anchor, state="paused"), schedule=Cron(expr="0 9 * * *"))["chronos"]
    owed = [(entry["count"], entry["through"]) for entry in ours.get("open", [])]
    assert owed == ([(count, through.isoformat())] if through else [])
    assert ours.get("claimed_through") == (through and through.isoformat())


def test_a_time_that_its_schedule_does_not_give_is_passed_as_itself():
    """As a single one that was put off by another program."""
    later = {"kind": "once", "run_at": at(1_000).isoformat()}
    ours = edit(job(schedule=later, next_run_at=at(-90).isoformat()), schedule=Once(at=at(2_000)))["chronos"]
    assert [(entry["fire_at"], entry["through"], entry["count"]) for entry in ours["open"]] == [
        (at(-90).isoformat(),) * 2 + (1,)
    ]


def test_a_tolerance_is_held_against_the_schedule_that_the_job_will_have():
    """Not against the one that goes."""
    wide = edit(job(), schedule=Interval(seconds=3_600), policy=Policy(tolerance=400))
    assert wide["chronos"]["policy"]["tolerance"] == 400
    with pytest.raises(UsageError, match="tolerance is not shorter"):
        edit(job(), policy=Policy(tolerance=300))
    assert edit(job(), policy=Policy(tolerance=299))["chronos"]["policy"]["tolerance"] == 299
    with pytest.raises(UsageError, match="longer than a day"):
        edit(job(schedule={"kind": "once", "run_at": at(600).isoformat()}), policy=Policy(tolerance=86_401))
    once = edit(job(schedule={"kind": "once", "run_at": at(600).isoformat()}), policy=Policy(tolerance=86_400))
    assert once["chronos"]["policy"]["tolerance"] == 86_400


def test_a_job_that_goes_on_has_what_it_slept_through_behind_it():
    """As skipped, up to the last instant that came; it is on again."""
    held = job(state="paused", enabled=False, paused_at=at(-9).isoformat(), paused_reason="x")
    record = resumed(held, now=at(700), token="t")
    assert (record["enabled"], record["state"], record["paused_at"], record["paused_reason"]) == (
        True,
        "scheduled",
        None,
        None,
    )
    assert (record["chronos"]["claimed_through"], record["next_run_at"]) == (at(600).isoformat(), at(900).isoformat())
    assert resumed(job(), now=at(700), token="t") == job().record
    none = resumed(job(state="paused", next_run_at=None), now=at(700), token="t")
    assert ("open" in none["chronos"], none["next_run_at"]) == (False, at(900).isoformat())
