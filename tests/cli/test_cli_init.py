"""`chronos init` as a process: what it writes, and that it writes nothing where it cannot."""

import json
import os

from tests import forked


def _init(home, *options, said=""):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHRONOS_")}
    return forked.run(["--home", str(home), "init", *options], input=said, env=environ)


def test_a_bad_url_writes_nothing(tmp_path):
    """Plain http to another machine is refused in one line, and there is no home afterwards."""
    ran = _init(
        tmp_path / "home", "--portal-url", "http://portal.example.com", "--callback-url", "https://a.example.com"
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.count("\n") == 1
    assert "portal_url must be an https:// URL" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_agent_add_prints_is_taken_over(tmp_path):
    """The lines go into config.yaml, the token into a file of its own; both are readable by their owner alone."""
    config = {"portal_url": "https://p.example.com", "expected_audience": "agent:7f3"}
    given = json.dumps({"token": "a-token", "config": config})
    ran = _init(tmp_path / "home", "--agent", "-", "--callback-url", "https://a.example.com", said=given)
    assert ran.returncode == 0, ran.stderr
    written = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "home").iterdir() if path.is_file()}
    assert written == {"config.yaml": 0o600, "nas-token": 0o600}
    assert "a-token" not in (tmp_path / "home" / "config.yaml").read_text() + ran.stdout + ran.stderr
    assert _init(tmp_path / "home").returncode == 6
