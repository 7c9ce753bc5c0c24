"""Jobs as files: `chronos apply`, its plan, its sets and what it prunes, and the same words written back."""

from __future__ import annotations

import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos_cli.core.clock import Trust
from chronos_cli.core.job import HomeDefaults, parse_job
from chronos_cli.core.policy import Policy
from chronos_cli.errors import UsageError
from chronos_cli.frozen import names, replace
from chronos_cli.operations.manifest.bring import bring
from chronos_cli.operations.manifest.files import wanted_of
from chronos_cli.operations.manifest.keys import POLICY, schema
from chronos_cli.operations.manifest.nodes import read_nodes
from chronos_cli.operations.manifest.words import file_text, words_of
from chronos_cli.store.jobsfile import JobsFile
from tests.cli.conftest import tree
from tests.core.making import HOME, record

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def wrote(folder, text, name="jobs.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def stored(home):
    """The records of a home by id."""
    path = home / "cron" / "jobs.json"
    return {job["id"]: job for job in json.loads(path.read_text())["jobs"]} if path.exists() else {}


THREE = """\
set: team
defaults:
  tz: Europe/Berlin
  policy: {timeout: 5m}
jobs:
  - id: digest
    schedule: "0 9 * * 1-5"
    command: [echo, on, 5, 0123]
    env: {A: 1, B: yes}
    retries: 2
    labels: {team: ops}
  - id: beat
    schedule: every 30m
    shell: |
      date
      echo hi
---
id: ping
schedule: '@daily'
http: {url: https://x.example/, headers: {Authorization: s3cret}}
timeout: 1h
paused: true
"""


def test_files_are_applied_once_and_then_agree(chronos, home, tmp_path):
    """Jobs of several documents become what they say, over the defaults; the same again writes nothing."""
    path = wrote(tmp_path, THREE)
    done = chronos("apply", "-f", path, "--json", home=home)
    assert [(job["job_id"], job["action"]) for job in done.json["jobs"]] == [
        ("digest", "add"), ("beat", "add"), ("ping", "add"),
    ]  # fmt: skip
    jobs = stored(home)
    assert jobs["digest"]["chronos"]["action"] == {"command": ["echo", "on", "5", "0123"]}
    assert jobs["digest"]["chronos"]["env"] == {"A": "1", "B": "yes"}
    assert jobs["digest"]["chronos"]["policy"] == {"timeout": 300, "retries": 2}
    assert jobs["digest"]["chronos"]["labels"] == {"team": "ops"}
    assert jobs["beat"]["chronos"]["action"] == {"shell": "date\necho hi\n"}
    assert (jobs["ping"]["state"], jobs["ping"]["chronos"].get("policy")) == ("paused", None)
    assert {job["chronos"]["set"] for job in jobs.values()} == {"team"}
    before = tree(home)
    again = chronos("apply", "-f", path, "--detailed-exitcode", home=home)
    assert (again.code, again.out.splitlines()[-1]) == (0, "Plan: 0 to add, 0 to change, 3 to keep.")
    assert tree(home) == before


def test_a_plan_is_what_the_real_one_does(chronos, home, tmp_path):
    """A dry run writes nothing, exits 3 where that is asked for, and shows each field."""
    path = wrote(tmp_path, THREE)
    chronos("apply", "-f", path, home=home)
    before = tree(home)
    changed = wrote(tmp_path, THREE.replace("retries: 2", "retries: 3").replace("s3cret", "other"))
    planned = chronos("apply", "-f", changed, "--dry-run", "--detailed-exitcode", home=home)
    assert planned.code == 3
    assert "~ retries: 2 -> 3" in planned.out
    assert "http.headers.Authorization: changes (its value is not shown)" in planned.out
    assert tree(home) == before
    diff = chronos("apply", "-f", changed, "--dry-run", "-o", "diff", home=home).out
    assert "-  retries: 2\n+  retries: 3\n" in diff
    assert "Authorization: '*** (another)'" in diff
    assert "s3cret" not in planned.out + diff
    done = chronos("apply", "-f", changed, home=home).out
    assert done.splitlines()[:-1] == planned.out.splitlines()[:-1]


def test_what_a_file_does_not_say_has_its_default(chronos, home, tmp_path):
    """A field that is taken out of the file goes back: the file says the whole job."""
    wrote(tmp_path, "id: a\nname: A\nschedule: '@daily'\nshell: x\nretries: 2\nenv: {A: b}\nlabels: {l: m}\nrepeat: 3\n"
                    "workdir: /tmp\n")  # fmt: skip
    chronos("apply", "-f", tmp_path / "jobs.yaml", home=home)
    chronos("apply", "-f", wrote(tmp_path, "id: a\nschedule: '@daily'\nshell: x\n"), home=home)
    job = stored(home)["a"]
    ours = {key: value for key, value in job["chronos"].items() if key not in ("change", "set")}
    assert ours == {"timezone": "Europe/Berlin", "action": {"shell": "x"}, "policy": {}}
    assert (job["name"], job["repeat"]["times"], job["workdir"]) == ("a", None, None)


def test_a_pause_by_hand_is_left_and_one_by_the_file_is_lifted_by_it(chronos, home, tmp_path):
    """What an operator switched off stays so through an apply; the file undoes what it did itself, or says false."""
    plain = "id: a\nschedule: '@daily'\nshell: x\n"
    path = wrote(tmp_path, plain)
    chronos("apply", "-f", path, home=home)
    chronos("job", "pause", "a", home=home)
    chronos("apply", "-f", path, home=home)
    assert stored(home)["a"]["state"] == "paused"
    chronos("apply", "-f", wrote(tmp_path, plain + "paused: false\n"), home=home)
    assert stored(home)["a"]["state"] == "scheduled"
    chronos("apply", "-f", wrote(tmp_path, plain + "paused: true\n"), home=home)
    assert stored(home)["a"]["state"] == "paused"
    chronos("apply", "-f", wrote(tmp_path, plain), home=home)
    assert stored(home)["a"]["state"] == "scheduled"


TWO = "set: s\njobs:\n- {id: a, schedule: '@daily', shell: x}\n- {id: b, schedule: '@daily', shell: x}\n"
ONE = "set: s\njobs:\n- {id: a, schedule: '@daily', shell: x}\n"


def test_only_what_the_set_once_applied_is_pruned_and_it_is_shown_first(chronos, home, tmp_path):
    """Without --prune it is named; with it, it goes; jobs by hand and of other sets stay."""
    chronos("job", "add", "@daily", "--id", "hand", "--shell", "x", home=home)
    chronos("apply", "-f", wrote(tmp_path, "- {id: other, schedule: '@daily', shell: x}\n", "other.yaml"), home=home)
    chronos("apply", "-f", wrote(tmp_path, TWO), home=home)
    path = wrote(tmp_path, ONE)
    kept = chronos("apply", "-f", path, home=home)
    assert "no longer in the files: b; --prune removes what is" in kept.err
    assert set(stored(home)) == {"hand", "other", "a", "b"}
    planned = chronos("apply", "-f", path, "--prune", "--dry-run", "--detailed-exitcode", home=home)
    assert (planned.code, "- remove b" in planned.out) == (3, True)
    assert set(stored(home)) == {"hand", "other", "a", "b"}
    done = chronos("apply", "-f", path, "--prune", home=home)
    assert done.err == "- remove b\n"
    assert set(stored(home)) == {"hand", "other", "a"}


def test_an_empty_set_prunes_nothing_unless_that_is_said(chronos, home, tmp_path):
    """An empty file is more often a slip than a wish."""
    chronos("apply", "-f", wrote(tmp_path, TWO), home=home)
    empty = wrote(tmp_path, "set: s\njobs: []\n")
    done = chronos("apply", "-f", empty, "--prune", home=home)
    assert done.code == 2
    assert done.err == (
        "chronos: error: the set s has no job left, and nothing is pruned of an empty set: --allow-empty removes its "
        "2 jobs: a, b\n"
    )
    assert set(stored(home)) == {"a", "b"}
    assert chronos("apply", "-f", empty, "--prune", "--allow-empty", home=home).code == 0
    assert stored(home) == {}


def test_a_folder_is_a_set_and_a_file_that_goes_takes_its_jobs_along(chronos, home, tmp_path):
    """Files of a folder are read in order, others are not; the folder's path is the set, also once a file is gone."""
    folder = tmp_path / "jobs"
    (folder / "below").mkdir(parents=True)
    wrote(folder, "- {id: a, schedule: '@daily', shell: x}\n", "a.yaml")
    wrote(folder, '\ufeff{"id": "b", "schedule": "@daily",\r\n "command": ["x", 5]}\r\n', "b.json")
    wrote(folder, "no: jobs\n", ".hidden.yaml")
    wrote(folder, "# notes\n", "README.md")
    wrote(folder, "- {id: c, schedule: '@daily', shell: x}\n", "below/c.yaml")
    (folder / "d.yml").symlink_to(wrote(tmp_path, "- {id: d, schedule: '@daily', shell: x}\n", "elsewhere"))
    assert chronos("apply", "-f", folder, home=home).code == 0
    assert {(name, job["chronos"]["set"]) for name, job in stored(home).items()} == {
        (name, str(folder)) for name in "abd"
    }
    (folder / "d.yml").unlink()
    assert chronos("apply", "-f", folder, "--prune", home=home).code == 0
    assert set(stored(home)) == {"a", "b"}


def test_a_job_of_another_set_is_not_taken_and_one_by_hand_is_not_in_silence(chronos, home, tmp_path):
    """One set's job needs --take-over; one that a hand made is taken when the file changes it, and that is said."""
    chronos("apply", "-f", wrote(tmp_path, ONE), home=home)
    theirs = wrote(tmp_path, "set: t\njobs:\n- {id: n, schedule: '@daily', shell: x}\n"
                             "- {id: a, schedule: '@daily', shell: y}\n", "t.yaml")  # fmt: skip
    before = tree(home)
    done = chronos("apply", "-f", theirs, home=home)
    assert done.code == 6
    assert f"{theirs}:4:3: job a belongs to the set s: change it there, or --take-over moves it to t" in done.err
    assert tree(home) == before
    taken = chronos("apply", "-f", theirs, "--take-over", "--json", home=home).json["jobs"]
    assert [(job["job_id"], job.get("taken_from")) for job in taken] == [("n", None), ("a", "s")]
    assert stored(home)["a"]["chronos"]["set"] == "t"
    chronos("job", "add", "@daily", "--id", "hand", "--shell", "x", home=home)
    same = wrote(tmp_path, "set: s\njobs:\n- {id: hand, schedule: '@daily', shell: x}\n")
    left = chronos("apply", "-f", same, home=home)
    assert "as the files say already, but of no set: hand; --take-over makes them this set's" in left.err
    assert "set" not in stored(home)["hand"]["chronos"]
    changed = wrote(tmp_path, "set: s\njobs:\n- {id: hand, schedule: '@daily', shell: z}\n")
    assert "it was made by hand, and is this set's from here on" in chronos("apply", "-f", changed, home=home).out
    assert stored(home)["hand"]["chronos"]["set"] == "s"


WRONG = [
    ("id: a\nschedule: '@daily'\nshel: x\n", ":3:1: a job has no key 'shel': did you mean 'shell'?"),
    ("id: a\nschedule: '@daily'\ntimezone: UTC\nshell: x\n", ":3:1: a job has no key 'timezone': write 'tz'"),
    ("jobs:\n- id: a\n  schedule: '@daily'\n  shell: x\n  policy: {timout: 5m}\n", ":5:12: policy has no key 'timout'"),
    ("jobs:\n- id: a\n  schedule: '0 9 * *'\n  shell: x\n", ":2:3: '0 9 * *' has 4 fields instead of five"),
    ("jobs: [{id: a, shell: x}]\n", ":1:8: the job has no schedule"),
    ("jobs: [{schedule: '@daily', shell: x}]\n", ":1:8: the job has no id"),
    ("jobs: [{id: a, schedule: '@daily'}]\n", ":1:8: there is nothing to run"),
    ("jobs: [{id: a/b, schedule: '@daily', shell: x}]\n", ":1:13: 'a/b' cannot be a job id"),
    ("id: a\nschedule: '@daily'\nshell: x\nhttp: https://x.example/\n", "but a job does one thing"),
    ("id: a\nschedule: in 5m\nshell: x\n", "counts from now, so that each apply would move it"),
    ("id: a\nschedule: 2020-01-01T00:00:00Z\nshell: x\n", "is past"),
    ("id: a\nschedule: '@daily'\nshell: x\ntz: Mars/Olympus\n", ":4:5: "),
    ("id: a\nid: b\n", ":2:1: 'id' is said before, in line 1"),
    ('{"id": "a",\n "id": "b"}', ":2:2: 'id' is said before, in line 1"),
    ('{"id": "a",\n "schedule": "@daily",\n "shell": {}}', ":3:11: shell is a text, not a mapping"),
    ('{"id": "a",\n "sch', ":2:2: it is not "),
    ("id: a\n\tx: b\n", ":2:1: it is not YAML"),
    ("id: [a\n", "it is not YAML"),
    ("id: \x01\n", ":1:5: a character that no text has"),
    ("id: !!python/object:os.system x\n", ":1:5: the tag "),
    ("a: &a [*a, *a]\n", ":1:8: '*a' stands within itself: take its aliases apart"),
    ("jobs: " + "[" * 5_000 + "\n", "nest"),
    ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(7)
    ), "b.yaml:5:32: stands for more than"),
    ("just a text\n", ":1:1: there are no jobs here, but a text"),
    ("timezone: Europe/Berlin\n", ":1:1: a file has no key 'timezone'"),
    ("retries: 5\njobs: []\n", ":1:1: a file has no key 'retries': put it under 'defaults', or into each job"),
    ("jobs: {a: b}\n", ":1:7: jobs is a list"),
    ('{"schema": "chronos.export/1", "jobs": []}', "this is what `chronos job export` wrote"),
    ('[{"id": "a", "schedule": {"kind": "cron"}}]', ":1:2: this is a record of a store"),
    ("id: a\nschedule: '@daily'\nshell: x\nretries: many\n", ":4:10: retries is 'many'"),
    ("id: a\nschedule: '@daily'\nshell: x\ntimeout: 0s\n", ":4:10: timeout 0s is too short"),
    ("id: a\nschedule: '@daily'\nshell: x\noverlap: maybe\n", ":4:10: overlap is 'maybe'"),
    ("id: a\nschedule: '@daily'\nshell: x\nrepeat: 0\n", ":4:9: repeat is '0'"),
    ("id: a\nschedule: '@daily'\nshell: x\npaused: maybe\n", ":4:9: paused is true or false, not a text"),
    ("id: a\nschedule: '@daily'\nshell: x\nretries: 1\npolicy: {retries: 2}\n", "retries is said twice"),
    ("id: a\nschedule: '@daily'\nshell: x\nworkdir: here\n", ":4:10: workdir here is not absolute"),
    ("id: a\nschedule: '@daily'\nshell: ''\n", ":3:8: shell is empty"),
    ("id: a\nschedule: '@daily'\nshell: \"a\\0b\"\n", ":3:8: shell has a character that no text has"),
    ("id: a\nschedule: '@daily'\ncommand: []\n", ":3:10: command names no program"),
    ("id: a\nschedule: '@daily'\ncommand: \"'\"\n", ":3:10: command cannot be read: no closing quotation"),
    ("id: a\nschedule: '@daily'\nprompt: ''\n", ":3:9: the prompt is empty"),
    ("id: a\nschedule: '@daily'\nscript: a\nstdin: x\n", ":4:8: stdin is for a command or a shell line"),
    ("id: a\nschedule: '@daily'\nhttp: ftp://x\n", ":3:7: http needs an http or https URL"),
    ("id: a\nschedule: '@daily'\nhttp: {method: GET}\n", ":3:7: http has no url"),
    ("id: a\nschedule: '@daily'\nhttp: {url: 'http://x', method: 'A B'}\n", "'A B' is no method of HTTP"),
    ("id: a\nschedule: '@daily'\nhttp: {url: 'http://x', headers: {a: \"b\\nc\"}}\n", "the header 'a' is not on one line"),
    ("id: a\nschedule: '@daily'\nshell: x\nenv: [A]\n", ":4:6: env is `NAME: value` lines, not a list"),
    ("id: a\nschedule: '@daily'\nshell: x\nenv: {A: }\n", ":4:10: env.A is a text, not a nothing"),
    ("id: a\nschedule: '@daily'\nshell: x\nenv: {'A=B': c}\n", ":4:7: "),
    ("id: a\nschedule: '@daily'\nshell: x\nlabels: {'a b': c}\n", ":4:10: 'a b' cannot be the key of a label"),
    ("id: a\nschedule: '@daily'\nprompt: x\nskills: {}\n", ":4:9: skills is a text, not a mapping"),
    ("id: a\nschedule: '@daily'\nshell: x\non_failure: {}\n", ":4:13: on_failure is a text, not a mapping"),
    ("id: a\nschedule: '@daily'\nskills: []\n", ":1:1: there is nothing to run"),
    ("id: a\nschedule: '@daily'\nskills: ','\n", ":1:1: there is nothing to run"),
    ("id: a\nschedule: '@daily'\nshell: x\non_failure: ['']\n", ":4:13: on_failure names no program"),
    ("id: a\nschedule: '@daily'\nshell: x\nretries: 000000000101\n", ":4:10: retries is '000000000101'"),
    ("id: a\nschedule: '@daily'\nshell: x\nretries: " + "0" * 5_000 + "x\n", ":4:10: retries is '000"),
    ("id: a\nschedule: '@daily'\nhttp: https://x:70000/\n", ":3:7: http needs an http or https URL"),
    ("defaults: {stdin: hello}\njobs: [{id: a, schedule: '@daily', shell: cat}]\n", ":1:19: stdin is for a command"),
    ("defaults: {retries: many}\njobs: []\n", ":1:21: retries is 'many'"),
    ("defaults: {env: [A]}\njobs: [{id: a, schedule: '@daily', shell: x, env: {A: b}}]\n", ":1:17: env is `NAME: value`"),
    ("defaults: {shell: x, http: 'http://x'}\njobs: []\n", ":1:28: shell and http are given, but a job does one"),
    ("defaults: {retries: 1, policy: {retries: 2}}\njobs: []\n", ":1:21: retries is said twice"),
    ("defaults: {skills: {}}\njobs: []\n", ":1:20: skills is a text, not a mapping"),
    ("id: a\nschedule: '@daily'\nshell: x\n---\nid: b\nschedule: '@daily'\nshel: x\n", ":7:1: a job has no key 'shel'"),
    ("- x\n", ":1:3: a job is `key: value` lines, not a text"),
    ("<<: x\nid: a\n", ":1:5: << brings in a mapping"),
    ("? [a]\n: b\n", "a key is a text"),
    ("set: ''\njobs: []\n", ":1:6: set is empty"),
    ('set: "a\\tb"\njobs: []\n', ":1:6: the name of the set is no line of text"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[f"{at}" for at in range(len(WRONG))])
