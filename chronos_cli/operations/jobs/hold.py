"""The emergency stop: one document that every door checks before it takes or starts anything."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chronos_cli.core.instant import whole
from chronos_cli.errors import UsageError
from chronos_cli.store.holds import NO_REASON, Hold, read_hold
from chronos_cli.store.repository import STOP_KEY

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.operations.context import Context
    from chronos_cli.store.interface import Document


def engage(ctx: Context, *, reason: str | None = None, ttl_s: int | None = None, by: str | None = None) -> None:
    """Hold all jobs, or change the hold that stands.

    `reason`, `ttl_s`: None keeps what a standing hold says. The end of a `ttl_s`, in seconds, counts from now. Raises
    UsageError for one that has no length, TemporaryError where others keep changing it.
    """
    if ttl_s is not None and ttl_s <= 0:
        raise UsageError(
            "a hold that ends at once holds nothing", hint="give a --ttl above zero, or lift it with --off"
        )
    ctx.repository.update(
        STOP_KEY, lambda found: _after(found, reason, ttl_s, by, whole(ctx.clock())).to_bytes(ctx.token())
    )


def lift(ctx: Context) -> None:
    """Let jobs go on, as far as this home has a say."""
    ctx.repository.delete(STOP_KEY)


def _after(found: Document | None, reason: str | None, ttl_s: int | None, by: str | None, now: datetime) -> Hold:
    standing = None if found is None else read_hold(found.data)
    if standing is not None and standing.is_over(now):
        standing = None
    ends = now + timedelta(seconds=ttl_s) if ttl_s is not None else standing.expires_at if standing else None
    given = (reason or "").strip()
    return Hold(
        reason=given or (standing.reason if standing else NO_REASON),
        engaged_at=(standing.engaged_at if standing else None) or now,
        expires_at=ends,
        by=(standing.by if standing and not given else None) or by,
    )
