"""The figures of docs/performance.md: `python -m tests.bench` prints them as a table, whole processes from outside.

    python -m tests.bench                       all of it, some minutes
    python -m tests.bench --short               few rounds, 1,000 jobs to reconcile at most, warm runners alone
    python -m tests.bench --only start,fires    some of it: start, list, rewrite, reconcile, fires, cost
    python -m tests.bench --peer ENV            beside it hermes-agent from the environment ENV, on the same jobs
    python -m tests.bench --plot FILE.svg       draw the growth of reconcile too

Needs the package installed with its `test` extra; run it without PYTHONDONTWRITEBYTECODE, as an installation runs. What
counts are the ratios: each compares with a yardstick that ran in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.bench.callback_load import WAYS, measure
from tests.bench.callback_peers import LACKS, measure_peers
from tests.bench.cost import installed, limited
from tests.bench.large import lists, rewrites
from tests.bench.plot import growth_svg
from tests.bench.scenes import FireScene, console_script, environment, forget, write_config, write_jobs
from tests.bench.timing import BARS_OF_MS, Arm, Samples, Stopwatch, judged, verdict
from tests.fire_tokens import SigningKey, serve_jwks
from tests.nas_process import running_nas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.nas_process import NasProcess

HELLO = "import typer\napp = typer.Typer()\n\n\n@app.command()\ndef main():\n    print('hello')\n\n\napp()\n"
PER_CALL = (
    "import sys, chronos_cli.nas_client.bulk as bulk; bulk.FEATURE_BATCH = 'unknown'; sys.argv = ['chronos', 'reconcile', '-q'];"
    "from chronos_cli.cli import main; sys.exit(main())"
)
PEER = "from plugins.cron_providers.chronos import ChronosCronScheduler; ChronosCronScheduler().reconcile()"
PASS, TYPER, BOTH = "python -c pass", "typer hello world", "python -c 'import typer, jwt'"
SIZES = (100, 300, 1_000, 3_000, 10_000)
STARTS = "import sys, chronos_cli.running.detach as detach; detach.fork_runner = lambda *_, **__: None; from chronos_cli.cli import main; sys.exit(main())"


@dataclass
class Report:
    """Markdown, printed as it comes so that a long run shows where it is."""

    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Of each way to reconcile: (jobs, seconds)."""

    def say(self, text: str = "") -> None:
        """One line."""
        print(text, flush=True)

    def head(self, title: str, *columns: str) -> None:
        """A table's title and head."""
        self.say(f"\n### {title}\n")
        self.say("| " + " | ".join(columns) + " |")
        self.say("| --- |" + " ---: |" * (len(columns) - 1))

    def row(self, *cells: str) -> None:
        """A table's row."""
        self.say("| " + " | ".join(cells) + " |")

    def cost(self, samples: Samples) -> tuple[str, str, str]:
        """Its time, its processor time and its memory, as cells."""
        return f"{samples.wall_ms:.0f} ms", f"{samples.cpu_ms:.0f} ms", f"{samples.peak_mib:.0f} MiB"


def compared(value: float, bar: float | None) -> str:
    """A ratio with its bar, and whether it is met."""
    return f"{value:.2f}" if bar is None else f"{value:.2f} (bar {bar:g}: {'met' if value <= bar else 'NOT MET'})"


