"""What hermes-agent's own tests expect of schedules, records and what is due, restated against our commands and our callback."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.callback.shim_home import add_job
from tests.providers.peers.records import change, job, put

HOUR = timedelta(hours=1)


def now():
    return datetime.now(UTC).replace(microsecond=0)


def ago(**how):
    return (now() - timedelta(**how)).isoformat()


def add(chronos, home, schedule, *words, job_id="a"):
    return chronos("job", "add", schedule, "--id", job_id, "--shell", "true", *words, home=home.home)


def next_of(home, job_id):
    return datetime.fromisoformat(job(home, job_id)["next_run_at"])


# -- schedules --------------------------------------------------------------------------------------------------------

LENGTHS = {
    "1min": 1, "5mins": 5, "10minute": 10, "120minutes": 120, "2h": 120, "1hr": 60, "3hrs": 180, "1hour": 60,
    "24hours": 1440, "1d": 1440, "7day": 7 * 1440, "2days": 2880, "2 h": 120, "  30m  ": 30,
}  # fmt: skip


@pytest.mark.parametrize("text", LENGTHS)
def test_every_spelling_of_a_length_is_read(chronos, home, text):
    assert add(chronos, home, f"every {text}").code == 0
    assert job(home, "a")["schedule"]["minutes"] == LENGTHS[text]


def test_every_may_be_written_large(chronos, home):
    assert add(chronos, home, "Every 30m").code == 0
    assert job(home, "a")["schedule"]["minutes"] == 30


@pytest.mark.parametrize("text", ["not_a_schedule", "99 99 99 99 99"])
def test_what_is_no_schedule_is_refused(chronos, home, text):
    assert add(chronos, home, text).code == 2


def test_a_single_time_is_kept_with_its_day(chronos, home):
    assert add(chronos, home, "2037-01-15T14:00:00").code == 0
    assert "2037-01-15" in job(home, "a")["schedule"]["run_at"]
    assert job(home, "a")["next_run_at"] == job(home, "a")["schedule"]["run_at"]


def test_decided_a_time_just_past_is_refused_on_input(chronos, home):
    """There: taken within two minutes. Here a time that has passed is a slip; `in 1s` says now."""
    just = (now() - timedelta(seconds=30)).replace(tzinfo=None).isoformat()
    assert add(chronos, home, just).code == 2


def test_a_stored_naive_time_is_read_in_the_homes_zone_and_is_due(home):
    """Whatever zone the machine is in."""
    config = home.home / "config.yaml"
    config.write_text(config.read_text().replace("timezone: UTC", "timezone: Asia/Kolkata"))
    wall = (datetime.now(timezone(timedelta(hours=5, minutes=30))) - timedelta(seconds=30)).replace(
        tzinfo=None, microsecond=0
    )
    put(home, id="a", schedule={"kind": "once", "run_at": wall.isoformat()}, next_run_at=wall.isoformat())
    assert home.fire("a").json["result"] == "claimed"
    home.wait_for_rows("a", state="ok")


def test_an_interval_begins_one_length_from_now(chronos, home):
    add(chronos, home, "every 1h")
    assert now() + timedelta(minutes=59) < next_of(home, "a") <= now() + HOUR


def test_a_cron_expression_gives_a_time_ahead(chronos, home):
    add(chronos, home, "* * * * *")
    assert now() < next_of(home, "a") <= now() + timedelta(minutes=1)


def test_a_kind_that_nobody_knows_is_listed_as_invalid(chronos, home, nas):
    """There: it has no next time. Here the same, and it is said."""
    put(home, id="a", schedule={"kind": "lunar"}, next_run_at=None)
    (view,) = chronos("list", "--json", home=home.home).json["jobs"]
    assert view["problem"]
    chronos("reconcile", home=home.home)
    assert nas.armed == {}


# -- records ----------------------------------------------------------------------------------------------------------


def test_a_made_job_is_there(chronos, home):
    chronos("job", "add", "in 30m", "--id", "a", "--prompt", "Check server status", home=home.home)
    found = chronos("job", "show", "a", "--json", home=home.home).json["job"]
    assert found["id"] == "a"
    record = job(home, "a")
    assert (record["prompt"], record["enabled"], record["schedule"]["kind"]) == ("Check server status", True, "once")


def test_all_jobs_are_listed(chronos, home):
    add(chronos, home, "every 1h", job_id="a")
    add(chronos, home, "every 2h", job_id="b")
    assert {one["id"] for one in chronos("list", "--json", home=home.home).json["jobs"]} == {"a", "b"}


def test_a_half_written_older_record_is_listed_whole(chronos, home):
    schedule = {"kind": "interval", "minutes": 60, "display": "every 60m"}
    put(home, id="abc123deadbe", name=None, prompt=None, schedule_display=None, schedule=schedule)
    (view,) = chronos("list", "--json", home=home.home).json["jobs"]
    assert (view["id"], view["name"], view["state"], view["problem"]) == ("abc123deadbe", "abc123deadbe", "live", None)
    assert view["schedule"] == "every 1h"


def test_a_removed_job_is_gone(chronos, home):
    add(chronos, home, "in 30m")
    assert chronos("job", "remove", "a", "--yes", home=home.home).code == 0
    assert chronos("job", "show", "a", home=home.home).code == 5


@pytest.mark.parametrize("bad", ["../escape", "nested/escape", ".", "..", "/outside"])
def test_an_id_that_is_a_path_reaches_no_file(chronos, home, bad):
    """Such a record is named as invalid; nothing beside the home's own folders is read, written or removed."""
    outside = home.home / "cron" / "escape"
    outside.mkdir(parents=True)
    (outside / "keep.txt").write_text("keep")
    put(home, id=bad, schedule={"kind": "interval", "minutes": 60}, next_run_at=ago(minutes=1))
    (view,) = chronos("list", "--json", home=home.home).json["jobs"]
    assert view["problem"]
    assert chronos("tick", home=home.home).code in (0, 10)
    assert home.fire(bad).status in (200, 400)
    chronos("job", "remove", bad, "--yes", home=home.home)
    assert (outside / "keep.txt").read_text() == "keep"
    assert not list(home.home.parent.glob("outside*"))
    assert chronos("job", "add", "every 1h", "--id", bad, "--shell", "true", home=home.home).code == 2


