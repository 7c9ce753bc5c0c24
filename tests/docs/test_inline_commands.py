"""A command that stands inside a sentence cannot be run, but it must be one: its words and options exist."""

import re
import shlex

import pytest
from typer.main import get_command

from chronos_cli.cli import cli_model as surface
from chronos_cli.nas_server import cli as nas_cli
from tests.conftest import ROOT
from tests.docs.pages import pages

_INLINE = re.compile(r"`((?:chronos|chronos-nas) [^`]+)`")
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(\.\.\.)?|\[.*|\.\.\.|…")
OURS = {fact.words: fact for fact in surface.commands()}
INTERNAL = {"--claimed"}
"""What a runner is started with: seen in a list of processes, and not for people to give."""
GLOBALS = {name for fact in surface.global_facts() for name in fact.names} | {"--help", "--version"} | INTERNAL


def shown(page):
    """The commands in the running text of a page."""
    text = re.sub(r"^ *```.*?^ *```$", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in _INLINE.findall(text)]


def _ours(words):
    """The options that a command of chronos takes, None where there is no such command."""
    for length in (2, 1):
        if tuple(words[:length]) in OURS:
            return GLOBALS | {name for option in OURS[tuple(words[:length])].options for name in option.names}
    groups = {path[:1] for path in OURS if len(path) > 1}
    return GLOBALS if tuple(words[:1]) in groups and len(words) == 1 else None


def _nas(words):
    """The same of `chronos-nas`."""
    command = get_command(nas_cli.build())
    for word in words:
        if not hasattr(command, "commands") or word.startswith("-"):
            break
        if word not in command.commands:
            return None
        command = command.commands[word]
    return {name for param in command.params for name in param.opts} | {"--help"}


@pytest.mark.parametrize("page", pages())
def test_the_commands_in_the_text_exist(page):
    """Command words, each of several written `a|b`, and every option that is named beside them."""
    for text in shown(page):
        program, *words = shlex.split(text.replace("'", '"').replace("--off|", "--off "))
        options = [word.partition("=")[0] for word in words if word.startswith("-")]
        plain = []
        for word in words:
            if word.startswith("-") or _PLACEHOLDER.fullmatch(word):
                break
            plain.append(word)
        for choice in (plain[-1] if plain else "").split("|"):
            path = [*plain[:-1], choice] if choice else []
            known = (_ours if program == "chronos" else _nas)(path) if path else GLOBALS
            assert known is not None, text
            assert [option for option in options if option not in known and option != "-"] == [], text


def test_what_does_not_exist_is_found():
    """The check bites: a word or an option that no command has is no command."""
    assert _ours(["jobs"]) is None
    assert _nas(["agent", "ad"]) is None
    assert "--overlap" in _nas(["agent", "rotate"])
    assert "--overlap" not in _ours(["list"])
