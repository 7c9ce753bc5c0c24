"""Installing the tick: crontab, systemd, Kubernetes. The machine's own crontab and units are never touched."""

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

from chronos_cli.config import load_config
from chronos_cli.core.decision import Outcome
from chronos_cli.errors import UsageError
from chronos_cli.frozen import replace
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.tick import tick
from chronos_cli.operations.install import InstallKind, Tick, cron_fields, pieces
from tests.agent_home import AgentHome, running_agent
from tests.cli.conftest import chronos, clean_environment, home, spawn  # noqa: F401 - fixtures of the command line
from tests.conftest import ROOT, require_program
from tests.nas_process import running_nas

CRONTAB = """#!/bin/sh
echo "$@" >> "$FAKE/calls"
case "$1" in
-l) if [ -f "$FAKE/denied" ]; then echo "crontab: cannot open the spool" >&2; exit 1; fi
    if [ ! -f "$FAKE/crontab" ]; then echo "no crontab for somebody" >&2; exit 1; fi
    cat "$FAKE/crontab" ;;
-) cat > "$FAKE/crontab" ;;
-r) rm "$FAKE/crontab" ;;
*) exit 2 ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$FAKE/calls"
case "$*" in
*is-active*) test -f "$FAKE/active" ;;
*restart*) touch "$FAKE/active" ;;
*disable*) rm -f "$FAKE/active" ;;
esac
"""
KUBECTL = """#!/bin/sh
echo "$@" >> "$FAKE/calls"
case "$1" in
apply) cat > "$FAKE/new"
    if cmp -s "$FAKE/new" "$FAKE/manifest"; then echo "cronjob.batch/x unchanged"; else
    mv "$FAKE/new" "$FAKE/manifest"; echo "cronjob.batch/x configured"; fi ;;
delete) if [ -f "$FAKE/manifest" ]; then rm "$FAKE/manifest"; echo "cronjob.batch x deleted"; fi ;;
esac
"""


class Machine:
    """A machine whose crontab, systemctl and kubectl are ours."""

    def __init__(self, folder, chronos):  # noqa: F811
        self.folder = folder
        self._chronos = chronos
        tools = folder / "bin"
        tools.mkdir()
        for name, text in (("crontab", CRONTAB), ("systemctl", SYSTEMCTL), ("kubectl", KUBECTL)):
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self.env = {"PATH": f"{tools}:/usr/bin:/bin", "FAKE": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}

    @property
    def crontab(self):
        path = self.folder / "crontab"
        return path.read_text() if path.exists() else None

    @property
    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def tick(self, home, *arguments):  # noqa: F811
        return self._chronos("tick", *arguments, home=home, env=self.env)


@pytest.fixture
def machine(tmp_path, chronos):  # noqa: F811
    folder = tmp_path / "machine"
    folder.mkdir()
    return Machine(folder, chronos)


def plan(folder, **more):
    """A tick as the command makes it."""
    return Tick(**({"home": str(folder), "program": ("/usr/bin/chronos",), "every_s": 60, "variables": {}} | more))


# -- crontab ----------------------------------------------------------------------------------------------------------


def test_by_default_it_is_only_shown(machine, home):  # noqa: F811
    """Without --yes the line, the units or the manifest go to stdout, and no program of the machine is started."""
    for kind in InstallKind:
        done = machine.tick(home, "--install", kind.value)
        assert done.code == 0
        assert str(home) in done.out or kind is InstallKind.KUBERNETES
        assert "--yes" in done.err
    assert machine.calls == []
    assert not (machine.folder / "config").exists()


def test_a_crontab_is_added_to_and_put_back_as_it_was(machine, home):  # noqa: F811
    """Other lines stay byte for byte, the same again changes nothing, another interval takes the line's place, and removing restores the rest."""
    others = "MAILTO=ops\n# keep me\n*/5 * * * * /usr/bin/backup --to '/srv/a b'\n"
    (machine.folder / "crontab").write_text(others)
    assert machine.tick(home, "--install", "crontab", "--yes").code == 0
    assert machine.crontab.startswith(others)
    line = machine.crontab.removeprefix(others)
    assert line.count("\n") == 1
    assert line.startswith("* * * * * CHRONOS_HOME=")
    before = len([call for call in machine.calls if call == "-"])
    again = machine.tick(home, "--install", "crontab", "--yes")
    assert "already" in again.out
    assert len([call for call in machine.calls if call == "-"]) == before
    done = machine.tick(home, "--install", "crontab", "--every", "15m", "--yes", "--json")
    assert done.json["install"]["done"] == "installed"
    assert machine.crontab == others + line.replace("* * * * *", "*/15 * * * *", 1)
    assert machine.tick(home, "--install", "crontab", "--remove", "--yes").code == 0
    assert machine.crontab == others
    assert "already" in machine.tick(home, "--install", "crontab", "--remove", "--yes").out


