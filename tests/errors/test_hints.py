"""No hint that is not the cure: each is tried by bringing the fault about, doing as it says, and finding it cured."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from tests.agent_home import AgentHome
from tests.errors.hinted import hints, tried
from tests.errors.hints_of_files import CRONJOBS, FOLDERS, SETS, TABS, UNITS
from tests.errors.hints_of_state import CONFIGS, RUNS, TRIED_BELOW, in_days, locked
from tests.errors.hints_of_words import SHELL, SPELLINGS
from tests.errors.raised import _trees
from tests.errors.test_hints_below import CALLS, IMPORTS
from tests.errors.test_hints_of_exports import EXPORTS
from tests.errors.test_hints_of_nas import NAS_SPELLINGS


@pytest.mark.parametrize(
    ("words", "wrong", "right"), [case[1:] for case in SPELLINGS], ids=[" ".join(case[2]) for case in SPELLINGS]
)
def test_what_a_hint_says_to_write_is_right(world, words, wrong, right):
    """The command is refused with the hint, on one line; written as the hint says it is taken."""
    refused = world(*wrong)
    assert refused.code not in (0, 1)
    assert words in refused.err.splitlines()[-1], refused.err
    if right is not None:
        done = world(*right)
        assert done.code == 0, done.err


def _edit(run, change):
    document = json.loads(run.path.read_text())
    change(document["jobs"])
    run.path.write_text(json.dumps(document))


def _held(run, patch):
    assert run("hold", "--on").code == 0


def _open_home(run, patch):
    run.path.chmod(0o666)


def _broken(run, patch):
    _edit(run, lambda jobs: jobs[0].update(schedule=None))


def _corrupt(run, patch):
    assert run("job", "edit", "a", "--retries", "1").code == 0
    run.path.write_bytes(b"{")


def _far_ahead(run, patch):
    far = (datetime.now(UTC) + timedelta(days=4000)).replace(microsecond=0).isoformat()
    _edit(run, lambda jobs: jobs[0].update(next_run_at=far))


def _unreadable_row(run, patch):
    folder = run.home / "cron" / "runs" / "a"
    entry = {"run": "20260101T000000Z", "kind": "run", "claim": "c", "claimed_at": "2026-01-01T00:00:00+00:00",
             "scheduled_at": "2026-01-01T00:00:00+00:00", "timing": "on_time"}  # fmt: skip
    (folder / "20260101T000000Z.json").write_text("{")
    _edit(run, lambda jobs: jobs[0]["chronos"].update(open=[entry]))


def _completed(run, patch):
    _edit(run, lambda jobs: jobs[0].update(state="completed", enabled=False, next_run_at=None))


def _standby(run, patch):
    (run.home / "config.yaml").write_text("timezone: UTC\ncron:\n  standby: true\n")


def _active(run, hint):
    (run.home / "config.yaml").write_text("timezone: UTC\n")


def _failing(run, patch):
    assert run("job", "edit", "a", "--shell", "exit 3").code == 0
    assert run("run", "a").code == 10


def _prints_and_fails(run, patch):
    assert run("job", "edit", "a", "--shell", "echo x; exit 3").code == 0


def _of_another_zone(run, patch):
    at = (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert run("job", "edit", "a", "--schedule", "0 9 * * *").code == 0
    _edit(run, lambda jobs: jobs[0].update(next_run_at=f"{at:%Y-%m-%d}T09:00:00+09:00"))


def _no_tick(run, patch):
    crontab = run.home / "crontab"
    crontab.write_text(f'#!/bin/sh\n[ "$1" = - ] && exec cat > {run.home}/tab\nexec cat {run.home}/tab\n')
    crontab.chmod(0o755)
    (run.home / "tab").write_text("")
    patch.setenv("PATH", f"{run.home}:{os.environ['PATH']}")


def _overdue(run, patch):
    ago = (datetime.now(UTC) - timedelta(minutes=5)).replace(microsecond=0).isoformat()
    _edit(run, lambda jobs: jobs[0].update(next_run_at=ago))


def _no_job(run, patch):
    for job_id in ("a", "never"):
        assert run("job", "remove", job_id, "--yes").code == 0


def _two_of_one_name(run, patch):
    _edit(run, lambda jobs: [job.update(name="same") for job in jobs])


def _unknown_key(run, patch):
    (run.home / "config.yaml").write_text("timezone: UTC\ncron: {chronos: {zzz: 1}}\n")


def _group_writes(run, patch):
    run.path.chmod(0o660)


def _linked(run, patch):
    (run.home / "cron" / "output").rename(run.folder / "elsewhere")
    (run.home / "cron" / "output").symlink_to(run.folder / "elsewhere")


def _unlinked(run, hint):
    (run.home / "cron" / "output").unlink()
    (run.folder / "elsewhere").rename(run.home / "cron" / "output")


def _locks_taken(run, patch):
    shutil.rmtree(run.home / "cron" / "locks", ignore_errors=True)
    (run.home / "cron" / "locks").write_text("")


def _locks_free(run, hint):
    (run.home / "cron" / "locks").unlink()


def _network_disk(run, patch):
    patch.setattr("chronos_cli.operations.doctor.mount_table", lambda: "server:/x / nfs rw 0 0\n")


def _local_disk(run, hint):
    from chronos_cli.operations import doctor

    doctor.mount_table = lambda: "/dev/sda / ext4 rw 0 0\n"  # the patch of the fault puts the real one back


def _profile(run, patch):
    for name in ("one", "two"):
        (run.home / "profiles" / name).mkdir(parents=True)
        assert run("--home", run.home / "profiles" / name, "job", "add", "@daily", "--id", name, *SHELL).code == 0
    (run.home / "config.yaml").write_text("timezone: UTC\nprofiles: {one: profiles/one}\n")


def _missing_provider(run, patch):
    (run.home / "config.yaml").write_text("timezone: UTC\ncron: {provider: nosuch}\n")


def _no_alert(run, patch):
    assert run("job", "edit", "a", "--on-failure", "/nowhere/alert").code == 0


def _inherits(run, patch):
    _edit(run, lambda jobs: [job["chronos"].pop("policy", None) for job in jobs])


def _names_set(run, hint):
    (run.home / "config.yaml").write_text("timezone: UTC\npolicy: {inherit_env: [HOME]}\n")


def _workdir(run, patch):
    assert run("job", "edit", "a", "--workdir", "/nowhere").code == 0


def _stored(**more):
    def fault(run, patch):
        _edit(run, lambda jobs: jobs[0]["chronos"].update(more))

    return fault


def _action(**fields):
    def fault(run, patch):
        _edit(run, lambda jobs: (jobs[0]["chronos"].pop("action"), jobs[0].update(fields)))

    return fault


def _without_env(run, hint):
    _edit(run, lambda jobs: jobs[0]["chronos"].pop("env"))


def _applied(text):
    def fault(run, patch):
        assert run("apply", "-f", "{set}").code == 0
        (run.folder / "set").write_text(text)

    return fault


def _of_another_set(run, patch):
    assert run("apply", "-f", "{set}").code == 0
    (run.folder / "tab").write_text("set: other\njobs:\n- {id: of-a-set, schedule: '@hourly', shell: 'true'}\n")


def _passed_while_paused(run, patch):
    at = "2099-01-01T00:00:00+00:00"
    assert run("job", "edit", "never", "--schedule", at).code == 0
    assert run("job", "pause", "never").code == 0
    run.path.write_text(run.path.read_text().replace("2099-01-01", "2020-01-01"))


def _same_run_twice(run, patch):
    folder = run.home / "cron" / "runs"
    (row,) = (folder / "a").glob("*.json")
    (folder / "never").mkdir(exist_ok=True)
    (folder / "never" / row.name).write_text(row.read_text().replace('"a"', '"never"'))
    run.row = row.stem


def _of_one_job(run, hint):
    assert f"it may be a/{run.row}, never/{run.row}" in hint
    assert run("logs", f"a/{run.row}").code == 0


def _checked(name):
    """The doctor's check of that name, with its level and what mends it; some say nothing where all is well."""
    well = {"level": "OK"}
    return lambda run: next((one for one in run("doctor", "--json").json["checks"] if one["name"] == name), well)


