"""What chronos costs: bytes installed, memory, a start within 128 MiB, and what a fire costs in processor time."""

from __future__ import annotations

import compileall
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.imports import brings, size
from tests.bench.scenes import FireScene, console_script, environment, write_config, write_jobs
from tests.bench.timing import Arm
from tests.fire_tokens import SigningKey, serve_jwks

if TYPE_CHECKING:
    from tests.bench.run import Report
    from tests.bench.timing import Stopwatch
    from tests.nas_process import NasProcess

LIMIT_KIB = 128 * 1024
PACKAGE = Path(__file__).resolve().parent.parent.parent / "chronos_cli"


def installed(folder: Path, report: Report) -> None:
    """Bytes: of the package itself, without and with its compiled form, and of all it brings along."""
    copy = shutil.copytree(PACKAGE, folder / "chronos_cli", ignore=shutil.ignore_patterns("__pycache__"))
    plain = _bytes(copy)
    compileall.compile_dir(copy, quiet=2)
    others = [name for name in brings("chronos-cron") if name != "chronos-cron" and _there(name)]
    report.head("Installed", "what", "size")
    report.row("the package", f"{plain / 2**20:.1f} MiB")
    report.row("with its compiled form", f"{_bytes(copy) / 2**20:.1f} MiB")
    report.row(f"the {len(others)} distributions that it needs, for all commands", f"{sum(map(size, others)):.1f} MiB")


def limited(watch: Stopwatch, folder: Path, nas: NasProcess, report: Report, rounds: int, base: Arm) -> None:
    """Commands whose whole address space is limited to 128 MiB, with everything to be read from its compiled form."""
    home = folder / "limited"
    write_config(home)
    write_jobs(home, 100)
    key = SigningKey.rs256()
    with serve_jwks(key) as jwks:
        scene = FireScene.make(folder / "limited-fire", nas.url, nas.add_agent("limited"), jwks.url, key, 100)
        chronos, env = console_script("chronos"), environment(home)
        arms = [
            base,
            Arm(name="list --offline", argv=_within(chronos, "list", "--offline"), env=env),
            Arm(name="job show", argv=_within(chronos, "job", "show", "nightly-0000"), env=env),
            Arm(name="fire", argv=_within(*scene.argv), env=scene.env, prepare=scene.prepare, check=scene.check),
        ]
        # The first fire of a home fetches the keys, in a thread, for which the C library sets much address space aside.
        watch.once(Arm(name="fire", argv=scene.argv, env=scene.env, prepare=scene.prepare, check=scene.check))
        found = watch.measure(arms, rounds)
    report.head("Within 128 MiB of address space", "command", "median", "CPU", "peak memory", "CPU x typer, jwt")
    for name, samples in found.items():
        if name != base.name:
            report.row(name, *report.cost(samples), f"{samples.cpu_ratio(found[base.name]):.2f}")


def _within(*argv: str) -> list[str]:
    return ["/bin/sh", "-c", f'ulimit -v {LIMIT_KIB}; exec "$@"', "sh", *argv]


def _there(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
