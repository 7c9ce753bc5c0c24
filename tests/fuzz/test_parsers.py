"""Every parser of what others write: whatever comes, it is read or refused with an error of ours, never with another.

What comes is noise, JSON of any shape, and above all good documents with something in them replaced. The parsers of
fire tokens have theirs in tests/trust, those of requests at the door in tests/callback.
"""

from __future__ import annotations

import copy
import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.callback.request import parse_fire, profile_of
from chronos_cli.config import load_config
from chronos_cli.core.job import parse_job
from chronos_cli.errors import ChronosError, ConfigError, UsageError
from chronos_cli.nas_client import answers
from chronos_cli.nas_client.answers import NasReply
from chronos_cli.nas_server import bodies
from chronos_cli.nas_server.addresses import CallbackPolicy
from chronos_cli.nas_server.bodies import BadRequestError
from chronos_cli.nas_server.relay.callbacks import retry_after_s
from chronos_cli.nas_server.timers.model import Agent
from chronos_cli.operations.firing.refused_token import last_refused
from chronos_cli.operations.foreign.crontab import Machine, read_crontab
from chronos_cli.operations.jobs.transfer import records_in
from chronos_cli.store.repository import Repository
from chronos_cli.trust.keys import UnusableKeysError, parse_jwks, parse_keys, read_jwk
from tests.core.making import HOME, T, record
from tests.fire_tokens import SigningKey
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path

MANY = int(os.environ.get("CHRONOS_FUZZ", "0"))
"""How many examples of each to try; without it a few, always the same, so that a test fails for its change alone."""

fuzz = settings(
    max_examples=MANY or 60,
    derandomize=not MANY,
    deadline=None,
    database=None,
)

TEXT = st.text(max_size=40) | st.sampled_from(
    ["", "null", "\x00", "\ud800", "2026-11-20T15:34:15+00:00", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59",
     "every 5m", "* * * * *", "P1D", "1e999", "../../etc/passwd", "a" * 300, "{}", "https://a.example", "http://[::1"]
)  # fmt: skip
NUMBER = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 2**31, 2**53, 2**63, 10**30])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)
NOISE = st.binary(max_size=200) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")) | JSON.map(
    lambda value: json.dumps(value).encode()
)  # fmt: skip
_DEEP = (b"[" * 9_000, b'{"a":' * 9_000, b"9" * 5_000, b"-1e999999", b'{"a":1,"a":2}')
NESTED = st.integers(0, len(_DEEP) - 1).map(lambda number: _DEEP[number])


def changed(document: Any) -> st.SearchStrategy[Any]:
    """A good document with up to three of its values, wherever they stand, replaced or taken out."""
    paths = list(_paths(document))

    @st.composite
    def make(draw: Any) -> Any:
        made = copy.deepcopy(document)
        for path in draw(st.lists(st.sampled_from(paths), min_size=1, max_size=3)):
            _replace(made, path, draw(JSON), out=draw(st.booleans()) and draw(st.booleans()))
        return made

    return make()


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Any:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*above, key)
            yield from _paths(inner, (*above, key))


def _replace(document: Any, path: tuple[Any, ...], value: Any, *, out: bool) -> None:
    for key in path[:-1]:
        if not isinstance(document, dict | list):
            return
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):  # a value above was replaced before
            return
    try:
        if out and isinstance(document, dict):
            del document[path[-1]]
        else:
            document[path[-1]] = value
    except (KeyError, IndexError, TypeError):
        return


def documents(good: Any) -> st.SearchStrategy[bytes]:
    """Noise, or a good document of this kind changed, or what is nested past the stack."""
    return NOISE | NESTED | changed(good).map(lambda value: json.dumps(value).encode())


def one_line(text: str) -> None:
    """Check that a message is one line of a length that people read."""
    assert text
    assert "\n" not in text
    assert len(text) < 2_000


def refused(error: BadRequestError) -> None:
    """Check that a refusal is one that a client made itself."""
    assert error.refusal.status in (400, 413)


# -- keys -------------------------------------------------------------------------------------------------------------

JWKS = SigningKey.rs256().jwks(SigningKey.es256())


@given(documents(JWKS))
@fuzz
def test_key_sets(data: bytes) -> None:
    """A JWK Set gives keys of the one proper form, or says in one line why it has none."""
    for read, text in ((parse_jwks, data), (parse_keys, data.decode("utf-8", "replace"))):
        try:
            keys = read(text)
        except UnusableKeysError as error:
            one_line(str(error))
            continue
        for key in keys:
            assert read_jwk(key) == key


