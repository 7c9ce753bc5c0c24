"""Which clock is believed, what is settled without a witness, and what is put right again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.core.clock import (
    AGREES_WITHIN,
    UNCHECKED,
    Lease,
    Trust,
    displaced,
    doubt_about,
    is_ahead,
    judged,
    put_right,
)
from chronos_cli.core.decision import Facts, FireRequest, Liveness, Trigger
from chronos_cli.core.job import HomeDefaults, OpenKind, parse_job
from chronos_cli.core.occurrence import decide
from chronos_cli.core.row import RunState, row_of
from chronos_cli.frozen import replace

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FAR = datetime(2038, 1, 20, 3, 0, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2039, 1, 1)).map(lambda m: m.replace(tzinfo=UTC, microsecond=0))
TRIGGERS = st.sampled_from((Trigger.TICK, Trigger.RECONCILE, Trigger.RELAY))


def job_of(expr="0 9 * * *", zone="UTC", *, through=None, **fields):
    ours = {"timezone": zone} | ({"claimed_through": through.isoformat()} if through else {})
    record = {
        "id": "j",
        "schedule": {"kind": "cron", "expr": expr},
        "enabled": True,
        "state": "scheduled",
        "chronos": ours | fields.pop("chronos", {}),
    }
    return parse_job(record | fields, HomeDefaults(zone=UTC, zone_name="UTC"))


def facts_of(found, now, *, rows=frozenset(), **facts):
    """The facts as whoever looks gathers them: `rows` still to come are looked for where a clock was ahead."""
    return Facts(ahead=rows if is_ahead(found, now) else None, **facts)


def after(found, now, *, via=Trigger.TICK, **facts):
    decision = decide(found, facts_of(found, now, **facts), FireRequest(via=via, token="t"), now)
    return found if decision.record is None else parse_job(decision.record, HomeDefaults(zone=UTC, zone_name="UTC"))


@given(MOMENTS, MOMENTS)
@settings(max_examples=200, deadline=None)
def test_a_clock_is_never_set_ahead_and_agrees_with_its_witness_then_or_is_behind_it(now, witness):
    """What is taken for the time is past by both clocks."""
    back, trust = judged(now, witness)
    assert back >= timedelta()
    assert now - back <= max(witness + AGREES_WITHIN, witness)
    assert (trust is Trust.CONFIRMED) == (abs(now - witness) <= AGREES_WITHIN)


@given(MOMENTS, MOMENTS, TRIGGERS)
@settings(max_examples=150, deadline=None)
def test_without_its_witness_nothing_is_settled_that_the_last_state_does_not_explain(cursor, now, via):
    """Whatever the clock says: at most what came due within a day of the next time is claimed, missed or passed over."""
    found = job_of(next_run_at=job_of().timetable.after(cursor).isoformat())
    left = after(found, now, via=via, trust=Trust.UNHEARD)
    settled = max([left.claimed_through or found.cursor, *(entry.through or entry.fire_at for entry in left.open)])
    assert settled - found.cursor <= UNCHECKED
    assert left.cursor - found.cursor <= 2 * UNCHECKED


@given(MOMENTS, MOMENTS)
@settings(max_examples=100, deadline=None)
def test_the_tick_alone_never_stops(cursor, now):
    """With nobody to ask, the newest instant within grace runs, however long the machine slept; the rest is missed."""
    found = job_of(next_run_at=job_of().timetable.after(cursor).isoformat())
    left = after(found, now)
    if now < found.cursor:
        assert left is found
        return
    assert [entry.kind for entry in left.open if entry.kind is OpenKind.RUN] == [OpenKind.RUN]
    assert left.cursor == found.timetable.after(now)


@given(st.integers(11, 60 * 24 * 365 * 12), st.sampled_from(("0 9 * * *", "*/5 * * * *", "0 * * * *")))
@settings(max_examples=100, deadline=None)
def test_what_a_clock_that_was_ahead_claimed_is_brought_back_by_one_that_a_witness_confirms(minutes, expr):
    """The next time is the first after now without a row, and what is claimed lies before it."""
    ahead = NOW + timedelta(minutes=minutes)
    through = job_of(expr).timetable.after(ahead)
    found = job_of(expr, through=through, next_run_at=job_of(expr).timetable.after(through).isoformat())
    assert is_ahead(found, NOW)
    for via in (Trigger.TICK, Trigger.RECONCILE, Trigger.RELAY):
        left = after(found, NOW, via=via, trust=Trust.CONFIRMED)
        assert (left.claimed_through, left.cursor) == (NOW, found.timetable.after(NOW))
        assert not is_ahead(left, NOW)
        rows = frozenset({found.timetable.after(NOW), through})
        left = after(found, NOW, via=via, trust=Trust.CONFIRMED, rows=rows)
        assert left.cursor not in rows
        assert left.cursor > left.claimed_through >= NOW
    for trust in (Trust.UNHEARD, Trust.CORRECTED, Trust.ALONE):
        assert after(found, NOW, trust=trust, via=Trigger.RECONCILE).cursor == found.cursor, trust


def test_a_leap_of_the_tick_alone_is_undone_when_the_clock_is_right_again():
    """The tick noted from where it leapt; a clock by which that comes next is believed, another wrong one is not."""
    first = job_of(next_run_at="2026-11-21T09:00:00+00:00")
    leapt = after(first, FAR)
    assert leapt.cursor > FAR
    assert after(leapt, NOW).cursor == first.cursor
    twice = after(leapt, FAR + timedelta(days=800))
    assert after(twice, NOW).cursor == first.cursor
    assert after(leapt, NOW + timedelta(days=300)).cursor == leapt.cursor
    assert doubt_about(leapt, NOW).code == "ahead"
    assert doubt_about(leapt, FAR) is None


@pytest.mark.parametrize("trust", [Trust.ALONE, Trust.CONFIRMED])
def test_a_week_asleep_is_no_leap_to_be_undone(trust):
    """The clock that says so is right, and the next day all goes on."""
    found = after(job_of(next_run_at="2026-11-21T09:00:00+00:00"), NOW + timedelta(days=8), trust=trust)
    assert found.cursor == datetime(2026, 11, 29, 9, tzinfo=UTC)
    assert doubt_about(found, NOW + timedelta(days=8)) is None


def test_a_one_shot_is_not_completed_by_a_clock_without_its_witness():
    """It stays what comes next."""
    record = {"id": "j", "schedule": {"kind": "once", "run_at": "2026-11-21T09:00:00+00:00"}, "enabled": True,
              "state": "scheduled", "next_run_at": "2026-11-21T09:00:00+00:00", "chronos": {}}  # fmt: skip
    found = parse_job(record, HomeDefaults(zone=UTC, zone_name="UTC"))
    for via in (Trigger.TICK, Trigger.RECONCILE):
        assert after(found, FAR, trust=Trust.UNHEARD, via=via) is found


def test_a_lease_is_not_ended_by_a_clock_without_its_witness():
    """Hours past its end it is over; years past it only a clock says so that nobody confirms."""
    end = NOW - timedelta(hours=3)
    lease = Lease(end=end, length=timedelta(hours=1))
    for trust in (Trust.UNHEARD, Trust.ALONE):
        assert lease.is_over(NOW, trust)
        assert not lease.is_over(FAR, trust)
        assert Lease(end=end, counted=True).is_over(FAR, trust)  # by the clock that nobody sets
    for trust in (Trust.CONFIRMED, Trust.CORRECTED):
        assert lease.is_over(FAR, trust)
    assert not Lease(end=None).is_over(FAR, Trust.CONFIRMED)


@given(MOMENTS, st.integers(60, 7_200), st.integers(0, 9_000))
@settings(max_examples=100, deadline=None)
def test_where_nobody_can_be_asked_a_lease_that_is_long_over_ends_after_its_length_once_more(now, length, waited):
    """The tick alone notes when it first found it so; a leap after that starts the count anew."""
    lease = Lease(end=now - timedelta(days=2), length=timedelta(seconds=length))
    assert lease.is_doubted(now, Trust.ALONE)
    assert not lease.is_doubted(now, Trust.UNHEARD)
    noted = Lease(end=lease.end, length=lease.length, doubted_at=now)
    later = now + timedelta(seconds=waited)
    assert noted.is_over(later, Trust.ALONE) == (waited >= length)
    assert not noted.is_doubted(later, Trust.ALONE)
    assert not noted.is_over(later + timedelta(days=4_000), Trust.ALONE)
    assert noted.is_doubted(later + timedelta(days=4_000), Trust.ALONE)
    assert not noted.is_over(now - timedelta(hours=5), Trust.ALONE)
    assert noted.is_doubted(now - timedelta(hours=5), Trust.ALONE)


def running(owner_alive, *, started):
    """A job whose run, of another machine or boot, holds a lease of an hour from `started`, and its facts."""
    entry = {"run": "20261120T090000Z", "kind": "run", "claim": "c", "claimed_at": started.isoformat(),
             "fire_at": started.isoformat()}  # fmt: skip
    found = job_of(next_run_at="2026-11-21T09:00:00+00:00", through=started)
    found = parse_job({**found.record, "chronos": {**found.record["chronos"], "open": [entry]}},
                      HomeDefaults(zone=UTC, zone_name="UTC"))  # fmt: skip
    row = replace(row_of("j", found.open[0], found.policy), state=RunState.RUNNING, started_at=started,
                  lease_ends_at=started + timedelta(hours=1))  # fmt: skip
    return found, {"rows": {entry["run"]: row}, "liveness": {entry["run"]: owner_alive}}


@pytest.mark.parametrize("via", [Trigger.TICK, Trigger.RECONCILE])
def test_a_wrong_clock_declares_no_run_of_another_machine_lost(via):
    """At 2038 the tick alone notes its doubt; the clock right again, the run is as it was, and ends by its own lease."""
    started = datetime(2026, 11, 20, 9, tzinfo=UTC)
    found, facts = running(Liveness.UNSEEN, started=started)
    early = started + timedelta(minutes=5)
    decision = decide(found, Facts(**facts), FireRequest(via=via, token="t"), FAR)
    assert decision.settle == () or {row.state for row in decision.settle} == {RunState.SKIPPED, RunState.MISSED}
    left = parse_job(decision.record, HomeDefaults(zone=UTC, zone_name="UTC"))
    mine = next(entry for entry in left.open if entry.run == "20261120T090000Z")
    assert mine.doubted_at == FAR
    decision = decide(left, Facts(**facts), FireRequest(via=via, token="t"), early)
    assert all(row.run_id != mine.run for row in decision.settle)
    decision = decide(left, Facts(**facts), FireRequest(via=via, token="t"), started + timedelta(hours=2))
    assert RunState.LOST in {row.state for row in decision.settle if row.run_id == mine.run}


def test_a_run_of_another_machine_that_is_gone_does_not_stop_the_tick_alone():
    """Days after its end, by a clock that may be right: one lease's length later it is lost, and the next one runs."""
    started = datetime(2026, 11, 20, 9, tzinfo=UTC)
    found, facts = running(Liveness.UNSEEN, started=started)
    back = started + timedelta(days=7)
    for minutes in (0, 30, 59):
        now = back + timedelta(minutes=minutes)
        decision = decide(found, Facts(**facts), FireRequest(via=Trigger.TICK, token="t"), now)
        assert all(row.run_id != "20261120T090000Z" for row in decision.settle)
        found = (
            found if decision.record is None else parse_job(decision.record, HomeDefaults(zone=UTC, zone_name="UTC"))
        )
    decision = decide(found, Facts(**facts), FireRequest(via=Trigger.TICK, token="t"), back + timedelta(minutes=60))
    assert [row.state for row in decision.settle if row.run_id == "20261120T090000Z"] == [RunState.LOST]


