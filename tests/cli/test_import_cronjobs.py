"""CronJobs of Kubernetes brought in, run here or started there, and written back."""

import json

import pytest
import yaml

CONTAINER = {"name": "c", "image": "busybox:1", "command": ["sh", "-c", "echo $(A) $$(B) $(C); pwd"],
             "args": ["x"], "env": [{"name": "A", "value": "one"}], "workingDir": "/"}  # fmt: skip


def cron_job(name="nightly", *, container=None, template=None, pod=None, namespace=None, **spec):
    """A CronJob as the cluster prints it."""
    inner = {"backoffLimit": 2, "activeDeadlineSeconds": 600, **(template or {})}
    inner["template"] = {
        "spec": {"restartPolicy": "Never", "containers": [{**CONTAINER, **(container or {})}], **(pod or {})}
    }
    metadata = {"name": name, "uid": "1", "resourceVersion": "9"} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "status": {"active": []},
            "spec": {"schedule": "15 3 * * *", "timeZone": "Europe/Berlin", "jobTemplate": {"spec": inner}, **spec}}  # fmt: skip


@pytest.fixture
def bring(chronos, home, tmp_path):
    """Imports documents; what the command says."""

    def run(*documents, options=(), code=0):
        path = tmp_path / "jobs.yaml"
        path.write_text(documents[0] if isinstance(documents[0], str) else yaml.safe_dump_all(documents))
        done = chronos("job", "import", path, "--from", "kubernetes", "--json", *options, home=home)
        assert done.code == code, done.out + done.err
        return done.json

    return run


def record(home, job_id="nightly"):
    jobs = json.loads((home / "cron" / "jobs.json").read_text())["jobs"]
    return next(job for job in jobs if job["id"] == job_id)


def test_a_cron_job_is_started_in_its_cluster(bring, chronos, home, tmp_path):
    """Without --local the job is kubectl's, under one name for all attempts of a run, which fits the cluster's names."""
    said = bring(cron_job("n" * 52, namespace="prod"))
    (job,) = said["jobs"]
    assert (job["job_id"], job["where"]) == (f"prod.{'n' * 52}", f"CronJob prod/{'n' * 52}")
    assert job["next"] == job["their_next"]
    assert any("the cluster starts it too until" in note for note in said["notes"])
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    done = chronos("run", job["job_id"], home=home, env={"PATH": f"{program.parent}:/usr/bin:/bin"})
    *words, name = done.out.splitlines()[:5]
    assert words == ["create", "job", "--namespace=prod", f"--from=cronjob/{'n' * 52}"]
    assert name.startswith(f"{'n' * 52}-")
    assert len(name) <= 63


def test_what_the_cluster_says_becomes_policy(bring, chronos, home):
    """Zone, deadline, concurrency, suspension, retries and the limit of a run are taken over."""
    bring(cron_job(concurrencyPolicy="Forbid", startingDeadlineSeconds=300, suspend=True), options=["--local"])
    job = record(home)
    assert job["schedule"]["expr"] == "15 3 * * *"
    assert job["chronos"]["timezone"] == "Europe/Berlin"
    assert job["chronos"]["policy"] == {"grace": 300, "timeout": 600, "retries": 2, "on_crash": "rerun"}
    assert job["state"] == "paused"
    bring(cron_job(concurrencyPolicy="Allow", suspend=False), options=["--local"])
    assert (record(home)["chronos"]["policy"]["overlap"], record(home)["state"]) == ("allow", "scheduled")
    bring(cron_job(concurrencyPolicy="Replace"), options=["--local"])
    assert record(home)["chronos"]["policy"]["overlap"] == "replace"
    out = json.loads(chronos("job", "export", "--format", "kubernetes", home=home).out)
    assert out["spec"]["concurrencyPolicy"] == "Replace"


def test_the_command_runs_here_as_in_its_container(bring, chronos, home):
    """`$(NAME)` is the variable, `$$` a dollar sign, an unknown name stays; folder and environment are the container's."""
    bring(cron_job(), options=["--local"])
    assert record(home)["chronos"]["action"] == {"command": ["sh", "-c", "echo one $(B) $(C); pwd", "x"]}
    assert (record(home)["workdir"], record(home)["chronos"]["env"]) == ("/", {"A": "one"})


