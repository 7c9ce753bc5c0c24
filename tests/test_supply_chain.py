"""What is built and what it is built of: floors, hashes, the same wheel twice, and names that nobody else could take."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT, require_module

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKED = (ROOT / ".ci/locked.txt").read_text(encoding="utf-8") if (ROOT / ".ci").exists() else ""
FLOORS = {
    "cryptography": (44, 0, 1),
    "urllib3": (2, 6),
    "requests": (2, 32, 4),
    "waitress": (3, 0, 1),
    "aiohttp": (3, 13),
    "pyjwt": (2, 12),
}

in_a_checkout = pytest.mark.skipif(not LOCKED, reason="an unpacked source distribution has no .ci")


def names(requirements: list[str]) -> dict[str, str]:
    """Each distribution by its normal name, and what is asked of it."""
    found = (re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(.*)", one) for one in requirements)
    return {re.sub(r"[-_.]+", "-", one[1]).lower(): one[2] for one in found if one}


def test_what_strangers_reach_has_floors():
    """Releases below them have faults that somebody on the network could use."""
    asked = names(PROJECT["dependencies"])
    for name, floor in FLOORS.items():
        found = re.search(r">=([0-9.]+)", asked[name])
        assert found, name
        assert tuple(map(int, found[1].split("."))) >= floor, name


PLATFORMS = {
    "lambda": ("aws-lambda.md", {"apig_wsgi": "apig-wsgi"}),
    "azure": ("azure-functions.md", {"azure": "azure-functions"}),
    "google": ("google-cloud-functions.md", {"functions_framework": "functions-framework"}),
}


@pytest.mark.parametrize("extra", PLATFORMS)
def test_a_platforms_extra_has_what_its_entry_imports_and_the_store(extra):
    """What the page's code and our handler import comes with the extra, beside the bucket's client and nothing else."""
    page, modules = PLATFORMS[extra]
    text = (ROOT / "docs" / "deploy" / page).read_text(encoding="utf-8")
    assert f"./chronos_cron-0.1.0-py3-none-any.whl[{extra}]\n```" in text
    extras = PROJECT["optional-dependencies"]
    assert set(names(extras[extra])) == {*modules.values(), *names(extras["bucket"])}
    assert [one for one in extras[extra] if one in extras["bucket"]] == extras["bucket"]
    code = text + ((ROOT / "chronos_cli/callback/aws_lambda.py").read_text() if extra == "lambda" else "")
    imported = re.findall(r"^\s*(?:from|import) ([a-z_]+)", code, re.MULTILINE)
    assert set(modules) <= set(imported)
    known = {*sys.stdlib_module_names, "chronos_cli", *modules, "werkzeug"}  # werkzeug: of functions-framework
    assert set(imported) <= known


@in_a_checkout
def test_everything_is_pinned_by_hash():
    """Each distribution that CI installs has one version and its hashes, and none that the project asks for is absent."""
    entries = re.split(r"\n(?=\S)", LOCKED.strip())
    pinned = {}
    for entry in entries:
        found = re.match(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", entry)
        assert found, entry.partition("\n")[0]
        assert "--hash=sha256:" in entry, found[1]
        pinned[re.sub(r"[-_.]+", "-", found[1]).lower()] = found[2]
    extras = PROJECT["optional-dependencies"]
    wanted = [
        *PROJECT["dependencies"],
        *(one for name in ("dev", "docs", "test", "bucket", "nas") for one in extras[name]),
    ]
    tools = [line for line in (ROOT / ".ci/tools.in").read_text().splitlines() if line and not line.startswith("#")]
    assert set(names([*wanted, *tools])) - {"chronos-cron"} - set(pinned) == set(), "run .ci/lock"
    for name, floor in FLOORS.items():
        assert tuple(int(part) for part in pinned[name].split(".")[:3]) >= floor


def test_the_wheel_is_the_same_twice(tmp_path):
    """Built from the same files at the same SOURCE_DATE_EPOCH it is the same file, wherever and whenever."""
    require_module("hatchling")
    code = "import os, sys; os.chdir(sys.argv[1]); from hatchling.build import build_wheel; build_wheel(sys.argv[2])"
    built = []
    for turn, (zone, mask) in enumerate((("UTC", 0o022), ("Asia/Kolkata", 0o077))):
        out = tmp_path / str(turn)
        out.mkdir()
        subprocess.run(
            [sys.executable, "-c", code, str(ROOT), str(out)],
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "TZ": zone, "PYTHONHASHSEED": str(turn)},
            umask=mask,
            check=True,
            capture_output=True,
        )
        built += out.glob("*.whl")
    first, second = built
    assert first.read_bytes() == second.read_bytes()


def test_no_page_installs_by_a_name_that_anybody_could_take():
    """An index gives a name to whoever comes first: we say a checkout or a wheel."""
    wrong = []
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "chronos_cli").rglob("*.py")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.search(r"(?:install|pipx|uvx).*\bchronos(?:-cron|-cli|_cli)?\b(?!\S*(?:\.whl|/))", line) and (
                re.search(r"(?:pip|pipx|uv|uvx)\S* (?:install|run)?.*[ '\"]chronos", line)
            ):
                wrong.append(f"{path.name}: {line.strip()}")
            if re.match(r"chronos[-_]cron(\[.*\])?(==.*)?\s*$", line.strip()):
                wrong.append(f"{path.name}: {line.strip()}")
    assert wrong == []


@in_a_checkout
def test_every_exception_of_bandit_is_explained(tmp_path):
    """Each is a sentence; a finding without one fails, and so does a sentence without its finding."""
    table = tomllib.loads((ROOT / ".ci/bandit-exceptions.toml").read_text(encoding="utf-8"))
    reasons = [*table["everywhere"].values(), *(reason for one in table["file"].values() for reason in one.values())]
    assert all(len(reason.split()) >= 4 for reason in reasons)
    known = [
        {"test_id": test, "filename": f"x/{name}", "line_number": 1, "issue_text": "t"}
        for name, found in table["file"].items()
        for test in found
    ]

    def judged(results):
        report = tmp_path / "report.json"
        report.write_text(json.dumps({"results": results, "errors": []}))
        done = subprocess.run(
            [sys.executable, ROOT / ".ci/judge.py", "bandit", report], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    assert judged(known) == (0, "nothing found\n")
    new = {"test_id": "B999", "filename": "x/new.py", "line_number": 7, "issue_text": "bad"}
    assert judged([*known, new]) == (1, "x/new.py:7: B999: bad\n")
    assert judged(known[1:])[0] == 1


@in_a_checkout
def test_no_data_on_known_faults_is_said_and_a_fault_fails(tmp_path):
    """Where the service knows nothing of what is asked that is a skip with its reason; what it knows is a failure."""

    def judged(document):
        report = tmp_path / "audit.json"
        if document is not None:
            report.write_text(json.dumps(document))
        done = subprocess.run(
            [sys.executable, ROOT / ".ci/judge.py", "audit", report], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    assert judged(None)[0] == 0
    assert "skipped" in judged(None)[1]
    code, said = judged({"dependencies": [{"name": "a", "skip_reason": "not found"}]})
    assert (code, "no data on 1 of 1" in said) == (0, True)
    fault = {"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}
    assert judged({"dependencies": [fault]}) == (1, "a 1: X-1, fixed in 2\n")


def test_workflows_may_do_no_more_than_they_need():
    """Each reads the repository only, and keeps no credentials where a build could find them; one release job may more."""
    import yaml

    folder = ROOT / ".github/workflows"
    if not folder.exists():
        pytest.skip("an unpacked source distribution has no .github")
    for path in folder.glob("*.yml"):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert document["permissions"] == {"contents": "read"}, path.name
        for name, job in document["jobs"].items():
            assert "permissions" not in job or (path.name, name) == ("release.yml", "release")
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False
                assert not re.search(r"\$\{\{\s*github\.(?:event|head_ref)", step.get("run", "")), "a stranger's text"


WORKFLOW = {"name", "on", "permissions", "jobs"}
JOB = {"runs-on", "timeout-minutes", "permissions", "steps"}
STEP = {"name", "uses", "run", "with", "env"}
ACTIONS = {
    "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683",
    "actions/attest-build-provenance@e8998f949152b193b063cb0ec769d69d929409be",
    "actions/attest-sbom@bd218ad0dbcb3e146bd073d1d9c6d78e08aa8a0b",
}
"""Whose code a workflow runs: the host's own actions alone, each by its commit, since a tag can be moved."""


