"""`chronos-nas` in the style of `chronos`: help with examples, tables with titles, JSON two ways, completions."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from typer.main import get_command

from chronos_cli import __version__
from chronos_cli.nas_server.cli import build, main
from chronos_cli.nas_server.cli.completions import SHELLS, script

ROOT_COMMAND = get_command(build())


def _commands(command=ROOT_COMMAND, words=()):
    children = getattr(command, "commands", {})
    if not children:
        yield words, command
    for name, child in children.items():
        yield from _commands(child, (*words, name))


COMMANDS = dict(_commands())


@pytest.fixture
def nas(tmp_path, capsys, monkeypatch):
    """Runs a command on a NAS home with two agents and a timer."""
    monkeypatch.setenv("CHRONOS_NAS_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        capsys.readouterr()
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    for name in ("laptop", "an-agent-with-a-very-long-name-of-sixty-letters-or-thereabouts"):
        assert run("agent", "add", name)[0] == 0
    return run


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_has_examples_within_eighty_columns(nas, words):
    """Each command shows what it is for, its options, and at least one example that begins with its own words."""
    for flag in ("--help", "-h"):
        code, out, _ = nas(*words, flag)
        assert code == 0
        assert f"  chronos-nas {' '.join(words)}" in out.partition("Examples:")[2]
        body = out.partition("Examples:")[0]
        assert max(map(len, body.splitlines())) <= 80
        assert "-o, --output" in body


def test_the_screen_names_every_command(nas):
    """The help of the whole, of each group, and the version."""
    screens = "".join(nas(*words, "--help")[1] for words in ((), ("agent",), ("keys",), ("db",), ("dead",)))
    assert all(f"  {words[-1]} " in screens for words in COMMANDS)
    assert nas("--version") == (0, f"chronos-nas {__version__}\n", "")


def test_help_is_a_command_and_a_slip_suggests_nothing_destructive(nas):
    """As of `chronos`: `help COMMAND`, a group alone, and a slip of the hand."""
    for words in ((), ("agent",), ("agent", "add"), ("serve",)):
        said = nas(*words, "--help")
        assert nas("help", *words) == said
        assert said[0] == 0
        if len(words) < 2 and words != ("serve",):
            assert nas(*words) == said
            assert nas(*words, "help") == said
    assert nas("agent", "help", "add") == nas("agent", "add", "--help")
    assert "chronos-nas has no command 'timer': did you mean 'timers'?" in nas("timer")[2]
    for words in (("agent", "revok"), ("keys", "retir"), ("dead", "drp")):
        code, _, err = nas(*words)
        assert (code, "did you mean" in err, "--help`" in err) == (2, False, True)


LISTS = {
    ("agent", "list"): "NAME",
    ("keys", "list"): "KEY",
    ("audit",): "AT",
    ("timers",): "DUE",
    ("dead", "list"): "ID",
}


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_a_list_is_a_table_with_titles_that_fits(nas, monkeypatch, words):
    """Titles above, one line an entry, cut to the screen; where there is nothing, a word on stderr."""
    if words == ("keys", "list"):
        assert nas("keys", "rotate")[0] == 0
    for columns in (40, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, err = nas(*words)
        assert code == 0
        if not out:
            assert err.count("\n") == 1
            continue
        assert out.startswith(LISTS[words][:4])
        assert len(out.splitlines()) == (2 if words == ("keys", "list") else 3)
        assert max(map(len, out.splitlines())) <= columns


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_json_is_asked_for_in_either_way(nas, words):
    """`-o json` and `--json` say the same; another output is refused, as JSON where that was asked for."""
    first, *others = [
        json.loads(nas(*words, *flag)[1]) for flag in (("--json",), ("-o", "json"), ("-ojson",), ("--output=json",))
    ]
    assert all(other == first for other in others)
    code, _, err = nas(*words, "-o", "yaml")
    assert (code, "there is no output 'yaml': it may be json" in err) == (2, True)
    code, out, _ = nas(*words, "-o", "json", "--nonsense")
    assert (code, json.loads(out)["ok"]) == (2, False)


@pytest.mark.parametrize("shell", SHELLS)
def test_completions_know_every_command_and_option(nas, shell):
    """The script offers each command after its group and each option after its command."""
    code, out, _ = nas("completions", shell)
    assert code == 0
    assert out == script(shell, ROOT_COMMAND)
    for words, command in COMMANDS.items():
        assert words[-1] in out
        for param in command.params:
            for name in param.opts:
                assert not name.startswith("--") or name.removeprefix("--") in out
    assert "there is no completion for 'tcsh': there is one for bash" in nas("completions", "tcsh")[2]


@pytest.mark.service
@pytest.mark.parametrize(("shell", "flag"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_a_real_shell_can_read_its_script(tmp_path, shell, flag):
    """Each shell finds its own script free of faults of grammar."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    path = tmp_path / "script"
    path.write_text(script(shell, ROOT_COMMAND))
    done = subprocess.run([shell, flag, str(path)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_what_is_typed(tmp_path):
    """A real bash offers `agent`'s commands, and the options of `agent add`."""
    path = tmp_path / "script"
    path.write_text(script("bash", ROOT_COMMAND))
    ask = f'. {path}; COMP_WORDS=(chronos-nas "$@"); COMP_CWORD=$#; _chronos_nas; echo "${{COMPREPLY[@]}}"'

    def offered(*words):
        done = subprocess.run(
            ["bash", "-c", ask, "bash", *words], capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout.split()

    assert offered("agent", "") >= ["add"]
    assert set(offered("agent", "r")) == {"revoke", "rotate"}
    assert "--max-timers" in offered("agent", "add", "--m")
