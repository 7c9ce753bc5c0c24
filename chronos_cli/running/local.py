"""Runs on this machine: real locks, real processes, captured output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chronos_cli.core.decision import Liveness
from chronos_cli.core.row import RunResult
from chronos_cli.files import open_folder
from chronos_cli.running import liveness as machine
from chronos_cli.running.interface import Processes
from chronos_cli.running.lock import ask_to_end, remove_lock, sweep_locks
from chronos_cli.running.machine import seconds_since

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chronos_cli.core.row import Row
    from chronos_cli.running.interface import Echo, LockedRun, Task
    from chronos_cli.running.lock_place import LockPlace
    from chronos_cli.running.signals import Interrupts
    from chronos_cli.running.supervise import Supervisor

_SEEN = {
    machine.LivenessProbe.ALIVE: Liveness.ALIVE,
    machine.LivenessProbe.ORPHANED: Liveness.DEAD,
    machine.LivenessProbe.DEAD: Liveness.DEAD,
    machine.LivenessProbe.UNSTARTED: Liveness.UNSTARTED,
    machine.LivenessProbe.UNSEEN: Liveness.UNSEEN,
}


class LocalProcesses(Processes):
    """The machine's side of runs.

    `locks` is where the locks of this home's runs lie, for every process. Output goes to
    cron/output/JOB/RUN.log of `home`, or, where that is None, to a private folder of this machine; `keep_output` is
    called with key and file after the end, where the store is elsewhere. `interrupts` are the signals that end a run in
    this process. `environment` is that of this process; `inherit_env` and `zone_name` are the home's.
    `wrapper`: see `spawn_group`.
    """

    def __init__(
        self,
        *,
        locks: LockPlace,
        scripts_dir: Path,
        home: Path | None,
        output_limit: int,
        prompt_runner: Sequence[str],
        environment: Mapping[str, str],
        inherit_env: tuple[str, ...] | None = None,
        zone_name: str = "UTC",
        interrupts: Interrupts | None = None,
        keep_output: Callable[[str, Path], None] | None = None,
        wrapper: tuple[str, ...] = (),
    ) -> None:
        self.locks = locks
        self.scripts_dir = scripts_dir
        self.home = home
        self.output_limit = output_limit
        self.prompt_runner = tuple(prompt_runner) or None
        self.environment = environment
        self.inherit_env = inherit_env
        self.zone_name = zone_name
        self._echoes: dict[str, Echo] = {}
        self.interrupts = interrupts
        self._supervisor: Supervisor | None = None
        self.keep_output = keep_output
        self.wrapper = wrapper

    def output_folder(self, job_id: str) -> Path:
        """Make the folder of a job's output: in the home, or, for a bucket's, beside the locks. Raises OSError."""
        if self.home is not None:
            os.close(open_folder(self.home, "cron", "output", job_id, make=True))
            return self.home / "cron" / "output" / job_id
        fd, path = self.locks.make("output")
        os.close(fd)
        os.close(open_folder(path, job_id, make=True))
        return Path(path, job_id)

    def lock(self, task: Task) -> LockedRun:
        """Take the lock of one attempt. Raises LockDirError."""
        from chronos_cli.running.attempt import LocalLockedRun  # with all that starts something: views never lock a run
        from chronos_cli.running.lock import RunLock

        return LocalLockedRun(self, task, RunLock.acquire(self.locks, task.job_id, task.run_id))

    @property
    def supervisor(self) -> Supervisor:
        """Return the supervisor of all attempts begun here."""
        if self._supervisor is None:
            from chronos_cli.running.supervise import Supervisor

            self._supervisor = Supervisor(self.interrupts)
        return self._supervisor

    def liveness(self, row: Row) -> Liveness:
        """Return whether a run's owner lives, as far as this machine can know."""
        return _SEEN[machine.liveness(self.locks, row.owner or {}, row.job_id, row.run_id)]

    def result(self, row: Row) -> RunResult | None:
        """Return how a run ended, as its lock file tells."""
        return result_of(machine.read_result(self.locks, row.owner or {}, row.job_id, row.run_id))

    def forget(self, row: Row) -> None:
        """Remove a run's lock file."""
        remove_lock(self.locks, row.owner or {}, row.job_id, row.run_id)

    def sweep(self, in_hand: Callable[[str, str], bool]) -> None:
        """Remove lock files of old that no run needs."""
        sweep_locks(self.locks, in_hand)

    @property
    def results_are_seen(self) -> bool:
        """Return whether the locks lie in the home, beside its rows."""
        return not self.locks.shared

    @property
    def told_to_stop(self) -> bool:
        """Return whether a signal has told this process to stop."""
        return self.interrupts is not None and self.interrupts.signal is not None

    def found(self, job_id: str, run_id: str) -> tuple[Mapping[str, Any], bool] | None:
        """Return what a lock file of a run tells of its owner, of one that is held first, and whether it is."""
        found = machine.owners_found(self.locks, job_id, run_id)
        return next((item for item in found if item[1]), found[0] if found else None)

    def end_leftovers(self, row: Row) -> None:
        """End the run of an owner that is dead, or whose lease is over: a stuck supervisor first, then what it left."""
        machine.end_run(self.locks, row.owner or {}, row.job_id, row.run_id)

    def show(self, run_id: str, echo: Echo) -> None:
        """Have the output of a run shown while it goes, if it is begun in this process."""
        self._echoes[run_id] = echo

    def echo_of(self, run_id: str) -> Echo | None:
        """Return what shows the output of a run, of each of its attempts."""
        return self._echoes.get(run_id)

    def ask_to_end(self, row: Row) -> bool:
        """Leave a word beside the run's lock, which its supervisor finds within a second."""
        return ask_to_end(self.locks, row.owner or {}, row.job_id, row.run_id)

    def elapsed(self, owner: Mapping[str, Any]) -> float | None:
        """Return the seconds since an owner took its lock, on this very boot."""
        return seconds_since(owner.get("clock"))

    def alert(self, argv: Sequence[str], event: bytes, *, facts: Mapping[str, str], timeout_s: float) -> str | None:
        """Run an on-failure command in the home's folder; less patiently once this process was told to stop."""
        from chronos_cli.running.alert_command import STOPPING_S, run_hook
        from chronos_cli.running.environment import run_environment

        if self.told_to_stop:
            timeout_s = min(timeout_s, STOPPING_S)
        base = run_environment(
            self.environment, inherit=self.inherit_env, zone_name=self.zone_name, home=str(self.scripts_dir.parent)
        )
        given = {**base, **facts}
        return run_hook(argv, event, environment=given, cwd=str(self.scripts_dir.parent), timeout_s=timeout_s)


def result_of(said: Mapping[str, Any] | None) -> RunResult | None:
    """Return what a lock file says of a run's end; what cannot be read says nothing."""
    try:
        return None if said is None else RunResult.from_json(said)
    except (KeyError, TypeError, ValueError):
        return None
