"""The plan of an import where the other program does something else: clocks that move, and crontabs that it refuses."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest
import yaml

from chronos_cli.operations.foreign.exported import AS_JSON
from tests.cli.test_import_cronjobs import cron_job
from tests.cli.test_import_crontab import only, own, own_import, table
from tests.cli.test_import_timers import units
from tests.conftest import require_program
from tests.core.debian_rules import moves

__all__ = ["own", "table", "units"]

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def plan(chronos, home):
    """What an import would do: its jobs, its notes, and what it prints."""

    def run(kind, path, *options, code=0):
        asked = ("job", "import", path, "--from", kind, "--dry-run", *options)
        env = {"TZ": "Europe/Berlin"}
        done = chronos(*asked, "--json", home=home, env=env)
        assert done.code == code, done.err
        return done.json["jobs"], done.json["notes"], chronos(*asked, home=home, env=env).out

    return run


@pytest.fixture(scope="module")
def days():
    """The next days on which the clocks of Berlin go forward and back, as day and month in cron's words."""
    now = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    found = {}
    for instant, before, after in moves(BERLIN, now, now + timedelta(days=400)):
        found.setdefault("forward" if before < after else "back", instant.astimezone(BERLIN))
    return found


def hours(job, key):
    """The hour and offset of its times on the first day of any of them, and how many of them are in that year."""
    year = min(job["next"] + job[key])[:4]
    return [at[11:16] + at[19:] for at in takewhile(lambda at: at.startswith(year), job[key])]


def on(days, which, times):
    return f"{times} {days[which].day} {days[which].month} *"


def test_debians_cron_on_days_of_moved_clocks(plan, table, days):
    """It starts a job for each time that was skipped; of a repeated hour both have the first."""
    path = table(f"{on(days, 'forward', '0,30 2')} a\n{on(days, 'back', '30 2')} b\n")
    (forward, back), _, printed = plan("crontab", path)
    assert (hours(forward, "next"), hours(forward, "cron_next")) == (["03:00+02:00"], ["03:00+02:00", "03:00+02:00"])
    assert (hours(back, "next"), hours(back, "cron_next")) == (["02:30+02:00"], ["02:30+02:00"])
    assert printed.count("cron: the same") == 1


def test_the_cluster_on_days_of_moved_clocks(plan, tmp_path, days):
    """It leaves out what is skipped and does twice what is repeated; what it counts from a start has no times here."""
    path = tmp_path / "jobs.yaml"
    given = (("a", on(days, "forward", "30 2")), ("b", on(days, "back", "30 2")), ("c", "@every 5m"))
    path.write_text(yaml.safe_dump_all([cron_job(name, schedule=schedule) for name, schedule in given]))
    (forward, back, every), _, printed = plan("kubernetes", path)
    assert (hours(forward, "next"), hours(forward, "their_next")) == (["03:00+02:00"], [])
    assert (hours(back, "next"), hours(back, "their_next")) == (["02:30+02:00"], ["02:30+02:00", "02:30+01:00"])
    assert every["their_next"] == []
    assert "the cluster: counts it from its last start there" in printed
    assert "the same" not in printed


def test_systemd_on_days_of_moved_clocks(plan, units, days):
    """It leaves out what is skipped, and goes by the machine's zone and by the clock's own seconds."""
    events = [f"*-{days['forward']:%m-%d} 02:30", f"*-{days['back']:%m-%d} 02:30", "*:*:0/20", "12:00"]
    path = units("\n".join(f"OnCalendar={event}" for event in events))
    (forward, back, seconds, noon), notes, printed = plan("systemd", path)
    assert (hours(forward, "next"), hours(forward, "their_next")) == (["03:00+02:00"], [])
    assert (hours(back, "next"), hours(back, "their_next")) == (["02:30+02:00"], ["02:30+02:00"])
    assert {int(at[17:19]) % 20 for at in seconds["their_next"]} == {0}
    assert noon["next"] == noon["their_next"]
    assert not any("the machine's" in note for note in notes)
    *_, noon = plan("systemd", path, "--tz", "Asia/Tokyo")[0]
    assert {at[11:16] for at in noon["next"]} == {"12:00"}
    assert {datetime.fromisoformat(at).astimezone(BERLIN).hour for at in noon["their_next"]} == {12}
    path = units("OnUnitActiveSec=1h", name="rate")
    assert "systemd: counts it from its last start there" in plan("systemd", path / "rate.timer")[2]
    assert "systemd: cannot read it" not in printed
    _, notes, _ = plan("systemd", units("OnCalendar=12:00"), "--tz", "Asia/Tokyo")
    assert "job.timer: its times are in Asia/Tokyo; systemd's are in Europe/Berlin, the machine's" in notes


def test_where_the_two_part_when_clocks_move_is_said_before(plan, table, units, tmp_path, days):
    """Of jobs whose next two times are the same, the next day of moved clocks on which one does what the other does not."""
    forward, back = (f"{days[which]:%Y-%m-%d}T" for which in ("forward", "back"))
    noted = plan("crontab", table("0,30 2 * * * a\n30 2 * * * b\n*/5 * * * * c\n"))[1]
    assert noted == [f"line 1: when clocks move, only cron starts it at {forward}03:00:00+02:00"]
    path = tmp_path / "jobs.yaml"
    path.write_text(yaml.safe_dump_all([cron_job("a", schedule="30 2 * * *"), cron_job("b", schedule="@hourly")]))
    noted = [note for note in plan("kubernetes", path, "--local")[1] if "when clocks move" in note]
    first = (
        f"only chronos starts it at {forward}03:00:00+02:00",
        f"only the cluster starts it at {back}02:30:00+01:00",
    )[back < forward]
    assert noted == [f"CronJob a: when clocks move, {first}"]
    noted = plan("systemd", units("OnCalendar=*:0/30"))[1]
    assert f"job.timer: when clocks move, only chronos starts it at {back}02:00:00+01:00 and 1 more" in noted


