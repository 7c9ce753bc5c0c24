"""Jobs by hand: adding, looking, changing, running, moving them. No NAS is configured here."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime

import pytest

from tests.cli.conftest import tree


def add(chronos, home, *more, schedule="@daily", job_id="a"):
    """Add a job that ends well."""
    done = chronos("job", "add", schedule, "--id", job_id, *more, *(() if "--shell" in more else ("--shell", "true")),
                   "--json", home=home)  # fmt: skip
    assert done.code == 0, done
    return done.json


def test_adding_echoes_the_normal_form_and_the_next_five_times_in_zone_and_utc(chronos, home):
    """What was understood is said back: normal form, zone, five times on both clocks."""
    document = add(chronos, home, "--tz", "America/New_York", schedule="0 9 * * 1-5")
    assert document["schedule"] == "0 9 * * 1-5"
    assert document["job"]["timezone"] == "America/New_York"
    times = document["next"]
    assert len(times) == 5
    for item in times:
        at = datetime.fromisoformat(item["at"])
        assert at.hour == 9
        assert at == datetime.fromisoformat(item["utc"])
    lines = chronos("job", "add", "0 9 * * 1-5", "--id", "b", "--shell", "true", home=home).out.splitlines()
    assert lines[0] == "added b"
    assert lines[1] == "  0 9 * * 1-5  (Europe/Berlin)"
    assert lines[2] == "  runs: /bin/sh -c true"
    assert len(lines) == 8


def test_a_schedule_with_both_days_is_warned_about(chronos, home):
    """Day of month and day of week together mean either: that is said on stderr."""
    done = chronos("job", "add", "0 0 13 * 5", "--id", "a", "--shell", "true", home=home)
    assert done.code == 0
    assert "cron runs it on either" in done.err


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("--command", "echo", "hi"), ["echo", "hi"]),
        (("--name", "x", "--command", "echo", "hi", "-"), ["echo", "hi", "-"]),
        (("--name", "x", "--", "echo", "--name", "y"), ["echo", "--name", "y"]),
        (("--command=echo 'a b'",), ["echo", "a b"]),
    ],
)
def test_a_command_is_given_after_command_or_after_two_dashes(chronos, home, words, command):
    """Both spellings store the same list of words."""
    assert chronos("job", "add", "@daily", "--id", "a", *words, home=home).code == 0
    stored = json.loads((home / "cron" / "jobs.json").read_text())["jobs"][0]
    assert stored["chronos"]["action"] == {"command": command}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is nothing to run"),
        (("--shell", "true", "--http", "https://a.example"), "--shell and --http are given"),
        (("--shell", " "), "--shell is empty"),
        (("--command",), "--command names no command"),
        (("--method", "GET", "--shell", "true"), "--method, --body and --header belong to --http"),
        (("--http", "ftp://a.example"), "--http needs an http or https URL"),
        (("--http", "https://a.example", "--header", "nonsense"), "a --header is 'NAME: VALUE'"),
        (("--shell", "true", "--repeat", "-1"), "--repeat is '-1'"),
        (("--shell", "true", "--repeat", "0"), "--repeat is '0'"),
        (("--shell", "true", "--overlap", "maybe"), "--overlap is 'maybe'"),
        (("--shell", "true", "--timeout", "0s"), "--timeout 0s is too short"),
        (("--shell", "true", "--tz", "Mars/Olympus"), "there is no time zone 'Mars/Olympus'"),
        (("--shell", "true", "--workdir", "here"), "--workdir here is not absolute"),
        (("--shell", "true", "--id", "no/slash"), "'no/slash' cannot be a job id"),
        (("--shell", "true", "--jitter", "2d"), "the jitter is not shorter"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(chronos, home, words, message):
    """A bad option gives one line with what to write instead, exit 2, and leaves the home as it was."""
    before = tree(home)
    done = chronos("job", "add", "@daily", *words, home=home)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert tree(home) == before


@pytest.mark.parametrize(
    "schedule",
    ["30m", "* * * * * *", "0 0 30 2 *", "every 0s", "in -5m", "60 * * * *", "2001-01-01T00:00", "sometimes", "@often"],
)
def test_a_wrong_schedule_is_refused_by_next_and_by_add(chronos, home, schedule):
    """Ambiguous, impossible, past and unreadable schedules exit 2 with a hint."""
    for words in (("next", schedule), ("job", "add", schedule, "--shell", "true")):
        done = chronos(*words, "--json", home=home)
        assert done.code == 2
        assert done.json["error"]["hint"]


def test_adding_the_same_again_changes_nothing(chronos, home):
    """`job add` with an id is an upsert: the second time the file stays byte for byte."""
    assert add(chronos, home)["created"] is True
    before = (home / "cron" / "jobs.json").read_bytes()
    again = add(chronos, home)
    assert (again["created"], again["changed"]) == (False, False)
    assert (home / "cron" / "jobs.json").read_bytes() == before


def test_a_second_job_of_one_name_is_refused(chronos, home):
    """Names are how people refer to jobs, so `add` does not make twins."""
    assert chronos("job", "add", "@daily", "--name", "backup", "--shell", "true", home=home).code == 0
    done = chronos("job", "add", "@daily", "--name", "Backup", "--shell", "true", "--json", home=home)
    assert done.code == 6
    assert done.json["error"]["code"] == "conflict"


def test_jobs_are_found_by_id_prefix_and_name(chronos, fixture_home):
    """An id, a unique beginning of one, or a name in any case; ambiguity is refused with the candidates."""
    for reference in ("f8916efa9ee5", "f89", "morning DIGEST"):
        assert chronos("job", "show", reference, "--json", home=fixture_home).json["job"]["id"] == "f8916efa9ee5"
    add(chronos, fixture_home, job_id="f8x")
    ambiguous = chronos("job", "show", "f8", home=fixture_home)
    assert ambiguous.code == 6
    assert "f8916efa9ee5 (Morning digest)" in ambiguous.err
    unknown = chronos("job", "show", "morning digst", home=fixture_home)
    assert unknown.code == 5
    assert "did you mean 'Morning digest'?" in unknown.err


def test_an_edit_shows_its_plan_and_a_dry_run_writes_nothing(chronos, home):
    """The plan of a dry run is the plan of the real one; only the real one writes."""
    add(chronos, home, schedule="0 9 * * *")
    before = tree(home)
    dry = chronos("job", "edit", "a", "--schedule", "0 10 * * *", "--retries", "2", "--dry-run", "--json", home=home)
    assert tree(home) == before
    assert [item["what"] for item in dry.json["plan"]] == ["schedule", "next_run_at", "retries"]
    shown = chronos("job", "edit", "a", "--schedule", "0 10 * * *", "--dry-run", home=home).out
    assert "~ schedule: 0 9 * * * -> 0 10 * * *" in shown
    assert re.search(
        r"^~ move   \d{4}-\d\d-\d\d 09:00:00( CEST)? -> (\d{4}-\d\d-\d\d )?10:00:00 CES?T$", shown, flags=re.MULTILINE
    ), shown
    assert shown.endswith("Nothing was changed.\n")
    zoned = chronos("job", "edit", "a", "--tz", "Asia/Tokyo", "--dry-run", home=home).out
    assert re.search(r"^~ move   .* 09:00:00 CES?T -> .* 09:00:00 JST$", zoned, flags=re.MULTILINE), zoned
    real = chronos("job", "edit", "a", "--schedule", "0 10 * * *", "--retries", "2", "--json", home=home)
    assert real.json["plan"] == dry.json["plan"]
    assert real.json["changed"] is True
    assert chronos("job", "edit", "a", home=home).code == 2


def test_pause_and_resume_can_be_repeated(chronos, home):
    """Doing it twice is doing it once, exit 0."""
    add(chronos, home)
    for verb, state in (("pause", "paused"), ("resume", "live")):
        first = chronos("job", verb, "a", "--json", home=home)
        second = chronos("job", verb, "a", "--json", home=home)
        assert (first.json["job"]["state"], first.json["changed"]) == (state, True)
        assert (second.code, second.json["changed"]) == (0, False)


def test_removing_needs_a_yes_where_nobody_can_be_asked(chronos, home):
    """Without a terminal nothing destructive happens without --yes."""
    add(chronos, home)
    refused = chronos("job", "remove", "a", home=home)
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert chronos("job", "remove", "a", "--yes", "--json", home=home).json["removed"] is True
    assert chronos("job", "remove", "a", "--yes", home=home).code == 5


def test_a_manual_run_shows_its_output_and_its_failure(chronos, home):
    """`run` prints what the job printed; a failure exits 10 and the same reason is in list, stderr and the error."""
    add(chronos, home, "--shell", "echo hello")
    done = chronos("run", "a", home=home)
    assert (done.code, done.out) == (0, "hello\n")
    add(chronos, home, "--shell", "echo oops; exit 3", job_id="b")
    failed = chronos("run", "b", "--json", home=home)
    assert failed.code == 10
    reason = failed.json["error"]["message"]
    assert failed.json["error"]["code"] == "job_failed"
    assert reason in failed.err
    view = chronos("list", "--json", home=home).json["jobs"][0]
    assert (view["id"], view["last_run"]["status"], view["last_run"]["reason"]) == ("b", "error", reason)
    first_line = chronos("list", home=home).out.splitlines()[1]
    assert first_line.startswith("b ")
    assert reason in first_line
    assert chronos("logs", "b", home=home).out == "oops\n"


def test_history_and_logs_find_runs(chronos, home):
    """The ledger shows runs newest first; logs takes a job, JOB/RUN or a run id."""
    add(chronos, home, "--shell", "echo one")
    run_id = chronos("run", "a", "--json", home=home).json["runs"][0]
    rows = chronos("history", "--json", home=home).json["rows"]
    assert [(row["job_id"], row["run_id"], row["state"]) for row in rows] == [("a", run_id, "ok")]
    table = chronos("history", "a", home=home).out
    assert run_id in table
    assert "took " in table
    for reference in ("a", run_id, f"a/{run_id}"):
        assert chronos("logs", reference, "--json", home=home).json["output"] == "one\n"
    assert chronos("logs", "a/19700101T000000Z", "--json", home=home).code == 5
    add(chronos, home, job_id="fresh")
    assert chronos("logs", "fresh", home=home).code == 5
    assert chronos("job", "remove", "a", "--yes", home=home).code == 0
    assert len(chronos("history", "a", "--json", home=home).json["rows"]) == 1


def test_a_detached_run_can_be_followed(chronos, home):
    """`run --detach` returns at once; `logs -f` shows the output until the end."""
    add(chronos, home, "--shell", "echo start; sleep 0.5; echo end")
    started = chronos("run", "a", "--detach", "--json", home=home).json["runs"][0]
    assert chronos("logs", f"a/{started}", "-f", home=home).out == "start\nend\n"


def test_hold_stops_runs_and_lifting_lets_them_go_on(chronos, home):
    """Under a hold nothing is started, with the reason said; without one it goes on."""
    add(chronos, home)
    assert chronos("hold", "--reason", "upgrade", "--json", home=home).json == {
        "schema": "chronos.hold/1", "ok": True, "held": "upgrade", "expires_at": None, "changed": True,
    }  # fmt: skip
    for words in (("run", "a"), ("tick",)):
        stopped = chronos(*words, "--json", home=home)
        assert stopped.code == 75
        assert stopped.json["error"]["code"] == "held"
    shown = chronos("status", home=home).out
    assert re.search(r"^ALL JOBS ARE HELD since \d\d:\d\d CE\w+ by \S+: upgrade$", shown, re.MULTILINE), shown
    assert chronos("hold", "--off", home=home).code == 0
    assert chronos("run", "a", home=home).code == 0
    assert chronos("hold", "--off", "--json", home=home).json["changed"] is False


def test_secrets_in_headers_are_not_shown(chronos, home):
    """`job show` names the headers of a request, never their values."""
    words = ("--http", "https://a.example/x", "--header", "Authorization: Bearer canary-7")
    assert chronos("job", "add", "@daily", "--id", "a", *words, home=home).code == 0
    for more in ((), ("--json",)):
        done = chronos("job", "show", "a", *more, home=home)
        assert "canary-7" not in done.out + done.err
        assert "Authorization" in done.out


def test_a_broken_record_is_listed_with_its_reason_and_the_others_work(chronos, home):
    """One bad job among good ones is shown first, and stays in the file."""
    add(chronos, home)
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"].append({"id": "bad", "name": "Bad", "schedule": {"kind": "cron", "expr": "* * * * * *"}})
    path.write_text(json.dumps(document))
    views = chronos("list", "--json", home=home).json["jobs"]
    assert [view["id"] for view in views] == ["bad", "a"]
    assert "six fields" in views[0]["problem"]
    assert views[0]["will_fire"] is False
    assert "six fields" in chronos("list", home=home).out.splitlines()[1]
    assert chronos("run", "a", home=home).code == 0
    assert "six fields" in path.read_text() or '"bad"' in path.read_text()


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b'{"jobs": 3}'])
def test_a_corrupt_store_is_one_line_and_never_no_jobs(chronos, home, content):
    """What cannot be read as jobs fails every command and is never overwritten."""
    (home / "cron").mkdir()
    (home / "cron" / "jobs.json").write_bytes(content)
    for words in (("list",), ("job", "add", "@daily", "--id", "a", "--shell", "true"), ("status",), ("history", "a")):
        done = chronos(*words, "--json", home=home)
        assert done.code == 1, words
        assert done.json["error"]["code"] == "store"
        assert done.err.count("\n") == 1
    assert (home / "cron" / "jobs.json").read_bytes() == content


def test_export_and_import_make_a_round_trip(chronos, home, fixture_home, tmp_path):
    """Jobs go from one home to another; the same import again changes nothing; a dry run writes nothing."""
    target = tmp_path / "jobs.json"
    exported = chronos("job", "export", "-o", target, "--json", home=fixture_home)
    assert len(exported.json["export"]["jobs"]) == 7
    assert target.stat().st_mode & 0o777 == 0o600
    before = tree(home)
    dry = chronos("job", "import", target, "--dry-run", "--json", home=home)
    assert tree(home) == before
    real = chronos("job", "import", target, "--json", home=home)
    assert real.json["jobs"] == dry.json["jobs"]
    assert {item["action"] for item in real.json["jobs"]} == {"add"}
    stored = (home / "cron" / "jobs.json").read_bytes()
    again = chronos("job", "import", target, "--json", home=home)
    assert {item["action"] for item in again.json["jobs"]} == {"keep"}
    assert (home / "cron" / "jobs.json").read_bytes() == stored
    from_home = chronos("job", "import", "--from", fixture_home, "--json", home=home)
    assert {item["action"] for item in from_home.json["jobs"]} == {"keep"}
    views = {view["id"]: view for view in chronos("list", "--json", home=home).json["jobs"]}
    assert views["f8916efa9ee5"]["timezone"] == "America/New_York"
    assert views["255d0a07be98"]["state"] == "paused"
    assert chronos("job", "export", "f89", home=home).json["jobs"][0]["id"] == "f8916efa9ee5"


def test_a_record_with_nothing_to_run_does_not_come_in(chronos, home, tmp_path):
    """What would fail at each of its times is refused at the door, as is an action of another program."""
    source = tmp_path / "in.json"
    record = {"id": "a", "schedule": {"kind": "cron", "expr": "0 9 * * *", "tz": "Asia/Shanghai"}}
    for more, said in (({}, "it has nothing to run"), ({"payload": {"kind": "agentTurn"}}, "another program's")):
        source.write_text(json.dumps({"jobs": [record | more]}))
        done = chronos("job", "import", source, home=home)
        assert done.code == 2
        assert said in done.err
    source.write_text(json.dumps({"jobs": [record | {"prompt": "hi"}]}))
    assert chronos("job", "import", source, home=home).code == 0
    assert chronos("job", "show", "a", "--json", home=home).json["job"]["timezone"] == "Asia/Shanghai"


def test_an_import_is_all_or_nothing(chronos, home, tmp_path):
    """One job that cannot come in keeps all of them out."""
    add(chronos, home)
    exported = json.loads(chronos("job", "export", home=home).out)
    good, bad = {**exported["jobs"][0], "id": "b"}, {**exported["jobs"][0], "id": "c", "schedule": {"kind": "moon"}}
    source = tmp_path / "two.json"
    source.write_text(json.dumps({"jobs": [good, bad]}))
    before = tree(home)
    done = chronos("job", "import", source, "--json", home=home)
    assert done.code == 2
    assert done.json["error"]["message"].startswith("job c cannot be imported")
    assert tree(home) == before


CRONTAB = r"""# my jobs
SHELL=/bin/sh
GREETING="hello there"
CRON_TZ=Europe/Paris
*/5 * * * *  echo "$GREETING" > out
30 9 * * 1 cat%line one%100 \% sure
@daily   /usr/bin/true
@reboot  /usr/bin/never
"""


def test_a_crontab_becomes_jobs_that_do_the_same(chronos, home, tmp_path):
    """Variables, CRON_TZ, % as standard input and @reboot are each given their meaning, or named as left out."""
    source = tmp_path / "crontab"
    source.write_text(CRONTAB)
    done = chronos("job", "import", source, "--from", "crontab", "--json", home=home)
    assert [item["action"] for item in done.json["jobs"]] == ["add"] * 3
    assert done.json["left_out"] == ["line 8: @reboot has no counterpart: /usr/bin/never"]
    views = {view["name"]: view for view in chronos("list", "--json", home=home).json["jobs"]}
    assert {view["timezone"] for view in views.values()} == {"Europe/Paris"}
    ran = chronos("run", next(view["id"] for name, view in views.items() if name.startswith("cat")), home=home)
    assert ran.out == "line one\n100 % sure\n"
    again = chronos("job", "import", source, "--from", "crontab", "--json", home=home)
    assert {item["action"] for item in again.json["jobs"]} == {"keep"}
    source.write_text("* * * * *\n")
    bad = chronos("job", "import", source, "--from", "crontab", home=home)
    assert bad.code == 2
    assert "line 1 of the crontab" in bad.err


def test_a_home_can_be_made_and_is_ours_alone(chronos, tmp_path):
    """`init` makes folders and config of mode 0700 and 0600, takes over an agent's access, and replaces nothing."""
    access = tmp_path / "agent.json"
    config = {"portal_url": "https://nas.example", "expected_audience": "agent:x",
              "nas_jwks_url": "https://nas.example/.well-known/jwks.json"}  # fmt: skip
    access.write_text(json.dumps({"token": "t0ken", "config": config}))
    folder = tmp_path / "new"
    done = chronos("init", "--agent", access, "--callback-url", "https://me.example", "--json", home=folder)
    assert done.code == 0
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()} == {
        "config.yaml": 0o600, "nas-token": 0o600,
    }  # fmt: skip
    assert "t0ken" not in done.out + done.err + (folder / "config.yaml").read_text()
    settings = {row["key"]: row for row in chronos("config", "show", "--json", home=folder).json["settings"]}
    assert settings["cron.provider"]["value"] == "chronos"
    assert settings["cron.chronos.portal_url"]["value"] == "https://nas.example"
    assert settings["cron.chronos.token_file"]["value"] == str(folder / "nas-token")
    before = tree(folder)
    assert chronos("init", home=folder).code == 6
    assert tree(folder) == before