def test_what_is_wrong_is_said_with_its_place_and_applies_nothing(chronos, home, tmp_path, text, said):
    """One line, with file, line and column, exit 2; the good job beside it is not applied either."""
    folder = tmp_path / "d"
    folder.mkdir()
    wrote(folder, "- {id: good, schedule: '@daily', shell: x}\n", "a.yaml")
    wrote(folder, text, "b.yaml")
    done = chronos("apply", "-f", folder, home=home)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"{folder}/b.yaml" in done.err
    assert said in done.err
    assert stored(home) == {}


def test_an_id_is_in_the_files_once_in_whatever_case(chronos, home, tmp_path):
    """Two files that both have a job would undo each other."""
    wrote(tmp_path, "- {id: a, schedule: '@daily', shell: x}\n", "a.yaml")
    wrote(tmp_path, "- {id: A, schedule: '@daily', shell: x}\n", "b.yaml")
    done = chronos("apply", "-f", tmp_path / "a.yaml", "-f", tmp_path / "b.yaml", home=home)
    assert f"b.yaml:1:3: job 'A' is in {tmp_path}/a.yaml:1:3 already, as 'a': take one of them out" in done.err
    wrote(tmp_path, "- {id: a, schedule: '@daily', shell: x}\n", "b.yaml")
    done = chronos("apply", "-f", tmp_path / "a.yaml", "-f", tmp_path / "b.yaml", home=home)
    assert "job 'a' is in " in done.err
    chronos("apply", "-f", tmp_path / "a.yaml", home=home)
    wrote(tmp_path, "- {id: A, schedule: '@daily', shell: x}\n", "b.yaml")
    assert chronos("apply", "-f", tmp_path / "b.yaml", home=home).code == 6


