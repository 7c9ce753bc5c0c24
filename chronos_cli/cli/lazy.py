"""Commands that are imported when they are used, the options that every command has, and the help of both.

typer builds each command from a function's signature; the group around them works from the static table. The help is
written here, plain and within 80 columns: it needs no other library and looks the same everywhere.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from chronos_cli.errors import UsageError
from chronos_cli.help_text import nearest, paragraphs, section, wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.table import CommandEntry

DESTRUCTIVE: Final = frozenset({"cancel", "remove", "unlock", "hold"})
"""Commands that are never suggested for a mistyped one."""
_GLOBALS: Final = (
    (("--home",), "home", "DIR", "the home to work in [~/.chronos]"),
    (("--json",), "json", "", "one JSON object on stdout"),
    (("--quiet", "-q"), "quiet", "", "say nothing but errors and what was asked for"),
    (("--verbose", "-v"), "verbose", "", "say more on stderr; -vv: also what is sent"),
    (("--debug",), "debug", "", "show the traceback of an error"),
    (("--lock-timeout",), "lock_timeout", "SECONDS", "how long to wait for a store in use [10]"),
)
"""Option, attribute of the invocation, metavar, help. The variable is CHRONOS_ and the attribute in capitals."""


def global_options() -> list[TyperOption]:
    """Return fresh options that every command and group takes, and notes in the invocation."""
    made = []
    for names, attribute, metavar, text in _GLOBALS:
        more: dict[str, Any] = {"metavar": metavar} if metavar else {"is_flag": True, "default": None}
        if attribute == "verbose":
            more = {"count": True, "default": None}
        option = TyperOption(
            param_decls=[f"given_{attribute}", *names],
            help=text,
            expose_value=False,
            callback=_note,
            allow_from_autoenv=False,
            rich_help_panel="Global options",
            **more,
        )
        made.append(option)
    return made


def _note(ctx: typer.Context, param: Any, value: Any) -> None:
    if value not in (None, False, 0, ""):
        invocation: Invocation = ctx.obj
        invocation.note_option(param.name.removeprefix("given_"), value)


class LazyCommand(TyperCommand):
    """One command, with the global options and our help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *global_options()]
        self.prepare: Callable[[list[str]], list[str]] | None = None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; a command's module may have a `prepare` that is handed them first."""
        if self.prepare is not None:
            args = self.prepare(args)
        for param in self.params:  # typer would name it by the function's argument, which may be another word
            if _is_own_option(param) and param.envvar is None and param.name != "help":
                named = variable_of(param, ctx.auto_envvar_prefix)
                param.envvar = None if named == f"{ctx.auto_envvar_prefix}_{param.name}".upper() else named
        refuse_swallowed(self.params, args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the usage, what the command does, its options, examples and variables."""
        usage = " ".join(piece.strip("{}") for piece in self.collect_usage_pieces(ctx))
        lines = wrapped(f"Usage: {ctx.command_path} {usage}", hang=len("Usage: ") + len(ctx.command_path) + 1)
        body, _, examples = (self.help or "").partition("Examples:")
        lines += ["", *paragraphs(body)]
        own = [param for param in self.params if param.name != "help" and not getattr(param, "hidden", False)]
        arguments = [_row(param, ctx) for param in own if param.param_type_name == "argument"]
        options = [_row(param, ctx) for param in own if _is_own_option(param)]
        lines += section("Arguments", [row for row in arguments if row[1]])
        lines += section("Options", options)
        lines += section("Global options", [_row(p, ctx) for p in own if not _is_own_option(p, argument=True)])
        if examples.strip():
            lines += ["", "Examples:", *(f"  {line.strip()}" for line in examples.strip().splitlines())]
        lines += ["", _variables([variable_of(p, ctx.auto_envvar_prefix) for p in own if _is_own_option(p)])]
        formatter.write("\n".join(lines) + "\n")


def _variables(named: list[str]) -> str:
    """Return the line that says how variables are named, by the last one that fits on it."""
    lines = [f"Variables: CHRONOS_HOME, {name}, ...; see docs/environment.md" for name in reversed(named)]
    return next((line for line in lines if len(line) < 80), "Variables: CHRONOS_HOME, ...; see docs/environment.md")


def variable_of(param: Any, prefix: str) -> str:
    """Return the variable of an option: CHRONOS_, the command's words, and the option's longest name."""
    if param.envvar:
        return str(param.envvar)
    name = str(param.name).removeprefix("given_") if prefix == "CHRONOS" else max(param.opts, key=len).lstrip("-")
    return f"{prefix}_{name.replace('-', '_').upper()}"


class LazyGroup(TyperGroup):
    """A group whose commands come from the table, each imported when it is asked for."""

    entries: tuple[CommandEntry, ...] = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.params = [*self.params, *global_options()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words up to the command."""
        own = next((at for at, word in enumerate(args) if word in {entry.name for entry in self.entries}), len(args))
        refuse_swallowed(self.params, args[:own])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is named; of a group alone show what there is."""
        if ctx.parent is None or ctx._protected_args:  # noqa: SLF001 - where typer keeps the command's name
            return super().invoke(ctx)
        sys.stdout.write(ctx.get_help() + "\n")
        return 0

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of the table."""
        del ctx
        return [entry.name for entry in self.entries]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, imported now."""
        del ctx
        entry = next((entry for entry in self.entries if entry.name == cmd_name), None)
        return None if entry is None else build(entry)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command the first word names. Raises UsageError with the nearest one."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            hint = nearest(name, self.list_commands(ctx))
            if any(hint == f"did you mean '{word}'?" for word in DESTRUCTIVE):
                hint = f"see `{ctx.command_path} --help`"
            raise UsageError(f"{ctx.command_path} has no command '{name}'", hint=hint)
        return name, command, args[1:]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the commands under their headings; the root's fit one screen."""
        lines = [f"Usage: {ctx.command_path} [OPTIONS] COMMAND [ARGS]...", "", self.help or ""]
        if ctx.parent is None:
            lines += _screen(self.entries)
        else:
            lines += ["", *(f"  {entry.name:<10}{entry.help}" for entry in self.entries)]
        formatter.write("\n".join(lines) + "\n")


def refuse_swallowed(params: list[Any], args: list[str]) -> None:
    """Refuse an option as the value of the option before it: `--name --dry-run`. Raises UsageError."""
    options = [param for param in params if param.param_type_name == "option"]
    takes = {name for param in options if not param.is_flag and not param.count for name in param.opts}
    known = {name for param in options for name in param.opts} | {"--help", "-h"}
    for word, following in pairwise(args[: args.index("--")] if "--" in args else args):
        if word in takes and following.partition("=")[0] in known:
            raise UsageError(
                f"{word} has no value: {following} follows it", hint=f"give one; if that is it, {word}={following}"
            )


def build(entry: CommandEntry) -> Any:
    """Return the command of an entry of the table, from the function `command` of its module."""
    if entry.children:
        return make_group(entry.name, entry.help + ".", entry.children)
    from importlib import import_module

    module = import_module(f"chronos_cli.cli.commands.{entry.module}")
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(entry.name, cls=LazyCommand)(module.command)
    command: LazyCommand = typer.main.get_command(app)  # type: ignore[assignment]
    command.prepare = getattr(module, "prepare", None)
    return command


def make_group(name: str, text: str, entries: tuple[CommandEntry, ...], **more: Any) -> LazyGroup:
    """Return a group of commands."""
    group = LazyGroup(name=name, help=text, rich_markup_mode=None, invoke_without_command=True, **more)
    group.entries = entries
    group.callback = lambda: None
    return group


def _screen(entries: tuple[CommandEntry, ...]) -> list[str]:
    lines: list[str] = []
    panels: dict[str, list[CommandEntry]] = {}
    for entry in entries:
        panels.setdefault(entry.panel, []).append(entry)
    for number, (panel, members) in enumerate(panels.items()):
        lines.append(f"{panel}:")
        if number == 0:
            lines += [f"  {entry.name:<12}{entry.help}" for entry in members]
            continue
        half = (len(members) + 1) // 2
        for left, right in zip(members[:half], [*members[half:], None], strict=False):
            second = f"{right.name:<12}{right.brief}" if right else ""
            lines.append(f"  {left.name:<12}{left.brief:<28}{second}".rstrip())
    lines += ["Everywhere: --home DIR, --json, --quiet, --verbose, --debug, --lock-timeout S"]
    return [*lines, "Details and examples: chronos help COMMAND, or -h; chronos --version"]


def _is_own_option(param: Any, *, argument: bool = False) -> bool:
    if param.param_type_name == "argument":
        return argument
    return not str(param.name).startswith("given_")


def _row(param: Any, ctx: typer.Context) -> tuple[str, str]:
    if param.param_type_name == "argument":
        return param.make_metavar(ctx=ctx), param.help or ""
    names = ", ".join(param.opts)
    if param.secondary_opts:
        names += " / " + ", ".join(param.secondary_opts)
    if not param.is_flag and not param.count:
        names += f" {param.make_metavar(ctx=ctx)}"
    return names, param.help or ""
