"""Completion: the scripts are current, and work in the real shells."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from chronos_cli.cli.completion_scripts import FILES, SHELLS, script
from tests.cli.conftest import ROOT, spawn
from tests.conftest import require_program


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


@pytest.mark.parametrize("content", ["{", "[1, null]", '{"jobs": {"a": {}}}', ""])
def test_completion_is_silent_whatever_the_store_is(home, content):
    """Somebody is typing: a broken store completes nothing and says nothing."""
    (home / "cron").mkdir()
    (home / "cron" / "jobs.json").write_text(content)
    done = spawn("__complete", "jobs", "", home=home)
    assert (done.code, done.err) == (0, "")


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


@pytest.mark.service
@pytest.mark.parametrize(("words", "expected"), CASES)
def test_bash_completes(path_with_chronos, fixture_home, words, expected):
    """In a real bash: commands, options, and the ids of jobs."""
    bash = require_program("bash")
    line = " ".join(f"'{word}'" for word in ["chronos", *words])
    text = f"""source {ROOT}/completions/chronos.bash
COMP_WORDS=({line}); COMP_CWORD={len(words)}; _chronos; printf '%s\\n' "${{COMPREPLY[@]}}" """
    assert set(shell([bash, "-c"], text, path_with_chronos, fixture_home)) == expected


@pytest.mark.service
@pytest.mark.parametrize(("words", "expected"), CASES)
def test_fish_completes(path_with_chronos, fixture_home, words, expected):
    """In a real fish: commands, options, and the ids of jobs."""
    fish = require_program("fish")
    line = " ".join(["chronos", *words])
    text = f"source {ROOT}/completions/chronos.fish; complete -C '{line}' | cut -f1"
    assert set(shell([fish, "--no-config", "-c"], text, path_with_chronos, fixture_home)) == expected


@pytest.mark.service
@pytest.mark.parametrize(("words", "expected"), CASES)
def test_zsh_completes(path_with_chronos, fixture_home, tmp_path, words, expected):
    """In a real zsh on a terminal of its own: Tab completes the word."""
    zsh = require_program("zsh")
    text = f"""
zmodload zsh/zpty
setup() {{
    zpty z '{zsh} -f'
    zpty -w z "PS1=; fpath=({ROOT}/completions \\$fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump"
    zpty -w z "LISTMAX=0; zstyle ':completion:*' list-colors ''; echo rea''dy"
    zpty -r z line '*ready*'
    zpty -n -w z "chronos {" ".join(words)}"$'\\t'
    sleep 0.7
    zpty -n -w z $'\\C-a'": '"$'\\C-e'"'"$'\\n'"echo do''ne"$'\\n'
    zpty -r z line '*done*'
    print -r -- "$line"
}}
setup
"""
    shown = " ".join(shell([zsh, "-f", "-c"], text, path_with_chronos, fixture_home))
    for word in expected:
        assert word in shown
