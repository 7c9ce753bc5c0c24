"""Crontabs of other crons, system crontabs among users', equal lines brought in again, and lines taken out."""

import json
from datetime import datetime, timedelta

import pytest

from tests.cli.test_import_crontab import ME, bring, only, own, own_import, records, said, table

__all__ = ["bring", "own", "table"]


@pytest.mark.parametrize(("line", "write"), [
    ("-0 3 * * * x", "write '0 3 * * *'"),
    ("@every_minute x", "write '* * * * *'"),
    ("@minutely x", "write '* * * * *'"),
    ("@every_second x", "write '@every 1s'"),
    ("@600 x", "write '@every 600s', which counts from start to start"),
    ("every 5m x", "write '@every 5m' before its command"),
    ("every 5 minutes do it now", "write '@every 5m' before its command"),
    ("every day at 9am /bin/x", "write '0 9 * * *' before its command"),
    ("weekdays at 9am /bin/x", "write '0 9 * * 1-5' before its command"),
    ("hourly x", "write '@hourly'"),
    ("every other day x", "write '@every 2d'"),
    ("monday 9am x", "write '0 9 * * mon'"),
    ("in 5m x", "'in 5m' is no time of a crontab: it is one time: add it with `chronos job add`"),
    ("2026-12-01T10:00 x", "it is one time"),
    ("@every 5 minutes x", "write '@every 5m' before its command"),
    ("@every 1h 30m x", "write '@every 90m' before its command"),
    ("@every 90 x", "write '@every 90s'"),
    ("@every 500ms x", "write '@every 1s'"),
    ("@1h x", "write '@every 1h'"),
    ("PT5M x", "write '@every 5m'"),
    ("at(2036-12-01T10:00:00) x", "is one time of AWS: write '2036-12-01T10:00:00'"),
    ("noon x", "write '0 12 * * *' for every day"),
    ("Mon..Fri 09:00 x", "is a calendar event of systemd"),
    ("60 * * * * x", "minutes go from 0 to 59"),
    ("0 0 10 ? * MON x", "it has 6 fields of time"),
    ("@quarterly x", "write '0 0 1 1,4,7,10 *'"),
    ("@semi-annually x", "write '0 0 1 1,7 *'"),
    ("* * * * * -n -q /bin/true", "its command begins with '-n', an option of other crons: leave it out"),
    ("* * * * * *x", "its command begins with '*', which cron refuses"),
    ("@daily * x", "its command begins with '*', which cron refuses"),
    ("0 0 12 * * MON-FRI poll x", "it has 6 fields of time, or a command that begins with 'MON-FRI'"),
    ("0 0 12 * * sun poll", "it has 6 fields of time, or a command that begins with 'sun'"),
    ("TZ=Asia/Tokyo 0 9 * * * x", "to cron it is the setting TZ, with times and a command in its value"),
    ("CRON_TZ=UTC 0 9 1 1 1 x", "to cron it is the setting CRON_TZ, with times"),
    ("FOO = bar */5 * * * * x", "to cron it is the setting FOO, with times"),
    ("FOO=bar @daily x", "put the setting on a line of its own"),
])  # fmt: skip
def test_what_other_crons_read_is_refused_by_its_line(bring, table, home, line, write):
    """Their words, options and prefixes name what to write here; nothing of them becomes a command or a setting."""
    text = said(bring(table(f"# one\n{line}\n"), code=2))
    assert text.startswith("line 2 of the crontab: ")
    assert write in text
    assert not (home / "cron" / "jobs.json").exists()


def test_what_only_looks_like_it_is_taken(bring, table, home):
    """Programs with names like days, and settings with numbers or quotes, are what cron takes them for."""
    bring(
        table(
            "NUMBERS=1 2 3 4 5 6 7\nQUOTED='a * * * * * b'\nAT=a @b c\n* * * * * mon\n* * * * * monitor x\n* * * * * 7z x\n"
        )
    )
    assert [record["name"] for record in records(home).values()] == ["mon", "monitor x", "7z x"]
    assert next(iter(records(home).values()))["chronos"]["env"]["QUOTED"] == "a * * * * * b"


