"""The invariants, judged from outside: from the documents that were written, the processes that started, NAS's slots.

Nothing here asks the code under test what it thinks.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chronos_cli.core.claim import run_id_of
from chronos_cli.errors import DocumentError, NasRejectedError, UsageError
from chronos_cli.operations.arming.slot_memory import MEMORY_KEY
from chronos_cli.store.arms.pack import find_line
from chronos_cli.store.documents import ASIDE
from chronos_cli.store.interface import JOB_PREFIX, JOBS_KEY
from tests.sim import answers, backends
from tests.sim.documents import place_of, whole
from tests.sim.machines import PLATFORM_S
from tests.sim.rhythm import Single

if TYPE_CHECKING:
    from chronos_cli.errors import ChronosError
    from tests.sim.machines import SimRun
    from tests.sim.nas import Delivery, Slot
    from tests.sim.tasks import Task
    from tests.sim.world import World

TERMINAL = frozenset({"ok", "failed", "timeout", "interrupted", "lost", "skipped", "missed"})
RAN = frozenset({"ok", "failed", "timeout", "interrupted", "lost"})
NEXT = {
    None: {"accepted", "queued", "running", "skipped", "missed", "lost"},
    "queued": {"running", "missed", "lost"},
    "accepted": {"running", "missed", "lost", "failed", "timeout", "accepted"},
    "running": RAN | {"accepted", "missed"},  # the latter where its job was never begun, which is looked at
}
SLACK_S = 12.0
DAY_S = 86_400.0
CLEARING = frozenset({"2xx clears slot", "clears late", "claims and drops"})
"""The characters after whose 2xx a slot may be empty until somebody has looked."""

LATE_S = 5.0
ON_TIME_S = 5.0
"""How late an occurrence without grace may start."""

NOT_IN_TIME = "nobody came for it in time"

PLAIN = frozenset({"upsert cancels redelivery", "other zone", "list hides in flight", "clock behind", "no fire_at", "duplicates",
                   "gives up", "kind", "drips"})  # fmt: skip
"""The characters that hold what they say yes to, in one slot."""

MARGIN_S = 60.0
"""So much longer than a job's timeout is its lease."""

LEAST_LEASE_S = 50.0 + MARGIN_S
"""The shortest timeout of a job here, and the margin of its lease."""

DRIFT_S = 6.0
"""By how much the clocks of a machine may part before the difference counts."""


class Violation(BaseException):
    """A promise was broken."""


def stamp(text: str) -> float:
    """An ISO text as seconds."""
    return datetime.fromisoformat(text).timestamp()


class JobTrace:
    """What was seen of one job."""

    __slots__ = (
        "again",
        "chained",
        "claimers",
        "edited",
        "entries",
        "excuse",
        "first",
        "late_ok",
        "record",
        "removed",
        "rhythm",
        "spans",
        "taken",
    )

    def __init__(self, record, rhythm) -> None:
        self.record = record
        self.rhythm = rhythm
        self.first = stamp(record["next_run_at"])
        self.entries: dict[str, dict] = {}
        self.spans: list[tuple[float, float, dict]] = []
        self.claimers: dict[str, Task] = {}
        self.chained = False
        self.excuse: str | None = None
        self.late_ok: str | None = None
        self.removed = False
        self.edited = False
        self.again = False
        self.taken: set[float] = set()

    @property
    def live(self) -> bool:
        record = self.record
        return (
            not self.removed
            and record["enabled"] is True
            and record["state"] == "scheduled"
            and bool(record["next_run_at"])
        )