def test_what_cannot_be_read_is_one_line(chronos, home, tmp_path, monkeypatch):
    """A name that is not there, a pipe in a file's place, bytes that are no text, a file without end."""
    assert "cannot be read: No such file" in chronos("apply", "-f", tmp_path / "none", home=home).err
    os.mkfifo(tmp_path / "f.yaml")
    assert "it is no regular file" in chronos("apply", "-f", tmp_path / "f.yaml", home=home).err
    (tmp_path / "b.yaml").write_bytes(b"id: a\nx: \xff\n")
    assert "b.yaml:2:4: it is not UTF-8 text" in chronos("apply", "-f", tmp_path / "b.yaml", home=home).err
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(9 * 2**20)
    assert "is larger than" in chronos("apply", "-f", tmp_path / "big.yaml", home=home).err
    assert chronos("apply", home=home).err.startswith("chronos: error: nothing to apply is named")
    one = wrote(tmp_path, ONE)
    assert (
        "--json and -o diff contradict each other" in chronos("apply", "-f", one, "-o", "diff", "--json", home=home).err
    )
    assert (
        "there is no output 'wide': it may be diff, json, name"
        in chronos("apply", "-f", one, "-o", "wide", home=home).err
    )
    monkeypatch.setattr("chronos_cli.operations.manifest.files.MAX_JOBS", 0)
    assert "there are more than 0 jobs" in chronos("apply", "-f", one, home=home).err
    assert "--allow-empty belongs to --prune" in chronos("apply", "-f", "x", "--allow-empty", home=home).err


