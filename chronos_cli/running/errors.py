"""Errors from before a job's process runs."""

from __future__ import annotations

from chronos_cli.errors import ChronosError, TemporaryError


class ActionError(ChronosError):
    """The job's action cannot be run."""

    code = "action"
    default_hint = "see `chronos job show`, and put it right with `chronos job edit`"


class StartError(TemporaryError):
    """The process could not be started."""

    code = "not_started"
    default_hint = "try again later, or allow this user more: `ulimit -a` shows what it may have"


class LockDirError(TemporaryError):
    """The folder for run locks cannot be trusted or used."""

    code = "lock_dir"
    default_hint = "it must be this user's own folder; `chronos doctor` examines it"
