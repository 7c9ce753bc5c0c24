"""Hints about a home, its files and its commands: the fault is brought about, its hint followed, and it is gone."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest

from chronos_cli.cli import main
from chronos_cli.demo.scenario import DemoVerdict
from chronos_cli.errors import ChronosError
from chronos_cli.nas_client.tokens import HomeTokens
from chronos_cli.store.jobsfile import JobsFile
from tests.errors.hinted import tries
from tests.errors.hints_of_words import SHELL


def hint_of(work):
    """The hint of the error that `work` raises."""
    with pytest.raises(ChronosError) as refused:
        work()
    return refused.value.hint


def refused(step, code, words):
    """Hold that a command failed so, with these words in its last line; that line."""
    line = step.err.strip().splitlines()[-1]
    assert (step.code, words in line) == (code, True), step
    return line


def command_in(line):
    """The words of the `chronos` command that stands in a line."""
    return re.findall(r"`chronos ([^`]+)`", line)[-1].split()


@pytest.fixture
def closed(monkeypatch):
    """Closes a file to this user, also where that is root, until its mode lets its owner read."""

    def close(path):
        path.chmod(0)
        opened = os.open

        def denied(name, *rest, **more):
            if os.fspath(name) in (str(path), path.name) and not path.stat().st_mode & stat.S_IRUSR:
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return opened(name, *rest, **more)

        if os.geteuid() == 0:
            monkeypatch.setattr(os, "open", denied)

    return close


@tries("config/file.py", "make it readable for this user, or name another home with --home")
@tries("nas_client/tokens.py", "make it readable for the user with id")
def test_a_file_that_is_closed_is_opened(world, closed):
    """The configuration, and the file of the token; or another home is named."""
    config = world.home / "config.yaml"
    closed(config)
    refused(world("list"), 2, "make it readable for this user, or name another home with --home")
    assert world("--home", world.folder / "other", "list").code == 0
    config.chmod(0o600)
    assert world("list").code == 0
    token = world.home / "t"
    token.write_text("x")
    closed(token)
    tokens = HomeTokens(home=str(world.home), environ={}, token_file=str(token))
    words = f"make it readable for the user with id {os.geteuid()}"
    assert hint_of(lambda: tokens.get(within_s=1)) == words
    token.chmod(0o600)
    assert tokens.get(within_s=1) == "x"


@tries("config/file.py", "move it away, and put a file there")
@tries("nas_client/tokens.py", "put the file with the token there")
def test_a_folder_in_the_place_of_a_file_is_moved_away(world):
    """Nobody can make a folder readable as a file."""
    config = world.home / "config.yaml"
    right = config.read_text()
    config.unlink()
    config.mkdir()
    refused(world("list"), 2, "move it away, and put a file there")
    config.rename(world.folder / "aside")
    config.write_text(right)
    assert world("list").code == 0
    (world.home / "t").mkdir()
    tokens = HomeTokens(home=str(world.home), environ={}, token_file=str(world.home / "t"))
    assert hint_of(lambda: tokens.get(within_s=1)) == "put the file with the token there"
    (world.home / "t").rmdir()
    (world.home / "t").write_text("x")
    assert tokens.get(within_s=1) == "x"


@pytest.mark.skipif(os.geteuid() != 0, reason="making another user's files needs root")
@tries("owners.py", "if you trust that user")
def test_the_home_of_another_user_is_named_as_safe(world, monkeypatch, tmp_path):
    """By the command in the hint, or by the variable: then it is used."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (world.home, *world.home.rglob("*")):
        os.lchown(path, 65_534, 65_534)
    line = refused(world("list"), 4, "if you trust that user: mkdir -p ~/.config/chronos && printf")
    assert world("list", env={"CHRONOS_SAFE_HOMES": str(world.home)}).code == 0
    command = re.search(r"if you trust that user: (.*) \(or name it in CHRONOS_SAFE_HOMES\)", line)[1]
    subprocess.run(["sh", "-c", command], check=True)
    assert world("list").code == 0


@tries("streams.py", "what the command did stands; look at it again once that is put right")
def test_what_could_not_be_shown_is_looked_at_again(world, monkeypatch, capsys):
    """Standard output is full: the job was added all the same, as the hint says."""
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:  # noqa: PTH123
        patch.setattr(sys, "stdout", full)
        assert main(["--home", str(world.home), "job", "add", "@daily", "--id", "b", *SHELL]) == 1
    assert "what the command did stands; look at it again once that is put right" in capsys.readouterr().err
    assert world("job", "show", "b").code == 0


@tries("errors.py", "run it again with --debug and report what it prints")
def test_what_nobody_thought_of_is_told_whole_when_it_is_asked_for(world, monkeypatch):
    """One line and no traceback; run again as the hint says it shows where it went wrong."""
    monkeypatch.setattr(JobsFile, "records", property(lambda _: 1 / 0))
    told = world("job", "list")
    refused(told, 1, "run it again with --debug and report what it prints")
    assert "Traceback" not in told.err
    assert "Traceback" in world("--debug", "job", "list").err


def _machine_says(number, name=None):
    def fails(*_, **__):
        raise OSError(number, os.strerror(number), name)

    return fails


