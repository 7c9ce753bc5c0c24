"""Rules of reading a stored job at their edges: what each absent, odd or foreign value stands for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from chronos_cli.core import instant
from chronos_cli.core.claim import COMPLETED_STAYS, claim_of, instant_of, is_expired_completed, run_id_of
from chronos_cli.core.clock import AGREES_WITHIN, displaced, doubt_about, is_ahead
from chronos_cli.core.instant import first_valid, parse_stored, parse_time, whole
from chronos_cli.core.job import (
    HERMES_CLAIM_TTL,
    HERMES_RUN_CLAIM_TTL,
    MAX_COUNT,
    MAX_ZONE,
    HomeDefaults,
    Standing,
    instants_of,
    jitter_of,
    names_zone,
    parse_job,
    readable_open,
)
from chronos_cli.core.policy import Policy
from chronos_cli.core.schedule import Cron, Once, both_days
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.durations import MAX_SECONDS
from chronos_cli.errors import ChronosError, ConfigError, UsageError
from tests.core.making import HOME, T, at, entry, job, record

CRON = {"kind": "cron", "expr": "0 9 * * *"}


def read(stored):
    return parse_job(stored, HOME)


def test_a_job_without_a_name_is_called_by_its_id():
    """An empty one is none."""
    assert [job(name=name).name for name in ("morning", "", None)] == ["morning", "j", "j"]


def test_counts_that_are_absent_are_zero():
    """What is stored is counted on from."""
    assert (job().completed, job().failures, job().times) == (0, 0, None)
    counted = job(repeat={"times": 5, "completed": 2}, ours={"failures": 3})
    assert (counted.times, counted.completed, counted.failures) == (5, 2, 3)
    assert job(repeat={"times": MAX_COUNT + 1}).times == MAX_COUNT
    assert job(repeat={"times": 1}).times == 1


def test_a_cursor_is_unreadable_only_where_there_is_something_to_read():
    """Null is a job without a next time."""
    found = {text: job(next_run_at=text).cursor_unreadable for text in ("soon", "", None, T.isoformat())}
    assert found == {"soon": True, "": False, None: False, T.isoformat(): False}


def test_an_interval_is_counted_from_what_is_known_of_its_beginning():
    """Ours, the next time, when it was made; or else a day that every machine knows."""
    stored = record(created_at=at(-7).isoformat())
    stored["chronos"].pop("anchor")
    assert job().timetable.anchor == at(-3_600)
    assert read(stored).timetable.anchor == T
    assert read(stored | {"next_run_at": None}).timetable.anchor == at(-7)
    never = read(stored | {"next_run_at": None, "created_at": None}).timetable.anchor
    assert never == datetime(2020, 1, 1, tzinfo=UTC)


def test_a_schedule_that_is_switched_off_is_done_only_where_nothing_of_it_is_left():
    """A single time that is past, or runs that are all counted; anything else is off."""
    once = {"schedule": {"kind": "once", "run_at": T.isoformat()}}
    off = {"enabled": False, "next_run_at": None}
    assert job(**once, **off).standing is Standing.COMPLETED
    assert job(**once, enabled=False).standing is Standing.DISABLED
    for repeat, standing in (
        ({"times": 2, "completed": 2}, Standing.COMPLETED), ({"times": 2, "completed": 1}, Standing.DISABLED),
        ({"times": 2, "completed": 3}, Standing.COMPLETED), ({"times": 1}, Standing.DISABLED), (None, Standing.DISABLED),
    ):  # fmt: skip
        assert job(repeat=repeat, **off).standing is standing
    assert job(repeat={"times": 2, "completed": 2}, enabled=False).standing is Standing.DISABLED


@pytest.mark.parametrize(("key", "ttl"), [("fire_claim", HERMES_CLAIM_TTL), ("run_claim", HERMES_RUN_CLAIM_TTL)])
def test_a_claim_of_hermes_holds_for_its_time_by_any_clock(key, ttl):
    """One of ours is none of these, and one of no known time is none at all."""
    claimed = job(**{key: {"at": T.isoformat(), "by": "hermes:1"}})
    assert [claimed.claimed_elsewhere(T + ttl * sign - sign * timedelta(seconds=1)) for sign in (1, -1)] == [True, True]
    assert [claimed.claimed_elsewhere(T + ttl * sign) for sign in (1, -1)] == [False, False]
    assert job(**{key: {"at": T.isoformat()}}).claimed_elsewhere(T)
    for claim in ({"at": T.isoformat(), "by": "chronos:t"}, {"at": "soon", "by": "hermes:1"}, "text", None, {}):
        assert not job(**{key: claim}).claimed_elsewhere(T)


def test_entries_that_lack_what_older_versions_did_not_write_have_its_default():
    """And only `own: true` is own."""
    bare = {"run": "20261120T120000Z", "kind": "missed", "claim": "c", "claimed_at": T.isoformat()}
    (found,) = job(ours={"open": [bare]}).open
    assert (found.count, found.exact, found.timing, found.received_at, found.own) == (1, True, "on_time", None, False)
    assert [job(ours={"open": [bare | {"own": own}]}).open[0].own for own in (True, False, 1, "yes")] == [
        True,
        False,
        False,
        False,
    ]
    (own,) = job(ours={"open": [bare | {"own": True, "received_at": at(1).isoformat(), "count": MAX_COUNT * 2}]}).open
    assert (own.received_at, own.count, own.to_record()["own"]) == (at(1), MAX_COUNT, True)
    assert "own" not in found.to_record()
    assert "count" not in job(ours={"open": [bare | {"kind": "run"}]}).open[0].to_record()


@pytest.mark.parametrize(
    "change",
    [{"run": "../x"}, {"run": 7}, {"claimed_at": "2026-11-20T12:00:00"}, {"received_at": "2026-11-20T12:00:00"}],
)
def test_an_entry_that_names_a_path_or_no_instant_is_none(change):
    """Its job is not run as long as it stands there."""
    broken = entry(T) | change
    with pytest.raises(ChronosError, match="cannot be read"):
        job(ours={"open": [broken]})
    assert readable_open([entry(T), broken, 7]) == [entry(T)]
    assert readable_open(None) == readable_open("text") == []


def test_instants_that_cannot_be_read_are_none():
    """The others count."""
    assert instants_of([T.isoformat(), "soon", 7, at(1).isoformat()]) == (T, at(1))
    assert instants_of(T.isoformat()) == instants_of(None) == ()


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [("grace", 0, 0), ("grace", 1.0, 1), ("grace", MAX_SECONDS, MAX_SECONDS), ("grace", "1h", 3_600), ("grace", "90", 90),
     ("grace", None, 86_400), ("timeout", 0, 1), ("retries", 3, 3), ("on_failure", ["say", "it"], ("say", "it")),
     ("on_failure", [], ()), ("on_failure", None, ()), ("inherit_env", ["A*"], ("A*",)), ("overlap", None, "skip")],
)  # fmt: skip
def test_a_policy_means_what_it_says(name, value, meant):
    """Null is the default of the home."""
    assert getattr(job(policy={name: value}).policy, name) == meant


@pytest.mark.parametrize(
    ("name", "value"),
    [("grace", -1), ("grace", MAX_SECONDS + 1), ("grace", True), ("grace", [1]), ("grace", float("inf")),
     ("on_failure", "say"), ("on_failure", ["say", 7]), ("overlap", "maybe")],
)  # fmt: skip
def test_a_policy_that_means_nothing_is_refused(name, value):
    """The job is not run by a default that nobody chose."""
    with pytest.raises(UsageError, match="the policy cannot be read"):
        job(policy={name: value})
    with pytest.raises(UsageError, match="not an object"):
        read(record(ours={"policy": [1]}))


def test_a_policy_is_stored_as_far_as_it_differs():
    """Words as a list; so it reads back over the same defaults."""
    own = Policy(grace=60, on_failure=("say",))
    stored = own.to_record(Policy(retries=0))
    assert stored == {"grace": 60, "on_failure": ["say"]}
    assert Policy.from_record(stored, Policy()) == own
    assert Policy.from_record(None, own) is own
    assert Policy.from_record({}, own) == own


def test_a_job_is_in_its_own_zone_or_in_that_of_its_home():
    """A zone's name is no longer than any is."""
    home = HomeDefaults(zone=ZoneInfo("Asia/Tokyo"), zone_name="Asia/Tokyo")
    assert parse_job(record(), home).timetable.zone.key == "Asia/Tokyo"
    berlin = parse_job(record(ours={"timezone": "Europe/Berlin"}), home)
    assert (berlin.zone_name, berlin.timetable.zone.key) == ("Europe/Berlin", "Europe/Berlin")
    for name in ("x" * (MAX_ZONE + 1), 7, ["UTC"]):
        with pytest.raises(UsageError, match="no name of one"):
            read(record(ours={"timezone": name}))
    with pytest.raises(UsageError, match="there is no time zone"):
        read(record(ours={"timezone": "x" * MAX_ZONE}))
    assert [names_zone(stored) for stored in (record(), record(ours={"timezone": "UTC"}), record(tz="UTC"))] == [
        False,
        True,
        True,
    ]


