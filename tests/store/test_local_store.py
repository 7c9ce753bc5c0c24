"""The store on a disk: whose lock is respected, what survives a kill, whose file it stays, and what is said when it fails."""

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chronos_cli.errors import LockTimeoutError, StoreError
from chronos_cli.store import atomic
from chronos_cli.store.interface import JOBS_KEY, VersionConflict
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.local import LocalStore
from tests.conftest import thoroughly

ROW = "cron/runs/a/20261120T153415Z.json"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def store(home):
    return LocalStore(home, lock_timeout_s=10.0)


@pytest.fixture
def jobs_path(home):
    return home / JOBS_KEY


def leftovers(home):
    return sorted(path.name for path in home.rglob(".chronos-*"))


def test_every_change_of_many_processes_is_there_afterwards(folder):
    """Many processes add and pause distinct jobs at once: whatever they reported as done is in the file."""
    before = [f"old{number}" for number in range(thoroughly(25, 8))]
    added = [f"new{number}" for number in range(len(before))]
    records = [{"id": job_id, "enabled": True, "kept": 1.50} for job_id in before]
    folder.open().create(JOBS_KEY, json.dumps({"jobs": records}, indent=2).encode())
    printed = folder.race([folder.start("add_or_pause", id=job_id) for job_id in before + added])
    assert printed == ["done"] * 2 * len(before)
    after = {record.id: record.value for record in JobsFile.parse(folder.open().read(JOBS_KEY).data).records}
    assert sorted(after) == sorted(before + added)
    assert all(after[job_id] == {"id": job_id, "enabled": False, "kept": 1.5, "state": "paused"} for job_id in before)
    assert all(after[job_id] == {"id": job_id, "enabled": True} for job_id in added)
    assert leftovers(Path(folder.url)) == []


def test_a_lock_that_another_process_holds_is_waited_for_and_then_given_up(folder, jobs_path):
    """While another program holds cron/.jobs.lock by flock, as hermes does, every writer ends with exit 75 and writes nothing."""
    version = folder.open().create(JOBS_KEY, b"{}")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl,sys\nf = open(sys.argv[1], 'a+')\nfcntl.flock(f, fcntl.LOCK_EX)\nprint('held', flush=True)\nsys.stdin.read()",
            str(jobs_path.with_name(".jobs.lock")),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        before = snapshot(jobs_path.parent)
        store = folder.open(lock_timeout_s=0.2)
        for attempt in (
            lambda: store.replace(JOBS_KEY, b"[]", version),
            lambda: store.create(JOBS_KEY, b"[]"),
            lambda: store.delete(JOBS_KEY),
            lambda: store.exclusive(JOBS_KEY).__enter__(),
        ):
            with pytest.raises(LockTimeoutError, match=r"jobs\.lock is locked") as caught:
                attempt()
            assert caught.value.exit_code == 75
        assert snapshot(jobs_path.parent) == before
        assert store.read(JOBS_KEY).data == b"{}", "reading needs no lock"
        store.create(ROW, b"{}")  # Neither does any other document.
    finally:
        holder.communicate()
    assert store.replace(JOBS_KEY, b"[]", version)


def test_our_lock_keeps_hermes_out(store, jobs_path):
    """While we hold the jobs, a flock on cron/.jobs.lock by any other program fails; afterwards it does not."""

    def take():
        with jobs_path.with_name(".jobs.lock").open("a+") as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with store.exclusive(JOBS_KEY), pytest.raises(BlockingIOError):
        take()
    take()


def test_the_lock_may_be_nested_in_a_thread_and_keeps_other_threads_out(home):
    """Load-change-save inside the lock does not wait for itself, while another thread of the process does wait."""
    store = LocalStore(home, lock_timeout_s=0.1)
    version = store.create(JOBS_KEY, b"1")
    outcomes = []

    def other():
        try:
            store.replace(JOBS_KEY, b"3", version)
        except LockTimeoutError as error:
            outcomes.append(error)

    with store.exclusive(JOBS_KEY), store.exclusive(JOBS_KEY):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        store.replace(JOBS_KEY, b"2", version)
    (error,) = outcomes
    assert "is locked by another thread of this process; nothing was written" in error.message
    assert store.read(JOBS_KEY).data == b"2"


