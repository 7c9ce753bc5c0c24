"""The site made of these pages: every page is on it, and what leads nowhere keeps it from being made."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT, require_module

DOCS = ROOT / "docs"
BUILD = ("-q", "-W", "-n", "-b", "html")
"""Warnings are errors, and every reference must be found: the same words as in .ci/run."""


def build(source, target):
    """Make the site, as CI does."""
    command = [sys.executable, "-m", "sphinx", *BUILD, "-d", str(target / ".doctrees"), str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def sphinx():
    """The generator, with what it needs: the extra `docs`."""
    for name in ("sphinx", "myst_parser", "furo"):
        require_module(name)


def test_every_page_is_on_the_site():
    """The site's one list of contents names each page once, and nothing else."""
    listed = re.findall(r"^   ([\w/-]+)$", (DOCS / "index.rst").read_text(encoding="utf-8"), flags=re.MULTILINE)
    pages = [path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(listed) == sorted(pages)


@pytest.mark.soak
def test_the_site_can_be_made(sphinx, tmp_path):
    """Every page becomes one of the site; manual pages and scripts do not."""
    done = build(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    made = {path.relative_to(tmp_path).with_suffix("").as_posix() for path in tmp_path.rglob("*.html")}
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    assert made - pages == {"index", "search", "genindex"}
    assert pages - made == set()


@pytest.mark.soak
@pytest.mark.parametrize("link", ["configuration.md#nowhere", "nowhere.md", "schemas/nowhere.json", "#nowhere"])
def test_a_broken_link_fails_the_site(sphinx, tmp_path, link):
    """A page, a file or an anchor that is not there is an error, not a site with a dead end."""
    source = tmp_path / "docs"
    source.mkdir()
    for name in ("conf.py", "configuration.md"):
        shutil.copy(DOCS / name, source / name)
    text = (source / "configuration.md").read_text(encoding="utf-8")
    (source / "configuration.md").write_text(re.sub(r"\]\([^)]*\)", "]", text), encoding="utf-8")
    (source / "index.md").write_text(
        f"# Index\n\n[one]({link})\n\n```{{toctree}}\nconfiguration\n```\n", encoding="utf-8"
    )
    assert "nowhere" in build(source, tmp_path / "site").stderr