@pytest.mark.parametrize("words", [("remove", "--yes"), ("pause",), ("resume",), ("show",)])
def test_what_is_not_there_is_not_found(chronos, home, words):
    assert chronos("job", words[0], "nonexistent", *words[1:], home=home.home).code == 5
    assert chronos("job", words[0], "", *words[1:], home=home.home).code in (2, 5)


def test_a_job_that_repeats_has_no_end_of_its_own(chronos, home):
    add(chronos, home, "every 1h")
    assert job(home, "a").get("repeat", {"times": None})["times"] is None


@pytest.mark.parametrize("times", [-1, 0])
def test_a_stored_count_of_none_or_less_is_for_ever(home, times):
    at = home.add("a", "every 1h", "true", ago=1)
    change(home, "a", repeat={"times": times, "completed": 3})
    assert home.fire("a", at.isoformat()).status == 202
    home.wait_for_rows("a", state="ok")
    record = job(home, "a")
    assert (record["enabled"], record["state"]) == (True, "scheduled")
    assert record["next_run_at"]


@pytest.mark.parametrize("text", ["0", "-1"])
def test_decided_a_count_of_none_is_refused_on_input(chronos, home, text):
    """There: it means for ever. Here `forever` says so."""
    assert add(chronos, home, "every 1h", "--repeat", text).code == 2
    assert add(chronos, home, "every 1h", "--repeat", "forever").code == 0


def test_where_to_deliver_is_kept(chronos, home):
    """What was said; else `local`, since a command has no chat that it came from."""
    chronos("job", "add", "every 1h", "--id", "said", "--prompt", "x", "--deliver", "telegram", home=home.home)
    chronos("job", "add", "every 1h", "--id", "plain", "--prompt", "x", home=home.home)
    assert job(home, "said")["deliver"] == "telegram"
    assert job(home, "plain")["deliver"] == "local"


