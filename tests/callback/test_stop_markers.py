"""The marks that stop jobs, as Hermes and people write them: a pause by half, a hold with an end, a hold of the fleet."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.config import load_config
from chronos_cli.durations import parse_duration
from chronos_cli.operations.arming.reconcile import reconcile
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.jobs import hold
from tests.callback.shim_home import ShimHome, add_job

SOON = timedelta(seconds=2)


@pytest.fixture
def home(tmp_path, key, nas, monkeypatch):
    return ShimHome(tmp_path, key, nas.url, monkeypatch)


def context(home):
    return open_home(load_config(environ={}, home=str(home)), ProcessEnvironment(environ={}, secrets={}))


def change(home, job_id, **fields):
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    next(job for job in document["jobs"] if job["id"] == job_id).update(fields)
    path.write_text(json.dumps(document))


def iso(**ahead):
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


def engaged_in_hermes(path):
    """Whether a newer Hermes holds: it reads an object with `expires_at` and takes everything else as engaged."""
    if not path.exists():
        return False
    try:
        body = json.loads(path.read_text(encoding="utf-8-sig"))
        ends = datetime.fromisoformat(body["expires_at"])
    except (ValueError, LookupError, TypeError):
        return True
    return datetime.now(UTC) < (ends if ends.tzinfo else ends.replace(tzinfo=UTC))


@pytest.mark.parametrize("fields", [{"state": "scheduled"}, {"state": None}, {"state": "scheduled", "enabled": True}])
def test_a_job_that_is_paused_by_half_is_neither_run_nor_armed(home, nas, fields):
    """Hermes runs nothing that bears `paused_at`, whatever its state says; nor do we, and resuming takes it away."""
    home.add("half", "every 1h", "true", ago=1)
    change(home.home, "half", paused_at=iso(hours=-1), **fields)
    said = {"result": "ignored", "job_id": "half", "reason": "paused", "status": "ignored"}
    assert home.fire("half").json == said
    ctx = context(home.home)
    assert reconcile(ctx).done == ()
    assert nas.armed == {}
    assert home.rows("half") == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "maintenance\n",
        '{"reason": "ours"}',
        '{"expires_at": "soon"}',
        '{"expires_at": 17}',
        '{"expires_at": null, "reason": null}',
        '[{"expires_at": "2020-01-01T00:00:00Z"}]',
        '{"expires_at": "2020-01-01T00:00:00Z"',
    ],
)
def test_whatever_is_there_holds_unless_its_end_is_readable_and_past(home, body):
    """A body that says nothing, is no object, or is torn holds without an end."""
    home.add("held", "every 1h", "true", ago=1)
    (home.home / "ESTOP").write_text(body)
    assert home.fire("held").json["result"] == "held"
    assert engaged_in_hermes(home.home / "ESTOP")


@pytest.mark.parametrize("form", ["{}+00:00", "{}", "{}Z", "{}.25+00:00"])
def test_a_hold_ends_by_itself(home, form):
    """Past its `expires_at`, with an offset or in UTC without one, behind a byte order mark: jobs run again."""
    home.add("free", "every 1h", "true", ago=1)
    ended = form.format(f"{datetime.now(UTC) - timedelta(seconds=5):%Y-%m-%dT%H:%M:%S}")
    (home.home / "ESTOP").write_text(json.dumps({"reason": "window", "expires_at": ended}), encoding="utf-8-sig")
    assert not engaged_in_hermes(home.home / "ESTOP")
    assert home.fire("free").json["result"] == "claimed"
    home.wait_for_rows("free", state="ok")


@pytest.mark.parametrize(
    ("ttl", "most"), [("2m", timedelta(minutes=2)), ("14m", timedelta(minutes=14)), ("1h", timedelta(minutes=15))]
)
def test_no_wake_under_a_hold_is_later_than_its_end(home, nas, ttl, most):
    """A fire under it, and a reconcile, arm what came due for the end of the hold, or 15 minutes ahead at most."""
    home.add("held", "every 1h", "true", ago=1)
    hold.engage(context(home.home), reason="window", ttl_s=parse_duration(ttl))
    assert engaged_in_hermes(home.home / "ESTOP")
    assert home.fire("held").json["result"] == "held"
    ends = datetime.fromisoformat(json.loads((home.home / "ESTOP").read_text())["expires_at"])
    armed = datetime.fromisoformat(nas.armed["held"]["fire_at"])
    assert armed <= ends
    assert most - SOON - SOON < armed - datetime.now(UTC) <= most + SOON
    reconcile(context(home.home))
    assert datetime.fromisoformat(nas.armed["held"]["fire_at"]) <= ends + SOON


def test_a_hold_of_the_fleet_root_holds_its_profiles(home, tmp_path, key, nas, monkeypatch):
    """`ESTOP` in the home that a profile belongs to stops the profile's jobs; an end of it counts too."""
    root = tmp_path / "fleet"
    profile = ShimHome(root / "profiles" / "work", key, nas.url, monkeypatch)
    profile.home.rename(root / "profiles" / "moved")
    monkeypatch.setenv("CHRONOS_HOME", str(root / "profiles" / "moved"))
    profile.home = root / "profiles" / "moved"
    config = profile.home / "config.yaml"
    config.write_text(config.read_text().replace(str(root / "profiles" / "work" / "home"), str(profile.home)))
    add_job(profile.home, "theirs", "every 1h", "true", ago=1)
    (root / "ESTOP").write_text("fleet")
    assert profile.fire("theirs").json["result"] == "held"
    ctx = context(profile.home)
    found = ctx.repository.hold(ctx.clock())
    assert found.text == f"fleet (held at {root})"
    assert found.lifted_by == f"chronos --home {root} hold --off"
    (root / "ESTOP").write_text(json.dumps({"reason": "fleet", "expires_at": iso(seconds=-5)}))
    assert profile.fire("theirs").json["result"] == "claimed"
    profile.wait_for_rows("theirs", state="ok")