def test_many_documents_and_lists_are_read_and_known_again(bring, chronos, home):
    """A List, several documents, JSON: each CronJob is one job; again it is the same; one that is gone is named."""
    one, two, three = (cron_job(name) for name in "abc")
    said = bring(yaml.safe_dump_all([{"kind": "List", "items": [one, two]}, None, three]))
    assert [job["action"] for job in said["jobs"]] == ["add"] * 3
    assert {job["action"] for job in bring(one, two, three)["jobs"]} == {"keep"}
    three["spec"]["schedule"] = "30 4 * * *"
    said = bring(json.dumps({"kind": "CronJobList", "items": [one, three]}))
    assert [(job["job_id"], job["action"]) for job in said["jobs"]] == [("a", "keep"), ("c", "change"), ("b", "gone")]
    said = bring(one, three, options=["--prune"])
    assert [job["action"] for job in said["jobs"]] == ["keep", "keep", "remove"]
    assert record(home, "c")["schedule"]["expr"] == "30 4 * * *"


def test_the_escapes_of_json_are_read_as_json_has_them(bring, home):
    """A letter beyond the first 65,536 is two escapes in JSON, which YAML does not know."""
    one = cron_job("a")
    one["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"] = ["echo", "\U0001f600"]
    assert "\\ud83d" in json.dumps(one)
    bring(json.dumps(one), options=["--local"])
    assert "\U0001f600" in json.dumps(record(home, "a"), ensure_ascii=False)


@pytest.mark.parametrize(
    ("written", "here", "zone"),
    [
        ("0 0 */2 * 1", "0 0 1-31/2 * 1", "Europe/Berlin"),  # a step is no star there: either day will do
        ("0 0 1 * */2", "0 0 1 * 0-6/2", "Europe/Berlin"),
        ("0 0 ? * 1", "0 0 * * 1", "Europe/Berlin"),
        ("0 0 */1 * 1", "0 0 * * 1", "Europe/Berlin"),  # every day is a star: the day of the week alone decides
        ("0 0 1,? * 1", "0 0 * * 1", "Europe/Berlin"),
        ("0 0 */2,1 * 1", "0 0 1-31/2,1 * 1", "Europe/Berlin"),
        ("*/5 * * * *", "*/5 * * * *", "Europe/Berlin"),
        ("@hourly", "@hourly", "Europe/Berlin"),
    ],
)
def test_the_clusters_reading_of_a_schedule(bring, home, written, here, zone):
    """What the cluster reads in another way than Debian's cron is spelled so that it means the same here."""
    bring(cron_job(schedule=written))
    assert (record(home)["schedule"]["expr"], record(home)["chronos"]["timezone"]) == (here, zone)


def test_the_zone_of_a_cron_job(bring, home):
    """`timeZone`, else a TZ= in the schedule, else UTC with a note, else --tz."""
    bring(cron_job(schedule="TZ=Asia/Tokyo 0 3 * * *", timeZone=None))
    assert record(home)["chronos"]["timezone"] == "Asia/Tokyo"
    said = bring(cron_job(timeZone=None))
    assert any("it names no timeZone" in note for note in said["notes"])
    assert record(home)["chronos"]["timezone"] == "UTC"
    bring(cron_job(timeZone=None), options=["--tz", "America/New_York"])
    assert record(home)["chronos"]["timezone"] == "America/New_York"


REFUSED = [
    ({"concurrencyPolicy": "Sometimes"}, (), "its concurrencyPolicy Sometimes is none that is known"),
    ({"startingDeadlineSeconds": -1}, (), "its startingDeadlineSeconds is no whole number"),
    ({"schedule": ""}, (), "it has no schedule"),
    ({"schedule": "0 0 0 * * *"}, (), "its schedule '0 0 0 * * *' has 6 fields"),
    ({"schedule": "61 * * * *"}, (), "61"),
    ({"timeZone": "Mars/Phobos"}, (), "Mars/Phobos"),
    ({"jobTemplate": 5}, (), "its jobTemplate is no object"),
    ({"template": {"parallelism": 2}}, ("--local",), "its parallelism is 2, and one process runs here"),
    ({"pod": {"initContainers": [{}]}}, ("--local",), "it has more than one container, or none"),
    ({"container": {"command": None}}, ("--local",), "its command is its image's own, which is not known here"),
    ({"container": {"env": [{"name": "S", "valueFrom": {}}]}}, ("--local",), "its variable S comes from the cluster (valueFrom)"),
    ({"container": {"envFrom": [{}]}}, ("--local",), "it has variables from the cluster (envFrom)"),
    ({"name": "x" * 130}, (), "cannot be a job id"),
    ({"name": ""}, (), "it has no name"),
    ({"suspend": "false"}, (), "its suspend is 'false', neither true nor false"),
    ({"container": {"command": [], "args": ["x"]}}, ("--local",), "its command is its image's own"),
    ({"container": {"workingDir": "here"}}, ("--local",), "its workingDir 'here' is no whole path"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "options", "reason"), REFUSED)