def test_standard_input_is_no_set_until_it_has_a_name(chronos, home, monkeypatch):
    """Jobs from a pipe belong to none, and nothing is pruned by them, unless --set names one."""

    def piped(text, *more):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return chronos("apply", "-f", "-", *more, home=home)

    text = "- {id: a, schedule: '@daily', shell: x}\n"
    assert piped(text).code == 0
    assert "set" not in stored(home)["a"]["chronos"]
    assert "what is to be pruned is not said: standard input is no set" in piped(text, "--prune").err
    assert piped(text.replace(": x", ": y"), "--set", "s", "--prune").code == 0
    assert stored(home)["a"]["chronos"]["set"] == "s"
    assert "there are no jobs on standard input" in piped("").err
    assert piped(text).code == 6


def test_the_import_takes_the_same_words_and_joins_no_set(chronos, home, tmp_path):
    """`job import` reads files of jobs too, in YAML and JSON, with the same errors; whose a job is stays as it is."""
    chronos("apply", "-f", wrote(tmp_path, ONE), home=home)
    one = wrote(tmp_path, '{"id": "j", "schedule": "@daily", "command": ["echo", "hi"]}', "j.json")
    assert chronos("job", "import", one, "--json", home=home).json["jobs"][0]["action"] == "add"
    assert stored(home)["j"]["chronos"]["action"] == {"command": ["echo", "hi"]}
    assert chronos("job", "import", one, "--json", home=home).json["jobs"][0]["action"] == "keep"
    changed = wrote(tmp_path, "- {id: a, schedule: '@daily', shell: y}\n", "a.yaml")
    assert chronos("job", "import", changed, home=home).code == 0
    assert stored(home)["a"]["chronos"]["set"] == "s"
    bad = wrote(tmp_path, "- {id: a, schedule: '@daily', shel: y}\n", "bad.yaml")
    assert "bad.yaml:1:31: a job has no key 'shel'" in chronos("job", "import", bad, home=home).err


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"chronos": {"timout": 5}}, "chronos has no key 'timout': did you mean 'policy.timeout'?"),
        ({"chronos": {"polcy": {}}}, "chronos has no key 'polcy': did you mean 'policy'?"),
        ({"chronos": {"policy": {"timout": 5}}}, "chronos.policy has no key 'timout': did you mean 'timeout'?"),
        ({"chronos": {"action": {"shel": "x"}}}, "chronos.action has no key 'shel': did you mean 'shell'?"),
        ({"chronos": {"action": {"http": {"uri": "x"}}}}, "chronos.action.http has no key 'uri': did you mean 'url'?"),
        ({"chronos": {"qqq": {}}}, "chronos has no key 'qqq': it may have timezone"),
        ({"promt": "x"}, "a record has no key 'promt': did you mean 'prompt'?"),
    ],
)
def test_an_import_of_records_refuses_a_key_that_is_not_known(chronos, home, tmp_path, key, said):
    """Nothing of ours is dropped in silence; another program's keys are kept."""
    job = {"id": "a", "schedule": {"kind": "interval", "minutes": 5}, "script": "x", "no_agent": True, "of_another": 1}
    done = chronos("job", "import", wrote(tmp_path, json.dumps([job | key]), "r.json"), home=home)
    assert done.code == 2
    assert f"job a: {said}" in done.err
    assert chronos("job", "import", wrote(tmp_path, json.dumps([job]), "r.json"), home=home).code == 0
    assert stored(home)["a"]["of_another"] == 1


