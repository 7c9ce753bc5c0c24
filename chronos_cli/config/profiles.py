"""The profiles of a home: the homes in its folder `profiles`, found as Hermes finds them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from chronos_cli.config.settings import PROFILES

if TYPE_CHECKING:
    from chronos_cli.config.settings import Config

ROOT_PROFILE: Final = "default"
"""The name of the home that the others are profiles of."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def served_profiles(config: Config) -> dict[str, str]:
    """Return the homes that a callback of this home serves beside it, by name: those the setting names, else all."""
    return dict(config.profiles) if config.profiles else profiles_in(config.home)


def unserved_profiles(config: Config) -> dict[str, str]:
    """Return the other homes of the same fleet, by name: nothing here answers for their jobs."""
    found = profiles_in(config.home)
    parent = os.path.dirname(config.home)  # noqa: PTH120 - plain text in, plain text out
    if os.path.basename(parent) == PROFILES:  # noqa: PTH119
        root = os.path.dirname(parent)  # noqa: PTH120
        found |= {ROOT_PROFILE: root, **profiles_in(root)}
    served = {os.path.realpath(path) for path in (config.home, *served_profiles(config).values())}
    return {name: path for name, path in sorted(found.items()) if os.path.realpath(path) not in served}


def profiles_in(home: str) -> dict[str, str]:
    """Return the homes in a home's folder of profiles, by name, sorted; none where there is no such folder."""
    try:
        with os.scandir(os.path.join(home, PROFILES)) as entries:  # noqa: PTH118
            names = [entry.name for entry in entries if _NAME.fullmatch(entry.name) and entry.is_dir()]
    except OSError:
        return {}
    return {name: os.path.join(home, PROFILES, name) for name in sorted(names) if name != ROOT_PROFILE}  # noqa: PTH118
