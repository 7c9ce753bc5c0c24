"""Timers of systemd brought in with their services, and written back; and crontabs written back."""

import json
import os
import pwd
import subprocess

import pytest

from chronos_cli.operations.foreign.exported import AS_JSON
from tests.conftest import require_program

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def units(tmp_path):
    """Writes a timer and its service into a folder; the folder."""

    def write(timer, service="ExecStart=/bin/true", name="job", head="Type=oneshot"):
        folder = tmp_path / "units"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.timer").write_text(f"[Timer]\n{timer}\n")
        (folder / f"{name}.service").write_text(f"[Service]\n{head}\n{service}\n")
        return folder

    return write


@pytest.fixture
def bring(chronos, home, tmp_path):
    """Imports a folder; what the command says."""

    def run(folder, *options, code=0):
        done = chronos(
            "job", "import", folder, "--from", "systemd", "--json", *options, home=home, env={"HOME": str(tmp_path)}
        )
        assert done.code == code, done.out + done.err
        return done.json

    return run


def records(home):
    return {job["id"]: job for job in json.loads((home / "cron" / "jobs.json").read_text())["jobs"]}


EVENTS = [
    ("minutely", "* * * * *"), ("hourly", "0 * * * *"), ("daily", "0 0 * * *"), ("weekly", "0 0 * * 1"),
    ("monthly", "0 0 1 * *"), ("yearly", "0 0 1 1 *"), ("annually", "0 0 1 1 *"), ("quarterly", "0 0 1 1,4,7,10 *"),
    ("semiannually", "0 0 1 1,7 *"), ("bi-annually", "0 0 1 1,7 *"), ("03:15", "15 3 * * *"), ("*:0/10", "*/10 * * * *"), ("*-*-* *:5/10", "5-59/10 * * * *"),
    ("Mon..Fri 09:00", "0 9 * * 1-5"), ("Mon,Wed *-*-* 09:00:00", "0 9 * * 1,3"),
    ("Fri..Sun 10:00", "0 10 * * 5-7"), ("sunday 10:00", "0 10 * * 0"), ("*-*-1..7 4:00", "0 4 1-7 * *"),
    ("*-2,8-15 06:30", "30 6 15 2,8 *"), ("*:*:0/20", "every 20s"), ("0/6:00", "0 */6 * * *"), ("00..23/7:00", "0 */7 * * *"), ("*:44/15", "44-59/15 * * * *"), ("8..18/2:30", "30 8-18/2 * * *"),
    ("*-*~01 10:00", "0 10 L * *"), ("*-2~1", "0 0 L 2 *"), ("Mon *-*~07/1 10:00", "0 10 * * 1L"), ("Fri,Mon *-*~1..7", "0 0 * * 1L,5L"),
    ("Mon *-*-1..7 12:00", "0 12 * * 1#1"), ("Sat..Sun *-1,7-22..28", "0 0 * 1,7 0#4,6#4"), ("Wed *-*-29..31", "0 0 * * 3#5"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "here"), EVENTS)
def test_a_calendar_event_as_a_schedule(units, bring, home, event, here):
    """Each form of systemd.time(7) that cron can say."""
    said = bring(units(f"OnCalendar={event}"), "--tz", "UTC")
    assert said["jobs"][0]["schedule"] == here
    assert said["jobs"][0]["timezone"] == "UTC"


