"""The callback's small parts, each at its edge: what is read of a request, what is logged, when it answers, what follows."""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from chronos_cli.callback import after_response, homes, warm_start
from chronos_cli.callback import log as logs
from chronos_cli.callback.app import TIME_LEFT, Callback, fault
from chronos_cli.callback.log import LINES, WINDOW_S, BoundedLog
from chronos_cli.callback.modes import FREEZING, Mode, choose
from chronos_cli.callback.nas_pool import NasPool
from chronos_cli.callback.proof import prove
from chronos_cli.callback.request import (
    MAX_HEADER_CHARS,
    TooLargeError,
    bearer_token,
    is_astray,
    parse_fire,
    profile_of,
    read_body,
)
from chronos_cli.callback.warm_start import WarmStart, choose_runner
from chronos_cli.callback.wsgi import _Body
from chronos_cli.contract import FIRE_PATH, MAX_FIRE_BODY_BYTES, PROOF_PATH, callback_proof
from chronos_cli.core.plan import ArmState
from chronos_cli.errors import ChronosError, UsageError
from chronos_cli.running.errors import StartError
from chronos_cli.trust import token_errors
from tests.core.making import HOME, T, at, entry, record


@pytest.mark.parametrize(
    ("path", "profile"),
    [
        (FIRE_PATH, ""), (f"{FIRE_PATH}/", ""), (f"{FIRE_PATH}//", None), (f"/p/a{FIRE_PATH}", "a"), (f"/p/a{FIRE_PATH}/", "a"),
        (f"/p/{FIRE_PATH}", None), (f"/q/a{FIRE_PATH}", None), (f"/p/a/b{FIRE_PATH}", None), (f"/p/a{PROOF_PATH}", None), ("/p/a", None),
    ],
)  # fmt: skip
def test_a_path_names_its_profile(path, profile):
    """One slash at the end is taken."""
    assert profile_of(path) == profile


@pytest.mark.parametrize(
    ("path", "astray"),
    [(f"/cron{FIRE_PATH}", True), (f"/{FIRE_PATH}/", True), (FIRE_PATH.replace("/", "//"), True), (f"/x{PROOF_PATH}", True),
     (f"{FIRE_PATH}/more", False), ("/", False)],
)  # fmt: skip
def test_a_call_of_nas_that_a_proxy_has_led_astray_is_known(path, astray):
    """By the end of its path."""
    assert is_astray(path) is astray


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer a.b", "a.b"), ("bearer  a ", "a"), ("Basic a", None), ("Bearer ", None), ("Bearer", None), ("", None), (b"Bearer a", None),
        ("Bearer " + "a" * (MAX_HEADER_CHARS - 7), "a" * (MAX_HEADER_CHARS - 7)), ("Bearer " + "a" * (MAX_HEADER_CHARS - 6), None),
    ],
)  # fmt: skip
def test_the_token_is_that_of_a_header_of_bounded_length(header, token):
    """Of the scheme in any letters."""
    assert bearer_token({"HTTP_AUTHORIZATION": header}) == token
    assert bearer_token({}) is None


class Stream(io.BytesIO):
    """A body, and how much of it was asked for."""

    asked: int | None = None

    def read(self, size=-1):
        self.asked = size
        return super().read(size)


@pytest.mark.parametrize("sent", [0, 1, MAX_FIRE_BODY_BYTES])
@pytest.mark.parametrize("terminated", [True, False])
def test_a_body_is_read_to_its_length_and_no_further(sent, terminated):
    """To its end where the server knows that, and one byte past the bound to see that it is past."""
    stream = Stream(b"x" * sent)
    environ = {"wsgi.input": stream} | (
        {"wsgi.input_terminated": True} if terminated else {"CONTENT_LENGTH": str(sent)}
    )
    assert read_body(environ) == b"x" * sent
    assert stream.asked == (MAX_FIRE_BODY_BYTES + 1 if terminated else sent)


