"""The parts of the pages that are made from the code. `python -m tests.docs.generated` writes them anew.

Each stands between `<!-- made: NAME -->` and `<!-- end -->`; a test holds every page against what would be written.
"""

import ast
import importlib.util
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from chronos_cli.config.settings import settings
from chronos_cli.core.schedule import Timetable
from chronos_cli.core.schedule_text import parse_schedule
from tests.conftest import ROOT

_PART = re.compile(r"(<!-- made: ([\w-]+) -->\n)(.*?)(<!-- end -->)", flags=re.DOTALL)


@cache
def maker():
    """The script that makes the reference: it has the one table of meanings and finds the errors."""
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    return table(["code", "meaning"], [[code.value, text] for code, text in maker().MEANING.items()])


def errors():
    rows = [
        [f"`{kind.code}`", kind.exit_code.value, kind.http_status, "yes" if kind.retryable else "no",
         (kind.__doc__ or "").strip().splitlines()[0]]
        for kind in maker().emitted_errors()
    ]  # fmt: skip
    return table(["`error.code`", "exit", "HTTP", "again?", "meaning"], rows)


def _text(node):
    """The code that an expression makes, with `*` for what is filled in; None where it is an error's own."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "*" for part in node.values)
    return None


def checks():
    """Every code that a check of the doctor states itself, and the levels that it comes with."""
    found = {}
    for path in sorted((ROOT / "chronos_cli" / "operations" / "doctor").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                level = ast.unparse(node.func)
                names = [_text(word.value) for word in node.keywords if word.arg == "code"]
                for name in filter(None, names):
                    both = {"fail": ["FAIL"], "warn": ["WARN"]}.get(level, ["FAIL", "WARN"])
                    check = _text(node.args[0]) or "*"
                    levels = found.setdefault((check, name), set())
                    levels |= set(both)
    rows = [[f"`{check}`", f"`{name}`", ", ".join(sorted(levels))] for (check, name), levels in sorted(found.items())]
    return table(["check", "`code`", "level"], rows)


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


MADE = {
    "exit-codes": exit_codes,
    "errors": errors,
    "checks": checks,
    "settings": configuration,
    "dst": dst,
    "schemas": schemas,
}


def renewed(text):
    """A page's text with every made part made anew."""
    return _PART.sub(lambda match: f"{match[1]}\n{MADE[match[2]]()}\n{match[4]}", text)


def made_pages():
    paths = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in paths if "<!-- made: " in path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for path in made_pages():
        path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
