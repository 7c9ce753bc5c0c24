"""jobs.json as others leave it: what is read, what is refused, and that a change touches nothing else."""

import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.errors import ConflictError, NotFoundError, StoreError
from chronos_cli.store import jsontext
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.jsonarray import PIECE, scan_array
from chronos_cli.store.jsontext import same
from tests.conftest import thoroughly

NOW = datetime(2026, 11, 21, 8, 0, 0, 123456, tzinfo=UTC)
TWO = '{"jobs": [{"id": "a", "n": 1}, {"id": "b"}]}'


def ids(data):
    return [(record.id, record.problem) for record in JobsFile.parse(data).records]


def changed(data, *, put=None, add=None, remove=None):
    """The new bytes after one change, which every JSON reader has to understand."""
    jobs = JobsFile.parse(data)
    if put:
        jobs.put(put["id"], put)
    if add:
        jobs.add(add)
    if remove:
        jobs.remove(remove)
    out = jobs.render(NOW)
    JobsFile.parse(out)
    return out


@pytest.fixture
def hermes(fixture_home):
    """The bytes of a file that hermes-agent 0.19 wrote."""
    return (fixture_home / "cron" / "jobs.json").read_bytes()


# -- a change touches nothing else ---------------------------------------------------------------------------------


def test_a_file_that_nobody_changed_is_the_same_bytes(hermes):
    """Reading, looking a job up and putting it back unchanged changes nothing."""
    jobs = JobsFile.parse(hermes)
    value = jobs.get("f8916efa9ee5")
    jobs.put("f8916efa9ee5", dict(reversed(value.items())))
    assert not jobs.changed
    assert jobs.render(NOW) == hermes


def test_a_changed_job_is_written_as_hermes_would(hermes):
    """After a change, an addition and a removal, the file is what hermes' own `json.dump(..., indent=2)` gives for it."""
    jobs = JobsFile.parse(hermes)
    expected = json.loads(hermes)
    value = jobs.get("e518b71d87a5")
    value |= {"last_status": "ok \N{SNOWMAN}", "chronos": {"open": [{"run": 1, "at": []}], "none": {}}}
    value["repeat"]["completed"] = 3
    del value["workdir"]
    jobs.put("e518b71d87a5", value)
    jobs.add({"id": "new", "name": "n\u00e9w", "schedule": {"kind": "interval"}})
    jobs.remove("9bf1894e979a")
    expected["jobs"] = [
        value if job["id"] == "e518b71d87a5" else job for job in expected["jobs"] if job["id"] != "9bf1894e979a"
    ]
    expected["jobs"].append({"id": "new", "name": "n\u00e9w", "schedule": {"kind": "interval"}})
    expected["updated_at"] = "2026-11-21T03:00:00.123456-05:00"
    assert jobs.render(NOW) == json.dumps(expected, indent=2).encode()


def test_only_the_record_that_changed_gets_new_bytes():
    """It is written anew with its keys in place; the others keep escapes, number spelling, duplicate keys, odd spacing."""
    data = (
        '\ufeff{ "other" : [1.0e+2,\t-0],\r\n "jobs" : [\r\n'
        '  {"id":"a" ,"x":"\\u0041\\/", "n": 1.50, "n": 1E5, "big": 123456789012345678901234567890, "r":{ "k" : 1.0 , "c":0}},\r\n'
        '  {"id":"b", "dup": 1, "dup": 2, "nan": NaN, "inf": -Infinity, "tab": "a\tb\x01", "t":"\\ud83d\\ude00"}  ],\r\n'
        ' "updated_at": "2026-01-01T00:00:00Z", "more": null }\r\n\r\n'
    ).encode()
    value = JobsFile.parse(data).get("a")
    assert value["n"] == 1e5
    value["r"]["c"] = 7
    value["n"] = 2
    before = data[data.index(b'{"id":"a"') : data.index(b',\r\n  {"id":"b"')]
    expected = data.replace(
        before,
        b'{"id": "a", "x": "A/", "n": 2, "big": 123456789012345678901234567890, "r": {"k": 1.0, "c": 7}}',
    ).replace(b"2026-01-01T00:00:00Z", b"2026-11-21T08:00:00Z")
    assert changed(data, put=value) == expected


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
RECORDS = st.dictionaries(st.sampled_from(["name", "schedule", "repeat", "\u00fc", 'q"uote', ""]), VALUES, max_size=5)
LAYOUTS = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 1, 2, 4, "\t"]),
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([None, (",", ":"), (" , ", " : ")]),
    }
)
SHAPES = {
    "object": lambda records: {"version": 1, "jobs": records, "updated_at": "2026-01-01T00:00:00+01:00"},
    "list": lambda records: records,
    "keyed": lambda records: {"jobs": {record["id"]: record for record in records}},
}


