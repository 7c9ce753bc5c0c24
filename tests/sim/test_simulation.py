"""The protocol under every fault that can be thought of, by the thousand; and the checker without each of its rules.

A failure prints a short story and its seed: `python -m tests.sim --seed N --explain` tells it again, and without
`--explain` all that happened. CHRONOS_SIM_SCHEDULES sets how
many the default run plays (200; 600 in CI), CHRONOS_SIM_SOAK how many the soak does (a million), CHRONOS_SIM_SEED where that
begins.

What the protocol survives is played one by one, and in twos and threes where the pair can be survived at all:

- a NAS whose 2xx clears the slot is played with callbacks that outlive their answer, and with runners that do; where
  either falls over before it has provisioned again, the next reconcile has to mend it, and the chain is excused. A
  command that is answered for by its exit code, or a platform that freezes, has nobody who could: not with such a NAS
- a NAS that ignores past instants while saying yes is played with clocks that agree, and without one that runs ahead
- a NAS that remembers keys for ever is not paired with one whose redelivery retakes the slot those keys were for
- a NAS whose 2xx clears the slot is not paired with one whose redelivery takes that slot, nor with nameless copies: what
  is owed to a fire that came too early is then lost with the answer to another one, until the next reconcile
- fires that name no instant are not paired with clocks of ours that jump by hours: such a fire reads as a duplicate
- a NAS that clears its slot some seconds after the 2xx does so before the second look; later only reconcile could know.
  With one that deletes at all no list lags, since a list is what shows it
- a NAS that never replaces a timer has no one slot that a redelivery could take, or an upsert empty; nor does its clock
  run ahead of ours: all that it holds would be fired too early, and each of these fires leaves one more
- what was not synced is lost where the home lies on one machine's disk; two machines share a bucket, which loses nothing
- the record of a job rots while nobody is at it, and somebody puts it right later: until then it runs nothing
- clocks of two machines differ by at most 40 s, which the lease's margin covers; one machine's clock jumps by hours
- requests are spoiled in their body and claims; signatures and keys are tests/trust's

Likewise only reconcile mends what a killed or failing command, runner or tick left undone between its own two writes.
"""

from __future__ import annotations

import json
import os
import random
import sys
from datetime import UTC, datetime

import pytest

from chronos_cli.core.decision import Outcome
from chronos_cli.core.policy import Overlap
from chronos_cli.store.jsontext import Style
from tests.conftest import at_length, thoroughly
from tests.sim import __main__ as command
from tests.sim import answers, backends
from tests.sim.config import LEAPING, OPERATIONS, TRANSITIONS
from tests.sim.nas import CHARACTERS
from tests.sim.play import CHUNK, Played, explained, play, play_wide, trace
from tests.sim.quick import quickly
from tests.sim.sabotage import RULES, SELDOM, WORLDS, without
from tests.sim.story import kind_of
from tests.sim.troubles import NAMES