def test_of_two_holds_the_later_end_counts(tmp_path):
    """The hold of a profile that ends first does not end that of its fleet."""
    profile = tmp_path / "profiles" / "work"
    profile.mkdir(parents=True)
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=9)
    for folder, reason, end in ((profile, "own", ends - timedelta(minutes=5)), (tmp_path, "fleet", ends)):
        (folder / "ESTOP").write_text(json.dumps({"reason": reason, "expires_at": end.isoformat()}))
    ctx = context(profile)
    assert ctx.repository.hold(ctx.clock()).expires_at == ends
    (profile / "ESTOP").write_text("own, for good")
    found = ctx.repository.hold(ctx.clock())
    assert (found.text, found.lifted_by) == ("own, for good", "chronos hold --off")


def test_a_claim_clears_what_asks_hermes_for_another_run(home):
    """A slot kept for later, or a run that was asked for, would be restored once the claim is over: a second run."""
    home.add("asked", "every 1h", "true", ago=1)
    cursor = home.jobs()["asked"]["next_run_at"]
    change(
        home.home, "asked", pending_slot=iso(hours=1), manual_run_at=cursor, manual_run_prompt="now", kept="as it is"
    )
    assert home.fire("asked").json["result"] == "claimed"
    home.wait_for_rows("asked", state="ok")
    record = home.jobs()["asked"]
    assert {"pending_slot", "manual_run_at", "manual_run_prompt"}.isdisjoint(record)
    assert record["kept"] == "as it is"


def test_a_look_that_claims_nothing_leaves_them(home):
    """Without a claim of ours they are hermes' own business."""
    home.add("asked", "every 1h", "true")
    change(home.home, "asked", pending_slot=iso(hours=1), quota_hold_until=iso(hours=2), failure_deliver="telegram:1")
    before = home.jobs()["asked"]
    home.fire("asked")
    assert home.jobs()["asked"] == before