FAULTS = [
    # file, words of the hint, how it is brought about, the command that meets it, what cures it (None: the command in
    # the hint, as it stands there), and the check of the doctor that is OK after it (None: the command itself works).
    ("errors.py", "lift it with `chronos hold --off`", _held, ("run", "a"), None, None),
    ("operations/jobs/edit.py", "lift it with `", _held, ("run", "a"), None, None),
    ("operations/firing/tick.py", "lift it with `", _held, ("tick",), None, None),
    ("store/repository.py", "`", _corrupt, ("list",), None, None),
    ("core/job.py", "chronos job unlock", _unreadable_row, ("doctor",), ("job", "unlock", "a", "--yes"), "documents"),
    ("errors.py", "do it on the active machine, or make this one active", _standby, ("tick",), _active, None),
    ("operations/jobs/edit.py", "give it a new time: `chronos job edit", _completed, ("run", "a"), None, None),
    ("core/edits.py", "give it a new schedule with `chronos job edit`", _completed, ("job", "resume", "a"), ("job", "edit", "a", "--schedule", "@daily"), None),
    ("operations/doctor/jobs.py", "chronos logs", _failing, ("doctor",), None, "-"),
    ("operations/doctor/jobs.py", "chronos tick", _overdue, ("doctor",), None, "overdue"),
    ("operations/views/trigger.py", "chronos tick --install crontab --yes", _no_tick, ("doctor",), None, "tick"),
    ("core/clock.py", "chronos job realign", _far_ahead, ("doctor",), None, "next"),
    ("operations/views/find.py", "name one job by its full id", _two_of_one_name, ("job", "show", "same"), ("job", "show", "a"), "-"),
    ("errors.py", "name one job by its full id", _two_of_one_name, ("job", "show", "same"), ("job", "show", "a"), "-"),
    ("operations/doctor/home.py", "chmod go-w", _open_home, ("doctor",), None, "modes"),
    ("errors.py", "see `chronos status`", _failing, ("doctor",), ("status",), "-"),
    ("cli/commands/doctor.py", "each FAIL names what mends it", _failing, ("doctor",), ("doctor",), "-"),
    ("operations/doctor/home.py", "unless another program reads them", _unknown_key, ("doctor",), _active, "config"),
    ("operations/doctor/home.py", "chmod g-w", _group_writes, ("doctor",), None, "modes"),
    ("operations/doctor/home.py", "with the folder it leads to", _linked, ("doctor",), _unlinked, "home"),
    ("operations/doctor/home.py", "move away what is there, or make it a folder", _locks_taken, ("doctor",), _locks_free, "lock"),
    ("running/errors.py", "it must be this user's own folder", _locks_taken, ("run", "a"), _locks_free, None),
    ("operations/doctor/home.py", "move the home to a local disk, or the jobs to a bucket", _network_disk, ("doctor",), _local_disk, "file_system"),
    ("operations/doctor/profiles.py", "or take the setting out to serve all of this home", _profile, ("doctor",), _active, "profiles"),
    ("operations/doctor/__init__.py", "chronos provider list", _missing_provider, ("doctor",), _active, "provider"),
    ("operations/doctor/jobs.py", "set policy.on_failure, or --on-failure of the job", _no_alert, ("doctor",), ("job", "edit", "a", "--on-failure", "/bin/true"), "on_failure"),
    ("operations/doctor/jobs.py", "set policy.inherit_env to names, none or all", _inherits, ("doctor",), _names_set, "environment"),
    ("operations/doctor/__init__.py", "where it shall be active", _standby, ("doctor",), _active, "provider"),
    ("running/errors.py", "see `chronos job show`, and put it right with `chronos job edit`", _workdir, ("run", "a"), ("job", "edit", "a", "--workdir", "/tmp"), None),
    ("running/actions.py", "put chronos.env of its record right", _stored(env=5), ("run", "a"), _without_env, None),
    ("running/references.py", "it may be env:, file: or cmd", _stored(env={"T": {"from": "x:y"}}), ("run", "a"), ("job", "edit", "a", "--env", "T=text:1"), None),
    ("core/edits.py", "give it a new one with `chronos job edit`", _passed_while_paused, ("job", "resume", "never"), ("job", "edit", "never", "--schedule", "@daily"), None),
    ("core/edits.py", "it runs no more, paused or not", _completed, ("job", "pause", "a"), ("job", "remove", "a", "--yes"), "-"),
    ("operations/evaluate.py", "put it right in cron/jobs.json, or `chronos job remove", _broken, ("doctor",), None, "records"),
    ("operations/evaluate.py", "put it right in cron/jobs.json, or `chronos job remove", _broken, ("run", "a"), None, "-"),
    ("operations/views/logs.py", "it may be", _same_run_twice, ("logs", "{run}"), _of_one_job, "-"),
    ("cli/commands/run.py", "see `chronos logs", _prints_and_fails, ("run", "a"), None, "-"),
    ("cli/commands/run.py", "see `chronos history", _failing, ("run", "a"), None, "-"),
    ("cli/handlers/run_many.py", "see `chronos history", _failing, ("run", "a", "never"), None, "-"),
    ("core/clock.py", "--tz ZONE, or set `timezone` in config.yaml", _of_another_zone, ("doctor",), ("job", "edit", "a", "--tz", "Asia/Tokyo"), "next"),
    ("cli/handlers/apply.py", "--allow-empty removes its", _applied("jobs: []\n"), ("apply", "-f", "{set}", "--prune"), ("apply", "-f", "{set}", "--prune", "--allow-empty"), None),
    ("operations/manifest/bring.py", "change it there, or --take-over moves it to", _of_another_set, ("apply", "-f", "{tab}"), ("apply", "-f", "{tab}", "--take-over"), None),
]  # fmt: skip


