"""Jobs with `overlap: replace`, whoever comes for the next occurrence, and whoever sees to the run that goes."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_cli.cli.commands.tick import _show
from chronos_cli.core.policy import Overlap
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import replace
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher, launch_each, wait_for
from chronos_cli.operations.firing.tick import tick
from chronos_cli.operations.jobs import edit as jobs
from chronos_cli.running import supervise
from tests.faults.world import PERIOD, World
from tests.memory_store import MemoryStore

ENDED = "ended for the next occurrence, which replaces it"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A supervisor looks for what it is asked every second; here more often."""
    monkeypatch.setattr(supervise, "_LOOK_EVERY_S", 0.03)


class Replacing(World):
    """Jobs that note their time, or `manual`, and go until a file of theirs is there."""

    def __init__(self, folder, *, job_ids=("a",), retries=0, documents=None):
        self.retries = retries
        super().__init__(folder, job_ids=job_ids, documents=documents, timeout=36_000)

    def draft(self, job_id):
        draft = super().draft(job_id)
        line = f"echo ${{CHRONOS_FIRE_AT:-manual}} >> {self.diary_of(job_id)}; until [ -e {self.end_of(job_id)} ]; do sleep 0.02; done"
        if self.retries:
            line = f"[ $CHRONOS_ATTEMPT = 2 ] || exit 1; {line}"
        policy = replace(
            draft.policy,
            overlap=Overlap.REPLACE,
            retries=self.retries,
            pause_after_failures=1,
            on_failure=("/usr/bin/touch", str(self.folder / "told")),
        )
        return replace(draft, action={"shell": line}, policy=policy)

    def end_of(self, job_id):
        return self.folder / f"end-{job_id}"

    def let_go(self, *job_ids):
        for job_id in job_ids:
            self.end_of(job_id).touch()

    def wait_until(self, what, check):
        until = threading.Event()
        for _ in range(1_000):
            try:
                if check():
                    return
            except ChronosError:
                pass  # a document is being written
            until.wait(0.02)
        raise AssertionError(f"not within 20 s: {what}")

    def states(self, job_id):
        return [row.state.value for _, row in sorted(self.rows(job_id).items())]

    def tick(self, **where):
        return tick(self.context(**where), InlineLauncher())

    @contextmanager
    def going(self, *job_ids, by=None):
        """A tick, or `by`, that sees to runs of these jobs in a thread of its own, until they are let go."""
        with ThreadPoolExecutor(1) as pool:
            seen = pool.submit(by or self.tick)
            try:
                for job_id in job_ids:
                    self.wait_until("it runs", lambda job_id=job_id: self.diary(job_id))
                yield seen
            finally:
                self.let_go(*job_ids)
            seen.result(timeout=20)


def by_fire(world):
    at = world.cursor("a")
    return fire(world.context(), "a", fire_at=at, delivery="d", launcher=InlineLauncher()).outcome.value


def by_tick(world):
    done = world.tick()
    assert done.failed == {}
    said = []
    _show(SimpleNamespace(quiet=False, note=said.append, line=said.append, warn=said.append), done)
    if done.owed:
        assert said[0] == "nothing was started"
        assert re.fullmatch(r"a  \d+T\d+Z  queued: \d+T\d+Z was still under way", said[1])
    return done.owed[0].state.value if done.owed else "claimed"


DOORS = {"fire": by_fire, "tick": by_tick}


@pytest.mark.parametrize("by", DOORS)
@pytest.mark.parametrize("first_by", DOORS)
def test_the_next_occurrence_replaces_the_run_whoever_comes_for_either(tmp_path, first_by, by):
    """The one ends as interrupted and says why, which is no failure; the other runs, and nothing stays of the asking."""
    world = Replacing(tmp_path)
    first = world.cursor("a")
    with world.going("a", by=lambda: DOORS[first_by](world)):
        world.moved += PERIOD
        assert DOORS[by](world) == "queued"
        world.wait_until("the next one runs", lambda: len(world.diary("a")) == 2)
        assert world.states("a") == ["interrupted", "running"]
        assert world.rows("a")[first].reason == ENDED
    assert world.states("a") == ["interrupted", "ok"]
    assert (world.record("a")["state"], world.record("a")["last_status"]) == ("scheduled", "ok")
    assert not (tmp_path / "told").exists()
    assert world.diary("a") == [first.isoformat(), (first + PERIOD).isoformat()]
    assert list((world.home / "cron" / "locks").glob("a.*")) == []


