"""A NAS that asks callbacks for proof: who knows of it says that ours can give it, and who does not finds out."""

from __future__ import annotations

import pytest
from test_nas_bulk import AT, arms, paths

from chronos_cli.errors import NasRejectedError
from chronos_cli.nas_client.interface import ArmRequest
from tests.played_server import Answer

UNPROVEN = Answer(422, {"error": "callback_unproven", "message": "prove it"})


def accepted(call):
    return call.body.get("accepts", [])


def test_a_nas_that_was_not_heard_before_is_asked_once_more(nas, connect):
    """The refusal is how a NAS says that it wants the proof: the wish is sent again with it, and every later one is."""
    nas.features = ["callback-proof"]
    nas.script = [UNPROVEN]
    client = connect()
    for request in arms(2):
        client.provision(request)
    assert [accepted(call) for call in nas.calls] == [[], ["callback-proof"], ["callback-proof"]]


def test_a_refusal_of_who_offers_the_proof_is_final_and_says_what_to_do(nas, connect):
    """There is no third call, and the hint names the path that NAS asks."""
    nas.script = [UNPROVEN, UNPROVEN]
    with pytest.raises(NasRejectedError) as refused:
        connect().provision(arms(1)[0])
    assert paths(nas) == ["provision", "provision"]
    assert refused.value.reason == "callback_unproven"
    assert "route /api/cron/proof to it" in refused.value.hint


def test_a_batch_says_it_too_beside_what_else_is_accepted(nas, connect):
    """Where the list names the feature, each item has it; other features stay."""
    nas.features = ["batch", "callback-proof"]
    client = connect()
    client.list()
    other = ArmRequest(job_id="x", fire_at=AT, callback_url="https://a.example", accepts=("arm-in-answer",))
    assert all(result.ok for result in client.apply([*arms(2), other]))
    items = {item["job_id"]: item.get("accepts") for item in nas.calls[-1].body["items"]}
    assert items == {
        "j00000": ["callback-proof"],
        "j00001": ["callback-proof"],
        "x": ["arm-in-answer", "callback-proof"],
    }


def test_a_nas_that_knows_none_hears_nothing_of_it(nas, connect):
    """The bare contract has no `accepts`."""
    client = connect()
    client.list()
    client.provision(arms(1)[0])
    assert "accepts" not in nas.calls[-1].body
