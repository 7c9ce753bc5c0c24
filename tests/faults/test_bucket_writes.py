"""A bucket that answers 503, or not at all, at any request of a fire, a tick and a reconcile.

No run is left stuck, none is started twice, and each occurrence ends in one row: on one machine and on two.
"""

from __future__ import annotations

import os
import random
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from chronos_cli.core.policy import OnCrash
from chronos_cli.errors import ChronosError, TemporaryError
from chronos_cli.operations.arming.reconcile import reconcile
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.tick import tick
from chronos_cli.running import liveness, lock, machine
from chronos_cli.store.interface import DocumentStore, OutcomeUnknown
from tests.conftest import at_length, thoroughly
from tests.faults.world import World
from tests.memory_store import MemoryStore
from tests.store.conftest import s3, s3_server  # noqa: F401 - fixtures
from tests.store.faulty_proxy import FaultyProxy

HOUR = 3600
FAULTS = (503, FaultyProxy.LOSE_ANSWER, FaultyProxy.LOSE_REQUEST)


@pytest.fixture
def folder(monkeypatch):
    monkeypatch.setattr(liveness, "END_WITHIN_S", 0.02)
    with tempfile.TemporaryDirectory(
        prefix="chronos-bucket-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    ) as made:
        yield Path(made)


@contextmanager
def on(name):
    """This process is on another machine meanwhile: its pids and locks say nothing here."""
    identity = {"boot": name, "pid_namespace": name, "host": name}
    with pytest.MonkeyPatch.context() as patch:
        for module in (lock, liveness, machine):
            patch.setattr(module, "machine_identity", lambda: identity)
        yield


def do(kind, world, documents=None, name="one"):
    """One process; what it raises must be of the one family."""
    with on(name):
        ctx = world.context(documents, name)
        try:
            if kind == "fire":
                return fire(ctx, "a", fire_at=world.cursor("a"), delivery="1", launcher=InlineLauncher())
            return tick(ctx, InlineLauncher()) if kind == "tick" else reconcile(ctx)
        except ChronosError as error:
            return error


@pytest.mark.parametrize(
    "step", [thoroughly(13, 43), pytest.param(at_length(1, 5), marks=pytest.mark.soak)], ids=["some", "each"]
)
@pytest.mark.parametrize("kind", ["fire", "tick", "reconcile"])
def test_no_fault_of_a_request_loses_doubles_or_blocks_an_occurrence(folder, s3, kind, step):  # noqa: F811
    """Each request in turn fails, in each of three ways, before a real S3 API; afterwards all goes well."""
    proxy = FaultyProxy(s3.endpoint.removeprefix("http://"))
    proxied = replace(s3, endpoint=proxy.url)
    bad, count, number = [], 0, 0
    try:
        while number == 0 or number < count * len(FAULTS):
            place = folder / str(number)
            place.mkdir()
            at, fault = divmod(number, len(FAULTS))
            world = World(place, documents=replace(s3, url=f"{s3.url}/{number}").open(), on_crash=OnCrash.SKIP)
            due = world.cursor("a")
            world.moved += timedelta(days=2) if kind == "reconcile" else timedelta()
            before = len(proxy.seen)

            def fails(_method, _path, *, target=before + at if number else -1, fault=fault):
                return FAULTS[fault] if len(proxy.seen) - 1 == target else None

            proxy.fault = fails
            came = do(kind, world, replace(proxied, url=f"{s3.url}/{number}").open())
            count = count or len(proxy.seen) - before
            try:
                world.sleep(2)
                do("tick" if kind == "reconcile" else kind, world)
                do("tick", world)
                following = world.cursor("a")
                world.moved += following - world.clock() + timedelta(seconds=1)
                do("tick", world)
                world.judge("a", [following, *([] if kind == "reconcile" else [due])], unsaid="lost")
                assert world.rows("a")[following].state.value == "ok", world.rows("a")[following]
            except AssertionError as error:
                bad.append(f"request {at} of {count}, {FAULTS[fault]} ({came}): {str(error)[:300]}")
            number += step
    finally:
        proxy.close()
    assert count > 10
    assert not bad, "\n".join(bad)


class Weak(DocumentStore):
    """A bucket of which some requests fail: refused, or done or not done without an answer."""

    def __init__(self, whole, chance, often):
        self.whole, self.chance, self.often = whole, chance, often

    @property
    def location(self):
        return "s3://weak"

    def read(self, key):
        self._may_refuse()
        return self.whole.read(key)

    def list(self, prefix):
        self._may_refuse()
        return self.whole.list(prefix)

    def delete(self, key, *, durable=True):
        self._may_refuse()
        self.whole.delete(key)

    def create(self, key, data, *, durable=True):
        return self._write(key, lambda: self.whole.create(key, data))

    def replace(self, key, data, version, *, durable=True):
        return self._write(key, lambda: self.whole.replace(key, data, version))

    def _write(self, key, write):
        self._may_refuse()
        if self.chance.random() < self.often / 2:
            raise OutcomeUnknown(key)
        version = write()
        if self.chance.random() < self.often / 2:
            raise OutcomeUnknown(key)
        return version

    def _may_refuse(self):
        if self.chance.random() < self.often:
            raise TemporaryError("503 SlowDown")


def test_two_replicas_on_a_faulty_bucket_leave_no_run_stuck(folder):
    """Every third request fails; NAS calls either machine until it is answered. Nothing is skipped for a dead run.

    The lease is longer than the period: whoever waited for it would skip what follows.
    """
    chance = random.Random(13)
    whole, skipped, missed, ran = MemoryStore(), [], 0, 0
    world = World(folder, documents=whole, timeout=HOUR, on_crash=OnCrash.SKIP)
    first = world.cursor("a")
    for _ in range(45):  # fewer than retention keeps
        due = world.cursor("a")
        world.moved += max(timedelta(), due - world.clock() + timedelta(seconds=0.5))
        for _ in range(40):
            with on(name := chance.choice(["one", "two"])):
                ctx = world.context(Weak(whole, chance, 0.3), name)
                try:
                    status = fire(ctx, "a", fire_at=due, delivery="1", launcher=InlineLauncher()).http_status
                except ChronosError:
                    status = 503
            world.sleep(5)
            if status < 300:
                break
    do("tick", world, name="one")
    do("tick", world, name="two")
    rows = world.rows("a")
    for at, row in rows.items():
        assert row.terminal, f"{at} is {row.state.value}"
        times = world.diary("a").count(at.isoformat())
        assert times <= 1, f"{at} ran {times} times"
        assert times == 1 or row.state.value != "ok", f"{at} is {row.state.value} and ran {times} times"
        ran += times
        skipped += [at] if row.state.value == "skipped" else []
        missed += row.state.value == "missed"
    assert min(rows) == first
    told = {str(at): (row.state.value, row.because, row.reason) for at, row in rows.items() if row.state.value != "ok"}
    assert skipped == [], f"{len(skipped)} of {len(rows)} were skipped: {told}"
    assert ran == len(rows) - missed
    assert missed <= 2  # nobody came through to the bucket before the next was due


def test_a_row_of_another_machine_that_cannot_be_read_waits_for_its_lease(folder):
    """Its lock is not to be seen from here: the run may go on there, so it is over only once its lease must be."""
    from chronos_cli.core.decision import FireRequest, Trigger
    from chronos_cli.operations.evaluate import evaluate
    from chronos_cli.operations.firing.run import RunTicket, begin, finish
    from chronos_cli.operations.jobs.edit import claim_manual

    whole = MemoryStore()
    world = World(folder, documents=whole, timeout=HOUR, on_crash=OnCrash.RERUN)

    def begun_and_torn():
        with on("two"):
            ctx = world.context(machine="two")
            looked = claim_manual(ctx, "a")
            (start,) = looked.decision.starts
            run = begin(ctx, RunTicket.of(looked.job, start, "starter"))
        key = f"cron/runs/a/{start.entry.run}.json"
        whole.replace(key, b"\0", whole.read(key).version)
        return ctx, run, key

    def look():
        with on("one"):
            evaluate(world.context(machine="one"), "a", FireRequest(via=Trigger.RUN_ENDED, token="t"))

    ctx, run, key = begun_and_torn()
    look()
    assert whole.read(key).data == b"\0", "a run that goes on elsewhere was settled"
    with on("two"):
        assert finish(ctx, run).state.value == "ok"
    look()
    assert b'"state": "ok"' in whole.read(key).data

    ctx, run, key = begun_and_torn()
    run.attempt.wait()
    run.locked.release(keep=True)
    world.moved += timedelta(seconds=HOUR + 30)
    look()
    assert whole.read(key).data == b"\0"
    world.moved += timedelta(seconds=60)
    look()
    assert b'"state": "lost"' in whole.read(key).data


class Slow(MemoryStore):
    """A bucket that keeps jobs apart: the answer to one claim is lost, and once a row is looked for others go first."""

    keeps_jobs_apart = True
    meanwhile = None

    def replace(self, key, data, version, *, durable=True):
        stored = super().replace(key, data, version, durable=durable)
        if self.meanwhile and not self.lost:
            self.lost = True
            raise OutcomeUnknown(key)
        return stored

    def read(self, key):
        found = super().read(key)
        if self.meanwhile and key.startswith("cron/runs/"):
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return found


def test_a_run_that_a_person_asks_for_is_not_claimed_again_where_another_process_has_run_it(folder):
    """The answer to its claim is lost; before it looks again a tick runs it, and its entry is gone."""
    from chronos_cli.operations.jobs.edit import claim_manual

    bucket = Slow()
    world = World(folder, documents=bucket)
    world.moved -= timedelta(seconds=2 * HOUR)  # nothing is due
    bucket.lost, bucket.meanwhile = False, lambda: do("tick", world)
    with on("two"):
        looked = claim_manual(world.context(machine="two"), "a")
    assert bucket.lost
    assert bucket.meanwhile is None
    assert looked.decision.starts == ()
    assert world.record("a")["chronos"].get("open", []) == []
    assert len(world.diary_of("a").read_text().splitlines()) == 1
