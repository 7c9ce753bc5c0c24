"""Running `chronos`: in this process, which is quick, or as a process of its own, where that is what is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jsonschema
import pytest

from chronos_cli.cli import main
from tests import forked

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class StepResult:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one object on stdout."""
        return json.loads(self.out)


@pytest.fixture
def clean_environment(monkeypatch):
    """No variable of the developer's own shell reaches a test."""
    for name in list(os.environ):
        if name.startswith("CHRONOS_") and name != "CHRONOS_TEST_REQUIRE_ALL":
            monkeypatch.delenv(name)
    monkeypatch.delenv("CI", raising=False)  # there commands keep to themselves what plug-ins say
    monkeypatch.setenv("COLUMNS", "1000")
    return monkeypatch


@pytest.fixture
def home(tmp_path):
    """An empty home."""
    path = tmp_path / "h"
    path.mkdir()
    (path / "config.yaml").write_text("timezone: Europe/Berlin\n")
    return path


@pytest.fixture
def chronos(clean_environment, capsys):
    """Runs a command in this process: `chronos("list", "--json", home=path, env={...})`."""

    def run(*arguments, home=None, env=None):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            capsys.readouterr()
            code = main([*(("--home", str(home)) if home else ()), *map(str, arguments)])
            captured = capsys.readouterr()
        if "--json" in arguments:
            assert captured.out.count("\n") == 1, captured.out
            validate(captured.out)
        return StepResult(int(code), captured.out, captured.err)

    return run


def validate(text):
    """Hold a JSON document of a command against its published schema."""
    document = json.loads(text)
    name, _, version = document["schema"].removeprefix("chronos.").partition("/")
    schema = json.loads((ROOT / "docs" / "schemas" / f"chronos.{name}.{version}.json").read_text())
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    kind = "success" if document["ok"] else "failure"
    part = next(part for part in schema["oneOf"] if part["title"] == kind)
    checker.evolve(schema={**part, "$defs": schema["$defs"]}).validate(document)
    checker.validate(document)
    return document


def spawn(*arguments, home=None, env=None, stdin="", python=None, timeout=60):
    """Run it as a process of its own: a fork, or, where its start is asked about, what `python` is told to run."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CHRONOS_", "COLUMNS"))}
    environment = {**kept, "PYTHONPATH": str(ROOT), **({"CHRONOS_HOME": str(home)} if home else {}), **(env or {})}
    if python is None:
        done = forked.run([*map(str, arguments)], env=environment, input=stdin, timeout=timeout)
        return StepResult(done.returncode, done.stdout, done.stderr)
    command = [sys.executable, *python, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    return StepResult(done.returncode, done.stdout, done.stderr)


def spawn_program(*arguments, **given):
    """Run it as a process of its own whose start /proc shows as a program's."""
    return spawn(*arguments, python=("-m", "chronos_cli"), **given)


def tree(folder):
    """Every file below a folder with its bytes; the empty lock file is not content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".jobs.lock"
    }


def shift(text, by):
    """The instants of a jobs.json moved by one constant."""
    document = json.loads(text)
    for job in document["jobs"]:
        for place, key in ((job, "next_run_at"), (job["schedule"], "run_at")):
            if place.get(key):
                place[key] = (datetime.fromisoformat(place[key]) + by).isoformat()
    return json.dumps(document, indent=2)


def connect(home, nas, agent, callback_url):
    """Point a home at a NAS."""
    (home / "config.yaml").write_text(
        "timezone: America/New_York\n"
        "cron:\n"
        "  provider: chronos\n"
        "  chronos:\n"
        f"    portal_url: {nas.url}\n"
        f"    callback_url: {callback_url}\n"
        f"    expected_audience: {agent.audience}\n"
        f"    nas_jwks_url: {nas.url}/.well-known/jwks.json\n"
        "    token_file: nas-token\n"
    )
    (home / "nas-token").write_text(agent.token + "\n")
    (home / "nas-token").chmod(0o600)
