"""The text of a file of jobs at its edges: which bytes a change gets in each layout, and what is read of what is odd."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from chronos_cli.errors import ConflictError, NotFoundError, StoreError
from chronos_cli.store import jsonarray
from chronos_cli.store.job_entries import is_usable, read_records, with_id
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.jsonarray import scan_array
from chronos_cli.store.jsontext import (
    BeyondError,
    Style,
    UnreadableValue,
    apply,
    edit_items,
    in_order,
    same,
    scan_any,
    scan_object,
    scan_value,
    skip_value,
)
from chronos_cli.strict_json import MAX_DEPTH

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DIGITS = "9" * 5_000
DEEP = "[" * 100_000 + "]" * 100_000


def changed(text, *acts):
    """The text after changes: ("put" | "add", id, fields), ("drop", id), ("nth", place)."""
    jobs = JobsFile.parse(text.encode())
    for what, which, *fields in acts:
        if what == "drop":
            jobs.remove(which)
        elif what == "nth":
            jobs.remove_record(which)
        elif what == "put":
            jobs.put(which, {"id": which, **fields[0]})
        else:
            jobs.add({"id": which, **fields[0]})
    return jobs.render(NOW).decode()


def by_hermes(*jobs, stamp="2026-11-20T12:00:00+00:00"):
    return json.dumps({"jobs": list(jobs), "updated_at": stamp}, indent=2)


A, B, C, D, E = ({"id": name} for name in "abcde")


@pytest.mark.parametrize(
    ("acts", "left"),
    [
        ([("put", "a", {"x": [1, {"y": 2}]})], [A | {"x": [1, {"y": 2}]}, B, C]), ([("add", "d", {"x": 1})], [A, B, C, D | {"x": 1}]),
        ([("drop", "a")], [B, C]), ([("drop", "b")], [A, C]), ([("drop", "c")], [A, B]), ([("drop", "a"), ("drop", "b")], [C]),
        ([("drop", "a"), ("drop", "c")], [B]), ([("drop", "b"), ("drop", "c"), ("add", "d", {})], [A, D]),
        ([("drop", "a"), ("add", "d", {})], [B, C, D]), ([("drop", name) for name in "abc"], []),
        ([*(("drop", name) for name in "abc"), ("add", "d", {}), ("add", "e", {})], [D, E]),
        ([("put", "a", {"x": 1}), ("put", "b", {"y": 1}), ("drop", "c"), ("add", "d", {})], [A | {"x": 1}, B | {"y": 1}, D]),
    ],
    ids=str,
)  # fmt: skip
def test_records_go_and_come_as_hermes_would_write_them(acts, left):
    """Whichever of them, and all of them."""
    assert changed(by_hermes(A, B, C, stamp="2026-01-01T00:00:00"), *acts) == by_hermes(*left)


@pytest.mark.parametrize(
    ("text", "acts", "after"),
    [
        ('{"jobs":[{"id":"a"},{"id":"b"}]}', [("put", "a", {"x": [1, 2]}), ("add", "c", {"y": {"z": 1}})],
         '{"jobs":[{"id": "a", "x": [1, 2]},{"id":"b"},{"id": "c", "y": {"z": 1}}]}'),
        ('{"jobs":[{"id":"a","n":1}]}', [("put", "a", {"n": 2, "x": [1, 2]}), ("add", "c", {"y": {"z": 1}})],
         '{"jobs":[{"id":"a","n":2,"x":[1,2]},{"id":"c","y":{"z":1}}]}'),
        ('{"jobs": [{"id": "a"}]}', [("add", "c", {"y": {"z": 1}})], '{"jobs": [{"id": "a"}, {"id": "c", "y": {"z": 1}}]}'),
        ('{"jobs": [{"id": "a"}]}', [("drop", "a"), ("add", "c", {"y": 1})], '{"jobs": [{"id": "c", "y": 1}]}'),
        ('{"jobs": [{"id": "a"},  {"id": "b"}]}', [("add", "c", {}), ("add", "d", {})],
         '{"jobs": [{"id": "a"},  {"id": "b"},  {"id": "c"},  {"id": "d"}]}'),
        ('[{"id": "a"}, {"id": "b"}]', [("drop", "b"), ("add", "c", {})], '[{"id": "a"}, {"id": "c"}]'),
        ('[\n {"id": "a"},\n {"id": "b"}\n]', [("put", "b", {"x": {"y": 1}}), ("add", "c", {"x": 1})],
         '[\n {"id": "a"},\n {"id": "b", "x": {"y": 1}},\n {"id": "c", "x": 1}\n]'),
        ("[]", [("add", "c", {})], '[\n  {\n    "id": "c"\n  }\n]'), ("[\n]", [("add", "c", {})], '[\n  {\n    "id": "c"\n  }\n]'),
        ('{"jobs": {"a": {"n": 1}, "b": {}}}', [("put", "a", {"n": 2}), ("add", "c", {})],
         '{"jobs": {"a": {"n": 2, "id": "a"}, "b": {}, "c": {"id": "c"}}}'),
        ('{"jobs": {"a": {"n": 1}}}', [("drop", "a")], '{"jobs": {}}'),
        ('{\n  "jobs": {\n    "a" : {\n      "n": 1\n    }\n  }\n}', [("put", "a", {"n": 2}), ("add", "c", {})],
         '{\n  "jobs": {\n    "a" : {\n      "n": 2,\n      "id": "a"\n    },\n    "c" : {\n      "id": "c"\n    }\n  }\n}'),
        ('{"a": {"schedule": 1}, "version": 1}', [("add", "c", {"s": 1})],
         '{"a": {"schedule": 1}, "version": 1, "c": {"id": "c", "s": 1}}'),
        ('{"updated_at": 1, "a": {"schedule": 1}, "b": {"id": "b"}}', [("drop", "b")], '{"updated_at": 1795176000, "a": {"schedule": 1}}'),
        ('{"version": 1, "a": {"schedule": 1}}', [("drop", "a")], '{"version": 1}'),
        ("{}", [("add", "c", {"s": 1})], '{\n  "jobs": [\n    {\n      "id": "c",\n      "s": 1\n    }\n  ]\n}'),
        ('{"jobs": null}', [("add", "c", {"s": [1]})], '{"jobs": [{"id": "c", "s": [1]}]}'),
        ('{"jobs": [{"id": "b"}], "jobs": [{"id": "a"}]}', [("drop", "a")], '{"jobs": [{"id": "b"}], "jobs": []}'),
        ('{\n  "version": 1\n}', [("add", "c", {"s": [1]})],
         '{\n  "version": 1,\n  "jobs": [\n    {\n      "id": "c",\n      "s": [\n        1\n      ]\n    }\n  ]\n}'),
        ('{"version":1,"updated_at":2}', [("add", "c", {"s": [1]})],
         '{"version":1,"updated_at":1795176000,"jobs":[{"id":"c","s":[1]}]}'),
        ('{\n  "jobs": []\n}', [("add", "c", {"s": [1]})],
         '{\n  "jobs": [\n    {\n      "id": "c",\n      "s": [\n        1\n      ]\n    }\n  ]\n}'),
        ('{\n\t"jobs": [\n\t\t{\n\t\t\t"id": "a"\n\t\t}\n\t]\n}', [("add", "c", {"s": [1]}), ("put", "a", {"k": 1})],
         '{\n\t"jobs": [\n\t\t{\n\t\t\t"id": "a",\n\t\t\t"k": 1\n\t\t},\n\t\t{\n\t\t\t"id": "c",\n\t\t\t"s": [\n\t\t\t\t1\n\t\t\t]\n\t\t}\n\t]\n}'),
        ('{\r\n  "jobs": [\r\n    {\r\n      "id": "a"\r\n    }\r\n  ]\r\n}\r\n', [("add", "c", {"s": [1]}), ("put", "a", {"k": "é"})],
         ('{\r\n  "jobs": [\r\n    {\r\n      "id": "a",\r\n      "k": "\\u00e9"\r\n    },\r\n    {\r\n      "id": "c",\r\n      "s": [\r\n'
          '        1\r\n      ]\r\n    }\r\n  ]\r\n}\r\n')),
        ('{"jobs": [{"id": "a", "n": "é"}]}', [("put", "a", {"n": "ü"}), ("add", "c", {"n": "ö"})],
         '{"jobs": [{"id": "a", "n": "ü"}, {"id": "c", "n": "ö"}]}'),
        ('\ufeff{"jobs": [{"id": "a"}]}', [("put", "a", {"n": "ü"})], '\ufeff{"jobs": [{"id": "a", "n": "\\u00fc"}]}'),
        ('\ufeff[\n  {"id": "a"}\n]', [("add", "b", {"n": 1})], '\ufeff[\n  {"id": "a"},\n  {"id": "b", "n": 1}\n]'),
        ('{"jobs": [{"id": "a", "n": "é"}]}', [("put", "a", {"n": "\ud800"})], '{"jobs": [{"id": "a", "n": "\\ud800"}]}'),
        ('{\n  "jobs": [ {\n "id": "a"\n} ]\n}', [("add", "c", {"s": 1})],
         '{\n  "jobs": [ {\n "id": "a"\n}, {\n  "id": "c",\n  "s": 1\n} ]\n}'),
        ('{"jobs": [\n{"id": "a"}]}', [("add", "c", {"s": 1})], '{"jobs": [\n{"id": "a"},\n{"id": "c", "s": 1}]}'),
        ('[ {\n"id": "a"}, {"id": "b"}]', [("put", "a", {"s": 1})], '[ {"id": "a", "s": 1}, {"id": "b"}]'),
        ('{ "jobs": [\n    {\n      "id": "a"\n    }\n  ]}', [("put", "a", {"s": 1}), ("add", "c", {})],
         '{ "jobs": [\n    {"id": "a", "s": 1},\n    {"id": "c"}\n  ]}'),
        ('{\n  "updated_at": 1,\n  "jobs": [{"id": "a"}]\n}', [("add", "c", {"s": 1})],
         '{\n  "updated_at": 1795176000,\n  "jobs": [{"id": "a"}, {"id": "c", "s": 1}]\n}'),
        ('{"jobs": [5, {"id": "a"}, "x"]}', [("nth", 0), ("nth", 2)], '{"jobs": [{"id": "a"}]}'),
        ('{"jobs": [5, {"id": "a"}]}', [("put", "a", {"n": 1}), ("nth", 1)], '{"jobs": [5]}'),
        ('{"jobs": [{"id": "a"}, {"id": "a", "n": 1}]}', [("drop", "a")], '{"jobs": []}'),
        ('{"jobs": [{"id": "a", "t": "x\ny"}]}', [("put", "a", {"t": "x\ny", "n": 1})], '{"jobs": [{"id": "a", "t": "x\\ny", "n": 1}]}'),
    ],
    ids=str,
)  # fmt: skip
def test_a_change_keeps_the_layout_that_the_file_has(text, acts, after):
    """Its indentation, its line ends, its escapes, its shape, and every byte of what did not change."""
    assert changed(text, *acts) == after


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"2026-01-01T00:00:00"', '"2026-11-20T12:00:00+00:00"'), ('"2026-01-01T00:00:00.5"', '"2026-11-20T12:00:00.000000+00:00"'),
        ('"2026-01-01T00:00:00Z"', '"2026-11-20T12:00:00Z"'), ('"2026-01-01T00:00:00.000Z"', '"2026-11-20T12:00:00.000000Z"'),
        ('"2026-01-01T00:00:00+02:00"', '"2026-11-20T14:00:00+02:00"'), ('"2026-01-01T00:00:00+00:00"', '"2026-11-20T12:00:00+00:00"'),
        ('"soon"', '"2026-11-20T12:00:00+00:00"'), ("null", "null"), ("true", "true"), ("5", "1795176000"), ("5.5", "1795176000.0"),
        ("1700000000000", "1795176000000"), ("-100000000000", "1795176000000"), ("99999999999", "1795176000"),
        ("100000000000.0", "1795176000000.0"), ("[]", '"2026-11-20T12:00:00+00:00"'), ("{}", '"2026-11-20T12:00:00+00:00"'),
    ],
)  # fmt: skip
def test_a_stamp_of_seconds_or_milliseconds_stays_one(old, new):
    """As a text does with its offset and its fraction; what says nothing goes on saying it."""
    text = '{"jobs": [], "updated_at": %s}'
    assert changed(text % old, ("add", "c", {})) == (text % new).replace("[]", '[{"id": "c"}]', 1)


def test_a_file_that_nobody_changed_keeps_its_stamp():
    """A change that was taken back is none; of an absent file the first write makes one."""
    jobs = JobsFile.parse(b'{"jobs": [{"id": "a", "n": 1}], "updated_at": 1}')
    mark = jobs.mark()
    jobs.put("a", {"id": "a", "n": 2})
    jobs.remove("a")
    jobs.add({"id": "b"})
    assert (jobs.changed, [record.id for record in jobs.records]) == (True, ["b"])
    jobs.reset(mark)
    assert (jobs.changed, [record.id for record in jobs.records]) == (False, ["a"])
    jobs.put("a", {"id": "a", "n": 2})
    jobs.put("a", {"id": "a", "n": 1})
    assert (jobs.changed, jobs.render(NOW)) == (False, b'{"jobs": [{"id": "a", "n": 1}], "updated_at": 1}')
    fresh = JobsFile.empty()
    fresh.add(A)
    assert (fresh.absent, jobs.absent, fresh.render(NOW).decode()) == (True, False, by_hermes(A))


def test_what_was_added_is_changed_and_taken_away_like_any_other():
    """Before it was ever written."""
    jobs = JobsFile.parse(b'{"jobs": [{"id": "a"}]}')
    jobs.add({"id": "b", "n": {"x": 1}})
    assert (jobs.get("b"), jobs.get("none")) == ({"id": "b", "n": {"x": 1}}, None)
    jobs.get("b")["n"]["x"] = 2
    jobs.put("b", {"id": "b", "n": 3})
    assert [(record.id, record.value, record.index, record.problem) for record in jobs.records] == [
        ("a", A, 0, None),
        ("b", {"id": "b", "n": 3}, 1, None),
    ]
    for taken in ("b", "B", "A"):
        with pytest.raises(ConflictError):
            jobs.add({"id": taken})
    jobs.remove("b")
    assert not jobs.changed
    jobs.put("a", {"id": "a", "n": {"x": 1}})
    jobs.get("a")["n"]["x"] = 2
    assert jobs.get("a") == {"id": "a", "n": {"x": 1}}
    jobs.remove("a")
    assert jobs.get("a") is None
    jobs.add({"id": "A"})
    assert jobs.render(NOW) == b'{"jobs": [{"id": "A"}]}'


def test_a_record_keeps_its_id_and_has_one():
    """What is none is this program's fault."""
    jobs = JobsFile.parse(b'{"jobs": [{"id": "a"}]}')
    for bad in ({}, {"id": "b"}):
        with pytest.raises(ValueError, match="must keep its id"):
            jobs.put("a", bad)
    for bad in ({}, {"id": "a b"}, {"id": 5}):
        with pytest.raises(ValueError, match="not a job id"):
            jobs.add(bad)
    with pytest.raises(NotFoundError):
        jobs.put("b", B)


