"""CronJobs of Kubernetes (batch/v1) as jobs: started in the cluster by kubectl, or run here without their container.

A CronJob's container cannot run here, so its job is `kubectl create job --from=cronjob/NAME`, unless the command itself
is taken (`local`). What has no counterpart is left out by name with the reason; what is read otherwise is noted.
"""

from __future__ import annotations

import re
import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.config.file import yaml_documents
from chronos_cli.contract import is_job_id
from chronos_cli.core.instant import named_zone
from chronos_cli.core.policy import OnCrash, Overlap
from chronos_cli.core.schedule import NICKNAMES, Cron
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ConfigError, UsageError
from chronos_cli.operations.foreign.their_times import clusters_times
from chronos_cli.operations.foreign.upsert import NO_LIMIT, ForeignJob, ForeignJobs
from chronos_cli.strict_json import NotJsonError, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from chronos_cli.core.schedule import Schedule

OVERLAPS: Final = {"Allow": Overlap.ALLOW, "Forbid": Overlap.SKIP, "Replace": Overlap.REPLACE}
"""The words of `concurrencyPolicy` that have a counterpart."""

NAMESPACE: Final = "default"
BACKOFF_LIMIT: Final = 6
"""The cluster's own `backoffLimit`, where a job says none."""

_ZONED: Final = re.compile(r"(?:CRON_)?TZ=(\S+)\s+(.*)", re.DOTALL)
_API: Final = re.compile(r"batch/v\d")
_RANGES: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_VARIABLE: Final = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")
_STAR: Final = re.compile(r"\*(?:/0*1)?")
_MEANT_HERE: Final = (
    (("template", "parallelism", "completions", "backoffLimit", "activeDeadlineSeconds",
      "ttlSecondsAfterFinished"), ()),
    (("containers", "initContainers", "restartPolicy", "terminationGracePeriodSeconds", "dnsPolicy", "schedulerName",
      "imagePullSecrets"), ("template", "spec")),
    (("name", "image", "imagePullPolicy", "command", "args", "env", "envFrom", "workingDir", "terminationMessagePath",
      "terminationMessagePolicy"), ("template", "spec", "containers", 0)),
)  # fmt: skip
"""The keys of a job, of its pod and of its container that are read, or mean nothing where no container is."""
_MOST_RETRIES: Final = 100
_THEIRS: Final = re.compile(r"(?:[*?]|(?:\d+|[A-Za-z]{3})(?:-(?:\d+|[A-Za-z]{3}))?)(?:/\d+)?\Z")
"""An item of the cluster's fields (getRange of robfig/cron)."""


def read_cronjobs(
    text: str, name: str, *, zone_name: str, now: datetime, local: bool, many: bool = False
) -> ForeignJobs:
    """Read every CronJob of a text of YAML or JSON: one or several documents, lists among them.

    `zone_name`: that of schedules without `timeZone`. `local`: take the command, and run it here. `many`: it is one of
    many texts. Raises UsageError where it is none, or, unless it is one of many, where it has no CronJob for here.
    """
    documents = _documents(text, name)
    jobs: list[ForeignJob] = []
    left_out: list[str] = []
    notes: dict[str, None] = {}
    seen = 0
    refused: UsageError | None = None
    keys: set[str] = set()
    for item in _items(documents):
        kind = item.get("kind")
        if kind == "CronJob" and not _API.match(str(item.get("apiVersion") or "batch/v1")):
            left_out.append(
                f"CronJob {_name_of(item)}: its apiVersion {str(item['apiVersion'])[:40]} is not the cluster's own"
            )
            continue
        if kind != "CronJob":
            left_out.append(f"{kind or 'an object without a kind'} {_name_of(item)}: it is no CronJob")
            continue
        seen += 1
        try:
            job, said = _job(item, zone_name=zone_name, now=now, local=local)
        except UsageError as error:
            refused = UsageError(f"CronJob {_name_of(item)}: {error.message}", hint=error.hint)
            left_out.append(refused.line())
            keys.add(_key_of(item))
            continue
        jobs.append(job)
        notes |= dict.fromkeys(f"CronJob {_name_of(item)}: {note}" for note in said)
    if not seen and not many:
        raise UsageError(f"{name} has no CronJob", hint="give what `kubectl get cronjobs -o yaml` prints")
    if not jobs and refused is not None and not many:
        raise refused
    return ForeignJobs(jobs=tuple(jobs), left_out=tuple(left_out), notes=tuple(notes), refused=frozenset(keys))