def _command_in(text):
    """The command that stands in a hint or a mend: between backticks, or all of it."""
    quoted = re.findall(r"`([^`]+)`", text)
    return quoted[-1] if quoted else text


@pytest.mark.parametrize(
    ("words", "fault", "meets", "cure", "check"),
    [case[1:] for case in FAULTS],
    ids=[f"{case[2].__name__} {case[1]}" for case in FAULTS],
)
def test_what_a_hint_says_to_do_cures_the_fault(world, monkeypatch, words, fault, meets, cure, check):
    """The fault is there, the command of its hint is run as it stands there, and the fault is not there any more."""
    fault(world, monkeypatch)
    met = world(*(word.replace("{run}", getattr(world, "row", "")) for word in meets))
    assert met.code != 0 or meets == ("doctor",), met
    if meets == ("doctor",):
        found = _checked("failing" if check == "-" else check)(world)
        assert found["level"] != "OK", found
        hint = found["mend"]
    else:
        hint = met.err.strip().splitlines()[-1]
    assert words in hint or check == "-", hint
    if callable(cure):
        cure(world, hint)
    else:
        _do(world, _command_in(hint) if cure is None else cure)
    if check == "-":
        return
    if meets == ("doctor",):
        found = _checked(check)(world)
        assert found["level"] == "OK", found
    else:
        after = world(*meets)
        assert after.code == 0, after


