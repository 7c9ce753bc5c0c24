"""The list of jobs for people and programs: the work of `chronos list`, without its options."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from chronos_cli.cli import humanize as words
from chronos_cli.collector import collector_paused
from chronos_cli.durations import span
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import replace
from chronos_cli.operations.views.armed_wake import BAD, ArmedWake
from chronos_cli.operations.views.listing import listing
from chronos_cli.operations.views.settled import settled
from chronos_cli.screen import WHOLE, Column, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.config import Config
    from chronos_cli.nas_client.interface import ArmList
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.views.listing import JobView, Listing

_LIST_BUDGET_S = 30.0
COLUMNS: Final = (
    Column(title="NAME", least=8),
    Column(title="ID", least=8, drop=1, keep=WHOLE),
    Column(title="STATE"),
    Column(title="NEXT"),
    Column(title="ARM", least=13, drop=2),
    Column(title="LAST RUN", least=12, drop=3),
    Column(title="SCHEDULE"),
)
_ARM_WORDS: Final = {
    ArmedWake.ORPHAN: "held for nothing",
    ArmedWake.MISSING: "not armed",
    ArmedWake.DIFFERENT: "armed otherwise",
    ArmedWake.UNCONFIRMED: "not known to be armed",
    ArmedWake.REFUSED: "refused by NAS",
}


def show_listing(
    invocation: Invocation,
    *,
    offline: bool,
    selector: str | None = None,
    output: str | None = None,
    watch: bool = False,
    interval: str | None = None,
) -> int:
    """List, with or without NAS; once, or again and again."""

    def show() -> int:
        with collector_paused():
            return _show_listing(invocation, offline=offline, selector=selector)

    if output is None and not watch and interval is None:
        return show()
    from chronos_cli.cli.layouts import shown

    return shown(invocation, show, output=output, watch=watch, interval=interval)


def _show_listing(invocation: Invocation, *, offline: bool, selector: str | None = None) -> int:
    config = invocation.config()
    context = invocation.context(armed=not offline)
    if config.token_file and _read_by_others(config.token_file):
        invocation.output.warn(f"others can read the token in {config.token_file}: chmod 600 {config.token_file}")
    found, nas, failure = look_at(invocation, context, offline=offline, selector=selector)
    waiting = any(view.state == "live" for view in found.jobs)
    promised = any(view.will_fire for view in found.jobs)
    asked = waiting and not promised and not invocation.json
    nothing = nothing_triggers(config, context, found.now) if asked else None
    document = {
        "now": found.now.isoformat(),
        "standby": context.standby or None,
        "held": found.held_reason,
        "provider": {"configured": config.provider or "builtin"},
        "nas": nas,
        "jobs": (view.as_json(found.now) for view in found.jobs),
        "orphans": [{"job_id": arm.job_id, "fire_at": arm.fire_at_text} for arm in found.orphans],
        "of_profiles": [
            {"job_id": arm.job_id, "fire_at": arm.fire_at_text, "profile": profile}
            for profile, arm in found.of_profiles
        ],
    }
    return invocation.done(
        document,
        lambda out: _show(out, found, context.standby, unknown=failure is not None, nothing=nothing),
        error=failure,
    )


def _read_by_others(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & 0o077)  # noqa: PTH116 - pathlib is not loaded yet
    except OSError:
        return False  # what needs it says that it is missing


def look_at(
    invocation: Invocation, context: Context, *, offline: bool, selector: str | None = None
) -> tuple[Listing, dict[str, object], ChronosError | None]:
    """Return all jobs, what came of asking NAS, and the error where it did not say."""
    config = invocation.config()
    # The configuration counts, also where it cannot work: a missing token must not make NAS look empty.
    arming = config.provider.strip() == "chronos"
    asking = not offline and (arming or bool(context.wire and context.repository.arms.ids()))
    refused = _last_refused(config)

    def list_once(held: ArmList | None) -> Listing:
        prompts = bool(config.prompt_runner)
        only = _selected(context, selector)
        return listing(context, arming=arming or asking, held=held, prompt_runner=prompts, refused=refused, only=only)

    held, failure = _ask(context) if asking else (None, None)
    found = settled(list_once, held, lambda: _asked(context))
    nas: dict[str, object] = {"asked": asking, "known": held is not None}
    if failure is not None:
        nas["error"] = failure.message
    if found.unreachable is not None:
        since = found.not_reached_since or found.now  # since then at least
        nas["not_reached"] = {"since": since.isoformat(), "error": found.unreachable}
    return found, nas, failure


def _selected(context: Context, selector: str | None) -> frozenset[str] | None:
    if selector is None:
        return None
    from chronos_cli.cli.references import selected

    return selected(context.repository.jobs(), selector)


def _ask(context: Context) -> tuple[ArmList | None, ChronosError | None]:
    try:
        return _asked(context), None
    except ChronosError as error:
        return None, error  # the store's side is still worth showing; the error becomes the command's


def _last_refused(config: Config) -> tuple[datetime, str] | None:
    """Return when and why the token of a call was last refused here, where that is written down."""
    if not os.path.exists(os.path.join(config.home, "cache", "refused.json")):  # noqa: PTH110, PTH118 - as above
        return None
    from pathlib import Path

    from chronos_cli.operations.firing.refused_token import last_refused

    found = last_refused(Path(config.home, "cache"))
    return None if found is None else (found.at, f"token refused: {found.message}")


def not_reached_words(found: Listing) -> str | None:
    """Return the line that says for how long NAS has called in vain, and why; None where it does not tell of that."""
    if found.unreachable is None:
        return None
    since = found.not_reached_since
    ago = "" if since is None else f" for {span((found.now - since).total_seconds())}"
    return f"NAS has not reached us{ago}: {words.brief(found.unreachable)}"


def held_banner(held: str) -> str:
    """Return the line that says that nothing fires, since when, by whom and why."""
    return f"ALL JOBS ARE HELD{words.brief(held.removeprefix('held'))}"


def clock_banner(clock: str) -> str:
    """Return the line that says that this machine refuses NAS's calls until its clock is set."""
    return f"THE CLOCKS DISAGREE: this machine's {clock}, so NAS's calls are refused here; `date -u` shows this one's"