@pytest.mark.parametrize(
    ("stored", "zone", "expected"),
    [
        ("2026-11-29T09:00:00+06:00", "Asia/Almaty", "2026-11-29T09:00:00+05:00"),
        ("2026-11-29T09:00:00+04:00", "Asia/Almaty", "2026-11-29T09:00:00+05:00"),
        ("2026-11-28T09:00:00+07:00", "UTC", "2026-11-28T09:00:00+00:00"),
        ("2026-11-28T09:00:00-08:00", "UTC", "2026-11-28T09:00:00+00:00"),
        ("2026-11-29T03:00:00Z", "Asia/Almaty", "2026-11-29T09:00:00+05:00"),
        ("2026-11-29T04:00:00Z", "Asia/Almaty", None),
        ("2026-11-29T09:00:00", "Asia/Almaty", None),
        ("2026-11-29T08:31:17+05:00", "Asia/Almaty", None),
        ("2026-11-29T08:31:17.25+07:00", "Asia/Almaty", None),
    ],
)
def test_a_next_time_of_another_offset_is_taken_for_the_same_time_on_the_wall(stored, zone, expected):
    """Once a day stays once a day. What its schedule gives stays, and so does a time that somebody set by hand."""
    found = job_of(zone=zone, next_run_at=stored)
    meant = displaced(found)
    assert meant == (expected and datetime.fromisoformat(expected))
    if expected:
        before = meant - timedelta(hours=20)
        assert doubt_about(found, before).code == "displaced"
        assert after(found, before, via=Trigger.RECONCILE).record["next_run_at"] == expected
        assert after(found, before).cursor == meant
        late = after(found, meant + timedelta(minutes=1))
        assert [entry.fire_at for entry in late.open] == [meant]
        assert late.cursor == meant + timedelta(days=1)


