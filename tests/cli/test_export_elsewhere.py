"""Jobs in the words of other schedulers: at the same times there, or not at all; what is not said is named."""

import json
import random
from datetime import date, timedelta

import pytest
import yaml

from chronos_cli.core.cron_fields import fields_of
from chronos_cli.errors import UsageError
from chronos_cli.operations.foreign.kubernetes import their_reading
from chronos_cli.operations.foreign.kubernetes_export import their_spelling
from tests.cli.test_import_cronjobs import bring, cron_job

__all__ = ["bring"]


def clusters_days(expr):
    """Reads both days as the cluster's parser does: a star without a step, or with a step of one, joins them."""
    _, _, *fields = expr.split()
    sets, starred = [], False
    for field, low, high, names in ((fields[0], 1, 31, ""), (fields[2], 0, 6, "sunmontuewedthufrisat")):
        values = set()
        for part in field.lower().split(","):
            span, _, step = part.partition("/")
            ends = span.split("-")
            numbers = [names.index(end) // 3 if names and end in names else end for end in ends]
            first, last = (low, high) if span in "*?" else (int(numbers[0]), int(numbers[-1]))
            assert low <= first <= last <= high, expr
            last = high if step and len(ends) == 1 else last
            starred = starred or (span in "*?" and step in ("", "1"))
            values |= set(range(first, last + 1, int(step or 1)))
        sets.append(values)
    return lambda day: (all if starred else any)((day.day in sets[0], day.isoweekday() % 7 in sets[1]))


def test_days_are_the_same_in_the_cluster():
    """Whatever the days say, they are spelled so that the cluster runs on the same ones; else they are refused."""
    chance = random.Random(7)
    days = ("*", "*/2", "*/1", "1", "1-31", "1,*", "*,5", "1-7", "*/2,1", "5/10", "13,27-29")
    weeks = ("*", "*/2", "*/1", "1", "0-7", "7", "5-7", "sun-tue", "MON,7", "1,*", "*/3,1", "2/2", "1/2", "*,3/4")
    refused = 0
    for _ in range(300):
        expr = f"0 0 {chance.choice(days)} * {chance.choice(weeks)}"
        ours = fields_of(expr)
        try:
            theirs = clusters_days(their_spelling(expr))
        except UsageError:
            refused += 1
            assert ours.joined, expr
            continue
        back = fields_of(their_reading(their_spelling(expr)))
        for number in range(0, 800, 3):
            day = date(2027, 1, 1) + timedelta(days=number)
            assert ours.on_day(day) == theirs(day) == back.on_day(day), expr
    assert 0 < refused < 200


def test_a_step_without_an_end_takes_no_second_sunday():
    """A week of the cluster ends on Saturday, ours on a second Sunday."""
    assert (their_spelling("0 9 * * 1/2"), their_reading("0 9 * * mon/2")) == ("0 9 * * 0,1,3,5", "0 9 * * mon-6/2")


def add(chronos, home, job_id, schedule, *options, action=("--shell", "true")):
    done = chronos("job", "add", schedule, "--id", job_id, *options, *action, home=home)
    assert done.code == 0, done.err


def test_what_the_cluster_cannot_say_is_left_out(chronos, home):
    """Last days, numbered weekdays, both days together, single times and ends after some runs, each by name."""
    for job_id, schedule, *options in (("last", "0 0 L * *"), ("nth", "0 0 * * 1#2"), ("friday", "0 0 * * 5L"),
                                       ("both", "0 0 */2 * 1"), ("once", "in 3h"), ("counted", "0 0 * * *", "--repeat", "3")):  # fmt: skip
        add(chronos, home, job_id, schedule, *options)
    left = chronos("job", "export", "--format", "kubernetes", "--image", "i", "--json", home=home).json["left_out"]
    reason = "needs the day of the month and of the week together, and the cluster runs on either"
    assert left.pop("both") == f"'0 0 */2 * 1' {reason}: keep one of the two"
    assert left.pop("once") == "a CronJob has no such schedule: give it five fields, or an interval"
    assert left.pop("counted") == "it ends after 3 runs, and no other scheduler counts them"
    assert set(left) == {"last", "nth", "friday"}
    assert all(
        reason.endswith("is beyond the cluster's fields: give the days by their numbers") for reason in left.values()
    )
    for form in ("crontab", "systemd"):
        said = chronos("job", "export", "--format", form, "--json", home=home).json
        assert "counted" in said["left_out"]


def test_intervals_names_and_sundays_are_the_clusters(chronos, home):
    """`every` is `@every`, 7 is 0, and an id that is no name there becomes one of its own."""
    add(chronos, home, "rate", "every 90m")
    add(chronos, home, "Night_ly.X", "0 0 * * 5-7")
    add(chronos, home, "x" * 60, "@weekly")
    text = chronos("job", "export", "--format", "kubernetes", "--image", "i", home=home).out
    found = {one["spec"]["schedule"]: one for one in yaml.safe_load_all(text)}
    assert set(found) == {"@every 5400s", "0 0 * * 0,5,6", "0 0 * * 0"}
    names = [one["metadata"]["name"] for one in found.values()]
    assert names[0] == "rate"
    for name in names:
        assert len(name) <= 52
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    containers = [
        one["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["name"] for one in found.values()
    ]
    assert not any("." in name for name in containers)
    assert len(set(names)) == 3


def test_a_crontab_has_debians_fields(chronos, home):
    """A step gets its range; what is beyond the fields is left out."""
    add(chronos, home, "step", "5/10,3 0 2/7 * MON/2")
    for job_id, schedule in (("lw", "0 0 LW * *"), ("l", "0 0 * * 5L"), ("nth", "0 0 * * 1#2")):
        add(chronos, home, job_id, schedule)
    said = chronos("job", "export", "--format", "crontab", "--json", home=home).json
    assert "5-59/10,3 0 2-31/7 * MON-7/2 true" in said["files"][""]
    assert {
        job_id: reason.partition(" is ")[2].partition(": ")[0] for job_id, reason in said["left_out"].items()
    } == dict.fromkeys(("lw", "l", "nth"), "beyond cron's own fields")


@pytest.mark.parametrize(("form", "unsaid"), [
    ("crontab", "grace, jitter, overlap, retries, timeout"), ("kubernetes", "jitter"), ("systemd", "retries")])  # fmt: skip
def test_options_that_another_scheduler_does_not_know_are_named(chronos, home, form, unsaid):
    """Each job's own options that are not in what is written stand in a warning."""
    options = ("--retries", "2", "--timeout", "5m", "--grace", "1h", "--jitter", "10m")
    add(chronos, home, "j", "0 3 * * *", *options)
    add(chronos, home, "plain", "0 4 * * *")
    overlap = "replace" if form == "kubernetes" else "queue" if form == "crontab" else "skip"
    chronos("job", "edit", "j", "--overlap", overlap, home=home)
    said = chronos("job", "export", "--format", form, "--image", "i", home=home)
    assert [line for line in said.err.splitlines() if "not said" in line] == [
        f"chronos: warning: j: not said in it: {unsaid}"
    ]


@pytest.mark.parametrize("schedule", ["@every 1h30m10s", "@daily", "0 0 */1 * 1", "TZ=Asia/Tokyo 0 3 * * *"])
def test_a_schedule_of_the_cluster_goes_back_as_it_came(bring, chronos, home, schedule):
    """The spelling stays, a zone before the times becomes timeZone, and no limit is added that was not there."""
    sent = cron_job(schedule=schedule, timeZone="Asia/Tokyo")
    for key in ("backoffLimit", "activeDeadlineSeconds"):
        del sent["spec"]["jobTemplate"]["spec"][key]
    bring(sent, options=["--local"])
    spec = json.loads(chronos("job", "export", "--format", "kubernetes", home=home).out)["spec"]
    assert spec["schedule"] == schedule.removeprefix("TZ=Asia/Tokyo ")
    assert spec["timeZone"] == "Asia/Tokyo"
    assert spec["jobTemplate"] == sent["spec"]["jobTemplate"]
    assert "startingDeadlineSeconds" not in spec
    chronos("job", "edit", "nightly", "--timeout", "5m", "--retries", "1", "--grace", "2h", home=home)
    spec = json.loads(chronos("job", "export", "--format", "kubernetes", home=home).out)["spec"]
    inner = spec["jobTemplate"]["spec"]
    assert (inner["activeDeadlineSeconds"], inner["backoffLimit"], spec["startingDeadlineSeconds"]) == (300, 1, 7200)


def test_what_a_container_has_besides_its_command_is_named(bring):
    """Run here, it has no volumes, limits or users of the cluster; that is said, for the job, the pod and the container."""
    given = cron_job(
        container={"volumeMounts": [{"name": "v"}], "resources": {"limits": {"cpu": 1}}, "stdin": True, "ports": []},
        pod={"volumes": [{"name": "v"}], "securityContext": {"runAsUser": 5}},
        template={"podFailurePolicy": {"rules": [1]}},
    )
    said = bring(given, options=["--local"])
    assert said["notes"] == [
        "CronJob nightly: not taken over: podFailurePolicy, resources, securityContext, stdin, volumeMounts, volumes"
    ]
    assert not any("not taken over: pod" in note for note in bring(given, options=[])["notes"])
