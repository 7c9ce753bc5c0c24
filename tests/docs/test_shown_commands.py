"""Every command that README and docs show is run here, page by page, as a newcomer would paste it."""

import ast
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.pages import COMMANDS, SHOWN, blocks, needs_nas, pages
from tests.ports import free_port

NOT_RUN_HERE = {
    "docs/buckets.md": 1,
    "docs/deploy/systemd.md": 1,
    "docs/nas/deployment.md": 1,
    "docs/tasks/arm-from-ci.md": 1,
    "docs/security.md": 1,
    "docs/tasks/move-from-hermes-cron.md": 1,
    "docs/tasks/use-inside-hermes.md": 1,
}
"""How many blocks with commands of other vendors a page shows that are not run; any other page shows none."""

LONG = ("docs/tasks/jobs-in-git.md", "docs/tasks/arm-from-ci.md", "docs/tasks/recover-from-an-outage.md")
"""Pages whose commands take more than two seconds of a processor."""

HOSTS = "tests/callback"
"""Runs the recipes of the deployment pages, each by a text that stands in it, since a server does not end."""


def _commands(page):
    return [block for block in blocks(page) if block.language in COMMANDS]


def _to_run(page):
    return [block for block in _commands(page) if not block.left_out and not block.run_by]


def _own(page):
    """Whether the page's commands are pasted into a shell; the recipes of servers are run one by one."""
    return not page.startswith("docs/deploy/")


@pytest.mark.parametrize("page", pages())
def test_every_block_says_what_it_is(page):
    """A block is a command, which is run, or something to look at; none leaves it open."""
    assert {block.language for block in blocks(page)} <= {*COMMANDS, *SHOWN}


@pytest.mark.parametrize("page", pages())
def test_what_is_not_run_is_counted(page):
    """Another vendor's command carries its mark, and their number is known."""
    assert sum(block.left_out for block in _commands(page)) == NOT_RUN_HERE.get(page, 0)


def test_what_is_run_elsewhere_is_run_there():
    """Each block that names what runs it is taken from its page by just that, or by CI where it installs things."""
    marked = [block for page in pages() for block in _commands(page) if block.run_by]
    in_ci = [block for block in marked if block.run_by == ".ci/run"]
    assert [block.page for block in in_ci] == ["README.md", "README.md"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for block in in_ci:
        (line,) = block.text.splitlines()
        assert f"command_of_the_readme '{line.rsplit('/', 1)[1]}'" in script
    for block in marked:
        if block not in in_ci:
            assert f'"{block.page}"' in (ROOT / block.run_by).read_text(encoding="utf-8")


def test_every_recipe_of_a_server_is_run():
    """Each command of a deployment page stands in a test that serves with it, found by the page and a text of it."""
    named = set()
    for path in sorted((ROOT / HOSTS).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.add(node.value)
    for page in pages():
        if _own(page):
            continue
        for block in _to_run(page):
            assert page.rpartition("/")[2] in named, page
            assert any(len(text) > 5 and "\n" not in text and text in block.text for text in named), block


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.soak] if page in LONG else [])
        for page in pages()
        if _own(page) and _to_run(page)
    ],
)
def test_the_commands_of_a_page_work(page, tmp_path):
    """The page's commands, pasted in their order into one shell of a new user, all succeed."""
    nas, callback = free_port(), free_port()
    chosen = _to_run(page)
    if needs_nas(page):
        chosen = [block for block in _to_run("docs/quickstart.md") if "chronos init" in block.text] + chosen
    lines = []
    for block in chosen:
        text = block.text.replace(":8787", f":{nas}").replace(":8790", f":{callback}")
        if page == "README.md" and "chronos init" in text:  # whoever pastes it again changes nothing
            text += text.replace("sleep 5", "sleep 0")
        if block.language == "python":
            text = f"python - <<'PYTHON'\n{text}PYTHON\n"
        lines.append(text)
        if needs_nas(page) and block is chosen[0]:  # a person reads on while it starts
            lines.append(
                f"timeout 60 bash -c 'until echo > /dev/tcp/127.0.0.1/{nas}; do sleep 0.05; done' 2> /dev/null"
            )
    script = tmp_path / "page.sh"
    script.write_text("set -euo pipefail\n" + "\n".join(lines), encoding="utf-8")
    home = tmp_path / "user"
    home.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHRONOS_")}
    environ |= {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CHRONOS_NAS_PORT": str(nas),
        "CHRONOS_PORTAL_URL": f"http://127.0.0.1:{nas}",
        "CHRONOS_NAS_JWKS_URL": f"http://127.0.0.1:{nas}/.well-known/jwks.json",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with (tmp_path / "said").open("w+", encoding="utf-8") as said:
        shell = subprocess.Popen(
            ["bash", str(script)], cwd=home, env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(timeout=120)
        finally:
            with contextlib.suppress(ProcessLookupError):  # it started nothing that stays
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(10)
        said.seek(0)
        output = said.read()
    assert code == 0, output
    assert "Traceback" not in output, output
