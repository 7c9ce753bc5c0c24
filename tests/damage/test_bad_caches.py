"""What lies beside the store may be broken as well: logins, tokens, caches, a hold, the folders themselves.

None of it keeps a command waiting, costs a job its run that does not depend on it, or ends in a traceback.
"""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.errors import ChronosError, HeldError
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.refused_token import last_refused
from chronos_cli.operations.firing.tick import tick
from chronos_cli.running.lock import LOCK_BYTES
from chronos_cli.trust import FireClaims, TrustSettings, bind_jti
from chronos_cli.trust.jti import JtiMemoryError
from chronos_cli.trust.jwks import JwksCache
from tests import forked
from tests.conftest import ROOT, thoroughly
from tests.damage.rotten import DAMAGES, SICK, SPECIAL, WELL, damage, make_home
from tests.damage.test_bad_documents import context, runs_of_well
from tests.fire_tokens import SigningKey, serve_jwks
from tests.unprivileged import unprivileged

HOW = (*DAMAGES, *SPECIAL)
FIRST, SECOND, THIRD = (HOW[thoroughly(0, offset) :: thoroughly(1, 3)] for offset in range(3))
"""All of them; by default each stands in one of the three, and so in two or three tests."""
WITHIN_S = 20


@pytest.fixture(autouse=True)
def never_waits():
    """Whatever waits for a pipe to speak is ended, and the test fails."""

    def late(*_):
        raise AssertionError(f"it has kept us waiting for {WITHIN_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(WITHIN_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def works_on(chronos, home, *, reconciles):
    """The other job is listed and runs; a reconcile goes well, or says in one line why it cannot."""
    for command in (("list", "--offline"), ("status", "--offline"), ("doctor",)):
        done = chronos(*command, home=home)
        assert "Traceback" not in done.err
        assert command[0] == "doctor" or done.code == 0, (command, done.err)
    came = fire(context(home), WELL, fire_at=None, delivery=None, launcher=InlineLauncher())
    assert came.outcome.value == "claimed"
    assert runs_of_well(home) == ["ok"]
    assert tick(context(home), InlineLauncher()).failed == {}
    done = chronos("reconcile", home=home)
    assert (done.code == 0) is reconciles, done.err
    assert done.err.count("\n") <= 1


@pytest.mark.parametrize("how", FIRST)
def test_a_broken_login_stops_calls_alone(chronos, nas, tmp_path, how):
    """auth.json of any kind: NAS cannot be asked, in one line; jobs that are due run all the same."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    config = home / "config.yaml"
    config.write_text(config.read_text().replace("    token_file: token\n", ""))
    login = home / "auth.json"
    login.write_text(json.dumps({"providers": {"nous": {"access_token": "x"}}}))
    damage(login, how)
    works_on(chronos, home, reconciles=False)
    done = chronos("reconcile", home=home)
    assert done.code in (2, 4)
    assert "auth.json" in done.err


@pytest.mark.parametrize("how", [*SPECIAL, "empty", "zeros", "long", "garbage"])
def test_a_broken_token_file_stops_calls_alone(chronos, nas, tmp_path, how):
    """As with the login."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    damage(home / "token", how)
    works_on(chronos, home, reconciles=False)
    assert "token" in chronos("reconcile", home=home).err


@pytest.mark.parametrize("how", [*SPECIAL, "long"])
def test_a_configuration_that_is_no_file_is_one_line(chronos, nas, tmp_path, how):
    """Nothing runs without it, and nothing waits for it."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    damage(home / "config.yaml", how)
    for command in ("list", "tick", "reconcile"):
        done = chronos(command, home=home)
        assert done.code == 2
        assert "config.yaml" in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("how", SPECIAL)
def test_jobs_that_are_no_file_are_one_line(chronos, nas, tmp_path, how):
    """jobs.json is never read as no jobs; a shell that asks for candidates is not kept waiting."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    damage(home / "cron/jobs.json", how)
    for command in (("list", "--offline"), ("tick",), ("reconcile",), ("job", "pause", WELL)):
        done = chronos(*command, home=home)
        assert done.code == 1
        assert "jobs.json" in done.err
    done = forked.run(["__complete", "jobs", "", str(home)], env=os.environ, timeout=WITHIN_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("record", ["[" * 900 + "]" * 900, "9" * 5_000, "NaN"])
def test_a_shell_is_told_of_the_jobs_that_can_be_read(tmp_path, record):
    """One record that no parser takes leaves the candidates that the others are."""
    (tmp_path / "cron").mkdir()
    (tmp_path / "cron/jobs.json").write_text(f'{{"jobs": [{{"id": "bad", "x": {record}}}, {{"id": "good"}}]}}')
    done = forked.run(["__complete", "jobs", "", str(tmp_path)], env=os.environ, timeout=WITHIN_S)
    assert "good" in done.stdout


@pytest.mark.parametrize("how", SECOND)
def test_a_broken_key_cache_is_as_good_as_none(tmp_path, how):
    """The keys are fetched again, and kept where that can be done."""
    key = SigningKey.rs256()
    with serve_jwks(key) as server:
        settings = TrustSettings(
            expected_audience="a", issuer="i", keys=server.url, cache_dir=tmp_path / "cache", fetch_timeout_s=5
        )
        assert JwksCache(settings).find("RS256", "rsa-1")
        (file,) = (tmp_path / "cache/jwks").glob("*.json")
        damage(file, how)
        assert JwksCache(settings).find("RS256", "rsa-1")
        assert server.count == 2
        if how not in SPECIAL:
            assert JwksCache(settings).find("RS256", "rsa-1")
            assert server.count == 2
        lock = file.with_suffix(".lock")
        file.unlink() if not file.is_dir() else None
        damage(lock, how)
        assert JwksCache(settings).find("RS256", "rsa-1")


@pytest.mark.parametrize("member", ["lifetime_s", "fetched_at", "asked_at", "sought_at", "attempts"])
@pytest.mark.parametrize("value", ["1e300", "-1e300", "1" * 400])
def test_keys_do_not_live_for_ever_by_a_broken_number(tmp_path, member, value):
    """Whatever a number of the cache says, keys that NAS has withdrawn are out after the longest that they may serve."""
    old, new = SigningKey.rs256(), SigningKey.es256()
    with serve_jwks(old) as server:
        settings = TrustSettings(
            expected_audience="a", issuer="i", keys=server.url, cache_dir=tmp_path / "cache", cooldown_s=0
        )
        began = datetime.now(UTC).timestamp()
        assert JwksCache(settings, clock=lambda: began).find("RS256", "rsa-1")
        (file,) = (tmp_path / "cache/jwks").glob("*.json")
        document = json.loads(file.read_text())
        document[member] = "@"
        file.write_text(json.dumps(document).replace('"@"', value))
        server.keys = [new]
        later = began + settings.max_age_s + settings.max_stale_s + 1
        try:
            found = JwksCache(settings, clock=lambda: later).find("RS256", "rsa-1")
        except ChronosError:
            found = ()
        assert found == ()


@pytest.mark.parametrize("how", ["folder", "file", "fifo", "entries"])
def test_a_broken_memory_of_tokens_lets_bound_ones_through(tmp_path, how):
    """A token that names its job and instant needs no memory; any other is not taken where none can be kept."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = {"jti": "1", "expires": now + timedelta(seconds=60), "issued": now, "claims": {}}
    loose = FireClaims(job_id=None, fire_at=None, **made)
    bound = FireClaims(job_id="a", fire_at=now, **made)
    (tmp_path / "cache").mkdir()
    memory = tmp_path / "cache/jti"
    if how == "file":
        memory.write_bytes(b"\0")
    elif how == "fifo":
        os.mkfifo(memory)
    else:
        memory.mkdir()
        entry = memory / f"hex-{b'1'.hex()}"
        if how == "folder":
            entry.mkdir()
        else:
            entry.symlink_to("no number")
            os.mkfifo(memory / ".pruned")
    bind_jti(bound, "a", now, tmp_path / "cache", now=lambda: now)
    if how == "entries":
        bind_jti(loose, "a", now, tmp_path / "cache", now=lambda: now)
    else:
        with pytest.raises(JtiMemoryError):
            bind_jti(loose, "a", now, tmp_path / "cache", now=lambda: now)


@pytest.mark.parametrize("how", THIRD)
def test_a_broken_note_of_a_refusal_says_nothing(chronos, nas, tmp_path, how):
    """Doctor reads cache/refused.json, and nobody else; a broken one is as good as none."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    (home / "cache").mkdir(mode=0o700)
    note = home / "cache/refused.json"
    note.write_text(json.dumps({"at": datetime.now(UTC).isoformat(), "code": "audience", "message": "m", "hint": "h"}))
    assert last_refused(home / "cache") is not None
    damage(note, how)
    assert last_refused(home / "cache") is None
    assert "Traceback" not in chronos("doctor", home=home).err


@pytest.mark.parametrize("how", SECOND)
def test_a_broken_hold_holds(chronos, nas, tmp_path, how):
    """Whatever stands there: nothing starts, everybody says so, and the command that is named lifts it where it can."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    (home / "ESTOP").write_text('{"reason": "stop"}')
    damage(home / "ESTOP", how)
    for command in (("list", "--offline"), ("status", "--offline")):
        done = chronos(*command, home=home)
        assert done.code in (0, 75), (command, done.err)
        assert "held" in (done.out + done.err).lower()
    came = fire(context(home), WELL, fire_at=None, delivery=None, launcher=InlineLauncher())
    assert came.outcome.value == "held"
    with pytest.raises(HeldError):
        tick(context(home), InlineLauncher())
    assert runs_of_well(home) == []
    done = chronos("hold", "--off", home=home)
    if how == "folder":
        assert done.code == 1
        assert "ESTOP" in done.err
        (home / "ESTOP").rmdir()
    else:
        assert done.code == 0, done.err
    assert chronos("tick", home=home).code in (0, 10)
    assert runs_of_well(home) == ["ok"]


@pytest.mark.parametrize("how", THIRD)
def test_a_broken_lock_file_leaves_the_lease_to_count(chronos, nas, tmp_path, how):
    """What a run's lock file says is lost: nobody is kept waiting, nothing is run again, and the row ends as lost."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    path = home / "cron/jobs.json"
    ctx = context(home)
    from chronos_cli.operations.firing.run import RunTicket, begin
    from chronos_cli.operations.jobs.edit import claim_manual

    looked = claim_manual(ctx, WELL)
    (start,) = looked.decision.starts
    begun = begin(ctx, RunTicket.of(looked.job, start, "starter"))
    begun.attempt.wait()
    begun.locked.release(keep=True)
    (lock,) = (home / "cron/locks").iterdir()
    assert lock.stat().st_size == LOCK_BYTES
    damage(lock, how)
    chronos("list", "--offline", home=home)
    row = home / f"cron/runs/{WELL}/{start.entry.run}.json"
    document = json.loads(row.read_text())
    assert document["state"] == "running"
    document["lease_ends_at"] = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    document["owner"] |= {"pid": 2**22 + 1, "clock": None}
    row.write_text(json.dumps(document))
    tick(context(home), InlineLauncher())
    assert json.loads(row.read_text())["state"] == "lost"
    assert path.exists()


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
@pytest.mark.parametrize(
    "name", ["cron/set-aside", "cron/locks", "cron/output", "cron/arms", "cron/runs/well", "cache"]
)
def test_a_file_in_place_of_a_folder_is_named(chronos, nas, tmp_path, name, kind):
    """What needs the folder says in one line which path is wrong; what does not need it goes on."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    place = home / name
    if place.exists():
        for entry in sorted(place.rglob("*"), reverse=True):
            entry.unlink()
        place.rmdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        place.write_bytes(b"")
    else:
        place.symlink_to(tmp_path / "not-mounted")
    damage(home / f"cron/runs/{SICK}" / next((home / f"cron/runs/{SICK}").iterdir()).name, "zeros")
    for command in (
        ("list", "--offline"),
        ("status", "--offline"),
        ("history",),
        ("doctor",),
        ("tick",),
        ("reconcile",),
    ):
        done = chronos(*command, home=home)
        assert "Traceback" not in done.err, command
        assert done.code in (0, 1, 10, 75), (command, done.err)
        assert done.code in (0, 10) or command[0] == "doctor" or name in done.err, (command, done.err)
        assert command[0] not in ("list", "status", "history") or done.code == 0, done.err


@pytest.mark.parametrize("name", ["cron", "cron/jobs.json"])
def test_a_store_behind_a_link_to_nothing_is_not_an_empty_store(chronos, nas, tmp_path, name):
    """What it leads to may be on a disk that is not mounted now: nothing is called gone, and no timer is cancelled."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    (home / name).rename(tmp_path / "elsewhere")
    (home / name).symlink_to(tmp_path / "not-mounted")
    for command in (("list", "--offline"), ("status",), ("reconcile", "--prune"), ("tick",)):
        done = chronos(*command, home=home)
        assert done.code == 1, (command, done)
        assert f"bring back what the link {home / name} leads to" in done.err
    assert {call.method for call in nas.calls} <= {"GET"}


def test_documents_that_are_closed_stay_with_their_job_for_an_ordinary_user():
    """Root may read everything, so the part of the grid about modes is run as somebody who may not."""
    if os.geteuid() != 0:
        pytest.skip("an ordinary user runs that part of the grid itself")
    signal.alarm(300)
    with unprivileged() as user:
        done = user.run(
            [user.python, "-m", "pytest", "-q", "-n", "0", "-m", "", "-p", "no:cacheprovider", "-k", "closed",
             "--basetemp", str(user.home / "t"), "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"),
             str(ROOT / "tests/damage/test_bad_documents.py")],
            timeout=280, PYTHONDONTWRITEBYTECODE="1",
        )  # fmt: skip
    assert done[0] == 0, done[1][-3000:] + done[2][-1000:]
    assert "8 passed" in done[1], done[1][-500:]
