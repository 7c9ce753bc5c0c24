"""A failure in few words: what it does not need is taken away, and what is left is told as a person would."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.sim.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRIES = 600
"""So often a schedule is played again at most, to make it shorter."""

_PLAIN = Config()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One schedule that fails: its seed, what is forced upon its world, its steps, and those that are left out."""

    seed: int
    forced: dict[str, Any]
    steps: int | None
    left_out: frozenset[int] = frozenset()
    verdict: str = ""


def shrunk(case: Case, play: Callable[[Case], str | None], cfg: Config, taken: int) -> Case:
    """The case with the fewest steps and faults that still fails in the same way. `taken`: the steps that it took."""
    left = [TRIES]

    def fails(found: Case) -> bool:
        left[0] -= 1
        verdict = play(found) if left[0] >= 0 else None
        return verdict is not None and kind_of(verdict) == kind_of(case.verdict)

    case = _shorter(case, fails, taken)
    for change in _simpler(cfg):
        found = replace(case, forced={**case.forced, **change})
        if fails(found):
            case = found
    size = 8
    while size:
        for start in range(1, (case.steps or taken) + 1, size):
            found = replace(case, left_out=case.left_out | set(range(start, start + size)))
            if found.left_out != case.left_out and fails(found):
                case = found
        size //= 2
    return replace(case, verdict=play(case) or case.verdict)


def _shorter(case: Case, fails: Callable[[Case], bool], taken: int) -> Case:
    """The fewest steps from the beginning, of which each number is as good as any."""
    for steps in range(1, taken):
        found = replace(case, steps=steps)
        if fails(found):
            return found
    return replace(case, steps=taken)


def _simpler(cfg: Config) -> Iterator[dict[str, Any]]:
    """Changes that leave a world with less in it, one at a time."""
    for name in cfg.characters:
        if len(cfg.characters) > 1:
            yield {"characters": frozenset({name})}
    if cfg.characters != {"kind"}:
        yield {"characters": frozenset({"kind"})}
    for name in (
        "nas",
        "machines",
        "mode",
        "jumps",
        "leaps",
        "busy",
        "knows",
        "keep",
        "p_stall",
        "p_crash",
        "p_operation",
    ):
        plain = 0.0 if name.startswith("p_") else False if name == "nas" else getattr(_PLAIN, name)
        if getattr(cfg, name) != plain:
            yield {name: plain}
    for name in cfg.__slots__:
        if name.startswith("p_") and getattr(cfg, name) and name not in ("p_stall", "p_crash", "p_operation"):
            yield {name: 0.0}


def kind_of(verdict: str) -> str:
    """What a verdict says, without names, numbers and times."""
    words = re.sub(r"\{.*|'[^']*'|\S*\d\S*", "", verdict.removeprefix("Violation: ").strip().rpartition("\n")[2])
    return " ".join(words.split())[:60]


_ACTORS = {
    "door": "callback", "runner": "runner", "server": "server", "tick": "tick", "reconcile": "reconcile", "manual": "`chronos run`",
    "add": "`chronos job add`", "edit": "`chronos job edit`", "pause": "`chronos job pause`", "hold": "`chronos hold`",
    "resume": "`chronos job resume`", "remove": "`chronos job remove`", "unlock": "`chronos job unlock`",
    "hermes": "hermes", "probe": "`chronos doctor --probe`",
}  # fmt: skip
_REWORDED = (
    (r"notes arm of (\S+): unconfirmed (\S+) (\S+) \d+", r"notes that \1's wake (\2) of \3 is being sent"),
    (r"notes arm of (\S+): confirmed (\S+) (\S+) \d+", r"notes that NAS has \1's wake (\2) of \3"),
    (r"notes arm of (\S+): cancelled.*", r"notes that \1 has no timer at NAS"),
    (r"enters (\S+) (\S+) of (\S+)", r"claims \2 of \3, as \1"),
    (r"writes (\S+) (\S+) of (\S+)", r"writes into the row of \2 of \3: \1"),
    (
        r"process of (\S+) (\S+) attempt (\d+) starts, for (\S+)s",
        r"the job itself starts: \1, \2, attempt \3; it takes \4 s",
    ),
    (r"is killed before (.*), after (.*)", r"is killed, just before: \1 (last it did: \2)"),
    (r"NAS fires (\S+) for (\S+), delivery (\d+), time (\d+)", r"NAS calls about \1 for \2 (delivery \3, try \4)"),
    (r"answers (\d+) (.*)", r"answers NAS with \1, \2"),
    (r"T(\d\d:\d\d:\d\d)\+00:00", r" \1"),
)


def told(case: Case, lines: list[str], cfg: Config) -> str:
    """The story of a case: the world in a sentence or two, then what happens, then what is wrong with it."""
    several = cfg.machines > 1

    def actor(found: re.Match[str]) -> str:
        place = f" on machine {found[3]}" if several else ""
        about = f" about {found[5]}" if found[5] else ""
        return f"{_ACTORS.get(found[1], found[1])} {found[2]}{place}{about}"

    said = [_world(cfg), ""]
    for line in lines:
        _, day, at, text = line.split(None, 3)
        text = re.sub(r"\b([a-z]+)#(\d+)@(\d+)(\((\S+?)\))?", actor, text)
        for old, new in _REWORDED:
            text = re.sub(old, new, text)
        said.append(f"  {day} {at[:12]}  {text}")
    again = f"python -m tests.sim --seed {case.seed} --explain"
    wrong = re.sub(r"\b([a-z]+)#(\d+)@(\d+)(\((\S+?)\))?", actor, case.verdict)
    return "\n".join([*said, "", f"What is wrong: {wrong}", f"Told by `{again}`."])


def _world(cfg: Config) -> str:
    """The world in words."""
    nas = f"a NAS that is {' and '.join(sorted(cfg.characters))}" if cfg.nas else "no NAS, the tick alone"
    how = {"detached": "the callback answers when a run has started", "sync": "the callback waits for each run",
           "waits": "the callback waits for a run as long as it may", "frozen": "the platform freezes after an answer"}  # fmt: skip
    words = [f"{cfg.machines} machine{'s' if cfg.machines > 1 else ''}, {nas}; {how[cfg.mode]}."]
    if cfg.jumps or cfg.leaps:
        words.append(
            f"Clocks {' and '.join(w for w, on in (('jump by hours', cfg.jumps), ('leap by years', cfg.leaps)) if on)}."
        )
    if cfg.zone != "UTC":
        words.append(f"The zone is {cfg.zone}.")
    likely = [name.removeprefix("p_").replace("_", " ") for name in cfg.__slots__ if name.startswith("p_") and getattr(cfg, name) and name not in ("p_operation", "p_orphan", "p_start_fails", "p_runner_fails")]  # fmt: skip
    if likely:
        words.append(f"What may happen to a process or a call: {', '.join(likely)}.")
    return " ".join(words)
