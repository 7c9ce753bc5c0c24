"""The document of a hold, `ESTOP`: the form of newer Hermes versions, and whatever people write there by hand.

    {"generation": "...", "engaged_at": ISO, "reason": "...", "expires_at": ISO, "by": "..."}

Only the presence of the document counts. A body that is no such object is the reason, as far as it is text; an end that
cannot be read is none. So whatever is there holds, but for a hold whose end is readable and past.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from chronos_cli.core.instant import iso_text
from chronos_cli.frozen import frozen
from chronos_cli.strict_json import NotJsonError, read_json

MAX_READ: Final = 64 * 1024
_MAX_REASON: Final = 1_000
NO_REASON: Final = "no reason given"


@frozen
class Hold:
    """Hold on all jobs: `reason`, since when (`engaged_at`) and `by` whom, as far as that is written down.

    `expires_at`: when it ends by itself; None where it stands until it is lifted. `where`: the home whose document it
    is, where that is not the home's own.
    """

    reason: str
    engaged_at: datetime | None = None
    expires_at: datetime | None = None
    by: str | None = None
    where: str | None = None

    @property
    def text(self) -> str:
        """Return the reason, with the home that holds and the end where there are such."""
        return self._text(iso_text(self.expires_at))

    def words(self, zone: tzinfo) -> str:
        """Return the text with the end as a person reads it, in a zone."""
        return self._text(f"{self.expires_at.astimezone(zone):%Y-%m-%d %H:%M %Z}" if self.expires_at else None)

    def _text(self, end: str | None) -> str:
        where = f" (held at {self.where})" if self.where else ""
        return f"{self.reason}{where}" + (f" (until {end})" if end else "")

    @property
    def lifted_by(self) -> str:
        """Return the command that lifts it."""
        if not self.where:
            return "chronos hold --off"
        from shlex import quote

        return f"chronos --home {quote(self.where)} hold --off"

    def is_over(self, now: datetime) -> bool:
        """Return whether it has ended by itself."""
        return self.expires_at is not None and self.expires_at <= now

    def to_bytes(self, generation: str) -> bytes:
        """Return the document. `generation`: tells this engagement from every other."""
        document: dict[str, Any] = {"generation": generation, "engaged_at": iso_text(self.engaged_at)}
        document |= {"reason": self.reason, "expires_at": iso_text(self.expires_at), "by": self.by}
        return (
            json.dumps({key: value for key, value in document.items() if value is not None}, indent=2) + "\n"
        ).encode()


def read_hold(data: bytes, *, where: str | None = None) -> Hold:
    """Return what a document says. Never raises: what cannot be read holds, without an end."""
    try:
        value = read_json(data, max_bytes=MAX_READ)
    except NotJsonError:
        value = None
    if not isinstance(value, dict):
        return Hold(reason=_reason(data[:_MAX_REASON].decode("utf-8", "replace")), where=where)
    said = value.get("reason")
    by = value.get("by")
    return Hold(
        reason=_reason(said[:_MAX_REASON] if isinstance(said, str) else ""),
        engaged_at=_moment(value.get("engaged_at")),
        expires_at=_moment(value.get("expires_at"), up=True),
        by=by[:_MAX_REASON] if isinstance(by, str) and by.strip() else None,
        where=where,
    )


def both(own: Hold | None, above: Hold | None) -> Hold | None:
    """Return the hold that two make together: it ends with the later of them."""
    if own is None or above is None:
        return own or above
    if own.expires_at is None or (above.expires_at is not None and above.expires_at <= own.expires_at):
        return own
    return above


def _reason(text: str) -> str:
    return text.strip("\ufeff \t\r\n\0") or NO_REASON


def _moment(value: object, *, up: bool = False) -> datetime | None:
    """Return an instant of the document, naive ones in UTC as Hermes reads them; `up`: the whole second after."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if up and moment.microsecond:
            moment += timedelta(seconds=1)
        return moment.replace(microsecond=0)
    except (ValueError, OverflowError):
        return None
