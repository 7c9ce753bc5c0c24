"""Proof that a machine was rebooted since a run was begun: then the run is over, also where its lock says otherwise.

A boot id that differs proves it only where nothing but this machine can have run it: outside containers, under the
same machine id and host name, with the home on a disk of this machine that is neither removable nor networked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.running.machine import machine_identity

if TYPE_CHECKING:
    from collections.abc import Mapping

_MACHINE_ID: Final = "/etc/machine-id"
_FIRST_NAMESPACES: Final = {"pid": 0xEFFFFFFC, "user": 0xEFFFFFFD, "uts": 0xEFFFFFFE}
"""The numbers of the kernel's own namespaces (include/linux/proc_ns.h): a container has at least one of others."""
_ELSEWHERE: Final = ("/usb", "/session", "nvme-fabrics", "/nbd", "/rbd", "/drbd", "/mmcblk", "/zram", "/ram")
"""Parts of the path of a device that can be taken out, or that lies across a network."""
_MOST_LAYERS: Final = 8


def bare_machine() -> str:
    """Return this machine's id, or the empty text inside a container and where it cannot be told."""
    try:
        for name, number in _FIRST_NAMESPACES.items():
            if os.stat(f"/proc/self/ns/{name}").st_ino != number:
                return ""
        return _text(_MACHINE_ID)
    except OSError:
        return ""


def rebooted_since(owner: Mapping[str, Any], home: str) -> bool:
    """Return whether this machine was certainly rebooted since a run's owner was recorded; False where in doubt."""
    then, here = owner.get("machine"), machine_identity()
    if not isinstance(then, dict) or not (then.get("boot") and here["boot"]) or then["boot"] == here["boot"]:
        return False
    own = bare_machine()
    return bool(own) and owner.get("bare") == own and then.get("host") == here["host"] and on_fixed_disk(home)


def on_fixed_disk(folder: str) -> bool:
    """Return whether a folder lies on a disk that is certainly this machine's own."""
    try:
        device = os.stat(folder).st_dev
        return _is_fixed(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}", _MOST_LAYERS)
    except OSError:
        return False


def _is_fixed(device: str, layers: int) -> bool:
    path = os.path.realpath(device)
    if layers == 0 or not os.path.isdir(path) or any(part in path for part in _ELSEWHERE):
        return False
    if os.path.exists(f"{path}/partition"):
        return _is_fixed(os.path.dirname(path), layers - 1)
    if os.path.exists(f"{path}/loop/backing_file"):
        return on_fixed_disk(_text(f"{path}/loop/backing_file"))
    below = os.listdir(f"{path}/slaves") if os.path.isdir(f"{path}/slaves") else []
    if below:
        return all(_is_fixed(f"{path}/slaves/{name}", layers - 1) for name in below)
    return "/virtual/" not in path and _text(f"{path}/removable") == "0"


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read().strip()
