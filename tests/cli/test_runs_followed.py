"""Following runs: output while it comes, the end of it, Ctrl-C, and rows of a time or a state."""

import json
import os
import signal
import time

import pytest

from chronos_cli.cli.echo import OutputEcho
from chronos_cli.errors import TemporaryError
from chronos_cli.hermes.run import _run_now
from chronos_cli.operations.firing import launchers
from chronos_cli.operations.jobs import edit
from chronos_cli.operations.views.logs import last_lines
from tests import forked

GO_ON = "echo first; while [ ! -e go ]; do sleep 0.02; done; printf last"


@pytest.fixture
def begin(chronos, home, tmp_path):
    """Starts `chronos run` of a job as a process of its own, with stdout a pipe."""
    started = []

    def run(line, *options):
        assert (
            chronos(
                "job", "add", "@yearly", "--id", "a", "--workdir", tmp_path, *options, "--shell", line, home=home
            ).code
            == 0
        )
        process = forked.start(["--home", str(home), "run", "a"], env=os.environ)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_output_is_shown_while_the_job_runs(begin, tmp_path):
    """The first line is there before the job ends; the last one is ended; nothing is said twice."""
    process = begin(GO_ON)
    assert process.stdout.readline() == "first\n"
    assert process.poll() is None
    (tmp_path / "go").touch()
    out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("last\n", 0)
    assert ": ok in" in err


def test_several_are_shown_side_by_side_and_timed_each(chronos, home, tmp_path):
    """Whole lines, each after its job's name, while all go; none waits for another's end, or outlives its timeout."""
    lines = {
        "a": "echo first; until [ -e go ]; do sleep 0.02; done; printf last",
        "much": "yes | head -c 200000; exit 1",
        "slow": "sleep 60",
    }
    for name, line in lines.items():
        words = ("--workdir", tmp_path, "--timeout", "1s" if name == "slow" else "30s")
        assert chronos("job", "add", "@yearly", "--id", name, *words, "--shell", line, home=home).code == 0
    process = forked.start(["--home", str(home), "run", "a", "much", "slow"], env=os.environ)
    try:
        said = [process.stdout.readline() for _ in range(100_001)]
        assert sorted(set(said)) == ["a    | first\n", "much | y\n"]
        assert process.poll() is None
        began = time.monotonic()
        while not chronos("history", "slow", "--state", "timeout", "--json", home=home).json["rows"]:
            assert time.monotonic() - began < 20
            time.sleep(0.1)
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert (out, process.returncode) == ("a    | last\n", 10)
    assert "2 of 3 failed: much, slow" in err


def test_ctrl_c_ends_the_run_and_says_so(begin, chronos, home):
    """Exit 130, and the run is on record as interrupted."""
    process = begin(GO_ON)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted: the run was ended (with --detach it would have gone on)" in err
    (row,) = chronos("history", "a", "--json", home=home).json["rows"]
    assert row["state"] == "interrupted"


def test_a_reader_that_stands_still_holds_up_no_timeout(begin, chronos, home):
    """The run ends by its timeout, though nobody takes what it says."""
    begin("yes 0123456789", "--timeout", "1s")
    began = time.monotonic()
    while not (rows := chronos("history", "a", "--state", "timeout", "--json", home=home).json["rows"]):
        assert time.monotonic() - began < 20
        time.sleep(0.1)
    assert rows[0]["reason"].startswith("killed after its timeout of")


def test_what_waits_for_a_reader_is_bounded(monkeypatch):
    """The newest stays, and a line says that some is missing."""
    said = []

    class Out:
        gone = False

        def text(self, data):
            said.append(data if isinstance(data, bytes) else data.encode())

        def flush(self):
            """Nothing waits here."""

    echo = OutputEcho(Out())
    monkeypatch.setattr(OutputEcho, "_can_write", lambda _: False)
    for _ in range(40):
        echo.show(b"x" * 65_536)
    echo.show(b"end")
    assert said == []
    echo.finish()
    whole = b"".join(said)
    assert whole.startswith(b"\n[... some output was left out here ...]\n")
    assert whole.endswith(b"xend\n")
    assert len(whole) < 1_100_000


