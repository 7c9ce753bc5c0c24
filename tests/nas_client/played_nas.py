"""A NAS to play with: a real HTTP server in this process, which does what a test tells it to."""

from __future__ import annotations

import threading
import time

import pytest

from tests.played_server import Answer, PlayedServer

TOKEN = "canary-5f1c0ffee"


class PlayedNas(PlayedServer):
    """`features`: those that its lists and answers name."""

    def __init__(self, *features):
        self.features = [*features]
        self.armed: dict[str, dict] = {}
        self.page = 10_000
        self.over = threading.Event()
        super().__init__(self.by_contract)

    def by_contract(self, call):
        """Do what the contract says, and the batch where `features` has it."""
        path = call.path.partition("?")[0].rpartition("/")[2]
        with self._guard:
            if path == "provision":
                return Answer(body=self.provision(call.body))
            if path == "cancel":
                self.armed.pop(call.body["job_id"], None)
                return Answer(body={"ok": True})
            if path == "list":
                start = int(call.path.partition("cursor=")[2] or 0)
                rows = [self.armed[job] for job in sorted(self.armed)][start : start + self.page]
                body = {"armed": rows, "features": self.features}
                if start + self.page < len(self.armed):
                    body["next_cursor"] = str(start + self.page)
                return Answer(body=body)
            if path == "batch" and "batch" in self.features:
                results = []
                for item in call.body["items"]:
                    if item["op"] == "provision":
                        results.append({"ok": True, **self.provision(item)})
                    else:
                        results.append({"ok": True, "cancelled": int(self.armed.pop(item["job_id"], None) is not None)})
                return Answer(body={"results": results, "features": self.features})
        return Answer(404, {"error": "not_found", "message": "no such path"})

    def provision(self, item):
        row = {"job_id": item["job_id"], "fire_at": item["fire_at"], "schedule_id": f"s-{item['dedup_key']}"}
        self.armed[item["job_id"]] = row
        return {"schedule_id": row["schedule_id"], "state": "armed", "features": self.features}

    def stall(self, stream):
        """Say nothing, until the test is over."""
        self.over.wait(20)

    def drip(self, stream):
        """Send a header a byte at a time, for ever."""
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
            if self.over.is_set():
                return
            stream.write(bytes([byte]))
            time.sleep(0.02)

    def hang_up(self, stream):
        """Close without a word."""

    def half(self, stream):
        """Promise more than is sent."""
        stream.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"armed": [')

    def close(self):
        self.over.set()
        super().close()


def played_nas(*features, scope="function"):
    """Return a fixture, which a module names: a NAS with these features, for each test."""

    @pytest.fixture(scope=scope)
    def nas():
        """A NAS to play with."""
        with PlayedNas(*features) as played:
            yield played

    return nas


class Token:
    """A token source that renews to what it is told."""

    origin = "the test"

    def __init__(self, token=TOKEN, *others):
        self.token, self.others = token, list(others)
        self.renewals = 0

    def get(self, *, within_s):
        return self.token

    def renew(self, rejected, *, within_s):
        self.renewals += 1
        if rejected == self.token and self.others:
            self.token = self.others.pop(0)
        return self.token if self.token != rejected else None