def test_an_edited_schedule_is_stored_with_its_words_and_a_new_time(chronos, home):
    add(chronos, home, "every 1h")
    before = next_of(home, "a")
    assert chronos("job", "edit", "a", "--schedule", "every 2h", home=home.home).code == 0
    record = job(home, "a")
    assert (record["schedule"]["minutes"], record["schedule_display"]) == (120, "every 120m")
    assert next_of(home, "a") > before


def test_a_job_that_is_switched_off_in_the_file_is_so(chronos, home):
    add(chronos, home, "every 1h")
    change(home, "a", enabled=False)
    (view,) = chronos("list", "--json", home=home.home).json["jobs"]
    assert view["state"] != "live"
    assert chronos("job", "resume", "a", home=home.home).code == 0
    assert job(home, "a")["enabled"] is True


def test_a_job_keeps_its_id(chronos, home):
    add(chronos, home, "every 1h")
    assert chronos("job", "edit", "a", "--id", "../escape", home=home.home).code == 2
    assert job(home, "a")["id"] == "a"


@pytest.mark.parametrize("toolsets", [["web", "terminal"], ["web", " ", "file"], [], None])
def test_toolsets_stay_as_hermes_wrote_them_and_reach_the_prompts_runner(chronos, home, toolsets):
    """What they mean is Hermes' to say, also of an empty list or a blank: there they are put in order when written."""
    seen = home.home / "seen"
    with (home.home / "config.yaml").open("a") as file:
        file.write(f"runners:\n  prompt: [sh, -c, 'printf %s \"$CHRONOS_JOB\" > {seen}']\n")
    chronos("job", "add", "every 1h", "--id", "a", "--prompt", "monitor", home=home.home)
    change(home, "a", enabled_toolsets=toolsets)
    assert chronos("run", "a", home=home.home).code == 0
    assert json.loads(seen.read_text()).get("enabled_toolsets") == (toolsets or None)
    chronos("job", "edit", "a", "--name", "b", home=home.home)
    assert job(home, "a")["enabled_toolsets"] == toolsets


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def named(chronos, home):
    """The job `a`, called Alpha."""
    add(chronos, home, "every 1h", "--name", "Alpha")

    def run(*words):
        return chronos(*words, home=home.home)

    return run


@pytest.mark.parametrize("reference", ["a", "Alpha", "alpha", "ALPHA"])
def test_a_job_is_found_by_its_id_and_its_name(named, reference):
    assert named("job", "show", reference, "--json").json["job"]["id"] == "a"


def test_an_id_goes_before_a_name(named, chronos, home):
    add(chronos, home, "every 1h", job_id="b")
    change(home, "b", name="a")
    assert named("job", "show", "a", "--json").json["job"]["id"] == "a"


def test_a_name_that_two_bear_is_refused_with_both_ids(named, chronos, home):
    add(chronos, home, "every 1h", job_id="second")
    change(home, "second", name="Alpha")
    refused = named("job", "pause", "Alpha")
    assert refused.code == 6
    assert "second" in refused.err
    assert "a" in refused.err.replace("Alpha", "").replace("jobs", "").split("second")[0]


def test_everything_may_be_asked_by_name(named, home):
    assert named("run", "alpha").code == 0
    assert named("job", "pause", "alpha", "--reason", "manual").code == 0
    assert job(home, "a")["state"] == "paused"
    assert named("job", "remove", "alpha", "--yes").code == 0


# -- the end of a run -------------------------------------------------------------------------------------------------


def test_a_run_is_counted_and_its_outcome_written(home):
    at = home.add("a", "every 1h", "true", ago=1)
    change(home, "a", repeat={"times": None, "completed": 0})
    home.fire("a", at.isoformat())
    home.wait_for_rows("a", state="ok")
    record = job(home, "a")
    assert (record["repeat"]["completed"], record["last_status"], record["last_error"]) == (1, "ok", None)
    assert record["last_run_at"]


def test_a_run_that_failed_says_why(home):
    at = home.add("a", "every 1h", "exit 3", ago=1)
    home.fire("a", at.isoformat())
    home.wait_for_rows("a", state="failed")
    assert job(home, "a")["last_status"] == "error"
    assert "3" in job(home, "a")["last_error"]


