"""Make a copy of a process the runner that `start_runner` would have started."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chronos_cli.running.descriptors import close_above, high
from chronos_cli.running.end_channel import END_FD
from chronos_cli.running.runner_channel import REPORT_FD, SECRETS_FD

if TYPE_CHECKING:
    from collections.abc import Mapping


def be_runner(descriptors: tuple[int, ...], environment: Mapping[str, str], wrapper: tuple[str, ...] = ()) -> int:
    """Take a session, descriptors and variables of its own, and run the claim; returns the run's exit code.

    `descriptors`: of the claim, the secrets, the pipe for messages, and, if there is one, END_FD's.
    `wrapper`: what `spawn.death_wrapper` has found.
    """
    given, secrets, report, *end = descriptors
    os.setsid()
    nothing = high(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    for fd, target in ((given, 0), (nothing, 1), (report, 2), (report, REPORT_FD), (secrets, SECRETS_FD)):
        os.dup2(fd, target)
    if end:
        os.dup2(end[0], END_FD, inheritable=False)
    close_above(END_FD if end else SECRETS_FD)
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)
    from chronos_cli.operations.firing.runner import main as run_claimed

    return run_claimed(wrapper)
