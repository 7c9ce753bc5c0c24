"""A crontab brought in: the same program, at the same times, in the same place; and brought in again."""

import io
import json
import os
import pwd
import sys
from pathlib import Path

import pytest

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def table(tmp_path):
    """Writes a crontab and returns its path."""

    def write(text, name="table"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def bring(chronos, home):
    """Imports a crontab; the document."""

    def run(path, *options, code=0, env=None):
        done = chronos("job", "import", path, "--from", "crontab", "--json", *options, home=home, env=env)
        assert done.code == code, done.out + done.err
        return done.json

    return run


def records(home):
    return {record["id"]: record for record in json.loads((home / "cron" / "jobs.json").read_text())["jobs"]}


def only(home):
    (record,) = records(home).values()
    return record


def said(document):
    return document["error"]["message"] + ": " + document["error"]["hint"]


# -- the same program -------------------------------------------------------------------------------------------------


def test_a_line_runs_as_cron_runs_it(chronos, bring, table, home, tmp_path):
    """Its arguments are the shell's, its folder is HOME, its environment the settings, its input what follows `%`."""
    folder = tmp_path / "work"
    folder.mkdir()
    bring(table(f'HOME={folder}\nDB_PASSWORD=canary-5150\n"FOO"="bar baz"\nFOO-BAR=x\nMAILTO=""\n'
                "* * * * * tr '\\\\0' '|' < /proc/$$/cmdline; echo; pwd; tr '\\\\0' '\\\\n' < /proc/$$/environ; cat%one%two \\% three\n"))  # fmt: skip
    job_id = only(home)["id"]
    done = chronos("run", job_id, home=home)
    argv, rest = done.out.split("|\n", 1)
    assert argv.startswith("/bin/sh|-c|tr ")
    assert "canary" not in argv
    assert f"{folder}\n" in done.out
    lines = rest.splitlines()
    wanted = {"DB_PASSWORD=canary-5150", "FOO=bar baz", "FOO-BAR=x", "MAILTO=", f"HOME={folder}", "SHELL=/bin/sh",
              "PATH=/usr/bin:/bin", f"LOGNAME={ME}"}  # fmt: skip
    assert wanted <= set(lines)
    assert done.out.endswith("one\ntwo % three\n")
    shown = chronos("job", "show", job_id, home=home)
    assert "canary" not in shown.out + chronos("job", "show", job_id, "--json", home=home).out
    assert "DB_PASSWORD" in shown.out


def test_a_job_without_a_home_of_its_own_runs_in_the_users(bring, table, home, tmp_path):
    """As cron starts it there, `./bin/x` means the same file."""
    bring(table("0 3 * * * ./bin/nightly.sh\n"), env={"HOME": str(tmp_path)})
    assert only(home)["workdir"] == str(tmp_path)


def test_another_shell_gets_the_line_as_it_is(bring, table, home):
    """SHELL is the program that is started, by its full name."""
    bring(table("SHELL=/bin/bash\n0 3 * * * echo {1..3}\n"))
    assert only(home)["chronos"]["action"] == {"command": ["/bin/bash", "-c", "echo {1..3}"]}


def test_backslashes_before_percent_signs(bring, table, home):
    r"""`\\` is one backslash, and a `%` behind it is bare; `\%` is a percent sign; any other backslash stays."""
    bring(table("* * * * * printf 'x\\\\n'\n* * * * * cat \\\\%to stdin\n* * * * * date +\\%F\\n\n"))
    actions = [record["chronos"]["action"] for record in records(home).values()]
    assert actions == [{"shell": "printf 'x\\n'"}, {"shell": "cat \\", "stdin": "to stdin\n"}, {"shell": "date +%F\\n"}]


def test_the_env_of_a_record_is_checked_when_it_runs(chronos, home):
    """A record's env that is no env fails the run with the reason."""
    chronos("job", "add", "@daily", "--id", "x", "--shell", "true", home=home)
    path = home / "cron" / "jobs.json"
    for key, value, reason in (("env", {"A": 1}, "the job's env is not names with texts"),
                               ("action", {"shell": "true", "stdin": 5}, "the job's standard input is not a text")):  # fmt: skip
        document = json.loads(path.read_text())
        document["jobs"][0]["chronos"][key] = value
        path.write_text(json.dumps(document))
        assert reason in chronos("run", "x", home=home).err
        document["jobs"][0]["chronos"].pop("env", None)
        path.write_text(json.dumps(document))


# -- the same times ---------------------------------------------------------------------------------------------------


def test_tz_is_for_the_commands_and_cron_tz_for_the_times(bring, table, home):
    """The zone of a schedule is the home's, or that of CRON_TZ above it; a TZ is passed on and said not to count."""
    done = bring(table("TZ=Asia/Tokyo\n0 9 * * * date\nCRON_TZ=America/Lima\n0 9 * * * date -u\n"))
    zones = [record["chronos"]["timezone"] for record in records(home).values()]
    assert zones == ["Europe/Berlin", "America/Lima"]
    assert all(record["chronos"]["env"]["TZ"] == "Asia/Tokyo" for record in records(home).values())
    assert any("TZ=Asia/Tokyo is for the commands" in note for note in done["notes"])
    assert any("CRON_TZ=America/Lima moves the times below it" in note for note in done["notes"])


def test_every_and_hints_name_the_right_spelling(chronos, bring, table, home):
    """`@every 5m` is `every 5m`, in a crontab and elsewhere; what others write is refused with what to write here."""
    bring(table("@hourly echo ok\n@every 5m echo x\n"))
    assert [record["schedule"]["kind"] for record in records(home).values()] == ["cron", "interval"]
    assert chronos("next", "@every 1h30m", home=home).out.startswith("every 90m ")
    for text, write in (("rate(5 minutes)", "every 5m"), ("cron(0 12 ? * MON-FRI *)", "0 12 * * MON-FRI"),
                        ("TZ=Asia/Tokyo 0 9 * * *", "--tz Asia/Tokyo"), ("daily", "@daily"), ("every day", "every 1d"),
                        ("monday at 5:30pm", "30 17 * * mon"), ("day at 9am", "0 9 * * *"),
                        ("0 9 ? * 1", "0 9 * * 1"), ("0 0 15W * *", "LW"), ("H 3 * * *", "--jitter"),
                        ("0~59 * * * *", "--jitter"), ("@reboot", "init"), ("0 22-2 * * *", "22-23,0-2"),
                        ("0 3 * * Sunday", "0 3 * * sun"), ("0 3 1 january,july monday-friday", "0 3 1 jan,jul mon-fri"),
                        ("cron(0 12 ? * 2 *)", "there Sunday is 1"), ("cron(0 12 * * ? 2027)", "without the year")):  # fmt: skip
        for command in (("next", text), ("job", "add", text, "--command", "true")):
            done = chronos(*command, home=home)
            assert (done.code, write in done.err) == (2, True), (text, done.err)
    for line, write in (
        ("rate(5 minutes) x", "@every 5m"),
        ("cron(0 9 * * ? *) x", "0 9 * * *"),
        ("0 3 * * sunday x", "0 3 * * sun"),
    ):
        assert f"write '{write}'" in said(bring(table(f"{line}\n"), code=2))


@pytest.mark.parametrize("line", ["*/5 * * * * * * /usr/bin/poll", "30 */5 * * * * /usr/bin/poll", "0 0 12 * * ? poll",
                                  "0 0 12 * * MON 2030 poll", "0 30 3 * * 1-5 poll x"])  # fmt: skip
def test_six_and_seven_fields_are_never_guessed(bring, table, line):
    """A command that begins like a field of time is refused by line, and --seconds named."""
    text = said(bring(table(f"# six\n{line}\n"), code=2))
    assert "line 2 of the crontab" in text
    assert "fields of time, or a command that begins with '" in text or "bad hour" in text


def test_seconds_are_read_where_they_are_said_to_be(bring, table, home):
    """First or last, whole steps become `every`, one second is given up with a note, and anything else is refused."""
    source = table("*/5 * * * * * * a\n0 30 3 * * 1-5 b\n30 */5 * * * * c\n15 4 * * * d\n")
    done = bring(source, "--seconds", "first")
    assert [job["schedule"] for job in done["jobs"]] == ["every 5s", "30 3 * * 1-5", "*/5 * * * *", "15 4 * * *"]
    assert any("line 3 starts at second 0 of its minutes, not at second 30" in note for note in done["notes"])
    assert done["jobs"][0]["cron_next"] == []
    last = bring(table("30 3 * * 1-5 0 b\n* * * * * */20 e\n"), "--seconds", "last", "--dry-run")
    assert [job["schedule"] for job in last["jobs"][:2]] == ["30 3 * * 1-5", "every 20s"]
    for line, reason in (("*/7 * * * * * x", "the seconds '*/7' have no counterpart beside its other fields"), ("*/5 3 * * * * x", "have no counterpart"),
                         ("0 0 3 1 1 * 2030 x", "it is for one year only"), ("0 0 3 1 1 *", "has no command after its times")):  # fmt: skip
        assert reason in said(bring(table(f"{line}\n"), "--seconds", "first", code=2))
    assert "--seconds is first or last, not 'both'" in said(bring(source, "--seconds", "both", code=2))
    assert len(records(home)) == 4


# -- dialects, bytes and lines ----------------------------------------------------------------------------------------


def test_a_system_crontab_is_known_by_its_users(bring, table, home):
    """A line whose command begins with a user is refused as a user's crontab; --system takes the user off."""
    source = table(f"17 *\t* * *\troot\tcd / && run-parts /etc/cron.hourly\n*/5 * * * * {ME} /usr/bin/php x.php\n")
    assert "line 1 of the crontab: its command begins with the user 'root'" in said(bring(source, code=2))
    done = bring(source, "--system")
    mine = [job["name"] for job in done["jobs"]]
    assert "/usr/bin/php x.php" in mine
    if ME != "root":
        assert "it runs as root, and this is" in done["left_out"][0]
    assert bring(source, "--system")["jobs"][0]["action"] == "keep"
    assert "it has no user and command after its times" in said(
        bring(table("* * * * * /bin/true\n"), "--system", code=2)
    )
    other = "nobody" if ME != "nobody" else "root"
    assert f"no line of the crontab runs as {ME}" in said(
        bring(table(f"* * * * * {other} /bin/true\n"), "--system", code=2)
    )


def test_a_user_among_other_commands_is_noted(bring, table, home):
    """Where other lines begin with programs, it is a user's crontab, whose line cannot run: that is said."""
    done = bring(table("0 3 * * * root x\n0 4 * * * /bin/true y\n"))
    assert [note for note in done["notes"] if "begins with 'root', which is a user here" in note]
    assert len(records(home)) == 2


def test_a_program_that_is_called_like_a_user_is_a_program(bring, table, home, tmp_path):
    """`root` in the PATH is no user column."""
    (tmp_path / "root").write_text("#!/bin/sh\n")
    (tmp_path / "root").chmod(0o755)
    bring(table("* * * * * root x\n"), env={"PATH": str(tmp_path)})
    assert only(home)["chronos"]["action"] == {"shell": "root x"}


@pytest.mark.parametrize(("text", "reason"), [
    (b"# fine\n* * * * * echo a\0b\n", "line 2 of the crontab: it has a NUL character, where cron ends the line: put"),
    (b"HOME=here\n* * * * * x\n", "line 2 of the crontab: HOME=here is no absolute path"),
    (b"X='a\n* * * * * x\n", "line 1 of the crontab: 'X='a' has no command after its times"),
    (b"* * * * *  \n", "has no command after its times"),
    (b"* * * 13 * x\n", "line 1 of the crontab: '* * * 13 *' is not a cron expression: bad month"),
])  # fmt: skip
def test_what_cannot_be_taken_over_is_refused_by_its_line(bring, table, home, text, reason):
    """Nothing comes in of a crontab with such a line."""
    assert reason in said(bring(table(text), code=2))
    assert not (home / "cron" / "jobs.json").exists()


def test_only_a_line_feed_ends_a_line(bring, table, home, monkeypatch):
    """Other breaks are part of a command, comments may hold any byte, and a file and standard input read the same."""
    text = "\ufeff# caf\u00e9\n  \t\n* * * * * printf 'a\fb\u2028c'\r\n* * * * * last".encode() + b"\n# \xe9\n"
    done = bring(table(text))
    assert [record["chronos"]["action"]["shell"] for record in records(home).values()] == [
        "printf 'a\fb\u2028c'\r",
        "last",
    ]
    assert any("line 3 ends with a carriage return" in note for note in done["notes"])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert {job["action"] for job in bring("-")["jobs"]} == {"keep"}


def test_what_triggers_a_home_is_no_job(chronos, bring, table, home):
    """The line of `tick --install crontab` is left out by name; so is @reboot."""
    line = chronos("tick", "--install", "crontab", home=home).out
    done = bring(table(f"{line}@reboot x\nMAILTO=ops@example.com\nRANDOM_DELAY=5\n0 1 * * * y\n"))
    assert ["what triggers a home" in done["left_out"][0], "@reboot" in done["left_out"][1]] == [True, True]
    assert any("ops@example.com" in note and "--on-failure" in note for note in done["notes"])
    assert any("RANDOM_DELAY" in note for note in done["notes"])
    assert only(home)["name"] == "y"


# -- again ------------------------------------------------------------------------------------------------------------


def test_an_edited_crontab_changes_its_jobs(chronos, bring, table, home):
    """Another hour changes the job, a PATH line changes its environment alone; there is one job per line all the time."""
    bring(table("0 3 * * * /usr/local/bin/backup\n", "first"))
    job_id = only(home)["id"]
    chronos("job", "edit", job_id, "--retries", "2", "--name", "mine", home=home)
    assert bring(table("0 4 * * * /usr/local/bin/backup\n", "second"))["jobs"][0]["action"] == "change"
    assert (only(home)["id"], only(home)["schedule"]["expr"]) == (job_id, "0 4 * * *")
    before = only(home)
    bring(table("PATH=/opt/bin\n0 4 * * * /usr/local/bin/backup\n", "third"))
    after = only(home)
    assert after["chronos"]["env"]["PATH"] == "/opt/bin"
    assert (after["name"], after["chronos"]["policy"], after["next_run_at"]) == (
        "mine",
        {"retries": 2},
        before["next_run_at"],
    )
    assert bring(table("PATH=/opt/bin\n0 4 * * * /usr/local/bin/backup\n", "other"))["jobs"][0]["action"] == "keep"


def test_equal_lines_are_as_many_jobs(bring, table, home):
    """Cron runs a line that stands there twice twice."""
    bring(table("0 3 * * * x\n0 3 * * * x\n0 5 * * * x\n"))
    assert sorted(record["schedule"]["expr"] for record in records(home).values()) == [
        "0 3 * * *",
        "0 3 * * *",
        "0 5 * * *",
    ]


def test_a_line_that_is_gone_is_named_and_pruned_where_asked(chronos, bring, table, home):
    """Without --prune the job stays and is named; a job that was no line of this crontab is left alone."""
    chronos("job", "add", "@daily", "--id", "mine", "--shell", "true", home=home)
    bring(table("0 3 * * * x\n0 4 * * * y\n"))
    gone = next(job_id for job_id, record in records(home).items() if record["name"] == "y")
    done = chronos("job", "import", table("0 3 * * * x\n"), "--from", "crontab", home=home)
    assert f"no longer in the crontab: {gone} (y)" in done.err
    assert gone in records(home)
    assert bring(table("0 3 * * * x\n"), "--prune")["jobs"][-1] == {
        "action": "remove",
        "job_id": gone,
        "name": "y",
        "schedule": "",
    }
    assert {record["name"] for record in records(home).values()} == {"x", "mine"}
    shown = chronos("job", "import", table(""), "--from", "crontab", "--prune", "--dry-run", home=home)
    assert "Plan: 0 to add, 0 to change, 0 to keep, 1 to remove. Nothing was changed." in shown.out


@pytest.mark.parametrize(("action", "line"), [
    (("--shell", "/usr/local/bin/backup"), "0 4 * * * /usr/local/bin/backup"),
    (("--shell", "export A='b c' B=d; /usr/local/bin/backup"), "0 3 * * * /usr/local/bin/backup"),
    (("--shell", "{ cat\n} <<'CHRONOS_STDIN'\na\nb %\nCHRONOS_STDIN"), "0 3 * * * cat%a%b \\%"),
    (("--", "/bin/bash", "-c", "export A=b; echo {1..2}"), "0 3 * * * echo {1..2}"),
])  # fmt: skip
def test_jobs_of_the_first_way_of_importing_are_taken_over(chronos, bring, table, home, action, line):
    """They were known by a hash of everything: the line's command finds them, whatever its hour and settings are now."""
    chronos("job", "add", "0 3 * * *", "--id", "cron-0badcafe", *action, home=home)
    done = bring(table(f"A=b\n{line}\n"))
    assert [(job["action"], job["job_id"]) for job in done["jobs"]] == [("change", "cron-0badcafe")]
    assert "export" not in json.dumps(only(home)["chronos"]["action"])
    assert bring(table(f"A=b\n{line}\n"))["jobs"][0]["action"] == "keep"


# -- the plan and the source ------------------------------------------------------------------------------------------


def test_a_dry_run_shows_each_line_with_its_times_in_both_programs(chronos, bring, table, home):
    """Per line: what it becomes, its zone, and its next two times here and under Debian's cron."""
    source = table("0 3 * * * x\nCRON_TZ=Asia/Tokyo\n0 4 * * * y\n")
    env = {"TZ": "Europe/Berlin"}
    done = bring(source, "--dry-run", env=env)
    first, second = done["jobs"]
    assert (first["line"], first["timezone"], len(first["next"])) == (1, "Europe/Berlin", 2)
    assert first["next"] == first["cron_next"]
    assert second["next"] != second["cron_next"]
    assert len(second["cron_next"]) == 2
    shown = chronos("job", "import", source, "--from", "crontab", "--dry-run", home=home, env=env).out
    assert "line 1, Europe/Berlin: " in shown
    assert "cron: the same" in shown
    assert not (home / "cron" / "jobs.json").exists()


FAKE = """#!/bin/sh
case "$1" in
-l) cat "$FAKE/table"; test -z "$CHANGES" || echo >> "$FAKE/table" ;;
-) test -z "$REFUSES" || { echo no room >&2; exit 1; }; cat > "$FAKE/table" ;;
-r) rm "$FAKE/table" ;;
esac
"""


@pytest.fixture
def own(tmp_path):
    """A machine with a crontab program of its own."""
    folder = tmp_path / "machine"
    folder.mkdir()
    (folder / "crontab").write_text(FAKE)
    (folder / "crontab").chmod(0o755)
    return folder


def own_import(chronos, home, own, *options, **more):
    env = {"PATH": f"{own}:{os.environ['PATH']}", "FAKE": str(own), **more}
    return chronos("job", "import", "--from", "crontab", "--json", *options, home=home, env=env)


def test_the_lines_are_taken_out_of_the_users_crontab_when_asked(chronos, home, own):
    """After success, and only what became a job; what it held is kept for its owner alone."""
    text = b"# mine\nA=b\n0 3 * * * x\n@reboot y\n*/5 * * * * z \xc3\xa9\n"
    (own / "table").write_bytes(text)
    assert own_import(chronos, home, own, "--disable-source", "--dry-run").json["backup"] is None
    assert (own / "table").read_bytes() == text
    done = own_import(chronos, home, own, "--disable-source")
    assert (own / "table").read_bytes() == b"# mine\nA=b\n@reboot y\n"
    kept = Path(done.json["backup"])
    assert kept.read_bytes() == text
    assert kept.stat().st_mode & 0o777 == 0o600
    assert len(records(home)) == 2


def test_a_crontab_of_jobs_alone_is_gone_afterwards(chronos, home, own):
    """Where nothing is left there is no crontab."""
    (own / "table").write_text("0 3 * * * x\n")
    assert own_import(chronos, home, own, "--disable-source").code == 0
    assert not (own / "table").exists()


def test_a_crontab_that_changed_or_takes_nothing_is_left_as_it_is(chronos, home, own):
    """The jobs are in, the lines stay, and the reason is said."""
    (own / "table").write_text("0 3 * * * x\n")
    done = own_import(chronos, home, own, "--disable-source", CHANGES="1")
    assert (done.code, "the crontab has changed since it was read" in done.err) == (6, True)
    (own / "table").write_text("0 3 * * * x\n\n# more\n")
    done = own_import(chronos, home, own, "--disable-source", REFUSES="1")
    assert (done.code, "crontab took no change: no room" in done.err) == (2, True)
    assert "0 3 * * * x" in (own / "table").read_text()
    done = own_import(chronos, home, own, str(own / "table"), "--disable-source")
    assert (done.code, "--disable-source is for your own crontab" in done.err) == (2, True)


def test_options_of_crontabs_are_for_crontabs(chronos, home, table):
    """`--prune` and its like mean nothing for a document."""
    done = chronos("job", "import", table("{}"), "--prune", home=home)
    assert (done.code, "an option of other schedulers is given: say --from crontab" in done.err) == (2, True)


@pytest.mark.parametrize("line", ["0 0 3 * * *  ", "0 0 3 * * *", "0 3 * * * 0 \t", "0 0 3 * * * *"])
def test_fields_of_seconds_without_a_command_are_refused(bring, table, line):
    """A blank at the end is no command either."""
    assert "line 1 of the crontab: " in said(bring(table(f"{line}\n"), "--seconds", "first", code=2))
    assert "line 1 of the crontab: " in said(bring(table("rate(5 minutes)\n"), "--seconds", "first", code=2))
