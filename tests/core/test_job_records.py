"""Records as people, hermes and older versions left them."""

from __future__ import annotations

import itertools
from datetime import UTC, timedelta

import pytest

from chronos_cli.config import values
from chronos_cli.core.job import Standing, jitter_of, parse_job
from chronos_cli.core.policy import OnCrash, Overlap, Policy
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.durations import format_duration, parse_duration, parse_seconds
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.nas_server.cli import common as cli_common
from tests.core.making import HOME, T, at, entry, job, record


@pytest.mark.parametrize("missing", ["name", "repeat", "enabled", "state", "next_run_at", "last_run_at", "chronos"])
@pytest.mark.parametrize("null", [True, False])
def test_a_record_may_lack_any_field_or_hold_null_for_it(missing, null):
    """A missing key and a null mean the default, and the job is read; `enabled: null` alone is off, as to hermes."""
    stored = record()
    del stored[missing]
    found = parse_job(stored | ({missing: None} if null else {}), HOME)
    assert found.id == "j"
    assert found.standing is (Standing.DISABLED if null and missing == "enabled" else Standing.LIVE)


ABSENT = object()


@pytest.mark.parametrize("enabled", [ABSENT, True, False, None, 0, 1, "", "false", "true", [], {}])
def test_no_job_is_live_that_hermes_would_not_run(enabled):
    """Hermes runs what is switched on and bears no mark of a pause; the text "false" is off here, though on there."""
    states = (ABSENT, None, "", "scheduled", "paused", " paused\n", "error", 7)
    for state, paused_at in itertools.product(states, (ABSENT, None, "", "2026-11-20T12:00:00", 0, True)):
        given = {"enabled": enabled, "state": state, "paused_at": paused_at}
        stored = {key: value for key, value in (record() | given).items() if value is not ABSENT}
        on = bool(stored.get("enabled", True)) and enabled != "false"
        marked = str(stored.get("state") or "").strip() == "paused" or bool(stored.get("paused_at"))
        assert (parse_job(stored, HOME).standing is Standing.LIVE) is (on and not marked), given


@pytest.mark.parametrize(
    ("fields", "standing"),
    [
        ({}, Standing.LIVE),
        ({"state": "paused", "enabled": True}, Standing.PAUSED),
        ({"state": "paused", "enabled": False}, Standing.PAUSED),
        ({"enabled": False}, Standing.DISABLED),
        ({"enabled": "false"}, Standing.DISABLED),
        ({"enabled": None}, Standing.DISABLED),
        ({"state": " paused "}, Standing.PAUSED),
        ({"enabled": False, "next_run_at": None, "repeat": {"times": 2, "completed": 2}}, Standing.COMPLETED),
        ({"state": "completed"}, Standing.COMPLETED),
    ],
)
def test_a_contradictory_record_is_not_runnable(fields, standing):
    """Whatever says paused, switched off or done wins over what says live."""
    assert job(**fields).standing is standing


@pytest.mark.parametrize(
    "text",
    ["2026-11-20T12:00:00", "2026-11-20T12:00:00.987654+00:00", "2026-11-20T13:00:00+01:00", "2026-11-20T12:00:00Z"],
)
def test_a_cursor_is_read_in_every_spelling_as_its_whole_second(text):
    """Naive means the job's zone, and a fraction counts as its second."""
    assert job(next_run_at=text).cursor == T


@pytest.mark.parametrize("text", ["soon", 17, {"at": 1}, "2026-13-40T00:00", "9999-12-31T23:59:59-23:59"])
def test_an_unreadable_cursor_is_no_error(text):
    """The job is read, without a cursor, and the record says that there was one."""
    found = job(next_run_at=text)
    assert found.cursor is None
    assert found.cursor_unreadable


@pytest.mark.parametrize(
    ("value", "times"), [(None, None), (0, None), (-1, None), ("3", 3), (2.0, 2), (True, None), ("x", None)]
)
def test_repeat_takes_only_positive_numbers(value, times):
    """Anything else means for ever, and never the end of the job."""
    assert job(repeat={"times": value, "completed": 0}).times == times


def test_a_policy_may_spell_its_durations_and_lack_any_of_them():
    """`grace: 2h` and `timeout: "90"` are read; what is missing comes from the home."""
    policy = job(policy={"grace": "2h", "timeout": "90", "overlap": "queue", "on_crash": "rerun"}).policy
    assert policy == Policy(overlap=Overlap.QUEUE, grace=7_200, timeout=90, on_crash=OnCrash.RERUN)


@pytest.mark.parametrize("policy", [{"overlap": "maybe"}, {"grace": -1}, {"retries": True}, {"timeout": [1]}])
def test_a_policy_that_cannot_be_meant_makes_the_job_invalid(policy):
    """It is refused with the reason, and not replaced by a default."""
    with pytest.raises(ChronosError):
        job(policy=policy)


