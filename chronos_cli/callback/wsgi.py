"""`chronos_cli.callback.wsgi:application`, for any WSGI server."""

from __future__ import annotations

import os
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

from chronos_cli.callback.log import BoundedLog
from chronos_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from chronos_cli.callback.app import Callback, HttpAnswer


class CallbackApplication:
    """The WSGI callable. The configuration is read at the first request, so a fixed one is picked up by a restart."""

    def __init__(self) -> None:
        self.passing = False
        """Set before the first request where this process ends as soon as no call comes."""
        self._callback: Callback | None = None
        self._lock = threading.Lock()
        self._log = BoundedLog()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        answer = self._answer(environ)
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            *answer.headers,
        ]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        body = b"" if environ.get("REQUEST_METHOD") == "HEAD" else answer.body
        return _Body(body, answer.sent)

    def _answer(self, environ: WSGIEnvironment) -> HttpAnswer:
        from chronos_cli.callback.app import HttpAnswer, fault

        self._log.settle()
        try:
            callback = self.callback()
        except ConfigError as error:
            self._log.write(error.code, error.line())
            body = b'{"result": "error", "error": {"code": "config", "retryable": true}}'
            return HttpAnswer(status=503, body=body, headers=(("Retry-After", "60"),))
        except Exception as error:  # noqa: BLE001 - as in the callback itself: one answer, one line
            return fault(error, os.environ, self._log)
        return callback.answer(environ)

    def running(self) -> int:
        """Return how many of the runs that this process has started still go."""
        return 0 if self._callback is None else self._callback.running()

    def callback(self) -> Callback:
        """Return the callback behind this application. Raises ConfigError, again until the configuration is right."""
        from chronos_cli.callback.app import Callback
        from chronos_cli.private_memory import hide_memory
        from chronos_cli.running.secrecy import take_secrets

        with self._lock:
            if self._callback is None:
                secrets = take_secrets(os.environ)
                hide_memory()
                try:
                    self._callback = Callback(dict(os.environ), secrets, passing=self.passing)
                except BaseException:
                    os.environ.update(secrets)
                    raise
            return self._callback


class _Body:
    """The one chunk of an answer. It has left once the server asks for more or closes it; some do only one of these."""

    def __init__(self, body: bytes, sent: Callable[[], None] | None) -> None:
        self._body = body
        self._sent = sent

    def __iter__(self) -> Iterator[bytes]:
        yield self._body
        self.close()

    def close(self) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            sent()


application = CallbackApplication()
