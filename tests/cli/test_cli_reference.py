"""The reference in docs/ is made from the commands, and is what they are now."""

from __future__ import annotations

import subprocess

import pytest

from tests.cli.conftest import ROOT
from tests.conftest import require_program
from tests.docs.generated import maker


def test_the_committed_reference_is_current():
    """cli.md, exit-codes.md and the manual pages say what the commands say; none is left of a command that went."""
    made = maker().files()
    stale = [
        name for name, text in made.items() if not (path := ROOT / "docs" / name).exists() or path.read_text() != text
    ]
    assert stale == [], "run: python docs/make_reference.py"
    assert {path.name for path in (ROOT / "docs" / "man").iterdir()} == {
        name.removeprefix("man/") for name in made if name.startswith("man/")
    }


@pytest.mark.service
def test_the_manual_pages_are_set_without_a_warning():
    """Groff reads every page and complains of none."""
    groff = require_program("groff")
    for path in sorted((ROOT / "docs" / "man").iterdir()):
        done = subprocess.run(
            [groff, "-man", "-Tutf8", "-ww", "-z", str(path)], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), path.name
