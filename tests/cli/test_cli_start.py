"""How the command line starts: what it imports, what it says about itself, and how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chronos_cli.cli import table
from tests.cli.conftest import ROOT, spawn

HEAVY = ("requests", "jwt", "yaml", "rich", "asyncio", "sqlite3", "obstore")


@pytest.mark.parametrize("statement", ["import chronos_cli.cli", "import chronos_cli.cli.app"])
def test_importing_the_command_line_imports_nothing_heavy(statement):
    """The front door brings in neither HTTP, JWT, YAML nor rich."""
    done = spawn(python=("-c", f"{statement}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"))
    assert done.out.strip() == "[]", done


@pytest.mark.parametrize(
    "arguments", [("list", "--offline", "--json"), ("--help",), ("job", "show", "f8916efa9ee5"), ("next", "@daily")]
)
def test_a_command_that_needs_no_network_imports_none(fixture_home, arguments):
    """In a home with the contract's config.yaml, listing, help and next import nothing heavy."""
    code = (
        "import sys; from chronos_cli.cli import main; code = main(sys.argv[1:]);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = spawn(*arguments, home=fixture_home, python=("-c", code))
    assert done.code == 0
    assert done.err.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [("--version",), ("-V",), ("__complete", "jobs", "")])
def test_the_lightest_do_not_import_typer(fixture_home, arguments):
    """The version and the candidates of a completion are there before typer is imported."""
    code = "import sys; from chronos_cli.cli import main; main(sys.argv[1:]); print('typer' in sys.modules)"
    done = spawn(*arguments, home=fixture_home, python=("-c", code))
    assert done.out.splitlines()[-1] == "False"


def test_help_fits_one_screen_and_shows_the_five_verbs_first(chronos):
    """`chronos --help` is at most 23 lines of 80 columns, so the prompt below it fits too."""
    lines = chronos("--help").out.splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    verbs = [line.split()[0] for line in lines if line.startswith("  ")][:5]
    assert verbs == ["arm", "cancel", "list", "reconcile", "fire"]
    assert chronos().out.splitlines() == lines


def _commands(entries=None, words=()):
    for entry in table.available() if entries is None else entries:
        if entry.children:
            yield from _commands(entry.children, (*words, entry.name))
        else:
            yield (*words, entry.name)


@pytest.mark.parametrize("words", list(_commands()), ids=" ".join)
def test_every_command_has_help_with_an_example_and_its_variables(chronos, words):
    """Each command's help fits 80 columns and names an example, the global options and the CHRONOS_* variables."""
    done = chronos(*words, "--help")
    assert done.code == 0
    assert done.err == ""
    assert f"Usage: chronos {' '.join(words)}" in done.out
    assert "Examples:\n  " in done.out
    assert "--lock-timeout" in done.out
    assert "CHRONOS_HOME" in done.out
    assert [line for line in done.out.partition("Examples:")[0].splitlines() if len(line) > 80] == []


def test_the_briefs_of_the_table_fit_two_columns():
    """What stands beside a command on the first screen is short enough for two columns."""
    assert [entry.name for entry in table.COMMANDS if len(entry.brief) > 28] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lst",), "chronos: error: chronos has no command 'lst': did you mean 'list'?\n"),
        (("job", "ad"), "chronos: error: chronos job has no command 'ad': did you mean 'add'?\n"),
        (("list", "--ofline"), "chronos: error: there is no option '--ofline': did you mean '--offline'?\n"),
        (("next",), "chronos: error: missing argument 'SCHEDULE': see `chronos next --help`\n"),
        (("next", "@daily", "-n", "x"), "chronos: error: invalid value for '--count' / '-n': "),
        (("arm",), "chronos: error: no job is named: name jobs, or give --all\n"),
        (
            ("next", "@daily", "more"),
            "chronos: error: 'more' is one word too many: see `chronos next --help`\n",
        ),
    ],
)
def test_a_usage_error_is_one_line_and_exit_2(chronos, home, arguments, said):
    """Every way of mistyping gives one line that says what is meant, and exit 2."""
    done = chronos(*arguments, home=home)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith(said)
    assert done.err.count("\n") == 1


def test_a_usage_error_is_json_too(chronos):
    """With --json even a mistyped command is one object on stdout."""
    done = chronos("list", "--ofline", "--json")
    assert done.code == 2
    assert done.json["ok"] is False
    assert done.json["error"]["code"] == "usage"


@pytest.mark.parametrize("before", [True, False])
def test_global_options_stand_before_or_after_the_command(chronos, home, before):
    """`--home` and `--json` are understood on both sides of the command."""
    options = ("--json", "--home", str(home))
    done = chronos(*options, "list") if before else chronos("list", *options)
    assert done.code == 0
    assert done.json["jobs"] == []


