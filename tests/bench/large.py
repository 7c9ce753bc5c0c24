"""Ten thousand jobs: a whole listing, and one durable change. The jobs are those of the fixture, over and over."""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from chronos_cli.core.plan import ArmState
from chronos_cli.store.arms.document import ArmDocument
from chronos_cli.store.arms.pack import create_pack
from chronos_cli.store.interface import JOBS_KEY
from chronos_cli.store.local import LocalStore
from chronos_cli.store.repository import Repository
from tests.bench.scenes import console_script, environment, write_config
from tests.bench.store_rewrite import JOBS, sample, spliced, whole
from tests.bench.timing import Arm, judged

if TYPE_CHECKING:
    from tests.bench.run import Report
    from tests.bench.timing import Stopwatch

LIST_BAR_S, REWRITE_BAR_MS, PACK = 0.35, 120, 1_000


def home_of(folder: Path, name: str) -> Path:
    """A configured home of so many jobs, none of them armed."""
    home = folder / name
    write_config(home)
    (home / "cron").mkdir()
    (home / "cron" / "jobs.json").write_bytes(sample())
    return home


def armed(home: Path, *, packed: bool) -> None:
    """Say that each job is armed: in packs, as after a reconcile, or each by itself, as after its first fire."""
    repository = Repository(LocalStore(home, lock_timeout_s=10), sleep=time.sleep, random=lambda: 0.5)
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    given = {"state": ArmState.CONFIRMED, "wake": at, "fire_at": at, "purpose": "cursor", "generation": 1}
    given |= {
        "callback_url": "https://agent.example.com",
        "portal_url": "https://portal.example.com",
        "keys": {at: "cursor"},
    }
    ids = [record.id for record in repository.jobs().records if record.id]
    documents = {job_id: ArmDocument(job_id=job_id, **given) for job_id in ids}  # type: ignore[arg-type]
    if packed:
        for start in range(0, len(ids), PACK):
            create_pack(repository, f"p{start}", {job_id: documents[job_id] for job_id in ids[start : start + PACK]})
        return
    for job_id, document in documents.items():
        repository.arms.swap(job_id, lambda _, made=document: made)  # type: ignore[misc]


def lists(watch: Stopwatch, folder: Path, report: Report, rounds: int, base: Arm) -> None:
    """`chronos list --offline` of them, whole processes."""
    chronos = console_script("chronos")
    arms = [base]
    for name, kind in (("none armed", None), ("armed, in packs", True), ("armed, a document each", False)):
        home = home_of(folder, f"large-{name.split()[-1]}")
        if kind is not None:
            armed(home, packed=kind)
        argv = [chronos, "list", "--offline", "--json"]
        arms.append(Arm(name=f"--json, {name}", argv=argv, env=environment(home)))
        if kind is None:
            arms.append(Arm(name="for people", argv=[chronos, "list", "--offline"], env=environment(home)))
    found = watch.measure(arms, rounds)
    report.head("List of 10,000 jobs", "chronos list --offline", "median", "CPU", "peak memory", "x typer, jwt", "bar")
    for name, samples in found.items():
        if name != base.name:
            bar = LIST_BAR_S if name == "--json, none armed" else None
            ratio = samples.ratio(found[base.name])
            report.row(name, *report.cost(samples), f"{ratio:.1f}", judged(bar, samples.wall_ms / 1000, ratio))


def rewrites(report: Report, rounds: int) -> None:
    """Load them, change one, save durably: in this process, beside rewriting the whole file as JSON."""
    data = sample()
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as home:
        store = LocalStore(Path(home), lock_timeout_s=10)
        store.create(JOBS_KEY, data)
        found = store.read(JOBS_KEY)
        assert found is not None
        store.replace(JOBS_KEY, data, found.version)  # the day's backup is made once
        for number in range(rounds):
            for change in (spliced, whole):
                start = time.perf_counter()
                change(store, f"{number * 997 % JOBS:012x}", f"round {number}")
                took.setdefault(change.__name__, []).append(1000 * (time.perf_counter() - start))
    report.head("One durable change in 10,000 jobs", "what is written", "median", "least", "bar")
    bar = f"{REWRITE_BAR_MS} ms: {'met' if median(took['spliced']) <= REWRITE_BAR_MS else 'NOT MET'}"
    report.row("the bytes of the record that changed", *_figures(took["spliced"]), bar)
    report.row("everything again, as JSON", *_figures(took["whole"]), "")


def _figures(took: list[float]) -> tuple[str, str]:
    return f"{median(took):.0f} ms", f"{min(took):.0f} ms"
