"""Admission of a fire: the token is judged first, then held against the job and the instant that were asked for.

Nothing of the store is read here, and nothing is started.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chronos_cli.contract import ARM_BY_ANSWER, ARM_CLAIM, MAX_COUNTED_GENERATION, is_job_id, parse_fire_at
from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.config import Config
    from chronos_cli.trust.settings import TrustSettings
    from chronos_cli.trust.tokens import FireClaims


@frozen
class AuthorizedFire:
    """A fire that NAS may ask for.

    `fire_at` is the body's, else the token's, else None; `delivery` the token's jti; `heard` NAS's clock when it minted
    the token, None where a verifier of your own does not say. `by_answer`: the token asks that the answer carries the
    job's next wake; `generation`: that of the wish which armed this fire, None where it names none that can be counted.
    """

    job_id: str
    fire_at: datetime | None
    delivery: str | None
    heard: datetime | None = None
    by_answer: bool = False
    generation: int | None = None


def trust_settings(config: Config) -> TrustSettings:
    """Return what fire tokens are judged by, from the launching configuration."""
    from chronos_cli.trust.settings import TrustSettings

    return TrustSettings(
        expected_audience=config.expected_audience,
        issuer=config.portal_url,
        keys=config.nas_jwks_url,
        cache_dir=Path(config.home, "cache"),
        require_bound=config.require_bound_token,
        verifier=config.verifier,
        max_age_s=config.keys_max_age,
        max_stale_s=config.keys_max_stale,
        cooldown_s=config.keys_cooldown,
        max_life_s=config.max_token_life,
    )


def admit(
    claims: FireClaims, settings: TrustSettings, *, job_id: object, fire_at: object, home: str | None = None
) -> AuthorizedFire:
    """Hold a verified token against what was asked; `home` is the NAME of a `/p/NAME` path.

    Raises TokenError, UsageError for a malformed job id, JtiMemoryError where an unbound token cannot be remembered.
    """
    from chronos_cli.trust.jti import bind_jti
    from chronos_cli.trust.tokens import check_binding

    if not is_job_id(job_id):
        raise UsageError("the job id is malformed", hint="a job id is letters, digits, '.', '_' and '-', at most 128")
    name = str(job_id)
    instant = _instant(fire_at)
    check_binding(claims, name, instant, settings, home=home)
    bind_jti(claims, name, instant, settings.cache_dir, home=home)
    generation = claims.claims.get("generation")
    counted = type(generation) is int and 0 <= generation < MAX_COUNTED_GENERATION
    return AuthorizedFire(
        job_id=name,
        fire_at=instant or claims.fire_at,
        delivery=claims.jti,
        heard=claims.minted,
        by_answer=claims.claims.get(ARM_CLAIM) == ARM_BY_ANSWER,
        generation=generation if counted else None,
    )


def _instant(value: object) -> datetime | None:
    """Return the instant asked for; without a readable one, the fire is for all that is due."""
    try:
        return parse_fire_at(value)
    except ValueError:
        return None