def starts(watch: Stopwatch, folder: Path, nas: NasProcess, report: Report, rounds: int, peer: str | None) -> None:
    """How long commands take that do little: all of it is start and end."""
    home = folder / "hundred"
    write_config(home)
    write_jobs(home, 100)
    (folder / "hello.py").write_text(HELLO)
    env, python, chronos = environment(home), sys.executable, console_script("chronos")
    until_job: list[float] = []
    key = SigningKey.rs256()
    with serve_jwks(key) as jwks:
        scene = FireScene.make(folder / "fire", nas.url, nas.add_agent("fire"), jwks.url, key, 100)
        answered = {
            name: FireScene.make(folder / name, nas.url, nas.add_agent(name), jwks.url, key, 100, *options)
            for name, options in (("answer", ("--answer",)), ("detached", ("--detach", "--answer")))
        }

        def check(run: object) -> None:
            scene.check(run)  # type: ignore[arg-type]
            until_job.append(scene.until_job(run))  # type: ignore[arg-type]

        started = FireScene.make(
            folder / "started", nas.url, nas.add_agent("started"), jwks.url, key, 100, "--detach", "--answer"
        )
        arms = [
            Arm(name=PASS, argv=[python, "-c", "pass"], env=env),
            Arm(name=TYPER, argv=[python, str(folder / "hello.py")], env=env),
            Arm(name=BOTH, argv=[python, "-c", "import typer, jwt"], env=env),
            Arm(name="chronos --version", argv=[chronos, "--version"], env=env),
            Arm(name="completion of job ids", argv=[chronos, "__complete", "jobs", "nightly-00"], env=env),
            Arm(name="chronos list --offline, 100 jobs", argv=[chronos, "list", "--offline"], env=env),
            Arm(name="chronos --help", argv=[chronos, "--help"], env=env),
            Arm(name="chronos fire, whole", argv=scene.argv, env=scene.env, prepare=scene.prepare, check=check),
            *(
                Arm(
                    name=f"chronos fire {' '.join(other.options)}, whole",
                    argv=other.argv,
                    env=other.env,
                    prepare=other.prepare,
                    check=other.check,
                )
                for other in answered.values()
            ),
            Arm(
                name="the same, its runner started",
                argv=[python, "-c", STARTS, *started.argv[1:]],
                env=started.env,
                prepare=started.prepare,
                check=started.check,
            ),
        ]
        if peer is not None:
            (folder / "peer").mkdir()
            write_jobs(folder / "peer", 100)
            more = {**env, "HERMES_HOME": str(folder / "peer")}
            arms.append(Arm(name="hermes cron list, 100 jobs", argv=[f"{peer}/bin/hermes", "cron", "list"], env=more))
        found = watch.measure(arms, rounds)
        asked = jwks.count
    report.head(
        "Start", "command", "median", "CPU", "peak memory", "x pass", "x typer", "x typer, jwt", "CPU x typer, jwt"
    )
    bars = {
        ("chronos list --offline, 100 jobs", TYPER): 1.35,
        ("chronos --help", TYPER): 2.5,
        ("chronos fire, whole", BOTH): 1.45,
        ("chronos fire --detach --answer, whole", BOTH): 1.0,
    }
    for name, samples in found.items():
        ratios = [compared(samples.ratio(found[base]), bars.get((name, base))) for base in (PASS, TYPER, BOTH)]
        report.row(name, *report.cost(samples), *ratios, f"{samples.cpu_ratio(found[BOTH]):.2f}")
    until = until_job[-rounds:]
    ratio = median(mine / theirs.wall for mine, theirs in zip(until, found[BOTH].runs, strict=True))
    report.row(
        "chronos fire, until its job runs", f"{1000 * median(until):.0f} ms", "", "", "", "", compared(ratio, 0.75)
    )
    report.say(f"\nAsked for keys {asked} times in {len(until_job)} fires: all others found them in the home's cache.")


class Fleet:
    """A home of so many jobs, to be armed at a NAS that has not heard of it yet."""

    numbers = count()

    def __init__(self, folder: Path, nas: NasProcess, size: int) -> None:
        self.home = folder / f"fleet-{size}"
        self.nas = nas
        write_jobs(self.home, size)

    @property
    def env(self) -> dict[str, str]:
        """Without a token: that is in a file, since it changes."""
        return {name: value for name, value in environment(self.home).items() if name != "CHRONOS_NAS_TOKEN"}

    def anew(self) -> None:
        """Become another agent of the same jobs, for whom NAS holds nothing."""
        access = self.nas.add_agent(f"fleet-{next(self.numbers)}")
        forget(self.home)
        write_config(self.home, portal=self.nas.url, audience=access.audience)
        (self.home / "token").write_text(access.token)
        (self.home / "token").chmod(0o600)
        with (self.home / "config.yaml").open("a") as config:
            config.write("    token_file: token\n")

    def arms(self, *, per_call: bool) -> list[Arm]:
        """Cold by single calls, if wanted; cold by batch; and converged, right after."""
        chronos = [console_script("chronos"), "reconcile", "-q"]
        single = Arm(name="cold, call by call", argv=[sys.executable, "-c", PER_CALL], env=self.env, prepare=self.anew)
        return [
            *([single] if per_call else []),
            Arm(name="cold, by batch", argv=chronos, env=self.env, prepare=self.anew),
            Arm(name="converged", argv=chronos, env=self.env),
        ]


