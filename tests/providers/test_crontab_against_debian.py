"""Two hundred lines under Debian's cron and here: read by its own parser, and run by its own daemon, side by side.

The shell of every line is a program that writes down what it was started with, so nothing of the lines is run.
"""

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from chronos_cli.core.schedule import NICKNAMES
from chronos_cli.operations.foreign.crontab import Machine, read_crontab
from tests.conftest import ROOT
from tests.crontab_corpus import strange_table, table
from tests.debian_cron import REBOOT, DebianCron, same
from tests.providers.test_real_cron import PLACE, machines_tables, programs

pytestmark = [pytest.mark.soak, pytest.mark.service]

__all__ = ["programs"]

NOW = datetime.now(UTC)
PROBE = """#!/bin/sh
if [ -n "$CHRONOS_JOB_ID" ]; then side=chronos; else side=cron; fi
out=$(mktemp -d "{folder}/$side/XXXXXXXX")
cat > "$out/stdin"
readlink /proc/$$/cwd > "$out/cwd"
cat /proc/$$/cmdline > "$out/cmdline"
cat /proc/$$/environ > "$out/environ"
mv "$out" "$out.done"
"""
INHERITED = ("LANG", "PYTHONPATH", "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE", "USER")


def machine(name, folder):
    return Machine(user=name, folder=folder, zone_name="UTC", is_user=lambda _: False, is_program=lambda *_: True)


def test_every_line_is_read_as_debian_reads_it(tmp_path):
    """Times, stars, settings and commands of two hundred lines, from Debian's load_env and load_entry."""
    debian, text = DebianCron(tmp_path), table()
    entries, problem = debian.read(text)
    assert problem is None
    user, home = entries[0].env[b"LOGNAME"].decode(), os.environ["HOME"]
    ours = read_crontab(text, machine(user, home), zone_name="UTC", now=NOW).entries
    assert len(ours) == len(entries) == 200
    for mine, theirs in zip(ours, entries, strict=True):
        assert mine.text.encode() == theirs.command
        assert {name.encode(): value.encode() for name, value in mine.env.items()} == theirs.env, mine.line
        assert mine.cron is not None
        assert same(NICKNAMES.get(mine.cron.expr, mine.cron.expr), theirs), mine.line


def bytes_of(text):
    return text.encode("utf-8", "surrogateescape")


def test_strange_crontabs_are_read_as_debian_reads_them_or_said_not_to_be(tmp_path):
    """Of two thousand made by chance: where it refuses one the plan says so, and what both take is the same."""
    debian, chance, taken, refused = DebianCron(tmp_path), random.Random(22), 0, 0
    for _ in range(2000):
        text = strange_table(chance)
        entries, problem = debian.read(text)
        wrong = []
        ours = read_crontab(text, machine("root", os.environ["HOME"]), zone_name="UTC", now=NOW, wrong=wrong)
        assert (ours.refused is None) == (problem is None), (text, problem, ours.refused)
        if wrong:
            continue  # refused by its line here
        if problem is not None:
            refused += 1
            continue
        taken += 1
        theirs = [entry for entry in entries if not entry.flags & REBOOT]
        assert len(ours.entries) == len(theirs), text
        for mine, entry in zip(ours.entries, theirs, strict=True):
            user = entry.env[b"LOGNAME"]
            assert bytes_of(mine.text) == entry.command, text
            assert {bytes_of(name): bytes_of(value) for name, value in mine.env.items()} | {
                b"LOGNAME": user
            } == entry.env, text
            assert same(NICKNAMES.get(mine.cron.expr, mine.cron.expr), entry), text
    assert min(taken, refused) > 50


def seen(folder):
    """What the probe wrote on one side: folder and environment by arguments and standard input."""
    found = {}
    for place in folder.glob("*.done"):
        environ = dict(pair.split(b"=", 1) for pair in (place / "environ").read_bytes().split(b"\0") if b"=" in pair)
        kept = {name: value for name, value in environ.items()
                if not name.startswith(b"CHRONOS_") and name.decode() not in INHERITED}  # fmt: skip
        found[(place / "cmdline").read_bytes(), (place / "stdin").read_bytes()] = ((place / "cwd").read_text(), kept)
    return found


def test_every_line_is_started_as_debians_cron_starts_it(tmp_path, programs):
    """The same arguments, folder, standard input and environment, two hundred times."""
    cron, unshare = programs
    before = machines_tables()
    probe = tmp_path / "probe"
    probe.write_text(PROBE.format(folder=tmp_path))
    probe.chmod(0o755)
    for side in ("cron", "chronos"):
        (tmp_path / side).mkdir()
    (tmp_path / "empty").touch(mode=0o644)
    (tmp_path / "crontab").write_bytes(table(times="* * * * *", settings=[f"SHELL={probe}"]))
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text("timezone: UTC\n")
    given = {
        "PATH": "/usr/bin:/bin",
        "HOME": os.environ["HOME"],
        "PYTHONPATH": str(ROOT),
        "CHRONOS_HOME": str(home),
    }

    def chronos(*arguments):
        done = subprocess.run([sys.executable, "-m", "chronos_cli", *arguments], env=given, capture_output=True, timeout=300, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr

    chronos("job", "import", str(tmp_path / "crontab"), "--from", "crontab")
    running = subprocess.Popen([unshare, "-m", "sh", "-c", PLACE, "sh", str(tmp_path), cron], stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 240
        while len(seen(tmp_path / "cron")) < 200 or len(seen(tmp_path / "chronos")) < 200:
            assert running.poll() is None, "cron ended"
            assert time.monotonic() < until, (len(seen(tmp_path / "cron")), len(seen(tmp_path / "chronos")))
            time.sleep(2)
            chronos("tick")
    finally:
        running.terminate()
        running.wait(20)
    theirs, ours = seen(tmp_path / "cron"), seen(tmp_path / "chronos")
    assert theirs.keys() == ours.keys()
    for started, around in theirs.items():
        assert ours[started] == around, started
    assert machines_tables() == before
