"""Instances of timers and their specifiers, masked units, and names of CronJobs that are no texts."""

import subprocess

import pytest

from chronos_cli.operations.foreign.units import unescaped
from tests.cli.test_import_cronjobs import cron_job
from tests.conftest import require_program


@pytest.fixture
def bring(chronos, home, tmp_path):
    """Writes the units of a folder, and imports it; the jobs by their ids, and why others are left out."""
    place = tmp_path / "units"
    place.mkdir()

    def run(units=(), code=0):
        for name, text in dict(units).items():
            (place / name).write_text(text)
        done = chronos("job", "import", place, "--from", "systemd", "--json", home=home)
        assert done.code == code, done.out + done.err
        records = {job["job_id"]: job for job in done.json.get("jobs", [])}
        return records, done.json.get("left_out", [])

    run.place = place
    return run


def command_of(chronos, home, job_id):
    return chronos("job", "show", job_id, "--json", home=home).json["job"]


TIMER = "[Timer]\nOnCalendar=%i\nUnit=%p@%i.service\n"
SERVICE = "[Unit]\nDescription=Backup of %i\n[Service]\nExecStart=/bin/echo %i %I %p %j %n %N\nEnvironment=A=%i\n"


def test_the_instances_of_a_template_are_jobs(chronos, bring, home):
    """Those in the folder, and those that are enabled in it: each with its own name in its times and its words."""
    wants = bring.place / "timers.target.wants"
    wants.mkdir()
    (wants / "my-job@weekly.timer").symlink_to("../my-job@.timer")
    (bring.place / "my-job@daily.timer").symlink_to("my-job@.timer")
    jobs, left_out = bring({"my-job@.timer": TIMER, "my-job@.service": SERVICE})
    assert left_out == []
    assert {job_id: (job["schedule"], job["name"]) for job_id, job in jobs.items()} == {
        "my-job.daily": ("0 0 * * *", "Backup of daily"), "my-job.weekly": ("0 0 * * 1", "Backup of weekly")}  # fmt: skip
    shown = str(command_of(chronos, home, "my-job.daily"))
    assert "my-job@daily.service" in shown
    assert "job" in shown
    jobs, _ = bring()
    assert {job["action"] for job in jobs.values()} == {"keep"}


def test_an_instance_of_its_own_counts_before_its_template(bring):
    """A file of its name, and drop-ins of both."""
    (bring.place / "x@.timer.d").mkdir()
    (bring.place / "x@.timer.d" / "a.conf").write_text("[Timer]\nOnCalendar=\nOnCalendar=hourly\n")
    (bring.place / "x@b.timer.d").mkdir()
    (bring.place / "x@b.timer.d" / "b.conf").write_text("[Timer]\nOnCalendar=12:00\n")
    jobs, _ = bring({"x@b.timer": "[Timer]\nOnCalendar=daily\n", "x@.timer": "[Timer]\nOnCalendar=weekly\n",
                       "x@.service": SERVICE})  # fmt: skip
    assert [(job_id, job["schedule"]) for job_id, job in jobs.items()] == [
        ("x.b", "0 * * * *"),
        ("x.b-2", "0 12 * * *"),
    ]


def test_a_template_alone_and_masked_units_are_left_out_by_name(bring):
    """Neither starts anything; and a timer that would start nothing says so before its service is looked for."""
    (bring.place / "masked.timer").symlink_to("/dev/null")
    jobs, left_out = bring({
        "good.timer": "[Timer]\nOnCalendar=daily\n", "good.service": "[Service]\nExecStart=/bin/true\n",
        "t@.timer": TIMER, "empty.timer": "", "boot.timer": "[Timer]\nOnBootSec=5min\n"})  # fmt: skip
    assert list(jobs) == ["good"]
    assert left_out == [
        "boot.timer: OnBootSec is a start, once, of the machine or the timer: keep it there",
        "empty.timer: empty.timer is empty: it is masked, and starts nothing: unmask it, or leave it so",
        "masked.timer: masked.timer is empty: it is masked, and starts nothing: unmask it, or leave it so",
        "t@.timer: it is a template, which starts nothing itself: name t@INSTANCE.timer",
    ]


NAMES = [("home-user", "home/user"), ("a\\x2db", "a-b"), ("caf\\xc3\\xa9", "caf\u00e9"), ("plain", "plain")]


@pytest.mark.parametrize(("escaped", "plain"), NAMES)
def test_names_are_unescaped(escaped, plain):
    """As `%I` has them."""
    assert unescaped(escaped) == plain


@pytest.mark.service
@pytest.mark.parametrize(("escaped", "plain"), NAMES)
def test_systemd_unescapes_names_so_too(escaped, plain):
    """Its own program says so."""
    done = subprocess.run(
        [require_program("systemd-escape"), "-u", escaped], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == plain


@pytest.mark.parametrize(("meta", "reason"), [
    ({"name": 123}, "its name is no text: put it in quotes"),
    ({"name": "x", "namespace": True}, "its namespace is no text: put it in quotes"),
])  # fmt: skip
def test_what_the_cluster_refuses_of_a_cron_job_is_refused(chronos, home, tmp_path, meta, reason):
    """A name that YAML takes for a number or a truth value."""
    import yaml

    job = cron_job("x", schedule="CRON_TZ=UTC 0 3 * * *", timeZone="Asia/Tokyo")
    job["metadata"] = meta
    path = tmp_path / "jobs.yaml"
    path.write_text(yaml.safe_dump_all([job, cron_job("good")]))
    done = chronos("job", "import", path, "--from", "kubernetes", "--json", home=home).json
    assert [one["job_id"] for one in done["jobs"]] == ["good"]
    assert done["left_out"][0].endswith(reason)
    job["metadata"] = {"name": "two-zones"}
    path.write_text(yaml.safe_dump(job))
    done = chronos("job", "import", path, "--from", "kubernetes", "--json", home=home).json
    assert done["jobs"][0]["timezone"] == "Asia/Tokyo"
    assert any(
        "it names its zone twice, which the cluster refuses: timeZone counts, not UTC" in note for note in done["notes"]
    )