@pytest.mark.parametrize(
    ("length", "error"),
    [("", UsageError), (None, UsageError), ("-1", UsageError), ("²", UsageError), ("1x", UsageError), ("4", UsageError), ("0" * 17 + "3", None),
     ("0" * 18 + "3", UsageError), (str(MAX_FIRE_BODY_BYTES + 1), TooLargeError), (str(MAX_FIRE_BODY_BYTES), UsageError)],
)  # fmt: skip
def test_a_length_that_is_none_or_too_much_is_refused(length, error):
    """And a body that is shorter than it says."""
    environ = {"CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(b"abc")}
    if error is None:
        assert read_body(environ) == b"abc"
        return
    with pytest.raises(error) as raised:
        read_body(environ)
    assert type(raised.value) is error
    assert raised.value.http_status == (413 if error is TooLargeError else 400)


def test_a_body_without_an_end_is_refused_past_the_bound():
    """A length that is said besides has the say."""
    endless = io.BytesIO(b"x" * (MAX_FIRE_BODY_BYTES + 1))
    with pytest.raises(TooLargeError):
        read_body({"wsgi.input": endless, "wsgi.input_terminated": True})
    stream = Stream(b"abcdef")
    assert read_body({"wsgi.input": stream, "wsgi.input_terminated": True, "CONTENT_LENGTH": "3"}) == b"abc"
    gone = SimpleNamespace(read=lambda _: (_ for _ in ()).throw(OSError()))
    with pytest.raises(UsageError, match="could not be read"):
        read_body({"wsgi.input": gone, "CONTENT_LENGTH": "3"})


@pytest.mark.parametrize(
    "data",
    [b"[]", b"1", b"", b"{", b'{"a": 1, "a": 1}', b'{"a": NaN}', b'{"a": {"b": 1, "b": 2}}', b'"\xff"', b"[" * 100_000],
)
def test_what_is_no_object_is_refused(data):
    """So is a name that occurs twice: two readers could take another each."""
    with pytest.raises(UsageError, match="not a JSON object"):
        parse_fire(data)
    assert parse_fire(b'{"a": {"b": 1}, "c": null}') == {"a": {"b": 1}, "c": None}


@pytest.fixture
def lines(monkeypatch):
    """What is logged."""
    said = []
    monkeypatch.setattr(logs.streams, "log", said.append)
    return said


def test_a_kind_of_line_is_logged_so_often_a_minute_and_the_rest_is_counted(lines):
    """Each kind by itself; the count comes once its minute is over."""
    now = [100.0]
    log = BoundedLog(lambda: now[0])
    assert [log.write("a", "x") for _ in range(LINES + 2)] == [True] * LINES + [False] * 2
    assert log.write("b", "y")
    now[0] += WINDOW_S - 1
    log.settle()
    assert lines == ["x"] * LINES + ["y"]
    now[0] += 1
    log.settle()
    assert lines[LINES + 1 :] == ["a: 2 more lines like the last were left out"]
    assert log.write("a", "z")
    now[0] += WINDOW_S
    assert log.write("c", "w")
    assert lines[-2:] == ["z", "w"], "what was not left out is not counted"
    for _ in range(LINES):
        log.write("d", "v")
    now[0] += WINDOW_S
    log.settle()
    assert lines[-1] == "v"


@pytest.mark.parametrize(
    ("configured", "mode"), [("auto", Mode.DETACHED), ("sync", Mode.SYNC), ("detached", Mode.DETACHED)]
)
def test_when_a_fire_is_answered(configured, mode):
    """As configured; else, where the platform freezes what follows, after the end."""
    here = choose(configured, {"K_SERVICE": ""})
    assert (here.mode, here.freezes) == (mode, False)
    for variable, name in FREEZING:
        there = choose(configured, {variable: "x"})
        assert there.freezes is True
        assert there.mode is (Mode.SYNC if configured == "auto" else mode)
        assert (name in there.because) is (configured == "auto")
    assert "callback.mode" in choose("sync", {}).because


def test_a_client_of_nas_is_made_once_for_each_budget():
    """Left open by those who use it, and closed with the pool."""
    said = []

    @contextmanager
    def connect(budget_s):
        said.append(f"open {budget_s}")
        yield f"nas {budget_s}"
        said.append(f"close {budget_s}")

    pool = NasPool(connect)
    for budget in (10.0, 10.0, 5.0):
        with pool.connect(budget) as nas:
            assert nas == f"nas {budget}"
    assert said == ["open 10.0", "open 5.0"]
    pool.close()
    assert said[2:] == ["close 5.0", "close 10.0"]
    with pool.connect(5.0):
        assert said[4:] == ["open 5.0"]


SETTINGS = SimpleNamespace(expected_audience="agent:me")


@pytest.mark.parametrize(
    ("nonce", "home", "path", "error"),
    [
        ("n" * 16, None, None, None), ("n" * 128, None, None, None), ("n" * 15, None, None, token_errors.ClaimTypeError),
        ("n" * 129, None, None, token_errors.ClaimTypeError), ("ñ" * 20, None, None, token_errors.ClaimTypeError),
        (["n"] * 20, None, None, token_errors.ClaimTypeError), (None, None, None, token_errors.MissingClaimError),
        ("n" * 20, "a", "b", token_errors.OtherHomeError), ("n" * 20, "a", "a", None), ("n" * 20, "a", None, None),
        ("n" * 20, None, "b", None),
    ],
)  # fmt: skip
def test_a_challenge_is_answered_by_its_nonce_and_our_audience(nonce, home, path, error):
    """One that is bound to another home is another callback's."""
    claims = SimpleNamespace(claims={} if nonce is None else {"nonce": nonce}, home=home)
    if error is None:
        assert prove(claims, SETTINGS, home=path) == {"result": "proved", "proof": callback_proof(nonce, "agent:me")}
    else:
        with pytest.raises(error):
            prove(claims, SETTINGS, home=path)


ARM = SimpleNamespace(state=ArmState.CONFIRMED)
DROPPED = SimpleNamespace(state=ArmState.CANCELLED)


@pytest.mark.parametrize(
    ("wire", "status", "arm", "carried", "keeps", "may"),
    [
        (True, 200, ARM, None, False, True), (True, 299, ARM, None, False, True), (True, 199, ARM, None, False, False),
        (True, 300, ARM, None, False, False), (False, 200, ARM, None, False, False), (True, 200, None, None, False, False),
        (True, 200, ARM, None, True, False), (True, 200, DROPPED, {}, False, False), (True, 200, DROPPED, None, False, True),
        (True, 200, ARM, {}, False, True), (True, 200, None, {}, False, False),
    ],
)  # fmt: skip
def test_what_a_2xx_may_have_deleted_is_looked_at(wire, status, arm, carried, keeps, may, monkeypatch):
    """Not where nothing was armed, where NAS keeps its slot, or where the answer itself dropped it."""
    monkeypatch.setattr(after_response, "needs_look", lambda *_: not keeps)
    ctx = SimpleNamespace(wire=object() if wire else None)
    report = SimpleNamespace(next=carried, arm=arm, http_status=status, job_id="j")
    assert after_response.may_have_deleted(ctx, report) is may
    if not may:
        assert after_response.look_afterwards(ctx, report, print) is None


@pytest.mark.parametrize("fails", [True, False])
def test_the_look_after_an_answer_is_a_threads_that_keeps_no_process(fails, monkeypatch):
    """What goes wrong is a line."""
    from chronos_cli.operations.firing import after_answer

    looked, said = [], []

    def look(_, job_id, sleep):
        looked.append(job_id)
        if fails:
            raise ChronosError("NAS is away")

    monkeypatch.setattr(after_answer, "arm_again_if_deleted", look)
    monkeypatch.setattr(after_response, "may_have_deleted", lambda *_: True)
    thread = after_response.look_afterwards(None, SimpleNamespace(job_id="j"), said.append)
    thread.join(10)
    assert thread.daemon
    assert looked == ["j"]
    assert len(said) == fails
    assert not fails or "NAS is away" in said[0]


@pytest.mark.parametrize("outbox", [[], ["row"]])
def test_what_is_over_is_told_by_a_thread_that_keeps_no_process(outbox):
    """None is started for nothing."""
    told = []
    thread = after_response.alert_afterwards(SimpleNamespace(outbox=outbox, send_alerts=lambda: told.append(1)))
    assert (thread is not None) is bool(outbox)
    if thread is not None:
        thread.join(10)
        assert thread.daemon
    assert len(told) == len(outbox)


@pytest.mark.parametrize(
    ("configured", "environ", "freezes", "passing", "warm"),
    [
        ("auto", {}, False, False, True), ("off", {}, False, False, False), ("auto", {}, True, False, False),
        ("auto", {}, False, True, False), ("auto", {"LISTEN_FDS": "1"}, False, False, False), ("auto", {"LISTEN_FDS": ""}, False, False, True),
    ],
)  # fmt: skip
def test_a_warm_runner_is_only_beside_a_server_that_stays(configured, environ, freezes, passing, warm, monkeypatch):
    """On Linux."""
    monkeypatch.setattr(warm_start.sys, "platform", "linux")
    monkeypatch.setattr(warm_start, "threads_replaced_by", lambda: None)
    choice = choose_runner(configured, environ, freezes=freezes, passing=passing)
    assert choice.warm is warm
    monkeypatch.setattr(warm_start, "threads_replaced_by", lambda: "gevent")
    assert choose_runner(configured, environ, freezes=freezes, passing=passing).warm is False
    monkeypatch.undo()
    monkeypatch.setattr(warm_start.sys, "platform", "darwin")
    assert choose_runner(configured, environ, freezes=freezes, passing=passing).warm is False


@pytest.mark.parametrize(
    ("gap", "starts"), [(0.0, True), (warm_start.IDLE_S, True), (warm_start.IDLE_S + 0.001, False)]
)
def test_a_warm_runner_is_started_once_two_answers_are_close_together(gap, starts):
    """The first alone starts none; one that cannot be started is no harm."""
    now, started = [0.0], []
    runners = SimpleNamespace(warm_up=lambda argv, environment: started.append((argv, environment)))
    choice = warm_start.RunnerChoice(warm=True, because="")
    warm = WarmStart(runners, lambda: choice, ("/config",), lambda: now[0])
    assert warm.answered({"A": "1"}) is False
    now[0] += gap
    assert warm.answered({"A": "1"}) is starts
    assert [(argv[-2:], environment) for argv, environment in started] == [(("--warm", "/config"), {"A": "1"})] * starts
    off = WarmStart(runners, lambda: warm_start.RunnerChoice(warm=False, because=""), (), lambda: now[0])
    assert [off.answered({}), off.answered({})] == [False, False]

    def fails(*_):
        raise StartError("no")

    runners.warm_up = fails
    assert warm.answered({}) is False


def test_an_answer_has_left_once_however_its_server_finds_out():
    """Some ask for more, some close it, some do both."""
    for read, closed in ((True, False), (False, True), (True, True)):
        sent = []
        body = _Body(b"x", lambda sent=sent: sent.append(1))
        if read:
            assert list(body) == [b"x"]
        if closed:
            body.close()
        assert sent == [1]
    nothing = _Body(b"", None)
    assert list(nothing) == [b""]


@pytest.mark.parametrize(
    ("left", "budget"), [(None, 20.0), (100, 20.0), ("11", 10.0), (21.0, 20.0), (1.5, 1.0), (-5, 1.0)]
)
def test_an_answer_takes_no_longer_than_the_platform_lets_it(left, budget):
    """A second is spared, and a second is always taken."""
    callback = SimpleNamespace(config=SimpleNamespace(callback_budget=20.0))
    assert Callback._budget(callback, {} if left is None else {TIME_LEFT: left}) == budget


@pytest.mark.parametrize(("debug", "shows"), [("1", True), ("True", True), ("", False), ("0", False), (None, False)])
def test_a_fault_is_one_line_and_its_text_only_where_that_is_asked_for(debug, shows, lines):
    """NAS shall come again; a stranger learns nothing."""
    environ = {} if debug is None else {"CHRONOS_DEBUG": debug}
    log = BoundedLog(lambda: 0.0)
    answer = fault(ZeroDivisionError("secret"), environ, log)
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b'"retryable": true' in answer.body
    assert any("secret" in line for line in lines) is shows
    assert lines[0] == "a fault: ZeroDivisionError; CHRONOS_DEBUG=1 shows where"
    for _ in range(LINES):
        fault(ZeroDivisionError("secret"), environ, log)
    lines.clear()
    fault(ZeroDivisionError("secret"), environ, log)
    assert lines == [], "beyond the bound nothing is shown either"


@pytest.mark.parametrize(
    ("change", "fire_at", "asks"),
    [
        ({"next_run_at": at(0).isoformat()}, None, 2), ({"next_run_at": at(1).isoformat()}, at(1), 3),
        ({"next_run_at": at(1).isoformat()}, at(2), 1), ({"next_run_at": None}, None, 1),
        ({"enabled": False, "state": "paused"}, None, 0), ({"enabled": False, "state": "paused", "ours": {"open": [entry(T)]}}, None, 1),
        ({"schedule": 5}, None, 0),
    ],
)  # fmt: skip
def test_how_far_a_fire_may_be_meant_for_a_job(change, fire_at, asks):
    """Its very instant names it; one that is due may be meant; one that is broken or not live, and has no run, is not."""
    context = SimpleNamespace(home=HOME, clock=lambda: T)
    found = record(**change)
    assert homes._asks_for(found, context, fire_at) == asks


def test_only_one_thread_opens_a_client():
    """However many come at once."""
    made = []

    @contextmanager
    def connect(budget_s):
        made.append(budget_s)
        yield "nas"

    pool = NasPool(connect)
    threads = [threading.Thread(target=pool.connect, args=(1.0,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1.0]