@settings(max_examples=thoroughly(100, 30), deadline=None, database=None)
@given(
    records=st.lists(RECORDS, min_size=1, max_size=5),
    new=RECORDS,
    at=st.integers(0, 4),
    layout=LAYOUTS,
    shape=st.sampled_from(sorted(SHAPES)),
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
)
def test_any_layout_goes_round_and_the_other_records_keep_their_bytes(records, new, at, layout, shape, newline, bom):
    """In any layout, an untouched file is identical; after one change the new record is right and all others keep their bytes."""
    records = [{"id": f"job{number}", **record} for number, record in enumerate(records)]
    at %= len(records)
    text = json.dumps(SHAPES[shape](records), **layout).replace("\n", newline)
    data = ("\ufeff" * bom + text).encode()
    jobs = JobsFile.parse(data)
    assert jobs.render(NOW) == data
    assert all(same(record.value, value) for record, value in zip(jobs.records, records, strict=True))

    def bytes_of_others(jobs):
        return [
            jobs._text[item.start : item.end]
            for item, record in zip(jobs._items, jobs.records, strict=True)
            if record.id != f"job{at}"
        ]

    new = {"id": f"job{at}", **new}
    others = bytes_of_others(jobs)
    jobs.put(f"job{at}", new)
    again = JobsFile.parse(jobs.render(NOW))
    assert same(again.get(f"job{at}"), new)
    assert bytes_of_others(again) == others
    again.remove(f"job{at}")
    again.add({"id": "added", "x": new})
    once_more = JobsFile.parse(again.render(NOW))
    assert [record.id for record in once_more.records] == [r["id"] for r in records if r["id"] != f"job{at}"] + [
        "added"
    ]
    assert bytes_of_others(once_more)[:-1] == others
    assert same(once_more.get("added"), {"id": "added", "x": new})


@settings(max_examples=thoroughly(80, 30), deadline=None, database=None)
@given(
    drop=st.sets(st.integers(0, 5)), add=st.integers(0, 2), indent=st.sampled_from([None, 2]), change=st.integers(0, 5)
)
def test_any_records_can_go_and_come_in_one_change(drop, add, indent, change):
    """Whichever records are removed, changed and added together, the file has the rest, in order."""
    data = json.dumps({"jobs": [{"id": f"j{number}"} for number in range(6)]}, indent=indent).encode()
    jobs = JobsFile.parse(data)
    for number in drop:
        jobs.remove(f"j{number}")
    if change not in drop:
        jobs.put(f"j{change}", {"id": f"j{change}", "x": [1]})
    for number in range(add):
        jobs.add({"id": f"new{number}"})
    expected = [{"id": f"j{n}", **({"x": [1]} if n == change else {})} for n in range(6) if n not in drop]
    expected += [{"id": f"new{n}"} for n in range(add)]
    assert [record.value for record in jobs.records] == expected
    assert jobs.render(NOW) == json.dumps({"jobs": expected}, indent=indent).encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"2026-01-01T00:00:00.000001-05:00"', '"2026-11-21T03:00:00.123456-05:00"'),
        ('"2026-01-01T00:00:00Z"', '"2026-11-21T08:00:00Z"'),
        ('"2026-01-01T00:00:00+02:00"', '"2026-11-21T10:00:00+02:00"'),
        ("1700000000", "1795248000"),
        ("1700000000000", "1795248000123"),
        ("1700000000.5", "1795248000.123456"),
        ('"yesterday"', '"2026-11-21T08:00:00.123456+00:00"'),
        ("null", "null"),
    ],
)
def test_the_stamp_keeps_its_form(old, new):
    """`updated_at` is refreshed on a change, in the offset, precision or kind of number that it had."""
    data = f'{{"updated_at": {old}, "jobs": [{{"id": "a"}}]}}'.encode()
    assert (
        changed(data, put={"id": "a", "x": 1}) == f'{{"updated_at": {new}, "jobs": [{{"id": "a", "x": 1}}]}}'.encode()
    )


