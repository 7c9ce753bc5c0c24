"""A real HTTP server in this process that answers as a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Call:
    method: str
    path: str
    headers: dict[str, str]
    data: bytes = b""

    @property
    def body(self):
        """What it was sent as JSON, None where that is nothing."""
        return json.loads(self.data) if self.data else None


@dataclass
class Answer:
    """`raw`: instead of an answer, does what it likes with the connection's stream."""

    status: int = 200
    body: object = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: object = None


class PlayedServer:
    """It answers by `script`, one after the other, and then with `answer`, which may be a function of the call."""

    def __init__(self, answer=None, *, port=0):
        self.calls: list[Call] = []
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self.script: list[Answer] = []
        self.answer = answer
        self._guard = threading.Lock()
        played = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                with played._guard:
                    played.connections += 1
                super().setup()

            def log_message(self, *args):
                pass

            def do_GET(self):
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = Call(self.command, self.path, dict(self.headers), data)
                with played._guard:
                    played.calls.append(call)
                    played.at_once += 1
                    played.most_at_once = max(played.most_at_once, played.at_once)
                    answer = played.script.pop(0) if played.script else played.answer
                try:
                    self.play(answer(call) if callable(answer) else answer)
                finally:
                    with played._guard:
                        played.at_once -= 1

            do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that the library calls

            def play(self, answer):
                if answer.raw is not None:
                    self.close_connection = True
                    answer.raw(self.wfile)
                    return
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response_only(answer.status)
                for name, value in ({"Date": self.date_time_string()} | answer.headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request, client_address):
                pass  # a client that went away is what some of these tests are about

        self.server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)
