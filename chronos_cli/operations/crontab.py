"""crontab(5) as jobs: each line becomes a job that runs the same shell line at the same times.

The dialect of Debian's cron: five fields or a nickname, `NAME = value` lines, `CRON_TZ`, and `%` in a command, which
starts its standard input. `@reboot` has no counterpart here and is named as left out.
"""

from __future__ import annotations

import re
import shlex
import zlib
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.edits import Draft
from chronos_cli.core.instant import named_zone
from chronos_cli.core.schedule import parse_schedule
from chronos_cli.errors import ScheduleError, UsageError
from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.core.job import Home

_SETTING = re.compile(r"\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*?)\s*\Z")
_NOT_PASSED_ON: Final = frozenset({"SHELL", "MAILTO", "MAILFROM", "CRON_TZ", "RANDOM_DELAY", "CONTENT_TYPE"})
_NAME_LENGTH: Final = 48
_END: Final = "CHRONOS_STDIN"


@frozen
class Crontab:
    """What a crontab came to: drafts of jobs, and the lines left out with the reason."""

    drafts: tuple[Draft, ...]
    left_out: tuple[str, ...]


def read_crontab(text: str, home: Home, *, now: datetime) -> Crontab:
    """Read a user's crontab (no user column). Raises UsageError naming the first line that cannot be understood."""
    settings: dict[str, str] = {}
    drafts: dict[str, Draft] = {}
    left_out = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        setting = _SETTING.match(line)
        if setting is not None:
            settings[setting["name"]] = _unquoted(setting["value"])
            continue
        try:
            schedule, command = _split(line)
            if schedule.lower() == "@reboot":
                left_out.append(f"line {number}: @reboot has no counterpart: {command}")
                continue
            draft = _draft(schedule, command, settings, home, now=now)
        except UsageError as error:
            raise UsageError(f"line {number} of the crontab: {error.message}", hint=error.hint) from error
        drafts[draft.job_id] = draft
    return Crontab(drafts=tuple(drafts.values()), left_out=tuple(left_out))


def _split(line: str) -> tuple[str, str]:
    count = 1 if line.startswith("@") else 5
    parts = line.split(None, count)
    if len(parts) != count + 1:
        raise ScheduleError(f"'{line}' has no command after its times", hint="put that line right")
    return " ".join(parts[:count]), parts[count]


def _draft(schedule: str, command: str, settings: dict[str, str], home: Home, *, now: datetime) -> Draft:
    zone_name = settings.get("CRON_TZ") or settings.get("TZ") or home.zone_name
    zone = named_zone(zone_name)
    shell_line = _with_settings(_with_stdin(command), settings)
    shell = settings.get("SHELL", "")
    plain = shell in ("", "/bin/sh")
    action: dict[str, Any] = {"shell": shell_line} if plain else {"command": [shell, "-c", shell_line]}
    # The same line is the same job, so that an import can be repeated.
    job_id = f"cron-{zlib.crc32(f'{zone_name} {schedule} {shell} {shell_line}'.encode()):08x}"
    name = " ".join(command.split())
    return Draft(
        job_id=job_id,
        name=name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 3]}...",
        schedule=parse_schedule(schedule, now=now, zone=zone),
        zone=zone,
        zone_name=zone_name,
        policy=home.policy,
        action=action,
    )


def _with_settings(command: str, settings: dict[str, str]) -> str:
    passed = [f"{name}={shlex.quote(value)}" for name, value in settings.items() if name not in _NOT_PASSED_ON]
    return f"export {' '.join(passed)}; {command}" if passed else command


def _with_stdin(command: str) -> str:
    r"""The command with what follows its first bare `%` as standard input; `\%` is a percent sign."""
    parts = [part.replace("\\%", "%") for part in re.split(r"(?<!\\)%", command)]
    if len(parts) == 1:
        return parts[0]
    lines = "\n".join(parts[1:])
    return f"{{ {parts[0].strip()}\n}} <<'{_END}'\n{lines}\n{_END}"


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1]
    return text
