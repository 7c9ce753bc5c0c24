"""What `list`, `status` and `doctor` say inside the world, held against what is so there.

Nothing goes on while they look, so nothing excuses them: a job that they say will fire must have somebody who will wake
it, and one that nobody will wake is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chronos_cli.cli.commands.status import conditions
from chronos_cli.errors import ChronosError
from chronos_cli.frozen import replace
from chronos_cli.operations.doctor import jobs as doctor
from chronos_cli.operations.doctor.check import Level
from chronos_cli.operations.views.listing import listing
from tests.sim import backends
from tests.sim.tasks import Task

if TYPE_CHECKING:
    from chronos_cli.nas_client.interface import ArmList
    from chronos_cli.operations.views.listing import JobView, Listing
    from tests.sim.world import World

SLACK_S = 15.0
DAY_S = 86_400.0


def look(world: World, *, over: bool = False) -> None:
    """Have a person with a clock that is right look at the home. `over`: the world is quiet, and all should be well."""
    machines = [n for n in range(world.cfg.machines) if not world.leapt[n] and (not n or not world.cfg.jumps)]
    machines = [n for n in machines if abs(world.skews[n]) < 60]
    if not machines:
        return
    faults, world.faults = world.faults, False
    try:
        ctx = world.context(Task(0, "view", machines[0], None))
        held = world.nas.list() if world.cfg.nas and not world.nas.down and not world.nas.refusing else None
        if held is not None:  # a list that lags deceives anybody; what is said of it is judged once it has caught up
            held = replace(held, arms=world.nas.arms())
        try:
            found = listing(ctx, arming=world.cfg.nas, held=held, prompt_runner=False)
        except ChronosError as error:
            world.check.fail(f"`chronos list` ends, though only some documents are bad: {error.line()}")
        _judge(world, found, held, machines[0], over=over)
    finally:
        world.faults = faults
    world.cover("view", "at the end" if over else "in between")


def _judge(world: World, found: Listing, held: ArmList | None, machine: int, *, over: bool) -> None:
    for view in found.jobs:
        trace = world.check.jobs.get(view.id)
        if view.id in world.broken:
            if view.problem is None or view.will_fire is not False or "invalid" not in conditions(view):
                world.check.fail(f"the record of {view.id} cannot be read, and `chronos list` does not say so")
            continue
        if trace is None or trace.removed:
            continue
        if view.will_fire:
            _will_it(world, view, trace, over=over)
        _runs(world, view, machine)
        entries = {entry["run"] for entry in trace.record["chronos"].get("open", ())}
        torn = [key for key in world.check.torn if key.startswith(f"cron/runs/{view.id}/") and key[len(f"cron/runs/{view.id}/") : -5] in entries]  # fmt: skip
        if torn and not view.unreadable:
            world.check.fail(f"{torn[0]} cannot be read, and `chronos list` says nothing of it")
        slot = world.nas.slots.get(view.id)  # what a redelivery has taken back is due, and armed anew by that
        armed = slot is not None and not slot.attempt and trace.live
        # To a list that lags nothing is missing where a wake was sent that is no longer needed: that one finds no work.
        armed = armed and not (
            backends.LISTS_LATE in world.nas.char and view.next_at and slot.fire_at < view.next_at.timestamp()
        )
        # By clocks that are minutes apart every token is refused: then nothing is promised.
        if over and armed and not found.clock and not view.will_fire and not view.arm.last_fire_error:
            world.check.fail(f"all is well, and `chronos list` does not say that {view.id} will fire: {view.why_not}")
    _examined(world, found, held)


def _will_it(world: World, view: JobView, trace, *, over: bool) -> None:
    """Whether what is said to fire will."""
    if not trace.live or world.held:
        world.check.fail(f"`chronos list` says that {view.id} will fire, and it is {trace.record['state']}")
    if not world.nas.owed(view.id):
        world.check.fail(f"`chronos list` says that {view.id} will fire, and NAS holds nothing for it")
    slot = backends.earliest(world.nas, view.id)
    due = view.next_at.timestamp()
    late = SLACK_S + 900.0 + (360.0 if "clock ahead" in world.nas.char else 0.0)
    if slot is not None and slot.fire_at > max(due, world.now) + late and (over or not view.arm.off_by):
        world.check.fail(
            f"`chronos list` says that {view.id} fires {view.next_at}, and NAS holds {world.text(slot.fire_at)}"
        )
    if due > world.check.free(view.id, trace) + 2 * DAY_S:
        world.check.fail(f"`chronos list` says that {view.id} will fire, and it sleeps until {view.next_at}")
    world.cover("view", "it will fire")


def _runs(world: World, view: JobView, machine: int) -> None:
    """Whether what is said to run does, where that can be seen."""
    for run_id in view.running:
        row = world.check.rows.get(f"cron/runs/{view.id}/{run_id}.json")
        run = world.runs.get(((row or {}).get("owner") or {}).get("token"))
        if run is None or run.machine != machine or run.released:
            continue
        if not run.is_held(world) and run.noted and run.boot == world.boots[machine]:
            world.check.fail(f"`chronos list` says that {run_id} of {view.id} runs, and its process is gone")
        world.cover("view", "it runs")


def _examined(world: World, found: Listing, held: ArmList | None) -> None:
    """Whether the doctor names what nobody will wake, and what sleeps for years."""
    broken = {name for name in world.broken if not world.check.jobs[name].removed}
    live = {name: trace for name, trace in world.check.jobs.items() if trace.live and name not in world.broken}
    bare = sorted(name for name in live if held is not None and not world.nas.owed(name))
    # The checks of the jobs alone, for which no config is needed.
    armed = doctor._armed(found, held, arming=world.cfg.nas)
    if bare and armed.level is Level.OK and "list hides in flight" not in world.nas.char:
        world.check.fail(f"`chronos doctor` finds all armed, and NAS holds nothing for {bare}")
    if bare:
        world.cover("view", "it is not armed")
    asleep = sorted(name for name, trace in live.items() if _sleeps(world, name, trace))
    if asleep and doctor._doubts(found).level is Level.OK:
        world.check.fail(f"`chronos doctor` finds every next time explained, and {asleep} sleeps")
    if asleep:
        world.cover("view", "it sleeps")
    if broken and doctor._records(found).level is not Level.FAIL:
        world.check.fail(f"`chronos doctor` finds every record good, and {sorted(broken)} cannot be read")


def _sleeps(world: World, name: str, trace) -> bool:
    from tests.sim.checks import stamp

    return stamp(trace.record["next_run_at"]) > world.check.free(name, trace) + 2 * DAY_S
