"""Finds the machine's own time zone by name, where the configuration names none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chronos_cli.config.values import read_zone, shown
from chronos_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def machine_zone(environ: Mapping[str, str], *, etc: str) -> tuple[str, str]:
    """Return the IANA name of the machine's zone, and where it was found; UTC where nothing names one.

    In this order: $TZ, where `<etc>/localtime` points, `<etc>/timezone`. Raises ConfigError for a $TZ that has no IANA
    name: jobs would run in another zone than everything else on the machine.
    """
    if "TZ" in environ:
        return _from_variable(environ["TZ"]), "machine ($TZ)"
    link = os.path.join(etc, "localtime")  # noqa: PTH118 - plain text in, plain text out
    name = _below_zoneinfo(os.path.realpath(link))
    if name and _is_zone(name):
        return name.replace("Etc/UTC", "UTC"), f"machine ({link})"
    listed = os.path.join(etc, "timezone")  # noqa: PTH118
    try:
        with open(listed, encoding="utf-8", errors="replace") as stream:  # noqa: PTH123
            name = stream.readline(200).strip()
    except OSError:  # many machines have no such file
        name = ""
    if name and _is_zone(name):
        return name, f"machine ({listed})"
    return "UTC", "machine (it names no zone)"


def _from_variable(text: str) -> str:
    name = text.strip().removeprefix(":")
    if not name:
        return "UTC"  # POSIX: an empty TZ is UTC
    name = _below_zoneinfo(name) or name
    if name.upper() in ("UTC0", "GMT0"):
        return "UTC"
    if _is_zone(name):
        return name
    hint = "set timezone in config.yaml or CHRONOS_TIMEZONE to a name such as Europe/Berlin"
    raise ConfigError(f"TZ is {shown(text)}, which is no IANA time zone", hint=hint)


def _below_zoneinfo(path: str) -> str:
    """Return the zone's name in a path such as /usr/share/zoneinfo/Europe/Berlin; empty for any other path."""
    _, folder, name = path.partition("/zoneinfo/")
    return name.removeprefix("posix/").removeprefix("right/") if folder else ""


def _is_zone(name: str) -> bool:
    try:
        read_zone(name)
    except ValueError:  # no such zone
        return False
    return True
