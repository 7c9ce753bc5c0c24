"""Rules of what a plan of a change names at their edges: which fields differ, what they are called, what is hidden."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from chronos_cli.core.job import HomeDefaults
from chronos_cli.core.policy import Policy
from chronos_cli.core.record_changes import ABSENT, HIDDEN, FieldChange, record_changes, without_token
from tests.core.making import HOME

TOKYO = HomeDefaults(zone=ZoneInfo("Asia/Tokyo"), zone_name="Asia/Tokyo", policy=Policy(on_failure=("a", "b")))


def changes(before, after, home=HOME):
    return [(change.what, change.before, change.after) for change in record_changes(before, after, home)]


def ours(before, after, home=HOME):
    """The changes between two of our own parts."""
    return changes({"chronos": before}, {"chronos": after}, home)


def test_a_change_in_json_says_null_for_what_is_not_there():
    """And for what is null."""
    assert FieldChange(what="a", before=ABSENT, after=0).as_json() == {"what": "a", "from": None, "to": 0}
    assert FieldChange(what="a", before="x", after=ABSENT).as_json() == {"what": "a", "from": "x", "to": None}


def test_an_attempt_at_a_change_leaves_the_same_job():
    """Its token, and what is empty, is nothing; what is no part of ours at all is left as it is."""
    assert without_token({"id": "j", "chronos": {"change": "t", "env": {}, "open": [], "failures": 0}}) == {"id": "j"}
    kept = {"id": "j", "chronos": {"failures": 1, "env": {"A": ""}}}
    assert without_token(kept | {"chronos": kept["chronos"] | {"change": "t"}}) == kept
    for odd in ([], "x", None):
        assert without_token({"id": "j", "chronos": odd}) == {"id": "j", "chronos": odd}
    assert changes({"id": "j"}, {"id": "j", "chronos": {"change": "t"}}) == []


def test_a_schedule_is_one_value_that_is_said_in_its_normal_form():
    """What it is shown as repeats it; where both mean the same, or cannot be read, what is stored is said."""
    five, cron = {"kind": "interval", "minutes": 5}, {"kind": "cron", "expr": "0 9 * * *"}
    assert changes({"schedule": five, "schedule_display": "a"}, {"schedule": cron, "schedule_display": "b"}) == [
        ("schedule", "every 5m", "0 9 * * *")
    ]
    assert changes({"schedule": five, "schedule_display": "a"}, {"schedule": five, "schedule_display": "b"}) == [
        ("schedule_display", "a", "b")
    ]
    named = five | {"display": "every 5m"}
    assert changes({"schedule": five}, {"schedule": named}) == [("schedule", five, named)]
    assert changes({"schedule": 7}, {"schedule": five}) == [("schedule", 7, five)]
    assert changes({}, {"schedule": five}) == [("schedule", ABSENT, five)]


def test_a_schedule_is_read_in_the_zone_of_its_job():
    """Or of its home, where the job names none."""
    once = {"schedule": {"kind": "once", "run_at": "2030-01-01T00:00:00+00:00"}}
    later = {"schedule": {"kind": "once", "run_at": "2030-01-02T00:00:00+00:00"}}
    for zone, home, hour in (({}, HOME, "00"), ({}, TOKYO, "09"), ({"timezone": "Europe/Berlin"}, TOKYO, "01")):
        ((what, old, new),) = changes(once | {"chronos": zone}, later | {"chronos": zone}, home)
        assert (what, f"01T{hour}:00" in old, f"02T{hour}:00" in new) == ("schedule", True, True), (old, new)


def test_the_fields_that_people_set_come_first():
    """In the order in which they think of a job."""
    before = {
        "a": 1,
        "repeat": {"times": 1},
        "enabled": True,
        "name": "x",
        "chronos": {"policy": {"grace": 1}, "action": {"http": {"url": "a"}}},
    }
    after = {
        "a": 2,
        "repeat": {"times": 2},
        "enabled": False,
        "name": "y",
        "chronos": {"policy": {"grace": 2}, "action": {"http": {"url": "b"}}},
    }
    assert [what for what, *_ in changes(before, after)] == ["name", "enabled", "repeat", "http.url", "grace", "a"]


def test_objects_are_compared_by_their_fields_down_to_five_levels():
    """An empty one, and a list, is a value."""
    assert changes({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == [("a.c", 2, 3)]
    assert changes({"a": {}}, {"a": {"b": 1}}) == [("a", {}, ABSENT), ("a.b", ABSENT, 1)]
    assert changes({}, {}) == []
    assert changes({"a": [1]}, {"a": [2]}) == [("a", [1], [2])]
    assert changes({"a": {"b": {"c": {"d": {"e": 1}}}}}, {"a": {"b": {"c": {"d": {"e": 2}}}}}) == [("a.b.c.d.e", 1, 2)]
    deep = [{"a": {"b": {"c": {"d": {"e": {"f": n}}}}}} for n in (1, 2)]
    assert changes(*deep) == [("a.b.c.d.e", {"f": 1}, {"f": 2})]


def test_true_is_not_one():
    """Though they are equal here."""
    assert changes({"a": True}, {"a": 1}) == [("a", True, 1)]
    assert changes({"a": False}, {"a": 0}) == [("a", False, 0)]
    assert changes({"a": 1}, {"a": 1.0}) == []


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ({"policy": {"timeout": 5}}, {}, ("timeout", 5, 3_600)), ({}, {"policy": {"retries": 2}}, ("retries", 0, 2)),
        ({"policy": {"timeout": 3_600}}, {}, ("timeout", 3_600, ABSENT)), ({"policy": {"odd": 1}}, {}, ("odd", 1, ABSENT)),
        ({"policy": 7}, {}, ("chronos.policy", 7, ABSENT)), ({"action": 7}, {}, ("chronos.action", 7, ABSENT)),
        ({"action": {"shell": "a"}}, {"action": {"shell": "b"}}, ("shell", "a", "b")),
        ({"timezone": "Asia/Tokyo"}, {}, ("timezone", "Asia/Tokyo", "UTC")), ({}, {"timezone": "UTC"}, ("timezone", ABSENT, "UTC")),
        ({"labels": {"a": "b"}}, {"labels": {"a": "c"}}, ("labels.a", "b", "c")), ({"env_file": ["/a"]}, {}, ("env_file", ["/a"], ABSENT)),
        ({"set": {"a": 1}}, {}, ("chronos.set.a", 1, ABSENT)), ({"set": [1]}, {}, ("set", [1], ABSENT)),
        ({"anchor": "x"}, {}, ("chronos.anchor", "x", ABSENT)),
    ],
)  # fmt: skip
def test_a_field_of_ours_is_named_as_people_name_it(before, after, change):
    """What a record is silent about is the home's, and says so where both are the same."""
    assert ours(before, after) == [change]


