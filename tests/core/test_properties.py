"""What holds for every schedule, every clock and every fire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.core.claim import successor
from chronos_cli.core.decision import Facts, FireRequest, Trigger
from chronos_cli.core.job import HomeDefaults, OpenKind, parse_job
from chronos_cli.core.occurrence import decide
from chronos_cli.core.policy import Overlap, Policy
from chronos_cli.core.schedule import Cron, Interval, from_record, normal_form, to_record
from chronos_cli.core.schedule_text import parse_schedule

ZONES = tuple(
    ZoneInfo(name) for name in ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
)
MOMENTS = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC, microsecond=0)
)
EXPRESSIONS = (
    "30 2 * * *",
    "*/5 * * * *",
    "0 */2 * * *",
    "15 1-3 * * *",
    "0 9 * * 1-5",
    "59 23 L * *",
    "0 3 1 * *",
    "45 0 * * 0",
)
SCHEDULES = st.one_of(
    st.sampled_from(EXPRESSIONS).map(lambda expr: Cron(expr=expr)),
    st.integers(1, 200_000).map(lambda seconds: Interval(seconds=seconds)),
)


def job_of(schedule, zone, cursor, *, through=None, jitter=0, grace=86_400, overlap="skip"):
    ours = {"anchor": "2025-01-01T00:00:07+00:00", "policy": {"jitter": jitter, "grace": grace, "overlap": overlap}}
    if through is not None:
        ours["claimed_through"] = through.isoformat()
    record = {"id": "j", "schedule": to_record(schedule, zone), "enabled": True, "state": "scheduled", "chronos": ours}
    record["next_run_at"] = None if cursor is None else cursor.isoformat()
    return parse_job(record, HomeDefaults(zone=zone, zone_name=str(zone)))


@given(SCHEDULES, st.sampled_from(ZONES), MOMENTS, st.one_of(st.none(), MOMENTS))
@settings(max_examples=150, deadline=None)
def test_the_successor_is_later_than_now_and_than_everything_claimed(schedule, zone, now, through):
    """After an early fire, in a repeated hour and with a clock set back: never an instant that was claimed."""
    found = job_of(schedule, zone, None, through=through)
    following = successor(found, found.claimed_through, now)
    assert following is not None
    assert following > now
    assert through is None or following > through


@given(
    SCHEDULES,
    st.sampled_from(ZONES),
    MOMENTS,
    st.integers(-70, 10**7),
    st.sampled_from(list(Overlap)),
    st.sampled_from((0, 600, 86_400)),
)
@settings(max_examples=150, deadline=None)
def test_a_claim_accounts_for_every_instant_up_to_its_new_cursor(schedule, zone, start, late, overlap, grace):
    """However late a fire comes, claim and missed range are just the instants from the old cursor to the new one."""
    cursor = job_of(schedule, zone, None).timetable.after(start)
    found = job_of(schedule, zone, cursor, grace=grace, overlap=overlap.value)
    now = cursor + timedelta(seconds=late)
    decision = decide(found, Facts(), FireRequest(via=Trigger.RELAY, token="t", fire_at=cursor), now)
    if decision.record is None:
        assert cursor - now > timedelta(seconds=60)
        return
    after = parse_job(decision.record, HomeDefaults(zone=zone, zone_name=str(zone)))
    assert after.cursor > max(now, after.claimed_through)
    counted = sum(entry.count for entry in after.open)
    expected, exact = found.timetable.count(cursor, after.cursor - timedelta(seconds=1))
    assert counted == expected or not exact
    assert sum(entry.kind is OpenKind.RUN for entry in after.open) <= 1


@given(SCHEDULES, st.sampled_from(ZONES), MOMENTS, st.integers(0, 3_600))
@settings(max_examples=100, deadline=None)
def test_the_same_fire_again_starts_only_what_has_not_started(schedule, zone, start, later):
    """A second look at the record that a claim wrote claims nothing that was claimed."""
    cursor = job_of(schedule, zone, None).timetable.after(start)
    fire = FireRequest(via=Trigger.RELAY, token="t", fire_at=cursor)
    first = decide(job_of(schedule, zone, cursor), Facts(), fire, cursor)
    found = parse_job(first.record, HomeDefaults(zone=zone, zone_name=str(zone)))
    second = decide(found, Facts(), fire, cursor + timedelta(seconds=later))
    claimed = (
        []
        if second.record is None
        else [e.run for e in parse_job(second.record, HomeDefaults(zone=zone, zone_name=str(zone))).open]
    )
    assert len(set(claimed)) == len(claimed)
    assert all(start.entry.fire_at >= cursor for start in second.starts)


@given(SCHEDULES, st.sampled_from(ZONES))
@settings(max_examples=100, deadline=None)
def test_what_is_stored_and_what_is_echoed_mean_the_same_schedule(schedule, zone):
    """Record and normal form both read back as the schedule they were made from."""
    now = datetime(2026, 11, 20, tzinfo=UTC)
    assert from_record(to_record(schedule, zone), zone) == schedule
    assert parse_schedule(normal_form(schedule, zone), now=now, zone=zone) == schedule


def test_a_policy_is_stored_as_what_differs_from_the_home():
    """Stored and read over the same defaults, a policy is itself."""
    defaults = Policy(timeout=90)
    policy = Policy(timeout=3_600, retries=2)
    assert Policy.from_record(policy.to_record(defaults), defaults) == policy