def test_threads_of_one_process_take_turns(home):
    """A thread that waits for another is woken when that is done: it neither polls nor sleeps, and none is passed by."""
    slept = []
    store = LocalStore(home, lock_timeout_s=30, sleep=slept.append)
    store.create(JOBS_KEY, b"0")

    def add():
        for _ in range(20):
            with store.exclusive(JOBS_KEY):
                found = store.read(JOBS_KEY)
                store.replace(JOBS_KEY, str(int(found.data) + 1).encode(), found.version, durable=False)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.read(JOBS_KEY).data, slept) == (b"160", [])


def test_a_lock_file_that_was_deleted_while_waited_for_protects_nothing(home):
    """Who gets the lock of a file that has lost its name takes the lock of the new one instead."""
    store = LocalStore(home, lock_timeout_s=0.2)
    store.create(JOBS_KEY, b"1")
    path = home / "cron" / ".jobs.lock"
    with path.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waited = []

        def swap(seconds):
            waited.append(seconds)
            if len(waited) == 1:
                path.unlink()
                fcntl.flock(held, fcntl.LOCK_UN)

        with LocalStore(home, lock_timeout_s=5, sleep=swap).exclusive(JOBS_KEY):
            assert path.exists()
            with pytest.raises(LockTimeoutError), store.exclusive(JOBS_KEY):
                pytest.fail("two have the lock")


@pytest.mark.parametrize("half", [False, True])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_file(folder, jobs_path, half):
    """A writer killed before each of its calls to the system, and in the middle of its writes, leaves one whole file."""
    old, new = b'{"jobs": []}' * 50, '{"jobs": [{"id": "new"}]}' * 70
    seen, finished, step = set(), False, 0
    folder.open().create(JOBS_KEY, old)
    while not finished:
        batch = []
        for step in range(step + 1, step + 9):  # noqa: B020 - the steps go on from batch to batch
            place = jobs_path.parents[2] / f"home{step}"
            shutil.copytree(jobs_path.parents[1], place)
            worker = type(folder)(url=str(place)).start("die_at", step=step, half=half, data=new)
            batch.append((place, worker))
        printed = folder.race([worker for _, worker in batch], check=False)
        for (place, worker), text in zip(batch, printed, strict=True):
            assert worker.returncode == -9
            finished |= text == "finished"
            found = (place / JOBS_KEY).read_bytes()
            assert found in {old, new.encode()}
            seen.add(found)
            after = LocalStore(place, lock_timeout_s=1)
            after.replace(JOBS_KEY, b"[]", after.read(JOBS_KEY).version)  # And the next writer gets through.
        assert step < 200
    assert seen == {old, new.encode()}
    assert step > 15


def test_what_killed_writers_leave_is_removed_the_next_day(home, store):
    """A temporary file older than an hour goes at the day's first change, unless its writer still lives."""
    version = store.create(JOBS_KEY, b"1")
    dead, young, living = (home / "cron" / f".chronos-jobs.json.{name}.tmp" for name in ("dead", "young", "living"))
    for path in (dead, young, living):
        path.write_bytes(b"half")
    for path, age_s in ((dead, 7200), (young, 0), (living, 7200)):
        os.utime(path, (time.time() - age_s,) * 2)
    with living.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store.replace(JOBS_KEY, b"2", version)
        assert leftovers(home) == [".chronos-jobs.json.living.tmp", ".chronos-jobs.json.young.tmp"]


