"""Sort of action that a record asks for, and what of it nothing here carries out. No machine is looked at."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

MONITOR: Final = ("monitor_script", "monitor_url", "monitor_tool")
"""Each makes a job one that runs only when what it watches has changed, which hermes finds out."""

_AGENT_ONLY: Final = ("skills", "skill", "model", "provider", "base_url", "context_from", "enabled_toolsets")


def action_kind(job: Mapping[str, Any]) -> str:
    """Return what sort of action a record has: command, shell, http, script, prompt, or none."""
    ours = job.get("chronos")
    action = ours.get("action") if isinstance(ours, dict) else None
    if isinstance(action, dict):
        return next((kind for kind in ("command", "shell", "http") if action.get(kind)), "none")
    if job.get("no_agent"):
        return "script" if job.get("script") else "none"
    return "prompt" if job.get("prompt") or job.get("script") or job.get("skills") or job.get("skill") else "none"


def watched(job: Mapping[str, Any]) -> str | None:
    """Return the field that makes a job one of hermes' monitors, None where it is none."""
    if job.keys().isdisjoint(MONITOR):  # as nearly all are
        return None
    return next((key for key in MONITOR if job.get(key)), None)


def unhandled_fields(job: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the record asks for in vain, as `deliver=telegram:-100123`; for `list` and the row.

    A prompt's runner is handed everything, so there only what comes after a failure, or before the runner, is named.
    """
    kind = action_kind(job)
    named = [key for key in _AGENT_ONLY if job.get(key)] if kind not in ("prompt", "none") else []
    deliver = job.get("deliver") if kind not in ("prompt", "none") else None
    if deliver not in (None, "", "local", "none", ["local"]):
        named.append(f"deliver={_shown(deliver)}")
    failing = job.get("failure_deliver")
    if failing not in (None, "", "local", "none", ["local"]):
        named.append(f"failure_deliver={_shown(failing)}")
    source = watched(job) if kind in ("script", "prompt") else None
    if source is not None:
        named.append(source)
    backoff = job.get("provider_backoff")
    for name, until in (
        ("quota_hold_until", job.get("quota_hold_until")),
        ("provider_backoff.until", backoff.get("until") if isinstance(backoff, dict) else None),
    ):
        if until and _is_held_back(job, until):
            named.append(f"{name}={_shown(until)}")
    return tuple(named)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_held_back(job: Mapping[str, Any], until: object) -> bool:
    """Return whether hermes would hold the job beyond its next time: its provider's quota is spent, or it backs off.

    `until`: ISO 8601, or seconds since 1970.
    """
    try:
        return _seconds(until) > _seconds(job["next_run_at"])
    except (LookupError, TypeError, ValueError, OverflowError):
        return False


def _seconds(at: Any) -> float:
    """Return an instant as seconds since 1970. Raises TypeError, ValueError or OverflowError for what is none."""
    if isinstance(at, bool):
        raise TypeError
    return float(at) if isinstance(at, (int, float)) else datetime.fromisoformat(at).timestamp()
