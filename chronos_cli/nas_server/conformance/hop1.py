"""The clauses of the first hop: what an agent may rely on when it arms, cancels and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.contract import (
    BATCH_PATH,
    FEATURE_BATCH,
    FEATURE_GENERATION,
    LIST_PATH,
    PROVISION_PATH,
    format_fire_at,
)
from chronos_cli.nas_server.conformance.interface import Clause, NotTestedError, demand
from chronos_cli.nas_server.conformance.probe import ahead

if TYPE_CHECKING:
    from chronos_cli.nas_server.conformance.probe import ContractProbe

DAY_S = 86_400.0


def _token_needed(probe: ContractProbe) -> None:
    for token in (None, "not-a-token"):
        for method, path in (("GET", LIST_PATH), ("POST", PROVISION_PATH)):
            status = probe.call(method, path, {} if method == "POST" else None, token=token).status
            demand(status in {401, 403}, f"{method} {path} with {token or 'no token'} answered {status}")


def _provision_answers(probe: ContractProbe) -> None:
    probe.arm(probe.job("answers"), ahead(DAY_S))


def _list_shows(probe: ContractProbe) -> None:
    job_id, when = probe.job("listed"), ahead(DAY_S)
    probe.arm(job_id, when)
    shown = probe.instant(job_id)
    demand(shown == when, f"armed for {format_fire_at(when)}, listed as {shown}")


def _same_is_no_op(probe: ContractProbe) -> None:
    job_id, when = probe.job("same"), ahead(DAY_S)
    probe.arm(job_id, when)
    probe.arm(job_id, when)
    demand(probe.instant(job_id) == when, "the job is not listed once, at its instant")


def _upsert(probe: ContractProbe) -> None:
    job_id = probe.job("upsert")
    for days in (2, 1, 3):
        when = ahead(days * DAY_S)
        probe.arm(job_id, when)
        shown = probe.instant(job_id)
        demand(shown == when, f"armed anew for {format_fire_at(when)}, listed as {shown}")


def _cancel(probe: ContractProbe) -> None:
    job_id = probe.job("cancel")
    probe.arm(job_id, ahead(DAY_S))
    answer = probe.cancel(job_id)
    demand(answer.status == 200 and answer.member("ok") is True, f"cancel answered {answer.status}: {answer.document}")
    demand(probe.instant(job_id) is None, "the job is still listed after its cancel")
    probe.arm(job_id, ahead(DAY_S))
    demand(probe.instant(job_id) is not None, "a cancelled job could not be armed again")


def _cancel_unknown(probe: ContractProbe) -> None:
    answer = probe.cancel(probe.job("never-armed"))
    demand(answer.status == 200 and answer.member("ok") is True, f"it answered {answer.status}: {answer.document}")


def _malformed(probe: ContractProbe) -> None:
    for body in ({}, {"job_id": probe.job("bad"), "fire_at": "tomorrow"}, ["no object"]):
        status = probe.call("POST", PROVISION_PATH, body).status
        demand(400 <= status < 500, f"{body} answered {status}")


def _pages(probe: ContractProbe) -> None:
    names = {probe.job(f"page-{number}") for number in range(3)}
    for name in names:
        probe.arm(name, ahead(DAY_S))
    seen = [entry["job_id"] for entry in probe.listed(limit=2) if entry["job_id"] in names]
    demand(sorted(seen) == sorted(names), f"the pages show {len(seen)} entries of {len(names)} jobs")


def _batch(probe: ContractProbe) -> None:
    if FEATURE_BATCH not in probe.features():
        raise NotTestedError("not offered")
    good, bad, when = probe.job("batch"), probe.job("batch-bad"), format_fire_at(ahead(DAY_S))
    item = {"op": "provision", "fire_at": when, "agent_callback_url": probe.callback_url}
    items = [
        {**item, "job_id": bad, "fire_at": "never", "dedup_key": "x"},
        {**item, "job_id": good, "dedup_key": f"{good}:{when}"},
        {"op": "cancel", "job_id": bad},
    ]
    answer = probe.call("POST", BATCH_PATH, {"items": items})
    results = answer.member("results")
    demand(answer.status == 200 and isinstance(results, list) and len(results) == 3, f"it answered {answer.document}")
    demand([bool(one.get("ok")) for one in results] == [False, True, True], f"the results are {results}")
    demand(probe.instant(good) is not None, "the good item of a batch with a bad one was not carried out")


def _generation(probe: ContractProbe) -> None:
    if FEATURE_GENERATION not in probe.features():
        raise NotTestedError("not offered")
    job_id, newer = probe.job("generation"), ahead(DAY_S)
    demand(probe.provision(job_id, newer, generation=7).status == 200, "a generation was not taken")
    status = probe.provision(job_id, ahead(2 * DAY_S), generation=6).status
    demand(status == 409, f"an older generation answered {status}")
    demand(probe.instant(job_id) == newer, "an older generation replaced the newer")


def _cancel_generation(probe: ContractProbe) -> None:
    if FEATURE_GENERATION not in probe.features():
        raise NotTestedError("not offered")
    job_id = probe.job("cancel-generation")
    demand(probe.provision(job_id, ahead(DAY_S), generation=7).status == 200, "a generation was not taken")
    demand(probe.cancel(job_id, generation=9).status == 200, "a cancel with a generation was not taken")
    status = probe.provision(job_id, ahead(DAY_S), generation=8).status
    demand(status == 409, f"a provision older than the cancel answered {status}")
    demand(probe.instant(job_id) is None, "a provision older than the cancel armed the job")


CLAUSES = (
    Clause(name="auth", hop=1, text="a call without a token, or with a wrong one, is refused", check=_token_needed),
    Clause(name="provision", hop=1, text="provision answers 200 with a schedule_id", check=_provision_answers),
    Clause(name="list", hop=1, text="list shows what is armed, at the same instant", check=_list_shows),
    Clause(name="dedup", hop=1, text="the same instant again is a no-op", check=_same_is_no_op),
    Clause(name="upsert", hop=1, text="another instant replaces the job's one-shot", check=_upsert),
    Clause(name="cancel", hop=1, text="cancel answers ok and drops the one-shot", check=_cancel),
    Clause(name="cancel-unknown", hop=1, text="cancelling an unknown job is a no-op with 200", check=_cancel_unknown),
    Clause(name="malformed", hop=1, text="a malformed provision is refused with a 4xx", check=_malformed),
    Clause(name="paging", hop=1, text="a list in pages shows every job once", check=_pages),
    Clause(name="batch", hop=1, text="a batch answers each item at its place", check=_batch),
    Clause(name="generation", hop=1, text="an older generation is refused", check=_generation),
    Clause(
        name="cancel-generation",
        hop=1,
        text="a cancel's generation counts: what is older than it arms nothing",
        check=_cancel_generation,
    ),
)
