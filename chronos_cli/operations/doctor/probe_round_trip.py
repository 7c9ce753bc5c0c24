"""`doctor --probe`: NAS is asked to call two seconds from now; the call has to come in, and if it does not, why not."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chronos_cli.errors import AuthError, ChronosError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import ArmRequest
from chronos_cli.operations.arming.slot_memory import note_probed
from chronos_cli.operations.doctor.callback_probe import Responder, probe_callback, runners_told
from chronos_cli.operations.doctor.check import Check, fail, failed_with, ok, warn
from chronos_cli.operations.firing.probe import PROBE_ID, Probe, expect, read_probe
from chronos_cli.operations.firing.refused_token import last_refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.config import Config
    from chronos_cli.nas_client.interface import Arm, Nas
    from chronos_cli.operations.context import Context, NasTarget

AHEAD: Final = timedelta(seconds=2)
_BUDGET_S: Final = 15.0
_POLL_S: Final = 0.1
_SETTLE_S: Final = 1.5
"""Time for which NAS is watched after the answer: by then it is done with the slot."""

_MOST_TOLD: Final = 200
"""Characters of what the callback says of itself."""

_ROUTE: Final = "route {url}/api/cron/fire to chronos_cli.callback.wsgi:application, past any login"


def probe_circle(config: Config, ctx: Context, *, wait_s: float) -> Iterator[Check]:
    """Yield the hops, one check each, up to the one that fails. The timer is cancelled in any case.

    `wait_s`: how long to wait for the call after its time.
    """
    wire = ctx.wire
    if wire is None:
        text = "no NAS is configured, so nothing can call"
        yield fail(
            "probe_armed",
            text,
            code="no_nas",
            mend="set cron.chronos.portal_url and callback_url in config.yaml, see chronos init",
        )
        return
    try:
        ctx.must_be_active("a probe")
        if ctx.repository.jobs().get(PROBE_ID) is not None:
            text = f"there is a job {PROBE_ID}, which is the probe's own id"
            yield fail("probe_armed", text, code="conflict", mend=f"chronos job remove {PROBE_ID} --yes")
            return
        with wire.connect(_BUDGET_S) as nas:
            try:
                yield from _probe_round_trip(config, ctx, wire, nas, wait_s)
            finally:
                _clear(nas)
    except ChronosError as error:
        yield failed_with("probe_armed", error)


def _clear(nas: Nas) -> None:
    try:
        nas.cancel(PROBE_ID)
    except ChronosError:
        return  # it fires once more, into the void: a callback answers a late probe with 200


def _probe_round_trip(config: Config, ctx: Context, wire: NasTarget, nas: Nas, wait_s: float) -> Iterator[Check]:
    """Yield the checks of a round trip. Raises what the store raises."""
    now = ctx.clock()
    probe = Probe(
        fire_at=now.astimezone(UTC).replace(microsecond=0) + AHEAD, sent_at=now, callback_url=wire.callback_url
    )
    expect(ctx, probe)
    try:
        nas.provision(ArmRequest(job_id=PROBE_ID, fire_at=probe.fire_at, callback_url=wire.callback_url))
    except ChronosError as error:
        who = "NAS refuses" if isinstance(error, AuthError) else "NAS did not take the one-shot"
        yield replace(failed_with("probe_armed", error), text=f"{who}: {error.message}")
        return
    yield ok("probe_armed", f"NAS took a one-shot for {probe.fire_at:%H:%M:%SZ}")
    arrived = _wait(ctx, probe, (probe.fire_at - ctx.clock()).total_seconds() + wait_s)
    if arrived is None or arrived.received_at is None:
        yield _missing(config, nas, probe, ctx.clock())
        return
    late = (arrived.received_at - probe.fire_at).total_seconds()
    told = runners_told(wire.callback_url)
    runners = "" if told is None else f"; its runners: {told[:_MOST_TOLD]!a}"
    text = f"the call came through {wire.callback_url} {late:.1f} s after its time, and was verified{runners}"
    yield ok("probe_received", text)
    yield _slot(ctx, nas, probe)


def _wait(ctx: Context, sent: Probe, seconds: float, *, answered: bool = False) -> Probe | None:
    """Return the probe's document once the call is in (and answered), None where that does not happen in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = read_probe(ctx)
        ours = found is not None and found.fire_at == sent.fire_at and found.received_at is not None
        if found is not None and ours and (found.answered or not answered):
            return found
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL_S)


