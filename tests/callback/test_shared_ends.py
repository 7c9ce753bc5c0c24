"""The write at a run's end, shared with others in the server that started the run; a runner without an answer writes."""

from __future__ import annotations

import json
import os
import socket
import sys
import time

import pytest

from chronos_cli.callback import shared_ends
from chronos_cli.callback.shared_ends import EndResponder
from chronos_cli.config import load_config
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import FireRequest, Trigger
from chronos_cli.frozen import replace
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.operations.evaluate import evaluate
from chronos_cli.operations.firing import run_end
from chronos_cli.operations.firing.run import RunTicket, begin, finish
from chronos_cli.operations.firing.shared_end import EndRequest, EndResult, look_together
from chronos_cli.running.detach import Runners
from chronos_cli.running.end_channel import EndTransport, RunnerRequest, ask_server
from chronos_cli.store.interface import JOBS_KEY
from tests.callback.test_warm_runner import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a warm runner is for Linux")


def open_runs(home, job_id):
    """What the record of a job has in hand."""
    jobs = json.loads((home.home / "cron/jobs.json").read_text())["jobs"]
    return next(job for job in jobs if job["id"] == job_id)["chronos"].get("open") or []


@pytest.fixture
def ctx(home):
    """The context of the home, as a runner opens it."""
    return open_home(load_config(environ=os.environ), ProcessEnvironment(environ=dict(os.environ), secrets={}))


def ended(home, ctx, job_id, **more):
    """A job whose run is over, and which has it in hand still."""
    home.add(job_id, "every 1h", "true", ago=1, **more)
    looked = evaluate(ctx, job_id, FireRequest(via=Trigger.RELAY, token=ctx.token()))
    begun = begin(ctx, RunTicket.of(looked.job, looked.decision.starts[0], ctx.token()))
    finish(ctx, begun)
    assert open_runs(home, job_id)
    return job_id


def test_ends_that_come_together_are_one_write_and_each_hears_its_own(home, ctx):
    """What follows is what the runner's own look would have found; one by another configuration must look itself."""
    requests = [EndRequest.of(ctx, ended(home, ctx, name), f"{name}-token") for name in ("one", "two")]
    stranger = replace(EndRequest.of(ctx, ended(home, ctx, "three"), "t"), basis="another store")
    written, store = [], ctx.repository.documents.replace

    def counted(key, data, version, **how):
        written.append(key)
        return store(key, data, version, **how)

    ctx.repository.documents.replace = counted
    sent = [EndRequest.from_json(json.loads(json.dumps(request.to_json()))) for request in (*requests, stranger)]
    assert sent[:2] == requests
    one, two, three = look_together(replace(ctx, outbox=[]), sent)
    assert written.count(JOBS_KEY) == 1
    assert (open_runs(home, "one"), open_runs(home, "two"), three) == ([], [], None)
    assert open_runs(home, "three")
    assert EndResult.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert one.tickets == two.tickets == ()
    assert one.wake.at > ctx.clock()


def test_a_look_for_a_runner_goes_by_what_that_has_heard_of_the_clock(home, ctx, monkeypatch):
    """Not by what the server has heard since."""
    seen = []
    monkeypatch.setattr(
        "chronos_cli.operations.firing.shared_end.evaluate_together",
        lambda ctx, looks: [seen.append((ctx.trust, [job for job, _ in looks]))] and [run_end.ChronosError("no")],
    )
    requests = [replace(EndRequest.of(ctx, trust.value, "t"), trust=trust) for trust in (Trust.ALONE, Trust.UNHEARD)]
    assert look_together(ctx, requests) == [None, None]
    assert sorted(seen) == [(trust, [trust.value]) for trust in sorted((Trust.ALONE, Trust.UNHEARD))]


@pytest.mark.parametrize("answers", ["at once", "never", "after its write"])
def test_what_was_queued_is_begun_once_whatever_becomes_of_the_answer(home, ctx, answers, tmp_path):
    """The runner begins what the server has claimed for it; without an answer it finds that claim as its own."""
    home.add("beat", "every 1h", f"echo x >> {tmp_path}/ran", ago=1, overlap="queue")
    looked = evaluate(ctx, "beat", FireRequest(via=Trigger.RELAY, token=ctx.token()))
    begun = begin(ctx, RunTicket.of(looked.job, looked.decision.starts[0], ctx.token()))
    path = home.home / "cron/jobs.json"
    document = json.loads(path.read_text())
    document["jobs"][0]["next_run_at"] = ctx.clock().replace(microsecond=0).isoformat()
    path.write_text(json.dumps(document))
    assert evaluate(ctx, "beat", FireRequest(via=Trigger.RELAY, token=ctx.token())).decision.outcome.value == "queued"
    asked = []

    def server(request):
        asked.append(request.token)
        if len(asked) > 1:
            return None
        found = None if answers == "never" else look_together(ctx, [request])[0]
        return found if answers == "at once" else None

    row = run_end.wait_and_follow_up(ctx, begun, ended=lambda _: None, waited_for=False, server=server)
    assert row.state.value == "ok"
    assert (tmp_path / "ran").read_text() == "x\nx\n"
    assert open_runs(home, "beat") == []
    assert [found["state"] for found in home.rows("beat")] == ["ok", "ok"]
    assert len(asked) == 2, "and the end of what was queued is asked for as well"