def _documents(text: str, name: str) -> list[Any]:
    """Return the documents of a text: as JSON where it is that, for YAML does not know the pairs of its escapes."""
    try:
        return [read_json(text, max_bytes=len(text))]
    except NotJsonError:
        pass
    try:
        return yaml_documents(text, name)
    except ConfigError as error:
        raise UsageError(error.message, hint=error.hint) from error


def _items(documents: list[Any]) -> Iterator[dict[str, Any]]:
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise UsageError("a document of it is no object", hint="give what `kubectl get cronjobs -o yaml` prints")
        if str(document.get("kind")).endswith("List") and isinstance(document.get("items"), list):
            yield from _items(document["items"])
        else:
            yield document


def _object(value: object, place: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"its {place} is no object", hint="put that CronJob right")
    return value


def _name_of(item: Mapping[str, Any]) -> str:
    meta = item.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    space, name = str(meta.get("namespace") or NAMESPACE), str(meta.get("name") or "?")
    return name if space == NAMESPACE else f"{space}/{name}"


def _key_of(item: Mapping[str, Any]) -> str:
    """Return a CronJob's identity, `NAMESPACE/NAME`."""
    meta = item.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    return f"{meta.get('namespace') or NAMESPACE}/{meta.get('name') or ''}"


def _be_named(meta: Mapping[str, Any]) -> None:
    """Raise UsageError for a name that is none, or no text, as `on` and `010` in YAML."""
    for key in ("name", "namespace"):
        if not isinstance(meta.get(key) or "", str):
            raise UsageError(f"its {key} is no text", hint="put it in quotes")
    if not meta.get("name"):
        raise UsageError("it has no name", hint="put that CronJob right")


def _job(item: dict[str, Any], *, zone_name: str, now: datetime, local: bool) -> tuple[ForeignJob, list[str]]:
    meta, spec = _object(item.get("metadata"), "metadata"), _object(item.get("spec"), "spec")
    name, space = str(meta.get("name") or ""), str(meta.get("namespace") or NAMESPACE)
    job_id = name if space == NAMESPACE else f"{space}.{name}"
    _be_named(meta)
    if not is_job_id(job_id):
        raise UsageError(f"'{job_id[:40]}' cannot be a job id", hint="give it a shorter name")
    paused = spec.get("suspend")
    if paused not in (None, True, False):
        raise UsageError(f"its suspend is '{str(paused)[:20]}', neither true nor false", hint="put that CronJob right")
    notes: list[str] = []
    schedule, zone_of = _schedule(str(spec.get("schedule") or ""), spec, zone_name, now, notes)
    overlap = str(spec.get("concurrencyPolicy") or "Allow")
    if overlap not in OVERLAPS:
        raise UsageError(
            f"its concurrencyPolicy {overlap[:40]} is none that is known", hint="it may be Allow, Forbid or Replace"
        )
    policy: dict[str, Any] = {"overlap": OVERLAPS[overlap]}
    if (deadline := spec.get("startingDeadlineSeconds")) is not None:
        policy["grace"] = _whole(deadline, "startingDeadlineSeconds")
    if "successfulJobsHistoryLimit" in spec or "failedJobsHistoryLimit" in spec:
        notes.append("its history limits are not taken over: `history.keep` holds for all jobs of the home")
    template = _object(_object(spec.get("jobTemplate"), "jobTemplate").get("spec"), "jobTemplate.spec")
    if local:
        action, env, folder = run_here(template, policy)
        notes += [*_not_taken_over(template), *([] if "timeout" in policy else [NO_LIMIT])]
    else:
        action, env, folder = in_cluster(name, space), {}, None
        notes.append(f"the cluster starts it too until `kubectl patch cronjob -n {space} {name} "
                     """-p '{"spec":{"suspend":true}}'` is said""")  # fmt: skip
        if overlap in ("Forbid", "Replace"):
            notes.append(f"kubectl returns when the job is made, so {overlap} does not see whether its pods still run")
    zone, read = named_zone(zone_of), _is_read_there(str(spec["schedule"]))
    job = ForeignJob(
        where=f"CronJob {_name_of(item)}",
        key=_key_of(item),
        job_id=job_id,
        name=job_id,
        schedule=schedule,
        zone=zone,
        zone_name=zone_of,
        action=action,
        env=env,
        workdir=folder,
        policy=policy,
        paused=bool(paused),
        kept={"manifest": _kept(item)},
        theirs=partial(clusters_times, schedule.fields(), zone=zone) if read and isinstance(schedule, Cron) else None,
        untold="counts it from its last start there" if read else "cannot read it, and has no such CronJob",
    )
    return job, notes


