"""Makes cli.md, exit-codes.md, man/*.1, schemas/, openapi/ and the scripts in completions/ from the code itself.

Run it after changing a command or a document: `python docs/make_reference.py`.
A test fails while what is committed is not current.
"""

# ruff: noqa: INP001 - a script beside what it makes, not a package
from __future__ import annotations

import importlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from described import commands as documents
from described import http, shapes

from chronos_cli.cli.cli_model import commands, global_facts
from chronos_cli.cli.completion_scripts import FILES, script
from chronos_cli.cli.table import COMMANDS
from chronos_cli.errors import ChronosError, ExitCode
from chronos_cli.operations.manifest.keys import schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.cli.cli_model import CommandFact, OptionFact

DOCS = Path(__file__).resolve().parent

MEANING = {
    ExitCode.OK: "done, or already so, or nothing to do",
    ExitCode.FAULT: "a fault of chronos, or a store that cannot be used",
    ExitCode.USAGE: "usage, or a configuration that cannot be used",
    ExitCode.PENDING: "only with --detailed-exitcode: changes are pending, or were made",
    ExitCode.REFUSED: "not authenticated, or refused",
    ExitCode.NOT_FOUND: "there is no such job",
    ExitCode.CONFLICT: "ambiguous, or in conflict with what is there",
    ExitCode.JOB_FAILED: "the job ran and failed",
    ExitCode.NEEDS_A_LOOK: "a job needs a look: it fails, is overdue or unarmed, untriggered, or refused by an import",
    ExitCode.TEMPORARY: "try again later: network, lock, a hold, a NAS that is down",
    ExitCode.INTERRUPTED: "interrupted",
}
"""The one table of meanings: exit-codes.md, the manual and the README are made from it."""

PACKAGE = DOCS.parent / "chronos_cli"

MADE = re.compile(r"(?<!class )\b(\w+Error)\(|\b(?:raise|else) (?:\w+\.)?(\w+Error)\b|= (\w+Error) if\b")
"""Where a class of error is called, raised without a call, or chosen."""


def main() -> None:
    """Write everything."""
    for path, text in files().items():
        target = DOCS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for shell, name in FILES.items():
        (DOCS.parent / "completions" / name).write_text(script(shell), encoding="utf-8")


def files() -> dict[str, str]:
    """Every file, by its path below docs/."""
    facts = list(commands())
    made = {"cli.md": reference(facts), "exit-codes.md": exit_codes(), "man/chronos.1": overview(facts)}
    made |= {"schemas/files/chronos.jobs.1.json": shapes.printed(schema()) + "\n"} | documents.files() | http.files()
    return made | {f"man/{fact.path.replace(' ', '-')}.1": page(fact) for fact in facts}


def exit_codes() -> str:
    """The table of exit codes, in Markdown."""
    lines = [
        "# Exit codes",
        "",
        "Made by `docs/make_reference.py`. Every command uses this one table; what may be tried again exits with 75.",
        "",
        "| code | meaning | `error.code` |",
        "|---|---|---|",
    ]
    for code, text in MEANING.items():
        names = ", ".join(f"`{name}`" for name in sorted(_codes_of(code)))
        lines.append(f"| {int(code)} | {text} | {names} |")
    return "\n".join(lines) + "\n"


def _codes_of(code: ExitCode) -> set[str]:
    return {kind.code for kind in emitted_errors() if kind.exit_code is code}


