"""The line of each error that a command can end with: what failed and why, then what to do, then the exit code."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT

JOB = ("job", "add", "@hourly", "--id", "a", "--shell", "true")
NAS = {
    "CHRONOS_PORTAL_URL": "http://127.0.0.1:9",
    "CHRONOS_CALLBACK_URL": "http://127.0.0.1:9",
    "CHRONOS_NAS_TOKEN": "t",
}

COMMANDS = [
    (("cancel",), 2, "it must be said what to cancel: name jobs, or give one of --all and --orphans"),
    (("completions", "tcsh"), 2, "there is no completion for 'tcsh'"),
    (("hold", "--off", "--reason", "x"), 2, "--off and --reason contradict each other: "),
    (("reconcile",), 2, "no NAS is configured: cron.chronos.portal_url is not set: "),
    (("fire", "--job-id", "a", "--token", "x", "--token-file", "y"), 2, "--token and --token-file are both given: give one"),
    (("job", "import", "--from", "/nowhere"), 2, "/nowhere is no home: it has no cron/jobs.json: name a folder, or crontab"),
    (("job", "edit", "a", "--jitter", "2h"), 2, "the jitter is not shorter than the shortest gap of the schedule: use a smaller"),
    (("tick", "--install", "crontab", "--every", "0s"), 2, "--every must be longer than 0: write --every 1m"),
    (("next", "0 0 9 * * *"), 2, "has six fields, which some read as seconds first and others as seconds last: use five"),
    (("init",), 6, "/config.yaml is there already: edit it, or replace it with --force"),
    (("init", "--force", "--agent", "{here}"), 2, "--agent is no output of `chronos-nas agent add --json`: pass it on as it is"),
    (("init", "--force", "--agent", "/nowhere"), 2, "/nowhere cannot be read: No such file or directory: name the file"),
    (("job", "add", "@daily", "--name", "a", "--shell", "true"), 6, "there is a job named 'a' already (a): change it with"),
    (("job", "add", "@daily"), 2, "there is nothing to run: give -- ARGV..., --shell"),
    (("job", "add", "@daily", "--shell", "x", "--script", "y"), 2, "are given, but a job does one thing: give one of them"),
    (("job", "add", "@daily", "--shell", "x", "--id", "a b"), 2, "'a b' cannot be a job id: use letters"),
    (("job", "edit", "a"), 2, "nothing is to be changed: name what to change, see `chronos job edit --help`"),
    (("job", "edit", "a", "--grace", "200000d"), 2, "the duration '200000d' is longer than a century: use a shorter one"),
    (("job", "edit", "a", "--timeout", "soon"), 2, "cannot read the duration 'soon': write it as 90s, 30m, 2h or 1d"),
    (("job", "import"), 2, "nothing to import is named: give FILE, --from crontab, or --from DIR"),
    (("job", "import", "x", "--from", "y"), 2, "FILE and a home are both given: give one of them"),
    (("job", "import", "{here}"), 2, "is not JSON (line 1, column 1: Expecting value)"),
    (("job", "import", "{here}", "--from", "crontab"), 2, "line 1 of the crontab: 'no json' has no command after its times: put"),
    (("job", "import", "{empty}"), 2, "the document has no list of jobs: give what `chronos job export` wrote"),
    (("job", "import", "--from", "crontab"), 2, "crontab cannot be asked: give a FILE: chronos job import FILE --from crontab"),
    (("job", "show", "nobody"), 5, "there is no job 'nobody': see `chronos job list`"),
    (("job", "show", "aa"), 5, "there is no job 'aa': "),
    (("logs", "a"), 5, "job a has not run yet: see `chronos list` for when it will"),
    (("logs", "a/20200101T000000Z"), 5, "job a has no run '20200101T000000Z': see `chronos history a`"),
    (("tick", "--every", "5m"), 2, "--every, --image, --yes and --remove belong to --install: say --install crontab"),
    (("tick", "--install", "launchd"), 2, "a tick cannot be installed as 'launchd': use crontab, systemd, kubernetes"),
    (("tick", "--install", "crontab", "--every", "7m"), 2, "a crontab cannot say 'every 7m': use whole minutes that divide"),
    (("tick", "--install", "systemd", "--every", "7m"), 2, "a timer cannot meet the full minute 'every 7m': use seconds or minutes"),
    (("tick", "--install", "kubernetes", "--yes"), 2, "which image has chronos is not known: "),
    (("tick", "--install", "crontab", "--yes"), 1, "there is no program crontab here: "),
    (("timeline", "--last", "10s", "--next", "10s"), 2, "the window is shorter than a minute: "),
    (("fire", "--job-id", "a"), 2, "no fire token is given: use --token -, --token-file or $CHRONOS_FIRE_TOKEN"),
    (("job", "remove", "a"), 2, "needs a yes: add --yes"),
    (("next", ""), 2, "the schedule is empty: "),
    (("next", "* * * *"), 2, "'* * * *' has 4 fields instead of five: write '0 9 * * 1-5'"),
    (("next", "soon"), 2, "cannot read the schedule 'soon': write '0 9 * * 1-5'"),
    (("next", "0 9 * * !"), 2, "'0 9 * * !' has a character that cron fields do not know: write '0 9 * * 1-5'"),
    (("next", "0 9 * * ?"), 2, "'0 9 * * ?' has a '?', which is Quartz's: write '0 9 * * *'"),
    (("next", "99 9 * * *"), 2, "'99 9 * * *' is not a cron expression: bad minute: minutes go from 0 to 59"),
    (("next", "0 0 30 2 *"), 2, "'0 0 30 2 *' never comes due: check the day and the month"),
    (("next", "30m"), 2, "'30m' can be read as once or as every: write 'in 30m' or 'every 30m'"),
    (("next", "every -5m"), 2, "'every -5m' is negative: give a length above zero"),
    (("next", "every 0s"), 2, "'every 0s' has no length: give a length above zero"),
    (("next", "2026-11-20T15:30+05:00[Europe/Berlin]"), 2, "the offset and the zone of '2026-11-20T15:30+05:00[Europe/Berlin]' contradict each other: leave out one of the two"),
    (("next", "@never"), 2, "there is no schedule '@never': there are @annually"),
    (("next", "2020-01-01"), 2, "2020-01-01T00:00:00+01:00 is past: give a time ahead, or 'in 1m'"),
]  # fmt: skip


@pytest.fixture
def store(chronos, home, tmp_path):
    """A home with one job, and files that are not what a command wants."""
    assert chronos(*JOB, home=home).code == 0
    (tmp_path / "here").write_text("no json\n")
    (tmp_path / "empty").write_text("{}")
    return home


def ended(done, code, text):
    """One line on stderr that says so, with something to do at its end; the same in JSON."""
    lines = [line for line in done.err.splitlines() if not line.startswith("chronos: warning: ")]
    assert done.code == code, done
    assert len(lines) == 1, done.err
    assert lines[0].startswith("chronos: error: ")
    assert text in lines[0]


@pytest.mark.parametrize(("words", "code", "text"), COMMANDS, ids=[" ".join(words) for words, _, _ in COMMANDS])
def test_a_command_says_why_it_ends(chronos, store, tmp_path, words, code, text):
    """Each line, word for word, with its exit code; in JSON the hint is there by itself."""
    words = [word.format(here=tmp_path / "here", empty=tmp_path / "empty") for word in words]
    env = {**(NAS if "cancel" in words else {}), "PATH": str(tmp_path)}
    ended(chronos(*words, home=store, env=env), code, text)
    document = chronos(*words, "--json", home=store, env=env).json
    assert document["error"]["hint"]


def test_a_crontab_that_is_refused_is_quoted(chronos, store, tmp_path):
    """What crontab itself says is passed on."""
    program = tmp_path / "crontab"
    program.write_text("#!/bin/sh\necho no crontab for you >&2\nexit 1\n")
    program.chmod(0o755)
    done = chronos("job", "import", "--from", "crontab", home=store, env={"PATH": f"{tmp_path}:/bin:/usr/bin"})
    ended(done, 2, "crontab -l: no crontab for you: give a FILE")
    program.write_text("\0not a program")
    done = chronos("tick", "--install", "crontab", "--yes", home=store, env={"PATH": str(tmp_path)})
    ended(done, 1, "crontab could not be run: OSError: ")


def test_a_home_that_no_unit_can_name_is_refused(chronos, tmp_path):
    """A line break in the home's path would end a line of a crontab or a unit."""
    home = tmp_path / "a\nb"
    home.mkdir()
    ended(chronos("tick", "--install", "crontab", home=home), 2, "a crontab cannot hold a line break: rename the home")
    done = chronos("tick", "--install", "systemd", home=home)
    ended(done, 2, "a unit cannot hold a line break or a control character: rename the home")