STRANGE = (
    b"MAILTO=ops\r\n# a form feed \x0c, a vertical tab \x0b, a file separator \x1c\n\n  \n*/5 * * * * printf 'a\rb' \xff\xfe\n"
    b"0 1 * * * echo \xc2\x85 next line, \xe2\x80\xa8 line separator, \xe2\x80\xa9 paragraph separator\n#* * * * * x # chronos-tick-0\n"
)


@pytest.mark.parametrize("last", [b"", b"@daily /usr/bin/backup\n", b"@daily /usr/bin/no-line-feed\r"])
def test_only_a_line_feed_ends_a_line_of_a_crontab(machine, home, last):  # noqa: F811
    """Bytes that other programs take for line ends, and bytes that are no text, stay in the line they are in."""
    before = STRANGE + last
    (machine.folder / "crontab").write_bytes(before)
    assert machine.tick(home, "--install", "crontab", "--yes").code == 0
    after = (machine.folder / "crontab").read_bytes()
    whole = before if before.endswith(b"\n") else before + b"\n"  # cron reads no last line without its end
    assert after.startswith(whole)
    assert after.removeprefix(whole).count(b"\n") == 1
    assert "already" in machine.tick(home, "--install", "crontab", "--yes").out
    assert machine.tick(home, "--install", "crontab", "--every", "5m", "--yes").code == 0
    assert machine.tick(home, "--install", "crontab", "--remove", "--yes").code == 0
    assert (machine.folder / "crontab").read_bytes() == whole
    assert "already" in machine.tick(home, "--install", "crontab", "--remove", "--yes").out


def test_a_line_that_its_owner_made_a_comment_stays_one(machine, home):  # noqa: F811
    """Whoever switched the tick off by a # has it still off in that line, and a new one beside it."""
    machine.tick(home, "--install", "crontab", "--yes")
    off = f"#{machine.crontab}"
    (machine.folder / "crontab").write_text(off)
    machine.tick(home, "--install", "crontab", "--yes")
    assert machine.crontab == off + off.removeprefix("#")
    machine.tick(home, "--install", "crontab", "--remove", "--yes")
    assert machine.crontab == off


def test_two_homes_have_a_line_each(machine, home, tmp_path):  # noqa: F811
    """The line of another home is somebody else's."""
    other = tmp_path / "other"
    other.mkdir()
    for folder in (home, other):
        machine.tick(folder, "--install", "crontab", "--yes")
    assert machine.crontab.count("\n") == 2
    machine.tick(home, "--install", "crontab", "--remove", "--yes")
    assert str(other) in machine.crontab
    machine.tick(other, "--install", "crontab", "--remove", "--yes")
    assert machine.crontab is None


def test_a_crontab_that_cannot_be_read_is_not_written_over(machine, home):  # noqa: F811
    """An error is not an empty crontab: nothing is written, and cron's own words are passed on."""
    (machine.folder / "denied").touch()
    done = machine.tick(home, "--install", "crontab", "--yes")
    assert done.code == 1
    assert "cannot open the spool" in done.err
    assert machine.calls == ["-l"]


def test_removing_asks_first(machine, home):  # noqa: F811
    """Where nobody can be asked, --remove needs --yes."""
    done = machine.tick(home, "--install", "crontab", "--remove")
    assert done.code == 2
    assert "--yes" in done.err
    assert machine.calls == []


def test_a_machine_without_the_program_says_so(machine, home):  # noqa: F811
    """Where there is no crontab program the error names it, and what to do instead."""
    (machine.folder / "bin/crontab").unlink()
    machine.env["PATH"] = str(machine.folder / "bin")
    done = machine.tick(home, "--install", "crontab", "--yes")
    assert done.code == 1
    assert "crontab" in done.err


