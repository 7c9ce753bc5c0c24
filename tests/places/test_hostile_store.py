"""The store is data: whoever can write it decides what jobs run, and no program, path or signal beside that."""

from __future__ import annotations

import json
import os
import signal

import pytest

from chronos_cli.core.row import is_output_of, output_of
from tests.cli.conftest import spawn
from tests.places.hostile import RUN, holding, owner_of, put_run

SHOWING = [
    ("list",), ("list", "--offline", "--json"), ("job", "list"), ("job", "show", "a"), ("status",), ("doctor",),
    ("history",), ("history", "a", "--json"), ("logs", "a"), ("timeline",), ("next", "every 1h"), ("hold", "--on"),
    ("provider", "list"), ("config", "show"), ("job", "export"), ("reconcile", "--dry-run"), ("__complete", "jobs", ""),
]  # fmt: skip


@pytest.fixture
def no_signals(monkeypatch):
    """Every way to send a signal is noted, and sends none."""
    sent = []
    for module, name in ((os, "kill"), (os, "killpg"), (signal, "pidfd_send_signal")):
        monkeypatch.setattr(module, name, lambda *given, name=name: sent.append((name, given)))
    return sent


@pytest.mark.parametrize("arguments", SHOWING, ids=" ".join)
@pytest.mark.parametrize("lease_over", [True, False])
def test_showing_never_signals(chronos, home, tmp_path, no_signals, arguments, lease_over):
    """No command that shows things sends a signal, whatever lock file and process group a row names."""
    lock = tmp_path / "somebodys.lock"
    with holding(lock) as victim:
        lock.write_text(json.dumps({"token": "0123456789abcdef", "pgid": victim.pid, "started": 1, "run_id": RUN}))
        put_run(home, owner_of(lock, group=victim.pid), lease_over=lease_over)
        chronos(*arguments, home=home)
        assert no_signals == []


def test_showing_never_signals_for_a_run_that_is_truly_dead(chronos, home, no_signals):
    """Nor where the lock is ours and free: what is left of a run is ended by whoever settles it."""
    places = home / "cron" / "locks"
    places.mkdir(parents=True, mode=0o700)
    name = f"a.{RUN}.0123456789abcdef"
    (places / name).touch(0o600)
    owner = owner_of(places / name) | {"lock": name}
    note = {"token": owner["token"], "job_id": "a", "run_id": RUN, "machine": owner["machine"], "pid": owner["pid"]}
    (places / name).write_text(json.dumps(note | {"started": 1, "pgid": os.getpid(), "group_started": 1}))
    put_run(home, owner)
    for arguments in SHOWING:
        chronos(*arguments, home=home)
    assert no_signals == []


@pytest.mark.parametrize("inside", [True, False], ids=["in our folder", "elsewhere"])
@pytest.mark.parametrize("arguments", [("job", "unlock", "a", "--yes"), ("tick",), ("job", "resume", "a")])
def test_settling_ends_no_process_that_a_row_chooses(home, tmp_path, arguments, inside):
    """Whoever settles a run ends what its own lock file names; a row's own idea of lock, pid and group is nothing."""
    folder = home / "cron" / "locks" if inside else tmp_path
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    lock = folder / f"a.{RUN}.0123456789abcdef"
    with holding(lock) as victim:
        # Even inside our folder: it is of another run, so its token is not this one's.
        lock.write_text(json.dumps({"token": "f" * 16, "pgid": victim.pid, "started": 1, "run_id": RUN}))
        put_run(home, owner_of(lock, pid=victim.pid, group=victim.pid))
        spawn(*arguments, home=home)
        assert victim.poll() is None


def test_one_run_is_no_authority_over_another(home, tmp_path):
    """A row with the token of another run, which any reader of the store can see, ends nothing of that run."""
    folder = home / "cron" / "locks"
    folder.mkdir(parents=True, mode=0o700)
    lock = folder / f"b.{RUN}.0123456789abcdef"
    with holding(lock) as victim:
        owner = owner_of(lock)
        note = {"token": owner["token"], "job_id": "b", "run_id": RUN, "machine": owner["machine"], "pid": owner["pid"]}
        lock.write_text(json.dumps(note | {"started": 1, "pgid": victim.pid, "group_started": 1}))
        for name in (owner["lock"], lock.name, f"../locks/{lock.name}"):
            put_run(home, owner | {"lock": name})
            spawn("job", "unlock", "a", "--yes", home=home)
            assert victim.poll() is None