@pytest.mark.parametrize(
    ("count", "left"),
    [(None, b"a\nb\nc\n"), (0, b""), (1, b"c\n"), (2, b"b\nc\n"), (3, b"a\nb\nc\n"), (9, b"a\nb\nc\n")],
)
def test_the_last_lines_of_an_output(count, left):
    """With and without the newline at its end."""
    assert last_lines(b"a\nb\nc\n", count) == left
    assert last_lines(b"a\nb\nc", count) == left.removesuffix(b"\n")


def test_logs_of_the_end_alone(chronos, home):
    """Read, and followed."""
    chronos("job", "add", "@yearly", "--id", "a", "--shell", "seq 5", home=home)
    chronos("run", "a", home=home)
    for more in ((), ("-f",)):
        assert chronos("logs", "a", "--tail", "2", *more, home=home).out == "4\n5\n"


def test_rows_of_a_time_and_a_state(chronos, home):
    """Spans back from now, dates and times; several states; the count is of what is asked for."""
    for job_id, line in (("good", "true"), ("bad", "false")):
        chronos("job", "add", "@yearly", "--id", job_id, "--shell", line, home=home)
        chronos("run", job_id, home=home)

    def found(*options):
        done = chronos("history", *options, "--json", home=home)
        assert done.code == 0, done.err
        return sorted(row["job_id"] for row in done.json["rows"])

    assert found("--since", "1h") == ["bad", "good"]
    assert found("--until", "1h") == []
    assert found("--since", "2020-01-01", "--until", "2099-01-01T00:00:00Z", "--state", "failed,missed") == ["bad"]
    assert found("--state", "ok", "--state", "failed") == ["bad", "good"]
    assert found("--state", "ok", "-n", "1") == ["good"]
    assert "nothing that is asked for has run" in chronos("history", "--until", "1h", home=home).err


@pytest.mark.parametrize(
    ("options", "reason"),
    [(("--since", "maybe"), "--since is 'maybe'"), (("--until", "9999999999999d"), "--until is '"), (("--state", "fine"), "--state is 'fine'")],
)  # fmt: skip
def test_a_time_or_state_that_is_none_is_refused(chronos, home, options, reason):
    """One line, exit 2."""
    done = chronos("history", *options, home=home)
    assert (done.code, reason in done.err) == (2, True), done.err


def test_a_run_is_given_variables_and_input_of_its_own(chronos, home, tmp_path):
    """For this run alone: nothing of it is stored, and what the job has of its own stays."""
    line = 'echo "$A $B"; cat'
    chronos(
        "job",
        "add",
        "@yearly",
        "--id",
        "a",
        "--env",
        "A=1",
        "--env",
        "B=2",
        "--retries",
        "1",
        "--shell",
        line,
        home=home,
    )
    before = (home / "cron" / "jobs.json").read_text()
    (tmp_path / "in").write_text("given input\n")
    ran = chronos("run", "a", "--env", "B=canary-b", "--input", tmp_path / "in", home=home)
    assert (ran.out, ran.code) == ("1 canary-b\ngiven input\n", 0), ran.err
    after = (home / "cron" / "jobs.json").read_text()
    assert '"env": {"A": "1", "B": "2"}' in " ".join(before.split()).replace("{ ", "{").replace(" }", "}")
    assert "canary-b" not in after
    assert "given input" not in after
    assert chronos("run", "a", home=home).out == "1 2\n"


def test_a_run_that_was_given_something_is_not_retried(chronos, home):
    """Nobody else has what it was given."""
    chronos("job", "add", "@yearly", "--id", "a", "--retries", "3", "--shell", "exit $C", home=home)
    assert chronos("run", "a", "--env", "C=7", home=home).code == 10
    (row,) = chronos("history", "a", "--json", home=home).json["rows"]
    assert (row["state"], row["exit_status"], len(row["attempts"])) == ("failed", 7, 1)


