"""Rules of labels and of a job's variables at their edges: what is a reference, what may be shown, what is refused."""

from __future__ import annotations

import pytest

from chronos_cli.core.labels import check_label, parse_labels, parse_selector, selects
from chronos_cli.core.variables import (
    FACTS,
    SECRETS,
    checked_files,
    checked_name,
    checked_path,
    checked_reference,
    command_of,
    read_header,
    read_value,
    read_variables,
    reference_of,
    shown_value,
    words_of,
)
from chronos_cli.errors import UsageError


def test_a_variable_is_a_name_and_a_value():
    """The first = divides them, and an empty value is one."""
    assert read_variables(["A=b=c", "B=", "C=env:X", "D=text:env:X"]) == {
        "A": "b=c", "B": "", "C": {"from": "env:X"}, "D": "env:X",
    }  # fmt: skip
    with pytest.raises(UsageError, match="is NAME=VALUE"):
        read_variables(["A"])


@pytest.mark.parametrize("name", ["", "A=B", "A B", "A\tB", "A\x1bB", "A\u00a0B", "A\0"])
def test_a_name_that_no_variable_can_have_is_refused(name):
    """Others are taken as they are."""
    with pytest.raises(UsageError, match="cannot be a variable's name"):
        checked_name(name)
    assert checked_name("a.B-1") == "a.B-1"


@pytest.mark.parametrize("name", [*FACTS, *SECRETS])
def test_the_names_that_are_chronos_own_are_refused(name):
    """A job cannot set them, and no reference gets at a token."""
    with pytest.raises(UsageError, match="is chronos' own"):
        checked_name(name)
    if name in SECRETS:
        with pytest.raises(UsageError, match="is chronos' own"):
            read_value(f"env:{name}")
        with pytest.raises(UsageError, match="is chronos' own"):
            read_header(f"Bearer env:{name}")
        assert checked_reference(f"file:/{name}") == f"file:/{name}"
    else:
        assert read_value(f"env:{name}") == {"from": f"env:{name}"}


@pytest.mark.parametrize(
    "reference", ["env:A", "env:A.b", "file:/a b", "file:~/x=y", "cmd:pass show x", "cmd:printf 'a b'"]
)
def test_a_reference_is_kept_as_it_is(reference):
    """It is looked up when a run starts."""
    assert checked_reference(reference) == reference
    assert read_value(reference) == read_header(reference) == {"from": reference}
    assert read_value(f"text:{reference}") == reference
    assert words_of({"from": reference}) == reference


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("odd:x", "names nothing"), ("env:", "names nothing"), ("env: ", "names nothing"), ("file:", "names nothing"), ("file:/a\0", "names nothing"),
        ("env:A=B", "takes the name of one"), ("env:A B", "takes the name of one"), ("file:x", "needs a whole path"),
        ("file:~x", "needs a whole path"), ("cmd:'a", "names no command"), ("cmd:''#", None),
    ],
)  # fmt: skip
def test_a_reference_that_can_never_be_looked_up_is_refused(reference, said):
    """When it is given, and not when the job runs."""
    if said is None:
        assert checked_reference(reference) == reference
        return
    with pytest.raises(UsageError, match=said):
        checked_reference(reference)


def test_a_header_may_have_one_word_before_its_reference():
    """More than one, or none of letters, is a text."""
    assert read_header("Bearer env:T") == read_header("Bearer   env:T") == {"before": "Bearer ", "from": "env:T"}
    for text in ("Bearer the env:T", "a-b env:T", " env:T", "Bearer T", "Bearer"):
        assert read_header(text) == text
        assert words_of(text) == text
    assert words_of({"before": "Bearer ", "from": "env:T"}) == "Bearer env:T"


