"""Plans before changes: what a dry run shows is what the real run does, and a dry run leaves no trace anywhere."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from urllib.request import Request, urlopen

import pytest

from tests.cli.conftest import connect
from tests.played_server import Answer, PlayedServer

CALLBACK = "http://127.0.0.1:9"


def handed_on(url):
    """Hand every call on to a NAS."""

    def answer(call):
        kept = {name: value for name, value in call.headers.items() if name != "Host"}
        with urlopen(Request(url + call.path, data=call.data or None, headers=kept, method=call.method)) as got:
            return Answer(got.status, got.read())

    return answer


@pytest.fixture
def watched(chronos, home, nas, agent):
    """A home whose jobs need every step there is, behind a NAS that is watched; returns the home and the watch."""
    connect(home, nas, agent, CALLBACK)
    for job_id in ("kept", "moved", "added", "dropped"):
        assert chronos("job", "add", "@yearly", "--id", job_id, "--shell", "true", home=home).code == 0
    nas.provision(agent, "moved", datetime.now(UTC) + timedelta(days=9), CALLBACK)
    nas.provision(agent, "stranger", datetime.now(UTC) + timedelta(days=9), CALLBACK)
    offline = {"CHRONOS_PROVIDER": "builtin"}
    assert chronos("job", "pause", "dropped", home=home, env=offline).code == 0
    assert chronos("cancel", "added", home=home).code == 0
    watch = PlayedServer(handed_on(nas.url))
    text = (home / "config.yaml").read_text()
    (home / "config.yaml").write_text(text.replace(f"portal_url: {nas.url}", f"portal_url: {watch.url}"))
    for path in (home / "cron" / "arms").iterdir():
        path.write_text(path.read_text().replace(nas.url, watch.url))
    yield home, watch
    watch.close()


def everything(home):
    """Every file of a home, with its bytes and when it was last written."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(home.rglob("*")) if path.is_file()}


