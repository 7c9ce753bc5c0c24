"""The memory of used tokens at its edges: names, races that are lost again and again, what is removed when, what is closed."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from chronos_cli.trust import jti
from chronos_cli.trust.jti import bind_jti, check_memory
from chronos_cli.trust.token_errors import JtiReusedError
from tests.trust.test_jti import NOW, bind, claims

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = int(NOW.timestamp())


def names(cache: Path) -> list[str]:
    return sorted(os.listdir(cache / "jti"))  # noqa: PTH208 - names alone


def test_without_a_clock_of_the_callers_the_machines_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that tells no end is remembered an hour from now."""
    monkeypatch.setattr(jti, "time", SimpleNamespace(time=lambda: SECONDS + 0.9))
    bind_jti(claims(expires=None), "j1", NOW, tmp_path)
    (entry,) = [entry for entry in (tmp_path / "jti").iterdir() if entry.is_symlink()]
    assert os.readlink(entry).startswith(f"{SECONDS + 3600 + 60}:j1:")  # noqa: PTH115 - it leads nowhere


def test_a_proof_of_the_memory_leaves_nothing_and_fails_where_nothing_can_be_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that can be opened proves nothing yet."""
    check_memory(tmp_path)
    assert names(tmp_path) == []

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "symlink", full)
    with pytest.raises(OSError, match="no space left"):
        check_memory(tmp_path)


def test_a_token_of_a_hundred_bytes_is_named_by_them_and_a_longer_one_by_its_digest(tmp_path: Path) -> None:
    """Another name would forget what an earlier version has bound."""
    bind(claims("x" * 100), tmp_path)
    assert f"hex-{b'x'.hex() * 100}" in names(tmp_path)
    bind(claims("x" * 101), tmp_path)
    assert [name[:7] for name in names(tmp_path)] == [".pruned", "hex-787", "sha256-"]


@pytest.mark.parametrize("theirs", ["j1", "j2"])
def test_who_loses_the_race_each_time_is_told_what_the_token_is_bound_to(
    theirs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever won may have bound it to the same occurrence."""
    looked = []

    def taken(*_: object, **__: object) -> None:
        raise FileExistsError(errno.EEXIST, "it is there")

    def found(place: object) -> tuple[int, str]:
        """Return what stands there: each time another entry that has expired."""
        looked.append(place)
        return 0, f"{theirs}:{NOW.isoformat()}"

    monkeypatch.setattr(os, "symlink", taken)
    monkeypatch.setattr(jti, "_read", found)
    if theirs == "j1":
        bind(claims(), tmp_path)
    else:
        with pytest.raises(JtiReusedError, match="only with j2"):
            bind(claims(), tmp_path)
    assert len(looked) == 5 + 1


@pytest.mark.parametrize(
    "now", [NOW, datetime.fromtimestamp(0, UTC)], ids=["by a clock", "as a machine without one starts"]
)
def test_a_link_that_nobody_here_wrote_counts_for_nothing(now: datetime, tmp_path: Path) -> None:
    """Whatever the time."""
    (tmp_path / "jti").mkdir(parents=True)
    (tmp_path / "jti" / f"hex-{b'a1'.hex()}").symlink_to("somewhere")
    bind(claims(expires=now + timedelta(seconds=90)), tmp_path, now=now)


def test_what_has_expired_goes_every_half_minute_and_at_its_second(tmp_path: Path) -> None:
    """Between two looks nothing is looked at; what another program put there is not ours to remove."""
    bind(claims(), tmp_path)
    folder = tmp_path / "jti"
    for name, until in (("over", SECONDS + 30), ("good", SECONDS + 31)):
        (folder / name).symlink_to(f"{until}:j")
    (folder / "file").write_text("0:j")
    for name in ("before", "another"):
        (folder / name).symlink_to("1:j")
    for later in (0, 1, 29):
        bind(claims(), tmp_path, now=NOW + timedelta(seconds=later))
        assert "before" in names(tmp_path)
    bind(claims(), tmp_path, now=NOW + timedelta(seconds=30))
    assert not {"before", "another", "over"} & set(names(tmp_path))
    assert {"good", "file"} <= set(names(tmp_path))
    (folder / "before").symlink_to("1:j")
    bind(claims(), tmp_path, now=NOW + timedelta(seconds=59))
    assert "before" in names(tmp_path)
    bind(claims(), tmp_path, now=NOW + timedelta(seconds=29))  # a clock that was set back looks at once
    assert "before" not in names(tmp_path)


def test_the_mark_of_the_last_look_is_not_followed_and_no_descriptor_stays_open(tmp_path: Path) -> None:
    """A link in its place may lead to a file of somebody else."""
    target = tmp_path / "target"
    target.write_text("mine")
    os.utime(target, (1, 1))
    (tmp_path / "jti").mkdir()
    (tmp_path / "jti" / ".pruned").symlink_to(target)
    opened = []
    for later in range(0, 400, 100):
        bind(claims(), tmp_path, now=NOW + timedelta(seconds=later))
        opened.append(len(os.listdir("/dev/fd")))  # noqa: PTH208 - numbers
    assert target.stat().st_mtime == 1
    assert opened[-1] == opened[0]
