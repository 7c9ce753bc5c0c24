"""`chronos status`: how it stands, in one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from chronos_cli.cli import humanize as words
from chronos_cli.cli.handlers.list import (
    clock_banner,
    columns_for,
    held_banner,
    held_instead,
    id_of,
    last_words,
    look_at,
    name_of,
    not_reached_words,
    standby_words,
    state_words,
)
from chronos_cli.cli.layouts import INTERVAL_HELP, OUTPUT_HELP, WATCH_HELP, shown
from chronos_cli.core.clock import AHEAD, DISPLACED
from chronos_cli.core.instant import iso_text
from chronos_cli.errors import ExitCode
from chronos_cli.operations.views.armed_wake import ArmedWake
from chronos_cli.operations.views.trigger import INSTALL, trigger_of
from chronos_cli.screen import WHOLE, Column
from chronos_cli.store.ticks import read_ticks

if TYPE_CHECKING:
    from datetime import datetime

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.views.listing import JobView, Listing


COLUMNS: Final = (
    Column(title="NAME", least=8),
    Column(title="ID", least=8, drop=1, keep=WHOLE),
    Column(title="STATE", drop=2),
    Column(title="LOOK", least=12),
    Column(title="WHY", least=12, drop=3),
)
_SHOWN_OFF: Final = 3
"""So many timers that are off their instants are named in the line about NAS."""

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
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="KIND", help=OUTPUT_HELP)] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help=WATCH_HELP)] = False,
    interval: Annotated[str | None, typer.Option("--interval", metavar="TIME", help=INTERVAL_HELP)] = None,
) -> int:
    """Say how it stands: where the jobs are, what triggers them, what NAS holds, and which jobs need a look.

    Stored, armed at NAS (and when that was verified), the last call and the last success are said separately. An
    overdue start and a run that outlasts its timeout are separate too. Jobs that need a look are a table, one row each;
    `-o name` gives their ids alone.

    Examples:
      chronos status
      chronos status --exit-code -q || echo 'a job needs a look'
      chronos status --json | jq .needs_a_look
      chronos status --watch
    """
    invocation: Invocation = ctx.obj
    return shown(
        invocation,
        lambda: _status(invocation, offline=offline, watch_code=watch_code),
        output=output,
        watch=watch,
        interval=interval,
    )


def _status(invocation: Invocation, *, offline: bool, watch_code: bool) -> int:
    config, context = invocation.config(), invocation.context()
    resolved = invocation.provider(context)
    found, nas, failure = look_at(invocation, context, offline=offline)
    active = resolved.wanted if context.standby else resolved.provider.name  # what the active machine should have
    trigger = trigger_of(found, read_ticks(context.repository), active=active, asked=bool(nas["asked"]))
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
            "of_profiles": len(found.of_profiles),
        },
        "off_by": [{"job_id": view.id, "text": view.arm.off_by} for view in live if view.arm.off_by],
        "arms_verified_at": iso_text(min(verified, default=None)),
        "last_callback_at": iso_text(max(calls, default=None)),
        "last_success_at": iso_text(max(good, default=None)),
        "next_run_at": iso_text(following),
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
    """Return what about a job needs a look, each by its own word."""
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
    if view.overdue_s is not None and view.why_not is not None:
        return view.why_not
    if view.doubt is not None:
        return f"{view.doubt.text}; {view.doubt.mend}"
    if view.state == "live" and view.arm.checked and view.arm.state in (ArmedWake.MISSING, ArmedWake.DIFFERENT):
        return held_instead(view)
    error = view.arm.error or view.arm.last_fire_error or {}
    text = error.get("message") or error.get("detail")
    return None if text is None else str(text)


def _show(out: Output, document: dict[str, Any], found: Listing) -> None:
    if out.quiet or out.layout == "name":
        for entry in document["needs_a_look"]:
            out.line(entry["job_id"])
        return
    now, counts, provider = found.now, document["counts"], document["provider"]
    if document["standby"] is not None:
        out.paragraph(standby_words(document["standby"]), style="red")
    if found.held:
        out.paragraph(held_banner(found.held), style="red")
    if found.clock:
        out.paragraph(clock_banner(found.clock), style="red")
    if (lost := not_reached_words(found)) is not None:
        out.paragraph(f"{lost}; `chronos doctor --probe` tries the way", style="red")
    if document["trigger"]["working"] is False:
        where = " on the active machine" if document["standby"] is not None else ""
        words_of_it = f"NO WORKING TRIGGER: {document['trigger']['because']}; `{INSTALL}`{where} installs one"
        out.paragraph(words_of_it, style="red")
    rows = [
        ("home", document["home"]),
        ("trigger", f"{provider['active']}: {document['trigger']['because']}"),
        ("stored", f"{counts['stored']} {'job' if counts['stored'] == 1 else 'jobs'}, {counts['live']} live"),
        ("at NAS", _nas_words(document, found)),
        ("last call", _ago(document["last_callback_at"], now)),
        ("last success", _ago(document["last_success_at"], now)),
        ("next", _next_words(document["next_run_at"], now)),
    ]
    for name, text in rows:
        out.paragraph(f"{name:<13} {text}", hang=14)
    _show_jobs(out, [view for view in found.jobs if conditions(view)], now)


def _show_jobs(out: Output, views: list[JobView], now: datetime) -> None:
    """Print the jobs that need a look, one row each, and below them what a row has no room for."""
    if not views:
        return
    out.line()
    named = out.wide or any(view.name != view.id for view in views)
    rows = [
        (name_of(view), *id_of(view, wide=out.wide, named=named), state_words(view), _look(view), _why_now(view, now))
        for view in views
    ]
    out.table(columns_for(COLUMNS, views, named=named), rows, styles=["yellow"] * len(rows))
    for view in views:
        if view.doubt is not None:
            out.paragraph(f"{view.id}: {view.doubt.text}; {view.doubt.mend}", hang=2)
    out.note("`chronos doctor` says of each what mends it")


def _why_now(view: JobView, now: datetime) -> str:
    """Return the reason of a row: of a run that failed also when that was."""
    ended = view.problem is not None or view.unreadable or view.failing
    return last_words(view, now) if ended else words.brief(_why(view) or f"last run: {last_words(view, now)}")


def _look(view: JobView) -> str:
    return ", ".join(CONDITION_WORDS.get(word, word) for word in conditions(view))


def _nas_words(document: dict[str, Any], found: Listing) -> str:
    nas, counts = document["nas"], document["counts"]
    if not nas["known"]:
        if nas["asked"]:
            return "unknown: NAS did not say"
        return f"not asked; {counts['armed']} were armed when last verified" if counts["armed"] else "not asked"
    of = f" of {counts['live']}" if counts["armed"] != counts["live"] else ""
    text = f"{counts['armed']}{of} armed and verified now"
    if counts["armed"] and counts["will_fire"] == counts["armed"]:
        text += ": it will fire" if counts["armed"] == 1 else ": these will fire"
    else:
        reasons = [view.why_not for view in found.jobs if view.arm.state.value == "armed" and view.why_not]
        text += "".join(f"; {reason}" for reason in dict.fromkeys(reasons[:1]))
    named = sorted({profile for profile, _ in found.of_profiles})
    if named:
        text += f"; {counts['of_profiles']} for jobs of other profiles ({', '.join(named)})"
    text += "".join(f"; {entry['job_id']} is {entry['text']}" for entry in document["off_by"][:_SHOWN_OFF])
    if len(document["off_by"]) > _SHOWN_OFF:
        text += f"; and {len(document['off_by']) - _SHOWN_OFF} more are off"
    return text + (f"; {counts['orphans']} for no job here" if counts["orphans"] else "")


def _ago(text: str | None, now: datetime) -> str:
    from datetime import datetime as when

    return "never" if text is None else words.relative(when.fromisoformat(text), now)


def _next_words(text: str | None, now: datetime) -> str:
    said = _ago(text, now)
    return f"due {said}" if said.endswith(" ago") else "none" if text is None else said
