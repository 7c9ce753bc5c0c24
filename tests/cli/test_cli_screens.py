"""The views on terminals of 80 by 24 and 120 by 40, and narrower, with each fault brought about: every line fits."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.agent_home import AgentHome
from tests.cli.terminals import columns_of, on_terminal

SIZES = ((80, 24), (120, 40), (40, 24))
VIEWS = (("list",), ("list", "--offline"), ("job", "list"), ("status",), ("history",), ("timeline",), ("doctor",))
INTERNAL = ("compare_and_swap", "probe_slot", "arm_different", "arm_missing", "in hand", "None", "<", "Traceback", "{'")
"""What no person reads: words of the code, and how Python shows things."""


@pytest.fixture
def agent(tmp_path, nas, clean_environment, request):
    """A home at that NAS, with a job that is armed, one that has failed, and one with a name of its own."""
    home = AgentHome(tmp_path / "home", nas, name=f"screens-{abs(hash(request.node.name)) % 10**8}")
    home.nas = nas
    for words in (
        ("@yearly", "--id", "far", "--shell", "true"),
        ("@yearly", "--id", "bad", "--shell", "echo nothing came of it, and that for a long time >&2; exit 3"),
        ("@yearly", "--id", "4d8f0c11aa02", "--name", "weekly report 週報 🙂", "--shell", "true"),
    ):
        assert _run(home.home, "job", "add", *words).code == 0
    assert _run(home.home, "run", "bad").code == 10
    return home


def _run(home, *words, **more):
    return on_terminal("--home", home, *words, **more)


def _edit(home, change):
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    change(document["jobs"])
    path.write_text(json.dumps(document))


def _nothing(agent, patch):
    """Nothing is wrong."""


def _nas_down(agent, patch):
    def no_connection(*_):
        raise ConnectionRefusedError(111, "Connection refused")

    patch.setattr("socket.socket.connect", no_connection)


def _bad_token(agent, patch):
    (agent.home / "token").write_text("not-the-token")


def _held(agent, patch):
    assert _run(agent.home, "hold", "--reason", "db migration of the whole of the billing department " * 3).code == 0


def _standby(agent, patch):
    patch.setenv("CHRONOS_STANDBY", "1")


def _corrupt(agent, patch):
    path = agent.home / "cron" / "jobs.json"
    path.write_bytes(path.read_bytes()[:-40])


def _broken_records(agent, patch):
    def change(jobs):
        jobs[0]["schedule"] = {"kind": "cron", "expr": "99 99 * * *"}
        jobs.append({"id": "half", "name": 5, "schedule": None})
        jobs.append("not even a record")

    _edit(agent.home, change)


def _refused_fire(agent, patch):
    cache = agent.home / "cache"
    cache.mkdir(mode=0o700, exist_ok=True)
    told = {"at": datetime.now(UTC).isoformat(), "code": "audience", "message": "the audience is b", "hint": "x"}
    (cache / "refused.json").write_text(json.dumps(told))


def _callback_down(agent, patch):
    assert _run(agent.home, "job", "add", "in 1s", "--id", "soon", "--shell", "true").code == 0
    until = time.monotonic() + 15
    while "has not reached us" not in _run(agent.home, "status").text:
        assert time.monotonic() < until
        time.sleep(0.2)


def _overdue(agent, patch):
    ago = (datetime.now(UTC) - timedelta(minutes=5)).replace(microsecond=0)
    _edit(agent.home, lambda jobs: jobs[0].update(next_run_at=ago.isoformat()))


def _another_timer(agent, patch):
    agent.nas.provision(agent.access, "far", datetime.now(UTC) + timedelta(days=3), "http://127.0.0.1:9")
    agent.nas.provision(agent.access, "stranger-of-a-long-name" * 3, datetime.now(UTC) + timedelta(days=9), "http://x")


def _unreadable_row(agent, patch):
    folder = agent.home / "cron" / "runs" / "bad"
    next(iter(folder.glob("*.json"))).write_text("{")


def _no_trigger(agent, patch):
    patch.setenv("CHRONOS_PROVIDER", "builtin")


FAULTS = (
    _nothing, _nas_down, _bad_token, _held, _standby, _corrupt, _broken_records, _refused_fire, _callback_down,
    _overdue, _another_timer, _unreadable_row, _no_trigger,
)  # fmt: skip
NO_PROMISE = (_nas_down, _bad_token, _held, _standby, _corrupt, _refused_fire, _callback_down)
"""With these nothing may be said to fire."""

SLOW = (_nas_down, _another_timer, _overdue)
"""With these a view asks again before it alarms, and is not asked for in every size."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_every_view_fits_its_screen_whatever_is_wrong(agent, fault, clean_environment):
    """No line over the width, one row a job, no promise that does not hold, no word of the code."""
    fault(agent, clean_environment)
    jobs = 0 if fault is _corrupt else len(json.loads((agent.home / "cron" / "jobs.json").read_text())["jobs"])
    for view in (("list",), ("status",)) if fault in SLOW else VIEWS:
        for columns, lines in SIZES[:1] if view == ("doctor",) or fault in SLOW else SIZES:
            shown = _run(agent.home, *view, columns=columns, lines=lines)
            assert shown.too_wide() == [], (view, columns, shown.raw)
            assert [word for word in INTERNAL if word in shown.text] == [], (view, shown.text)
            if fault in NO_PROMISE:
                assert "will fire" not in shown.text, (view, shown.text)
            if view[-1] in ("list", "--offline") and jobs:
                start = next(n for n, line in enumerate(shown.lines) if line.startswith("NAME"))
                assert len(_table(shown.lines[start + 1 :])) == jobs, shown.raw