def _do(world, command):
    words = list(command) if not isinstance(command, str) else shlex.split(command)
    if words[:1] == ["chronos"] or not isinstance(command, str):
        words = words[1:] if words[0] == "chronos" else words
        done = world(*words)
        assert done.code in (0, 11), done
    else:
        subprocess.run(["sh", "-c", command], check=True)


@pytest.mark.parametrize(("words", "bad", "good"), [case[1:] for case in CONFIGS], ids=[case[1] for case in CONFIGS])
def test_a_configuration_put_right_as_its_hint_says_is_taken(world, words, bad, good):
    """The file is refused with the hint; written as it says, the command works."""
    path = world.home / "config.yaml"
    path.write_bytes(bad)
    refused = world("list")
    assert (refused.code, words in refused.err) == (2, True), refused
    path.write_text(good)
    assert world("list").code == 0


@pytest.mark.parametrize(
    ("words", "action", "fault", "cure"), [case[1:] for case in RUNS], ids=[case[1] for case in RUNS]
)
def test_an_action_put_right_as_its_hint_says_runs(world, words, action, fault, cure):
    """The run fails with the hint; what it asks for is there, and the next run is a good one."""
    assert world("job", "add", "@yearly", "--id", "fails", *action).code == 0
    fault(world.home)
    failed = world("run", "fails")
    assert (failed.code, words in failed.err) == (10, True), failed
    if cure is None:
        assert world("logs", "fails").code == 0
        return
    cure(world.home)
    done = world("run", "fails")
    assert done.code == 0, done


def test_a_store_in_use_is_waited_for_as_long_as_the_hint_says(world):
    """Locked by another program it is told of; with the longer wait that the hint names, the change goes through."""
    with locked(world.home, 0.6):
        refused = world("--lock-timeout", "0.1", "job", "edit", "a", "--retries", "2")
        assert (refused.code, "raise CHRONOS_LOCK_TIMEOUT (seconds)" in refused.err) == (75, True)
        assert world("--lock-timeout", "10", "job", "edit", "a", "--retries", "2").code == 0