@tries("errors.py", "see that the file can be used, and try again")
@tries("errors.py", "try again later; `ulimit -a` shows the limits of this user")
def test_what_the_machine_refuses_is_tried_again(world, monkeypatch):
    """The file is named where it is one; else the limits are looked up."""
    for failing, words in (
        (
            _machine_says(errno.EIO, "/some/file"),
            "/some/file: Input/output error: see that the file can be used, and try",
        ),
        (_machine_says(errno.EMFILE), "try again later; `ulimit -a` shows the limits of this user"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(JobsFile, "records", property(failing))
            refused(world("job", "list"), 1, words)
        assert world("job", "list").code == 0
    assert subprocess.run(["sh", "-c", "ulimit -a"], check=True, capture_output=True).stdout


@tries("store/jobsfile.py", "choose another id, or edit that job")
def test_an_id_that_is_taken_in_another_case_is_changed(world):
    """On some disks both would be one file."""
    refused(world("job", "add", "@daily", "--id", "A", *SHELL), 6, "choose another id, or edit that job")
    assert world("job", "add", "@daily", "--id", "A2", *SHELL).code == 0
    assert world("job", "edit", "a", "--schedule", "@daily").code == 0


@tries("store/local.py", "check that disk; the change is there now but may not survive a power cut")
def test_a_change_that_may_not_last_is_there(world, monkeypatch):
    """The disk refuses to write its folder down: before the change nothing is changed, after it that can be seen."""

    def retries():
        return world("job", "show", "a", "--json").json["job"]["policy"]["retries"]

    def edited(*steps):
        left = list(steps)

        def sync(fd):
            left.pop(0)(fd)

        with monkeypatch.context() as patch:
            patch.setattr("chronos_cli.store.atomic.sync_folder", sync)
            return world("job", "edit", "a", "--retries", "4")

    fails = _machine_says(errno.EIO)
    line = refused(edited(fails), 1, "could not be made durable: Input/output error")
    assert ("nothing was changed" in line, retries()) == (True, 0)
    words = "check that disk; the change is there now but may not survive a power cut"
    refused(edited(lambda _: None, fails), 1, words)
    assert retries() == 4
    assert world("job", "edit", "a", "--retries", "5").code == 0
    assert retries() == 5


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "nothing was changed; free some space on that file system"),
        (errno.EDQUOT, "nothing was changed; free some space or raise the quota of that user"),
        (errno.EFBIG, "nothing was changed; raise the file size limit (ulimit -f)"),
        (errno.EROFS, "nothing was changed; mount it writable or point CHRONOS_HOME at a place that is"),
        (errno.EACCES, "nothing was changed; run as the owner, or give that user access"),
        (errno.EIO, "nothing was changed; put the file right"),
    ],
)
@tries("store/disk_errors.py", "nothing was changed; free some space on that file system")
@tries("store/disk_errors.py", "nothing was changed; free some space or raise the quota of that user")
@tries("store/disk_errors.py", "nothing was changed; raise the file size limit (ulimit -f")
@tries("store/disk_errors.py", "nothing was changed; mount it writable or point CHRONOS_HOME at a place that is")
@tries("store/disk_errors.py", "nothing was changed; run as the owner, or give that user access")
def test_what_a_disk_refuses_is_done_once_it_takes_it(world, monkeypatch, number, words):
    """Not a byte of the jobs is another until then."""
    before = world.path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("chronos_cli.store.atomic.os.replace", _machine_says(number))
        refused(world("job", "edit", "a", "--retries", "4"), 1, words)
    assert world.path.read_bytes() == before
    assert world("job", "edit", "a", "--retries", "4").code == 0


@tries("store/disk_errors.py", "chmod u+rX")
@tries("store/disk_errors.py", "move it away: mv")
@tries("store/disk_errors.py", "bring back what the link")
def test_what_cannot_be_read_is_read_after_the_command_in_the_hint(world, closed):
    """A closed file is opened, a folder in its place moved away, and what a link leads to brought back."""
    before = world.path.read_bytes()

    def follow(words):
        line = refused(world("list"), 1, words)
        subprocess.run(
            ["sh", "-c", line[line.rindex(words.partition(" ")[0] if "mv" not in words else "mv ") :]], check=True
        )

    closed(world.path)
    follow("chmod u+rX")
    assert world("list").code == 0
    world.path.unlink()
    world.path.mkdir()
    follow("move it away: mv ")
    assert world("list").code == 0
    cron = world.home / "cron"
    cron.rename(world.home / "kept")
    cron.symlink_to(world.home / "gone")
    refused(world("list"), 1, "bring back what the link")
    (world.home / "kept").rename(world.home / "gone")
    world.path.write_bytes(before)
    assert world("list").code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="making another user's files needs root")
@tries("store/disk_errors.py", "run as the owner, or give that user access")
def test_jobs_that_another_user_closed_are_read_once_they_let_us(world, closed, monkeypatch):
    """They are another's, and closed: with access given they are read."""
    monkeypatch.setenv("CHRONOS_SAFE_HOMES", str(world.home))
    os.chown(world.path, 65_534, 65_534)
    closed(world.path)
    refused(world("list"), 1, "run as the owner, or give that user access")
    world.path.chmod(0o644)
    assert world("list").code == 0


