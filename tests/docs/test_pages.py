"""The pages are true to the code they are made from, and lead nowhere that is not there."""

import re

import pytest

from tests.conftest import ROOT
from tests.docs.generated import made_pages, renewed
from tests.docs.pages import pages

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("path", made_pages(), ids=lambda path: path.name)
def test_what_is_made_from_the_code_is_current(path):
    """`python -m tests.docs.generated` would change nothing."""
    text = path.read_text(encoding="utf-8")
    assert text == renewed(text)


def _anchors(path):
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*pages(), "CHANGELOG.md"])
def test_no_link_is_broken(page):
    """Each relative link leads to a file of the repository, and to a heading that it has."""
    path = ROOT / page
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_readme_says_in_ten_lines_what_this_is():
    """A newcomer learns at once what it is, for whom, and what NAS means."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    start = " ".join(line for line in lines[:10])
    assert "For people who" in start
    assert "account service that keeps the timers" in start
    assert "not network storage" in start


def test_every_page_is_reached_from_the_readme():
    """Following links from the README, a reader can come to every page."""
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path in seen or path.suffix != ".md" or not path.exists():
            continue
        seen.add(path)
        links = _LINK.findall(path.read_text(encoding="utf-8"))
        todo += [(path.parent / link.partition("#")[0]).resolve() for link in links if not re.match(r"[a-z]+:|#", link)]
    assert {ROOT / page for page in pages()} - seen == set()
