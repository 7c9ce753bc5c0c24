"""A wake that travels in the answer to a fire: NAS settles the delivery and arms the wake in one transaction.

The document says `answered` before the answer leaves, under a generation that only this answer has. NAS takes an answer
that is older than what it was told for a settled delivery and no more. So late, lost and doubled answers undo nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.contract import dedup_key, format_fire_at
from chronos_cli.core.plan import HELD_STATES, WANTED, ArmReason, ArmState
from chronos_cli.frozen import replace
from chronos_cli.operations.arming.arm import on_its_way

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.core.decision import Wake
    from chronos_cli.operations.context import Context, NasTarget
    from chronos_cli.store.arms.document import ArmDocument


def carry(
    ctx: Context,
    job_id: str,
    wake: Wake | None,
    reason: ArmReason = WANTED,
    *,
    delivery: str | None,
    above: int | None,
) -> ArmDocument:
    """Note that the answer to `delivery` carries a job's wake (None: that it wants none), and return the document.

    `above`: the generation that the delivery's token names. Where the wake is only wanted, an arm that NAS has
    confirmed for just this wake is carried as it is. The caller makes sure that the wake is still the one that is
    needed. Raises StoreError and TemporaryError.
    """
    wire = ctx.require_wire()

    def carrying(document: ArmDocument) -> ArmDocument:
        now = ctx.clock()
        if wake is None:
            after = replace(document, state=ArmState.CANCELLED, wake=None, error=None)
        elif reason == WANTED and _stands(document, wake, wire):
            after = document
        else:
            sent = on_its_way(document, wake, wire, now, reason)
            after = replace(sent, state=ArmState.ANSWERED, only_answered=sent.fire_at not in document.keys)
        return after.answering(delivery, above=above, now=now)

    document = ctx.repository.arms.change(job_id, carrying)
    ctx.checkpoint("carried")
    return document


def next_of(document: ArmDocument) -> Mapping[str, Any]:
    """Return the `next` of an answer that carries what a document says."""
    if document.state is ArmState.CANCELLED or document.fire_at is None:
        return {"none": True, "generation": document.generation}
    carried = {
        "fire_at": format_fire_at(document.fire_at),
        "dedup_key": dedup_key(document.job_id, document.fire_at),
        "generation": document.generation,
    }
    return carried | ({"tolerance": document.tolerance} if document.tolerance else {})


def withdraw(ctx: Context, carried: ArmDocument) -> None:
    """Note that the answer that was to carry this does not leave: then NAS was told of it by nobody."""

    def change(document: ArmDocument) -> ArmDocument:
        if document.generation != carried.generation:
            return document
        state = ArmState.UNCONFIRMED if document.state is ArmState.ANSWERED else document.state
        return replace(document, state=state, answered_to=None)

    ctx.repository.arms.change(carried.job_id, change)


def _stands(document: ArmDocument, wake: Wake, wire: NasTarget) -> bool:
    """Return whether the document's arm is for just this wake, so that NAS need not be told of another."""
    return (
        document.state in (*HELD_STATES, ArmState.REFUSED)
        and not document.spent
        and document.says(wake)
        and (document.wake, document.purpose) == (wake.at, wake.purpose.value)
        and (document.callback_url, document.portal_url) == (wire.callback_url, wire.portal_url)
    )
