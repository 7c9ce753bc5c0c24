"""The store as one process sees it: every read and write is a place to be interrupted, to fail, or to lose an answer."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chronos_cli.errors import LockTimeoutError, TemporaryError
from chronos_cli.store.arms.store import ArmStore, arm_key
from chronos_cli.store.interface import JOB_PREFIX, JOBS_KEY, Document, DocumentStore, OutcomeUnknown, VersionConflict
from chronos_cli.store.jobsfile import JobsFile
from chronos_cli.store.layout import Layout
from chronos_cli.store.listing import job_key, read_listing
from chronos_cli.store.repository import Repository
from tests.sim.tasks import Crash
from tests.sim.troubles import lock_fails, write_fails

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chronos_cli.store.documents import DocumentRepository
    from tests.memory_store import MemoryStore
    from tests.sim.tasks import Task
    from tests.sim.world import World


def label_of(key: str, verb: str) -> str:
    """What kind of write this is, for the statistics of crash points."""
    if key == JOBS_KEY:
        return f"{verb} jobs"
    kinds = {JOB_PREFIX: "job", "cron/runs/": "row", "cron/arms/": "arm", "cron/arm-packs/": "pack"}
    return f"{verb} {next((kind for prefix, kind in kinds.items() if key.startswith(prefix)), 'other')}"


class SimStore(DocumentStore):
    """A view of the shared documents."""

    def __init__(self, world: World, task: Task) -> None:
        self.world, self.task = world, task

    @property
    def keeps_jobs_apart(self) -> bool:
        return self.world.cfg.apart

    @property
    def location(self) -> str:
        return "simulated"

    def read(self, key: str) -> Document | None:
        world = self.world
        if self.task.dead:
            raise Crash
        self.task.touched = True
        if world.faults and world.chance(world.cfg.read_pause):
            world.pause(self.task, "read")
        if world.faults and world.chance(world.cfg.p_read_fails):
            world.cover("store", "read fails")
            self.task.failed = world.check.unheard = True
            raise TemporaryError("the store cannot be read just now")
        return world.store.read(key)

    def create(self, key: str, data: bytes, *, durable: bool = True) -> str:
        return self._write(key, "create", lambda: self.world.store.create(key, data, durable=durable))

    def replace(self, key: str, data: bytes, version: str, *, durable: bool = True) -> str:
        return self._write(key, "replace", lambda: self.world.store.replace(key, data, version, durable=durable))

    def _write(self, key, verb, write):
        world, task = self.world, self.task
        world.pause(task, label_of(key, verb))
        roll = world.rng.random() if world.faults else 1.0
        cfg = world.cfg
        if roll < cfg.p_conflict:
            world.cover("store", "conflict out of nothing")
            raise VersionConflict(key)
        if world.full or roll < cfg.p_conflict + cfg.p_write_fails:
            world.cover("store", "write fails")
            task.failed = True
            world.check.unheard |= key.startswith("cron/arms/")  # what an answer says is noted there
            raise write_fails(world, key)
        try:
            version = write()
        except VersionConflict:
            world.cover("store", "conflict")
            raise
        task.last = task.label
        world.wrote(key, task)
        if roll > 1 - cfg.p_answer_lost and world.faults:
            world.cover("store", "answer lost")
            raise OutcomeUnknown(key)
        return version

    def list(self, prefix: str) -> Iterable[str]:
        return self.world.store.list(prefix)

    def delete(self, key: str, *, durable: bool = True) -> None:
        verb = "take back" if key in self.world.check.made_late else "delete"
        self.world.pause(self.task, label_of(key, verb))
        if self.world.full or (self.world.faults and self.world.chance(self.world.cfg.p_write_fails)):
            self.world.cover("store", "delete fails")
            self.task.failed = True
            raise write_fails(self.world, key)
        self.world.deleting(key)
        self.world.store.delete(key, durable=durable)
        self.task.last = self.task.label

    @contextmanager
    def exclusive(self, key: str) -> Iterator[None]:
        world, task = self.world, self.task
        if not world.cfg.locks:
            yield
            return
        if world.faults and world.chance(world.cfg.p_write_fails / 4):
            task.failed = world.check.unheard = True
            raise lock_fails(world)
        if world.locked_by is not None and not world.locked_by.done:
            deadline = world.now + 10.0
            world.pause(task, "lock", until=deadline, cond=lambda: world.locked_by is None or world.locked_by.done)
            if world.locked_by is not None and not world.locked_by.done:
                world.cover("store", "lock timeout")
                task.failed = True
                raise LockTimeoutError("the store stayed locked")
        world.locked_by = task
        try:
            yield
        finally:
            if world.locked_by is task:
                world.locked_by = None


class SimRepository(Repository):
    """The real repository, which parses each version of a document once for all processes of a world.

    What is parsed is only read; whoever changes the jobs parses a copy of their own, as ever.
    """

    def __init__(self, world: World, documents: SimStore, sleep: Callable[[float], None]) -> None:
        super().__init__(documents, sleep=sleep, random=world.rng.random, token=world.token)
        if self.layout is not None:
            self.layout = SimLayout(world, self)
        self.parsed = world.parsed
        self.arms = SimArmStore(self, world.parsed)

    def jobs(self):
        if self.layout is not None:
            return super().jobs()
        found = self.documents.read(JOBS_KEY)
        if found is None:
            return JobsFile.empty()
        if self.parsed.get(JOBS_KEY, ("", None))[0] != found.version:
            self.parsed[JOBS_KEY] = found.version, JobsFile.parse(found.data)
        return self.parsed[JOBS_KEY][1]


class SimLayout(Layout):
    """The real layout, of a process that remembers what any process of this world may have seen before."""

    def __init__(self, world: World, repository: DocumentRepository) -> None:
        super().__init__(repository, world.token)
        self._seen = world.layouts
        self._known = world.rng.choice(self._seen)

    def read_again(self):
        listing = super().read_again()
        if self._known not in self._seen:
            self._seen.append(self._known)
        return listing


def place_of(store: MemoryStore, job: str) -> str:
    """Where the record of a job is stored."""
    found = store.read(JOBS_KEY)
    listing = None if found is None else read_listing(found.data)
    return JOBS_KEY if listing is None else job_key(listing.folder, job)


def whole(store: MemoryStore) -> dict[str, Any]:
    """All jobs as one document, in whichever layout they are."""
    data = store.read(JOBS_KEY).data
    listing = read_listing(data)
    if listing is None:
        return json.loads(data)
    keys = store.list(job_key(listing.folder, "").removesuffix(".json"))
    return {"jobs": [record for key in keys for record in json.loads(store.read(key).data)["jobs"]]}


class SimArmStore(ArmStore):
    """The real arm documents, parsed once as above."""

    def __init__(self, repository: DocumentRepository, parsed: dict[str, Any]) -> None:
        super().__init__(repository)
        self._parsed = parsed

    def own(self, job_id: str):
        found = self._documents.read(arm_key(job_id))
        if found is None:
            return None
        known = self._parsed.get(found.version)
        if known is None:
            known = self._parsed[found.version] = super().own(job_id)
        return known