def test_the_line_itself_runs_what_is_due(machine, tmp_path):
    """What stands in the crontab, handed to sh as cron does it, runs a due job: with any character in the home's path."""
    folder = tmp_path / 'it\'s 100% "mine" $HOME'
    folder.mkdir()
    (folder / "config.yaml").write_text("timezone: UTC\n")
    assert spawn("job", "add", "in 1s", "--id", "once", "--command", "true", home=folder).code == 0
    assert machine.tick(folder, "--install", "crontab", "--yes").code == 0
    command = cron_command(machine.crontab)
    time.sleep(1.1)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), "cron mails whatever is said"
    rows = list((folder / "cron/runs/once").glob("*.json"))
    assert [json.loads(row.read_text())["state"] for row in rows] == ["ok"]


def cron_command(line):
    """What cron(8) hands to the shell: past the five fields, up to the first bare %, the escaped ones as themselves."""
    command = line.strip().split(None, 5)[5]
    assert "%" not in command.replace("\\%", "")
    return command.replace("\\%", "%")


def test_settings_of_the_environment_go_along_and_secrets_do_not(machine, home):  # noqa: F811
    """What came from a CHRONOS_ variable is written into the line, but no token and no command that prints one."""
    machine.env |= {
        "CHRONOS_TIMEZONE": "Asia/Tokyo",
        "CHRONOS_NAS_TOKEN": "canary-token",
        "CHRONOS_NAS_TOKEN_COMMAND": "vault canary-command",
    }
    for kind in InstallKind:
        done = machine.tick(home, "--install", kind.value)
        assert "Asia/Tokyo" in done.out
        assert "canary" not in done.out + done.err


@pytest.mark.parametrize(
    ("seconds", "fields"),
    [(60, "* * * * *"), (300, "*/5 * * * *"), (1800, "*/30 * * * *"), (3600, "0 * * * *"), (21600, "0 */6 * * *"),
     (86400, "0 0 * * *")],
)  # fmt: skip
def test_intervals_as_cron_says_them(seconds, fields):
    """An interval that divides its hour or day is said in five fields, and means just that many instants a day."""
    from chronos_cli.core.schedule import Timetable, check_cron

    assert cron_fields(seconds) == fields
    start = datetime(2026, 3, 3, tzinfo=UTC)
    table = Timetable(schedule=check_cron(fields), zone=UTC, anchor=start, offset=timedelta())
    walk = table.walk(start - timedelta(seconds=1))
    assert next(walk) == start
    assert next(walk) == start + timedelta(seconds=seconds)


@pytest.mark.parametrize("seconds", [1, 59, 90, 420, 5400, 18000, 172800])
def test_an_interval_cron_cannot_keep_is_refused(seconds):
    """7 minutes or 90 would drift at the hour: such an interval is refused, never rounded."""
    with pytest.raises(UsageError):
        cron_fields(seconds)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--install", "upstart"), "crontab, systemd, kubernetes"),
        (("--install", "crontab", "--every", "0s"), "longer than 0"),
        (("--install", "crontab", "--every", "10s"), "cron has no seconds"),
        (("--install", "systemd", "--every", "7m"), "divide 60"),
        (("--install", "kubernetes", "--yes"), "--image"),
        (("--yes",), "--install"),
        (("--every", "5m"), "--install"),
    ],
)
def test_what_cannot_be_installed_is_a_usage_error(machine, home, arguments, said):  # noqa: F811
    """Each says what to write instead, and starts nothing."""
    done = machine.tick(home, *arguments)
    assert done.code == 2
    assert said in done.err
    assert machine.calls == []


# -- systemd ----------------------------------------------------------------------------------------------------------


def test_units_are_written_started_and_taken_away(machine, home):  # noqa: F811
    """Both files go to the user's own folder and the timer is started; the same again does nothing; removing leaves neither."""
    assert machine.tick(home, "--install", "systemd", "--yes").code == 0
    folder = machine.folder / "config/systemd/user"
    assert sorted(path.suffix for path in folder.iterdir()) == [".service", ".timer"]
    assert all(call.startswith("--user ") for call in machine.calls)
    assert any("enable" in call for call in machine.calls)
    before = len(machine.calls)
    assert "already" in machine.tick(home, "--install", "systemd", "--yes").out
    assert machine.calls[before:] == [call for call in machine.calls[before:] if "is-active" in call]
    assert machine.tick(home, "--install", "systemd", "--every", "10s", "--yes").code == 0
    assert any("*:*:0/10" in path.read_text() for path in folder.iterdir())
    assert machine.tick(home, "--install", "systemd", "--remove", "--yes").code == 0
    assert list(folder.iterdir()) == []
    assert not (machine.folder / "active").exists()