BESIDE = {"a": {"next": 1, "n": 2, "deep": {"x": 1}}, "gone": {"next": 9}}


def test_what_another_program_keeps_beside_a_record_is_part_of_it():
    """A field of the file wins; what is handed out is a copy, and what is written is what differs from both."""
    text = b'{"jobs": [{"id": "a", "n": 1}, {"id": "b"}, 5]}'
    jobs = JobsFile.parse(text, beside=BESIDE)
    whole = {"id": "a", "n": 1, "next": 1, "deep": {"x": 1}}
    assert jobs.get("a") == whole
    assert [record.value for record in jobs.records] == [whole, B, 5]
    jobs.get("a")["deep"]["x"] = 2
    assert jobs.get("a") == whole
    jobs.put("a", whole)
    assert not jobs.changed
    jobs.put("a", whole | {"next": 5, "new": 1})
    assert jobs.render(NOW) == b'{"jobs": [{"id": "a", "n": 1, "next": 5, "new": 1}, {"id": "b"}, 5]}'
    jobs.put("a", {"id": "a", "n": 2, "deep": {"x": 1}})
    assert jobs.render(NOW) == b'{"jobs": [{"id": "a", "n": 2, "next": null}, {"id": "b"}, 5]}'
    jobs.put("b", {"id": "b", "m": 1})
    jobs.remove("a")
    assert jobs.render(NOW) == b'{"jobs": [{"id": "b", "m": 1}, 5]}'
    jobs.add({"id": "gone", "n": 1})
    assert jobs.get("gone") == {"id": "gone", "n": 1, "next": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5", "holds a number where an object with `jobs` belongs"), ('"x"', "holds a text where"), ("null", "holds null where"),
        ("true", "holds true or false where"), ('{"jobs": 5}', "has a number as its `jobs`, not a list"),
        ('{"jobs": "x"}', "has a text as its `jobs`"), ('{"jobs": [], "jobs": 5}', "has a number as its `jobs`"),
        ('{"x": 1}', r"its keys are not jobs either \('x'\)"), ('{"a": {"schedule": 1}, "x": {}}', r"not jobs either \('a', 'x'\)"),
        ("[] x", "cannot be parsed: Extra data"), ("{} x", "cannot be parsed: Extra data"), ("5 x", "cannot be parsed: Extra data"),
        ('{"jobs": [1,]}', "cannot be parsed"), ('{"jobs": [1}', "cannot be parsed"), ('{"jobs" []}', "Expecting ':'"),
        ("{jobs: []}", "in double quotes"), ('{"jobs": [{"id": "a"} {"id": "b"}]}', "Expecting ','"), ('{"a": 1', "Expecting ','"),
        ("[1", "Expecting ','"), ("[", "Expecting value"), ("{", "in double quotes"), ("x", "Expecting value"),
    ],
)  # fmt: skip
def test_what_is_not_certainly_a_file_of_jobs_is_refused_with_the_reason(text, said):
    """Named as whoever reads it asks for."""
    with pytest.raises(StoreError, match=f"^that file.*{said}"):
        JobsFile.parse(text.encode(), where="that file")


