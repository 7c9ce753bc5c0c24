"""The documents of the commands (`--json`) and of the on-failure command, each beside the functions that write it."""

from __future__ import annotations

from typing import Any

from chronos_cli.cli.commands.history import UNREADABLE as UNREADABLE_STATE
from chronos_cli.cli.completion_scripts import SHELLS
from chronos_cli.core.clock import AHEAD, DISPLACED, Trust
from chronos_cli.core.decision import Outcome
from chronos_cli.core.job import Standing
from chronos_cli.core.plan import Action, ArmState
from chronos_cli.core.policy import OnCrash, Overlap, Policy
from chronos_cli.core.row import Row, RunState, Timing
from chronos_cli.operations.alerts import BAD_ENDS, SCHEMA
from chronos_cli.operations.doctor.check import Level
from chronos_cli.operations.install import InstallKind
from chronos_cli.operations.jobs.transfer import SCHEMA as EXPORT
from chronos_cli.operations.jobs.transfer import ImportVerdict
from chronos_cli.operations.views.armed_wake import ArmedWake
from described.shapes import (
    ANY,
    FLAG,
    INSTANT,
    NUMBER,
    OPEN,
    TEXT,
    WHOLE,
    Part,
    by_name,
    many,
    maybe,
    obj,
    printed,
    recorded,
    referred,
    said,
    word,
)

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def _optional(members: dict[str, Any]) -> dict[str, Any]:
    return {name.removesuffix("?") + "?": shape for name, shape in members.items()}


# -- what several documents share --------------------------------------------------------------------------------------

