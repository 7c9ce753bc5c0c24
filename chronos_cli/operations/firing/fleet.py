"""A fire that nothing here takes may be another home's: of a profile, of the root, of a home beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.core.decision import Outcome
from chronos_cli.core.job import Standing
from chronos_cli.errors import TemporaryError, UnservedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from chronos_cli.operations.context import FleetJobs
    from chronos_cli.operations.evaluate import Evaluation


def must_be_of_this_home(
    elsewhere: Callable[[], FleetJobs], looked: Evaluation, job_id: str, fire_at: datetime | None
) -> None:
    """Refuse to settle a fire for a job that is not live here and is in another home of the fleet.

    A job of that id that is live here answers for it, unless `fire_at` is a time of the other's and none of its own.
    Raises UnservedError; TemporaryError where a home cannot be read: the job may be there. That of another user has
    none of ours.
    """
    job, outcome = looked.job, looked.decision.outcome
    if looked.decision.starts or looked.decision.owed:
        return
    shelved = outcome is Outcome.IGNORED or (
        outcome is Outcome.HELD and job is not None and job.standing is not Standing.LIVE
    )
    if job is not None and not shelved and outcome is not Outcome.STALE:
        return
    fleet = elsewhere()
    if outcome is Outcome.STALE:
        profile = fleet.may_wake.get(job_id) if fire_at in fleet.instants.get(job_id, ()) else None
    else:
        # A job that is live nowhere may still be meant, where nothing here has that id.
        found = fleet.may_wake if job is not None or looked.invalid is not None else fleet.profile_of
        profile = fleet.may_wake.get(job_id, found.get(job_id))
    if profile is not None:
        raise UnservedError(f"job {job_id} is one of the profile {profile}, which is not served here")
    unread = next((name for name in fleet.unread if name not in fleet.foreign), None)
    if unread is not None and outcome is not Outcome.STALE:
        hint = "mend that profile, or take its folder away: until then NAS comes again"
        raise TemporaryError(
            f"job {job_id} may be one of the profile {unread}, which cannot be read: {fleet.unread[unread]}", hint=hint
        )
