"""The built-in trigger: a tick runs what is due, once, with real processes; NAS may be live beside it."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.config import load_config
from chronos_cli.core.edits import JobDraft
from chronos_cli.core.policy import Policy
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import TemporaryError
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import DetachedLauncher, InlineLauncher
from chronos_cli.operations.firing.tick import tick
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.running.detach import Runners
from chronos_cli.store.ticks import read_ticks


@pytest.fixture
def home(tmp_path):
    (tmp_path / "config.yaml").write_text("timezone: UTC\n")
    return tmp_path


def opened(home):
    return open_home(
        load_config(environ={}, home=str(home)), ProcessEnvironment(environ={"PATH": "/usr/bin:/bin"}, secrets={})
    )


def detached(home, wait_s=None):
    return DetachedLauncher(
        Runners(),
        launching={"home": str(home), "armed": False},
        environment={"PATH": "/usr/bin:/bin"},
        secrets={},
        wait_s=wait_s,
    )


def add(ctx, job_id, schedule, script):
    now = ctx.clock()
    zone = ctx.home.zone
    draft = JobDraft(
        job_id=job_id, name=job_id, schedule=parse_schedule(schedule, now=now, zone=zone, allow_past=True), zone=zone,
        zone_name="UTC", policy=Policy(), action={"shell": script},
    )  # fmt: skip
    return jobs.add(ctx, draft).job


def make_due(home, job_id, ago=timedelta(seconds=1)):
    """Set a job's cursor into the past, as if the machine had been off."""
    path = home / "cron" / "jobs.json"
    stored = json.loads(path.read_text())
    for job in stored["jobs"]:
        if job["id"] == job_id:
            job["next_run_at"] = (datetime.now(UTC).replace(microsecond=0) - ago).isoformat()
    path.write_text(json.dumps(stored))


def test_a_tick_runs_what_is_due_and_only_that(home):
    """A due job runs under a runner, one ahead does not, and the next tick finds nothing."""
    ctx = opened(home)
    add(ctx, "due", "every 1h", f"echo $CHRONOS_FIRE_AT >> {home}/diary")
    add(ctx, "ahead", "every 1h", f"echo wrong >> {home}/diary")
    make_due(home, "due")
    first = tick(ctx, detached(home))
    assert [row.state.value for row in first.rows] == ["ok"]
    assert tick(ctx, detached(home)).started == ()
    assert len((home / "diary").read_text().split()) == 1
    assert read_ticks(ctx.repository).at <= datetime.now(UTC)


def test_ticks_and_relays_at_once_run_every_occurrence_once(home):
    """A relay of an occurrence that a tick has claimed is a duplicate, and the other way round."""
    ctx = opened(home)
    add(ctx, "both", "every 1h", f"echo ran >> {home}/diary")
    make_due(home, "both")
    instant = jobs.get(ctx, "both").cursor
    assert len(tick(ctx, detached(home)).started) == 1
    assert fire(ctx, "both", fire_at=instant, delivery="d", launcher=InlineLauncher()).outcome.value == "duplicate"
    time.sleep(1.1)
    make_due(home, "both", timedelta(seconds=0))
    instant = jobs.get(ctx, "both").cursor
    assert fire(ctx, "both", fire_at=instant, delivery="e", launcher=InlineLauncher()).outcome.value == "claimed"
    assert tick(ctx, detached(home)).started == ()
    assert (home / "diary").read_text() == "ran\nran\n"


def test_max_parallel_bounds_what_goes_at_once(home):
    """With one slot, jobs run one after the other, and all of them do."""
    ctx = opened(home)
    for number in range(3):
        add(ctx, f"j{number}", "every 1h", f"echo b >> {home}/diary; sleep 0.2; echo e >> {home}/diary")
        make_due(home, f"j{number}")
    assert len(tick(ctx, detached(home), max_parallel=1).rows) == 3
    assert (home / "diary").read_text().split() == ["b", "e"] * 3


