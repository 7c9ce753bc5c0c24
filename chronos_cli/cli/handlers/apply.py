"""Files of jobs applied: the plan that is shown, the question before pruning, one write, one batch to NAS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from chronos_cli.cli import field_plans
from chronos_cli.cli.layouts import take_layout
from chronos_cli.cli.notify import tell_of_many
from chronos_cli.core.job import parse_job
from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen
from chronos_cli.operations.manifest.bring import bring, gone_of, is_owed
from chronos_cli.operations.manifest.files import read_wanted
from chronos_cli.operations.witness import hear_for_change, stored_jobs

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.core.job import HomeDefaults
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.manifest.bring import AppliedItem, WantedJobs

DIFF: Final = "diff"
_NAMED: Final = 10


@frozen
class ApplyOptions:
    """Words of an apply."""

    files: tuple[str, ...]
    set_name: str | None
    prune: bool
    allow_empty: bool
    take_over: bool
    dry_run: bool
    detailed: bool
    output: str | None
    yes: bool


def run(invocation: Invocation, options: ApplyOptions) -> int:
    """Apply files of jobs and show what became of each."""
    if options.output != DIFF:
        take_layout(invocation, options.output, kinds=(DIFF, "json", "name"))
    elif invocation.json:
        raise UsageError("--json and -o diff contradict each other", hint="give one of them")
    wanted = read_wanted(options.files, set_name=options.set_name)
    _check(options, wanted)
    context = invocation.context(armed=not options.dry_run)
    if not options.dry_run:
        found = {spec.job_id for spec in wanted.specs}
        context = hear_for_change(context, *stored_jobs(context, found))
    prunable: frozenset[str] = frozenset()
    if options.dry_run or options.prune:  # what goes is shown before it does, and nothing else goes then
        plan = bring(context, wanted, prune=options.prune, take_over=options.take_over, dry_run=True)
        _refuse_emptied(options, wanted, plan)
        prunable = gone_of(plan)
    if not options.dry_run:
        _ask(invocation, options, prunable)
        plan = bring(context, wanted, prune=options.prune, take_over=options.take_over, dry_run=False,
                     prunable=prunable)  # fmt: skip
    return show(invocation, context, plan, dry_run=options.dry_run, detailed=options.detailed,
                diff=options.output == DIFF, wanted=wanted)  # fmt: skip


def _check(options: ApplyOptions, wanted: WantedJobs) -> None:
    if options.prune and not wanted.sets:
        raise UsageError("what is to be pruned is not said: standard input is no set", hint="name one with --set")
    if not wanted.specs and not options.prune and not any(wanted.sets):
        raise UsageError("there are no jobs on standard input", hint="write `jobs:` and a list of them")


def _refuse_emptied(options: ApplyOptions, wanted: WantedJobs, plan: list[AppliedItem]) -> None:
    """Refuse to prune all that a set has, unless that is asked for: an empty file is more often a slip."""
    gone = gone_of(plan)
    left = {spec.set_name for spec in wanted.specs}
    empty = [name for name in wanted.sets if name not in left]
    if gone and empty and not options.allow_empty:
        lost = [
            one for one in plan if one.item.job_id in gone and (one.before or {}).get("chronos", {}).get("set") in empty
        ]
        if lost:
            raise UsageError(
                f"the set {empty[0]} has no job left, and nothing is pruned of an empty set",
                hint=f"--allow-empty removes its {len(lost)} jobs: {_listed(one.item.job_id for one in lost)}",
            )


def _listed(ids: Any) -> str:
    known = sorted(ids)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more


def _ask(invocation: Invocation, options: ApplyOptions, gone: frozenset[str]) -> None:
    """Show what is to be removed before it is, and on a terminal ask."""
    import sys

    if not gone:
        return
    for job_id in sorted(gone):
        invocation.output.note(f"- remove {job_id}")
    if not options.yes and not invocation.json and sys.stdin.isatty() and sys.stderr.isatty():
        invocation.confirm(f"remove {len(gone)} jobs?" if len(gone) > 1 else "remove it?", yes=False)


def show(
    invocation: Invocation,
    context: Context,
    plan: list[AppliedItem],
    *,
    dry_run: bool,
    detailed: bool,
    diff: bool = False,
    wanted: WantedJobs | None = None,
    **more: Any,
) -> int:
    """Tell the trigger once, and show the plan; returns the exit code."""
    error = None
    gone = gone_of(plan)
    if not dry_run and (any(one.item.verdict.value not in ("keep", "gone") for one in plan) or is_owed(context, plan)):
        error = tell_of_many(invocation, context, gone)
    _warn(invocation, plan, wanted)
    items = [one.item for one in plan]

    def render(out: Output) -> None:
        if out.layout == "name":
            for item in items:
                out.line(item.job_id)
        elif diff:
            _show_diff(out, plan, context.home)
        elif not out.quiet:
            for one in plan:
                if one.item.verdict.value != "gone":
                    _show_one(out, one, context.home)
            field_plans.show_counts(out, field_plans.counts_of(items), dry_run=dry_run)

    document: dict[str, Any] = {"dry_run": dry_run, "jobs": [_json(one) for one in plan], **more}
    code = field_plans.pending(items, detailed=detailed and dry_run)
    return invocation.done(document, render, error=error, exit_code=code)


def _warn(invocation: Invocation, plan: list[AppliedItem], wanted: WantedJobs | None) -> None:
    out = invocation.output
    gone = [one.item.job_id for one in plan if one.item.verdict.value == "gone"]
    if gone:
        out.warn(f"no longer in the files: {_listed(gone)}; --prune removes what is")
    left = [one for one in plan if one.left_to is not None]
    if left:
        of = next((f"the set {one.left_to}" for one in left if one.left_to), "no set")
        out.warn(f"as the files say already, but of {of}: {_listed(one.item.job_id for one in left)}; "
                 "--take-over makes them this set's")  # fmt: skip
    if wanted is not None and not wanted.specs and not gone_of(plan):
        out.warn("the files have no jobs")
    for one in plan:
        if one.item.doubt is not None:
            out.warn(f"{one.item.job_id}: {one.item.doubt.text}; {one.item.doubt.mend}")


def _show_one(out: Output, one: AppliedItem, home: HomeDefaults) -> None:
    field_plans.show_items(out, (one.item,), home)
    if one.taken is not None:
        whose = f"it was of the set {one.taken}" if one.taken else "it was made by hand"
        out.line(f"    {whose}, and is this set's from here on")


def _json(one: AppliedItem) -> dict[str, Any]:
    taken = {} if one.taken is None else {"taken_from": one.taken or None}
    left = {} if one.left_to is None else {"left_to": one.left_to or None}
    return field_plans.item_json(one.item) | taken | left


def _show_diff(out: Output, plan: list[AppliedItem], home: HomeDefaults) -> None:
    """Write what differs as a patch of the jobs' own words; a secret that differs is told from what it was."""
    import difflib

    for one in plan:
        if one.item.verdict.value not in ("add", "change", "remove"):
            continue
        before, after = _texts(one, home)
        names = (f"{one.item.job_id} (stored)", f"{one.item.job_id} (files)")
        for line in difflib.unified_diff(before, after, *names, lineterm=""):
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            out.line(out.style(line, style))


