"""What a record asks for, at its edges: the sort of its action, what watches for it, and what of it nothing here does."""

from __future__ import annotations

from typing import Any

import pytest

from chronos_cli.core.record_action import action_kind, unhandled_fields, watched
from tests.core.making import T, at

PROMPT, SCRIPT = {"prompt": "say"}, {"script": "x", "no_agent": True}
COMMAND: dict[str, Any] = {"chronos": {"action": {"command": ["true"]}}}


@pytest.mark.parametrize(
    ("job", "kind"),
    [
        (COMMAND, "command"), ({"chronos": {"action": {"shell": "x"}}}, "shell"), ({"chronos": {"action": {"http": {"url": "x"}}}}, "http"),
        ({"chronos": {"action": {}}, "prompt": "x"}, "none"), ({"chronos": {"action": {"command": []}}}, "none"),
        ({"chronos": {"action": {"shell": "x", "command": ["y"]}}}, "command"), ({"chronos": {"action": None}, **PROMPT}, "prompt"),
        ({"chronos": [], **PROMPT}, "prompt"), ({"chronos": {"action": "x"}, **SCRIPT}, "script"), (SCRIPT, "script"),
        ({"no_agent": True, "prompt": "x"}, "none"), ({"no_agent": True, "script": ""}, "none"), (PROMPT, "prompt"),
        ({"script": "x"}, "prompt"), ({"skills": ["a"]}, "prompt"), ({"skill": "a"}, "prompt"), ({}, "none"), ({"prompt": ""}, "none"),
        ({"model": "m"}, "none"),
    ],
    ids=str,
)  # fmt: skip
def test_an_action_is_the_records_own_before_that_of_hermes(job: dict[str, Any], kind: str) -> None:
    """A record without one has none, whatever else it says."""
    assert action_kind(job) == kind


def test_a_job_that_watches_something_is_known_by_the_field_that_says_so() -> None:
    """One that is empty watches nothing."""
    assert [watched(job) for job in ({}, PROMPT, {"monitor_url": ""}, {"monitor_tool": "t"})] == [
        None,
        None,
        None,
        "monitor_tool",
    ]
    assert watched({"monitor_script": "", "monitor_url": "u", "monitor_tool": "t"}) == "monitor_url"


@pytest.mark.parametrize("deliver", [None, "", "local", "none", ["local"]])
@pytest.mark.parametrize("action", [COMMAND, SCRIPT, PROMPT, {}])
def test_what_is_delivered_here_asks_for_nothing(action: dict[str, Any], deliver: object) -> None:
    """Nor does what fails, told here."""
    assert unhandled_fields(action | {"deliver": deliver, "failure_deliver": deliver}) == ()


@pytest.mark.parametrize("action", [COMMAND, SCRIPT])
def test_what_only_an_agent_does_is_named_where_there_is_none(action: dict[str, Any]) -> None:
    """In the order in which it is looked for."""
    asked = {"model": "m", "base_url": "", "context_from": ["a"], "deliver": ["local", "mail"], "provider": "p"}
    assert unhandled_fields(action | asked) == ("model", "provider", "context_from", 'deliver=["local", "mail"]')
    assert unhandled_fields(action | {"deliver": "telegram:1"}) == ("deliver=telegram:1",)


@pytest.mark.parametrize("action", [PROMPT, {}])
def test_a_prompts_runner_is_handed_everything_but_what_comes_after_a_failure(action: dict[str, Any]) -> None:
    """So nothing of it is asked for in vain; a record without an action runs nothing."""
    assert unhandled_fields(action | {"model": "m", "deliver": "telegram:1"}) == ()
    assert unhandled_fields(action | {"failure_deliver": "mail:1"}) == ("failure_deliver=mail:1",)
    assert unhandled_fields(action | {"failure_deliver": {"to": 1}}) == ('failure_deliver={"to": 1}',)


def test_a_monitor_is_named_where_hermes_would_run_it() -> None:
    """As a script or a prompt."""
    source = {"monitor_url": "https://x"}
    assert [unhandled_fields(action | source) for action in (SCRIPT, PROMPT, COMMAND, {})] == [("monitor_url",)] * 2 + [
        ()
    ] * 2


SECONDS = T.timestamp()


@pytest.mark.parametrize(
    ("until", "shown"),
    [
        (at(1).isoformat(), at(1).isoformat()), (T.isoformat(), None), (at(-1).isoformat(), None), (SECONDS + 1, str(SECONDS + 1)),
        (SECONDS, None), (int(SECONDS) + 1, str(int(SECONDS) + 1)), (True, None), ("soon", None), ([1], None), (0, None), (10**400, None),
    ],
    ids=lambda given: str(given)[:30],
)  # fmt: skip
def test_a_job_that_hermes_holds_back_beyond_its_next_time_says_so(until: object, shown: str | None) -> None:
    """By a quota that is spent, or a provider that backs off; what cannot be compared holds nothing back."""
    job = PROMPT | {"next_run_at": T.isoformat()}
    assert unhandled_fields(job | {"quota_hold_until": until}) == (
        () if shown is None else (f"quota_hold_until={shown}",)
    )
    backing = unhandled_fields(job | {"provider_backoff": {"until": until}})
    assert backing == (() if shown is None else (f"provider_backoff.until={shown}",))
    for other in ({}, {"next_run_at": None}, {"next_run_at": "later"}, {"next_run_at": True}):
        assert unhandled_fields(PROMPT | other | {"quota_hold_until": until}) == ()
    assert unhandled_fields(job | {"provider_backoff": [until]}) == ()
    numbers = PROMPT | {"next_run_at": 5, "quota_hold_until": 6}
    assert unhandled_fields(numbers) == ("quota_hold_until=6",)
