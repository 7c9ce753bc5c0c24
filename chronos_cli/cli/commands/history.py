"""`chronos history`: what ran, what did not, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.cli import humanize as words
from chronos_cli.cli import references
from chronos_cli.cli.layouts import INTERVAL_HELP, OUTPUT_HELP, WATCH_HELP, shown
from chronos_cli.core.row import RunState
from chronos_cli.durations import parse_seconds, span
from chronos_cli.errors import DocumentError, NotFoundError, UsageError
from chronos_cli.frozen import frozen, replace
from chronos_cli.screen import WHOLE, Column

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.core.row import Row
    from chronos_cli.operations.context import Context

UNREADABLE = "unreadable"
_ALL = 1_000_000
_WHEN = "only what came after: 2h for two hours ago, or a date or time"
_NARROW = (
    Column(title="JOB", least=8, keep=WHOLE),
    Column(title="RUN"),
    Column(title="STATE"),
    Column(title="STARTED", drop=3),
    Column(title="TOOK", drop=2),
    Column(title="WHY", least=12, drop=1),
)
_WIDE = tuple(Column(title=title) for title in ("JOB", "RUN", "STATE", "STARTED", "TOOK", "LATE", "WHY"))
_SPARK_ROOM = 30
"""So many columns stay beside the bars for what they mean."""

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-=*#%@"
_STYLE = {RunState.OK: "green", RunState.SKIPPED: "dim", RunState.MISSED: "yellow", RunState.RUNNING: "cyan"}


@frozen
class UnreadableRow:
    """A row that is there and cannot be read."""

    job_id: str
    run_id: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """Return the form of a row, with the one state that no row is stored in."""
        return {"job_id": self.job_id, "run_id": self.run_id, "state": UNREADABLE, "reason": self.reason}


@frozen
class _Wanted:
    """Bounds of what is asked for: rows between two instants, in some states; None is no bound."""

    since: datetime | None = None
    until: datetime | None = None
    states: frozenset[str] | None = None

    @classmethod
    def of(cls, invocation: Invocation, since: str | None, until: str | None, states: list[str] | None) -> _Wanted:
        """Read what was said. Raises UsageError."""
        if since is None and until is None and not states:
            return cls()
        home = invocation.context(armed=False)
        bounds = [
            None if text is None else moment_of(text, home.clock(), home.home.zone, option=option)
            for text, option in ((since, "--since"), (until, "--until"))
        ]
        known = {*RunState, UNREADABLE}
        said = {word.strip().lower() for text in states or () for word in text.split(",")}
        if unknown := sorted(said - known):
            raise UsageError(f"--state is '{unknown[0]:.40}'", hint=f"it may be {', '.join(sorted(known))}")
        return cls(since=bounds[0], until=bounds[1], states=frozenset(said) or None)

    def has(self, row: Row | UnreadableRow) -> bool:
        """Return whether a row is asked for; of one that cannot be read only its state is known."""
        if isinstance(row, UnreadableRow):
            return self.since is None and self.until is None and (self.states is None or UNREADABLE in self.states)
        at = row.started_at or row.scheduled_at or row.claimed_at
        if self.states is not None and row.state.value not in self.states:
            return False
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


def moment_of(text: str, now: datetime, zone: tzinfo, *, option: str) -> datetime:
    """Return the instant that `2h` (ago), a date or a time names, in UTC. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            return now - timedelta(seconds=parse_seconds(text))
        except (UsageError, OverflowError) as error:
            raise UsageError(
                f"{option} is '{text:.40}'", hint="give a span as 2h or 7d, or a time as 2026-11-28 or 2026-11-28T09:00"
            ) from error
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def command(
    ctx: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help=references.JOB_HELP)] = None,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, max=100_000, help="how many [20]")] = 20,
    since: Annotated[str | None, typer.Option("--since", metavar="WHEN", help=_WHEN)] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="WHEN", help="the same, for the newest")] = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="ok, failed, missed ...; may be repeated")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="KIND", help=OUTPUT_HELP)] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help=WATCH_HELP)] = False,
    interval: Annotated[str | None, typer.Option("--interval", metavar="TIME", help=INTERVAL_HELP)] = None,
) -> int:
    """Show the newest rows of the ledger: each run with its times and result, what was skipped or missed, and why.

    With a JOB, also how long its runs took, as a line of bars. A job that was removed keeps its history for a while.
    One row a run. On a screen long cells are cut; a pipe or a file gets the wide table, and nothing is cut.

    Examples:
      chronos history
      chronos history digest -n 50 --json
      chronos history --since 24h --state failed --state missed
    """
    invocation: Invocation = ctx.obj
    wanted = _Wanted.of(invocation, since, until, state)
    return shown(
        invocation, lambda: _show(invocation, job, count, wanted), output=output, watch=watch, interval=interval
    )