ERROR = Part(
    name="error",
    shape=obj(
        {"code": TEXT, "message": TEXT, "hint": TEXT, "retryable": FLAG, "retry_after?": NUMBER},
        "Why it failed. `code` is stable; `message` says what and why, `hint` what to do next.",
    ),
    by=("ChronosError.as_json", "FireTokenError.as_json", "Output.document(retry_after)"),
)
ALERT = Part(
    name="alert",
    shape=obj(
        {"told": FLAG, "told_at": INSTANT, "repeats?": WHOLE, "untold?": WHOLE, "error?": TEXT},
        "That the on-failure command was told of it (`told`), or that it was counted for the next time (`untold`).",
        open_=True,
    ),
    by=("alerts._mark", "alerts._tell(error)"),
)
OWNER = Part(
    name="owner",
    shape=obj(
        {
            "machine?": Part(
                name="machine",
                shape=obj({"boot": TEXT, "pid_namespace": TEXT, "host": TEXT}, "Its machine, since it was started."),
                by=("machine.machine_identity",),
            ),
            "pid?": WHOLE,
            "started?": maybe(WHOLE),
            "lock?": TEXT,
            "file?": many(WHOLE, "Device and inode of the lock."),
            "token?": TEXT,
            "clock?": Part(
                name="boot_clock",
                shape=obj(
                    {"boot": TEXT, "namespace": maybe(TEXT), "seconds": NUMBER}, "When the lock was taken.", open_=True
                ),
                by=("machine.boot_clock",),
            ),
            "bare?": TEXT,
        },
        "The process that sees the run through, and its lock, as its machine tells of them.",
        open_=True,
    ),
    by=("RunLock.owner",),
)
ATTEMPT = Part(
    name="attempt",
    shape=obj(
        {"attempt?": WHOLE, "state": word(RunState), "started_at?": INSTANT, "finished_at": INSTANT,
         "exit_status?": WHOLE, "reason?": TEXT, "output?": TEXT},
        "An attempt that is over.",
        open_=True,
    ),
    by=("row._attempt",),
)  # fmt: skip
ROW_POLICY = Part(
    name="row_policy",
    shape=obj(
        {"overlap?": word(Overlap), "grace?": WHOLE, "retries?": WHOLE},
        "What counted for this run of its job's policy; lengths of time in seconds.",
        open_=True,
    ),
    by=("row.row_of",),
)
ROW = Part(
    name="row",
    shape=obj(
        recorded(Row, state=word(RunState), kind=word(Timing), alert=ALERT, attempts=many(ATTEMPT), owner=OWNER,
                 policy=ROW_POLICY),
        "One row of the ledger. Instants that are not known yet are left out.",
        open_=True,
    ),
    by=("Row",),
)  # fmt: skip
UNREADABLE = Part(
    name="unreadable_row",
    shape=obj(
        {"job_id": TEXT, "run_id": TEXT, "state": word(UNREADABLE_STATE), "reason": TEXT},
        "A row that cannot be read: nothing but its name and the reason is known.",
    ),
    by=("UnreadableRow.to_json",),
)
DOUBT = Part(
    name="doubt",
    shape=obj({"code": word(AHEAD, DISPLACED), "text": TEXT, "mend": TEXT}),
    by=("TimeDoubt.as_json",),
)
CHANGES = Part(
    name="changes",
    shape=many(obj({"what": TEXT, "from": ANY, "to": ANY}), "Every field that changes; lengths of time in seconds."),
    by=("FieldChange.as_json",),
)
PLAN = Part(
    name="plan",
    shape=obj({
        "steps": many(obj({
            "action": word(Action),
            "job_id": TEXT,
            "held": maybe(INSTANT),
            "wanted": maybe(INSTANT),
            "reason": maybe(TEXT),
        })),
        "counts": Part(name="steps_of_each_action", shape=obj({action.value: WHOLE for action in Action})),
        "guard": maybe(TEXT),
    }),
    by=("plans.plan_json",),
)  # fmt: skip
TOLD = Part(
    name="told",
    shape=obj(
        {"armed": maybe(FLAG), "state": word(ArmState, "none", "standby")}, "What became of the job's timer at NAS."
    ),
    by=("NotifyReport.as_json",),
)
LAST_RUN = Part(
    name="last_run",
    shape=obj({"at": maybe(INSTANT), "status": word("ok", "error", "unknown"), "reason": maybe(TEXT)}),
    by=("LastRun.as_json",),
)
ARM_ERROR = Part(
    name="arm_error",
    shape=obj(
        {"code": TEXT, "message": TEXT, "hint?": TEXT, "retryable?": FLAG},
        "Why NAS did not take it, or why it is not known what NAS holds.",
        open_=True,
    ),
    by=("ChronosError.as_json", "document.unreadable_arm"),
)
FIRE_ERROR = Part(
    name="fire_error",
    shape=obj({"at": INSTANT, "detail": TEXT}, "When and why a fire found no runner, where none has begun since.",
              open_=True),
    by=("fire._not_started",),
)  # fmt: skip
ARM = Part(
    name="arm",
    shape=obj({
        "state": word(ArmedWake),
        "wanted": maybe(INSTANT),
        "held": maybe(INSTANT),
        "off_by": said(maybe(TEXT), "How far from the wanted instant NAS holds it, where that is more than a second."),
        "verified_at": maybe(INSTANT),
        "checked_with_nas": FLAG,
        "error": maybe(ARM_ERROR),
        "last_callback_at": maybe(INSTANT),
        "last_fire_error": maybe(FIRE_ERROR),
        "callback_url": said(maybe(TEXT), "Where NAS was told to call; null where nothing is armed."),
        "last_error": said(maybe(TEXT), "What came of NAS's last call, where it was in vain and NAS tells."),
        "failed_attempts": WHOLE,
        "next_try_at": maybe(INSTANT),
    }),
    by=("ArmView.as_json",),
)  # fmt: skip
VIEW = {
    "id": TEXT,
    "name": TEXT,
    "problem": maybe(TEXT),
    "schedule": maybe(TEXT),
    "timezone": maybe(TEXT),
    "state": word(Standing, "invalid"),
    "action": word("command", "shell", "http", "script", "prompt", "none"),
    "labels": by_name(TEXT, "What selectors choose by."),
    "next_run_at": maybe(INSTANT),
    "next_in_s": maybe(WHOLE),
    "last_run": maybe(LAST_RUN),
    "failures_in_a_row": WHOLE,
    "overdue_s": maybe(NUMBER),
    "overrun_s": maybe(NUMBER),
    "running": many(TEXT),
    "paused_reason": maybe(TEXT),
    "arm": ARM,
    "will_fire": maybe(FLAG),
    "why_not": said(maybe(TEXT), "Why it cannot be promised to fire, in words."),
    "doubt": maybe(DOUBT),
    "unhandled": many(TEXT),
    "unreadable": many(TEXT, "Documents of the job that cannot be read, each with the reason and what mends it."),
}
JOB = Part(name="job", shape=obj(VIEW), by=("JobView.as_json",))
POLICY = Part(
    name="policy",
    shape=obj(
        _optional({
            **recorded(Policy, whole=True, overlap=word(Overlap), on_crash=word(OnCrash)),
            "repeat": said(maybe(WHOLE), "How often it runs in all; null: for ever."),
            "completed": said(WHOLE, "How many of those are over."),
        }),
        "What counts for its runs, the home's defaults included; lengths of time in seconds. Whole, or empty where the "
        "record cannot be read.",
        anyOf=[{"required": [*Policy.__annotations__, "repeat", "completed"]}, {"maxProperties": 0}],
    ),
    by=("Policy", "job_show._policy"),
)  # fmt: skip
SHOWN_VALUES = by_name(TEXT, "Each by its name: where it is looked up, or `***`.")
RUNS = Part(
    name="runs",
    shape={
        "description": "What the job runs; values that may be secrets are `***`.",
        "anyOf": [
            obj(
                {
                    "command?": many(TEXT),
                    "shell?": TEXT,
                    "stdin?": TEXT,
                    "http?": Part(
                        name="request",
                        shape=obj(
                            {
                                "url": TEXT,
                                "method?": TEXT,
                                "headers?": SHOWN_VALUES,
                                "body?": said(ANY, "A text, or JSON."),
                                "body_from?": said(TEXT, "Where the body is looked up."),
                            }
                        ),
                        by=("transfer._HTTP_KEYS", "action_words.action_json"),
                    ),
                    "script?": TEXT,
                    "prompt?": TEXT,
                    "workdir?": TEXT,
                    "env?": SHOWN_VALUES,
                    "env_file?": many(TEXT),
                }
            ),
            said(OPEN, "Of a record that another program wrote and that cannot be run: as it stands there."),
        ],
    },
    by=("transfer._ACTION_KEYS", "action_words.action_json", "action_words.action_json(script prompt)"),
)
JOB_SHOWN = Part(
    name="job", shape=obj({**VIEW, "policy": POLICY, "runs": RUNS}), by=("JobView.as_json", "job_show.command")
)
NOT_REACHED = said(obj({"since": INSTANT, "error": TEXT}), "Since when NAS calls in vain, and what comes of it.")
NAS = Part(
    name="nas",
    shape=obj({"asked": FLAG, "known": FLAG, "error?": TEXT, "not_reached?": NOT_REACHED}),
    by=("list.look_at",),
)
CHANGED_JOB = Part(
    name="changed_job",
    shape=obj({
        "id": TEXT, "name": TEXT, "state": word(Standing), "timezone": TEXT, "next_run_at": maybe(INSTANT)
    }),
    by=("job_change.job_json",),
)  # fmt: skip
TIMES = Part(name="times", shape=many(obj({"at": INSTANT, "utc": INSTANT})), by=("Preview.as_json",))
LEFT_OUT = by_name(TEXT, "Jobs that are left alone, and why.")

