"""One bad document stays with its job: every kind of file, every kind of damage, every command."""

from __future__ import annotations

import json
import os

import pytest

from chronos_cli.config import load_config
from chronos_cli.core.row import RunResult, RunState
from chronos_cli.operations.arming.reconcile import reconcile
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.run import RunTicket, begin, finish
from chronos_cli.operations.firing.tick import tick
from chronos_cli.operations.jobs.edit import claim_manual
from chronos_cli.operations.jobs.unlock import unlock
from tests.conftest import thoroughly
from tests.damage.rotten import DAMAGES, SICK, SPECIAL, WELL, damage, make_home

KINDS = ("row of a run", "row that is owed", "settled row", "arm document", "pack", "store id", "tick", "probe")
READING = (("list",), ("list", "--offline"), ("status",), ("history",), ("job", "show", SICK), ("job", "show", WELL))
UNUSABLE = (*SPECIAL, "closed")
HOW = (*DAMAGES, *UNUSABLE)


def context(home):
    """The home as a command opens it."""
    return open_home(
        load_config(environ=os.environ, home=str(home)), ProcessEnvironment(environ=os.environ, secrets={})
    )


def runs_of_well(home):
    return [json.loads(path.read_text())["state"] for path in (home / "cron/runs" / WELL).glob("*.json")]


# All kinds with the damages that differ most, all damages to the row that matters most; the rest of the grid is slower.
# By default two of those damages to each kind, and each other one to that row or not at all.
FEW = ("empty", "zeros", "no-object-inside", "folder")
PAIRS = [
    pytest.param(kind, how, marks=[] if kind == KINDS[0] or how in FEW else pytest.mark.soak)
    for row, kind in enumerate(KINDS)
    for column, how in enumerate(HOW)
    if thoroughly(True, how == "closed" or (how not in FEW and kind != KINDS[0]) or (row + column) % 2 == 0)
]


@pytest.mark.parametrize(("kind", "how"), PAIRS)
def test_one_bad_document_stays_with_its_job(chronos, nas, tmp_path, kind, how):
    """The other job is listed, fired and reconciled; what is broken is named; the next looks put it right or say how."""
    if how == "closed" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    home = tmp_path / "home"
    path = home / make_home(home, nas.url)[kind]
    damage(path, how)
    named = str(path.relative_to(home))
    for command in READING:
        done = chronos(*command, "--json", home=home)
        assert done.code == 0, (command, done.err)
        assert "Traceback" not in done.err
        if command[0] == "list":
            well = next(job for job in done.json["jobs"] if job["id"] == WELL)
            assert (well["problem"], well["unreadable"], well["state"]) == (None, [], "live")
    if kind.startswith(("row", "settled")):
        rows = {row["run_id"]: row for row in chronos("history", SICK, "--json", home=home).json["rows"]}
        assert rows[path.stem]["state"] == "unreadable"
        assert path.stem in chronos("history", home=home).out
    if kind.startswith("row"):
        assert named in chronos("list", "--offline", home=home).out
        assert named in chronos("status", "--offline", home=home).out
    checks = {check["name"]: check for check in chronos("doctor", "--json", home=home).json["checks"]}
    assert checks["documents"]["level"] == "FAIL", checks["documents"]
    assert checks["documents"]["mend"]
    came = fire(context(home), WELL, fire_at=None, delivery=None, launcher=InlineLauncher())
    assert came.outcome.value == "claimed", came
    assert runs_of_well(home) == ["ok"]
    ticked = tick(context(home), InlineLauncher())
    assert WELL not in ticked.failed
    assert set(ticked.failed) <= ({SICK} if how in UNUSABLE else set()), ticked.failed
    done = chronos("reconcile", home=home)
    assert done.code == 0, done.err
    assert WELL in nas.armed
    if how not in UNUSABLE:
        _is_put_right(chronos, home, path, kind)