def test_what_cannot_be_had_here_is_left_out_by_name(bring, home, given, options, reason):
    """The others come in; the one that would run differently does not, and the warning says why."""
    said = bring(cron_job("good"), cron_job(**given), options=list(options))
    assert [job["job_id"] for job in said["jobs"]] == ["good"]
    (line,) = said["left_out"]
    assert line.startswith("CronJob ")
    assert reason in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "not YAML"),
        ("- 1", "a document of it is no object"),
        ("kind: Pod\nmetadata: {name: p}", "has no CronJob"),
        (yaml.safe_dump(cron_job(concurrencyPolicy="Sometimes")), "it may be Allow, Forbid or Replace"),
        ("&a [" + "*a," * 3 + "]", "'*a' stands within itself: take its aliases apart"),
        ("kind: List\nitems: &i\n- kind: List\n  items: *i\n", "'*i' stands within itself"),
        (
            yaml.safe_dump_all([cron_job("a"), cron_job("a", schedule="@daily")]),
            "CronJob a and CronJob a would both be the job 'a': leave out one of the two",
        ),
    ],
)
def test_a_text_without_cron_jobs_is_refused(bring, text, reason):
    """One line, exit 2, nothing written."""
    error = bring(text, code=2)["error"]
    assert reason in f"{error['message']}: {error['hint']}"


def test_a_job_of_the_same_name_from_elsewhere_is_not_taken(bring, chronos, home):
    """A job that somebody made here is not overwritten by one that happens to share its id."""
    chronos("job", "add", "@daily", "--id", "nightly", "--shell", "true", home=home)
    error = bring(cron_job(), code=2)["error"]
    assert error["message"] == "CronJob nightly: a job 'nightly' is here already, from elsewhere"


def test_options_belong_to_their_scheduler(chronos, home, tmp_path):
    """An option of another scheduler is exit 2 with the reason, and so is no file."""
    path = tmp_path / "x"
    path.write_text("")
    for words, reason in (
        (("--from", "kubernetes", path, "--disable-source"), "--disable-source is for crontabs"),
        (("--from", "kubernetes", path, "--system"), "--system is for crontabs and systemd"),
        (("--from", "crontab", path, "--local"), "--local is for CronJobs"),
        (("--from", "kubernetes"), "which CronJobs is not said"),
    ):
        done = chronos("job", "import", *words, home=home)
        assert (done.code, reason in done.err) == (2, True), done.err
    path.write_bytes(b"\xff")
    done = chronos("job", "import", path, "--from", "kubernetes", home=home)
    assert (done.code, "is not UTF-8 text" in done.err) == (2, True)


@pytest.mark.parametrize("options", [(), ("--local",)])
def test_there_and_back_loses_nothing(bring, chronos, home, options):
    """What comes in goes back as the same CronJob, and as what was changed here where something was."""
    sent = cron_job(namespace="prod", schedule="0 0 */2 * 1", concurrencyPolicy="Forbid", startingDeadlineSeconds=300, suspend=False,
                    successfulJobsHistoryLimit=7)  # fmt: skip
    bring(sent, options=list(options))
    document = chronos("job", "export", "--format", "kubernetes", home=home)
    back = json.loads(document.out)
    wanted = {key: sent[key] for key in ("apiVersion", "kind", "spec")} | {
        "metadata": {"name": "nightly", "namespace": "prod"}
    }
    assert back == wanted
    chronos("job", "edit", "prod.nightly", "--schedule", "@daily", "--grace", "10m", home=home)
    chronos("job", "pause", "prod.nightly", home=home)
    back = json.loads(chronos("job", "export", "--format", "kubernetes", home=home).out)
    spec = back["spec"]
    assert (spec["schedule"], spec["startingDeadlineSeconds"], spec["suspend"]) == ("0 0 * * *", 600, True)