RECORDS = [
    ({"schedule": None}, "the job has no schedule"),
    ({"schedule": {"kind": "cron"}}, "the cron schedule has no expression"),
    ({"schedule": {"kind": "moon"}}, "the schedule kind 'moon' is not known here"),
    ({"schedule": {"kind": "interval", "minutes": 0}}, "the interval is not a positive length"),
    ({"schedule": {"kind": "once"}}, "the one-shot has no time"),
    ({"schedule": {"kind": "once", "run_at": "soon"}}, "cannot read the time 'soon'"),
    ({"chronos": {"policy": 5}}, "the policy is not an object"),
    (
        {"chronos": {"policy": {"overlap": "maybe"}}},
        "the policy cannot be read: overlap is 'maybe', not one of skip, queue, allow, replace",
    ),
    ({"chronos": {"policy": {"on_failure": "mail"}}}, "the policy cannot be read: 'mail' is not a list of texts"),
    ({"chronos": {"open": [5]}}, "an entry of chronos.open cannot be read"),
    ({"chronos": {"timezone": "Mars/Olympus"}}, "there is no time zone 'Mars/Olympus'"),
]


@pytest.mark.parametrize(("change", "text"), RECORDS, ids=[text for _, text in RECORDS])
def test_a_record_that_cannot_be_used_says_why(chronos, store, change, text):
    """The reason is the command's line, and the job's own in the list."""
    path = store / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0] |= change
    path.write_text(json.dumps(document))
    done = chronos("job", "edit", "a", "--retries", "1", "--json", home=store)
    assert done.code in (1, 2)
    assert text in done.json["error"]["message"]
    assert done.json["error"]["hint"]
    assert text in chronos("job", "show", "a", "--json", home=store).json["job"]["problem"]


