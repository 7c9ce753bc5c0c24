"""No mend of the doctor that does not mend: each check is brought to fail, its mend is done, and the check is well."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from importlib import resources

import pytest

from chronos_cli.cli import main
from chronos_cli.operations import assembly
from tests.callback.shim_home import ShimHome, write_config
from tests.conftest import ROOT
from tests.errors.hinted import tries
from tests.errors.hints_of_state import in_days
from tests.fire_tokens import SigningKey, serve_jwks
from tests.nas_client.played_nas import played_nas
from tests.played_server import Answer
from tests.unprivileged import UID


@pytest.fixture
def check(chronos):
    """Return a check of a home by its name; one that says nothing is well."""

    def find(home, name, *more, level=None):
        checks = chronos("doctor", *more, "--json", home=home).json["checks"]
        found = next((one for one in checks if one["name"] == name), {"level": "OK", "mend": None})
        assert level in (None, found["level"]), found
        return found

    return find


@pytest.fixture
def do(chronos):
    """Do what a mend says: a command of ours in this process, any other in a shell."""

    def follow(mend):
        if mend.startswith("chronos "):
            done = chronos(*shlex.split(mend)[1:])
            assert done.code == 0, done
            return
        subprocess.run(["sh", "-c", mend], check=True)

    return follow


nas = played_nas("keeps-slot")


@pytest.fixture
def armed(tmp_path, nas, monkeypatch, clean_environment):
    """A home at that NAS with one job that is armed."""
    monkeypatch.setattr("chronos_cli.nas_client.client._BACKOFF_S", 0.01)
    made = ShimHome(tmp_path, SigningKey.es256(), nas.url, monkeypatch)
    made.add("ours", "every 1h", "true")
    assert main(["--home", str(made.home), "reconcile"]) == 0
    return made


def edit(home, old, new):
    """Change a line of the configuration."""
    path = home / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# -- the home ----------------------------------------------------------------------------------------------------------


@tries("operations/doctor/home.py", "chronos --home")
def test_a_home_that_is_not_there_is_made_by_its_mend(check, do, tmp_path):
    """`init` makes one."""
    do(check(tmp_path / "new", "home", level="FAIL")["mend"])
    check(tmp_path / "new", "home", level="OK")


def as_ordinary_user(folder, work):
    """Return what `work` gives as JSON, done by a user without rights in a folder of its own."""
    if os.geteuid():
        return work()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, UID, UID, follow_symlinks=False)
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(UID)
            os.setuid(UID)
            os.write(write, json.dumps(work()).encode())
        except BaseException as error:  # noqa: BLE001 - nothing may get past this line in the copy of this process
            os.write(write, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:  # noqa: PTH123 - a descriptor
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text)


@pytest.fixture
def own_folder(tmp_path_factory):
    """A home that another user could reach, below a folder that is open to all."""
    import tempfile
    from pathlib import Path

    if not os.geteuid() and not all(part.stat().st_mode & 0o005 == 0o005 for part in (ROOT, *ROOT.parents)):
        pytest.skip("this checkout is closed to a user without rights")
    folder = Path(tempfile.mkdtemp(prefix="home-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "h").mkdir(mode=0o700)
    yield folder / "h"
    shutil.rmtree(folder)


@tries("operations/doctor/home.py", "&& chmod u+rwx")
def test_what_its_owner_may_not_write_is_opened_by_its_mend(check, own_folder, nas, monkeypatch, clean_environment):
    """The home itself, and the cache below it, whose owner has taken his own rights away."""
    with serve_jwks(SigningKey.es256()) as keys:
        write_config(own_folder, nas.url, keys.url)
        (own_folder / "cache").mkdir(mode=0o700)
        check(own_folder, "keys", level="OK")  # what is imported now the other user need not be able to read

        def work():
            found = []
            for path, names in ((own_folder, ["home"]), (own_folder / "cache", ["keys", "token_memory"])):
                for name in names:
                    for folder in ("jwks", "jti"):
                        shutil.rmtree(own_folder / "cache" / folder, ignore_errors=True)
                    path.chmod(0o500)
                    bad = check(own_folder, name)
                    subprocess.run(["sh", "-c", bad["mend"]], check=True)
                    found.append([bad["level"], check(own_folder, name)["level"]])
            return found

        assert as_ordinary_user(own_folder, work) == [["FAIL", "OK"], ["WARN", "OK"], ["WARN", "OK"]]


@pytest.mark.skipif(os.getuid() != 0, reason="giving a folder to another user needs root")
@tries("operations/doctor/home.py", "or as root: chown -R")
def test_a_folder_of_another_user_is_taken_by_its_mend(check, do, tmp_path):
    """The command that stands in it, as root."""
    (tmp_path / "cron" / "runs").mkdir(parents=True)
    os.chown(tmp_path / "cron" / "runs", 12345, 12345)
    found = check(tmp_path, "home", level="FAIL")
    do(found["mend"].partition("or as root: ")[2])
    check(tmp_path, "home", level="OK")


@pytest.mark.parametrize("name", ["", "UTC", "Europe/Berlin"])
@tries("operations/doctor/home.py", "pip install tzdata")
@tries("core/instant.py", "pip install tzdata")
@tries("config/values.py", "pip install tzdata")
def test_zones_without_data_are_there_once_tzdata_is(check, tmp_path, name):
    """Neither the system nor the package has them, or but one; then the package is there, as pip leaves it."""
    before = zoneinfo.TZPATH
    utc = resources.files("tzdata").joinpath("zoneinfo", "UTC").read_bytes()
    try:
        with pytest.MonkeyPatch.context() as patch:
            zoneinfo.reset_tzpath(())
            for module in ("tzdata", *(one for one in sys.modules if one.startswith("tzdata."))):
                patch.setitem(sys.modules, module, None)
            zoneinfo.ZoneInfo.clear_cache()
            (tmp_path / "config.yaml").write_text(f"timezone: {name}\n" if name else "")
            found = check(tmp_path, "config", level="FAIL")
            assert (found["text"], found["mend"]) == ("there is no data of time zones here", "pip install tzdata")
            (tmp_path / "UTC").write_bytes(utc)
            zoneinfo.reset_tzpath((tmp_path,))
            (tmp_path / "config.yaml").write_text("timezone: UTC\n")
            assert check(tmp_path, "time_zones", level="FAIL")["mend"] == "pip install tzdata"
        zoneinfo.ZoneInfo.clear_cache()
        check(tmp_path, "time_zones", level="OK")
    finally:
        zoneinfo.reset_tzpath(before)
        zoneinfo.ZoneInfo.clear_cache()


@tries("operations/doctor/home.py", "set timezone in config.yaml to a name such as Europe/Berlin")
def test_a_machine_without_a_zone_gets_one_by_the_setting(check, tmp_path, monkeypatch):
    """Nothing in the environment or below /etc names one."""
    from chronos_cli.config import zone

    real = zone.machine_zone
    monkeypatch.delenv("TZ", raising=False)
    monkeypatch.setattr(zone, "machine_zone", lambda environ, *, etc: real(environ, etc=str(tmp_path)))
    check(tmp_path, "time_zones", level="WARN")
    (tmp_path / "config.yaml").write_text("timezone: Europe/Berlin\n")
    check(tmp_path, "time_zones", level="OK")


# -- NAS and its keys --------------------------------------------------------------------------------------------------


@tries(
    "operations/doctor/nas.py",
    "or set cron.chronos.portal_url to where it does; then chronos reconcile",
    "mend the check above first",
)
@tries("operations/doctor/jobs.py", "mend the check of NAS above first")
def test_nas_at_its_address_mends_all_that_waits_for_it(chronos, check, armed, nas):
    """The address is wrong: NAS's check fails, and token, clock and timers wait for it; set right, all are well."""
    waiting = {"nas": "FAIL", "token": "WARN", "clock": "WARN", "armed": "WARN"}
    edit(armed.home, f"portal_url: {nas.url}", "portal_url: http://127.0.0.1:9")
    found = {one["name"]: one for one in chronos("doctor", "--json", home=armed.home).json["checks"]}
    assert {name: found[name]["level"] for name in waiting} == waiting
    assert {found[name]["mend"] for name in ("token", "clock")} == {"mend the check above first"}
    assert found["armed"]["mend"] == "mend the check of NAS above first"
    mend = "see that NAS runs at http://127.0.0.1:9, or set cron.chronos.portal_url to where it does; then chronos reconcile"
    assert found["nas"]["mend"] == mend
    edit(armed.home, "portal_url: http://127.0.0.1:9", f"portal_url: {nas.url}")
    assert chronos("reconcile", home=armed.home).code == 0
    found = {one["name"]: one for one in chronos("doctor", "--json", home=armed.home).json["checks"]}
    assert {found[name]["level"] for name in waiting} == {"OK"}