@pytest.mark.service
@pytest.mark.parametrize(("event", "here"), EVENTS)
def test_systemd_reads_it_so_too(units, bring, home, event, here):
    """The next two times are those that systemd itself names."""
    require_program("systemd-analyze")
    said = bring(units(f"OnCalendar={event} UTC"))
    ran = subprocess.run(["systemd-analyze", "calendar", "--iterations=2", f"{event} UTC"], capture_output=True, text=True,
                         check=True, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"})  # fmt: skip
    theirs = [
        line.split(": ", 1)[1].split()[1:3]
        for line in ran.stdout.splitlines()
        if "Next elapse" in line or "Iter. #2" in line
    ]
    if not here.startswith("every"):  # its own start counts there
        assert [moment[:19].split("T") for moment in said["jobs"][0]["next"]] == theirs


def test_a_zone_several_events_and_a_delay(units, bring, home):
    """Each event is a job with its zone; a random delay is a jitter; what is not persistent is not made up for."""
    said = bring(
        units("OnCalendar=03:15 Asia/Tokyo\nOnCalendar=Sat 05:00\nRandomizedDelaySec=5min 30s\nAccuracySec=1h"),
        "--tz",
        "UTC",
    )
    assert [(job["job_id"], job["timezone"]) for job in said["jobs"]] == [("job", "Asia/Tokyo"), ("job-2", "UTC")]
    policy = records(home)["job"]["chronos"]["policy"]
    assert (policy["jitter"], policy["grace"]) == (330, 3600)
    assert any("RandomizedDelaySec becomes a delay that is the same each time" in note for note in said["notes"])
    assert {
        job["action"]
        for job in bring(
            units("OnCalendar=03:15 Asia/Tokyo\nOnCalendar=Sat 05:00\nRandomizedDelaySec=5min 30s\nAccuracySec=1h"),
            "--tz",
            "UTC",
        )["jobs"]
    } == {"keep"}


def test_a_rate(units, bring, home):
    """OnUnitActiveSec is an interval; its first start after boot is left out, by name."""
    said = bring(units("OnBootSec=1min\nOnUnitActiveSec=1h 30min"))
    assert said["jobs"][0]["schedule"] == "every 90m"
    assert any("OnBootSec is left out" in note for note in said["notes"])


def test_the_command_is_what_systemd_runs(units, bring, chronos, home, tmp_path):
    """Quotes, escapes, variables, specifiers, continued lines, the environment and the folder are systemd's."""
    service = ('Environment="A=x y" B=2\nEnvironment=C=%u\nExecStart=/bin/echo $A ${A} "q \\"w\\" %h" $$HOME \\\n  a\\x41 ${NONE}.\n'
               "WorkingDirectory=/\nProtectSystem=strict\nTimeoutStartSec=2min")  # fmt: skip
    said = bring(units("OnCalendar=daily\nPersistent=yes", service))
    job = records(home)["job"]
    assert job["chronos"]["action"]["command"] == [
        "/bin/echo",
        "x",
        "y",
        "x y",
        f'q "w" {tmp_path}',
        "$HOME",
        "aA",
        ".",
    ]
    assert job["chronos"]["env"] == {"A": "x y", "B": "2", "C": ME}
    assert (job["workdir"], job["chronos"]["policy"]["timeout"]) == ("/", 120)
    assert said["notes"][-1] == "job.timer: not taken over: ProtectSystem"


def test_several_commands_and_one_whose_failure_counts_for_nothing(units, bring, chronos, home):
    """They run in turn; a dash lets the next one start all the same."""
    bring(units("OnCalendar=daily", "ExecStart=-/bin/false\nExecStart=/bin/echo 'it is'\nExecStart=/bin/echo on"))
    assert chronos("run", "job", home=home).out == "it is\non\n"
    bring(units("OnCalendar=daily", "ExecStart=/bin/false\nExecStart=/bin/echo on"))
    assert chronos("run", "job", home=home).code == 10


REFUSED = [
    ("OnCalendar=Fri *-*-13 00:00", "", "needs the day of the month and of the week together, and cron runs on either"),
    ("OnCalendar=*-*~3 00:00", "", "counts days from the end of the month"),
    ("OnCalendar=*:*:30", "", "starts within a minute"),
    ("OnCalendar=2030..2032-01-01 00:00", "", "is for some years only"),
    ("OnCalendar=03:15 Mars/Phobos", "", "'Mars/Phobos' is no time zone"),
    ("OnCalendar=Mon..Fro 03:15", "", "is no day of the week"),
    ("OnCalendar=Sat..Mon 10:00", "", "goes past the end of the week"),
    ("OnCalendar=at noon", "", "the calendar event 'at noon' cannot be read"),
    ("OnCalendar=3x:15", "", "'3x' in '3x:15' has no counterpart"),
    ("OnCalendar=*:*/10", "", "'*/10' in '*:*/10' has no counterpart"),
    ("OnCalendar=*:45/15", "", "the step of '45/15' in '*:45/15' leaves its field: write 45 alone"),
    ("OnCalendar=*-12/1-01", "", "the step of '12/1' in '*-12/1-01' leaves its field: write 12 alone"),
    ("OnBootSec=5min", "", "OnBootSec is a start, once, of the machine or the timer"),
    ("OnUnitInactiveSec=5min", "", "OnUnitInactiveSec=5min has no counterpart"),
    ("OnUnitActiveSec=100ms", "", "OnUnitActiveSec=100ms is no whole number of seconds"),
    ("OnUnitActiveSec=often", "", "'often' is no time span"),
    ("Persistent=maybe\nOnCalendar=daily", "", "Persistent=maybe is neither yes nor no"),
    ("Persistent=yes", "", "it has neither OnCalendar nor OnUnitActiveSec"),
    ("OnCalendar=daily\nUnit=x.target", "", "it starts x.target, which is no plain service"),
    ("OnCalendar=daily\nUnit=other.service", "", "other.service cannot be read"),
    ("OnCalendar=daily\nnonsense", "", "job.timer, line 3: 'nonsense' is no setting"),
    ("OnCalendar=daily", "Type=forking\nExecStart=/bin/true", "a service of Type=forking does not end with its program"),
    ("OnCalendar=daily", "User=nobody-else\nExecStart=/bin/true", "it runs as nobody-else, and this is"),
    ("OnCalendar=daily", "ExecStartPre=/bin/true\nExecStart=/bin/true", "ExecStartPre has no counterpart"),
    ("OnCalendar=daily", "EnvironmentFile=/etc/*.conf\nExecStart=/bin/true", "is not the whole path of one file"),
    ("OnCalendar=daily", "EnvironmentFile=/etc/x\nExecStart=/bin/echo ${A}", "which an EnvironmentFile may set"),
    ("OnCalendar=daily", "Restart=on-failure\nExecStart=/bin/true", "Restart starts it again by itself"),
    ("OnCalendar=daily", "StandardInput=tty\nExecStart=/bin/true", "StandardInput has no counterpart"),
    ("OnCalendar=daily", "Description=x", "it has no ExecStart"),
    ("OnCalendar=daily", "ExecStart=+/bin/true", "ExecStart begins with '+', which has no counterpart"),
    ("OnCalendar=daily", "ExecStart=-", "ExecStart has no program"),
    ("OnCalendar=daily", "ExecStart=/bin/echo %Z", "the specifier %Z is not known here"),
    ("OnCalendar=daily", "ExecStart=/bin/echo 'x", "a quote is open at the end of"),
    ("OnCalendar=daily", "ExecStart=/bin/echo \\q12", "is no escape of systemd's"),
]  # fmt: skip


@pytest.mark.parametrize(("timer", "service", "reason"), REFUSED)
def test_a_timer_that_would_mean_something_else_is_left_out_by_name(units, bring, home, timer, service, reason):
    """The others come in, and the warning says why this one does not."""
    units("OnCalendar=daily", name="good")
    said = bring(units(timer, service or "ExecStart=/bin/true", head=""))
    assert [job["job_id"] for job in said["jobs"]] == ["good"]
    (line,) = said["left_out"]
    assert line.startswith("job.timer: ")
    assert reason in line


def test_a_folder_without_timers(bring, units, tmp_path):
    """Exit 2 with the reason; and so where none can come in, or the file is a service or no text."""
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no timer" in bring(empty, code=2)["error"]["message"]
    folder = units("OnBootSec=5min")
    assert bring(folder, code=2)["error"]["hint"] == "keep it there"
    assert "its name does not end in .timer" in bring(folder / "job.service", code=2)["error"]["message"]
    (folder / "job.timer").write_bytes(b"\xff")
    assert "job.timer is not UTF-8 text" in bring(folder, code=2)["error"]["message"]
    long = units("OnCalendar=daily", name="x" * 130)
    assert "cannot be a job id" in bring(long / f"{'x' * 130}.timer", code=2)["error"]["message"]


def test_there_and_back(units, bring, chronos, home, tmp_path):
    """Import, export and import again: the same jobs, whatever the event, the command and the settings."""
    for place, (event, _) in enumerate(EVENTS):
        units(f"OnCalendar={event}\nPersistent={'true' if place % 2 else 'false'}\nRandomizedDelaySec=10",
              "Environment=\"A=x y\"\nExecStart=/bin/echo 'a b' \"$$HOME\" 100%%\nWorkingDirectory=/", name=f"t{place}")  # fmt: skip
    bring(units("OnCalendar=daily", name="t0"), "--tz", "Europe/Berlin")
    before = records(home)
    out = tmp_path / "out"
    assert chronos("job", "export", "--format", "systemd", "-o", out, home=home).code == 0
    for job_id in before:
        assert chronos("job", "remove", job_id, "--yes", home=home).code in (0, 2)
    (home / "cron" / "jobs.json").unlink()
    bring(out)
    after = records(home)
    assert after.keys() == before.keys()
    for job_id, job in before.items():
        again = after[job_id]
        assert again["schedule"] == job["schedule"], job_id
        assert again["chronos"]["timezone"] == job["chronos"]["timezone"]
        assert (again["chronos"]["action"], again["workdir"]) == (job["chronos"]["action"], job["workdir"])
        assert again["chronos"].get("env") == job["chronos"].get("env")
        policy, wanted = again["chronos"]["policy"], job["chronos"]["policy"]
        assert (policy.get("jitter"), policy.get("grace")) == (wanted.get("jitter"), wanted.get("grace"))


@pytest.mark.service
def test_systemd_takes_what_is_written(chronos, home, tmp_path):
    """systemd-analyze verify has nothing to say about the units."""
    analyze = require_program("systemd-analyze")
    for place, when in enumerate(
        ("0 3 * * *", "*/7 1-5 1,15 JAN-MAR FRI", "0 0 */2 * 1", "every 90s", "2040-02-29T10:00:00Z")
    ):
        chronos("job", "add", when, "--id", f"j{place}", "--shell", "echo $HOME '100%' \"x\"; true", home=home)
    out = tmp_path / "out"
    assert chronos("job", "export", "--format", "systemd", "-o", out, home=home).code == 0
    ran = subprocess.run(
        [analyze, "verify", *map(str, out.glob("*.timer"))], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, [line for line in ran.stderr.splitlines() if str(out) in line]) == (0, [])


def test_what_a_unit_cannot_say_is_left_out(chronos, home):
    """Paused jobs, standard input, overlaps, L and #, prompts: each with its reason."""
    add = ("job", "add", "0 3 * * *")
    chronos(*add, "--id", "paused", "--shell", "true", home=home)
    chronos("job", "pause", "paused", home=home)
    chronos(*add, "--id", "queue", "--overlap", "queue", "--shell", "true", home=home)
    chronos("job", "add", "0 3 LW * *", "--id", "last", "--shell", "true", home=home)
    chronos("job", "add", "0 3 * * FRI#1,1", "--id", "first", "--shell", "true", home=home)
    chronos("job", "add", "in 1h", "--id", "http", "--http", "https://example.com", home=home)
    chronos(*add, "--id", "name", "--name", "a\nb", "--shell", "true", home=home)
    chronos(*add, "--id", "input", "--shell", "cat", home=home)
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][-1]["chronos"]["action"]["stdin"] = "x"
    path.write_text(json.dumps(document))
    left = chronos("job", "export", "--format", "kubernetes", "--image", "i", "--json", home=home).json["left_out"]
    assert left["input"] == "a container has no standard input: put what it reads into the command"
    left = chronos("job", "export", "--format", "systemd", "--json", home=home).json["left_out"]
    assert left["input"] == "a service has no such standard input: put what it reads into the command"
    assert left["name"].startswith(
        "a unit file cannot hold a line break or a control character: give the job another name"
    )
    assert left["paused"] == "it is paused, and a unit file cannot say so: resume it, and disable its timer there"
    assert left["queue"] == "a service has no overlap: queue: use skip"
    assert left["last"] == "'LW' has no counterpart in a calendar event: give the days by their numbers"
    assert left["first"] == "'5#1' has no counterpart in a calendar event: give the days by their numbers"
    assert left["http"] == f"it runs a http, which is chronos' own: {AS_JSON}"