def standby_words(where: str) -> str:
    """Return the line that says that here nothing fires, and where it is set so."""
    return f"ON STANDBY: nothing is armed or fires here ({where}); that is left to the active machine"


def nothing_triggers(config: Config, context: Context, now: datetime) -> str | None:
    """Return the line that says that nothing will ever start a job of this home; None where something may."""
    if config.provider.strip() not in ("", "builtin") or context.standby:
        return None
    from chronos_cli.operations.views.trigger import INSTALL, is_ticking, ticks_words
    from chronos_cli.store.ticks import read_ticks

    ticks = read_ticks(context.repository)
    if is_ticking(ticks, now):
        return None
    return f"nothing triggers the jobs of this home ({ticks_words(ticks, now)}): `{INSTALL}` installs a tick"


def _show(out: Output, found: Listing, standby: str, *, unknown: bool, nothing: str | None) -> None:
    if out.quiet or out.layout == "name":
        for view in found.jobs:
            out.line(view.id)
        return
    if standby:
        out.paragraph(standby_words(standby), style="red")
    if found.held:
        out.paragraph(held_banner(found.held), style="red")
    if found.clock:
        out.paragraph(clock_banner(found.clock), style="red")
    if not found.jobs:
        out.note("no jobs; add one with `chronos job add 'every 1h' --command echo hello`")
    else:
        named = out.wide or any(view.name != view.id for view in found.jobs)
        rows = [_row(view, found.now, unknown=unknown, wide=out.wide, named=named) for view in found.jobs]
        columns = columns_for(COLUMNS, found.jobs, named=named)[: None if out.wide else -1]
        arm = next(n for n, column in enumerate(columns) if column.title == "ARM")
        if not out.wide and all(row[arm] == "-" for row in rows):  # where nothing is armed at all
            columns, rows = [*columns[:arm], *columns[arm + 1 :]], [(*row[:arm], *row[arm + 1 :]) for row in rows]
        out.table(columns, rows, styles=[_style(view) for view in found.jobs])
    _show_doubts(out, found)
    if nothing is not None:
        out.note(nothing)
    _show_orphans(out, found)


def _show_doubts(out: Output, found: Listing) -> None:
    for view in found.jobs:
        if view.doubt is not None:
            out.warn(f"{view.id}: {view.doubt.text}; {view.doubt.mend}")
        if view.unhandled and out.verbosity:
            out.note(f"{view.id}: nothing here carries out {', '.join(view.unhandled)}")


def _show_orphans(out: Output, found: Listing) -> None:
    for profile, arm in found.of_profiles:
        held = words.brief(f"{arm.job_id}  is armed at NAS for {arm.fire_at_text}")
        out.paragraph(f"{held}: a job of the profile {profile}", style="dim")
    for arm in found.orphans:
        where = words.brief(f"{arm.job_id}  is armed at NAS for {arm.fire_at_text}")
        out.paragraph(f"{where}, but no job here", style="yellow")
    for profile, why in found.unread_profiles.items():
        out.warn(f"the jobs of the profile {profile} are not known, so these may be its own: {words.brief(why)}")
    if found.orphans and not found.unread_profiles:
        out.note("`chronos cancel --orphans` drops the timers of no job here")


