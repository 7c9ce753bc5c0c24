"""Where run locks lie: one folder for a home, whoever asks, and nobody else's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from real_processes import RUN, program_environment

from chronos_cli.running import lock_place
from chronos_cli.running.errors import LockDirError
from chronos_cli.running.liveness import LivenessProbe, liveness
from chronos_cli.running.lock import RunLock
from chronos_cli.running.lock_place import LockPlace, kind_of, on_network
from chronos_cli.running.machine import machine_identity, start_time

ASK = (
    "import sys; from pathlib import Path; from chronos_cli.running.lock_place import LockPlace\n"
    "print(LockPlace(Path(sys.argv[1]) if sys.argv[1] else None, lambda: '0123456789abcdef').make()[1])"
)
SERVICE, SHELL = {}, {"XDG_RUNTIME_DIR": "/x", "TMPDIR": "/y", "CHRONOS_LOCK_DIR": "/z", "HOME": "/w"}


def made(place):
    fd, path = place.make()
    os.close(fd)
    return Path(path)


@pytest.mark.parametrize("local", [True, False])
def test_a_service_and_a_shell_choose_the_same_folder(tmp_path, local):
    """No variable has a say: a process with none and one with others than ours get one folder."""
    chosen = {
        subprocess.run(
            [sys.executable, "-c", ASK, str(tmp_path) if local else ""],
            env={"PYTHONPATH": program_environment()["PYTHONPATH"], **variables},
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for variables in (SERVICE, SHELL)
    }  # fmt: skip
    assert len(chosen) == 1
    if local:
        assert chosen == {str(tmp_path / "cron" / "locks")}
    else:
        Path(*chosen).rmdir()


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_it_is_private_whatever_the_umask(tmp_path, umask):
    """Folder and lock file have their own modes; what stands too open is closed."""
    (tmp_path / "cron").mkdir()
    before = os.umask(umask)
    try:
        place = LockPlace(tmp_path, str)
        lock = RunLock.acquire(place, *RUN)
    finally:
        os.umask(before)
    folder = tmp_path / "cron" / "locks"
    assert (folder.stat().st_mode & 0o7777, Path(lock.path).stat().st_mode & 0o7777) == (0o700, 0o600)
    folder.chmod(0o777)
    assert liveness(place, lock.owner(), *RUN) is LivenessProbe.ALIVE, "by its pid"
    made(place)
    assert folder.stat().st_mode & 0o777 == 0o700
    lock.release()


def test_a_folder_open_to_others_is_not_asked(tmp_path, lock, lock_dir, places):
    """What others could have written into proves nothing."""
    owner = lock.owner() | {"pid": 1, "started": -1}
    assert liveness(places, owner, *RUN) is LivenessProbe.ALIVE
    lock_dir.chmod(0o770)
    assert liveness(places, owner, *RUN) is LivenessProbe.UNSEEN
    lock_dir.chmod(0o700)
    Path(lock.path).chmod(0o620)
    assert liveness(places, owner, *RUN) is LivenessProbe.UNSEEN
    Path(lock.path).chmod(0o600)
    os.link(lock.path, tmp_path / "second-name")
    assert liveness(places, owner, *RUN) is LivenessProbe.UNSEEN


def test_a_link_of_ours_is_a_folder_like_any_other(tmp_path):
    """Who owns the home may keep its locks elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cron").mkdir()
    (tmp_path / "cron" / "locks").symlink_to(tmp_path / "elsewhere")
    made(LockPlace(tmp_path, str))
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file to another user needs root")
def test_nothing_of_another_user_counts(tmp_path):
    """A folder of somebody else's is refused, a link of theirs not followed, and a lock of theirs not believed."""
    place = LockPlace(tmp_path, str)
    folder = made(place)
    os.chown(folder, 12345, 12345)
    with pytest.raises(LockDirError, match="belongs to user 12345"):
        place.make()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    os.chown(folder, 12345, 12345, follow_symlinks=False)
    with pytest.raises(LockDirError, match="a link of user 12345 is not followed"):
        place.make()
    folder.unlink()
    lock = RunLock.acquire(place, *RUN)
    os.chown(lock.path, 12345, 12345)
    assert liveness(place, lock.owner() | {"pid": 1, "started": -1}, *RUN) is LivenessProbe.UNSEEN
    lock.release()


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder to another user needs root")
def test_root_at_work_in_a_users_home_has_a_folder_of_its_own(tmp_path):
    """Root neither trusts the user's locks nor leaves the user a folder that the user cannot enter."""
    (tmp_path / "cron").mkdir()
    os.chown(tmp_path / "cron", 12345, 12345)
    folder = made(LockPlace(tmp_path, str))
    assert folder == tmp_path / "cron" / "locks-0"
    assert folder.stat().st_uid == 0