TABLE = """\
CRON_TZ=Europe/Berlin
PATH=/usr/local/bin:/usr/bin
15 3 * * 1-5 /usr/bin/backup --all
A= spaced
30 4 * * * printf 'x\\\\n' \\% done
*/5 * * * * cat%one%two \\% three
0 0 1 1 * echo \\\\% \\\\\\\\ end
"""


def test_a_crontab_there_and_back(chronos, home, tmp_path):
    """What comes in from a crontab goes out as one that brings the very same jobs."""
    path = tmp_path / "table"
    path.write_text(TABLE)
    assert chronos("job", "import", path, "--from", "crontab", home=home, env={"HOME": str(tmp_path)}).code == 0
    before = records(home)
    done = chronos("job", "export", "--format", "crontab", "--json", home=home, env={"TZ": "UTC"})
    assert done.json["left_out"] == {}
    path.write_text(done.json["files"][""])
    assert [line for line in path.read_text().splitlines() if line[0] in "0123456789*"] == [
        line for line in TABLE.splitlines() if line[0] in "0123456789*"
    ]
    again = chronos("job", "import", path, "--from", "crontab", "--json", home=home, env={"HOME": str(tmp_path)}).json
    assert {job["action"] for job in again["jobs"]} == {"keep"}, again
    assert records(home) == before


