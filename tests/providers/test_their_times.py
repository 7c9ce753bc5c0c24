"""Times of other schedulers where clocks move: Debian's cron, systemd and the cluster, each by its own rules."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest

from chronos_cli.core.cron_fields import fields_of
from chronos_cli.core.schedule import Cron
from chronos_cli.operations.foreign.calendar_events import from_event, to_events
from chronos_cli.operations.foreign.their_times import clusters_times, debians_times, systemds_times
from tests.conftest import require_program
from tests.core.debian_rules import Rules

MINUTE = timedelta(minutes=1)


def main_loop_of_cron(expr, zone, start, end):
    """The loop of cron.c, minute by minute: every start of the command in (start, end], as often as it is started."""
    rules, found = Rules(expr), []

    def run(wall, instant, *, wild, fixed):
        if rules.names(wall) and (wild if rules.starred else fixed):
            found.append(instant)

    def local(instant):
        return instant.astimezone(zone)

    offset, isdst = local(start).utcoffset(), bool(local(start).dst())
    virtual = start.replace(tzinfo=None) + offset
    instant = start
    while (instant := instant + MINUTE) <= end:
        if bool(local(instant).dst()) != isdst:
            offset, isdst = local(instant).utcoffset(), bool(local(instant).dst())
        running = instant.replace(tzinfo=None) + offset
        jump = (running - virtual) // MINUTE
        if 0 < jump <= 5:
            while virtual < running:
                virtual += MINUTE
                run(virtual, instant, wild=True, fixed=True)
        elif 5 < jump <= 180:
            run(running, instant, wild=True, fixed=False)
            while virtual < running:
                virtual += MINUTE
                run(virtual, instant, wild=False, fixed=True)
        elif -180 < jump <= 0:
            run(running, instant, wild=True, fixed=False)
        else:
            virtual = running
            run(running, instant, wild=True, fixed=True)
    return found


MOVES = [
    ("Europe/Berlin", "2026-03-29T01:00"), ("Europe/Berlin", "2026-10-25T01:00"), ("America/New_York", "2026-11-01T06:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"), ("Australia/Lord_Howe", "2026-10-03T15:30"), ("Africa/Cairo", "2026-04-23T22:00"),
    ("Atlantic/Azores", "2026-10-25T01:00"), ("Europe/Dublin", "2026-03-29T01:00"), ("Antarctica/Troll", "2026-03-29T01:00"),
    ("Antarctica/Troll", "2026-10-25T01:00"), ("Pacific/Apia", "2011-12-30T10:00"), ("Asia/Almaty", "2024-02-29T18:00"),
    ("Asia/Tokyo", "2026-06-01T00:00"),
]  # fmt: skip
EXPRESSIONS = (
    "0,30 2 * * *",
    "*/15 * * * *",
    "*/30 1-3 * * *",
    "0 0 * * *",
    "5 */2 * * *",
    "30 1,2,3 * * 0",
    "0 1 * * 6",
)


@pytest.mark.parametrize(("zone_name", "move"), MOVES)
def test_debians_cron(zone_name, move):
    """Its main loop around each move, from within the repeated part as well."""
    zone, moved = ZoneInfo(zone_name), datetime.fromisoformat(move).replace(tzinfo=UTC)
    end = moved + timedelta(hours=26)
    for expr in EXPRESSIONS:
        wanted = main_loop_of_cron(expr, zone, moved - timedelta(hours=26), end)
        for after in (moved - timedelta(hours=20), moved - MINUTE, moved + timedelta(minutes=47, seconds=3)):
            mine = list(takewhile(end.__ge__, debians_times(fields_of(expr), after, zone)))
            assert mine == [due for due in wanted if due > after], (expr, after)


CLUSTERS = [
    ("Europe/Berlin", "2026-03-28T12:00", "30 2 * * *", "2026-03-30T00:30 2026-03-31T00:30 2026-04-01T00:30"),
    ("Europe/Berlin", "2026-10-24T12:00", "30 2 * * *", "2026-10-25T00:30 2026-10-25T01:30 2026-10-26T01:30"),
    ("Europe/Berlin", "2026-10-24T23:50", "*/30 * * * *", "2026-10-25T00:00 2026-10-25T00:30 2026-10-25T01:00"),
    ("Europe/Berlin", "2026-03-29T00:10", "0,30 1-3 * * *", "2026-03-29T00:30 2026-03-29T01:00 2026-03-29T01:30"),
    ("Africa/Cairo", "2026-04-23T12:00", "0 0 * * *", "2026-04-24T21:00 2026-04-25T21:00 2026-04-26T21:00"),
    ("Africa/Cairo", "2026-04-23T12:00", "30 0 * * 5", "2026-04-30T21:30 2026-05-07T21:30 2026-05-14T21:30"),
    ("Atlantic/Azores", "2026-10-24T12:00", "0 0 * * *", "2026-10-25T00:00 2026-10-25T01:00 2026-10-26T01:00"),
    ("Australia/Lord_Howe", "2026-10-03T00:00", "15 2 * * *", "2026-10-04T15:15 2026-10-05T15:15 2026-10-06T15:15"),
    ("Australia/Lord_Howe", "2026-04-04T00:00", "45 1 * * *", "2026-04-04T14:45 2026-04-04T15:15 2026-04-05T15:15"),
    ("Africa/Cairo", "2014-08-01T00:00", "0 0 1 11 *", "2015-10-31T22:00 2016-10-31T22:00 2017-10-31T22:00"),
    ("Asia/Beirut", "2026-03-28T12:00", "0 5 * * 0", "2026-04-05T02:00 2026-04-12T02:00 2026-04-19T02:00"),
    ("America/Sao_Paulo", "2018-11-03T12:00", "0 3 4 * *", "2018-11-04T05:00 2018-12-04T05:00 2019-01-04T05:00"),
    ("Asia/Tokyo", "2027-01-01T00:00", "0 0 29 2 *", "2028-02-28T15:00 2032-02-28T15:00 2036-02-28T15:00"),
]  # fmt: skip
"""Times of robfig/cron 3.0.1, the library of the cluster's controller, as it printed them."""


