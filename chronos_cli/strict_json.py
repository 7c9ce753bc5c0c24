"""The one reader of stored JSON: bounded in size and depth, and whatever is wrong with a text is one error.

A power cut leaves empty files and zero bytes, a disk garbage, a person a slip of the hand. `json.loads` answers these
with five kinds of exceptions, some of which name no cause, and builds values that no later code can walk.
"""

from __future__ import annotations

import json
from typing import Any, Final

MAX_BYTES: Final = 8 * 2**20
"""The largest document that is read; rows and arm documents have a few kilobytes."""

MAX_DEPTH: Final = 100
"""The deepest nesting of lists and objects; documents of our own have less than ten levels."""


_NESTS: Final = frozenset({dict, list})


class NotJsonError(ValueError):
    """A text is not JSON that can be used; the message says why, and quotes nothing of it."""


def read_json(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> Any:
    """Return the value in a whole text of JSON, UTF-8 where it is bytes.

    Raises NotJsonError for everything else: empty, zero bytes, too long, too deep, NaN, a number of too many digits.
    """
    if len(data) > max_bytes:
        raise NotJsonError(f"it is larger than {max_bytes} bytes")
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        if not text.strip(" \t\r\n\0"):
            raise NotJsonError("it holds nothing but zero bytes" if text.strip() else "it is empty")
        value = json.loads(text, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise NotJsonError(f"it is not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise NotJsonError(f"it is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    except RecursionError:
        raise NotJsonError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except ValueError as error:
        if isinstance(error, NotJsonError):
            raise
        raise NotJsonError("a number in it has too many digits") from None
    if text.count("{") + text.count("[") > MAX_DEPTH and is_deep(value):
        raise NotJsonError(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def is_deep(value: Any, *, limit: int = MAX_DEPTH) -> bool:
    """Return whether lists and objects in `value` are nested deeper than `limit`. Recursion is not used."""
    level = [value] if type(value) in _NESTS else []
    for _ in range(limit):
        if not level:
            return False
        found = []
        for item in level:
            for inner in item.values() if type(item) is dict else item:
                if type(inner) in _NESTS:
                    found.append(inner)  # noqa: PERF401 - each record of a listing comes here, and this is quicker
        level = found
    return bool(level)


def _no_constant(name: str) -> None:
    raise NotJsonError(f"it holds {name}, which is no number of JSON")