def test_a_job_of_ours_becomes_a_cron_job(chronos, home, tmp_path):
    """A command with its environment is a container of the image that is named; what a container cannot say is left out."""
    add = ("job", "add", "0 3 * * *", "--tz", "UTC")
    chronos(*add, "--id", "a", "--retries", "1", "--timeout", "5m", "--command", "date", home=home)
    chronos(*add, "--id", "b", "--overlap", "queue", "--command", "date", home=home)
    chronos("job", "add", "in 3h", "--id", "c", "--command", "date", home=home)
    chronos(*add, "--id", "d", "--prompt", "hello", home=home)
    done = chronos("job", "export", "--format", "kubernetes", "--json", home=home)
    left = done.json["left_out"]
    assert left["a"] == "which image has its program is not known: give --image"
    assert left["b"] == "a CronJob has no overlap: queue: use skip, allow or replace"
    assert left["c"] == "a CronJob has no such schedule: give it five fields, or an interval"
    assert left["d"].startswith("it runs a prompt, which is chronos' own: ")
    file = tmp_path / "out.json"
    done = chronos("job", "export", "a", "--format", "kubernetes", "--image", "me:1", "-o", file, home=home)
    assert done.out == f"wrote 1 job to {file}\n"
    spec = json.loads(file.read_text())["spec"]
    inner = spec["jobTemplate"]["spec"]
    assert (inner["backoffLimit"], inner["activeDeadlineSeconds"]) == (1, 300)
    assert inner["template"]["spec"]["containers"] == [{"name": "a", "image": "me:1", "command": ["date"]}]
    done = chronos("job", "export", "--format", "nomad", home=home)
    assert (done.code, "there is no format 'nomad': use apply, json, crontab, kubernetes or systemd" in done.err) == (
        2,
        True,
    )


@pytest.mark.parametrize("key", ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"])
def test_history_limits_are_noted(bring, key):
    """Here one setting is for all jobs; a CronJob that names no limit gets no note."""
    said = "CronJob nightly: its history limits are not taken over: `history.keep` holds for all jobs of the home"
    assert said in bring(cron_job(**{key: 0}), options=["--dry-run"])["notes"]
    assert not any("history" in note for note in bring(cron_job(), options=["--dry-run"])["notes"])


@pytest.mark.parametrize(
    ("limit", "options", "noted"), [(None, ["--local"], True), (60, ["--local"], False), (None, [], False)]
)
def test_a_cron_job_without_a_time_limit_is_noted(bring, limit, options, noted):
    """There its run goes on for ever; here the home's timeout ends it. What kubectl starts is not ended by that."""
    said = bring(cron_job(template={"activeDeadlineSeconds": limit}), options=[*options, "--dry-run"])
    assert any("no time limit there, and end here by the home's timeout" in note for note in said["notes"]) is noted


@pytest.mark.parametrize("schedule", ["0 9 * * 7", "0 9 * * 5-7", "0 0 L * *", "0 0 * * 1#2", "@HOURLY"])
def test_a_schedule_that_the_cluster_refuses_is_never_the_same(bring, chronos, home, tmp_path, schedule):
    """What is read here all the same has no times there; a step of seven is no Sunday."""
    (job,) = bring(cron_job(schedule=schedule), options=["--dry-run"])["jobs"]
    assert (len(job["next"]), job["their_next"]) == (2, [])
    shown = chronos("job", "import", tmp_path / "jobs.yaml", "--from", "kubernetes", "--dry-run", home=home).out
    assert "the cluster: cannot read it, and has no such CronJob" in shown
    for read in ("0 0 * * */7", "5/10 0 ? JAN-mar sun", "@midnight", "TZ=UTC 0 9 * * 0"):
        (job,) = bring(cron_job(schedule=read), options=["--dry-run"])["jobs"]
        assert len(job["their_next"]) == 2


def test_a_cron_job_of_another_api_is_left_out(bring):
    """`kind: CronJob` alone does not make one of Kubernetes; that of its first versions is read."""
    alien = cron_job("alien") | {"apiVersion": "example.com/v1"}
    old = cron_job("old") | {"apiVersion": "batch/v1beta1"}
    done = bring(alien, old)
    assert done["left_out"] == ["CronJob alien: its apiVersion example.com/v1 is not the cluster's own"]
    assert [job["job_id"] for job in done["jobs"]] == ["old"]
