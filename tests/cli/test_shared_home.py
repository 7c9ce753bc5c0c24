"""Commands in a home that Hermes and its control plane write to as well."""

import json
from datetime import UTC, datetime, timedelta

import pytest

SHARED = "timezone: Europe/Berlin\ncron:\n  chronos:\n    calback_url: https://a.example.com\n    misfire_sweep: 10\n"
WARNING = "chronos: warning: {}: cron.chronos.{} is not a setting: {}"


@pytest.fixture
def shared(home):
    """A home in whose shared section a newer Hermes has a key, and a person a slip of the pen."""
    (home / "config.yaml").write_text(SHARED)
    return home


@pytest.mark.parametrize("words", [("list", "--offline"), ("job", "list"), ("status", "--offline"), ("tick",)])
def test_an_unknown_key_of_the_shared_section_stops_no_command(chronos, shared, words):
    """Each is said once, with the key that was probably meant, and the command does its work."""
    done = chronos(*words, home=shared)
    assert done.code == 0
    config = shared / "config.yaml"
    said = [line for line in done.err.splitlines() if "is not a setting" in line]
    assert said == [
        WARNING.format(config, "calback_url", "did you mean callback_url?"),
        WARNING.format(config, "misfire_sweep", "it is left alone"),
    ]


def test_doctor_lists_the_keys_that_are_no_settings(chronos, shared):
    """Its check of the configuration is a warning that names each of them."""
    check = next(
        check for check in chronos("doctor", "--json", home=shared).json["checks"] if check["name"] == "config"
    )
    assert (check["level"], check["code"]) == ("WARN", "unknown_keys")
    assert "did you mean callback_url?" in check["text"]
    assert "cron.chronos.misfire_sweep" in check["text"]


def test_our_own_sections_stay_strict(chronos, shared):
    """A slip in a section that is ours alone is still exit 2."""
    (shared / "config.yaml").write_text(SHARED + "trust:\n  require_bound_tokens: true\n")
    done = chronos("list", "--offline", home=shared)
    assert done.code == 2
    assert "trust.require_bound_tokens is not a setting: did you mean require_bound_token?" in done.err


def test_a_hold_with_an_end(chronos, home):
    """`--ttl` is written as Hermes reads it, shown with its end, and kept when only the reason changes."""
    done = chronos("hold", "--reason", "window", "--ttl", "2h", "--json", home=home)
    document = json.loads((home / "ESTOP").read_text())
    ends = datetime.fromisoformat(document["expires_at"])
    assert timedelta(minutes=119) < ends - datetime.now(UTC) <= timedelta(hours=2)
    assert document["reason"] == "window"
    assert datetime.fromisoformat(document["engaged_at"]) + timedelta(hours=2) == ends
    assert done.json["expires_at"] == document["expires_at"]
    assert done.json["held"] == f"window (until {document['expires_at']})"
    chronos("hold", "--reason", "longer than we thought", home=home)
    after = json.loads((home / "ESTOP").read_text())
    assert (after["reason"], after["expires_at"]) == ("longer than we thought", document["expires_at"])
    assert after["generation"] != document["generation"]
    assert chronos("tick", home=home).code == 75
    document["expires_at"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    (home / "ESTOP").write_text(json.dumps(document))
    assert chronos("tick", home=home).code == 0
    assert chronos("status", "--offline", "--json", home=home).json["held"] is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--ttl", "0s"), "a hold that ends at once holds nothing: give a --ttl above zero, or lift it with --off"),
        (("--ttl", "soon"), "cannot read the duration 'soon'"),
        (("--ttl", "2h", "--off"), "--off and --ttl contradict each other: give one of them"),
    ],
)
def test_an_end_that_cannot_be_meant_holds_nothing(chronos, home, words, line):
    """Exit 2, and no hold."""
    done = chronos("hold", *words, home=home)
    assert (done.code, line in done.err) == (2, True), done.err
    assert not (home / "ESTOP").exists()


def test_a_job_added_paused_waits_to_be_resumed(chronos, home):
    """Nothing is armed or run before `job resume`; the same command again changes nothing, one without it leaves it."""
    words = ("job", "add", "weekdays at 9am", "--id", "report", "--shell", "true")
    done = chronos(*words, "--paused", "--json", home=home)
    assert (done.json["job"]["state"], done.json["next"], done.json["schedule"]) == ("paused", [], "0 9 * * 1-5")
    record = json.loads((home / "cron" / "jobs.json").read_text())["jobs"][0]
    assert (record["enabled"], record["state"], record["paused_reason"]) == (False, "paused", "added paused")
    assert record["paused_at"]
    assert chronos(*words, "--paused", "--json", home=home).json["changed"] is False
    assert chronos(*words, "--json", home=home).json["job"]["state"] == "paused"
    assert chronos("job", "resume", "report", "--json", home=home).json["job"]["state"] == "live"
    assert chronos(*words, "--paused", "--json", home=home).json["job"]["state"] == "paused"