ACTIONS = [
    ({}, {}, "the job has nothing to run: no command, shell, http, script or prompt"),
    ({"command": "ls"}, {}, "the job's command is not a list of texts"),
    ({"shell": 5}, {}, "the job's shell line is not a text"),
    ({"shell": "true"}, {"workdir": 5}, "the job's workdir is not a text"),
    ({"shell": "true"}, {"workdir": "here"}, "the job's workdir 'here' is not absolute"),
    ({"shell": "true"}, {"workdir": "/nowhere"}, "the job's workdir /nowhere is not a folder here"),
    (None, {"script": 5}, "the job's script is not the name of a file"),
    (None, {"script": "../x.sh"}, "the script '../x.sh' leads out of "),
    (None, {"script": "x.sh"}, "/scripts/x.sh is not there: put it into the scripts folder"),
    (None, {"script": "loop"}, "the script 'loop' cannot be found: its links lead in a circle: put a file there"),
    (None, {"script": "~nobodyatall/x"}, "the script '~nobodyatall/x' cannot be found: "),
    (None, {"script": "ok.sh"}, "there is no bash here for a .sh script: install bash, or write the script in Python"),
    (None, {"prompt": "hi"}, "the job is a prompt, and no program to run prompts is configured: set runners.prompt"),
    (None, {"prompt": ["hi"]}, "the job's prompt is not a text"),
    ({"http": {"method": "GET"}}, {}, "the job's http action has no url"),
    ({"http": {"url": "ftp://x"}}, {}, "the job's url is not an http or https one"),
    ({"http": {"url": "http://x", "method": "G T"}}, {}, "the job's http method 'G T' is not one"),
    ({"http": {"url": "http://x", "headers": {"a": "b\nc"}}}, {}, "the job's http headers are not names with one-line values"),
    ({"command": ["/nowhere/program"]}, {}, "cannot run '/nowhere/program' in "),
]  # fmt: skip


