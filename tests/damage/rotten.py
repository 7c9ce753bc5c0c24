"""Homes in which one document is not what it should be: every kind of file, with every kind of damage."""

from __future__ import annotations

import json
import os
import socket
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chronos_cli.core.claim import run_id_of
from tests.nas_client.played_nas import TOKEN

SICK, WELL = "sick", "well"


def deep(levels: int) -> bytes:
    """An object with so many lists in each other, as JSON that is well formed."""
    return b'{"a": ' + b"[" * levels + b"]" * levels + b"}"


_LONG = b'{"a": "' + b"x" * (8 * 2**20) + b'"}'


def damages(whole: bytes) -> dict[str, bytes]:
    """What a document's bytes may become."""
    return {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "zeros": b"\0" * len(whole),
        "garbage": bytes(range(128, 256)) * 8,
        "deep": b"[" * 100_000,
        "deep-but-well-formed": deep(900),
        "long": _LONG,
        "another-type": b"[1, 2]",
        "a-number": b"7",
        "null": b"null",
        "no-object-inside": b'{"state": 7, "id": [], "at": {}, "wake": 1, "job_id": null, "sick": 5}',
        "many-digits": b'{"id": "a", "state": ' + b"9" * 5_000 + b"}",
        "not-a-number": b'{"id": "a", "state": NaN}',
        "surrogate": b'{"state": "\\ud800", "id": "\\ud800", "at": "\\ud800"}',
        "utf-16": '{"a": 1}'.encode("utf-16"),
    }


DAMAGES = tuple(damages(b"{}"))

SPECIAL = ("folder", "fifo", "socket", "link to itself", *(("device",) if os.geteuid() == 0 else ()))
"""What may stand in place of a file."""


def make_home(home, nas_url: str) -> dict[str, str]:
    """A home of two jobs, both due, one of them with every kind of document. Returns the documents' paths by kind."""
    now = datetime.now(UTC).replace(microsecond=0)
    (home / "cron").mkdir(parents=True)
    (home / "config.yaml").write_text(
        "timezone: UTC\ncron:\n  provider: chronos\n  chronos:\n"
        f"    portal_url: {nas_url}\n    callback_url: https://agent.example.com\n    expected_audience: agent:1\n"
        "    token_file: token\n"
    )
    (home / "token").write_text(TOKEN)
    (home / "token").chmod(0o600)
    owed, ran, old = now - timedelta(hours=2), now - timedelta(hours=1), now - timedelta(days=1)
    entries = [
        {"run": run_id_of(owed), "kind": "missed", "claim": "c", "fire_at": owed.isoformat(),
         "claimed_at": ran.isoformat(), "through": owed.isoformat(), "count": 1, "exact": True, "timing": "late"},
        {"run": run_id_of(ran), "kind": "run", "claim": "c", "fire_at": ran.isoformat(), "timing": "on_time",
         "claimed_at": ran.isoformat()},
    ]  # fmt: skip
    jobs = [
        job(SICK, now - timedelta(seconds=2), open=entries, claimed_through=ran.isoformat()),
        job(WELL, now - timedelta(seconds=2)),
    ]
    write(home / "cron/jobs.json", {"jobs": jobs, "updated_at": now.isoformat()})
    row = {"job_id": SICK, "kind": "on_time", "claim": "c", "claimed_at": ran.isoformat()}
    paths = {
        "row of a run": f"cron/runs/{SICK}/{run_id_of(ran)}.json",
        "row that is owed": f"cron/runs/{SICK}/{run_id_of(owed)}.json",
        "settled row": f"cron/runs/{SICK}/{run_id_of(old)}.json",
        "arm document": f"cron/arms/{SICK}.json",
        "pack": "cron/arm-packs/0123456789abcdef.json",
        "store id": "cron/store.json",
        "tick": "cron/tick.json",
        "probe": "cron/probe.json",
        "memory of NAS": "cron/nas.json",
    }
    contents = {
        "row of a run": row | {"run_id": run_id_of(ran), "state": "accepted", "scheduled_at": ran.isoformat()},
        "row that is owed": row | {"run_id": run_id_of(owed), "state": "missed", "scheduled_at": owed.isoformat()},
        "settled row": row | {"run_id": run_id_of(old), "state": "ok", "scheduled_at": old.isoformat()},
        "arm document": {"job_id": SICK, "state": "cancelled"},
        "pack": {SICK: {"job_id": SICK, "state": "cancelled"}},
        "store id": {"id": "0123456789abcdef"},
        "tick": {"at": now.isoformat()},
        "memory of NAS": {
            "portal_url": "https://portal.example.com",
            "audience": "agent:1",
            "delivered": 5,
            "since": now.isoformat(),
        },
        "probe": {"fire_at": now.isoformat(), "sent_at": now.isoformat(), "callback_url": "https://agent.example.com"},
    }
    for kind, path in paths.items():
        write(home / path, contents[kind])
    return paths


def job(job_id: str, due: datetime, **ours: object) -> dict[str, object]:
    """A record that runs every hour."""
    return {
        "id": job_id, "name": job_id, "schedule": {"kind": "interval", "minutes": 60, "display": "every 60m"},
        "enabled": True, "state": "scheduled", "next_run_at": due.isoformat(),
        "chronos": {"timezone": "UTC", "action": {"command": ["true"]}, **ours},
    }  # fmt: skip


def write(path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def damage(path, how: str) -> None:
    """Do to a file what `how` says."""
    whole = path.read_bytes()
    if how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "fifo":
        path.unlink()
        os.mkfifo(path)
    elif how == "socket":
        path.unlink()
        path.with_name("s").unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as made:
            here = Path.cwd()
            os.chdir(path.parent)  # the name of a socket is short
            try:
                made.bind("s")
            finally:
                os.chdir(here)
        path.with_name("s").rename(path)
    elif how == "device":
        path.unlink()
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: it never ends
    elif how == "link to itself":
        path.unlink()
        path.symlink_to(path.name)
    elif how == "closed":
        path.chmod(0)
    else:
        path.write_bytes(damages(whole)[how])
