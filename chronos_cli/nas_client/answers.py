"""Reads what NAS answered: what kind of failure a status is, and what stands in a good answer's body.

Pure: a `Reply` goes in, an error or a value comes out. What an error repeats of NAS's words is bounded, on one line,
and never holds the token.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from chronos_cli.contract import CALLBACK_UNPROVEN, MAX_COUNTED_GENERATION, PROOF_PATH, REFUSED_FOR_GOOD, parse_fire_at
from chronos_cli.errors import AuthError, ChronosError, NasRejectedError, NasUnavailableError, RefusedError
from chronos_cli.frozen import frozen
from chronos_cli.nas_client.interface import Arm, ArmAnswer

if TYPE_CHECKING:
    from datetime import datetime

_SAID = 200
_MAX_JOB_ID = 1024
_MAX_WAIT_S = 365 * 86_400.0
_PROOF_HINT = f"serve the callback, route {PROOF_PATH} to it as its fires, then `chronos reconcile`"
_TEMPORARY: Final = (403, 408, 425, 429)
"""The 4xx statuses that may pass. 403 is one, but for the body that means for good: gateways answer it in a burst."""


@frozen
class NasReply:
    """One answer over HTTP.

    `nas`: the server that answered, for people. `redirect`: scheme and host it points to. `date`: NAS's clock.
    `wait_s`: what its Retry-After asks for.
    """

    status: int
    body: bytes
    nas: str
    redirect: str = ""
    date: datetime | None = None
    wait_s: float | None = None

    def document(self) -> object:
        """Return the body as JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):  # HTML, half an answer, another encoding
            return None


@frozen
class Trouble:
    """Reason why a call failed, and whether calling again at once, or in `wait_s` seconds, can help."""

    error: ChronosError
    again: bool = False
    wait_s: float | None = None


def judge(reply: NasReply, *, token: str, origin: str) -> Trouble | None:
    """Return the trouble that the status of an answer means; None for a good one."""
    status = reply.status
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        where = f" to {clean(reply.redirect, token)}" if reply.redirect else ""
        error: ChronosError = NasUnavailableError(
            f"{reply.nas} answered {status}, a redirect{where}, which is refused: it would carry the token along",
            hint="set cron.chronos.portal_url to where NAS itself answers",
        )
        return Trouble(error=error)
    document = reply.document()
    reason, said = _words(document, token)
    if document is None and reply.body.strip():
        said = "no JSON" if not _is_html(reply.body) else "an HTML page"
    error = error_for(status, reason, said, nas=reply.nas, origin=origin, generation=read_generation(document))
    again = isinstance(error, NasUnavailableError)
    if isinstance(error, NasUnavailableError):
        error.retry_after_s = reply.wait_s
    return Trouble(error=error, again=again, wait_s=reply.wait_s)


def error_for(status: int, reason: str, said: str, *, nas: str, origin: str, generation: int = 0) -> ChronosError:
    """Return the error that a status other than 2xx stands for, of a call or of one item of a batch."""
    told = f" ({said})" if said else ""
    hint = _PROOF_HINT if reason == CALLBACK_UNPROVEN else None
    if status == 401:
        return AuthError(f"{nas} did not accept the token from {origin}{told}")
    if status == 403 and reason == REFUSED_FOR_GOOD:
        return RefusedError(f"{nas} refuses this agent for good: 403{told}")
    if 400 <= status < 500 and status not in _TEMPORARY:
        return NasRejectedError(
            f"{nas} rejected the request: {status}{told}",
            hint=hint,
            status=status,
            reason=reason,
            generation=generation,
        )
    return NasUnavailableError(f"{nas} answered {status}{told}", hint=hint)


def garbage(reply: NasReply, what: str) -> NasUnavailableError:
    """Return the error for a good status over a body that is not what the contract says."""
    hint = "check that cron.chronos.portal_url is NAS's address, and that nothing stands in between"
    return NasUnavailableError(f"{reply.nas} answered {reply.status}, but {what}", hint=hint)


def read_object(reply: NasReply) -> dict[str, Any]:
    """Return the JSON object in a good answer. Raises NasUnavailableError where there is none."""
    document = reply.document()
    if isinstance(document, dict):
        return document
    if document is None:
        raise garbage(reply, "with an HTML page" if _is_html(reply.body) else "not with JSON")
    raise garbage(reply, "with JSON that is no object")


def read_features(document: dict[str, Any]) -> frozenset[str]:
    """Return the optional abilities an answer names; anything but a list of texts names none."""
    listed = document.get("features")
    return frozenset(name for name in listed if isinstance(name, str)) if isinstance(listed, list) else frozenset()


