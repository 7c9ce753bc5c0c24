"""Rules at the door of a fire: what is admitted, whose job it is, and what a runner of its own says to whoever waits."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from chronos_cli.contract import ARM_BY_ANSWER, ARM_CLAIM, MAX_COUNTED_GENERATION
from chronos_cli.core.decision import Decision, Outcome, Start
from chronos_cli.core.job import Standing
from chronos_cli.core.row import RunState, row_of
from chronos_cli.errors import TemporaryError, UnservedError, UsageError
from chronos_cli.frozen import replace
from chronos_cli.operations.context import FleetJobs
from chronos_cli.operations.evaluate import Evaluation
from chronos_cli.operations.firing import admission, launchers
from chronos_cli.operations.firing.fleet import must_be_of_this_home
from chronos_cli.operations.firing.run import RunTicket
from chronos_cli.trust.settings import TrustSettings
from chronos_cli.trust.token_errors import OtherHomeError, OtherJobError, OtherTimeError
from chronos_cli.trust.tokens import FireClaims
from tests.core.making import T, at, entry, job

NAMED = T.isoformat()


def admitted(tmp_path, claims=None, *, fire_at=NAMED, **more):
    settings = TrustSettings(expected_audience="a", issuer="https://nas", keys="https://nas/keys", cache_dir=tmp_path)
    told = FireClaims(
        job_id="j", fire_at=T, jti="d", issued=at(1), expires=at(90), claims={"generation": 7, **(claims or {})}, **more
    )
    return admission.admit(told, settings, job_id="j", fire_at=fire_at)


def test_a_fire_is_admitted_as_its_token_and_its_body_name_it(tmp_path):
    """Where the body names no time that can be read, the token's is meant."""
    found = admitted(tmp_path)
    assert (found.job_id, found.fire_at, found.delivery, found.heard, found.generation) == ("j", T, "d", at(1), 7)
    assert found.by_answer is False
    assert admitted(tmp_path, {ARM_CLAIM: ARM_BY_ANSWER}).by_answer is True
    assert admitted(tmp_path, fire_at=None).fire_at == admitted(tmp_path, fire_at="soon").fire_at == T


@pytest.mark.parametrize(
    ("said", "counted"),
    [(0, 0), (MAX_COUNTED_GENERATION - 1, MAX_COUNTED_GENERATION - 1), (MAX_COUNTED_GENERATION, None), (-1, None),
     (True, None), ("7", None), (7.0, None), (None, None)],
)  # fmt: skip
def test_a_generation_that_cannot_be_counted_is_none(tmp_path, said, counted):
    """The next one must be newer, and be a number that NAS can say."""
    assert admitted(tmp_path, {"generation": said}).generation == counted


def test_a_token_for_something_else_is_refused_and_not_remembered(tmp_path):
    """Another job, time or home: what was refused may still come as what it is for."""
    settings = TrustSettings(expected_audience="a", issuer="https://nas", keys="https://nas/keys", cache_dir=tmp_path)
    told = FireClaims(job_id="j", fire_at=T, home="h", jti="d", issued=at(1), expires=at(90), claims={})
    for error, asked in (
        (OtherJobError, {"job_id": "k", "fire_at": NAMED}),
        (OtherTimeError, {"job_id": "j", "fire_at": at(60).isoformat()}),
        (OtherHomeError, {"job_id": "j", "fire_at": NAMED, "home": "other"}),
    ):
        with pytest.raises(error):
            admission.admit(told, settings, **asked)
    assert list(tmp_path.iterdir()) == []
    assert admission.admit(told, settings, job_id="j", fire_at=NAMED, home="h").job_id == "j"


def test_a_job_id_that_names_a_path_is_refused(tmp_path):
    """Before anything is done with it."""
    with pytest.raises(UsageError, match="malformed"):
        admission.admit(None, None, job_id="../x", fire_at=None)


LIVE = job()
PAUSED = replace(LIVE, standing=Standing.PAUSED)
FLEET = FleetJobs(profile_of={"j": "p", "quiet": "p"}, may_wake={"j": "p"}, instants={"j": frozenset({T})})


def of_this_home(outcome, found=None, *, fleet=FLEET, invalid=None, fire_at=T, job_id="j", **decided):
    """Return whether the other homes were asked. Raises what the rule raises."""
    asked = []
    looked = Evaluation(decision=Decision(outcome=outcome, **decided), job=found, invalid=invalid)
    must_be_of_this_home(lambda: asked.append(1) or fleet, looked, job_id, fire_at)
    return bool(asked)


