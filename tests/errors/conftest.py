"""A home that the hints are tried in: made once, and copied for each of them."""

from __future__ import annotations

import contextlib
import io
import os
import shutil

import pytest

from chronos_cli.cli import main
from tests.cli.conftest import chronos, clean_environment  # noqa: F401 - fixtures

FILES = ("jobs", "tab", "seconds", "empty", "latin", "set", "big", "cronjob", "other")

CRONJOB = """apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: 0 3 * * *
  jobTemplate: {spec: {template: {spec: {containers: [{name: a, image: b, command: ["true"]}]}}}}
"""


def _called(*words):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = main([str(word) for word in words])
    assert code == 0, said.getvalue()


@pytest.fixture(scope="session")
def pattern(tmp_path_factory):
    """A folder with a home that has a job that has run and one that has not, another home, and files to be imported."""
    folder = tmp_path_factory.mktemp("pattern")
    home, other = folder / "h", folder / "other"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CHRONOS_")]:
            patch.delenv(name)
        for path in (home, other):
            path.mkdir()
            (path / "config.yaml").write_text("timezone: UTC\n")
        for job_id in ("a", "never"):
            _called("--home", home, "job", "add", "@hourly", "--id", job_id, "--shell", "true")
        _called("--home", home, "job", "add", "every 1h", "--id", "asks", "--prompt", "hi")
        _called("--home", home, "run", "a")
        _called("--home", home, "job", "export", "a", "-o", folder / "jobs")
        _called("--home", other, "job", "add", "@daily", "--id", "elsewhere", "--shell", "true")
    (folder / "tab").write_text("0 9 * * * true\n")
    (folder / "seconds").write_text("30 0 9 * * * true\n")
    (folder / "cronjob").write_text(CRONJOB)
    (folder / "empty").write_text("{}")
    (folder / "latin").write_bytes(b"\xff\xfe\x00")
    (folder / "big").write_bytes(b"x" * ((1 << 20) + 1))
    (folder / "set").write_text("jobs:\n- {id: of-a-set, schedule: '@daily', shell: 'true'}\n")
    return folder


@pytest.fixture
def world(chronos, pattern, tmp_path):  # noqa: F811 - the fixtures
    """A copy of it, and `run` for commands there; `{tab}` in a word is the file of that name."""
    folder = tmp_path / "world"
    shutil.copytree(pattern, folder)
    places = {name: folder / name for name in FILES}

    def run(*words, **more):
        filled = [
            word.format(**places) if "{" in word and not set('%":') & set(word) else word for word in map(str, words)
        ]
        return chronos(*filled, home=run.home, **more)

    run.home, run.path, run.folder = folder / "h", folder / "h" / "cron" / "jobs.json", folder
    return run
