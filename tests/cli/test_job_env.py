"""Variables of jobs on the command line: added, changed, shown, exported, looked up by a run, and refused."""

import json

import pytest


@pytest.fixture
def job(chronos, home):
    """Adds or changes a job by what is said; its record."""

    def put(*options, words=("job", "add", "@yearly", "--id", "a", "--shell", "env"), code=0):
        done = chronos(*words, *options, home=home)
        assert done.code == code, done.err
        return done.err if code else record(home)

    return put


def record(home):
    (found,) = json.loads((home / "cron" / "jobs.json").read_text())["jobs"]
    return found["chronos"]


EDIT = ("job", "edit", "a")


def test_variables_are_kept_as_texts_and_references(job, chronos, home):
    """An edit changes those it names; the same again changes nothing; shown is where a value comes from, and no text."""
    ours = job("--env", "A=hunter2", "--env", "B=env:X", "--env", "C=text:file:./dev.db", "--env-file", "/etc/x")
    assert ours["env"] == {"A": "hunter2", "B": {"from": "env:X"}, "C": "file:./dev.db"}
    assert ours["env_file"] == ["/etc/x"]
    ours = job("--env", "D=cmd:pass show 'hunter2'", "--unset-env", "C", words=EDIT)
    assert ours["env"] == {"A": "hunter2", "B": {"from": "env:X"}, "D": {"from": "cmd:pass show 'hunter2'"}}
    again = chronos(*EDIT, "--env", "A=hunter2", "--dry-run", "--detailed-exitcode", home=home)
    assert again.code == 0, again.out
    shown = chronos("job", "show", "a", home=home).out + chronos("job", "show", "a", "--json", home=home).out
    assert "hunter2" not in shown
    assert "A, B=env:X, D=cmd:pass ..." in shown
    assert "/etc/x" in shown
    ours = job("--env-file", "none", "--inherit-env", "HOME_*, LANG", words=EDIT)
    assert ("env_file" in ours, ours["policy"]) == (False, {"inherit_env": ["HOME_*", "LANG"]})
    exported = home.parent / "all.json"
    exported.write_text(chronos("job", "export", home=home).out)
    other = home.parent / "other"
    assert chronos("job", "import", exported, home=other).code == 0
    assert {key: record(other)[key] for key in ("env", "policy")} == {key: ours[key] for key in ("env", "policy")}


def test_an_upsert_brings_the_variables_to_what_is_said(job):
    """Those that are named no more go; where none is named they stay."""
    job("--env", "A=1", "--env", "B=2")
    assert job("--env", "B=3")["env"] == {"B": "3"}
    assert job()["env"] == {"B": "3"}


def test_headers_and_bodies_are_references_too(job):
    """As they are written; in a header one word may stand before."""
    request = ("--http", "https://a.example/", "--header", "Authorization: Bearer env:T", "--header", "X: text:env:T")
    ours = job(*request, "--body", "file:/etc/body", words=("job", "add", "@yearly", "--id", "a"))
    assert ours["action"]["http"] == {
        "url": "https://a.example/",
        "method": "POST",
        "headers": {"Authorization": {"before": "Bearer ", "from": "env:T"}, "X": "env:T"},
        "body_from": "file:/etc/body",
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--env", "A"), "--env is NAME=VALUE, and one has no ="),
        (("--env", "=x"), "'' cannot be a variable's name"),
        (("--env", "A B=x"), "'A B' cannot be a variable's name"),
        (("--env", "CHRONOS_RUN_ID=x"), "CHRONOS_RUN_ID is chronos' own"),
        (("--env", "A=env:CHRONOS_NAS_TOKEN"), "CHRONOS_NAS_TOKEN is chronos' own, and no job gets it"),
        (("--env", "A=env:X Y"), "env: takes the name of one variable"),
        (("--env", "A=env:"), "a reference 'env:' names nothing"),
        (("--env", "A=file:here"), "file: needs a whole path, not 'here'"),
        (("--env", "A=cmd:'x"), "cmd: names no command that can be read"),
        (("--env-file", "here"), "--env-file needs a whole path, not 'here'"),
        (("--inherit-env", "A=b"), "--inherit-env must be names of variables (a * may end one), or all, or none"),
    ],
)
def test_what_can_never_be_looked_up_is_refused(job, options, reason):
    """One line, exit 2, and nothing is added."""
    assert reason in job(*options, code=2)