def test_a_job_makes_up_for_a_range_of_its_schedule(chronos, home):
    """Each run is told its own time; dates are whole days in the job's zone; the plan runs nothing."""
    line = "echo ran $CHRONOS_FIRE_AT; case $CHRONOS_FIRE_AT in *-03T*) exit 1;; esac"
    chronos("job", "add", "30 9 * * *", "--id", "a", "--tz", "Europe/Berlin", "--shell", line, home=home)
    words = ("run", "a", "--backfill", "2026-01-02..2026-01-04")
    plan = chronos(*words, "--dry-run", home=home)
    assert (plan.code, len(plan.out.splitlines()), plan.out.count("09:30")) == (0, 3, 3)
    assert chronos("history", "--json", home=home).json["rows"] == []
    cursor = json.loads((home / "cron" / "jobs.json").read_text())["jobs"][0]["next_run_at"]
    ran = chronos(*words, home=home)
    assert ran.out.splitlines() == [f"ran 2026-01-0{day}T08:30:00+00:00" for day in (2, 3, 4)]
    assert (ran.code, "1 of 3 runs failed" in ran.err) == (10, True)
    rows = chronos("history", "a", "--json", home=home).json["rows"]
    assert sorted(row["because"] for row in rows) == [f"made up for 2026-01-0{day}T08:30:00+00:00" for day in (2, 3, 4)]
    assert {row["kind"] for row in rows} == {"manual"}
    assert json.loads((home / "cron" / "jobs.json").read_text())["jobs"][0]["next_run_at"] == cursor
    said = chronos("run", "a", "--backfill", "2026-01-02T00:00..2026-01-02T12:00", "--json", home=home).json
    assert (said["backfill"], len(said["rows"])) == (["2026-01-02T08:30:00+00:00"], 1)


@pytest.mark.parametrize(
    ("zone", "schedule", "given", "times"),
    [
        # Clocks in Berlin go forward at 02:00 on 2026-03-29, and back at 03:00 on 2026-10-25; at midnight in Havana.
        ("Europe/Berlin", "30 2 * * *", "2026-03-28..2026-03-30", ["28T01:30", "29T01:00", "30T00:30"]),
        ("Europe/Berlin", "0 * * * *", "2026-03-29T01:00..2026-03-29T03:00", ["29T00:00", "29T01:00"]),
        ("Europe/Berlin", "*/30 * * * *", "2026-10-25T02:00..2026-10-25T02:00",
         ["25T00:00", "25T00:30", "25T01:00"]),
        ("America/Havana", "0 */12 * * *", "2024-11-03..2024-11-03", ["03T04:00", "03T05:00", "03T17:00"]),
        ("Europe/Berlin", "30 9 * * *", "20260102..20260103", ["02T08:30", "03T08:30"]),
        ("Europe/Berlin", "30 9 * * *", "2026-01-02T09:30+01:00..2026-01-02T08:30Z", ["02T08:30"]),
        ("Europe/Berlin", "30 9 * * *", "2026-01-02T10:00..2026-01-03T09:00", []),
    ],
)  # fmt: skip
def test_a_range_is_in_the_zone_of_the_job(chronos, home, zone, schedule, given, times):
    """Both ends count; a day is all of it, and of a time that comes twice both are in it."""
    chronos("job", "add", schedule, "--id", "a", "--tz", zone, "--shell", "true", home=home)
    done = chronos("run", "a", "--backfill", given, "--dry-run", "--json", home=home)
    assert [at[8:16] for at in done.json["backfill"]] == times, done.err
    said = chronos("run", "a", "--backfill", given, "--dry-run", home=home)
    assert (said.code, len(said.out.splitlines())) == (0, len(times))
    assert times or "no time of its schedule lies in the range; nothing was run" in said.err