def _show(invocation: Invocation, job: str | None, count: int, wanted: _Wanted) -> int:
    context = invocation.context(armed=False)
    from chronos_cli.operations.evaluate import as_known

    found = _rows(context, job, count if wanted == _Wanted() else _ALL)
    known = (row if isinstance(row, UnreadableRow) else as_known(context, row) for row in found)
    rows = list(islice(filter(wanted.has, known), count))
    now = context.clock()

    def render(out: Output) -> None:
        if out.layout == "name":
            for row in rows:
                out.line(f"{row.job_id}/{row.run_id}")
            return
        if not rows:
            out.note("nothing has run yet" if wanted == _Wanted() else "nothing that is asked for has run")
        elif not out.quiet:
            styles = ["red" if isinstance(row, UnreadableRow) else _STYLE.get(row.state, "red") for row in rows]
            if out.wide:
                out.table(_WIDE, [_cells(row, now) for row in rows], styles=styles)
            else:
                first = (
                    _NARROW[0] if job is None else replace(_NARROW[0], drop=4)
                )  # the job was named on the command line
                out.table((first, *_NARROW[1:]), [_short_cells(row, now) for row in rows], styles=styles)
        if job is not None:
            read = [row for row in rows if not isinstance(row, UnreadableRow)]
            line = sparkline(read, unicode=out.unicode, most=out.width - _SPARK_ROOM)
            if line:
                out.line(f"took {line}")

    return invocation.done({"rows": [row.to_json() for row in rows]}, render)


def _rows(context: Context, job: str | None, count: int) -> Iterator[Row | UnreadableRow]:
    """Yield rows, newest first, of one job or of all; for a row that cannot be read, what is known of it."""
    from chronos_cli.operations.views.logs import job_ids_with_rows

    known = job_ids_with_rows(context)
    if job is not None:
        try:
            job_id = references.one(context, job)
        except NotFoundError:
            if job not in known:
                raise
            job_id = job
        known = [job_id]
    newest = []
    for job_id in known:
        try:
            run_ids = context.repository.rows.ids(job_id)[-count:]
        except DocumentError as error:
            yield UnreadableRow(job_id=job_id, run_id="", reason=error.line())
            continue
        newest += [(run_id.removeprefix("manual-"), job_id, run_id) for run_id in run_ids]
    for _, job_id, run_id in sorted(newest, reverse=True)[:count]:
        try:
            stored = context.repository.rows.get(job_id, run_id)
        except DocumentError as error:
            yield UnreadableRow(job_id=job_id, run_id=run_id, reason=error.line())
            continue
        if stored is not None:
            yield stored.value


def _cells(row: Row | UnreadableRow, now: datetime) -> tuple[str, ...]:
    if isinstance(row, UnreadableRow):
        return row.job_id, row.run_id, UNREADABLE, "-", "-", "-", row.reason
    started = "-" if row.started_at is None else f"{row.started_at:%Y-%m-%d %H:%M:%S}Z"
    return row.job_id, row.run_id, row.state.value, started, _took(row, now), _late(row) or "-", _why(row)


def _short_cells(row: Row | UnreadableRow, now: datetime) -> tuple[str, ...]:
    if isinstance(row, UnreadableRow):
        return row.job_id, row.run_id, UNREADABLE, "-", "-", row.reason
    started = "-" if row.started_at is None else words.relative(row.started_at, now)
    late = _late(row)
    why = "; ".join(part for part in (f"{late} late" if late else "", _why(row)) if part)
    return row.job_id, row.run_id, row.state.value, started, _took(row, now), why


def _took(row: Row, now: datetime) -> str:
    return "-" if row.started_at is None else _length((row.finished_at or now) - row.started_at)


def _late(row: Row) -> str:
    return "" if row.lateness_s is None or row.lateness_s < 1 else span(row.lateness_s)


def _why(row: Row) -> str:
    why = row.reason or row.because or ""
    if row.count > 1:
        why = f"{row.count if row.exact else f'at least {row.count}'} times; {why}"
    if row.attempt > 1:
        why = f"attempt {row.attempt}; {why}"
    return words.brief(why.rstrip("; "))


def _length(took: object) -> str:
    seconds = took.total_seconds()  # type: ignore[attr-defined]
    return f"{seconds:.1f} s" if seconds < 120 else span(seconds)


def sparkline(rows: list[Row], *, unicode: bool, most: int = 10_000) -> str:
    """Return how long the newest `most` runs took, oldest first, one character each; empty where none has ended."""
    lengths = [
        (row.finished_at - row.started_at).total_seconds()
        for row in reversed(rows)
        if row.finished_at and row.started_at
    ]
    lengths = lengths[-max(most, 1) :]
    if not lengths:
        return ""
    bars = _BARS if unicode else _ASCII_BARS
    longest = max(lengths) or 1.0
    line = "".join(bars[min(len(bars) - 1, int(length / longest * len(bars)))] for length in lengths)
    return f"{line}  {min(lengths):.1f} s to {max(lengths):.1f} s"