@pytest.mark.parametrize("answers", [True, False])
def test_forked_runners_share_the_write_of_their_end_with_the_server(home, monkeypatch, answers):
    """And write themselves where it lets their question go; an on-failure command is its runner's own matter."""
    monkeypatch.delenv("CHRONOS_CALLBACK_WARM_RUNNER")
    asked, answer = [], EndResponder.answer

    def seen(self, questions):
        asked.extend(question.document["job_id"] for question in questions)
        if answers:
            answer(self, questions)
        else:
            for question in questions:
                question.answer(None)

    monkeypatch.setattr(EndResponder, "answer", seen)
    for name in ("first", "second"):
        home.add(name, "every 1h", "true", ago=1)
        assert home.fire(name).status == 202
    runners = home.application.callback()._runners
    assert eventually(lambda: runners.warm)
    home.add("third", "every 1h", "true", ago=1)
    home.add("fourth", "every 1h", "true", ago=1, on_failure=["true"])
    for name in ("third", "fourth"):
        assert home.fire(name).status == 202
        home.wait_for_rows(name, state="ok")
        assert eventually(lambda name=name: not open_runs(home, name))
    assert asked == ["third"]
    for made in runners._warm:
        made.retire()
        assert eventually(made.reap)


def test_a_question_that_is_let_go_of_is_no_answer_at_once():
    """As is one that nobody can take, or whose server is gone; one that waits is given up in time."""
    channel = EndTransport()

    def ask(act, timeout_s=5.0):
        import threading

        said = []
        thread = threading.Thread(target=lambda: said.append(ask_server(channel.far, {"a": 1}, timeout_s)))
        thread.start()
        (question,) = channel.questions()
        assert question.document == {"a": 1}
        act(question)
        thread.join(10)
        return said

    began = time.monotonic()
    assert ask(lambda question: question.answer({"wake": None})) == [{"wake": None}]
    assert ask(lambda question: question.answer(None)) == [None]
    assert ask(lambda question: os.write(question.reply_fd, b"[1]\n") and os.close(question.reply_fd)) == [None]
    assert ask(lambda question: os.write(question.reply_fd, b"{x\n") and os.close(question.reply_fd)) == [None]
    assert ask(lambda question: question.answer({"much": "x" * 10**6})) == [None]
    assert time.monotonic() - began < 3
    kept = []
    assert ask(kept.append, 0.05) == [None]
    kept[0].answer({"late": True})
    for _ in range(10_000):  # nobody reads: the socket takes so much, and no more
        if ask_server(channel.far, {"much": "x" * 10_000}, 0.0) is None and time.monotonic() - began > 3.5:
            break
    assert ask_server(channel.far, {"much": "x" * 10_000}, 0.0) is None
    channel._near.close()
    assert ask_server(channel.far, {}, 5.0) is None
    os.close(channel.far)
    assert time.monotonic() - began < 10


def test_what_is_no_question_is_passed_over():
    """Bytes that are no object, or that bring nothing to answer into."""
    channel = EndTransport()
    ours = socket.socket(fileno=os.dup(channel.far))
    for data in (b"nothing", b"[]", b"{}"):
        ours.send(data)
    read_fd, write_fd = os.pipe()
    socket.send_fds(ours, [b"7"], [write_fd])
    os.close(write_fd)
    assert channel.questions() == []
    assert os.read(read_fd, 1) == b"", "what it brought is closed"
    for fd in (read_fd, channel.far):
        os.close(fd)
    ours.close()
    channel._near.close()


def test_a_fault_of_one_home_is_said_and_lets_its_runners_look_themselves(ctx):
    """Those of another home are answered; nobody is left waiting."""
    said, lines = {}, []

    class Asked(RunnerRequest):
        def answer(self, document):
            said[self.document.get("job_id", "-")] = document

    ends = EndResponder(Runners(), lines.append)
    ends._contexts = {"/broken": None, "/home": ctx}
    request = EndRequest.of(ctx, "nobody", "t").to_json()
    questions = [{**request, "home": "/home"}, {**request, "home": "/broken", "job_id": "b"}, {}, {**request, "home": "/x", "job_id": "x"}]  # fmt: skip
    ends.answer([Asked(document, -1) for document in questions])
    assert said == {"nobody": {"tickets": [], "wake": None}, "b": None, "-": None, "x": None}
    assert lines == ["a fault: the ends of 1 runs could not be shared: AttributeError"]


def test_a_copy_of_the_server_answers_its_own_runners(ctx, monkeypatch):
    """A thread does not come along with a fork; where there can be no channel, runners get none."""
    runners = Runners()
    ends = EndResponder(runners, print)
    ends.serve("/a", ctx)
    first = runners.end_fd
    ends.serve("/b", ctx)
    assert runners.end_fd == first >= 0
    assert set(ends._contexts) == {"/a", "/b"}
    monkeypatch.setattr(shared_ends.os, "getpid", lambda: 1)
    ends.serve("/a", ctx)
    assert runners.end_fd not in (-1, first)

    def none_left():
        raise OSError(24, "too many open files")

    monkeypatch.setattr(shared_ends, "EndTransport", none_left)
    monkeypatch.setattr(shared_ends.os, "getpid", lambda: 2)
    ends.serve("/a", ctx)
    assert runners.end_fd == -1