@settings(max_examples=thoroughly(100, 30), deadline=None, database=None)
@given(
    items=st.lists(VALUES | RECORDS.map(lambda record: [record, record]), max_size=12),
    layout=LAYOUTS,
    piece=st.integers(1, 200),
)
def test_reading_in_pieces_finds_the_same_items_in_the_same_places(items, layout, piece):
    """However an array is cut, its items and their places are those of reading it item by item."""
    text = "  " + json.dumps(items, **layout) + " "
    whole, cut = scan_array(text, 2, piece=len(text) + 1), scan_array(text, 2, piece=piece)
    assert (cut.start, cut.end) == (whole.start, whole.end) == (2, len(text) - 1)
    assert all(same(left.value, right) for left, right in zip(cut.items, items, strict=True))
    assert [tuple(item)[:3] for item in cut.items] == [tuple(item)[:3] for item in whole.items]
    assert [cut.items[at].start for at in range(len(items))] == [item.start for item in whole.items]


def test_a_cut_in_the_wrong_place_is_noticed():
    """Where nested items and strings look like the end of a record, reading falls back to one item after the other."""
    trap = {"id": "a", "x": [{"y": 1}, {"y": 2}], "text": '},{"y":1},{'}
    items = [{"id": "start"}, trap, trap, {"id": "z", "n": [[1], [2]]}] * 40
    text = json.dumps(items, separators=(",", ":"))
    for piece in (1, 7, 64, 1000):
        assert [item.value for item in scan_array(text, 0, piece=piece).items] == items
        for broken in (text[:-1], text[:-2] + "]", text.replace('"z"', '"z', 1), text[:-1] + ",]"):
            with pytest.raises(ValueError):
                scan_array(broken, 0, piece=piece)


def outcome(text, **options):
    """The values and places in an array, None where it is none."""
    try:
        found = scan_array(text, 0, **options)
    except ValueError:
        return None
    return found.end, [tuple(item)[:4] for item in found.items], [found.items[at] for at in range(len(found.items))]


@settings(max_examples=thoroughly(100, 30), deadline=None, database=None)
@given(
    before=st.lists(VALUES | RECORDS, max_size=12),
    edits=st.lists(
        st.tuples(st.sampled_from(("put", "drop", "add", "move")), st.integers(0, 12), VALUES | RECORDS), max_size=4
    ),
    typo=st.none() | st.tuples(st.integers(0, 4000), st.integers(0, 3), st.sampled_from(["", *',]}" \\'])),
    layout=LAYOUTS,
    pieces=st.tuples(st.sampled_from((1, 7, 64, 1 << 16)), st.sampled_from((1, 7, 64, 1 << 16))),
)
def test_what_was_read_before_is_taken_over_only_where_it_still_stands(before, edits, typo, layout, pieces):
    """Whatever became of a text, reading it with the one before it at hand finds what reading it alone does."""
    old = json.dumps(before, **layout)
    after = list(before)
    for what, at, item in edits:
        if what == "add":
            after.insert(at, item)
        elif after and what == "put":
            after[at % len(after)] = item
        elif after:
            taken = after.pop(at % len(after))
            after += [taken] if what == "move" else []
    new = json.dumps(after, **layout)
    if typo is not None:
        at, length, put = typo
        new = new[: at % len(new)] + put + new[at % len(new) + length :]
    if new.startswith("["):
        known = scan_array(old, 0, piece=pieces[0]).items
        assert repr(outcome(new, piece=pieces[1], known=known)) == repr(outcome(new, piece=pieces[1]))


@pytest.mark.parametrize("count", [100, 1000])
def test_a_record_that_stands_as_before_is_not_decoded_again(count, monkeypatch):
    """Of many jobs of which one changed, that one is decoded; of more than fit into a piece, its piece."""
    jobs = [{"id": f"job-{number}", "prompt": "x" * 300} for number in range(count)]
    before = JobsFile.parse(json.dumps({"jobs": jobs, "updated_at": "then"}, indent=2).encode())
    jobs[70]["prompt"] = "other"
    decoded, scan = [], jsontext._scan

    def scanned(text, at):
        value, end = scan(text, at)
        decoded.append(end - at)
        return value, end

    monkeypatch.setattr(jsontext, "_scan", scanned)
    after = JobsFile.parse(json.dumps({"jobs": jobs, "updated_at": "now"}, indent=2).encode(), known=before)
    assert sum(decoded) < (1500 if count == 100 else 1.1 * PIECE)
    assert [record.value for record in after.records] == jobs


