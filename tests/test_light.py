"""What commands cost, in what can be counted without a clock: modules, calls of NAS, writes and fsyncs.

The times themselves are in docs/performance.md, by `python -m tests.bench`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.bench.scenes import FireScene, environment, write_config, write_jobs
from tests.conftest import ROOT
from tests.fire_tokens import SigningKey, serve_jwks
from tests.nas_client.played_nas import played_nas
from tests.nas_process import AgentAccess

# Runs a command in this process's interpreter and writes down, last on stderr, what an audit hook and fsync saw.
WATCHED = """
import json, os, sys
seen, before, real = [], set(sys.modules), os.fsync
def fsync(fd):
    seen.append(["fsync", os.readlink(f"/proc/self/fd/{fd}") if sys.platform == "linux" else str(fd)])
    real(fd)
def hook(event, args):
    if event in ("os.rename", "os.link"):
        folder = os.readlink(f"/proc/self/fd/{args[3]}") if args[3] >= 0 else ""
        seen.append(["write", os.path.join(folder, os.fspath(args[1]))])
    elif event == "os.fork":
        seen.append(["fork", sorted(set(sys.modules) - before)])
os.fsync = fsync
sys.addaudithook(hook)
from chronos_cli.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.write("\\n" + json.dumps({"seen": seen, "modules": sorted(set(sys.modules) - before)}))
sys.exit(code)
"""
HEAVY = {
    "typer", "rich", "requests", "urllib3", "jwt", "cryptography", "yaml", "obstore", "asyncio", "sqlite3", "logging",
    "ssl", "socket", "http.client", "subprocess", "inspect", "dataclasses", "difflib", "textwrap", "tempfile",
    "importlib.metadata", "email", "aiohttp", "prometheus_client",
}  # fmt: skip

SERVING = re.compile(r"^\s*(?:import|from) (?:aiohttp|prometheus_client|chronos_cli\.nas_server)\b", re.MULTILINE)


def watched(*arguments, env, codes=(0,)):
    """What a command's process was seen to do."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments], env={**env, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode in codes, done
    return json.loads(done.stderr.rpartition("\n")[2])


@pytest.fixture
def home(tmp_path):
    """A home with the contract's config.yaml and five jobs."""
    folder = tmp_path / "home"
    write_config(folder)
    write_jobs(folder, 5)
    return folder


nas = played_nas()


@pytest.mark.parametrize(
    "arguments", [("list", "--offline"), ("list", "--offline", "--json"), ("__complete", "jobs", ""), ("--version",)]
)
def test_what_only_reads_imports_nothing_heavy(home, arguments):
    """A list, the candidates of a shell and the version need neither typer nor any library, nor what dataclasses need."""
    assert HEAVY & set(watched(*arguments, env=environment(home))["modules"]) == set()


@pytest.mark.parametrize(
    "arguments", [("list", "--offline"), ("list", "--offline", "--json"), ("job", "show", "nightly-0001")]
)
def test_a_view_imports_nothing_that_starts_or_signals(home, arguments):
    """Of the machine's side of runs a view loads what blanks its token; the rest is for jobs that have a run in hand."""
    modules = set(watched(*arguments, env=environment(home))["modules"])
    assert {name for name in modules if name.startswith("chronos_cli.running.")} == {"chronos_cli.running.secrecy"}
    assert {"ctypes", "chronos_cli.operations.firing.run", "chronos_cli.nas_client.client"} & modules == set()


def test_no_command_of_chronos_imports_what_a_nas_serves_with():
    """What serves a NAS and counts for it is reached from no module of the client, by no import in any function."""
    outside = {path for path in (ROOT / "chronos_cli").rglob("*.py") if "nas_server" not in path.parts}
    naming = {path for path in outside if SERVING.search(path.read_text(encoding="utf-8"))}
    # The module's former name, which starts `chronos-nas`.
    assert naming == {ROOT / "chronos_cli" / "authority" / "__main__.py"}
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("cli", "callback", "demo", "operations")
        for path in (ROOT / "chronos_cli" / room).rglob("*.py")
        if path.stem not in ("__init__", "__main__", "aws_lambda")
    }
    code = f"import sys, importlib; [importlib.import_module(name) for name in {sorted(names)}]; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {name.partition(".")[0] for name in told.stdout.split()}
    assert "typer" in loaded
    assert {"aiohttp", "prometheus_client", "psycopg"} & loaded == set()


def test_the_version_imports_next_to_nothing(home):
    """`chronos --version` loads the package, its command line, what it writes through, and the way out."""
    modules = watched("--version", env=environment(home))["modules"]
    assert [name for name in modules if name.startswith("chronos_cli")] == [
        "chronos_cli",
        "chronos_cli.cli",
        "chronos_cli.streams",
    ]


@pytest.mark.parametrize("arguments", [("--help",), ("next", "@daily"), ("job", "--help")])
def test_what_needs_typer_needs_no_other_library(home, arguments):
    """Help and the schedule preview load typer alone."""
    libraries = {"rich", "requests", "urllib3", "jwt", "cryptography", "yaml", "obstore", "asyncio", "sqlite3"}
    assert libraries & set(watched(*arguments, env=environment(home))["modules"]) == set()