def _missing(config: Config, nas: Nas, probe: Probe, now: datetime) -> Check:
    """Return which hop failed: the token was refused, another server or none answers, or NAS never called."""
    refused = last_refused(Path(config.home, "cache"))
    if refused is not None and refused.at >= probe.sent_at:
        setting = {"audience": "expected_audience", "issuer": "portal_url"}.get(refused.code)
        right = f"set cron.chronos.{setting} in config.yaml to what NAS mints and restart the callback"
        mend = right if setting else refused.hint
        return fail(
            "probe_received", f"the callback refused NAS's token: {refused.message}", code=refused.code, mend=mend
        )
    reached = probe_callback(probe.callback_url)
    route = _ROUTE.format(url=probe.callback_url.rstrip("/"))
    match reached.who:
        case Responder.NOBODY:
            text = f"the callback cannot be reached: {reached.how}"
            mend = f"serve chronos_cli.callback.wsgi:application at {probe.callback_url}"
            return fail("probe_received", text, code="callback_unreachable", mend=mend)
        case Responder.OTHER:
            text = f"another server answers at callback_url: {reached.how}"
            return fail("probe_received", text, code="callback_elsewhere", mend=route)
        case Responder.MISCONFIGURED:
            text = f"the callback has no usable configuration: {reached.how}"
            return fail(
                "probe_received",
                text,
                code="callback_config",
                mend="see the callback's own log: it names what to put right",
            )
        case Responder.OURS:
            return _not_relayed(nas, probe, now)


def _not_relayed(nas: Nas, probe: Probe, now: datetime) -> Check:
    """Return why NAS did not relay to a callback that is there and ours, by what NAS says of the one-shot."""
    after = f"{(now - probe.fire_at).total_seconds():.0f} s after its time"
    try:
        arm = _held(nas)
    except ChronosError as error:
        return failed_with("probe_received", error)
    if arm is None:
        text = "NAS is done with the one-shot, but no fire was recorded here"
        mend = "give the callback the same CHRONOS_HOME and store as this command"
        return fail("probe_received", text, code="other_store", mend=mend)
    if arm.state in ("retrying", "in_flight"):
        text = f"NAS calls, and the callback does not take the fire ({arm.state} {after})"
        return fail(
            "probe_received", text, code="callback_refuses", mend="see the callback's own log: it names the cause"
        )
    text = f"NAS has not called {after}; after calls in vain it leaves an address alone for up to a minute"
    mend = "chronos doctor --probe --wait 75; if that fails too, ask who runs NAS why its relay is late"
    return fail("probe_received", text, code="not_relayed", mend=mend)


def _slot(ctx: Context, nas: Nas, probe: Probe) -> Check:
    """Check whether what was armed during the fire is still held after its 2xx."""
    found = _wait(ctx, probe, _BUDGET_S, answered=True)
    if found is None or found.again is None:
        why = "the callback is not done" if found is None else str(found.again_error)
        text = f"the callback cannot arm: {why}"
        return warn("probe_slot", text, code="callback_cannot_arm", mend="run chronos doctor where the callback runs")
    deadline = time.monotonic() + _SETTLE_S
    try:
        while True:
            arm = _held(nas)
            if arm is None:
                note_probed(ctx, keeps=False)
                return ok("probe_slot", "NAS drops what is armed during a fire: it is looked for after each answer")
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S * 3)
    except ChronosError as error:
        return warn(
            "probe_slot", f"whether NAS keeps the slot is not known: {error.message}", code=error.code, mend=error.hint
        )
    if arm.fire_at != found.again:
        note_probed(ctx, keeps=False)
        when = arm.fire_at_text
        return ok("probe_slot", f"NAS puts its own redelivery in the slot ({when}): it is looked at after each answer")
    note_probed(ctx, keeps=True)
    return ok("probe_slot", "NAS keeps what is armed during a fire")


def _held(nas: Nas) -> Arm | None:
    return next((arm for arm in nas.list().arms if arm.job_id == PROBE_ID), None)