def test_jitter_is_at_most_what_the_job_says():
    """Both ends are possible, and without it there is none."""
    offsets = {jitter_of(f"job{number}", Policy(jitter=3)).seconds for number in range(60)}
    assert offsets == {0, 1, 2, 3}
    assert jitter_of("job1", Policy()) == timedelta()


def test_a_time_on_the_wall_that_comes_twice_is_the_first_and_one_that_never_comes_is_after_the_gap():
    """So says Debian's cron."""
    berlin = ZoneInfo("Europe/Berlin")
    assert first_valid(datetime(2026, 10, 25, 2, 30), berlin) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert first_valid(datetime(2026, 10, 25, 2, 30, fold=1), berlin) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    for minute in (0, 1, 30, 59):
        assert first_valid(datetime(2026, 3, 29, 2, minute), berlin) == datetime(2026, 3, 29, 1, tzinfo=UTC)


def test_an_instant_is_a_whole_second_of_utc():
    """One without an offset is none."""
    assert whole(at(0.9)) == T
    with pytest.raises(ValueError, match="needs a UTC offset"):
        whole(datetime(2026, 11, 20))


def test_where_no_zone_has_data_no_name_is_at_fault(monkeypatch):
    """Whoever reads it is told what is missing, and not that the zone's name is wrong."""

    def without_data(name):
        raise KeyError(name)

    monkeypatch.setattr(instant, "ZoneInfo", without_data)
    for name in ("UTC", "Europe/Berlin"):
        with pytest.raises(ConfigError, match="no data of time zones"):
            instant.named_zone(name)