def test_variables_stand_for_the_global_options(chronos, home):
    """CHRONOS_HOME and CHRONOS_JSON do what the options do."""
    assert chronos("list", env={"CHRONOS_HOME": str(home), "CHRONOS_JSON": "1"}).json["ok"] is True


def test_options_of_commands_have_variables(chronos, home):
    """An option of a command can be given by its variable, named in its help."""
    assert "CHRONOS_NEXT_COUNT" in chronos("next", "--help").out
    assert len(chronos("next", "@daily", "--json", home=home, env={"CHRONOS_NEXT_COUNT": "2"}).json["next"]) == 2


def test_debug_shows_the_traceback_and_nothing_else_does(chronos, home):
    """An error is one line; --debug adds where it came from."""
    assert "Traceback" not in chronos("next", "30m", home=home).err
    assert "Traceback" in chronos("--debug", "next", "30m", home=home).err


def test_a_closed_pipe_ends_quietly(fixture_home):
    """A reader that has seen enough is no error: no traceback, no message."""
    command = f"{sys.executable} -m chronos_cli --home {fixture_home} list --offline --json | head -c 5"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ('{"sch', "", 0)


def test_an_ascii_locale_shows_escapes_and_does_not_crash(home, chronos):
    """A name the locale cannot show is written as its escape."""
    assert (
        chronos("job", "add", "@daily", "--id", "a", "--name", "gr\u00fc\u00df", "--shell", "true", home=home).code == 0
    )
    done = spawn("list", home=home, env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert done.code == 0
    assert "gr\\xfc\\xdf" in done.out


def test_no_escape_sequence_goes_where_there_is_no_terminal(chronos, fixture_home):
    """Output to a file is plain."""
    done = chronos("list", "--offline", home=fixture_home)
    assert "\033" not in done.out + done.err


@pytest.mark.parametrize(
    ("env", "styled"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_is_styled_unless_it_asks_not_to_be(coming_home, env, styled):
    """On a real terminal there is colour; NO_COLOR and TERM=dumb switch it off, and lines keep to its width."""
    import pty

    def read(fd):
        data = b""
        while True:
            try:
                chunk = os.read(fd, 65536)
            except OSError:  # the other side is closed: how Linux ends a terminal
                return data
            if not chunk:
                return data
            data += chunk

    ours, theirs = pty.openpty()
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith(("CHRONOS_", "NO_COLOR"))}, **env}
    child = subprocess.Popen(
        [sys.executable, "-m", "chronos_cli", "--home", str(coming_home), "list", "--offline"],
        cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "COLUMNS": "72"},
    )  # fmt: skip
    os.close(theirs)
    text = read(ours).decode()
    os.close(ours)
    assert child.wait(30) == 0
    assert ("\033[" in text) is styled
    assert re.search(r"^\S*Morning dig\S*\s+f8916efa9ee5  live ", text, re.MULTILINE)


@pytest.mark.parametrize(("columns", "cut"), [(0, 80), (10, 20), (40, 40), (100, 100)])
def test_a_terminal_is_as_wide_as_it_says(columns, cut):
    """One that does not know its size counts as 80 columns, and below 20 nothing is squeezed further."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, columns, 0, 0))
    code = (
        "import os, sys; os.environ.pop('COLUMNS', None); from chronos_cli.cli.output import Output; "
        "print(Output(dict(os.environ)).width)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=theirs) as child:
        os.close(theirs)
        assert os.read(ours, 100).split() == [str(cut).encode()]
        assert child.wait(30) == 0
    os.close(ours)


def _holds(folder, path):
    """Whether one of a process's open files is this one."""
    with contextlib.suppress(FileNotFoundError):  # one of them was just closed
        return any(fd.samefile(path) for fd in folder.iterdir() if fd.is_file())
    return False


def test_interrupting_a_command_exits_130(tmp_path):
    """Ctrl-C while a command waits ends it with one line and exit 130."""
    import fcntl
    import signal

    (tmp_path / "cron").mkdir()
    lock = os.open(tmp_path / "cron" / ".jobs.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    command = ["--home", str(tmp_path), "--lock-timeout", "600", "job", "add", "@daily", "--shell", "true"]
    child = subprocess.Popen(
        [sys.executable, "-m", "chronos_cli", *command],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    opened = Path(f"/proc/{child.pid}/fd")
    until = time.monotonic() + (60 if opened.exists() else 1)
    while time.monotonic() < until and not (opened.exists() and _holds(opened, tmp_path / "cron" / ".jobs.lock")):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    try:
        out, err = child.communicate(timeout=30)
    finally:
        os.close(lock)
        child.kill()
    assert (child.returncode, out, err) == (130, "", "chronos: error: interrupted\n")
