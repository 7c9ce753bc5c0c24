"""Where the home is: of this process, or of the context of a call that serves another profile."""

import os
from contextvars import ContextVar
from pathlib import Path

_OVERRIDE = ContextVar("home", default=None)


def get_hermes_home():
    return Path(_OVERRIDE.get() or os.environ["HERMES_HOME"])


def set_hermes_home_override(home):
    return _OVERRIDE.set(home)


def reset_hermes_home_override(token):
    _OVERRIDE.reset(token)
