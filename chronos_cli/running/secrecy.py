"""Keep our secrets out of every process that a job can look into.

Dropping a variable from a child's environment is not enough: a job may read /proc/<its parent>/environ, which shows the
environment (and cmdline the arguments) its parent was started with. So those bytes are blanked in place. What the
process goes on to remember is kept from others by `private_memory`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

SECRET_NAMES: Final = ("CHRONOS_NAS_TOKEN", "CHRONOS_FIRE_TOKEN")
"""Variables of ours that hold a token; no process that we start ever has them."""

_TELLING: Final = 12
"""A secret of so many bytes is blanked inside longer texts too; one of a letter or two would spoil every variable."""

_ARG_START, _ENV_END = 45, 49  # fields 48 to 51 of proc(5) stat, counted from the third


def without_secrets(environment: Mapping[str, str], secret_names: Iterable[str] = ()) -> dict[str, str]:
    """Return a copy of an environment without our secrets and those in `secret_names`."""
    dropped = {*SECRET_NAMES, *secret_names}
    return {name: value for name, value in environment.items() if name not in dropped}


def take_secrets(environment: MutableMapping[str, str], secret_names: Iterable[str] = ()) -> dict[str, str]:
    """Take our secrets out of this process's own environment, and out of sight, and return them.

    `environment` is os.environ. On Linux the bytes that /proc/self/environ and cmdline show are overwritten too.
    """
    taken = {name: environment[name] for name in (*SECRET_NAMES, *secret_names) if name in environment}
    for name in taken:
        del environment[name]
    blank_in_proc(taken.values())
    return taken


def blank_in_proc(values: Iterable[str]) -> bool:
    """Overwrite secrets, wherever they stand in the arguments and environment this process was started with.

    Returns whether that was possible; it is not where there is no /proc, and there no process reads it through one.
    """
    wanted = sorted({os.fsencode(value) for value in values if value}, key=len, reverse=True)
    if not wanted:
        return True
    try:
        with open("/proc/self/stat", "rb") as file:
            text = file.read()
        fields = text[text.rfind(b")") + 2 :].split()
        start_arg, end_arg, start_env, end_env = (int(field) for field in fields[_ARG_START:_ENV_END])
        areas = ((start_arg, end_arg), (start_env, end_env))
        try:
            _blank_all(areas, wanted)
        except PermissionError:  # as it is for a process that is closed to others
            from chronos_cli.private_memory import shown_memory

            with shown_memory():
                _blank_all(areas, wanted)
    except (OSError, ValueError):
        return False  # no /proc, or a kernel that hides it: nothing to hide from either
    return True


def _blank_all(areas: Iterable[tuple[int, int]], wanted: list[bytes]) -> None:
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        for start, end in areas:
            _blank(memory.fileno(), start, end, wanted)


def _blank(memory: int, start: int, end: int, values: list[bytes]) -> None:
    if end <= start:
        return
    block = os.pread(memory, end - start, start)
    for value in values:
        at = block.find(value)
        while at >= 0:
            if len(value) >= _TELLING or _is_whole(block, at, at + len(value)):
                os.pwrite(memory, b"*" * len(value), start + at)
            at = block.find(value, at + len(value))


def _is_whole(block: bytes, start: int, end: int) -> bool:
    """Return whether this is an argument, or the value of a variable or an option, from its first byte to its last."""
    return block[end : end + 1] in {b"", b"\0"} and block[max(start - 1, 0) : start] in {b"", b"\0", b"="}
