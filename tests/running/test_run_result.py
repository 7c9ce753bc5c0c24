"""What stands beside a run's lock: whether its job was begun, and how it ended; readable whatever becomes of the rest."""

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chronos_cli.core.row import RunResult, RunState
from chronos_cli.running.errors import LockDirError
from chronos_cli.running.liveness import LivenessProbe, liveness, read_result
from chronos_cli.running.local import result_of
from chronos_cli.running.lock import LOCK_BYTES, RunLock, remove_lock

RESULT = RunResult(
    state=RunState.FAILED,
    finished_at=datetime(2026, 11, 20, 15, 34, 15, tzinfo=UTC),
    exit_status=3,
    reason="exited with status 3: é\n",
    output="cron/output/job/run-1.log",
)


RUN = ("job", "run-1")


def owner_of(lock):
    """As the row would give it back."""
    return json.loads(json.dumps(lock.owner()))


def test_a_result_is_read_while_the_lock_is_held_and_after(lock, places):
    """Whoever looks finds how the run ended, whether or not its own process is still busy with the row."""
    owner = owner_of(lock)
    assert read_result(places, owner, *RUN) is None
    lock.record_begun()
    lock.record_group(os.getpid())
    assert read_result(places, owner, *RUN) is None
    lock.record_result(RESULT.to_json(), durable=True)
    assert result_of(read_result(places, owner, *RUN)) == RESULT
    assert liveness(places, owner, *RUN) is LivenessProbe.ALIVE
    lock.release(keep=True)
    assert liveness(places, owner, *RUN) is LivenessProbe.DEAD
    assert result_of(read_result(places, owner, *RUN)) == RESULT
    remove_lock(places, owner, *RUN)
    assert not Path(lock.path).exists()
    assert read_result(places, owner, *RUN) is None
    remove_lock(places, owner, *RUN)


def test_a_result_counts_from_another_boot_and_only_with_its_token(lock, places):
    """A boot that is over since does not make what was written down less true; another run's token does."""
    lock.record_result(RESULT.to_json(), durable=False)
    owner = owner_of(lock) | {"machine": {"boot": "another"}, "pid": 1}
    assert result_of(read_result(places, owner, *RUN)) == RESULT
    assert read_result(places, owner | {"token": "0" * 16}, *RUN) is None
    os.pwrite(lock.fd, json.dumps({"token": "0" * 16, **RESULT.to_json()}).encode().ljust(2000), 1024)
    assert read_result(places, owner, *RUN) is None


@pytest.mark.parametrize("reason", ["x" * 10_000, "\N{SNOWMAN}" * 3_000, '"' * 5_000])
def test_a_long_reason_is_cut_to_its_place(lock, places, reason):
    """The file never grows: what was allocated with the lock is all that the result needs."""
    lock.record_result(RESULT.to_json() | {"reason": reason}, durable=False)
    found = read_result(places, owner_of(lock), *RUN)
    assert found["state"] == "failed"
    assert reason.startswith(found["reason"])
    assert len(found["reason"]) > 100
    assert os.fstat(lock.fd).st_size == LOCK_BYTES


def test_notes_and_results_fill_space_that_is_there_already(lock):
    """A disk that is full by the end of the run cannot refuse its result: no block is added after the lock was taken."""
    before = os.fstat(lock.fd)
    lock.record_begun()
    lock.record_group(os.getpid())
    lock.record_result(RESULT.to_json(), durable=True)
    after = os.fstat(lock.fd)
    assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)
    assert before.st_size == LOCK_BYTES
    assert before.st_blocks * 512 >= LOCK_BYTES


def test_a_disk_without_room_for_the_result_gives_no_lock(lock_dir, places, monkeypatch):
    """It is refused before anything runs, and nothing is left behind."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LockDirError, match="No space left on device"):
        RunLock.acquire(places, *RUN)
    assert list(lock_dir.iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        b"\0" * 3000,
        b"[" * 3000,
        b'{"token": "TOKEN"}',
        b'{"token": "TOKEN", "state": "running", "finished_at": "2026-11-20T15:34:15+00:00"}',
        b'{"token": "TOKEN", "state": "ok", "finished_at": "2026-11-20T15:34:15"}',
        b'{"token": "TOKEN", "state": "ok", "finished_at": 5}',
        b'{"token": "TOKEN", "state": "ok", "finished_at": "2026-11-2',
    ],
)
def test_what_is_cut_or_garbage_is_no_result(lock, places, spoil):
    """A crash may tear the file; then the run is judged as if nothing had been said."""
    os.pwrite(lock.fd, spoil.replace(b"TOKEN", lock.token.encode()), 1024)
    assert result_of(read_result(places, owner_of(lock), *RUN)) is None