def _workflows():
    import yaml

    folder = ROOT / ".github/workflows"
    if not folder.exists():
        pytest.skip("an unpacked source distribution has no .github")
    return {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yml")}


def test_workflows_have_the_form_that_the_host_reads():
    """No key that it does not know, an end to each job, one thing to do a step, and commands and files that are there."""
    for file, document in _workflows().items():
        document["on"] = document.pop(True)  # what YAML 1.1 makes of that word, and the host does not
        assert document.keys() == WORKFLOW, file
        for job in document["jobs"].values():
            assert JOB - {"permissions"} <= job.keys() <= JOB, file
            assert 0 < job["timeout-minutes"] <= 90
            for step in job["steps"]:
                assert step.keys() <= STEP, step
                assert ("uses" in step) != ("run" in step), step
                assert step.get("uses", next(iter(ACTIONS))) in ACTIONS
                line = step.get("run", "")
                subprocess.run(["bash", "-n", "-c", line], check=True)
                for name in re.findall(r"^\.ci/\S+", line, re.MULTILINE):
                    assert os.access(ROOT / name, os.X_OK), name


def _step(said):
    """The commands of the one step of the release that has these words."""
    steps = _workflows()["release.yml"]["jobs"]["release"]["steps"]
    (found,) = [step["run"] for step in steps if said in step.get("run", "")]
    return found


GH = """#!/bin/sh
echo "$@" >> calls
case "$*" in
  "api repos/o/r/git/ref/tags/v1.2.3 --jq .object.sha") [ "$TAG" = none ] && exit 1; echo abc ;;
  "api repos/o/r/git/tags/abc --jq .verification.verified") [ "$TAG" = light ] && exit 1; echo "$TAG" ;;
  "release create"*) ;;
  *) exit 9 ;;
esac
"""


@pytest.mark.parametrize(
    ("tag", "taken"), [("true", True), ("false", False), ("", False), ("light", False), ("none", False)]
)
def test_a_release_is_made_of_a_signed_tag_alone(tmp_path, tag, taken):
    """The step as it stands, with a host that answers: signed, not signed, no answer, no tag object, no such tag."""
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "TAG": tag,
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_REF_NAME": "v1.2.3",
    }
    step = ["bash", "-e", "-c", _step("verification.verified")]
    assert (subprocess.run(step, cwd=tmp_path, env=env, check=False).returncode == 0) is taken
    if taken:
        (tmp_path / "dist").mkdir()
        for name in ("chronos_cron-1.2.3-py3-none-any.whl", "SHA256SUMS", "sbom.cdx.json"):
            (tmp_path / "dist" / name).touch()
        subprocess.run(["bash", "-e", "-c", _step("release create")], cwd=tmp_path, env=env, check=True)
        last = (tmp_path / "calls").read_text().splitlines()[-1]
        assert last == (
            "release create v1.2.3 --verify-tag dist/chronos_cron-1.2.3-py3-none-any.whl dist/SHA256SUMS dist/sbom.cdx.json"
        )


