"""`chronos-nas completions`: scripts for bash, zsh and fish, made from what the command line offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from chronos_cli.errors import UsageError
from chronos_cli.nas_server.cli.common import say

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = ("bash", "zsh", "fish")


def completions(
    ctx: typer.Context, shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]
) -> None:
    """Print the completion script of a shell.

    Examples:
      chronos-nas completions bash > ~/.local/share/bash-completion/completions/chronos-nas
      chronos-nas completions fish > ~/.config/fish/completions/chronos-nas.fish
    """
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for '{shell}'", hint=f"there is one for {', '.join(SHELLS)}")
    for line in script(shell, ctx.find_root().command).splitlines():
        say(line)


def script(shell: str, root: Any) -> str:
    """Return the script of one of `SHELLS` for a command with its subcommands."""
    offers = dict(_offers(root, ()))
    return _fish(offers) if shell == "fish" else _bash(offers, zsh=shell == "zsh")


def _offers(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield the words, commands and options, that may come after each sequence of words."""
    children = getattr(command, "commands", {})
    options = [name for param in command.params for name in param.opts if name.startswith("-")]
    yield words, [*children, *options, "--help"]
    for name, child in children.items():
        yield from _offers(child, (*words, name))


def _bash(offers: dict[tuple[str, ...], list[str]], *, zsh: bool) -> str:
    cases = [f'        "{" ".join(words)}") words="{" ".join(may)}" ;;' for words, may in offers.items()]
    known = "|".join(f'"{" ".join(words)}"' for words in offers if words)
    head = "#compdef chronos-nas\nautoload -U +X bashcompinit && bashcompinit\n" if zsh else ""
    return f"""{head}# completion for chronos-nas. Made by `chronos-nas completions {"zsh" if zsh else "bash"}`.
_chronos_nas() {{
    COMPREPLY=()
    local current="${{COMP_WORDS[COMP_CWORD]}}" path="" word words="" index
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${{COMP_WORDS[index]}}"
        case "$path${{path:+ }}$word" in
            {known}) path="$path${{path:+ }}$word" ;;
        esac
    done
    case "$path" in
{chr(10).join(cases)}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _chronos_nas chronos-nas
"""


def _fish(offers: dict[tuple[str, ...], list[str]]) -> str:
    lines = [
        "# completion for chronos-nas. Made by `chronos-nas completions fish`.",
        "function __chronos_nas_path",
        "    set -l path",
        "    for word in (commandline -opc)[2..-1]",
        "        if not string match -q -- '-*' $word; set path $path $word; end",
        "    end",
        "    echo (string join ' ' $path)",
        "end",
        "complete -c chronos-nas -f",
    ]
    for words, may in offers.items():
        at = f'test (__chronos_nas_path) = "{" ".join(words)}"'
        for word in may:
            named = (
                f"-l {word[2:]}"
                if word.startswith("--")
                else f"-s {word[1:]}"
                if word.startswith("-")
                else f"-a {word}"
            )
            lines.append(f"complete -c chronos-nas -n '{at}' {named}")
    return "\n".join(lines) + "\n"
