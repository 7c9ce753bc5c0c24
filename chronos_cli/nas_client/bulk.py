"""Carries out many requests: in batches where NAS takes them, else by calls side by side."""

from __future__ import annotations

import json
import threading
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import BATCH_PATH, FEATURE_BATCH, MAX_BATCH
from chronos_cli.errors import AuthError, ChronosError, ConfigError, NasRejectedError, NasUnavailableError
from chronos_cli.nas_client.answers import (
    clean,
    error_for,
    garbage,
    read_arm_answer,
    read_features,
    read_generation,
    read_object,
)
from chronos_cli.nas_client.client import cancel_body, provision_body
from chronos_cli.nas_client.interface import ArmAnswer, ArmRequest, CallResult, CancelRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chronos_cli.nas_client.answers import NasReply
    from chronos_cli.nas_client.client import NasClient

MAX_BATCH_BYTES: Final = 1_500_000
"""Below the 2 MiB that our NAS takes."""

_DOWN_AFTER = 3
"""So many requests in a row that failed in all their attempts mean that NAS is down, and the rest is not tried."""

_NO_BATCH = (404, 405, 413)
"""The statuses with which NAS says that it has no batch endpoint, or that a batch is too large."""

Request = ArmRequest | CancelRequest


def apply(
    client: NasClient, requests: Sequence[Request], progress: Callable[[int, int], None] | None
) -> Iterator[CallResult]:
    """See `Nas.apply`."""
    jobs = [request.job_id for request in requests]
    if len(set(jobs)) != len(jobs):
        raise ValueError("two requests for one job: which of them would win?")
    return _counted(_results(client, list(requests)), len(requests), progress)


def _counted(
    results: Iterator[CallResult], total: int, progress: Callable[[int, int], None] | None
) -> Iterator[CallResult]:
    for done, result in enumerate(results, 1):
        if progress is not None:
            progress(done, total)
        yield result


def _results(client: NasClient, todo: list[Request]) -> Iterator[CallResult]:
    if client.features is None and len(todo) > client.concurrency:
        # NAS was not heard yet. The answer to one provision says whether it takes batches.
        index = next((number for number, request in enumerate(todo) if isinstance(request, ArmRequest)), None)
        if index is not None:
            first = _one(client, todo.pop(index))
            yield first
            if first.error is not None and _hopeless(first.error):
                yield from (CallResult(request=request, error=first.error) for request in todo)
                return
    if len(todo) > 1 and FEATURE_BATCH in (client.features or ()):
        yield from _batched(client, todo)
    else:
        yield from _side_by_side(client, todo)


def _batched(client: NasClient, todo: list[Request]) -> Iterator[CallResult]:
    chunks = _chunks(client, todo)
    for items in chunks:
        error: ChronosError
        try:
            yield from _batch(client, items)
            continue
        except NasRejectedError as rejected:
            error = rejected
            if rejected.status in _NO_BATCH:
                yield from _side_by_side(client, list(chain(items, *chunks)))
                return
        except ChronosError as failure:  # refused, or NAS is down: what befell this batch would befall the next
            error = failure
        yield from (CallResult(request=request, error=error) for request in chain(items, *chunks))


