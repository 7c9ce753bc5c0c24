"""A manual run that is given variables or a standard input of its own: `chronos run --env` and `--input`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.job import ours_of
from chronos_cli.core.variables import read_variables
from chronos_cli.errors import UsageError
from chronos_cli.frozen import replace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.operations.context import Context
    from chronos_cli.operations.firing.launchers import Launcher, Running
    from chronos_cli.operations.firing.run import RunTicket

_MOST_INPUT: Final = 1 << 20


class GivenLauncher:
    """Starts the run that was given something with it, and others as they are."""

    def __init__(self, launcher: Launcher, record: Mapping[str, Any]) -> None:
        self._launcher, self._record = launcher, record

    def launch(self, ctx: Context, ticket: RunTicket) -> Running | None:
        """Start a run."""
        return self._launcher.launch(ctx, replace(ticket, record=self._record) if ticket.entry.own else ticket)


def with_given(record: Mapping[str, Any], env: list[str] | None, given: str | None) -> dict[str, Any]:
    """Return a record with what one run is given. Raises UsageError."""
    ours = ours_of(record)
    if env:
        ours["env"] = {**(ours.get("env") or {}), **read_variables(env)}
    if given is not None:
        action = ours.get("action")
        if not isinstance(action, dict) or not (action.get("command") or action.get("shell")):
            raise UsageError(
                "--input needs a job with a command or a shell line", hint="`chronos job show` says what it is"
            )
        ours["action"] = {**action, "stdin": _read(given)}
    return {**record, "chronos": ours}


def _read(place: str) -> str:
    import sys

    try:
        if place == "-":
            data = sys.stdin.buffer.read(_MOST_INPUT + 1)
        else:
            with open(place, "rb") as file:  # noqa: PTH123 - pathlib is slower
                data = file.read(_MOST_INPUT + 1)
        text = data.decode()
    except OSError as error:
        raise UsageError(
            f"{place} cannot be read: {error.strerror}", hint="name a file that can be read with --input"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{place} is no UTF-8 text", hint="have the job read the file itself") from error
    if len(data) > _MOST_INPUT:
        raise UsageError(f"{place} is longer than 1 MiB", hint="have the job read the file itself")
    return text
