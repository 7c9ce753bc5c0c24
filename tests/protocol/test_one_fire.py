"""One fire among real processes: many at once, signals, what overlaps, what is held, and what a person may do."""

import json
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.protocol.agents import UNTIL_LET_GO, command_agent, diary_script, is_gone

SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP")


@pytest.fixture(scope="module")
def agent(nas, tmp_path_factory):
    with command_agent(tmp_path_factory.mktemp("fires"), nas) as running:
        yield running


def put_due_now(agent, job_id, *, ago=0, **options):
    """An hourly job whose occurrence is now (or was, so many seconds ago), with NAS kept out of it for half an hour."""
    agent.put_jobs([job_id], due_in=1800, **options)
    due = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=ago)
    agent.put_due(job_id, due)
    return due.isoformat()


def wait_for_pid(agent, job_id, *, count=1):
    """The process id that the job itself wrote down, once it has started so often."""
    agent.wait_until("the job runs", lambda: len(agent.diary(job_id)) >= count)
    return int((agent.home / f"diary-{job_id}.pid").read_text())


@pytest.mark.parametrize("many", [8, pytest.param(50, marks=pytest.mark.soak)])
def test_many_fires_of_one_occurrence_run_it_once(agent, many):
    """Many processes at once: one runs the job, and the others end well, calling it a duplicate."""
    job_id = f"crowd-{many}"
    due = put_due_now(agent, job_id)
    processes = [agent.start_fire(job_id, due) for _ in range(many)]
    ended = [(process.communicate(timeout=120)[0], process.returncode) for process in processes]
    assert [stdout for stdout, code in ended if code != 0] == []
    results = [json.loads(stdout)["result"] for stdout, _ in ended]
    # Who comes between the claim and the start says `claimed` too; only one of them starts it, as the rows show.
    assert set(results) <= {"claimed", "duplicate"}
    assert "claimed" in results
    (row,) = agent.judge(job_id)
    assert (row["state"], agent.diary(job_id)) == ("ok", [due])
    assert agent.fire(job_id, due)[1]["result"] == "duplicate"
    assert agent.diary(job_id) == [due]


@pytest.mark.parametrize("each", [3, pytest.param(17, marks=pytest.mark.soak)])
def test_many_commands_that_add_pause_and_fire_lose_nothing_of_each_other(agent, each):
    """Many processes change distinct jobs at once: whatever said that it is done, is there afterwards."""
    fired, paused, added = (
        [f"{what}-{each}-{number}" for number in range(each)] for what in ("fired", "paused", "added")
    )
    agent.put_jobs([*fired, *paused], due_in=1800)
    due = datetime.now(UTC).replace(microsecond=0)
    for job_id in fired:
        agent.put_due(job_id, due)
    words = [["job", "pause", job_id] for job_id in paused]
    words += [["job", "add", "every 1h", "--id", job_id, "--shell", "true"] for job_id in added]
    processes = {job_id: agent.start_fire(job_id, due.isoformat()) for job_id in fired}
    processes |= {line[-1] if line[1] == "pause" else line[4]: agent.start(*line) for line in words}
    assert len(processes) == 3 * each
    ended = {job_id: (process.communicate(timeout=120), process.returncode) for job_id, process in processes.items()}
    assert {job_id: said for job_id, (said, code) in ended.items() if code not in (0, 75)} == {}
    done = {job_id for job_id, (_, code) in ended.items() if code == 0}
    assert len(done) >= 2.4 * each  # who has to wait too long says so, and has changed nothing
    jobs = {job["id"]: job for job in json.loads((agent.home / "cron/jobs.json").read_text())["jobs"]}
    assert done & set(added) <= set(jobs)
    assert {job_id for job_id in done & set(paused) if jobs[job_id]["state"] != "paused"} == set()
    for job_id in done & set(fired):
        agent.wait_for_row(job_id, state="ok")
        assert agent.diary(job_id) == [due.isoformat()]
        assert datetime.fromisoformat(jobs[job_id]["next_run_at"]) > due


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("detached", [False, True])
def test_a_signal_ends_the_job_and_writes_it_down(agent, name, detached):
    """Within two seconds the job's whole group is gone and its row says interrupted; the next occurrence is armed."""
    job_id = f"{name.lower()}-{'runner' if detached else 'fire'}"
    script = diary_script(agent, seconds=0, then="sleep 60 & echo $! > $D.child; sleep 60")
    due = put_due_now(agent, job_id, script=script)
    fire = agent.start_fire(job_id, due, *(["--detach"] if detached else []))
    pid = wait_for_pid(agent, job_id)
    child = agent.home / f"diary-{job_id}.child"
    agent.wait_until("its child runs", lambda: child.exists() and child.read_text().strip())
    if detached:
        fire.communicate(timeout=20)
        assert fire.returncode == 0
    agent.wait_until("its next wake is armed", lambda: agent.arm(job_id).get("state") == "confirmed")
    began = time.monotonic()
    supervisor = agent.rows(job_id)[0]["owner"]["pid"]
    os.kill(supervisor, getattr(signal, name))
    agent.wait_for_row(job_id, state="interrupted", timeout=10)
    took = time.monotonic() - began
    print(f"{name}: interrupted after {took:.2f} s")
    assert took < 2.0
    assert is_gone(pid)
    assert is_gone(int(child.read_text()))
    if not detached:
        assert supervisor == fire.pid
        fire.communicate(timeout=20)
        assert fire.returncode == 130
    agent.wait_until("its supervisor is over", lambda: is_gone(supervisor))
    (row,) = agent.judge(job_id)
    assert name in row["reason"]


