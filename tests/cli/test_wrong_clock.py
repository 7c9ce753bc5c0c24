"""A home that a wrong clock has had its hands on: what is shown of it, and how it is put right."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta


def change(home, job_id, *, ours=None, **fields):
    """Put a record as another program, or another clock, would have left it."""
    path = home / "cron/jobs.json"
    document = json.loads(path.read_text())
    record = next(job for job in document["jobs"] if job["id"] == job_id)
    record |= fields
    record["chronos"] |= ours or {}
    path.write_text(json.dumps(document, indent=2))


def stored(home, job_id):
    """A job's record."""
    return next(job for job in json.loads((home / "cron/jobs.json").read_text())["jobs"] if job["id"] == job_id)


def test_what_is_shown_as_next_is_what_is_stored(chronos, home):
    """The five times that resume, pause and edit show begin with the one that is stored, whatever the schedule says."""
    chronos("job", "add", "0 9 * * *", "--id", "j", "--shell", "true", home=home)
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(days=4_000)
    change(home, "j", ours={"claimed_through": ahead.isoformat()})
    assert chronos("job", "pause", "j", "--json", home=home).json["next"] == []
    for command in (("resume", "j"), ("edit", "j", "--schedule", "0 10 * * *"), ("edit", "j", "--name", "k")):
        document = chronos("job", *command, "--json", home=home).json
        times = [datetime.fromisoformat(item["at"]) for item in document["next"]]
        assert times[0] == datetime.fromisoformat(document["job"]["next_run_at"]) > ahead, command
        assert times[0] == datetime.fromisoformat(stored(home, "j")["next_run_at"])
        assert len(times) == 5
        assert times == sorted(set(times))
        said = chronos("job", *command, home=home).out
        assert f"{times[0]:%Y-%m-%d %H:%M}" in said, said
