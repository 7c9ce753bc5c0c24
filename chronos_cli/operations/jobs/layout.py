"""The layout of a bucket home's jobs: apart, a document each, or together in one document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen
from chronos_cli.store.layout import APART, TOGETHER

if TYPE_CHECKING:
    from chronos_cli.operations.context import Context

LAYOUTS = (APART, TOGETHER)


@frozen
class LayoutReport:
    """Layout of the jobs of a home, their number, and whether they were moved into it just now."""

    layout: str
    jobs: int
    moved: bool = False


def layout_of(ctx: Context) -> LayoutReport:
    """Return the layout of the jobs. Raises StoreError."""
    layout = ctx.repository.layout
    apart = layout is not None and layout.open() is not None
    return LayoutReport(layout=APART if apart else TOGETHER, jobs=len(ctx.repository.jobs().records))


def move(ctx: Context, to: str) -> LayoutReport:
    """Bring the jobs into a layout, while they fire. Where a move has stopped, the same again goes on with it.

    Raises UsageError where there is no such layout, or none to choose, StoreError where a record cannot be moved, and
    TemporaryError where the jobs change too often for it.
    """
    if to not in LAYOUTS:
        raise UsageError(f"there is no layout '{to}'", hint=f"give one of {', '.join(LAYOUTS)}")
    layout = ctx.repository.layout
    if layout is None:
        raise UsageError(
            f"the jobs at {ctx.repository.location} are in one file, which Hermes reads too",
            hint="jobs are kept apart only in a bucket: set store to s3://, gs:// or az://",
        )
    ctx.repository.prove(ctx.token)
    moved = layout.keep_apart() if to == APART else layout.keep_together()
    return LayoutReport(layout=to, jobs=len(ctx.repository.jobs().records), moved=moved)