# -- what others wrote ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        TWO,
        '[{"id": "a", "n": 1}, {"id": "b"}]',
        '{"jobs": {"a": {"n": 1}, "b": {"id": "b"}}}',
        '{"version": 2, "a": {"schedule": {}}, "b": {"id": "b"}, "updated_at": "2026-01-01T00:00:00Z"}',
        "\ufeff" + TWO,
        TWO.replace(" ", "\r\n"),
        '{"jobs": [{"id": "old"}], "jobs": [{"id": "a"}, {"id": "b"}]}',
    ],
)
def test_every_shape_of_a_file_has_its_jobs(text):
    """A list under `jobs`, a bare list, objects keyed by id, a byte order mark, CRLF: the jobs are found in order."""
    assert ids(text.encode()) == [("a", None), ("b", None)]
    jobs = JobsFile.parse(text.encode())
    assert jobs.get("a")["id"] == "a"
    assert jobs.get("none") is None
    out = changed(text.encode(), add={"id": "c"}, remove="a")
    assert ids(out) == [("b", None), ("c", None)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"jobs": null}', '{"jobs": [{"id": "c"}]}'),
        ('{"jobs": []}', '{"jobs": [{"id": "c"}]}'),
        ('{"jobs": {}}', '{"jobs": {"c": {"id": "c"}}}'),
        ("[]", '[\n  {\n    "id": "c"\n  }\n]'),
        ('{"updated_at": null}', '{"updated_at": null, "jobs": [{"id": "c"}]}'),
        ('{\n\t"jobs": [ ]\n}\n', '{\n\t"jobs": [\n\t\t{\n\t\t\t"id": "c"\n\t\t}\n\t]\n}\n'),
    ],
)
def test_a_file_without_jobs_gets_its_first(text, expected):
    """Null, missing and empty `jobs` are no jobs yet, and the first one is written where it belongs."""
    assert ids(text.encode()) == []
    assert changed(text.encode(), add={"id": "c"}) == expected.encode()


def test_an_absent_file_gets_the_form_that_hermes_writes():
    """A first job makes a file as hermes-agent would have made it."""
    jobs = JobsFile.empty()
    assert (jobs.absent, jobs.changed, jobs.records) == (True, False, [])
    jobs.add({"id": "a"})
    assert jobs.changed
    assert jobs.render(NOW) == json.dumps({"jobs": [{"id": "a"}], "updated_at": NOW.isoformat()}, indent=2).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   \n",
        b"\xef\xbb\xbf",
        b"\0" * 512,
        b"{",
        b'{"jobs": [',
        b'{"jobs": [{"id": "a"}',
        b'{"jobs": [{"id": "a"},]}',
        b'{"jobs": []} x',
        b'{"jobs": []}{}',
        b'{"jobs": "none"}',
        b'{"jobs": 3}',
        b'"jobs"',
        b"null",
        b"42",
        b'{"tasks": [{"id": "a"}]}',
        b'{"a": {"x": 1}}',
        b'{"error": "moved"}',
        b'{"jobs": [}',
        b'{"jobs": [{"id" "a"}]}',
        b"{1: 2}",
        b'{"jobs": [nul]}',
        TWO.encode("utf-16"),
        b'{"jobs": [{"id": "\xff"}]}',
        b"[" * 100_000,
        b"<html>502 Bad Gateway</html>",
    ],
)
def test_what_is_not_certainly_jobs_is_refused(data):
    """Truncated, empty, foreign and mangled files raise; none of them is an empty list of jobs."""
    with pytest.raises(StoreError, match=r"cron/jobs\.json") as caught:
        JobsFile.parse(data)
    assert caught.value.code == "store"
    assert len(caught.value.line()) < 400


def test_one_broken_record_among_ten_spoils_nothing():
    """Nine jobs work beside each kind of broken record, which is named with its reason and kept byte for byte."""
    good = [json.dumps({"id": f"j{number}"}) for number in range(9)]
    for broken, said in (
        ('"text"', "a text, not an object"),
        ("[ 1 ]", "a list"),
        ("null", "null"),
        ("3.0", "a number"),
        ("{ }", "no id"),
        ('{"id" : null}', "no id"),
        ('{"id": 5.0}', "a number, not a text"),
        ('{"id": "../escape"}', "is not one"),
        ('{"id": ""}', "is not one"),
        ('{"id":  "j3", "x": 1.0}', "the id of record 4"),
        ('{"id":  "J3"}', "but for case the id (j3) of record 4"),
    ):
        data = f'{{"jobs": [{", ".join([*good[:5], broken, *good[5:]])}]}}'.encode()
        records = JobsFile.parse(data).records
        assert [record.id for record in records if record.problem is None] == [f"j{number}" for number in range(9)]
        assert said in records[5].problem
        assert records[5].index == 5
        out = changed(data, put={"id": "j8", "x": 1}, add={"id": "k"}, remove="j0")
        assert broken.encode() in out
        assert len(JobsFile.parse(out).records) == 10


