"""A look at NAS after the answer to a fire, and a new arm where the answer has deleted the one made before it.

Needed only while it is not known whether NAS keeps its slot, or arms what an answer carries
(`arming/slot_memory.py`). About one and five seconds after the answer NAS is listed and the store read after it; a wake
that is not there at the end is provisioned anew, by a key that NAS has not seen. NAS may also clear its slot between
the two: then what a run's end has sent since is looked for, and once more a wake that came due since without a call.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.core.plan import ArmState
from chronos_cli.operations.arming.arm import FIRE_BUDGET_S
from chronos_cli.operations.arming.slot_memory import note_answers, note_missing
from chronos_cli.operations.evaluate import present_wake
from chronos_cli.operations.firing.run_end import rearm

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chronos_cli.nas_client.interface import Arm
    from chronos_cli.operations.context import Context
    from chronos_cli.store.arms.document import ArmDocument

LOOKS_S: Final = (1.0, 5.0)
"""Seconds after the answer at which is looked."""

DOUBTFUL_S: Final = 15.0
"""And at which once more, where a wake that came due meanwhile is gone, and no call came."""

_IN_FLIGHT: Final = timedelta(seconds=1)


def arm_again_if_deleted(ctx: Context, job_id: str, pause: Callable[[float], object]) -> bool:
    """Look, and provision the job's present wake anew where NAS holds it no longer. Returns True where it did.

    `pause` waits so many seconds. Raises what listing and arming raise; the job's arm then stays as it is written.
    """
    waited, first = 0.0, None
    missing = doubtful = False
    for at in (*LOOKS_S, DOUBTFUL_S):
        if at == DOUBTFUL_S and not doubtful:
            break
        pause(at - waited)
        waited = at
        asked = ctx.clock()
        seen, document = _look(ctx, job_id)
        held = seen is not None
        if document is None:
            return False  # it was delivered, or dropped
        changed = first is not None and document.fire_at != first.fire_at
        if changed and not _was_held(document, asked) and (held or not _is_gone(ctx, document)):
            return False  # its sender sees to it
        if seen is not None and document.state is ArmState.ANSWERED:
            if document.only_answered:
                note_answers(ctx, document, taken=True)
            _note_listed(ctx, document, seen)
            return False
        # One that was seen, or was sent by a run's end since, and is due by now is rather in flight than deleted.
        due = document.fire_at is not None and document.fire_at <= ctx.clock() + _IN_FLIGHT
        doubtful = at < DOUBTFUL_S and not held and due and first is not None and (changed or not missing)
        missing = not held
        first = document
    if not missing or first is None:
        return False
    if first.state is ArmState.ANSWERED:
        note_answers(ctx, first, taken=False)
    else:
        note_missing(ctx, first)
    wake = present_wake(ctx, job_id)
    if wake is not None:
        rearm(ctx, job_id, wake, force=True)
    return True


def _note_listed(ctx: Context, sent: ArmDocument, seen: Arm) -> None:
    """Note that NAS lists what was sent, unless something newer was sent since."""
    ctx.repository.arms.change(sent.job_id, lambda found: found.listed(sent, seen.schedule_id, ctx.clock()))


def _was_held(document: ArmDocument, asked: datetime) -> bool:
    """Return whether NAS had confirmed a wake by then, of which no fire that is still to be answered takes care."""
    return not document.in_answer and document.confirmed_at is not None and document.confirmed_at < asked


def _is_gone(ctx: Context, document: ArmDocument) -> bool:
    """Return whether NAS lists a wake no longer that it has confirmed, by a list that is asked for only now.

    It took that after the last one, or before it, by the clock of another machine.
    """
    if document.in_answer or document.state is not ArmState.CONFIRMED:
        return False
    seen, now = _look(ctx, document.job_id)
    return seen is None and now is not None and now.fire_at == document.fire_at


def _look(ctx: Context, job_id: str) -> tuple[Arm | None, ArmDocument | None]:
    """Return NAS's entry for what was sent last, and its document; None where nothing is meant to be there any more."""
    if ctx.wire is None:
        return None, None
    with ctx.wire.connect(FIRE_BUDGET_S) as nas:
        listed = nas.list()
    stored = ctx.repository.arms.get(job_id)
    if stored is None or stored.value.state in (ArmState.CANCELLED, ArmState.REFUSED) or stored.value.spent:
        return None, None
    document = stored.value
    seen = (arm for arm in listed.arms if arm.job_id == job_id and arm.fire_at == document.fire_at)
    return next(seen, None), document
