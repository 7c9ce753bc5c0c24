"""`chronos status`: how it stands, in one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from chronos_cli.cli import humanize as words
from chronos_cli.cli.handlers.list import last_words, look_at, not_reached_words, standby_words, state_words
from chronos_cli.core.clock import AHEAD, DISPLACED
from chronos_cli.errors import ExitCode
from chronos_cli.operations.views.trigger import INSTALL, trigger_of
from chronos_cli.store.ticks import read_ticks

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.views.listing import JobView, Listing


CONDITION_WORDS: Final = {
    "arm_missing": "not armed",
    "arm_different": "armed for another time",
    "arm_orphan": "armed, but wants no timer",
    "arm_refused": "refused by NAS",
    "arm_unconfirmed": "not known to be armed",
    "unreadable": "cannot be read",
    "overrun": "outlasts its timeout",
    "ahead": "next time is far ahead",
    "displaced": "next time is not of its schedule",
}
"""The conditions of a job as people read them."""


def command(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="what the store knows; NAS is not asked")] = False,
    watch_code: Annotated[
        bool, typer.Option("--exit-code", help="exit 11 where a job needs a look, or nothing triggers the jobs")
    ] = False,
) -> int:
    """Say how it stands: where the jobs are, what triggers them, what NAS holds, and which jobs need a look.

    Stored, armed at NAS (and when that was verified), the last call and the last success are said separately. An
    overdue start and a run that outlasts its timeout are separate too.

    Examples:
      chronos status
      chronos status --exit-code -q || echo 'a job needs a look'
      chronos status --json | jq .needs_a_look
    """
    invocation: Invocation = ctx.obj
    config, context = invocation.config(), invocation.context()
    resolved = invocation.provider(context)
    found, nas, failure = look_at(invocation, context, offline=offline)
    active = resolved.wanted if context.standby else resolved.provider.name  # what the active machine should have
    trigger = trigger_of(found, read_ticks(context.repository), active=active)
    live = [view for view in found.jobs if view.state == "live"]
    calls = [view.arm.last_callback_at for view in found.jobs if view.arm.last_callback_at is not None]
    good = [view.last.at for view in found.jobs if view.last and view.last.status == "ok" and view.last.at]
    verified = [view.arm.verified_at for view in live if view.arm.verified_at is not None]
    armed = [view for view in live if view.arm.state.value == "armed"]
    following = min((view.next_at for view in live if view.next_at is not None), default=None)
    document: dict[str, Any] = {
        "now": found.now.isoformat(),
        "home": config.home,
        "store": config.store or config.home,
        "provider": {"active": resolved.provider.name, "configured": resolved.wanted, "warning": resolved.warning},
        "trigger": trigger.as_json(),
        "standby": context.standby or None,
        "held": found.held_reason,
        "nas": nas,
        "counts": {
            "stored": len(found.jobs),
            "live": len(live),
            "armed": len(armed),
            "will_fire": sum(1 for view in live if view.will_fire),
            "orphans": len(found.orphans),
        },
        "arms_verified_at": _text(min(verified, default=None)),
        "last_callback_at": _text(max(calls, default=None)),
        "last_success_at": _text(max(good, default=None)),
        "next_run_at": _text(following),
        "needs_a_look": [
            {"job_id": view.id, "name": view.name, "conditions": conditions(view), "reason": _why(view)}
            for view in found.jobs
            if conditions(view)
        ],
    }
    look = bool(document["needs_a_look"]) or trigger.working is False
    code = ExitCode.NEEDS_A_LOOK if watch_code and look and failure is None else None
    return invocation.done(document, lambda out: _show(out, document, found), error=failure, exit_code=code)


def conditions(view: JobView) -> list[str]:
    """What about a job needs a look, each by its own word."""
    found = {
        "invalid": view.problem is not None,
        "unreadable": bool(view.unreadable),
        "overdue": view.overdue_s is not None,
        "overrun": view.overrun_s is not None,
        "failing": view.failing,
        "ahead": view.doubt is not None and view.doubt.code == AHEAD,
        "displaced": view.doubt is not None and view.doubt.code == DISPLACED,
        f"arm_{view.arm.state.value}": view.rank == 2 or view.arm.state.value in ("missing", "different", "refused"),
    }
    return [word for word, holds in found.items() if holds]


def _why(view: JobView) -> str | None:
    if view.problem is not None:
        return view.problem
    if view.unreadable:
        return view.unreadable[0]
    if view.failing and view.last is not None:
        return view.last.reason
    if view.doubt is not None:
        return f"{view.doubt.text}; {view.doubt.mend}"
    error = view.arm.error or view.arm.last_fire_error or {}
    text = error.get("message") or error.get("detail")
    return None if text is None else str(text)


def _show(out: Output, document: dict[str, Any], found: Listing) -> None:
    now, counts, provider = found.now, document["counts"], document["provider"]
    if document["standby"] is not None:
        out.line(out.style(standby_words(document["standby"]), "red"))
    if document["held"] is not None:
        out.line(out.style(f"ALL JOBS ARE HELD: {words.brief(document['held'])}", "red"))
    if (lost := not_reached_words(found)) is not None:
        out.line(out.style(f"{lost}; `chronos doctor --probe` tries the way", "red"))
    if document["trigger"]["working"] is False:
        where = " on the active machine" if document["standby"] is not None else ""
        words_of_it = f"NO WORKING TRIGGER: {document['trigger']['because']}; `{INSTALL}`{where} installs one"
        out.line(out.style(words_of_it, "red"))
    rows = [
        ("home", document["home"]),
        ("trigger", f"{provider['active']}: {document['trigger']['because']}"),
        ("stored", f"{counts['stored']} {'job' if counts['stored'] == 1 else 'jobs'}, {counts['live']} live"),
        ("at NAS", _nas_words(document, found)),
        ("last call", _ago(document["last_callback_at"], now)),
        ("last success", _ago(document["last_success_at"], now)),
        ("next", _ago(document["next_run_at"], now)),
    ]
    for name, text in rows:
        out.line(f"{name:<13} {text}")
    for view in found.jobs:
        words_ = conditions(view)
        if words_:
            named = f"{view.id} ({words.brief(view.name)})"
            said = ", ".join(CONDITION_WORDS.get(word, word) for word in words_)
            text = f"! {named}: {said}  [{state_words(view)}]  {last_words(view, now)}"
            out.line(out.style(text, "yellow"))
            if view.doubt is not None:
                out.line(f"    {view.doubt.text}; {view.doubt.mend}")


def _nas_words(document: dict[str, Any], found: Listing) -> str:
    nas, counts = document["nas"], document["counts"]
    if not nas["known"]:
        if nas["asked"]:
            return "unknown: NAS did not say"
        return f"not asked; {counts['armed']} were armed when last verified"
    text = f"{counts['armed']} armed and verified now"
    if counts["armed"] and counts["will_fire"] == counts["armed"]:
        text += ": these will fire"
    else:
        reasons = [view.why_not for view in found.jobs if view.arm.state.value == "armed" and view.why_not]
        text += "".join(f"; {reason}" for reason in dict.fromkeys(reasons[:1]))
    return text + (f"; {counts['orphans']} for no job here" if counts["orphans"] else "")


def _ago(text: str | None, now: datetime) -> str:
    from datetime import datetime as when

    return "never" if text is None else words.relative(when.fromisoformat(text), now)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
