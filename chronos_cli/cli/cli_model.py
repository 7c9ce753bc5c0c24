"""The whole command line as data, for completion scripts, the reference in the docs, and man pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator


@frozen
class OptionFact:
    """One option: its spellings, metavar (empty for a flag), help and variable."""

    names: tuple[str, ...]
    metavar: str
    help: str
    variable: str


@frozen
class CommandFact:
    """One command: its words, what it does, its arguments (metavar, help), options, the help's body and examples."""

    words: tuple[str, ...]
    summary: str
    body: str
    examples: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    options: tuple[OptionFact, ...]

    @property
    def path(self) -> str:
        """Return the words of the command, as `chronos job add`."""
        return " ".join(("chronos", *self.words))

    @property
    def takes_job(self) -> bool:
        """Return whether an argument of it names jobs or runs."""
        return any("JOB" in metavar or "RUN" in metavar for metavar, _ in self.arguments)


def commands() -> Iterator[CommandFact]:
    """Yield every command whose module is there, in the order of the table. Imports them all."""
    from chronos_cli.cli import table

    for entry in table.available():
        yield from _facts(entry, ())


def global_facts() -> tuple[OptionFact, ...]:
    """Return the options that every command takes."""
    from chronos_cli.cli.lazy import global_options

    return tuple(_option(param, "CHRONOS") for param in global_options())


def _facts(entry: Any, before: tuple[str, ...]) -> Iterator[CommandFact]:
    from chronos_cli.cli.lazy import build

    words = (*before, entry.name)
    if entry.children:
        for child in entry.children:
            yield from _facts(child, words)
        return
    command = build(entry)
    prefix = "_".join(("CHRONOS", *words)).upper().replace("-", "_")
    body, _, examples = (command.help or "").partition("Examples:")
    own = [param for param in command.params if not str(param.name).startswith("given_")]
    shown = [param for param in own if not param.hidden and param.name != "help"]
    yield CommandFact(
        words=words,
        summary=entry.help,
        body=body.strip(),
        examples=tuple(line.strip() for line in examples.strip().splitlines() if line.strip()),
        arguments=tuple(
            (str(param.metavar or param.name), param.help or "")
            for param in shown
            if param.param_type_name == "argument"
        ),
        options=tuple(_option(param, prefix) for param in shown if param.param_type_name == "option"),
    )


def _option(param: Any, prefix: str) -> OptionFact:
    from chronos_cli.cli.lazy import variable_of

    flag = param.is_flag or param.count
    metavar = "" if flag else str(param.metavar or param.name.upper())
    return OptionFact(
        names=tuple(sorted(param.opts, key=len, reverse=True)),
        metavar=metavar,
        help=param.help or "",
        variable=variable_of(param, prefix),
    )