@tries("operations/evaluate.py", "mend it with `chronos job unlock")
def test_an_entry_of_open_runs_that_cannot_be_read_is_taken_out(world):
    """The command in the hint does that, and the job runs."""
    document = json.loads(world.path.read_text())
    document["jobs"][0]["chronos"]["open"] = [5]
    world.path.write_text(json.dumps(document))
    line = refused(world("run", "a"), 1, "mend it with `chronos job unlock a --yes`")
    assert world(*command_in(line)).code == 0
    assert world("run", "a").code == 0


@tries("store/split.py", "` brings the jobs into another home; until then fires are put off")
def test_the_jobs_of_a_split_store_are_brought_into_another_home(world):
    """The command in the hint does that, and they are there."""
    (world.home / "cron" / "runtime.db").write_bytes(b"no database" * 400)
    line = refused(world("list"), 1, "` brings the jobs into another home; until then fires are put off")
    other = partial(world, "--home", world.folder / "other")
    brought = other(*command_in(line))
    assert brought.code == 0, brought
    assert other("job", "show", "a").code == 0


@tries("cli/handlers/apply.py", "name one with --set")
@tries("cli/handlers/apply.py", "write `jobs:` and a list of them")
def test_jobs_from_standard_input_need_a_list_and_a_set(world, monkeypatch):
    """Nothing there is no file of jobs; what is to be pruned has a name."""

    def apply(text, *words):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return world("apply", "-f", "-", *words)

    jobs = "jobs:\n- {id: of-a-set, schedule: '@daily', shell: 'true'}\n"
    refused(apply("jobs: []\n"), 2, "write `jobs:` and a list of them")
    assert apply(jobs).code == 0
    refused(apply(jobs, "--prune"), 2, "name one with --set")
    assert apply(jobs, "--prune", "--set", "mine").code == 0


@tries("cli/handlers/backfill.py", "see `chronos history")
def test_runs_of_a_backfill_that_failed_are_in_the_history(world):
    """The command in the hint shows each of them with its reason."""
    assert world("job", "edit", "a", "--shell", "exit 3").code == 0
    line = refused(world("run", "a", "--backfill", "2026-01-01T00:00..2026-01-01T00:01"), 10, "see `chronos history")
    shown = world(*command_in(line))
    assert (shown.code, "exit" in shown.out) == (0, True), shown


@tries("cli/commands/tick.py", "see `chronos logs")
def test_a_run_of_a_tick_that_failed_is_looked_up(world):
    """The command in the hint shows what it wrote."""
    assert world("job", "edit", "a", "--shell", "echo bad; exit 3").code == 0
    ago = (datetime.now(UTC) - timedelta(seconds=2)).replace(microsecond=0).isoformat()
    document = json.loads(world.path.read_text())
    (record,) = (one for one in document["jobs"] if one["id"] == "a")
    record["next_run_at"] = record["chronos"]["anchor"] = ago
    record["schedule"] = {"kind": "interval", "minutes": 60, "display": "every 60m"}
    world.path.write_text(json.dumps(document))
    shown = world(*command_in(refused(world("tick"), 10, "see `chronos logs a/")))
    assert (shown.code, "bad" in shown.out) == (0, True), shown


@tries("cli/references.py", "labels in use")
def test_labels_that_no_job_has_name_those_in_use(world):
    """One of them chooses a job."""
    assert world("job", "edit", "a", "--label", "team=ops").code == 0
    refused(world("list", "-l", "owner"), 5, "labels in use: team")
    assert world("list", "-l", "team").code == 0


@tries(
    "cli/commands/demo.py",
    "run it again with --keep DIR; if it stays, `chronos --home DIR/agent history` shows each run",
)
def test_a_demo_that_failed_is_kept_and_looked_at(world, monkeypatch):
    """A play in which a run is missing is told of; run again and kept, the command in the hint shows its runs."""
    at = datetime(2026, 11, 20, 12, tzinfo=UTC)
    ran = [Counter(), Counter({at.isoformat(): 1})]

    @contextlib.contextmanager
    def set_up(keep, _):
        if keep is not None:
            shutil.copytree(world.home, keep / "agent")
        yield SimpleNamespace(nas_url="http://127.0.0.1:9")

    def play(_):
        verdict = DemoVerdict(due={"a": (at,)}, ran={"a": ran.pop(0)}, passed_over={"a": ()})
        return SimpleNamespace(events=lambda: (), verdict=lambda: verdict)

    monkeypatch.setattr("chronos_cli.demo.environment.set_up", set_up)
    monkeypatch.setattr("chronos_cli.demo.scenario.DemoPlay", play)
    line = refused(world("demo"), 1, "run it again with --keep DIR; if it stays, ")
    kept = world.folder / "kept"
    assert world("demo", "--keep", kept).code == 0
    shown = world(*(word.replace("DIR", str(kept)) for word in command_in(line)))
    assert (shown.code, "ok" in shown.out) == (0, True), shown
