"""Rules of carrying out a plan, each at its edge: what is sent, what NAS's answer changes, and what is armed again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chronos_cli.core.plan import Action, ArmState, Step
from chronos_cli.errors import NasRejectedError, NasUnavailableError, RefusedError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.interface import ArmAnswer, ArmRequest, CallResult, CancelRequest
from chronos_cli.operations.arming import apply_plan as applying
from chronos_cli.operations.arming.arm import DELIVERED, STALE_GENERATION, heard
from chronos_cli.store.arms.batch import ArmBatch
from chronos_cli.store.documents import StoredDocument
from tests.protocol.test_arming_rules import ARMED, HOUR, NOW, SECOND, WAKE, context, stored

STALE = NasRejectedError("stale", reason=STALE_GENERATION, generation=90)
SILENT = NasUnavailableError("it does not answer")
REFUSED = RefusedError("not this agent")
LATER = replace(WAKE, at=WAKE.at + HOUR)


class Answering:
    """A NAS that answers each request of a plan as it is told to, and notes what it was asked."""

    def __init__(self, error=None, state="armed", meanwhile=lambda: None):
        self.error, self.state, self.meanwhile, self.asked = error, state, meanwhile, []

    def apply(self, requests, *, progress=None):
        for request in requests:
            self.asked.append(request)
            self.meanwhile()
            answer = None
            if self.error is None and isinstance(request, ArmRequest):
                answer = ArmAnswer(schedule_id="s", state=self.state)
            yield CallResult(request=request, answer=answer, error=self.error)


def of(ctx, settled, documents, held):
    """What a plan is founded on, and the packs that it may write."""
    facts = applying.PlanFacts(settled=settled, documents=documents, held=held)
    return facts, ArmBatch(ctx.repository, settled.index, settled.arms, ctx.token)


class Plan:
    """One step carried out: what NAS was asked, what the result is, what was armed again, and the document after it."""

    def __init__(
        self, monkeypatch, action, *, document=ARMED, wake=LATER, needed=..., held=None, nas=None, meanwhile=None
    ):
        needed = wake if needed is ... else needed
        ctx = self.ctx = context(*([] if document is None else [document]))
        ctx.token = lambda: "t"
        self.again = []
        monkeypatch.setattr(applying, "present_wake", lambda *_: needed)
        monkeypatch.setattr(
            applying, "arm", lambda _, __, job_id, wake, reason: self.again.append((job_id, wake, reason.dropped))
        )
        self.nas = nas or Answering()
        if meanwhile is not None:
            self.nas.meanwhile = lambda: ctx.repository.arms.change("j", meanwhile)
        documents = {} if document is None else {"j": document}
        settled = SimpleNamespace(
            wakes={"j": wake}, arms={"j": ctx.repository.arms.get("j")}, index=ctx.repository.arms.all()
        )
        self.done = applying.apply_plan(
            ctx, self.nas, [Step(action=action, job_id="j")], *of(ctx, settled, documents, held or {})
        )
        (result,) = self.done
        self.error, self.document = result.error, ctx.repository.arms.get("j") and stored(ctx)


def test_a_wish_is_noted_sent_and_confirmed(monkeypatch):
    """Under a generation of its own."""
    plan = Plan(monkeypatch, Action.MOVE)
    (request,) = plan.nas.asked
    assert (request.fire_at, plan.error, plan.again) == (LATER.at, None, [])
    assert (plan.document.state, plan.document.wake, plan.document.schedule_id) == (ArmState.CONFIRMED, LATER.at, "s")
    assert plan.document.generation > ARMED.generation


@pytest.mark.parametrize(
    ("held", "state", "ahead", "fire_at"),
    [
        ({}, ArmState.CONFIRMED, HOUR, SECOND), ({"j": WAKE.at}, ArmState.CONFIRMED, HOUR, 0 * SECOND),
        ({"j": NOW}, ArmState.CONFIRMED, HOUR, SECOND), ({}, ArmState.UNCONFIRMED, HOUR, 0 * SECOND),
        ({}, ArmState.CONFIRMED, 5 * SECOND, 0 * SECOND), ({}, ArmState.CONFIRMED, 6 * SECOND, SECOND),
    ],
)  # fmt: skip
def test_a_key_that_nas_took_and_does_not_hold_is_not_used_again(monkeypatch, held, state, ahead, fire_at):
    """What is due in a moment may be in flight."""
    wake = replace(WAKE, at=NOW + ahead)
    document = replace(ARMED, state=state, wake=wake.at, fire_at=wake.at, keys={wake.at: "cursor"})
    held = {job_id: wake.at if at == WAKE.at else at for job_id, at in held.items()}
    plan = Plan(monkeypatch, Action.ARM, document=document, wake=wake, held=held)
    assert [request.fire_at for request in plan.nas.asked] == [wake.at + fire_at]


def test_what_was_never_sent_is_not_spent():
    """Nothing is known of it."""
    assert not applying._spent(None, {}, NOW)
    for held in ({}, {"j": WAKE.at}):
        assert not applying._spent(replace(ARMED, fire_at=None), held, NOW)
    assert applying._spent(ARMED, {}, NOW)


@pytest.mark.parametrize(
    ("error", "shown", "again", "state"),
    [
        (SILENT, SILENT, False, ArmState.UNCONFIRMED), (REFUSED, REFUSED, False, ArmState.REFUSED),
        (STALE, None, True, ArmState.UNCONFIRMED),
    ],
)  # fmt: skip
def test_what_nas_did_not_take_is_written_down(monkeypatch, error, shown, again, state):
    """Where it holds a newer wish the job is armed again, under a generation that is newer still."""
    stale = replace(ARMED, generation=5)
    nas = Answering(NasRejectedError("stale", reason=STALE_GENERATION, generation=2**52) if error is STALE else error)
    plan = Plan(monkeypatch, Action.MOVE, document=stale, nas=nas)
    assert (plan.error, plan.document.state) == (shown, state)
    assert plan.again == ([("j", LATER, True)] if again else [])
    if again:
        assert plan.document.generation == 2**52


def test_a_key_that_was_delivered_is_armed_again(monkeypatch):
    """NAS holds nothing by it."""
    plan = Plan(monkeypatch, Action.MOVE, nas=Answering(state=DELIVERED))
    assert (plan.document.spent, plan.again) == (True, [("j", LATER, True)])


def test_what_somebody_has_sent_since_the_wake_was_worked_out_stands(monkeypatch):
    """Before our note nothing is sent; after it, NAS may hold either, and the job is armed again."""
    newer = replace(ARMED, generation=8, fire_at=NOW + 3 * HOUR, wake=NOW + 3 * HOUR)
    plan = Plan(monkeypatch, Action.MOVE, meanwhile=lambda document: replace(newer, generation=document.generation + 1))
    assert (plan.again, plan.document.fire_at) == ([("j", LATER, True)], newer.fire_at)
    ctx = context(newer)
    settled = SimpleNamespace(wakes={"j": LATER}, arms={"j": StoredDocument(value=ARMED, version="v")})
    facts = applying.PlanFacts(settled=settled, documents={"j": ARMED}, held={})
    change = applying._sending(ctx, Step(action=Action.MOVE, job_id="j"), facts)
    assert change(newer) is newer
    assert change(ARMED).wake == LATER.at


def test_what_is_unwanted_is_cancelled_unless_it_is_wanted_again(monkeypatch):
    """Before it is asked for, or while it is."""
    plan = Plan(monkeypatch, Action.CANCEL, wake=None)
    assert [type(request) for request in plan.nas.asked] == [CancelRequest]
    assert (plan.document.state, plan.document.wake, plan.again) == (ArmState.CANCELLED, None, [])
    with pytest.raises(ValueError, match="not enough values"):
        Plan(monkeypatch, Action.CANCEL, wake=None, needed=LATER)
    wanted = iter([None, LATER, LATER])
    monkeypatch.setattr(applying, "present_wake", lambda *_: next(wanted))
    nas, ctx = Answering(), context(ARMED)
    ctx.token = lambda: "t"
    settled = SimpleNamespace(wakes={}, arms={}, index=ctx.repository.arms.all())
    armed = []
    monkeypatch.setattr(
        applying, "arm", lambda _, __, job_id, wake, reason: armed.append((job_id, wake, reason.dropped))
    )
    steps = [Step(action=Action.CANCEL, job_id="j")]
    (result,) = applying.apply_plan(ctx, nas, steps, *of(ctx, settled, {"j": ARMED}, {}))
    assert (len(nas.asked), armed, result.error) == (1, [("j", LATER, True)], None)


@pytest.mark.parametrize(("error", "again"), [(SILENT, False), (STALE, True)])
def test_a_cancel_that_nas_did_not_take_leaves_the_document_as_it_was(monkeypatch, error, again):
    """But for the generation that NAS has."""
    plan = Plan(monkeypatch, Action.CANCEL, wake=None, nas=Answering(error))
    assert (plan.document.state, plan.error) == (ArmState.CONFIRMED, None if again else error)
    assert plan.document.generation == (90 if again else ARMED.generation)
    assert plan.again == ([("j", None, True)] if again else [])


def test_an_arm_that_fails_again_is_its_steps_result(monkeypatch):
    """It was tried because NAS held a newer wish."""
    plan = Plan(monkeypatch, Action.MOVE, nas=Answering(STALE))
    assert plan.error is None

    def silent(*_):
        raise SILENT

    monkeypatch.setattr(applying, "arm", silent)
    assert applying._arm_again(plan.ctx, plan.nas, "j") is SILENT


def test_a_plan_says_what_is_done_whatever_was_wished(monkeypatch):
    """A cancel is one, unless the job wants something by then."""
    plan = Plan(monkeypatch, Action.CANCEL, wake=LATER, needed=None)
    assert [type(request) for request in plan.nas.asked] == [CancelRequest]


def test_an_arm_of_which_nas_said_neither_is_taken():
    """And changes nothing."""
    request = ArmRequest(job_id="j", fire_at=WAKE.at, callback_url="https://me")
    assert heard(ARMED, ARMED, CallResult(request=request), NOW) is ARMED
    assert applying._is_certain(None, CallResult(request=request), SimpleNamespace(contested=()))


@pytest.mark.parametrize(("error", "certain"), [(None, False), (SILENT, True), (REFUSED, True), (STALE, False)])
def test_what_is_contested_is_in_doubt_unless_an_error_is_the_result(error, certain):
    """Of a wish that NAS calls old the newer one has to be found out anyhow."""
    result = CallResult(request=ArmRequest(job_id="j", fire_at=WAKE.at, callback_url="https://me"), error=error)
    assert applying._is_certain(None, result, SimpleNamespace(contested={"j"})) is certain


def test_what_somebody_has_had_confirmed_meanwhile_is_armed_again_by_whoever_knows(monkeypatch):
    """Its own request is not sent in that one's name."""
    ctx = context(ARMED)
    ctx.token = lambda: "t"
    seen = ctx.repository.arms.get("j")
    ctx.repository.arms.change("j", lambda _: replace(ARMED, generation=9, wake=LATER.at, fire_at=LATER.at))
    armed, nas = [], Answering()
    monkeypatch.setattr(applying, "present_wake", lambda *_: LATER)
    monkeypatch.setattr(
        applying, "arm", lambda _, __, job_id, wake, reason: armed.append((job_id, wake, reason.dropped))
    )
    settled = SimpleNamespace(wakes={"j": LATER}, arms={"j": seen}, index=ctx.repository.arms.all())
    steps = [Step(action=Action.MOVE, job_id="j")]
    applying.apply_plan(ctx, nas, steps, *of(ctx, settled, {"j": ARMED}, {}))
    assert (nas.asked, armed) == ([], [("j", LATER, True)])


def test_a_job_is_in_the_pack_of_a_batch_that_says_what_counts_for_it():
    """Not in another, and no more once it has a document of its own."""
    ctx = context()
    batch = ArmBatch(ctx.repository, ctx.repository.arms.all(), {}, lambda: "t")
    batch._pack_of = {"a": "one", "b": "two", "c": "one"}
    batch._written = {
        name: StoredDocument(value=ARMED, version=version) for name, version in (("a", ""), ("b", ""), ("c", "v"))
    }
    assert [batch._is_in(SimpleNamespace(key="one"), name) for name in "abcd"] == [True, False, False, False]
