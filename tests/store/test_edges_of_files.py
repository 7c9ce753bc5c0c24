"""Files of a store at their edges: how one is written, which copies are kept, whose locks are waited for, what is read."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_cli.errors import DocumentError, LockTimeoutError, StoreError
from chronos_cli.files import Place, open_folder
from chronos_cli.store import atomic, filelock, local
from chronos_cli.store.atomic import (
    LEFTOVER_AGE_S,
    NotDurableError,
    is_temporary,
    remove_leftovers,
    write_new,
    write_over,
)
from chronos_cli.store.backups import EVERY_S, MOST, is_due, move_on, older
from chronos_cli.store.filelock import locked
from chronos_cli.store.interface import ARMS_PREFIX, JOBS_KEY, VersionConflict
from chronos_cli.store.local import LocalStore

NOW = 1_790_000_000.0
ROW = "cron/runs/a/20261120T153415Z.json"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def place(tmp_path):
    with Place(open_folder(tmp_path), "file", str(tmp_path / "file")) as found:
        yield found


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def store(home):
    return LocalStore(home, lock_timeout_s=0.0, wall=lambda: NOW)


def opened():
    """How many descriptors this process has."""
    return len(names("/dev/fd"))


def names(folder):
    """What a folder has."""
    return sorted(os.listdir(folder))  # noqa: PTH208 - names alone


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


# -- one file ------------------------------------------------------------------------------------------------------------


def test_what_is_written_in_pieces_is_whole(place, tmp_path, monkeypatch):
    """A system may take less than it is given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    write_new(place, b"ten bytes!", durable=False)
    assert (tmp_path / "file").read_bytes() == b"ten bytes!"
    assert names(tmp_path) == ["file"]


def test_a_name_that_is_taken_stays_as_it_is(place, tmp_path, monkeypatch):
    """Whether that shows before the work or at its end; nothing is left beside it."""
    (tmp_path / "file").write_text("theirs")
    monkeypatch.setattr(atomic, "_temporary", raising(AssertionError("work for nothing")))
    with pytest.raises(FileExistsError):
        write_new(place, b"ours", durable=True)
    monkeypatch.undo()
    before = opened()
    for shown_late in ("link", "rename"):
        with monkeypatch.context() as patch:
            looks = iter([False, True])
            patch.setattr(Place, "exists", lambda self, looks=looks: next(looks))
            if shown_late == "rename":
                patch.setattr(os, "link", raising(OSError(errno.EPERM, "no links here")))
            with pytest.raises(FileExistsError):
                write_new(place, b"ours", durable=True)
    assert ((tmp_path / "file").read_text(), names(tmp_path), opened()) == ("theirs", ["file"], before)