# -- one document a command --------------------------------------------------------------------------------------------

ITEM = {"action": word(ImportVerdict), "job_id": TEXT, "name": TEXT, "schedule": TEXT}
"""Of a plan of an import: `plan` where the job changes."""

TIMERS = {
    "dry_run": FLAG,
    "plan": PLAN,
    "settled": many(TEXT),
    "invalid": by_name(TEXT),
    "failed": by_name(ERROR),
    "pending": FLAG,
    "clock": obj({
        "trust": word(Trust),
        "ahead_s": said(maybe(WHOLE), "By how much this clock is ahead of NAS's; null: it was not heard."),
    }),
    "doubts": by_name(DOUBT, "What is strange about next times, and was left as it is, by job id."),
}  # fmt: skip
LISTED = {
    "now": INSTANT,
    "standby": maybe(TEXT),
    "held": maybe(TEXT),
    "provider": obj({"configured": TEXT}),
    "nas": NAS,
    "jobs": many(JOB),
    "orphans": many(obj({"job_id": TEXT, "fire_at": TEXT})),
    "of_profiles": many(obj({"job_id": TEXT, "fire_at": TEXT, "profile": TEXT})),
}
AFTER = {"job": CHANGED_JOB, "changed": FLAG, "schedule": TEXT, "next": TIMES, "warnings": many(TEXT)}
AFTER_ALONE = {**AFTER, "arm": maybe(TOLD)}
PLANNED = {"dry_run": FLAG, "plan": CHANGES, "runs": RUNS}
SEVERAL = {
    "jobs?": many(obj({"job": CHANGED_JOB, "changed": FLAG, "plan": CHANGES}), "Of several jobs: each, as it is then."),
    "left_out?": LEFT_OUT,
}
SEVERAL_BY = ("job_change.finish_many(dry_run jobs job changed plan left_out)",)
AFTER_BY = ("job_change.finish", "Preview.as_json")
PLANNED_BY = ("job_change.planned", "job_change.finish")


