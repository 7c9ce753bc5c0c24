"""Mask the values that a run looked up in what it printed: a job that shows its own secret shows `***`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = b"***"
LEAST_BYTES: Final = 6
"""Shorter values stay: to hide each `1` or `yes` would spoil the output, and hide nothing."""
_LEAST_LINE: Final = 12


class Mask:
    """Masks values in a stream; of a value with several lines each longer one too, as keys have them."""

    def __init__(self, values: Iterable[str]) -> None:
        found: set[bytes] = set()
        for value in values:
            data = value.encode("utf-8", "surrogateescape")
            found |= {data, data.strip()}
            found |= {line.strip() for line in data.splitlines() if len(line.strip()) >= _LEAST_LINE}
        self._values = sorted((data for data in found if len(data) >= LEAST_BYTES), key=len, reverse=True)
        self._held = b""

    def masked(self, data: bytes) -> bytes:
        """Return what may be shown by now; what could be the beginning of a value waits for what follows."""
        if not self._values:
            return data
        text = self._held + data
        for value in self._values:
            text = text.replace(value, MASK)
        keep = max(_beginning_at_end(text, value) for value in self._values)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> bytes:
        """Return what still waits, at the end of the stream."""
        held, self._held = self._held, b""
        return held


def _beginning_at_end(text: bytes, value: bytes) -> int:
    """Return how many bytes at the end of a text are the beginning of a value."""
    return next((size for size in range(min(len(value) - 1, len(text)), 0, -1) if text.endswith(value[:size])), 0)
