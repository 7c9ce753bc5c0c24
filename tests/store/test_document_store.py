"""What every place for documents promises, shown on a disk, on a real S3 API and on a real Azure API."""

import json

import pytest

from chronos_cli.store.interface import JOBS_KEY, VersionConflict, check_key
from chronos_cli.store.proof import MARKER_KEY, ensure_proven, prove_compare_and_swap
from tests.conftest import thoroughly

ROW = "cron/runs/a/20261120T153415Z.json"
RACERS = thoroughly(20, 8)
KEYS = pytest.mark.parametrize("key", [JOBS_KEY, ROW])


@KEYS
def test_a_document_is_made_once_read_back_and_removed(place, key):
    """A document that is not there is None; made, it has exactly its bytes; made again, it is refused."""
    store = place.open()
    assert store.read(key) is None
    data = bytes(range(256)) * 5000
    version = store.create(key, data)
    found = store.read(key)
    assert (found.data, found.version) == (data, version)
    with pytest.raises(VersionConflict):
        store.create(key, b"other")
    store.delete(key)
    store.delete(key)
    assert store.read(key) is None


@KEYS
def test_only_the_version_that_was_read_can_be_replaced(place, key):
    """A write at an old version, or of a document that is gone, is refused and changes nothing."""
    store = place.open()
    first = store.create(key, b"1")
    second = store.replace(key, b"2", first)
    assert first != second
    with pytest.raises(VersionConflict):
        store.replace(key, b"3", first)
    assert store.read(key).data == b"2"
    third = store.replace(key, b"4", second, durable=False)
    assert store.read(key).version == third
    store.delete(key)
    with pytest.raises(VersionConflict):
        store.replace(key, b"5", third)
    assert store.read(key) is None


def test_a_version_never_comes_back(place):
    """Many quick writes never give one document the same version twice while its bytes differ."""
    store = place.open()
    version = store.create(ROW, b"00")
    seen = {version}
    for number in range(1, 30):
        version = store.replace(ROW, b"%02d" % number, version, durable=False)
        assert version not in seen
        seen.add(version)


def test_listing_gives_sorted_keys_below_the_prefix(place):
    """A listing has what is below its prefix, whole keys, in order; an unknown prefix has nothing."""
    store = place.open()
    for key in ("cron/runs/b/2.json", "cron/runs/a/1.json", "cron/runs/b/1.json", "cron/runs/bb/1.json", "cron/x.json"):
        store.create(key, b"{}", durable=False)
    assert list(store.list("cron/runs/")) == [
        "cron/runs/a/1.json",
        "cron/runs/b/1.json",
        "cron/runs/b/2.json",
        "cron/runs/bb/1.json",
    ]
    assert list(store.list("cron/runs/b/")) == ["cron/runs/b/1.json", "cron/runs/b/2.json"]
    assert list(store.list("cron/none/")) == []


def test_of_many_processes_making_one_row_one_wins(place):
    """All of them claim one occurrence by making its row: one makes it, and its bytes stand there."""
    workers = [place.start("create", key=ROW) for _ in range(RACERS)]
    printed = place.race(workers)
    assert sorted(printed) == ["lost"] * (RACERS - 1) + ["won"]
    assert place.open().read(ROW).data == str(workers[printed.index("won")].pid).encode()


@KEYS
def test_of_many_processes_replacing_one_version_one_wins(place, key):
    """All of them claim by replacing the same version: one does, and its bytes stand there."""
    version = place.open().create(key, b"free")
    workers = [place.start("replace", key=key, version=version) for _ in range(RACERS)]
    printed = place.race(workers)
    assert sorted(printed) == ["lost"] * (RACERS - 1) + ["won"]
    assert place.open().read(key).data == str(workers[printed.index("won")].pid).encode()


def test_counting_in_four_processes_loses_nothing(place):
    """Compare-and-swap alone, without any lock around it, lets no increment get lost."""
    place.open().create(ROW, b"0")
    place.race([place.start("count", key=ROW, times=10) for _ in range(4)])
    assert place.open().read(ROW).data == b"40"


def test_compare_and_swap_is_proven_and_leaves_no_trace(place):
    """The proof passes on a place that keeps conditions, and its probe is gone afterwards."""
    store = place.open()
    prove_compare_and_swap(store)
    assert list(store.list("cron/")) == []


def test_claims_in_one_document_from_many_processes_end_without_error(place):
    """Replicas claim all jobs of one document at once: each job has one owner, and no process gives up."""
    replicas, ids = thoroughly(8, 4), [f"job{number}" for number in range(thoroughly(100, 40))]
    document = {"jobs": [{"id": job_id, "claimed_by": None} for job_id in ids]}
    place.open().create(JOBS_KEY, json.dumps(document).encode())
    workers = [place.start("claim_all", ids=ids[at * 12 :] + ids[: at * 12], me=f"p{at}") for at in range(replicas)]
    won = [int(text) for text in place.race(workers)]
    owners = [job["claimed_by"] for job in json.loads(place.open().read(JOBS_KEY).data)["jobs"]]
    assert sum(won) == len(ids)
    assert [owners.count(f"p{at}") for at in range(replicas)] == won


def test_a_bucket_is_proven_once(bucket):
    """The first proof leaves a marker good for this location alone, and the next process writes no probe."""
    store = bucket.open()
    ensure_proven(store)
    marker = store.read(MARKER_KEY)
    ensure_proven(bucket.open())
    assert store.read(MARKER_KEY) == marker
    copied = json.dumps({"compare_and_swap": "proven", "location": "s3://elsewhere"}).encode()
    store.replace(MARKER_KEY, copied, marker.version)
    ensure_proven(store)
    assert store.read(MARKER_KEY).data == marker.data


@pytest.mark.parametrize("key", ["", "/etc/passwd", "cron/../../x", "cron//x", "./x", "cron/\0"])
def test_a_key_cannot_lead_out_of_the_store(key):
    """A key that names anything but a place inside the store is a fault."""
    with pytest.raises(ValueError, match="not a document key"):
        check_key(key)