@pytest.mark.parametrize("shell", ["true", "false"])
def test_an_error_of_delivery_is_hermes_to_write_and_to_clear(home, shell):
    """What delivers is the prompt's runner or Hermes; our end of a run leaves the field alone."""
    at = home.add("a", "every 1h", shell, ago=1)
    change(home, "a", last_delivery_error="platform 'telegram' not configured")
    home.fire("a", at.isoformat())
    home.wait_for_rows("a")
    assert job(home, "a")["last_delivery_error"] == "platform 'telegram' not configured"
    assert job(home, "a")["last_status"] == ("ok" if shell == "true" else "error")


def test_a_job_that_repeats_is_not_completed_for_want_of_a_next_time(chronos, home, nas):
    """Its time cannot be told any more: it stays on, is said to be invalid, and goes on once it is mended."""
    at = home.add("a", "every 1h", "true", ago=1)
    home.fire("a", at.isoformat())
    home.wait_for_rows("a", state="ok")
    whole = job(home, "a")["schedule"]
    change(home, "a", schedule={"kind": "cron", "expr": "nonsense"}, next_run_at=None)
    chronos("reconcile", home=home.home)
    record = job(home, "a")
    assert (record["enabled"], record["state"] == "completed") == (True, False)
    change(home, "a", schedule=whole)
    assert chronos("reconcile", home=home.home).code == 0
    assert set(nas.armed) == {"a"}


def test_a_single_time_completes_where_no_count_is_kept(home):
    at = ago(seconds=1)
    put(home, id="a", schedule={"kind": "once", "run_at": at}, next_run_at=at, repeat={"times": None, "completed": 0})
    assert home.fire("a").status == 202
    home.wait_for_rows("a", state="ok")
    record = job(home, "a")
    assert (record["next_run_at"], record["enabled"], record["state"]) == (None, False, "completed")


def test_runs_that_end_together_lose_nothing(home):
    """Ten fires at once of ten jobs: each is counted once, each has its own outcome."""
    wanted = {f"j{n}": "ok" if n % 3 else "error" for n in range(10)}
    for job_id, outcome in wanted.items():
        home.add(job_id, "every 1h", "true" if outcome == "ok" else "false", ago=1)
        change(home, job_id, repeat={"times": None, "completed": 0})
    with ThreadPoolExecutor(10) as pool:
        assert {reply.status for reply in pool.map(home.fire, wanted)} == {202}
    for job_id in wanted:
        home.wait_for_rows(job_id)
    records = home.jobs()
    assert {job_id: records[job_id]["last_status"] for job_id in wanted} == wanted
    assert {records[job_id]["repeat"]["completed"] for job_id in wanted} == {1}


# -- what is due ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [timedelta(minutes=10), timedelta(minutes=35)])
def test_an_interval_that_is_late_runs_once_and_goes_on_ahead(home, late):
    """Within half its length and beyond it: no burst, and it is not put off for ever."""
    home.add("a", "every 1h", "true")
    change(home, "a", next_run_at=(now() - late).isoformat(), last_run_at=ago(minutes=1))
    assert home.fire("a").json["result"] == "claimed"
    home.wait_for_rows("a", state="ok")
    assert next_of(home, "a") > now()
    assert home.fire("a").json["result"] != "claimed"


@pytest.mark.parametrize("expr", ["15 6 * * *"])
def test_a_late_cron_expression_runs_once_and_goes_on_ahead(home, expr):
    home.add("a", expr, "true")
    change(home, "a", next_run_at=ago(minutes=30))
    assert home.fire("a").json["result"] == "claimed"
    home.wait_for_rows("a", state="ok")
    assert next_of(home, "a") > now()


def test_one_that_is_late_uses_one_of_its_counted_runs(home):
    home.add("a", "every 5m", "true")
    change(home, "a", next_run_at=ago(minutes=11), last_run_at=ago(minutes=11), repeat={"times": 3, "completed": 0})
    home.fire("a")
    home.wait_for_rows("a", state="ok")
    assert job(home, "a")["repeat"] == {"times": 3, "completed": 1}
    assert job(home, "a")["state"] == "scheduled"


