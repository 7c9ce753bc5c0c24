"""A `jti` is good for the occurrence that it first came with, in every process of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from chronos_cli.trust import FireClaims, bind_jti
from chronos_cli.trust.jti import JtiMemoryError
from chronos_cli.trust.token_errors import JtiReusedError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 15, 34, 15, tzinfo=UTC)


def claims(jti: str | None = "a1", *, lives: float = 90, **values: Any) -> FireClaims:
    fields: dict[str, Any] = {"job_id": None, "fire_at": None, "issued": None, "claims": {}}
    return FireClaims(**{**fields, "jti": jti, "expires": NOW + timedelta(seconds=lives), **values})


def bind(token: FireClaims, cache: Path, job: str = "j1", at: datetime | None = NOW, now: datetime = NOW) -> None:
    bind_jti(token, job, at, cache, now=lambda: now)


def entries(cache: Path) -> int:
    return sum(entry.is_symlink() for entry in os.scandir(cache / "jti"))


def test_same_occurrence_again_is_honest(tmp_path: Path) -> None:
    """A redelivery with the same token passes, however often and however its instant is written."""
    for at in (NOW, NOW + timedelta(milliseconds=5), NOW.astimezone()):
        bind(claims(), tmp_path, at=at)
    bind(claims(fire_at=NOW), tmp_path, at=None)


@pytest.mark.parametrize("other", [{"job": "j2"}, {"at": NOW + timedelta(seconds=1)}, {"at": None}])
def test_other_occurrence_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    """The same `jti` with another job or another time is refused, also in a token with another expiry."""
    bind(claims(), tmp_path)
    with pytest.raises(JtiReusedError, match="only with j1:2026-11-20T15:34:15") as caught:
        bind(claims(lives=600), tmp_path, **other)
    assert caught.value.code == "jti_reused"
    bind(claims(), tmp_path)


def test_other_jti_is_free(tmp_path: Path) -> None:
    """Each `jti` has its own binding, whatever characters it is made of."""
    names = ["a", "A", "../../etc/passwd", "\x00", "", "é", "\udc80", "x" * 5000, "x" * 5001, ".pruned", "a/b"]
    for number, name in enumerate(names):
        bind(claims(name), tmp_path, job=f"j{number}")
    for number, name in enumerate(names):
        bind(claims(name), tmp_path, job=f"j{number}")
        with pytest.raises(JtiReusedError):
            bind(claims(name), tmp_path, job="other")
    assert entries(tmp_path) == len(names)
    assert {path.name for path in tmp_path.iterdir()} == {"jti"}


def test_token_without_jti_is_left_alone(tmp_path: Path) -> None:
    """Where NAS gives no `jti` there is nothing to bind and nothing to write."""
    bind(claims(None), tmp_path)
    bind(claims(None), tmp_path, job="j2")
    assert not list(tmp_path.iterdir())


def test_binding_ends_after_the_token_does(tmp_path: Path) -> None:
    """The binding holds as long as the token could be accepted, leeway included, and is forgotten then."""
    bind(claims(), tmp_path)
    with pytest.raises(JtiReusedError):
        bind(claims(), tmp_path, job="j2", now=NOW + timedelta(seconds=90 + 31))
    bind(claims(lives=1000), tmp_path, job="j2", now=NOW + timedelta(seconds=90 + 61))
    with pytest.raises(JtiReusedError):
        bind(claims(), tmp_path, now=NOW + timedelta(seconds=90 + 61))


def test_expired_entries_are_removed(tmp_path: Path) -> None:
    """The folder does not grow: what has expired is removed by later fires, now and then."""
    for number in range(50):
        bind(claims(f"t{number}"), tmp_path)
    assert entries(tmp_path) == 50
    bind(claims("later", lives=400), tmp_path, now=NOW + timedelta(seconds=200))
    assert entries(tmp_path) == 1


def test_verifier_that_tells_no_expiry(tmp_path: Path) -> None:
    """Without an expiry a binding is kept for an hour."""
    bind(claims(expires=None), tmp_path)
    with pytest.raises(JtiReusedError):
        bind(claims(expires=None), tmp_path, job="j2", now=NOW + timedelta(minutes=59))
    bind(claims(expires=None), tmp_path, job="j2", now=NOW + timedelta(minutes=61))


def test_one_of_many_threads_wins(tmp_path: Path) -> None:
    """When one `jti` comes for many jobs at once, exactly one job gets it."""
    outcomes: list[str] = []
    barrier = threading.Barrier(16)

    def attempt(job: str) -> None:
        barrier.wait()
        try:
            bind(claims(), tmp_path, job=job)
            outcomes.append("bound")
        except JtiReusedError:
            outcomes.append("refused")

    threads = [threading.Thread(target=attempt, args=(f"j{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["bound"] + ["refused"] * 15


def test_binding_is_shared_by_processes(tmp_path: Path) -> None:
    """What one process bound, another refuses for another job."""
    code = (
        "import sys; from pathlib import Path; from datetime import UTC, datetime, timedelta\n"
        "from chronos_cli.trust import FireClaims, bind_jti\n"
        "now = datetime.now(UTC)\n"
        "claims = FireClaims(job_id=None, fire_at=None, jti='a', issued=None, expires=now + timedelta(hours=1), claims={})\n"
        "bind_jti(claims, sys.argv[2], None, Path(sys.argv[1]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = [
        subprocess.run([sys.executable, "-c", code, tmp_path, job], env=environment, capture_output=True, check=False)
        for job in ("j1", "j1", "j2")
    ]
    assert [process.returncode for process in run] == [0, 0, 1]
    assert b"JtiReusedError" in run[2].stderr


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A token bound to its job and instant goes on, as the claim makes it good once; any other is answered 503."""
    (tmp_path / "cache").write_text("a file")
    bind(claims(job_id="j1", fire_at=NOW), tmp_path / "cache")
    bind(claims(None), tmp_path / "cache")
    for values in ({}, {"job_id": "j1"}, {"fire_at": NOW}):
        with pytest.raises(JtiMemoryError, match="cannot be written") as caught:
            bind(claims(**values), tmp_path / "cache")
        assert (caught.value.http_status, caught.value.exit_code, caught.value.code) == (503, 75, "jti_memory")


def test_home_is_part_of_the_occurrence(tmp_path: Path) -> None:
    """A token seen at `/p/a` fires no job of the same name at `/p/b`, nor on the plain path."""
    bind_jti(claims(), "j1", NOW, tmp_path, home="a", now=lambda: NOW)
    bind_jti(claims(), "j1", NOW, tmp_path, home="a", now=lambda: NOW)
    for home in ("b", None):
        with pytest.raises(JtiReusedError, match="only with a/j1:2026"):
            bind_jti(claims(), "j1", NOW, tmp_path, home=home, now=lambda: NOW)


def test_foreign_file_in_the_place_of_an_entry(tmp_path: Path) -> None:
    """A link that we did not write is replaced, any other file is a memory that cannot be used; neither is followed."""
    target = tmp_path / "target"
    target.write_text("mine")
    bind(claims(), tmp_path)
    (entry,) = [entry for entry in (tmp_path / "jti").iterdir() if entry.is_symlink()]
    entry.unlink()
    entry.symlink_to(target)
    bind(claims(), tmp_path, job="j2")
    assert entry.readlink().name.startswith("1")
    entry.unlink()
    entry.write_text("")
    with pytest.raises(JtiMemoryError):
        bind(claims(), tmp_path, job="j3")
    assert target.read_text() == "mine"