@pytest.mark.parametrize(
    ("broken", "words"), [(b"[", "put the file right"), ("\ufeff{}".encode("utf-16"), "save it as UTF-8")]
)
def test_a_store_put_right_is_read_again(world, broken, words):
    """The bytes that were there before are as good as ever."""
    before = world.path.read_bytes()
    world.path.write_bytes(broken)
    refused = world("list")
    assert (refused.code, words in refused.err) == (1, True), refused
    world.path.write_bytes(before)
    assert world("list").code == 0


@pytest.fixture
def agent(tmp_path, nas, chronos, request):
    """A home at that NAS with one job armed, and `run` for its commands."""
    made = AgentHome(tmp_path / "home", nas, name=f"hints-{abs(hash(request.node.name)) % 10**8}")
    made.run = lambda *words: chronos(*words, home=made.home)
    made.check = lambda name: _checked(name)(made.run)
    assert made.run("job", "add", "@yearly", "--id", "a", "--shell", "true").code == 0
    return made


def test_what_the_doctor_finds_of_timers_is_cured_by_what_it_says(agent, nas):
    """A timer that is gone is armed again by `reconcile`, and one of no job here is dropped by `cancel --orphans`."""
    assert agent.run("cancel", "a").code == 0
    found = agent.check("armed")
    assert (found["level"], found["mend"]) == ("FAIL", "chronos reconcile")
    assert agent.run("reconcile").code == 0
    assert agent.check("armed")["level"] == "OK"
    nas.provision(agent.access, "stranger", in_days(9), "http://127.0.0.1:9")
    found = agent.check("armed")
    assert (found["level"], found["mend"]) == ("WARN", "chronos cancel --orphans")
    assert agent.run("cancel", "--orphans", "--yes").code == 0
    assert agent.check("armed")["level"] == "OK"


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [("wrong", 4, "to a valid token"), ("two words", 2, "it must be the token alone, one word in ASCII"),
     ("", 2, "cron.chronos.token_file or cron.chronos.token_command")],
)  # fmt: skip
def test_a_token_put_right_as_its_hint_says_is_taken(agent, token, code, words):
    """What is no token of this agent is refused with the hint, and the right one in its place is taken."""
    path = agent.home / "token"
    right = path.read_text()
    path.write_text(token)
    refused = agent.run("list")
    assert (words in refused.err, refused.code in (2, 4, code)) == (True, True), refused
    path.write_text(right)
    assert agent.run("list").code == 0


def test_a_token_that_others_can_read_is_closed_by_what_the_doctor_says(agent):
    """The command of the check, as it stands there."""
    (agent.home / "token").chmod(0o644)
    found = agent.check("modes")
    assert found["level"] == "WARN"
    subprocess.run(["sh", "-c", found["mend"]], check=True)
    assert agent.check("modes")["level"] == "OK"


DISK = (
    ("operations/doctor/home.py", "free some space on that file system"),
    ("operations/doctor/nas.py", "free some space there: df -h"),
)
RESTARTED = ("operations/doctor/nas.py", "restart the callback, which began with another setting")
"""A hint that `tests/doctor/test_doctor_probe.py` follows, with a callback to be restarted."""


