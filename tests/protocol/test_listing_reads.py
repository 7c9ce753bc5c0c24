"""A listing reads each document once, however many jobs there are and however their timers differ from what they want."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from chronos_cli.operations.views.listing import listing
from chronos_cli.store.interface import ARMS_PREFIX, JOBS_KEY
from chronos_cli.store.repository import STOP_KEY, Repository
from tests.core.making import at, record
from tests.memory_store import MemoryStore
from tests.protocol.test_rules_of_looks import home


class CountingStore(MemoryStore):
    """Counts how often each document is read."""

    def __init__(self):
        super().__init__()
        self.reads = Counter()

    def read(self, key):
        self.reads[key] += 1
        return super().read(key)


@pytest.mark.parametrize("held", [False, True])
def test_a_listing_of_jobs_that_are_armed_otherwise_reads_each_document_once(held):
    """The wake that is needed is told by what was read: looked up anew for each job, a thousand took seconds."""
    ids = [f"j{number}" for number in range(20)]
    store = CountingStore()
    store.create(JOBS_KEY, json.dumps({"jobs": [record() | {"id": name} for name in ids]}).encode())
    for name in ids:
        sent = {"job_id": name, "generation": 1, "state": "confirmed", "wake": at(90).isoformat()}
        sent |= {"fire_at": at(90).isoformat(), "purpose": "cursor", "confirmed_at": at(-60).isoformat()}
        store.create(f"{ARMS_PREFIX}{name}.json", json.dumps(sent).encode())
    if held:
        store.create(STOP_KEY, b"a test")
    ctx = home()
    ctx.repository = Repository(store, sleep=lambda _: None, random=lambda: 0.5)
    ctx.standby, ctx.wire, ctx.elsewhere = "", None, None
    found = listing(ctx, arming=True, held=None, prompt_runner=False)
    assert {view.arm.state for view in found.jobs} == {
        "armed" if held else "different"
    }  # a look at the hold does for it
    assert store.reads == dict.fromkeys([JOBS_KEY, STOP_KEY, *(f"{ARMS_PREFIX}{name}.json" for name in ids)], 1)