def test_the_export_is_the_file_again(chronos, home, tmp_path):
    """What is written back by `job export -o apply` is applied without a change, set by set."""
    chronos("apply", "-f", wrote(tmp_path, THREE), home=home)
    chronos("job", "add", "every 10s", "--id", "hand", "--name", "By hand", "--prompt", "a\nb", "--skills", "s,t",
            "--model", "m", home=home)  # fmt: skip
    text = chronos("job", "export", "-o", "apply", home=home).out
    assert text.startswith("# yaml-language-server: $schema=.chronos-jobs.schema.json\n")
    assert [document.get("set") for document in yaml.safe_load_all(text)] == [None, "team"]
    before = tree(home)
    done = chronos("apply", "-f", wrote(tmp_path, text, "out.yaml"), "--detailed-exitcode", home=home)
    assert (done.code, done.out.splitlines()[-1]) == (0, "Plan: 0 to add, 0 to change, 4 to keep.")
    assert tree(home) == before
    for document in yaml.safe_load_all(text):
        jsonschema.Draft202012Validator(schema()).validate(document)
    assert chronos("job", "export", "hand", "--format", "apply", "-o", tmp_path / "f", home=home).code == 0
    assert (tmp_path / "f").read_text().count("id: ") == 1


def test_what_a_file_cannot_say_is_named(chronos, home, tmp_path):
    """A record that cannot be read, one with nothing to run, and a field that only hermes has."""
    (home / "cron").mkdir()
    jobs = [
        record(id="ok", prompt="x", chronos=None, provider="p"), record(id="none", prompt="", chronos=None), {"id": "bad"},
    ]  # fmt: skip
    (home / "cron" / "jobs.json").write_text(json.dumps({"jobs": jobs}))
    done = chronos("job", "export", "-o", "apply", home=home)
    assert [job["id"] for job in yaml.safe_load(done.out)["jobs"]] == ["ok"]
    assert "ok: a file of jobs does not say provider" in done.err
    assert "none is left out: it has nothing to run that a file can say" in done.err
    assert "bad is left out: " in done.err