@pytest.mark.parametrize(("action", "fields", "text"), ACTIONS, ids=[text for _, _, text in ACTIONS])
def test_an_action_that_cannot_be_run_is_a_failed_run_with_its_reason(chronos, store, tmp_path, action, fields, text):
    """A job that cannot even start has failed, exit 10, and its row says why and what to do."""
    path = store / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0] |= {"no_agent": "prompt" not in fields, **fields}
    document["jobs"][0]["chronos"].pop("action")
    if action is not None:
        document["jobs"][0]["chronos"]["action"] = action
    path.write_text(json.dumps(document))
    (store / "scripts").mkdir()
    (store / "scripts" / "ok.sh").write_text("true\n")
    (store / "scripts" / "loop").symlink_to("loop")
    prompted = {"CHRONOS_PROMPT_RUNNER": "cat"} if text.startswith("the job's prompt") else {}
    done = chronos("--quiet", "run", "a", home=store, env={"PATH": str(tmp_path), **prompted})
    ended(done, 10, text)
    (row,) = chronos("history", "a", "--json", home=store).json["rows"]
    assert text in row["reason"]


def test_a_no_on_a_terminal_does_nothing(store):
    """Asked on a real terminal, anything but yes ends with exit 2 and changes nothing."""
    main, child = pty.openpty()
    command = [sys.executable, "-m", "chronos_cli", "--home", str(store), "job", "remove", "a"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "dumb"}
    with subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment) as asked:
        os.close(child)
        os.write(main, b"n\n")
        said = b""
        while asked.poll() is None or said.count(b"\n") < 2:
            try:
                said += os.read(main, 1024)
            except OSError:  # what Linux says of a terminal whose other end is closed
                break
        assert asked.wait(10) == 2
    os.close(main)
    assert b"[y/N]" in said
    assert b"nothing was done: answer y, or add --yes" in said
    assert "a" in (store / "cron" / "jobs.json").read_text()


def test_what_a_pause_outlasted_cannot_be_resumed(chronos, home):
    """A one-shot whose time passed while it was paused, and a completed job, say so."""
    assert chronos("job", "add", "in 1h", "--id", "once", "--shell", "true", home=home).code == 0
    assert chronos("job", "pause", "once", home=home).code == 0
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    for place, key in ((document["jobs"][0], "next_run_at"), (document["jobs"][0]["schedule"], "run_at")):
        place[key] = "2020-01-01T00:00:00+00:00"
    path.write_text(json.dumps(document))
    passed = "the time of job once passed while it was paused: give it a new one with `chronos job edit`"
    ended(chronos("job", "resume", "once", home=home), 6, passed)
    document["jobs"][0] |= {"state": "completed", "enabled": False, "next_run_at": None}
    path.write_text(json.dumps(document))
    ended(chronos("job", "resume", "once", home=home), 6, "job once is completed: give it a new schedule with")
    ended(chronos("job", "pause", "once", home=home), 6, "job once is completed: it runs no more, paused or not")
    ended(chronos("run", "once", home=home), 6, "job once is completed: give it a new time: ")