def test_a_key_and_an_id_that_differ_are_a_problem():
    """In a file keyed by id, a record that claims another id is refused, not guessed at."""
    data = b'{"jobs": {"a": {"id": "b"}, "c": {"id": "c"}}}'
    assert [(at.id, at.problem is None) for at in JobsFile.parse(data).records] == [("b", False), ("c", True)]
    assert JobsFile.parse(data).get("b") is None


def test_of_two_records_with_one_id_the_first_is_the_job():
    """Changing the job changes the first; removing it removes both, so that the other does not come to life."""
    data = b'{"jobs": [{"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "A"}, {"id": "b"}]}'
    jobs = JobsFile.parse(data)
    assert jobs.get("a")["n"] == 1
    assert jobs.get("A") is None
    assert changed(data, put={"id": "a", "n": 3}) == data.replace(b'"n": 1', b'"n": 3')
    assert changed(data, remove="a") == b'{"jobs": [{"id": "A"}, {"id": "b"}]}'


# -- the ways to change --------------------------------------------------------------------------------------------


def test_an_id_is_taken_whatever_its_case():
    """A second job of one id is refused, differing in case or not, before and after it is stored."""
    jobs = JobsFile.parse(TWO.encode())
    for taken in ("a", "A"):
        with pytest.raises(ConflictError, match="there is a job 'a' already"):
            jobs.add({"id": taken})
    jobs.add({"id": "New"})
    with pytest.raises(ConflictError):
        jobs.add({"id": "new"})
    jobs.remove("a")
    jobs.add({"id": "A"})
    assert [record.id for record in jobs.records] == ["b", "New", "A"]


def test_unknown_jobs_cannot_be_changed():
    """Putting or removing what is not there is an error, and so is a record that changes its id."""
    jobs = JobsFile.parse(TWO.encode())
    with pytest.raises(NotFoundError):
        jobs.put("c", {"id": "c"})
    with pytest.raises(NotFoundError):
        jobs.remove("c")
    with pytest.raises(ValueError, match="must keep its id"):
        jobs.put("a", {"id": "b"})
    with pytest.raises(ValueError, match="not a job id"):
        jobs.add({"id": "../a"})
    assert not jobs.changed


def test_values_handed_out_are_copies():
    """Editing a value without putting it changes nothing, and putting one edited in place is noticed."""
    jobs = JobsFile.parse(TWO.encode())
    value = jobs.get("a")
    value["n"] = 2
    assert jobs.get("a")["n"] == 1
    record = jobs.records[0]
    record.value["n"] = 3
    jobs.put("a", record.value)
    assert jobs.changed
    assert json.loads(jobs.render(NOW))["jobs"][0]["n"] == 3
    jobs.put("a", {"id": "a", "n": 1})
    assert not jobs.changed
    jobs.add({"id": "c", "n": 1})
    jobs.get("c")["n"] = 9
    jobs.put("c", {"id": "c", "n": 2})
    assert jobs.get("c")["n"] == 2
    jobs.remove("c")
    assert not jobs.changed


def test_equal_in_python_is_not_equal_in_json():
    """`1`, `1.0` and `true` are three values, and NaN is itself: a change between them is a change."""
    for left, right in ((1, 1.0), (1, True), (0, False), ([1], [True]), ({"a": 1}, {"a": 1.0}), (None, False)):
        assert not same(left, right)
    assert same({"a": [math.nan]}, {"a": [math.nan]})
    assert changed(b'[{"id":"a","n":1}]', put={"id": "a", "n": True}) == b'[{"id":"a","n":true}]'


def test_half_a_surrogate_pair_is_kept_and_written_as_an_escape():
    """A lone surrogate, which UTF-8 cannot hold, stays an escape in a file with other text beyond ASCII too."""
    data = '[{"id": "a", "x": "\\ud800", "y": "\u00e9"}]'.encode()
    value = JobsFile.parse(data).get("a")
    value["z"] = "\udfff"
    after = changed(data, put=value)
    assert after == b'[{"id": "a", "x": "\\ud800", "y": "\\u00e9", "z": "\\udfff"}]'
    assert JobsFile.parse(after).get("a") == value


def test_fifty_megabytes_are_read_and_changed():
    """A file of 50 MB is no special case."""
    record = '{"id": "job%d", "prompt": "' + "x" * 5000 + '"}'
    data = ("[" + ",\n".join(record % number for number in range(10_000)) + "]").encode()
    assert len(data) > 50_000_000
    value = JobsFile.parse(data).get("job9999")
    out = changed(data, put={**value, "prompt": "short"})
    assert out == data[: data.rindex(b'"xxx')] + b'"short"}]'