def test_what_killed_writers_leave_is_removed_where_a_link_leads_to(home, store, tmp_path):
    """jobs.json may be a link to another folder: there its writers make their temporary files."""
    version = store.create(JOBS_KEY, b"1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (home / JOBS_KEY).rename(elsewhere / "mine.json")
    (home / JOBS_KEY).symlink_to(elsewhere / "mine.json")
    dead = [folder / ".chronos-mine.json.dead.tmp" for folder in (elsewhere, home / "cron")]
    for path in dead:
        path.write_bytes(b"half")
        os.utime(path, (time.time() - 7200,) * 2)
    store.replace(JOBS_KEY, b"2", version)
    assert ((home / JOBS_KEY).is_symlink(), (elsewhere / "mine.json").read_bytes()) == (True, b"2")
    assert [path.name for path in dead if path.exists()] == []


def test_a_file_over_the_size_limit_is_reported_and_the_old_one_stays(folder, home):
    """A write that the system refuses halfway names path, owner, mode and user, and leaves the old bytes and no temporary file."""
    folder.open().create(JOBS_KEY, b"old")
    worker = folder.start("small_files_only", limit=4096, size=100_000)
    said = json.loads(folder.race([worker])[0])
    assert said["error"] == "StoreError"
    assert "cron/jobs.json: File too large" in said["text"]
    assert "mode 0600" in said["text"]
    assert f"({os.geteuid()})" in said["text"]
    assert "nothing was changed" in said["hint"]
    assert (home / JOBS_KEY).read_bytes() == b"old"
    assert leftovers(home) == []


def test_a_full_disk_is_reported_and_the_old_file_stays(tmp_path):
    """On a full file system the old bytes stay, the message names the place, and no temporary file is left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = (
        os.geteuid() == 0
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("a small file system can only be mounted by root")
    try:
        store = LocalStore(disk / "home", lock_timeout_s=1)
        version = store.create(JOBS_KEY, b"old")
        with pytest.raises(StoreError, match="No space left on device") as caught:
            store.replace(JOBS_KEY, b"x" * 200_000, version)
        assert "free some space" in caught.value.line()
        assert store.read(JOBS_KEY).data == b"old"
        assert leftovers(disk) == []
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(StoreError, match="Read-only file system") as caught:
            store.replace(JOBS_KEY, b"new", version)
        assert str(disk) in caught.value.line()
        assert store.read(JOBS_KEY).data == b"old"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@as_root
def test_root_keeps_owner_group_and_mode(home, store, jobs_path):
    """A rewrite by root keeps whose file it is; what root makes anew belongs to the folder's owner."""
    version = store.create(JOBS_KEY, b"1")
    for path in (home, home / "cron", jobs_path):
        os.chown(path, 1234, 4321)
    jobs_path.chmod(0o640)
    store.replace(JOBS_KEY, b"2", version)
    found = jobs_path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o640)
    backup = jobs_path.with_name("jobs.json.bak").stat()
    assert (backup.st_uid, backup.st_gid, stat.S_IMODE(backup.st_mode)) == (1234, 4321, 0o640)
    store.create(ROW, b"{}")
    made = [home / ROW, (home / ROW).parent, (home / ROW).parent.parent]
    assert [(path.stat().st_uid, path.stat().st_gid) for path in made] == [(1234, 4321)] * 3
    (home / "cron" / ".jobs.lock").unlink()
    with store.exclusive(JOBS_KEY):
        lock = (home / "cron" / ".jobs.lock").stat()
        assert (lock.st_uid, lock.st_gid, stat.S_IMODE(lock.st_mode)) == (1234, 4321, 0o640)


@as_root
def test_a_user_who_cannot_keep_the_owner_changes_nothing(folder, home, tmp_path):
    """A user who may write the folder but not give files away is refused before the file is replaced, in words."""
    open_up(tmp_path)
    store = folder.open()
    store.create(JOBS_KEY, b"1")
    (home / JOBS_KEY).chmod(0o666)
    (home / "cron").chmod(0o777)
    home.chmod(0o755)
    with store.exclusive(JOBS_KEY):
        (home / "cron" / ".jobs.lock").chmod(0o666)
    before = snapshot(home / "cron")
    said = json.loads(folder.race([folder.start("as_another", uid=NOBODY, gid=NOBODY, reads=True)])[0])
    assert said["error"] == "StoreError"
    assert "cannot be kept" in said["text"]
    assert f"({NOBODY})" in said["text"]
    assert snapshot(home / "cron") == before
    assert leftovers(home) == []


