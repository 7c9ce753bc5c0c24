"""Who changed agents and keys is on record, with the change and without a secret."""

from __future__ import annotations

import json

import pytest

from chronos_cli.errors import NotFoundError
from chronos_cli.nas_server.timers.agents import AgentRegister
from chronos_cli.nas_server.timers.audit import entries
from tests.nas_process import run_nas, running_nas


def test_each_change_of_an_agent_is_recorded_with_it(backend):
    """Added, rotated, revoked: one row each, the latest first; a change that fails leaves none."""
    register = AgentRegister(backend, lambda: 1_800_000_000.0)
    tokens = [register.add("one", rate=2.0, expires_in=60).token, register.rotate("one", overlap=5.0).token]
    register.revoke("one")
    with pytest.raises(NotFoundError):
        register.revoke("nobody")
    found = entries(backend, 10)
    assert [(one.action, one.subject) for one in found] == [
        ("agent.revoke", "one"),
        ("agent.rotate", "one"),
        ("agent.add", "one"),
    ]
    assert (found[2].detail["rate"], found[2].detail["expires_at"], found[1].detail["overlap_s"]) == (
        2.0,
        1_800_000_060,
        5,
    )
    assert "@" in found[0].actor
    assert not any(token in repr(found) for token in tokens)
    assert entries(backend, 1) == found[:1]


def test_keys_are_recorded_too_and_the_command_shows_all(tmp_path):
    """`chronos-nas audit` shows both kinds, for people and as JSON."""
    assert run_nas("agent", "add", "a", home=tmp_path).returncode == 0
    new = json.loads(run_nas("keys", "rotate", "--now", "--json", home=tmp_path).stdout)["key"]["kid"]
    last = json.loads(run_nas("keys", "rotate", "--now", "--json", home=tmp_path).stdout)["key"]["kid"]
    assert run_nas("keys", "retire", new, home=tmp_path).returncode == 0
    shown = json.loads(run_nas("audit", "--json", home=tmp_path).stdout)["entries"]
    assert [(one["action"], one["subject"]) for one in shown] == [
        ("keys.retire", new),
        ("keys.rotate", last),
        ("keys.rotate", new),
        ("agent.add", "a"),
    ]
    with running_nas(tmp_path / "fresh") as nas:
        first = nas.command("audit")["entries"]
        assert [(one["action"], one["subject"]) for one in first] == [
            ("keys.first", nas.command("keys", "list")["keys"][0]["kid"])
        ]
    lines = run_nas("audit", "--limit", "1", home=tmp_path).stdout.splitlines()
    assert len(lines) == 2
    assert f"keys.retire  {new}  alg ES256" in lines[1]


def test_a_key_is_changed_though_it_cannot_be_recorded(tmp_path):
    """A key that leaked is retired also while the store is away; the command says what is missing."""
    done = run_nas("keys", "rotate", "--json", "--db", "sqlite:////proc/nowhere/x", home=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["key"]["alg"] == "ES256"
    assert "done, but not in the audit log: " in done.stderr
