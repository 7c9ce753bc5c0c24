"""`chronos tick --install`: show what runs the tick, and with --yes install it, or take it away."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronos_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.cli.output import Output
    from chronos_cli.config import Config
    from chronos_cli.operations.install import InstallKind, InstallResult, Piece, Tick

EVERY = "1m"


def install_tick(
    invocation: Invocation, kind: str, *, every: str | None, image: str | None, yes: bool, remove: bool
) -> int:
    """Print, install or remove. Raises UsageError and InstallError."""
    from chronos_cli.durations import parse_duration
    from chronos_cli.operations import install as units

    try:
        chosen = units.InstallKind(kind)
    except ValueError:
        raise UsageError(
            f"a tick cannot be installed as '{kind}'", hint=f"use {', '.join(units.InstallKind)}"
        ) from None
    config = invocation.config()
    every_s = parse_duration(every or EVERY)
    if every_s <= 0:
        raise UsageError("--every must be longer than 0", hint="write --every 1m")
    tick = _tick(config, every_s, image or "", invocation.environ)
    pieces = units.pieces(chosen, tick, invocation.environ)
    done: InstallResult | None = None
    if remove:
        invocation.confirm(f"taking the tick of {config.home} out of {pieces[0].where}", yes=yes)
        done = units.remove(chosen, tick, invocation.environ)
        _note(invocation, installed=False)
    elif yes:
        done = units.install(chosen, tick, invocation.environ)
        _note(invocation, installed=True)
    document = {
        "started": [],
        "runs": [],
        "failed": {},
        "unarmed": {},
        "doubts": {},
        "install": _json(chosen, pieces, done, removed=remove),
    }
    return invocation.done(document, lambda out: _show(out, pieces, done, removed=remove))


def _note(invocation: Invocation, *, installed: bool) -> None:
    """Write down that ticks come by themselves, so that the views need not wait for two of them to say so."""
    from chronos_cli.store.ticks import note_installed

    context = invocation.context(armed=False)
    note_installed(context.repository, context.clock() if installed else None)


def _tick(config: Config, every_s: int, image: str, environ: Mapping[str, str]) -> Tick:
    from chronos_cli.config import find_home, settings
    from chronos_cli.operations.install import Tick
    from chronos_cli.owners import SAFE_VARIABLE

    # The installed tick has none of our variables. Settings hold no secrets, unless a person put one there.
    origins = {origin for origin in config.origins.values() if origin.startswith("CHRONOS_")}
    origins -= {"CHRONOS_HOME", *(setting.env for setting in settings() if setting.private)}
    if environ.get(SAFE_VARIABLE):
        origins.add(SAFE_VARIABLE)
    return Tick(
        home=config.home,
        program=_program(environ),
        every_s=every_s,
        variables={name: environ[name] for name in sorted(origins)},
        default_home=config.home == find_home(None, {})[0],
        image=image,
    )


def _program(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the command of this very chronos, by a path that does not depend on PATH."""
    beside = Path(sys.executable).with_name("chronos")
    found = str(beside) if beside.exists() else shutil.which("chronos", path=environ.get("PATH"))
    return (found,) if found else (sys.executable, "-m", "chronos_cli")


def _json(kind: InstallKind, pieces: tuple[Piece, ...], done: InstallResult | None, *, removed: bool) -> dict[str, Any]:
    return {
        "kind": kind.value,
        "pieces": [{"where": piece.where, "text": piece.text} for piece in pieces],
        "done": None if done is None else "removed" if removed else "installed",
        "changed": done is not None and done.changed,
    }


def _show(out: Output, pieces: tuple[Piece, ...], done: InstallResult | None, *, removed: bool) -> None:
    if done is None:
        for piece in pieces:
            if len(pieces) > 1:
                out.line(f"# {piece.where}")
            out.text(piece.text)
        out.note("nothing was installed; add --yes, or put this in its place by hand")
        return
    verb = "removed" if removed else "installed"
    out.line(f"{verb}: {done.where}" if done.changed else f"{verb} already: {done.where}")
    if done.note and not removed:
        out.note(done.note)
