"""No hint of `chronos-nas` that is not the cure: what is refused is taken when it is written as the hint says."""

from __future__ import annotations

import shutil

import pytest

from chronos_cli.nas_server.cli import main

SERVE = ("serve", "--port", "0")
PROBE = ("conformance", "--portal-url", "http://127.0.0.1:9")

NAS_SPELLINGS = [
    # file, words of the hint, what is wrong, what the hint says to write (None: it would go on for good)
    ("nas_server/cli/__init__.py", "--help`", ("agent", "add"), ("agent", "add", "--help")),
    ("nas_server/cli/common.py", "see --home and --db, or start `chronos-nas serve`", ("--home", "{none}", "agent", "list"), ("--home", "{home}", "agent", "list")),
    ("nas_server/cli/completions.py", "there is one for", ("completions", "tcsh"), ("completions", "bash")),
    ("nas_server/cli/conformance.py", "give both, or neither", (*PROBE, "--callback-url", "http://x"), None),
    ("nas_server/cli/conformance.py", "set CHRONOS_NAS_TOKEN, or give --token-file", PROBE, None),
    ("nas_server/cli/conformance.py", "see --token-file", (*PROBE, "--token-file", "/nowhere"), None),
    ("nas_server/cli/conformance.py", "like 127.0.0.1:9000", (*PROBE, "--callback-listen", "x", "--callback-url", "http://x"), None),
    ("nas_server/cli/help.py", "it may be json; without it, a table is shown", ("agent", "list", "-o", "yaml"), ("agent", "list", "-o", "json")),
    ("nas_server/cli/keys.py", "choose ES256 or RS256", ("keys", "rotate", "--alg", "HS256"), ("keys", "rotate", "--alg", "ES256")),
    ("nas_server/cli/serve.py", "choose web, worker or both", (*SERVE, "--role", "king"), None),
    ("nas_server/cli/serve.py", "one process serves a SQLite file", (*SERVE, "--role", "web"), None),
    ("nas_server/cli/serve.py", "begin it with https://", (*SERVE, "--portal-url", "x"), None),
    ("nas_server/cli/serve.py", "an agent answers once the job has started", (*SERVE, "--relay-timeout", "1h"), None),
    ("nas_server/cli/serve.py", "write it like 127.0.0.1:9787", (*SERVE, "--operator-listen", "x"), None),
    ("nas_server/cli/serve.py", "see --metrics-token-file", (*SERVE, "--metrics-token-file", "/nowhere"), None),
    ("nas_server/cli/serve.py", "write it like 10.0.0.0/8", (*SERVE, "--allow-callback-network", "x"), None),
    ("nas_server/home.py", "an absolute path has four slashes", ("--db", "mysql://x", "agent", "list"), ("--db", "sqlite:///{home}/nas.sqlite", "agent", "list")),
    ("nas_server/keys.py", "see `chronos-nas keys list`", ("keys", "retire", "none"), ("keys", "list")),
    ("nas_server/timers/agents.py", "see `chronos-nas agent list`", ("agent", "rotate", "nobody"), ("agent", "list")),
    ("nas_server/timers/agents.py", "letters, digits and . _ @ -, at most 64", ("agent", "add", "a b"), ("agent", "add", "a_b")),
    ("nas_server/timers/agents.py", "rotate its token, or take another name", ("agent", "add", "taken"), ("agent", "rotate", "taken")),
    ("nas_server/timers/agents.py", "add it under another name", ("agent", "rotate", "gone"), ("agent", "add", "come-again")),
    ("nas_server/timers/dead_letters.py", "see `chronos-nas dead list`", ("dead", "drop", "none"), ("dead", "list")),
]  # fmt: skip


@pytest.fixture(scope="module")
def pattern(tmp_path_factory):
    """The home of a NAS with an agent, and one that was revoked."""
    folder = tmp_path_factory.mktemp("nas")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHRONOS_NAS_HOME", str(folder))
        for words in (("agent", "add", "taken"), ("agent", "add", "gone"), ("agent", "revoke", "gone")):
            assert main([*words, "--json"]) == 0
    return folder


@pytest.mark.parametrize(
    ("words", "wrong", "right"), [case[1:] for case in NAS_SPELLINGS], ids=[" ".join(case[2]) for case in NAS_SPELLINGS]
)
def test_what_a_hint_of_chronos_nas_says_is_right(pattern, tmp_path, monkeypatch, capsys, words, wrong, right):
    """The command is refused with the hint, on one line; written as the hint says it is taken."""
    home = tmp_path / "nas"
    shutil.copytree(pattern, home)
    monkeypatch.setenv("CHRONOS_NAS_HOME", str(home))
    monkeypatch.delenv("CHRONOS_NAS_TOKEN", raising=False)

    def run(command):
        filled = [word.format(home=home, none=tmp_path / "none") for word in command]
        at = 2 if filled[0] in ("--home", "--db") else 0  # an option of all commands stands behind them
        return main([*filled[at:], *filled[:at]])

    assert run(wrong) not in (0, 1)
    assert words in capsys.readouterr().err.splitlines()[-1]
    if right is not None:
        assert run(right) == 0, capsys.readouterr().err
