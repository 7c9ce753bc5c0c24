"""What hints name is there: commands of both programs with their options, settings, and variables."""

from __future__ import annotations

import ast
import re

from typer.main import get_command

from chronos_cli.cli import cli_model
from chronos_cli.config.settings import settings
from chronos_cli.nas_server import cli as nas_cli
from tests.conftest import ROOT
from tests.errors.hinted import _choices, _texts, _values
from tests.errors.raised import PACKAGE, _trees


def _whole(node):
    """A text with what is filled in as X; none where it is made elsewhere."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(
        part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "X" for part in parts
    )


def _hints():
    """Every hint, whole, with its file."""
    for path, tree in _trees().items():
        texts = _texts(tree)
        for node in ast.walk(tree):
            for value in _values(node):
                for one in _choices(value, texts):
                    yield path.relative_to(PACKAGE).as_posix(), _whole(one)


def _said():
    """Every text with something filled in, or none, of the package."""
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
                yield path.relative_to(PACKAGE).as_posix(), _whole(node)


def _nas_commands(command, words=()):
    """The words of each command of `chronos-nas` with its options."""
    yield words, {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    for name, below in getattr(command, "commands", {}).items():
        yield from _nas_commands(below, (*words, name))


def _known():
    ours = {fact.words: {name for option in fact.options for name in option.names} for fact in cli_model.commands()}
    shared = {name for option in cli_model.global_facts() for name in option.names} | {"--help", "--version"}
    nas = dict(_nas_commands(get_command(nas_cli.build())))
    return ours, shared, nas


def test_every_command_of_either_program_that_is_named_is_there():
    """Where a part of it is filled in as well."""
    ours, shared, nas = _known()
    wrong = []
    for path, text in _said():
        alone = re.findall(r"^(chronos(?:-nas)?) ([a-z][\w -]*\w)$", text)
        for program, rest in (*re.findall(r"`(chronos(?:-nas)?) ([^`\n]+)`", text), *alone):
            words = [word.strip("',.") for word in rest.split()]
            while words and words[0].startswith("-"):
                words = words[2:] if words[0] == "--home" else words[1:]
            commands = nas if program == "chronos-nas" else ours
            found = [tuple(words[:count]) for count in (3, 2, 1) if tuple(words[:count]) in commands]
            options = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)}
            if words[:1] in (["X"], ["help"], ["COMMAND"]) or "--claimed" in words:
                continue
            group = any(known[: len(words)] == tuple(words) for known in commands)
            if (not found and not group) or (found and options - commands[found[0]] - shared):
                wrong.append((path, rest))
    assert wrong == []


def test_every_option_that_a_hint_names_is_one():
    """Of either program, or of the other one that the hint is about."""
    ours, shared, nas = _known()
    known = set().union(*ours.values(), *nas.values(), shared)
    wrong = {
        (path, option)
        for path, text in _hints()
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
        if option not in known
    }
    assert wrong == set()


def test_every_setting_that_a_hint_names_is_one():
    """By its whole name, as it stands in config.yaml."""
    known = {setting.key for setting in settings()}
    known |= {key.rpartition(".")[0] for key in known}
    named = r"\b(?:cron\.chronos|cron|policy|trust|runners|history)\.[a-z_]+(?:\.[a-z_]+)?\b"
    wrong = {
        (path, name)
        for path, text in _hints()
        for name in re.findall(named, text)
        if name not in known and not name.endswith((".json", ".yaml"))
    }
    assert wrong == set()


def test_every_variable_that_a_hint_names_is_in_a_page():
    """The pages of variables and of settings have each."""
    pages = ("environment.md", "debugging.md", "configuration.md")
    page = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in pages)
    wrong = {
        (path, name) for path, text in _hints() for name in re.findall(r"CHRONOS_[A-Z_]+", text) if name not in page
    }
    assert wrong == set()