def test_redelivery_and_a_killed_supervisor(agent):
    """A killed fire takes its job with it; the next fire, of whatever instant, starts within five seconds."""
    due = put_due_now(agent, "orphan", script=diary_script(agent, seconds=60), options=["--on-crash", "rerun"])
    fire = agent.start_fire("orphan", due)
    pid = wait_for_pid(agent, "orphan")
    fire.kill()
    fire.communicate()
    began = time.monotonic()
    agent.wait_until("the job died with it", lambda: is_gone(pid), timeout=5)
    again = agent.start_fire("orphan", due)
    second = wait_for_pid(agent, "orphan", count=2)
    assert time.monotonic() - began < 5
    assert second != pid
    again.terminate()
    again.communicate(timeout=20)
    (row,) = agent.judge("orphan")
    assert [attempt["state"] for attempt in row["attempts"]] == ["lost", "interrupted"]


def test_a_run_longer_than_its_interval_keeps_its_claim(agent):
    """With overlap skip, what comes due meanwhile is skipped, naming the run in hand, and the run goes on."""
    due = put_due_now(agent, "long", ago=5, script=diary_script(agent, seconds=0, then=UNTIL_LET_GO))
    fire = agent.start_fire("long", due)
    wait_for_pid(agent, "long")
    agent.wait_until("its next wake is armed", lambda: agent.arm("long").get("state") == "confirmed")
    for _ in range(3):
        later = datetime.fromisoformat(agent.job("long")["chronos"]["claimed_through"]) + timedelta(seconds=1)
        agent.put_due("long", later)
        code, document = agent.fire("long", later.isoformat())
        assert (code, document["result"]) == (0, "skipped"), document
        assert agent.fire("long", due)[1]["result"] == "duplicate"
    fire.terminate()
    fire.communicate(timeout=20)
    rows = agent.judge("long")
    assert [row["state"] for row in rows] == ["interrupted", "skipped", "skipped", "skipped"]
    assert all(rows[0]["run_id"] in row["because"] for row in rows[1:])
    assert agent.diary("long") == [due]


def test_a_queued_occurrence_runs_after_the_one_before_it(agent):
    """With overlap queue the next one waits, one at most, and is run by the process that ends the first."""
    script = diary_script(agent, seconds=0, then=UNTIL_LET_GO)
    due = put_due_now(agent, "queue", ago=5, script=script, options=["--overlap", "queue"])
    fire = agent.start_fire("queue", due)
    wait_for_pid(agent, "queue")
    agent.wait_until("its next wake is armed", lambda: agent.arm("queue").get("state") == "confirmed")
    results = []
    for number in (1, 2):
        later = datetime.fromisoformat(due) + timedelta(seconds=number)
        agent.put_due("queue", later)
        results.append(agent.fire("queue", later.isoformat())[1]["result"])
    assert results == ["queued", "skipped"]
    assert agent.arm("queue")["wake"] <= agent.job("queue")["next_run_at"]
    agent.let_go("queue")
    said = fire.communicate(timeout=60)
    assert fire.returncode == 0, said
    rows = agent.judge("queue")
    assert [row["state"] for row in rows] == ["ok", "ok", "skipped"]
    assert len(agent.diary("queue")) == 2


def test_a_newer_occurrence_replaces_the_one_that_runs(agent):
    """With overlap replace the run is ended by its own supervisor, on record as interrupted, and the newer one runs."""
    script = diary_script(agent, seconds=0, then=UNTIL_LET_GO)
    due = put_due_now(agent, "newest", ago=5, script=script, options=["--overlap", "replace"])
    fire = agent.start_fire("newest", due)
    pid = wait_for_pid(agent, "newest")
    agent.wait_until("its next wake is armed", lambda: agent.arm("newest").get("state") == "confirmed")
    later = datetime.fromisoformat(due) + timedelta(seconds=1)
    agent.put_due("newest", later)
    assert agent.fire("newest", later.isoformat())[1]["result"] == "queued"
    wait_for_pid(agent, "newest", count=2)
    assert is_gone(pid)
    agent.let_go("newest")
    assert fire.wait(60) in (0, 10)
    fire.communicate()
    rows = agent.judge("newest")
    assert [row["state"] for row in rows] == ["interrupted", "ok"]
    assert rows[0]["reason"].startswith("ended for the next occurrence, which replaces it")
    assert list((agent.home / "cron" / "locks").glob("newest.*")) == []