@pytest.mark.parametrize(
    "broken", [{"run": "x"}, "text", {"run": "x", "kind": "odd", "claim": "c", "claimed_at": T.isoformat()}]
)
def test_an_entry_of_open_that_cannot_be_read_makes_the_job_invalid(broken):
    """A run in hand that nobody understands must not be taken for none."""
    with pytest.raises(ChronosError, match="open"):
        job(ours={"open": [entry(T), broken]})


def test_entries_of_open_go_round():
    """What is stored of an entry is read back as the same."""
    stored = entry(T, "missed", through=at(600).isoformat(), count=3, exact=True, because="late", timing="late")
    (found,) = job(ours={"open": [stored]}).open
    assert found.to_record() == stored


def test_an_unknown_zone_is_refused_and_never_utc():
    """A job in a zone that does not exist is invalid."""
    with pytest.raises(ChronosError, match="Mars"):
        job(ours={"timezone": "Mars/Olympus"})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2 days", 172_800),
        ("2H", 7200),
        ("1w", 604_800),
        (" 0s ", 0),
        ("1h 30 min", 5400),
    ],
)
def test_a_duration_means_the_same_wherever_it_is_written(text, seconds):
    """A schedule, a policy, a setting and an option of either program read durations by one grammar."""
    assert parse_duration(text) == seconds
    assert parse_seconds(text) == seconds
    assert values.seconds(0, 10**9).read(text) == seconds
    assert Policy.from_record({"grace": text}, Policy()).grace == seconds
    assert cli_common.seconds(text) == seconds
    assert seconds == 0 or parse_schedule(f"every {text.strip()}", now=at(0), zone=UTC).seconds == seconds


@pytest.mark.parametrize("text", ["", "soon", "1", "-1s", "1x", "1.2345s", "1h,30m", "h", "1..5h", "\u0661h", "1h30"])
def test_what_is_no_duration_is_refused(text):
    """Nothing else is read; a number alone is seconds only where a length can be meant and nothing else."""
    with pytest.raises(UsageError, match="cannot read the duration"):
        parse_duration(text)


def test_a_fraction_of_a_second_is_a_length_only_where_it_can_be_kept():
    """A setting may be half a second; a schedule and a policy hold whole ones. A century is the most."""
    assert parse_seconds("0.5") == parse_seconds("0.5s") == 0.5
    assert parse_duration("90", bare=True) == 90
    with pytest.raises(UsageError, match="is no whole number of seconds"):
        parse_duration("0.5s")
    with pytest.raises(UsageError, match="longer than a century"):
        parse_duration("9" * 18 + "w")


@pytest.mark.parametrize("key", ["tz", "timezone", "timeZone"])
def test_the_zone_of_another_programs_record_is_honoured(key):
    """Beside the schedule or in it, a zone means that the schedule is walked there; ours goes before it."""
    stored = record()
    del stored["chronos"]
    schedule = {"kind": "cron", "expr": "0 9 * * *"}
    for there in (
        stored | {"schedule": schedule | {key: "Asia/Shanghai"}},
        stored | {"schedule": schedule, key: "Asia/Shanghai"},
    ):
        assert parse_job(there, HOME).zone_name == "Asia/Shanghai"
        assert parse_job(there | {"chronos": {"timezone": "Europe/Berlin"}}, HOME).zone_name == "Europe/Berlin"
    for broken, said in ((7, "it has a time zone that is not read here"), ("Mars/Olympus", "there is no time zone")):
        with pytest.raises(ChronosError, match=said):
            parse_job(stored | {"schedule": schedule | {key: broken}}, HOME)


def test_an_action_of_another_program_makes_the_job_invalid():
    """A record that has only a `payload` would run nothing at each of its times, so it says so instead."""
    stored = {key: value for key, value in record().items() if key not in ("chronos", "prompt", "script")}
    with pytest.raises(ChronosError, match="another program's, which is not read here"):
        parse_job(stored | {"payload": {"kind": "agentTurn", "message": "hi"}}, HOME)
    assert parse_job(stored | {"payload": {"kind": "agentTurn"}, "prompt": "hi"}, HOME).id == "j"


def test_jitter_is_constant_for_a_job_and_spread_over_jobs():
    """The same id has the same offset, and a hundred ids use most of the range."""
    offsets = [jitter_of(f"job{number}", Policy(jitter=60)) for number in range(100)]
    assert offsets == [jitter_of(f"job{number}", Policy(jitter=60)) for number in range(100)]
    assert all(timedelta() <= offset <= timedelta(seconds=60) for offset in offsets)
    assert len(set(offsets)) > 40


@pytest.mark.parametrize("seconds", [1, 59, 60, 90, 3_600, 5_400, 86_400, 90_061])
def test_a_duration_is_echoed_in_a_form_that_means_the_same(seconds):
    """The normal form reads back as the same number of seconds."""
    assert parse_duration(format_duration(seconds)) == seconds
