"""The pages are true to the code they are made from, and lead nowhere that is not there."""

import re

import pytest

from chronos_cli.nas_server.home import DEFAULT_PORT
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


@pytest.mark.parametrize("page", [*pages(), "CHANGELOG.md", "CONTRIBUTING.md"])
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


def test_the_fire_protocol_is_one_click_away_and_read_in_five_minutes():
    """The README links it, and beside its tables it has no more words than people read in that time (250 a minute)."""
    assert "](docs/protocol.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    lines = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8").splitlines()
    assert len(" ".join(line for line in lines if not line.startswith("|")).split()) <= 1_250


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


def test_the_places_that_go_together_are_there():
    """Every path that *Change this, look there* names exists: of the package, of the docs, of the tests."""
    text = (ROOT / "docs" / "change-this-look-there.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.md|\.yaml|\.txt|/))`|`(tests/\w+)`", text))
    places = sorted({path or folder for path, folder in named if "NAME" not in path})
    assert len(places) > 30
    bases = (ROOT, ROOT / "chronos_cli", ROOT / "docs", ROOT / "tests" / "cli")
    assert [place for place in places if not any((base / place).exists() for base in bases)] == []


def test_every_decision_is_dated_and_listed():
    """Each page of a decision has its date, what goes wrong otherwise, what was decided and what it costs; the list has each once."""
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(
        r"^\| (\d{4}-\d\d-\d\d) \| \[(.+)\]\(([\w-]+)\.md\) \|$", (folder / "index.md").read_text(), re.MULTILINE
    )
    assert sorted(name for *_, name in listed) == sorted(
        path.stem for path in folder.glob("*.md") if path.stem != "index"
    )
    for date, title, name in listed:
        text = (folder / f"{name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {title}\n\n*{date}, "), name
        for part in ("**What goes wrong otherwise.**", "**Decision.**", "**What it costs.**"):
            assert part in text, (name, part)


def test_the_task_runner_has_the_commands_that_contributing_names():
    """`make NAME` is explained for each of its commands, and for no other."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    said = re.findall(r"^make (\w+) +#", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert said == targets


def test_every_variable_is_on_a_page():
    """Each CHRONOS_ variable that the program or the tests read is explained where people look for it."""
    read = set()
    for folder in ("chronos_cli", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            read |= set(re.findall(r"environ(?:\.get\(|\[)\"(CHRONOS_\w+)\"", text))
    names = ("environment.md", "configuration.md", "debugging.md", "cli.md", "tasks/hear-of-failures.md")
    said = "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in names)
    assert sorted(name for name in read if f"`{name}" not in said) == []


PORTS = {8787: "NAS", 8790: "the callback", 8788: "a second process of NAS", 9787: "NAS, for operators"}
"""One port for one role, on every page."""


def test_each_role_has_one_port():
    """A page names no port that the defaults do not, and none of another role's."""
    assert (DEFAULT_PORT, DEFAULT_PORT + 1) == (8787, 8788)
    assert "127.0.0.1:8790" in (ROOT / "chronos_cli" / "callback" / "serve.py").read_text(encoding="utf-8")
    for page in pages():
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
            for port in re.findall(
                r"(?:127\.0\.0\.1|0\.0\.0\.0|localhost|\[::1?\])(?::|, )(\d{4,5})\b|--port[ =](\d+)", line
            ):
                number = int(port[0] or port[1])
                assert number in PORTS, (page, line)
                if re.search(r"callback[-_]url|callback\.(serve|wsgi)", line):
                    assert number == 8790, (page, line)
                if re.search(r"portal|chronos-nas serve", line):
                    assert number != 8790, (page, line)