@pytest.mark.parametrize(("zone_name", "after", "expr", "wanted"), CLUSTERS)
def test_the_cluster(zone_name, after, expr, wanted):
    """A time that is skipped is left out, one that is repeated comes twice, and a day without a midnight may be lost."""
    found = clusters_times(fields_of(expr), datetime.fromisoformat(after).replace(tzinfo=UTC), ZoneInfo(zone_name))
    assert [f"{due:%Y-%m-%dT%H:%M}" for due in islice(found, 3)] == wanted.split()


SYSTEMDS = [
    ("Europe/Berlin", "2026-03-28T12:00", "30 2 * * *", "2026-03-30T00:30 2026-03-31T00:30 2026-04-01T00:30"),
    ("Europe/Berlin", "2026-10-24T12:00", "30 2 * * *", "2026-10-25T00:30 2026-10-26T01:30 2026-10-27T01:30"),
    ("Europe/Berlin", "2026-10-24T23:50", "*/30 * * * *", "2026-10-25T00:00 2026-10-25T00:30 2026-10-25T02:00"),
]  # fmt: skip


@pytest.mark.parametrize(("zone_name", "after", "expr", "wanted"), SYSTEMDS)
def test_systemd(zone_name, after, expr, wanted):
    """A time that is skipped is left out, and an hour that is repeated has its turn once."""
    found = systemds_times(fields_of(expr), datetime.fromisoformat(after).replace(tzinfo=UTC), ZoneInfo(zone_name))
    assert [f"{due:%Y-%m-%dT%H:%M}" for due in islice(found, 3)] == wanted.split()


