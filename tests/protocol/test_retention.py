"""What retention leaves: never less than what is in hand, and than the last run of each kind."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.core.job import Open, OpenKind
from chronos_cli.core.policy import Policy
from chronos_cli.core.row import RunState, begun, over, row_of
from chronos_cli.store.repository import Repository
from tests.agent_home import AgentHome
from tests.memory_store import MemoryStore

T = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NEVER = "00000000T000000Z"


def at(minutes):
    return T + timedelta(minutes=minutes)


def entry(minutes, *, manual=False, kind=OpenKind.RUN):
    run = f"{'manual-' if manual else ''}{at(minutes):%Y%m%dT%H%M%SZ}{'-0000cafe' if manual else ''}"
    return Open(run=run, kind=kind, fire_at=None if manual else at(minutes), claim="c", claimed_at=at(minutes))


class Ledger:
    """A job's rows, and what its record has in hand."""

    def __init__(self):
        self.repository = Repository(MemoryStore(), sleep=lambda _: None, random=lambda: 0.5)
        self.open = []

    def ended(self, minutes, *, manual=False):
        found = begun(row_of("j", entry(minutes, manual=manual), Policy()), starter="s", owner={}, now=at(minutes),
                      lease_ends_at=at(minutes + 60))  # fmt: skip
        self.repository.rows.create(over(found, RunState.OK, now=at(minutes + 1)))

    def goes(self, minutes, *, manual=False):
        self.open.append(entry(minutes, manual=manual))
        found = row_of("j", self.open[-1], Policy())
        self.repository.rows.create(
            begun(found, starter="s", owner={}, now=at(minutes), lease_ends_at=at(minutes + 60))
        )

    def pruned(self, keep, horizon=NEVER, **clock):
        records = [{"id": "j", "chronos": {"open": [item.to_record() for item in self.open]}}]
        self.repository.documents.create("cron/jobs.json", json.dumps({"jobs": records}).encode())
        self.repository.rows.prune("j", keep=keep, horizon=horizon, **clock)
        return [name.removesuffix("-0000cafe") for name in self.repository.rows.ids("j")]


def test_the_newest_are_kept():
    """Of five runs two are kept."""
    ledger = Ledger()
    for minutes in range(5):
        ledger.ended(minutes)
    assert ledger.pruned(2) == ["20261120T120300Z", "20261120T120400Z"]


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_a_persons_runs_do_not_push_the_schedules_last_one_out(keep):
    """Three manual runs after a scheduled one, and one that goes: the last of each kind is still there to be read."""
    ledger = Ledger()
    ledger.ended(0)
    ledger.ended(1)
    for minutes in (2, 3, 4):
        ledger.ended(minutes, manual=True)
    ledger.goes(5, manual=True)
    left = ledger.pruned(keep)
    assert left == ["20261120T120100Z", "manual-20261120T120400Z", "manual-20261120T120500Z"]


def test_what_is_in_hand_stays_however_old_it_is():
    """A run that goes, two that were ended since, one of them a person's, and a horizon that all of them are behind."""
    ledger = Ledger()
    ledger.goes(0)
    ledger.ended(1)
    ledger.ended(2, manual=True)
    ledger.ended(3)
    assert ledger.pruned(1, horizon="20261121T000000Z") == [
        "20261120T120000Z", "manual-20261120T120200Z", "20261120T120300Z",
    ]  # fmt: skip


LEAP = 12 * 365 * 1_440


@pytest.mark.parametrize("sure", [True, False])
def test_rows_that_a_clock_ahead_has_made_take_nobodys_place(sure):
    """With the clock right again the newest real runs are kept, and beside them as many that are named for later."""
    ledger = Ledger()
    for minutes in (*range(5), *range(LEAP, LEAP + 4)):
        ledger.ended(minutes)
    left = ledger.pruned(2, now=at(10), sure=sure)
    assert [name[:4] for name in left] == ["2026", "2026", "2038", "2038"]
    assert left[:2] == ["20261120T120300Z", "20261120T120400Z"]


@pytest.mark.parametrize("leap", [LEAP, 26 * 60, -LEAP])
def test_no_row_is_too_old_by_a_clock_that_no_witness_knows(leap):
    """Hourly runs of two days, then one by a clock that leapt: all of them stay. A witness makes them old."""
    ledger = Ledger()
    for hours in range(48):
        ledger.ended(60 * hours)
    ledger.ended(60 * 48 + leap)
    now = at(60 * 48 + leap + 1)
    horizon = f"{now - timedelta(days=3):%Y%m%dT%H%M%SZ}"
    assert len(ledger.pruned(100, horizon, now=now, sure=False)) == 49
    if leap == LEAP:
        ledger.repository.rows.prune("j", keep=100, horizon=horizon, now=now, sure=True)
        assert len(ledger.repository.rows.ids("j")) == 1


def test_without_a_witness_rows_grow_old_by_one_another():
    """Of a job that runs each six hours, what is older than thirty days goes all the same."""
    ledger = Ledger()
    for number in range(160):
        ledger.ended(360 * number)
    now = at(360 * 159 + 10)
    left = ledger.pruned(1_000, f"{now - timedelta(days=30):%Y%m%dT%H%M%SZ}", now=now, sure=False)
    assert len(left) == 30 * 4


@pytest.mark.parametrize(("now", "left"), [(9, 4), (12, 2), (60, 1)])
def test_a_persons_run_that_ended_just_now_keeps_its_row(now, left):
    """Whoever asked for it, and did not hear that the claim was written, finds by the row that it has run."""
    ledger = Ledger()
    for minutes in range(4):
        ledger.ended(minutes, manual=True)
    assert len(ledger.pruned(1, now=at(now))) == left


def test_with_one_row_kept_history_and_logs_still_know_the_last_runs(nas, tmp_path):
    """Real runs of a real home that keeps one row: the last of the schedule, and a person's of just now, with output."""
    agent = AgentHome(tmp_path / "home", nas, name="few")
    (agent.home / "config.yaml").write_text((agent.home / "config.yaml").read_text() + "\nhistory:\n  keep: 1\n")
    assert agent.chronos("job", "add", "every 1h", "--id", "j", "--shell", "echo said $CHRONOS_RUN_ID").returncode == 0
    for _ in range(2):
        due = datetime.now(UTC).replace(microsecond=0)
        document = json.loads((agent.home / "cron/jobs.json").read_text())
        document["jobs"][0]["next_run_at"] = due.isoformat()
        document["jobs"][0]["chronos"].pop("claimed_through", None)
        (agent.home / "cron/jobs.json").write_text(json.dumps(document))
        assert agent.chronos("tick").returncode == 0
        assert agent.chronos("run", "j").returncode == 0
    shown = json.loads(agent.chronos("history", "j", "--json").stdout)["rows"]
    assert sorted(run["kind"] == "manual" for run in shown) == [False, True, True]
    assert {run["state"] for run in shown} == {"ok"}
    for run in shown:
        assert "said" in agent.chronos("logs", run["run_id"]).stdout
