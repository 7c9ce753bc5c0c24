"""`chronos tick` and `chronos reconcile` as what is run beside NAS: how much at once, from how many places, and what they say."""

import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests import forked
from tests.cli.conftest import ROOT, chronos, clean_environment, home, tree, validate  # noqa: F401 - fixtures
from tests.nas_client.played_nas import played_nas
from tests.played_server import Answer

MEETING = "touch {place}/$CHRONOS_JOB_ID; for i in $(seq 200); do test $(ls {place} | wc -l) = 3 && exit 0; sleep 0.05; done; exit 1"
"""Ends well only once three jobs run at the same time."""


nas = played_nas()


@pytest.fixture
def three(home, chronos):  # noqa: F811
    """Makes three jobs that came due a second ago, and runs what is given."""

    def make(shell):
        for job_id in ("a", "b", "c"):
            assert chronos("job", "add", "every 1h", "--id", job_id, "--shell", shell, home=home).code == 0
        due = moment(timedelta(seconds=-1))
        change(home, lambda job: job | {"next_run_at": due, "chronos": job["chronos"] | {"anchor": due}})
        return home

    return make


def moment(ahead):
    return (datetime.now(UTC).replace(microsecond=0) + ahead).isoformat()


def change(folder, fn):
    """Change every record by hand."""
    path = folder / "cron/jobs.json"
    document = json.loads(path.read_text())
    document["jobs"] = [fn(job) for job in document["jobs"]]
    path.write_text(json.dumps(document))


def rows(folder, job_id):
    return [json.loads(path.read_text()) for path in sorted((folder / "cron/runs" / job_id).glob("*.json"))]


# -- tick -------------------------------------------------------------------------------------------------------------


def test_a_tick_runs_all_that_is_due_side_by_side(chronos, three, tmp_path):  # noqa: F811
    """Without a bound the due jobs run at the same time, and the command ends when all have ended."""
    (tmp_path / "place").mkdir()
    folder = three(MEETING.format(place=tmp_path / "place"))
    done = chronos("tick", "--json", home=folder)
    assert (done.code, [row["state"] for row in done.json["runs"]]) == (0, ["ok"] * 3)


@pytest.mark.parametrize(
    ("words", "env", "config"),
    [(("--max-parallel", "1"), {}, ""), ((), {"CHRONOS_MAX_PARALLEL": "1"}, ""), ((), {}, "cron:\n  max_parallel_jobs: 1\n")],
    ids=["flag", "variable", "file"],
)  # fmt: skip
def test_a_bound_is_kept(chronos, three, tmp_path, words, env, config):  # noqa: F811
    """With one at once, given in any of three ways, each run ends before the next begins, and all of them are run."""
    diary = tmp_path / "diary"
    folder = three(f"echo b >> {diary}; sleep 0.1; echo e >> {diary}")
    with (folder / "config.yaml").open("a") as file:
        file.write(config)
    done = chronos("tick", *words, "--json", home=folder, env=env)
    assert (done.code, len(done.json["runs"])) == (0, 3)
    assert diary.read_text().split() == ["b", "e"] * 3


