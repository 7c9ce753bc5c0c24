"""What an operator sees of each fault, kept word for word: `tests/cli/screens/FAULT.txt`, read as one reads it at night.

With CHRONOS_TEST_KEEP_SCREENS=1 the files are written anew: read what `git diff` then shows. The clock stands still;
days and times are kept as their form alone, and of `doctor` only what is not in order.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chronos_cli.nas_client.client import NasClient
from chronos_cli.operations import assembly
from chronos_cli.operations.doctor import jobs as doctor_jobs
from chronos_cli.operations.views import settled
from tests.agent_home import AgentHome
from tests.cli.terminals import on_terminal
from tests.nas_process import running_nas

SCREENS = Path(__file__).parent / "screens"
KEEP = os.environ.get("CHRONOS_TEST_KEEP_SCREENS") == "1"
SIZES = ((80, 24), (120, 40))
ONGOING = timedelta(minutes=5, seconds=10)
"""Age of what has gone wrong, well within its minute."""

NUMBER = re.compile(r"^ *\d+\. ")
OF_THE_PLACE = re.compile(r"^ *\d+\. OK |WARN +file system|^\d+ checks: ")
"""What `doctor` says that is in order, or hangs on where the test runs."""

FORMS = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"), "YYYY-MM-DDTHH:MM:SS+00:00"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "YYYY-MM-DD"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "HH:MM:SS"),
    (re.compile(r"\b\d\d:\d\d\b"), "HH:MM"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"agent:[0-9a-f]{12}"), "agent:ID"),
    (re.compile(r"in \d+ ms"), "in N ms"),
    (re.compile(r"(YYYY-MM-DD) [\d:HMS]*…"), r"\1 HH…"),
    (re.compile(r"line \d+ column \d+ \(char \d+\)"), "line N column N (char N)"),
    (re.compile(r"next try in \d+ s"), "next try in N s"),
    (re.compile(r"/[0-9a-f]{16}\.json"), "/ID.json"),
    (re.compile(r"proof\.[0-9a-f]{16}"), "proof.ID"),
    (re.compile(r"/tmp/kept-\w{8}"), "/tmp/kept-HOMEHOME"),
    (re.compile(r"\b\w+\(\d+\):\w+\(\d+\)"), "USER:GROUP"),
    (re.compile(r"running as \w+\(\d+\)"), "running as USER"),
)


@pytest.fixture(scope="module")
def nas(tmp_path_factory):
    """One NAS for all tests here; each test is an agent of its own."""
    with running_nas(tmp_path_factory.mktemp("nas"), "--retry-base", "60") as running:
        yield running


@pytest.fixture
def world(nas, clean_environment, request):
    """A home at that NAS with a job that is well, one that comes soon, and one with a name of its own."""
    name = f"kept-{zlib.crc32(request.node.name.encode()):08x}"
    place = Path(tempfile.mkdtemp(prefix="kept-", dir="/tmp"))  # of one length: lines are folded where they are
    agent = AgentHome(place, nas, name=name)
    agent.nas, agent.patch, agent.now = nas, clean_environment, datetime.now(UTC).replace(microsecond=0)
    agent.by = timedelta()
    clean_environment.setattr(assembly, "_now", lambda: agent.now + agent.by)
    clean_environment.setattr(settled, "_LATER_S", ())
    clean_environment.setitem(settled.settled.__kwdefaults__, "again_after_s", 0.02)
    clean_environment.setattr(doctor_jobs, "AGAIN_AFTER_S", 0.02)
    clean_environment.setenv("USER", "ann")
    for words in (
        ("every 30d", "--id", "billing"),
        ("in 3h", "--id", "digest"),
        ("every 20d", "--id", "4d8f0c11aa02", "--name", "weekly report"),
    ):
        assert _run(agent, "job", "add", *words, "--shell", "true").code == 0
    yield agent
    shutil.rmtree(place)


def _run(agent, *words, **more):
    return on_terminal("--home", agent.home, *words, **more)


def _edit(agent, job_id, **changes):
    path = agent.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    next(job for job in document["jobs"] if job["id"] == job_id).update(changes)
    path.write_text(json.dumps(document))


def _due(agent, job_id="billing"):
    """A job is due for five minutes, at NAS as here, and NAS calls for it."""
    due = (agent.now - ONGOING).replace(microsecond=0)
    _edit(agent, job_id, next_run_at=due.isoformat())
    agent.nas.provision(agent.access, job_id, due, f"http://127.0.0.1:{agent.port}")
    note = agent.home / "cron" / "arms" / f"{job_id}.json"
    known = {"wake": due.isoformat(), "fire_at": due.isoformat(), "keys": {due.isoformat(): "cursor"}}
    note.write_text(json.dumps(json.loads(note.read_text()) | known))


def well(agent):
    """Nothing is wrong."""


def callback_down(agent):
    """NAS calls, and nobody listens."""
    _due(agent)
    until = time.monotonic() + 15
    while "has not reached us" not in _run(agent, "status").text:
        assert time.monotonic() < until
        time.sleep(0.1)


def nas_down(agent):
    """Nobody listens where NAS was."""

    def no_connection(*_):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    agent.patch.setattr("socket.socket.connect", no_connection)
    agent.patch.setitem(NasClient.__init__.__kwdefaults__, "sleep", lambda _: None)


def refused_token(agent):
    """NAS takes this agent's token no more."""
    (agent.home / "token").write_text("not-the-token")


