"""The last fire token that NAS signed and that was refused all the same: `cache/refused.json` of the launching home.

Only what NAS signed is written down, so that no stranger can make us write; and never to the store, which is not
touched before a token verifies. `doctor` reads it, to say which claim was not as expected.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Final

from chronos_cli.files import place_of, read_file, write_file
from chronos_cli.frozen import frozen
from chronos_cli.strict_json import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from chronos_cli.errors import TokenError

FILE: Final = "refused.json"
_MAX_BYTES: Final = 64 * 1024

SIGNED: Final = frozenset(
    {"audience", "issuer", "purpose", "expired", "not_yet_valid", "missing_claim", "claim_type", "unbound",
     "too_long_lived", "bound_to_other_home", "bound_to_other_job", "bound_to_other_time", "jti_reused"}
)  # fmt: skip
"""The causes that are found only after the signature has held."""


@frozen
class RefusedToken:
    """Note of a refused token: when, the stable code of the cause, its line for the operator; no part of the token."""

    at: datetime
    code: str
    message: str
    hint: str


def note_refused(cache_dir: Path, error: TokenError, *, now: datetime) -> None:
    """Write down why a token was refused, if NAS signed it and the cache can be written: it only explains."""
    if error.code not in SIGNED:
        return
    document = {"at": now.isoformat(), "code": error.code, "message": error.message, "hint": error.hint}
    try:
        with place_of(cache_dir.parent, f"{cache_dir.name}/{FILE}", make=True) as place:
            write_file(place, json.dumps(document).encode())
    except OSError:
        return  # a read-only cache: the log has the line


def last_refused(cache_dir: Path) -> RefusedToken | None:
    """Return the last such refusal, or None where none is known."""
    try:
        document = read_json(read_file(cache_dir / FILE, most=_MAX_BYTES))
        at = datetime.fromisoformat(document["at"])
        if at.tzinfo is None:
            return None
        return RefusedToken(
            at=at, code=str(document["code"]), message=str(document["message"]), hint=str(document["hint"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none yet, or nothing that we wrote