def test_a_bucket_has_it_in_the_users_own_folder_named_for_the_store(tmp_path):
    """By the machine's list of users, below a folder that is ours; made whole, and private."""
    folder = made(LockPlace(None, lambda: "id-of-it", machine_home=lambda: str(tmp_path)))
    assert folder == tmp_path / ".local" / "state" / "chronos" / "id-of-it" / "locks"
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.parents[:4])} == {0o700}


@pytest.mark.parametrize("there_is", ["none", "missing", "another's"])
def test_without_such_a_folder_it_has_a_name_that_cannot_be_guessed(monkeypatch, tmp_path, there_is):
    """The last resort is /tmp, under a name made of the store's id; one that somebody has taken is passed by."""
    monkeypatch.setattr(lock_place, "_TEMPORARY", str(tmp_path))
    home = {"none": None, "missing": str(tmp_path / "nowhere"), "another's": "/"}[there_is]
    ids = ["0123456789abcdef", "f" * 16]
    first, second = (made(LockPlace(None, lambda value=value: value, machine_home=lambda: home)) for value in ids)
    assert first.parent == second.parent == tmp_path
    assert first != second
    assert not any(value in str(first) + str(second) for value in ids)
    first.rmdir()
    first.write_text("in the way")
    place = LockPlace(None, lambda: ids[0], machine_home=lambda: home)
    lock = RunLock.acquire(place, *RUN)
    assert Path(lock.path).parent not in (first, second)
    assert (
        liveness(LockPlace(None, lambda: ids[0], machine_home=lambda: home), lock.owner(), *RUN) is LivenessProbe.ALIVE
    )
    first.unlink()
    assert liveness(place, lock.owner() | {"pid": 1, "started": -1}, *RUN) is LivenessProbe.ALIVE, (
        "found in the second place"
    )
    lock.release()


def test_a_network_file_system_is_told_by_the_kernels_table(monkeypatch, tmp_path):
    """A home on one has its locks elsewhere; a kind that nobody names is a disk of this machine."""
    device = tmp_path.stat().st_dev
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(lock_place, "_MOUNTS", str(table))
    monkeypatch.setattr(lock_place.os, "major", lambda _: 0)
    row = f"36 35 0:{os.minor(device)} / /mnt rw,noatime master:1 - {{}} server:/export rw\n"
    for kind, remote in (("nfs4", True), ("fuse.sshfs", True), ("cifs", True), ("tmpfs", False), ("btrfs", False)):
        table.write_text("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + row.format(kind))
        assert kind_of(device) == kind
        assert on_network(tmp_path / "not" / "made") is remote
        assert LockPlace(tmp_path, lambda: "x").shared is remote
    table.write_text("of another shape\n")
    assert not on_network(tmp_path)
    table.unlink()
    assert not on_network(tmp_path)


def test_a_run_of_an_earlier_version_is_settled_by_its_lease(tmp_path, places):
    """Its row names a lock by its path, elsewhere: that file is not looked at, its supervisor is."""
    path = tmp_path / "old.lock"
    path.touch()
    owner = {"machine": machine_identity(), "pid": os.getpid(), "started": start_time(os.getpid()), "lock": str(path),
             "file": [path.stat().st_dev, path.stat().st_ino], "token": "0123456789abcdef"}  # fmt: skip
    assert liveness(places, owner, *RUN) is LivenessProbe.ALIVE
    assert liveness(places, owner | {"started": 1}, *RUN) is LivenessProbe.UNSEEN
