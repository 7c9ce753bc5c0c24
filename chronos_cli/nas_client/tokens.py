"""Finds the agent's NAS access token: variable, file, command, or the login of a Hermes home, in this order.

The first of these that is configured is the only one asked: a token_file that cannot be read is an error, not a reason
to try another user's credentials. A token is kept in memory only, never on disk. So commands that run at the same time
each run the token_command, but one after another: it holds a lock on the home meanwhile, and a command that spends a
refresh token finds on its next run what it saved on this one. A login that has expired is renewed by Hermes itself,
where it is installed beside us: by a command as well, never by a copy of its login here.
"""

from __future__ import annotations

import os
import threading
import time
from errno import EFBIG, EINVAL, ENXIO
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.config.settings import PROFILES
from chronos_cli.errors import AuthError, ConfigError
from chronos_cli.files import read_file
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chronos_cli.config import Config

TOKEN_VARIABLE: Final = "CHRONOS_NAS_TOKEN"  # noqa: S105 - the name of a variable
AUTH_FILE: Final = "auth.json"

_SECRETS = (TOKEN_VARIABLE, "CHRONOS_FIRE_TOKEN")
_MAX_TOKEN = 16 * 1024
_MAX_AUTH_FILE = 4 * 2**20
_HINT = f"set {TOKEN_VARIABLE}, cron.chronos.token_file or cron.chronos.token_command"


class ExpiredLoginError(AuthError):
    """The Hermes login is over, until Hermes renews it."""


def renewal_command() -> tuple[str, ...] | None:
    """Return the command that has Hermes renew its login; None where Hermes is not installed beside us."""
    import sys
    from importlib.util import find_spec

    if find_spec("hermes_cli") is None:
        return None
    return (sys.executable, "-P", "-m", "chronos_cli.hermes.login")


