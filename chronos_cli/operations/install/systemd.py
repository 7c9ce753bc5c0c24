"""The tick as a timer of the user's own systemd: systemd.timer(5), systemd.service(5).

The tick returns once its runs have started, and they outlive it (KillMode=process): a long job delays no tick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chronos_cli.durations import format_duration
from chronos_cli.errors import UsageError
from chronos_cli.files import place_at, write_file
from chronos_cli.operations.install import InstallError, InstallResult, Piece, must_be_said, refuse, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.operations.install import Tick

_SERVICE = """\
[Unit]
Description=Run the chronos jobs of {home} that are due
Documentation=man:chronos-tick(1)

[Service]
Type=oneshot
{environment}
ExecStart={command}
SuccessExitStatus=10 75
KillMode=process
"""
_TIMER = """\
[Unit]
Description=Run chronos jobs that are due, every {every}

[Timer]
OnCalendar={calendar}
AccuracySec=1s
Persistent=true

[Install]
WantedBy=timers.target
"""
_LINGER = "user timers stop at logout unless `loginctl enable-linger` is said once"


def pieces(tick: Tick, environ: Mapping[str, str]) -> tuple[Piece, ...]:
    """Return the service and the timer. Raises UsageError."""
    variables = must_be_said(tick, "a unit", "a line break or a control character", str.isprintable)
    service = _SERVICE.format(
        home=_escaped(tick.home),
        environment="\n".join(f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(variables.items())),
        command=" ".join(_word(word) for word in (*tick.program, "tick", "--quiet", "--detach")),
    )
    timer = _TIMER.format(every=format_duration(tick.every_s), calendar=_calendar(tick.every_s))
    return (
        Piece(where=str(_folder(environ) / f"{tick.name}.service"), text=service),
        Piece(where=str(_folder(environ) / f"{tick.name}.timer"), text=timer),
    )


def install(tick: Tick, environ: Mapping[str, str]) -> InstallResult:
    """Write both files and start the timer; the same again changes nothing. Raises UsageError and InstallError."""
    changed = False
    for piece in pieces(tick, environ):
        changed |= _write(Path(piece.where), piece.text)
    timer = f"{tick.name}.timer"
    running = run(("systemctl", "--user", "is-active", "--quiet", timer), environ).returncode == 0
    if changed or not running:
        _control(("systemctl", "--user", "daemon-reload"), environ)
        _control(("systemctl", "--user", "enable", timer), environ)
        _control(("systemctl", "--user", "restart", timer), environ)
    return InstallResult(changed=changed or not running, where=str(_folder(environ) / timer), note=_LINGER)


def remove(tick: Tick, environ: Mapping[str, str]) -> InstallResult:
    """Stop the timer and take both files away. Raises InstallError."""
    files = [Path(_folder(environ), f"{tick.name}.{suffix}") for suffix in ("timer", "service")]
    there = [path for path in files if path.exists()]
    if there:
        _control(("systemctl", "--user", "disable", "--now", files[0].name), environ)
        for path in there:
            path.unlink()
        _control(("systemctl", "--user", "daemon-reload"), environ)
    return InstallResult(changed=bool(there), where=str(files[0]))


def _calendar(every_s: int) -> str:
    """Return the interval as systemd.time(7) writes calendar events, so that it meets the full minute.

    Raises UsageError.
    """
    for unit, size, form in ((1, 60, "*:*:0/{}"), (60, 60, "*:0/{}"), (3600, 24, "0/{}:00")):
        count = every_s // unit
        if every_s % unit == 0 and 0 < count < size and size % count == 0:
            return form.format(count)
    if every_s == 86_400:
        return "*-*-* 00:00:00"
    raise UsageError(
        f"a timer cannot meet the full minute 'every {format_duration(every_s)}'",
        hint="use seconds or minutes that divide 60 (10s, 1m, 5m), hours that divide the day, or 1d",
    )


def _folder(environ: Mapping[str, str]) -> Path:
    config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~", ".config").expanduser())
    return Path(config, "systemd", "user")


def _write(path: Path, text: str) -> bool:
    try:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return False
        with place_at(path, make=True) as place:
            write_file(place, text.encode())
    except OSError as error:
        raise InstallError(f"{path} cannot be written: {error.strerror}") from error
    return True


def _control(command: tuple[str, ...], environ: Mapping[str, str]) -> None:
    done = run(command, environ)
    if done.returncode != 0:
        raise refuse(command, done)


def _escaped(text: str) -> str:
    """Return a text with its specifiers escaped (systemd.unit(5))."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return a value in double quotes (systemd.syntax(7))."""
    return '"' + _escaped(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _word(text: str) -> str:
    """Return a word of a command line (systemd.service(5)): quoted where it must be, its dollar signs doubled."""
    plain = text.replace("$", "$$")
    safe = all(letter.isalnum() or letter in "/._-+:=@" for letter in plain) and plain
    return plain if safe else _quoted(plain)
