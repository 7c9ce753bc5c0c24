"""The clauses of the third hop: what an agent may rely on when it is called back."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from chronos_cli.contract import FIRE_ALGORITHMS, FIRE_PATH, FIRE_PURPOSE, JWKS_PATH, parse_fire_at
from chronos_cli.nas_server.conformance.interface import BrokenError, Clause, NotTestedError, demand, shown
from chronos_cli.nas_server.conformance.probe import LATE_S, ahead

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.nas_server.conformance.probe import ContractProbe, ProbeFire

QUIET_S = 4.0
"""The time to wait for a fire that should not come."""

EARLY_S = 1.0
"""The time by which a fire may come before its instant: clocks differ."""


def _first(probe: ContractProbe) -> tuple[ProbeFire, datetime]:
    """Return the fire that several clauses look at, made once."""
    probe.listener  # noqa: B018 - raises where hop 3 is not tested
    with probe.once:
        if "first" not in probe.notes:
            job_id, when = probe.job("fires"), ahead(2)
            probe.arm(job_id, when)
            fires = probe.fires(job_id, when)
            probe.notes["first"] = (fires[0] if fires else None, when, job_id)
    fire, when, _ = probe.notes["first"]
    demand(fire is not None, f"no callback came within {LATE_S:g} s")
    return fire, when


def _fires(probe: ContractProbe) -> None:
    fire, when = _first(probe)
    demand(fire.path.endswith(FIRE_PATH), f"it came to {fire.path}")
    demand(fire.at >= when.timestamp() - EARLY_S, f"it came {when.timestamp() - fire.at:.1f} s early")
    try:
        named = parse_fire_at(fire.body.get("fire_at"))
    except ValueError as error:
        raise BrokenError(f"its fire_at cannot be read: {fire.body}") from error
    demand(named == when, f"its body names {named}")


def _claims(probe: ContractProbe) -> dict[str, Any]:
    import jwt

    fire, _ = _first(probe)
    keys = probe.call("GET", JWKS_PATH, token=None).document
    try:
        header = jwt.get_unverified_header(fire.token)
        demand(header.get("alg") in FIRE_ALGORITHMS, f"the token is signed with {header.get('alg')}")
        found = [key for key in jwt.PyJWKSet.from_dict(keys).keys if key.key_id == header.get("kid")]
        demand(found, f"the JWKS has no key {header.get('kid')}")
        options: Any = {"verify_aud": False, "verify_iss": False}
        claims: dict[str, Any] = jwt.decode(
            fire.token, found[0], algorithms=list(FIRE_ALGORITHMS), options=options, leeway=300
        )
    except (jwt.PyJWTError, AttributeError, TypeError) as error:
        raise BrokenError(f"the token does not verify: {error}") from error
    return claims


def _token(probe: ContractProbe) -> None:
    _claims(probe)


def _claimed(probe: ContractProbe) -> None:
    claims, (fire, _) = _claims(probe), _first(probe)
    demand(claims.get("purpose") == FIRE_PURPOSE, f"purpose is {shown(claims.get('purpose'))}")
    demand(str(claims.get("iss", "")).rstrip("/") == probe.portal_url, f"iss is {shown(claims.get('iss'))}")
    audience = claims.get("aud")
    if probe.audience is not None:
        demand(audience == probe.audience, f"aud is {shown(audience)}, not {shown(probe.audience)}")
    demand(isinstance(audience, str) and audience.startswith("agent:"), f"aud is {shown(audience)}")
    left = float(claims.get("exp", 0)) - fire.at
    demand(30 <= left <= 150, f"exp lies {left:.0f} s ahead, not 60 to 120 (30 more either way for clocks)")


def _bound(probe: ContractProbe) -> None:
    claims, (fire, _) = _claims(probe), _first(probe)
    if "job_id" not in claims and "fire_at" not in claims:
        raise NotTestedError("the token names no occurrence; the contract leaves that open")
    for name in ("job_id", "fire_at"):
        demand(
            name not in claims or claims[name] == fire.body.get(name),
            f"{name} is {shown(claims.get(name))} in the token",
        )


def _delivered_once(probe: ContractProbe) -> None:
    _first(probe)
    job_id = probe.notes["first"][2]
    fires = probe.listener.wait(job_id, 2, time.time() + QUIET_S)
    demand(len(fires) == 1, "a fire that was answered 200 came again")
    demand(probe.instant(job_id) is None, "a delivered one-shot is still listed")


def _retried(probe: ContractProbe) -> None:
    job_id, when = probe.job("retried"), ahead(2)
    seen: list[ProbeFire] = []

    def answer(fire: ProbeFire) -> tuple[int, dict[str, str]]:
        seen.append(fire)
        return (503, {"Retry-After": "1"}) if len(seen) == 1 else (200, {})

    probe.listener.answers[job_id] = answer
    probe.arm(job_id, when)
    fires = probe.fires(job_id, when, count=2, extra=60)
    demand(fires, "no callback came")
    demand(len(fires) > 1, "a fire that was answered 503 did not come again within a minute")
    demand(fires[1].at - fires[0].at >= 0.9, "it came again before its Retry-After")


def _during(probe: ContractProbe, status: int, name: str) -> tuple[str, datetime, list[ProbeFire]]:
    """Arm anew in the middle of a relay that is then answered with `status`; the fires after that."""
    job_id, when, newer = probe.job(name), ahead(2), ahead(3600)
    arrived, release = threading.Event(), threading.Event()

    def answer(_: ProbeFire) -> tuple[int, dict[str, str]]:
        if arrived.is_set():
            return 200, {}
        arrived.set()
        release.wait(10)
        return status, {}

    probe.listener.answers[job_id] = answer
    probe.arm(job_id, when)
    try:
        demand(arrived.wait(2 + LATE_S), "no callback came")
        probe.arm(job_id, newer)
    finally:
        release.set()
    fires = probe.fires(job_id, when, count=2, extra=QUIET_S if status < 300 else 15)
    return job_id, newer, fires


def _newer_kept(probe: ContractProbe) -> None:
    job_id, newer, _ = _during(probe, 200, "newer")
    time.sleep(0.5)
    demand(probe.instant(job_id) == newer, f"the list shows {probe.instant(job_id)}")


def _owed(probe: ContractProbe) -> None:
    if "keeps-slot" not in probe.features():
        raise NotTestedError("not offered")
    job_id, newer, fires = _during(probe, 503, "owed")
    demand(len(fires) > 1, "the refused fire did not come again beside the newer arm")
    time.sleep(0.5)
    demand(probe.instant(job_id) == newer, f"the list shows {probe.instant(job_id)}")


def _cancelled(probe: ContractProbe) -> None:
    job_id, when = probe.job("cancelled"), ahead(3)
    probe.listener  # noqa: B018 - raises where hop 3 is not tested
    probe.arm(job_id, when)
    probe.cancel(job_id)
    demand(not probe.fires(job_id, when, extra=2), "a cancelled one-shot fired")


def _no_redirect(probe: ContractProbe) -> None:
    job_id, when = probe.job("redirect"), ahead(2)
    probe.listener.answers[job_id] = lambda _: (307, {"Location": f"{probe.callback_url}/elsewhere"})
    probe.arm(job_id, when)
    demand(probe.fires(job_id, when), "no callback came")
    time.sleep(1)
    demand(job_id not in probe.listener.strays, "the callback followed a redirect, token and all")
    probe.cancel(job_id)


CLAUSES = (
    Clause(name="fire", hop=3, text="a due one-shot is called back, with job_id and fire_at", check=_fires),
    Clause(name="token", hop=3, text="its token verifies against the JWKS, with an asymmetric algorithm", check=_token),
    Clause(name="claims", hop=3, text="aud, iss, purpose and exp are as the contract says", check=_claimed),
    Clause(name="bound", hop=3, text="job_id and fire_at in the token equal the body's", check=_bound),
    Clause(name="delivered", hop=3, text="a 2xx ends it: no second call, not listed", check=_delivered_once),
    Clause(name="retry", hop=3, text="a non-2xx is tried again, not before its Retry-After", check=_retried),
    Clause(name="newer-kept", hop=3, text="an arm during a relay survives its success", check=_newer_kept),
    Clause(name="owed", hop=3, text="a refused fire stays owed beside a newer arm", check=_owed),
    Clause(name="cancelled", hop=3, text="a cancelled one-shot does not fire", check=_cancelled),
    Clause(name="no-redirect", hop=3, text="redirects are not followed", check=_no_redirect),
)
