"""Real agents for the proofs of the protocol, and how they are judged from outside.

with command_agent(tmp_path, nas) as agent:                  # every fire of NAS is one `chronos fire` process
    agent.put_jobs(["a", "b"], due_in=1.5)                    # hourly jobs whose next occurrence is near
    agent.kills["a"] = "claimed"                              # kill -9 the first fire of that job, at that step
    agent.judge("a")                                          # the promises, from files and NAS alone

The jobs keep a diary: a line for every start, with the occurrence, and `OVERLAP` where the last one still went.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import forked
from tests.agent_home import AgentHome
from tests.fire_tokens import SigningKey, serve_jwks
from tests.nas_process import Callback

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from tests.nas_process import Answer, Fire, NasProcess

KILL_AT = "CHRONOS_TEST_KILL_AT"
TERMINAL = {"ok", "failed", "timeout", "interrupted", "lost", "skipped", "missed"}

_STATUS = {0: 200, 10: 200, 2: 400, 4: 401}
"""What a web hook around `chronos fire` answers; on anything else, a kill above all, it asks for it again soon."""
_AGAIN = (503, {"Retry-After": "1"})


def diary_script(agent: Agent, *, seconds: float = 0.2, then: str = "true") -> str:
    """A job that writes down its start, and whether the one before it still went."""
    return (
        f'D="{agent.home}/diary-$CHRONOS_JOB_ID"; P=$(cat $D.pid 2>/dev/null || echo none); echo $$ > $D.pid; '
        # A killed process nobody has reaped yet still has its number.
        "{ read -r _ _ S _ < /proc/$P/stat; } 2>/dev/null || S=Z; "
        '[ "$S" = Z ] || [ "$S" = X ] || echo OVERLAP >> $D; '
        f'echo "${{CHRONOS_FIRE_AT:-manual}}" >> $D; sleep {seconds}; {then}'
    )


UNTIL_LET_GO = 'until [ -e "$D.go" ]; do sleep 0.02; done'
"""The end of a diary script that goes on until `Agent.let_go`."""


class Agent(AgentHome):
    """An agent's home, its jobs and what they left behind."""

    def __init__(self, home: Path, nas: NasProcess, **options: Any) -> None:
        super().__init__(home, nas, **options)
        self.nas = nas

    def ok(self, *arguments: str, **more: str) -> str:
        """Run a command that must succeed; its stdout."""
        done = self.chronos(*arguments, **more)
        assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def json(self, *arguments: str, code: int = 0, **more: str) -> dict[str, Any]:
        """The document of a command that must end with `code`."""
        done = self.chronos(*arguments, "--json", **more)
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def put_jobs(
        self,
        job_ids: Sequence[str],
        *,
        due_in: float,
        script: str | None = None,
        options: Sequence[str] = (),
        changes: dict[str, dict[str, Any]] | None = None,
    ) -> datetime:
        """Hourly jobs, all due at one near second, and armed. `changes`: by job id, members of `chronos.policy`.

        One is added by the command, the others are written beside it as copies. Returns the instant.
        """
        first, *_ = job_ids
        self.ok("job", "add", "every 1h", "--id", first, *options, "--shell", script or diary_script(self))
        document = json.loads((self.home / "cron/jobs.json").read_text())
        template = next(job for job in document["jobs"] if job["id"] == first)
        document["jobs"].remove(template)
        due = datetime.fromtimestamp(int(time.time() + due_in), tz=UTC)
        for job_id in job_ids:
            job = json.loads(json.dumps(template)) | {"id": job_id, "name": job_id, "next_run_at": due.isoformat()}
            job["chronos"]["anchor"] = due.isoformat()
            job["chronos"]["policy"] = job["chronos"].get("policy", {}) | (changes or {}).get(job_id, {})
            document["jobs"].append(job)
        (self.home / "cron/jobs.json").write_text(json.dumps(document))
        self.reconcile()
        return due

    def reconcile(self) -> None:
        """The operation of `chronos reconcile`, here: a set-up need not wait for a program to start."""
        from chronos_cli.config import load_config
        from chronos_cli.operations.arming.reconcile import reconcile
        from chronos_cli.operations.assembly import ProcessEnvironment, open_home

        environ = self.env()
        done = reconcile(open_home(load_config(environ=environ), ProcessEnvironment(environ=environ, secrets={})))
        assert not done.failed, done

    def put_due(self, job_id: str, due: datetime | None) -> None:
        """Write a job's cursor by hand, as a person with an editor would. Nobody else may be writing; others may read."""
        path = self.home / "cron/jobs.json"
        document = json.loads(path.read_text())
        next(job for job in document["jobs"] if job["id"] == job_id)["next_run_at"] = due and due.isoformat()
        beside = path.with_name("jobs.edited")
        beside.write_text(json.dumps(document))
        beside.replace(path)

    def arm(self, job_id: str) -> dict[str, Any]:
        """A job's arm document."""
        return json.loads((self.home / "cron/arms" / f"{job_id}.json").read_text())

    def let_go(self, job_id: str) -> None:
        """Let a job that goes until it is let go come to its end, and every later run of it at once."""
        (self.home / f"diary-{job_id}.go").touch()

    def diary(self, job_id: str) -> list[str]:
        """The occurrences a job was started for, in order."""
        path = self.home / f"diary-{job_id}"
        return path.read_text().split() if path.exists() else []

    def wait_until(self, what: str, is_so: Any, *, timeout: float = 60) -> Any:
        """Poll until `is_so()` is true, and return what it returned."""
        until = time.monotonic() + timeout
        while not (result := is_so()):
            if time.monotonic() > until:
                raise AssertionError(f"not within {timeout} s: {what}; {self.state()}")
            time.sleep(0.03)
        return result

    def state(self, job_id: str | None = None) -> str:
        """What a failure's message says: what NAS did last, and the jobs' records, rows and diaries (or one job's)."""
        match = {"agent": self.access.audience} | ({} if job_id is None else {"job_id": job_id})
        shown = ("time", "event", "job_id", "fire_at", "status", "outcome")
        lines = ["nas " + " ".join(str(e[k])[:25] for k in shown if k in e) for e in self.nas.events(**match)[-12:]]
        lines += [f"armed {arm}" for arm in self.armed_at_nas()]
        for job in self.jobs():
            if job_id in (None, job["id"]):
                ours = {key: job["chronos"].get(key) for key in ("open", "claimed_through")}
                lines.append(f"{job['id']} {job['state']} next {job['next_run_at']} {ours} {self.diary(job['id'])}")
                lines += [f"  row {row['run_id']} {row['state']} {row.get('reason')}" for row in self.rows(job["id"])]
        log = self.log.read_text()[-1500:] if self.log.exists() else ""
        return "\n".join([*lines, log])

    def quiet(self, job_ids: Sequence[str], *, timeout: float = 60) -> None:
        """Wait until none of these jobs has anything in hand."""
        chosen = set(job_ids)
        self.wait_until(
            "all quiet",
            lambda: not any(job["chronos"].get("open") for job in self.jobs() if job["id"] in chosen),
            timeout=timeout,
        )

    def wait_for_cursors(self, *, timeout: float = 60) -> None:
        """Wait until all that NAS holds for these hourly jobs is their next occurrence."""
        self.wait_until(
            "the wakes are over",
            lambda: all(arm["fire_at"] >= self.job(arm["job_id"])["next_run_at"] for arm in self.armed_at_nas()),
            timeout=timeout,
        )

    def judge(self, job_id: str, *, since: datetime | None = None) -> list[dict[str, Any]]:
        """Hold a quiet live job to the promises, from outside; returns its rows.

        Every occurrence up to the last one claimed has exactly one row, and it is terminal; nothing ran beside itself;
        nothing is in hand; NAS holds one one-shot for it, at its next occurrence.
        """
        job, rows = self.job(job_id), self.rows(job_id)

        def where() -> str:
            return self.state(job_id)

        assert job["chronos"].get("open", []) == [], where()
        assert {row["state"] for row in rows} <= TERMINAL, where()
        scheduled = [(datetime.fromisoformat(row["scheduled_at"]), row) for row in rows if row.get("scheduled_at")]
        scheduled.sort(key=lambda pair: pair[0])
        for (_, before), (at, _) in pairwise(scheduled):
            assert datetime.fromisoformat(before.get("through", before["scheduled_at"])) < at, where()
        cursor = datetime.fromisoformat(job["next_run_at"])
        if since is not None:
            step = timedelta(minutes=job["schedule"]["minutes"])
            owed = int((cursor - since) / step)
            assert sum(row["count"] for _, row in scheduled) == owed, where()
        diary = self.diary(job_id)
        assert "OVERLAP" not in diary, where()
        started = {row["scheduled_at"]: len(row.get("attempts", ())) for _, row in scheduled}
        for occurrence in set(diary) - {"manual"}:
            assert 1 <= diary.count(occurrence) <= started.get(occurrence, 0), (diary, where())
        held = [arm for arm in self.armed_at_nas() if arm["job_id"] == job_id]
        assert len(held) == 1, where()
        # An instant that was armed and displaced before is armed a second later: NAS may remember its key for ever.
        assert cursor <= datetime.fromisoformat(held[0]["fire_at"]) <= cursor + timedelta(seconds=3), where()
        # A shim or a runner that has just sent it may still be noting NAS's answer. What an answer carried was shown by
        # NAS's list just above.
        states = ("confirmed", "answered")
        self.wait_until("its arm is confirmed", lambda: self.arm(job_id)["state"] in states, timeout=10)
        assert self.arm(job_id)["wake"] == cursor.isoformat(), where()
        return [row for _, row in scheduled]

    def armed_at_nas(self) -> list[dict[str, Any]]:
        """What NAS lists for this agent, every line of it."""
        reply = self.nas.call("GET", "/api/agent-cron/list", self.access.token)
        assert reply.status == 200, reply
        return reply.json["armed"]


