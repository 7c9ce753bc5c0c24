"""Checks, which make an examination: each with its level, what was found, and what mends it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from chronos_cli.errors import ChronosError


class Level(StrEnum):
    """Outcome of a check. WARN is worth a look; FAIL means that jobs do not run, or are not safe."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@frozen
class Check:
    """One check.

    `name`: stable, for scripts. `code`: which condition it is, where it is not OK. `mend`: the command that mends it,
    or what to do where no command does.
    """

    name: str
    level: Level
    text: str
    mend: str | None = None
    code: str | None = None

    def as_json(self, number: int) -> dict[str, object]:
        """Return it as `doctor --json` says it."""
        return {
            "number": number,
            "name": self.name,
            "level": self.level.value,
            "text": self.text,
            "code": self.code,
            "mend": self.mend,
        }


def ok(name: str, text: str) -> Check:
    """Return a check that found nothing wrong."""
    return Check(name=name, level=Level.OK, text=text)


def warn(name: str, text: str, *, code: str, mend: str) -> Check:
    """Return a check that found something worth a look."""
    return Check(name=name, level=Level.WARN, text=text, code=code, mend=mend)


def fail(name: str, text: str, *, code: str, mend: str) -> Check:
    """Return a check that found something broken."""
    return Check(name=name, level=Level.FAIL, text=text, code=code, mend=mend)


def failed_with(name: str, error: ChronosError, *, mend: str | None = None) -> Check:
    """Return a check that met an error.

    Its own hint mends it, less what sends to the doctor, unless better is known.
    """
    own = "; ".join(part for part in error.hint.split("; ") if not part.startswith("`chronos doctor`"))
    return Check(name=name, level=Level.FAIL, text=error.message, code=error.code, mend=mend or own or error.hint)
