"""NAS over HTTP: each call with its retries, its budget of time and its one renewal of the token."""

from __future__ import annotations

import json
import threading
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from chronos_cli.abandon import within
from chronos_cli.config.values import read_url
from chronos_cli.contract import (
    CALLBACK_UNPROVEN,
    CANCEL_PATH,
    CLIENT_TIMEOUT_S,
    FEATURE_CALLBACK_PROOF,
    LIST_PATH,
    PROVISION_PATH,
    dedup_key,
    format_fire_at,
)
from chronos_cli.errors import AuthError, ConfigError, NasRejectedError, NasUnavailableError
from chronos_cli.frozen import replace
from chronos_cli.nas_client.answers import garbage, judge, read_arm_answer, read_object, read_page
from chronos_cli.nas_client.interface import ArmList, ArmRequest, CancelRequest, Nas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from chronos_cli.config import Config
    from chronos_cli.nas_client.answers import NasReply
    from chronos_cli.nas_client.interface import Arm, ArmAnswer, CallResult, TokenSource
    from chronos_cli.nas_client.transport import Transport

Value = TypeVar("Value")

BUDGET_S: Final = 60.0
FIRE_BUDGET_S: Final = 10.0
"""Inside a fire: NAS's relay and the platform's deadline wait while we arm."""

ATTEMPTS: Final = 4
_BACKOFF_S = 0.25
_BACKOFF_CAP_S = 8.0
_GRACE_S = 0.25
_MAX_ANSWER = 4 * 2**20
_MAX_PAGE = 64 * 2**20
_MAX_PAGES = 10_000


