"""From a record of jobs.json to something that can be started."""

import json
import shutil
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_processes import NOTHING

from chronos_cli.core.record_action import action_kind, unhandled_fields
from chronos_cli.running.actions import HttpAction, ProcessAction, resolve_action
from chronos_cli.running.errors import ActionError


@pytest.fixture
def scripts(tmp_path):
    folder = tmp_path / "home" / "scripts"
    folder.mkdir(parents=True)
    return folder


def resolve(job, scripts, runner=None):
    return resolve_action(job, scripts_dir=scripts, prompt_runner=runner, lookup=NOTHING)


def ours(**action):
    return {"id": "a", "prompt": "", "chronos": {"action": action}}


def test_a_command_is_its_argument_list(scripts):
    """A command runs as given, in the home, without a shell."""
    action = resolve(ours(command=["echo", "$HOME; rm -rf /"]), scripts)
    assert action == ProcessAction("command", ("echo", "$HOME; rm -rf /"), str(scripts.parent))


def test_a_shell_line_goes_to_sh(scripts):
    """A shell action is one argument of /bin/sh -c."""
    assert resolve(ours(shell="a | b"), scripts).argv == ("/bin/sh", "-c", "a | b")


def test_a_workdir_is_honoured(scripts, tmp_path):
    """A record's workdir is the folder of whatever it runs."""
    assert resolve({**ours(command=["x"]), "workdir": str(tmp_path)}, scripts).cwd == str(tmp_path)
    (scripts / "hi.py").write_text("")
    job = {"script": "hi.py", "no_agent": True, "workdir": str(tmp_path)}
    assert resolve(job, scripts).cwd == str(tmp_path)


@pytest.mark.parametrize("workdir", ["/does/not/exist", "relative", 7, "/etc/passwd", "a\0b"])
def test_a_workdir_that_cannot_be_is_refused(scripts, workdir):
    """A run does not quietly go somewhere else."""
    with pytest.raises(ActionError, match="workdir"):
        resolve({**ours(command=["x"]), "workdir": workdir}, scripts)


def test_a_script_is_run_by_its_ending(scripts):
    """.sh and .bash go to bash, everything else to this Python; a shebang and the mode do not matter."""
    for name in ("a.sh", "b.bash", "c.py", "d"):
        (scripts / name).write_text("#!/bin/false\n")
    assert resolve({"script": "a.sh", "no_agent": True}, scripts).argv == (shutil.which("bash"), str(scripts / "a.sh"))
    assert resolve({"script": "b.bash", "no_agent": True}, scripts).argv[0] == shutil.which("bash")
    for name in ("c.py", "d"):
        action = resolve({"script": name, "no_agent": True}, scripts)
        assert action == ProcessAction("script", (sys.executable, str(scripts / name)), str(scripts))


def test_a_script_may_be_a_link_that_stays_inside(scripts):
    """Links are resolved before they are judged."""
    (scripts / "real.py").write_text("")
    (scripts / "link.py").symlink_to("real.py")
    assert resolve({"script": "link.py", "no_agent": True}, scripts).argv[1] == str(scripts / "real.py")
    assert resolve({"script": str(scripts / "real.py"), "no_agent": True}, scripts).argv[1] == str(scripts / "real.py")


@pytest.mark.parametrize(
    "name",
    ["../outside.py", "{tmp}/outside.py", "link.py", "folder/up.py", "missing.py", ".", "", " ", 3, "a\0b", "~x/y"],
)
def test_a_script_outside_or_missing_is_refused(scripts, tmp_path, name):
    """Neither dots, nor absolute paths, nor links lead out of the scripts folder."""
    outside = tmp_path / "outside.py"
    outside.write_text("")
    (scripts.parent / "outside.py").write_text("")
    (scripts / "link.py").symlink_to(outside)
    (scripts / "folder").symlink_to(tmp_path)
    (tmp_path / "up.py").write_text("")
    name = name.format(tmp=tmp_path) if isinstance(name, str) else name
    with pytest.raises(ActionError):
        resolve({"script": name, "no_agent": True}, scripts)


def test_a_prompt_goes_to_the_configured_runner(scripts):
    """The prompt is the runner's stdin, and what the job asks of an agent is in CHRONOS_JOB."""
    job = {
        "id": "f8916efa9ee5", "prompt": "Poll ☃", "skills": ["news"], "model": "m", "provider": None, "deliver": "local",
        "context_from": "abc", "script": None, "no_agent": False, "next_run_at": "x",
    }  # fmt: skip
    action = resolve(job, scripts, ["agent", "--quiet"])
    assert action.argv == ("agent", "--quiet")
    assert action.stdin == "Poll ☃".encode()
    told = {"id": "f8916efa9ee5", "skills": ["news"], "model": "m", "deliver": "local", "context_from": "abc"}
    assert json.loads(dict(action.environment)["CHRONOS_JOB"]) == told


def test_a_prompts_runner_is_told_what_newer_versions_of_hermes_ask(scripts):
    """Where a failure is delivered, until when a quota is spent, and what a run by hand adds are its to honour."""
    job = {"prompt": "x", "failure_deliver": "telegram:9", "quota_hold_until": "x", "manual_run_prompt": "be brief",
           "provider_backoff": {"until": "x", "failures": 2}}  # fmt: skip
    told = json.loads(dict(resolve(job, scripts, ["agent"]).environment)["CHRONOS_JOB"])
    assert told == {
        key: job[key] for key in ("failure_deliver", "quota_hold_until", "manual_run_prompt", "provider_backoff")
    }