def test_a_text_of_no_instant_is_none():
    """Empty ones and what is no text are none either."""
    assert [parse_stored(value, UTC) for value in ("", "soon", None, 7, "9999-12-31T23:59:59-01:00")] == [None] * 5
    assert parse_stored("2026-11-20T12:00:00.75", UTC) == T
    assert parse_stored("2026-11-20T17:30:00.75+05:30", UTC) == T


def test_a_time_as_a_person_writes_it():
    """In the zone that it names, or the job's; an offset that contradicts its zone is refused."""
    tokyo = ZoneInfo("Asia/Tokyo")
    written = {
        "2026-11-20T21:00": T, "2026-11-20T12:00:00Z": T, "2026-11-20T13:00[Europe/Berlin]": T, "2026-11-20T13:00+01:00": T,
        " 2026-11-20T13:00+01:00[Europe/Berlin] ": T, "2026-11-20T13:00+01:00[!Europe/Berlin]": T,
    }  # fmt: skip
    assert {text: parse_time(text, tokyo) for text in written} == written
    with pytest.raises(UsageError, match="contradict"):
        parse_time("2026-11-20T13:00+02:00[Europe/Berlin]", tokyo)


def test_the_name_of_a_run_tells_its_time():
    """A person's run, or another name, tells none."""
    assert instant_of(run_id_of(at(0.7))) == T
    assert instant_of("manual-20261120T120000Z-0000cafe") is instant_of("x") is None


@pytest.mark.parametrize(("ours", "last"), [({"completed_at": T.isoformat()}, None), ({}, T.isoformat())])
def test_a_completed_job_stays_for_its_time(ours, last):
    """From when it was completed, or from its last run; one of which neither is known, or with a run in hand, stays."""
    done = {"state": "completed", "enabled": False, "next_run_at": None, "last_run_at": last}
    found = job(ours=ours, **done)
    assert not is_expired_completed(found, T + COMPLETED_STAYS)
    assert is_expired_completed(found, T + COMPLETED_STAYS + timedelta(seconds=1))
    long_after = T + 2 * COMPLETED_STAYS
    assert not is_expired_completed(job(ours={**ours, "open": [entry(T)]}, **done), long_after)
    assert not is_expired_completed(job(**done | {"last_run_at": None}), long_after)
    assert not is_expired_completed(job(ours=ours, last_run_at=last), long_after)
    assert not is_expired_completed(job(ours=ours, **done | {"state": "scheduled", "schedule": {"kind": "once", "run_at": T.isoformat()}}), long_after)  # fmt: skip


