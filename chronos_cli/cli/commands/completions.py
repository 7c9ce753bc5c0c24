"""`chronos completions`: the completion script of a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chronos_cli.errors import UsageError

if TYPE_CHECKING:
    from chronos_cli.cli.invocation import Invocation


def command(
    ctx: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="which shell")],
) -> int:
    """Print the completion script of a shell. Job ids and names are completed from the store, without NAS.

    Examples:
      chronos completions bash > ~/.local/share/bash-completion/completions/chronos
      chronos completions zsh > ~/.zfunc/_chronos
      chronos completions fish > ~/.config/fish/completions/chronos.fish
    """
    invocation: Invocation = ctx.obj
    from chronos_cli.cli.completion_scripts import SHELLS, script

    if shell not in SHELLS:
        raise UsageError(f"there is no completion for '{shell}'", hint=f"there is one for {', '.join(SHELLS)}")
    text = script(shell)
    return invocation.done({"shell": shell, "script": text}, lambda out: out.text(text))