def test_what_is_live_here_is_this_homes_and_no_other_is_read():
    """Nor where anything was taken."""
    assert not of_this_home(Outcome.HELD, LIVE)
    assert not of_this_home(Outcome.DUPLICATE, LIVE)
    start = Start(entry=job(ours={"open": [entry(T)]}).open[0], attempt=1)
    assert not of_this_home(Outcome.IGNORED, PAUSED, starts=(start,))
    assert not of_this_home(Outcome.IGNORED, PAUSED, owed=(row_of("j", start.entry, LIVE.policy),))


@pytest.mark.parametrize(
    ("outcome", "found"),
    [
        (Outcome.GONE, None),
        (Outcome.IGNORED, PAUSED),
        (Outcome.HELD, PAUSED),
        (Outcome.STALE, LIVE),
        (Outcome.HELD, None),
    ],
)
def test_a_fire_that_nothing_here_takes_and_another_home_may_have_sent_for_is_refused(outcome, found):
    """NAS comes again; it is served where that profile is."""
    with pytest.raises(UnservedError, match="profile p"):
        of_this_home(outcome, found)
    assert of_this_home(outcome, found, fleet=FleetJobs())


def test_a_live_job_of_both_answers_but_for_a_time_that_is_the_others_alone():
    """Then only the other can have asked for it."""
    assert of_this_home(Outcome.STALE, LIVE, fire_at=at(1))
    assert of_this_home(Outcome.STALE, LIVE, fire_at=None)


@pytest.mark.parametrize(
    ("found", "invalid", "refused"), [(None, None, True), (PAUSED, None, False), (None, "rotten", False)]
)
def test_what_is_live_nowhere_is_the_others_only_where_nothing_here_has_that_id(found, invalid, refused):
    """A record that cannot be read is still one of that id."""
    outcome = Outcome.GONE if found is None and invalid is None else Outcome.IGNORED
    if refused:
        with pytest.raises(UnservedError, match="profile p"):
            of_this_home(outcome, found, invalid=invalid, job_id="quiet")
    else:
        assert of_this_home(outcome, found, invalid=invalid, job_id="quiet")


def test_a_profile_that_cannot_be_read_may_have_the_job():
    """Another user's has none of ours; a stale fire of a job that is live here is answered all the same."""
    rotten = FleetJobs(unread={"theirs": "closed", "q": "rotten"}, foreign=frozenset({"theirs"}))
    with pytest.raises(TemporaryError, match="profile q, which cannot be read: rotten"):
        of_this_home(Outcome.GONE, fleet=rotten)
    assert of_this_home(Outcome.GONE, fleet=replace(rotten, foreign=frozenset({"theirs", "q"})))
    assert of_this_home(Outcome.STALE, LIVE, fleet=rotten)


class Runner:
    """A runner that says these things, one at a time."""

    def __init__(self, *says, comes=True, stray=""):
        self.says, self.comes, self.stray, self.closed, self.given_up = list(says), comes, stray, False, False

    def next_message(self, timeout_s):
        return self.says.pop(0) if self.says else None

    def message_comes(self, timeout_s):
        return self.comes or (timeout_s == 0.0 and bool(self.says))

    def close(self):
        self.closed = True

    def give_up(self):
        self.given_up = True


class Runners:
    """A warm runner, if there is one, and those that are started."""

    end_fd = -1

    def __init__(self, started, warm=None):
        self.warm, self.started, self.payloads = warm, started, []

    def hand_over(self, payload, **_):
        self.payloads.append(payload)
        return self.warm

    def start(self, argv, payload, **_):
        self.payloads.append(payload)
        assert argv[-2:] == ("--claimed", "20261120T120000Z")
        return self.started


RUNNING = {"event": "running"}
TICKET = RunTicket(record={}, entry=job(ours={"open": [entry(T)]}).open[0], attempt=1, starter="s")
CTX = SimpleNamespace(token=lambda: "another")


def detached(started, warm=None, wait_s=None):
    runners = Runners(started, warm)
    return runners, launchers.DetachedLauncher(runners, launching={}, environment={}, secrets={}, wait_s=wait_s)