def test_jobs_of_ours_as_a_crontab(chronos, home):
    """Intervals that divide the hour or the day have a line; what cron cannot say is left out with the reason."""
    for job_id, when in (("a", "every 15m"), ("b", "every 1m"), ("c", "every 7m"), ("d", "every 6h"), ("e", "0 3 * * *"), ("f", "0 3 L * *"),
                         ("g", "every 1h"), ("h", "every 1d")):  # fmt: skip
        chronos("job", "add", when, "--id", job_id, "--tz", "UTC", "--command", "echo", "it's", "100%", home=home)
    chronos("job", "pause", "e", home=home)
    done = chronos("job", "export", "--format", "crontab", "--json", home=home, env={"TZ": "UTC"})
    lines = done.json["files"][""].splitlines()
    assert "*/15 * * * * echo 'it'\"'\"'s' 100\\%" in lines
    assert "#0 3 * * * echo 'it'\"'\"'s' 100\\%" in lines
    assert sum(line.startswith("* * * * * ") for line in lines) == 1
    assert sum("-23/6 * * * " in line for line in lines) == 1
    assert done.json["left_out"] == {
        "c": f"cron has no time for its schedule: {AS_JSON}",
        "f": f"'0 3 L * *' is beyond cron's own fields: {AS_JSON}",
    }


