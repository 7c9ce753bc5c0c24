"""The checks of the jobs and of what triggers them."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from chronos_cli.core.clock import AHEAD
from chronos_cli.core.job import Standing
from chronos_cli.durations import span
from chronos_cli.errors import ChronosError
from chronos_cli.operations.doctor.check import Check, fail, failed_with, ok, warn
from chronos_cli.operations.doctor.nas import NAS_BUDGET_S
from chronos_cli.operations.evaluate import read_all
from chronos_cli.operations.firing.admission import trust_settings
from chronos_cli.operations.firing.refused_token import last_refused
from chronos_cli.operations.views.armed_wake import BAD, ArmedWake
from chronos_cli.operations.views.listing import listing
from chronos_cli.operations.views.settled import settled
from chronos_cli.operations.views.trigger import INSTALL, trigger_of
from chronos_cli.store.ticks import read_ticks
from chronos_cli.streams import LINE, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chronos_cli.config import Config
    from chronos_cli.core.job import Job
    from chronos_cli.nas_client.interface import ArmList
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.views.listing import JobView, Listing
    from chronos_cli.store.ticks import Ticks

AGAIN_AFTER_S: Final = 1.0
"""Time that a fire under way is given to arm its next wake."""

NAMES: Final = frozenset({"jobs", "records", "armed", "overdue", "failing", "next", "tick", "environment"})
"""The checks that say that a job needs a look; a home whose others are well is in order."""

_SHOWN: Final = 5
_PROBE: Final = "chronos doctor --probe"


def check_jobs(config: Config, ctx: Context, held: ArmList | None, *, active: str) -> Iterator[Check]:
    """Yield checks of records, timers that are not held, starts that are overdue, the hold, and the trigger."""
    try:
        # Timers that NAS still holds call all the same where another provider is active now: as the listing sees it.
        arming = active == "chronos" or bool(ctx.wire and ctx.repository.arms.ids())
        found = _settled_listing(config, ctx, held if arming else None, arming=arming)
        ticks = read_ticks(ctx.repository)
    except ChronosError as error:
        yield failed_with("jobs", error)
        return
    yield _records(found)
    yield _armed(found, held, arming=arming)
    yield _overdue(found, arming=arming)
    yield from _failing(found)
    yield _doubts(found)
    yield _hold(found)
    yield from _alerts(ctx)
    yield from _inherited(ctx)
    yield _tick(found, ticks, active=active, arming=arming)


def _settled_listing(config: Config, ctx: Context, held: ArmList | None, *, arming: bool) -> Listing:
    """Return the jobs beside what NAS holds, looked at again where they differ: a fire under way is no fault."""
    prompts = bool(config.prompt_runner)
    last = last_refused(trust_settings(config).cache_dir)
    refused = None if last is None else (last.at, f"token refused: {last.message}")

    def list_once(now: ArmList | None) -> Listing:
        return listing(ctx, arming=arming, held=now, prompt_runner=prompts, refused=refused)

    def ask() -> ArmList:
        with ctx.require_wire().connect(NAS_BUDGET_S) as nas:
            return nas.list()

    return settled(list_once, held, ask, sleep=time.sleep, again_after_s=AGAIN_AFTER_S)


def _is_unarmed(view: JobView) -> bool:
    return view.state == "live" and view.problem is None and view.arm.state in BAD


def _records(found: Listing) -> Check:
    invalid = [view for view in found.jobs if view.problem is not None]
    if invalid:
        what, mend = str(invalid[0].problem), invalid[0].mend or ""
        text = f"{_many(invalid)} cannot be run: {what.removesuffix(f'; {mend}')}"
        return fail("records", text, code="invalid_records", mend=mend)
    text = f"every record can be read ({len(found.jobs)})" if found.jobs else "there are no jobs yet"
    return ok("records", text)


def _armed(found: Listing, held: ArmList | None, *, arming: bool) -> Check:
    if not arming:
        return ok("armed", "nothing is armed: a tick looks for itself")
    live = [view for view in found.jobs if view.state == "live" and view.problem is None]
    bad = [view for view in live if _is_unarmed(view)]
    if bad:
        mend = "chronos reconcile"
        return fail(
            "armed", f"{_many(bad)} {'is' if len(bad) == 1 else 'are'} not armed as wished", code="unarmed", mend=mend
        )
    if held is None and live:
        were = "1 was" if len(live) == 1 else f"{len(live)} were"
        text = f"what NAS holds is not known; {were} armed when last verified"
        return warn("armed", text, code="arms_unknown", mend="mend the check of NAS above first")
    if found.orphans:
        text = f"NAS also holds {len(found.orphans)} for no job here"
        for profile, why in found.unread_profiles.items():
            text += f", unless they are those of the profile {profile}, whose jobs are not known: {why}"
            return warn("armed", text, code="orphans", mend=f"mend the profile {profile}, as its check above says")
        return warn("armed", text, code="orphans", mend="chronos cancel --orphans")
    return ok("armed", f"NAS holds what every live job wishes ({len(live)})")


def _overdue(found: Listing, *, arming: bool) -> Check:
    late = [view for view in found.jobs if view.overdue_s is not None]
    if late:
        mend = "chronos tick" if not arming else _PROBE if _is_called_for(late) else "chronos reconcile"
        most = max(view.overdue_s or 0.0 for view in late)
        return fail("overdue", f"{_many(late)} should have started up to {span(most)} ago", code="overdue", mend=mend)
    over = [view for view in found.jobs if view.overrun_s is not None]
    if over:
        return warn(
            "overdue",
            f"{_many(over)} outlast their timeout",
            code="overrun",
            mend=f"chronos job unlock {over[0].id} --yes",
        )
    return ok("overdue", "no start is overdue")


def _failing(found: Listing) -> Iterator[Check]:
    """Name the jobs whose last run failed; nothing is said where there are none."""
    bad = [view for view in found.jobs if view.failing and view.state == "live"]
    if not bad:
        return
    reason = bad[0].last.reason if bad[0].last is not None else None
    ran = "it" if len(bad) == 1 else "they"
    text = f"{_many(bad)} failed when {ran} last ran: {one_line(reason or 'no reason', LINE)}"
    yield fail("failing", text, code="failing", mend=f"chronos logs {bad[0].id}")


def _is_called_for(late: Sequence[JobView]) -> bool:
    """Say if NAS holds all that is overdue: then the way from it to here fails, and arming anew changes nothing."""
    return all(view.arm.state is ArmedWake.ARMED for view in late)


def _doubts(found: Listing) -> Check:
    """Check whether every next time is one that its schedule gives, and none that a wrong clock has put far ahead."""
    doubtful = sorted((view for view in found.jobs if view.doubt is not None), key=lambda view: view.id)
    ahead = [view for view in doubtful if view.doubt is not None and view.doubt.code == AHEAD]
    for views, level in ((ahead, fail), (doubtful, warn)):
        if views and views[0].doubt is not None:
            doubt = views[0].doubt
            return level("next", f"{_many(views)}: {doubt.text}", code=f"next_{doubt.code}", mend=doubt.mend)
    return ok("next", "every next time is one that its schedule gives")


def _hold(found: Listing) -> Check:
    if found.hold is not None:
        return warn(
            "hold", f"ALL JOBS ARE HELD{found.held.removeprefix('held')}", code="held", mend=found.hold.lifted_by
        )
    return ok("hold", "no job is held")


def _alerts(ctx: Context) -> Iterator[Check]:
    """Check whether the on-failure commands are there to be run; nothing is said where none is named."""
    import shutil

    named = {job.policy.on_failure[0]: job.id for job in read_all(ctx) if job.policy.on_failure}
    missing = {program: job_id for program, job_id in named.items() if shutil.which(program) is None}
    if missing:
        program, job_id = next(iter(missing.items()))
        text = f"the on-failure command {program} of job {job_id} is no program here: nobody would be told"
        yield warn(
            "on_failure", text, code="on_failure_missing", mend="set policy.on_failure, or --on-failure of the job"
        )
    elif named:
        yield ok("on_failure", f"failures are told to {', '.join(sorted(named))}")


def _inherited(ctx: Context) -> Iterator[Check]:
    """Name the jobs that inherit the whole environment of their runs' starter by no decision."""
    undecided = sorted(job.id for job in read_all(ctx) if job.policy.inherit_env is None and _may_run(job))
    if undecided:
        named = ", ".join(undecided[:_SHOWN]) + (f" and {len(undecided) - _SHOWN} more" if undecided[_SHOWN:] else "")
        yield warn(
            "environment",
            f"runs of {named} get all variables of whoever starts them, and from the next release on only named ones",
            code="environment_inherited",
            mend="set policy.inherit_env to names, none or all; docs/tasks/environment-and-secrets.md has the steps",
        )


def _may_run(job: Job) -> bool:
    return job.standing is not Standing.COMPLETED


def _tick(found: Listing, ticks: Ticks, *, active: str, arming: bool) -> Check:
    """Judge the tick: without NAS it is all there is; beside NAS it is the net below."""
    trigger = trigger_of(found, ticks, active=active, asked=arming)
    if trigger.working is not False:
        return ok("tick", trigger.because)
    text = f"these jobs have no working trigger: {trigger.because}"
    old = trigger.last_tick_at is None or abs(found.now - trigger.last_tick_at) > timedelta(days=1)
    return (fail if old else warn)("tick", text, code="no_trigger", mend=INSTALL)


def _many(views: Sequence[JobView]) -> str:
    names = ", ".join(view.id for view in views[:_SHOWN])
    return names if len(views) <= _SHOWN else f"{names} and {len(views) - _SHOWN} more"
