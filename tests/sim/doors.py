"""The callback's side of the simulation: a request comes in, the real operations answer it, runners outlive it.

What stands before the store is played too: the real reading of the body and the real judging of the claims, with a
request now and then that was spoiled on its way. Signatures and keys are left to tests/trust.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.callback.after_response import may_have_deleted
from chronos_cli.callback.request import parse_fire
from chronos_cli.core.decision import Outcome
from chronos_cli.errors import ChronosError, TemporaryError, TokenError
from chronos_cli.frozen import replace
from chronos_cli.operations.firing import admission, after_answer, answering, shared_end
from chronos_cli.operations.firing import fire as firing
from chronos_cli.operations.firing import run as running
from chronos_cli.operations.firing import run_end as through
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.shared_end import EndRequest, EndResult
from chronos_cli.trust.settings import TrustSettings
from chronos_cli.trust.tokens import check_claims, claims_from
from tests.sim import answers
from tests.sim.machines import PLATFORM_S

if TYPE_CHECKING:
    from tests.sim.nas import Delivery
    from tests.sim.tasks import Task
    from tests.sim.world import World

SETTINGS = TrustSettings(
    expected_audience="agent:1", issuer="https://nas", keys="https://nas/jwks", cache_dir=Path("/nowhere")
)
SPOILED: Final = ("body", "job id", "audience", "expired", "another job", "another time")


def start_door(world: World, delivery: Delivery, token: int, named: float | None) -> None:
    """A callback arrives."""
    told = "-" if named is None else world.text(named)
    world.log("NAS fires %s for %s, delivery %s, time %s%s", delivery.job_id, told, delivery.number, delivery.attempt,
              ", a ghost" if delivery.ghost else "")  # fmt: skip
    spoiled = None
    if world.faults and world.chance(world.cfg.p_spoiled):
        spoiled = world.rng.choice(SPOILED if named is not None else SPOILED[:-1])

    def body(task: Task, ctx: Any) -> None:
        task.result = "ghost" if delivery.ghost else None
        answer = _Answer(world, task, ctx, delivery)
        try:
            asked = _admitted(world, task, delivery, named, spoiled)
            answer.fire(asked)
        except (TokenError, ChronosError) as error:
            answer.failed(error, spoiled)
        answer.leave(token)

    world.spawn("door", delivery.job_id, body, budget=PLATFORM_S if world.cfg.mode == "frozen" else None)


def _admitted(
    world: World, task: Task, delivery: Delivery, named: float | None, spoiled: str | None
) -> admission.AuthorizedFire:
    """What the request may ask for, as the callback finds out before it reads any store."""
    request: dict[str, Any] = {"job_id": "../x" if spoiled == "job id" else delivery.job_id}
    if named is not None:
        request["fire_at"] = datetime.fromtimestamp(named, UTC).isoformat()
    data = json.dumps(request).encode()
    now = int(world.clock_of(task))
    # NAS's clock is minutes off, and ours may be hours: only one that is years off is told by the token.
    minted = int(world.now) if world.leapt[task.machine] else now
    claims = {"aud": "agent:1", "iss": "https://nas", "purpose": "cron_fire", "exp": minted + 300}
    claims |= answers.said_by_token(delivery)
    if spoiled == "audience":
        claims["aud"] = "agent:2"
    elif spoiled == "expired":
        claims["exp"] = now - 31
    elif spoiled == "another job":
        claims["job_id"] = "another"
    elif spoiled == "another time":
        claims["fire_at"] = datetime.fromtimestamp((named or 0.0) + 60, UTC).isoformat()
    check_claims(claims, SETTINGS, now)
    asked = parse_fire(data[:-2] if spoiled == "body" else data)
    return admission.admit(
        claims_from(claims), SETTINGS, job_id=asked.get("job_id"), fire_at=asked.get("fire_at")
    )  # fmt: skip


class _Answer:
    """One request being answered."""

    def __init__(self, world: World, task: Task, ctx: Any, delivery: Delivery) -> None:
        self.world, self.task, self.ctx, self.delivery = world, task, ctx, delivery
        self.report: firing.FireReport | None = None
        self.launcher: Any = InlineLauncher()
        if world.cfg.mode != "sync":
            self.launcher = SimDetached(world, task, wait_s={"detached": 0.0}.get(world.cfg.mode, PLATFORM_S))
        self.status, self.word, self.retry_after = 500, "", None
        self.door, self.body = answers.door_of(world), None
        self.came = world.now

    def fire(self, asked: admission.AuthorizedFire) -> None:
        world, number = self.world, str(self.delivery.number)
        if self.door is not None:
            world.check.carrying.add(asked.job_id)
        report = firing.fire(
            self.ctx,
            asked.job_id,
            fire_at=asked.fire_at,
            delivery=number,
            launcher=self.launcher,
            heard=datetime.fromtimestamp(world.now + world.nas.skew, UTC),
            door=self.door,
            by_answer=asked.by_answer,
            generation=asked.generation,
        )
        self.body = None if self.door is None else answering.body_of(report)
        self.report, self.status, self.retry_after = report, report.http_status, report.retry_after
        self.word = report.outcome.value
        world.cover("outcome", self.word)
        if report.reason and report.reason.startswith(("its wake", "no runner", "arm: refused")):
            world.cover("outcome", " ".join(report.reason.split()[:2]))
        if asked.fire_at is None and report.outcome is Outcome.EARLY:
            world.cover("outcome", "early, and nameless")
        if report.outcome is Outcome.CLAIMED:
            if world.faults and self.status == 202:
                world.cover("outcome", "claimed, detached")
            if report.runs:
                world.cover("outcome", f"claimed, waited, exit {int(report.exit_code)}")

    def failed(self, error: ChronosError, spoiled: str | None) -> None:
        self.status, self.word = error.http_status, f"error {error.code}"
        if spoiled is None:
            self.task.failed = True
        elif self.task.touched:
            self.world.check.fail(f"{self.task} was spoiled ({spoiled}), and yet it read the store")
        kind = {400: "malformed", 401: "refused", 503: "cannot be judged now"}.get(self.status, "a fault")
        self.world.cover("outcome", kind)

    def leave(self, token: int) -> None:
        """The answer goes to NAS, and what is done after it."""
        world, task = self.world, self.task
        world.pause(task, "answer")
        world.log("%r answers %s %s", task, self.status, self.word)
        owes = self.report is not None and may_have_deleted(self.ctx, self.report) and self.outlives
        task.after, task.held = owes, self.word == "held"
        world.check.leaves(self.delivery, self.status, self.body, task, came=self.came)
        answers.go(world, self.delivery, token, self.status, self.retry_after, task, self.body)
        task.last = "answer"
        if isinstance(self.launcher, SimDetached):
            self.launcher.answered = True
        if world.cfg.mode == "frozen":
            self._freeze()
        world.pause(task, "answered")
        if owes:
            pause = lambda seconds: world.pause(task, "looks", until=world.now + seconds)  # noqa: E731
            if after_answer.arm_again_if_deleted(self.ctx, self.report.job_id, pause):
                world.cover("outcome", "armed again after the answer")

    @property
    def outlives(self) -> bool:
        """Whether this process goes on once it has answered."""
        return self.world.cfg.mode in ("detached", "waits")

    def _freeze(self) -> None:
        """The platform stops whatever is not over when the answer leaves."""
        for runner in self.task.runners:
            if not runner.done:
                self.world.cover("process", "frozen")
                self.world.log("%r is frozen", runner)
                self.world.tasks.kill(runner)
                self.world.check.ended(runner, crashed=not runner.settled)


class SimDetached:
    """Starts a runner that outlives this process, as `operations.starting.Detached` does."""

    def __init__(self, world: World, task: Task, *, wait_s: float) -> None:
        self.world, self.task = world, task
        self.until = world.now + wait_s if wait_s else 0.0
        self.answered = False

    def launch(self, ctx, claim):
        world, task = self.world, self.task
        world.pause(task, "runner start")
        if world.faults and world.chance(world.cfg.p_runner_fails):
            world.cover("process", "no runner")
            raise TemporaryError("the runner did not start the job")
        first = None
        if world.faults and world.chance(world.cfg.p_slow_runner):
            # What a warm runner has forked comes to its claim late: it is handed to another, under another token.
            world.cover("process", "handed over twice")
            first = self._hand_over(claim, ctx, late_s=world.rng.uniform(0.0, 20.0))
            claim = replace(claim, starter=ctx.token())
        said, runner = self._hand_over(claim, ctx)
        task.last = "runner start"
        world.pause(task, "await runner", until=world.now + 8.0, cond=lambda: said or runner.done)
        if said and said[0] == "lost" and first is not None and first[0][:1] == ["running"]:
            said, runner = first
        if not said or said[0] == "failed":
            raise TemporaryError("the runner did not start the job: it said nothing in time")
        return None if said[0] == "lost" else SimRunning(world, task, said, runner, until=self.until)

    def _hand_over(self, claim, ctx, *, late_s: float = 0.0):
        """Have a process of its own take the claim, `late_s` from now; what it says, and the process."""
        world, task = self.world, self.task
        payload = json.dumps(claim.to_json())
        said: list[Any] = []

        def body(me, mine):
            if late_s:
                world.pause(me, "late", until=world.now + late_s)
            try:
                begun = running.begin(mine, running.RunTicket.from_json(json.loads(payload)))
            except ChronosError:
                said.append("failed")
                raise
            if begun is None:
                said.append("lost")
                return
            said.append("running")

            waited_for = self.until > world.now

            def settled() -> None:
                said.append("done")
                me.settled = waited_for  # else it arms after this
                # It waits until the answer has left, or whoever was to give it is gone, but not for ever.
                world.pause(me, "await answer", until=world.now + 15.0, cond=lambda: self.answered or task.done)

            server = self._server(me) if world.cfg.mode == "detached" else None
            through.wait_and_follow_up(
                mine, begun, ended=said.append, settled=settled, waited_for=waited_for, server=server
            )

        runner = world.spawn("runner", task.job, body, machine=task.machine, budget=ctx.budget_s)
        task.runners.append(runner)
        return said, runner

    def _server(self, me: Task):
        """The thread of the server that makes the write of this runner's end: late, or never, or without an answer."""
        world = self.world

        def ask(request: EndRequest) -> EndResult | None:
            if not world.chance(world.cfg.p_shared_end):
                return None
            asked, said = json.dumps(request.to_json()), []
            mute = world.rng.choice(("before", "after")) if world.chance(world.cfg.p_mute) else ""

            def body(_, theirs):
                if mute == "before":
                    return
                found = shared_end.look_together(theirs, [EndRequest.from_json(json.loads(asked))])
                said.extend("" if one is None or mute else json.dumps(one.to_json()) for one in found)

            server = world.spawn("server", me.job, body, machine=me.machine)
            world.pause(me, "await server", until=world.now + 5.0, cond=lambda: said or server.done)
            world.cover("process", "its end is shared" if said and said[0] else "it ends alone")
            return EndResult.from_json(json.loads(said[0])) if said and said[0] else None

        return ask


class SimRunning:
    """A run under a runner of its own."""

    def __init__(self, world, task, said, runner, *, until) -> None:
        self.world, self.task, self.said, self.runner, self.until = world, task, said, runner, until

    def first_of(self, others):
        del others
        return self

    def wait(self):
        if self.until <= self.world.now:
            return None
        over = lambda: self.runner.done or "done" in self.said  # noqa: E731
        self.world.pause(self.task, "await end", until=self.until, cond=over)
        return next((word for word in self.said if not isinstance(word, str)), None)