def test_the_schema_is_printed_and_takes_what_is_read(chronos, home):
    """`apply --schema` is what an editor holds a file to: it takes the examples and refuses what the reader refuses."""
    found = json.loads(chronos("apply", "--schema", home=home).out)
    assert found == schema() == chronos("apply", "--schema", "--json", home=home).json["file_schema"]
    jsonschema.Draft202012Validator.check_schema(found)
    checker = jsonschema.Draft202012Validator(found)
    for document in yaml.safe_load_all(THREE):
        checker.validate(document)
    assert not checker.is_valid({"id": "a", "schedule": "@daily", "shel": "x"})
    assert not checker.is_valid({"id": "a", "schedule": "@daily"})
    assert not checker.is_valid([{"id": "a", "schedule": "@daily", "shell": "x", "retries": "many"}])


# -- the round trip ----------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
WORDS = TEXT.filter(lambda text: bool(text.strip()))
LINE = st.text(st.sampled_from("abc XY:#'\"-,[]{}&*!|>%@`\\09~?"), min_size=1, max_size=12).filter(str.strip)
VALUES = TEXT | st.sampled_from(["", "env:A", "text:x", "Bearer env:T", {"from": "env:A"}, {"from": "cmd:pass show x"}])
NAMED = st.dictionaries(st.from_regex(r"[A-Z_]{1,6}", fullmatch=True), VALUES, max_size=3)
ACTIONS = st.one_of(
    st.builds(lambda words: {"ours": {"action": {"command": words}}}, st.lists(WORDS, min_size=1, max_size=3)),
    st.builds(lambda text, more: {"ours": {"action": {"shell": text, **more}}}, WORDS,
              st.sampled_from([{}, {"stdin": "in\n"}, {"stdin": ""}])),
    st.builds(lambda more: {"ours": {"action": {"http": {"url": "https://x.example/", **more}}}},
              st.fixed_dictionaries({}, optional={"method": st.sampled_from(["GET", "post"]), "headers": st.just({"A": "b"}) | st.just({"A": {"before": "Bearer ", "from": "file:/t"}}), "body_from": st.just("env:B"),
                                                  "body": LINE | st.just({"a": [1, True, None, 1.5]})})),
    st.builds(lambda text: {"script": text, "no_agent": True}, LINE),
    st.builds(lambda text, more: {"prompt": text, **more}, WORDS, st.fixed_dictionaries({}, optional={
        "script": LINE, "skills": st.lists(LINE, min_size=1, max_size=2), "skill": LINE, "model": LINE, "deliver": LINE})),
    st.just({"prompt": "", "skills": ["only"]}),
)  # fmt: skip
SCHEDULES = st.sampled_from([
    {"schedule": {"kind": "interval", "minutes": 5, "display": "every 5m"}},
    {"schedule": {"kind": "interval", "minutes": 1.5, "seconds": 90}},
    {"schedule": {"kind": "cron", "expr": "0 9 * * mon-fri"}},
    {"schedule": {"kind": "cron", "expr": "@daily"}},
    {"schedule": "every 2h"},
    {"schedule": {"kind": "once", "run_at": "2031-01-01T00:00:00+00:00"}, "repeat": {"times": 1, "completed": 0}},
    {"schedule": {"kind": "once", "run_at": "2020-01-01T00:00:00+00:00"}, "enabled": False, "next_run_at": None,
     "last_run_at": "2020-01-01T00:00:00+00:00"},
])  # fmt: skip
STATES = st.sampled_from([
    {}, {"state": "paused", "enabled": False, "paused_at": NOW.isoformat(), "paused_reason": "a hand"},
    {"enabled": False}, {"repeat": {"times": 3, "completed": 1}}, {"repeat": None}, {"name": None}, {"name": "Two words: #"},
])  # fmt: skip
POLICIES = st.fixed_dictionaries({}, optional={
    "timeout": st.sampled_from([1, 90, 3_600, "5m"]), "grace": st.just(0), "retries": st.integers(0, 100),
    "overlap": st.sampled_from(["skip", "queue", "allow"]), "on_crash": st.just("rerun"), "jitter": st.just(61), "tolerance": st.just(30),
    "pause_after_failures": st.sampled_from([0, 3]), "on_failure": st.sampled_from([[], ["a b", "c"]]),
    "on_failure_again": st.just(0), "inherit_env": st.sampled_from([[], ["*"], ["A", "B_*"]]),
})  # fmt: skip
OURS = st.fixed_dictionaries({}, optional={
    "env": st.dictionaries(st.from_regex(r"[A-Z_]{1,6}", fullmatch=True), VALUES, max_size=3), "env_file": st.just(["-/a", "/b"]), "labels": st.just({"team": "ops", "n": "5"}), "timezone": st.sampled_from(["UTC", "Asia/Tokyo"]),
    "set": st.sampled_from(["s", "/a/path.yaml"]),
})  # fmt: skip
HOMES = st.sampled_from([HOME, HomeDefaults(zone=HOME.zone, zone_name="UTC", policy=replace(Policy(), retries=3, overlap="queue",
                                                                                           on_failure=("x",)))])  # fmt: skip