def test_the_next_time_is_written_before_the_run(home):
    """A process that dies in the run leaves no job that starts over and over."""
    go = home.home / "go"
    home.add("a", "every 1h", f"while ! [ -e {go} ]; do sleep 0.02; done", ago=1)
    home.fire("a")
    assert next_of(home, "a") > now()
    go.touch()
    home.wait_for_rows("a", state="ok")


def test_what_lies_ahead_or_is_off_is_not_run(chronos, home):
    home.add("ahead", "every 1h", "true")
    home.add("off", "every 1h", "true", ago=1)
    change(home, "off", enabled=False)
    assert chronos("tick", home=home.home).code == 0
    assert home.rows("ahead") == home.rows("off") == []
    assert next_of(home, "ahead") > now()


BAD = {
    "no id": {"name": "idless", "schedule": {"kind": "cron", "expr": "0 4 * * *"}, "next_run_at": None},
    "no record": "text",
    "a time that is none": {"id": "bad", "schedule": {"kind": "interval", "minutes": 60}, "next_run_at": "!!!"},
    "a schedule that is none": {"id": "bad", "schedule": ["every", "1h"], "next_run_at": None},
    "minutes that are none": {"id": "bad", "schedule": {"kind": "interval", "minutes": "many"}, "next_run_at": None},
    "an action that is none": {"id": "bad", "schedule": {"kind": "interval", "minutes": 5}, "chronos": 7},
}


@pytest.mark.parametrize("bad", BAD)
def test_one_bad_record_keeps_no_other_from_running(chronos, home, bad):
    home.add("good", "every 1h", "true", ago=1)
    path = home.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"].insert(0, BAD[bad])
    path.write_text(json.dumps(document))
    assert chronos("tick", home=home.home).code in (0, 10)
    assert [json.loads(found.read_text())["state"] for found in (home.home / "cron/runs/good").iterdir()] == ["ok"]
    assert len(json.loads(path.read_text())["jobs"]) == 2


@pytest.mark.parametrize(
    "schedule", [{"kind": "cron", "expr": "0 12 * * *"}, {"kind": "interval", "minutes": 60}], ids=["cron", "interval"]
)
def test_a_job_without_a_next_time_gets_one_ahead(chronos, home, nas, schedule):
    put(home, id="a", schedule=schedule, next_run_at=None, state="scheduled")
    assert chronos("reconcile", home=home.home).code == 0
    assert next_of(home, "a") > now()
    assert set(nas.armed) == {"a"}


def test_a_single_time_without_a_next_time_runs_if_it_is_within_grace(chronos, home):
    at = ago(seconds=30)
    put(home, id="a", schedule={"kind": "once", "run_at": at}, next_run_at=None, repeat={"times": 1, "completed": 0})
    chronos("reconcile", home=home.home)
    assert home.fire("a").json["result"] == "claimed"
    home.wait_for_rows("a", state="ok")


def test_a_single_time_that_is_long_past_is_not_run(chronos, home):
    """There beyond two minutes; decided: here beyond the job's grace, and then it is on record as missed."""
    at = ago(days=3)
    put(home, id="a", schedule={"kind": "once", "run_at": at}, next_run_at=at, repeat={"times": 1, "completed": 0})
    assert home.fire("a").json["result"] != "claimed"
    assert [row["state"] for row in home.rows("a")] in ([], ["missed"])


@pytest.mark.parametrize(
    "fields",
    [{"last_run_at": "now", "last_status": "ok"}, {"repeat": {"times": 1, "completed": 1}}],
    ids=["it has run", "its count is used up"],
)
def test_a_single_time_that_was_taken_is_not_run_again(chronos, home, fields):
    """Also within grace: a record that a dying process left so is none to be started over."""
    at = ago(seconds=30)
    fields = {name: now().isoformat() if value == "now" else value for name, value in fields.items()}
    put(home, id="a", schedule={"kind": "once", "run_at": at}, next_run_at=None, **fields)
    chronos("reconcile", home=home.home)
    assert home.fire("a").json["result"] != "claimed"
    assert chronos("tick", home=home.home).code == 0
    assert home.rows("a") == []