class HomeTokens:
    """The token source of one home. Safe to share between threads."""

    def __init__(
        self,
        *,
        home: str,
        environ: Mapping[str, str],
        token_file: str = "",
        command: tuple[str, ...] = (),
        command_timeout_s: float = 30.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`home`: its absolute path. `environ`: searched for the token, and handed to the command without it."""
        self._home = home
        self._environ = environ
        self._file = token_file
        self._command = command
        self._command_timeout_s = command_timeout_s
        self._now = now
        self._guard = threading.Lock()
        self._token: str | None = None
        self._rejected: set[str] = set()

    @classmethod
    def of(cls, config: Config, environ: Mapping[str, str]) -> HomeTokens:
        """Return the token source that a configuration names."""
        return cls(
            home=config.home,
            environ=environ,
            token_file=config.token_file,
            command=config.token_command,
            command_timeout_s=config.token_command_timeout,
        )

    @property
    def origin(self) -> str:
        """Return where the token comes from, for people."""
        if self._environ.get(TOKEN_VARIABLE, "").strip():
            return TOKEN_VARIABLE
        if self._file:
            return f"token_file {self._file}"
        if self._command:
            return f"token_command {self._command[0]}"
        return self._auth_path

    def configured(self) -> bool:
        """Return whether there is a token source to ask. Reads files at most: no command is run, no network touched."""
        return self.problem() is None

    def problem(self) -> str | None:
        """Return why no token is to be had, as far as can be told without running a command; None where one is."""
        if not self.origin.startswith("token_command"):
            try:
                self._read()
            except ExpiredLoginError as error:
                return None if renewal_command() is not None else error.message
            except (AuthError, ConfigError) as error:  # the very answer that was asked for
                return error.message
        return None

    def get(self, *, within_s: float) -> str:
        """Return the token, read or made once per process.

        Raises AuthError (there is none, or it expired), ConfigError (what is there is no token), TemporaryError (the
        command took longer than `within_s` or its own timeout).
        """
        with self._guard:
            if self._token is None:
                self._token = self._fetch(within_s)
            return self._token

    def renew(self, rejected: str, *, within_s: float) -> str | None:
        """Return another token than `rejected`: run the command once more, read a file again. None if it is the same.

        Threads that were refused with the same token share one renewal. Raises as `get` does.
        """
        with self._guard:
            if self._token is not None and self._token != rejected:
                return self._token
            if rejected in self._rejected:
                return None
            self._rejected.add(rejected)
            token = self._fetch(within_s, rejected=rejected)
            if token == rejected:
                return None
            self._token = token
            return token

    @property
    def _auth_path(self) -> str:
        """Return the file of the login: the home's, or its root's where a profile has none, as hermes does."""
        own = os.path.join(self._home, AUTH_FILE)  # noqa: PTH118 - plain text in, plain text out
        folder, profiles = os.path.split(os.path.dirname(self._home))  # noqa: PTH120 - as above
        try:
            if profiles != PROFILES or _login_in(own) is not None:
                return own
        except (AuthError, ConfigError):
            return own  # the reader says what is wrong with it
        above = os.path.join(folder, AUTH_FILE)  # noqa: PTH118 - as above
        return above if os.path.lexists(above) else own

    def _fetch(self, within_s: float, *, rejected: str | None = None) -> str:
        command = self._command
        if not self.origin.startswith("token_command"):
            token = None
            try:
                token = self._read()
                if token != rejected or self.origin != self._auth_path:
                    return token
            except ExpiredLoginError:
                if renewal_command() is None:
                    raise
            renewal = renewal_command()  # NAS may know of an end that the login does not tell, or come to it first
            if renewal is None:
                return str(token)
            command = renewal
        from chronos_cli.nas_client.token_command import run_token_command

        text = run_token_command(
            command,
            home=self._home,
            environ={name: value for name, value in self._environ.items() if name not in _SECRETS},
            timeout_s=self._command_timeout_s,
            within_s=within_s,
        )
        return _check(text, f"token_command {command[0]}")

    def _read(self) -> str:
        variable = self._environ.get(TOKEN_VARIABLE, "").strip()
        if variable:
            return _check(variable, TOKEN_VARIABLE)
        if self._file:
            return _check(_read_text(self._file, _MAX_TOKEN), self.origin)
        return self._from_login()

    def _from_login(self) -> str:
        """Return the access token of `providers.nous` in auth.json, as hermes 0.19 keeps it.

        Hermes alone refreshes it.
        """
        path = self._auth_path
        if not os.path.lexists(path):
            raise AuthError("no NAS token is configured", hint=_HINT)
        state = _login_in(path)
        token = state.get("access_token") if state is not None else None
        if state is None or not isinstance(token, str) or not token.strip():
            raise AuthError(f"{path} holds no login to NAS", hint=f"log in with hermes, or {_HINT}")
        expires = _expiry(state.get("expires_at"), token)
        if expires is not None and expires <= self._now():
            ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
            raise ExpiredLoginError(f"the login in {path} expired at {ended}", hint=f"let hermes renew it, or {_HINT}")
        return _check(token, path)


def _login_in(path: str) -> dict[str, Any] | None:
    """Return what an auth.json holds of the login to NAS, None where it has none. Raises AuthError and ConfigError."""
    if not os.path.lexists(path):
        return None
    try:
        state = read_json(_read_text(path, _MAX_AUTH_FILE))
    except NotJsonError as error:
        raise AuthError(f"{path} cannot be used: {error}", hint=f"log in again, or {_HINT}") from None
    for name in ("providers", "nous"):
        state = state.get(name) if isinstance(state, dict) else None
    return state if isinstance(state, dict) else None


def _check(text: str, origin: str) -> str:
    """Return the token, if it can be one: visible ASCII in one word, so that it cannot break out of its header."""
    token = text.strip()
    if not token:
        raise AuthError(f"{origin} holds no token", hint=_HINT)
    if len(token) > _MAX_TOKEN or not all("!" <= letter <= "~" for letter in token):
        raise ConfigError(
            f"what {origin} holds is no bearer token", hint="it must be the token alone, one word in ASCII"
        )
    return token


def _read_text(path: str, limit: int) -> str:
    try:
        data = read_file(path, most=limit)
    except FileNotFoundError:
        raise AuthError(f"{path} does not exist", hint=_HINT) from None
    except OSError as error:
        if error.errno == EFBIG:
            raise ConfigError(f"{path} is larger than {limit} bytes", hint="it must hold the token alone") from error
        hint = f"make it readable for the user with id {os.geteuid()}"
        if error.errno in (EINVAL, ENXIO):  # a folder, a pipe, a socket
            hint = "put the file with the token there"
        raise AuthError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    return data.decode("utf-8-sig", errors="replace")


def _expiry(stated: object, token: str) -> float | None:
    """Return when a login ends, in seconds since the epoch; None where nothing says so, and then NAS is the judge.

    It ends as stated (ISO 8601, UTC where it says no offset), else as the token itself says.
    """
    from datetime import UTC, datetime

    if isinstance(stated, str) and stated.strip():
        try:
            moment = datetime.fromisoformat(stated.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):  # not a time: the token may say
            pass
    return _claimed_expiry(token)


def _claimed_expiry(token: str) -> float | None:
    """Return the `exp` of a JWT, read without verifying: it only spares a call that NAS would refuse."""
    import base64

    body = token.split(".")[1:2]
    try:
        claims = read_json(base64.urlsafe_b64decode(f"{body[0]}===")) if body else {}
    except ValueError:  # not a JWT
        return None
    expires = claims.get("exp") if isinstance(claims, dict) else None
    return float(expires) if isinstance(expires, int | float) and abs(expires) < 2**40 else None