def test_a_full_disk_is_cured_by_the_space_that_the_doctor_asks_for(agent):
    """No lock and no key finds a place: neither a mode nor a folder is to blame, and with some space both do."""
    real = os.open

    def full(path, flags, *more, **named):
        if flags & os.O_CREAT and not os.fsdecode(path).endswith((".jobs.lock", "fire.lock")):
            raise OSError(28, "No space left on device", os.fsdecode(path))
        return real(path, flags, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.open", full)
        shutil.rmtree(agent.home / "cache", ignore_errors=True)
        (agent.home / "cache").mkdir(mode=0o700)
        found = [agent.check(name)["mend"] for name in ("lock", "keys")]
    assert [words in mend for mend, (_, words) in zip(found, DISK, strict=True)] == [True, True], found
    assert [agent.check(name)["level"] for name in ("lock", "keys")] == ["OK", "OK"]


def test_what_is_saved_while_nas_is_away_is_armed_by_what_the_hint_says(agent, nas):
    """A job that is added, and a reconcile that finds NAS away: once it is back, `chronos reconcile` arms all."""

    def no_connection(*_):
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.socket.connect", no_connection)
        added = agent.run("job", "add", "@yearly", "--id", "b", "--shell", "true")
        assert (added.code, "`chronos reconcile` arms it once NAS can be reached" in added.err) == (75, True), added.err
        listed = agent.run("list")
        assert (listed.code, "`chronos reconcile` arms what is missing" in listed.err) == (75, True), listed.err
        paused = agent.run("job", "pause", "a")
        said = "saved, not cancelled at NAS: ", "`chronos reconcile` drops the timer once NAS can be reached"
        assert (paused.code, [words in paused.err for words in said]) == (75, [True, True]), paused.err
        dropped = agent.run("cancel", "a")
        assert (dropped.code, "cancel again later" in dropped.err) == (75, True), dropped.err
        checks = agent.run("doctor", "--json").json["checks"]
        assert [one["mend"] for one in checks if "chronos doctor`" in (one["mend"] or "")] == []
    assert set(nas.armed(agent.access)) == {"a"}
    assert agent.run("reconcile").code == 0
    assert set(nas.armed(agent.access)) == {"b"}


def test_a_home_without_a_nas_gets_one_as_the_hint_says(agent, chronos, tmp_path):
    """`reconcile` names `chronos init`; with what it makes of an agent's lines it works."""
    home = tmp_path / "new"
    home.mkdir()
    refused = chronos("reconcile", home=home)
    assert (refused.code, "see `chronos init`" in refused.err) == (2, True), refused.err
    lines = json.dumps({"token": agent.access.token, "name": "n", "config": agent.access.config})
    (tmp_path / "lines").write_text(lines)
    made = chronos("init", "--agent", tmp_path / "lines", "--callback-url", "http://127.0.0.1:8790", home=home)
    assert made.code == 0, made.err
    assert chronos("reconcile", home=home).code == 0


def test_a_hint_without_a_case_fails():
    """Every hint in the source is brought about and followed by a case of these tables, or a test with `tries`."""
    followed = {case[:2] for case in TRIED} | tried()
    untried = {
        one
        for one in hints()
        if not any(one[0] == path and (one[1] in words or words in one[1]) for path, words in followed)
    }
    assert sorted(untried) == []


TRIED = (
    *DISK,
    RESTARTED,
    *SPELLINGS,
    *FAULTS,
    *CONFIGS,
    *RUNS,
    *TRIED_BELOW,
    *UNITS,
    *TABS,
    *SETS,
    *CRONJOBS,
    *FOLDERS,
    *NAS_SPELLINGS,
    *CALLS,
    *IMPORTS,
    *EXPORTS,
)


def test_no_text_for_people_has_a_word_of_the_code():
    """What is said is said in words; a name that scripts rely on stands alone, and is shown in others."""
    words = re.compile(r"compare_and_swap|probe_slot|probe_armed|arm_(different|missing|refused)|\bin hand\b")
    for path, tree in _trees().items():
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body and isinstance(node.body[0], ast.Expr)
            and "/commands/" not in str(path)  # there a docstring is the help
        }  # fmt: skip
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and " " in node.value
                and id(node) not in documented
            ):
                assert words.search(node.value) is None, f"{path}:{node.lineno}"


TIMES_ALONE = {"charts.py": "the title above the axis has the zone", "events.py": "the demo's clock", "environment.py": "",
               "scenario.py": "a command of the demo", "demo.py": "the demo's clock", "schedule.py": "hermes' own text"}  # fmt: skip
"""Where an hour stands without its zone, and why that is right."""


def test_every_time_of_day_bears_its_zone():
    """A form of a time that has hours has a zone, or the Z of UTC, right behind it."""
    for path, tree in _trees().items():
        if path.name in TIMES_ALONE or "nas_server" in str(path):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "%H:" in node.value:
                around = " ".join(lines[node.lineno - 1 : (node.end_lineno or node.lineno) + 1])
                assert re.search(r"%Z|%z|%S\}?Z|UTC|from_to|new\.strftime", around), f"{path}:{node.lineno}"


def test_no_text_shows_a_value_as_python_does():
    """A repr is for programmers: in what people read, a text stands between plain quotes."""
    for path, tree in _trees().items():
        quiet = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
            and getattr(node.exc.func, "id", "") in ("ValueError", "TypeError", "AttributeError", "KeyError", "AssertionError")
            for part in ast.walk(node)
        }  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.FormattedValue) and node.conversion == ord("r") and id(node) not in quiet:
                assert path.name == "frozen.py", f"{path}:{node.lineno}"
