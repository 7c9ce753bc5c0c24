"""Hints about a bucket: each fault is brought about at a real service, and gone once the hint was followed."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace

import pytest

from chronos_cli.errors import ChronosError
from chronos_cli.store.bucket import BucketStore
from chronos_cli.store.interface import JOBS_KEY
from chronos_cli.store.proof import ensure_proven
from tests.cli.conftest import chronos, clean_environment  # noqa: F401 - fixtures
from tests.conftest import require_module
from tests.errors.hinted import tries
from tests.store.conftest import AZURE_ACCOUNT, AZURE_KEY, ask
from tests.store.faulty_proxy import FaultyProxy


@pytest.fixture
def proxy(s3):
    made = FaultyProxy(s3.endpoint.removeprefix("http://"))
    yield made
    made.close()


def hint_of(work):
    """The hint of the error that `work` raises."""
    with pytest.raises(ChronosError) as refused:
        work()
    return refused.value.hint


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (403, "check the credentials and their rights: reading, writing, deleting and listing are needed"),
        (400, "nothing was changed; check the store's URL, region and endpoint"),
        (429, "try again; `chronos doctor` shows what the store answers"),
    ],
)
@tries("store/bucket.py", "check the credentials and their rights: reading, writing, deleting and listing are needed")
@tries("store/bucket.py", "nothing was changed; check the store's URL, region and endpoint")
@tries("store/bucket.py", "try again; `chronos doctor` shows what the store answers")
def test_a_service_that_refuses_is_read_once_it_does_not(s3, proxy, status, hint):
    """Each answer has its hint; with what it names put right, at the same place, the store is read."""
    store = replace(s3, endpoint=proxy.url).open()
    proxy.fault = lambda _method, _path: status
    assert hint_of(lambda: store.read(JOBS_KEY)) == hint
    proxy.fault = lambda _method, _path: None
    assert store.read(JOBS_KEY) is None


@tries("store/bucket.py", "try again; `chronos doctor` shows what the store answers")
def test_a_store_that_does_not_answer_is_shown_by_the_doctor(chronos, s3, tmp_path):  # noqa: F811
    """The doctor says what the hint promises, and nothing of it once the store answers."""
    home = tmp_path / "h"
    home.mkdir()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        there = {"CHRONOS_STORE": s3.url, "CHRONOS_STORE_ENDPOINT": s3.endpoint}
        gone = {**there, "CHRONOS_STORE_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}"}
        listed = chronos("list", home=home, env=gone)
        assert (listed.code, "try again; `chronos doctor` shows what the store answers" in listed.err) == (75, True)
        assert "it cannot be reached" in chronos("doctor", home=home, env=gone).out
    assert chronos("list", home=home, env=there).code == 0
    assert "it cannot be reached" not in chronos("doctor", home=home, env=there).out


@tries("store/bucket.py", "plain http is for loopback only; give the server as CHRONOS_STORE_ENDPOINT")
def test_a_server_is_named_where_the_hint_says(s3, monkeypatch):
    """The provider's own variable is not taken for a server in the clear; ours is, on this machine."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    words = "plain http is for loopback only; give the server as CHRONOS_STORE_ENDPOINT"
    assert hint_of(lambda: BucketStore(s3.url).read(JOBS_KEY)) == words
    assert BucketStore(s3.url, endpoint=s3.endpoint).read(JOBS_KEY) is None


@tries("store/bucket.py", "make the bucket (or container), or correct the store's URL")
def test_a_bucket_that_is_made_is_a_store(s3):
    """It is refused while it is not there, and empty once it was made."""
    url = s3.url.replace("s3://", "s3://later-")
    words = "make the bucket (or container), or correct the store's URL"
    assert hint_of(lambda: replace(s3, url=url).open().read(JOBS_KEY)) == words
    assert ask(s3.endpoint.removeprefix("http://"), "PUT", f"/{url.split('/')[2]}", {}) == 200
    assert replace(s3, url=url).open().read(JOBS_KEY) is None


@tries("store/proof.py", "use a service with conditional writes (If-Match, If-None-Match); this one cannot hold claims")
def test_a_service_with_conditional_writes_is_taken(s3, proxy):
    """Behind a proxy that drops the conditions it is refused; without it, it is good."""
    proxy.ignore_conditions = True
    words = "use a service with conditional writes (If-Match, If-None-Match); this one cannot hold claims"
    assert hint_of(lambda: ensure_proven(replace(s3, endpoint=proxy.url).open())) == words
    ensure_proven(s3.open())


@tries("store/bucket.py", "install the extra: in the checkout, pip install '.[bucket]")
def test_a_bucket_without_its_package_names_what_to_install(s3, monkeypatch):
    """With the package that is in the extra it is a store."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "obstore.store", None)
        assert hint_of(s3.open) == "install the extra: in the checkout, pip install '.[bucket]'"
    assert s3.open().read(JOBS_KEY) is None


@tries("store/bucket.py", "set the provider's usual variables: AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*")
def test_a_bucket_is_described_by_the_variables_of_the_hint(monkeypatch):
    """Without the account of Azure there is no place; with it there is one."""
    require_module("obstore")
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    words = "set the provider's usual variables: AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*"
    assert hint_of(lambda: BucketStore("az://b/x")) == words
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", AZURE_ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY)
    BucketStore("az://b/x")
