"""Help and options that every command of `chronos-nas` has, as those of `chronos` look."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup, TyperOption

from chronos_cli.errors import UsageError
from chronos_cli.help_text import nearest, paragraphs, section, wrapped

OUTPUTS = ("json",)
DESTRUCTIVE = ("revoke", "rotate", "retire", "drop", "redrive", "upgrade")
"""Commands that a slip of the hand is not led to."""


class NasCommand(TyperCommand):
    """One command: `-o json` is `--json`, and its help shows its examples."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        said = TyperOption(
            param_decls=["given_output", "--output", "-o"],
            metavar="KIND",
            help="json: one JSON object on stdout.",
            expose_value=False,
        )
        self.params = [*self.params, said]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words. Raises UsageError for an output that there is not."""
        return super().parse_args(ctx, list(_with_json(args)))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the usage, what the command does, its options and examples."""
        usage = " ".join(piece.strip("{}") for piece in self.collect_usage_pieces(ctx))
        body, _, examples = (self.help or "").partition("Examples:")
        lines = wrapped(f"Usage: {ctx.command_path} {usage}", hang=len(f"Usage: {ctx.command_path} "))
        lines += ["", *paragraphs(body)]
        rows = {"argument": [], "option": []}  # type: ignore[var-annotated]
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None:
                rows[param.param_type_name].append(row)
        lines += section("Arguments", rows["argument"]) + section("Options", rows["option"])
        if examples.strip():
            lines += ["", "Examples:", *(f"  {line.strip()}" for line in examples.strip().splitlines())]
        formatter.write("\n".join([*lines, "", "Variables: see docs/environment.md"]) + "\n")


class NasGroup(TyperGroup):
    """A group of commands, each with one line; alone it shows them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words up to the command."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names. Raises UsageError with the nearest one."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-"):
            hint = nearest(args[0], known)
            if any(hint == f"did you mean '{word}'?" for word in DESTRUCTIVE):
                hint = f"see `{ctx.command_path} --help`"
            raise UsageError(f"{ctx.command_path} has no command '{args[0]}'", hint=hint)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the usage, what the group is for, and its commands."""
        lines = [f"Usage: {ctx.command_path} COMMAND [ARGS]...", "", *paragraphs(self.help or "")]
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            summary = paragraphs((command.help or "").partition("\n\n")[0]) if command is not None else []
            rows.append((name, " ".join(summary)))
        lines += section("Commands", rows)
        where = f"Details and examples: {ctx.command_path} COMMAND --help"
        formatter.write(
            "\n".join([*lines, "", where + ("; chronos-nas --version" if ctx.parent is None else "")]) + "\n"
        )


def _with_json(args: list[str]) -> list[str]:
    """Return the words with every `-o json` as `--json`."""
    words: list[str] = []
    rest = iter(args)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "--":
            return [*words, word, *rest]
        if name in ("-o", "--output") or (word.startswith("-o") and word[2:] in OUTPUTS):
            kind = value if equals else word[2:] if word[2:] in OUTPUTS else next(rest, "")
            if kind not in OUTPUTS:
                raise UsageError(f"there is no output '{kind}'", hint="it may be json; without it, a table is shown")
            words.append("--json")
        else:
            words.append(word)
    return words
