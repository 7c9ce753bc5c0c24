"""The one family of errors, and the one table of exit codes.

An error says what failed and why in its message, and what to do next in its hint. Its class knows the exit code of
the command, the HTTP status of the callback and whether trying again can help. Exactly one place per door (command
line, callback) catches `ChronosError`; nothing in between turns one into silence.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Final

from chronos_cli.streams import one_line

LONGEST_MESSAGE: Final = 1_000
"""So many characters of a message, and of its hint, stand on its line; a document has it all."""


class ExitCode(IntEnum):
    """The meanings of a command's exit status. The same table stands in docs/exit-codes.md."""

    OK = 0
    FAULT = 1
    USAGE = 2
    PENDING = 3
    REFUSED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    JOB_FAILED = 10
    NEEDS_A_LOOK = 11
    TEMPORARY = 75
    INTERRUPTED = 130


class ChronosError(Exception):
    """A fault of chronos itself."""

    code: ClassVar[str] = "fault"
    exit_code: ClassVar[ExitCode] = ExitCode.FAULT
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = "run it again with --debug and report what it prints"

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        doc = (type(self).__doc__ or "").strip().splitlines()
        self.message = message or (doc[0].rstrip(".") if doc else type(self).__name__)
        self.hint = self.default_hint if hint is None else hint
        super().__init__(self.message)

    def line(self) -> str:
        """Return the error as its one line for people."""
        message = one_line(self.message, LONGEST_MESSAGE).strip()
        return f"{message}: {one_line(self.hint, LONGEST_MESSAGE)}" if self.hint else message

    def as_json(self) -> dict[str, object]:
        """Return the `error` member of every failure document."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "retryable": self.retryable}


def machine_refused(error: OSError) -> ChronosError:
    """Return what the machine refused a command, as an error of ours."""
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    limits = "try again later; `ulimit -a` shows the limits of this user"
    hint = "see that the file can be used, and try again" if error.filename else limits
    return ChronosError(f"the machine refused: {what}", hint=hint)


class UsageError(ChronosError):
    """The command cannot be carried out as it was given."""

    code = "usage"
    exit_code = ExitCode.USAGE
    http_status = 400


class ConfigError(UsageError):
    """The configuration cannot be used."""

    code = "config"
    http_status = 503
    default_hint = "put that setting right"


class ForeignHomeError(ConfigError):
    """The home belongs to another user."""

    code = "foreign_home"
    exit_code = ExitCode.REFUSED


class ScheduleError(UsageError):
    """The schedule cannot be used."""

    code = "schedule"
    default_hint = "try `chronos next 'every 10m'`"


class AuthError(ChronosError):
    """NAS did not accept who we are."""

    code = "not_authenticated"
    exit_code = ExitCode.REFUSED
    http_status = 401
    default_hint = "set CHRONOS_NAS_TOKEN or cron.chronos.token_file to a valid token"


class RefusedError(AuthError):
    """NAS refuses this agent for good."""

    code = "refused"
    http_status = 403
    default_hint = "ask who runs NAS to provision this agent, then run `chronos reconcile`"


class TokenError(ChronosError):
    """The fire token is refused."""

    code = "token_refused"
    exit_code = ExitCode.REFUSED
    http_status = 401
    default_hint = "`chronos doctor` compares the audience and issuer expected here with those NAS mints"


class NotFoundError(ChronosError):
    """There is no such job."""

    code = "not_found"
    exit_code = ExitCode.NOT_FOUND
    http_status = 404
    default_hint = "see `chronos job list`"


class ConflictError(ChronosError):
    """The request is ambiguous or conflicts with what is stored."""

    code = "conflict"
    exit_code = ExitCode.CONFLICT
    http_status = 409
    default_hint = "name one job by its full id"


class JobFailedError(ChronosError):
    """The job ran and failed."""

    code = "job_failed"
    exit_code = ExitCode.JOB_FAILED
    http_status = 200


class NeedsALookError(ChronosError):
    """A job needs a look."""

    code = "needs_a_look"
    exit_code = ExitCode.NEEDS_A_LOOK
    http_status = 200
    default_hint = "see `chronos status`"


class StoreError(ChronosError):
    """The job store cannot be read or written."""

    code = "store"
    exit_code = ExitCode.FAULT
    http_status = 503
    default_hint = "nothing was changed; put the file right"


class DocumentError(StoreError):
    """One document of the store cannot be used; the others are as good as ever.

    `key`: which.
    """

    code = "document"

    def __init__(self, message: str = "", *, hint: str | None = None, key: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key


class UnreadableError(DocumentError):
    """A document holds something that does not belong there.

    `data` and `version`: its bytes, and the version at which they were read. `why`: what is wrong with them.
    """

    code = "unreadable"

    def __init__(
        self, why: str = "", *, hint: str | None = None, key: str = "", data: bytes = b"", version: str = ""
    ) -> None:
        super().__init__(f"{key} cannot be read: {why}", hint=hint, key=key)
        self.why = why
        self.data = data
        self.version = version


class TemporaryError(ChronosError):
    """This cannot be done right now.

    `retry_after_s`: when the other side asked to be tried again, in seconds from now.
    """

    code = "temporary"
    exit_code = ExitCode.TEMPORARY
    http_status = 503
    retryable = True
    default_hint = "try again later"

    def __init__(self, message: str = "", *, hint: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class LockTimeoutError(TemporaryError):
    """The store stayed locked by another process."""

    code = "locked"
    default_hint = "try again, or raise CHRONOS_LOCK_TIMEOUT (seconds)"


class NasRejectedError(ChronosError):
    """NAS will not take this request as it is.

    `status`: the HTTP status, 0 for none. `reason`: NAS's own `error` code, empty for none. `generation`: the one that
    NAS holds, where it refuses an older one and names it.
    """

    code = "nas_rejected"
    exit_code = ExitCode.USAGE
    http_status = 503
    default_hint = "check portal_url and callback_url of cron.chronos; `chronos doctor` shows the hop"

    def __init__(
        self, message: str = "", *, hint: str | None = None, status: int = 0, reason: str = "", generation: int = 0
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.generation = generation


class NasUnavailableError(TemporaryError):
    """NAS could not be reached or did not answer properly."""

    code = "nas_unavailable"
    default_hint = "try again later; `chronos reconcile` arms what is missing"


class KeysUnavailableError(TemporaryError):
    """The keys that verify fire tokens could not be had."""

    code = "keys_unavailable"
    default_hint = "check nas_jwks_url and the network; `chronos doctor` shows the hop"


class StandbyError(TemporaryError):
    """This machine is on standby."""

    code = "standby"
    default_hint = "do it on the active machine, or make this one active: take away cron.standby, CHRONOS_STANDBY"


class UnservedError(TemporaryError):
    """The job is one of a home of the same fleet that nothing here answers for."""

    code = "unserved_profile"
    default_hint = "name the profile under profiles in config.yaml, or serve its own callback"


class HeldError(TemporaryError):
    """An emergency stop holds all jobs."""

    code = "held"
    default_hint = "lift it with `chronos hold --off`"