@as_root
@pytest.mark.parametrize("reads", [True, False])
def test_a_store_without_access_names_path_owner_mode_and_user(folder, home, tmp_path, reads):
    """A file that may not be read, or a folder that may not be written, is an error naming all that an operator needs."""
    open_up(tmp_path)
    folder.open().create(JOBS_KEY, b"1")
    with folder.open().exclusive(JOBS_KEY):
        (home / "cron" / ".jobs.lock").chmod(0o666)
    (home / JOBS_KEY).chmod(0o644 if reads else 0o600)
    (home / "cron").chmod(0o755)
    home.chmod(0o755)
    said = json.loads(folder.race([folder.start("as_another", uid=NOBODY, gid=NOBODY, reads=reads)])[0])
    assert said["error"] == "StoreError"
    for part in (
        str(home / JOBS_KEY),
        "Permission denied",
        "root(0)",
        f"mode {'0644' if reads else '0600'}",
        f"({NOBODY})",
    ):
        assert part in said["text"]
    assert leftovers(home) == []


@as_root
def test_a_folder_that_may_not_be_entered_is_named(folder, home, tmp_path):
    """Where even a look at the file is refused, the error names the folder in the way."""
    open_up(tmp_path)
    folder.open().create(JOBS_KEY, b"1")
    home.chmod(0o700)
    said = json.loads(folder.race([folder.start("as_another", uid=NOBODY, gid=NOBODY, reads=False)])[0])
    assert said["error"] == "StoreError"
    for part in (str(home / JOBS_KEY), "Permission denied", f"{home} is owned by root(0)", "mode 0700"):
        assert part in said["text"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_reported(home, store, jobs_path):
    """In a folder that its user may not write, reading works, and writing names the file, the folder's mode and the user."""
    version = store.create(JOBS_KEY, b"1")
    (home / "cron").chmod(0o500)
    try:
        assert store.read(JOBS_KEY).data == b"1"
        with pytest.raises(StoreError, match="Permission denied") as caught:
            store.replace(JOBS_KEY, b"2", version)
        for part in (str(jobs_path), "its folder owned by", "mode 0500", f"({os.geteuid()})"):
            assert part in caught.value.line()
        assert store.read(JOBS_KEY).data == b"1"
    finally:
        (home / "cron").chmod(0o700)


def test_a_folder_in_the_way_or_a_file_for_a_folder_is_an_error(home, store, jobs_path):
    """Whatever stands where a file should be is reported, never taken for absence."""
    jobs_path.mkdir(parents=True)
    with pytest.raises(StoreError, match="Is a directory"):
        store.read(JOBS_KEY)
    (home / "cron" / "arms").write_text("")
    with pytest.raises(StoreError, match="Not a directory"):
        store.read("cron/arms/a.json")
    with pytest.raises(StoreError):
        store.create("cron/arms/a.json", b"")


def test_new_files_and_folders_are_private(home, store):
    """What the store makes is for its owner alone, whatever the umask says."""
    before = os.umask(0)
    try:
        store.create(JOBS_KEY, b"1")
        store.create(ROW, b"1")
    finally:
        os.umask(before)
    made = [home, *home.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in made if path.is_file()} == {0o600}


def test_a_symbolic_link_stays_one(tmp_path, home, store, jobs_path):
    """jobs.json kept elsewhere is written there, and the link to it stays."""
    elsewhere = tmp_path / "volume"
    elsewhere.mkdir()
    (elsewhere / "the-jobs").write_bytes(b"1")
    jobs_path.parent.mkdir(parents=True)
    jobs_path.symlink_to(Path("../..") / "volume" / "the-jobs")
    store.replace(JOBS_KEY, b"2", store.read(JOBS_KEY).version)
    assert jobs_path.is_symlink()
    assert (elsewhere / "the-jobs").read_bytes() == b"2"
    (elsewhere / "the-jobs").rename(elsewhere / "gone")
    with pytest.raises(StoreError, match="No such file"):
        store.read(JOBS_KEY)


def test_the_order_of_durability(store, monkeypatch, jobs_path):
    """The file's bytes are made durable before it takes the name, its folder after; without `durable` nothing is."""
    version = store.create(JOBS_KEY, b"1")
    store.replace(JOBS_KEY, b"1", version)  # The backup of the day is made.
    calls = []
    fsync, replace, link, settle = os.fsync, os.replace, os.link, atomic._settle_owner

    def note_fsync(fd):
        calls.append("fsync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"fsync {os.fstat(fd).st_size} bytes")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", lambda *names, **at: (calls.append("rename"), replace(*names, **at)))
    monkeypatch.setattr(os, "link", lambda *names, **at: (calls.append("link"), link(*names, **at)))
    monkeypatch.setattr(atomic, "_settle_owner", lambda *given: (calls.append("owner"), settle(*given)))
    store.replace(JOBS_KEY, b"12345", store.read(JOBS_KEY).version)
    assert calls == ["owner", "fsync 5 bytes", "rename", "fsync folder"]
    calls.clear()
    version = store.create("cron/a.json", b"123")
    assert calls == ["owner", "fsync 3 bytes", "link", "fsync folder"]
    calls.clear()
    store.replace("cron/a.json", b"12", version, durable=False)
    assert calls == ["owner", "rename"]


def test_a_failing_fsync_keeps_the_old_file(store, monkeypatch, home):
    """Bytes that cannot be made durable never take the name."""
    version = store.create(ROW, b"old")

    def fail(fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="Input/output error"):
        store.replace(ROW, b"new", version)
    assert store.read(ROW).data == b"old"
    assert leftovers(home) == []


def test_a_failing_fsync_of_the_folder_is_told(store, monkeypatch):
    """A change that is in place but may not survive a power cut is an error that says just that."""
    version = store.create(ROW, b"old")
    fsync = os.fsync

    def fail_on_folders(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(5, "Input/output error")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", fail_on_folders)
    with pytest.raises(StoreError, match="could not be made durable"):
        store.replace(ROW, b"new", version)
    assert store.read(ROW).data == b"new"


def test_what_runs_change_leaves_one_copy_an_hour(home, jobs_path):
    """The first change of an hour keeps what was there before it; its later changes leave that alone."""
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    time_of_day = [noon]
    store = LocalStore(home, lock_timeout_s=1, wall=lambda: time_of_day[0])
    backup = jobs_path.with_name("jobs.json.bak")
    version = store.create(JOBS_KEY, b"first")
    assert not backup.exists()
    version = store.replace(JOBS_KEY, b"second", version)
    assert backup.read_bytes() == b"first"
    version = store.replace(JOBS_KEY, b"third", version)
    assert backup.read_bytes() == b"first"
    time_of_day[0] = noon + 3_600
    store.replace(JOBS_KEY, b"fourth", version)
    assert backup.read_bytes() == b"third"
    assert [(copy.data, copy.age_s) for copy in store.backups()] == [(b"third", 0.0), (b"first", 3_600.0)]


def test_each_change_of_a_person_leaves_a_copy_and_their_row_is_bounded(home, jobs_path):
    """Ten copies at most, the newest first, each what was there before; one for a command, however often it writes."""
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    version = LocalStore(home, lock_timeout_s=1, wall=lambda: noon).create(JOBS_KEY, b"0")
    for number in range(1, 15):
        command = LocalStore(home, lock_timeout_s=1, wall=lambda at=noon + number: at, by_person=True)
        version = command.replace(JOBS_KEY, b"half of %d" % number, version)
        version = command.replace(JOBS_KEY, b"%d" % number, version)
    kept = [copy.data for copy in command.backups()]
    assert kept == [b"%d" % number for number in range(13, 3, -1)]
    assert jobs_path.with_name("jobs.json.bak").read_bytes() == b"13"
    assert len(list(jobs_path.parent.glob("jobs.json.bak*"))) == 10
    run = LocalStore(home, lock_timeout_s=1, wall=lambda: noon + 15)
    run.replace(JOBS_KEY, b"15", version)
    assert [copy.data for copy in run.backups()] == kept


def test_a_clock_that_was_ahead_for_a_while_does_not_cost_the_copy_of_what_was_before(home, jobs_path):
    """What it left takes its place no sooner than a day after the clock is right again."""
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
    now = [noon]
    store = LocalStore(home, lock_timeout_s=1, wall=lambda: now[0])
    backup = jobs_path.with_name("jobs.json.bak")
    version = store.create(JOBS_KEY, b"good")
    now[0] = noon + 4_000 * 86_400
    version = store.replace(JOBS_KEY, b"as a clock at 2037 left it", version)
    for later in (60, 120, 3_600):
        now[0] = noon + later
        version = store.replace(JOBS_KEY, b"right again", version)
        assert backup.read_bytes() == b"good"
    now[0] = noon + 86_400
    store.replace(JOBS_KEY, b"the next day", version)
    assert backup.read_bytes() == b"right again"


def test_a_store_whose_other_half_cannot_be_read_is_refused(home, store, jobs_path):
    """What a newer hermes keeps in cron/runtime.db is a half of its jobs: without it nothing is read or written."""
    version = store.create(JOBS_KEY, b"1")
    (home / "cron" / "runtime.db").write_bytes(b"SQLite format 3\0")
    before = snapshot(jobs_path.parent)
    for attempt in (
        lambda: store.read(JOBS_KEY),
        lambda: store.replace(JOBS_KEY, b"2", version),
        lambda: store.create(JOBS_KEY, b"2"),
    ):
        with pytest.raises(StoreError, match=r"cron/runtime\.db"):
            attempt()
    assert snapshot(jobs_path.parent) == before


def test_a_change_by_a_program_without_locks_is_seen(store, jobs_path):
    """An editor that wrote in place after we read makes our write a conflict."""
    version = store.create(JOBS_KEY, b"1234")
    time.sleep(0.02)
    jobs_path.write_bytes(b"5678")
    with pytest.raises(VersionConflict):
        store.replace(JOBS_KEY, b"ours", version)


def test_a_file_system_without_hard_links_makes_a_document_once_too(store, monkeypatch):
    """Where links are not to be had, a new file takes its name under the folder's lock, and only a free one."""
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(1, "Operation not permitted")))
    store.create(ROW, b"1")
    looks = []
    monkeypatch.setattr(os.path, "lexists", lambda path: bool(looks.append(path)) or len(looks) > 1)
    with pytest.raises(VersionConflict):
        store.create(ROW, b"2")
    assert store.read(ROW).data == b"1"


def test_times_later_than_ours_do_not_stop_versions(store, jobs_path):
    """A file from a clock that is ahead still gets a new version with each write."""
    store.create(JOBS_KEY, b"1")
    ahead = time.time_ns() + 10**15
    os.utime(jobs_path, ns=(ahead, ahead))
    first = store.read(JOBS_KEY).version
    second = store.replace(JOBS_KEY, b"2", first)
    assert store.replace(JOBS_KEY, b"3", second) not in {first, second}
    assert jobs_path.stat().st_mtime_ns > ahead


def snapshot(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()}


def open_up(tmp_path):
    """Let other users through to a folder of this test."""
    common = Path(tempfile.gettempdir()).resolve()
    for folder in (tmp_path, *tmp_path.parents):
        if folder == common or folder.stat().st_uid != os.geteuid():
            break
        folder.chmod(0o755)
