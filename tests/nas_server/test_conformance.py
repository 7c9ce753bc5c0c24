"""The conformance suite: our NAS keeps every clause, and each kind of broken NAS fails the clause it breaks."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from chronos_cli.nas_server.conformance import answers, hop1, hop3
from chronos_cli.nas_server.conformance.interface import ClauseVerdict
from chronos_cli.nas_server.conformance.probe import ContractProbe, Listener
from chronos_cli.nas_server.conformance.suite import CLAUSES, examine
from tests.nas_process import run_nas, running_nas
from tests.nas_server.broken_nas import TOKEN, BrokenNas

FIRST_HOP = {
    None: set(),
    "no-auth": {"auth"},
    "no-schedule-id": {"provision", "list", "dedup", "upsert", "cancel", "paging"},
    "no-armed": {"list", "dedup", "upsert", "cancel", "paging"},
    "wrong-time": {"list", "dedup", "upsert"},
    "no-upsert": {"upsert"},
    "no-cancel": {"cancel"},
    "unknown-404": {"cancel-unknown"},
    "malformed-500": {"malformed"},
    "malformed-breaks-off": {"malformed"},
    "bad-paging": {"paging"},
    "ignores-generation": {"generation", "cancel-generation"},
    "forgets-cancel": {"cancel-generation"},
}

THIRD_HOP = {
    None: set(),
    "wrong-body": {"fire", "bound"},
    "symmetric": {"token", "claims", "bound"},
    "wrong-issuer": {"claims"},
    "wrong-audience": {"claims"},
    "wrong-purpose": {"claims"},
    "long-lived": {"claims"},
    "unbound": {"bound"},
    "delivers-twice": {"delivered"},
    "ignores-retry-after": {"retry"},
    "drops-newer": {"newer-kept"},
    "not-owed": {"owed"},
    "no-cancel": {"cancelled"},
    "follows-redirects": {"no-redirect"},
}


EXTRAS = {
    None: set(),
    "silent": {"answer-arms"},
    "drops-next": {"answer-arms"},
    "any-2xx": {"answer-needed"},
    "takes-old": {"answer-old"},
    "early": {"spread"},
    "shifts": {"spread"},
    "tells-nothing": {"deliveries"},
    "never-asks": {"callback-proof"},
    "asks-each-time": {"callback-proof"},
    "asks-with-a-fire": {"callback-proof"},
    "asks-without-nonce": {"callback-proof"},
    "asks-unsigned": {"callback-proof"},
}


def broken(fault, clauses, *, callbacks=False, extras=False):
    listener = None
    with BrokenNas(fault, extras=extras) as nas:
        if callbacks:
            listener = Listener("127.0.0.1", 0)
            listener.start()
        url = None if listener is None else f"http://127.0.0.1:{listener.port}"
        findings = list(examine(ContractProbe(nas.url, TOKEN, listener=listener, callback_url=url), clauses))
    return {one.clause.name for one in findings if one.verdict is ClauseVerdict.BROKEN}


@pytest.mark.parametrize("fault", FIRST_HOP)
def test_a_broken_first_hop_fails_the_right_clauses(fault):
    """A NAS that breaks one rule of arming, cancelling or listing fails just the clauses that rest on it."""
    assert broken(fault, hop1.CLAUSES) == FIRST_HOP[fault]


def test_a_broken_third_hop_fails_the_right_clauses():
    """A NAS that breaks one rule of calling back fails just the clauses that rest on it; all kinds at once."""
    with ThreadPoolExecutor(max_workers=len(THIRD_HOP)) as pool:
        found = dict(
            zip(THIRD_HOP, pool.map(lambda fault: broken(fault, hop3.CLAUSES, callbacks=True), THIRD_HOP), strict=True)
        )
    assert found == THIRD_HOP


def test_a_broken_offer_fails_the_right_clauses(monkeypatch):
    """A NAS that names a feature and breaks one rule of it fails just the clauses that rest on it; all kinds at once."""
    monkeypatch.setattr(answers, "_REPEATED_WITHIN_S", 12)  # the one here repeats after a second or two

    def tried(fault):
        return broken(fault, answers.CLAUSES, callbacks=True, extras=True)

    with ThreadPoolExecutor(max_workers=len(EXTRAS)) as pool:
        assert dict(zip(EXTRAS, pool.map(tried, EXTRAS), strict=True)) == EXTRAS


def test_what_is_not_offered_is_not_tested():
    """A NAS of the bare contract is broken in nothing."""
    assert broken(None, answers.CLAUSES, callbacks=True) == set()


def test_without_a_callback_the_third_hop_reads_not_tested():
    """Without a place for callbacks the clauses of the third hop are neither kept nor broken."""
    with BrokenNas() as nas:
        findings = list(examine(ContractProbe(nas.url, TOKEN), hop3.CLAUSES))
    assert {one.verdict for one in findings} == {ClauseVerdict.NOT_TESTED}
    assert "--callback-listen" in findings[0].detail


def test_our_nas_keeps_every_clause(database, tmp_path):
    """The command finds nothing broken in our own NAS, on either backend, and says so by its exit code."""
    with running_nas(tmp_path, "--db", database) as nas:
        agent = nas.add_agent("probe")
        done = run_nas(
            *("conformance", "--portal-url", nas.url, "--audience", agent.audience, "--json"),
            *("--callback-listen", "127.0.0.1:0", "--callback-url", "http://127.0.0.1:0"),
            home=nas.home,
            env={"CHRONOS_NAS_TOKEN": agent.token},
        )
        assert nas.armed(agent) == {}
    document = json.loads(done.stdout)
    assert [one for one in document["clauses"] if one["verdict"] != "kept"] == []
    assert document["counts"] == {"kept": len(CLAUSES), "broken": 0, "not tested": 0}
    assert done.returncode == 0


def test_a_nas_that_is_down_is_one_line_and_75(tmp_path):
    """Where there is no NAS, the command says so in one line and with the exit code for trying again."""
    done = run_nas("conformance", "--portal-url", "http://127.0.0.1:9", "--token", "x", home=tmp_path)
    assert done.returncode == 75
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be reached" in done.stderr
