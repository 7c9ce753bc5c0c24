"""The checks of the way to NAS and back: provider, token, clock, keys, and who a fire must come from and be for."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

from chronos_cli.contract import FEATURE_ARM_IN_ANSWER, FEATURE_KEEPS_SLOT, FIRE_ALGORITHMS, FIRE_LEEWAY_S
from chronos_cli.durations import span
from chronos_cli.errors import AuthError, ChronosError, NasUnavailableError, RefusedError
from chronos_cli.frozen import replace
from chronos_cli.operations.arming.slot_memory import ENOUGH, recall, takes_answers
from chronos_cli.operations.doctor.check import Check, fail, failed_with, ok, warn
from chronos_cli.operations.firing.admission import trust_settings
from chronos_cli.operations.firing.refused_token import last_refused
from chronos_cli.trust.settings import NAS_JWT, KeyKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.config import Config
    from chronos_cli.nas_client.interface import ArmList, Nas
    from chronos_cli.operations.context import Context
    from chronos_cli.trust.settings import TrustSettings

NAS_BUDGET_S: Final = 15.0
_DRIFT_WARN_S: Final = 5.0
_SET_CLOCK: Final = "timedatectl set-ntp true"
_RESTART: Final = " and restart the callback"
"""It reads its configuration once."""


def ask_nas(ctx: Context) -> tuple[list[Check], ArmList | None]:
    """Check that NAS answers, takes the token and has the same time; return what it holds, None if it did not say."""
    if ctx.wire is None:
        text = "no NAS is configured: jobs are triggered by ticks alone"
        return [ok("nas", text), ok("token", "not needed"), ok("clock", "there is no NAS to compare it with")], None
    started = time.monotonic()
    try:
        with ctx.wire.connect(NAS_BUDGET_S) as nas:
            held = nas.list()
            return [*_answered(ctx, nas, held, time.monotonic() - started)], held
    except ChronosError as error:
        return _not_answered(ctx.wire.portal_url, error), None


def _answered(ctx: Context, nas: Nas, held: ArmList, took_s: float) -> Iterator[Check]:
    portal = "" if ctx.wire is None else ctx.wire.portal_url
    count = len(held.arms)
    yield ok(
        "nas", f"{portal} answered in {took_s * 1000:.0f} ms; it holds {count} {'timer' if count == 1 else 'timers'}"
    )
    yield ok("token", f"accepted (from {getattr(nas, 'token_origin', 'its source')})")
    yield _clock(ctx.clock(), held.server_time)
    slot = _slot(ctx, held)
    yield replace(slot, text=slot.text + _answers(ctx, held))


def _slot(ctx: Context, held: ArmList) -> Check:
    """Check whether NAS leaves in its slot what was armed before an answer: promised, learned, or not known yet."""
    memory = recall(ctx)
    if FEATURE_KEEPS_SLOT in held.features:
        return ok("slot", "NAS promises to keep what is armed before an answer")
    if memory is None or ctx.wire is None or not memory.is_of(ctx.wire):
        text = "whether NAS keeps what is armed before an answer is not known yet"
    elif memory.keeps(ctx.wire, ctx.clock()):
        return ok("slot", f"NAS keeps what is armed before an answer, as seen on {memory.since:%Y-%m-%d}")
    elif memory.missed_at is not None:
        text = f"NAS dropped what was armed before an answer on {memory.missed_at:%Y-%m-%d}"
    else:
        text = f"NAS kept what was armed before an answer {memory.delivered} of {ENOUGH} times"
    return ok("slot", f"{text}: it is looked for after each")


def _answers(ctx: Context, held: ArmList) -> str:
    """Return what is known of a NAS that takes the next wake from the answer to a fire; "" where it takes none."""
    if FEATURE_ARM_IN_ANSWER not in held.features or ctx.wire is None:
        return ""
    known = takes_answers(ctx, ctx.wire)
    if known is None:
        return "; that it arms what answers carry was not seen yet"
    return f"; it {'arms' if known else 'did not arm'} what answers carry{'' if known else ': each is provisioned too'}"


def _not_answered(portal: str, error: ChronosError) -> list[Check]:
    unknown = warn("clock", "not compared: NAS gave no list", code="clock_unknown", mend="mend the check above first")
    if isinstance(error, RefusedError):
        return [ok("nas", f"{portal} answered"), failed_with("token", error), unknown]
    if isinstance(error, AuthError):
        return [ok("nas", "not asked, or it answered: the token is what fails"), failed_with("token", error), unknown]
    away = f"see that NAS runs at {portal}, or set cron.chronos.portal_url to where it does; then chronos reconcile"
    mend = away if error.hint == NasUnavailableError.default_hint else error.hint
    token = warn("token", "not tried: NAS was not heard", code="token_unknown", mend="mend the check above first")
    return [failed_with("nas", error, mend=mend), token, unknown]


def _clock(now: datetime, server_time: datetime | None) -> Check:
    """Compare the clocks. A Date header (RFC 9110, section 6.6.1) has whole seconds: half a second is its middle."""
    if server_time is None:
        text = "NAS's answer has no Date header to compare with"
        return warn("clock", text, code="clock_unknown", mend="compare the clocks by hand: date -u")
    ahead = (now - server_time - timedelta(milliseconds=500)).total_seconds()
    text = f"{span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} NAS's"
    if abs(ahead) > FIRE_LEEWAY_S:
        text += f": fire tokens are refused past {FIRE_LEEWAY_S} s"
        return fail("clock", text, code="clock_skew", mend=_SET_CLOCK)
    if abs(ahead) > _DRIFT_WARN_S:
        return warn("clock", text, code="clock_skew", mend=_SET_CLOCK)
    return ok("clock", "agrees with NAS's within 5 s")


def check_keys(config: Config) -> Check:
    """Check whether the keys that verify fires can be had, and are in the cache for when NAS cannot be asked."""
    if not config.portal_url and not config.nas_jwks_url:
        return ok("keys", "not needed: nobody may call")
    try:
        settings = trust_settings(config)
        if settings.verifier != NAS_JWT:
            from chronos_cli.trust.verifier import load_verifier

            load_verifier(settings.verifier)
            return ok("keys", f"tokens are judged by {settings.verifier}")
        return _keys_of(settings)
    except ChronosError as error:
        return failed_with("keys", error)


def _keys_of(settings: TrustSettings) -> Check:
    """Judge the keys. Raises KeysUnavailableError and ConfigError."""
    match settings.key_kind:
        case KeyKind.NONE:
            mend = f"set cron.chronos.nas_jwks_url in config.yaml{_RESTART}"
            return fail("keys", "no key is configured: every fire is refused", code="no_key_configured", mend=mend)
        case KeyKind.URL:
            return _published(settings)
        case kind:
            from chronos_cli.trust.tokens import find_keys

            for algorithm in FIRE_ALGORITHMS:
                try:
                    find_keys(settings, algorithm, None, time.time)
                except ChronosError as error:
                    if error.exit_code != 4:  # a refusal only says that the keys are of another algorithm
                        raise
                else:
                    return ok("keys", f"{kind.value}: good for {algorithm}")
            return ok("keys", f"{kind.value}: readable")


def _published(settings: TrustSettings) -> Check:
    """Fetch them, and have the cache take them where its own are not fresh. Raises as the cache does."""
    from chronos_cli.errors import KeysUnavailableError
    from chronos_cli.trust.fetch import fetch_jwks
    from chronos_cli.trust.jwks import JwksCache
    from chronos_cli.trust.keys import UnusableKeysError, parse_jwks

    url = settings.keys
    try:
        keys = parse_jwks(fetch_jwks(url, settings.fetch_timeout_s).body)
    except UnusableKeysError as error:
        raise KeysUnavailableError(f"the answer of {url} cannot be used: {error}", hint="check nas_jwks_url") from error
    key = keys[0]
    usual = "ES256" if key.get("crv") == "P-256" else "ES384" if key["kty"] == "EC" else "RS256"
    JwksCache(settings).find(key.get("alg", usual), key.get("kid"))
    known = JwksCache(settings).load()
    age = known.age(time.time())
    if not known.keys:
        text = f"{len(keys)} at {url}, but {settings.cache_dir} cannot keep them: each fire fetches them"
        return warn("keys", text, code="keys_not_cached", mend=_writable(settings.cache_dir / "jwks"))
    return ok("keys", f"{len(keys)} at {url}; cached {max(age, 0):.0f} s ago for {known.lifetime_s:.0f} s")


def check_token_memory(config: Config) -> Check:
    """Check whether used tokens can be remembered, so that one which names no job and instant is good for one only."""
    if not config.portal_url and not config.nas_jwks_url:
        return ok("token_memory", "not needed: nobody may call")
    from chronos_cli.trust.jti import check_memory

    folder = Path(config.home, "cache", "jti")
    try:
        check_memory(folder.parent)
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror}): only tokens that name their job and instant are taken"
        return warn("token_memory", text, code="jti_memory", mend=_writable(folder))
    return ok("token_memory", f"used tokens are remembered in {folder}, for this machine")


def _writable(folder: Path) -> str:
    """Return the command after which a folder of the cache can be written."""
    steps = []
    for part in (folder.parent, folder):
        at = quote(str(part))
        if os.path.lexists(part) and (part.is_symlink() or not part.is_dir()):
            return f"mv {at} {at}.away"
        if not os.path.lexists(part):
            steps.append(f"mkdir -p {at}")
        elif part.stat().st_uid != os.geteuid():
            steps.append(f"chown {os.geteuid()} {at}")
        if os.path.lexists(part) and not os.access(part, os.R_OK | os.W_OK | os.X_OK):
            steps.append(f"chmod u+rwx {at}")
    return " && ".join(steps) or f"free some space there: df -h {quote(str(folder.parent))}"


def check_claims(config: Config, ctx: Context, accepted_at: datetime | None) -> Iterator[Check]:
    """Check whether NAS mints the audience and the issuer that are expected here, as far as the last fires show it.

    NAS mints tokens only for fires, so without one nothing is known: `doctor --probe` makes one.
    """
    if not config.portal_url:
        yield ok("audience", "not needed: nobody may call")
        yield ok("issuer", "not needed: nobody may call")
        return
    settings = trust_settings(config)
    refused = last_refused(settings.cache_dir)
    since = _changed_at(config.path)
    for name, value in (("audience", config.expected_audience), ("issuer", config.portal_url)):
        if not value:
            text = "cron.chronos.expected_audience is not set: every fire is refused"
            mend = f"set it in config.yaml to what chronos-nas agent list shows{_RESTART}"
            yield fail(name, text, code="no_audience_configured", mend=mend)
        elif refused is not None and refused.code == name and (accepted_at is None or refused.at > accepted_at):
            setting = "expected_audience" if name == "audience" else "portal_url"
            ago = span(max(0.0, (ctx.clock() - refused.at).total_seconds()))
            mend = f"set cron.chronos.{setting} in config.yaml to what NAS mints{_RESTART}, then chronos doctor --probe"
            if f"received '{value}'" in refused.message:  # set already; a callback goes by what it began with
                mend = "restart the callback, which began with another setting, then chronos doctor --probe"
            yield fail(name, f"{refused.message}, {ago} ago", code=name, mend=mend)
        elif accepted_at is None or accepted_at < since:
            why = "no fire was accepted yet" if accepted_at is None else "config.yaml changed after the last fire"
            yield warn(name, f"{value}, not proven: {why}", code=f"{name}_unknown", mend="chronos doctor --probe")
        else:
            yield ok(name, f"{value}, as in the fire accepted {accepted_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}")


def _changed_at(path: str) -> datetime:
    try:
        return datetime.fromtimestamp(Path(path).stat().st_mtime, UTC)
    except OSError:
        return datetime.min.replace(tzinfo=UTC)  # everything comes from variables: nothing says when they changed
