"""Open the store that the configuration names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from chronos_cli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chronos_cli.store.interface import DocumentStore


def open_store(
    url_or_path: str | Path,
    *,
    lock_timeout_s: float,
    endpoint: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> DocumentStore:
    """Return the store at a path (a home), or at an `s3://`, `gs://` or `az://` URL.

    `lock_timeout_s`: how long to wait for other writers of a local one. Raises ConfigError.
    """
    text = str(url_or_path)
    if "://" not in text:
        from chronos_cli.store.local import LocalStore

        return LocalStore(Path(url_or_path), lock_timeout_s=lock_timeout_s, sleep=sleep, clock=clock)
    if text.startswith(("s3://", "gs://", "az://")):
        from chronos_cli.store.bucket import BucketStore

        return BucketStore(text, endpoint=endpoint)
    scheme = text.partition("://")[0]
    raise ConfigError(f"no store can be at {scheme}://", hint="give a path, or s3://, gs:// or az:// BUCKET/PREFIX")
