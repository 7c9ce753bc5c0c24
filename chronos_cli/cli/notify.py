"""Tell the trigger of a change that is already stored. A failure undoes nothing, and says so in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.errors import AuthError, ChronosError, NasUnavailableError, TemporaryError
from chronos_cli.frozen import frozen, replace

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.operations.context import Context
    from chronos_cli.providers.resolve import ActiveProvider


_DROPS: Final = "not cancelled at NAS"


class NotArmedError(TemporaryError):
    """It was saved, but NAS was not told."""

    code = "saved_not_armed"


class SavedRefusedError(AuthError):
    """It was saved, but NAS refuses to be told."""

    code = "saved_not_armed"


@frozen
class NotifyReport:
    """Outcome of telling the trigger: `armed` None where it arms nothing; `error` where it failed."""

    armed: bool | None
    state: str
    error: ChronosError | None = None
    server_time: datetime | None = None
    """NAS's clock, as it was heard with its answer."""
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the `arm` member of the documents of commands that change jobs."""
        return {"armed": self.armed, "state": self.state}


def tell(
    invocation: Invocation, ctx: Context, job_id: str, *, gone: bool = False, off: bool = False, saved: bool = True
) -> NotifyReport:
    """Make the active trigger follow a change of one job.

    `gone`: it was taken out; `off`: it wants no timer any more; `saved`: there was anything to save.
    """
    resolved = invocation.provider(ctx)
    told = _told(resolved, ctx, job_id, gone=gone, said=_said(drops=gone or off, saved=saved))
    if told.note is not None:
        invocation.output.warn(told.note)
    return replace(told, server_time=resolved.provider.server_time)


def _told(resolved: ActiveProvider, ctx: Context, job_id: str, *, gone: bool, said: str) -> NotifyReport:
    try:
        notified = resolved.register_job(job_id)
    except ChronosError as error:
        last = gone and not ctx.repository.jobs().records  # an empty store cancels nothing unasked
        return NotifyReport(armed=False, state="unconfirmed", error=_not_armed(resolved, error, said, last=last))
    document = notified.document
    if document is not None and document.state.value == "refused":
        stored = dict(document.error or {})
        refused = SavedRefusedError(
            f"{said}: {stored.get('message', 'NAS refuses this agent')}",
            hint=str(stored.get("hint") or SavedRefusedError.default_hint),
        )
        return NotifyReport(armed=False, state="refused", error=refused)
    if ctx.standby:
        return NotifyReport(
            armed=False, state="standby"
        )  # of a removed job too: its arm document is how the others cancel it
    if gone:
        ctx.repository.arms.drop(job_id)
    state = "none" if document is None or document.wake is None else document.state.value
    return NotifyReport(armed=notified.armed, state=state, note=notified.note)


def _not_armed(resolved: ActiveProvider, error: ChronosError, said: str, *, last: bool) -> ChronosError:
    command = "chronos reconcile --prune" if last else "chronos reconcile"
    text = f"{said}: {error.message}"
    if isinstance(error, AuthError):
        return SavedRefusedError(text, hint=_then(error, command))
    does = "drops the timer" if _DROPS in said else "arms it"
    return NotArmedError(text, hint=_once_mended(resolved, error, f"`{command}` {does}"))


def _said(*, drops: bool, saved: bool) -> str:
    return f"{'saved, ' if saved else ''}{_DROPS if drops else 'not armed'}"


def tell_of_many(
    invocation: Invocation, context: Context, gone: Collection[str] = (), *, off: bool = False
) -> ChronosError | None:
    """Make the active trigger follow a change of many jobs at once; the error where it failed.

    `gone`: those that were taken out; `off`: none of the jobs wants a timer any more.
    """
    resolved = invocation.provider(context)
    try:
        followed = resolved.follow(gone)
    except ChronosError as error:  # the jobs are stored either way; a trigger that was not told is the command's error
        failure: ChronosError | None = error
    else:
        from chronos_cli.cli.plans import failure_of, note_unread
        from chronos_cli.operations.arming.reconcile import ReconcileResult

        failure = None
        if isinstance(followed, ReconcileResult):
            failure = failure_of(followed)
            note_unread(invocation.output, followed)
    if failure is None:
        return None
    text = f"{_said(drops=off, saved=True)}: {failure.message}"
    if isinstance(failure, TemporaryError):
        emptied = bool(gone) and not context.repository.jobs().records  # an empty store cancels nothing unasked
        does = (
            "`chronos reconcile --prune` drops the timers"
            if emptied
            else f"`chronos reconcile` {'drops the timers' if off else 'arms them'}"
        )
        return TemporaryError(text, hint=_once_mended(resolved, failure, does))
    return type(failure)(text, hint=_then(failure, "chronos reconcile"))


def _then(error: ChronosError, command: str) -> str:
    """Return the hint of an error with the command after it that tells NAS, unless it names that already."""
    return error.hint if f"`{command}`" in error.hint else f"{error.hint}; then `{command}`"


def _once_mended(resolved: ActiveProvider, error: ChronosError, does: str) -> str:
    """Return the command that tells the trigger later, after what mends the error where that is not NAS's being away.

    A plug-in hears of the job with its next change: no command of ours tells it.
    """
    if isinstance(error, NasUnavailableError) or "`chronos reconcile`" in error.hint:
        return f"{does} once NAS can be reached"
    return error.hint if resolved.is_plug_in else f"{error.hint}; then {does}"