def read_generation(document: object) -> int:
    """Return the generation that a refusal names; 0 where it names none, or one that leaves no room for a newer."""
    named = document.get("generation") if isinstance(document, dict) else None
    return named if type(named) is int and 0 < named < MAX_COUNTED_GENERATION else 0


def read_arm_answer(reply: NasReply, document: dict[str, Any]) -> ArmAnswer:
    """Return the answer to a provision, of a call or of one item of a batch."""
    schedule_id = document.get("schedule_id")
    if schedule_id is not None and not isinstance(schedule_id, str):
        raise garbage(reply, "schedule_id is no text")
    if document.get("ok") is False:
        raise garbage(reply, "says that it is not ok")
    state = document.get("state")
    return ArmAnswer(
        schedule_id=schedule_id or None,
        features=read_features(document),
        state=state if isinstance(state, str) else "",
    )


def read_page(reply: NasReply) -> tuple[list[Arm], str | None, frozenset[str]]:
    """Return one page of a list: its arms, the cursor of the next page, and the features."""
    document = read_object(reply)
    listed = document.get("armed")
    if not isinstance(listed, list):
        raise garbage(reply, "without the list `armed`")
    cursor = document.get("next_cursor")
    if cursor is not None and not isinstance(cursor, str):
        raise garbage(reply, "next_cursor is no text")
    return [_read_arm(reply, item) for item in listed], cursor or None, read_features(document)


def _read_arm(reply: NasReply, item: object) -> Arm:
    job_id = item.get("job_id") if isinstance(item, dict) else None
    if not isinstance(item, dict) or not isinstance(job_id, str) or not 0 < len(job_id) <= _MAX_JOB_ID:
        raise garbage(reply, "an entry of `armed` names no job")
    text, schedule_id, state = item.get("fire_at"), item.get("schedule_id"), item.get("state")
    return Arm(
        job_id=job_id,
        fire_at=_instant(text),  # without one the arm is there all the same: a comparison finds a different one
        fire_at_text=text if isinstance(text, str) else "",
        schedule_id=schedule_id if isinstance(schedule_id, str) else None,
        state=state if isinstance(state, str) else "",
        **_deliveries(item.get("deliveries")),
    )


def _deliveries(told: object) -> dict[str, Any]:
    """Return what an entry tells of failed deliveries; anything that is not as it should be tells nothing."""
    if not isinstance(told, dict):
        return {}
    attempts, error = told.get("attempts"), told.get("last_error")
    if type(attempts) is not int or attempts < 1 or not isinstance(error, str) or not error.strip():
        return {}
    next_try, failed_fire = (_instant(told.get(name)) for name in ("next_try", "fire_at"))
    return {"attempts": attempts, "failed": clean(error, ""), "next_try": next_try, "failed_fire": failed_fire}


def _instant(text: object) -> datetime | None:
    try:
        return parse_fire_at(text)
    except ValueError:
        return None


def read_wait(header: str | None, date: datetime | None, now: float) -> float | None:
    """Return the seconds of a Retry-After (RFC 9110: seconds or a date); None without one that can be read.

    A date is meant by NAS's own clock, so it is compared with its Date header where there is one, else with `now`.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), _MAX_WAIT_S)
    moment = read_date(text)
    if moment is None:
        return None
    reference = date.timestamp() if date is not None else now
    return min(max(moment.timestamp() - reference, 0.0), _MAX_WAIT_S)


def read_date(header: str | None) -> datetime | None:
    """Return the instant in an HTTP date, aware; None where there is none."""
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(header or "")
    except (ValueError, TypeError, OverflowError):  # no date, or none that can exist
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def clean(text: str, token: str) -> str:
    """Return a text from outside as an error may show it: one line, bounded, without the token."""
    if token:
        text = text.replace(token, "***")
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 8 * _SAID]).split())
    return text if len(text) <= _SAID else f"{text[:_SAID]}..."


def _words(document: object, token: str) -> tuple[str, str]:
    """Return NAS's error code, and what it says in all, from an error body."""
    if not isinstance(document, dict):
        return "", ""
    texts = [document.get(name) for name in ("error", "error_description", "message", "detail")]
    texts = [text for text in texts if isinstance(text, str) and text.strip()]
    reason = document.get("error")
    return clean(reason, token) if isinstance(reason, str) else "", clean(": ".join(map(str, texts)), token)


def _is_html(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"
