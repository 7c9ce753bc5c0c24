"""The stamp of the last change, `updated_at`, in whichever form a file has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

_MILLISECONDS_FROM: Final = 1e11
"""An epoch number this large counts milliseconds."""


def refreshed(old: Any, now: datetime) -> Any:
    """`now` in the form that the old stamp has: its offset, its fraction, or a number."""
    if isinstance(old, bool) or old is None:
        return old
    if isinstance(old, int | float):
        scale = 1000 if abs(old) >= _MILLISECONDS_FROM else 1
        stamp = now.timestamp() * scale
        return int(stamp) if isinstance(old, int) else stamp
    try:
        before = datetime.fromisoformat(old)
    except (TypeError, ValueError):  # Whatever it was, a time that every reader understands is better.
        return now.isoformat()
    if before.tzinfo is not None:
        now = now.astimezone(before.tzinfo)
    text = now.isoformat(timespec="microseconds" if "." in old else "seconds")
    return text.replace("+00:00", "Z") if old.endswith("Z") else text
