"""Choice of when to answer a fire, at the start or at the end of its run, and the reason.

A platform that freezes the process once the answer has left would freeze the run with it: there, answer after the end.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

FREEZING: Final = (
    ("AWS_LAMBDA_RUNTIME_API", "AWS Lambda"),
    ("AWS_LAMBDA_FUNCTION_NAME", "AWS Lambda"),
    ("FUNCTIONS_WORKER_RUNTIME", "Azure Functions"),
    ("FUNCTION_TARGET", "Google Cloud Functions"),
    ("K_SERVICE", "Cloud Run"),
    ("VERCEL", "Vercel"),
    ("NETLIFY", "Netlify"),
    ("FC_FUNCTION_NAME", "Function Compute"),
    ("SCW_CONTAINER", "Scaleway Serverless"),
)
"""A variable that each such platform sets, and its name."""


class Mode(StrEnum):
    """Moment at which a fire is answered."""

    DETACHED = "detached"
    SYNC = "sync"


@frozen
class ModeChoice:
    """The mode, why, and whether the platform freezes what goes on after the answer."""

    mode: Mode
    because: str
    freezes: bool


def choose(configured: str, environ: Mapping[str, str]) -> ModeChoice:
    """Return the mode that is configured, or, for `auto`, the one that the platform calls for."""
    platform = next((name for variable, name in FREEZING if environ.get(variable)), None)
    if configured != "auto":
        return ModeChoice(mode=Mode(configured), because="callback.mode says so", freezes=platform is not None)
    if platform is not None:
        return ModeChoice(mode=Mode.SYNC, because=f"{platform} freezes the process after the answer", freezes=True)
    return ModeChoice(mode=Mode.DETACHED, because="nothing here freezes after the answer", freezes=False)
