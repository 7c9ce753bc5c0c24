"""Timers as people's machines have them: drop-ins, conditions, several commands on a line, what cannot be had here."""

import pytest

from chronos_cli.operations.foreign.units import drop_ins
from tests.cli.test_import_timers import bring, records, units

__all__ = ["bring", "units"]


def left_out(units, bring, timer, service):
    units("OnCalendar=daily", name="good")
    return bring(units(timer, service))["left_out"]


@pytest.mark.parametrize(("line", "words"), [
    ("/bin/echo a ; /bin/echo b", {"shell": "/bin/echo a && /bin/echo b"}),
    ("/usr/bin/find / -exec rm {} \\;", {"command": ["/usr/bin/find", "/", "-exec", "rm", "{}", ";"]}),
    ("/bin/sh -c 'a ; b' ;c d; \";\"", {"command": ["/bin/sh", "-c", "a ; b", ";c", "d;", ";"]}),
    ("/bin/echo a\u2028b \\", {"command": ["/bin/echo", "a\u2028b"]}),
])  # fmt: skip
def test_a_semicolon_of_its_own_separates_commands(units, bring, home, line, words):
    """In quotes, behind a backslash or within a word it is a letter; only a line feed ends a line."""
    bring(units("OnCalendar=daily", f"ExecStart={line}"))
    assert records(home)["job"]["chronos"]["action"] == words


def test_the_users_own_variables_are_known(units, bring, home, tmp_path):
    """HOME and USER are a service's without Environment, too."""
    bring(units("OnCalendar=daily", "ExecStart=/bin/echo ${HOME}/x $NONE"))
    assert records(home)["job"]["chronos"]["action"] == {"command": ["/bin/echo", f"{tmp_path}/x"]}


def test_drop_ins_count(units, bring, home):
    """`systemctl edit` writes them: they add to the unit in the order of their names, and an empty value takes back."""
    folder = units("OnCalendar=daily", "ExecStart=/bin/a\nEnvironment=A=1")
    for name, text in (("job.timer.d/20.conf", "[Timer]\nOnCalendar=\nOnCalendar=05:30\n"), ("job.timer.d/10.conf", "[Timer]\nOnCalendar=01:00\n"),
                       ("job.service.d/x.conf", "[Service]\nEnvironment=B=2\nExecStart=\nExecStart=/bin/b\n")):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    bring(folder)
    job = records(home)["job"]
    assert (len(records(home)), job["schedule"]["expr"]) == (1, "30 5 * * *")
    assert (job["chronos"]["action"], job["chronos"]["env"]) == ({"command": ["/bin/b"]}, {"A": "1", "B": "2"})


def test_drop_ins_by_prefix_and_by_type_count(units, bring, home):
    """What stands nearer to the unit's name hides a file of the same name farther away; hidden files are none."""
    folder = units("OnCalendar=daily", "ExecStart=/bin/a", name="db-backup-full")
    for name, text in (("service.d/1.conf", "[Service]\nEnvironment=T=type\nEnvironment=X=1"), ("db-.service.d/1.conf", "[Service]\nEnvironment=T=db"),
                       ("db-backup-.service.d/2.conf", "[Service]\nEnvironment=U=backup"), ("db-backup-full.service.d/2.conf", "[Service]\nEnvironment=U=full"),
                       ("service.d/3.conf", "[Service]\nEnvironment=V=type"), ("backup-full.service.d/4.conf", "[Service]\nEnvironment=W=no"),
                       ("service.d/.5.conf", "[Service]\nEnvironment=W=no"), ("timer.d/1.conf", "[Timer]\nOnCalendar=\nOnCalendar=04:00"),
                       ("db-.timer.d/2.conf", "[Timer]\nRandomizedDelaySec=90")):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    bring(folder)
    job = records(home)["db-backup-full"]
    assert job["chronos"]["env"] == {"T": "db", "U": "full", "V": "type"}
    assert (job["schedule"]["expr"], job["chronos"]["policy"]["jitter"]) == ("0 4 * * *", 90)


@pytest.mark.parametrize(("name", "beginnings"), [
    ("a.timer", []), ("-a.timer", []), ("a-.timer", []), ("a--b.timer", ["a--", "a-"]), ("a-b-c.timer", ["a-b-", "a-"]),
])  # fmt: skip
def test_the_beginnings_of_a_units_name(tmp_path, name, beginnings):
    """As systemd cuts it at its dashes, a dash at its end aside."""
    every = {f"{stem}.timer.d" for stem in ("a", "-", "-a", "a-", "a--", "a--b", "a-b-", "a-b", "b", "-b", "c")}
    for place in every:
        (tmp_path / place).mkdir()
        (tmp_path / place / f"{place}.conf").touch()
    found = {one.parent.name for one in drop_ins(tmp_path / name)}
    assert found - {f"{name}.d"} == {f"{stem}.timer.d" for stem in beginnings}


def test_a_condition_that_a_file_decides_leaves_it_out(units, bring):
    """It would run where it must not; what a machine must be is noted, and so is what is started besides."""
    for key in ("ConditionPathExists=!/run/x", "AssertFileNotEmpty=/etc/x"):
        (line,) = left_out(units, bring, "OnCalendar=daily", f"ExecStart=/bin/true\n[Unit]\n{key}")
        assert f"{key.partition('=')[0]} decides whether it runs" in line
    said = bring(units("OnCalendar=daily\nDeferReactivation=yes", "ExecStart=/bin/true\nGroup=x\nStandardOutput=append:/x\nRemainAfterExit=yes\n[Unit]\n"
                       "Description=d\nConditionACPower=true\nAfter=network.target\nOnFailure=mail@%n.service"))  # fmt: skip
    assert said["notes"][-2:] == [
        "job.timer: not taken over: After, ConditionACPower, DeferReactivation, Group, RemainAfterExit, StandardOutput",
        "job.timer: OnFailure starts nothing here: --on-failure names a program that hears of failures",
    ]


def test_a_folder_must_be_whole_and_a_week_ends_on_sunday(units, bring, home):
    """`Sun..Sun` is one day; a relative folder is none."""
    (line,) = left_out(units, bring, "OnCalendar=daily", "ExecStart=/bin/true\nWorkingDirectory=here")
    assert "WorkingDirectory=here is no whole path" in line
    bring(units("OnCalendar=Sun..Sun 03:00"))
    assert records(home)["job"]["schedule"]["expr"] == "0 3 * * 7"


@pytest.mark.parametrize(
    ("limit", "noted"), [("", True), ("TimeoutStartSec=infinity\n", True), ("TimeoutStartSec=5min\n", False)]
)
def test_a_service_without_a_time_limit_is_noted(bring, tmp_path, limit, noted):
    """There its runs go on for ever; here the home's timeout ends them."""
    folder = tmp_path / "units"
    folder.mkdir()
    (folder / "job.timer").write_text("[Timer]\nOnCalendar=daily\n")
    (folder / "job.service").write_text(f"[Service]\nType=oneshot\n{limit}ExecStart=/bin/true\n")
    assert any("no time limit there" in note for note in bring(folder)["notes"]) is noted