CASES = {
    "reconcile": (
        ("reconcile",),
        ["+ arm added", "- cancel dropped", "= keep kept", "~ move moved", "? orphan stranger"],
    ),
    "reconcile --prune": (
        ("reconcile", "--prune"),
        ["+ arm added", "- cancel dropped", "= keep kept", "~ move moved", "- cancel stranger"],
    ),
    "arm": (("arm", "--all"), ["+ arm added", "- cancel dropped", "= keep kept", "~ move moved"]),
    "arm one": (("arm", "moved"), ["~ move moved"]),
    "cancel": (("cancel", "kept", "moved"), ["- cancel kept", "- cancel moved"]),
    "cancel --orphans": (("cancel", "--orphans"), ["- cancel stranger"]),
    "cancel --all": (("cancel", "--all"), ["- cancel dropped", "- cancel kept", "- cancel moved"]),
    "job edit": (
        ("job", "edit", "kept", "--schedule", "0 12 1 7 *", "--retries", "2"),
        ["~ schedule:", "~ move", "~ retries:"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_dry_run_leaves_no_trace_and_shows_what_the_real_run_does(chronos, watched, case):
    """Not one byte of the home is written, NAS is only listed, and the real run prints the same lines and does them."""
    home, watch = watched
    words, steps = CASES[case]
    before = everything(home)
    dry = chronos(*words, "--dry-run", home=home)
    detailed = chronos(*words, "--dry-run", "--detailed-exitcode", "--json", home=home)
    assert everything(home) == before
    assert {call.method for call in watch.calls} <= {"GET"}
    assert (dry.code, detailed.code) == (0, 3)
    *lines, summary = dry.out.splitlines()
    plain = [" ".join(line.split()) for line in lines]
    assert len(plain) == len(steps)
    assert [step for step in steps if not any(line.startswith(step) for line in plain)] == []
    assert summary.startswith("Plan: ")
    assert summary.endswith(" Nothing was changed.")
    yes = ("--yes",) if "cancel" in words and words[1].startswith("--") else ()
    real = chronos(*words, *yes, home=home)
    assert real.code == 0
    assert real.out.splitlines()[: len(lines) + 1] == [*lines, summary.removesuffix(" Nothing was changed.")]
    assert {call.method for call in watch.calls} - {"GET"}
    if "edit" not in words:
        again = chronos(*words, "--dry-run", "--detailed-exitcode", home=home)
        assert again.code == 0, again.out


EDITS = {
    "shell": (("--shell", "NEW"), "~ shell: true -> NEW"),
    "command": (("--command", "date"), "~ command: none -> date"),
    "timeout": (("--timeout", "5m"), "~ timeout: 1h -> 5m"),
    "grace": (("--grace", "90m"), "~ grace: 1d -> 90m"),
    "jitter": (("--jitter", "90s"), "~ jitter: 0s -> 90s"),
    "retries": (("--retries", "2"), "~ retries: 0 -> 2"),
    "overlap": (("--overlap", "queue"), "~ overlap: skip -> queue"),
    "on_crash": (("--on-crash", "rerun"), "~ on_crash: skip -> rerun"),
    "pause_after_failures": (("--pause-after-failures", "3"), "~ pause_after_failures: never -> 3"),
    "on_failure": (("--on-failure", "mail 'a b'"), "~ on_failure: none -> mail 'a b'"),
    "on_failure_again": (("--on-failure-again", "2h"), "~ on_failure_again: 1h -> 2h"),
    "inherit_env": (("--inherit-env", "A,B_*"), "~ inherit_env: not set -> A, B_*"),
    "env.A": (("--env", "A=b"), "~ env.A: is new (its value is not shown)"),
    "env.B": (("--env", "B=env:C"), "~ env.B: none -> env:C"),
    "env_file": (("--env-file", "/etc/x"), "~ env_file: none -> /etc/x"),
    "repeat": (("--repeat", "5"), "~ repeat: forever -> 5"),
    "workdir": (("--workdir", "/srv"), "~ workdir: none -> /srv"),
    "name": (("--name", "Other"), "~ name: a -> Other"),
    "schedule": (("--schedule", "@daily"), "~ schedule: @yearly -> @daily"),
    "timezone": (("--tz", "Asia/Tokyo"), "~ timezone: Europe/Berlin -> Asia/Tokyo"),
    "http.url": (("--http", "https://a.example/"), "~ http.url: none -> https://a.example/"),
    "prompt": (("--prompt", "say hi"), "~ prompt: none -> say hi"),
    "script": (("--script", "x.sh"), "~ script: none -> x.sh"),
    "model": (("--model", "m"), "~ model: none -> m"),
    "deliver": (("--deliver", "here"), "~ deliver: local -> here"),
    "skills": (("--skills", "p,q"), "~ skills: none -> p, q"),
}


@pytest.mark.parametrize("what", EDITS)
def test_every_option_that_changes_a_job_is_in_its_plan(chronos, home, what):
    """Of an edit, of an add of a job that is there, and of an import: old and new, and one job is counted."""
    options, line = EDITS[what]
    assert chronos("job", "add", "@yearly", "--id", "a", "--shell", "true", home=home).code == 0
    before = everything(home)
    schedule = options[1] if what == "schedule" else "@yearly"
    more = () if what == "schedule" else options
    action = () if {"--shell", "--command", "--http", "--prompt", "--script"} & set(more) else ("--shell", "true")
    plans = [
        ("job", "edit", "a", "--dry-run", *options),
        ("job", "add", schedule, "--id", "a", "--dry-run", *action, *more),
    ]
    for words in plans:
        done = chronos(*words, home=home)
        assert done.code == 0, done
        assert line in done.out.splitlines()
        assert done.out.splitlines()[-1] == "Plan: 1 to change. Nothing was changed."
    assert everything(home) == before
    exported = home.parent / "exported.json"
    there = home.parent / "there"
    shutil.copytree(home, there)
    assert chronos(*(word for word in plans[0] if word != "--dry-run"), home=there).code == 0
    exported.write_text(chronos("job", "export", home=there).out)
    done = chronos("job", "import", exported, "--dry-run", home=home)
    assert f"    {line}" in done.out.splitlines()
    assert done.out.splitlines()[-1] == "Plan: 0 to add, 1 to change, 0 to keep. Nothing was changed."
    assert what in [
        item["what"] for item in chronos("job", "import", exported, "--json", home=home).json["jobs"][0]["plan"]
    ]
    assert chronos("job", "import", exported, "--dry-run", "--detailed-exitcode", home=home).code == 0


def test_adding_again_is_one_line_and_adding_anew_shows_what_would_be(chronos, home):
    """A dry run of `job add` writes nothing and shows the job; the same job again is said in one line, exit 0."""
    words = ("job", "add", "0 9 * * *", "--id", "a", "--name", "Alpha")
    before = everything(home)
    dry = chronos(*words, "--dry-run", "--command", "date", home=home)
    assert everything(home) == before
    lines = dry.out.splitlines()
    assert lines[0] == "+ add    a (Alpha)  0 9 * * *"
    assert "  runs: date" in lines
    assert lines[-1] == "Plan: 1 to add. Nothing was changed."
    assert chronos(*words, "--dry-run", "--detailed-exitcode", "--json", "--", "date", home=home).code == 3
    assert chronos(*words, "--command", "date", home=home).code == 0
    again = chronos(*words, "--command", "date", home=home)
    assert (again.code, again.out) == (0, "a (Alpha) is so already: nothing changed\n")
    dry = chronos(*words, "--dry-run", "--detailed-exitcode", "--command", "date", home=home)
    assert (dry.code, dry.out) == (0, "Plan: nothing to change. Nothing was changed.\n")
    edited = chronos("job", "edit", "a", "--timeout", "1h", home=home)
    assert (edited.code, edited.out.splitlines()[0]) == (0, "a (Alpha) is so already: nothing changed")
    changed = chronos(*words, "--timeout", "5m", "--command", "date", home=home)
    assert changed.out.splitlines()[:3] == ["~ timeout: 1h -> 5m", "Plan: 1 to change.", "changed a (Alpha)"]


def test_a_plan_shows_no_secret(chronos, home):
    """A header and a variable change: that they do is said, and no value is on the screen or in the document."""
    http = ("--http", "https://a.example/")
    assert chronos("job", "add", "@daily", "--id", "a", *http, "--header", "Token: canary-1", home=home).code == 0
    for more in ((), ("--json",)):
        done = chronos("job", "edit", "a", *http, "--header", "Token: canary-2", "--dry-run", *more, home=home)
        assert "canary" not in done.out + done.err
        assert "http.headers.Token" in done.out