@in_a_checkout
def test_ci_does_what_the_page_says_of_it():
    """Each step of the supply chain that docs/security.md names is a command of the script that both workflows call."""
    script = (ROOT / ".ci/supply-chain").read_text(encoding="utf-8")
    for command in ("--require-hashes -r .ci/locked.txt", "bandit -q -r chronos_cli", "judge.py bandit", "SOURCE_DATE_EPOCH",
                    'cmp "$out"/1/*.whl "$out"/2/*.whl', "sha256sum", "cyclonedx-py environment", "pip-audit", "judge.py audit"):  # fmt: skip
        assert command in script, command
    for file, document in _workflows().items():
        assert ".ci/supply-chain" in str(document), file
    assert ".ci/supply-chain" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_every_promise_names_a_test_that_exists():
    """The last column of the table of promises in docs/security.md is a list of tests, and each is there."""
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("## Promise by promise")[2].splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 30
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`", row.rpartition("|")[0].rpartition("|")[2])
        assert named, row
        for path, name in named:
            nodes: list[ast.stmt] = ast.parse(Path(ROOT, path).read_text(encoding="utf-8")).body
            for part in name.split("::"):  # as pytest walks to it, so that the name can be given to pytest
                kinds = (ast.FunctionDef, ast.ClassDef)
                nodes = [
                    inner for node in nodes if isinstance(node, kinds) and node.name == part for inner in node.body
                ]
            assert nodes, (path, name)
