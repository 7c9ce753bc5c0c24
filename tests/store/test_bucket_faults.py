"""What becomes of a write to a bucket when the network or the service misbehaves, shown before a real S3 API."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from chronos_cli.errors import ChronosError, ConfigError, StoreError, TemporaryError
from chronos_cli.store.bucket import BucketStore
from chronos_cli.store.interface import JOBS_KEY, OutcomeUnknown, VersionConflict
from chronos_cli.store.open import open_store
from chronos_cli.store.proof import MARKER_KEY, ensure_proven, prove_compare_and_swap
from tests.conftest import ROOT, require_module
from tests.store.conftest import S3_SECRET
from tests.store.faulty_proxy import FaultyProxy


@pytest.fixture
def proxy(s3):
    between = FaultyProxy(s3.endpoint.removeprefix("http://"))
    yield between
    between.close()


@pytest.fixture
def store(s3, proxy):
    return replace(s3, endpoint=proxy.url).open()


def on_put(fault):
    return lambda method, _path: fault if method == "PUT" else None


def test_a_lost_answer_to_a_write_that_happened_is_an_unknown_outcome(s3, proxy, store):
    """The answer is cut after the service has written: the writer is told so, and finds its bytes by reading."""
    proxy.fault = on_put(proxy.LOSE_ANSWER)
    with pytest.raises(OutcomeUnknown):
        store.create(JOBS_KEY, b"mine")
    first = s3.open().read(JOBS_KEY)
    assert first.data == b"mine"
    with pytest.raises(OutcomeUnknown):
        store.replace(JOBS_KEY, b"mine again", first.version)
    assert store.read(JOBS_KEY).data == b"mine again"
    assert [method for method, _ in proxy.seen].count("PUT") == 2, "a write was sent twice"


def test_a_write_that_never_arrived_is_an_unknown_outcome_too(s3, proxy, store):
    """The connection ends before the service saw the write: nothing tells the cases apart, so the outcome is unknown."""
    proxy.fault = on_put(proxy.LOSE_REQUEST)
    with pytest.raises(OutcomeUnknown):
        store.create(JOBS_KEY, b"mine")
    assert s3.open().read(JOBS_KEY) is None


def test_a_claim_survives_a_lost_answer(s3, proxy, store):
    """A change made through the repository counts once when its answer is lost: the reload finds its token."""
    from chronos_cli.store.repository import Repository

    s3.open().create(JOBS_KEY, json.dumps({"jobs": [{"id": "a", "token": None, "claims": 0}]}).encode())
    losses = [proxy.LOSE_ANSWER]
    proxy.fault = lambda method, path: losses.pop() if method == "PUT" and "jobs.json" in path and losses else None

    def claim(jobs):
        value = jobs.get("a")
        if value["token"] is None:
            jobs.put("a", {**value, "token": "mine", "claims": value["claims"] + 1})
            return "mine"
        return value["token"]

    assert Repository(store, sleep=lambda _s: None, random=lambda: 0.5).change(claim) == "mine"
    assert not losses
    assert json.loads(s3.open().read(JOBS_KEY).data)["jobs"] == [{"id": "a", "token": "mine", "claims": 1}]


@pytest.mark.parametrize("status", [409, 412])
def test_a_refused_condition_is_a_conflict(s3, proxy, store, status):
    """412 (the condition does not hold) and 409 (another write is under way) both mean: load and decide again."""
    version = s3.open().create(JOBS_KEY, b"1")
    proxy.fault = on_put(status)
    with pytest.raises(VersionConflict):
        store.create("cron/other.json", b"2")
    with pytest.raises(VersionConflict):
        store.replace(JOBS_KEY, b"2", version)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_fault_on_a_write_is_an_unknown_outcome(proxy, store, status):
    """A gateway that answers 5xx may have passed the write on."""
    proxy.fault = on_put(status)
    with pytest.raises(OutcomeUnknown, match=f"answered {status}"):
        store.create(JOBS_KEY, b"1")


def test_a_passing_fault_on_a_read_is_tried_again(s3, proxy, store):
    """One 503 on a read goes unnoticed."""
    s3.open().create(JOBS_KEY, b"1")
    faults = [503]
    proxy.fault = lambda _method, _path: faults.pop() if faults else None
    assert store.read(JOBS_KEY).data == b"1"


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (503, TemporaryError, 75),
        (429, TemporaryError, 75),
        (403, StoreError, 1),
        (401, StoreError, 1),
        (400, StoreError, 1),
    ],
)
def test_a_failing_service_is_reported_and_never_read_as_no_jobs(proxy, store, status, kind, exit_code):
    """Every way of a read to fail is an error in one clean line, with what can be done, and no secret in it."""
    proxy.fault = lambda _method, _path: status
    for attempt in (lambda: store.read(JOBS_KEY), lambda: store.list("cron/"), lambda: store.delete(JOBS_KEY)):
        with pytest.raises(kind) as caught:
            attempt()
        line = caught.value.line()
        assert caught.value.exit_code == exit_code
        assert f"answered {status}" in line
        assert store.location in line
        assert S3_SECRET not in line
        assert "key-id" not in line


def test_a_server_that_ignores_conditions_is_found_out(s3, proxy, store):
    """Behind a proxy that drops If-Match and If-None-Match, the proof refuses the store, and no marker is left."""
    proxy.ignore_conditions = True
    with pytest.raises(StoreError, match="made a document that existed"):
        prove_compare_and_swap(store)
    with pytest.raises(StoreError):
        ensure_proven(store)
    assert s3.open().read(MARKER_KEY) is None
    assert s3.open().list("cron/") == []


def test_a_server_that_ignores_the_condition_of_a_change_is_found_out(proxy, store, monkeypatch):
    """A server that keeps If-None-Match alone is refused as well."""
    create = BucketStore.create

    def strict_create(self, key, data, **more):
        proxy.ignore_conditions = False
        try:
            return create(self, key, data, **more)
        finally:
            proxy.ignore_conditions = True

    monkeypatch.setattr(BucketStore, "create", strict_create)
    with pytest.raises(StoreError, match="took a write with an old version"):
        prove_compare_and_swap(store)


def test_a_proof_without_answers_is_no_verdict(proxy, store):
    """A proof whose answers are lost asks to try again: it neither passes nor condemns the store."""
    proxy.fault = on_put(proxy.LOSE_ANSWER)
    with pytest.raises(TemporaryError, match="could not be found out"):
        prove_compare_and_swap(store)


def test_a_missing_bucket_is_an_error(bucket):
    """A bucket or container that does not exist is never an empty store."""
    scheme, _, rest = bucket.url.partition("://")
    store = replace(bucket, url=f"{scheme}://no-such-{rest}").open()
    for attempt in (
        lambda: store.read(JOBS_KEY),
        lambda: store.read("cron/arms/a.json"),
        lambda: store.create(JOBS_KEY, b""),
    ):
        with pytest.raises(StoreError, match="does not exist"):
            attempt()


def test_a_server_that_is_not_there_asks_to_try_again(s3):
    """Where nothing listens, reading and writing both say that the service cannot be reached."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        store = replace(s3, endpoint=f"http://127.0.0.1:{free.getsockname()[1]}").open()
        for attempt in (lambda: store.read(JOBS_KEY), lambda: store.create(JOBS_KEY, b"")):
            with pytest.raises(TemporaryError, match="cannot be reached"):
                attempt()