def _row(view: JobView, now: datetime, *, unknown: bool, wide: bool, named: bool) -> tuple[str, ...]:
    row = (name_of(view), *id_of(view, wide=wide, named=named), state_words(view),
           _whole_next(view, now) if wide else _next(view, now), arm_words(view, now, unknown=unknown),
           last_words(view, now))  # fmt: skip
    if not wide:
        return row
    return *row, "-" if view.schedule is None else words.brief(f"{view.schedule} ({view.zone_name})")


def name_of(view: JobView) -> str:
    """Return the name of a job as it stands in a table; one that is its id is whole."""
    return view.id if view.name == view.id else words.brief(view.name)


def columns_for(columns: Sequence[Column], views: Sequence[JobView], *, named: bool) -> list[Column]:
    """Return the columns of a table of jobs: ids stay whole, those too that stand as names."""
    ids = max((width_of(view.id) for view in views if view.id == view.name), default=0)
    first, *rest = (column for column in columns if named or column.title != "ID")
    return [replace(first, keep=ids), *rest]


def id_of(view: JobView, *, wide: bool, named: bool) -> tuple[str, ...]:
    """Return the cell of the id: none where no job has a name of its own, and empty where this job has none."""
    if not named:
        return ()
    return (view.id if wide or view.id != view.name else "",)


def state_words(view: JobView) -> str:
    """Return how a job stands, the worst first."""
    if view.problem is not None:
        return "invalid"
    if view.overrun_s is not None:
        return f"overrun {span(view.overrun_s)}"
    if view.running:
        return "running"
    if view.overdue_s is not None:
        return f"overdue {span(view.overdue_s)}"
    return view.state


def last_words(view: JobView, now: datetime, *, whole: bool = False) -> str:
    """Return the last run with its result and its reason, or what is wrong with the record.

    Cut unless it is to be whole.
    """
    fitting = str if whole else words.brief
    if view.problem is not None:
        return fitting(view.problem)
    if view.unreadable:
        return fitting(view.unreadable[0])
    if view.last is None:
        return "never"
    when = "" if view.last.at is None else f" {words.relative(view.last.at, now)}"
    result = {"ok": "ok", "error": "failed"}.get(view.last.status, "ran")
    return f"{result}{when}" + (f": {fitting(view.last.reason)}" if view.last.reason else "")


def arm_words(view: JobView, now: datetime, *, unknown: bool) -> str:
    """Return what NAS holds, when that was verified, and whether the job will fire."""
    arm = view.arm
    if view.will_fire:
        return "armed, will fire" + (f", {arm.off_by}" if arm.off_by else "")
    if view.why_not is not None:
        return view.why_not
    if arm.state is ArmedWake.NONE:
        return "-"
    text = _ARM_WORDS.get(arm.state, arm.state.value)
    if arm.state is ArmedWake.DIFFERENT and arm.held is not None and view.zone is not None:
        text = f"armed {_otherwise(view)}"
    if not arm.checked:
        verified = "not verified" if arm.verified_at is None else f"verified {words.relative(arm.verified_at, now)}"
        text = f"{text}, {verified}"
        if unknown:
            text = f"unknown (last: {text})"
    return text


def held_instead(view: JobView) -> str:
    """Return what NAS holds for a job in place of what the job wants."""
    return f"NAS holds it {_otherwise(view)}" if view.arm.held is not None else "NAS holds no timer for it"


def _otherwise(view: JobView) -> str:
    arm = view.arm
    if arm.held is None or view.zone is None:
        return "otherwise"
    if arm.held == arm.wanted and arm.callback_url is not None:
        return f"to call {words.brief(arm.callback_url)}"
    return f"for {words.instant(arm.held, view.zone)}"


def _next(view: JobView, now: datetime) -> str:
    return "-" if view.next_at is None else words.relative(view.next_at, now)


def _whole_next(view: JobView, now: datetime) -> str:
    if view.next_at is None or view.zone is None:
        return words.brief(view.paused_reason or "-")
    return f"{words.instant(view.next_at, view.zone)} ({words.relative(view.next_at, now)})"


def _style(view: JobView) -> str:
    if view.problem is not None or view.unreadable or view.failing or view.overdue_s is not None:
        return "red"
    if view.arm.state in BAD:
        return "yellow"
    return "" if view.state == "live" else "dim"


def _asked(context: Context) -> ArmList:
    with context.require_wire().connect(_LIST_BUDGET_S) as nas:
        return nas.list()