def put(home, **fields):
    """A job of hermes' own kind in the store, due an hour from now."""
    at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    record = {"id": "theirs", "name": "theirs", "schedule": {"kind": "interval", "minutes": 60}, "next_run_at": at,
              "enabled": True, "state": "scheduled", **fields}  # fmt: skip
    (home / "cron").mkdir(exist_ok=True)
    (home / "cron" / "jobs.json").write_text(json.dumps({"jobs": [record]}))


def test_a_script_runs_by_the_interpreter_that_its_job_names(chronos, home):
    """The whole path of one, or one of the search path, is what runs it; any other is refused with the reason."""
    (home / "scripts").mkdir()
    (home / "scripts" / "who.py").write_text("import sys\nprint('by', sys.argv[0])\n")
    python = home / "python"
    python.write_text("#!/bin/sh\necho through ours\nexec /bin/true\n")
    python.chmod(0o755)
    put(home, script="who.py", no_agent=True, interpreter=str(python))
    assert chronos("run", "theirs", home=home).code == 0
    assert "through ours" in chronos("logs", "theirs", home=home).out
    for named in ("/nowhere/python", "no-such-python", "../python", str(home)):
        put(home, script="who.py", no_agent=True, interpreter=named)
        done = chronos("run", "theirs", home=home)
        assert done.code == 10
        assert f"the job's interpreter {named!r} is no program here: give its whole path" in done.err
    put(home, script="who.py", no_agent=True, interpreter=7)
    assert "the job's interpreter is not a text" in chronos("run", "theirs", home=home).err


@pytest.mark.parametrize("field", ["monitor_url", "monitor_script", "monitor_tool"])
def test_a_monitor_is_never_run_as_a_plain_job(chronos, home, field):
    """It would run at every instant instead of at a change: the run is refused with the reason, and `list` names it."""
    (home / "scripts").mkdir()
    (home / "scripts" / "who.py").write_text(f"open({str(home / 'ran')!r}, 'w')\n")
    put(home, script="who.py", no_agent=True, **{field: "x"})
    done = chronos("run", "theirs", home=home)
    assert done.code == 10
    assert f"the job runs only when what {field} names has changed, and only hermes looks at that" in done.err
    assert not (home / "ran").exists()
    assert chronos("job", "show", "theirs", "--json", home=home).json["job"]["unhandled"] == [field]


def test_what_would_change_the_course_of_a_job_in_hermes_is_said(chronos, home):
    """Where a failure is delivered, and a quota or a provider that holds it back beyond the next time, are kept and named."""
    later, sooner = ((datetime.now(UTC) + timedelta(hours=hours)).isoformat() for hours in (5, 0))
    put(home, prompt="x", failure_deliver="telegram:1", quota_hold_until=later)
    unhandled = chronos("list", "--offline", "--json", home=home).json["jobs"][0]["unhandled"]
    assert unhandled[1:] == ["failure_deliver=telegram:1", f"quota_hold_until={later}"]
    put(home, prompt="x", failure_deliver="local", quota_hold_until=sooner)
    assert chronos("list", "--offline", "--json", home=home).json["jobs"][0]["unhandled"][1:] == []
    for until, named in ((later, [f"provider_backoff.until={later}"]), (sooner, []), (4e9, ["provider_backoff.until=4000000000.0"]),
                         (True, []), ("soon", []), (None, [])):  # fmt: skip
        put(home, prompt="x", failure_deliver="local", quota_hold_until=sooner, provider_backoff={"until": until})
        assert chronos("list", "--offline", "--json", home=home).json["jobs"][0]["unhandled"][1:] == named
    record = json.loads((home / "cron" / "jobs.json").read_text())["jobs"][0]
    chronos("job", "pause", "theirs", home=home)
    after = json.loads((home / "cron" / "jobs.json").read_text())["jobs"][0]
    assert [after[key] for key in ("failure_deliver", "quota_hold_until")] == ["local", sooner]
    assert after["provider_backoff"] == {"until": None}
    assert list(after)[: len(record)] == list(record)


def test_doctor_lists_the_profiles_and_their_jobs(chronos, home):
    """Those that are served, with the number of their jobs, and as a warning those that are not."""

    def check(**env):
        checks = chronos("doctor", "--json", home=home, env=env).json["checks"]
        return next((check for check in checks if check["name"] == "profiles"), None)

    assert check() is None
    for name in ("play", "work"):
        (home / "profiles" / name / "cron").mkdir(parents=True)
    jobs = {"jobs": [{"id": "a", "schedule": {"kind": "interval", "minutes": 5}}]}
    (home / "profiles" / "work" / "cron" / "jobs.json").write_text(json.dumps(jobs))
    found = check()
    assert (found["level"], found["text"]) == (
        "OK", f"play: 0 jobs at {home}/profiles/play; work: 1 job at {home}/profiles/work"
    )  # fmt: skip
    (home / "profiles" / "play" / "cron" / "jobs.json").write_text("{")
    found = check(CHRONOS_PROFILES=f"work={home}/profiles/work")
    assert (found["level"], found["code"]) == ("WARN", "unserved_profiles")
    assert "work: 1 job at" in found["text"]
    assert "play, not served: cannot be read (" in found["text"]
