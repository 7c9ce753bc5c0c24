"""A tolerance: what a wish states, what counts from its end, and what is said where NAS does not spread."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.core import claim
from chronos_cli.core.decision import Purpose, Wake
from chronos_cli.core.job import HomeDefaults, parse_job
from chronos_cli.core.plan import Action, ArmState, DesiredArm, LastArm
from tests.core.making import plan_of
from tests.nas_client.played_nas import played_nas

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


nas = played_nas("generation", "keeps-slot", "spread")


@pytest.fixture
def armed(home, nas):
    """A home that is armed at a NAS to play with."""
    (home / "nas-token").write_text("t")
    (home / "nas-token").chmod(0o600)
    (home / "config.yaml").write_text(
        f"timezone: UTC\ncron:\n  provider: chronos\n  chronos:\n    portal_url: {nas.url}\n"
        "    callback_url: http://127.0.0.1:9\n    expected_audience: agent:1\n    token_file: nas-token\n"
    )
    return home


def add(chronos, home, *more, code=0, schedule="every 1h"):
    told = chronos("job", "add", schedule, "--id", "a", *more, "--shell", "true", home=home)
    assert told.code == code, told.err
    return told


def sent(nas):
    return [call.body for call in nas.calls if call.path.endswith("/provision")]


def test_a_wish_states_its_tolerance_and_keeps_its_instant(chronos, armed, nas):
    """The first answer of NAS tells that it spreads; then it is told, for the same instant, and again on a change."""
    add(chronos, armed, "--tolerance", "5m")
    first, told = sent(nas)
    assert "tolerance" not in first
    assert (told["tolerance"], told["fire_at"], told["dedup_key"]) == (300, first["fire_at"], first["dedup_key"])
    record = json.loads((armed / "cron/jobs.json").read_text())["jobs"][0]
    assert datetime.fromisoformat(record["next_run_at"]) == datetime.fromisoformat(told["fire_at"])
    assert record["chronos"]["policy"] == {"tolerance": 300}
    nas.calls.clear()
    assert chronos("reconcile", home=armed).code == 0
    assert sent(nas) == []
    assert chronos("job", "edit", "a", "--tolerance", "60s", home=armed).code == 0
    assert [body["tolerance"] for body in sent(nas)] == [60]


def test_a_nas_that_does_not_spread_is_named(chronos, armed, nas):
    """The tolerance is kept for another NAS; what this one does is said, and nothing unknown is sent to it."""
    nas.features = []
    told = add(chronos, armed, "--tolerance", "5m")
    assert "NAS spreads nothing: job a is called at its instant all the same" in told.err
    assert [body.get("tolerance") for body in sent(nas)] == [None]


NEXT = "the tolerance is not shorter than the shortest gap of the schedule"


@pytest.mark.parametrize(
    ("schedule", "tolerance", "why"),
    [("every 1h", "1h", NEXT), ("* * * * *", "61s", NEXT), ("in 2d", "25h", "the tolerance is longer than a day")],
)
def test_a_tolerance_that_reaches_the_next_occurrence_is_refused(chronos, armed, schedule, tolerance, why):
    """With the reason, and a cure that works; by an edit as well."""
    told = add(chronos, armed, "--tolerance", tolerance, code=2, schedule=schedule)
    assert why in told.err
    assert "use a smaller --tolerance" in told.err
    add(chronos, armed, "--tolerance", "59s", schedule=schedule)
    assert chronos("job", "edit", "a", "--tolerance", tolerance, home=armed).code == 2


def job(**policy):
    record = {
        "id": "a", "name": "a", "enabled": True, "state": "scheduled", "next_run_at": NOW.isoformat(),
        "schedule": {"kind": "interval", "minutes": 60},
        "chronos": {"anchor": NOW.isoformat(), "policy": policy, "action": {"shell": "true"}},
    }  # fmt: skip
    return parse_job(record, HomeDefaults(zone=UTC, zone_name="UTC"))


@pytest.mark.parametrize(("late", "taken"), [(600, True), (605, True), (606, False)])
def test_grace_counts_from_the_end_of_the_tolerance(late, taken):
    """With no grace at all an occurrence may still start a few seconds after NAS may have called last."""
    effect = claim.claim_of(job(grace=0, tolerance=600), NOW, NOW + timedelta(seconds=late))
    assert (effect.taken is not None) is taken


def test_overdue_counts_from_the_end_of_the_tolerance(chronos, armed, nas):
    """Within it the next call is still to come: nothing is overdue, and the job will fire."""
    add(chronos, armed, "--tolerance", "5m")
    path = armed / "cron/jobs.json"
    for ago, overdue in ((60, False), (400, True)):
        document = json.loads(path.read_text())
        at = (datetime.now(UTC) - timedelta(seconds=ago)).replace(microsecond=0).isoformat()
        document["jobs"][0]["next_run_at"] = at
        path.write_text(json.dumps(document))
        nas.armed["a"] = {"job_id": "a", "fire_at": at, "schedule_id": "s"}
        (found,) = chronos("list", "--json", home=armed).json["jobs"]
        assert (found["overdue_s"] is not None, found["will_fire"]) == (overdue, not overdue)


def test_what_may_still_come_within_its_tolerance_is_left_to_nas(chronos, armed, nas):
    """A reconcile each minute would else fire at once, and all together, what NAS spreads; past its end it mends."""
    add(chronos, armed, "--tolerance", "5m")
    jobs, arm = armed / "cron/jobs.json", armed / "cron/arms/a.json"
    for ago, at_nas, calls in ((60, True, 0), (60, False, 1), (400, True, 1)):
        at = (datetime.now(UTC) - timedelta(seconds=ago)).replace(microsecond=0).isoformat()
        document = json.loads(jobs.read_text())
        document["jobs"][0]["next_run_at"] = at
        jobs.write_text(json.dumps(document))
        arm.write_text(
            json.dumps(json.loads(arm.read_text()) | {"wake": at, "fire_at": at, "tolerance": 300, "purpose": "cursor"})
        )
        nas.armed.clear()
        nas.armed |= {"a": {"job_id": "a", "fire_at": at, "schedule_id": "s"}} if at_nas else {}
        nas.calls.clear()
        assert chronos("reconcile", home=armed).code == 0
        assert len(sent(nas)) == calls
        assert [
            body
            for body in sent(nas)
            if datetime.fromisoformat(body["fire_at"]) < datetime.now(UTC) - timedelta(seconds=9)
        ] == []


def test_a_changed_tolerance_is_sent_by_reconcile():
    """A list does not show it, so the arm document says what was sent."""
    at = NOW + timedelta(hours=1)
    last = LastArm(wake=at, fire_at=at, purpose="cursor", state=ArmState.CONFIRMED, tolerance=60)
    for wanted, action in ((60, Action.KEEP), (90, Action.MOVE), (0, Action.MOVE)):
        wish = DesiredArm(job_id="a", wake=Wake(at=at, purpose=Purpose.CURSOR, tolerance=wanted), sent=last)
        (step,) = plan_of([wish], {"a": at}).steps
        assert step.action is action


def test_what_is_held_off_its_instant_is_said_in_list_and_status(chronos, armed, nas):
    """A NAS that clears its slot has it back a little later: the views say by how much, as a plan does."""
    add(chronos, armed)
    path = armed / "cron/arms/a.json"
    document = json.loads(path.read_text())
    later = (datetime.fromisoformat(document["fire_at"]) + timedelta(seconds=3)).isoformat()
    path.write_text(json.dumps(document | {"fire_at": later}))
    nas.armed["a"]["fire_at"] = later
    told = chronos("list", home=armed)
    assert "armed, will fire, held 3 s later than wanted" in told.out
    (found,) = chronos("list", "--json", home=armed).json["jobs"]
    assert found["arm"]["off_by"] == "held 3 s later than wanted"
    assert "a is held 3 s later than wanted" in chronos("status", home=armed).out
    off = chronos("status", "--json", home=armed).json["off_by"]
    assert off == [{"job_id": "a", "text": "held 3 s later than wanted"}]