def _is_put_right(chronos, home, path, kind):
    """After a fire, a tick and a reconcile, or the command that doctor names, nothing is unreadable, nothing lost."""
    checks = {check["name"]: check for check in chronos("doctor", "--json", home=home).json["checks"]}
    if checks["documents"]["level"] != "OK":
        mend = checks["documents"]["mend"]
        assert mend.startswith("chronos ")
        if "--probe" not in mend:
            done = chronos(*mend.split()[1:], home=home)
            assert done.code == 0, (mend, done.err)
            checks = {check["name"]: check for check in chronos("doctor", "--json", home=home).json["checks"]}
            assert checks["documents"]["level"] == "OK", checks["documents"]
    if kind.startswith(("row", "settled")):
        row = json.loads(path.read_text())
        assert row["state"] == {"row of a run": "lost", "row that is owed": "missed", "settled row": "lost"}[kind]
        assert len(list((home / "cron/set-aside").iterdir())) == 1
        rows = chronos("history", SICK, "--json", home=home).json["rows"]
        assert all(RunState(row["state"]) for row in rows)


def test_a_row_that_rots_while_its_run_goes_is_as_the_run_ends(chronos, nas, tmp_path):
    """While its lock is held the run goes on and is not settled; at its end the row is written anew with the outcome."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    path = home / "cron/jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][1]["chronos"]["action"] = {"command": ["sleep", "600"]}
    path.write_text(json.dumps(document))
    ctx = context(home)
    looked = claim_manual(ctx, WELL)
    (start,) = looked.decision.starts
    begun = begin(ctx, RunTicket.of(looked.job, start, "starter"))
    row = home / f"cron/runs/{WELL}/{start.entry.run}.json"
    row.write_bytes(b"")
    assert fire(context(home), WELL, fire_at=None, delivery=None, launcher=InlineLauncher()).outcome.value in (
        "queued",
        "skipped",
    )
    assert row.read_bytes() == b""
    assert chronos("list", "--offline", home=home).code == 0
    group = json.loads(next((home / "cron/locks").iterdir()).read_bytes()[:1024].strip(b" \0\n"))["pgid"]
    os.killpg(group, 15)
    assert finish(ctx, begun).state is RunState.FAILED
    assert json.loads(row.read_text())["state"] == "failed"
    reconcile(context(home))
    assert json.loads(row.read_text())["state"] == "failed"


def test_unlocking_a_run_whose_row_rotted_records_how_it_ended(nas, tmp_path):
    """Its result stands beside its lock: it is that, and not lost."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    ctx = context(home)
    looked = claim_manual(ctx, WELL)
    (start,) = looked.decision.starts
    begun = begin(ctx, RunTicket.of(looked.job, start, "starter"))
    ended = begun.attempt.wait()
    begun.locked.conclude(
        RunResult(state=ended.state, finished_at=ctx.clock(), exit_status=ended.exit_status), durable=True
    )
    begun.locked.release(keep=True)
    row = home / f"cron/runs/{WELL}/{start.entry.run}.json"
    row.write_bytes(b"\0" * 300)
    unlock(context(home), WELL, who="ann")
    assert (ended.state, json.loads(row.read_text())["state"]) == (RunState.OK, "ok")


def test_a_row_that_rots_after_its_runner_died_is_lost_and_never_run_again(nas, tmp_path):
    """Its lock is free: the run is over, and not accepted anew, whatever the job wants after a crash."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    path = home / "cron/jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][1]["chronos"]["policy"] = {"on_crash": "rerun"}
    path.write_text(json.dumps(document))
    ctx = context(home)
    looked = claim_manual(ctx, WELL)
    (start,) = looked.decision.starts
    begun = begin(ctx, RunTicket.of(looked.job, start, "starter"))
    begun.attempt.wait()
    begun.locked.release(keep=True)
    row = home / f"cron/runs/{WELL}/{start.entry.run}.json"
    row.write_bytes(b"\0" * 300)
    reconcile(context(home))
    settled = json.loads(row.read_text())
    assert (settled["state"], settled["reason"]) == (
        "lost", "its row could not be read: it holds nothing but zero bytes"
    )  # fmt: skip
