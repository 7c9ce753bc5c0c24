"""`chronos job import --from crontab`: what it reads, the plan that it shows, and the lines that it takes out."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.cli.notify import tell_of_import
from chronos_cli.config.zone import machine_zone
from chronos_cli.core.instant import named_zone, text_in
from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen
from chronos_cli.operations.foreign.crontab import SECONDS, Machine, read_crontab
from chronos_cli.operations.foreign.crontab_import import import_crontab
from chronos_cli.operations.foreign.crontab_source import read_file, read_own, take_out

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.operations.foreign.crontab_import import LinePlan

SIGNS: Final = {
    "add": "+ add   ", "change": "~ change", "keep": "= keep  ", "gone": "? gone  ", "remove": "- remove",
}  # fmt: skip
_SYSTEM: Final = "/etc/crontab"


@frozen
class Options:
    """What the command was told of a crontab."""

    file: str | None
    dry_run: bool
    seconds: str | None
    system: bool
    prune: bool
    disable_source: bool
    zone_name: str | None


def run(invocation: Invocation, options: Options) -> int:
    """Import a crontab and show what became of each line."""
    if options.seconds not in (None, *SECONDS):
        raise UsageError(f"--seconds is first or last, not '{options.seconds}'", hint="say where the seconds stand")
    if options.disable_source and (options.file is not None or options.system):
        raise UsageError("--disable-source is for your own crontab", hint="leave out FILE and --system")
    context, config = invocation.context(), invocation.config()
    file = options.file or (_SYSTEM if options.system else None)
    table = read_own(invocation.environ) if file is None else read_file(file)
    machine = _machine(invocation.environ)
    found = read_crontab(
        table,
        machine,
        zone_name=options.zone_name or context.home.zone_name,
        now=context.clock(),
        seconds=options.seconds,
        system=options.system,
    )
    plan = import_crontab(
        context,
        found,
        source=f"system:{os.path.realpath(str(file))}" if options.system else "crontab",
        cron_zone=named_zone(machine.zone_name),
        prune=options.prune,
        dry_run=options.dry_run,
    )
    error = None
    if not options.dry_run and any(one.item.verdict.value not in ("keep", "gone") for one in plan):
        error = tell_of_import(invocation, context)
    kept = None
    if options.disable_source and not options.dry_run and error is None:
        taken = {one.line for one in plan if one.line is not None}
        kept = take_out(table, taken, invocation.environ, Path(config.home), context.clock())
    for note in found.notes:
        invocation.output.warn(note)
    for text in found.left_out:
        invocation.output.warn(f"left out: {text}")
    for one in plan:
        if one.item.verdict.value == "gone":
            invocation.output.warn(f"no longer in the crontab: {one.item.job_id} ({one.item.name}); --prune removes it")
    document: dict[str, Any] = {
        "dry_run": options.dry_run,
        "jobs": [_as_json(one) for one in plan],
        "left_out": list(found.left_out),
        "notes": list(found.notes),
        "backup": None if kept is None else str(kept),
    }
    return invocation.done(document, lambda out: _show(out, plan, kept, dry_run=options.dry_run), error=error)


def _machine(environ: Mapping[str, str]) -> Machine:
    try:
        own = pwd.getpwuid(os.geteuid())
        user, folder = own.pw_name, own.pw_dir
    except KeyError:  # a user without an entry, as in some containers
        user, folder = str(os.geteuid()), "/"
    search = f"{environ.get('PATH', '')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    given = environ.get("HOME", "")
    return Machine(
        user=user,
        folder=given if given.startswith("/") else folder,
        zone_name=machine_zone(environ, etc="/etc")[0],
        is_user=_is_user,
        is_program=lambda name: shutil.which(name, path=search) is not None,
    )


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _times(moments: tuple[datetime, ...], zone_name: str) -> list[str]:
    return [text_in(moment, named_zone(zone_name)) for moment in moments]


def _as_json(one: LinePlan) -> dict[str, Any]:
    item = one.item
    known = {"action": item.verdict.value, "job_id": item.job_id, "name": item.name, "schedule": item.schedule}
    if one.line is None:
        return known
    return known | {
        "line": one.line,
        "timezone": one.zone_name,
        "next": _times(one.next, one.zone_name),
        "cron_next": _times(one.cron_next, one.zone_name),
    }


def _show(out: Output, plan: list[LinePlan], kept: Path | None, *, dry_run: bool) -> None:
    if out.quiet:
        return
    for one in plan:
        item = one.item
        named = item.job_id if item.name == item.job_id else f"{item.job_id} ({item.name})"
        out.line(f"{SIGNS[item.verdict.value]} {named}  {item.schedule}".rstrip())
        if dry_run and one.line is not None:
            here, there = _times(one.next, one.zone_name), _times(one.cron_next, one.zone_name)
            cron = "the same" if here == there else ", ".join(there) or "cannot read it"
            out.line(f"           line {one.line}, {one.zone_name}: {', '.join(here) or 'never'}; cron: {cron}")
    counts = {word: sum(1 for one in plan if one.item.verdict.value == word) for word in SIGNS}
    gone = f", {counts['remove']} to remove" if counts["remove"] else ""
    out.line(f"Plan: {counts['add']} to add, {counts['change']} to change, {counts['keep']} to keep{gone}."
             f"{' Nothing was changed.' if dry_run else ''}")  # fmt: skip
    if kept is not None:
        out.line(f"The lines are out of your crontab; what it held is in {kept}")
