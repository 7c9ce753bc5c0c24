"""Root at work in a user's home, and strangers in /tmp: two unprivileged users, where root is at hand to play them."""

from __future__ import annotations

import encodings.ascii  # noqa: F401 - a child of another user may not be able to read the library
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chronos_cli.errors import StoreError
from chronos_cli.files import open_folder, open_named, place_of, write_file, write_output
from chronos_cli.nas_server.serve import _write_ready
from chronos_cli.operations.install.systemd import _write
from chronos_cli.operations.views.logs import read_on
from chronos_cli.running.lock import RunLock
from chronos_cli.running.lock_place import LockPlace
from chronos_cli.running.output import BoundedOutput
from chronos_cli.store import local
from chronos_cli.store.local import LocalStore

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="playing two users needs root")

USER, STRANGER = 65534, 12345


@pytest.fixture
def shared(tmp_path):
    """A folder that both users can reach; pytest's own are closed to them."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/tmp") and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


@pytest.fixture
def home(shared):
    """A home of the unprivileged user."""
    folder = shared / "home"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


def linked(path, target, owner):
    path.symlink_to(target)
    os.chown(path, owner, owner, follow_symlinks=False)


def store_of(home):
    return LocalStore(home, lock_timeout_s=1)


@pytest.mark.parametrize("at", ["cron", "cron/arms"])
def test_root_makes_nothing_through_a_users_link(home, shared, at):
    """A link that the user has put into the home leads root nowhere: nothing is made, nothing is given away."""
    precious = shared / "precious"
    precious.mkdir()
    (home / at).parent.mkdir(exist_ok=True)
    linked(home / at, precious, USER)
    with pytest.raises(StoreError, match="a link of user 65534 is not followed"):
        store_of(home).create("cron/arms/a.json", b"{}")
    assert list(precious.iterdir()) == []
    assert precious.stat().st_uid == 0


def test_root_reads_nothing_through_a_users_link(home, shared):
    """Nor is a file of root's read where the user's link names it as a document or an output."""
    secret = shared / "secret"
    secret.write_text("a key")
    secret.chmod(0o600)
    (home / "cron" / "output").mkdir(parents=True)
    linked(home / "cron" / "jobs.json", secret, USER)
    linked(home / "cron" / "output" / "x.log", secret, USER)
    for key in ("cron/jobs.json", "cron/output/x.log"):
        with pytest.raises(StoreError, match="a link of user 65534 is not followed"):
            store_of(home).read(key)


@pytest.mark.parametrize("umask", [0, 0o077])
def test_what_an_operator_names_is_made_private(tmp_path, umask):
    """A picture, a log, a unit, the file of readiness: nobody else can write them; one that is there keeps its mode."""
    there = tmp_path / "there"
    there.write_text("longer")
    there.chmod(0o640)
    before = os.umask(umask)
    try:
        for path in (tmp_path / "new", there):
            write_output(path, b"1", shared=True)
            with os.fdopen(open_named(path, os.O_WRONLY | os.O_APPEND), "a") as file:
                file.write("2")
        _write_ready(tmp_path / "ready", "http://h")
        assert _write(tmp_path / "unit", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_text() == there.read_text() == "12"
    assert (tmp_path / "ready").read_text() == "http://h\n"
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "ready", "unit", "there")]
    assert modes == [0o600, 0o600, 0o600, 0o640]


def test_a_folder_that_becomes_a_link_meanwhile_leads_a_write_nowhere(home, shared, monkeypatch):
    """What the user puts in the folder's place once root has looked at it is not where root writes, links or deletes."""
    precious = shared / "precious"
    precious.mkdir()
    store = store_of(home)
    version = store.create("cron/arms/a.json", b"{}")
    (precious / "a.json").write_bytes(b"precious")
    arms, aside = home / "cron" / "arms", home / "cron" / "aside"

    def swapping(function):
        def swapped(*given, **named):
            arms.rename(aside)
            linked(arms, precious, USER)
            try:
                return function(*given, **named)
            finally:
                arms.unlink()
                aside.rename(arms)

        return swapped

    for name in ("write_new", "write_over"):
        monkeypatch.setattr(local, name, swapping(getattr(local, name)))
    store.create("cron/arms/b.json", b"{}")
    store.replace("cron/arms/a.json", b"[]", version)
    monkeypatch.setattr(local, "locked", swapping(local.locked))
    store.delete("cron/arms/b.json")
    assert [path.name for path in precious.iterdir()] == ["a.json"]
    assert (precious / "a.json").read_bytes() == b"precious"
    assert [path.name for path in arms.iterdir()] == ["a.json"]
    assert (arms / "a.json").read_bytes() == b"[]"