def test_a_hold_is_said_by_what_would_run(chronos, store):
    """`run` and `tick` end with exit 75, the reason, and how to lift it."""
    chronos("hold", "--reason", "maintenance", home=store)
    for words in (("run", "a"), ("tick",)):
        ended(chronos(*words, home=store), 75, "all jobs are held: maintenance: lift it with `chronos hold --off`")


def test_a_run_of_many_jobs_must_be_named_with_its_job(chronos, store):
    """A run id that several jobs have is refused with the candidates; following needs a terminal's stream."""
    for job_id in ("a", "b"):
        folder = store / "cron" / "runs" / job_id
        folder.mkdir(parents=True)
        row = {"job_id": job_id, "run_id": "20260101T000000Z", "state": "ok", "kind": "late", "claim": "c",
               "claimed_at": "2026-01-01T00:00:00+00:00", "started_at": "2026-01-01T00:00:00+00:00"}  # fmt: skip
        (folder / "20260101T000000Z.json").write_text(json.dumps(row))
    done = chronos("logs", "20260101T000000Z", home=store)
    ended(done, 6, "several jobs have a run '20260101T000000Z': it may be a/20260101T000000Z, b/20260101T000000Z")
    done = chronos("logs", "a", "--follow", "--json", home=store)
    ended(done, 2, "--follow needs a local store and no --json: read it once it has ended")


CONFIGS = [
    ("cron: 5\n", "cron must hold `key: value` lines, not 5: put that setting right"),
    ("policy: [1]\n", "policy must hold `key: value` lines, not [1]: put that setting right"),
    ("policy:\n  graze: 1\n", "policy.graze is not a setting: did you mean grace?"),
    ("- a\n", "must hold `key: value` lines at its top, not a list"),
    ("a: [\n", "not YAML: "),
    ("policy:\n  grace: soon\n", "policy.grace must be whole seconds or a duration such as 90s"),
]


@pytest.mark.parametrize(("text", "line"), CONFIGS, ids=[line for _, line in CONFIGS])
def test_a_config_that_cannot_be_used_names_its_key(chronos, home, text, line):
    """Exit 2, the file, the key and what it may be."""
    (home / "config.yaml").write_text(text)
    done = chronos("list", home=home)
    ended(done, 2, line)
    assert str(home / "config.yaml") in done.err


STORES = [
    (b"\xff\xfe{\0}\0", "is UTF-16 text, not UTF-8: nothing was changed; save it as UTF-8"),
    (b"{\xff}", "is not UTF-8 text (byte 1): nothing was changed; "),
    (b"", "is empty, which no complete write leaves behind: nothing was changed; "),
    (b"{", "cannot be parsed: "),
    (b"5", "holds a number where an object with `jobs` belongs: "),
    (b'{"jobs": "x"}', "has a text as its `jobs`, not a list: "),
    (b'{"x": 5}', "has no `jobs`, and its keys are not jobs either ('x'): "),
]


@pytest.mark.parametrize(("data", "line"), STORES, ids=[line for _, line in STORES])
def test_a_store_that_cannot_be_read_is_never_no_jobs(chronos, store, data, line):
    """Exit 1, the file and what is wrong with it; the bytes stay as they are."""
    path = store / "cron" / "jobs.json"
    path.write_bytes(data)
    for words in (("list",), ("tick",), ("job", "pause", "a")):
        ended(chronos(*words, home=store), 1, line)
    assert path.read_bytes() == data


def test_the_half_of_a_store_that_cannot_be_read_names_the_way(chronos, store):
    """Where hermes keeps when its jobs are due in a database, and this one is broken: how the jobs can be had."""
    (store / "cron" / "runtime.db").write_bytes(b"no database")
    for words in (("list",), ("tick",), ("job", "pause", "a")):
        done = chronos(*words, home=store)
        ended(done, 1, "where hermes keeps when its jobs are due, cannot be read: file is not a database")
        assert f"`chronos job import --from {store}` brings the jobs into another home" in done.err