def test_a_line_that_debians_cron_cannot_read_has_no_times_there(bring, table):
    """Its dialect is smaller: what is read here all the same is shown without its times, never as the same."""
    lines = ("5/10 * * * *", "0 0 L * *", "0 0 LW * *", "0 0 * * 5L", "@HOURLY")
    done = bring(table("".join(f"{line} x\n" for line in lines) + f"* * * * * {'x' * 999}\n"), "--dry-run")
    assert [job["cron_next"] for job in done["jobs"]] == [[]] * 6
    read = ("*/5 1,2-7/2 * jan-mar mon,wed", "@hourly", "00 00 * * 7")
    done = bring(table("".join(f"{line} x\n" for line in read) + f"* * * * * {'x' * 998}\n"), "--dry-run")
    assert all(len(job["cron_next"]) == 2 for job in done["jobs"])


def test_what_debians_cron_passes_over_is_not_in_its_times(bring, table):
    """To it `1#2` is every Monday; here it is the second one of a month."""
    (job,) = bring(table("0 0 * * 1#2 x\n"), "--dry-run", env={"TZ": "UTC"})["jobs"]
    first, second = (datetime.fromisoformat(at) for at in job["cron_next"])
    assert (first.isoweekday(), second - first) == (1, timedelta(days=7))
    assert datetime.fromisoformat(job["next"][1]) - datetime.fromisoformat(job["next"][0]) > timedelta(days=7)


@pytest.mark.parametrize(("end", "noted"), [("", True), ("\n# end", False), ("\n  ", False), ("\n", False)])
def test_a_crontab_without_its_last_line_end_is_noted(bring, table, end, noted):
    """Debian's cron ignores such a file; here its lines count."""
    done = bring(table(f"0 3 * * * x{end}"), "--dry-run")
    assert any("ignores a crontab whose last line has no line end" in note for note in done["notes"]) is noted
    assert [len(job["cron_next"]) for job in done["jobs"]] == [0 if noted else 2]


