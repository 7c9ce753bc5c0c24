"""The document of a hold and that of ticks at their edges: whatever stands there, and what is said of it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from chronos_cli.errors import DocumentError, TemporaryError
from chronos_cli.store.holds import MAX_READ, NO_REASON, Hold, both, read_hold
from chronos_cli.store.interface import VersionConflict
from chronos_cli.store.repository import Repository
from chronos_cli.store.ticks import TICK_KEY, Ticks, note_installed, note_tick, read_ticks
from tests.core.making import T, at
from tests.memory_store import MemoryStore

EAST = timezone(timedelta(hours=2), "EAST")


def held(**said):
    return read_hold(json.dumps(said).encode())


def test_a_hold_says_its_reason_its_home_and_its_end():
    """The end as a machine reads it, and as a person does in a zone."""
    bare = Hold(reason="repair")
    assert (bare.text, bare.words(EAST), bare.lifted_by) == ("repair", "repair", "chronos hold --off")
    full = Hold(reason="repair", where="/a b", expires_at=T)
    assert full.text == "repair (held at /a b) (until 2026-11-20T12:00:00+00:00)"
    assert full.words(EAST) == "repair (held at /a b) (until 2026-11-20 14:00 EAST)"
    assert full.lifted_by == "chronos --home '/a b' hold --off"


def test_a_hold_is_over_at_its_very_end_and_never_without_one():
    """As everything that is due at an instant."""
    assert [Hold(reason="x", expires_at=T).is_over(now) for now in (at(-1), T, at(1))] == [False, True, True]
    assert not Hold(reason="x").is_over(at(10**9))


def test_what_is_written_is_read_again_and_nothing_is_written_of_nothing():
    """It ends with a line's end, for who looks at it."""
    full = Hold(reason="repair", engaged_at=T, expires_at=at(60), by="me")
    assert full.to_bytes("g").endswith(b"}\n")
    assert list(json.loads(full.to_bytes("g"))) == ["generation", "engaged_at", "reason", "expires_at", "by"]
    assert read_hold(full.to_bytes("g")) == full
    assert json.loads(Hold(reason="repair").to_bytes("g")) == {"generation": "g", "reason": "repair"}
    assert read_hold(full.to_bytes("g"), where="/h").where == "/h"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", NO_REASON), (b" \r\n\0", NO_REASON), (b"repair\n", "repair"), (b"[1]", "[1]"), (b"\xef\xbb\xbfx", "x"),
        (b"\xff!", "\ufffd!"), (b"x" * 1_200, "x" * 1_000), (b"{}", NO_REASON), (b'{"reason": 5}', NO_REASON),
        (b'{"reason": " a "}', "a"), (json.dumps({"reason": "y" * 1_200}).encode(), "y" * 1_000),
        (b'{"reason": "' + b"z" * MAX_READ + b'"}', '{"reason": "' + "z" * 988),
    ],
    ids=lambda given: str(given)[:20],
)  # fmt: skip
def test_whatever_stands_there_holds_and_is_its_reason_as_far_as_it_is_text(data, reason):
    """Without an end, whoever wrote it."""
    found = read_hold(data, where="/h")
    assert (found.reason, found.expires_at, found.by, found.where) == (reason, None, None, "/h")


def test_a_largest_document_is_read_and_a_larger_one_is_text():
    """A hold of this program has some hundred bytes."""
    body = json.dumps({"expires_at": T.isoformat(), "reason": ""})
    assert read_hold(body.ljust(MAX_READ).encode()).expires_at == T
    assert read_hold(body.ljust(MAX_READ + 1).encode()).expires_at is None


@pytest.mark.parametrize(
    ("text", "engaged", "expires"),
    [
        ("2026-11-20T12:00:00", T, T), (" 2026-11-20T12:00:00+00:00 ", T, T), ("2026-11-20T14:00:00+02:00", T, T),
        ("2026-11-20T12:00:00.25Z", T, at(1)), ("tomorrow", None, None), (5, None, None), (None, None, None),
        ("0001-01-01T00:00:00+14:00", None, None),
        ("9999-12-31T23:59:59.5Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), None),
    ],
)  # fmt: skip
def test_an_instant_is_of_whole_seconds_in_utc_and_an_end_no_earlier_than_it_says(text, engaged, expires):
    """One without an offset is in UTC, as Hermes reads it."""
    found = held(engaged_at=text, expires_at=text)
    assert (found.engaged_at, found.expires_at) == (engaged, expires)
    assert all(at is None or at.utcoffset() == timedelta() for at in (found.engaged_at, found.expires_at))


def test_an_instant_without_an_offset_is_in_utc_in_any_zone(monkeypatch):
    """Wherever the machine stands."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert held(expires_at="2026-11-20T12:00:00").expires_at == T
    time.tzset()


@pytest.mark.parametrize(
    ("by", "found"), [("me", "me"), (" ", None), (5, None), (None, None), ("x" * 1_001, "x" * 1_000)]
)
def test_who_holds_is_a_name_or_nobody(by, found):
    """It is said to people."""
    assert held(by=by).by == found


def test_two_holds_end_with_the_later_of_them():
    """One without an end is the later of any; of two that end together the own one is told."""
    early, late, never = (Hold(reason="x", expires_at=end) for end in (T, at(1), None))
    assert both(None, None) is None
    assert (both(early, None), both(None, late)) == (early, late)
    assert (both(early, late), both(late, early)) == (late, late)
    assert (both(never, late), both(late, never)) == (never, never)
    same = Hold(reason="above", expires_at=T)
    assert both(early, same) is early
    assert both(never, Hold(reason="above")) is never


@pytest.fixture
def home():
    return Repository(MemoryStore(), sleep=lambda _: None, random=lambda: 0.5)


def test_the_last_two_ticks_are_known_and_since_when_they_are_installed(home):
    """A tick whose answer was lost is not two."""
    assert read_ticks(home) == Ticks()
    note_tick(home, T)
    assert read_ticks(home) == Ticks(at=T)
    note_installed(home, at(-5))
    note_tick(home, at(60))
    note_tick(home, at(60))
    assert read_ticks(home) == Ticks(at=at(60), before=T, installed=at(-5))
    note_installed(home, None)
    assert read_ticks(home) == Ticks(at=at(60), before=T)
    assert set(json.loads(home.read(TICK_KEY).data)) == {"at", "before"}


@pytest.mark.parametrize(
    "data", [b"", b"torn", b"[]", b'{"at": 5}', b'{"at": "soon"}', b'{"at": "2026-11-20T12:00:00"}', b'{"at": null}']
)
def test_ticks_that_cannot_be_read_are_none_and_the_next_is_the_first(home, data):
    """An instant without its offset is nothing that we wrote."""
    home.documents.create(TICK_KEY, data)
    assert read_ticks(home) == Ticks()
    note_tick(home, T)
    assert read_ticks(home) == Ticks(at=T)


def test_ticks_are_neither_read_nor_noted_where_they_cannot_be(home):
    """A tick runs all the same, and a power cut may forget it."""
    durable = []

    def fails(error):
        def write(*_, **options):
            durable.append(options.get("durable", True))
            raise error

        return write

    for error in (DocumentError("closed", key=TICK_KEY), TemporaryError("the bucket is busy"), VersionConflict()):
        home.documents.create = fails(error)
        note_tick(home, T)
    assert durable
    assert not any(durable)
    home.documents.read = fails(DocumentError("closed", key=TICK_KEY))
    assert read_ticks(home) == Ticks()