def test_an_error_of_the_link_that_is_no_lack_of_links_is_told(place, tmp_path, monkeypatch):
    """And nothing is written another way."""
    monkeypatch.setattr(os, "link", raising(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        write_new(place, b"x", durable=True)
    assert names(tmp_path) == []


def test_a_file_without_links_takes_a_name_under_the_lock_of_its_folder(place, tmp_path, monkeypatch):
    """Which is let go afterwards, with its descriptor."""
    locks, flock, before = [], fcntl.flock, opened()

    def noted(fd, how):
        locks.append((stat.S_ISDIR(os.fstat(fd).st_mode), how))
        return flock(fd, how)

    monkeypatch.setattr(os, "link", raising(OSError(errno.EOPNOTSUPP, "no links here")))
    monkeypatch.setattr(fcntl, "flock", noted)
    version = write_new(place, b"x", durable=False)
    assert locks == [(False, fcntl.LOCK_EX | fcntl.LOCK_NB), (True, fcntl.LOCK_EX)]
    assert (version, names(tmp_path), opened()) == (atomic.signature((tmp_path / "file").stat()), ["file"], before)


@pytest.mark.parametrize("durable", [True, False])
def test_bytes_are_durable_before_the_name_and_the_name_before_the_answer(place, monkeypatch, durable):
    """Where that is asked for; else nothing is waited for."""
    steps = []
    for name in ("link", "replace", "unlink"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name, **k: (steps.append(name), real(*a, **k))[1])
    real_sync = os.fsync
    monkeypatch.setattr(
        os,
        "fsync",
        lambda fd: (steps.append("dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"), real_sync(fd))[1],
    )
    write_new(place, b"1", durable=durable)
    write_over(place, b"2", place.stat(), durable=durable)
    expected = ["file", "link", "unlink", "dir", "file", "replace", "dir"]
    assert steps == [step for step in expected if durable or step not in ("file", "dir")]


def test_a_drive_that_keeps_a_cache_is_told_to_write_it_out(place, monkeypatch):
    """As macOS has it; where that is not known the plain call does."""
    full, plain = [], []
    monkeypatch.setattr(atomic, "_FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: full.append(command))
    monkeypatch.setattr(os, "fsync", plain.append)
    monkeypatch.setattr(atomic, "sync_folder", lambda folder: None)
    write_new(place, b"1", durable=True)
    assert (full, plain) == ([51], [])
    monkeypatch.setattr(fcntl, "fcntl", raising(OSError("not here")))
    write_over(place, b"2", place.stat(), durable=True)
    assert len(plain) == 1


def test_a_version_is_later_than_the_one_before_by_whatever_the_clock_says(place, monkeypatch):
    """Also where times are kept in seconds: the next one that such a file system can tell."""
    write_new(place, b"1", durable=False)
    os.utime(place.path, ns=(10**18, 10**18 + 2 * 10**9))
    for clock, later in ((10**18, 10**18 + 2 * 10**9 + 1), (10**18 + 10**10, 10**18 + 10**10)):
        monkeypatch.setattr(atomic.time, "time_ns", lambda clock=clock: clock)
        write_over(place, b"2", place.stat(), durable=False)
        assert place.stat().st_mtime_ns == later
    utime, tried = os.utime, []

    def coarse(fd, *, ns):
        tried.append(ns[1] - 10**18)
        utime(fd, ns=tuple(at // 10**9 * 10**9 for at in ns))

    os.utime(place.path, ns=(10**18, 10**18))
    monkeypatch.setattr(atomic.time, "time_ns", lambda: 10**18)
    monkeypatch.setattr(os, "utime", coarse)
    write_over(place, b"3", place.stat(), durable=False)
    assert tried == [1, 1_000, 10**6, 10**9]
    assert place.stat().st_mtime_ns == 10**18 + 10**9
    tried.clear()
    monkeypatch.setattr(os, "utime", lambda fd, *, ns: tried.append(ns))
    os.truncate(place.path, 0)
    monkeypatch.setattr(atomic.os, "fstat", lambda fd: place.stat())
    utime(place.path, ns=(10**18, 10**18))
    write_over(place, b"4", place.stat(), durable=False)
    assert len(tried) == 1 + 4  # one that takes no time at all is not tried for ever


def test_a_mode_and_an_owner_are_those_of_the_file_that_is_replaced(place, tmp_path, monkeypatch):
    """Where they cannot be had, nothing changes; what is as it should be is not set."""
    write_new(place, b"1", durable=False)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    Path(place.path).chmod(0o4640)
    set_ = []
    monkeypatch.setattr(os, "fchown", lambda *given: set_.append(given[1:]))
    write_over(place, b"2", place.stat(), durable=False)
    assert (stat.S_IMODE(place.stat().st_mode), set_) == (0o4640, [])
    foreign = SimpleNamespace(st_mode=0o100640, st_uid=12345, st_gid=54321, st_mtime_ns=0)
    write_over(place, b"3", foreign, durable=False)
    assert set_ == [(12345, 54321)]
    one = place.stat()
    for own in ({"st_uid": one.st_uid}, {"st_gid": one.st_gid}):
        write_over(place, b"3", SimpleNamespace(**{**vars(foreign), **own}), durable=False)
    assert len(set_) == 3
    monkeypatch.setattr(os, "fchown", raising(OSError(errno.EPERM, "no")))
    with pytest.raises(OSError, match="its owner and group cannot be kept") as caught:
        write_over(place, b"4", foreign, durable=False)
    assert (caught.value.errno, caught.value.filename, Path(place.path).read_bytes()) == (errno.EPERM, place.path, b"3")
    assert names(tmp_path) == ["file"]


@as_root
def test_a_new_file_of_roots_belongs_to_the_owner_of_its_folder(place, tmp_path, monkeypatch):
    """Of anybody else's to him alone."""
    os.chown(tmp_path, 12345, 54321)
    write_new(place, b"1", durable=False)
    assert (place.stat().st_uid, place.stat().st_gid, stat.S_IMODE(place.stat().st_mode)) == (12345, 54321, 0o600)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    write_new(place.sibling("other"), b"1", durable=False)
    assert (tmp_path / "other").stat().st_uid == 0


def test_a_write_that_fails_leaves_neither_its_file_nor_a_descriptor(place, tmp_path, monkeypatch):
    """Wherever it fails."""
    before = opened()
    for step in ("_write_all", "_settle_owner", "_stamp", "_sync_file"):
        with monkeypatch.context() as patch:
            patch.setattr(atomic, step, raising(OSError(errno.EIO, step)))
            with pytest.raises(OSError, match=step):
                write_new(place, b"x", durable=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", raising(FileNotFoundError()))  # it has its name already
        patch.setattr(atomic, "_stamp", raising(OSError(errno.EIO, "the first error")))
        with pytest.raises(OSError, match="the first error"):
            write_new(place, b"x", durable=True)
    assert (len(names(tmp_path)), opened()) == (1, before)


def test_a_folder_that_cannot_be_made_durable_is_told_with_its_reason(place, monkeypatch):
    """The name is there."""
    for error, said in ((OSError(errno.EIO, "broken"), "broken"), (OSError("odd"), "odd")):
        monkeypatch.setattr(atomic, "sync_folder", raising(error))
        with pytest.raises(NotDurableError, match=said):
            atomic.sync(place)


def test_leftovers_go_after_an_hour_where_no_writer_holds_them(tmp_path):
    """Nothing else goes, and no link is followed."""
    made = {name: tmp_path / f".chronos-{name}.tmp" for name in ("old", "young", "held", "link", "pipe")}
    for name in ("old", "young", "held"):
        made[name].write_text("")
    made["link"].symlink_to(tmp_path / "target")
    os.mkfifo(made["pipe"])
    others = [tmp_path / name for name in (".chronos-x", "x.tmp", "target")]
    for other in others:
        other.write_text("")
    for path in (*made.values(), *others):
        os.utime(path, (NOW - LEFTOVER_AGE_S,) * 2, follow_symlinks=False)
    os.utime(made["young"], (NOW - LEFTOVER_AGE_S + 1,) * 2)
    before = opened()
    with made["held"].open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        remove_leftovers(tmp_path, now=NOW)
    left = {name for name, path in made.items() if os.path.lexists(path)}
    assert left - {"pipe"} == {"young", "held", "link"}
    assert all(other.exists() for other in others)
    remove_leftovers(tmp_path / "gone", now=NOW)
    assert opened() == before
    assert [is_temporary(name) for name in (".chronos-a.tmp", ".chronos-a", "a.tmp")] == [True, False, False]


# -- copies --------------------------------------------------------------------------------------------------------------


def test_a_copy_is_due_where_there_is_none_for_a_person_and_each_hour():
    """At its very end."""
    kept = os.stat_result((0, 0, 0, 0, 0, 0, 0, 0, int(NOW), 0))
    assert is_due(None, NOW, by_person=False)
    assert is_due(kept, NOW, by_person=True)
    assert [is_due(kept, NOW + EVERY_S + later, by_person=False) for later in (-1, 0, 1)] == [False, True, True]


def test_the_ten_newest_copies_are_kept(place, tmp_path):
    """The newest bears the name, those before it their times; what is named otherwise is none of them."""
    before = opened()
    for number in range(MOST + 3):
        Path(place.path).write_text(str(number))
        os.utime(place.path, (NOW + number, NOW + number))
        move_on(place, place.stat())
    Path(place.path).write_text("newest")
    (tmp_path / "file.other").write_text("")
    found = older(names(tmp_path), "file")
    assert [(tmp_path / name).read_text() for name in found] == [str(number) for number in range(MOST + 2, 3, -1)]
    assert found[0] == f"file-{datetime.fromtimestamp(NOW + MOST + 2, UTC):%Y%m%dT%H%M%S.%fZ}"
    assert opened() == before


# -- locks ---------------------------------------------------------------------------------------------------------------


def holding(place, **more):
    times = iter(range(1000))
    given = {"timeout_s": 3.0, "clock": lambda: next(times), "sleep": lambda _: None, **more}
    return locked(place, os.O_RDWR | os.O_CREAT, **given)


def test_a_lock_is_let_go_at_once_also_where_a_child_has_it(place):
    """Its file is private unless it is said otherwise."""
    before = opened()
    with holding(place) as fd:
        child = os.dup(fd)
        assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    try:
        with holding(place) as fd:
            assert fd != child
    finally:
        os.close(child)
    with holding(place.sibling("other"), mode=0o640) as fd:
        assert stat.S_IMODE(os.fstat(fd).st_mode) & 0o600 == 0o600
    assert opened() == before


def test_a_lock_that_is_held_names_its_holder_where_the_system_tells(place):
    """After the time that is waited for it."""
    times = []

    def clock():
        times.append(len(times))
        return float(len(times))

    before = opened()
    said = rf"{place.path} is locked by pid {os.getpid()}; nothing"
    with holding(place), pytest.raises(LockTimeoutError, match=said), holding(place, clock=clock):
        pass
    assert (len(times), opened()) == (4, before)


@pytest.mark.parametrize(
    ("lines", "pid"),
    [
        (["1: FLOCK  ADVISORY  WRITE 77 00:01:{inode} 0 EOF"], 77), (["1: -> FLOCK  ADVISORY  WRITE 77 00:01:{inode} 0 EOF"], None),
        (["1: POSIX  ADVISORY  WRITE 77 00:01:{inode} 0 EOF", "2: FLOCK  ADVISORY  WRITE 78 00:01:{inode} 0 EOF"], 78),
        (["1: FLOCK  ADVISORY  WRITE 77 00:01:{inode}9 0 EOF"], None), (["1: FLOCK {inode} :{inode} "], None), ([], None), (None, None),
    ],
)  # fmt: skip
def test_a_holder_is_read_from_the_systems_table(place, monkeypatch, tmp_path, lines, pid):
    """Where there is such a table, and it is of the form that is known."""
    Path(place.path).write_text("")
    table = tmp_path / "locks"
    if lines is not None:
        table.write_text("".join(line.format(inode=place.stat().st_ino) + "\n" for line in lines))
    fd = place.open(os.O_RDONLY)
    monkeypatch.setattr(filelock, "open", lambda *_, **__: table.open(), raising=False)
    try:
        assert filelock._holder(fd) == pid
    finally:
        os.close(fd)


@pytest.mark.parametrize("meanwhile", ["gone", "another"])
def test_a_file_that_lost_its_name_is_opened_anew(place, monkeypatch, meanwhile):
    """It protects nothing any more."""
    Path(place.path).write_text("old")
    wait, taken, before = filelock.wait_for_lock, [], opened()

    def late(fd, *rest, **more):
        taken.append(fd)
        if len(taken) == 1:
            Path(place.path).unlink()
            if meanwhile == "another":
                Path(place.path).write_text("new")
        return wait(fd, *rest, **more)

    monkeypatch.setattr(filelock, "wait_for_lock", late)
    with holding(place) as fd:
        assert os.path.samestat(os.fstat(fd), place.stat())
    assert (len(taken), opened()) == (2, before)


# -- the store -----------------------------------------------------------------------------------------------------------


def test_what_is_read_is_a_whole_regular_file_of_bounded_size(home, store, monkeypatch):
    """Also one that grows, or shrinks, between the look at its size and the read."""
    version = store.create(ROW, b"content")
    found = store.read(ROW)
    assert (found.data, found.version, found.beside) == (b"content", version, None)
    assert store.read("cron/runs/a/other.json") is None
    fstat = os.fstat
    before = opened()
    for size in (0, 3, 7, 9):

        def sized(fd, size=size):
            real = fstat(fd)
            return SimpleNamespace(st_mode=real.st_mode, st_ino=1, st_mtime_ns=1, st_size=size)

        monkeypatch.setattr(os, "fstat", sized)
        assert store.read(ROW).data == b"content"
    monkeypatch.undo()
    monkeypatch.setattr(local, "MAX_FILE_BYTES", 7)
    assert store.read(ROW).data == b"content"
    monkeypatch.setattr(local, "MAX_FILE_BYTES", 6)
    with pytest.raises(DocumentError, match="larger than 6 bytes"):
        store.read(ROW)
    (home / ROW).unlink()
    os.mkfifo(home / ROW)
    with pytest.raises(DocumentError, match="no regular file"):
        store.read(ROW)
    assert opened() == before


def test_a_file_in_the_way_concerns_its_own_document_alone(home, store):
    """That of the jobs concerns all."""
    for key, error in ((ROW, DocumentError), (JOBS_KEY, StoreError)):
        (home / key).mkdir(parents=True)
        with pytest.raises(StoreError) as caught:
            store.read(key)
        assert type(caught.value) is error
    (home / "cron" / "arms").symlink_to(home / "gone")
    with pytest.raises(DocumentError, match="cannot read"):
        store.read(f"{ARMS_PREFIX}a.json")


def test_a_list_has_documents_alone_and_folders_that_are_named_as_jobs(home, store):
    """What begins with a dot is none; a folder with a document's name is one that cannot be read."""
    for name in (
        "runs/a.json/1.json",
        "runs/b/2.json",
        "runs/b/.hidden.json",
        "output/c.json/3.log",
        "arms/d.json/x",
        "arms/e.json",
    ):
        path = home / "cron" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (home / "cron" / "runs" / "link").symlink_to(home)
    assert store.list("cron/runs/") == ["cron/runs/a.json/1.json", "cron/runs/b/2.json", "cron/runs/link"]
    assert store.list("cron/output/") == ["cron/output/c.json/3.log"]
    assert store.list(ARMS_PREFIX) == ["cron/arms/d.json", "cron/arms/e.json"]
    assert store.list("cron/gone/") == []


def test_a_folder_of_rows_that_cannot_be_listed_is_one_document_of_many(home, store, monkeypatch):
    """Asked for by itself it says so; a list of all goes on, and another folder's trouble is everybody's."""
    for name in ("runs/a", "runs/b", "arms", "arm-packs"):
        (home / "cron" / name).mkdir(parents=True)
        (home / "cron" / name / "x.json").write_text("")
    scandir = os.scandir

    def closed(folder):
        if str(folder).endswith(("runs/a", "arms", "arm-packs")):
            raise PermissionError(errno.EACCES, "closed")
        return scandir(folder)

    monkeypatch.setattr(local.os, "scandir", closed)
    assert store.list("cron/runs/") == ["cron/runs/a/.json", "cron/runs/b/x.json"]
    for prefix in ("cron/runs/a/", ARMS_PREFIX):
        with pytest.raises(DocumentError, match="cannot list") as caught:
            store.list(prefix)
        assert caught.value.key == prefix
    with pytest.raises(StoreError) as caught:
        store.list("cron/arm-packs/")
    assert type(caught.value) is StoreError


@pytest.mark.parametrize("durable", [True, False])
def test_a_document_that_goes_is_durably_gone_where_that_is_asked_for(home, store, monkeypatch, durable):
    """One that is not there is fine, and so is a folder that is not."""
    store.create(ROW, b"x")
    synced = []
    monkeypatch.setattr(local, "sync", synced.append)
    before = opened()
    store.delete(ROW, durable=durable)
    store.delete(ROW, durable=durable)
    store.delete("cron/none/x.json", durable=durable)
    assert (len(synced), (home / ROW).exists(), opened()) == (int(durable), False, before)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EIO])
def test_a_document_that_cannot_be_locked_goes_where_its_folder_is_ours(home, store, monkeypatch, code):
    """A link, a socket, a file of somebody else's; any other error is one."""
    store.create(ROW, b"x")
    monkeypatch.setattr(store, "_locked", raising(OSError(code, "cannot be locked")))
    if code == errno.EIO:
        with pytest.raises(StoreError, match="cannot be locked"):
            store.delete(ROW)
    else:
        store.delete(ROW)
    assert (home / ROW).exists() is (code == errno.EIO)


def test_a_document_that_went_or_changed_since_it_was_read_is_a_conflict(home, store):
    """As one is that is there already."""
    version = store.create(ROW, b"1")
    with pytest.raises(VersionConflict):
        store.create(ROW, b"2")
    later = store.replace(ROW, b"2", version)
    for key, known in ((ROW, version), ("cron/runs/a/none.json", later), (ROW, f"{later}+mark")):
        with pytest.raises(VersionConflict):
            store.replace(key, b"3", known)
    assert store.read(ROW).data == b"2"
    assert store.replace(ROW, b"3", later) == store.read(ROW).version


def test_each_document_is_its_own_lock_and_the_jobs_have_theirs_beside_them(home, store):
    """While a reader holds the file of the jobs itself it is written: hermes never locks it."""
    row, jobs = store.create(ROW, b"1"), store.create(JOBS_KEY, b"[]")
    with closing(os.fdopen(os.open(home / ROW, os.O_RDONLY))) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for change in (lambda: store.replace(ROW, b"2", row), lambda: store.delete(ROW)):
            with pytest.raises(LockTimeoutError):
                change()
    assert store.read(ROW).data == b"1"
    store.replace(ROW, b"2", row)
    with closing(os.fdopen(os.open(home / JOBS_KEY, os.O_RDONLY))) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store.replace(JOBS_KEY, b"[ ]", jobs)
    assert store.read(JOBS_KEY).data == b"[ ]"


def test_the_lock_of_the_jobs_is_made_for_who_has_them(home, store):
    """Their mode without what lets anybody run it; private where there are none yet."""
    with store.exclusive(JOBS_KEY):
        assert stat.S_IMODE((home / "cron" / ".jobs.lock").stat().st_mode) == 0o600
    for mode, lock in ((0o664, 0o664), (0o755, 0o644), (0o060, 0o660)):
        (home / "cron" / ".jobs.lock").unlink()
        (home / JOBS_KEY).write_text("[]")
        (home / JOBS_KEY).chmod(mode)
        before = opened()
        with store.exclusive(JOBS_KEY):
            assert stat.S_IMODE((home / "cron" / ".jobs.lock").stat().st_mode) == lock
        assert opened() == before


def test_the_lock_of_the_jobs_is_taken_once_in_a_thread_and_for_them_alone(home, store, monkeypatch):
    """A link in its place is not followed."""
    with store.exclusive(ROW):
        assert not home.exists()
    with store.exclusive(JOBS_KEY), store.exclusive(JOBS_KEY):
        other = threading.Thread(target=lambda: said.append(_locked_out(store)))
        said: list[str] = []
        other.start()
        other.join()
    assert "another thread of this process" in said[0]
    with store.exclusive(JOBS_KEY):  # it was let go
        pass
    monkeypatch.setattr(local, "open_folder", raising(OSError(errno.EIO, "broken")))
    with pytest.raises(StoreError, match="cannot lock"), store.exclusive(JOBS_KEY):
        pass
    monkeypatch.undo()
    before = opened()
    (home / "cron" / ".jobs.lock").unlink()
    (home / "cron" / ".jobs.lock").symlink_to(home / "elsewhere")
    with pytest.raises(StoreError, match="a link, which is not followed"), store.exclusive(JOBS_KEY):
        pass
    assert (opened(), (home / "elsewhere").exists()) == (before, False)


def _locked_out(store):
    try:
        with store.exclusive(JOBS_KEY):
            return "taken"
    except LockTimeoutError as error:
        return error.message


def test_a_copy_of_the_jobs_has_their_mode_and_the_time_of_the_change(home, store):
    """One of a clock ahead is brought back to now; those that can be read are given, the newest first."""
    assert (list(store.backups()), store.location) == ([], str(home))
    version = store.create(JOBS_KEY, b"[0]")
    before = opened()
    (home / JOBS_KEY).chmod(0o640)
    version = store.replace(JOBS_KEY, b"[1]", version)
    copy = home / f"{JOBS_KEY}.bak"
    assert (copy.read_bytes(), stat.S_IMODE(copy.stat().st_mode), copy.stat().st_mtime) == (b"[0]", 0o640, NOW)
    os.utime(copy, (NOW + 9, NOW + 9))
    version = store.replace(JOBS_KEY, b"[2]", version)
    assert (copy.read_bytes(), copy.stat().st_mtime) == (b"[0]", NOW)
    os.utime(copy, (NOW - EVERY_S, NOW - EVERY_S))
    store.replace(JOBS_KEY, b"[3]", version)
    os.utime(copy, (NOW + 5, NOW + 5))
    found = list(store.backups())
    assert [(one.data, one.age_s) for one in found] == [(b"[2]", 0.0), (b"[0]", EVERY_S)]
    assert (found[0].path, opened()) == (str(copy), before)
    copy.unlink()
    copy.mkdir()
    assert [one.data for one in store.backups()] == [b"[0]"]


def test_one_change_of_a_person_leaves_one_copy(home):
    """What follows from it in the same command leaves none."""
    store = LocalStore(home, lock_timeout_s=1.0, wall=lambda: NOW, by_person=True)
    version = store.create(JOBS_KEY, b"[0]")
    for number in range(3):
        version = store.replace(JOBS_KEY, b"[%d]" % (number + 1), version)
    assert [one.data for one in store.backups()] == [b"[0]"]
    again = LocalStore(home, lock_timeout_s=1.0, wall=lambda: NOW + 1, by_person=True)
    again.replace(JOBS_KEY, b"[9]", version)
    assert [one.data for one in store.backups()] == [b"[3]", b"[0]"]


def test_folders_are_looked_through_for_leftovers_once_with_the_first_copy(home, store, monkeypatch):
    """Each look is a scan; where the jobs lie is looked through with each copy, wherever their name leads."""
    looked = []

    def noted(folder, *, now, within=None):
        assert now == NOW
        looked.append("of the jobs" if within is not None else folder.name)

    monkeypatch.setattr(local, "remove_leftovers", noted)
    version = store.create(JOBS_KEY, b"[0]")
    assert looked == []
    store.replace(JOBS_KEY, b"[1]", version)
    assert looked == ["of the jobs", "cron", "arms", "arm-packs"]
    for _ in range(2):
        store.create(ROW, b"")
        store.delete(ROW)
    assert looked[4:] == ["a"]


def test_a_change_whose_folder_is_not_durable_says_that_it_is_made(home, store, monkeypatch):
    """A copy that is not leaves the jobs untouched."""
    version = store.create(JOBS_KEY, b"[0]")
    monkeypatch.setattr(atomic, "sync_folder", raising(OSError(errno.EIO, "broken")))
    with pytest.raises(StoreError, match=r"its copy jobs\.json\.bak could not be made durable"):
        store.replace(JOBS_KEY, b"[1]", version)
    assert store.read(JOBS_KEY).data == b"[0]"
    with pytest.raises(StoreError, match="was written, but its folder could not be made durable"):
        store.create(ROW, b"")
    assert store.read(ROW).data == b""


def test_a_link_that_leads_nowhere_is_no_empty_folder(home, store):
    """What it leads to may be on a disk that is not there just now."""
    (home / "cron").mkdir(parents=True)
    (home / "cron" / "arms").symlink_to(home / "gone")
    with pytest.raises(DocumentError, match="cannot list"):
        store.list(ARMS_PREFIX)
    (home / JOBS_KEY).symlink_to(home / "gone")
    with pytest.raises(StoreError, match="cannot read"):
        store.read(JOBS_KEY)


def test_a_lock_file_that_may_only_be_read_locks_as_well(store, monkeypatch):
    """One that may be written is opened for that: some network file systems ask for it."""
    asked = []
    monkeypatch.setattr(local, "locked", lambda place, flags, **_: asked.append(flags) or as_it_is(place))
    for writable in (True, False):
        monkeypatch.setattr(os, "access", lambda *_, writable=writable, **__: writable)
        with store.exclusive(JOBS_KEY):
            pass
    assert asked == [os.O_RDWR | os.O_CREAT, os.O_RDONLY | os.O_CREAT]


@contextmanager
def as_it_is(place):
    yield place


@as_root
def test_the_lock_of_the_jobs_is_their_owners(home, store, monkeypatch):
    """Whoever else uses them must be able to lock it; what another user makes is his own."""
    (home / "cron").mkdir(parents=True)
    (home / JOBS_KEY).write_text("[]")
    os.chown(home / JOBS_KEY, 12345, 54321)
    lock = home / "cron" / ".jobs.lock"
    with store.exclusive(JOBS_KEY):
        assert (lock.stat().st_uid, lock.stat().st_gid) == (12345, 54321)
    lock.unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with store.exclusive(JOBS_KEY):
        assert lock.stat().st_uid == 0


def test_a_lock_whose_holder_is_not_known_names_nobody(place, monkeypatch):
    """Where the system keeps no table."""
    monkeypatch.setattr(filelock, "_holder", lambda fd: None)
    with holding(place), pytest.raises(LockTimeoutError, match="is locked; nothing was written"), holding(place):
        pass


def written(home, *rows):
    """The other half of a store, in its database."""
    with closing(sqlite3.connect(home / "cron" / "runtime.db")) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS job_runtime (job_id TEXT PRIMARY KEY, state_json TEXT)")
        database.executemany("INSERT OR REPLACE INTO job_runtime VALUES (?, ?)", rows)


def test_a_version_is_that_of_both_halves(home, store):
    """A write in either is a conflict; no other document has two."""
    store.create(JOBS_KEY, b"[]")
    alone = store.read(JOBS_KEY)
    assert ("+" in alone.version, alone.beside) == (False, None)
    written(home, ("a", '{"next": 1}'))
    found = store.read(JOBS_KEY)
    assert (found.version.partition("+")[0], found.beside) == (alone.version, {"a": {"next": 1}})
    with pytest.raises(VersionConflict):
        store.replace(JOBS_KEY, b"[1]", alone.version)
    later = store.replace(JOBS_KEY, b"[1]", found.version)
    assert (later, later.endswith(found.version.partition("+")[2])) == (store.read(JOBS_KEY).version, True)
    written(home, ("a", '{"next": 2}'))
    with pytest.raises(VersionConflict):
        store.replace(JOBS_KEY, b"[2]", later)
    assert "+" not in store.create(ROW, b"")
    assert store.read(ROW).beside is None


def test_jobs_are_not_added_to_a_store_of_which_one_half_cannot_be_read(home, store):
    """They would look as if they had never run."""
    (home / "cron" / "runtime.db").mkdir(parents=True)
    with pytest.raises(StoreError, match="no regular file"):
        store.create(JOBS_KEY, b"[]")
    assert not (home / JOBS_KEY).exists()
    store.create(ROW, b"")