def test_of_keys_that_are_no_jobs_five_are_named_as_far_as_they_go():
    """Twenty characters of each."""
    with pytest.raises(StoreError) as caught:
        JobsFile.parse(json.dumps({name * 30: 1 for name in "abcdefg"}).encode())
    assert caught.value.message.endswith(f"({', '.join(repr(name * 20) for name in 'abcde')})")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"), (b" \r\n\0", "is empty"), (b"\xef\xbb\xbf ", "is empty"), (b"\xff\xfe[", "UTF-16"), (b"\xfe\xff[", "UTF-16"),
        (b"[\xff]", r"not UTF-8 text \(byte 1\)"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused_with_the_reason(data, said):
    """An empty file is no store without jobs."""
    with pytest.raises(StoreError, match=said):
        JobsFile.parse(data)


def test_of_what_was_read_in_another_form_nothing_is_taken_over():
    """Records under their names have no places in an array."""
    listed, named = b'{"jobs": [{"id": "a", "n": 1}]}', b'{"jobs": {"a": {"n": 1}}}'
    for before in (named, listed, b"[]"):
        for data in (listed, named):
            found = JobsFile.parse(data, known=JobsFile.parse(before))
            assert [record.value for record in found.records] == [{"id": "a", "n": 1}]


@pytest.mark.parametrize("step", ["", "  "], ids=["on one line", "a line each"])
@pytest.mark.parametrize("number", range(5))
def test_whichever_items_go_and_come_the_others_stay_where_they_are(number, step):
    """Every choice of those that go, with none, one and two that come; nothing to do changes nothing."""
    comma, lead, tail = (", ", " ", " ") if not step else (",\n  ", "\n  ", "\n")
    items = [f'{{ "n":{n} }}' for n in range(number)]
    text = f"[{lead}{comma.join(items)}{tail}]" if items else "[ ]"
    style = Style(step=step, newline="\n", comma=", ", colon=": ", ascii_only=True)
    found = scan_array(text, 0)
    for choice in range(2**number):
        gone = [n for n in range(number) if choice >> n & 1]
        stay = [item for n, item in enumerate(items) if n not in gone]
        for added in ([], ["7"], ["7", "8"]):
            after = apply(text, edit_items(text, found, gone, added, style))
            assert json.loads(after) == [json.loads(item) for item in (*stay, *added)]
            assert [item for item in items if item in after] == stay
            if not gone and not added:
                assert after == text
            elif stay and not added:
                assert after == f"[{lead}{comma.join(stay)}{tail}]"


def test_records_are_numbered_in_the_order_in_which_they_will_stand():
    """Those that come behind those that were there."""
    found = JobsFile.parse(b'[{"id": "a"}, 5, {"id": "b"}]')
    found.add({"id": "c"})
    found.add({"id": "d"})
    found.remove("a")
    assert [(record.id, record.index) for record in found.records] == [(None, 1), ("b", 2), ("c", 3), ("d", 4)]


def test_what_stands_beside_the_jobs_is_read_by_its_name():
    """The last of two; nothing in a bare array, nor where there is no file."""
    found = JobsFile.parse(b'{"moved": 1, "jobs": [], "moved": {"to": 2}}')
    assert (found.member("moved"), found.member("other")) == ({"to": 2}, None)
    assert JobsFile.parse(b"[]").member("moved") is None
    assert JobsFile.empty().member("moved") is None


def problems(text):
    return [
        (record.id, record.problem, record.index, record.number) for record in JobsFile.parse(text.encode()).records
    ]


def test_an_entry_that_is_no_job_says_why():
    """The first of two with one id is the job, also where the other one has it in other letters."""
    texts = [
        "5",
        "{}",
        '{"id": 5}',
        '{"id": "a b"}',
        '{"id": "j"}',
        '{"id": "j"}',
        '{"id": "J"}',
        '{"id": null}',
        "[]",
        "null",
    ]
    assert problems(f"[{', '.join(texts)}]") == [
        (None, "it is a number, not an object", 0, "record 1"),
        (None, "it has no id", 1, "record 2"),
        (None, "its id is a number, not a text", 2, "record 3"),
        ("a b", "its id 'a b' is not one: letters, digits, dot, dash and underscore, at most 128", 3, "record 4"),
        ("j", None, 4, "record 5"),
        ("j", "it has the id of record 5", 5, "record 6"),
        ("J", "it has but for case the id (j) of record 5", 6, "record 7"),
        (None, "it has no id", 7, "record 8"),
        (None, "it is a list, not an object", 8, "record 9"),
        (None, "it is null, not an object", 9, "record 10"),
    ]


def test_only_an_entry_that_is_a_job_is_found_by_its_id():
    """And every entry that has it, in any letters, keeps it from being taken."""
    jobs = JobsFile.parse(b'[{"id": "a b"}, {"id": "J"}, {"id": "j"}, {"id": "k", "x": 1}, {"id": "k", "x": 2}]')
    assert [jobs.get(name) for name in ("a b", "j", "J", "k", "none")] == [
        None,
        None,
        {"id": "J"},
        {"id": "k", "x": 1},
        None,
    ]
    jobs.remove("J")
    assert jobs.get("j") == {"id": "j"}
    with pytest.raises(ConflictError, match="'j' already"):
        jobs.add({"id": "J"})


def test_an_entry_under_a_key_has_it_as_its_id_and_no_other():
    """One that says another is no job; what is no object is named by its key."""
    found = problems('{"jobs": {"a": {}, "b": {"id": "c"}, "d": 5, "e": {"id": "e"}, "f": {"id": 5}, "updated_at": 1}}')
    assert [(name, problem) for name, problem, *_ in found] == [
        ("a", None),
        ("c", "its id 'c' is not the key 'b' it stands under"),
        ("d", "it is a number, not an object"),
        ("e", None),
        ("f", "its id is a number, not a text"),
    ]
    jobs = JobsFile.parse(b'{"jobs": {"a": {}, "b": {"id": "c"}}}')
    assert [jobs.get(name) for name in ("a", "b", "c")] == [{"id": "a"}, None, None]
    assert (with_id("k", {"n": 1}), with_id("k", {"id": "x"}), with_id(None, {}), with_id("k", 5)) == (
        {"n": 1, "id": "k"},
        {"id": "x"},
        {},
        5,
    )


def deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


def test_an_entry_that_is_nested_too_deep_is_one_with_what_can_be_said_of_it():
    """At the bound it is as good as any."""
    shallow, too_deep = {"id": "a", "n": deep(MAX_DEPTH - 1)}, {"id": "b", "m": 1, "o": {}, "n": deep(MAX_DEPTH)}
    (one, two) = read_records([shallow, too_deep], None)
    assert (one.problem, one.value) == (None, shallow)
    assert (two.problem, two.value) == ("it is nested deeper than 100 levels", {"id": "b", "m": 1})
    assert [is_usable(value) for value in (shallow, too_deep, 5, {})] == [True, False, False, True]
    jobs = JobsFile.parse(json.dumps([shallow, too_deep]).encode())
    assert (jobs.get("a"), jobs.get("b")) == (shallow, None)
    (same_id, other) = read_records([too_deep, {"id": "b"}], None)
    assert (same_id.problem, other.problem) == ("it is nested deeper than 100 levels", None)


@pytest.mark.parametrize(
    ("beyond", "why"),
    [(DIGITS, "a number in it has too many digits"), (DEEP, "it is nested too deep")],
    ids=["digits", "depth"],
)
def test_a_value_that_is_more_than_can_be_read_spoils_its_record_alone(beyond, why):
    """What stands beside it is known, and it keeps its bytes."""
    bad = f'{{"id": "b", "": 1, "n": {{"x": {beyond}}}, "m": {beyond}, "s": "}}]\\"", "l": [1]}}'
    for text in ('{"jobs": [{"id": "a"}, %s, {"id": "c"}]}', '{"jobs": {"a": {}, "b": %s, "c": {}}}'):
        jobs = JobsFile.parse((text % bad).encode())
        assert [(record.id, record.problem) for record in jobs.records] == [("a", None), ("b", why), ("c", None)]
        assert jobs.records[1].value == {"id": "b", "": 1, "s": '}]"', "l": [1]}
        assert jobs.get("b") is None
        with pytest.raises(ConflictError):
            jobs.add({"id": "B"})
        jobs.remove("c")
        assert bad in jobs.render(NOW).decode()
        jobs.remove("b")
        assert [record.id for record in JobsFile.parse(jobs.render(NOW)).records] == ["a"]
    plain = JobsFile.parse(f"[{beyond}, {{}}]".encode())
    assert plain.records[0].problem is not None
    assert scan_any(beyond, 0) == (UnreadableValue(why=why, known={}), len(beyond))
    with pytest.raises(BeyondError, match=why):
        scan_value(beyond, 0)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("{}", 2), ("[]x", 2), ('[{"a": [1, 2]}] ', 15), ('"a]"', 4), ('["]", "\\"]"]', 12), ("[[1]]]", 5), ("[{}]}", 4), ("12,", 2),
        ("true]", 4), ('{"a": {"b": []}}, 5', 16), ("[[[]]]]]", 6), ("{{}}", 4), ('"\\\\"]', 4),
    ],
)  # fmt: skip
def test_the_end_of_a_value_is_found_by_its_brackets(text, end):
    """Those in texts do not count; a run of them may close more than the value."""
    assert skip_value(text, 0) == end
    assert skip_value(f"  {text}", 2) == end + 2


@pytest.mark.parametrize("text", ["[", "[}", "{]", "[{]}", '{"a": [1}', "", "[[]", "[[}]"])
def test_a_value_that_does_not_end_has_no_end(text):
    """Or ends by another bracket."""
    with pytest.raises(json.JSONDecodeError, match="Expecting the end of a value"):
        skip_value(text, 0)


def test_of_members_with_one_key_the_last_counts():
    """As for every reader of JSON; each has its place."""
    found = scan_object('x{ "a": 1, "b" : [2] ,"a":3 }y', 1)
    assert [(item.start, item.end, item.value_start, item.value, item.key) for item in found.items] == [
        (3, 9, 8, 1, "a"),
        (11, 20, 17, [2], "b"),
        (22, 27, 26, 3, "a"),
    ]
    assert (found.start, found.end, found.last("a").value, found.last("c")) == (1, 29, 3, None)
    assert (scan_object("{ }", 0).end, list(scan_object("{}", 0).items)) == (3, [])


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, True, False), (1, 1.0, False), (1, 1, True), ({"a": 1}, {"a": 1}, True), ({"a": 1}, {"a": True}, False), ({"a": 1}, {"b": 1}, False),
        ([1, 2], [1, 2], True), ([1, 2], [1], False), ([1], [2], False), ([1, [True]], [1, [1]], False), (float("nan"), float("nan"), True),
        (float("nan"), 1.0, False), (1.0, float("nan"), False), ({"a": 1}, {"a": 1, "b": 2}, False), (None, None, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ([], {}, False),
    ],
)  # fmt: skip
def test_values_are_the_same_as_json_has_them(one, other, equal):
    """Whatever Python says of them."""
    assert same(one, other) is equal