def refused_fire(agent):
    """The callback has refused the token of a call."""
    told = {"at": agent.now.isoformat(), "code": "audience", "message": "the audience is b", "hint": "x"}
    (agent.home / "cache").mkdir(mode=0o700, exist_ok=True)
    (agent.home / "cache" / "refused.json").write_text(json.dumps(told))


def held(agent):
    """All jobs are held, and one came due since."""
    assert _run(agent, "hold", "--reason", "db migration", "--ttl", "2h").code == 0
    _edit(agent, "billing", next_run_at=(agent.now - ONGOING).replace(microsecond=0).isoformat())
    assert _run(agent, "reconcile").code == 0


def standby(agent):
    """Another machine is the active one."""
    agent.patch.setenv("CHRONOS_STANDBY", "1")


def corrupt_store(agent):
    """The end of the store is gone."""
    path = agent.home / "cron" / "jobs.json"
    path.write_bytes(path.read_bytes()[:-40])
    for copy in path.parent.glob("jobs.json.bak*"):
        os.utime(copy, (0, (agent.now - ONGOING).timestamp()))


def full_disk(agent):
    """No file takes a byte more."""
    real = os.open

    def full(path, flags, *more, **named):
        if (
            flags & os.O_CREAT
            and not os.fsdecode(path).endswith(".lock")
            and flags & (os.O_WRONLY | os.O_RDWR)
            and not Path(os.fsdecode(path)).exists()
        ):
            raise OSError(errno.ENOSPC, "No space left on device", os.fsdecode(path))
        return real(path, flags, *more, **named)

    agent.patch.setattr("os.open", full)


def wrong_clock(agent):
    """This machine's clock is two hours ahead of NAS's."""
    agent.by = timedelta(hours=2, minutes=5, seconds=30)


def no_trigger(agent):
    """Nothing ever looks at the jobs."""
    (agent.home / "config.yaml").write_text("timezone: UTC\n")
    shutil.rmtree(agent.home / "cron" / "arms")


def unarmed(agent):
    """NAS has lost one timer, and holds another for quite another time."""
    agent.nas.cancel(agent.access, "digest")
    agent.nas.provision(agent.access, "billing", agent.now + timedelta(days=3), f"http://127.0.0.1:{agent.port}")


def failing(agent):
    """A job has failed when it ran."""
    assert _run(agent, "job", "edit", "digest", "--shell", "echo no such table >&2; exit 3").code == 0
    assert _run(agent, "run", "digest").code == 10


FAULTS = (
    well, callback_down, nas_down, refused_token, refused_fire, held, standby, corrupt_store, full_disk, wrong_clock,
    no_trigger, unarmed, failing,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_screens_of_a_fault_are_as_kept(world, fault):
    """`list` and `status` at both sizes, what `doctor` finds, and what a change and a reconcile say: no word moved."""
    fault(world)
    parts = [str(fault.__doc__)]
    for view in ("list", "status"):
        for columns, lines in SIZES:
            shown = _run(world, view, columns=columns, lines=lines)
            assert shown.too_wide() == []
            parts += [f"$ chronos {view}    # {columns}x{lines}, exit {shown.code}", *_kept(shown)]
    found = _run(world, "doctor", columns=1000)
    wrong = [NUMBER.sub("", line) for line in _kept(found) if not OF_THE_PLACE.search(line)]
    parts += [f"$ chronos doctor    # what is not in order, exit {found.code}", *wrong]
    for words in (("reconcile", "--dry-run"), ("job", "pause", "digest")):
        done = _run(world, *words, columns=1000)
        parts += [f"$ chronos {' '.join(words)}    # exit {done.code}", *_kept(done)]
    text = "\n".join(parts) + "\n"
    kept = SCREENS / f"{fault.__name__}.txt"
    if KEEP:
        kept.write_text(text)
    assert text == kept.read_text()


def test_every_kept_screen_is_of_a_fault():
    """No file is left of a fault that is brought about no more."""
    assert {path.stem for path in SCREENS.glob("*.txt")} == {fault.__name__ for fault in FAULTS}


def _kept(screen):
    """The lines, days, times and numbers of this one test as their forms."""
    text = "\n".join(line.rstrip() for line in screen.lines)
    for pattern, form in FORMS:
        text = pattern.sub(form, text)
    return text.splitlines()