@pytest.mark.parametrize(
    ("late", "taken", "missed"),
    [
        (0, 0, None), (299, 0, None), (300, 0, (300, 300)), (400, 0, (300, 300)), (401, 300, (0, 299)), (699, 600, (0, 599)),
        (1_000, 900, (0, 899)),
    ],
)  # fmt: skip
def test_within_grace_the_cursor_is_taken_and_past_it_the_newest_that_is(late, taken, missed):
    """What lies between is missed; every five minutes, with four hundred seconds of grace."""
    effect = claim_of(job(policy={"grace": 400}), T, at(late))
    assert effect.taken == at(taken)
    assert effect.missed == (missed and (at(missed[0]), at(missed[1])))
    assert effect.through == max(at(taken), effect.missed[1] if missed else T)


def test_past_all_grace_nothing_is_taken():
    """Hourly with ten seconds: only the newest second counts. Tolerance is no lateness."""
    hourly = {"kind": "interval", "minutes": 60}
    strict = job(schedule=hourly, policy={"grace": 10})
    assert claim_of(strict, T, at(10.9)).taken == T
    late = claim_of(strict, T, at(11))
    assert (late.taken, late.missed, late.through) == (None, (T, T), T)
    days = claim_of(strict, T, at(3 * 3_600 + 11))
    assert (days.taken, days.missed, days.through) == (None, (T, at(3 * 3_600)), at(3 * 3_600))
    wide = job(schedule=hourly, policy={"grace": 10, "tolerance": 60})
    assert (claim_of(wide, T, at(70)).taken, claim_of(wide, T, at(71)).taken) == (T, None)
    none = job(schedule=hourly, policy={"grace": 0})
    assert (claim_of(none, T, at(5)).taken, claim_of(none, T, at(6)).taken) == (T, None)


def test_the_latest_instant_of_a_single_time_is_that_once_it_has_come():
    """Before it there is none."""
    table = job(schedule={"kind": "once", "run_at": T.isoformat()}).timetable
    assert [table.latest(at(seconds)) for seconds in (-1, 0, 1)] == [None, T, T]
    assert [table.after(at(seconds)) for seconds in (-1, 0, 1)] == [T, None, None]


def test_one_word_of_digits_is_a_day_and_no_cron_expression():
    """As ISO 8601 writes it without dashes."""
    read = parse_schedule("20991120", now=T, zone=UTC, allow_past=False)
    assert read == Once(at=datetime(2099, 11, 20, tzinfo=UTC))


def test_one_restricted_day_is_worth_no_warning():
    """Cron joins two by OR."""
    found = {expr: both_days(Cron(expr=expr)) for expr in ("0 0 1 * *", "0 0 * * 5", "0 0 1 * 5")}
    assert found == {"0 0 1 * *": False, "0 0 * * 5": False, "0 0 1 * 5": True}


def test_only_times_on_the_wall_are_put_right_for_another_offset():
    """An interval is counted in seconds, wherever it was written."""
    assert displaced(job(next_run_at="2026-11-20T18:02:00+06:00")) is None


def test_a_job_of_another_program_whose_next_time_cannot_be_read_is_doubted_by_its_last():
    """Or not at all."""
    stored = record(schedule=CRON, state="paused", next_run_at="soon", last_run_at="2026-11-19T09:00:00+06:00")
    del stored["chronos"]
    assert "last_run_at says" in doubt_about(read(stored), T, paused=True).text
    assert doubt_about(read(stored | {"last_run_at": None}), T, paused=True) is None


def test_a_next_time_of_hermes_without_jitter_is_not_ahead_by_it():
    """It is that much later than the instant before."""
    offset = jitter_of("j", Policy(jitter=3_600))
    assert offset > timedelta(minutes=2)
    day = datetime(2026, 11, 20, 9, tzinfo=UTC)
    now = day + offset - timedelta(minutes=1) - AGREES_WITHIN
    daily = {"schedule": CRON, "policy": {"jitter": 3_600}}
    next_day = (day + timedelta(days=1)).isoformat()
    assert not is_ahead(job(next_run_at=next_day, **daily), now)
    assert is_ahead(job(next_run_at=(day + timedelta(days=2)).isoformat(), **daily), now)
