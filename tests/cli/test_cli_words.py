"""No word is swallowed: each word of a command line is an option of chronos or a word of the command, never in doubt."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import tree


def stored(home):
    path = home / "cron" / "jobs.json"
    jobs = json.loads(path.read_text())["jobs"] if path.exists() else []
    return {job["id"]: job["chronos"]["action"] for job in jobs}


@pytest.mark.parametrize(
    "words",
    [
        ("date", "--dry-run"),
        ("date", "-u"),
        ("aws", "s3", "sync", "x", "y", "--quiet", "--timeout", "60s"),
        ("--name", "x"),
        ("date", "--name=x"),
        ("date", "-q"),
    ],
)
@pytest.mark.parametrize("verb", ["add", "edit"])
def test_a_word_with_a_dash_after_command_is_refused_naming_both_cures(chronos, home, verb, words):
    """It could be the command's or chronos' own: exit 2, nothing is written, and each cure works."""
    assert chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home).code == 0
    before = tree(home)
    said = ("@daily", "--id", "b") if verb == "add" else ("a",)
    done = chronos("job", verb, *said, "--command", *words, home=home)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "which could be the command's or chronos' own: put options of chronos before --command, or the" in done.err
    assert tree(home) == before
    job_id = "b" if verb == "add" else "a"
    assert chronos("job", verb, *said, "--timeout", "60s", "--", "x", *words, home=home).code == 0
    assert stored(home)[job_id] == {"command": ["x", *words]}
    assert chronos("job", verb, *said, "--timeout", "90s", "--command", "x", "y", home=home).code == 0
    assert stored(home)[job_id] == {"command": ["x", "y"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "@daily", "date"), "'date' is one word too many"),
        (("add", "@daily", "--command", "date", "--", "-u"), "a command is given twice"),
        (("add", "@daily", "--command=date -u", "--", "date"), "a command is given twice"),
        (("add", "@daily", "--command=date 'u"), "--command cannot be read"),
        (("add", "@daily", "--"), "--command names no command"),
        (("add", "@daily", "--shell", "true", "--name", "--dry-run"), "--name has no value: --dry-run follows it"),
        (("edit", "a", "--timeout", "--json"), "--timeout has no value: --json follows it"),
    ],
)
def test_a_word_that_nothing_takes_is_refused(chronos, home, words, said):
    """A stray word replaces no command, and an option is no other's value: exit 2, and nothing is written."""
    assert chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home).code == 0
    before = tree(home)
    if "--json" in words:
        from chronos_cli.cli import main

        assert main(["--home", str(home), "job", *words]) == 2
    else:
        done = chronos("job", *words, home=home)
        assert done.code == 2
        assert said in done.err
    assert tree(home) == before


def test_an_option_of_the_program_takes_no_option_for_its_value(chronos, home):
    """Before the command too: `--home --json` names no home."""
    done = chronos("--home", "--quiet", "list")
    assert done.code == 2
    assert "--home has no value" in done.err
    assert chronos("--lock-timeout", "list", "list", home=home).code == 2


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("--command", "aws", "s3", "x y"), "runs: aws s3 'x y'"),
        (("--", "date", "-u", ""), "runs: date -u ''"),
        (("--command=sh -c 'echo $HOME'",), "runs: sh -c 'echo $HOME'"),
        (("--shell", "echo 'a' > b"), "runs: /bin/sh -c 'echo '\"'\"'a'\"'\"' > b'"),
        (("--script", "x.sh"), "runs: script x.sh"),
        (("--http", "https://a.example/x", "--header", "Authorization: canary"), "runs: GET https://a.example/x"),
    ],
)
def test_what_is_stored_is_echoed_as_a_shell_would_be_given_it(chronos, home, words, shown):
    """Pasted into a shell the line gives the same words; no secret is in it."""
    for more in ((), ("--dry-run",)):
        done = chronos("job", "add", "@daily", "--id", f"a{len(more)}", *more, *words, home=home)
        assert done.code == 0, done
        assert f"  {shown}\n" in done.out
        assert "canary" not in done.out