@pytest.mark.service
def test_systemd_itself():
    """The next five times around each move, as `systemd-analyze calendar` names them."""
    program = require_program("systemd-analyze")
    for zone_name, move in MOVES:
        moved = datetime.fromisoformat(move).replace(tzinfo=UTC)
        for number, expr in enumerate(EXPRESSIONS):
            after = moved + timedelta(minutes=(-1200, -1, 47, -130)[number % 4])
            if zone_name == "Asia/Almaty" and after >= moved - timedelta(hours=1):
                continue  # neither side is summer time: which one mktime takes is left to its last offset
            (event,) = to_events(Cron(expr=expr), zone_name)
            asked = [program, "calendar", "--iterations=5", f"--base-time={after:%Y-%m-%d %H:%M:%S} UTC", event]
            ran = subprocess.run(asked, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"})  # fmt: skip
            named = [
                line.split(": ", 1)[1].split()
                for line in ran.stdout.splitlines()
                if "Next elapse" in line or "Iter. #" in line
            ]
            found = islice(systemds_times(fields_of(expr), after, ZoneInfo(zone_name)), 5)
            assert [f"{due:%Y-%m-%d %H:%M:%S}" for due in found] == [" ".join(words[1:3]) for words in named], (
                event,
                after,
            )


SOME_FIELDS = [
    "15 */7 * * *", "30,16 */21 * * 1-5", "*/13 */18 3-17,7-11 * MON-FRI", "0 6 */13,27-28/17 * *", "45/15 23/1 31/1 12/1 *",
    "7 3 * */1,7-8 *", "0 0 14,*/1 6 MON", "0 12 * * 1/2", "5 4 * * */7", "4-12/57 4,19 */21 * MON-FRI", "0 5 1/20 */9 *",
]  # fmt: skip


@pytest.mark.parametrize(("expr", "event"), [
    ("15 */7 * * *", "*-*-* 00..23/7:15:00 UTC"), ("45/15 23/1 31/1 12/1 *", "*-12-31 23:45:00 UTC"), ("0 3 1,* 7,* *", "*-*-* 03:00:00 UTC"),
    ("*/1 3 * * 1/2", "Mon,Wed,Fri,Sun *-*-* 03:*:00 UTC"),
])  # fmt: skip
def test_a_step_goes_out_with_its_end_and_a_star_alone(expr, event):
    """Without an end systemd leaves out the first value as some months begin; it refuses a lone value with a step."""
    assert list(to_events(Cron(expr=expr), "UTC")) == [event]


@pytest.mark.service
@pytest.mark.parametrize("expr", SOME_FIELDS)
def test_systemd_has_the_times_of_what_goes_out(expr):
    """The next twelve, over the end of a month, as `systemd-analyze calendar` names them."""
    program, after = require_program("systemd-analyze"), datetime(2026, 11, 29, tzinfo=UTC)
    events = to_events(Cron(expr=expr), "UTC")
    asked = [program, "calendar", "--iterations=12", f"--base-time={after:%Y-%m-%d %H:%M:%S} UTC"]
    named = set()
    for event in events:
        ran = subprocess.run([*asked, event], capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"})  # fmt: skip
        lines = [line for line in ran.stdout.splitlines() if "Next elapse" in line or "Iter. #" in line]
        named.update(" ".join(line.split(": ", 1)[1].split()[1:3]) for line in lines)
    here = [f"{due:%Y-%m-%d %H:%M:%S}" for due in islice(Cron(expr=expr).walk(after, UTC), 12)]
    assert sorted(named)[:12] == here


@pytest.mark.parametrize(("expr", "events"), [
    ("0 9 L * *", ["*-*~01 09:00:00 UTC"]), ("0 9 * 2 5L", ["Fri *-02~07/1 09:00:00 UTC"]),
    ("0 9 * * MON#1,3#5", ["Mon *-*-01..07 09:00:00 UTC", "Wed *-*-29..31 09:00:00 UTC"]),
])  # fmt: skip
def test_days_that_hang_on_their_month_go_out_and_come_in_again(expr, events):
    """As events of one day of the month each, which are read as the same here, and come due as systemd has them."""
    assert list(to_events(Cron(expr=expr), "UTC")) == events
    after = datetime(2026, 1, 1, tzinfo=UTC)
    here = list(islice(Cron(expr=expr).walk(after, UTC), 12))
    fields = [from_event(event)[0] for event in events]
    theirs = sorted(due for one in fields for due in islice(systemds_times(fields_of(one), after, UTC), 12))
    assert theirs[:12] == here


def test_a_second_of_systemds_minutes():
    """`*:*:0/20` is at the seconds 0, 20 and 40 of the clock."""
    after = datetime(2026, 10, 25, 0, 59, 41, tzinfo=UTC)
    found = islice(systemds_times(fields_of("* * * * *"), after, ZoneInfo("Europe/London"), seconds=(0, 20, 40)), 4)
    assert [due - after for due in found] == [
        timedelta(seconds=3600 * (number >= 0) + 19 + 20 * number) for number in range(4)
    ]
