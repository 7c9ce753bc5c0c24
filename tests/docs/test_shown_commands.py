"""Every command that README and docs show is run here, page by page, as a newcomer would paste it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.pages import COMMANDS, SHOWN, blocks, needs_nas, pages

NOT_RUN_HERE = {
    "docs/deploy": None,  # the deployment guides count their own
    "docs/tasks/arm-from-ci.md": 1,
    "docs/tasks/run-on-a-laptop.md": 2,
    "docs/tasks/move-from-hermes-cron.md": 1,
    "docs/nas/operations.md": None,  # counts its own
}
"""How many commands of other vendors a page shows that are not run; a page that is not named shows none."""


def _commands(page):
    return [block for block in blocks(page) if block.language in COMMANDS]


def _to_run(page):
    return [block for block in _commands(page) if not block.left_out and block.mark != "run by .ci/run"]


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _own(page):
    return not page.startswith(tuple(name for name, count in NOT_RUN_HERE.items() if count is None))


@pytest.mark.parametrize("page", pages())
def test_every_block_says_what_it_is(page):
    """A block is a command, which is run, or something to look at; none leaves it open."""
    assert {block.language for block in blocks(page)} <= {*COMMANDS, *SHOWN}


@pytest.mark.parametrize("page", [page for page in pages() if _own(page)])
def test_what_is_not_run_is_counted(page):
    """Another vendor's command carries its mark, and their number is known."""
    assert sum(block.left_out for block in _commands(page)) == NOT_RUN_HERE.get(page, 0)


def test_what_ci_runs_stands_there():
    """What a page says that CI runs, since it installs things, is taken by .ci/run from the page itself."""
    marked = [block for page in pages() for block in _commands(page) if block.mark == "run by .ci/run"]
    assert [block.page for block in marked] == ["README.md", "README.md"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for block in marked:
        (line,) = block.text.splitlines()
        assert f"command_of_the_readme '{line.rsplit('/', 1)[1]}'" in script


@pytest.mark.parametrize("page", [page for page in pages() if _own(page) and _to_run(page)])
def test_the_commands_of_a_page_work(page, tmp_path):
    """The page's commands, pasted in their order into one shell of a new user, all succeed."""
    nas, callback = _free_port(), _free_port()
    chosen = _to_run(page)
    if needs_nas(page):
        chosen = [block for block in _to_run("docs/quickstart.md") if "chronos init" in block.text] + chosen
    lines = []
    for block in chosen:
        text = block.text.replace(":8787", f":{nas}").replace(":8900", f":{callback}")
        if block.language == "python":
            text = f"python - <<'PYTHON'\n{text}PYTHON\n"
        lines.append(text)
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
