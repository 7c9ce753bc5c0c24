"""A proxy on loopback before a real service, which loses answers, changes them, or drops conditions on the way."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FaultyProxy:
    """`fault` decides on each request: None passes it on; see the names below."""

    LOSE_ANSWER = "the service does it, the client never hears of it"
    LOSE_REQUEST = "the service never hears of it"

    def __init__(self, upstream):
        self.fault = lambda _method, _path: None
        self.ignore_conditions = False
        self.seen = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                proxy.seen.append((self.command, self.path))
                fault = proxy.fault(self.command, self.path)
                if fault == proxy.LOSE_REQUEST:
                    self.close_connection = True
                    return
                if isinstance(fault, int):
                    self.answer(fault, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                headers = dict(self.headers.items())
                if proxy.ignore_conditions:
                    headers = {name: value for name, value in headers.items() if not name.lower().startswith("if-")}
                connection = http.client.HTTPConnection(upstream, timeout=20)
                try:
                    connection.request(self.command, self.path, body=body, headers=headers)
                    answer = connection.getresponse()
                    data = answer.read()
                finally:
                    connection.close()
                if fault == proxy.LOSE_ANSWER:
                    self.close_connection = True
                    return
                self.answer(answer.status, dict(answer.getheaders()), data)

            def answer(self, status, headers, data):
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.send_header("connection", "close")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - names of the base class

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