class Check:
    """Fed by the world at every write, start and answer; raises Violation."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.jobs: dict[str, JobTrace] = {}
        self.rows: dict[str, dict] = {}
        self.starts: set[tuple[str, str, int]] = set()
        self.claims: set[tuple[str, float]] = set()
        self.dirty: set[str] = set()
        self.pruned: dict[str, str] = {}
        self.made_late: dict[str, Task] = {}
        """Rows of runs that were over and pruned, and who has made them anew: it takes them back, or the next to prune does."""
        self.torn: dict[str, bytes] = {}
        """Rows that cannot be read, and what stands there."""
        self.ended_at: dict[str, float] = {}
        self.generations: dict[str, int] = {}
        self.written: dict[str, list[int]] = {}
        """Who has written a job's arm document, one after the other."""
        self.dropped: set[str] = set()
        self.keys_lost: set[str] = set()
        """Jobs that want nothing, and of which NAS has heard so under a number."""
        self.setters: dict[str, Task | None] = {}
        """Who set the slot of a job last; None: a call that came late."""
        self.carrying: set[str] = set()
        """Jobs of which a door took a fire whose whole answers go to NAS."""
        self.unheard = False
        """An answer may not have reached NAS: then nobody can tell that from one that it has dropped."""
        self.left: dict[str, tuple[str, int]] = {}
        """The delivery to which a wake of ours left as the answer, by job, while nothing else was sent since."""
        self.meant: dict[tuple[str, str], str] = {}
        """What is meant by the next time of a job that was stored under another offset."""

    def fail(self, text: str) -> None:
        raise Violation(text)

    # -- documents -----------------------------------------------------------------------------------------------

    def wrote(self, key: str, task: Task) -> None:
        data = self.world.store.read(key).data
        if key.startswith(ASIDE):
            return
        try:
            document = json.loads(data)
        except ValueError as error:
            self.fail(f"{key} does not parse: {error}")
        if key == JOBS_KEY or key == place_of(self.world.store, key.rpartition("/")[2].removesuffix(".json")):
            self._wrote_jobs(whole(self.world.store), task)
        elif key.startswith("cron/runs/"):
            self._wrote_row(key, document, task)
        elif key.startswith("cron/arms/"):
            self._wrote_arm(document, task)
        elif key == MEMORY_KEY and document.get("answers") is False:
            self._is_doubted(task)

    def _is_doubted(self, task) -> None:
        """A NAS that arms what answers carry is not taken for one that drops it by a fire that comes again.

        After its answer a door may look while another still holds back what it carries.
        """
        answering = task.kind == "door" and not task.after
        if answering and self.world.nas.char == {answers.ARMS} and not self.unheard:
            self.fail(f"{task} notes that NAS does not arm what answers carry, though it armed all that it heard")

    def _wrote_arm(self, arm, task) -> None:
        job_id, generation = arm["job_id"], arm.get("generation", 0)
        if generation < self.generations.get(job_id, 0):
            self.fail(f"{task} goes back to generation {generation} of {job_id}, from {self.generations[job_id]}")
        self.generations[job_id] = generation
        self.written.setdefault(job_id, []).append(task.number)
        if arm.get("answered_to") != self.left.get(job_id, (None, 0))[0]:
            self.left.pop(job_id, None)
        if self.world.trace is None:
            return
        shown = " ".join(str(arm.get(name, "-")) for name in ("state", "purpose", "fire_at", "generation"))
        self.world.log("%r notes arm of %s: %s", task, arm["job_id"], shown)

    def _wrote_jobs(self, document, task) -> None:
        seen = set()
        for record in document["jobs"]:
            job_id = record["id"]
            seen.add(job_id)
            if (job_id, record["next_run_at"]) in self.meant:
                record["next_run_at"] = self.meant[job_id, record["next_run_at"]]
            trace = self.jobs.get(job_id)
            if trace is None:
                trace = self.jobs[job_id] = JobTrace(record, self.world.rhythm_of(record))
            elif trace.record == record:
                continue
            elif job_id in self.world.broken:
                if record != self.world.broken[job_id]["now"]:
                    self.fail(f"{task} changes the record of {job_id}, which cannot be read")
                continue
            self.dirty.add(job_id)
            before, trace.record = trace.record, record
            if trace.live:
                self.dropped.discard(job_id)
            self._brought_back(job_id, trace, before, record)
            self._entries(job_id, trace, before, record, task)
            self._hermes(job_id, before, record, task)
            self._counted(job_id, before, record, task)
            self._segment(trace, before, record)
        for job_id, trace in self.jobs.items():
            if job_id not in seen and not trace.removed:
                trace.removed = True
                self._vanished(trace, task)

    def _counted(self, job_id, before, record, task) -> None:
        """`repeat` counts every occurrence that is taken to run, in the write that takes it; and what is complete is over."""
        completes = record["state"] == "completed" != before["state"]
        if completes and record["chronos"].get("open"):
            self.fail(f"{job_id} is completed with runs in hand: by {task}")
        had = {entry["run"] for entry in before["chronos"].get("open", ())}
        new = [e for e in record["chronos"].get("open", ()) if e["run"] not in had and e["kind"] in ("run", "queued") and "fire_at" in e]  # fmt: skip
        counts = [(found.get("repeat") or {}).get("completed") for found in (before, record)]
        if new and None not in counts and counts[1] - counts[0] != len(new):
            self.fail(f"{job_id}: {len(new)} occurrences are taken, and repeat goes from {counts[0]} to {counts[1]}")

    def _vanished(self, trace, task) -> None:
        """A job goes when somebody removes it, or a week after it was complete by a clock that is right."""
        done = trace.record["chronos"].get("completed_at")
        over = trace.record["state"] == "completed" and (done is None or stamp(done) < self.world.now - 6.9 * DAY_S)
        if self.world.cfg.nas and task.kind != "remove" and not over:
            self.fail(f"{trace.record['id']} vanished: by {task}")

    def _entries(self, job_id, trace, before, record, task) -> None:
        settled = max((last for _, last, _ in trace.spans), default=0.0)
        had = {entry["run"] for entry in before["chronos"].get("open", ())}
        runs = [entry["run"] for entry in record["chronos"].get("open", ())]
        if len(set(runs)) != len(runs):
            self.fail(f"{job_id}: one run stands twice in open: {runs}")
        new = [entry for entry in record["chronos"].get("open", ()) if entry["run"] not in had and "fire_at" in entry]
        for entry in record["chronos"].get("open", ()):
            if entry["run"] in had:
                continue
            key = f"cron/runs/{job_id}/{entry['run']}.json"
            had_row = trace.again and self.rows.get(key, {}).get("state") in TERMINAL
            if entry["run"] in trace.entries and not had_row and ("fire_at" in entry or key not in self.pruned):
                self.fail(f"{job_id}: {entry['run']} was claimed twice: by {task}")
            trace.entries[entry["run"]] = entry
            trace.claimers[entry["run"]] = task
            self.world.log("%r enters %s %s of %s", task, entry["kind"], entry["run"], job_id)
            if "fire_at" not in entry:
                continue
            first = stamp(entry["fire_at"])
            self._missed(job_id, record, entry, new, task)
            early = first - self.world.clock_of(task)
            if len(self.world.skews) > 1 and not self.world.faults:
                early -= 40.0  # the clocks were put right between the look and the write
            if early > 61 and entry["kind"] in ("run", "queued") and not self.world.loose_time:
                self.fail(f"{job_id}: {entry['run']} is taken {early:.0f} s before its time: by {task}")
            if self.world.cfg.nas and first > self.world.now + 2 * DAY_S:
                self.fail(f"{job_id}: {entry['run']} is settled, but it has not come yet")
            if not settled:
                trace.first = min(
                    trace.first, first
                )  # a clock set back behind the job's making, and nothing claimed yet
            if first <= settled:
                self.fail(f"{job_id}: {entry['run']} was claimed, but all up to {self.world.text(settled)} was settled")
            last = stamp(entry["through"]) if "through" in entry else first
            trace.spans.append((first, last, entry))

    def _missed(self, job_id, record, entry, new, task) -> None:
        """Nothing is missed, with nothing taken in its place, that came within grace of the end of its tolerance."""
        if entry["kind"] != "missed" or entry.get("because") != NOT_IN_TIME or len(new) > 1 or self.world.loose_time:
            return
        if task.kind not in ("door", "tick"):
            return  # who starts nothing leaves the newest instant to the next fire
        policy = record["chronos"].get("policy", {})
        late = self.world.clock_of(task) - stamp(entry.get("through", entry["fire_at"]))
        allowed = (policy.get("grace", DAY_S) or ON_TIME_S) + policy.get("tolerance", 0)
        if late < allowed - (0.0 if len(self.world.skews) == 1 else 45.0):
            self.fail(
                f"{task} misses {entry['run']} of {job_id}, {late:.0f} s after its time, of {allowed:.0f} allowed"
            )

    def _brought_back(self, job_id, trace, before, record) -> None:
        """What was claimed is taken back: only where it has not come yet, and none of it that has a row runs again."""
        through, was = (found["chronos"].get("claimed_through") for found in (record, before))
        lowered = was is not None and (through is None or stamp(through) < stamp(was))
        if not lowered:
            return
        if stamp(was) <= self.world.now:
            self.fail(f"{job_id}: claimed through {was} became {through}, but that was past")
        self.world.cover("clock", "what it had claimed is brought back")
        cursor = stamp(record["next_run_at"])
        if (
            f"cron/runs/{job_id}/{run_id_of(datetime.fromtimestamp(cursor, UTC))}.json"
            in self.rows.keys() - self.pruned.keys()
        ):
            self.fail(f"{job_id} is brought back to {record['next_run_at']}, which has a row")
        trace.taken |= {
            start for start, end, entry in trace.spans if end > stamp(through) and entry["kind"] != "missed"
        }
        trace.spans = [span for span in trace.spans if span[1] <= stamp(through)]
        trace.first, trace.again = stamp(record["next_run_at"]), True

    def foreign(self, record, name) -> dict | None:
        """A claim in a record that is not ours but of a hermes on the same home."""
        claim = record.get(name)
        return None if not claim or claim["by"].startswith("chronos:") else claim

    def _hermes(self, job_id, before, record, task) -> None:
        """What hermes claims it also gives up; and while it claims, no occurrence starts beside it."""
        mine = {entry["run"] for entry in before["chronos"].get("open", ())}
        new = [e for e in record["chronos"].get("open", ()) if e["run"] not in mine and e["kind"] == "run"]
        for name, ttl in (("fire_claim", 300.0), ("run_claim", 1_800.0)):
            claim = self.foreign(before, name)
            if claim is None:
                continue
            if self.world.cfg.jumps or abs(self.world.clock_of(task) - stamp(claim["at"])) >= ttl - 1:
                continue  # over, or at the very second of its end
            if task.kind not in ("hermes", "unlock") and record.get(name) != claim:
                self.fail(f"{job_id}: {task} took hermes' {name} away: {claim} became {record.get(name)}")
            if job_id in self.world.overlapping:
                continue
            self.world.cover("hermes", "is met")
            if any("fire_at" in entry for entry in new):
                self.fail(f"{job_id}: {new} is claimed to run while hermes goes")

    def _segment(self, trace, before, record) -> None:
        """An edit of schedule or jitter starts a new count; what the old one owed is judged here and now."""
        rhythm = self.world.rhythm_of(record)
        if before["next_run_at"] is None and not before["enabled"] and record["next_run_at"] is not None:
            trace.edited = True  # one that was spent goes on, by the edit of a person
        if rhythm == trace.rhythm:
            if record["next_run_at"] and all(last < trace.first for _, last, _ in trace.spans):
                # Worked out anew, with nothing claimed since, on a machine whose clock is behind.
                trace.first = min(trace.first, stamp(record["next_run_at"]))
            return
        self._partition(trace, trace.first, through_of(before, record), closed=True)
        trace.rhythm, trace.first, trace.edited = rhythm, stamp(record["next_run_at"]), True

    def _wrote_row(self, key, row, task) -> None:
        before = self.rows.get(key)
        state, was = row["state"], before and before["state"]
        self.dirty.add(row["job_id"])
        if state in TERMINAL and was not in TERMINAL:
            self.ended_at[key] = self.world.now
        if key in self.torn:
            self._mended(key, row, task)
        elif was in TERMINAL and key in self.pruned and state in ("running", "accepted", "queued"):
            self.world.cover("row", "made again")  # by one who comes late: it is to take it back, and start nothing
            self.world.cover("row made again", state)
            self.made_late[key] = task
        elif key in self.pruned and (state == was in ("skipped", "missed") or (state, was) == ("missed", "lost")):
            self.world.cover("row", "written again after it was pruned")  # the same words, by one who comes late
        elif was in TERMINAL and row == before:
            self.world.cover("row", "written again, the same")  # by its runner, whose own write may not be durable
        elif (
            was in TERMINAL
            and "its output could not be kept" in row.get("reason", "")
            and row == before | {"reason": row["reason"]}
        ):
            self.world.cover("row", "says what became of the output")
        elif was in TERMINAL:
            self.fail(f"{key} was {was} and became {state}: by {task}")
        elif state not in NEXT[was]:
            self.fail(f"{key} went from {was} to {state}")
        trace = self.jobs[row["job_id"]]
        if row["run_id"] not in trace.entries:
            self.fail(f"{key} has no entry in open")
        if state == "missed" and row["run_id"].startswith("manual") and task.kind != "remove":
            self.fail(f"{key} was asked for by a person, and is missed")
        attempts = row.get("attempts", ())
        if attempts and attempts[-1]["state"] == "lost" and len(attempts) > len((before or {}).get("attempts", ())):
            self._lost(row if before is None else before, attempts[-1], task)
        if state in ("skipped", "missed") and any(s[:2] == (row["job_id"], row["run_id"]) for s in self.starts):
            self.fail(f"{key} is {state}, but it was started")
        if state in ("ok", "timeout", "interrupted") and not any(
            s[:2] == (row["job_id"], row["run_id"]) for s in self.starts
        ):
            self.fail(f"{key} is {state}, but was never started")
        self.world.log("%r writes %s %s of %s", task, state, row["run_id"], row["job_id"])
        self.world.cover("row", state)
        self.rows[key] = row

    def _mended(self, key, row, task) -> None:
        """A row that could not be read is written anew: its bytes are kept, and a run of it never starts again for it."""
        data = self.torn.pop(key)
        kept = [self.world.store.read(aside).data for aside in self.world.store.list(ASIDE)]
        if data not in kept:
            self.fail(f"{task} writes {key} anew, and what stood there is kept nowhere")
        if row["state"] == "accepted" and (row.get("attempts") or [{"state": "lost"}])[-1]["state"] == "lost":
            self.fail(f"{task} makes {key}, which could not be read, accepted: its run may have done its work")
        lost = (row.get("attempts") or [{}])[-1].get("state") == "lost"
        if lost and task.saw.get(f"{row['job_id']}/{row['run_id']}"):
            self.fail(f"{task} makes {key}, which could not be read, lost: how its run ended stood beside its lock")
        self.world.cover("rot", f"made anew as {row['state']}")

    def _lost(self, row, attempt, task) -> None:
        reason = attempt.get("reason", "")
        self.world.cover("lost", reason[:9])
        if reason.startswith("unlocked") or row["state"] != "running":
            return
        if reason.startswith("its row could not be read") and self.world.cfg.machines > 1:
            self._may_run_elsewhere(row, task)
            return
        run = self.world.runs[row["owner"]["token"]]
        sees = run.machine == task.machine and not task.blind
        if task.saw.get(run.token) and sees:
            self.fail(
                f"run {row['run_id']} of {row['job_id']} is lost, but how it ended stood beside its lock: by {task}"
            )
        over = self.world.clock_of(task) >= stamp(row["lease_ends_at"])
        if run.machine == task.machine:  # whatever its clock on the wall was set to meanwhile
            over = self.world.now - run.began >= stamp(row["lease_ends_at"]) - stamp(row["started_at"]) - DRIFT_S
        if (
            sees
            and not over
            and "could not be read" not in reason
            and not run.noted
            and not run.released
            and run.supervisor.dead
            and not self._rebooted(run.token)
        ):
            self.fail(f"run {row['run_id']} of {row['job_id']} is lost, but its job was never begun: by {task}")
        if run.supervisor.dead or ("could not be read" in reason and not run.noted):
            return
        begun = (row["job_id"], row["run_id"], attempt["attempt"]) in self.starts
        if run.machine != task.machine and self.world.cfg.leaps and not self.world.cfg.nas:
            return
        if not over or (run.supervisor.done and not begun and sees):
            self.fail(f"run {row['run_id']} of {row['job_id']} is lost, but its runner {run.supervisor} never crashed")

    def _may_run_elsewhere(self, row, task) -> None:
        """Where its lock cannot be seen, a lease that began with its claim is all there is; until then it may go on."""
        run, world = self.world.runs[row["owner"]["token"]], self.world
        entry = self.jobs[row["job_id"]].entries[row["run_id"]]
        least = stamp(entry["claimed_at"]) + LEAST_LEASE_S - 40.0  # by so much may the clocks of machines differ
        if run.machine != task.machine and world.clock_of(task) < least:
            self.fail(
                f"{task} calls {row['run_id']} of {row['job_id']} lost, whose row cannot be read, though it may run on another machine"
            )

    def deleting(self, key: str) -> None:
        if key.startswith(JOB_PREFIX):
            job = key.rpartition("/")[2].removesuffix(".json")
            if key == place_of(self.world.store, job) and json.loads(self.world.store.read(key).data)["jobs"]:
                self.fail(f"the document of {job} is deleted while it has the job")
        if not key.startswith("cron/runs/"):
            return
        state = self.rows[key]["state"]
        if state in TERMINAL:
            self._prunes(key)
            self.pruned[key] = state
        elif key in self.pruned:
            self.rows[key] = self.rows[key] | {"state": self.pruned[key]}
            maker = self.made_late.pop(key, None)
            self.world.cover("row", "taken back" if maker is self.world.tasks.current else "taken back by another")
        elif self.jobs[self.rows[key]["job_id"]].removed:
            del self.rows[key]
            self.world.cover("row", "taken back, its job was removed")
        else:
            self.fail(f"{key} is pruned while {state}")

    def _prunes(self, key) -> None:
        """The newest rows stay, by a clock that is right, and hardly anything in these worlds is old."""
        folder, _, _name = key.rpartition("/")
        when = lambda other: other.rpartition("/")[2].removeprefix("manual-").removesuffix(".json")  # noqa: E731
        now, soon = (run_id_of(datetime.fromtimestamp(self.world.now + more, UTC)) for more in (0.0, 120.0))
        newer = [other for other in self.world.store.list(folder + "/") if when(key) < when(other) <= soon]
        if self.world.cfg.jumps or (self.world.cfg.leaps and not self.world.cfg.nas):
            return
        if self.world.now > self.world.cfg.start + 20 * DAY_S:
            return  # the end of a lease was waited for that a clock far ahead had written
        if len(newer) < self.world.cfg.keep and when(key) <= now and not self.jobs[folder.rpartition("/")[2]].removed:
            self.fail(f"{key} is pruned, and only {len(newer)} are newer")

    # -- what a machine does to documents --------------------------------------------------------------------------

    def rotted(self, key: str) -> None:
        """Other bytes stand there now."""
        found = self.world.store.read(key)
        data = b"" if found is None else found.data
        if key in self.rows and read_object(data) != self.rows[key]:  # a line's end alone may be gone
            self.torn[key] = data
            job = self.rows[key]["job_id"]
            self.excuse_lateness(job, "a row of it rotted")
        elif key.startswith("cron/arms/"):
            self._arm_is_lost(key)
        elif key.startswith("cron/arm-packs/"):
            for job in self.jobs:
                self._arm_is_lost(f"cron/arms/{job}.json")

    def _arm_is_lost(self, key: str) -> None:
        job = key.removeprefix("cron/arms/").removesuffix(".json")
        self.generations.pop(job, None)
        self.left.pop(job, None)
        self.keys_lost.add(job)
        self.excuse(job, "its arm document was lost")

    def cut(self, changed: dict[str, tuple[bytes | None, bytes | None]]) -> None:
        """The power was cut: whatever a durable write has made unrecoverable was durable before it."""
        for key, (before, after) in changed.items():
            self.world.log(
                "%s is %s", key, "gone" if after is None else "back" if before is None else f"{after[:20]!r}"
            )
            self.world.cover("reboot", "a document is gone" if after is None else "a document is another")
            if key in (JOBS_KEY, "ESTOP") or (key.startswith(ASIDE) and before is not None):
                self.fail(f"a power cut takes back what {key} said")
            if key in self.rows and before is not None:
                self._row_was_cut(key, after)
            elif key.startswith(("cron/arms/", "cron/arm-packs/")):
                self.rotted(key)

    def _row_was_cut(self, key, after) -> None:
        row = self.rows[key]
        trace = self.jobs[row["job_id"]]
        if trace.removed or key in self.torn:
            return
        open_now = [entry["run"] for entry in trace.record["chronos"].get("open", ())]
        if row["run_id"] not in open_now:
            self.fail(f"a power cut takes {key}, which said {row['state']}, and nothing tells of it any more")
        if row["state"] in RAN | {"running"}:
            self.fail(f"a power cut takes back that {key} said {row['state']}")
        if after is None:
            del self.rows[key]
        else:
            self.torn[key] = after

    # -- one look ----------------------------------------------------------------------------------------------------

    def over_now(self, task: Task) -> list[tuple[str, str]]:
        """The rows that say running though this machine can see that their runs are over, with their locks' tokens."""
        if task.kind not in ("door", "tick", "reconcile"):
            return []
        found = []
        for key, row in self.rows.items():
            if row["state"] != "running" or key in self.torn or task.job not in (None, row["job_id"]):
                continue
            if key in self.made_late:
                continue  # in nobody's hand
            run = self.world.runs[row["owner"]["token"]]
            if run.machine == task.machine and not run.is_held(self.world) and not run.released:
                found.append((key, run.token))
        return found

    def _looked(self, task: Task) -> None:
        """What was over before a look, and could be seen by it, is settled by it."""
        for key, token in task.over:
            row = self.rows.get(key)
            if row is None or row["state"] != "running" or key in self.torn or task.blind:
                continue
            gone = self.jobs[row["job_id"]].removed or row["job_id"] in self.world.broken
            if (
                not gone
                and row["owner"]["token"] == token
                and (self.world.cfg.machines == 1 or not self._rebooted(token))
            ):
                self.fail(f"{key} says running still after {task}, though its process was gone before")

    def _rebooted(self, token: str) -> bool:
        run = self.world.runs[token]
        return run.boot != self.world.boots[run.machine]

    def refused(self, task: Task, error: ChronosError) -> None:
        """One broken document harms one job: no command about others, or about all, ends for it."""
        record = self.world.broken and isinstance(error, UsageError)
        record = record and not (
            task.kind == "edit" and self.world.loose_time
        )  # its new time may be past by this clock
        if not isinstance(error, DocumentError) and not record:
            return
        about = {self.rows[key]["job_id"] for key in self.torn} | self.world.broken.keys()
        if task.kind in ("tick", "reconcile", "remove") or (task.job in self.jobs and task.job not in about):
            self.fail(f"{task} ends for a document that it can do without: {error.line()}")

    # -- processes -----------------------------------------------------------------------------------------------

    def forgotten(self, run: SimRun, task: Task) -> None:
        """A lock's file goes: by then its row says how the run ended, or that it may start again."""
        key = f"cron/runs/{run.job_id}/{run.run_id}.json"
        row = self.rows.get(key)
        if (
            row is not None
            and key not in self.torn
            and row["state"] == "running"
            and row["owner"]["token"] == run.token
        ):
            self.fail(f"{task} removes the lock's file of {run.run_id} of {run.job_id}, and its row says running")

    def starting(self, run: SimRun) -> None:
        what = (run.job_id, run.run_id, run.attempt)
        if what in self.starts:
            self.fail(f"{what} is started twice")
        self.starts.add(what)
        row = self.rows[f"cron/runs/{run.job_id}/{run.run_id}.json"]
        if row["state"] != "running" or row["owner"]["token"] != run.token:
            if row["state"] != "lost" and (row.get("attempts") or [{}])[-1].get("state") != "lost":
                self.fail(f"{what} starts while its row is {row['state']}")
            return
        now = self.world.now
        for other in self.world.live:
            if other is run or other.job_id != run.job_id or not other.goes(now):
                continue
            if other.run_id == run.run_id:
                self.fail(f"{what} is started while attempt {other.attempt} of it goes")
            mine, theirs = run.run_id.startswith("manual"), other.run_id.startswith("manual")
            their_row = self.rows[f"cron/runs/{run.job_id}/{other.run_id}.json"]
            exclusive = run.job_id not in self.world.overlapping and their_row["state"] == "running"
            if exclusive and not mine and not theirs:
                self.fail(f"{what} is started while {other.run_id} of the same job goes")

    # -- the chain -----------------------------------------------------------------------------------------------

    def slot_set(self, job: str) -> None:
        trace = self.jobs.get(job)
        self.dirty.add(job)
        if trace is None:
            return
        if trace.live:
            trace.chained, trace.excuse = True, None
        sender, slot = self.world.tasks.current, self.world.nas.slots[job]
        self.setters[job] = sender
        if job in self.dropped and slot.name == "answered" and not self._looks(job, trace):
            self.fail(f"an answer arms {job}, of which NAS has heard since that it wants nothing")
        watched = sender is not None and sender.kind == "door" and not self.world.loose_time
        for entry in trace.record["chronos"].get("open", ()) if watched and not trace.removed else ():
            unstarted = entry["kind"] == "run" and f"cron/runs/{job}/{entry['run']}.json" not in self.rows
            if (
                unstarted
                and trace.claimers[entry["run"]] is sender
                and slot.fire_at > self.world.clock_of(sender) + SLACK_S
            ):
                self.fail(f"{sender} arms {self.world.text(slot.fire_at)} before {entry['run']} of {job} has started")

    def moves(self, job: str, slot: Slot) -> None:
        """Another instant comes for a job that NAS is to fire within its tolerance: reconcile leaves it to that."""
        task, trace, world = self.world.tasks.current, self.jobs.get(job), self.world
        calm = len(world.skews) == 1 and not world.loose_time and world.nas.char == {"spreads"}
        if task is None or task.kind != "reconcile" or trace is None or not trace.live or not calm:
            return
        if task.began < slot.fire_at:
            return  # what it was told, and what it sends, may be from before it was due
        if stamp(trace.record["next_run_at"]) == slot.fire_at and not self._looks(job, trace) and trace.excuse is None:
            self.fail(f"{task} moves {self.world.text(slot.fire_at)} of {job}, which NAS spreads until {slot.due:.0f}")

    def slot_cancelled(self, job: str) -> None:
        self.dirty.add(job)
        trace, own = self.jobs.get(job), self.world.store.read(f"cron/arms/{job}.json")
        arm = None if own is None else read_object(own.data)
        if trace is not None and not trace.live and arm is not None and "generation" in arm.get("features", ()):
            self.dropped.add(job)

    def without_next(self, job: str, door: Task | None) -> None:
        """A 2xx that lacks the next wake is repeated: no NAS asks for it before one has come from a job's callback."""
        if door is not None and job not in self.carrying:
            self.fail(f"{door} answers as its kind does, and NAS, which was told that it carries more, calls again")

    def told_of_cancel(self, task: Task, error: ChronosError | None) -> None:
        """A person's cancel fails for a fault of NAS or the line, never since somebody armed at the same moment."""
        self.world.cover("cancel", "went well" if error is None else "failed")
        if isinstance(error, NasRejectedError) and error.status == 409:
            self.fail(f"{task} is told that its cancel is old: {error.line()}")

    def leaves(self, delivery: Delivery, status: int, body: dict | None, door: Task, *, came: float) -> None:
        """An answer leaves. What it says again, or late, is not all that NAS has of the wake."""
        job, number = delivery.job_id, str(delivery.number)
        wake = (body or {}).get("next") if 200 <= status < 300 else None
        if not isinstance(wake, dict) or "fire_at" not in wake:
            return
        nas, trace = self.world.nas, self.jobs.get(job)
        beside = any(d.job_id == job and d is not delivery and not d.cancelled for d in nas.deliveries)
        held = backends.earliest(nas, job) is not None or beside
        left, count = self.left.get(job, (None, 0))
        if left == number and door.number > count and trace is not None and trace.live and not held:
            self.fail(f"{door} answers delivery {number} again, and but for that NAS knows of no wake of {job}")
        self.left[job] = number, self.world.tasks.count
        late = self.world.clock_of(door) - stamp(wake["fire_at"])
        in_time = self.world.now - came <= PLATFORM_S and self.world.cfg.mode != "detached"
        if in_time and late > LATE_S and not held and trace is not None and trace.live and not self.world.loose_time:
            self.fail(f"{door} answers with a wake of {job} that was due {late:.0f} s ago, and NAS knows of no other")

    def answered(self, job: str, status: int, door: Task) -> None:
        """NAS hears an answer. After a 2xx it forgets the fire: then what this door claimed must have started."""
        self.dirty.add(job)
        trace = self.jobs.get(job)
        if trace is None or trace.removed or job in self.world.broken or door.held or not 200 <= status < 300:
            return  # what was claimed when the hold came is started when it is lifted
        for entry in trace.record["chronos"].get("open", ()):
            if entry["kind"] != "run" or trace.claimers[entry["run"]] is not door:
                continue
            if f"cron/runs/{job}/{entry['run']}.json" not in self.rows:
                self.fail(f"{door} answers {status}, but {entry['run']} of {job}, which it claimed, has not started")

    def cleared(self, job: str, door: Task) -> None:
        """A 2xx cleared the slot: whoever answered, or its runner, puts something into it again."""
        if not door.after and all(runner.done for runner in door.runners):
            self.excuse(job, "nobody outlives the answer that cleared the slot")

    def late(self, job: str, label: str) -> None:
        """A call took effect after its caller had given up: a cancel may then hit a live job."""
        self.excuse_lateness(job, "a late call")
        if label == "nas cancel":
            self.excuse(job, "a late cancel")

    def excuse(self, job: str | None, why: str) -> None:
        for name in [job] if job else list(self.jobs):
            if name in self.jobs:
                self.jobs[name].excuse = self.jobs[name].late_ok = why

    def excuse_lateness(self, job: str | None, why: str) -> None:
        for name in [job] if job else list(self.jobs):
            if name in self.jobs:
                self.jobs[name].late_ok = why

    def ended(self, task: Task, *, crashed: bool) -> None:
        """A process is over. One that cancelled and then fell over may leave a live job bare until reconcile."""
        troubled = crashed or task.failed
        if task.kind == "door" and crashed:
            self.unheard = True
        if task.kind == "cancel":
            self.excuse(task.job, "a person has dropped its timer")
        if task.kind in ("pause", "remove") and not troubled:
            self._is_dropped(task)
        if task.over and not troubled and task.touched:
            self._looked(task)
        if self.world.cfg.machines > 1 and not task.dead:
            self._left(task)
        if troubled:
            for job in task.cancelled:
                self.excuse(job, f"{task} cancelled and fell over")
            if (task.kind == "runner" or task.after) and self.world.nas.char & CLEARING:
                self.excuse(task.job, f"{task}, which was to provision again, fell over")
        if task.kind in (
            "add",
            "pause",
            "resume",
            "edit",
            "remove",
            "reconcile",
            "runner",
            "tick",
            "manual",
            "unlock",
            "hold",
        ):
            if troubled:
                self.excuse_lateness(task.job, f"{task} fell over")
        elif task.kind == "door" and crashed and task.result == "ghost":
            self.excuse_lateness(task.job, "a ghost's door crashed")
        elif (task.failed or (crashed and self.world.cfg.mode == "sync")) and self.world.nas.char & {
            "upsert cancels redelivery",
            "redelivery retakes slot",
        }:
            # Its first arm may have taken away the redelivery that would mend the second.
            self.excuse_lateness(task.job, f"{task} fell over")
        self.dirty.update([task.job] if task.job else self.jobs)

    def _is_dropped(self, task: Task) -> None:
        """Who says that a job wants nothing, and gets through to NAS, leaves nothing ahead there."""
        job, world = task.job, self.world
        trace, slot = self.jobs.get(job or ""), world.nas.slots.get(job)
        if trace is None or trace.live or slot is None or slot.attempt or world.loose_time or not world.cfg.nas:
            return
        setter = self.setters.get(job)
        busy = any(other is not task and other.job in (job, None) for other in world.tasks.all)
        excused = trace.excuse or setter is None or setter.dead or setter.failed or busy or job in world.broken
        follows = (
            slot.fire_at <= self._need(trace) + 60.0
        )  # what is in hand is seen through, though no other is to come
        if not excused and not follows and slot.fire_at > world.now + 60.0:
            self.fail(f"{task} went well, and NAS holds {world.text(slot.fire_at)} for {job}, which wants nothing")

    def _is_being_sent(self, job: str) -> bool:
        arm = self.world.store.read(f"cron/arms/{job}.json")
        return arm is not None and (read_object(arm.data) or {}).get("state") == "unconfirmed"

    def _left(self, task: Task) -> None:
        """Where nobody else sees a lock, a runner stays until its run's end is on record, or its lease is over."""
        for run in self.world.live:
            row = self.rows.get(f"cron/runs/{run.job_id}/{run.run_id}.json") if run.supervisor is task else None
            if (
                row is None
                or row["state"] != "running"
                or row["owner"]["token"] != run.token
                or self.jobs[run.job_id].removed
            ):
                continue
            if self.world.now - run.began < stamp(row["lease_ends_at"]) - stamp(row["started_at"]) - DRIFT_S:
                self.fail(f"{task} has ended, and {run.run_id} of {run.job_id} says running still")

    def chain(self) -> None:
        """Every live job has a one-shot or a redelivery ahead of it; and, where all went well, in time."""
        world = self.world
        if not world.cfg.nas or not self.dirty:
            return
        for job in list(self.dirty):
            trace = self.jobs.get(job)
            if trace is None or not trace.live or job in world.broken:
                if trace is not None:
                    trace.chained = False
                self.dirty.discard(job)
                continue
            busy = [task for task in world.tasks.all if task.job in (job, None)]
            if trace.chained and trace.excuse is None and not world.nas.owed(job):
                after = any(task.kind == "runner" or task.after for task in busy)
                owing = world.nas.char & CLEARING and after
                # What another's call put into the slot in between came, and that other looks once it has its answer.
                # Of the keys that a rotted document held nobody knows, and NAS takes none twice: the next list shows it.
                spent = job in self.keys_lost or (busy and self._is_being_sent(job))
                owing = owing or ("keys for ever" in world.nas.char and spent)
                if not owing and not any(job in task.cancelled for task in busy):
                    self.fail(f"live job {job} has no one-shot, and no redelivery is owed")
            if busy:
                continue
            self.dirty.discard(job)
            if trace.record["chronos"].get("policy", {}).get("grace", 86_400) < 7_200:
                continue  # what is late already is missed, and the next instant is what counts
            if trace.chained and trace.late_ok is None and trace.excuse is None and not world.loose_time:
                self._in_time(job, trace)

    def _in_time(self, job, trace) -> None:
        world = self.world
        slot = backends.earliest(world.nas, job)
        if slot is None or any(d.job_id == job and not d.ghost and not d.cancelled for d in world.nas.deliveries):
            return
        if {"clock ahead", "upsert cancels redelivery"} <= world.nas.char:
            return  # what stands behind an owed redelivery, minutes later, cancels that one
        need = self.need(job, trace)
        own = world.store.read(f"cron/arms/{job}.json")
        arm = read_object(own.data) if own is not None else find_line(world.store, job)
        if arm is None:
            return
        confirmed = arm["state"] == "confirmed" and not arm.get("spent") and world.nas.char <= PLAIN
        if confirmed and not slot.attempt and slot.fire_at != stamp(arm["fire_at"]):
            self.fail(f"{job} notes that NAS has {arm['fire_at']}, but NAS holds {world.text(slot.fire_at)}")
        slack = (
            SLACK_S
            + (45.0 if len(world.skews) > 1 else 0.0)
            + (900.0 if arm.get("idle") else 0.0)
            + 3.0 * len(arm.get("keys", ()))
        )
        if need is not None and slot.fire_at > max(need, world.now) + slack:
            self.fail(f"job {job} is needed at {world.text(need)}, but NAS wakes it at {world.text(slot.fire_at)}")

    def need(self, job, trace) -> float | None:
        """When the job must be looked at, from its record and rows alone."""
        cursor = trace.record["next_run_at"]
        return min([*([stamp(cursor)] if cursor else []), *self._looks(job, trace)], default=None)

    def _looks(self, job, trace) -> list[float]:
        """When somebody has to look at what a job has in hand, whether or not it is in force."""
        record, times = trace.record, []
        policy = record["chronos"].get("policy", {})
        entries = record["chronos"].get("open", ())
        rows = [(entry, self.rows.get(f"cron/runs/{job}/{entry['run']}.json")) for entry in entries]
        queued = any(row is not None and row["state"] == "queued" for _, row in rows)
        for entry, row in rows:
            if row is None and entry["kind"] == "run":
                times.append(stamp(entry["claimed_at"]))  # claimed, and not started yet
            if row is not None and row["state"] == "accepted" and row["attempt"] > 1:
                times.append(stamp(row["not_before"]))
            if row is not None and row["state"] == "running" and (queued or policy.get("on_crash") == "rerun"):
                times.append(stamp(row["lease_ends_at"]))
        return times

    # -- the end -------------------------------------------------------------------------------------------------

    def quiet(self) -> None:
        """The world is quiet: everything is accounted for."""
        world = self.world
        backends.count_price(world.nas)
        for job, trace in self.jobs.items():
            record = trace.record
            if not trace.removed:
                if left := self.unsettled(trace):
                    self.fail(f"{job} still has in hand: {left}")
                self._accounted(job, trace)
            if world.cfg.nas:
                if trace.live and not world.nas.owed(job):
                    self.fail(f"live job {job} is not armed once the world is quiet")
                held = backends.earliest(world.nas, job)
                # One whose instant is over comes by itself, where NAS spreads or its clock is behind, and finds nothing.
                unwanted = not trace.live and trace.excuse is None
                if unwanted and held is not None and not held.attempt and held.fire_at > world.now:
                    self.fail(f"job {job} wants nothing, but NAS holds {held}")
            if trace.live and stamp(record["next_run_at"]) > self.free(job, trace) + 2 * DAY_S:
                self.fail(f"{job} sleeps until {record['next_run_at']}")
            if trace.live and stamp(record["next_run_at"]) <= world.now - 1:
                self.fail(f"the cursor of {job} is past: {record['next_run_at']}")

    def free(self, job, trace) -> float:
        """The first instant ahead that has no row: what has one never runs again, though a clock was ahead then."""
        if isinstance(trace.rhythm, Single):
            return float("inf")
        at = trace.rhythm.next(self.world.now)
        while f"cron/runs/{job}/{run_id_of(datetime.fromtimestamp(at, UTC))}.json" in self.rows:
            at = trace.rhythm.next(at)
        return at

    def last_need(self) -> float:
        """The latest instant at which something in hand falls due: a retry, or the end of a lease."""
        return max((self._need(trace) for trace in self.jobs.values() if not trace.removed), default=0.0)

    def _need(self, trace) -> float:
        times, timeout = [0.0], trace.record["chronos"].get("policy", {}).get("timeout", 0)
        for entry in self.unsettled(trace):
            key = f"cron/runs/{trace.record['id']}/{entry['run']}.json"
            row = self.rows.get(key) or {}
            times += [stamp(row[name]) for name in ("not_before", "lease_ends_at") if name in row]
            if key in self.torn:  # its run may go on, as far as one can tell who reads that
                times.append(stamp(entry["claimed_at"]) + timeout + MARGIN_S)
        return max(times)

    def bare(self) -> bool:
        """Whether a live job is not armed for a reason that only reconcile can mend."""
        return self.world.cfg.nas and any(
            trace.live and trace.excuse and not self.world.nas.owed(job) for job, trace in self.jobs.items()
        )

    def stray(self) -> bool:
        """Whether a timer that nobody wants is left at a NAS that replaces none: the next reconcile drops it."""
        nas = self.world.nas
        return backends.NEVER_REPLACES in nas.char and any(
            not trace.live and backends.earliest(nas, job) is not None for job, trace in self.jobs.items()
        )

    def unsettled(self, trace) -> list[dict]:
        """What a job has in hand that is not over.

        An entry whose row is terminal only waits for the next look, unless that cannot read it.
        """
        folder = f"cron/runs/{trace.record['id']}/"
        keys = ((entry, f"{folder}{entry['run']}.json") for entry in trace.record["chronos"].get("open", ()))
        return [e for e, key in keys if key in self.torn or self.rows.get(key, {}).get("state") not in TERMINAL]

    def _accounted(self, job, trace) -> None:
        for run, entry in trace.entries.items():
            key = f"cron/runs/{job}/{run}.json"
            row, maker = self.rows.get(key), self.made_late.get(key)
            left_back = maker is not None and (maker.dead or maker.failed)  # whoever prunes next takes it back
            if (row is None or row["state"] not in TERMINAL) and not left_back:
                self.fail(f"{job}: {entry['kind']} {run} has no terminal row, but {row and row['state']}")
        through = trace.record["chronos"].get("claimed_through")
        if through is not None:
            self._partition(trace, trace.first, stamp(through), closed=False)
        times = trace.record.get("repeat", {}).get("times")
        counted = sum(1 for _, _, entry in trace.spans if entry["kind"] in ("run", "queued"))
        if times and counted > times and not trace.edited:
            self.fail(f"{job} ran {counted} times, of {times}")

    def _partition(self, trace, first, through, *, closed) -> None:
        """Every instant of the schedule from `first` to `through` lies in just one claimed span."""
        spans = sorted((s for s in trace.spans if s[1] >= first), key=lambda s: s[:2])
        rhythm = trace.rhythm
        if isinstance(rhythm, Single):
            if len([s for s in spans if s[0] == first]) > 1:
                self.fail(f"the instant of {trace.record['id']} was claimed twice")
            return
        at = first
        for start, end, entry in spans:
            if start > through:
                break
            while at < start and at in trace.taken:  # it was brought back, and is on record all the same
                at = rhythm.next(at)
            if start != at:
                kind = "claimed twice" if start < at else "never claimed"
                self.fail(f"{trace.record['id']}: {self.world.text(min(start, at))} was {kind} (then {entry})")
            if not rhythm.has(start):
                self.fail(f"{trace.record['id']}: {entry} is no instant of its schedule")
            if not rhythm.has(end):
                self.fail(f"{trace.record['id']}: {entry} ends between two instants of its schedule")
            number = rhythm.count(start, end)
            count, exact = entry.get("count", 1), entry.get("exact", True)
            if count != (number if number <= 1000 or exact else 1000):
                self.fail(f"{trace.record['id']}: {entry} counts {count} of {number}")
            at = rhythm.next(end)
        while at <= through and at in trace.taken:
            at = rhythm.next(at)
        if at <= through:
            self.fail(f"{trace.record['id']}: {self.world.text(at)} was passed over in silence")
        cursor = trace.record["next_run_at"]
        if not closed and trace.live and stamp(cursor) != at:
            self.fail(f"{trace.record['id']}: its cursor is {cursor}, but {self.world.text(at)} comes next")


def read_object(data: bytes) -> dict | None:
    """A row or an arm document, None where it cannot be read."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "state" in found else None


def through_of(before, after) -> float:
    """How far the old schedule was settled by the write that ended it."""
    text = after["chronos"].get("claimed_through") or before["chronos"].get("claimed_through")
    return stamp(text) if text else 0.0
