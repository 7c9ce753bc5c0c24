"""When a job is ended and how its end is told, and what a runner and a warm one say, each at its edge and by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
from types import SimpleNamespace

import pytest

from chronos_cli.core.row import REPLACED
from chronos_cli.running import detach, supervise, warm
from chronos_cli.running.detach import Runner, Runners
from chronos_cli.running.supervise import INTERRUPT_GRACE_S, SupervisedRun
from chronos_cli.running.warm import BEGUN, NEWS, READY, WarmRunner


class Clock:
    """Two clocks that a test sets."""

    now, day = 100.0, 1000.0

    def elapsed(self):
        return self.now

    def wall(self):
        return self.day


def supervised(clock, *, timeout_s=None, lease_end=None, asked=False, grace_s=5.0):
    child = SimpleNamespace(pid=7, lock=SimpleNamespace(is_asked_to_end=lambda: asked))
    return SupervisedRun(child, clock, timeout_s=timeout_s, lease_end=lease_end, grace_s=grace_s)


@pytest.mark.parametrize(("passed", "left"), [(0.0, 10.0), (4.0, 6.0), (9.5, 0.5), (10.0, 0.0), (12.0, -2.0)])
def test_a_jobs_time_counts_from_its_start(passed, left):
    """At its very end it is over; while it is ended it is looked at often, and without a timeout every second."""
    clock = Clock()
    run, endless = supervised(clock, timeout_s=10.0), supervised(clock)
    clock.now += passed
    assert run.left_s == left
    assert run.reason_to_end(None)[0] == ("timeout" if left <= 0 else "")
    assert (endless.left_s, endless.reason_to_end(None)) == (1.0, ("", ""))


@pytest.mark.parametrize(
    ("timeout_s", "told"), [(9.4, "10 s"), (10.0, "10 s"), (1.0, "1 s"), (0.4, "0.4 s"), (1.5, "2 s")]
)
def test_a_timeout_is_told_as_it_was_given(timeout_s, told):
    """In whole seconds, of which a little has passed before the start."""
    clock = Clock()
    run = supervised(clock, timeout_s=timeout_s)
    clock.now += 60
    assert run.reason_to_end(None) == ("timeout", f"killed after its timeout of {told}")


@pytest.mark.parametrize(("day", "over"), [(999.0, False), (1000.0, True), (1001.0, True)])
def test_a_lease_is_over_at_its_end(day, over):
    """By the clock on the wall."""
    clock = Clock()
    run = supervised(clock, lease_end=1000.0)
    clock.day = day
    assert run.reason_to_end(None)[0] == ("timeout" if over else "")


def test_a_signal_comes_before_all_else_that_ends_a_job():
    """Then its timeout, then its lease, then that its job replaces it."""
    clock = Clock()
    interrupts = SimpleNamespace(signal=signal.SIGHUP)
    run = supervised(clock, timeout_s=1.0, lease_end=1.0, asked=True)
    clock.now += 60
    assert run.reason_to_end(interrupts) == ("interrupted", "stopped by SIGHUP")
    assert run.reason_to_end(SimpleNamespace(signal=None))[1] == "killed after its timeout of 1 s"
    assert (
        supervised(clock, lease_end=1.0, asked=True).reason_to_end(None)[1] == "still running at the end of its lease"
    )
    assert supervised(clock, asked=True).reason_to_end(None) == ("interrupted", REPLACED)


@pytest.fixture
def killing(monkeypatch):
    """A group that goes on for so long, and what it was sent; `now` is the time."""
    state = SimpleNamespace(now=50.0, lives=1, left=0, sent=[])
    monkeypatch.setattr(supervise, "time", SimpleNamespace(monotonic=lambda: state.now))
    monkeypatch.setattr(supervise, "_signal_group", lambda _, number: state.sent.append(number))
    monkeypatch.setattr(supervise, "_group_lives", lambda _: state.lives)
    monkeypatch.setattr(supervise, "_kill", lambda _: state.sent.append(signal.SIGKILL) or state.left)
    return state


@pytest.mark.parametrize("hurried", [False, True])
def test_a_job_has_its_grace_and_is_then_killed(hurried, killing):
    """A shorter one where this process has to go, counted from when it heard of it, once."""
    run = supervised(Clock(), grace_s=5.0)
    run.begin_to_end("timeout", "why")
    assert killing.sent == [signal.SIGTERM, signal.SIGCONT]
    assert run.ends
    until = killing.now + (INTERRUPT_GRACE_S if hurried else 5.0)
    assert run.ended(hurried=hurried) is None
    killing.now = until - 0.1
    assert run.ended(hurried=hurried) is None
    assert signal.SIGKILL not in killing.sent
    killing.now, killing.left = until, 2
    assert run.ended(hurried=hurried) is None
    assert killing.sent[2:] == [signal.SIGKILL]
    killing.now = until + supervise.GONE_WITHIN_S - 0.1
    assert run.ended(hurried=True) is None
    killing.now = until + supervise.GONE_WITHIN_S
    assert run.ended(hurried=True) == ("timeout", "why; 2 process(es) could not be killed")
    killing.left = 0
    assert run.ended(hurried=False) == ("timeout", "why")


def test_a_group_that_goes_by_itself_is_not_waited_for(killing):
    """What else holds its lock is killed all the same; a hurry makes no grace longer."""
    run = supervised(Clock(), grace_s=0.5)
    run.begin_to_end("interrupted", "why")
    assert run.ended(hurried=True) is None
    killing.now += 0.5
    killing.lives = 0
    assert run.ended(hurried=True) == ("interrupted", "why")
    early = supervised(Clock(), grace_s=50.0)
    early.begin_to_end("timeout", "why")
    assert early.ended(hurried=False) == ("timeout", "why")
    assert killing.sent.count(signal.SIGKILL) == 2


@pytest.mark.parametrize(
    ("status", "number", "tail", "why"),
    [
        (3, None, "", "exited with status 3"), (0, None, "a\n", "exited with status 0: a"), (None, 9, "a\nb\n\n  \n", "killed by SIGKILL: b"),
        (None, None, "\x1b[2J", "its exit status was lost: [2J"), (None, None, " \n\t\n", "its exit status was lost"),
        (1, None, "x" * 200, "exited with status 1: " + "x" * 200), (1, None, "x" * 201, "exited with status 1: " + "x" * 199 + "…"),
    ],
)  # fmt: skip
def test_a_failure_is_told_with_the_last_line_that_says_something(status, number, tail, why):
    """Without what would move a cursor, and of bounded length."""
    assert supervise._why(status, number, tail) == why


@pytest.mark.parametrize(
    ("status", "state", "end"),
    [
        (0, "", ("ok", 0, None, "")), (3 << 8, "", ("failed", 3, None, "exited with status 3: said")), (9, "", ("failed", None, 9, "killed by SIGKILL: said")),
        (None, "", ("failed", None, None, "its exit status was lost: said")), (15, "timeout", ("timeout", None, 15, "why")),
        (0, "interrupted", ("interrupted", 0, None, "why")),
    ],
)  # fmt: skip
def test_an_end_is_told_by_the_exit_of_the_leader(status, state, end, monkeypatch):
    """Unless it was ended: then by why."""
    monkeypatch.setattr(supervise, "_reap", lambda _: status)
    output = SimpleNamespace(tail=lambda size: b"\xffsaid"[-size:], total=5)
    ended = supervise._ended(SimpleNamespace(output=output, output_error="full"), state, "why" if state else "")
    said = end[3].replace("said", "\ufffdsaid")
    assert ended[:4] == (*end[:3], said)
    assert ended[4:] == ("\ufffdsaid", 5, "full")


@pytest.fixture
def pipe():
    """A pipe whose reading end a runner takes."""
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(write_fd)


def test_a_runners_words_are_messages_and_the_rest_is_kept_as_its_last_words(pipe):
    """One by one, in whatever parts they come; what is no object is none."""
    runner = Runner(-1, pipe[0])
    os.write(pipe[1], b'{"a": 1}\nTraceback\n[1]\n{"b"')
    assert runner.next_message(0.0) == {"a": 1}
    assert runner.next_message(0.0) is None
    assert runner.stray == "Traceback\n[1]\n"
    assert not runner.message_comes(0.0)
    os.write(pipe[1], b": 2}\n")
    assert runner.message_comes(0.0)
    assert runner.next_message(0.0) == {"b": 2}
    os.write(pipe[1], b"x" * (detach.MAX_STRAY_CHARACTERS + 5) + b"\n")
    assert runner.next_message(0.0) is None
    assert runner.stray == "x" * (detach.MAX_STRAY_CHARACTERS - 1) + "\n"
    assert runner.fd == pipe[0]
    runner.close()
    runner.close()
    assert (runner.closed, runner.fd) == (True, -1)
    assert runner.next_message(5.0) is None


def test_the_last_word_of_a_runner_needs_no_newline():
    """Its pipe is let go of at its end."""
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b'{"a": 1}')
    os.close(write_fd)
    runner = Runner(-1, read_fd)
    assert runner.next_message(5.0) == {"a": 1}
    assert runner.closed
    assert runner.next_message(5.0) is None
    assert runner.stray == ""


@pytest.mark.parametrize(("status", "told"), [(3 << 8, 3), (9, -9), (0, 0)])
def test_a_runners_exit_is_taken_once(status, told, monkeypatch):
    """Without waiting; one that others have reaped is over, and nobody knows how."""
    answers = [(0, 0), (7, status)]
    monkeypatch.setattr(detach.os, "waitpid", lambda *_: answers.pop(0))
    runner = Runner(7, -1)
    assert runner.exit_status is None
    assert runner.reap() is True
    assert (runner.reap(), runner.exit_status) == (True, told)
    assert not answers

    def reaped(*_):
        raise ChildProcessError

    monkeypatch.setattr(detach.os, "waitpid", reaped)
    other = Runner(7, -1)
    assert (other.reap(), other.exit_status) == (True, None)


@pytest.fixture
def warmed(monkeypatch):
    """A warm runner as its server sees it, and the end of the channel that it would have."""
    near, far = socket.socketpair()
    monkeypatch.setattr(warm, "start_time", {11: 5}.get)
    made = WarmRunner(4242, near, {"A": "1", "CHRONOS_X": "2"})
    yield made, far
    far.close()


def test_a_warm_runner_takes_claims_once_it_has_said_so(warmed):
    """Not before, nor once it has gone; nor in a copy of its server."""
    runner, far = warmed
    assert (runner.usable, runner.over, runner.pid) == (False, False, 4242)
    far.send(NEWS.pack(READY, 4242, BEGUN)[:5])
    assert not runner.usable
    far.send(NEWS.pack(READY, 4242, BEGUN)[5:])
    assert runner.usable
    runner.host = os.getpid() + 1
    assert (runner.usable, runner.over) == (False, True)
    runner.host = os.getpid()
    far.close()
    assert (runner.usable, runner.over) == (False, True)


def test_news_of_forked_runners_are_told_by_their_number(warmed):
    """Begun, then over; of one that was heard of no more, its process tells."""
    runner, far = warmed
    far.send(NEWS.pack(1, 11, BEGUN) + NEWS.pack(2, 12, BEGUN) + NEWS.pack(3, 13, 0))
    assert [runner.pid_of(number) for number in (1, 2, 3)] == [11, 12, -1]
    assert [runner.status_of(number) for number in (1, 2, 3, 4)] == [
        (False, None),
        (False, None),
        (True, 0),
        (False, None),
    ]
    far.send(NEWS.pack(2, 12, 7))
    assert runner.status_of(2) == (True, 7)
    far.close()
    assert [runner.status_of(number) for number in (1, 2, 4)] == [(False, None), (True, 7), (True, None)]
    forked = warm.ForkedRunner(runner, 2, -1)
    assert (forked.reap(), forked.exit_status, forked.pid) == (True, 7, 12)


def test_one_that_is_retired_takes_no_claims_and_hears_so(warmed):
    """What it has forked goes on, and is heard of; a claim with other variables goes to none."""
    runner, far = warmed
    far.send(NEWS.pack(READY, 4242, BEGUN))
    assert runner.hand_over(b"", environment={"A": "2"}, secrets={}) is None
    assert runner.usable
    handed = runner.hand_over(
        b"claim", environment={"A": "1", "CHRONOS_X": "3"}, secrets={"S": "s"}, end_fd=far.fileno()
    )
    data, fds, _, _ = socket.recv_fds(far, 100, 9)
    assert warm.HAND_OVER.unpack(data) == (1,)
    assert os.read(fds[0], 10) == b"claim"
    assert json.loads(os.read(fds[2], 1000)) == {"A": "1", "CHRONOS_X": "3", "CHRONOS_RUNNER": "1"}
    assert len(fds) == 5
    os.write(fds[3], b'{"event": "running"}\n')
    assert handed.next_message(5.0) == {"event": "running"}
    for fd in fds:
        os.close(fd)
    again = runner.hand_over(b"", environment={"A": "1"}, secrets={})
    data, fds, _, _ = socket.recv_fds(far, 100, 9)
    assert (warm.HAND_OVER.unpack(data), len(fds)) == ((2,), 4)
    for fd in fds:
        os.close(fd)
    again.give_up()
    assert far.recv(10) == b""
    assert (runner.usable, runner.over) == (False, True)
    far.send(NEWS.pack(1, 11, 0))
    assert handed.reap() is True
    for one in (handed, again):
        one.close()


def test_a_server_whose_limits_have_changed_hands_nothing_over(warmed, monkeypatch):
    """What its children inherit would not be the same."""
    runner, far = warmed
    far.send(NEWS.pack(READY, 4242, BEGUN))
    assert runner.usable
    monkeypatch.setattr(warm, "inherited", lambda: ("other",))
    assert runner.hand_over(b"", environment={"A": "1"}, secrets={}) is None
    assert runner.over


@pytest.mark.parametrize(("usable", "over"), [(True, False), (False, False), (False, True)])
def test_a_process_has_one_warm_runner_at_a_time(usable, over, monkeypatch):
    """Another takes the place of one that is over."""
    runners, started = Runners(), []
    monkeypatch.setattr(WarmRunner, "start", lambda *given: started.append(given) or SimpleNamespace())
    assert runners.warm is False
    runners.warm_up(("a",), {})
    assert len(started) == 1
    runners._warm[-1] = SimpleNamespace(
        usable=usable, over=over, reap=lambda: over, hand_over=lambda *_, **how: how["end_fd"]
    )
    assert runners.warm is usable
    runners.warm_up(("a",), {})
    assert len(started) == 1 + over
    runners._warm = runners._warm[:1]
    runners.end_fd = 77
    assert runners.hand_over(b"", environment={}, secrets={}) == (None if over else 77)


def test_runners_that_are_over_are_counted_no_more():
    """They are reaped when another is looked for."""
    runners = Runners()
    runners._running = [SimpleNamespace(reap=lambda over=over: over) for over in (True, False, True, False)]
    assert runners.sweep() == 2
    assert len(runners._running) == 2