def test_a_single_time_is_not_started_again_while_it_runs(chronos, home):
    go = home.home / "go"
    home.add("a", "in 1h", f"while ! [ -e {go} ]; do sleep 0.02; done")
    at = ago(seconds=5)
    change(home, "a", schedule={"kind": "once", "run_at": at}, next_run_at=at)
    assert home.fire("a").json["result"] == "claimed"
    for _ in range(3):
        assert home.fire("a", at).json["result"] == "duplicate"
        assert chronos("tick", home=home.home).code == 0
    go.touch()
    home.wait_for_rows("a", state="ok")
    assert len(home.rows("a")) == 1


def test_a_claim_of_hermes_on_a_single_time_counts_as_long_as_it_is_kept_fresh(home):
    at = ago(seconds=5)
    claim = {"at": datetime.now(UTC).isoformat(), "by": "host:1"}
    put(home, id="a", schedule={"kind": "once", "run_at": at}, next_run_at=at, run_claim=claim)
    assert home.fire("a").json["result"] == "skipped"
    assert job(home, "a").get("run_claim") in (None, claim)


# -- zones that change ------------------------------------------------------------------------------------------------


def with_offset(moment, hours):
    return moment.astimezone(timezone(timedelta(hours=hours)))


def test_a_cron_time_that_was_stored_in_another_zone_is_not_run_at_the_wrong_hour(chronos, home):
    """Stored for 21:00 at +10, and the home is at UTC now, where the same instant is 11:00: its hour is still to come."""
    stored = with_offset((now() - timedelta(minutes=2)).replace(second=0), 10)
    put(home, id="a", schedule={"kind": "cron", "expr": f"{stored.minute} {stored.hour} * * *"},
        next_run_at=stored.isoformat())  # fmt: skip
    chronos("reconcile", home=home.home)
    assert (next_of(home, "a").hour, next_of(home, "a").minute) == (stored.hour, stored.minute)
    assert home.fire("a").json["result"] != "claimed"
    assert home.rows("a") == []


def test_a_cron_time_in_the_same_zone_that_is_due_runs(home):
    due = now() - timedelta(seconds=30)
    put(home, id="a", schedule={"kind": "cron", "expr": f"{due.minute} {due.hour} * * *"},
        next_run_at=due.replace(second=0).isoformat())  # fmt: skip
    assert home.fire("a").json["result"] == "claimed"
    home.wait_for_rows("a", state="ok")


def test_an_interval_is_an_instant_whatever_its_offset(home):
    put(home, id="a", schedule={"kind": "interval", "minutes": 60},
        next_run_at=with_offset(now() - timedelta(minutes=5), 10).isoformat())  # fmt: skip
    assert home.fire("a").json["result"] == "claimed"
    home.wait_for_rows("a", state="ok")
    assert next_of(home, "a") > now()


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_a_runs_output_is_a_file_under_the_jobs_name(chronos, home):
    chronos("job", "add", "every 1h", "--id", "a", "--shell", "echo Everything ok.", home=home.home)
    assert chronos("run", "a", home=home.home).code == 0
    files = [path for path in (home.home / "cron" / "output" / "a").rglob("*") if path.is_file()]
    assert any("Everything ok." in path.read_text() for path in files)