@given(ACTIONS, SCHEDULES, STATES, POLICIES, OURS, st.sampled_from([{}, {"workdir": "/tmp"}]), HOMES)
@settings(max_examples=60, deadline=None)
def test_apply_of_an_export_changes_nothing(action, schedule, state, policy, ours, more, home):
    """For every kind of job, whatever its texts: the words of a record, read back, mean just that record."""
    made = record(policy=policy, ours={**ours, **action.get("ours", {})},
                  **schedule | {key: value for key, value in state.items() if "repeat" not in schedule or key != "repeat"}
                  | {key: value for key, value in action.items() if key != "ours"} | more)  # fmt: skip
    jobs = JobsFile.parse(json.dumps({"jobs": [made]}).encode())
    ctx = SimpleNamespace(
        repository=SimpleNamespace(jobs=lambda: jobs),
        clock=lambda: NOW,
        token=lambda: "t",
        home=home,
        trust=Trust.ALONE,
    )
    words = words_of(parse_job(made, home), home)
    assert jsonschema.Draft202012Validator(schema()).is_valid([words])
    text = file_text({ours.get("set"): [words]}.items(), schema="x")
    for form in (text, json.dumps({"jobs": [words]}), json.dumps([words])):
        (brought,) = bring(ctx, wanted_of(read_nodes(form.encode(), "f")), prune=False, dry_run=True)
        assert (brought.item.verdict.value, brought.item.changes) == ("keep", ()), form