def _either(*ways: tuple[str, ...]) -> dict[str, Any]:
    return {"anyOf": [{"required": list(way)} for way in ways]}


def _document(command: str, text: str, members: dict[str, Any], *by: str, **more: Any) -> Part:
    return Part(name=command, shape=obj(members, text, **more), by=by)


DOCUMENTS = (
    _document(
        "apply",
        "What an apply did, or with `dry_run` would do.",
        {
            "dry_run?": FLAG,
            "jobs?": many(obj({
                **ITEM,
                "plan?": CHANGES,
                "taken_from?": said(
                    maybe(TEXT), "Of a job that changes hands: the set it was of, null for one made by hand."
                ),
                "left_to?": said(
                    maybe(TEXT),
                    "Of one that is as its file says, and belongs elsewhere: its set, null for one made by hand.",
                ),
            })),
            "file_schema?": said(OPEN, "With --schema: the JSON Schema of a file of jobs."),
        },
        "apply.show", "apply._json", "field_plans.item_json", "apply._schema",
        **_either(("dry_run", "jobs"), ("file_schema",)),
    ),
    _document("arm", "The plan for the jobs named, and what NAS did not take of it.", TIMERS,
              "reconcile.show_reconcile"),
    _document("cancel", "The timers that were dropped, or with `dry_run` would be.",
              {"dry_run": FLAG, "plan": PLAN, "note": maybe(TEXT)}, "cancel.command"),
    _document("completions", "A completion script.", {"shell": word(SHELLS), "script": TEXT}, "completions.command"),
    _document("config path", "Where config.yaml is.", {"path": TEXT, "exists": FLAG, "home_origin": TEXT},
              "config_path.command"),
    _document(
        "config show",
        "Every setting, with where it came from.",
        {
            "home": TEXT,
            "path": TEXT,
            "home_origin": TEXT,
            "settings": many(obj({"key": TEXT, "value": ANY, "origin": TEXT, "variable": TEXT, "help": TEXT})),
        },
        "config_show.command",
    ),
    _document(
        "demo",
        "What the demo saw, and what of it was wrong.",
        {
            "jobs": many(obj({"id": TEXT, "due": many(INSTANT), "runs": WHOLE, "passed_over": many(INSTANT)})),
            "events": by_name(WHOLE),
            "faults": many(TEXT),
            "kept": maybe(TEXT),
        },
        "demo._document", "demo.command()",
    ),
    _document(
        "doctor",
        "Every check, numbered, with what mends it.",
        {
            "checks": many(Part(
                name="check",
                shape=obj(
                    {"number": WHOLE, "name": TEXT, "level": word(Level), "text": TEXT, "code": maybe(TEXT),
                     "mend": maybe(TEXT)},
                    "One check. `name` and `code` are stable; `code` is null where all is well.",
                ),
                by=("Check.as_json",),
            )),
            "counts": Part(name="counts", shape=obj({level.value: WHOLE for level in Level})),
            "probed": FLAG,
        },
        "doctor.command",
    ),
    _document(
        "fire",
        "What a fire came to. A job that ran and failed is a failure with exit 10.",
        {
            "result": word(Outcome),
            "job_id": TEXT,
            "fire_at?": INSTANT,
            "reason?": TEXT,
            "retry_after?": WHOLE,
            "runs?": many(TEXT),
            "status?": said(TEXT, "With --answer: accepted, or the protocol's own word."),
            "next?": {
                "description": "With --answer, where the token asks for it: the job's next wake, none, or keep. "
                "Its form is that of docs/nas/contract.md.",
                "type": ["object", "string"],
            },
            "arm": maybe(obj({"state": word(ArmState)})),
            "rows": many(ROW),
        },
        "FireReport.as_json", "answering.body_of", "fire.answer",
    ),
    _document("history", "Rows of the ledger, newest first.", {"rows": many({"anyOf": [ROW, UNREADABLE]})},
              "history._show"),
    _document("hold", "Whether and why all jobs are held.",
              {"held": maybe(TEXT), "expires_at": maybe(INSTANT), "changed": FLAG},
              "hold.command(held expires_at changed)"),
    _document("init", "What was written.", {"home": TEXT, "written": many(TEXT)}, "init.command(home written)"),
    _document("job add", "A job after it was added or brought to what was said.",
              {**AFTER, "arm?": maybe(TOLD), "created": FLAG, **PLANNED},
              *AFTER_BY, *PLANNED_BY, "job_add.command(created)"),
    _document("job edit", "A job after a change, or with `dry_run` the plan of one.",
              {**_optional(AFTER_ALONE), **_optional(PLANNED), **SEVERAL}, *AFTER_BY, *PLANNED_BY, *SEVERAL_BY,
              **_either(("job", "dry_run", "plan", "runs"), ("jobs",))),
    _document(
        "job export",
        "Jobs as one document.",
        {
            "export?": Part(name="export", shape=obj({"schema": word(EXPORT), "exported_at": INSTANT,
                                                      "jobs": many(OPEN)}), by=("transfer.export",)),
            "left_out": LEFT_OUT,
            "output": maybe(TEXT),
            "files?": by_name(TEXT, 'With --format: each file\'s text by its name, "" for the only one.'),
        },
        "exported.hand_over", "job_export.command(export)",
        **_either(("export",), ("files",)),
    ),
    _document(
        "job import",
        "What an import did, or with `dry_run` would do.",
        {
            "dry_run": FLAG,
            "jobs": many(obj({
                **ITEM,
                "file?": said(TEXT, "Of a folder: the name of its file."),
                "line?": said(WHOLE, "Of a crontab."),
                "where?": said(TEXT, "Of another scheduler: its name there."),
                "timezone?": TEXT,
                "next?": many(TEXT, "Its next two times."),
                "cron_next?": many(TEXT, "The next two times at which Debian's cron runs the line."),
                "their_next?": many(TEXT, "The next two times of the other scheduler."),
                "plan?": CHANGES,
            })),
            "left_out": many(TEXT),
            "ignored?": many(TEXT, "Of a folder: the files that the other program does not read, with the reason."),
            "refused?": many(TEXT, "Lines or files that cannot be understood and did not come in, with reason and "
                             "cure; the exit code is 11."),
            "notes?": many(TEXT, "Of another scheduler: what is read in another way than it reads it."),
            "backup?": said(maybe(TEXT), "Of a crontab: the file with what it held before lines were taken out."),
        },
        "foreign.run", "foreign._as_json", "field_plans.item_json", "job_import._import_records",
    ),
    _document("job layout", "How the jobs of a home are kept.",
              {"layout": said(TEXT, "`apart` or `together`."), "jobs": WHOLE, "moved": FLAG}, "job_layout.command"),
    _document("job list", "The jobs as stored, in the shape of `list`; NAS is not asked.", LISTED,
              "list._show_listing"),
    _document("job pause", "A job after it was paused.",
              {**_optional(AFTER_ALONE), **SEVERAL, "dry_run?": FLAG}, *AFTER_BY, *SEVERAL_BY,
              **_either(tuple(AFTER_ALONE), ("jobs",))),
    _document("job realign", "A job after it was realigned.", AFTER_ALONE, *AFTER_BY),
    _document(
        "job remove",
        "A job that was removed.",
        {
            "job_id?": TEXT,
            "removed?": FLAG,
            "arm?": TOLD,
            "jobs?": many(obj({"job_id": TEXT, "removed": FLAG}), "Of several jobs: each that was removed."),
        },
        "job_remove.command(job_id removed arm)", "job_remove._remove_many",
        **_either(("job_id", "removed", "arm"), ("jobs",)),
    ),
    _document("job resume", "A job after it was resumed.",
              {**_optional(AFTER_ALONE), **SEVERAL, "dry_run?": FLAG}, *AFTER_BY, *SEVERAL_BY,
              **_either(tuple(AFTER_ALONE), ("jobs",))),
    _document("job show", "One job.", {"job": JOB_SHOWN}, "job_show.command"),
    _document("job unlock", "The runs that were settled as lost.", {"job_id": TEXT, "lost": many(TEXT), "arm": TOLD},
              "job_unlock.command"),
    _document("list", "Each job beside what NAS holds for it. It is a failure with the store's side when NAS did not "
              "say.", LISTED, "list._show_listing"),
    _document("logs", "What a run printed.", {"job_id": TEXT, "run_id": TEXT, "state": word(RunState), "output": TEXT},
              "logs.command"),
    _document("next", "When a schedule comes due.",
              {"schedule": TEXT, "timezone": TEXT, "next": TIMES, "warnings": many(TEXT)},
              "Preview.as_json", "next_times.command"),
    _document(
        "provider list",
        "The trigger providers.",
        {
            "providers": many(obj({
                "name": TEXT,
                "active": FLAG,
                "available": FLAG,
                "because": maybe(TEXT),
                "origin": said(TEXT, "`bundled`, an entry point, or the folder of a plug-in."),
            })),
            "configured": TEXT,
            "warning": maybe(TEXT),
        },
        "provider_list.command", "provider_list._plugins",
    ),
    _document("reconcile", "The plan, and what NAS did not take of it.", TIMERS, "reconcile.show_reconcile"),
    _document(
        "run",
        "Runs that were asked for by hand.",
        {
            "job_id?": TEXT,
            "runs?": many(TEXT),
            "rows?": many(ROW),
            "backfill?": many(INSTANT, "The times that a backfill makes up for."),
            "jobs?": many(obj({"job_id": TEXT, "runs": many(TEXT), "rows": many(ROW)}),
                          "Of several jobs: each, with its runs."),
            "left_out?": LEFT_OUT,
        },
        "run._said", "run_many.run_many", "backfill._run_each",
        **_either(("job_id", "runs", "rows"), ("jobs",)),
    ),
    _document(
        "status",
        "How it stands; facts that are known separately are said separately.",
        {
            "now": INSTANT,
            "home": TEXT,
            "store": TEXT,
            "provider": obj({"active": TEXT, "configured": TEXT, "warning": maybe(TEXT)}),
            "standby": maybe(TEXT),
            "held": maybe(TEXT),
            "nas": NAS,
            "counts": obj({"stored": WHOLE, "live": WHOLE, "armed": WHOLE, "will_fire": WHOLE, "orphans": WHOLE,
                           "of_profiles": WHOLE}),
            "off_by": many(obj({"job_id": TEXT, "text": TEXT}),
                           "The timers that NAS holds more than a second off the wanted instant."),
            "arms_verified_at": maybe(INSTANT),
            "last_callback_at": maybe(INSTANT),
            "last_success_at": maybe(INSTANT),
            "next_run_at": maybe(INSTANT),
            "needs_a_look": many(obj({"job_id": TEXT, "name": TEXT, "conditions": many(TEXT),
                                      "reason": maybe(TEXT)})),
            "trigger": Part(
                name="trigger",
                shape=obj(
                    {"working": maybe(FLAG), "because": TEXT, "last_tick_at": maybe(INSTANT)},
                    "Whether anything makes jobs fire; `working` is null where no job waits for it or it cannot be "
                    "told from here.",
                ),
                by=("TriggerHealth.as_json",),
            ),
        },
        "status._status",
    ),
    _document(
        "tick",
        "What one tick did.",
        {
            "started": many(TEXT),
            "runs": many(ROW),
            "failed": by_name(ERROR),
            "unarmed": by_name(ERROR),
            "doubts": by_name(DOUBT, "What is strange about next times, and was left as it is, by job id."),
            "install": said(maybe(obj({
                "kind": word(InstallKind),
                "pieces": many(obj({"where": TEXT, "text": TEXT})),
                "done": word("installed", "removed", None),
                "changed": FLAG,
            })), "What runs the tick, with --install; null without it."),
        },
        "tick._document", "installing.install_tick", "installing._json", "tick.command()",
    ),
    _document(
        "timeline",
        "Jobs over time: the facts that the picture shows.",
        {
            "start": INSTANT,
            "now": INSTANT,
            "end": INSTANT,
            "timezone": TEXT,
            "jobs": many(obj({
                "job_id": TEXT,
                "name": TEXT,
                "past": many(Part(
                    name="bar",
                    shape=obj({
                        "run_id": TEXT,
                        "state": word(RunState),
                        "start": INSTANT,
                        "end": INSTANT,
                        "note?": TEXT,
                        "due?": said(INSTANT, "When it should have begun, where nobody looked until later."),
                    }),
                    by=("Bar.as_json",),
                )),
                "coming": many(INSTANT),
                "cut": FLAG,
                "overdue_since": said(maybe(INSTANT), "Since when an occurrence is due that has not begun."),
                "problem": said(maybe(TEXT), "Why the record cannot be run."),
            })),
            "clock_changes": many(obj({"at": INSTANT, "by_s": WHOLE})),
            "outages": many(
                Part(name="outage", shape=obj({"start": INSTANT, "end": INSTANT, "reason": TEXT}),
                     by=("Outage.as_json",)),
                "Times in which jobs came due and none was started, and the hold that stands.",
            ),
            "svg": maybe(TEXT),
            "html": maybe(TEXT),
        },
        "Timeline.as_json", "timeline.command",
    ),
)  # fmt: skip
"""Each named as its command; its members stand beside the envelope of every document, and, as far as they are known,
beside the error of a failure."""

