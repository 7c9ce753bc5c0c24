"""What a plan of a change is made of: wherever two records differ, the plan says where, and says two things."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.cli.field_plans import change_words
from chronos_cli.core.record_changes import ABSENT, HIDDEN, record_changes, without_token
from tests.conftest import thoroughly
from tests.core.making import HOME, record

UTC_ZONE = ZoneInfo("UTC")
TEXTS = st.text(max_size=8) | st.text(min_size=70, max_size=300)
SCALARS = st.none() | st.booleans() | st.integers(-5, 5_000) | st.floats(0, 9, width=16) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
POLICIES = st.dictionaries(
    st.sampled_from(["timeout", "grace", "retries", "overlap", "on_failure", "jitter", "unknown"]), VALUES, max_size=4
)
ACTIONS = st.fixed_dictionaries(
    {},
    optional={
        "command": st.lists(TEXTS, max_size=3),
        "shell": TEXTS,
        "http": st.fixed_dictionaries(
            {}, optional={"url": TEXTS, "headers": st.dictionaries(TEXTS, TEXTS, max_size=2)}
        ),
    },
)
OURS = st.fixed_dictionaries(
    {},
    optional={
        "policy": POLICIES | VALUES,
        "action": ACTIONS | VALUES,
        "env": st.dictionaries(TEXTS, TEXTS, max_size=2),
        "timezone": st.sampled_from(["UTC", "Asia/Tokyo", "Mars/Olympus"]) | VALUES,
        "change": TEXTS,
        "open": VALUES,
        "anchor": VALUES,
    },
)
SCHEDULES = st.sampled_from(
    [
        {"kind": "interval", "minutes": 5, "display": "every 5m"},
        {"kind": "interval", "minutes": 5, "display": "other"},
        {"kind": "cron", "expr": "0 9 * * *", "display": "0 9 * * *"},
        {"kind": "once", "run_at": "2030-01-01T00:00:00+00:00"},
    ]
)
RECORDS = st.fixed_dictionaries(
    {"id": st.just("j")},
    optional={
        "name": TEXTS,
        "schedule": SCHEDULES | VALUES,
        "schedule_display": TEXTS,
        "next_run_at": st.sampled_from(["2030-01-01T00:00:00+00:00", "2030-01-01T00:00:00"]) | VALUES,
        "repeat": st.fixed_dictionaries({}, optional={"times": VALUES, "completed": VALUES}) | VALUES,
        "prompt": TEXTS,
        "paused_at": VALUES,
        "chronos": OURS | VALUES,
        "of.another": VALUES,
        "of": st.dictionaries(st.just("another"), VALUES, max_size=1),
    },
)


@given(RECORDS, RECORDS)
@settings(max_examples=thoroughly(150, 50), deadline=None)
def test_any_two_records_that_differ_give_a_plan_that_says_where(one, other):
    """No difference is left out, none is invented, and each line has two sides that are not the same."""
    changes = record_changes(one, other, HOME)
    differ = without_token(one) != without_token(other)
    assert bool(changes) >= differ
    assert record_changes(one, one, HOME) == ()
    for change in changes:
        words = change_words(change, UTC_ZONE, before=UTC_ZONE)
        assert "\n" not in words
        if HIDDEN not in (change.before, change.after):
            old, arrow, new = words.rpartition(" -> ")
            assert arrow
            assert not old.endswith((f": {new}", f"move   {new}")), words


@given(RECORDS, st.sampled_from(["timeout", "grace", "retries", "overlap", "shell", "prompt", "name", "env"]))
@settings(max_examples=thoroughly(100, 40), deadline=None)
def test_a_field_that_changes_is_named_and_no_other(base, field):
    """One field is changed in a record of any form: the plan has one line, and it names that field."""
    base = base | {"chronos": {"action": {"shell": "old"}, "policy": {}, "env": {"A": "1"}}, "name": "n", "prompt": "p"}
    ours = base["chronos"]
    changed = {
        "shell": {"chronos": ours | {"action": {"shell": "new"}}},
        "env": {"chronos": ours | {"env": {"A": "2"}}},
        "name": {"name": "m"},
        "prompt": {"prompt": "q"},
    }.get(field, {"chronos": ours | {"policy": {field: 7}}})
    assert [change.what.partition(".")[0] for change in record_changes(base, base | changed, HOME)] == [field]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"policy": {"timeout": 300}}, "timeout: 1h -> 5m"),
        ({"policy": {"grace": 5_400}}, "grace: 1d -> 90m"),
        ({"policy": {"on_failure": ["mail", "a b"]}}, "on_failure: none -> mail 'a b'"),
        ({"policy": {"pause_after_failures": 3}}, "pause_after_failures: never -> 3"),
        ({"repeat": {"times": 3, "completed": 0}}, "repeat: forever -> 3"),
        ({"enabled": False}, "enabled: yes -> no"),
        ({"ours": {"action": {"command": ["date", "-u"]}}}, "command: none -> date -u"),
        (
            {"ours": {"action": {"http": {"headers": {"X": "canary"}}}}},
            "http.headers.X: is new (its value is not shown)",
        ),
        ({"next_run_at": "2026-11-20T13:30:00+00:00"}, "move   2026-11-20 12:00:00 -> 13:30:00 UTC"),
        ({"schedule": {"kind": "cron", "expr": "0 9 * * *"}}, "schedule: every 5m -> 0 9 * * *"),
    ],
)
def test_a_change_is_said_in_the_units_of_people(changes, line):
    """Lengths of time with their unit, yes and no, times with their zone, a command as a shell would be given it."""
    found = record_changes(record(), record(**changes), HOME)
    assert line in [change_words(change, UTC_ZONE, before=UTC_ZONE) for change in found]


def test_a_long_text_is_shown_where_it_changes():
    """Of two prompts of a thousand characters, the line has the few that differ."""
    old, new = "x" * 500 + "before" + "y" * 500, "x" * 500 + "after" + "y" * 500
    (change,) = record_changes(record(prompt=old), record(prompt=new), HOME)
    line = change_words(change, UTC_ZONE, before=UTC_ZONE)
    assert "before" in line
    assert "after" in line
    assert len(line) < 200


def test_what_a_record_is_silent_about_is_the_homes():
    """A policy that is spelt out as the home has it differs from one left out, and its line says how."""
    (change,) = record_changes(record(policy={"timeout": 3_600}), record(), HOME)
    assert (change.what, change.before, change.after) == ("timeout", 3_600, ABSENT)
