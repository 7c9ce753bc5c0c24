"""Loads a home's configuration: from flags, variables, config.yaml and defaults, in this order."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.config import values
from chronos_cli.config.settings import CONFIG_FILE, Config
from chronos_cli.errors import ConfigError
from chronos_cli.frozen import declared
from chronos_cli.owners import require_own

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME_VARIABLE: Final = "CHRONOS_HOME"
DEFAULT_HOME: Final = "~/.chronos"

OWN_SECTIONS: Final = ("runners", "trust", "callback", "history", "policy")
"""Sections in which an unknown key is an error. A Hermes home has many more keys elsewhere, none of our business."""

SHARED_SECTION: Final = "cron.chronos"
"""The section that Hermes reads too and that a control plane may write: keys unknown here are warned of, and left."""


def find_home(flag: str | None, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the absolute path of the home, and where it was named."""
    named = ((flag, "flag"), (environ.get(HOME_VARIABLE), HOME_VARIABLE), (DEFAULT_HOME, "default"))
    chosen, origin = next((text, origin) for text, origin in named if text)
    return os.path.abspath(os.path.expanduser(chosen)), origin  # noqa: PTH100, PTH111 - as above


def load_config(
    *,
    environ: Mapping[str, str],
    home: str | None = None,
    flags: Mapping[str, object] | None = None,
    etc: str = "/etc",
) -> Config:
    """Return the configuration of a home.

    `home`: what `--home` says. `flags`: other options by attribute name, None where not given. `etc`: where the
    machine keeps its time zone. Raises ConfigError naming the place, the key and what is allowed there, and
    ForeignHomeError where the home, its configuration or its store is another user's.
    """
    folder, home_origin = find_home(home, environ)
    path = os.path.join(folder, CONFIG_FILE)  # noqa: PTH118
    document: dict[str, object] = {}
    require_own(folder, (folder, path), environ)
    if os.path.lexists(path):
        from chronos_cli.config.file import read_config

        document = read_config(path)
    found: dict[str, Any] = {}
    origins = {"home": home_origin}
    for name, item in declared(Config).items():
        if not item.metadata:
            continue
        raw, origin, in_file = _pick((flags or {}).get(name), item.metadata, environ, document, path)
        if origin:
            found[name] = _read(raw, item.metadata, origin, environ if in_file else {})
            origins[name] = origin
    _refuse_unknown(document, path)
    warnings = tuple(
        f"{path}: {SHARED_SECTION}.{key} is not a setting: {f'did you mean {near}?' if near else 'it is left alone'}"
        for key, near, _ in _unknown_in(document, SHARED_SECTION, path)
    )
    if not found.get("timezone"):
        from chronos_cli.config.zone import machine_zone

        found["timezone"], origins["timezone"] = machine_zone(environ, etc=etc)
    if found.get("token_file"):
        base = folder if origins["token_file"].startswith(path) else ""
        found["token_file"] = _absolute(found["token_file"], base)
    if found.get("profiles"):
        base = folder if origins["profiles"].startswith(path) else ""
        found["profiles"] = tuple((name, _absolute(text, base)) for name, text in found["profiles"])
    store = found.get("store") or folder
    if "://" not in store:
        jobs = os.path.join(store, "cron", "jobs.json")  # noqa: PTH118
        named = folder if store == folder else store
        beside = os.path.join(store, "cron", "runtime.db")  # noqa: PTH118 - a newer Hermes keeps half of its jobs there
        require_own(named, (store, os.path.dirname(jobs), jobs, beside), environ)  # noqa: PTH120
    return Config(home=folder, origins=origins, warnings=warnings, **found)


def _pick(
    flag: object, metadata: Mapping[str, Any], environ: Mapping[str, str], document: dict[str, object], path: str
) -> tuple[object, str, bool]:
    """Return the raw value of a setting and its origin ("" when it was given nowhere), and whether it is the file's."""
    if flag is not None:
        return flag, "flag", False
    if environ.get(metadata["env"], "").strip():
        return environ[metadata["env"]], metadata["env"], False
    value = _section(document, metadata["key"], path)
    given = value is not None and value not in ("", [], {})
    return (value, f"{path}: {metadata['key']}", True) if given else (None, "", False)


def _section(document: dict[str, object], key: str, path: str) -> object:
    """Return what stands in the document at a dotted key; None when nothing does."""
    value: object = document
    done = ""
    for part in key.split("."):
        if value is None or value == "":
            return None
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {done} must hold `key: value` lines, not {values.shown(value)}")
        value = value.get(part)
        done = f"{done}.{part}" if done else part
    return value


def _read(raw: object, metadata: Mapping[str, Any], origin: str, environ: Mapping[str, str]) -> object:
    kind: values.ValueKind = metadata["kind"]
    if kind.expands and isinstance(raw, str) and "${" in raw:
        # As hermes does for its config; a name that is not set stays as it is, and fails its check in plain sight.
        raw = re.sub(r"\$\{([^}]+)\}", lambda match: environ.get(match[1], match[0]), raw)
    try:
        return kind.read(raw)
    except ValueError as error:
        place = (
            f"--{metadata['env'].removeprefix('CHRONOS_').lower().replace('_', '-')}" if origin == "flag" else origin
        )
        raise ConfigError(f"{place} {error}") from error


def _refuse_unknown(document: dict[str, object], path: str) -> None:
    for section in OWN_SECTIONS:
        for key, near, allowed in _unknown_in(document, section, path):
            hint = f"did you mean {near}?" if near else f"it may be one of {', '.join(allowed)}"
            raise ConfigError(f"{path}: {section}.{key} is not a setting", hint=hint)


def _unknown_in(document: dict[str, object], section: str, path: str) -> list[tuple[str, str, list[str]]]:
    """Return each key of a section that is no setting, the setting that is spelled nearly so ("": none), and all."""
    held = _section(document, section, path)
    if held is None or held == "":
        return []
    if not isinstance(held, dict):
        raise ConfigError(f"{path}: {section} must hold `key: value` lines, not {values.shown(held)}")
    known = [item.metadata["key"] for item in declared(Config).values() if item.metadata]
    allowed = [key.removeprefix(f"{section}.") for key in known if key.startswith(f"{section}.")]
    return [(str(key), _nearest(str(key), allowed), allowed) for key in held if key not in allowed]


def _nearest(key: str, allowed: list[str]) -> str:
    from difflib import get_close_matches

    return next(iter(get_close_matches(key, allowed, n=1)), "")


def _absolute(text: str, base: str) -> str:
    return os.path.abspath(os.path.join(base, os.path.expanduser(text)))  # noqa: PTH100, PTH111, PTH118