def test_keys_stay_in_their_places_at_any_depth():
    """Those that are new come last; a list has no keys."""
    old, new = {"a": 1, "b": {"c": 1, "d": 2}, "e": 1}, {"f": 1, "b": {"x": 1, "d": 1, "c": 1}, "a": [{"z": 1, "y": 2}]}
    assert json.dumps(in_order(old, new)) == '{"a": [{"z": 1, "y": 2}], "b": {"c": 1, "d": 1, "x": 1}, "f": 1}'
    assert in_order(1, new) is new
    assert in_order(old, [1]) == [1]


def test_a_style_is_that_of_a_text():
    """Of a text of nothing it is the one that hermes writes."""
    assert Style.of("{}", scan_object("{}", 0)) == Style()
    text = '{"a":1,"b":[2]}'
    compact = Style.of(text, scan_object(text, 0))
    assert (compact.step, compact.comma, compact.colon, compact.write([1, {"x": 1}], "    ")) == (
        "",
        ",",
        ":",
        '[1,{"x":1}]',
    )
    text = '{\r\n\t"é": 1\r\n}'
    tabbed = Style.of(text, scan_object(text, 0))
    assert (tabbed.newline, tabbed.step, tabbed.ascii_only) == ("\r\n", "\t", False)
    assert tabbed.write({"a": ["ü"]}, "  ") == '{\r\n  \t"a": [\r\n  \t\t"ü"\r\n  \t]\r\n  }'
    assert tabbed.flat().write({"a": ["\ud800ü"]}, "  ") == '{"a": ["\\ud800\\u00fc"]}'
    assert Style(step="").write("a", "  ") == '"a"'


