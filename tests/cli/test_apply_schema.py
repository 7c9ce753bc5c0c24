"""The published schema of files of jobs and the reader of `chronos apply`: each takes what the other takes."""

from __future__ import annotations

import json

import jsonschema
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.errors import UsageError
from chronos_cli.operations.manifest.files import wanted_of
from chronos_cli.operations.manifest.keys import JOB, POLICY, schema
from chronos_cli.operations.manifest.nodes import read_nodes
from tests.conftest import thoroughly

CHECKER = jsonschema.Draft202012Validator(schema())

JUNK = st.sampled_from([
    None, True, False, 0, 1, 7, 101, -3, 1.5, "", " ", "none", "NONE", "x", "a b", "5", "007", "-1", "yes", "5m", "0s", "/x",
    "~/x", "~x", "-/x", "env:A", "env:", "file:x", "file:/x", "cmd:", "cmd: pass x", "text:env:", "env:CHRONOS_NAS_TOKEN",
    "Bearer env:T", "Bearer env:", "a,b", ",", "A_*", "A*B", "forever", "Never", "https://x.example/", "HTTP://[::1]:80?q",
    "https://u@x/", "https://x:0/", "https://", "https://x y/", "ftp://x", "a=b", "a\nb", [], {}, [""], ["x", ""], ["a", 5, True],
    [None], [["x"]], {"a": "b"}, {"A B": "x"}, {"A=": "x"}, {"": "x"}, {"A": None}, {"A": []}, {"CHRONOS_RUN_ID": "x"},
    {"A": "env:"}, {"A": "Bearer env:"}, {"A": "a\nb"}, {"A": "file:~/x", "B": 5}, {"retries": 2}, {"retries": "x"}, {"url": "https://x/"},
    {"url": "https://x/", "method": "put", "headers": {"A": "cmd:x"}, "body": {"a": [1, None]}}, {"url": "https://x/", "body": "file:x"},
    {"method": "GET"}, {"url": "https://x/", "method": "A B"}, {"url": "https://x/", "headers": {" ": "x"}}, {"team": "ops", "n": 5},
    {"timeout": "1h"}, {"nothing": 1}, 36_600 * 86_400, 36_601 * 86_400, 1_000_001,
])  # fmt: skip
GOOD = {
    "id": ["a", 5, True, "x-1"], "schedule": ["@daily", "0 9 * * 1-5"], "tz": ["UTC"], "command": [["echo", 1], "echo x"],
    "shell": ["date", True], "script": ["a.sh"], "prompt": ["say so", ""], "http": ["https://x.example/", {"url": "http://x"}],
    "stdin": ["", "in\n"], "env": [{"A": "env:B"}], "env_file": ["/x", ["-~/y"]], "policy": [{"retries": 1, "grace": "5m"}],
    "labels": [{"team": "ops"}], "repeat": [3, "forever", "5"], "paused": [True], "skills": ["a,b", ["a"]], "workdir": ["/x"],
    "retries": [2, "3"], "timeout": [90, "5m", "1h30m"], "overlap": ["replace"], "on_crash": ["rerun"], "on_failure": ["none", ["x", ""]],
    "inherit_env": ["all", "A, B_*", ["A"]], "pause_after_failures": [3, "never"], "grace": [0, "1.5h", "2 Days"],
}  # fmt: skip
KEYS = [key.name for key in (*JOB, *POLICY)]


def members(names):
    """Draw a mapping of some of these keys, mostly with what they may hold."""

    def one(name):
        good = st.sampled_from(GOOD[name]) if name in GOOD else st.just("5m")
        return st.one_of(
            good,
            good,
            good,
            JUNK if name not in ("schedule", "tz") else st.sampled_from([None, [], {}, " ", "@daily", "UTC"]),
        )

    picked = st.lists(st.sampled_from(names), max_size=4, unique=True)
    return picked.flatmap(lambda found: st.fixed_dictionaries({name: one(name) for name in found}))


def job(*, whole):
    """Draw a job that has an id, and mostly a schedule and one action, where it is `whole`."""
    base = {"id": "a", "schedule": "@daily", "shell": "x"} if whole else {"id": "a"}
    beside = members([*KEYS, "unknown"] if whole else KEYS)
    swapped = st.sampled_from([{}, {}, {"shell": None}, {"schedule": None}])
    return st.builds(
        lambda more, out: {**{key: value for key, value in base.items() if key not in out}, **more}, beside, swapped
    )


DOCUMENTS = st.one_of(
    job(whole=True),
    st.lists(job(whole=True), max_size=1),
    st.fixed_dictionaries({"jobs": st.lists(job(whole=True), max_size=1)}, optional={
        "set": JUNK, "$schema": JUNK, "x-y": JUNK, "unknown": JUNK,
    }),
    st.fixed_dictionaries({"jobs": st.lists(job(whole=False) | job(whole=True), max_size=1), "defaults": members(KEYS) | JUNK}),
    JUNK,
)  # fmt: skip


def said(data):
    """What is wrong with a document by the reader; None where it takes it."""
    try:
        wanted_of(read_nodes(data, "f"))
    except UsageError as error:
        return error.line()
    return None


def beyond_a_pattern(wrong):
    """Say whether an error is of those that no schema can tell."""
    return wrong is not None and any(text in wrong for text in ("there is no time zone", "no closing quotation"))


@settings(max_examples=thoroughly(400, 100), deadline=None)
@given(DOCUMENTS)
def test_the_schema_and_the_reader_agree(document):
    """An editor marks what apply refuses, and nothing that apply takes; JSON and YAML read the same."""
    wrong = said(json.dumps(document).encode())
    if document is None or beyond_a_pattern(wrong):
        return
    marked = next((error.message for error in CHECKER.iter_errors(document)), None)
    assert (wrong is None) == (marked is None), (document, wrong, marked)
    as_yaml = said(yaml.safe_dump(document).encode())
    assert (as_yaml is None) == (wrong is None), (document, as_yaml, wrong)