@pytest.mark.parametrize(
    ("url", "endpoint", "said"),
    [
        ("s3://", None, "is not a store"),
        ("s3://user:secret@bucket/x", None, "holds credentials"),
        ("az://container/x?sig=secret", None, "holds credentials"),
        ("s3://bucket/x", "http://storage.example.com", "plain http to another machine"),
        ("s3://bucket/x", "https://user:secret@storage.example.com", "not an endpoint"),
        ("s3://bucket/x", "storage.example.com", "not an endpoint"),
        ("gs://bucket/x", "https://storage.example.com", "no other endpoint"),
        ("ftp://bucket/x", None, "no store can be at ftp://"),
    ],
)
def test_a_store_that_cannot_be_meant_is_refused(url, endpoint, said):
    """A URL with credentials, an unknown scheme or an endpoint in the clear is a configuration error, told without the secret."""
    require_module("obstore")
    with pytest.raises(ConfigError, match=said) as caught:
        open_store(url, endpoint=endpoint, lock_timeout_s=1)
    assert "secret" not in caught.value.line()


def test_the_environment_cannot_turn_plain_http_on(s3, proxy, monkeypatch):
    """Plain http named by the provider's own variables is not spoken: only an endpoint that we checked may be."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with pytest.raises(ChronosError, match="refused"):
        BucketStore(s3.url).read(JOBS_KEY)
    assert proxy.seen == []


def test_a_missing_package_is_named(tmp_path):
    """Without the optional package, a bucket's URL is answered with what to install."""
    (tmp_path / "obstore.py").write_text("raise ImportError")
    code = (
        "from chronos_cli.store.open import open_store\nfrom chronos_cli.errors import ConfigError\n"
        "try:\n    open_store('s3://b/x', lock_timeout_s=1)\nexcept ConfigError as error:\n    print(error.line())"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "pip install '.[bucket]'" in done.stdout
