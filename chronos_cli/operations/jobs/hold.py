"""The emergency stop: one document that every door checks before it takes or starts anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.errors import TemporaryError
from chronos_cli.store.interface import VersionConflict
from chronos_cli.store.repository import STOP_KEY

if TYPE_CHECKING:
    from chronos_cli.operations.context import Context

_TRIES = 20


def engage(ctx: Context, reason: str) -> None:
    """Hold all jobs, or change why they are held. Raises TemporaryError where others keep changing it."""
    data = (reason.strip() + "\n").encode()
    for _ in range(_TRIES):
        found = ctx.repository.documents.read(STOP_KEY)
        try:
            if found is None:
                ctx.repository.documents.create(STOP_KEY, data)
            elif found.data != data:
                ctx.repository.documents.replace(STOP_KEY, data, found.version)
        except VersionConflict:
            continue
        return
    raise TemporaryError("the hold changed under every attempt")


def lift(ctx: Context) -> None:
    """Let jobs go on."""
    ctx.repository.documents.delete(STOP_KEY)
