"""The one table of commands: name, module, what it is for, and under which heading the help shows it.

Nothing is imported to show the list; a command's module is imported when that command runs or shows its own help.
"""

from __future__ import annotations

import os
from typing import Final

from chronos_cli.frozen import frozen

VERBS: Final = "Timers at NAS"
JOBS: Final = "Jobs"
WATCH: Final = "See what happens"
HOME: Final = "This home"


@frozen
class CommandEntry:
    """One command. `module`: below `cli.commands`, with a function `command`; a group has `children` instead.

    `brief`: at most 27 characters, so that two columns fit a screen of 80.
    """

    name: str
    brief: str
    help: str
    panel: str = ""
    module: str = ""
    children: tuple[CommandEntry, ...] = ()


def _entry(name: str, panel: str, brief: str, text: str, *, module: str = "") -> CommandEntry:
    return CommandEntry(name=name, panel=panel, brief=brief, help=text, module=module or name.replace("-", "_"))


def _group(name: str, panel: str, brief: str, text: str, children: tuple[CommandEntry, ...]) -> CommandEntry:
    return CommandEntry(name=name, panel=panel, brief=brief, help=text, children=children)


_JOB: Final = (
    _entry("add", "", "add a job", "Add a job, or bring the job of that id to what is said here.", module="job_add"),
    _entry("show", "", "one job, whole", "Show one job: schedule, policy, arm, last run.", module="job_show"),
    _entry("list", "", "the stored jobs", "List the jobs as stored, without asking NAS.", module="job_list"),
    _entry("edit", "", "change a job", "Change a job; what is not named stays as it is.", module="job_edit"),
    _entry(
        "pause", "", "switch a job off", "Switch a job off until it is resumed; its timer goes.", module="job_pause"
    ),
    _entry("resume", "", "switch it on again", "Switch a job on again, at its next instant.", module="job_resume"),
    _entry("remove", "", "take a job out", "Take a job out of the store, and its timer.", module="job_remove"),
    _entry(
        "unlock", "", "give up a stuck run", "Settle a job's unfinished runs as lost, naming you.", module="job_unlock"
    ),
    _entry(
        "realign", "", "undo a wrong clock", "Bring a job back that a wrong clock put far ahead.", module="job_realign"
    ),
    _entry(
        "layout", "", "how a bucket keeps them", "Keep the jobs of a bucket apart or together.", module="job_layout"
    ),
    _entry("import", "", "jobs from elsewhere", "Bring jobs in: a file, a crontab, a home.", module="job_import"),
    _entry("export", "", "jobs as one document", "Write jobs as one JSON document.", module="job_export"),
)

_PROVIDER: Final = (
    _entry("list", "", "triggers and which is on", "List the trigger providers, and which is active and why.",
           module="provider_list"),
)  # fmt: skip

_CONFIG: Final = (
    _entry("show", "", "every setting", "Show every setting, and with --origin where it came from.",
           module="config_show"),
    _entry("path", "", "where config.yaml is", "Print where config.yaml is, or would be.", module="config_path"),
)  # fmt: skip

COMMANDS: Final = (
    _entry("arm", VERBS, "make NAS hold timers", "Make NAS hold the next wake of jobs"),
    _entry("cancel", VERBS, "drop timers at NAS", "Drop timers at NAS; the jobs stay"),
    _entry("list", VERBS, "jobs beside NAS", "Show each job beside what NAS holds for it", module="list_jobs"),
    _entry("reconcile", VERBS, "make NAS agree", "Make what NAS holds agree with the store"),
    _entry("fire", VERBS, "settle a signed call", "Verify a call of NAS and run what is due for the job"),
    _group("job", JOBS, "add, edit, pause, import ..", "Add, change and move jobs", _JOB),
    _entry("apply", JOBS, "jobs as files say", "Bring the jobs to what files say, YAML or JSON"),
    _entry("run", JOBS, "run a job now", "Run a job now, outside its schedule"),
    _entry("next", JOBS, "when a schedule comes due", "Show when a schedule comes due", module="next_times"),
    _entry("tick", JOBS, "run what is due, no NAS", "Run what is due, where no NAS calls"),
    _entry("status", WATCH, "how it stands", "Say how it stands: store, NAS, jobs that need a look"),
    _entry("doctor", WATCH, "find what is wrong", "Check every part, and name the command that mends it"),
    _entry("history", WATCH, "what ran, and how", "Show what ran, and what did not and why"),
    _entry("logs", WATCH, "the output of a run", "Show the output of a run"),
    _entry("timeline", WATCH, "jobs drawn over time", "Draw past and coming runs over time"),
    _entry("hold", HOME, "stop all jobs, or go on", "Hold all jobs, or lift the hold"),
    _group("provider", HOME, "what triggers jobs", "See what triggers jobs", _PROVIDER),
    _entry("init", HOME, "make a home", "Make a home with a config.yaml"),
    _group("config", HOME, "settings and their origin", "See the settings", _CONFIG),
    _entry("completions", HOME, "for bash, zsh, fish", "Print the completion script of a shell"),
    _entry("demo", HOME, "see it all work, offline", "Show the whole loop at work, in a home that goes again"),
)  # fmt: skip


def available() -> tuple[CommandEntry, ...]:
    """Return the commands whose modules are there."""
    folder = os.path.join(os.path.dirname(__file__), "commands")  # noqa: PTH118, PTH120 - pathlib is slower to import
    there = set(os.listdir(folder))  # noqa: PTH208
    return tuple(entry for entry in COMMANDS if entry.children or f"{entry.module}.py" in there)


def find(words: list[str]) -> CommandEntry | None:
    """Return the command that the first words name: `["job", "add", ...]` or `["list", ...]`."""
    entries: tuple[CommandEntry, ...] = COMMANDS
    found = None
    for word in words:
        match = next((entry for entry in entries if entry.name == word), None)
        if match is None:
            break
        found, entries = match, match.children
        if not entries:
            break
    return found
