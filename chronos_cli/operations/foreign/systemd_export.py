"""Jobs as timers of systemd with their services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from chronos_cli.core.job import Standing
from chronos_cli.core.policy import Overlap
from chronos_cli.core.schedule import Interval, Once
from chronos_cli.durations import format_duration
from chronos_cli.errors import UsageError
from chronos_cli.operations.foreign.calendar_events import from_event, to_events
from chronos_cli.operations.foreign.exported import kept, own_action, own_env, own_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chronos_cli.core.job import Job

_MINUTE = 60
_FILE_HINT: Final = "give that file another name, and the job its path"
_FOLDER_HINT: Final = "give its folder another name, and the job its path"
_NAME_HINT: Final = "give the job another name with `chronos job edit --name`"


def units(job: Job) -> dict[str, str]:
    """Return the timer and its service, by file name."""
    kind, what, stdin = own_action(job)
    if stdin is not None:
        raise UsageError("a service has no such standard input", hint="put what it reads into the command")
    if job.standing is not Standing.LIVE:
        raise UsageError("it is paused, and a unit file cannot say so", hint="resume it, and disable its timer there")
    timer = ["[Unit]", f"Description={_plain(job.name, hint=_NAME_HINT)}", "", "[Timer]", *_timer(job)]
    words = ["/bin/sh", "-c", str(what)] if kind == "shell" else [str(word) for word in what]
    service = ["[Unit]", f"Description={_plain(job.name, hint=_NAME_HINT)}", "", "[Service]", "Type=oneshot",
               f"ExecStart={' '.join(_word(word) for word in words)}"]  # fmt: skip
    service += [f"Environment={_quoted(f'{name}={value}')}" for name, value in own_env(job).items()]
    service += [f"EnvironmentFile={_file(path, job)}" for path in own_files(job)]
    if isinstance(job.record.get("workdir"), str):
        service.append(f"WorkingDirectory={_plain(job.record['workdir'], hint=_FOLDER_HINT)}")
    service.append(f"TimeoutStartSec={job.policy.timeout}")
    timer += ["", "[Install]", "WantedBy=timers.target"]
    return {f"{job.id}.timer": "\n".join(timer) + "\n", f"{job.id}.service": "\n".join(service) + "\n"}


def _timer(job: Job) -> Iterator[str]:
    schedule, policy = job.timetable.schedule, job.policy
    events = _as_written(job) or (() if isinstance(schedule, Interval) else to_events(schedule, job.zone_name))
    if isinstance(schedule, Interval) and not events:
        yield "OnActiveSec=0"
        yield f"OnUnitActiveSec={schedule.seconds}"
    yield from (f"OnCalendar={event}" for event in events)
    accuracy = kept(job, "accuracy")
    yield f"AccuracySec={accuracy or '1s'}"
    if events and not isinstance(schedule, Once):
        yield f"Persistent={'false' if policy.grace <= _MINUTE else 'true'}"
    if policy.jitter:
        yield f"RandomizedDelaySec={format_duration(policy.jitter)}"
        yield "FixedRandomDelay=true"
    if policy.overlap is not Overlap.SKIP:
        raise UsageError(f"a service has no overlap: {policy.overlap.value}", hint="use skip")


def _as_written(job: Job) -> tuple[str, ...]:
    """Return the event that the job came from, with its zone, where it still means the job's schedule; else nothing."""
    written = kept(job, "written")
    if not isinstance(written, str) or isinstance(job.timetable.schedule, Once):
        return ()
    try:
        text, zone_name = from_event(written)
    except UsageError:  # the length of an OnUnitActiveSec
        return ()
    schedule = job.timetable.schedule
    meant = f"every {schedule.seconds}s" if isinstance(schedule, Interval) else schedule.expr
    if text != meant or zone_name not in (None, job.zone_name):
        return ()
    return (written if zone_name else f"{written} {job.zone_name}",)


def _plain(text: str, *, hint: str) -> str:
    if not text.isprintable():
        raise UsageError("a unit file cannot hold a line break or a control character", hint=hint)
    return text.replace("%", "%%")


def _file(path: str, job: Job) -> str:
    """Return a path of an EnvironmentFile, which counts before Environment there and after it here.

    Raises UsageError.
    """
    if own_env(job):
        raise UsageError(
            "its variables count before those of its env_file, and a service's after them", hint="keep one of the two"
        )
    if any(letter in path for letter in "*?[\\") or path != path.strip():
        raise UsageError("the path of its env_file means several files there", hint=_FILE_HINT)
    return _plain(path, hint=_FILE_HINT)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%") + '"'


def _word(text: str) -> str:
    """Return a word of a command line: quoted where it must be, its dollar signs doubled (systemd.service(5))."""
    plain = text.replace("$", "$$")
    safe = plain and all(letter.isalnum() or letter in "/._-+:=@,$" for letter in plain)
    return plain if safe else _quoted(plain)