def _kept(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest without what the cluster itself adds, for the way back."""
    meta = {key: value for key, value in _object(item.get("metadata"), "metadata").items()
            if key in ("name", "namespace", "labels", "annotations")}  # fmt: skip
    meta["annotations"] = {key: value for key, value in _object(meta.get("annotations"), "annotations").items()
                           if key != "kubectl.kubernetes.io/last-applied-configuration"}  # fmt: skip
    return {"metadata": {key: value for key, value in meta.items() if value}, "spec": dict(item["spec"])}


def _whole(value: object, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"its {key} is no whole number", hint="put that CronJob right")
    return value


def _schedule(
    text: str, spec: Mapping[str, Any], zone_name: str, now: datetime, notes: list[str]
) -> tuple[Schedule, str]:
    """Return the schedule and the name of its zone."""
    zoned, times = zone_apart(text)
    if zoned and spec.get("timeZone"):
        notes.append(f"it names its zone twice, which the cluster refuses: timeZone counts, not {zoned}")
    named = spec.get("timeZone") or zoned
    if named is None:
        named = zone_name
        notes.append(f"it names no timeZone, where the cluster goes by its controller's: {zone_name} is taken")
    if not times:
        raise UsageError("it has no schedule", hint="put that CronJob right")
    zone = named_zone(str(named))
    schedule = parse_schedule(times if times.startswith("@") else their_reading(times), now=now, zone=zone)
    return schedule, str(named)


def _is_read_there(text: str) -> bool:
    """Return False for a schedule that only this reads: the cluster knows no `L` and no `#`, and Sunday as 0 alone."""
    _, times = zone_apart(text)
    if times.startswith("@"):
        return times in NICKNAMES or times.startswith("@every ")
    *others, weekday = times.split()
    return all(_THEIRS.match(item) for item in ",".join([*others, weekday]).split(",")) and "7" not in re.sub(
        r"/\d+", "", weekday
    )


def zone_apart(text: str) -> tuple[str | None, str]:
    """Return the zone that stands before the times, if one does, and the times."""
    zoned = _ZONED.fullmatch(text.strip())
    return (zoned[1], zoned[2]) if zoned else (None, text.strip())


def their_reading(text: str) -> str:
    """Return five fields as the cluster reads them, spelled for here. Raises UsageError for another number of them.

    `?` is a star, and a star among other days is one as well. A step of days (`*/2`) is none there, so that either day
    is enough beside it. Its week ends on Saturday, so a step without an end does too.
    """
    fields = text.split()
    if len(fields) != len(_RANGES):
        raise UsageError(f"its schedule '{text[:40]}' has {len(fields)} fields", hint="a CronJob has five")
    fields = [re.sub(r"(^|,)\?", r"\1*", field) for field in fields]
    fields[4] = re.sub(r"(^|,)(\w+)/", r"\1\2-6/", fields[4])
    days = (2, 4)
    if all(fields[place] != "*" for place in days):
        for place in days:
            low, high = _RANGES[place]
            parts = fields[place].split(",")
            if any(_STAR.fullmatch(part) for part in parts):
                fields[place] = "*"
            else:
                fields[place] = ",".join(re.sub(r"^\*(?=/)", f"{low}-{high}", part) for part in parts)
    return " ".join(fields)


def in_cluster(name: str, space: str) -> dict[str, Any]:
    """Return the action that starts the CronJob's job in the cluster; all attempts of a run name the same one."""
    where = shlex.quote(space)
    cron_job = shlex.quote(f"cronjob/{name}")
    unique = f'"{name}-$(printf %s "$CHRONOS_RUN_ID" | cksum | cut -d" " -f1)"'
    return {"shell": f"exec kubectl create job --namespace={where} --from={cron_job} {unique}"}


def run_here(template: Mapping[str, Any], policy: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str], str | None]:
    """Return the action, environment and folder of a CronJob's only container. Adds to `policy`. Raises UsageError."""
    for key in ("parallelism", "completions"):
        if template.get(key) not in (None, 1):
            raise UsageError(f"its {key} is {template[key]}, and one process runs here", hint="leave out --local")
    retries = template.get("backoffLimit")
    policy["retries"] = min(BACKOFF_LIMIT if retries is None else _whole(retries, "backoffLimit"), _MOST_RETRIES)
    policy["on_crash"] = OnCrash.RERUN if policy["retries"] else OnCrash.SKIP
    if (limit := template.get("activeDeadlineSeconds")) is not None:
        policy["timeout"] = _whole(limit, "activeDeadlineSeconds")
    pod = _object(_object(template.get("template"), "pod template").get("spec"), "pod's spec")
    containers = pod.get("containers")
    if not isinstance(containers, list) or len(containers) != 1 or pod.get("initContainers"):
        raise UsageError("it has more than one container, or none", hint="leave out --local")
    container = _object(containers[0], "container")
    if not isinstance(container.get("command"), list) or not container["command"]:
        raise UsageError("its command is its image's own, which is not known here", hint="leave out --local")
    env: dict[str, str] = {}
    for one in container.get("env") or []:
        variable = _object(one, "env")
        if "valueFrom" in variable:
            raise UsageError(
                f"its variable {variable.get('name')} comes from the cluster (valueFrom)", hint="leave out --local"
            )
        env[str(variable.get("name"))] = _expanded(str(variable.get("value") or ""), env)
    if container.get("envFrom"):
        raise UsageError("it has variables from the cluster (envFrom)", hint="leave out --local")
    words = [*container["command"], *(container.get("args") or [])]
    folder = container.get("workingDir")
    if folder is not None and not str(folder).startswith("/"):
        raise UsageError(f"its workingDir '{str(folder)[:40]}' is no whole path", hint="leave out --local")
    return {"command": [_expanded(str(word), env) for word in words]}, env, None if folder is None else str(folder)


def _not_taken_over(template: Mapping[str, Any]) -> list[str]:
    """Name the keys of a job's template that its command was given there and is not given here."""
    found: list[str] = []
    for known, way in _MEANT_HERE:
        place: Any = template
        for key in way:
            place = place[key]
        found += [str(key) for key in place if key not in known and place[key] not in (None, {}, [])]
    return [f"not taken over: {', '.join(sorted(found))}"] if found else []


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """Return the text with `$(NAME)` replaced, as the kubelet does it: unknown names stay, `$$` is a dollar sign."""

    def one(match: re.Match[str]) -> str:
        return "$" if match[1] is None else env.get(match[1], match[0])

    return _VARIABLE.sub(one, text)