def test_a_home_of_its_own_stands_for_what_is_silent():
    """Words as a list."""
    assert ours({}, {"policy": {"on_failure": ["c"]}}, TOKYO) == [("on_failure", ["a", "b"], ["c"])]
    assert ours({}, {"timezone": "UTC"}, TOKYO) == [("timezone", "Asia/Tokyo", "UTC")]
    assert changes({"repeat": {"times": 1}}, {"repeat": {"times": 2}}) == [("repeat", 1, 2)]
    assert changes({"repeat": {"completed": 1}}, {"repeat": {"completed": 2}}) == [("repeat.completed", 1, 2)]


def test_a_value_that_may_be_a_secret_is_hidden_and_where_it_comes_from_is_shown():
    """A reference is one value, of a variable and of a header; elsewhere an object of that form is divided."""
    assert ours({"env": {"A": "x"}}, {"env": {"A": "y"}}) == [("env.A", HIDDEN, HIDDEN)]
    assert ours({"env": {"A": "x"}}, {}) == [("env.A", HIDDEN, ABSENT)]
    assert ours({"env": {"A": {"from": "env:X"}}}, {"env": {"A": {"from": "cmd:p q"}}}) == [
        ("env.A", "env:X", "cmd:p ...")
    ]
    header = [{"action": {"http": {"headers": {"H": {"from": f"env:{name}", "before": "B "}}}}} for name in "XY"]
    assert ours(*header) == [("http.headers.H", "env:X", "env:Y")]
    assert ours({"env": {"A": {"odd": "x"}}}, {}) == [("chronos.env.A.odd", HIDDEN, ABSENT)]
    assert ours({"imported": {"a": "x"}}, {}) == [("imported.a", HIDDEN, ABSENT)]
    assert changes({"a": {"b": {"from": "env:X"}}}, {}) == [("a.b.from", "env:X", ABSENT)]