ENDED = "2026-11-20T15:35:00+00:00"
HOSTILE_PATHS = ["/etc/passwd", "config.yaml", "auth.json", "../outside", "cron/output/a/../../../auth.json",
                 "cron/output/b/other.log", f"cron/output/a/{RUN}.log/../../b/other.log", "cron/jobs.json", 7, ["x"],
                 f"cron/output/a/{RUN}.1.log", f"cron/output/a/{RUN}.٣.log"]  # fmt: skip


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=str)
@pytest.mark.parametrize("following", [False, True])
def test_logs_show_the_runs_own_output_alone(chronos, home, path, following):
    """A row that names another file for its output has that file shown to nobody."""
    secret = "root:x:0:0" if path == "/etc/passwd" else "timezone: Europe/Berlin"
    for name in ("auth.json", "../outside", "cron/output/b/other.log", f"cron/output/a/{RUN}.1.log"):
        target = home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("a secret")
    put_run(
        home,
        {},
        state="ok",
        output=path,
        attempts=[{"attempt": 1, "state": "ok", "finished_at": ENDED, "output": path}],
    )
    done = chronos("logs", "a", *(["-f"] if following else []), home=home)
    if isinstance(path, str):
        assert done.code == 0, done
    else:
        assert (done.code, "no run that can be read" in done.err) == (5, True), done
    for text in (secret, "a secret", '"jobs"'):
        assert text not in done.out


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=str)
def test_pruning_deletes_the_runs_own_output_alone(home, path):
    """Old rows go with their output; a row that names another file takes nothing with it."""
    from chronos_cli.config import load_config
    from chronos_cli.operations.assembly import ProcessEnvironment, open_home

    kept = {}
    for name in ("auth.json", "../outside", "cron/output/b/other.log"):
        target = home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("kept")
        kept[target] = "kept"
    own = home / output_of("a", RUN, 2)
    own.parent.mkdir(parents=True)
    own.write_text("goes")
    attempts = [
        {"attempt": 1, "state": "failed", "finished_at": ENDED, "output": path},
        {"attempt": 2, "state": "ok", "finished_at": ENDED, "output": output_of("a", RUN, 2)},
    ]
    put_run(home, {}, state="ok", output=path, attempts=attempts, finished_at=ENDED)
    jobs = json.loads((home / "cron" / "jobs.json").read_text())
    jobs["jobs"][0]["chronos"]["open"] = []
    (home / "cron" / "jobs.json").write_text(json.dumps(jobs))
    row = json.loads((home / "cron" / "runs" / "a" / f"{RUN}.json").read_text())
    newest = home / "cron" / "runs" / "a" / "20261121T153415Z.json"
    newest.write_text(json.dumps(row | {"run_id": "20261121T153415Z", "attempts": []}))
    context = open_home(load_config(environ={}, home=str(home)), ProcessEnvironment(environ={}, secrets={}))
    # A row of the wrong shape stays until somebody closes it: what it says cannot be trusted.
    assert context.repository.rows.prune("a", keep=0, horizon="20991231T000000Z") == isinstance(path, str)
    assert own.exists() != isinstance(path, str)
    assert {path: path.read_text() for path in kept} == kept
    assert (home / "config.yaml").exists()
    assert (home / "cron" / "jobs.json").exists()


def test_a_row_is_of_the_run_whose_place_it_has(chronos, home):
    """What a row says of its own job and run is nothing against where it is kept."""
    put_run(home, {}, state="ok")
    path = home / "cron" / "runs" / "a" / f"{RUN}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"job_id": "../../x", "run_id": "/etc/passwd"}))
    shown = chronos("history", "a", "--json", home=home).out
    assert "/etc/passwd" not in shown
    assert "../../x" not in shown


@pytest.mark.parametrize("run_id", ["../../jobs", "/etc/x", "..", ".hidden", "", "a\0b"])
def test_a_run_in_hand_is_named_by_a_name(chronos, home, run_id):
    """An entry whose run is a path makes its job one that cannot be read; the others go on, and unlock mends it."""
    job, _ = put_run(home, {})
    job["chronos"]["open"][0]["run"] = run_id
    other = job | {"id": "b", "name": "b", "chronos": {"action": {"command": ["true"]}}}
    (home / "cron" / "jobs.json").write_text(json.dumps({"jobs": [job, other]}))
    done = chronos("list", "--offline", "--json", home=home)
    problems = {one["id"]: one["problem"] for one in done.json["jobs"]}
    assert problems["b"] is None
    assert "chronos.open" in problems["a"]
    assert chronos("job", "unlock", "a", "--yes", home=home).code == 0
    assert chronos("list", "--offline", "--json", home=home).json["jobs"][0]["problem"] is None


@pytest.mark.parametrize("reference", ["a/../../jobs", "../x", "a//etc/passwd", "a/..", "a/.", "/"])
def test_a_person_may_type_a_path_and_gets_no_such_run(chronos, home, reference):
    """A run that is asked for by a path is one that does not exist."""
    put_run(home, {}, state="ok")
    done = chronos("logs", reference, home=home)
    assert done.code == 5, done


def test_the_key_of_an_output_is_made_of_names_and_a_number():
    """Outputs of the first and of later attempts are the run's; nothing else is."""
    assert is_output_of(output_of("a", "r", 1), "a", "r")
    assert is_output_of(output_of("a", "r", 12), "a", "r")
    for key in (
        "cron/output/a/r.01.log",
        "cron/output/a/r.1.log",
        "cron/output/a/r..log",
        "cron/output/a/r.x.log",
        "",
        None,
    ):
        assert not is_output_of(key, "a", "r")
