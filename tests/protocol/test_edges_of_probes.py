"""Rules of the probe, each by itself: what is read of its document, which fire it takes, and what it then arms."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.errors import NasUnavailableError, TemporaryError
from chronos_cli.frozen import replace
from chronos_cli.operations.firing import probe
from chronos_cli.operations.firing.probe import PROBE_ID, PROBE_KEY, Probe
from chronos_cli.store.repository import Repository
from tests.core.making import T, at
from tests.memory_store import MemoryStore

SENT = Probe(fire_at=at(5), sent_at=T, callback_url="https://me")
NOW = T + timedelta(seconds=6, microseconds=7)


class Nas:
    """A NAS that notes what is armed."""

    def __init__(self, error=None):
        self.error, self.asked = error, []

    def connect(self, budget_s):
        assert budget_s > 0
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.asked.append("closed")

    def provision(self, request):
        if self.error:
            raise self.error
        self.asked.append((request.job_id, request.fire_at, request.callback_url))


def context(nas=None, *, now=NOW):
    """The outside as a probe needs it, with NAS and its store."""
    nas = nas or Nas()
    wire = SimpleNamespace(connect=nas.connect, callback_url="https://me")
    return SimpleNamespace(repository=Repository(MemoryStore(), sleep=lambda _: None, random=lambda: 0.5), clock=lambda: now,
                           require_wire=lambda: wire, nas=nas)  # fmt: skip


def kept(ctx):
    found = ctx.repository.read(PROBE_KEY)
    return found and json.loads(found.data)


def test_a_probe_is_kept_as_it_was_sent():
    """Every member that has a value, instants with their offset; a new one takes the place of the last."""
    ctx = context()
    assert probe.read_probe(ctx) is None
    probe.expect(ctx, SENT)
    assert kept(ctx) == {"fire_at": at(5).isoformat(), "sent_at": T.isoformat(), "callback_url": "https://me"}
    whole = replace(SENT, received_at=at(6), delivery_id="d", again=at(7), again_error="e")
    probe.expect(ctx, whole)
    assert probe.read_probe(ctx) == whole


@pytest.mark.parametrize(
    ("again", "error", "received", "answered"),
    [(T, None, T, True), (None, "no", T, True), (None, None, T, False), (T, None, None, False)],
)
def test_a_probe_is_answered_once_its_second_instant_is_armed_or_cannot_be(again, error, received, answered):
    """One that has come and was not seen through is waited for."""
    assert replace(SENT, received_at=received, again=again, again_error=error).answered is answered


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", '{"fire_at": 5, "sent_at": "2026-11-20T12:00:00Z", "callback_url": "u"}',
        '{"fire_at": "2026-11-20T12:00:00", "sent_at": "2026-11-20T12:00:00Z", "callback_url": "u"}',
        '{"fire_at": "2026-11-20T12:00:00Z", "sent_at": "soon", "callback_url": "u"}',
        '{"fire_at": "2026-11-20T12:00:00Z", "sent_at": "2026-11-20T12:00:00Z", "callback_url": "u", "delivery_id": 1}',
    ],
)  # fmt: skip
def test_what_is_no_probe_counts_as_none_and_is_replaced(text):
    """A fire that comes then is one that nobody waits for."""
    ctx = context()
    ctx.repository.documents.create(PROBE_KEY, text.encode())
    assert probe.read_probe(ctx) is None
    assert probe.receive(ctx, at(5), "d") == "no probe waits for this fire"
    probe.expect(ctx, SENT)
    assert probe.read_probe(ctx) == SENT


def test_a_store_that_cannot_be_read_has_no_probe_either():
    """What then reads or writes it says why."""

    def fails(_):
        raise TemporaryError("the disk")

    assert probe.read_probe(SimpleNamespace(repository=SimpleNamespace(read=fails))) is None


@pytest.mark.parametrize("named", [None, at(5)])
def test_the_fire_that_is_expected_is_noted_and_another_instant_armed(named):
    """An hour on, on the second; a fire without an instant is the one that is waited for."""
    ctx = context()
    probe.expect(ctx, SENT)
    later = at(6) + timedelta(hours=1)
    assert probe.receive(ctx, named, "d") == "the probe arrived"
    assert probe.read_probe(ctx) == replace(SENT, received_at=NOW, delivery_id="d", again=later)
    assert ctx.nas.asked == [(PROBE_ID, later, "https://me"), "closed"]


@pytest.mark.parametrize(
    ("waiting", "named"), [(SENT, at(4)), (replace(SENT, received_at=at(6)), at(5)), (None, at(5))]
)
def test_any_other_fire_changes_nothing(waiting, named):
    """Of another instant, of a probe that has come, or of none: answered all the same, so that it comes no more."""
    ctx = context()
    if waiting:
        probe.expect(ctx, waiting)
    assert probe.receive(ctx, named, "d") == "no probe waits for this fire"
    assert probe.read_probe(ctx) == waiting
    assert ctx.nas.asked == []


def test_a_second_instant_that_cannot_be_armed_is_said_in_the_document():
    """The probe has come through; only what a 2xx deletes stays unknown."""
    ctx = context(Nas(NasUnavailableError("NAS is away")))
    probe.expect(ctx, SENT)
    assert probe.receive(ctx, at(5), None) == "the probe arrived"
    assert probe.read_probe(ctx) == replace(SENT, received_at=NOW, again_error="NAS is away")


@pytest.mark.parametrize("when", ["before it is noted", "while it is armed"])
def test_a_fire_of_the_last_probe_leaves_a_newer_one_as_it_is(when):
    """Somebody probes again meanwhile: that one waits on."""
    ctx, newer = context(), replace(SENT, fire_at=at(60))
    probe.expect(ctx, SENT)
    if when == "while it is armed":
        provision = ctx.nas.provision
        ctx.nas.provision = lambda request: provision(request) or probe.expect(ctx, newer)
    else:
        ctx.clock = lambda: NOW
        read = ctx.repository.read

        def reads(key):
            found = read(key)
            ctx.repository.read = read
            probe.expect(ctx, newer)
            return found

        ctx.repository.read = reads
    probe.receive(ctx, at(5), "d")
    assert probe.read_probe(ctx) == newer


def test_what_is_there_already_is_not_written_again():
    """A fire of the past needs no write to be answered."""
    ctx, written = context(), []
    probe.expect(ctx, SENT)
    replace_ = ctx.repository.documents.replace
    ctx.repository.documents.replace = lambda key, *more, **how: written.append(key) or replace_(key, *more, **how)
    probe.expect(ctx, SENT)
    assert written == []
