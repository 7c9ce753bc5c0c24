"""The judge of fire tokens inside hermes, and what ties a judged token to the fire that follows it.

Hermes' door asks for the verifier, has it judge the token, and then hands the provider nothing but a job id; newer
versions judge in another thread. So each asking makes a note of its own, which lies in the context of the door's
request: the judge writes into that very note, and the fire, started from the same request, finds it there. Where
a door asks for the verifier in a thread as well, its note is found by the job that the token names; a fire that might
belong to a token for another job is refused.
"""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.errors import ChronosError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.config import Config
    from chronos_cli.operations.firing.admission import AuthorizedFire
    from chronos_cli.trust.tokens import FireClaims

VERIFIERS: Final = "plugins.cron_providers.chronos.verify"
"""The module in which hermes' door looks, at each fire, for what judges the token."""

ASTRAY_S: Final = 30.0
"""Seconds for which a judged token is waited for by a fire that cannot be told to be its own."""


class OtherTokenError(ChronosError):
    """The token of this fire may be another job's."""

    code = "job_mismatch"
    default_hint = "the fire of its own token, or the next sweep, runs what is due"


class TokenNote:
    """The judgement of one request's token. `claims` None: no token was judged good. It serves one fire."""

    def __init__(self) -> None:
        self.claims: FireClaims | None = None
        self.judged = False
        self.judged_at = 0.0


class TokenJudge:
    """Hands out verifiers, each with its note, and finds the note of a fire. Safe to share between threads."""

    def __init__(self, config: Callable[[], Config], log: Callable[[str], None]) -> None:
        self._config = config
        self._log = log
        self._note: ContextVar[TokenNote | None] = ContextVar("chronos_fire", default=None)
        self._guard = threading.Lock()
        self._astray: list[TokenNote] = []

    def verifier(self) -> Callable[..., Mapping[str, Any] | None]:
        """Return what judges one token, as hermes' `get_fire_verifier` does."""
        note = TokenNote()
        self._note.set(note)

        def judge(token: str = "", **kwargs: Any) -> Mapping[str, Any] | None:
            """Return the claims of a token that holds here, else None. The home's settings stand in for the door's.

            On standby none holds: the door then answers with a refusal, which NAS repeats, and not with a yes that is
            lost.
            """
            del kwargs
            note.claims = self._judged(token)
            note.judged, note.judged_at = True, time.monotonic()
            if note.claims is None:
                return None
            with self._guard:
                self._astray = [*(one for one in self._astray if _is_waited_for(one)), note]
            return dict(note.claims.claims)

        return judge

    def admitted(self, job_id: str) -> AuthorizedFire | None:
        """Return the scope of this fire's token; None where hermes itself asks for the fire, without one.

        A judged token serves one call. Raises OtherTokenError, TokenError, UsageError.
        """
        from chronos_cli.operations.firing.admission import admit, trust_settings

        note = self._taken(job_id)
        if note is None or note.claims is None:
            return None
        claims, note.claims = note.claims, None
        return admit(claims, trust_settings(self._config()), job_id=job_id, fire_at=None)

    def _taken(self, job_id: str) -> TokenNote | None:
        own = self._note.get()
        with self._guard:
            waiting = [one for one in self._astray if _is_waited_for(one)]
            if own is not None and own.judged:
                self._note.set(None)
                self._astray = [one for one in waiting if one is not own]
                if own.claims is None:
                    raise OtherTokenError("the token of this request has served a fire, or was refused")
                return own
            found = next((one for one in waiting if one.claims is not None and one.claims.job_id == job_id), None)
            if found is None and waiting:
                raise OtherTokenError(f"a token is judged for another job than {job_id}")
            self._astray = [one for one in waiting if one is not found]
            return found

    def _judged(self, token: str) -> FireClaims | None:
        from chronos_cli.contract import PROOF_PURPOSE
        from chronos_cli.operations.firing.admission import trust_settings
        from chronos_cli.trust.token_errors import PurposeError
        from chronos_cli.trust.verifier import fire_verifier

        try:
            config = self._config()
        except ChronosError as error:
            self._log(f"fire refused: {error.line()}")
            return None
        if config.standby:
            self._log("fire refused: this machine is on standby")
            return None
        try:
            return fire_verifier(trust_settings(config))(token or None)
        except PurposeError as error:
            if error.received == PROOF_PURPOSE:
                self._log("NAS asks whose callback this is, which hermes has no answer for; no fire was refused")
            else:
                self._log(f"fire refused: {error.code}")
            return None
        except ChronosError as error:
            self._log(f"fire refused: {error.code}")
            return None


def take_verifier(judge: TokenJudge) -> None:
    """Have hermes' door ask `judge` from now on, in this process."""
    import_module(VERIFIERS).get_fire_verifier = judge.verifier  # type: ignore[attr-defined]


def _is_waited_for(note: TokenNote) -> bool:
    return note.claims is not None and time.monotonic() - note.judged_at < ASTRAY_S
