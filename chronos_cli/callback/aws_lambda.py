"""`chronos_cli.callback.aws_lambda:handler`, for AWS Lambda: function URLs, API Gateway (v1 and v2), load balancers.

Needs the extra `lambda` in the function's package: `apig-wsgi` turns their events into WSGI requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chronos_cli.callback.app import TIME_LEFT
from chronos_cli.callback.wsgi import application

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one event. Raises ImportError without `apig-wsgi`, and ValueError for an event that is no HTTP request."""
    from apig_wsgi import make_lambda_handler  # type: ignore[import-not-found, unused-ignore]

    answer: dict[str, Any] = make_lambda_handler(_timed)(without_stage(event), context)
    return answer


def without_stage(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event with the path that the caller meant: API Gateway v2 puts a stage's name in front of it."""
    around = event.get("requestContext")
    stage = around.get("stage", "$default") if isinstance(around, dict) else "$default"
    path = event.get("rawPath", "")
    if stage == "$default" or not path.startswith(f"/{stage}/"):
        return event
    return {**event, "rawPath": path[len(stage) + 1 :]}


def _timed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Yield the application, told how long this invocation may still take."""
    left = getattr(environ.get("apig_wsgi.context"), "get_remaining_time_in_millis", None)
    if left is not None:
        environ[TIME_LEFT] = left() / 1000
    return application(environ, start_response)