def test_a_detached_tick_ends_once_its_runs_have_started(chronos, three, tmp_path):  # noqa: F811
    """The command returns with the rows saying running; the runs go on without it, and end on record."""
    folder = three(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done")
    done = chronos("tick", "--detach", "--json", home=folder)
    assert (done.code, len(done.json["started"]), done.json["runs"]) == (0, 3, [])
    assert [row["state"] for job_id in "abc" for row in rows(folder, job_id)] == ["running"] * 3
    (tmp_path / "go").touch()
    until = time.monotonic() + 20
    while [row["state"] for job_id in "abc" for row in rows(folder, job_id)] != ["ok"] * 3:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_tick_says_which_job_failed_and_runs_the_others(chronos, three):  # noqa: F811
    """Exit 10 and the failed row's reason; what else was due has run."""
    folder = three('[ "$CHRONOS_JOB_ID" != b ]')
    done = chronos("tick", "--json", home=folder)
    assert done.code == 10
    assert {row["job_id"]: row["state"] for row in done.json["runs"]} == {"a": "ok", "b": "failed", "c": "ok"}
    assert done.json["error"]["message"].startswith("job b failed: ")


# -- reconcile --------------------------------------------------------------------------------------------------------


@pytest.fixture
def unarmed(home, chronos, nas):  # noqa: F811
    """Four live jobs that NAS knows nothing of: one has lost its time, one has missed three days."""
    for job_id in ("a", "b", "lost", "late"):
        assert chronos("job", "add", "every 1h", "--id", job_id, "--shell", "true", home=home).code == 0
    late = moment(timedelta(days=-3, minutes=-30))

    def damage(job):
        if job["id"] == "late":
            job["chronos"]["anchor"] = late
        return job | {"next_run_at": {"lost": None, "late": late}.get(job["id"], job["next_run_at"])}

    change(home, damage)
    (home / "config.yaml").write_text(
        "timezone: UTC\npolicy:\n  grace: 1m\ncron:\n  provider: chronos\n  chronos:\n"
        f"    portal_url: {nas.url}\n    callback_url: http://127.0.0.1:9\n    token_file: token\n"
    )
    (home / "token").write_text("nas-token-of-tests")
    (home / "token").chmod(0o600)
    return home


def wished(folder):
    """What NAS should hold: each live job's own time."""
    jobs = json.loads((folder / "cron/jobs.json").read_text())["jobs"]
    return {job["id"]: datetime.fromisoformat(job["next_run_at"]) for job in jobs}


def held(nas):
    return {job_id: datetime.fromisoformat(arm["fire_at"]) for job_id, arm in nas.armed.items()}


def test_reconcile_says_what_it_mended_and_then_only_looks(chronos, unarmed, nas):  # noqa: F811
    """Pending is exit 3; mended is exit 0 with each step and each record put right; then one list call, and not a byte changes."""
    dry = ("reconcile", "--dry-run", "--detailed-exitcode", "--json")
    assert chronos(*dry, home=unarmed).code == 3
    mended = chronos("reconcile", "--json", home=unarmed)
    assert mended.code == 0
    assert {(step["job_id"], step["action"]) for step in mended.json["plan"]["steps"]} == {
        ("a", "arm"), ("b", "arm"), ("lost", "arm"), ("late", "arm")
    }  # fmt: skip
    assert sorted(mended.json["settled"]) == ["late", "lost"]
    assert (mended.json["failed"], mended.json["pending"]) == ({}, False)
    assert [row["state"] for row in rows(unarmed, "late")] == ["missed"]
    assert all(instant > datetime.now(UTC) for instant in held(nas).values())
    assert held(nas) == wished(unarmed)
    before = tree(unarmed)
    nas.calls.clear()
    again = chronos("reconcile", "--json", home=unarmed)
    assert (again.code, again.json["settled"]) == (0, [])
    assert {step["action"] for step in again.json["plan"]["steps"]} == {"keep"}
    assert [(call.method, call.path.rpartition("/")[2]) for call in nas.calls] == [("GET", "list")]
    assert tree(unarmed) == before
    assert chronos(*dry, home=unarmed).code == 0


def test_reconcile_says_what_it_could_not_mend(chronos, unarmed, nas):  # noqa: F811
    """Where NAS rejects one job: an exit code that is not 0, that job with its reason, and the others are armed all the same."""
    rejected = Answer(400, {"error": "bad_request", "message": "no such address"})
    nas.answer = lambda call: rejected if (call.body or {}).get("job_id") == "b" else nas.by_contract(call)
    done = chronos("reconcile", "--json", home=unarmed)
    assert (done.code, done.json["error"]["code"], done.json["pending"]) == (2, "nas_rejected", True)
    assert list(done.json["failed"]) == ["b"]
    assert "no such address" in done.json["failed"]["b"]["message"]
    assert set(nas.armed) == {"a", "lost", "late"}


def test_reconcile_may_run_in_many_places_at_once(unarmed, nas):
    """Four that all see the same unarmed store mend it once: each job armed for its own time, missed once, nothing cancelled.

    All of them end with 0, not 75: whoever was overtaken twice by another's wish waits, each another while, before it
    sends again.
    """
    together = threading.Barrier(4)

    def answer(call):
        if call.path.partition("?")[0].endswith("/list"):
            together.wait(30)
        return nas.by_contract(call)

    nas.answer = answer
    env = {key: value for key, value in os.environ.items() if not key.startswith("CHRONOS_")}
    env |= {"PYTHONPATH": str(ROOT), "CHRONOS_HOME": str(unarmed)}
    running = [forked.start(["reconcile", "--json"], env=env) for _ in range(4)]
    ended = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * 4, ended
    for out, _ in ended:
        assert validate(out)["failed"] == {}
    for job_id, instant in wished(unarmed).items():
        # A second later for each that another had sent meanwhile: only a new instant surely replaces what is held.
        assert timedelta() <= held(nas)[job_id] - instant <= timedelta(seconds=5), job_id
    assert [row["state"] for row in rows(unarmed, "late")] == ["missed"]
    assert {call.path.rpartition("/")[2] for call in nas.calls} == {"list", "provision"}
    nas.answer = nas.by_contract
    nas.calls.clear()
    last = forked.run(["reconcile", "--json"], env=env)
    assert {step["action"] for step in json.loads(last.stdout)["plan"]["steps"]} == {"keep"}
    assert len(nas.calls) == 1