def test_edits_are_made_in_the_order_of_the_text():
    """Whatever order they come in; one may only put in."""
    assert apply("abcdef", [(4, 5, "E"), (0, 1, ""), (2, 2, "x"), (2, 3, "")]) == "bxdEf"
    assert apply("abc", []) == "abc"


ITEMS = [{"id": f"j{number}", "n": [number]} for number in range(40)]


@pytest.mark.parametrize("glue", [",", ", ", ",\n  "])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_that_is_read_in_pieces_has_the_same_items(glue, indent):
    """Each with its place, from either end; those that were read before are taken over where they stand."""
    text = f"[ {glue.join(json.dumps(item, indent=indent) for item in ITEMS)} ]"
    whole, pieces = scan_array(text, 0).items, scan_array(text, 0, piece=64).items
    assert list(whole) == list(pieces) == [pieces[number] for number in range(40)]
    assert 5 < len(list(pieces.chunks())) < 30  # several items each
    assert (pieces[-1], pieces[3:5], pieces[39].value) == (whole[39], [whole[3], whole[4]], ITEMS[39])
    assert [text[item.start : item.end] for item in pieces] == [json.dumps(item, indent=indent) for item in ITEMS]
    for number in (40, -41):
        with pytest.raises(IndexError):
            pieces[number]