# -- users ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def man(tmp_path, monkeypatch):
    """A machine where `man` is a user and a program."""
    monkeypatch.setattr(
        "chronos_cli.cli.foreign_sources._is_user",
        lambda name: name in ("root", "man", "night-shift", "first.last@corp"),
    )
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("man", "mandb", "night-shift"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def test_a_user_that_is_called_like_a_program_is_a_user_before_a_program(bring, table, home, man):
    """`man /usr/bin/mandb` is a system crontab's; `man x` alone is a command."""
    env = {"PATH": f"{man}:/usr/bin:/bin"}
    for text in (
        f"25 6 * * * man {man}/mandb --quiet\n",
        "17 * * * * root run-parts x\n25 6 * * * man mandb --quiet\n",
    ):
        assert "this is a system crontab" in said(bring(table(text), code=2, env=env))
    bring(table("25 6 * * * man mandb\n"), env=env)
    assert only(home)["name"] == "man mandb"


def test_a_program_in_the_crontabs_own_path_is_no_user(bring, table, home, man):
    """PATH= above a line says what its first word is."""
    assert "begins with the user 'night-shift'" in said(bring(table("25 6 * * * night-shift --all\n"), code=2))
    bring(table(f"PATH={man}\n25 6 * * * night-shift --all\n"))
    assert only(home)["chronos"]["action"] == {"shell": "night-shift --all"}


def test_users_of_any_name_stand_in_a_system_crontab(bring, table, home, man):
    """A line of another's is left out by name, whatever letters the name has; one without a command is refused."""
    done = bring(
        table(f"* * * * * first.last@corp x\n* * * * * CORP\\joe y\n* * * * * host$ z\n* * * * * {ME} mine\n"),
        "--system",
    )
    assert [line.split(", and")[0] for line in done["left_out"]] == [
        "line 1: it runs as first.last@corp", "line 2: it runs as CORP\\joe", "line 3: it runs as host$"]  # fmt: skip
    assert only(home)["name"] == "mine"
    assert "it has no user and command" in said(bring(table("* * * * * root:wheel x\n"), "--system", code=2))


# -- again ------------------------------------------------------------------------------------------------------------


def times(home):
    """The schedule of each job by its id."""
    return {job_id: record["schedule"]["expr"] for job_id, record in records(home).items()}


def test_equal_lines_are_known_by_their_times_before_their_places(bring, table, home):
    """One taken out from among its equals, or moved about, leaves the others as they are: none is run twice."""
    bring(table("0 3 * * * x\n0 5 * * * x\n0 7 * * * x\n"))
    before = times(home)
    assert {job["action"] for job in bring(table("0 7 * * * x\n0 5 * * * x\n0 3 * * * x\n"))["jobs"]} == {"keep"}
    done = bring(table("0 5 * * * x\n0 7 * * * x\n"))
    assert [(job["action"], before[job["job_id"]]) for job in done["jobs"]] == [
        ("keep", "0 5 * * *"), ("keep", "0 7 * * *"), ("gone", "0 3 * * *")]  # fmt: skip
    assert times(home) == before
    bring(table("0 5 * * * x\n0 7 * * * x\n"), "--prune")
    assert {job["action"] for job in bring(table("0 5 * * * x\n0 7 * * * x\n"))["jobs"]} == {"keep"}
    done = bring(table("0 5 * * * x\n0 9 * * * x\n0 11 * * * x\n"))
    assert sorted(job["action"] for job in done["jobs"]) == ["add", "change", "keep"]
    assert sorted(times(home).values()) == ["0 11 * * *", "0 5 * * *", "0 9 * * *"]


def test_equal_lines_whose_job_was_edited_here_go_by_their_places(chronos, bring, table, home):
    """A job with another command now is still its line's, and takes no other line's place."""
    bring(table("0 3 * * * x\n0 4 * * * y\n"))
    first = next(job_id for job_id, record in records(home).items() if record["name"] == "x")
    chronos("job", "edit", first, "--shell", "y", "--schedule", "0 4 * * *", home=home)
    assert [job["action"] for job in bring(table("0 3 * * * x\n0 4 * * * y\n"))["jobs"]] == ["change", "keep"]
    assert len(records(home)) == 2


# -- the source -------------------------------------------------------------------------------------------------------


def test_a_home_without_a_trigger_is_named_where_lines_come_in(chronos, home, own):
    """Nothing would run the jobs: that is said, above all where their lines are taken out."""
    (own / "table").write_text("0 3 * * * x\n")
    plain = chronos("job", "import", own / "table", "--from", "crontab", home=home)
    assert "nothing triggers the jobs of this home" in plain.err
    done = own_import(chronos, home, own, "--disable-source")
    assert (done.code, "chronos: warning: nothing triggers the jobs of this home" in done.err) == (0, True)


def test_jobs_whose_lines_we_took_out_are_not_gone(chronos, home, own):
    """Importing again names none of them and prunes none; where a line stands there again it is that job once more."""
    (own / "table").write_text("# mine\n0 3 * * * x\n0 4 * * * y\n")
    assert own_import(chronos, home, own, "--disable-source").code == 0
    again = own_import(chronos, home, own, "--prune")
    assert ([job["action"] for job in again.json["jobs"]], len(records(home))) == ([], 2)
    (own / "table").write_text("0 5 * * * x\n")
    done = own_import(chronos, home, own)
    assert [job["action"] for job in done.json["jobs"]] == ["change"]
    (own / "table").write_text("# none\n")
    done = own_import(chronos, home, own)
    assert [(job["action"], job["name"]) for job in done.json["jobs"]] == [("gone", "x")]


def test_a_crontab_without_a_job_is_not_touched(chronos, home, own):
    """Nothing comes in, so nothing is taken out and nothing is kept."""
    (own / "table").write_text("# nothing\n")
    before = (own / "table").read_text()
    assert own_import(chronos, home, own, "--disable-source").json["backup"] is None
    assert (own / "table").read_text() == before
    assert not list(home.glob("crontab-*.bak"))


def test_a_crontab_that_cannot_be_changed_says_what_came_in(chronos, home, own):
    """The jobs are in and shown; the error says that the lines stayed."""
    (own / "table").write_text("# mine\n0 3 * * * x\n")
    done = own_import(chronos, home, own, "--disable-source", REFUSES="1")
    assert (done.code, "crontab took no change: no room" in done.err) == (2, True)
    assert [job["action"] for job in json.loads(done.out)["jobs"]] == ["add"]
    assert "0 3 * * * x" in (own / "table").read_text()