EFFECTS = (
    "create row",
    "replace row",
    "replace jobs",
    "replace job",
    "create arm",
    "replace arm",
    "nas provision",
    "nas cancel",
    "nas list",
    "process start",
    "runner start",
    "answer",
)
STORE_FAULTS = (
    "answer lost",
    "conflict",
    "conflict out of nothing",
    "read fails",
    "write fails",
    "lock timeout",
    "result cannot be written beside the lock",
)
NAS_FAULTS = ("answer lost", "call lost", "down", "drops", "waits no longer", "delivers again", "past fires at once")
ANSWERS = (
    "refused",
    "malformed",
    "cannot be judged now",
    "early, and nameless",
    "claimed, detached",
    "claimed, waited, exit 0",
    "claimed, waited, exit 10",
    "its wake",
    "no runner",
    "arm: refused",
    "armed again after the answer",
)
REACHED = {
    "nas": (*CHARACTERS, *NAS_FAULTS, "older generation refused"),
    "store": STORE_FAULTS,
    "operation": tuple(sorted(set(OPERATIONS))),
    "clock": (
        "back",
        "ahead",
        "leaps ahead",
        "leaps back",
        "jumps back over a transition",
        "jumps ahead over a transition",
    ),
    "transition": tuple(f"{zone} {datetime.fromisoformat(at).astimezone(UTC):%Y-%m}" for zone, at, _ in TRANSITIONS),
    "write fails": (*NAMES, "ENOLCK"),
    "view": ("in between", "at the end", "it will fire", "it runs"),
    "disk": ("takes no write", "takes writes again"),
    "reboot": ("in order", "the power was cut", "a document is gone", "a document is another"),
    "rot": ("row", "arm", "record", "other", "made anew as lost"),
    "liveness": ("alive", "dead", "unstarted", "unseen", "rebooted since", "result found", "leftover killed"),
    "process": (
        "ended before the platform's deadline",
        "frozen",
        "cannot be started",
        "no runner",
        "handed over twice",
        "its end is shared",
        "it ends alone",
        "no lock",
        "its output cannot be kept",
        "stands still",
    ),
    "hermes": ("takes its fire_claim", "takes its run_claim", "is met"),
    "reconcile": ("from another machine than a run's",),
    "row": ("ok", "failed", "timeout", "interrupted", "lost", "skipped", "missed", "queued"),
    "outcome": (*(outcome.value for outcome in Outcome), *ANSWERS),
    "crash before": EFFECTS,
    "crash after": EFFECTS,
}
"""What every run has to have reached: rows of the table, crash points, characters and faults."""


style_outside = Style._dump

GO_THROUGH = {
    "numbers of many digits": "ArithmeticError",
    "one bad arm document": "TypeError",
    "one bad memory of NAS": "NotJsonError",
    "one bad pack": "NotJsonError",
    "what is nested deep": "RecursionError",
}
"""Rules without which an error of a document goes through, which the checker does not have to tell of."""

LATE = {"wake recomputation", "one bad record", "retries end", "early limit", "queued beside", "no row made anew",
        "what may still come is left to NAS", "the answer's time budget", "what is not listed yet is taken back"}  # fmt: skip
"""Rules whose absence is noticed within 500 schedules, yet only after half a second."""

FEW = 2_000
"""Fewer are not held to having reached every corner."""

ENOUGH_FIRES = 400
"""From so many on the mean of a character is judged."""

CORNERS = {
    "a row is taken back": (
        200,
        WORLDS["no end made anew"] | {"p_crash": 0.004, "p_stall": 0.15, "stall_at": ("lock run", "create row"), "steps": 120},
        {("row", "made again"), ("row", "taken back"), ("crash before", "take back row")},
    ),
    "packs come and go": (
        250,
        {"nas": True, "machines": 1, "locks": True, "p_crash": 0.01, "p_write_fails": 0.3, "steps": 80,
         "operations": ("reconcile",), "p_operation": 0.2},
        {*(("crash before", name) for name in ("create pack", "delete pack", "lock")), ("store", "delete fails")},
    ),
    "jobs are moved both ways": (
        150,
        WORLDS["a move marks what it takes"],
        {("move", "apart"), ("move", "together")},
    ),
}  # fmt: skip
"""Corners that hardly any schedule comes to: each has a world of its own, of which so many schedules reach all of them."""

MANY = 20_000
"""So many schedules are in CI: with those worlds beside them they have reached every corner."""


def unseen(played: Played) -> list[str]:
    """What was not reached."""
    return [f"{family}: {name}" for family, names in REACHED.items() for name in names
            if (family, name) not in played.covered]  # fmt: skip


def judge(played: Played, first: int, **forced: object) -> None:
    """Print what was reached; the first failure with its story. A few schedules may miss a rare corner by chance."""
    print(f"from seed {first}\n{played.report()}")
    for seed, verdict in played.failures[:1]:
        story, _ = explained(seed, **forced)
        pytest.fail(f"{verdict}\n\n{story}\nall of it: python -m tests.sim --seed {seed}", pytrace=False)
    assert played.schedules < FEW or not unseen(played), f"never reached: {unseen(played)}"
    for name, price in backends.PRICE.items():
        fires, sent = played.covered["fires at", name], played.covered["provisions at", name]
        assert fires < ENOUGH_FIRES or sent <= price * fires, f"{sent} provisions for {fires} fires at {name}"


