"""What running/ brings in: its modules stand at the start of every run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from real_processes import program_environment

import chronos_cli.running

HEAVY = {
    "typer",
    "click",
    "rich",
    "requests",
    "jwt",
    "yaml",
    "logging",
    "asyncio",
    "dataclasses",
    "subprocess",
    "tempfile",
    "ssl",
    "http.client",
}
BINDING = {"interface", "local"}
"""They tie running to the core, whose records are dataclasses."""
PROGRAMS = {"http_request", "scripted_prompt"}
MODULES = sorted(
    path.stem for path in Path(chronos_cli.running.__file__).parent.glob("*.py") if path.stem != "__init__"
)


def test_nothing_heavy_is_imported():
    """None of what starts a run needs anything that is slow to load."""
    names = [f"chronos_cli.running.{name}" for name in MODULES if name not in PROGRAMS | BINDING]
    program = f"import sys, json\nfor name in {names!r}: __import__(name)\nprint(json.dumps(sorted(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", program], env=program_environment(), capture_output=True, check=True)
    assert not HEAVY & set(json.loads(told.stdout))


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_program_started_by_its_path_needs_nothing_of_the_package(name):
    """It runs isolated, from any folder, so it can import the standard library alone."""
    text = (Path(chronos_cli.running.__file__).parent / f"{name}.py").read_text()
    assert "import chronos_cli" not in text
    assert "from chronos_cli" not in text
