"""Labels and the selectors that choose by them, as kubectl reads them."""

from __future__ import annotations

import pytest

from chronos_cli.core.labels import labels_of, parse_labels, parse_selector, relabelled, selects
from chronos_cli.errors import UsageError

OPS = {"team": "ops", "tier": "gold", "a.b/c-d": "x"}


@pytest.mark.parametrize(
    ("selector", "holds"),
    [
        ("team=ops", True), ("team==ops", True), ("team=dev", False), ("team!=dev", True), ("team!=ops", False),
        ("none!=x", True), ("none=", False), ("team", True), ("none", False), ("!none", True), ("!team", False),
        ("team in (dev, ops)", True), ("team in (dev)", False), ("team notin (dev,qa)", True),
        ("team notin (ops)", False), ("none notin (ops)", True), ("none in ()", False),
        ("team=ops,tier=gold", True), ("team=ops,tier=tin", False), (" team = ops , tier ", True),
        ("a.b/c-d=x", True), ("team in (dev,ops),tier!=tin,!none", True),
    ],
)  # fmt: skip
def test_a_selector_chooses_by_labels(selector, holds):
    """Each term is one condition, and a comma joins them with and."""
    assert selects(parse_selector(selector), OPS) is holds


@pytest.mark.parametrize(
    "text",
    ["", ",", "team=ops,", "=x", "team=a b", "team in ops", "team in (a;b)", "-team", "team>5", "!team=x", "a" * 200],
)
def test_what_has_no_one_reading_is_no_selector(text):
    """A selector that is misspelled chooses nothing, and never everything."""
    with pytest.raises(UsageError, match="cannot read the selector"):
        parse_selector(text)


def test_labels_are_given_changed_and_taken_away():
    """`key=value` sets one and `key-` takes it away; the others stay."""
    assert relabelled(OPS, parse_labels(["team=dev", "tier-", "new="])) == {"team": "dev", "a.b/c-d": "x", "new": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("team", "is no KEY=VALUE"),
        ("=x", "cannot be the key of a label"),
        ("a b=x", "cannot be the key of a label"),
        ("team=a b", "cannot be the value of the label team"),
        ("team=\x1b[2J", "cannot be the value of the label team"),
    ],
)
def test_a_label_that_cannot_be_one_is_refused(text, said):
    """Letters that a selector could not name later are refused when they are given."""
    with pytest.raises(UsageError, match="label") as caught:
        parse_labels([text])
    assert said in caught.value.message


def test_a_label_is_given_once():
    """Two values for one key are no order."""
    with pytest.raises(UsageError, match="is given twice"):
        parse_labels(["team=a", "team=b"])


def test_what_is_stored_as_labels_may_be_anything():
    """A record of anybody's making has the labels that are texts, and none besides."""
    assert labels_of({"chronos": {"labels": ["x"]}}) == {}
    assert labels_of({"chronos": {"labels": {"a": "b", "c": 5}}}) == {"a": "b"}
    assert labels_of({}) == {}
