"""Work that follows a callback's answer: arm again at a NAS that may have cleared its slot, and alert.

The contract lets a 2xx delete whatever is in a job's slot, the arm made a moment before it too; only what is
provisioned after the answer has arrived is safe then. A runner does this at the end of its run, which may be far off,
and a duplicate has no runner. A NAS that promises to keep its slot costs nothing here.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import ChronosError
from chronos_cli.operations.evaluate import present_wake
from chronos_cli.operations.firing.fire import keeps_slot, rearm

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.fire import FireReport

ARRIVES_WITHIN_S: Final = 1.0
"""The time an answer may be on its way once the server has let go of it."""


def arm_afterwards(ctx: Context, report: FireReport, log: Callable[[str], None]) -> threading.Thread | None:
    """Arm the job's present wake again, in a thread, once the answer has arrived; None where nothing is owed.

    A failure is one line and stays in the arm document as unconfirmed, for reconcile or the next fire to mend.
    """
    if not may_have_cleared(ctx, report):
        return None

    def work() -> None:
        time.sleep(ARRIVES_WITHIN_S)
        try:
            arm_again(ctx, report)
        except ChronosError as error:
            log(f"{report.job_id}: its wake was not armed again after the answer: {error.line()}")

    thread = threading.Thread(target=work, name="chronos-afterwards", daemon=True)
    thread.start()
    return thread


def may_have_cleared(ctx: Context, report: FireReport) -> bool:
    """Return whether NAS may delete what is in the job's slot as it takes this answer.

    Also one about a job that wanted nothing when it was looked at: it may have been resumed and armed since.
    """
    cleared = ctx.wire is not None and 200 <= report.http_status < 300
    return cleared and report.arm is not None and not keeps_slot(report.arm)


def arm_again(ctx: Context, report: FireReport) -> None:
    """Provision the wake that the job needs by now, by a key that NAS has not seen. Raises what `rearm` raises."""
    wake = present_wake(ctx, report.job_id)
    if wake is not None:
        rearm(ctx, report.job_id, wake, force=True)


def alert_afterwards(ctx: Context, report: FireReport) -> threading.Thread | None:
    """Tell the on-failure command, in a thread, what this fire found over; None where nothing is to be told."""
    if not report.over:
        return None
    from chronos_cli.operations.alerts import alert

    thread = threading.Thread(target=alert, args=(ctx, report.over), name="chronos-alert", daemon=True)
    thread.start()
    return thread


def alert_now(ctx: Context, report: FireReport) -> None:
    """The same before the answer leaves, and shorter, where the platform freezes what goes on after it."""
    from chronos_cli.operations.alerts import FROZEN_WITHIN_S, alert

    alert(ctx, report.over, each_within_s=FROZEN_WITHIN_S)