@pytest.mark.service
@pytest.mark.parametrize(
    "name", ["plain", "with blank", '100% of "it" is $HOME\'s \\ own'], ids=["plain", "blank", "every-character"]
)
@pytest.mark.parametrize("every_s", [10, 60, 300, 3600, 86400])
def test_systemd_accepts_the_units(tmp_path, name, every_s):
    """systemd-analyze verify has nothing to say about either unit, whatever characters the home's path has."""
    analyze = require_program("systemd-analyze")
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    program = (sys.executable, "-m", "chronos_cli")
    made = pieces(InstallKind.SYSTEMD, plan(tmp_path / name, every_s=every_s, program=program), environ)
    paths = []
    for piece in made:
        path = Path(piece.where)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(piece.text)
        path.chmod(0o644)
        paths.append(str(path))
    done = subprocess.run(
        [analyze, "verify", "--man=no", *paths], capture_output=True, text=True, check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "chronos-tick" in line]
    assert (done.returncode, ours) == (0, [])
    calendar = next(line for line in made[1].text.splitlines() if line.startswith("OnCalendar="))
    shown = subprocess.run([analyze, "calendar", "--iterations=2", calendar.partition("=")[2]],
                           capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"})  # fmt: skip
    times = [datetime.fromisoformat(text) for text in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", shown.stdout)]
    assert times[1] - times[0] == timedelta(seconds=every_s)


# -- Kubernetes -------------------------------------------------------------------------------------------------------

TEXT = {"type": "string", "minLength": 1}
CONTAINER = {
    "type": "object",
    "required": ["name", "image", "command", "env", "volumeMounts"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "image": TEXT,
        "command": {"type": "array", "items": TEXT},
        "securityContext": {
            "type": "object",
            "properties": {
                "allowPrivilegeEscalation": {"type": "boolean"},
                "capabilities": {"type": "object", "properties": {"drop": {"type": "array", "items": TEXT}}},
            },
            "additionalProperties": False,
        },
        "volumeMounts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "mountPath"],
                "properties": {"name": TEXT, "mountPath": TEXT},
                "additionalProperties": False,
            },
        },
        "env": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                    "value": {"type": "string"},
                    "valueFrom": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "secretKeyRef": {
                                "type": "object",
                                "required": ["key", "name"],
                                "additionalProperties": False,
                                "properties": {"name": TEXT, "key": TEXT, "optional": {"type": "boolean"}},
                            }
                        },
                    },
                },
            },
        },
    },
}
POD = {
    "type": "object",
    "required": ["restartPolicy", "containers"],
    "additionalProperties": False,
    "properties": {
        "restartPolicy": {"enum": ["Never", "OnFailure"]},
        "automountServiceAccountToken": {"type": "boolean"},
        "securityContext": {
            "type": "object",
            "properties": {"seccompProfile": {"type": "object", "required": ["type"], "properties": {"type": TEXT}}},
            "additionalProperties": False,
        },
        "containers": {"type": "array", "minItems": 1, "items": CONTAINER},
        "volumes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {
                    "name": TEXT,
                    "persistentVolumeClaim": {
                        "type": "object",
                        "required": ["claimName"],
                        "properties": {"claimName": TEXT},
                        "additionalProperties": False,
                    },
                },
            },
        },
    },
}
CRONJOB = {
    "$comment": "What of batch/v1 CronJob is used here, with the API's own names, types and bounds.",
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "batch/v1"},
        "kind": {"const": "CronJob"},
        "metadata": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 52},
                "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
            },
        },
        "spec": {
            "type": "object",
            "required": ["schedule", "jobTemplate"],
            "additionalProperties": False,
            "properties": {
                "schedule": {"type": "string", "pattern": r"^\S+( \S+){4}$"},
                "concurrencyPolicy": {"enum": ["Allow", "Forbid", "Replace"]},
                "startingDeadlineSeconds": {"type": "integer", "minimum": 10},
                "successfulJobsHistoryLimit": {"type": "integer", "minimum": 0},
                "failedJobsHistoryLimit": {"type": "integer", "minimum": 0},
                "jobTemplate": {
                    "type": "object",
                    "required": ["spec"],
                    "additionalProperties": False,
                    "properties": {
                        "spec": {
                            "type": "object",
                            "required": ["template"],
                            "additionalProperties": False,
                            "properties": {
                                "backoffLimit": {"type": "integer", "minimum": 0},
                                "template": {"type": "object", "required": ["spec"], "additionalProperties": False, "properties": {"spec": POD}},
                            },
                        }
                    },
                },
            },
        },
    },
}  # fmt: skip