def _table(lines):
    """The lines of a table: up to the first that is none of its rows."""
    rows = []
    for line in lines:
        if line.startswith(("chronos: ", "`", "stranger", "nothing triggers")):
            break
        rows.append(line)
    return rows


NAMES = {
    "wide": "日本語のジョブ" * 12, "emoji": "🙂" * 60, "long": "n" * 190, "marks": "e\u0301" * 90, "steers": "\x1b[2Ja\u202eb",
    "lines": "a\nb\tc", "blank": " ",
}  # fmt: skip


@pytest.fixture
def many(chronos, home):
    """200 jobs, names of each kind among them, ids that are equal up to case, and ids as long as one may be."""
    assert chronos("job", "add", "@yearly", "--id", "first", "--shell", "true", home=home).code == 0

    def change(jobs):
        model = jobs[0]
        for number in range(195):
            job_id = {0: "CASE", 1: "case", 2: "x" * 128}.get(number, f"job-{number:03}")
            name = list(NAMES.values())[number - 3] if 3 <= number < 3 + len(NAMES) else job_id
            jobs.append({**model, "id": job_id, "name": name})
        jobs += [5, {"id": "first"}, {}, {"id": "bad id", "name": "n"}]

    _edit(home, change)
    return home


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("columns", [24, 40, 80, 120])
def test_two_hundred_jobs_are_two_hundred_rows(many, columns, encoding):
    """Whatever their names are, and whatever the locale can show."""
    shown = _run(many, "list", columns=columns, encoding=encoding)
    start = next(n for n, line in enumerate(shown.lines) if line.startswith("NAME"))
    rows = [line for line in shown.lines[start + 1 : start + 201] if not line.startswith("chronos: ")]
    assert len(rows) == 200
    assert max(map(columns_of, rows)) <= columns
    assert shown.too_wide() == []
    assert any(line.startswith("CASE ") for line in rows) is any(line.startswith("case ") for line in rows) is True
    status = _run(many, "status", columns=columns, encoding=encoding)
    assert status.too_wide() == []


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(many, env):
    assert "\x1b" not in _run(many, "list", env=env).raw
    assert "\x1b[31m" in _run(many, "list").raw


def test_the_id_stands_only_where_it_differs(chronos, home):
    """A column of ids is there for the sake of one job, and empty for all others; in a pipe it is always whole."""
    for words in (("--id", "same"), ("--id", "4d8f0c11aa02", "--name", "report")):
        assert chronos("job", "add", "@yearly", *words, "--shell", "true", home=home).code == 0
    lines = _run(home, "list").lines
    assert [line.split() for line in lines if line.startswith(("same", "report"))] == [
        ["report", "4d8f0c11aa02", "live", *lines[1].split()[3:]],
        ["same", "live", *lines[2].split()[2:]],
    ]
    assert chronos("job", "remove", "report", "--yes", home=home).code == 0
    assert _run(home, "list").lines[0].split()[:2] == ["NAME", "STATE"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        piped = chronos("list", home=home).out.splitlines()
    assert piped[0].split()[:3] == ["NAME", "ID", "STATE"]
    assert piped[1].split()[:2] == ["same", "same"]


def test_a_pipe_gets_one_row_a_job_and_nothing_is_cut(chronos, many, monkeypatch):
    """As `-o wide` has it on any screen: with the schedule, and instants that bear their zone."""
    monkeypatch.delenv("COLUMNS")
    piped = chronos("list", home=many).out
    wide = _run(many, "list", "-o", "wide").text
    assert len(piped.splitlines()) == 201
    assert "x" * 128 in piped
    assert "x" * 128 in wide
    assert "…" not in piped
    (row,) = [line for line in piped.splitlines() if line.startswith("job-100")]
    assert "@yearly" in row
    assert " CET (in " in row or " CEST (in " in row
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(columns_of, chronos("list", home=many).out.splitlines())) <= 80


@pytest.mark.parametrize("view", [("list",), ("job", "list"), ("history",), ("status",), ("timeline",)])
def test_an_id_is_whole_on_80_columns(chronos, home, monkeypatch, view):
    """It is there to be typed on, as the id of a run is: names, reasons and times give way first."""
    long, named = "nightly-backup-of-the-whole-database", "b-7f3a91c2d4e5"
    for words in (("--id", long), ("--id", named, "--name", "a name of so many words that no screen is wide enough")):
        assert chronos("job", "add", "@yearly", *words, "--shell", "exit 3", home=home).code == 0
        assert chronos("run", words[1], home=home).code == 10
    monkeypatch.setenv("COLUMNS", "80")
    shown = chronos(*view, home=home).out
    assert max(map(columns_of, shown.splitlines())) <= 80
    assert long in shown
    assert named in shown or view == ("timeline",)
    if view == ("history",):
        runs = chronos("history", "-o", "name", home=home).out.split()
        assert len(runs) == 2
        assert all(f"  {name.partition('/')[2]}  " in shown for name in runs)
        one = chronos("history", long, home=home).out
        assert "exited with status 3" in one