def test_a_retry_is_replaced_and_followed_by_none(tmp_path):
    """The occurrence before is over with it, however many attempts it had left."""
    world = Replacing(tmp_path, retries=5)
    first = world.cursor("a")
    world.tick()
    assert world.states("a") == ["accepted"]
    world.moved += PERIOD / 60
    with world.going("a"):
        world.moved += PERIOD
        world.tick()
        world.wait_until("it is ended", lambda: world.rows("a")[first].terminal)
        row = world.rows("a")[first]
        assert (row.state.value, row.attempt, row.reason) == ("interrupted", 2, ENDED)
        world.wait_until("the next one failed once", lambda: world.states("a") == ["interrupted", "accepted"])


def test_a_run_that_a_person_asked_for_is_waited_for_and_the_scheduled_one_beside_it_replaced(tmp_path):
    """`chronos run` begins beside what goes and ends nothing; what comes due then waits for it alone."""
    world = Replacing(tmp_path)
    first = world.cursor("a")

    def by_hand():
        ctx = world.context()
        return wait_for(launch_each(ctx, jobs.claim_manual(ctx, "a"), InlineLauncher()))

    with world.going("a"), world.going("a", by=by_hand):
        world.wait_until("both run", lambda: sorted(world.diary("a")) == [first.isoformat(), "manual"])
        assert world.states("a") == ["running"]
        world.moved += PERIOD
        world.tick()
        world.wait_until("the scheduled one is ended", lambda: world.rows("a")[first].terminal)
        world.tick()
        assert world.states("a") == ["interrupted", "queued"]
    assert world.states("a") == ["interrupted", "ok"]
    assert [row.state.value for row in world.context().repository.rows.of("a") if row.scheduled_at is None] == ["ok"]


def test_of_runs_side_by_side_only_the_replaced_one_ends(tmp_path):
    """One process sees to three: each is ended, followed and on record as it comes, whatever else goes on."""
    world = Replacing(tmp_path, job_ids=("a", "b", "c"))
    first = world.cursor("b")
    with world.going("a", "b", "c"):
        world.moved += PERIOD
        context = world.context()
        fire(context, "b", fire_at=first + PERIOD, delivery="d", launcher=InlineLauncher())
        world.wait_until("the next one runs", lambda: len(world.diary("b")) == 2)
        assert [world.states(job_id) for job_id in "abc"] == [["running"], ["interrupted", "running"], ["running"]]
        world.let_go("c")
        world.wait_until("the third is on record", lambda: world.states("c") == ["ok"])
        assert world.states("b") == ["interrupted", "running"]
        world.let_go("b")
        world.wait_until("the second as well", lambda: world.states("b") == ["interrupted", "ok"])
        assert world.states("a") == ["running"]
    assert world.states("a") == ["ok"]


def test_a_run_of_another_machine_is_waited_for_until_its_own_asks(tmp_path):
    """From there it cannot be ended: the next occurrence is queued, and a look on the run's own machine ends it."""
    documents = MemoryStore()
    world = Replacing(tmp_path, documents=documents)
    first = world.cursor("a")
    with world.going("a"):
        world.moved += PERIOD
        world.tick(machine="two")
        other = world.context(machine="two")
        assert not other.processes.ask_to_end(world.rows("a")[first])
        world.tick(machine="two")
        assert world.states("a") == ["running", "queued"]
        world.tick()
        world.wait_until("the next one runs", lambda: len(world.diary("a")) == 2)
        assert world.states("a") == ["interrupted", "running"]


@pytest.mark.parametrize("how", ["open to others", "moved away"])
def test_a_run_whose_lock_cannot_be_read_is_waited_for(tmp_path, how):
    """It goes on to its end, and the occurrence behind it runs then."""
    world = Replacing(tmp_path)
    with world.going("a"):
        (lock,) = (world.home / "cron" / "locks").glob("a.*")
        if how == "open to others":
            lock.chmod(0o644)
        else:
            lock.rename(Path(tmp_path, "elsewhere"))
        world.moved += PERIOD
        assert by_fire(world) == "queued"
        threading.Event().wait(0.2)
        assert world.states("a") == ["running", "queued"]
    assert world.states("a") == ["ok", "ok"]
