"""The demo's events, in order: read from NAS's log, the ledger and the arm documents, as anybody could."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chronos_cli.core.row import Row, RunState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. `what`: armed, relayed, verified, claimed, running, ok, failed, ..."""

    at: datetime
    job_id: str
    what: str
    detail: str


class Watcher:
    """Finds what is new each time it is asked."""

    def __init__(self, home: Path, nas_log: Path) -> None:
        self._runs = home / "cron" / "runs"
        self._home = home
        self._nas_log = nas_log
        self._read_to = 0
        self._armed: dict[str, str] = {}
        self._seen: set[tuple[str, str, str]] = set()

    def news(self) -> list[Event]:
        """Return all that has happened since the last call, in order of time."""
        return sorted([*self._from_nas(), *self._from_rows()], key=lambda event: event.at)

    def _from_nas(self) -> Iterator[Event]:
        if not self._nas_log.exists():
            return
        with self._nas_log.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # still being written
                self._read_to += len(line)
                yield from self._nas_event(json.loads(line))

    def _nas_event(self, found: dict[str, Any]) -> Iterator[Event]:
        job_id, at = found.get("job_id", ""), datetime.fromisoformat(found["time"])
        if found["event"] == "provisioned" and found.get("changed"):
            word = "re-armed" if job_id in self._armed else "armed"
            self._armed[job_id] = found["fire_at"]
            yield Event(at=at, job_id=job_id, what=word, detail=f"NAS holds one timer, {_clock(found['fire_at'])}")
        elif found["event"] == "relayed":
            sent = at - timedelta(milliseconds=found["took_ms"])
            detail = f"NAS called back {found['lateness_ms']:.0f} ms after {_clock(found['fire_at'])}, signed"
            yield Event(at=sent, job_id=job_id, what="relayed", detail=detail)
            answer = f"HTTP {found['status']} after {found['took_ms']:.0f} ms"
            yield Event(at=at, job_id=job_id, what="answered", detail=answer)

    def _from_rows(self) -> Iterator[Event]:
        for path in sorted(self._runs.glob("*/*.json")):
            if (path.parent.name, path.stem, "over") in self._seen:
                continue
            row = Row.from_json(json.loads(path.read_bytes()))
            for event, stage in self._row_events(row):
                if (row.job_id, row.run_id, stage) not in self._seen:
                    self._seen.add((row.job_id, row.run_id, stage))
                    yield event

    def _row_events(self, row: Row) -> Iterator[tuple[Event, str]]:
        fire_at = row.scheduled_at or row.claimed_at
        if row.received_at is not None and row.started_at is not None:
            detail = "signature, audience, issuer, purpose, job and time hold"
            yield Event(at=row.received_at, job_id=row.job_id, what="verified", detail=detail), "verified"
            detail = f"the occurrence of {_clock(fire_at.isoformat())}, once and for all"
            yield Event(at=row.claimed_at, job_id=row.job_id, what="claimed", detail=detail), "claimed"
        if row.started_at is not None:
            detail = f"as a process of its own, {row.lateness_s or 0:.2f} s after its time"
            yield Event(at=row.started_at, job_id=row.job_id, what="running", detail=detail), "running"
        if row.terminal and row.finished_at is not None:
            yield Event(at=row.finished_at, job_id=row.job_id, what=row.state.value, detail=self._end(row)), "over"

    def _end(self, row: Row) -> str:
        if row.state is not RunState.OK:
            return row.reason or row.because or row.state.value
        said = (self._home / row.output).read_text(errors="replace").strip() if row.output else ""
        return f"it said: {said}" if said else "it said nothing"


def _clock(instant: str) -> str:
    return f"{datetime.fromisoformat(instant):%H:%M:%S}"