def test_the_plan_says_what_was_made_up_for_already(chronos, home):
    """By the schedule itself, or by a run for it."""
    chronos("job", "add", "30 9 * * *", "--id", "a", "--tz", "UTC", "--shell", "true", home=home)
    assert "1 run\n" in chronos("run", "a", "--backfill", "2026-01-02..2026-01-02", home=home).err
    plan = chronos("run", "a", "--backfill", "2026-01-02..2026-01-03", "--dry-run", home=home).out.splitlines()
    assert [line.endswith("  (has a row already)") for line in plan] == [True, False]


def test_what_has_started_is_waited_for_where_the_next_cannot_start(chronos, home, monkeypatch):
    """A run that nobody waited for would end with its command, in the midst of its work."""
    waited = []

    class Begun:
        def first_of(self, others):
            return self

        def wait(self):
            waited.append("to its end")

    def launch_each(*_):
        yield Begun()
        raise TemporaryError("no lock can be had")

    monkeypatch.setattr(launchers, "launch_each", launch_each)
    chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home)
    for words in (("a",), ("a", "--backfill", "2026-01-02..2026-01-02")):
        done = chronos("run", *words, home=home)
        assert (done.code, "no lock can be had" in done.err, waited.pop()) == (75, True, "to its end")
    monkeypatch.setattr(edit, "claim_manual", lambda *_: None)
    with pytest.raises(TemporaryError):
        _run_now(None, {"job_id": "a"})
    assert waited == ["to its end"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--backfill", "0001-01-01..0001-01-02"), "--backfill is '0001-01-01..0001-01-02'"),
        (("--backfill", "2026-01-01..9999-12-31T23:00-05:00"), "--backfill is '2026-01-01..9999-12-31T23:00-05:00'"),
        (("--backfill", "2026-01-01.."), "--backfill is '2026-01-01..'"),
        (("--backfill", "2999-01-01..2999-01-02"), "the range of --backfill lies ahead"),
        (("--backfill", "yesterday"), "--backfill is 'yesterday'"),
        (("--backfill", "2026-01-05..2026-01-01"), "--backfill is '2026-01-05..2026-01-01'"),
        (("--backfill", "2020-01-01..2026-01-01"), "the range has more than 100 runs"),
        (
            ("--backfill", "2026-01-01..2026-01-02", "--detach"),
            "--backfill goes with neither --detach, --env nor --input",
        ),
        (("--dry-run",), "--dry-run belongs to --backfill"),
        (("a", "--input", "x"), "--env, --input and --backfill are for one job"),
        (("--input", "/not/there"), "/not/there cannot be read: No such file or directory"),
        (("--env", "A"), "--env is NAME=VALUE"),
    ],
)
def test_a_run_that_cannot_be_meant_is_refused(chronos, home, options, reason):
    """One line, exit 2, and nothing runs."""
    chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home)
    done = chronos("run", "a", *options, home=home)
    assert (done.code, reason in done.err) == (2, True), done.err
    assert chronos("history", "--json", home=home).json["rows"] == []


def test_an_input_that_no_job_can_be_given_is_refused(chronos, home, tmp_path):
    """Bytes that are no text, too many of them, and a job that reads none."""
    chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home)
    chronos("job", "add", "@daily", "--id", "web", "--http", "http://127.0.0.1:1/", home=home)
    (tmp_path / "bytes").write_bytes(b"\xff")
    (tmp_path / "long").write_bytes(b"x" * (1 << 20) + b"x")
    for job, name, reason in (
        ("a", "bytes", "is no UTF-8 text"),
        ("a", "long", "is longer than 1 MiB"),
        ("web", "long", "--input needs a job with a command or a shell line"),
    ):
        done = chronos("run", job, "--input", tmp_path / name, home=home)
        assert (done.code, reason in done.err) == (2, True), done.err
