"""Records with the fields of the newest hermes versions, each holding whatever JSON can: none fails a look or a start."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from chronos_cli.core.decision import Facts, FireRequest, Trigger
from chronos_cli.core.job import parse_job
from chronos_cli.core.occurrence import decide
from chronos_cli.core.record_action import unhandled_fields
from chronos_cli.errors import ChronosError
from chronos_cli.running.actions import resolve_action
from tests.core.making import HOME, at, record, relay

KEYS = (
    "id", "name", "prompt", "skills", "skill", "model", "provider", "provider_snapshot", "base_url", "script", "no_agent",
    "context_from", "schedule", "schedule_display", "repeat", "enabled", "state", "paused_at", "paused_reason",
    "created_at", "next_run_at", "last_run_at", "last_status", "last_error", "last_delivery_error", "deliver", "origin",
    "enabled_toolsets", "workdir", "attach_to_session", "pending_slot", "manual_run_at", "manual_run_prompt",
    "interpreter", "monitor_script", "monitor_url", "monitor_tool", "quota_hold_until", "provider_backoff",
    "failure_deliver", "profile", "reasoning_effort", "interval_fire_at", "timezone", "fire_claim", "run_claim", "tags",
    "payload", "chronos",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, float("inf"), float("nan"), 10**30, "", "x", " ", "\0", "\ud800", "9" * 5_000, "n.py",
    "2026-11-20T12:00:00", [], [None], ["x"], [[]], {}, {"a": 1}, {"kind": "cron", "expr": None}, {"at": "x", "by": []},
    {"times": "x", "completed": {}}, {"until": 7},
)  # fmt: skip
FIRES = (
    relay(),
    FireRequest(via=Trigger.RECONCILE, token="t"),
    FireRequest(via=Trigger.MANUAL, token="t", run_id="asked"),
)


class Nothing:
    """Where no reference leads anywhere."""

    def files(self, _: object) -> dict[str, str]:
        return {}

    def value(self, value: object, _: str) -> str:
        return str(value)


@pytest.mark.parametrize("key", KEYS)
def test_whatever_a_field_holds_the_record_is_read_or_refused(key):
    """A reason is given, or there is a decision, whose record can be read again."""
    for value in VALUES:
        try:
            found = parse_job(record(prompt="hello") | {key: value}, HOME)
        except ChronosError:
            continue
        for fire in FIRES:
            after = decide(found, Facts(), fire, at(0.5)).record
            assert after is None or parse_job(after, HOME).id == found.id, value


@pytest.mark.parametrize("key", KEYS)
def test_whatever_a_field_holds_its_action_is_found_or_refused(tmp_path, key):
    """So is what is started, by a script's name, an interpreter or a folder that cannot be."""
    (tmp_path / "n.py").write_text("")
    for base in ({"prompt": "hello"}, {"script": "n.py", "no_agent": True}, {"script": "n.py", "prompt": "hello"}):
        for value in VALUES:
            stored = record(**base) | {key: value}
            unhandled_fields(stored)
            with suppress(ChronosError):
                resolve_action(stored, scripts_dir=tmp_path, prompt_runner=("cat",), lookup=Nothing())