@cache
def emitted_errors() -> list[type[ChronosError]]:
    """Return every class of error that some module makes, by code; a class that only stands above others is none."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    made = {name for names in MADE.findall(sources) for name in names}
    return [kind for kind in error_classes() if kind.__name__ in made]


@cache
def error_classes() -> list[type[ChronosError]]:
    """Return every class of error, by exit code and code."""
    for path in PACKAGE.rglob("*.py"):
        if re.search(r"^class \w+Error\([\w., ]*Error\)", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    found, waiting = [], [ChronosError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting += [child for child in kind.__subclasses__() if child.__module__.startswith("chronos_cli.")]
    return sorted(found, key=lambda kind: (kind.exit_code, kind.code, kind.__name__))


def reference(facts: list[CommandFact]) -> str:
    """The reference of all commands, in Markdown."""
    lines = [
        "# The command line",
        "",
        "Made by `docs/make_reference.py` from the commands themselves.",
        "",
        "Every command takes these, before or after its name:",
        "",
        *_table(global_facts()),
        "",
        "Data goes to stdout, everything else to stderr. With `--json` there is one object on stdout, of the schema",
        "that is [published](json.md) for the command; a failure has `ok: false` and an `error`. A flag",
        "wins over its variable, that over `config.yaml`, that over the default: see `chronos config show --origin`.",
        "A job is named by its id, a unique beginning of it, or its name.",
        "",
        "Exit codes are in [exit-codes.md](exit-codes.md).",
        "",
    ]
    for panel, members in _by_panel(facts):
        lines += [f"## {panel}", ""]
        for fact in members:
            lines += list(_section(fact))
    return "\n".join(lines).rstrip() + "\n"


def _by_panel(facts: list[CommandFact]) -> Iterator[tuple[str, list[CommandFact]]]:
    panels: dict[str, list[CommandFact]] = {}
    of = {entry.name: entry.panel for entry in COMMANDS}
    for fact in facts:
        panels.setdefault(of[fact.words[0]], []).append(fact)
    yield from panels.items()


def _section(fact: CommandFact) -> Iterator[str]:
    yield f"### {fact.path}"
    yield ""
    yield f"```text\n{_usage(fact)}\n```"
    yield ""
    yield fact.body
    yield ""
    if fact.arguments:
        yield "| argument | meaning |"
        yield "|---|---|"
        for metavar, text in fact.arguments:
            yield f"| `{_cell(metavar)}` | {_cell(text)} |"
        yield ""
    if fact.options:
        yield from _table(fact.options)
        yield ""
    yield "```sh"
    yield from fact.examples
    yield "```"
    yield ""


def _table(options: tuple[OptionFact, ...]) -> list[str]:
    rows = ["| option | meaning | variable |", "|---|---|---|"]
    for option in options:
        names = ", ".join(option.names) + (f" {option.metavar}" if option.metavar else "")
        rows.append(f"| `{_cell(names)}` | {_cell(option.help)} | `{option.variable}` |")
    return rows


def _usage(fact: CommandFact) -> str:
    return " ".join([fact.path, *(["[OPTIONS]"] if fact.options else []), *(metavar for metavar, _ in fact.arguments)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def overview(facts: list[CommandFact]) -> str:
    """The manual page of `chronos` itself."""
    lines = [
        '.TH CHRONOS 1 "" "chronos" "User Commands"',
        ".SH NAME",
        "chronos \\- scheduled jobs for processes that are not there",
        ".SH SYNOPSIS",
        ".B chronos",
        "[OPTIONS] COMMAND [ARGS]...",
        ".SH COMMANDS",
    ]
    for fact in facts:
        lines += [".TP", f".B {_roff(' '.join(fact.words))}", _roff(fact.summary)]
    lines += [".SH OPTIONS", *_roff_options(global_facts()), ".SH EXIT STATUS"]
    for code, text in MEANING.items():
        lines += [".TP", f".B {int(code)}", _roff(text)]
    lines += [".SH SEE ALSO", *(f".BR {fact.path.replace(' ', '-')} (1)" for fact in facts)]
    return "\n".join(lines) + "\n"


def page(fact: CommandFact) -> str:
    """The manual page of one command."""
    name = fact.path.replace(" ", "-")
    lines = [
        f'.TH {name.upper()} 1 "" "chronos" "User Commands"',
        ".SH NAME",
        f"{name} \\- {_roff(fact.summary)}",
        ".SH SYNOPSIS",
        f".B {_roff(fact.path)}",
        _roff(_usage(fact).removeprefix(fact.path).strip() or " "),
        ".SH DESCRIPTION",
        *_paragraphs(fact.body),
    ]
    if fact.arguments:
        lines.append(".SH ARGUMENTS")
        for metavar, text in fact.arguments:
            lines += [".TP", f".B {_roff(metavar)}", _roff(text)]
    lines += [".SH OPTIONS", *_roff_options((*fact.options, *global_facts())), ".SH EXAMPLES"]
    for example in fact.examples:
        lines += [".PP", ".EX", _roff(example), ".EE"]
    lines += [".SH SEE ALSO", ".BR chronos (1)"]
    return "\n".join(lines) + "\n"


def _roff_options(options: tuple[OptionFact, ...]) -> list[str]:
    lines = []
    for option in options:
        names = ", ".join(option.names) + (f" {option.metavar}" if option.metavar else "")
        lines += [".TP", f".B {_roff(names)}", f"{_roff(option.help)} [{_roff(option.variable)}]"]
    return lines


def _paragraphs(text: str) -> list[str]:
    lines = []
    for paragraph in text.split("\n\n"):
        lines += [".PP", _roff(" ".join(paragraph.split()))]
    return lines[1:]


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    main()