def test_a_run_that_a_person_asked_for_is_not_replaced(agent):
    """It goes on, and the occurrence waits for it."""
    agent.put_jobs(["kept"], due_in=1800, script=diary_script(agent, seconds=0, then=UNTIL_LET_GO))
    agent.ok("job", "edit", "kept", "--overlap", "replace")
    agent.ok("run", "kept", "--detach")
    wait_for_pid(agent, "kept")
    due = datetime.now(UTC).replace(microsecond=0)
    agent.put_due("kept", due)
    assert agent.fire("kept", due.isoformat())[1]["result"] == "queued"
    time.sleep(1.2)
    assert agent.rows("kept")[-1]["state"] == "running"
    agent.let_go("kept")
    agent.wait_until("both are over", lambda: [row["state"] for row in agent.rows("kept")].count("ok") == 2)


def test_occurrences_that_may_overlap_do(agent):
    """With overlap allow the second starts beside the first."""
    script = f"echo $CHRONOS_FIRE_AT >> {agent.home}/diary-both; echo $$ > {agent.home}/diary-both.pid; sleep 30"
    due = put_due_now(agent, "both", ago=5, script=script, options=["--overlap", "allow"])
    first = agent.start_fire("both", due)
    wait_for_pid(agent, "both")
    later = datetime.fromisoformat(due) + timedelta(seconds=1)
    agent.wait_until("its next wake is armed", lambda: agent.arm("both").get("state") == "confirmed")
    agent.put_due("both", later)
    second = agent.start_fire("both", later.isoformat())
    wait_for_pid(agent, "both", count=2)
    assert [row["state"] for row in agent.rows("both")] == ["running", "running"]
    for fire in (first, second):
        fire.terminate()
        fire.communicate(timeout=20)
    agent.judge("both")


def test_a_scheduled_occurrence_waits_for_a_manual_run(agent):
    """A manual run takes no occurrence; one that comes due meanwhile is queued behind it, never skipped, and runs."""
    agent.put_jobs(["hand"], due_in=1800, script=diary_script(agent, seconds=0, then=UNTIL_LET_GO))
    before = agent.job("hand")["next_run_at"]
    agent.ok("run", "hand", "--detach")
    wait_for_pid(agent, "hand")
    assert agent.job("hand")["next_run_at"] == before
    due = datetime.now(UTC).replace(microsecond=0)
    agent.put_due("hand", due)
    assert agent.fire("hand", due.isoformat())[1]["result"] == "queued"
    agent.let_go("hand")
    agent.quiet(["hand"])
    agent.wait_for_cursors()
    (row,) = agent.judge("hand")
    assert row["state"] == "ok"
    assert agent.diary("hand") == ["manual", due.isoformat()]
    assert agent.job("hand")["repeat"]["completed"] == 1
    (manual,) = [row for row in agent.rows("hand") if row["run_id"].startswith("manual-")]
    assert (manual["state"], manual["kind"]) == ("ok", "manual")


def test_unlock_frees_a_stuck_run_and_says_who(agent):
    """A supervisor that is stopped in its tracks is freed by hand: it is ended, the row names who did it, a fire runs."""
    due = put_due_now(agent, "stuck", script=diary_script(agent, seconds=60))
    fire = agent.start_fire("stuck", due)
    pid = wait_for_pid(agent, "stuck")
    agent.wait_until("its next wake is armed", lambda: agent.arm("stuck").get("state") == "confirmed")
    fire.send_signal(signal.SIGSTOP)
    freed = agent.json("job", "unlock", "stuck", "--yes", USER="ada")
    assert freed["lost"] == [agent.rows("stuck")[0]["run_id"]]
    (row,) = agent.judge("stuck")
    assert row["state"] == "lost"
    assert row["reason"].startswith("unlocked by ada@")
    agent.wait_until("the job is gone", lambda: is_gone(pid), timeout=5)
    fire.communicate(timeout=20)
    assert fire.returncode == -9
    code, document = agent.fire("stuck", due)
    assert (code, document["result"]) == (0, "duplicate")


def test_a_job_that_takes_too_long_is_ended(agent):
    """At its timeout the whole group is ended and the row says so; the fire's exit code is that of a failed job."""
    due = put_due_now(agent, "slow", script=diary_script(agent, seconds=60), options=["--timeout", "1s"])
    code, _ = agent.fire("slow", due)
    assert code == 10
    (row,) = agent.judge("slow")
    assert row["state"] == "timeout"
    assert is_gone(wait_for_pid(agent, "slow"))
    assert (agent.home / row["output"]).exists()