@pytest.mark.parametrize("launcher", [detached, lambda _: InlineLauncher()], ids=["runners", "inline"])
def test_a_slot_is_free_once_any_run_is_over(home, launcher):
    """The first goes on until the third has run, which needs the slot of the second."""
    ctx = opened(home)
    scripts = {
        "a": "for i in $(seq 500); do [ -e go ] && exit 0; sleep 0.02; done; exit 1",
        "b": "true",
        "c": "touch go",
    }
    for name, script in scripts.items():
        add(ctx, name, "every 1h", f"cd {home}; {script}")
        make_due(home, name)
    rows = tick(ctx, launcher(home), max_parallel=2).rows
    assert sorted((row.job_id, row.state.value) for row in rows) == [("a", "ok"), ("b", "ok"), ("c", "ok")]
    assert rows[0].job_id == "b"


def test_a_detached_tick_returns_while_the_job_goes_on(home):
    """With nothing to wait for, a tick returns once its runs have started, and they end on their own."""
    ctx = opened(home)
    add(ctx, "slow", "every 1h", f"sleep 1; echo ran > {home}/diary")
    make_due(home, "slow")
    ticked = tick(ctx, detached(home, wait_s=0.0))
    assert len(ticked.started) == 1
    assert ticked.rows == ()
    assert not (home / "diary").exists()
    until = time.monotonic() + 10
    while not ((home / "diary").exists() and (home / "diary").stat().st_size) and time.monotonic() < until:
        time.sleep(0.05)
    assert (home / "diary").read_text() == "ran\n"


def test_a_stepped_clock_runs_a_minutely_job_once_a_minute(home):
    """Ticks at each minute of a stepped clock run a `* * * * *` job on its minute, once a minute."""
    from dataclasses import replace

    ctx = opened(home)
    add(ctx, "minutely", "* * * * *", f"echo $CHRONOS_FIRE_AT >> {home}/diary")
    start = jobs.get(ctx, "minutely").cursor
    for minute in range(3):
        for second in (1, 31):
            at = start + timedelta(minutes=minute, seconds=second)
            tick(replace(ctx, clock=lambda at=at: at), InlineLauncher())
    ran = (home / "diary").read_text().split()
    assert ran == [(start + timedelta(minutes=minute)).isoformat() for minute in range(3)]


def test_what_is_due_together_is_claimed_in_one_write_and_fails_alone(home):
    """Five jobs: one write takes them all; a row of one that cannot be written is that one's failure."""
    ctx = opened(home)
    for name in "abcde":
        add(ctx, name, "every 1h", "true")
        make_due(home, name)
    (home / "cron/runs").mkdir(parents=True)
    claims = []

    class Seen(InlineLauncher):
        def launch(self, ctx, claim):
            stored = json.loads((home / "cron/jobs.json").read_text())["jobs"]
            claims.append(sum(bool(job["chronos"].get("open")) for job in stored))
            if claim.entry.run and claim.record["id"] == "c":
                raise TemporaryError("no runner for this one")
            return super().launch(ctx, claim)

    ticked = tick(opened(home), Seen())
    assert claims[0] == 5, "all were claimed by the time the first was started"
    assert sorted(ticked.failed) == ["c"]
    assert [row.state.value for row in ticked.rows] == ["ok"] * 4
    again = tick(opened(home), InlineLauncher())
    assert [(row.job_id, row.state.value) for row in again.rows] == [("c", "ok")]


def test_a_slot_that_is_not_free_claims_nothing(home):
    """With two slots, two are claimed at first: the third is still anybody's."""
    for name in "abc":
        add(opened(home), name, "every 1h", "true")
        make_due(home, name)
    claims = []

    class Seen(InlineLauncher):
        def launch(self, ctx, claim):
            stored = json.loads((home / "cron/jobs.json").read_text())["jobs"]
            claims.append(sum(bool(job["chronos"].get("open")) for job in stored))
            return super().launch(ctx, claim)

    assert len(tick(opened(home), Seen(), max_parallel=2).rows) == 3
    assert claims[0] == 2
