"""The clauses of what a NAS may offer around a fire: answers that arm, spread, and failures told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chronos_cli.contract import (
    ARM_BY_ANSWER,
    ARM_CLAIM,
    FEATURE_ARM_IN_ANSWER,
    FEATURE_CALLBACK_PROOF,
    FEATURE_DELIVERIES,
    FEATURE_SPREAD,
    FIRE_ALGORITHMS,
    JWKS_PATH,
    PROOF_PATH,
    PROOF_PURPOSE,
    format_fire_at,
    parse_fire_at,
)
from chronos_cli.nas_server.conformance.interface import BrokenError, Clause, NotTestedError, demand, shown
from chronos_cli.nas_server.conformance.probe import LATE_S, ahead

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.nas_server.conformance.probe import ContractProbe, ProbeFire

_TOLERANCE_S = 4
_SETTLED_S = 1.5
_REPEATED_WITHIN_S = 60


def _offered(probe: ContractProbe, feature: str) -> None:
    probe.listener  # noqa: B018 - raises where hop 3 is not tested
    if feature not in probe.features():
        raise NotTestedError("not offered")


def _says(fire: ProbeFire) -> object:
    import jwt

    return jwt.decode(fire.token, options={"verify_signature": False}).get(ARM_CLAIM)


def _next(at: datetime, generation: int) -> dict[str, Any]:
    return {"next": {"fire_at": format_fire_at(at), "dedup_key": "conformance", "generation": generation}}


def _answer_arms(probe: ContractProbe) -> None:
    _offered(probe, FEATURE_ARM_IN_ANSWER)
    job_id, when, later = probe.job("answer"), ahead(2), ahead(3600)
    probe.listener.bodies[job_id] = _next(later, 2)
    probe.arm(job_id, when, accepts=[FEATURE_ARM_IN_ANSWER], generation=1)
    fires = probe.fires(job_id, when)
    demand(fires, "no callback came")
    demand(_says(fires[0]) == ARM_BY_ANSWER, f"the token's claim `{ARM_CLAIM}` is {shown(_says(fires[0]))}")
    time.sleep(_SETTLED_S)
    demand(probe.instant(job_id) == later, f"the list shows {probe.instant(job_id)}")


def _answer_needed(probe: ContractProbe) -> None:
    _offered(probe, FEATURE_ARM_IN_ANSWER)
    job_id, when = probe.job("answer-needed"), ahead(2)
    probe.arm(job_id, when, accepts=[FEATURE_ARM_IN_ANSWER], generation=1)
    fires = probe.fires(job_id, when, count=2, extra=_REPEATED_WITHIN_S)
    demand(len(fires) > 1, "a 2xx without next was taken for an answer")


def _answer_old(probe: ContractProbe) -> None:
    _offered(probe, FEATURE_ARM_IN_ANSWER)
    job_id, when, newer = probe.job("answer-old"), ahead(2), ahead(7200)

    def answer(_: ProbeFire) -> tuple[int, dict[str, str]]:
        probe.arm(job_id, newer, accepts=[FEATURE_ARM_IN_ANSWER], generation=9)
        return 200, {}

    probe.listener.answers[job_id] = answer
    probe.listener.bodies[job_id] = _next(ahead(3600), 5)
    probe.arm(job_id, when, accepts=[FEATURE_ARM_IN_ANSWER], generation=1)
    demand(probe.fires(job_id, when), "no callback came")
    time.sleep(_SETTLED_S)
    demand(probe.instant(job_id) == newer, f"the list shows {probe.instant(job_id)}")


def _spread(probe: ContractProbe) -> None:
    _offered(probe, FEATURE_SPREAD)
    when = ahead(4)  # what comes early is seen to, also where arming takes a while
    jobs = [probe.job(f"spread-{number}") for number in range(4)]
    for job_id in jobs:
        probe.arm(job_id, when, tolerance=_TOLERANCE_S)
    for job_id in jobs:
        fires = probe.fires(job_id, when, extra=_TOLERANCE_S + 10)
        demand(fires, "no callback came")
        demand(fires[0].at >= when.timestamp() - 1, "a fire came before its instant")
        demand(parse_fire_at(fires[0].body.get("fire_at")) == when, f"its body names {fires[0].body.get('fire_at')}")


def _told(probe: ContractProbe) -> None:
    _offered(probe, FEATURE_DELIVERIES)
    job_id, when = probe.job("told"), ahead(2)
    probe.listener.answers[job_id] = lambda _: (503, {"Retry-After": "60"})
    probe.arm(job_id, when)
    demand(probe.fires(job_id, when), "no callback came")
    time.sleep(_SETTLED_S)
    told = next((one.get("deliveries") for one in probe.listed() if one["job_id"] == job_id), None)
    demand(isinstance(told, dict), f"the entry tells {shown(told)}")
    fits = isinstance(told, dict) and told.get("attempts") == 1 and isinstance(told.get("last_error"), str)
    demand(fits, f"it tells {shown(told)}")
    probe.cancel(job_id)


def _proof_asked(probe: ContractProbe) -> None:
    """Arm with a URL of this run's own, so that it was never proved before."""
    _offered(probe, FEATURE_CALLBACK_PROOF)
    import jwt

    job_id = probe.job("proof")
    url = f"{probe.callback_url.rstrip('/')}/p/{job_id}"
    path = f"/p/{job_id}{PROOF_PATH}"
    for seconds in (3600, 7200):
        probe.arm(job_id, ahead(seconds), agent_callback_url=url)
        asked = probe.listener.challenges(path, 1, time.time() + LATE_S)
    demand(asked, "no challenge came")
    token = asked[0].token
    keys = probe.call("GET", JWKS_PATH, token=None).document
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        found = [key for key in jwt.PyJWKSet.from_dict(keys).keys if key.key_id == kid]
        demand(found, f"the JWKS has no key {kid}")
        options: Any = {"verify_aud": False, "verify_iss": False}
        claims = jwt.decode(token, found[0], algorithms=list(FIRE_ALGORITHMS), options=options, leeway=300)
    except (jwt.PyJWTError, AttributeError, TypeError) as error:
        raise BrokenError(f"its token does not verify: {error}") from error
    purpose, nonce = claims.get("purpose"), claims.get("nonce")
    demand(purpose == PROOF_PURPOSE, f"its token's purpose is {shown(purpose)}")
    demand(isinstance(nonce, str) and 16 <= len(nonce) <= 128, f"its nonce is {shown(nonce)}")
    time.sleep(_SETTLED_S)
    again = probe.listener.challenges(path, 2, time.time())
    demand(len(again) == 1, f"a callback that proved itself was asked {len(again)} times")


CLAUSES = (
    Clause(
        name="callback-proof", hop=3, text="a callback is asked once whose it is, by a signed token", check=_proof_asked
    ),
    Clause(name="answer-arms", hop=3, text="the next wake in a 2xx is armed, where the token asks", check=_answer_arms),
    Clause(
        name="answer-needed", hop=3, text="where the token asks, a 2xx without it is repeated", check=_answer_needed
    ),
    Clause(name="answer-old", hop=3, text="an answer undoes no newer wish", check=_answer_old),
    Clause(name="spread", hop=3, text="within its tolerance a fire keeps its nominal instant", check=_spread),
    Clause(name="deliveries", hop=3, text="a list tells of failed attempts", check=_told),
)
