"""Completion: the scripts are current, and work in the real shells."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from chronos_cli.cli.completion_scripts import FILES, SHELLS, script
from tests.cli.conftest import ROOT, spawn
from tests.conftest import require_program, thoroughly


@pytest.mark.parametrize("shell", SHELLS)
def test_the_committed_script_is_what_the_command_prints(chronos, shell):
    """The files in completions/ are made from the command line as it is."""
    text = (ROOT / "completions" / FILES[shell]).read_text()
    assert script(shell) == text
    assert chronos("completions", shell).out == text


def test_job_ids_and_names_come_from_the_store(fixture_home):
    """The candidates are the stored jobs with that beginning, each with its name."""
    done = spawn("__complete", "jobs", "e5", home=fixture_home)
    assert (done.code, done.out, done.err) == (0, "e518b71d87a5\tDisk watchdog\n", "")
    assert len(spawn("__complete", "jobs", "", fixture_home).out.splitlines()) == 7


@pytest.mark.parametrize(
    "content", ["{", "[1, null]", '{"jobs": {"a": {}}}', "", pytest.param("[" * 200_000, id="deep")]
)
def test_completion_is_silent_whatever_the_store_is(home, content):
    """Somebody is typing: a broken store completes nothing and says nothing."""
    (home / "cron").mkdir()
    (home / "cron" / "jobs.json").write_text(content)
    done = spawn("__complete", "jobs", "", home=home)
    assert (done.code, done.err) == (0, "")


@pytest.fixture
def hostile_home(tmp_path):
    """A home in whose store ids and names are code to a shell, control characters to a terminal, or options.

    Each makes a file of its own where it is run; beside them two jobs that are as they should be.
    """
    home = tmp_path / "hostile"
    (home / "cron").mkdir(parents=True)
    made = home / "made"
    made.mkdir()
    codes = [
        f"$(touch {made}/{{n}})", f"`touch {made}/{{n}}`", f"x;touch {made}/{{n}}", f"x$(touch${{{{IFS}}}}{made}/{{n}})",
        f"x\ntouch {made}/{{n}}\n", f"<(touch {made}/{{n}})", f"x' $(touch {made}/{{n}}) '", f'x" $(touch {made}/{{n}}) "',
        f"${{{{x:=$(touch {made}/{{n}})}}}}", f"(touch {made}/{{n}})", f"x[$(touch {made}/{{n}})]", f"%{{{{(e)$(touch {made}/{{n}})%}}}}",
    ]  # fmt: skip
    ids = [code.format(n=f"id{n}") for n, code in enumerate(codes)]
    ids += ["--all", "-rf", "*", "a b", "\x1b]0;owned\x07", "j\x1b[31m", "j\u202e", "j\n", "../../etc", "", "j" * 200]
    names = [code.format(n=f"name{n}") for n, code in enumerate(codes)]
    jobs = [{"id": job_id, "name": "n"} for job_id in ids]
    jobs += [{"id": f"good-{n}", "name": name} for n, name in enumerate([*names, "\x1b]0;owned\x07\u202e\x9b:\ttab"])]
    (home / "cron/jobs.json").write_text(json.dumps({"jobs": jobs}))
    return home


def test_only_what_is_an_id_is_a_candidate(hostile_home):
    """Whatever else stands in a store as an id, a shell is not told of it; names come in plain letters, shortened."""
    done = spawn("__complete", "jobs", "", home=hostile_home)
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [line[0] for line in lines] == [f"good-{n}" for n in range(13)]
    assert all(len(name) <= 60 and not set(name) & set("`$\\'\"!%<>|&;{}*?[]~\x1b\u202e") - {"?"} for _, name in lines)


@pytest.fixture
def path_with_chronos(tmp_path):
    """A PATH on which `chronos` is this checkout's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tool = folder / "chronos"
    tool.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m chronos_cli "$@"\n')
    tool.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def shell(program, text, path, home):
    """What a shell prints."""
    done = subprocess.run(
        [*program, text], env={**os.environ, "PATH": path, "CHRONOS_HOME": str(home), "TERM": "dumb"},
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stdout.split()


CASES = [
    (["rec"], {"reconcile"}),
    (["job", "res"], {"resume"}),
    (["job", "show", "e5"], {"e518b71d87a5"}),
    (["reconcile", "--det"], {"--detailed-exitcode"}),
    (["completions", "z"], {"zsh"}),
]


def bash_candidates(words, path, home):
    """What a real bash would offer."""
    bash = require_program("bash")
    line = " ".join(f"'{word}'" for word in ["chronos", *words])
    text = f"""source {ROOT}/completions/chronos.bash
COMP_WORDS=({line}); COMP_CWORD={len(words)}; _chronos; printf '%s\\n' "${{COMPREPLY[@]}}" """
    return shell([bash, "-c"], text, path, home)


def fish_candidates(words, path, home):
    """What a real fish would offer."""
    fish = require_program("fish")
    line = " ".join(["chronos", *words])
    text = f"source {ROOT}/completions/chronos.fish; complete -C '{line}' | cut -f1"
    return shell([fish, "--no-config", "-c"], text, path, home)


def zsh_line(words, path, home, tmp_path):
    """What a real zsh shows on a terminal of its own once Tab was pressed, twice."""
    zsh = require_program("zsh")
    text = f"""
zmodload zsh/zpty
setup() {{
    zpty z '{zsh} -f'
    zpty -w z "PS1=; fpath=({ROOT}/completions \\$fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump"
    zpty -w z "LISTMAX=0; zstyle ':completion:*' list-colors ''; echo rea''dy"
    zpty -r z line '*ready*'
    zpty -n -w z "chronos {" ".join(words)}"$'\\t\\t'
    sleep 0.7
    zpty -n -w z $'\\C-a'": '"$'\\C-e'"'"$'\\n'"echo do''ne"$'\\n'
    zpty -r z line '*done*'
    print -r -- "$line"
}}
setup
"""
    return " ".join(shell([zsh, "-f", "-c"], text, path, home))


@pytest.mark.service
@pytest.mark.parametrize(("words", "expected"), CASES)
def test_bash_completes(path_with_chronos, fixture_home, words, expected):
    """In a real bash: commands, options, and the ids of jobs."""
    assert set(bash_candidates(words, path_with_chronos, fixture_home)) == expected


@pytest.mark.service
@pytest.mark.parametrize(("words", "expected"), CASES)
def test_fish_completes(path_with_chronos, fixture_home, words, expected):
    """In a real fish: commands, options, and the ids of jobs."""
    assert set(fish_candidates(words, path_with_chronos, fixture_home)) == expected


@pytest.mark.service
@pytest.mark.parametrize(("words", "expected"), CASES)
def test_zsh_completes(path_with_chronos, fixture_home, tmp_path, words, expected):
    """In a real zsh on a terminal of its own: Tab completes the word."""
    shown = zsh_line(words, path_with_chronos, fixture_home, tmp_path)
    for word in expected:
        assert word in shown


@pytest.mark.service
@pytest.mark.parametrize("typed", thoroughly(["", "good", "x", "g"], ["", "x"]))
@pytest.mark.parametrize("words", thoroughly([["job", "show"], ["arm"], ["logs"]], [["job", "show"], ["arm"]]))
def test_no_shell_runs_what_a_store_names(path_with_chronos, hostile_home, tmp_path, words, typed):
    """Tab in bash, zsh and fish over a store of somebody's making: ids are offered, nothing of it is run."""
    offered = bash_candidates([*words, typed], path_with_chronos, hostile_home)
    good = {f"good-{n}" for n in range(13)}
    assert set(offered) == (set() if typed == "x" else good)
    at_fish = set(fish_candidates([*words, typed or "''"], path_with_chronos, hostile_home))
    assert at_fish == (set() if typed == "x" else good)
    shown = zsh_line([*words, typed], path_with_chronos, hostile_home, tmp_path)
    assert ("good-" in shown) is (typed != "x")
    assert "\x1b]0;owned" not in shown
    assert list((hostile_home / "made").iterdir()) == []
