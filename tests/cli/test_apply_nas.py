"""Files of jobs applied while NAS fails midway, and while somebody else changes the store."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from chronos_cli.cli.handlers import apply as handler
from tests.cli.conftest import connect, tree
from tests.nas_client.played_nas import TOKEN, PlayedNas
from tests.played_server import Answer

NAMES = [f"j{number:02}" for number in range(20)]


@pytest.fixture
def nas(home):
    with PlayedNas("batch", "keeps-slot") as played:
        connect(home, played, SimpleNamespace(audience="agent:7f3", token=TOKEN), "http://127.0.0.1:9")
        yield played


def files(tmp_path, names, line="x"):
    path = tmp_path / "jobs.yaml"
    jobs = "".join(f"- {{id: {name}, schedule: '@yearly', shell: {line}}}\n" for name in names)
    path.write_text("set: s\njobs:\n" + jobs if names else "set: s\n")
    return path


def half_taken(nas, what):
    """A NAS that does what it is asked with the first half of a batch, and then `what`."""
    real = nas.by_contract

    def answer(call):
        if call.path.endswith("/batch"):
            items = call.body["items"]
            left = len(items) // 2
            results = real(SimpleNamespace(**{**vars(call), "body": {"items": items[:left]}})).body["results"]
            if what == "hang up":
                return Answer(raw=nas.hang_up)
            refused = {"ok": False, "status": 503, "error": "unavailable", "message": "no room"}
            return Answer(body={"results": results + [refused] * (len(items) - left), "features": nas.features})
        return real(call)

    return answer


@pytest.mark.parametrize("what", ["hang up", "refuse the rest"])
@pytest.mark.parametrize("then", ["apply", "reconcile"])
def test_a_batch_that_fails_midway_loses_nothing(chronos, home, nas, tmp_path, what, then):
    """Every job is stored, the line says what NAS lacks, exit 75; the same again, or reconcile, tells it the rest."""
    assert chronos("apply", "-f", files(tmp_path, ["old-1", "old-2", *NAMES[:2]]), home=home).code == 0
    path = files(tmp_path, NAMES)
    nas.answer = half_taken(nas, what)
    done = chronos("apply", "-f", path, "--prune", home=home)
    assert (done.code, "saved, not armed: NAS did not take" in done.err) == (75, True), done.err
    assert "`chronos reconcile` arms them once NAS can be reached" in done.err
    assert done.out.endswith("Plan: 18 to add, 0 to change, 2 to keep, 2 to remove.\n")
    stored = {job["id"] for job in json.loads((home / "cron" / "jobs.json").read_text())["jobs"]}
    assert stored == set(NAMES)
    still = chronos("apply", "-f", path, "--prune", home=home)
    assert (still.code, "saved, not armed" in still.err) == (75, True), "NAS still fails: no green light"
    nas.answer = nas.by_contract
    words = ("apply", "-f", path, "--prune") if then == "apply" else ("reconcile",)
    assert chronos(*words, home=home).code == 0
    assert set(nas.armed) == set(NAMES)
    calls, before = len(nas.calls), tree(home)
    assert chronos("apply", "-f", path, "--prune", home=home).code == 0
    assert (len(nas.calls), tree(home)) == (calls, before), "once all is told, nothing is said again"


def test_nas_that_is_down_for_a_whole_apply_hears_of_it_at_the_next(chronos, home, nas, tmp_path):
    """An apply that changes nothing tells NAS what an earlier one could not."""
    path = files(tmp_path, NAMES[:3])
    down = chronos("apply", "-f", path, home=home, env={"CHRONOS_PORTAL_URL": "http://127.0.0.1:1"})
    assert (down.code, nas.armed) == (75, {})
    done = chronos("apply", "-f", path, home=home)
    assert (done.code, done.out) == (0, done.out.replace("add ", "keep")), done.err
    assert set(nas.armed) == set(NAMES[:3])
    files(tmp_path, [])
    down = chronos(
        "apply", "-f", path, "--prune", "--allow-empty", home=home, env={"CHRONOS_PORTAL_URL": "http://127.0.0.1:1"}
    )
    assert (down.code, "`chronos reconcile --prune` drops the timers once NAS can be reached" in down.err) == (75, True)
    assert chronos("reconcile", "--prune", home=home).code == 0
    assert nas.armed == {}


def test_a_note_that_cannot_be_read_is_told_of_and_stops_no_other_job(chronos, home, nas, tmp_path):
    """What NAS holds for that job is not known: it is told, as far as the disk lets us."""
    path = files(tmp_path, NAMES[:2])
    assert chronos("apply", "-f", path, home=home).code == 0
    note = home / "cron" / "arms" / f"{NAMES[0]}.json"
    note.unlink()
    note.mkdir()
    done = chronos("apply", "-f", path, home=home)
    assert (done.code, "Plan: 0 to add, 0 to change, 2 to keep." in done.out) == (0, True)
    assert done.err.startswith(f"! {NAMES[0]} cannot be read and is left alone: cannot read {note}")


def test_what_is_shown_is_what_was_done_though_the_store_changes_meanwhile(chronos, home, tmp_path, monkeypatch):
    """The plan that is shown is made in the write itself; what nobody was shown is not removed."""
    chronos("apply", "-f", files(tmp_path, ["a", "b", "c"]), home=home)
    path = files(tmp_path, ["a", "b"], line="y")
    real = handler._ask

    def meanwhile(*given):
        real(*given)
        document = json.loads((home / "cron" / "jobs.json").read_text())
        jobs = {job["id"]: job for job in document["jobs"]}
        jobs["a"]["chronos"]["action"] = {"shell": "y"}  # another apply has brought it there already
        document["jobs"].append({**jobs["c"], "id": "d", "name": "d"})  # and added one to the set
        (home / "cron" / "jobs.json").write_text(json.dumps(document))

    monkeypatch.setattr(handler, "_ask", meanwhile)
    done = chronos("apply", "-f", path, "--prune", "--json", home=home)
    assert [(job["job_id"], job["action"]) for job in done.json["jobs"]] == [
        ("a", "keep"), ("b", "change"), ("c", "remove"), ("d", "gone"),
    ]  # fmt: skip
    assert "- remove c\n" in done.err
    assert "no longer in the files: d" in done.err
    assert {job["id"] for job in json.loads((home / "cron" / "jobs.json").read_text())["jobs"]} == {"a", "b", "d"}


def test_it_is_planned_once_where_nothing_is_to_be_asked(chronos, home, tmp_path, monkeypatch):
    """Without --prune the plan is the write's own."""
    planned, real = [], handler.bring
    monkeypatch.setattr(handler, "bring", lambda *given, **how: planned.append(how["dry_run"]) or real(*given, **how))
    path = files(tmp_path, ["a"])
    for words, seen in ((("--dry-run",), [True]), ((), [False]), (("--prune",), [True, False])):
        planned.clear()
        assert chronos("apply", "-f", path, *words, home=home).code == 0
        assert planned == seen
