"""No hint of an export that is not the cure: a job that is left out is in it once it was changed as the hint says."""

from __future__ import annotations

import json
import re
import shlex

import pytest

CRONTAB, CLUSTER, UNITS = ("--format", "crontab"), ("--format", "kubernetes"), ("--format", "systemd")


def _edit(*words):
    return lambda run: run("job", "edit", "a", *words)


def _reads(run):
    """Give the job a standard input, as a line of a crontab with a percent sign has it."""
    document = json.loads(run.path.read_text())
    document["jobs"][0]["chronos"]["action"]["stdin"] = "x"
    run.path.write_text(json.dumps(document))
    return run("list")


def _below_another(run):
    assert run("job", "edit", "never", "--env", "B=1").code == 0
    return run("job", "edit", "a", "--env", "A=1", "--env", "C=1")


def _other_file(run):
    (run.folder / "vars").write_text("A=1\n")
    return run("job", "edit", "a", "--env-file", str(run.folder / "vars"))


def _other_folder(run):
    return run("job", "edit", "a", "--workdir", str(run.folder))


def _strange_folder(run):
    (run.folder / "a\x07b").mkdir()
    return run("job", "edit", "a", "--workdir", str(run.folder / "a\x07b"))


def _into_a_file(run):
    (run.folder / "both.sh").write_text("true\ntrue\n")
    return run("job", "edit", "a", "--shell", f"sh {shlex.quote(str(run.folder / 'both.sh'))}")


EXPORTS = [
    # file, words of the hint, the export, how the job becomes one that is left out, and what the hint says: a change of
    # the job, options of the export, or None for the command that stands in the hint
    ("operations/foreign/crontab_export.py", "export it alone", CRONTAB, _below_another, None),
    ("operations/foreign/crontab_export.py", "put it into a file of its own", CRONTAB, _edit("--shell", "true\ntrue"), _into_a_file),
    ("operations/foreign/exported.py", "export it as JSON: `chronos job export` without --format", CRONTAB, _edit("--schedule", "every 7m"), None),
    ("operations/foreign/exported.py", "export it as JSON: `chronos job export` without --format", UNITS, _edit("--http", "http://127.0.0.1:9/"), None),
    ("operations/foreign/kubernetes_export.py", "give --image", CLUSTER, _edit("--retries", "1"), ("--image", "busybox")),
    ("operations/foreign/kubernetes_export.py", "give it five fields, or an interval", (*CLUSTER, "--image", "i"), _edit("--schedule", "2099-01-01T00:00"), _edit("--schedule", "0 9 * * *")),
    ("operations/foreign/kubernetes_export.py", "keep one of the two", (*CLUSTER, "--image", "i"), _edit("--schedule", "0 0 */2 * 1"), _edit("--schedule", "0 0 * * 1")),
    ("operations/foreign/kubernetes_export.py", "give the days by their numbers", (*CLUSTER, "--image", "i"), _edit("--schedule", "0 0 L * *"), _edit("--schedule", "0 0 28 * *")),
    ("operations/foreign/kubernetes_export.py", "put what it reads into the command", (*CLUSTER, "--image", "i"), _reads, _edit("--shell", "echo x | cat")),
    ("operations/foreign/kubernetes_export.py", "use skip, allow or replace", (*CLUSTER, "--image", "i"), _edit("--overlap", "queue"), _edit("--overlap", "skip")),
    ("operations/foreign/calendar_events.py", "give the days by their numbers", UNITS, _edit("--schedule", "0 0 LW * *"), _edit("--schedule", "0 0 28 * *")),
    ("operations/foreign/calendar_events.py", "give the days by their numbers", UNITS, _edit("--schedule", "0 0 * * 1#2,3"), _edit("--schedule", "0 0 * * 1")),
    ("operations/foreign/systemd_export.py", "keep one of the two", UNITS, lambda run: (_edit("--env", "B=1")(run), _other_file(run))[1], _edit("--unset-env", "B")),
    ("operations/foreign/systemd_export.py", "put what it reads into the command", UNITS, _reads, _edit("--shell", "echo x | cat")),
    ("operations/foreign/systemd_export.py", "give that file another name, and the job its path", UNITS, _edit("--env-file", "/etc/*.conf"), _other_file),
    ("operations/foreign/systemd_export.py", "give its folder another name, and the job its path", UNITS, _strange_folder, _other_folder),
    ("operations/foreign/systemd_export.py", "give the job another name with `chronos job edit --name`", UNITS, _edit("--name", "a\x07b"), _edit("--name", "a b")),
    ("operations/foreign/systemd_export.py", "resume it, and disable its timer there", UNITS, lambda run: run("job", "pause", "a"), lambda run: run("job", "resume", "a")),
    ("operations/foreign/systemd_export.py", "use skip", UNITS, _edit("--overlap", "queue"), _edit("--overlap", "skip")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "export", "fault", "cure"),
    [case[1:] for case in EXPORTS],
    ids=[f"{case[2][1]} {case[1]}" for case in EXPORTS],
)
def test_a_job_changed_as_its_hint_says_is_in_the_export(world, words, export, fault, cure):
    """The job is left out, on one line with the hint; once that is done it is there."""
    jobs = ("a",) if fault is not _below_another else ("a", "never")
    done = fault(world)
    assert done.code == 0, done.err
    said = world("job", "export", *jobs, *export)
    (line,) = [line for line in said.err.splitlines() if "a is left out: " in line]
    assert words in line
    if callable(cure):
        changed = cure(world)
        assert changed.code == 0, changed.err
    if cure is None:
        command = shlex.split(re.findall(r"`chronos ([^`]+)`", line)[-1])
        after = world(*command, *(() if "a" in command else ("a",)))
    else:
        after = world("job", "export", *jobs, *export, *(cure if isinstance(cure, tuple) else ()))
    assert (after.code, "left out" in after.err) == (0, False), after.err
    assert after.out.strip()