def test_a_prompt_without_a_runner_says_what_to_configure(scripts):
    """The run's failure names the key of the configuration."""
    with pytest.raises(ActionError) as caught:
        resolve({"prompt": "x"}, scripts)
    assert "runners.prompt" in caught.value.line()


@pytest.mark.parametrize(
    ("script", "prompt_run", "expected"),
    [
        ("print('42 alerts')", True, "ran just before this"),
        ("import sys; print('oh no'); sys.exit(3)", True, "failed with status 3"),
        ("pass", False, "nothing to report"),
        ("print('quiet'); print('{\"wakeAgent\": false}')", False, "nothing to report"),
        ("print('{\"wakeAgent\": true}')", True, "wakeAgent"),
        ("print('x' * 5000000)", True, "xxx"),
    ],
)
def test_a_script_beside_a_prompt_runs_first(scripts, run, script, prompt_run, expected):
    """Its output becomes part of the prompt; without one, or when it says so, the prompt is not run."""
    (scripts / "collect.py").write_text(script)
    runner = [sys.executable, "-c", "import sys, os; print(sys.stdin.read(), 'RAN', os.environ['CHRONOS_JOB'])"]
    action = resolve({"id": "a", "prompt": "Digest it", "script": "collect.py"}, scripts, runner)
    ended = run(action)
    assert ended.state == "ok", ended
    assert ("RAN" in ended.output_tail) is prompt_run
    assert ("Digest it" in ended.output_tail) is prompt_run
    assert expected in ended.output_tail


def test_a_scripted_prompt_does_not_wait_for_what_the_script_leaves_behind(scripts, run):
    """A background process of the script that keeps its pipe open holds nothing up."""
    (scripts / "collect.sh").write_text("echo found; sleep 30 &")
    action = resolve({"prompt": "p", "script": "collect.sh"}, scripts, ["cat"])
    ended = run(action, timeout_s=8, grace_s=0.1)
    assert ended.state == "ok"
    assert "found" in ended.output_tail


def test_a_runner_that_is_not_there_fails_the_run(scripts, run):
    """Both ways of starting a prompt's runner say that it cannot be run."""
    (scripts / "collect.py").write_text("print(1)")
    ended = run(resolve({"prompt": "p", "script": "collect.py"}, scripts, ["/no/agent"]))
    assert (ended.state, ended.exit_status) == ("failed", 127)
    assert "cannot run /no/agent" in ended.reason


def test_an_http_action_is_a_request_by_a_child(scripts):
    """Nothing of the request is in the child's arguments, where others could read a header."""
    action = resolve(ours(http={"url": "https://x.example/a", "headers": {"X-Key": "k"}, "body": {"a": 1}}), scripts)
    assert isinstance(action, HttpAction)
    assert (action.method, action.body) == ("GET", b'{"a": 1}')
    assert ("Content-Type", "application/json") in action.headers
    assert "x.example" not in " ".join(action.as_process().argv)


@pytest.mark.parametrize(
    "http",
    [
        {"method": "GET"}, {"url": "ftp://x/"}, {"url": "file:///etc/passwd"}, {"url": "http:///x"}, {"url": "https://x/\r\nA: b"},
        {"url": "http://x:99999/"}, {"url": "http://[::1/"}, {"url": 5}, "http://x/", {"url": "http://x/", "method": "GE T"},
        {"url": "http://x/", "headers": {"A": "b\r\nC: d"}}, {"url": "http://x/", "headers": ["A"]},
    ],
)  # fmt: skip
def test_a_wrong_http_action_is_refused(scripts, http):
    """Only http and https, with a host, a method of letters and headers of one line."""
    with pytest.raises(ActionError):
        resolve(ours(http=http), scripts)


@pytest.mark.parametrize(
    "job", [{}, {"chronos": None}, {"chronos": {"action": {}}}, {"no_agent": True}, {"prompt": None}]
)
def test_a_job_with_nothing_to_run_says_so(scripts, job):
    """A record without an action fails its run with a plain reason."""
    with pytest.raises(ActionError, match="nothing to run"):
        resolve(job, scripts, ["agent"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
KEYS = ("script", "no_agent", "prompt", "skills", "workdir", "deliver", "model", "context_from", "chronos")


@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES)
    | st.builds(
        lambda kind, value: {"chronos": {"action": {kind: value}}},
        st.sampled_from(["command", "shell", "http"]),
        VALUES | st.fixed_dictionaries({"url": VALUES, "headers": VALUES, "body": VALUES, "method": VALUES}),
    )
)
def test_no_record_however_broken_breaks_it(tmp_path_factory, job):
    """Whatever stands in a record, it is an action or an ActionError, and the list can name what is unhandled."""
    scripts = tmp_path_factory.getbasetemp()
    unhandled_fields(job)
    action_kind(job)
    try:
        action = resolve(job, scripts, ["agent"])
    except ActionError:
        return
    assert isinstance(action, ProcessAction | HttpAction)
    assert all(isinstance(field, str) for field in unhandled_fields(job))


def test_what_nothing_handles_is_named():
    """A script's delivery and an agent's settings on a plain command are said, a prompt's are handed on."""
    job = {**ours(command=["x"]), "deliver": "telegram:-100123", "model": "m", "skills": []}
    assert unhandled_fields(job) == ("model", "deliver=telegram:-100123")
    assert unhandled_fields({"script": "x", "no_agent": True, "deliver": "local"}) == ()
    assert unhandled_fields({"prompt": "x", "deliver": "telegram:-100123", "model": "m"}) == ()