FAILURE = Part(
    name=SCHEMA,
    shape=obj(
        {
            "schema": {"const": SCHEMA},
            "job_id": TEXT,
            "name": TEXT,
            "run_id": TEXT,
            "state": said(word(sorted(BAD_ENDS, key=list(RunState).index)), "How it ended. `lost`: its process or "
                          "machine died without a word; `missed`: nobody came for it in time."),
            "kind": said(word(Timing), "How the run came to its time; `manual` is a run that a person asked for."),
            "scheduled_at": said(maybe(INSTANT), "The occurrence's instant, the first of a missed range; null for a "
                                 "manual run."),
            "through": said(maybe(INSTANT), "The last instant of a missed range."),
            "started_at": maybe(INSTANT),
            "finished_at": maybe(INSTANT),
            "count": said({**WHOLE, "minimum": 1}, "How many occurrences this stands for: more than one for a missed "
                          "range."),
            "exact": said(FLAG, "False where `count` is only the least it can be."),
            "attempts": said({**WHOLE, "minimum": 0}, "How many attempts were made, retries included."),
            "exit_status": maybe(WHOLE),
            "reason": said(maybe(TEXT), "Why, in one line: the same as in `chronos list`."),
            "failures_in_a_row": {**WHOLE, "minimum": 0},
            "repeats": said({**WHOLE, "minimum": 0}, "How many occurrences failed since the command was last told, "
                            "without being told themselves."),
            "logs": said(maybe(TEXT), "The command that shows what it said, where it said anything."),
        },
        "One object, one line, UTF-8. Later versions may add members; none of these goes or changes its meaning "
        "without another number.",
        open_=True,
    ),
    by=("alerts.event_of", "alerts.event_of(scheduled_at through started_at finished_at)"),
)  # fmt: skip