def test_root_follows_no_output_through_a_users_link(home, shared):
    """`logs -f` opens the file as `logs` does: what a link of the user leads to is not shown."""
    secret = shared / "secret"
    secret.write_text("a key")
    key = "cron/output/a/20261120T153415Z.log"
    (home / key).parent.mkdir(parents=True)
    linked(home / key, secret, USER)
    with pytest.raises(StoreError, match="a link of user 65534 is not followed"):
        read_on(home, key, 0)


def test_a_link_to_what_is_the_users_own_is_followed(home, shared):
    """The user may keep the documents elsewhere, and root works there for the user."""
    volume = shared / "volume"
    volume.mkdir()
    os.chown(volume, USER, USER)
    linked(home / "cron", volume, USER)
    store_of(home).create("cron/arms/a.json", b"{}")
    assert (volume / "arms").stat().st_uid == (volume / "arms" / "a.json").stat().st_uid == USER


@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing yet"])
def test_the_lock_of_the_jobs_is_made_through_no_link(home, shared, there):
    """A lock file that is a link is refused: what it names is neither made nor opened."""
    target = shared / "target"
    if there:
        target.write_text("precious")
    (home / "cron").mkdir()
    linked(home / "cron" / ".jobs.lock", target, USER)
    with (
        pytest.raises(StoreError, match="it is a link, which is not followed"),
        store_of(home).exclusive("cron/jobs.json"),
    ):
        pass
    assert target.exists() is there


def test_an_output_is_written_through_no_link(home, shared):
    """What a job prints goes to a new file or to the run's own, private whatever the umask."""
    target = shared / "target"
    target.write_text("precious")
    linked(home / "run.log", target, USER)
    with pytest.raises(OSError, match="symbolic links"):
        BoundedOutput(home / "run.log", 4096)
    assert target.read_text() == "precious"
    before = os.umask(0)
    try:
        BoundedOutput(home / "more" / "run.log", 4096).close()
    finally:
        os.umask(before)
    found = (home / "more" / "run.log").stat()
    assert (found.st_mode & 0o777, found.st_uid) == (0o600, USER)


RACE = """
import os, sys
os.setgid(65534); os.setuid(65534)
home, target = sys.argv[1:]
print("racing", flush=True)
while True:
    try:
        os.rename(home + "/cron", home + "/away")
        os.symlink(target, home + "/cron")
        os.unlink(home + "/cron")
        os.rename(home + "/away", home + "/cron")
    except OSError:
        for name in ("cron", "away"):
            try:
                os.rmdir(home + "/" + name) if not os.path.islink(home + "/" + name) else os.unlink(home + "/" + name)
            except OSError:
                pass
"""


def test_a_race_for_the_folder_is_never_won(home, shared):
    """While the user swaps the folder for a link as fast as can be, root gives none of its own folders away."""
    target = shared / "roots"
    target.mkdir()
    racer = subprocess.Popen([sys.executable, "-c", RACE, str(home), str(target)], stdout=subprocess.PIPE)
    racer.stdout.readline()
    done = threading.Event()
    timer = threading.Timer(1.5, done.set)
    timer.start()
    try:
        while not done.is_set():
            try:
                os.close(open_folder(home, "cron", "arms", make=True))
            except OSError:
                continue
    finally:
        timer.cancel()
        racer.kill()
        racer.wait()
        racer.stdout.close()
    assert target.stat().st_uid == 0
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_file_is_written_whole_with_its_own_mode(home, umask):
    """The umask has no say, the owner is the folder's, and nothing is left beside it."""
    before = os.umask(umask)
    try:
        with place_of(home, "cache/x.json", make=True) as place:
            write_file(place, b"1", mode=0o644)
            write_file(place, b"2", mode=0o600, durable=True)
    finally:
        os.umask(before)
    found = (home / "cache" / "x.json").stat()
    assert (found.st_mode & 0o777, found.st_uid, (home / "cache" / "x.json").read_text()) == (0o600, USER, "2")
    assert (home / "cache").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (home / "cache").iterdir()] == ["x.json"]


def test_a_strangers_folder_in_tmp_stops_no_run(shared):
    """A neighbour has taken the name that locks once had in /tmp: the user's runs go on."""
    home = shared / "h"
    home.mkdir()
    os.chown(home, USER, USER)
    squatted = Path("/tmp", f"chronos-{USER}")
    made = not squatted.exists()
    if made:
        squatted.mkdir()
        os.chown(squatted, STRANGER, STRANGER)
    try:
        assert as_user(USER, lambda: RunLock.acquire(LockPlace(home, str), "a", "r").release())
        assert as_user(STRANGER, lambda: LockPlace(home, str).make()) is False, "nor can a stranger use them"
    finally:
        if made:
            squatted.rmdir()
    assert (home / "cron" / "locks").stat().st_uid == USER


def as_user(uid, work):
    """Whether work goes well in a child that is another user."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            work()
        except BaseException:  # noqa: BLE001 - nothing may get past this line in the copy of this process
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
