"""A NAS to play with: a real HTTP server in this process, which does what a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "canary-5f1c0ffee"


@dataclass
class Call:
    method: str
    path: str
    headers: dict[str, str]
    body: object


@dataclass
class Answer:
    """`raw`: instead of an answer, does what it likes with the connection's stream."""

    status: int = 200
    body: object = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: object = None


class PlayedNas:
    def __init__(self):
        self.calls: list[Call] = []
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self.script: list[Answer] = []
        self.answer = self.by_contract
        self.features: list[str] = []
        self.armed: dict[str, dict] = {}
        self.page = 10_000
        self.over = threading.Event()
        self._guard = threading.Lock()
        nas = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                with nas._guard:
                    nas.connections += 1
                super().setup()

            def log_message(self, *args):
                pass

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = Call(self.command, self.path, dict(self.headers), json.loads(body) if body else None)
                with nas._guard:
                    nas.calls.append(call)
                    nas.at_once += 1
                    nas.most_at_once = max(nas.most_at_once, nas.at_once)
                    answer = nas.script.pop(0) if nas.script else None
                try:
                    answer = answer or nas.answer(call)
                    self.play(answer)
                finally:
                    with nas._guard:
                        nas.at_once -= 1

            do_POST = do_GET  # noqa: N815 - the name that the library calls

            def play(self, answer):
                if answer.raw is not None:
                    self.close_connection = True
                    answer.raw(self.wfile)
                    return
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass  # a client that went away is what some of these tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

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
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


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