def _chunks(client: NasClient, todo: list[Request]) -> Iterator[list[Request]]:
    """Yield the requests in batches that are neither too many nor too large."""
    chunk: list[Request] = []
    size = 0
    for request in todo:
        length = len(json.dumps(_item(client, request)))
        if chunk and (len(chunk) >= MAX_BATCH or size + length > MAX_BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(request)
        size += length + 1
    if chunk:
        yield chunk


def _item(client: NasClient, request: Request) -> dict[str, Any]:
    if isinstance(request, ArmRequest):
        return {"op": "provision", **provision_body(client.accepting(request))}
    return {"op": "cancel", **cancel_body(request)}


def _batch(client: NasClient, items: list[Request]) -> list[CallResult]:
    """Return one batch call. Raises what befell it as a whole."""
    body = {"items": [_item(client, request) for request in items]}
    reply = client.bounded(lambda: client.call("POST", BATCH_PATH, body=body))
    document = read_object(reply)
    listed = document.get("results")
    if not isinstance(listed, list) or len(listed) != len(items):
        raise garbage(reply, f"without a result for each of {len(items)} items")
    features = read_features(document)
    return [_result(client, reply, request, item, features) for request, item in zip(items, listed, strict=True)]


def _result(client: NasClient, reply: NasReply, request: Request, item: object, features: frozenset[str]) -> CallResult:
    if not isinstance(item, dict):
        return CallResult(request=request, error=garbage(reply, "a result in it is no object"))
    if item.get("ok") is True:
        try:
            answer = read_arm_answer(reply, item) if isinstance(request, ArmRequest) else None
        except NasUnavailableError as unread:
            return CallResult(request=request, error=unread)
        if answer is not None:
            answer = ArmAnswer(schedule_id=answer.schedule_id, features=features, state=answer.state)
        return CallResult(request=request, answer=answer)
    status, reason, message = item.get("status"), item.get("error"), item.get("message")
    if not isinstance(status, int) or not isinstance(reason, str):
        return CallResult(request=request, error=garbage(reply, "a result in it is neither ok nor an error"))
    said = clean(f"{reason}: {message}" if isinstance(message, str) else reason, "")
    named = read_generation(item)
    error = error_for(status, reason, said, nas=reply.nas, origin=client.token_origin, generation=named)
    return CallResult(request=request, error=error)


def _one(client: NasClient, request: Request) -> CallResult:
    try:
        if isinstance(request, ArmRequest):
            return CallResult(request=request, answer=client.provision(request))
        client.cancel(request.job_id, request.generation)
    except ChronosError as error:  # handed on: it is this request's result
        return CallResult(request=request, error=error)
    return CallResult(request=request)


def _hopeless(error: ChronosError) -> bool:
    """Return whether an error speaks of us rather than of the one request."""
    return isinstance(error, AuthError | ConfigError)


class _Work:
    """The work that is left, and whether to go on, shared by the threads that do it."""

    def __init__(self, todo: list[Request]) -> None:
        self._todo = iter(todo)
        self._guard = threading.Lock()
        self._failed_in_a_row = 0
        self._verdict: ChronosError | None = None
        self.stopped = False

    def take(self) -> tuple[Request | None, ChronosError | None]:
        """Return the next request, if any, and the error it shares if nothing more is to be tried."""
        with self._guard:
            return (None if self.stopped else next(self._todo, None)), self._verdict

    def note(self, error: ChronosError | None) -> None:
        """Learn from one result whether the rest is worth trying."""
        with self._guard:
            self._failed_in_a_row = self._failed_in_a_row + 1 if isinstance(error, NasUnavailableError) else 0
            if error is not None and (_hopeless(error) or self._failed_in_a_row >= _DOWN_AFTER):
                self._verdict = self._verdict or error


def _side_by_side(client: NasClient, todo: list[Request]) -> Iterator[CallResult]:
    """Yield the results of single calls, made as many at once as the client may; their threads hold up no exit."""
    work = _Work(todo)
    results: SimpleQueue[CallResult | BaseException] = SimpleQueue()

    def run() -> None:
        while True:
            request, verdict = work.take()
            if request is None:
                return
            try:
                result = CallResult(request=request, error=verdict) if verdict else _one(client, request)
            except BaseException as error:  # noqa: BLE001 - a fault of ours: raised where the results are read
                results.put(error)
                return
            if verdict is None:
                work.note(result.error)
            results.put(result)

    for number in range(min(client.concurrency, len(todo))):
        threading.Thread(target=run, name=f"chronos-nas-{number}", daemon=True).start()
    try:
        for _ in todo:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        work.stopped = True
