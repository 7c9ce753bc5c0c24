"""The policy of a job: what a person decides about its runs, as its record has it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, TypeVar

from chronos_cli.durations import MAX_SECONDS, parse_duration
from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen, names

DAY_S: Final = 86_400
SHOWN: Final = 100
"""The most that is quoted of an unreadable value."""

HINT: Final = "put that record right"

_Choice = TypeVar("_Choice", bound=StrEnum)
_Default = TypeVar("_Default", "tuple[str, ...]", "tuple[str, ...] | None")


class Overlap(StrEnum):
    """The treatment of an occurrence that comes due while the last run still goes."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"
    REPLACE = "replace"


class OnCrash(StrEnum):
    """The choice to run again, or not, a run whose owner died."""

    SKIP = "skip"
    RERUN = "rerun"


@frozen
class Policy:
    """The options of a job; durations in seconds."""

    overlap: Overlap = Overlap.SKIP
    grace: int = DAY_S
    timeout: int = 3_600
    retries: int = 0
    on_crash: OnCrash = OnCrash.SKIP
    jitter: int = 0
    tolerance: int = 0
    pause_after_failures: int = 0
    on_failure: tuple[str, ...] = ()
    on_failure_again: int = 3_600
    inherit_env: tuple[str, ...] | None = None
    """Variables of whoever starts a run that it gets besides its own, `*` at an end for all that begin so. None: not
    decided, and for one more release it gets them all."""

    @classmethod
    def from_record(cls, value: object, defaults: Policy) -> Policy:
        """Read a stored policy over `defaults`. Raises UsageError for a value that cannot be meant."""
        if value is None:
            return defaults
        if not isinstance(value, dict):
            raise UsageError("the policy is not an object", hint=HINT)
        try:
            return cls(
                overlap=_one_of(Overlap, value, "overlap", defaults.overlap),
                grace=_seconds(value.get("grace"), defaults.grace),
                timeout=max(1, _seconds(value.get("timeout"), defaults.timeout)),
                retries=_seconds(value.get("retries"), defaults.retries),
                on_crash=_one_of(OnCrash, value, "on_crash", defaults.on_crash),
                jitter=_seconds(value.get("jitter"), defaults.jitter),
                tolerance=_seconds(value.get("tolerance"), defaults.tolerance),
                pause_after_failures=_seconds(value.get("pause_after_failures"), defaults.pause_after_failures),
                on_failure=_words(value.get("on_failure"), defaults.on_failure),
                on_failure_again=_seconds(value.get("on_failure_again"), defaults.on_failure_again),
                inherit_env=_words(value.get("inherit_env"), defaults.inherit_env),
            )
        except ValueError as error:
            raise UsageError(f"the policy cannot be read: {str(error)[:SHOWN]}", hint=HINT) from error

    def to_record(self, defaults: Policy) -> dict[str, Any]:
        """Return what differs from the defaults, as it is stored."""
        own = {name: getattr(self, name) for name in names(self)}
        changed = {name: value for name, value in own.items() if value != getattr(defaults, name)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


def _seconds(value: object, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, str):
        return parse_duration(value, bare=True)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r:.{SHOWN}} is not a number")  # noqa: TRY004 - one family for what cannot be meant
    try:
        number = int(value)
    except OverflowError as error:
        raise ValueError("an endless number") from error
    if number < 0:
        raise ValueError("a negative number")
    if number > MAX_SECONDS:
        raise ValueError(f"a number above {MAX_SECONDS}")
    return number


def _one_of(kind: type[_Choice], policy: dict[str, Any], name: str, default: _Choice) -> _Choice:
    try:
        return kind(policy.get(name) or default)
    except ValueError:
        raise ValueError(f"{name} is '{policy[name]!s:.{SHOWN}}', not one of {', '.join(kind)}") from None


def _words(value: object, default: _Default) -> tuple[str, ...] | _Default:
    """Return a list of words, as a program with its arguments.

    An empty list means none, also where the home has some.
    """
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{value!r:.{SHOWN}} is not a list of texts")
    return tuple(value)