@tries("operations/doctor/nas.py", "compare the clocks by hand: date -u", "timedatectl set-ntp true")
def test_a_clock_is_compared_and_set_as_its_mend_says(check, do, armed, nas, monkeypatch, tmp_path):
    """An answer without a date is compared by hand; a clock that is off is set by the machine's own program."""

    def dateless(stream):
        body = json.dumps({"armed": list(nas.armed.values())}).encode()
        stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    nas.answer = lambda call: Answer(raw=dateless)
    found = check(armed.home, "clock", level="WARN")
    do(found["mend"].partition("by hand: ")[2])
    nas.answer = nas.by_contract
    check(armed.home, "clock", level="OK")
    monkeypatch.setattr(assembly, "_now", lambda: datetime.now(UTC) + timedelta(minutes=2))
    found = check(armed.home, "clock", level="FAIL")
    program = tmp_path / "timedatectl"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = 'set-ntp true' ] && touch {tmp_path}/set\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    do(found["mend"])
    assert (tmp_path / "set").exists()
    monkeypatch.setattr(assembly, "_now", lambda: datetime.now(UTC))
    check(armed.home, "clock", level="OK")


@tries("operations/doctor/nas.py", "set cron.chronos.nas_jwks_url in config.yaml", "check nas_jwks_url")
def test_keys_are_had_once_their_setting_is_right(check, armed):
    """None is named, and then the address of a page that is no set of keys."""
    edit(armed.home, f"nas_jwks_url: {armed.home}/jwks.json", "nas_jwks_url: ''")
    assert check(armed.home, "keys", level="FAIL")["mend"].startswith("set cron.chronos.nas_jwks_url in config.yaml")
    with serve_jwks(armed.key) as page, serve_jwks(armed.key) as keys:
        page.body = b"<html>login</html>"
        edit(armed.home, "nas_jwks_url: ''", f"nas_jwks_url: {page.url}")
        assert check(armed.home, "keys", level="FAIL")["mend"] == "check nas_jwks_url"
        edit(armed.home, page.url, keys.url)
        check(armed.home, "keys", level="OK")