def test_the_protocol_holds_in_every_schedule_and_every_corner_was_visited():
    """Random schedules break no promise, and thousands together reach every row, crash point and character."""
    count = int(os.environ.get("CHRONOS_SIM_SCHEDULES", thoroughly(600, 200)))
    played = play_wide(0, count) if count > CHUNK else play(0, count)  # a process that it starts imports all of it anew
    while (
        FEW <= count < MANY and not played.failures and unseen(played) and played.schedules < 3 * count
    ):  # a rare corner may be missed
        played.add(play_wide(played.schedules, max(1, count // 2)))
    assert played.steps >= 20 * played.schedules
    judge(played, 0)
    for corner in CORNERS if count >= MANY else ():
        comes_to(corner)


@pytest.mark.parametrize("nas", [True, False], ids=["NAS is the witness", "the tick alone"])
def test_clocks_jump_years_and_come_back(nas):
    """Nothing is settled that has not come, nothing with a row runs again, and no job sleeps on when the clock is right.

    Under the tick alone the newest instant by any clock runs, and what that claimed is brought back.
    """
    played = play(0, thoroughly(120, 60), nas=nas, **LEAPING)
    judge(played, 0)
    for name in (
        "leaps ahead",
        *thoroughly(("leaps back",), ()),
        "back from a leap",
        *(() if nas else ("what it had claimed is brought back",)),
    ):
        assert played.covered["clock", name], name


def test_jobs_that_replace_what_runs_lose_nothing():
    """Runs are asked to end, or waited for; whatever crashes meanwhile, all is settled and none runs beside another."""
    played = play(
        0,
        50,
        nas=True,
        busy=True,
        mode="detached",
        characters=frozenset({"kind"}),
        operations=("add", "tick", "manual", "edit", "reconcile"),
        policy={"overlap": Overlap.REPLACE, "timeout": 300, "pause_after_failures": 0, "grace": 86_400},
        steps=80,
    )
    judge(played, 0)
    assert {("replace", "is asked to end"), ("replace", "waits for it")} <= played.covered.keys()


def comes_to(corner: str) -> None:
    """Play the world of a corner: nothing breaks there, and all that it is for was reached."""
    count, world, reached = CORNERS[corner]
    played = play(0, count, **world)
    judge(played, 0, **world)
    assert reached <= played.covered.keys(), f"never reached: {reached - played.covered.keys()}"


@pytest.mark.soak
@pytest.mark.parametrize("corner", CORNERS)
def test_a_corner_that_random_play_hardly_comes_to_is_played_in_a_world_of_its_own(corner):
    """The row of a run that is long over, made by a runner that stood still; packs that are superseded; moves."""
    comes_to(corner)


@pytest.mark.parametrize("character", answers.CHARACTERS)
def test_answers_arm_and_nothing_is_lost(character):
    """Longer schedules at a NAS that takes the next wake from answers, and at one that only says so."""
    first = 1_000  # from there on the seldom answers come more than once
    played = play(first, thoroughly(250, 80), nas=True, characters=frozenset({character}), steps=50)
    judge(played, first)
    found = {("answer", name) for name in ("arms", "none", "settles and arms nothing", "without next")}
    found |= {("door", name) for name in ("plain", "a proxy answers 502", "a gateway answers 202", "it is lost")}
    wanted = found if character == answers.ARMS else {("answer", "without next"), ("door", "plain")}
    if played.schedules < 250:  # the seldom ones may not be among them
        wanted &= {("answer", "arms"), ("answer", "none"), ("door", "plain")}
    assert wanted <= played.covered.keys()


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, marks=[pytest.mark.soak] if rule in SELDOM | LATE else [])
        for row, rule in enumerate(sorted(RULES))
        if thoroughly(True, rule in SELDOM | LATE or row % 2 == 0)
    ],
)
def test_the_checker_notices_when_a_rule_is_taken_out(rule):
    """Without one rule of the protocol a promise is seen to break, and the same schedule holds with it in place."""
    if rule == "what is nested deep" and sys.version_info >= (3, 13):
        pytest.skip("to this Python no text of the simulation's depth is too deep")
    world = WORLDS.get(rule, {})
    with without(rule):
        failures = play(0, 20_000 if rule in SELDOM else 500, **world).failures
    assert failures, f"nothing was noticed without the {rule}"
    seed, verdict = failures[0]
    assert verdict.startswith(("Violation", GO_THROUGH.get(rule, "Violation"))), failures
    with_it = play(seed, 1, **world).failures
    assert not with_it, f"seed {seed} breaks with the {rule} in place too, so it proves nothing: {with_it}"


