"""The examination of a home, on real files, with no NAS and with a real one."""

import fcntl
import json
import os
import shutil
import socket
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.operations.doctor.filesystem import mount_of
from tests.agent_home import AgentHome
from tests.cli.conftest import tree
from tests.errors.hinted import tries
from tests.played_server import Answer, PlayedServer


@pytest.fixture
def agent(tmp_path, nas):
    return AgentHome(tmp_path / "agent", nas, name=tmp_path.name)


OF_JOBS = {"jobs", "records", "armed", "overdue", "failing", "next", "tick"}
"""The checks after which a job needs a look, and the home itself is well."""


@pytest.fixture
def doctor(chronos):
    """The checks of a home by name, and the exit code."""

    def examine(where, *more, env=None):
        done = chronos("doctor", "--json", *more, home=where, env=env)
        document = done.json
        assert [check["number"] for check in document["checks"]] == list(range(1, len(document["checks"]) + 1))
        failing = {check["name"] for check in document["checks"] if check["level"] == "FAIL"}
        assert done.code == (0 if not failing else 11 if failing <= OF_JOBS else 1)
        return {check["name"]: check for check in document["checks"]}, done

    return examine


def levels(checks):
    return {name: check["level"] for name, check in checks.items() if check["level"] != "OK"}


def edit(home, old, new):
    path = home / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_new_home_is_well(doctor, home):
    """A home without jobs and without NAS has nothing that fails, and no check is left out."""
    checks, done = doctor(home)
    assert levels(checks) == {}
    assert done.code == 0
    assert len(checks) == 24


def test_used_tokens_that_cannot_be_remembered_are_a_warning(doctor, home):
    """Then only tokens that name their job and instant are taken, and where that memory is for this machine is said."""
    edit(home, "timezone", "cron: {chronos: {portal_url: 'http://127.0.0.1:9'}}\ntimezone")
    found = doctor(home)[0]["token_memory"]
    assert (found["level"], found["text"]) == (
        "OK",
        f"used tokens are remembered in {home}/cache/jti, for this machine",
    )
    assert list((home / "cache/jti").iterdir()) == []
    shutil.rmtree(home / "cache")
    (home / "cache").write_text("a file")
    found = doctor(home)[0]["token_memory"]
    assert (found["level"], found["code"]) == ("WARN", "jti_memory")
    assert "only tokens that name their job and instant are taken" in found["text"]


def test_what_people_see_is_numbered_and_names_the_mend(chronos, home):
    """Each check is a line with its number and level, and what is not OK has the command that mends it below it."""
    (home / "ESTOP").write_text("maintenance\n")
    done = chronos("doctor", home=home)
    lines = done.out.splitlines()
    assert lines[0].startswith(" 1. OK    config: ")
    at = next(number for number, line in enumerate(lines) if "WARN  hold: ALL JOBS ARE HELD: maintenance" in line)
    assert lines[at + 1].strip() == "mend: chronos hold --off"
    assert "24 checks: 23 OK, 1 WARN, 0 FAIL" in done.err
    assert done.code == 0, "a warning is no failure"
    quiet = chronos("doctor", "--quiet", home=home)
    assert quiet.out.splitlines() == [lines[at], lines[at + 1]]


def test_a_home_that_is_not_there_is_the_one_failure(doctor, tmp_path):
    """Nothing is looked for in a home that does not exist, and nothing is made."""
    checks, done = doctor(tmp_path / "nowhere")
    assert levels(checks) == {"home": "FAIL"}
    assert checks["home"]["mend"].endswith("init")
    assert done.json["error"]["hint"] == checks["home"]["mend"]
    assert not (tmp_path / "nowhere").exists()


def test_a_configuration_that_cannot_be_read_is_a_check(doctor, home):
    """A broken config.yaml is a FAIL of its own with the place of the fault, not an error of the command's."""
    (home / "config.yaml").write_text("cron: [\n")
    checks, done = doctor(home)
    assert levels(checks) == {"config": "FAIL"}
    assert "config.yaml" in checks["config"]["text"]
    assert done.code == 1


