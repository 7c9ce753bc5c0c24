"""The commands that are dispatched before typer: what the light parser understands, typer understands alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronos_cli.cli import app, quick
from chronos_cli.cli.error_boundary import Invocation, Output
from tests.cli.conftest import spawn

WORDS = (
    "fire", "list", "job", "--job-id", "--job-id=a", "--job", "a", "-", "--token", "--token=-", "--token-file", "f.jwt",
    "--fire-at", "--fire-at=2026-11-20T15:34:15Z", "--detach", "--offline", "--json", "--quiet", "-q", "-v", "-vv",
    "--verbose", "--debug", "--home", "--home=/h", "/h", "--lock-timeout", "5", "--help", "-h", "--", "", "--dry-run", "--prune",
    "--detailed-exitcode",  "--json=1",
)  # fmt: skip


def by_typer(arguments):
    """What typer makes of the words: the command, its own values, and the invocation that noted the global ones."""
    invocation = Invocation({}, {}, Output({}))
    with app.build().make_context("chronos", list(arguments), obj=invocation) as ctx:
        group = ctx.command
        name, command, rest = group.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
        with command.make_context(name, rest, parent=ctx) as inner:
            return name, dict(inner.params), noted(invocation)


def noted(invocation):
    """All that the global options set."""
    out = invocation.output
    return invocation.home, invocation.lock_timeout, invocation.debug, out.json, out.quiet, out.verbosity


def by_hand(asked):
    """The same of what the light parser made of them."""
    command, own, everywhere = asked
    invocation = Invocation({}, {}, Output({}))
    for name, value in everywhere.items():
        invocation.note_option(name, value)
    return command, own, noted(invocation)


SOME = st.lists(st.sampled_from(WORDS), max_size=4)


@given(SOME, st.sampled_from(("fire", "list", "reconcile")), SOME)
def test_whatever_the_light_parser_understands_typer_understands_alike(before, command, after):
    """For any words: either they are left to typer, or both read the same command with the same values."""
    arguments = (*before, command, *after)
    asked = quick.parse(arguments, {})
    if asked is None:
        return
    command, own, globally = by_hand(asked)
    name, params, noted_by_typer = by_typer(arguments)
    assert (command, globally) == (name, noted_by_typer)
    usual = {key: False if isinstance(value, bool) else None for key, value in params.items()}
    assert params == {**usual, **own}


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--offline"), ("list",), ("reconcile", "--dry-run", "--detailed-exitcode", "--prune", "--json"), ("--json", "list", "--offline", "--home", "/h"), ("list", "-q", "--home=/h"),
        ("fire", "--job-id", "a", "--token", "-"), ("fire", "--token-file=f", "--job-id=a", "--fire-at", "2026", "--detach"),
    ],
)  # fmt: skip
def test_the_plain_spellings_are_understood(arguments):
    """What the documentation writes does not wait for typer."""
    assert quick.parse(arguments, {}) is not None


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (("fire", "--help"), {}), (("fire",), {}), (("fire", "--job-id"), {}), (("fire", "--job-id", "a", "more"), {}),
        (("fire", "--job-id", "a", "--job-id", "b"), {}), (("fire", "--job", "a"), {}), (("fire", "--job-id="), {}),
        (("fire", "--job-id", "-a"), {}), (("list", "--json=1"), {}), (("list", "-vv"), {}), (("list", "x"), {}),
        (("job", "list"), {}), (("run", "list"), {}), (("--home", "list"), {}), ((), {}),
        (("list",), {"CHRONOS_LIST_OFFLINE": "1"}), (("list",), {"CHRONOS_VERBOSE": "2"}),
        (("fire", "--job-id", "a"), {"CHRONOS_FIRE_DETACH": "1"}),
    ],
)  # fmt: skip
def test_everything_else_is_left_to_typer(arguments, environ):
    """Help, mistakes and variables that stand for options have one reader."""
    assert quick.parse(arguments, environ) is None


def test_a_token_in_the_environment_is_no_option():
    """$CHRONOS_FIRE_TOKEN is a secret and the usual way: it does not cost a fire the import of typer."""
    assert quick.parse(("fire", "--job-id", "a"), {"CHRONOS_FIRE_TOKEN": "x"}) is not None


@pytest.mark.parametrize(
    "arguments", [("list", "--offline"), ("reconcile",), ("fire", "--job-id", "a", "--token", "x")]
)
def test_the_three_do_not_import_typer(fixture_home, arguments):
    """A fire, a list and a reconcile run to their end without typer, whatever comes of them."""
    code = "import sys; from chronos_cli.cli import main; main(sys.argv[1:]); print('typer' in sys.modules)"
    done = spawn(*arguments, home=fixture_home, python=("-c", code))
    assert done.out.splitlines()[-1] == "False", done