def test_a_variable_that_is_not_there_is_not_taken_out(job):
    """A slip of the pen is said."""
    job("--env", "A=1")
    assert "the job has no variable 'B'" in job("--unset-env", "B", words=EDIT, code=2)


def test_a_run_looks_up_and_its_output_is_masked(job, chronos, home, tmp_path):
    """The job has the value; what it prints of it is kept, and told as the reason, as ***."""
    (tmp_path / "token").write_text("hunter2-secret\n")
    words = ("job", "add", "@yearly", "--id", "a", "--shell", "printf %s $T | wc -c; echo of $T; exit 3")
    job("--env", f"T=file:{tmp_path}/token", words=words)
    ran = chronos("run", "a", home=home)
    assert (ran.code, ran.out.split("\n")[:2]) == (10, ["14", "of ***"])
    assert "exited with status 3: of ***" in ran.err
    everything = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"hunter2-secret" not in everything


def test_a_reference_that_cannot_be_had_fails_the_run_and_is_tried_again(job, chronos, home):
    """One plain reason; the attempt that follows finds it."""
    job("--env", "T=env:NOT_SET_ANYWHERE", "--retries", "1")
    ran = chronos("run", "a", home=home)
    assert ran.code == 10
    assert "the variable T could not be had: env:NOT_SET_ANYWHERE is not set where this run starts" in ran.err
    (row,) = chronos("history", "a", "--json", home=home).json["rows"]
    assert (row["state"], row["attempt"], row["attempts"][0]["state"]) == ("accepted", 2, "failed")


def test_doctor_names_jobs_that_inherit_because_nobody_decided(job, chronos, home):
    """Once the home or the job says so, nothing is warned of."""

    def found():
        checks = chronos("doctor", "--json", home=home).json["checks"]
        return [check["text"] for check in checks if check["name"] == "environment"]

    job()
    (text,) = found()
    assert "runs of a get all variables of whoever starts them" in text
    job("--inherit-env", "all", words=EDIT)
    assert found() == []


@pytest.mark.parametrize(
    ("env", "reason"),
    [({"A": 1}, "the job's env is not names with texts"), ({"A": {"from": "vault:x"}}, "reference of no known kind")],
)
def test_a_record_of_others_that_cannot_be_meant_fails_its_run(job, chronos, home, env, reason):
    """It never runs with something else."""
    job()
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0]["chronos"]["env"] = env
    path.write_text(json.dumps(document))
    ran = chronos("run", "a", home=home)
    assert (ran.code, reason in ran.err) == (10, True), ran.err


@pytest.mark.parametrize(
    ("form", "words", "said"),
    [
        ("systemd", ("--env", "A=env:B"), "its variable A is looked up when it runs, which is chronos' own"),
        ("crontab", ("--env-file", "/etc/a.env"), "its env_file is read when it runs, which is chronos' own"),
        (
            "systemd",
            ("--env", "A=1", "--env-file", "/etc/a.env"),
            "its variables count before those of its env_file, and a service's after them",
        ),
        ("systemd", ("--env-file", "/etc/*.env"), "the path of its env_file means several files there"),
    ],
)
def test_what_another_scheduler_would_not_do_is_not_exported_to_it(chronos, home, form, words, said):
    """The line names the job and the reason."""
    assert chronos("job", "add", "@daily", "--id", "a", *words, "--shell", "true", home=home).code == 0
    done = chronos("job", "export", "--format", form, home=home)
    assert said in done.err + done.out, done