# -- requests ---------------------------------------------------------------------------------------------------------


@given(documents({"job_id": "a", "fire_at": T.isoformat()}), TEXT)
@fuzz
def test_bodies_of_fires(data: bytes, path: str) -> None:
    """The body of a fire is an object, or a usage error; a path names a profile or none."""
    try:
        assert isinstance(parse_fire(data), dict)
    except UsageError as error:
        one_line(error.line())
    profile_of(f"/p/{path}/api/cron/fire")


AGENT = Agent(id=1, name="a", audience="agent:1", created_at=0.0)
ITEM = {
    "op": "provision", "job_id": "a", "fire_at": T.isoformat(), "agent_callback_url": "https://a.example/p/x",
    "dedup_key": "a:1", "generation": 1,
}  # fmt: skip


@given(documents({**ITEM, "items": [ITEM, {"op": "cancel", "job_id": "a"}]}))
@fuzz
def test_bodies_that_the_nas_is_sent(data: bytes) -> None:
    """Provision, cancel and batch: a wish, or a refusal with a status of its own."""
    try:
        document = bodies.read_object(data)
    except BadRequestError as error:
        refused(error)
        return
    for read in (
        lambda: bodies.provision(document, AGENT, CallbackPolicy(), 10),
        lambda: bodies.cancel(document, AGENT),
        lambda: bodies.batch(document, AGENT, CallbackPolicy(), 10, most=100),
    ):
        try:
            assert read() is not None
        except BadRequestError as error:
            refused(error)


# -- what NAS answers -------------------------------------------------------------------------------------------------

LIST = {
    "armed": [{"job_id": "a", "fire_at": T.isoformat(), "schedule_id": "s", "state": "armed"}],
    "next_cursor": "c", "features": ["batch"], "error": "e", "message": "m", "generation": 3, "schedule_id": "s",
    "state": "armed", "ok": True,
}  # fmt: skip


@given(documents(LIST), st.integers(100, 599), TEXT)
@fuzz
def test_answers_of_the_nas(data: bytes, status: int, redirect: str) -> None:
    """Whatever status and body: an error of ours of one bounded line without the token, or values of their types."""
    reply = NasReply(status=status, body=data, nas="NAS", redirect=redirect)
    trouble = answers.judge(reply, token="canary", origin="a file")
    if trouble is not None:
        assert len(trouble.error.line()) < 1_500
        assert "canary" not in trouble.error.line()
    for read in (
        lambda: answers.read_page(reply),
        lambda: answers.read_arm_answer(reply, answers.read_object(reply)),
    ):
        try:
            assert read() is not None
        except ChronosError as error:
            one_line(error.line())


DATES = st.sampled_from(
    ["Fri, 20 Nov 2026 15:34:15 GMT", "Fri, 20 Nov 2026 15:34:15 -2359", "Mon, 01 Jan 0001 00:00:00 +2359",
     "Fri, 31 Dec 9999 23:59:59 -2359", "Fri, 20 Nov 99999 15:34:15 GMT", "20-Nov-26 15:34", "-1", "1e3", "٣", "9" * 400]
)  # fmt: skip


@given(DATES | TEXT, DATES | TEXT)
@fuzz
def test_times_in_headers(wait: str, date: str) -> None:
    """Retry-After and Date: seconds from 0 on, an aware instant, or nothing."""
    moment = answers.read_date(date)
    assert moment is None or moment.tzinfo is not None
    asked = answers.read_wait(wait, moment, time.time())
    assert asked is None or 0 <= asked <= 366 * 86_400
    asked = retry_after_s(wait, time.time())
    assert asked is None or asked >= 0


# -- documents of the store -------------------------------------------------------------------------------------------

ROW = {
    "job_id": "a", "run_id": "20261120T120000Z", "state": "running", "scheduled_at": T.isoformat(), "attempt": 1,
    "created_at": T.isoformat(), "started_at": T.isoformat(), "finished_at": None, "starter": "t",
    "lease_ends_at": T.isoformat(), "owner": {"machine": {"boot": "b"}, "pid": 1, "started": 2, "lock": "/x"},
    "attempts": [{"state": "failed", "reason": "r"}], "reason": None, "output": None,
}  # fmt: skip
ARM = {
    "fire_at": T.isoformat(), "callback_url": "https://a.example", "generation": 3, "state": "confirmed",
    "sent_at": T.isoformat(), "notes": [{"outcome": "gone", "fire_at": None, "at": T.isoformat()}], "keys": {"k": "v"},
}  # fmt: skip


