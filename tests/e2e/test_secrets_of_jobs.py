"""A canary in each place that a job may refer to: it reaches that job, and nothing else of ours, from any door."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chronos_cli.cli import main
from tests.played_server import Answer, PlayedServer

CANARIES = {kind: f"canary-{kind}-0123456789" for kind in ("env", "file", "cmd", "env-file", "header", "body")}
NAMES = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TZ", "USER")
SHOW = (
    ("list",), ("list", "--json"), ("job", "show", "a", "--json"), ("job", "show", "a"), ("job", "show", "web", "--json"),
    ("job", "export"), ("history", "--json"), ("history",), ("logs", "a"), ("logs", "web", "--json"), ("status", "--json"),
    ("doctor", "--json"), ("job", "list", "--json"), ("timeline",), ("job", "edit", "a", "--env", "M=x", "--dry-run"),
    ("--debug", "run", "broken"), ("-vv", "run", "a"), ("config", "show", "--json"),
)  # fmt: skip


@pytest.fixture
def web():
    """A server that says what it was sent, as some do."""
    said = lambda call: Answer(body=f"you said {call.headers['Authorization']} ".encode() + call.data)  # noqa: E731
    with PlayedServer(said) as server:
        yield server


@pytest.fixture
def chronos(tmp_path):
    """Runs a command as a process of its own, with the canary of `env:` where its user put it: in its environment."""

    def run(*words, door="shell"):
        given = {"PATH": os.environ["PATH"], "SECRET_SOURCE": CANARIES["env"], "HEADER_SOURCE": CANARIES["header"]}
        given |= {"TZ": "Asia/Tokyo", "LANG": "C", "FROM_DOOR": door} if door == "service" else {"LANG": "de_DE.UTF-8"}
        command = [sys.executable, "-m", "chronos_cli", "--home", str(tmp_path / "h"), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=given, timeout=60, check=False)

    return run


def processes_with(*texts):
    """The processes, other than this one and its command's own, that show one of these texts."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        for what in ("cmdline", "environ"):
            try:
                data = (place / what).read_bytes()
            except OSError:
                continue
            found += [f"{place.name} {what}" for text in texts if text.encode() in data]
    return found


def test_a_canary_reaches_its_job_alone(chronos, tmp_path, web, capsys, monkeypatch):
    """From `chronos run`, a detached run and a tick: not in a file, an argument, another job, an output or an export."""
    home = tmp_path / "h"
    home.mkdir()
    (home / "config.yaml").write_text("timezone: Europe/Berlin\npolicy: {inherit_env: none}\n")
    (tmp_path / "file").write_text(CANARIES["file"] + "\n")
    (tmp_path / "body").write_text(CANARIES["body"] + "\n")
    (tmp_path / "printed").write_text(CANARIES["cmd"] + "\n")
    (tmp_path / "vars").write_text(f"D={CANARIES['env-file']}\n")
    line = (
        f"env | sort > {tmp_path}/env-$CHRONOS_RUN_ID; echo $A $B $C; cat /proc/$PPID/environ /proc/$PPID/cmdline 2>&1 | "
        f"grep -c canary; true"
    )
    references = (
        "--env",
        "A=env:SECRET_SOURCE",
        "--env",
        f"B=file:{tmp_path}/file",
        "--env",
        f"C=cmd:cat {tmp_path}/printed",
    )
    for done in (
        chronos("job", "add", "every 1s", "--id", "a", *references, "--env-file", tmp_path / "vars", "--shell", line),
        chronos("job", "add", "every 1s", "--id", "other", "--shell", f"env | sort > {tmp_path}/other-$CHRONOS_RUN_ID"),
        chronos("job", "add", "@yearly", "--id", "broken", "--env", f"X=cmd:sh -c 'cat {tmp_path}/printed >&2; cat {tmp_path}/printed; exit 4'",
                "--shell", "true"),
        chronos("job", "add", "@yearly", "--id", "web", "--http", f"{web.url}/",
                "--header", "Authorization: Bearer env:HEADER_SOURCE", "--body", f"file:{tmp_path}/body"),
    ):  # fmt: skip
        assert done.returncode == 0, done.stderr
    said = [chronos("run", "a"), chronos("run", "web")]
    time.sleep(1.2)  # so that the tick finds a due
    said += [chronos("tick", door="service"), chronos("run", "other")]
    assert [done.returncode for done in said] == [0, 0, 0, 0], [done.stderr for done in said]
    (call,) = web.calls
    assert (call.headers["Authorization"], call.data.decode()) == (f"Bearer {CANARIES['header']}", CANARIES["body"])
    runs = sorted(tmp_path.glob("env-*"))
    seen = [dict(line.partition("=")[::2] for line in run.read_text().splitlines()) for run in runs]
    assert len(seen) >= 2
    for variables in seen:
        assert [variables[name] for name in "ABCD"] == [CANARIES[kind] for kind in ("env", "file", "cmd", "env-file")]
        assert "SECRET_SOURCE" not in variables
    assert len({tuple(variables[name] for name in NAMES) for variables in seen}) == 1
    assert len({frozenset(variables) for variables in seen}) == 1
    others = "".join(path.read_text() for path in tmp_path.glob("other-*"))
    assert "TZ=Europe/Berlin" in others
    monkeypatch.setenv("SECRET_SOURCE", CANARIES["env"])
    capsys.readouterr()
    for words in SHOW:
        main(["--home", str(home), *words])
    shown = capsys.readouterr()
    written = "".join(path.read_bytes().decode("utf-8", "replace") for path in home.rglob("*") if path.is_file())
    told = shown.out + shown.err + "".join(done.stdout + done.stderr for done in said)
    assert "env:SECRET_SOURCE" in told
    for text in (others, told, written):
        assert {kind for kind, canary in CANARIES.items() if canary in text} == set()
    assert processes_with(*CANARIES.values()) == []
