"""The parts of the pages that are made from the code. `python -m tests.docs.generated` writes them anew.

Each stands between `<!-- made: NAME -->` and `<!-- end -->`; a test holds every page against what would be written.
"""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from chronos_cli.config.settings import settings
from chronos_cli.core.schedule import Timetable, parse_schedule
from chronos_cli.errors import ChronosError, ExitCode
from tests.conftest import ROOT

_PART = re.compile(r"(<!-- made: ([\w-]+) -->\n)(.*?)(<!-- end -->)", flags=re.DOTALL)

MEANINGS = {
    ExitCode.OK: "done, or already so, or nothing to do",
    ExitCode.FAULT: "a fault of ours (an unreadable store included)",
    ExitCode.USAGE: "usage, or a configuration that cannot be used",
    ExitCode.PENDING: "only with `--detailed-exitcode`: changes are pending, or were made",
    ExitCode.REFUSED: "not authenticated, or refused",
    ExitCode.NOT_FOUND: "no such job",
    ExitCode.CONFLICT: "ambiguous, or in conflict with what is stored",
    ExitCode.JOB_FAILED: "the job ran and failed",
    ExitCode.NEEDS_A_LOOK: "a job needs a look (`doctor`, `status --exit-code`)",
    ExitCode.TEMPORARY: "try again later: network, lock, 5xx, hold",
    ExitCode.INTERRUPTED: "interrupted",
}

NIGHTS = (
    ("Europe/Berlin", "2026-03-29", "02:00 becomes 03:00"),
    ("Europe/Berlin", "2026-10-25", "03:00 becomes 02:00"),
    ("Australia/Lord_Howe", "2026-10-04", "02:00 becomes 02:30"),
    ("Australia/Lord_Howe", "2026-04-05", "02:00 becomes 01:30"),
)
"""A zone, the day of a transition, and what its clocks do then (from the IANA database)."""

NIGHTLY = ("45 1 * * *", "15 2 * * *", "30 2 * * *", "0 3 * * *", "0 */2 * * *", "30 * * * *", "every 2h")


def table(head, rows):
    cells = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |\n" for row in cells)


def exit_codes():
    return table(["code", "meaning"], [[code.value, MEANINGS[code]] for code in ExitCode])


def _family(kind=ChronosError):
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == "chronos_cli.errors":
            yield from _family(child)


def errors():
    rows = [
        [f"`{kind.code}`", kind.exit_code.value, kind.http_status, "yes" if kind.retryable else "no",
         (kind.__doc__ or "").strip().splitlines()[0]]
        for kind in _family()
    ]  # fmt: skip
    return table(["`error.code`", "exit", "HTTP", "again?", "meaning"], rows)


def _default(setting):
    value = setting.default
    if value in ("", (), None):
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} s" if "duration" in setting.kind.name or "seconds" in setting.kind.name else text


def configuration():
    rows = [[f"`{item.key}`", f"`{item.env}`", item.kind.name, _default(item), item.help] for item in settings()]
    return table(["key in config.yaml", "variable", "kind", "default", "what it is"], rows)


def _night(text, zone_name, day):
    """The instants of a schedule between midnight and 05:00 of one local day, as its clocks show them."""
    zone = ZoneInfo(zone_name)
    start = datetime.fromisoformat(day).replace(tzinfo=zone).astimezone(UTC)
    end = datetime.fromisoformat(f"{day}T05:00").replace(tzinfo=zone).astimezone(UTC)
    schedule = parse_schedule(text, now=start, zone=zone)
    shown = []
    for instant in Timetable(schedule=schedule, zone=zone, anchor=start).walk(start - timedelta(seconds=1)):
        if instant >= end:
            return ", ".join(shown) or "-"
        offset = instant.astimezone(zone).strftime("%z")
        shown.append(
            f"{instant.astimezone(zone):%H:%M}{offset[:3]}" + ("" if offset.endswith("00") else f":{offset[3:]}")
        )
    raise AssertionError


def dst():
    head = ["schedule", *(f"{zone}<br>{day}: {what}" for zone, day, what in NIGHTS)]
    rows = [[f"`{text}`", *(_night(text, zone, day) for zone, day, _ in NIGHTS)] for text in NIGHTLY]
    return table(head, rows)


def schemas():
    paths = sorted((ROOT / "docs" / "schemas").glob("*.json"))
    names = [path.stem.removeprefix("chronos.").rpartition(".")[0].replace(".", " ") for path in paths]
    rows = [
        [f"`chronos {name}`", f"[`{path.stem.rpartition('.')[0]}/1`](schemas/{path.name})"]
        for name, path in zip(names, paths, strict=True)
    ]
    return table(["command", "schema"], rows)


MADE = {"exit-codes": exit_codes, "errors": errors, "settings": configuration, "dst": dst, "schemas": schemas}


def renewed(text):
    """A page's text with every made part made anew."""
    return _PART.sub(lambda match: f"{match[1]}\n{MADE[match[2]]()}\n{match[4]}", text)


def made_pages():
    paths = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in paths if "<!-- made: " in path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for path in made_pages():
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