def test_a_runner_imports_nothing_for_people_and_nothing_for_tokens(home):
    """`chronos fire --claimed` starts without typer, rich, jwt, requests, YAML and what dataclasses need."""
    code = "import sys; import chronos_cli.operations.firing.runner; print('\\n'.join(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert HEAVY & set(told.stdout.split()) == set()


@pytest.fixture
def scene(tmp_path, nas):
    """A job that is due, with a token; the second fire of a home, so that its folders are there."""
    key = SigningKey.rs256()
    with serve_jwks(key) as jwks:
        access = AgentAccess(name="a", token="t", audience="agent:1", config={})
        made = FireScene.make(tmp_path / "fire", nas.url, access, jwks.url, key, 3)
        made.prepare(ago=9)
        watched(*made.argv[1:], env=made.env)
        due_again(made)
        nas.calls.clear()
        jwks.requests.clear()
        yield made, jwks


def due_again(scene):
    """Another occurrence, with all folders left as they are."""
    kept = scene.home.rename(scene.home.with_name("kept"))
    scene.prepare()
    for name in ("cron/jobs.json", "fire.jwt"):
        (scene.home / name).replace(kept / name)
    for path in sorted(scene.home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    scene.home.rmdir()
    kept.rename(scene.home)


def test_a_fire_calls_nas_once_and_asks_for_no_keys(scene, nas):
    """One accepted fire with cached keys: one provision, no list, no request for keys."""
    made, jwks = scene
    watched(*made.argv[1:], env=made.env)
    assert [call.path for call in nas.calls] == ["/api/agent-cron/provision"]
    assert jwks.count == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the hook sees fork, and names descriptors, on Linux")
def test_a_fire_starts_its_job_before_it_loads_what_speaks_to_nas(scene):
    """When the job's process is made, neither requests nor typer has been imported: the arm goes on beside the job."""
    made, _ = scene
    seen = watched(*made.argv[1:], env=made.env)["seen"]
    modules = next(what for kind, what in seen if kind == "fork")
    assert "cryptography.hazmat.primitives.asymmetric.rsa" in modules  # the token is verified by then
    unwanted = {
        "typer",
        "rich",
        "requests",
        "urllib3",
        "yaml",
        "urllib.request",
        "cryptography.x509",
        "jwt.jwks_client",
    }
    assert unwanted & set(modules) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="the hook names descriptors on Linux")
def test_a_fire_makes_durable_what_its_promise_needs_and_no_more(scene):
    """Four durable writes, two before the job starts (the claim, the start), two after its end; each file and folder."""
    made, _ = scene
    seen = watched(*made.argv[1:], env=made.env)["seen"]
    kinds = [kind for kind, _ in seen]
    fork = kinds.index("fork")
    assert (kinds[:fork].count("fsync"), kinds[fork:].count("fsync")) == (4, 4), seen
    written = [what.removeprefix(f"{made.home}/cron/").partition("/")[0] for kind, what in seen if kind == "write"]
    assert [name for name in written if name != "arms"] == ["jobs.json", "runs", "runs", "jobs.json"]
    assert written.count("arms") <= 3


def configured(home, nas):
    """The home with this NAS, and its environment."""
    write_config(home, portal=nas.url)
    return environment(home)


def test_a_reconcile_of_what_agrees_is_one_call_and_writes_nothing(home, nas):
    """Converged: one list, nothing else, not a file touched."""
    env = configured(home, nas)
    watched("reconcile", "-q", env=env)
    assert len(nas.calls) == 6
    nas.calls.clear()
    seen = watched("reconcile", "-q", env=env)["seen"]
    assert [call.path.partition("?")[0] for call in nas.calls] == ["/api/agent-cron/list"]
    assert [what for kind, what in seen if kind in ("write", "fsync")] == []


def test_a_cold_reconcile_by_batch_is_two_calls_after_the_first_answer(home, nas):
    """With a NAS that takes batches, any number of jobs is one list and one batch."""
    nas.features = ["batch"]
    watched("reconcile", "-q", env=configured(home, nas))
    assert [call.path.partition("?")[0] for call in nas.calls] == ["/api/agent-cron/list", "/api/agent-cron/batch"]


def test_arming_many_jobs_writes_two_documents_for_a_batch(home, nas):
    """Before it is sent and once NAS has answered: one document for all jobs of a batch, not two files for each."""
    nas.features = ["batch"]
    write_jobs(home, 100)
    seen = watched("reconcile", "-q", env=configured(home, nas))["seen"]
    written = [what.removeprefix(f"{home}/cron/").partition("/")[0] for kind, what in seen if kind == "write"]
    assert written == ["arm-packs", "arm-packs"]
    (pack,) = (home / "cron" / "arm-packs").glob("*.json")
    assert [line["state"] for line in json.loads(pack.read_text()).values()] == ["confirmed"] * 100


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        (("job", "add", "@daily", "--id", "new", "--command", "true"), ["provision"]),
        (("list", "--offline"), []),
        (("list",), ["list"]),
        (("job", "list"), []),
    ],
)
def test_a_command_asks_nas_no_more_than_it_must(home, nas, arguments, calls):
    """Adding a job is one provision; listing is one list, or none."""
    watched(*arguments, env=configured(home, nas))
    assert [call.path.partition("?")[0].rpartition("/")[2] for call in nas.calls] == calls