def test_what_stands_in_the_way_of_the_cache_is_moved_by_its_mend(check, do, armed):
    """A file in the place of the cache, and in that of its folders: the command moves it away."""
    with serve_jwks(armed.key) as keys:
        edit(armed.home, f"nas_jwks_url: {armed.home}/jwks.json", f"nas_jwks_url: {keys.url}")
        for name, checked in (("cache", "keys"), ("cache/jwks", "keys"), ("cache/jti", "token_memory")):
            shutil.rmtree(armed.home / name, ignore_errors=True)
            (armed.home / name).write_text("in the way")
            do(check(armed.home, checked, level="WARN")["mend"])
            check(armed.home, checked, level="OK")


def test_a_cache_on_a_full_disk_is_well_once_it_can_be_written(check, armed, monkeypatch):
    """No command mends a disk: what must be so is said."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("chronos_cli.trust.jti.os.symlink", full)
        (armed.home / "cache" / "jti").mkdir(parents=True, exist_ok=True)
        found = check(armed.home, "token_memory", level="WARN")
        assert found["mend"] == f"free some space there: df -h {armed.home}/cache"
    check(armed.home, "token_memory", level="OK")


# -- jobs --------------------------------------------------------------------------------------------------------------


@tries("operations/doctor/jobs.py", "chronos job unlock")
def test_a_run_that_outlasts_its_timeout_is_settled_by_its_mend(chronos, check, do, tmp_path):
    """Its machine is gone; the command that the check names ends it, as it stands there."""
    (tmp_path / "config.yaml").write_text("timezone: UTC\n")
    assert chronos("job", "add", "@yearly", "--id", "a", "--shell", "true", home=tmp_path).code == 0
    assert chronos("run", "a", home=tmp_path).code == 0
    (row,) = (tmp_path / "cron" / "runs" / "a").iterdir()
    began = in_days(-2).isoformat()
    document = json.loads(row.read_text())
    gone = {"host": "gone", "boot": "x", "pid": 1, "token": "t", "started": 1.0}
    document |= {"state": "running", "started_at": began, "claimed_at": began, "finished_at": None, "owner": gone}
    row.write_text(json.dumps(document))
    jobs = json.loads((tmp_path / "cron" / "jobs.json").read_text())
    entry = {"run": row.stem, "kind": "run", "claim": "c", "claimed_at": began, "timing": "manual"}
    jobs["jobs"][0]["chronos"]["open"] = [entry]
    (tmp_path / "cron" / "jobs.json").write_text(json.dumps(jobs))
    found = check(tmp_path, "overdue", level="WARN")
    done = chronos(*shlex.split(found["mend"])[1:], home=tmp_path)
    assert done.code == 0, done
    check(tmp_path, "overdue", level="OK")