def files() -> dict[str, str]:
    """Return every schema of a command or an event, by its path below docs/."""
    made = {f"schemas/chronos.{part.name.replace(' ', '.')}.1.json": schema_of(part) for part in DOCUMENTS}
    event = {"$schema": DRAFT, "$id": SCHEMA, "title": "What the on-failure command reads on its standard input"}
    made["schemas/events/chronos.failure.1.json"] = event | FAILURE.shape
    return {path: printed(schema) + "\n" for path, schema in made.items()}


def schema_of(part: Part) -> dict[str, Any]:
    """Return the schema of a command's document: of a success, and of a failure with what is known all the same."""
    name = f"chronos.{part.name.replace(' ', '.')}"
    parts: dict[str, Any] = {}
    shape = referred(part.shape, "#/$defs/", parts)
    members, needed = shape["properties"], shape.get("required", [])
    for key, member in members.items():
        if len(printed(member)) > len(f'"$ref": "#/$defs/{key}"') and "\n" in printed(member):
            parts[f"{key}_"] = member
            members[key] = {"$ref": f"#/$defs/{key}_"}
    envelope = {"schema": {"const": f"{name}/1"}}
    success = {**shape, "title": "success", "properties": {**envelope, "ok": {"const": True}, **members},
               "required": ["schema", "ok", *needed]}  # fmt: skip
    del success["description"]
    error = referred(ERROR, "#/$defs/", parts)
    failure = {
        "title": "failure",
        "description": "Beside the error stands whatever is known all the same.",
        **obj({**envelope, "ok": {"const": False}, "error": error, **_optional(members)}),
    }
    return {
        "$schema": DRAFT,
        "$id": f"{name}.1.json",
        "title": f"chronos {part.name} --json",
        "description": part.shape["description"],
        "oneOf": [success, failure],
        "$defs": dict(sorted(parts.items())),
    }
