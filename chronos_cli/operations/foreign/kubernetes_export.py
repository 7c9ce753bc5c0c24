"""Jobs as CronJobs (batch/v1): what came from a cluster goes back with what was changed here."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.core.cron_fields import fields_of
from chronos_cli.core.job import Standing, ours_of
from chronos_cli.core.schedule import NICKNAMES, Interval, Once
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import UsageError
from chronos_cli.operations.foreign.exported import kept, own_action, own_env, without_files
from chronos_cli.operations.foreign.kubernetes import (
    BACKOFF_LIMIT,
    NAMESPACE,
    OVERLAPS,
    in_cluster,
    run_here,
    their_reading,
    zone_apart,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.core.job import Job
    from chronos_cli.core.schedule import Cron

_LONGEST_NAME: Final = 52
"""Of a CronJob: its jobs' names are longer by eleven letters, and a name has 63 at most."""
_DIGEST: Final = 8


def cron_job(job: Job, image: str | None) -> str:
    """Return the manifest as JSON, which is YAML. `image`: that of a container whose CronJob named none."""
    schedule = job.timetable.schedule
    if isinstance(schedule, Once):
        raise UsageError("a CronJob has no such schedule", hint="give it five fields, or an interval")
    overlap = next((word for word, ours in OVERLAPS.items() if ours is job.policy.overlap), None)
    if overlap is None:
        raise UsageError(f"a CronJob has no overlap: {job.policy.overlap.value}", hint="use skip, allow or replace")
    manifest = kept(job, "manifest")
    known = manifest if isinstance(manifest, dict) else {"metadata": {"name": _name(job.id)}, "spec": {}}
    spec = dict(known["spec"])
    spec |= {
        "schedule": _schedule(schedule, spec.get("schedule")),
        "timeZone": job.zone_name,
        "concurrencyPolicy": overlap,
        "suspend": job.standing is not Standing.LIVE,
    }
    if "startingDeadlineSeconds" in spec or manifest is not known or "grace" in _own_policy(job):
        spec["startingDeadlineSeconds"] = job.policy.grace
    if not _is_in_cluster(job, known):
        spec["jobTemplate"] = _template(job, spec.get("jobTemplate"), image)
    document = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": known["metadata"], "spec": spec}
    return json.dumps(document, indent=2) + "\n"


def _name(job_id: str) -> str:
    """Return an id as the cluster takes names; one that had to be changed has a digest of what it was."""
    plain = re.sub(r"[^a-z0-9.-]", "-", job_id.lower())
    plain = re.sub(r"-*\.[.-]*", ".", plain).strip(".-")
    if plain == job_id and len(plain) <= _LONGEST_NAME:
        return plain
    digest = hashlib.sha256(job_id.encode()).hexdigest()[:_DIGEST]
    return f"{plain[: _LONGEST_NAME - _DIGEST - 1].strip('.-')}-{digest}".lstrip("-")


def _schedule(schedule: Cron | Interval, before: object) -> str:
    """Return the schedule, spelled as it came where it still means this. Raises UsageError."""
    if isinstance(before, str):
        _, times = zone_apart(before)
        with suppress(UsageError):
            given = times if times.startswith("@") else their_reading(times)
            if parse_schedule(given, now=datetime.now(UTC), zone=UTC) == schedule:
                return times
    return f"@every {schedule.seconds}s" if isinstance(schedule, Interval) else their_spelling(schedule.expr)


def their_spelling(expr: str) -> str:
    """Return an expression of ours so that the cluster runs it at the same times. Raises UsageError where it cannot.

    There a step of days is no star, and Sunday is 0 alone, so that a step ends on Saturday.
    """
    read = fields_of(expr := NICKNAMES.get(expr.lower(), expr))
    if read.nth or min(read.days, default=1) < 1:
        raise UsageError(f"'{expr}' is beyond the cluster's fields", hint="give the days by their numbers")
    minute, hour, day, month, weekday = expr.split()
    every_day, every_weekday = len(read.days) == 31, len(read.weekdays) == 7
    if read.joined and not every_day and not every_weekday:
        raise UsageError(
            f"'{expr}' needs the day of the month and of the week together, and the cluster runs on either",
            hint="keep one of the two",
        )
    if every_day or (every_weekday and not read.joined):
        day = "*"
    if every_weekday or (every_day and not read.joined):
        weekday = "*"
    if re.search(r"7|(^|,)\w+/", weekday):
        weekday = ",".join(map(str, sorted(read.weekdays)))
    return f"{minute} {hour} {day} {month} {weekday}"


def _own_policy(job: Job) -> Mapping[str, Any]:
    """Return the options that the job has of its own."""
    policy = ours_of(job.record).get("policy")
    return policy if isinstance(policy, dict) else {}


def _is_in_cluster(job: Job, known: Mapping[str, Any]) -> bool:
    meta = known["metadata"]
    return ours_of(job.record).get("action") == in_cluster(
        str(meta.get("name")), str(meta.get("namespace") or NAMESPACE)
    )


def _template(job: Job, before: object, image: str | None) -> dict[str, Any]:
    """Return the job template that runs this job's own command in a container."""
    kind, what, stdin = own_action(job)
    without_files(job)
    if stdin is not None:
        raise UsageError("a container has no standard input", hint="put what it reads into the command")
    template = json.loads(json.dumps(before)) if isinstance(before, dict) else {}
    inner = template.setdefault("spec", {})
    new = not isinstance(before, dict)
    if new or "backoffLimit" in inner or job.policy.retries != BACKOFF_LIMIT:
        inner["backoffLimit"] = job.policy.retries
    if new or "activeDeadlineSeconds" in inner or "timeout" in _own_policy(job):
        inner["activeDeadlineSeconds"] = job.policy.timeout
    if _runs_the_same(job, inner):
        return template
    pod = inner.setdefault("template", {}).setdefault("spec", {})
    (container, *_) = pod.setdefault("containers", [{"name": _name(job.id).replace(".", "-")}])
    named = container.get("image") or image
    if not named:
        raise UsageError("which image has its program is not known", hint="give --image")
    words = [str(word).replace("$(", "$$(") for word in (("/bin/sh", "-c", what) if kind == "shell" else what)]
    container |= {"image": named, "command": words}
    container.pop("args", None)
    if env := own_env(job):
        container["env"] = [{"name": name, "value": value.replace("$(", "$$(")} for name, value in env.items()]
    if isinstance(job.record.get("workdir"), str):
        container["workingDir"] = job.record["workdir"]
    pod.setdefault("restartPolicy", "Never")
    return template


def _runs_the_same(job: Job, template: Mapping[str, Any]) -> bool:
    """Say if the template's container, run here, is this job's own command."""
    try:
        action, env, folder = run_here(template, {})
    except UsageError:
        return False
    ours = ours_of(job.record)
    return (action, env, folder) == (ours.get("action"), own_env(job), job.record.get("workdir"))