@pytest.mark.parametrize(("keep", "left"), [(3, 3), (50, 6)])
def test_only_the_newest_are_kept(chronos, home, keep, left):
    """As many as the setting says, of what is older than its days; what is not ours in the folder stays."""
    with (home.home / "config.yaml").open("a") as file:
        file.write(f"history:\n  keep: {keep}\n  days: 1\n")
    chronos("job", "add", "every 1h", "--id", "a", "--shell", "echo report", home=home.home)
    folder = home.home / "cron" / "output" / "a"
    folder.mkdir(parents=True)
    for name in ("manifest.json", "2026-01-01_10-00-00.md"):
        (folder / name).write_text("theirs")
    for _ in range(5):
        assert chronos("run", "a", home=home.home).code == 0
    for path in (home.home / "cron" / "runs" / "a").iterdir():
        row = json.loads(path.read_text())
        old = {name: ago(days=9) for name in ("accepted_at", "started_at", "finished_at") if row.get(name)}
        path.write_text(json.dumps(row | old))
    time.sleep(1 - time.time() % 1)  # a row is named by the second: the next is the newest
    assert chronos("run", "a", home=home.home).code == 0
    assert chronos("reconcile", home=home.home).code == 0
    assert len(home.rows("a")) == left
    assert {"manifest.json", "2026-01-01_10-00-00.md"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("bad", ["oops", -1])
def test_decided_a_setting_that_is_none_is_refused(chronos, home, bad):
    """There: the default is taken. Here the command says what is wrong, since a slip would delete or fill."""
    with (home.home / "config.yaml").open("a") as file:
        file.write(f"history:\n  keep: {bad}\n")
    assert chronos("list", "--offline", home=home.home).code == 2


def test_completed_jobs_go_after_seven_days_and_no_others(chronos, home):
    for job_id, age in (("old", 30), ("recent", 1)):
        at = ago(days=age)
        put(home, id=job_id, schedule={"kind": "once", "run_at": at}, next_run_at=None, enabled=False,
            state="completed", last_run_at=at, last_status="ok", last_delivery_error="boom")  # fmt: skip
    put(home, id="going", schedule={"kind": "interval", "minutes": 60}, next_run_at=None, last_run_at=ago(days=365))
    chronos("reconcile", home=home.home)
    assert set(home.jobs()) == {"recent", "going"}
    assert job(home, "recent")["last_delivery_error"] == "boom"
    assert job(home, "going")["enabled"]


def test_a_byte_order_mark_is_read_over(chronos, home):
    home.add("a", "every 1h", "true")
    path = home.home / "cron" / "jobs.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [one["id"] for one in chronos("list", "--offline", "--json", home=home.home).json["jobs"]] == ["a"]


def test_the_home_that_is_named_is_the_one_that_is_written(chronos, home, tmp_path):
    """A variable, an option: each names the store, and no other file is touched."""
    home.add("a", "every 1h", "true")
    before = (home.home / "cron" / "jobs.json").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    assert chronos("job", "add", "every 1h", "--id", "b", "--shell", "true", env={"CHRONOS_HOME": str(other)}).code == 0
    assert chronos("job", "list", "--json", home=other).json["jobs"][0]["id"] == "b"
    assert (home.home / "cron" / "jobs.json").read_bytes() == before


# -- claims -----------------------------------------------------------------------------------------------------------


def test_claims_of_what_is_not_there_are_none(home):
    assert home.fire("nope-does-not-exist").json["result"] == "gone"
    assert not (home.home / "cron" / "runs").exists()


def test_a_run_by_hand_of_a_paused_job_leaves_it_paused(chronos, home):
    """Newer versions resume it. Decided: a person who tries a paused job has not asked to switch it on."""
    home.add("a", "every 1h", "true")
    chronos("job", "pause", "a", home=home.home)
    assert chronos("run", "a", home=home.home).code == 0
    assert job(home, "a")["state"] == "paused"


def test_a_claim_is_cleared_when_its_run_has_ended(home):
    at = home.add("a", "every 1h", "true", ago=1)
    home.fire("a", at.isoformat())
    home.wait_for_rows("a", state="ok")
    assert job(home, "a").get("fire_claim") is None


def test_the_end_of_an_older_run_writes_over_no_newer_claim(home):
    """Hermes has taken the job over meanwhile: its claim stays."""
    go = home.home / "go"
    home.add("a", "every 1h", f"while ! [ -e {go} ]; do sleep 0.02; done", ago=1)
    home.fire("a")
    theirs = {"at": datetime.now(UTC).isoformat(), "by": "replacement"}
    change(home, "a", fire_claim=theirs)
    go.touch()
    home.wait_for_rows("a", state="ok")
    assert job(home, "a").get("fire_claim") == theirs


@pytest.mark.parametrize("schedule", ["every 1h", "0 9 * * *"])
def test_a_hundred_jobs_are_put_ahead_in_one_write(chronos, home, schedule):
    """A due set costs no write for each of its jobs."""
    for number in range(30):
        add_job(home.home, f"j{number}", schedule, "true")
    path = home.home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    for one in document["jobs"]:
        one["next_run_at"] = None
    path.write_text(json.dumps(document))
    assert chronos("reconcile", home=home.home).code == 0
    assert {datetime.fromisoformat(one["next_run_at"]) > now() for one in home.jobs().values()} == {True}