def test_every_day_of_a_zone_that_changed_its_rules_has_one_run():
    """Stored under one offset, walked under another, minute by minute: each date on the wall runs once."""
    for before in range(-11, 13):
        zone = timezone(timedelta(hours=before))
        found = job_of(zone="Asia/Almaty", next_run_at=datetime(2026, 11, 22, 9, tzinfo=zone).isoformat())
        ran, now = [], datetime(2026, 11, 21, 18, tzinfo=UTC)
        while now < datetime(2026, 11, 26, tzinfo=UTC):
            left = after(found, now)
            ran += [e.fire_at for e in left.open if e.kind is OpenKind.RUN]
            record = {**left.record, "chronos": {**left.record["chronos"], "open": []}}
            found, now = parse_job(record, HomeDefaults(zone=UTC, zone_name="UTC")), now + timedelta(minutes=30)
        dates = [moment.astimezone(ZoneInfo("Asia/Almaty")).date().day for moment in ran]
        assert dates == [22, 23, 24, 25], (before, dates)


@pytest.mark.parametrize(
    ("expr", "hours", "expected"),
    [
        ("*/5 * * * *", 1, True), ("@daily", 11, False), ("@daily", 36, True), ("0 9 * * *", 45, True), ("0 9 * * *", 21, False),
        ("0 9 1 * *", 24 * 10 + 21, False), ("0 9 1 * *", 24 * 60, True), ("@yearly", 24 * 41 + 12, False),
    ],
)  # fmt: skip
def test_ahead_is_what_the_schedule_itself_does_not_explain(expr, hours, expected):
    """Three hours are far for each five minutes, and a month is near for once a month."""
    assert is_ahead(job_of(expr, next_run_at=(NOW + timedelta(hours=hours)).isoformat()), NOW) == expected