class CommandAgent(Agent):
    """An agent behind a web hook: each call of NAS is one `chronos fire` process, its token our own key's."""

    def __init__(
        self, home: Path, nas: NasProcess, *, jwks_url: str, key: SigningKey, hook: str, **options: Any
    ) -> None:
        super().__init__(home, nas, **options)
        self.key = key
        self.kills: dict[str, str] = {}
        self.deliveries: list[tuple[str, str, int]] = []
        """Job, instant and exit code of every fire that came, in the order of their ends."""
        config = (home / "config.yaml").read_text()
        config = config.replace(f"{nas.url}/.well-known/jwks.json", jwks_url)
        (home / "config.yaml").write_text(config.replace(f"http://127.0.0.1:{self.port}", hook))

    def token(self, job_id: str, fire_at: str | None, **claims: Any) -> str:
        """A fire token as NAS would mint it."""
        bound = {"job_id": job_id, "aud": self.access.audience, "iss": self.nas.url}
        if fire_at is not None:
            bound["fire_at"] = fire_at
        return self.key.token(**bound, **claims)

    def start_fire(self, job_id: str, fire_at: str | None, *flags: str, **more: str) -> subprocess.Popen[str]:
        """Begin a `chronos fire`; its token is in its environment, as a web hook's would be."""
        named = [] if fire_at is None else ["--fire-at", fire_at]
        environ = self.env(CHRONOS_FIRE_TOKEN=self.token(job_id, fire_at), **more)
        return forked.start(["fire", "--job-id", job_id, *named, "--json", *flags], env=environ)

    def fire(self, job_id: str, fire_at: str | None, *flags: str, **more: str) -> tuple[int, dict[str, Any]]:
        """A whole `chronos fire`: exit code and document ({} where it was killed)."""
        with self.start_fire(job_id, fire_at, *flags, **more) as process:
            stdout, _ = process.communicate(timeout=60)
        return process.returncode, json.loads(stdout) if stdout.strip() else {}

    def on_call(self, call: Fire) -> Answer:
        """The web hook."""
        job_id, fire_at = call.body["job_id"], call.body["fire_at"]
        step = self.kills.pop(job_id, None)
        code, _ = self.fire(job_id, fire_at, **({KILL_AT: step} if step else {}))
        self.deliveries.append((job_id, fire_at, code))
        return _STATUS.get(code, _AGAIN)


@contextmanager
def command_agent(folder: Path, nas: NasProcess, **options: Any) -> Iterator[CommandAgent]:
    """An agent whose fires are commands, with its web hook and its keys."""
    name = f"agent-{os.urandom(4).hex()}"
    key = SigningKey.es256()
    with serve_jwks(key) as jwks, Callback() as hook:
        home = folder / f"{name}-home"
        agent = CommandAgent(home, nas, jwks_url=jwks.url, key=key, hook=hook.url, name=name, **options)
        hook.answer = agent.on_call
        yield agent


def is_gone(pid: int) -> bool:
    """Whether a process is over, reaped or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return Path("/proc/self").exists()  # gone meanwhile, or a system without /proc