class NasClient(Nas):
    """The client of one NAS. Safe to share between threads; `requests` is imported by the first call."""

    def __init__(
        self,
        portal_url: str,
        token: TokenSource,
        *,
        timeout_s: float = CLIENT_TIMEOUT_S,
        budget_s: float = BUDGET_S,
        attempts: int = ATTEMPTS,
        concurrency: int = 8,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        random: Callable[[], float] | None = None,
    ) -> None:
        """Check the URL; nothing is sent yet.

        `timeout_s` bounds one attempt. `budget_s` bounds a call in all (a list: each page): token, attempts and pauses,
        name resolution and dripping answers included. `random` gives 0 to 1. Raises ConfigError.
        """
        if not portal_url:
            raise ConfigError("no NAS is configured", hint="set cron.chronos.portal_url or CHRONOS_PORTAL_URL")
        try:
            self._url = read_url(portal_url)
        except ValueError as error:
            raise ConfigError(f"portal_url {error}") from None
        self._token = token
        self._timeout_s = timeout_s
        self._budget_s = budget_s
        self._attempts = attempts
        self._concurrency = concurrency
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._random = random
        self._guard = threading.Lock()
        self._transport: Transport | None = None
        self._not_before = 0.0
        self._features: frozenset[str] | None = None
        self._heard: tuple[datetime, float] | None = None

    @classmethod
    def of(cls, config: Config, token: TokenSource, *, budget_s: float = BUDGET_S) -> NasClient:
        """Return the client that a configuration names."""
        return cls(
            config.portal_url,
            token,
            timeout_s=config.nas_timeout,
            budget_s=budget_s,
            concurrency=config.nas_concurrency,
        )

    @property
    def features(self) -> frozenset[str] | None:
        """Return the optional abilities NAS named so far; None while it was not heard."""
        return self._features

    @property
    def server_time(self) -> datetime | None:
        """Return NAS's clock: the Date of its last answer, and what has passed since."""
        if self._heard is None:
            return None
        date, at = self._heard
        return date + timedelta(seconds=self._clock() - at)

    @property
    def token_origin(self) -> str:
        """Return where the token comes from, for people."""
        return self._token.origin

    @property
    def concurrency(self) -> int:
        """Return how many calls may go on at once."""
        return self._concurrency

    def provision(self, request: ArmRequest) -> ArmAnswer:
        """Arm one job. The same request again is a no-op at NAS."""
        return self.bounded(lambda: self._provision(request))

    def cancel(self, job_id: str, generation: int | None = None) -> None:
        """Drop a job's one-shot. A job unknown to NAS is a no-op."""
        request = CancelRequest(job_id=job_id, generation=generation)
        self.bounded(lambda: self._cancel(request))

    def list(self) -> ArmList:
        """Return all that NAS holds for this agent, through all pages. Any page that fails fails the list."""
        arms: list[Arm] = []
        seen: set[str] = set()
        first: NasReply | None = None
        features: frozenset[str] = frozenset()
        cursor: str | None = None
        while True:
            reply = self.bounded(partial(self._list_page, cursor))
            page, cursor, named = read_page(reply)
            if first is None:
                first, features = reply, named
            arms.extend(page)
            if cursor is None:
                break
            if cursor in seen or len(seen) >= _MAX_PAGES:
                raise garbage(reply, "its pages go round in circles")
            seen.add(cursor)
        self._features = features
        return ArmList(arms=tuple(arms), features=features, server_time=first.date)

    def apply(
        self,
        requests: Sequence[ArmRequest | CancelRequest],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[CallResult]:
        """Carry out many requests, by the batch endpoint where there is one, else by calls side by side."""
        from chronos_cli.nas_client.bulk import apply

        return apply(self, requests, progress)

    def close(self) -> None:
        """Let go of the connections."""
        with self._guard:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _provision(self, request: ArmRequest) -> ArmAnswer:
        request = self.accepting(request)
        try:
            reply = self.call("POST", PROVISION_PATH, body=provision_body(request))
        except NasRejectedError as error:
            if error.reason != CALLBACK_UNPROVEN or FEATURE_CALLBACK_PROOF in request.accepts:
                raise
            # This NAS was not heard before: it asks a callback for proof, if the wish says that it can.
            self._features = (self._features or frozenset()) | {FEATURE_CALLBACK_PROOF}
            reply = self.call("POST", PROVISION_PATH, body=provision_body(self.accepting(request)))
        answer = read_arm_answer(reply, read_object(reply))
        self._features = answer.features
        return answer

    def accepting(self, request: ArmRequest) -> ArmRequest:
        """Return the request, saying that its callback can prove whose it is, where NAS may ask for that."""
        if FEATURE_CALLBACK_PROOF not in (self._features or ()) or FEATURE_CALLBACK_PROOF in request.accepts:
            return request
        return replace(request, accepts=(*request.accepts, FEATURE_CALLBACK_PROOF))

    def _cancel(self, request: CancelRequest) -> None:
        reply = self.call("POST", CANCEL_PATH, body=cancel_body(request))
        if reply.body.strip() and read_object(reply).get("ok") is False:
            raise garbage(reply, "says that it is not ok")

    def _list_page(self, cursor: str | None) -> NasReply:
        params = None if cursor is None else {"cursor": cursor}
        return self.call("GET", LIST_PATH, params=params, max_bytes=_MAX_PAGE)

    def bounded(self, work: Callable[[], Value]) -> Value:
        """Give up on `work` when the budget is spent. The grace lets its own bounds speak first: they know more."""
        late = NasUnavailableError(f"NAS at {self._url} was not done within {self._budget_s:.3g} s in all")
        return within(self._budget_s + _GRACE_S, work, late)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: dict[str, Any] | None = None,
        max_bytes: int = _MAX_ANSWER,
    ) -> NasReply:
        """Make one call: the token, the attempts and the pauses between them. Returns only 2xx."""
        deadline = self._clock() + self._budget_s
        token = self._token.get(within_s=self._budget_s)
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        renewed = False
        attempt = 0
        while True:
            attempt += 1
            self._hold_back(deadline)
            wait_s: float | None = None
            try:
                reply = self._connected().exchange(
                    method,
                    path,
                    token=token,
                    params=params,
                    body=data,
                    timeout_s=min(self._timeout_s, deadline - self._clock()),
                    max_bytes=max_bytes,
                )
            except NasUnavailableError as failure:
                error: NasUnavailableError = failure
            else:
                if reply.date is not None:
                    self._heard = reply.date, self._clock()
                trouble = judge(reply, token=token, origin=self._token.origin)
                if trouble is None:
                    return reply
                if type(trouble.error) is AuthError and not renewed:
                    renewed = True
                    other = self._token.renew(token, within_s=max(deadline - self._clock(), 0.0))
                    if other is not None:
                        token = other
                        continue
                if not trouble.again or not isinstance(trouble.error, NasUnavailableError):
                    raise trouble.error
                error, wait_s = trouble.error, trouble.wait_s
            if attempt >= self._attempts:
                raise error
            self._pause(error, attempt, wait_s, deadline)

    def _connected(self) -> Transport:
        with self._guard:
            if self._transport is None:
                from chronos_cli.nas_client.transport import Transport

                self._transport = Transport(self._url, connections=self._concurrency, clock=self._clock, now=self._now)
            return self._transport

    def _pause(self, error: NasUnavailableError, attempt: int, wait_s: float | None, deadline: float) -> None:
        """Sleep before the next attempt: as long as NAS asks for, else exponentially longer, with jitter.

        Raises `error` where that would outlast the budget.
        """
        if wait_s is None:
            pause = min(_BACKOFF_CAP_S, _BACKOFF_S * 2 ** (attempt - 1)) * (0.5 + 0.5 * self._chance())
        else:
            pause = wait_s + self._chance() * min(1.0, wait_s / 10)
            with self._guard:  # it asks all of us, not just this thread
                self._not_before = max(self._not_before, self._clock() + wait_s)
        if self._clock() + pause >= deadline:
            raise error
        self._sleep(pause)

    def _hold_back(self, deadline: float) -> None:
        """Sleep while NAS has asked this client to leave it alone. Raises where that would outlast the budget."""
        pause = self._not_before - self._clock()
        if pause <= 0:
            return
        if self._clock() + pause >= deadline:
            raise NasUnavailableError(f"NAS asked to be left alone for another {pause:.0f} s", retry_after_s=pause)
        self._sleep(pause)

    def _chance(self) -> float:
        if self._random is None:
            from random import random

            self._random = random
        return self._random()


def provision_body(request: ArmRequest) -> dict[str, Any]:
    """Return the body of a provision, as the contract has it."""
    body: dict[str, Any] = {
        "job_id": request.job_id,
        "fire_at": format_fire_at(request.fire_at),
        "agent_callback_url": request.callback_url,
        "dedup_key": dedup_key(request.job_id, request.fire_at),
    }
    if request.generation is not None:
        body["generation"] = request.generation
    if request.accepts:
        body["accepts"] = list(request.accepts)
    if request.tolerance:
        body["tolerance"] = request.tolerance
    return body


def cancel_body(request: CancelRequest) -> dict[str, Any]:
    """Return the body of a cancel, as the contract has it."""
    body: dict[str, Any] = {"job_id": request.job_id}
    if request.generation is not None:
        body["generation"] = request.generation
    return body