@pytest.mark.parametrize(
    ("name", "mode", "check", "level", "code"),
    [
        ("", 0o777, "home", "FAIL", "home_mode"),
        ("", 0o1777, "home", "FAIL", "home_mode"),
        ("", 0o770, "home", "FAIL", "folder_mode"),
        ("cron", 0o770, "home", "FAIL", "folder_mode"),
        ("cron", 0o707, "home", "FAIL", "folder_mode"),
        ("token", 0o644, "modes", "WARN", "token_readable"),
        ("token", 0o602, "modes", "FAIL", "writable_by_others"),
        ("auth.json", 0o640, "modes", "WARN", "token_readable"),
        ("config.yaml", 0o646, "modes", "FAIL", "writable_by_others"),
        ("cron/jobs.json", 0o660, "modes", "WARN", "writable_by_group"),
    ],
)
def test_modes_that_let_others_in_are_named(doctor, home, name, mode, check, level, code):
    """A token that others can read is worth a warning, a file that decides what is run and others can write a failure."""
    edit(home, "timezone", "cron: {chronos: {token_file: token}}\ntimezone")
    (home / "cron").mkdir()
    for path, text in (("token", "x"), ("auth.json", "{}"), ("cron/jobs.json", '{"jobs": []}')):
        (home / path).write_text(text)
    for path in ("token", "auth.json", "cron/jobs.json", "config.yaml"):
        (home / path).chmod(0o600)
    assert levels(doctor(home)[0]) == {}
    (home / name).chmod(mode)
    found = doctor(home)[0][check]
    assert (found["level"], found["code"]) == (level, code)
    assert found["mend"].startswith("chmod ")
    assert found["mend"].endswith(str(home / name).rstrip("/"))


def test_a_folder_that_a_neighbour_could_use_is_a_failure(doctor, home, tmp_path):
    """One that is a link, or another user's."""
    (tmp_path / "elsewhere").mkdir()
    (home / "cron").symlink_to(tmp_path / "elsewhere")
    assert (doctor(home)[0]["home"]["level"], doctor(home)[0]["home"]["code"]) == ("FAIL", "linked_folder")


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder to another group needs root")
def test_a_folder_above_that_a_group_may_write_is_a_warning(doctor, home):
    """Its members could put another home in the place of ours; our own group is not warned of."""
    os.chown(home.parent, 0, 12345)
    home.parent.chmod(0o775)
    check = doctor(home)[0]["home"]
    assert (check["level"], check["code"]) == ("WARN", "folder_above_mode")
    assert check["mend"] == f"chmod g-w {home.parent}"
    os.chown(home.parent, 0, os.getegid())
    assert doctor(home)[0]["home"]["level"] == "OK"


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder to another user needs root")
@pytest.mark.parametrize("name", ["cron/runs", "cron/locks", "cache"])
def test_a_folder_of_another_user_is_a_failure(doctor, home, name):
    """Even where what is run from the home is ours, and where the home is named as safe: that is said of its owner."""
    (home / name).mkdir(parents=True)
    os.chown(home / name, 12345, 12345)
    for env in (None, {"CHRONOS_SAFE_HOMES": str(home)}):
        check = doctor(home, env=env)[0]["home"]
        assert (check["level"], check["code"]) == ("FAIL", "foreign_owner")
    os.chown(home, 12345, 12345)
    assert doctor(home, env=env)[0]["home"]["level"] == "OK"


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder to another user needs root")
@pytest.mark.parametrize("name", ["", "cron", "config.yaml"])
def test_what_is_run_of_another_user_is_the_first_and_last_failure(doctor, home, name):
    """Such a home is not read at all, so the doctor has nothing else to say of it."""
    (home / "cron").mkdir()
    os.chown(home / name, 12345, 12345)
    checks = doctor(home)[0]
    assert list(checks) == ["config"]
    assert (checks["config"]["level"], checks["config"]["code"]) == ("FAIL", "foreign_home")


