"""`chronos apply`: bring the jobs to what files say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chronos_cli.cli import job_options as options  # noqa: TC001 - typer reads the annotations
from chronos_cli.errors import UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", metavar="FILE|DIR|-", help="what to read: .yaml, .yml, .json; - is stdin"),
    ] = None,
    set_name: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="the set they belong to; else the file's `set`, or its path"),
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="remove what this set once applied and no longer has")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="with --prune: also where the set has no job left")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="take jobs that belong to another set, or to none")
    ] = False,
    dry_run: options.DryRun = False,
    detailed: options.Detailed = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="KIND", help="diff, json or name; else a plan")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask before pruning")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of such files, for editors")] = False,
) -> int:
    """Bring the jobs to what files say: add those that are new, change those that differ, by their id.

    A file is YAML or JSON in the words of `job add`: one job, a list, or `set`, `defaults` and `jobs`; several
    documents may follow each other. It is all one change: an error in any of them applies nothing, and the same again
    changes nothing. What a file does not say about a job has its default. Of a folder the files .yaml, .yml and .json
    are read.

    Each job remembers the set that it was applied from. A job of another set is not taken, unless by --take-over; one
    that was made by hand is, once the file changes it. With --prune, what this set once applied and its files no longer
    have is shown, and removed; nothing else ever is.

    Examples:
      chronos apply -f jobs/ --dry-run
      chronos apply -f jobs/ --prune
      chronos apply -f jobs.yaml --dry-run --detailed-exitcode -o diff
      chronos job export -o apply > jobs.yaml
    """
    invocation: Invocation = ctx.obj
    if schema:
        return _schema(invocation)
    from chronos_cli.cli.handlers.apply import ApplyOptions, run

    if not files:
        raise UsageError("nothing to apply is named", hint="give -f FILE, -f DIR, or -f - for standard input")
    if allow_empty and not prune:
        raise UsageError("--allow-empty belongs to --prune", hint="give both")
    return run(invocation, ApplyOptions(
        files=tuple(files), set_name=set_name, prune=prune, allow_empty=allow_empty, take_over=take_over,
        dry_run=dry_run, detailed=detailed, output=output, yes=yes,
    ))  # fmt: skip


def _schema(invocation: Invocation) -> int:
    import json

    from chronos_cli.operations.manifest.keys import schema

    found: dict[str, Any] = schema()
    return invocation.done({"file_schema": found}, lambda out: out.text(json.dumps(found, indent=1) + "\n"))
