"""A tick that something else runs: what cron, systemd or Kubernetes must be told, and telling them.

Printing is the default everywhere; installing writes only what bears this home's mark, and removing takes just that.
"""

from __future__ import annotations

import subprocess
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from zlib import crc32

from chronos_cli.durations import format_duration
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400
_TIMEOUT_S: Final = 30.0


class InstallKind(StrEnum):
    """Program that runs the tick."""

    CRONTAB = "crontab"
    SYSTEMD = "systemd"
    KUBERNETES = "kubernetes"


class InstallError(ChronosError):
    """The tick could not be installed."""

    code = "install"
    default_hint = "install by hand what the same command prints without --yes"


@frozen
class Tick:
    """The tick of one home.

    `program`: the words that start chronos. `variables`: settings that came from the environment, which what runs the
    tick does not have. `default_home`: whether it is the one that needs no naming.
    """

    home: str
    program: tuple[str, ...]
    every_s: int
    variables: Mapping[str, str]
    default_home: bool = False
    image: str = ""

    @property
    def name(self) -> str:
        """Return what the unit is called: the same for the same home, another for another."""
        return "chronos-tick" if self.default_home else f"chronos-tick-{crc32(self.home.encode()):08x}"


@frozen
class Piece:
    """One thing to be written: a line, a file, a manifest. `where`: the place it is for."""

    where: str
    text: str


@frozen
class InstallResult:
    """Outcome of installing or removing."""

    changed: bool
    where: str
    note: str = ""


def pieces(kind: InstallKind, tick: Tick, environ: Mapping[str, str]) -> tuple[Piece, ...]:
    """Return what is to be written. Raises UsageError for an interval that this kind cannot keep."""
    found: tuple[Piece, ...] = _module(kind).pieces(tick, environ)
    return found


def install(kind: InstallKind, tick: Tick, environ: Mapping[str, str]) -> InstallResult:
    """Write it, in place of what this home had there before. Raises UsageError and InstallError."""
    done: InstallResult = _module(kind).install(tick, environ)
    return done


def remove(kind: InstallKind, tick: Tick, environ: Mapping[str, str]) -> InstallResult:
    """Take away what this home has there, if anything. Raises InstallError."""
    try:
        done: InstallResult = _module(kind).remove(tick, environ)
    except InstallError as error:
        hint = f"take out by hand what `chronos tick --install {kind.value}` prints"
        error.hint = hint
        raise
    return done


def must_be_said(tick: Tick, where: str, cannot: str, is_fit: Callable[[str], bool]) -> dict[str, str]:
    """Return the variables of a tick, its home among them. Raises UsageError for what `where` cannot hold."""
    variables = {"CHRONOS_HOME": tick.home, **tick.variables}
    for name, value in (*sorted(variables.items()), *(("", word) for word in tick.program)):
        if not is_fit(value):
            hint = f"give {name} a value without one" if name else "install chronos where its path has none"
            raise UsageError(f"{where} cannot hold {cannot}", hint="rename the home" if value == tick.home else hint)
    return variables


def _module(kind: InstallKind) -> ModuleType:
    from importlib import import_module

    return import_module(f"chronos_cli.operations.install.{kind.value}")


def cron_fields(every_s: int) -> str:
    """Return the interval as the five fields of crontab(5). Raises UsageError where they cannot say it."""
    if every_s == _DAY:
        return "0 0 * * *"
    if every_s % _HOUR == 0 and _DAY % every_s == 0:
        return "0 * * * *" if every_s == _HOUR else f"0 */{every_s // _HOUR} * * *"
    if every_s % _MINUTE == 0 and _HOUR % every_s == 0:
        return "* * * * *" if every_s == _MINUTE else f"*/{every_s // _MINUTE} * * * *"
    hint = "use whole minutes that divide the hour (1m, 5m, 15m), whole hours that divide the day, or 1d"
    if every_s < _MINUTE:
        hint = "cron has no seconds: use at least 1m, or --install systemd"
    raise UsageError(f"a crontab cannot say 'every {format_duration(every_s)}'", hint=hint)


def run(
    command: Sequence[str], environ: Mapping[str, str], *, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of the machine's own programs, in the C locale. Raises InstallError where it is not there, or hangs.

    Texts stand for bytes, each kept as it is: a carriage return, and what is no UTF-8 (as surrogates).
    """
    try:
        done = subprocess.run(
            command,
            input=None if text is None else text.encode("utf-8", "surrogateescape"),
            stdin=subprocess.DEVNULL if text is None else None,
            env={**environ, "LC_ALL": "C"},
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise InstallError(f"there is no program {command[0]} here") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{command[0]} could not be run: {type(error).__name__}") from error
    out, err = (data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def refuse(command: Sequence[str], done: subprocess.CompletedProcess[str]) -> InstallError:
    """Return the error for a program that failed, in its own words."""
    said = " ".join((done.stderr or done.stdout).split())
    return InstallError(f"`{' '.join(command)}` exited with {done.returncode}: {said or 'it said nothing'}")
