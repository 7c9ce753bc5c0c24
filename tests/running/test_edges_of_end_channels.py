"""The way from a runner to its server at its edges: how long is waited, how much is taken at once, what stays open."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_cli.callback import shared_ends
from chronos_cli.callback.shared_ends import EndResponder
from chronos_cli.core.clock import Trust
from chronos_cli.core.decision import Trigger
from chronos_cli.errors import TemporaryError
from chronos_cli.operations.firing import shared_end
from chronos_cli.operations.firing.shared_end import EndRequest, EndResult
from chronos_cli.running import end_channel
from chronos_cli.running.end_channel import EndTransport, ask_server
from tests.core.making import HOME
from tests.protocol.test_arming_rules import context

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only a warm runner asks, and that is for Linux")


@pytest.fixture
def channel():
    """A channel whose two ends are closed in the end."""
    made = EndTransport()
    yield made
    os.close(made.far)
    made._near.close()


def open_files():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_a_question_leaves_nothing_open_whatever_becomes_of_it(channel):
    """A runner may go on for days after it."""
    before = open_files()
    assert ask_server(channel.far, {"a": 1}, 0.0) is None
    (question,) = channel.questions()
    question.answer(None)
    assert open_files() == before
    assert ask_server(channel.far, {"a": "x" * 10**7}, 0.0) is None
    assert open_files() == before


def test_as_many_questions_are_taken_at_once_as_are_there_up_to_a_bound(channel):
    """The rest waits for the next time."""
    ours = socket.socket(fileno=os.dup(channel.far))
    read_fd, write_fd = os.pipe()
    asked = end_channel._MOST_AT_ONCE + 2
    for number in range(asked):
        socket.send_fds(ours, [json.dumps({"n": number}).encode()], [write_fd])
    first, rest = channel.questions(), channel.questions()
    assert [q.document["n"] for q in (*first, *rest)] == list(range(asked))
    assert len(first) == end_channel._MOST_AT_ONCE
    for question in (*first, *rest):
        question.answer(None)
    for fd in (read_fd, write_fd):
        os.close(fd)
    ours.close()


@pytest.mark.parametrize(("number", "taken"), [(0, True), (7, True)])
def test_an_answer_may_go_into_any_descriptor(number, taken):
    """Also into 0, where the server began with its stdin closed."""
    came = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, number.to_bytes(4, sys.byteorder))]
    channel = SimpleNamespace(_near=SimpleNamespace(recvmsg=lambda *_: (b'{"a": 1}', came, 0, None)))
    question = EndTransport._next(channel, 0)
    assert (question is not None and question.reply_fd == number and question.document == {"a": 1}) is taken


@pytest.mark.parametrize(("within", "waited_ms"), [(0.0625, 62.5), (5.0, 5000.0), (0.0, 0.0), (-1.0, 0.0)])
def test_an_answer_is_waited_for_as_long_as_was_said(within, waited_ms, monkeypatch):
    """Not at all once the time is over."""
    waits = []

    class Poll:
        def register(self, fd, events):
            assert events == select.POLLIN

        def poll(self, timeout_ms):
            waits.append(timeout_ms)
            return []

    monkeypatch.setattr(select, "poll", Poll)
    monkeypatch.setattr(time, "monotonic", lambda: 8.0)
    assert end_channel._answer(-1, within) is None
    assert waits == [waited_ms]


def test_an_answer_that_comes_in_parts_is_one():
    """Up to its newline."""
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b'{"wake": ')
    writer = threading.Thread(target=lambda: os.write(write_fd, b"null}\n"))
    writer.start()
    assert end_channel._answer(read_fd, 5.0) == {"wake": None}
    writer.join()
    os.close(write_fd)
    assert end_channel._answer(read_fd, 5.0) is None, "and one whose writer is gone is none"
    os.close(read_fd)


@pytest.mark.parametrize("answer", [{"wake": None}, {}, None])
def test_an_answer_is_written_whole_and_none_by_nothing_at_all(answer):
    """Either way its pipe is closed: the runner does not wait for more."""
    read_fd, write_fd = os.pipe()
    end_channel.RunnerRequest(document={}, reply_fd=write_fd).answer(answer)
    assert os.read(read_fd, 100) == (b"" if answer is None else json.dumps(answer).encode() + b"\n")
    assert os.read(read_fd, 100) == b""
    os.close(read_fd)


def test_looks_of_one_trust_are_made_together_and_each_has_its_own_answer(monkeypatch):
    """One that a server with another store or other defaults was asked for is left to its runner; so is one that fails."""
    ctx = context()
    ctx.home = HOME
    here, found = shared_end.basis_of(ctx), []

    def together(seen, looks):
        found.append((seen.trust, [(job_id, fire.token, fire.via) for job_id, fire in looks]))
        return [TemporaryError("no") if job_id == "c" else job_id for job_id, _ in looks]

    monkeypatch.setattr(shared_end, "evaluate_together", together)
    monkeypatch.setattr(shared_end, "replace", lambda ctx, trust: SimpleNamespace(trust=trust))
    monkeypatch.setattr(EndResult, "of", lambda _, outcome: f"of {outcome}")
    asked = [
        EndRequest(job_id=name, token=f"t-{name}", trust=trust, basis=basis)
        for name, trust, basis in (
            ("a", Trust.ALONE, here), ("b", Trust.CONFIRMED, here), ("x", Trust.ALONE, "elsewhere"),
            ("c", Trust.ALONE, here), ("d", Trust.ALONE, here),
        )
    ]  # fmt: skip
    assert shared_end.look_together(ctx, asked) == ["of a", "of b", None, None, "of d"]
    ended = Trigger.RUN_ENDED
    assert sorted(found, key=lambda pair: len(pair[1])) == [
        (Trust.CONFIRMED, [("b", "t-b", ended)]),
        (Trust.ALONE, [(name, f"t-{name}", ended) for name in "acd"]),
    ]


def test_an_answer_without_a_wake_is_one():
    """A job that is completed wants none."""
    assert EndResult.from_json({"tickets": [], "wake": None}) == EndResult(tickets=(), wake=None)


@pytest.mark.parametrize("pid", [1, 2])
def test_the_first_process_of_a_container_answers_its_runners_too(pid, monkeypatch):
    """Its number is 1. The thread ends with the process."""
    monkeypatch.setattr(shared_ends.os, "getpid", lambda: pid)
    runners = SimpleNamespace(end_fd=-1)
    before = set(threading.enumerate())
    EndResponder(runners, print).serve("/home", None)
    assert runners.end_fd >= 0
    (made,) = set(threading.enumerate()) - before
    assert made.daemon


@pytest.mark.parametrize("goes_wrong", [False, True])
def test_what_a_shared_look_finds_over_is_told_whatever_becomes_of_the_look(goes_wrong, monkeypatch):
    """In an outbox of its own."""
    told, served = [], SimpleNamespace(outbox=["another's"])

    def look(context, requests):
        context.outbox.append("over")
        if goes_wrong:
            raise ZeroDivisionError
        return [None for _ in requests]

    monkeypatch.setattr(shared_ends, "replace", lambda context, **more: SimpleNamespace(**vars(context) | more))
    monkeypatch.setattr(shared_ends, "look_together", look)
    monkeypatch.setattr(shared_ends, "alert_afterwards", lambda context: told.extend(context.outbox))
    ends = EndResponder(SimpleNamespace(end_fd=-1), print)
    request = EndRequest(job_id="j", token="t", trust=None, basis="b")
    if goes_wrong:
        with pytest.raises(ZeroDivisionError):
            ends._look(served, [request])
    else:
        assert ends._look(served, [request]) == [None]
    assert told == ["over"]
    assert served.outbox == ["another's"]