def test_a_piece_is_whole_items_and_nothing_else():
    """What ends elsewhere was cut in the wrong place."""
    found = [jsonarray._whole_items(text) for text in ("1, 2", "", "1], [2", "1,", "[1", '"a', DIGITS, '{"a": [1]}')]
    assert found == [[1, 2], [], None, None, None, None, None, [{"a": [1]}]]


def decoded(monkeypatch, text, before):
    """How much is decoded of a text whose array was read before, in characters and in single items, and its values."""
    known, read, single = scan_array(before, 0, piece=64).items, [], []
    whole, one = jsonarray._whole_items, jsonarray.scan_any
    with monkeypatch.context() as patch:
        patch.setattr(jsonarray, "_whole_items", lambda part: read.append(len(part)) or whole(part))
        patch.setattr(jsonarray, "scan_any", lambda *at: single.append(at) or one(*at))
        found = scan_array(text, 0, piece=10**6, known=known).items
    assert [text[item.start : item.end] for item in found] == [json.dumps(value) for value in found.values]
    return found.values, sum(read), len(single)


NEW = {"id": "new"}


@pytest.mark.parametrize(
    "after",
    [
        ITEMS, ITEMS[1:], ITEMS[3:], ITEMS[:20] + ITEMS[21:], ITEMS[:-1], [NEW, *ITEMS], [*ITEMS, NEW],
        [*ITEMS[:20], NEW, *ITEMS[20:]], [*ITEMS[:20], ITEMS[20] | {"n": 1}, *ITEMS[21:]],
    ],
    ids=range(9),
)  # fmt: skip
def test_what_was_read_before_is_decoded_only_where_it_changed(monkeypatch, after):
    """One more, one or several less, one other, at the start, in the middle and at the end."""
    values, read, single = decoded(monkeypatch, json.dumps(after), json.dumps(ITEMS))
    assert values == after
    assert (read <= 150, single <= 6) == (True, True)


@pytest.mark.parametrize(
    "after",
    [
        ITEMS[::-1],
        [NEW],
        ITEMS[:1],
        [ITEMS[-1]],
        [*ITEMS[:20], *ITEMS],
        ITEMS[20:],
        [*ITEMS[:20], *[NEW] * 5, *ITEMS[25:]],
    ],
    ids=range(7),
)
def test_whatever_was_read_before_the_items_are_those_that_stand_there(monkeypatch, after):
    """Also where little of it, or all of it twice, is there."""
    assert decoded(monkeypatch, json.dumps(after), json.dumps(ITEMS))[0] == after