def test_the_manifest_is_a_cronjob(machine, home):  # noqa: F811
    """The manifest is valid against the CronJob kind, and says nothing that the kind does not have."""
    import yaml

    machine.env["CHRONOS_STORE"] = "s3://bucket/a 'b' \"c\": {d}"
    done = machine.tick(home, "--install", "kubernetes", "--every", "5m", "--image", "example.com/chronos:1.2")
    document = yaml.safe_load(done.out)
    jsonschema.Draft202012Validator(CRONJOB).validate(document)
    spec = document["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert document["spec"]["schedule"] == "*/5 * * * *"
    assert spec["containers"][0]["image"] == "example.com/chronos:1.2"
    walls = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert spec["containers"][0]["securityContext"] == walls
    assert spec["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert spec["automountServiceAccountToken"] is False
    assert {"name": "CHRONOS_STORE", "value": machine.env["CHRONOS_STORE"]} in spec["containers"][0]["env"]


def test_the_manifest_is_applied_and_deleted(machine, home):  # noqa: F811
    """With --yes and an image it goes to the cluster; the same again changes nothing; removing deletes that one."""
    arguments = ("--install", "kubernetes", "--image", "example.com/chronos:1", "--yes")
    assert machine.tick(home, *arguments).out.startswith("installed: ")
    assert "already" in machine.tick(home, *arguments).out
    assert machine.tick(home, "--install", "kubernetes", "--remove", "--yes").out.startswith("removed: ")
    assert "already" in machine.tick(home, "--install", "kubernetes", "--remove", "--yes").out


# -- what an installed tick does --------------------------------------------------------------------------------------


def test_a_job_runs_on_its_minute_once_a_minute(tmp_path):
    """With a tick a minute and no NAS, a job of every minute runs on each minute, once, however often the tick comes."""
    (tmp_path / "config.yaml").write_text("timezone: UTC\n")
    config = load_config(environ={}, home=str(tmp_path))
    opened = open_home(config, ProcessEnvironment(environ={"PATH": "/usr/bin:/bin"}, secrets={}))
    assert spawn("job", "add", "* * * * *", "--id", "minute", "--command", "true", home=tmp_path).code == 0
    first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    for second in (*range(0, 180, 20), 180, 180):
        moment = first + timedelta(seconds=second)
        tick(replace(opened, clock=lambda moment=moment: moment), InlineLauncher())
    rows = [json.loads(path.read_text()) for path in sorted((tmp_path / "cron/runs/minute").glob("*.json"))]
    expected = [(first + timedelta(minutes=number)).isoformat() for number in range(4)]
    assert [row["scheduled_at"] for row in rows] == expected
    assert [row["started_at"] for row in rows] == expected
    assert {row["state"] for row in rows} == {"ok"}


def come_due(agent, job_id):
    """Set the cursor of an hourly job back to the hour in which it was added, as if one had passed unseen."""
    path = agent.home / "cron/jobs.json"
    document = json.loads(path.read_text())
    job = next(job for job in document["jobs"] if job["id"] == job_id)
    at = datetime.fromisoformat(job["next_run_at"]) - timedelta(hours=1)
    job["next_run_at"] = at.isoformat()
    path.write_text(json.dumps(document))
    return at


def relay(agent, job_id, fire_at):
    """A late relay of an occurrence, past the door: what the shim does once the token has verified."""
    environ = {key: value for key, value in agent.env().items() if key == "PATH"}
    context = open_home(load_config(environ={}, home=str(agent.home)), ProcessEnvironment(environ=environ, secrets={}))
    return fire(context, job_id, fire_at=fire_at, delivery="late", launcher=InlineLauncher())


def test_a_tick_runs_jobs_that_nas_refuses_to_hold(tmp_path):
    """With a NAS that refuses this agent for good the job is kept and shown as refused; a tick runs it; a relay that comes all the same is a duplicate."""
    with running_nas(tmp_path) as nas:
        agent = AgentHome(tmp_path / "home", nas, name="outcast")
        nas.command("agent", "revoke", "outcast")
        added = agent.chronos("job", "add", "every 1h", "--id", "once", "--command", "true")
        assert added.returncode == 4, added.stderr
        shown = json.loads(agent.chronos("list", "--offline", "--json").stdout)
        assert shown["jobs"][0]["arm"]["state"] == "refused"
        fire_at = come_due(agent, "once")
        ticked = agent.chronos("tick", "--json")
        assert ticked.returncode == 0, ticked.stderr
        assert len(json.loads(ticked.stdout)["started"]) == 1
        assert relay(agent, "once", fire_at).outcome is Outcome.DUPLICATE
        assert [row["state"] for row in agent.rows("once")] == ["ok"]


def test_a_tick_runs_jobs_while_nas_is_down_and_its_late_relay_is_a_duplicate(tmp_path):
    """NAS dies before it can call; a tick runs the job; NAS comes back, delivers what it still held, and nothing runs twice."""
    with running_nas(tmp_path, "--retry-base", "0.2") as nas:
        agent = AgentHome(tmp_path / "home", nas)  # whose callback is not up yet, so NAS cannot come first
        assert agent.chronos("job", "add", "every 2s", "--id", "beat", "--command", "true").returncode == 0
        nas.kill()
        fire_at = datetime.fromisoformat(agent.job("beat")["next_run_at"])
        wait_until(fire_at)
        ticked = agent.chronos("tick", "--json")
        assert len(json.loads(ticked.stdout)["started"]) == 1, ticked.stderr
        ran = {row["scheduled_at"]: row for row in agent.rows("beat")}
        assert [row["state"] for row in ran.values() if "delivery_id" not in row] == ["ok"], "the tick ran it"
        # The next occurrence is far away: on a busy machine it would be due before NAS is back, and run instead.
        assert agent.chronos("job", "edit", "beat", "--schedule", "every 1h").returncode == 75
        agent.start_shim()
        try:
            nas.start()
            nas.wait_for("relayed", job_id="beat", outcome="delivered", timeout=20)
            assert agent.chronos("job", "pause", "beat").returncode == 0
        finally:
            agent.stop_shim()
        rows = [row for row in agent.rows("beat") if row["scheduled_at"] in ran]
        assert rows == list(ran.values())
        notes = json.loads((agent.home / "cron/arms/beat.json").read_text())["notes"]
        assert "duplicate" in {note["outcome"] for note in notes if note["fire_at"] == fire_at.isoformat()}


def test_a_tick_can_be_the_net_below_nas_alone(tmp_path):
    """With fallback_after a tick leaves what NAS has confirmed to NAS until that time is over; what is not confirmed it runs at once."""
    with running_nas(tmp_path) as nas:
        agent = AgentHome(tmp_path / "home", nas)
        for job_id in ("refused", "held"):
            assert agent.chronos("job", "add", "in 1s", "--id", job_id, "--command", "true").returncode == 0
        path = agent.home / "cron/arms/refused.json"
        confirmed = path.read_text()
        path.write_text(confirmed.replace('"confirmed"', '"refused"'))
        assert path.read_text() != confirmed
        fire_at = datetime.fromisoformat(agent.job("held")["next_run_at"])
        wait_until(fire_at)
        ticked = agent.chronos("tick", "--json", CHRONOS_FALLBACK_AFTER="1h")
        assert len(json.loads(ticked.stdout)["started"]) == 1
        assert (len(agent.rows("refused")), agent.rows("held")) == (1, [])
        wait_until(fire_at + timedelta(seconds=1))
        assert agent.chronos("tick", CHRONOS_FALLBACK_AFTER="1s").returncode == 0
        assert [row["state"] for row in agent.rows("held")] == ["ok"], "its time is over"


def wait_until(moment):
    time.sleep(max(0, (moment - datetime.now(UTC)).total_seconds()))


def test_with_both_triggers_live_every_occurrence_runs_once(tmp_path):
    """A NAS that calls every second and ticks in between: each occurrence has one row and one run, whoever came first."""
    with running_nas(tmp_path) as nas, running_agent(tmp_path, nas) as agent:
        diary = tmp_path / "diary"
        words = ("--shell", f"echo $CHRONOS_FIRE_AT >> {diary}")
        assert agent.chronos("job", "add", "every 1s", "--id", "both", *words).returncode == 0
        until = time.monotonic() + 40
        ticked = called = 0
        while not (ticked and called >= 2):
            assert time.monotonic() < until, f"in 40 s ticks started {ticked} and calls {called}"
            ticked += len(json.loads(agent.chronos("tick", "--json").stdout)["started"])
            called = sum(1 for row in agent.rows("both") if row.get("delivery_id") and row["state"] == "ok")
        assert agent.chronos("job", "pause", "both").returncode == 0
        ran = [row["scheduled_at"] for row in agent.wait_for_row("both", state="ok", count=3)]
        assert len(ran) == len(set(ran))
        written = diary.read_text().split()
        assert len(written) == len(set(written))
