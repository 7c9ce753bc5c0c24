"""Jobs as CronJobs (batch/v1): what came from a cluster goes back with what was changed here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chronos_cli.core.job import Standing, ours_of
from chronos_cli.core.schedule import NICKNAMES, Cron
from chronos_cli.errors import UsageError
from chronos_cli.operations.foreign.exported import kept, own_action, own_env, without_files
from chronos_cli.operations.foreign.kubernetes import NAMESPACE, OVERLAPS, in_cluster, run_here, their_reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chronos_cli.core.job import Job


def cron_job(job: Job, image: str | None) -> str:
    """Return the manifest as JSON, which is YAML. `image`: that of a container whose CronJob named none."""
    schedule = job.timetable.schedule
    if not isinstance(schedule, Cron):
        raise UsageError("a CronJob has no such schedule", hint="give it five fields")
    overlap = next((word for word, ours in OVERLAPS.items() if ours is job.policy.overlap), None)
    if overlap is None:
        raise UsageError(f"a CronJob has no overlap: {job.policy.overlap.value}", hint="use skip, allow or replace")
    manifest = kept(job, "manifest")
    known = manifest if isinstance(manifest, dict) else {"metadata": {"name": job.id.lower()}, "spec": {}}
    spec = dict(known["spec"])
    spec |= {
        "schedule": _schedule(schedule, spec.get("schedule")),
        "timeZone": job.zone_name,
        "concurrencyPolicy": overlap,
        "suspend": job.standing is not Standing.LIVE,
    }
    if "startingDeadlineSeconds" in spec or "spec" not in known or not known["spec"]:
        spec["startingDeadlineSeconds"] = job.policy.grace
    if not _is_in_cluster(job, known):
        spec["jobTemplate"] = _template(job, spec.get("jobTemplate"), image)
    document = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": known["metadata"], "spec": spec}
    return json.dumps(document, indent=2) + "\n"


def _schedule(schedule: Cron, before: object) -> str:
    """The expression, spelled as it came where it still means this."""
    if isinstance(before, str) and not before.startswith("@") and their_reading(before) == schedule.expr:
        return before
    return NICKNAMES.get(schedule.expr.lower(), schedule.expr)


def _is_in_cluster(job: Job, known: Mapping[str, Any]) -> bool:
    meta = known["metadata"]
    return ours_of(job.record).get("action") == in_cluster(
        str(meta.get("name")), str(meta.get("namespace") or NAMESPACE)
    )


def _template(job: Job, before: object, image: str | None) -> dict[str, Any]:
    """The job template that runs this job's own command in a container."""
    kind, what, stdin = own_action(job)
    without_files(job)
    if stdin is not None:
        raise UsageError("a container has no standard input", hint="put what it reads into the command")
    template = json.loads(json.dumps(before)) if isinstance(before, dict) else {}
    inner = template.setdefault("spec", {})
    inner |= {"backoffLimit": job.policy.retries, "activeDeadlineSeconds": job.policy.timeout}
    if _runs_the_same(job, inner):
        return template
    pod = inner.setdefault("template", {}).setdefault("spec", {})
    (container, *_) = pod.setdefault("containers", [{"name": job.id.lower()[:63]}])
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