def test_an_interval_may_come_a_whole_one_after_now_and_no_later():
    """A hermes on the same home counts it from its last run; that is no doubt."""
    every = {"kind": "interval", "minutes": 60}
    for minutes, expected in ((59, False), (69, False), (72, True), (180, True)):
        cursor = (NOW + timedelta(minutes=minutes)).isoformat()
        found = job_of(schedule=every, next_run_at=cursor, chronos={"anchor": "2026-11-20T00:17:00+00:00"})
        assert is_ahead(found, NOW) == expected, minutes


@given(st.sampled_from(("*/5 * * * *", "0 9 * * *", "0 0 * * 1", "30 2 * * *", "0 9 1 * *")), MOMENTS,
       st.integers(0, 700), st.sampled_from(("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_no_next_time_of_the_schedules_own_is_doubted(expr, now, jitter, zone):
    """Whatever the clocks of the zone do, and with jitter, by us or by a hermes that knows none."""
    found = job_of(expr, zone, chronos={"timezone": zone, "policy": {"jitter": jitter % 250}})
    bare = job_of(expr, zone)
    for table in (found.timetable, bare.timetable):
        cursor = table.after(now)
        fields = {"next_run_at": cursor.astimezone(ZoneInfo(zone)).isoformat()}
        told = job_of(expr, zone, chronos={"timezone": zone, "policy": {"jitter": jitter % 250}}, **fields)
        assert doubt_about(told, now) is None


def test_a_next_time_past_rows_is_no_doubt_and_no_second_day_is_lost():
    """What was brought back and passed over what has rows stands where it was put, by every clock that is right."""
    through = job_of().timetable.after(FAR)
    found = job_of(through=through, next_run_at=job_of().timetable.after(through).isoformat())
    rows = frozenset(NOW.replace(hour=9) + timedelta(days=day) for day in (1, 2, 3))
    left = after(found, NOW, trust=Trust.CONFIRMED, rows=rows)
    assert left.cursor == NOW.replace(hour=9) + timedelta(days=4)
    assert doubt_about(left, NOW) is None
    again = decide(
        left, facts_of(left, NOW, trust=Trust.CONFIRMED, rows=rows), FireRequest(via=Trigger.RECONCILE, token="t"), NOW
    )
    assert again.record is None
    on = after(left, left.cursor + timedelta(minutes=1), via=Trigger.TICK)
    assert "aligned" not in on.record["chronos"]


def test_a_store_of_another_zone_that_is_a_day_ahead_stays_so_once_it_is_put_right():
    """Today's run was had where it came from: it comes again on the date that was stored, and is not brought nearer."""
    found = job_of("0 17 * * *", next_run_at="2026-11-22T17:00:00+07:00")
    now = datetime(2026, 11, 21, 11, tzinfo=UTC)
    assert doubt_about(found, now).code == "displaced"
    left = after(found, now, trust=Trust.CONFIRMED, via=Trigger.RECONCILE)
    assert left.cursor == datetime(2026, 11, 22, 17, tzinfo=UTC)
    assert doubt_about(left, now) is None
    assert after(left, now, trust=Trust.CONFIRMED, via=Trigger.RECONCILE) is left


def test_a_clock_ahead_as_well_only_less_undoes_the_last_leap_and_not_the_first():
    """Two machines on one store, one at 2038 and one ten days ahead: by the right clock the first leap is undone."""
    first = job_of("0 * * * *", next_run_at="2026-11-20T13:00:00+00:00")
    less = NOW + timedelta(days=10)
    left = after(after(after(first, less), FAR), less + timedelta(hours=1))
    assert left.cursor == less + timedelta(hours=2)
    assert after(left, NOW + timedelta(minutes=5)).cursor == first.cursor


def test_what_was_brought_back_while_it_waits_for_a_retry_is_not_taken_a_second_time():
    """A year later its own instant comes by the right clock: it goes on as it is, and is not passed over in silence."""
    instant = NOW + timedelta(days=365)
    entry = {"run": f"{instant:%Y%m%dT%H%M%SZ}", "kind": "run", "claim": "c", "fire_at": instant.isoformat(),
             "claimed_at": instant.isoformat()}  # fmt: skip
    found = job_of("0 * * * *", through=NOW, next_run_at=(NOW + timedelta(hours=1)).isoformat())
    found = parse_job({**found.record, "chronos": {**found.record["chronos"], "open": [entry]}},
                      HomeDefaults(zone=UTC, zone_name="UTC"))  # fmt: skip
    row = replace(row_of("j", found.open[0], found.policy), attempt=2, not_before=instant)
    decision = decide(
        found, Facts(rows={row.run_id: row}), FireRequest(via=Trigger.TICK, token="t"), instant + timedelta(minutes=5)
    )
    assert [start.entry.run for start in decision.starts] == [row.run_id]
    assert decision.settle == ()
    assert [entry["run"] for entry in decision.record["chronos"]["open"]].count(row.run_id) == 1
    assert [owed.state for owed in decision.owed] == [RunState.MISSED]


def test_no_row_and_no_end_of_the_calendar_stops_putting_right():
    """Rows of every instant up to the last one are passed over; after the last comes nothing."""
    found = job_of("0 9 * * *")
    rows = [NOW.replace(hour=9) + timedelta(days=day) for day in range(1, 6)]
    assert put_right(found, frozenset(rows), NOW) == (NOW, rows[-1] + timedelta(days=1))