def repository(key: str, data: bytes) -> Repository:
    store = MemoryStore()
    store.create(key, data)
    return Repository(store, sleep=lambda _: None, random=lambda: 0.5)


@given(documents(ROW))
@fuzz
def test_rows(data: bytes) -> None:
    """A row of a run is read, or is an error of the store's."""
    found = repository("cron/runs/a/20261120T120000Z.json", data)
    try:
        stored = found.rows.get("a", "20261120T120000Z")
        assert stored is not None
        json.dumps(stored.value.to_json())
    except ChronosError as error:
        one_line(error.line())


@given(documents(ARM))
@fuzz
def test_arm_documents(data: bytes) -> None:
    """What was sent to NAS for a job is read, or is an error of the store's."""
    found = repository("cron/arms/a.json", data)
    try:
        stored = found.arms.get("a")
        if stored is not None:
            json.dumps(stored.value.to_json())
    except ChronosError as error:
        one_line(error.line())


@given(documents({"jobs": [record(policy={"retries": 1, "grace": 60}), record(id="k")], "updated_at": T.isoformat()}))
@fuzz
def test_jobs(data: bytes) -> None:
    """jobs.json is read, or is an error; of its records each is a job, or an error that leaves the others alone."""
    try:
        records = repository("cron/jobs.json", data).jobs().records
    except ChronosError as error:
        one_line(error.line())
        return
    for one in records:
        if one.problem is None:
            try:
                assert parse_job(one.value, HOME).id
            except ChronosError as error:
                one_line(error.line())


@given(changed([record()]) | JSON)
@fuzz
def test_imported_records(document: object) -> None:
    """An exported document is a list of records with ids, or a usage error."""
    try:
        assert isinstance(records_in(document), list)
    except UsageError as error:
        one_line(error.line())


# -- files of a person ------------------------------------------------------------------------------------------------

CONFIG = {
    "timezone": "UTC", "store": "", "cron": {"provider": "chronos", "chronos": {"portal_url": "https://a.example"}},
    "trust": {"keys_max_age": "5m", "max_token_life": 3600}, "policy": {"grace": "1h"}, "profiles": {"a": "/b"},
}  # fmt: skip
YAML = st.sampled_from(
    [b"a: &a [*a]\n", b"!!python/object/apply:os.system [id]\n", b"<<: {a: 1}\n", b"? [a]\n: b\n", b"a: !!binary x\n",
     b"%YAML 9.9\n---\n", b"timezone: 2026-13-99\n", b"a: 0o9\n", b"a: 1_0:61\n", b"\tb: 1\n", b"a: \xff\n"]
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(documents(CONFIG) | YAML)
@fuzz
def test_configuration(folder: Path, data: bytes) -> None:
    """config.yaml is read, or is a configuration error of one line."""
    (folder / "config.yaml").write_bytes(data)
    try:
        load_config(environ={}, home=str(folder))
    except ConfigError as error:
        one_line(error.line())


def _as_a_file(text: str) -> bytes:
    """A text as a file holds it."""
    return text.encode("utf-8", "surrogatepass")


MACHINE = Machine(
    user="u", folder="/home/u", zone_name="UTC", is_user=lambda name: name == "root", is_program=lambda *_: False
)


FIELD = st.sampled_from(
    ["*", "*/5", "0", "1-5", "mon", "@daily", "@reboot", "A=b", "#", "%", "\\%", "99", "L", "?", "~"]
)


@given(st.lists(st.lists(FIELD | TEXT, max_size=8).map(" ".join), max_size=4).map("\n".join).map(_as_a_file) | NOISE)
@fuzz
def test_crontabs(table: bytes) -> None:
    """A crontab gives drafts, or names its first line that cannot be understood."""
    try:
        read_crontab(table, MACHINE, zone_name="UTC", now=datetime(2026, 11, 20, tzinfo=UTC))
    except UsageError as error:
        one_line(error.line())


@given(documents({"at": T.isoformat(), "code": "audience", "message": "m", "hint": "h"}))
@fuzz
def test_the_note_of_a_refusal(folder: Path, data: bytes) -> None:
    """The doctor's note is read, or there is none."""
    (folder / "refused.json").write_bytes(data)
    found = last_refused(folder)
    assert found is None or found.at.tzinfo is not None
