"""The rows of the protocol's table in their order: each alone, and each against the next one that would match too.

The rows above these (a token refused, a malformed request, a store that cannot be read) are answered before anything is
decided, and the last three (a wake that cannot be armed, no runner, a refusal for good) after it: tests/callback has them.
"""

from __future__ import annotations

import pytest

from chronos_cli.core.decision import Facts, FireRequest, Outcome, Trigger
from chronos_cli.core.occurrence import decide
from tests.core.making import T, at, entry, job, look, relay
from tests.core.test_table import running

NOW = at(0.5)
PAUSED = {"state": "paused", "enabled": False}
SPENT = {"state": "completed", "enabled": False, "next_run_at": None}
CLAIMED = {"claimed_through": T.isoformat()}


def in_hand(kind="run"):
    return {**CLAIMED, "open": [entry(T, kind)]}


def met(*, policy=None, now=None, came=None, **facts):
    """A job whose run of T still goes, and whose next occurrence has come."""
    found = job(next_run_at=at(300).isoformat(), ours=in_hand(), policy={"timeout": 7_200, **(policy or {})})
    going, _ = running(found, started=T)
    return look(found, came or relay(at(300)), now=now or at(300.5), rows=going.rows, liveness=going.liveness, **facts)


TABLE = (
    ("held", lambda: look(job(), held=True), Outcome.HELD),
    ("unknown job", lambda: look(None), Outcome.GONE),
    ("paused", lambda: look(job(**PAUSED)), Outcome.IGNORED),
    ("disabled", lambda: look(job(enabled=False)), Outcome.IGNORED),
    ("completed", lambda: look(job(**SPENT)), Outcome.IGNORED),
    ("taken, past accepted", lambda: look(job(next_run_at=at(300).isoformat(), ours=CLAIMED)), Outcome.DUPLICATE),
    ("taken, still accepted", lambda: look(job(next_run_at=at(300).isoformat(), ours=in_hand())), Outcome.CLAIMED),
    ("cursor far ahead", lambda: look(job(), now=at(-61)), Outcome.EARLY),
    ("a wake, nothing to do", lambda: look(job(), relay(at(-400)), now=at(-399), armed={at(-400)}), Outcome.IDLE),
    ("neither cursor nor wake", lambda: look(job(), relay(at(7)), now=at(-90)), Outcome.STALE),
    ("the last run goes, skip", met, Outcome.SKIPPED),
    ("the last run goes, queue", lambda: met(policy={"overlap": "queue"}), Outcome.QUEUED),
    ("past its grace", lambda: look(job(policy={"grace": 60}), now=at(70)), Outcome.MISSED),
    ("claimed", lambda: look(job()), Outcome.CLAIMED),
)
"""Every row that is decided, in the table's order."""


@pytest.mark.parametrize(("decided", "outcome"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_each_row_of_the_table_is_answered_as_it_says(decided, outcome):
    """One job, one fire and one set of facts for each row, and the word that the row gives."""
    assert decided().outcome is outcome


BOTH = (
    ("held before gone", lambda: look(None, held=True), Outcome.HELD),
    ("held before paused", lambda: look(job(**PAUSED), held=True), Outcome.HELD),
    ("held before taken", lambda: look(job(next_run_at=at(300).isoformat(), ours=CLAIMED), held=True), Outcome.HELD),
    ("paused before taken", lambda: look(job(**PAUSED, ours=CLAIMED)), Outcome.IGNORED),
    ("paused before early", lambda: look(job(**PAUSED), now=at(-300)), Outcome.IGNORED),
    (
        "taken before early, the clock set back since and the new wake not armed yet",
        lambda: look(job(next_run_at=at(300).isoformat(), ours=in_hand()), now=at(-7_200), armed={T}),
        Outcome.CLAIMED,
    ),
    (
        "taken before stale",
        lambda: look(job(next_run_at=at(300).isoformat(), ours=CLAIMED), relay(at(-7))),
        Outcome.DUPLICATE,
    ),
    ("early before overlap", lambda: met(now=at(200)), Outcome.EARLY),
    ("stale before claimed", lambda: look(job(), relay(at(-7))), Outcome.STALE),
    ("grace before overlap: a claim first passes over what is too late", lambda: met(policy={"grace": 60}, now=at(370)), Outcome.MISSED),
)  # fmt: skip


@pytest.mark.parametrize(("decided", "outcome"), [row[1:] for row in BOTH], ids=[row[0] for row in BOTH])
def test_where_two_rows_match_the_upper_one_answers(decided, outcome):
    """The first match is the answer."""
    assert decided().outcome is outcome


def test_a_stale_fire_still_settles_what_is_due():
    """A fire is a call to look: whatever it names, the cursor that is due is claimed by it."""
    decision = look(job(), relay(at(-7)))
    assert decision.outcome is Outcome.STALE
    assert [start.entry.fire_at for start in decision.starts] == [T]


@pytest.mark.parametrize("via", [Trigger.TICK, Trigger.MANUAL, Trigger.RUN_ENDED, Trigger.RECONCILE, Trigger.INSPECT])
def test_only_a_relay_is_told_that_it_is_early_or_ignored(via):
    """Those words are NAS's: who looks for another reason decides by what is due."""
    came = FireRequest(via=via, token="t", run_id="manual-1" if via is Trigger.MANUAL else None)
    assert decide(job(), Facts(), came, at(-300)).outcome not in (Outcome.EARLY, Outcome.IGNORED)