@pytest.mark.parametrize(
    ("text", "words"),
    [("env:T", "text:env:T"), ("text:x", "text:text:x"), ("Bearer env:T", "text:Bearer env:T"), ("x", "x"), ("", ""),
     ("a-b env:T", "a-b env:T"), ("Bearer T", "Bearer T"), (5, "5")],
)  # fmt: skip
def test_a_text_that_would_be_read_as_something_else_is_written_as_a_text(text, words):
    """It reads back the same."""
    assert words_of(text) == words
    assert read_header(words) == str(text)


@pytest.mark.parametrize("path", ["/x", "~/x"])
def test_a_path_begins_at_the_root_or_at_home(path):
    """One that depends on where a run starts, or that no file can have, is refused."""
    assert checked_path(path, "file:") == path
    for bad in (path[1:] if path[0] == "/" else path[1:].lstrip("/"), f"{path}\0", f".{path}"):
        with pytest.raises(UsageError, match="needs a whole path"):
            checked_path(bad, "file:")


def test_files_of_variables_may_be_none_and_need_not_be_there():
    """One dash before a path says so."""
    assert checked_files(["/a", "-/b", "-~/c"]) == ["/a", "-/b", "-~/c"]
    assert checked_files(["", " ", "none", " None "]) == []
    for bad in ("a", "--/a", "-"):
        with pytest.raises(UsageError, match="--env-file needs a whole path"):
            checked_files([bad])


def test_only_where_a_value_comes_from_is_shown():
    """Of a command its program alone, with a sign that it is given more."""
    shown = {
        "cmd:pass show x": "cmd:pass ...",
        "cmd:pass": "cmd:pass",
        "cmd:'": "cmd:",
        "env:A": "env:A",
        "file:/a": "file:/a",
    }
    assert {reference: shown_value({"from": reference}, "***") for reference in shown} == shown
    assert shown_value("secret", "***") == shown_value({"from": 7}, "***") == shown_value(None, "***") == "***"
    assert command_of("cmd:a 'b c'") == ["a", "b c"]
    assert [reference_of(value) for value in ({"from": "env:A"}, {"from": 7}, {}, "env:A", None)] == ["env:A"] + [
        None
    ] * 4


def test_a_label_has_up_to_128_letters_and_no_end_that_is_a_sign():
    """An empty value is one, an empty key is none."""
    for key, value in (("a" * 128, "b" * 128), ("a", ""), ("a.b_c/d-e", "._/@:+-"), ("7", "7")):
        check_label(key, value)
    for key in ("", "a" * 129, "-a", "a-", ".a", "a b", "a\n"):
        with pytest.raises(UsageError, match="cannot be the key"):
            check_label(key, "")
    for value in ("b" * 129, "a b", "a\n", "\u00e9"):
        with pytest.raises(UsageError, match="cannot be the value of the label a"):
            check_label("a", value)


def test_labels_are_read_without_the_blanks_around_them():
    """The same one may be given twice alike; set and taken away it is no order."""
    assert parse_labels([" team = ops ", "tier-", "team=ops", " old -"]) == {"team": "ops", "tier": None, "old": None}
    assert parse_labels(["a=x-"]) == {"a": "x-"}
    for pair in (["a=1", "a-"], ["a-", "a=1"]):
        with pytest.raises(UsageError, match="given twice"):
            parse_labels(pair)
    assert parse_labels(["a-", "a-"]) == {"a": None}


@pytest.mark.parametrize("labels", [{}, {"a": ""}, {"a": "x"}, {"a": "y", "b": "x"}])
def test_each_sign_of_a_selector_says_what_it_says(labels):
    """A label that is absent is none of any value."""
    held = {
        text: selects(parse_selector(text), labels)
        for text in ("a", "!a", "a=x", "a!=x", "a in (x,)", "a notin (x, y)", "a,b")
    }
    value = labels.get("a")
    assert held == {
        "a": "a" in labels, "!a": "a" not in labels, "a=x": value == "x", "a!=x": value != "x", "a in (x,)": value in ("x", ""),
        "a notin (x, y)": value not in ("x", "y"), "a,b": "a" in labels and "b" in labels,
    }  # fmt: skip