def test_a_one_shot_that_has_run_stays_in_its_file(chronos, home, tmp_path):
    """A file with a time that has come and gone is applied as before, for as long as the job is kept."""
    at = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    path = wrote(tmp_path, f"id: a\nschedule: {at.isoformat()}\nshell: x\n")
    chronos("apply", "-f", path, home=home)
    jobs = json.loads((home / "cron" / "jobs.json").read_text())
    earlier = (at - timedelta(hours=2)).isoformat()
    jobs["jobs"][0] |= {"enabled": False, "next_run_at": None, "last_run_at": earlier}
    jobs["jobs"][0]["schedule"]["run_at"] = earlier
    (home / "cron" / "jobs.json").write_text(json.dumps(jobs))
    done = chronos("apply", "-f", wrote(tmp_path, f"id: a\nschedule: {earlier}\nshell: x\n"), home=home)
    assert (done.code, done.out.splitlines()[-1]) == (0, "Plan: 0 to add, 0 to change, 1 to keep.")


@given(st.binary(max_size=60) | st.text(st.sampled_from("ab:-[]{}&*!<>|'\"# \n,?@\t0~"), max_size=40).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_whatever_a_file_holds_is_jobs_or_one_error(data):
    """No text brings anything about but jobs, or an error that names the file."""
    said = "f.yaml"
    try:
        wanted_of(read_nodes(data, "f.yaml"))
    except UsageError as error:
        said = error.message if error.hint else ""
    assert said.startswith("f.yaml")


def test_every_field_of_a_policy_is_a_key_of_files():
    """Who gives jobs a new option gives it to files of jobs too."""
    assert {key.name for key in POLICY} == set(names(Policy()))