REFUSED = [
    ("A=\n0 3 * * * x\n", 'for line 1: A= has no value, where Debian\'s cron wants A=""'),
    ("0 3 * * * x\n'B C' = \t\n", "for line 2: 'B C'= has no value"),
    ("0 3 * * * x\n5/10 * * * * y\n", "for line 2: it does not read its times"),
    ("0 3 * * * x\n@every 5m y\n", "for line 2: it does not read its times"),
    ("0 3 * * * x\n@Reboot y\n", "for line 2: it knows @reboot in small letters"),
    (f"0 3 * * * x\n* * * * * {'y' * 999}\n", "for line 2: it does not read its times or its command"),
    ("\ufeff0 3 * * * x\n", "begins with a byte order mark"),
    ("0 3 * * * x", "whose last line has no line end"),
    ("#\n" * 10_000 + "0 3 * * * x\n", "of more than 10000 lines"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_a_crontab_that_debians_cron_refuses_is_never_the_same(plan, table, text, why):
    """One line is enough for it to take none: the plan says so at each line, and which one it is."""
    jobs, notes, printed = plan("crontab", table(text))
    assert all(job["cron_next"] == [] for job in jobs)
    assert any(why in note for note in notes)
    assert printed.count(why) == len(jobs) >= 1
    assert "the same" not in printed


@pytest.mark.service
@pytest.mark.parametrize(("text", "why"), REFUSED)
def test_debians_crontab_refuses_them(table, text, why):
    """Its own program says so of each (`crontab -n`)."""
    assert subprocess.run(
        [require_program("crontab"), "-n", table(text)], capture_output=True, check=False
    ).returncode, why


def test_a_system_crontab_with_a_stranger_is_refused_by_debians_cron(plan, table):
    """A user that is not there is enough for it to ignore the file; a user that is there is another's line."""
    import pwd

    me = pwd.getpwuid(os.geteuid()).pw_name
    jobs, notes, _ = plan("crontab", table(f"0 3 * * * {me} x\n0 3 * * * nobody-here y\n"), "--system")
    assert jobs[0]["cron_next"] == []
    assert any("for line 2: there is no user nobody-here" in note for note in notes)


def test_settings_that_are_long_or_quoted_or_empty_are_what_cron_has(plan, table):
    """A quoted nothing is fine; of a line of a thousand bytes Debian's cron reads 998."""
    jobs, notes, printed = plan("crontab", table(f'A=""\nLONG={"x" * 1000}\n0 3 * * * x\n'))
    assert "cron: the same" in printed
    assert len(jobs) == 1
    assert "line 2 is longer than what Debian's cron reads of a setting: there LONG is cut off" in notes


def test_a_line_of_standard_input_alone_runs_an_empty_command(chronos, home, own):
    """As cron starts the shell for it; it goes back as it came."""
    (own / "table").write_text("0 3 * * * %in\n")
    assert own_import(chronos, home, own).code == 0
    assert only(home)["chronos"]["action"] == {"command": ["/bin/sh", "-c", ""], "stdin": "in\n"}
    assert chronos("run", only(home)["id"], home=home).code == 0
    assert "0 3 * * * %in\n" in chronos("job", "export", "--format", "crontab", home=home).out


def test_bytes_of_a_crontab_are_kept(chronos, home, own):
    """A line in Latin-1 runs with the bytes that cron hands over, is the same one again, and goes back as it came."""
    text = b'X=caf\xe9\n0 3 * * * printf "\\%s" "caf\xe9 $X "; cat%in \xe9\xc3\xa9\n'
    (own / "table").write_bytes(text)
    assert own_import(chronos, home, own).code == 0
    job_id = only(home)["id"]
    asked = [sys.executable, "-m", "chronos_cli", "run", job_id]
    ran = subprocess.run(asked, env={**os.environ, "CHRONOS_HOME": str(home)}, capture_output=True, check=True)
    assert ran.stdout == b"caf\xe9 caf\xe9 in \xe9\xc3\xa9\n"
    out = home / "out"
    chronos("job", "export", "--format", "crontab", "-o", out, home=home)
    assert [line in out.read_bytes() for line in text.split(b"\n")] == [True] * 3
    for form in ("kubernetes", "systemd"):
        left_out = chronos("job", "export", "--format", form, "--json", home=home).json["left_out"]
        assert left_out == {job_id: f"it has bytes that are no UTF-8 text: {AS_JSON}"}
    assert own_import(chronos, home, own).json["jobs"][0]["action"] == "keep"
    assert own_import(chronos, home, own, "--disable-source").json["backup"]
    (kept,) = home.glob("crontab-*.bak")
    assert kept.read_bytes() == text
    assert (own / "table").read_bytes() == b"X=caf\xe9\n"
