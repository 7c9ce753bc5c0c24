"""Work that follows a callback's answer: look whether NAS still holds what was armed before it, and alert.

The contract lets a 2xx delete whatever is in a job's slot, the arm made a moment before it too. A NAS that promises to
keep its slot, or has been seen to keep it, costs nothing here.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from chronos_cli.core.plan import ArmState
from chronos_cli.errors import ChronosError
from chronos_cli.operations.arming.slot_memory import needs_look

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.fire import FireReport


def look_afterwards(ctx: Context, report: FireReport, log: Callable[[str], None]) -> threading.Thread | None:
    """Look, in a thread, whether NAS still holds the job's wake, and arm it anew if not; None where nothing is owed.

    A failure is one line: what is armed is then as the arm document says, or the next reconcile finds that it is not.
    """
    if not may_have_deleted(ctx, report):
        return None

    def work() -> None:
        from chronos_cli.operations.firing.after_answer import arm_again_if_deleted

        try:
            arm_again_if_deleted(ctx, report.job_id, time.sleep)
        except ChronosError as error:
            log(f"{report.job_id}: its wake was not looked at again after the answer: {error.line()}")

    thread = threading.Thread(target=work, name="chronos-afterwards", daemon=True)
    thread.start()
    return thread


def may_have_deleted(ctx: Context, report: FireReport) -> bool:
    """Return whether NAS may delete what is in the job's slot as it takes this answer, or not arm what it carries.

    Also one about a job that wanted nothing when it was looked at: it may have been resumed and armed since.
    """
    if isinstance(report.next, dict) and report.arm is not None and report.arm.state is ArmState.CANCELLED:
        return False  # NAS has dropped it by this answer, if nothing newer has come
    taken = ctx.wire is not None and 200 <= report.http_status < 300
    return taken and report.arm is not None and needs_look(ctx, report.arm)


def alert_afterwards(ctx: Context) -> threading.Thread | None:
    """Tell the on-failure command, in a thread, what a fire found over; None where nothing is to be told."""
    if not ctx.outbox:
        return None
    thread = threading.Thread(target=ctx.send_alerts, name="chronos-alert", daemon=True)
    thread.start()
    return thread