def test_listing_warns_of_a_token_that_others_can_read(chronos, home):
    """The list says it too, on stderr; a closed file, or none, is no matter."""
    edit(home, "timezone", "cron: {chronos: {token_file: token}}\ntimezone")
    assert chronos("list", "--offline", home=home).err.count("warning") == 0
    (home / "token").write_text("x")
    (home / "token").chmod(0o640)
    assert f"others can read the token in {home}/token: chmod 600" in chronos("list", "--offline", home=home).err
    (home / "token").chmod(0o600)
    assert chronos("list", "--offline", home=home).err.count("warning") == 0


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
files:/export /srv/data nfs4 rw 0 0
//files/share /srv/with\\040blank cifs rw 0 0
tmpfs /srv/data/scratch tmpfs rw 0 0
bucket /mnt/s3 fuse.s3fs rw 0 0
/dev/disk3s1 on /System/Volumes/Data (apfs, local, journaled)
//me@files/share on /Volumes/share (smbfs, nodev, nosuid)
"""


@pytest.mark.parametrize(
    ("path", "kind", "remote"),
    [
        ("/home/me", "ext4", False),
        ("/srv/data/home", "nfs4", True),
        ("/srv/database", "ext4", False),
        ("/srv/data/scratch/home", "tmpfs", False),
        ("/srv/with blank/home", "cifs", True),
        ("/mnt/s3/home", "fuse.s3fs", True),
        ("/System/Volumes/Data/me", "apfs", False),
        ("/Volumes/share/me", "smbfs", True),
    ],
)
def test_the_file_system_of_a_path_is_found(path, kind, remote):
    """The longest mount point that holds the path counts, as proc(5) and mount(8) write them; NFS, SMB and FUSE are told apart."""
    mount = mount_of(path, MOUNTS)
    assert (mount.kind, mount.remote) == (kind, remote)


def test_a_store_on_a_network_file_system_has_its_own_code(home):
    """A home on NFS is named with a code of its own, and what to do about it."""
    from chronos_cli.config import load_config
    from chronos_cli.operations.doctor.home import check_file_system

    mounts = f"files:/export {home} nfs4 rw 0 0\n"
    check = check_file_system(load_config(environ={}, home=str(home)), mounts)
    assert (check.level.value, check.code) == ("WARN", "network_file_system")
    assert "s3://" in check.mend


def test_a_damaged_store_fails_and_is_not_taken_for_an_empty_one(doctor, home):
    """A jobs.json that cannot be read is a failure with its mend, and nothing is said of jobs then."""
    (home / "cron").mkdir()
    (home / "cron/jobs.json").write_text('{"jobs": [')
    checks, _ = doctor(home)
    assert checks["store"]["level"] == "FAIL"
    assert checks["store"]["mend"]
    assert "records" not in checks


def test_a_lock_that_others_hold_is_named(doctor, chronos, home):
    """While another program holds the store's lock, the check of the lock fails; the rest is still examined."""
    assert chronos("job", "add", "every 1h", "--command", "true", home=home).code == 0
    with (home / "cron/.jobs.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        checks, _ = doctor(home, "--lock-timeout", "0.1")
    assert checks["lock"]["code"] == "locked"
    assert checks["records"]["level"] == "OK"
    assert doctor(home)[0]["lock"]["level"] == "OK"


def test_a_runs_lock_is_taken_and_let_go(doctor, home):
    """As a run takes it: the folder is made, is ours alone, and nothing stays in it."""
    (home / "cron").mkdir()
    found = doctor(home)[0]["lock"]
    assert found["text"].endswith(f"; a run's is had in {home}/cron/locks")
    assert list((home / "cron/locks").iterdir()) == []
    assert oct((home / "cron/locks").stat().st_mode & 0o777) == "0o700"


def test_a_runs_lock_that_cannot_be_had_is_a_failure(doctor, home):
    """Then no job could run, so that is said before one is due."""
    (home / "cron").mkdir()
    (home / "cron/locks").write_text("in the way")
    found = doctor(home)[0]["lock"]
    assert (found["level"], found["code"]) == ("FAIL", "lock_dir")
    assert found["text"] == f"cannot use {home}/cron/locks for run locks: Not a directory"
    assert found["mend"].startswith("move away what is there, or make it a folder of the user with id")


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder to another user needs root")
def test_a_place_of_run_locks_that_is_another_users_is_named(doctor, home):
    """The reason is whose it is."""
    (home / "cron/locks").mkdir(parents=True)
    os.chown(home / "cron/locks", 12345, 12345)
    found = doctor(home)[0]["lock"]
    assert (found["level"], found["code"]) == ("FAIL", "lock_dir")
    assert "it belongs to user 12345, not to 0" in found["text"]


def test_an_on_failure_command_that_is_not_there_is_named(doctor, chronos, home):
    """A command that cannot be run would tell nobody; one that can is shown, and without one nothing is said."""
    words = ("job", "add", "@yearly", "--id", "a", "--shell", "true", "--on-failure")
    assert chronos(*words, "no-such-mailer ops", home=home).code == 0
    check = doctor(home)[0]["on_failure"]
    assert (check["level"], check["code"]) == ("WARN", "on_failure_missing")
    assert "no-such-mailer of job a is no program here" in check["text"]
    assert chronos("job", "edit", "a", "--on-failure", "true", home=home).code == 0
    assert doctor(home)[0]["on_failure"]["text"] == "failures are told to true"


def test_it_changes_nothing_in_the_store(doctor, fixture_home):
    """A home that hermes wrote is the same byte for byte afterwards; the lock file is not content."""
    before = tree(fixture_home)
    doctor(fixture_home)
    assert tree(fixture_home) == before


def test_jobs_that_nothing_triggers_are_said_plainly(doctor, chronos, home):
    """Live jobs without NAS and without a tick have no working trigger; ticks mend it, and an overdue job is named."""
    words = ("job", "add", "every 1h", "--id", "beat", "--inherit-env", "none", "--command", "true")
    assert chronos(*words, home=home).code == 0
    checks, _ = doctor(home)
    assert levels(checks) == {"tick": "FAIL"}
    assert checks["tick"]["code"] == "no_trigger"
    assert "--install" in checks["tick"]["mend"]
    assert chronos("tick", home=home).code == 0
    assert levels(doctor(home)[0]) == {"tick": "WARN"}
    (home / "cron/tick.json").write_text(json.dumps({"at": "2038-01-01T00:00:00+00:00"}))  # by a clock that was ahead
    assert levels(doctor(home)[0]) == {"tick": "FAIL"}
    (home / "cron/tick.json").write_text(json.dumps({"at": (datetime.now(UTC) - timedelta(minutes=1)).isoformat()}))
    assert chronos("tick", home=home).code == 0
    assert levels(doctor(home)[0]) == {}
    path = home / "cron/jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0]["next_run_at"] = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    path.write_text(json.dumps(document))
    late = doctor(home)[0]["overdue"]
    assert (late["level"], late["mend"]) == ("FAIL", "chronos tick")
    assert "beat" in late["text"]
    document["jobs"].append({"id": "six", "schedule": {"kind": "cron", "expr": "0 0 9 * * *"}, "enabled": True})
    path.write_text(json.dumps(document))
    broken = doctor(home)[0]["records"]
    assert broken["level"] == "FAIL"
    assert broken["mend"] == "put it right in cron/jobs.json, or `chronos job remove six --yes`"


def test_a_home_whose_arms_agree_is_well(doctor, agent):
    """With NAS up: reachable, token accepted, clocks agree, keys fetched and cached; only the claims need a fire first."""
    assert agent.chronos("job", "add", "every 1h", "--id", "beat", "--command", "true").returncode == 0
    checks, done = doctor(agent.home)
    assert done.code == 0, checks
    assert levels(checks) == {"audience": "WARN", "issuer": "WARN", "environment": "WARN"}
    assert checks["audience"]["mend"] == "chronos doctor --probe"
    assert "token_file" in checks["token"]["text"]
    assert agent.access.token not in done.out + done.err
    assert list((agent.home / "cache/jwks").glob("*.json"))
    assert agent.chronos("cancel", "beat").returncode == 0
    assert doctor(agent.home)[0]["armed"] | {"number": 0} == {
        "number": 0, "name": "armed", "level": "FAIL", "text": "beat is not armed as wished", "code": "unarmed",
        "mend": "chronos reconcile",
    }  # fmt: skip


def test_a_fire_that_is_under_way_is_no_fault(doctor, agent, monkeypatch):
    """What differs is looked at once more a moment later: a fire may have moved the job on since NAS was asked."""
    assert agent.chronos("job", "add", "every 1h", "--id", "beat", "--command", "true").returncode == 0
    assert agent.chronos("cancel", "beat").returncode == 0
    waits = []

    def meanwhile(seconds):
        waits.append(seconds)
        assert agent.chronos("reconcile").returncode == 0

    monkeypatch.setattr("chronos_cli.operations.doctor.jobs.time", SimpleNamespace(sleep=meanwhile))
    checks, _ = doctor(agent.home)
    assert (checks["armed"]["level"], checks["tick"]["level"]) == ("OK", "OK")
    assert waits == [1.0]


def test_a_token_that_nas_does_not_know_is_the_tokens_fault(doctor, agent):
    """NAS answers, so it is reachable; what fails is the token, and its place is named."""
    (agent.home / "token").write_text("nobody")
    checks, done = doctor(agent.home)
    assert checks["nas"]["level"] == "OK"
    assert (checks["token"]["level"], checks["token"]["code"]) == ("FAIL", "not_authenticated")
    assert done.code == 1


def test_a_provider_that_cannot_be_used_says_why(doctor, agent):
    """Without a token the built-in trigger takes over, and the check of the provider says why."""
    (agent.home / "token").unlink()
    checks, _ = doctor(agent.home)
    assert checks["provider"]["code"] == "provider_fallback"
    assert "token" in checks["provider"]["text"]


def test_nas_that_cannot_be_reached_fails_two_checks(doctor, agent):
    """Where nobody listens NAS and its keys fail, each with its own reason, and the rest is still examined."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        text = (agent.home / "config.yaml").read_text()
        url = next(line.split(": ")[1] for line in text.splitlines() if "portal_url" in line)
        (agent.home / "config.yaml").write_text(text.replace(url, dead))
        checks, _ = doctor(agent.home)
    assert levels(checks) == {"nas": "FAIL", "token": "WARN", "clock": "WARN", "keys": "FAIL", "audience": "WARN",
                              "issuer": "WARN"}  # fmt: skip
    assert "refused" in checks["nas"]["text"].lower()


@tries("operations/doctor/nas.py", "timedatectl set-ntp true")
@pytest.mark.parametrize(("seconds", "level"), [(0, "OK"), (-12, "WARN"), (90, "FAIL")])
def test_the_clock_is_held_against_nas_s_date(doctor, agent, seconds, level):
    """A NAS whose Date header is 12 s off is worth a warning; past the leeway of fire tokens it is a failure.

    The command that sets the clock is named; where both agree there is nothing to mend.
    """

    def answer(_):
        there = datetime.now(UTC) + timedelta(seconds=seconds)
        return Answer(body={"armed": []}, headers={"Date": there.strftime("%a, %d %b %Y %H:%M:%S GMT")})

    with PlayedServer(answer) as played:
        path = agent.home / "config.yaml"
        text = path.read_text()
        path.write_text(
            "\n".join(f"    portal_url: {played.url}" if "portal_url" in line else line for line in text.splitlines())
        )
        check = doctor(agent.home)[0]["clock"]
    assert check["level"] == level
    assert (check["code"] == "clock_skew") == (level != "OK")
    assert check["mend"] == (None if level == "OK" else "timedatectl set-ntp true")


def test_no_audience_means_that_every_fire_is_refused(doctor, agent):
    """An audience that is not set is a failure before any fire has shown it."""
    path = agent.home / "config.yaml"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "audience" not in line))
    assert doctor(agent.home)[0]["audience"]["code"] == "no_audience_configured"


def test_a_callback_on_this_machine_is_no_public_address(doctor, home):
    """A loopback callback_url with a NAS elsewhere can never be called; nothing has to be tried to know that."""
    (home / "config.yaml").write_text(
        "cron: {chronos: {portal_url: 'https://nas.invalid', callback_url: 'http://127.0.0.1:1', timeout: 0.2}}\n"
    )
    assert doctor(home)[0]["callback"]["code"] == "callback_loopback"


def test_the_fixture_of_hermes_is_examined_too(doctor, fixture_home, tmp_path):
    """Jobs as hermes keeps them are counted, and what of them cannot be run here is named."""
    copy = tmp_path / "copy"
    shutil.copytree(fixture_home, copy)
    checks, _ = doctor(copy)
    assert checks["store"]["text"].startswith(str(len(json.loads((copy / "cron/jobs.json").read_text())["jobs"])))


def test_status_says_plainly_when_nothing_triggers_jobs(chronos, home, agent):
    """Without NAS or a tick status begins with that; ticks, or NAS's own word that it holds the timers, end it."""
    chronos("job", "add", "every 1h", "--id", "beat", "--command", "true", home=home)
    done = chronos("status", home=home)
    assert done.out.splitlines()[0].startswith("NO WORKING TRIGGER: no tick has run yet")
    assert chronos("status", "--json", home=home).json["trigger"]["working"] is False
    assert chronos("tick", home=home).code == 0
    assert "nothing is known to run the next" in chronos("status", home=home).out.splitlines()[0]
    before = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    (home / "cron/tick.json").write_text(json.dumps({"at": before}))
    assert chronos("tick", home=home).code == 0
    trigger = chronos("status", "--json", home=home).json["trigger"]
    assert trigger["working"] is True
    assert datetime.fromisoformat(trigger["last_tick_at"]) <= datetime.now(UTC)
    old = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    (home / "cron/tick.json").write_text(json.dumps({"at": old}))
    assert "the last tick ran 3 h ago" in chronos("status", home=home).out.splitlines()[0]
    assert agent.chronos("job", "add", "every 1h", "--id", "beat", "--command", "true").returncode == 0
    assert chronos("status", "--json", home=agent.home).json["trigger"]["working"] is True
    assert chronos("status", "--offline", "--json", home=agent.home).json["trigger"]["working"] is None
    assert agent.chronos("cancel", "beat").returncode == 0
    assert "NAS holds no timer" in chronos("status", home=agent.home).out.splitlines()[0]


@pytest.mark.parametrize(
    ("setting", "said"), [("auto", "share a warm one"), ("off", "runners: callback.warm_runner says so")]
)
def test_it_says_how_the_callback_starts_runners(doctor, home, setting, said):
    """The line of the callback names whether runners are forked from a warm one, and why."""
    (home / "config.yaml").write_text(
        "cron: {chronos: {portal_url: 'https://nas.invalid', callback_url: 'https://agent.invalid', timeout: 0.2}}\n"
        f"callback: {{warm_runner: {setting}}}\n"
    )
    assert said in doctor(home)[0]["callback"]["text"]