class PeerFleet(Fleet):
    """The same jobs in a home of hermes-agent's, which arms them with its own client."""

    def __init__(self, folder: Path, nas: NasProcess, size: int, environment: str) -> None:
        super().__init__(folder / "peer-fleet", nas, size)
        self._python = f"{environment}/bin/python"

    def anew(self) -> None:
        """As another agent, logged in as hermes keeps it."""
        access = self.nas.add_agent(f"peer-{next(self.numbers)}")
        write_config(self.home, portal=self.nas.url, audience=access.audience)
        until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        state = {"providers": {"nous": {"access_token": access.token, "expires_at": until}}, "active_provider": "nous"}
        (self.home / "auth.json").write_text(json.dumps({"version": 1, **state}))

    def arms(self) -> list[Arm]:
        """Cold, and converged right after."""
        argv, env = [self._python, "-c", PEER], {**self.env, "HERMES_HOME": str(self.home)}
        return [
            Arm(name="hermes-agent, cold", argv=argv, env=env, prepare=self.anew),
            Arm(name="hermes-agent, converged", argv=argv, env=env),
        ]


def reconciles(
    watch: Stopwatch, folder: Path, report: Report, rounds: int, sizes: Sequence[int], peer: str | None
) -> None:
    """Reconcile against a real chronos-nas on SQLite, over loopback: whole processes."""
    bars = {
        (1_000, "cold, call by call"): 1.5,
        (1_000, "cold, by batch"): 0.4,
        (1_000, "converged"): 0.35,
        (10_000, "cold, call by call"): 15.0,
        (10_000, "cold, by batch"): 3.0,
    }
    report.head("Reconcile", "jobs, and how", "median", "CPU", "peak memory", "x typer, jwt", "CPU x typer, jwt", "bar")
    yard = Arm(name=BOTH, argv=[sys.executable, "-c", "import typer, jwt"], env=environment(folder))
    for size in sizes:
        (folder / str(size)).mkdir()
        with running_nas(folder / str(size)) as nas:
            fleet = Fleet(folder, nas, size)
            times = rounds if size <= 1_000 else max(2, rounds // 3)
            arms = [*fleet.arms(per_call=size in (1_000, 10_000)), yard]
            if peer is not None and size == 1_000:
                arms += PeerFleet(folder, nas, size, peer).arms()
            found = watch.measure(arms, times, warmup=int(size <= 1_000))
        for name, samples in found.items():
            if name == BOTH:
                continue
            if not name.startswith("hermes"):
                report.points.setdefault(name, []).append((size, samples.wall_ms / 1000))
            ratio, cpu = samples.ratio(found[BOTH]), samples.cpu_ratio(found[BOTH])
            met = judged(bars.get((size, name)), samples.wall_ms / 1000, ratio)
            report.row(f"{size:,} {name}", *report.cost(samples), f"{ratio:.1f}", f"{cpu:.1f}", met)


FIRE_BARS = {
    ("alone, warm", "cpu_ms"): 25.0,
    ("alone, warm", "median_ms"): 25.0,
    ("crowd, warm", "p99_ms"): 200.0,
    ("second, warm", "all_run_s"): 4.0,
    ("second, warm", "p99_ms"): 3500.0,
}
"""Of a machine on which importing typer and PyJWT takes `BARS_OF_MS`: on another they are as much longer as that is."""
RATE_BAR = 35.0
YARD_ROUNDS = 7


def _fire_bar(value: float, bar: float, slower: float) -> str:
    return f" (bar {bar:g}: {verdict(value <= bar)}; here {bar * slower:.1f}: {verdict(value <= bar * slower)})"


def fires(watch: Stopwatch, folder: Path, report: Report, ways: Sequence[str] = tuple(WAYS)) -> None:
    """What a callback carries: the time until its 202, and the processor time of one fire."""
    (folder / "fires").mkdir()
    yard = Arm(name=BOTH, argv=[sys.executable, "-c", "import typer, jwt"], env=environment(folder))
    before = watch.measure([yard], YARD_ROUNDS)[BOTH].cpu_ms
    found = {**measure(folder / "fires", ("alone", "crowd", "second"), ways), **measure_peers(folder / "fires")}
    took = (before + watch.measure([yard], YARD_ROUNDS)[BOTH].cpu_ms) / 2
    slower = took / BARS_OF_MS
    heads = {
        "fires": "fires",
        "callers": "callers",
        "median_ms": "answer, median",
        "p99_ms": "answer, p99",
        "own_ms": "CPU of the callback",
        "runner_ms": "CPU of runner and job",
        "cpu_ms": "CPU of a fire",
        "all_run_s": "all have run",
    }
    report.head("Fires", "scene", *heads.values())
    for name, scene in found.items():
        cells = []
        for column in heads:
            bar = FIRE_BARS.get((name, column))
            unit = f" {column.rpartition('_')[2]}" if "_" in column else ""
            value = scene.get(column)
            met = "" if bar is None else _fire_bar(value, bar, slower)
            cells.append("" if value is None else f"{value}{unit}{met}")
        report.row(name, *cells)
    crowd = found["crowd, warm"]
    rate = crowd["fires"] / crowd["all_run_s"] / (os.cpu_count() or 1)
    report.say(
        f"\nA second and core, sustained by eight callers: {rate:.0f} fires (bar {RATE_BAR:g}: {verdict(rate >= RATE_BAR)}; "
        f"here {RATE_BAR / slower:.0f}: {verdict(rate >= RATE_BAR / slower)}).\n\nThese bars are of a machine on which importing typer and PyJWT takes "
        f"{BARS_OF_MS:g} ms of processor time. In this run it took {took:.0f} ms, so a bar `here` is {slower:.2f} of it."
    )
    report.say(
        "\nalone: one caller; crowd: 8 at once; second: 200 fires that arrive within one second. warm: runners are forked "
        "from a warm one; started: each is started anew. Runners and jobs compete with the callback for the same cores. "
        "All were accepted, all ran, none twice.\n\nThe last rows are what users pick instead, with the same job. "
        "What they do not do:\n"
    )
    for name, lacks in LACKS.items():
        report.say(f"- {name}: {lacks}.")


def machine() -> str:
    """What the figures were made on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("typer", "pyjwt", "cryptography", "requests"))
    return (
        f"{platform.system()} {platform.release().split('-')[0]} on {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}; chronos-cron {version('chronos-cron')}, {packages}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--short", action="store_true", help="three rounds, 1,000 jobs to reconcile, warm runners alone"
    )
    parser.add_argument(
        "--only", default="start,list,rewrite,reconcile,fires,cost", help="which parts, comma separated"
    )
    parser.add_argument("--peer", metavar="ENV", help="a virtual environment with hermes-agent")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="where to draw the growth of reconcile, as SVG")
    chosen = parser.parse_args(arguments)
    rounds, sizes = (3, SIZES[:3]) if chosen.short else (chosen.rounds, SIZES)
    report = Report()
    report.say(f"{machine()}; {rounds} rounds; load {os.getloadavg()[0]:.1f} at the start.")
    with tempfile.TemporaryDirectory() as name, Stopwatch(Path(name)) as watch:
        folder, parts = Path(name), chosen.only.split(",")
        yard = Arm(name=BOTH, argv=[sys.executable, "-c", "import typer, jwt"], env=environment(folder))
        if "start" in parts or "cost" in parts:
            with running_nas(folder) as nas:
                if "start" in parts:
                    starts(watch, folder, nas, report, rounds, chosen.peer)
                if "cost" in parts:
                    installed(folder, report)
                    limited(watch, folder, nas, report, max(3, rounds // 3), yard)
        if "list" in parts:
            lists(watch, folder, report, max(3, rounds // 2), yard)
        if "rewrite" in parts:
            rewrites(report, rounds)
        if "reconcile" in parts:
            reconciles(watch, folder, report, max(2, rounds // 3), sizes, chosen.peer)
            if chosen.plot is not None:
                chosen.plot.write_text(growth_svg(report.points))
        if "fires" in parts:
            fires(watch, folder, report, ("warm",) if chosen.short else tuple(WAYS))


if __name__ == "__main__":
    main()