def test_config_show_proves_where_a_value_came_from(chronos, home):
    """A variable wins over the file, the file over the default, and a flag over all."""
    (home / "config.yaml").write_text("timezone: Europe/Berlin\nlock_timeout: 3\n")

    def value(*more, env=None):
        rows = chronos("config", "show", "--origin", "--json", *more, home=home, env=env).json["settings"]
        return {row["key"]: (row["value"], row["origin"]) for row in rows}["lock_timeout"]

    assert value() == (3.0, f"{home}/config.yaml: lock_timeout")
    assert value(env={"CHRONOS_LOCK_TIMEOUT": "4"}) == (4.0, "CHRONOS_LOCK_TIMEOUT")
    assert value("--lock-timeout", "5", env={"CHRONOS_LOCK_TIMEOUT": "4"}) == (5.0, "flag")
    assert chronos("config", "path", home=home).out == f"{home}/config.yaml\n"
    assert "lock_timeout" in chronos("config", "show", "--origin", home=home).out


def test_a_locked_store_is_exit_75_and_nothing_is_written(chronos, home):
    """Another program that holds hermes' lock blocks a change for as long as was said."""
    import fcntl

    add(chronos, home)
    before = tree(home)
    lock = os.open(home / "cron" / ".jobs.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = chronos("job", "pause", "a", "--lock-timeout", "0.2", "--json", home=home)
    os.close(lock)
    assert done.code == 75
    assert done.json["error"]["code"] == "locked"
    assert done.json["error"]["retryable"] is True
    assert tree(home) == before


def test_unlock_settles_a_run_in_hand_by_name(chronos, home):
    """`job unlock` turns a run that nobody ends into `lost`, and says who did it."""
    add(chronos, home, "--shell", "sleep 30")
    run_id = chronos("run", "a", "--detach", "--json", home=home).json["runs"][0]
    done = chronos("job", "unlock", "a", "--yes", "--json", home=home)
    assert done.json["lost"] == [run_id]
    row = chronos("history", "a", "--json", home=home).json["rows"][0]
    assert row["state"] == "lost"
    assert row["reason"].startswith("unlocked by ")


def test_moving_the_clock_of_the_machine_moves_no_instant(chronos, home):
    """A stored job keeps its zone whatever TZ says."""
    (home / "config.yaml").write_text("")
    add(chronos, home, "--tz", "Asia/Tokyo", schedule="0 9 * * *")
    first = chronos("list", "--json", home=home, env={"TZ": "America/New_York"}).json["jobs"][0]
    second = chronos("list", "--json", home=home, env={"TZ": "UTC"}).json["jobs"][0]
    assert first["next_run_at"] == second["next_run_at"]
    assert first["timezone"] == second["timezone"] == "Asia/Tokyo"
    assert datetime.fromisoformat(first["next_run_at"]).astimezone(UTC).hour == 0


def test_providers_are_listed_with_the_active_one(chronos, home):
    """Without configuration the built-in trigger is active, and why chronos is not available is said."""
    rows = {row["name"]: row for row in chronos("provider", "list", "--json", home=home).json["providers"]}
    assert rows["builtin"]["active"] is True
    assert rows["chronos"]["available"] is False
    assert "portal_url" in rows["chronos"]["because"]


def test_quiet_lists_ids_alone(chronos, fixture_home):
    """`list -q` is made for loops."""
    assert sorted(chronos("list", "--offline", "-q", home=fixture_home).out.split()) == sorted(
        json.loads(record)["id"] for record in _records(fixture_home)
    )


def _records(folder):
    return [json.dumps(job) for job in json.loads((folder / "cron" / "jobs.json").read_text())["jobs"]]