def test_settings_that_a_crontab_cannot_say(chronos, home):
    """A line break, both quotes, a command of two lines, and settings that cannot be taken back."""
    chronos("job", "add", "0 3 * * *", "--id", "lines", "--shell", "a\nb", home=home)
    for job_id in ("break", "quotes", "one", "two"):
        chronos("job", "add", "0 3 * * *", "--id", job_id, "--shell", "true", home=home)
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    for job in document["jobs"]:
        env = {"break": {"A": "a\nb"}, "quotes": {"A": "'\" "}, "one": {"B": "1"}, "two": {"C": "1"}}.get(job["id"])
        job["chronos"] |= {"env": env} if env else {}
    path.write_text(json.dumps(document))
    left = chronos("job", "export", "--format", "crontab", "--json", home=home).json["left_out"]
    assert left["lines"].startswith("its command has more than one line: put it into a file")
    assert left["break"] == f"a setting of it has a line break: {AS_JSON}"
    assert left["quotes"] == f"a setting of it has both quotes: {AS_JSON}"
    assert left["two"].startswith("B stands above it and cannot be taken back: export it alone")


def test_a_services_files_of_variables_go_both_ways(units, bring, chronos, home, tmp_path):
    """EnvironmentFile is env_file; where both set a variable the file's counts, as there; out again it is the same."""
    (tmp_path / "vars").write_text("TOKEN=s3cret\nMODE=file\n")
    lines = f"EnvironmentFile={tmp_path}/vars\nEnvironmentFile=-/etc/not-there\nExecStart=/usr/bin/env"
    said = bring(units("OnCalendar=daily", lines, name="files"), "--tz", "UTC")
    assert records(home)["files"]["chronos"]["env_file"] == [f"{tmp_path}/vars", "-/etc/not-there"]
    assert "s3cret" not in json.dumps(said) + (home / "cron" / "jobs.json").read_text()
    ran = chronos("run", "files", home=home)
    assert ("TOKEN=s3cret" in ran.out, ran.code) == (True, 0)
    out = chronos("job", "export", "files", "--format", "systemd", "-o", tmp_path / "out", home=home)
    assert out.code == 0, out.err
    service = (tmp_path / "out" / "files.service").read_text()
    assert [line for line in service.splitlines() if "Environment" in line] == lines.split("\n")[:2]
    both = units("OnCalendar=daily", f"Environment=MODE=unit PLAIN=x\n{lines}", name="both")
    bring(both, "--tz", "UTC")
    assert records(home)["both"]["chronos"]["env"] == {"PLAIN": "x"}
    (left,) = (
        chronos("job", "export", "both", "--format", "systemd", "-o", tmp_path / "o2", "--json", home=home)
        .json["left_out"]
        .values()
    )
    assert "count before those of its env_file" in left