def _texts(one: AppliedItem, home: HomeDefaults) -> tuple[list[str], list[str]]:
    from chronos_cli.errors import ChronosError
    from chronos_cli.operations.manifest.words import hidden, words_of, yaml_text

    said: list[dict[str, Any]] = []
    for record in (one.before, None if one.item.verdict.value == "remove" else one.item.record):
        try:
            words = {} if record is None else words_of(parse_job(record, home), home)
        except ChronosError:  # a record that cannot be used has no words
            words = {"id": one.item.job_id}
        own = (record or {}).get("chronos")
        if isinstance(own, dict) and own.get("set"):
            words["set"] = own["set"]
        said.append(words)
    shown = [hidden(words) for words in said]
    for pick in (_variables, _headers):
        old, new = (pick(words) for words in said)
        seen, now = (pick(words) for words in shown)
        for name, value in new.items():
            if old.get(name, value) != value and seen[name] == now[name]:
                now[name] += " (another)"
    return tuple([] if not words else yaml_text(words).splitlines() for words in shown)  # type: ignore[return-value]


def _variables(words: dict[str, Any]) -> dict[str, Any]:
    return words.get("env") or {}


def _headers(words: dict[str, Any]) -> dict[str, Any]:
    http = words.get("http")
    headers = http.get("headers") if isinstance(http, dict) else None
    return headers if isinstance(headers, dict) else {}