@pytest.mark.parametrize("view", [("list",), ("job", "list"), ("history",), ("status",)])
def test_layouts(chronos, home, view):
    """`json` is what --json says, `name` is what other commands take, anything else is refused with what there is."""
    for job_id in ("a", "b"):
        assert chronos("job", "add", "@yearly", "--id", job_id, "--shell", "exit 3", home=home).code == 0
        assert chronos("run", job_id, home=home).code == 10
    by_flag, by_layout = (json.loads(chronos(*view, *words, home=home).out) for words in (("--json",), ("-o", "json")))
    assert by_flag["schema"] == by_layout["schema"]
    assert by_flag.keys() == by_layout.keys()
    names = chronos(*view, "-o", "name", home=home).out.splitlines()
    assert len(names) == 2
    for name in names:
        known = ("logs", name) if view == ("history",) else ("job", "show", name)
        assert chronos(*known, home=home).code == 0
    done = chronos(*view, "-o", "yaml", home=home)
    assert (done.code, "there is no output 'yaml': it may be wide, json, name" in done.err) == (2, True)
    done = chronos(*view, "--json", "-o", "name", home=home)
    assert (done.code, "--json and -o name contradict each other: give one of them" in done.err) == (2, True)
    failed = chronos(*view, "-o", "json", "--nonsense", home=home)
    assert (failed.code, json.loads(failed.out)["error"]["code"]) == (2, "usage")


def interrupt(ended):
    """Press Ctrl-C, and again where Python was just where an exception goes nowhere."""
    os.kill(os.getpid(), signal.SIGINT)
    while not ended.wait(5):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("view", [("list",), ("status",), ("history",)])
def test_watching_draws_again_until_it_is_interrupted(chronos, home, view):
    """Each frame takes the place of the last, fits the screen, shows what has changed, and Ctrl-C ends it with 130."""
    assert chronos("job", "add", "@yearly", "--id", "old", "--shell", "true", home=home).code == 0
    assert chronos("run", "old", home=home).code == 0

    def change():
        time.sleep(0.5)
        _edit(home, lambda jobs: jobs.extend({**jobs[0], "id": f"new{n}", "name": f"new{n}"} for n in range(40)))
        time.sleep(0.6)
        interrupt(ended)

    ended = threading.Event()
    changing = threading.Thread(target=change)
    changing.start()
    shown = _run(home, *view, "--watch", "--interval", "0.2s", lines=12)
    ended.set()
    changing.join()
    assert shown.code == 130, shown.raw
    frames = shown.raw.split("\x1b[H")[1:]
    assert len(frames) > 3
    assert all(frame.partition("\x1b[J")[0].count("\n") <= 11 for frame in frames)
    assert "every 0.2 s until Ctrl-C" in frames[0]
    assert shown.too_wide() == []
    if view == ("list",):
        assert "new1" not in frames[0]
        # The last may be broken off in the middle.
        assert any("new1" in frame and "more lines" in frame for frame in frames[-2:])


def test_watching_goes_on_through_a_fault(agent, monkeypatch):
    """NAS that refuses the token is said in the frame, and not the end of it."""
    _bad_token(agent, monkeypatch)
    ended = threading.Event()
    timer = threading.Timer(1.0, interrupt, (ended,))
    timer.start()
    shown = _run(agent.home, "list", "--watch", "--interval", "0.2")
    ended.set()
    assert shown.code == 130
    frames = shown.raw.split("\x1b[H")[1:]
    assert len(frames) > 1
    assert all("chronos: error: " in " ".join(frame.split()) for frame in frames), frames[0]


def test_watching_is_refused_with_the_reason(chronos, home):
    """Where nothing can be redrawn: no terminal, a dumb one, JSON, names; and an interval alone."""
    for words, said in (
        (("list", "--watch"), "--watch draws on a terminal, and standard output is none: leave it out"),
        (
            ("status", "--watch", "-o", "json"),
            "--watch is for people, not for -o json or -o name: leave one of them out",
        ),
        (("list", "--watch", "-o", "name"), "for people"),
        (("list", "--interval", "1s"), "--interval belongs to --watch: give both"),
    ):
        done = chronos(*words, home=home)
        assert done.code == 2
        assert said in done.err
    dumb = _run(home, "list", "--watch", env={"TERM": "dumb"})
    assert "--watch cannot draw on a terminal that is dumb (TERM): leave it out" in dumb.text
    assert (
        "the interval '0s' is too short: give a second or more"
        in chronos("list", "--watch", "--interval", "0s", home=home).err
    )