@pytest.mark.parametrize("step", ["", " ", "  ", "\t"])
def test_jobs_are_laid_out_in_a_world_as_they_are_outside(step):
    """Byte for byte, whatever a record holds, and with escapes or without."""
    value = {"": [], "a": {}, "b": [1, -2.5, 1e300, True, False, None, [[]], {"c": [{"d": '\u00e9"\\\n\ud800'}]}]}
    for ascii_only in (True, False):
        style = Style(step=step, ascii_only=ascii_only)
        for indent in ("", "    "):
            outside = style.write(value, indent)
            with quickly():
                assert style.write(value, indent) == outside
                assert Style._dump is not style_outside
            assert Style._dump is style_outside


def test_a_seed_tells_the_same_story_twice():
    """A schedule depends on its seed alone, so that a failure can be played again."""
    assert trace(12) == trace(12)


def test_a_failure_is_told_in_few_words():
    """Steps, faults and characters that it does not need are left out, and what is wrong stays what it was."""
    with without("claim check"):
        seed, verdict = play(0, 500).failures[0]
        long, _ = trace(seed)
        story, still = explained(seed)
        assert kind_of(still) == kind_of(verdict)
        assert len(story.splitlines()) < len(long.splitlines()) + 5
        assert explained(seed)[0] == story
    assert "1 machine, " in story
    assert "`chronos job add` 1 about job1 begins" in story
    assert "What is wrong: " in story
    assert f"--seed {seed} --explain" in story
    calm, verdict = explained(seed)
    assert verdict is None
    assert "nothing" in calm


@pytest.mark.soak
def test_a_long_run_goes_on_from_where_it_stopped(tmp_path, monkeypatch, capsys):
    """What was played is kept after each part, and counted on; the sums are those of one run."""
    kept = tmp_path / "played.json"
    monkeypatch.setattr(command, "PART", 40)
    monkeypatch.setattr(command, "commit", lambda: "c0ffee")

    def play_on(count, first):
        monkeypatch.setattr(
            "sys.argv", ["sim", "--start", first, "--count", count, "--processes", "1", "--resume", str(kept)]
        )
        return command.main()

    assert [play_on(count, "0") for count in ("40", "80")] == [0, 0]
    assert "80 schedules" in capsys.readouterr().out
    played, whole = json.loads(kept.read_text()), play(0, 80)
    assert (played["schedules"], played["steps"]) == (80, whole.steps)
    assert [played[name] for name in ("commit", "first", "last", "failures")] == ["c0ffee", 0, 79, []]
    with pytest.raises(SystemExit):
        play_on("80", "7")
    monkeypatch.setattr(command, "commit", lambda: "another")
    with pytest.raises(SystemExit):
        play_on("80", "0")
    assert played["covered"] == {": ".join(name): number for name, number in whole.covered.items()}


@pytest.mark.soak
def test_the_protocol_holds_for_a_million_schedules():
    """Other schedules each time: the seed is printed, and can be given."""
    first = int(os.environ.get("CHRONOS_SIM_SEED", random.SystemRandom().randrange(10**9)))
    print(f"CHRONOS_SIM_SEED={first}")
    judge(play_wide(first, int(os.environ.get("CHRONOS_SIM_SOAK") or at_length(1_000_000, 1_500))), first)