def test_a_warm_runner_that_says_something_keeps_its_claim():
    """No other is started."""
    warm = Runner(RUNNING)
    runners, launcher = detached(None, warm)
    run = launcher.launch(CTX, TICKET)
    assert (len(runners.payloads), warm.given_up, warm.closed) == (1, False, False)
    launcher.answered()
    assert (run is not None, warm.closed) == (True, True)


def test_a_warm_runner_that_says_nothing_has_another_started_in_its_place():
    """Under another token: whichever writes the row first has won."""
    warm, started = Runner(comes=False), Runner(RUNNING)
    runners, launcher = detached(started, warm)
    assert launcher.launch(CTX, TICKET) is not None
    assert (warm.given_up, warm.closed, started.closed) == (True, True, False)
    assert b'"starter": "s"' in runners.payloads[0]
    assert b'"starter": "another"' in runners.payloads[1]


def test_a_warm_runner_that_was_only_slow_may_have_won_all_the_same():
    """The started one then says that it lost."""
    warm, started = Runner(RUNNING, comes=False), Runner({"event": "lost"})
    _, launcher = detached(started, warm)
    assert launcher.launch(CTX, TICKET) is not None
    assert (warm.closed, started.closed) == (False, True)
    both = Runner(comes=False)
    assert detached(Runner({"event": "lost"}), both)[1].launch(CTX, TICKET) is None
    assert both.closed


@pytest.mark.parametrize(
    ("runner", "why"),
    [(Runner({"event": "failed", "detail": "no disk"}), "no disk"), (Runner(stray="Traceback\nOops: x"), "Oops: x"),
     (Runner(), "it said nothing in time")],
)  # fmt: skip
def test_a_runner_that_did_not_start_the_job_says_why(runner, why):
    """Its last line where it said nothing else."""
    with pytest.raises(TemporaryError, match=why):
        detached(runner)[1].launch(CTX, TICKET)
    assert runner.closed


ROW = replace(row_of("j", TICKET.entry, LIVE.policy), state=RunState.OK)
ENDED = {"event": "ended", "row": ROW.to_json()}


def test_a_run_is_waited_for_until_all_that_follows_its_end_is_done():
    """What comes after that is not listened to; nor is it waited for where nobody wants to."""
    runner = Runner(RUNNING, ENDED, {"event": "done"}, {"event": "more"})
    run = detached(runner)[1].launch(CTX, TICKET)
    assert (run.wait(), len(runner.says)) == (ROW, 1)
    unheard = Runner(RUNNING, ENDED)
    run = detached(unheard, wait_s=0.0)[1].launch(CTX, TICKET)
    assert (run.wait(), run.first_of([run]) is run, len(unheard.says)) == (None, True, 1)


def test_a_runner_that_is_gone_is_not_waited_for():
    """The ledger tells the rest."""
    runner = Runner(RUNNING)
    run = detached(runner)[1].launch(CTX, TICKET)
    runner.closed = True
    assert run.wait() is None


def test_of_several_the_one_that_is_over_is_first(monkeypatch):
    """Words are waited for, and each is heard."""
    from chronos_cli.running import detach

    slow, quick = Runner(RUNNING), Runner(RUNNING)
    runs = [detached(runner)[1].launch(CTX, TICKET) for runner in (slow, quick)]
    monkeypatch.setattr(detach, "wait_for_words", lambda waiting: quick.says.extend([ENDED, {"event": "done"}]))
    assert runs[0].first_of(runs) is runs[1]
    assert runs[1].wait() == ROW


def test_whether_somebody_waits_is_told_to_the_runner():
    """And for how long: a run that takes longer goes on without."""
    for wait_s, waited_for in ((0.0, b"false"), (None, b"true"), (0.01, b"true")):
        runner = Runner(RUNNING)
        runners, launcher = detached(runner, wait_s=wait_s)
        run = launcher.launch(CTX, TICKET)
        assert b'"waited_for": ' + waited_for in runners.payloads[0]
        assert b'"shares_end": false' in runners.payloads[0]
        runners, launcher = detached(Runner(RUNNING), wait_s=wait_s)
        runners.end_fd = 7
        launcher.launch(CTX, TICKET)
        assert (b'"shares_end": true' in runners.payloads[0]) is (wait_s == 0.0), "who waits needs the end at once"
        if wait_s == 0.01:
            began = time.monotonic()
            assert run.wait() is None
            assert timedelta(seconds=time.monotonic() - began) < timedelta(seconds=5)
