"""What scripts rely on: one table of exit codes, one schema for each document, one line for each error."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re

import jsonschema
import pytest

import chronos_cli
from chronos_cli import errors
from chronos_cli.cli import cli_model as surface
from chronos_cli.errors import ChronosError, ExitCode
from tests.cli.conftest import ROOT, validate

SCHEMAS = sorted((ROOT / "docs" / "schemas").glob("*.json"))


def families():
    """Every error class of the package."""
    for module in pkgutil.walk_packages(chronos_cli.__path__, "chronos_cli."):
        parts = module.name.split(".")
        if "postgres" not in module.name and "aws" not in module.name and parts[-1] != "__main__" \
                and not parts[-1].endswith(("guard", "http_request", "scripted_prompt")):  # fmt: skip
            try:
                importlib.import_module(module.name)
            except ImportError:  # an optional extra that is not installed here
                continue
    found, waiting = {}, [ChronosError]
    while waiting:
        kind = waiting.pop()
        if kind.__module__.startswith("chronos_cli."):
            found[f"{kind.__module__}.{kind.__name__}"] = kind
            waiting += kind.__subclasses__()
    return found


def test_the_exit_codes_are_those_of_the_design():
    """The numbers are a promise: they do not change."""
    assert {code.name: int(code) for code in ExitCode} == {
        "OK": 0, "FAULT": 1, "USAGE": 2, "PENDING": 3, "REFUSED": 4, "NOT_FOUND": 5, "CONFLICT": 6, "JOB_FAILED": 10,
        "NEEDS_A_LOOK": 11, "TEMPORARY": 75, "INTERRUPTED": 130,
    }  # fmt: skip


def test_every_error_says_what_what_to_do_and_how_to_exit():
    """Each class of the family has a code, an exit code of the table, a message and a hint, on one line."""
    for name, kind in families().items():
        error = kind.__new__(kind)
        ChronosError.__init__(error)
        assert re.fullmatch(r"[a-z0-9_]+", kind.code), name
        assert isinstance(kind.exit_code, ExitCode), name
        assert error.message, name
        assert kind.default_hint or kind.code == "interrupted", name
        assert "\n" not in error.line(), name
        assert kind.retryable is (kind.exit_code in (ExitCode.TEMPORARY, ExitCode.INTERRUPTED)), name


def test_what_is_retryable_exits_75():
    """A script may try again exactly where the exit code is 75."""
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, ChronosError):
            assert kind.retryable is (kind.exit_code is ExitCode.TEMPORARY)


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_every_schema_is_one_and_tells_success_from_failure(path):
    """Each published schema is draft 2020-12, and refuses a document that is neither."""
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    checker = jsonschema.Draft202012Validator(schema)
    name = path.stem.removeprefix("chronos.").rpartition(".")[0]
    error = {"code": "x", "message": "x", "hint": "", "retryable": False}
    envelope = {"schema": f"chronos.{name}/1", "ok": False}
    assert checker.is_valid({**envelope, "error": error})
    assert not checker.is_valid(envelope)
    assert not checker.is_valid({**envelope, "ok": True, "error": error})


def test_every_command_has_a_schema():
    """No command publishes a document that nothing describes."""
    documented = {path.stem for path in SCHEMAS}
    assert {f"chronos.{'.'.join(fact.words)}.1" for fact in surface.commands()} == documented


GOOD = {
    "completions": ("bash",), "config.path": (), "config.show": (), "doctor": (), "history": (), "hold": ("--off",),
    "job.list": (), "list": (), "next": ("@daily",), "provider.list": (), "status": (), "tick": (), "timeline": (),
}  # fmt: skip
"""Commands that succeed in an empty home; the successes of the others are held to their schemas where they are tested."""


@pytest.mark.parametrize("name", GOOD)
def test_the_success_of_a_command_is_its_schema(chronos, home, name):
    """Exit 0 and one object of the published schema; the fixture validates it."""
    done = chronos(*name.split("."), *GOOD[name], "--json", home=home)
    assert (done.code, done.json["ok"]) == (0, True)


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        (("--command", "echo", "hi"), {"command"}),
        (("--shell", "cat", "--env", "A=b", "--env-file", "/etc/default/a", "--workdir", "/tmp"),
         {"shell", "env", "env_file", "workdir"}),
        (("--http", "https://a.example", "--header", "A: b", "--body", "x"), {"http"}),
    ],
)  # fmt: skip
def test_what_a_job_runs_and_its_policy_are_described_whole(chronos, home, words, kinds):
    """Not as what another program wrote, of which the schema knows nothing; an unreadable job has an empty policy."""
    assert chronos("job", "add", "@daily", "--id", "a", "--retries", "2", *words, home=home).code == 0
    job = chronos("job", "show", "a", "--json", home=home).json["job"]
    schema = json.loads(next(path for path in SCHEMAS if path.stem == "chronos.job.show.1").read_text())
    kept, foreign = schema["$defs"]["runs"]["anyOf"]
    jsonschema.validate(job["runs"], {**kept, "$defs": schema["$defs"]})
    assert foreign["type"] == "object"
    assert job["runs"].keys() == kinds
    assert job["policy"].keys() == schema["$defs"]["policy"]["properties"].keys()
    path = home / "cron" / "jobs.json"
    path.write_text(path.read_text().replace('"retries": 2', '"retries": "x"'))
    assert chronos("job", "show", "a", "--json", home=home).json["job"]["policy"] == {}


NEEDS = {
    "apply": (), "arm": ("--all",), "cancel": ("--all",), "fire": ("--job-id", "a", "--token", "x"), "reconcile": (),
    "job.add": ("@daily",), "job.show": ("nobody",), "job.edit": ("nobody",), "job.pause": ("nobody",),
    "job.resume": ("nobody",), "job.remove": ("nobody", "--yes"), "job.unlock": ("nobody", "--yes"),
    "job.import": ("nowhere.json",), "job.export": ("nobody",), "run": ("nobody",), "next": ("30m",),
    "history": ("nobody",), "logs": ("nobody",), "hold": ("--off", "--reason", "x"), "completions": ("tcsh",),
    "init": ("--agent", "/nowhere"), "demo": ("--keep", "/proc/nowhere"),
}  # fmt: skip
"""What makes a command fail in an empty home; the others fail on a broken configuration."""


@pytest.mark.parametrize("fact", list(surface.commands()), ids=lambda fact: ".".join(fact.words))
def test_every_command_fails_with_one_line_and_one_document(chronos, home, fact):
    """Each command's failure is one line on stderr and one object of its schema on stdout, with its exit code."""
    name = ".".join(fact.words)
    if name not in NEEDS:
        (home / "config.yaml").write_text("policy:\n  graze: 3\n")
    if name == "config.path":
        done = chronos(*fact.words, "--nonsense", "--json", home=home)
    else:
        done = chronos(*fact.words, *NEEDS.get(name, ()), "--json", home=home)
    assert done.code in {1, 2, 4, 5, 6, 75}
    assert done.json["schema"] == f"chronos.{name}/1"
    assert done.json["ok"] is False
    lines = [line for line in done.err.splitlines() if not line.startswith("chronos: warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("chronos: error: ")
    validate(done.out)


def test_an_unexpected_fault_is_one_line_and_exit_1(chronos, home, monkeypatch):
    """A bug of ours shows no traceback unless it is asked for."""

    def broken(*_, **__):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("chronos_cli.cli.handlers.list.listing", broken)
    done = chronos("list", "--json", home=home)
    assert done.code == 1
    assert done.json["error"]["message"] == "unexpected ZeroDivisionError: surprise"
    assert done.err.count("\n") == 1
    assert "Traceback" in chronos("list", "--debug", home=home).err


def test_a_full_disk_is_one_line_and_exit_1(chronos, home):
    """What the machine refuses names the file and the reason."""
    done = chronos("job", "export", "-o", "/dev/full", home=home)
    assert done.code == 1
    assert done.err.startswith("chronos: error: the machine refused: ")
    assert done.err.count("\n") == 1
