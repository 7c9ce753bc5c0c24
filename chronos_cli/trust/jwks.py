"""NAS's public keys, fetched as seldom as possible: one small file per URL, shared by all processes of a home.

Commands live for a moment, so a cache in memory would mean a request per fire. Reading the file takes no lock. Whoever
has to ask NAS holds a lock while it does, and those who come meanwhile take the answer that it wrote. Every attempt is
counted in the file: a count that changed while we waited says that somebody else asked on our behalf.

The file is a cache and no more: unreadable, corrupt or open to others it is ignored and replaced, and where it cannot
be written there is one warning and the keys are kept in memory.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from chronos_cli.errors import KeysUnavailableError
from chronos_cli.files import give_to_folder, place_of, write_file
from chronos_cli.frozen import frozen, replace
from chronos_cli.strict_json import read_json
from chronos_cli.trust.keys import UnusableKeysError, choose, parse_jwks, public_jwk
from chronos_cli.trust.token_errors import UnknownKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chronos_cli.files import Place
    from chronos_cli.trust.keys import Jwk
    from chronos_cli.trust.settings import TrustSettings

_MAX_FILE_BYTES: Final = 1024 * 1024
_LEAST_LIFETIME_S: Final = 60
_USUAL_LIFETIME_S: Final = 300
_RETRY_S: Final = 5
_CLOCK_STEP_S: Final = 300
"""A time in the file that lies further ahead than this cannot be ours: the clock was set back, its age is unknown."""
_POLL_S: Final = 0.01


@frozen
class KnownKeys:
    """The known keys of one URL. Times are Unix seconds, 0 for never."""

    keys: tuple[Jwk, ...] = ()
    fetched_at: float = 0
    lifetime_s: float = 0
    asked_at: float = 0
    """When NAS was last asked, and whether it gave keys then."""
    ok: bool = True
    sought_at: float = 0
    """When NAS was last asked because of an unknown `kid`."""
    attempts: int = 0

    def age(self, now: float) -> float:
        """Return the seconds since the keys were fetched; endless where there are none or the clock makes no sense."""
        age = now - self.fetched_at
        return age if self.keys and age > -_CLOCK_STEP_S else float("inf")

    def fresh(self, now: float) -> bool:
        """Return whether the keys may be used without asking NAS again."""
        return self.age(now) < self.lifetime_s


def _elapsed(since: float, now: float, seconds: float) -> bool:
    """Return whether `seconds` went by; a moment in the future proves nothing and counts as long ago."""
    return not 0 <= now - since < seconds


class JwksCache:
    """The keys at `settings.keys`, for one process; any number of processes may share `settings.cache_dir`."""

    def __init__(self, settings: TrustSettings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._folder = settings.cache_dir / "jwks"
        self._name = f"{crc32(settings.keys.encode()):08x}"
        self._memory: KnownKeys | None = None
        self._warned = False

    def find(self, algorithm: str, kid: str | None) -> tuple[Jwk, ...]:
        """Return the keys that may have signed a token with this header, asking NAS where that is due.

        Raises UnknownKeyError when NAS publishes no such key, AlgorithmError when it is of another kind, and
        KeysUnavailableError when NAS cannot be asked and nothing known is young enough.
        """
        seen = self.load()
        now = self._clock()
        found = self._choose(seen, algorithm, kid, now)
        if found and seen.fresh(now):
            return found
        failure: KeysUnavailableError | None = None
        with self._lock(wait=not found) as locked:
            if not locked:
                return found  # another process renews them just now; until then these still serve
            current = self.load()
            now = self._clock()
            if current.attempts == seen.attempts:
                current, failure = self._ask(current, now)
            found = self._choose(current, algorithm, kid, now)
        if found:
            if failure is not None:
                self._warn(f"{failure.message}; keys fetched {seen.age(now):.0f} s ago serve on")
            return found
        if failure is not None:
            raise failure
        if current.ok and (current.fresh(now) or current.attempts != seen.attempts):
            raise UnknownKeyError(claim="kid", received=kid)
        raise KeysUnavailableError(
            f"the keys at {self._settings.keys} could not be fetched {now - current.asked_at:.0f} s ago, "
            "and none in the cache fits this token"
        )

    def _choose(self, known: KnownKeys, algorithm: str, kid: str | None, now: float) -> tuple[Jwk, ...]:
        if known.age(now) >= known.lifetime_s + self._settings.max_stale_s:
            return ()
        return choose(known.keys, algorithm, kid)

    def _ask(self, known: KnownKeys, now: float) -> tuple[KnownKeys, KeysUnavailableError | None]:
        """Ask NAS unless it was asked too recently, and write down the outcome. The caller holds the lock."""
        fresh = known.fresh(now)
        if fresh:  # then it is the `kid` that is missing
            pause, since = self._settings.cooldown_s, known.sought_at
        else:
            usable = known.age(now) < known.lifetime_s + self._settings.max_stale_s
            pause = 0.0 if known.ok else self._settings.cooldown_s if usable else _RETRY_S
            since = known.asked_at
        if not _elapsed(since, now, pause):
            return known, None
        asked = replace(known, asked_at=now, sought_at=now if fresh else known.sought_at, attempts=known.attempts + 1)
        try:
            keys, lifetime = self._request()
        except KeysUnavailableError as error:
            asked = replace(asked, ok=False)
            self._save(asked)
            return asked, error
        asked = replace(asked, ok=True, keys=keys, fetched_at=now, lifetime_s=lifetime)
        self._save(asked)
        return asked, None

    def _request(self) -> tuple[tuple[Jwk, ...], float]:
        from chronos_cli.trust.fetch import fetch_jwks

        url = self._settings.keys
        answer = fetch_jwks(url, self._settings.fetch_timeout_s)
        try:
            keys = parse_jwks(answer.body)
        except UnusableKeysError as error:
            raise KeysUnavailableError(f"the answer of {url} cannot be used: {error}") from error
        wanted = _USUAL_LIFETIME_S if answer.max_age is None else answer.max_age
        return keys, min(max(wanted, _LEAST_LIFETIME_S), self._settings.max_age_s)

    def load(self) -> KnownKeys:
        """Return the state in the file, or in memory where the file could not be written; else nothing known."""
        return max(self._read() or KnownKeys(), self._memory or KnownKeys(), key=lambda known: known.attempts)

    def _place(self, suffix: str, *, make: bool = False) -> Place:
        cache = self._folder.parent
        return place_of(cache.parent, f"{cache.name}/{self._folder.name}/{self._name}{suffix}", make=make)

    def _read(self) -> KnownKeys | None:
        try:
            with self._place(".json") as place:
                descriptor = place.open(os.O_RDONLY | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                    return None  # others could have put their keys there
                data = os.read(descriptor, _MAX_FILE_BYTES)
            finally:
                os.close(descriptor)
            return _known(read_json(data), self._settings)
        except (OSError, ValueError):  # none yet, or damaged: as good as none
            return None

    def _save(self, known: KnownKeys) -> None:
        data = json.dumps({"url": self._settings.keys, **{name: getattr(known, name) for name in _FIELDS}}).encode()
        try:
            with self._place(".json") as place:
                write_file(place, data)
        except OSError as error:
            self._keep_in_memory(known, error)

    def _keep_in_memory(self, known: KnownKeys | None, error: OSError) -> None:
        """Go on without the file: verifying matters more than sparing NAS a request."""
        self._memory = known or self._memory
        if not self._warned:
            self._warn(f"the key cache {self._folder} cannot be used ({error.strerror}); keys are fetched more often")
        self._warned = True

    def _warn(self, text: str) -> None:
        import logging

        logging.getLogger("chronos_cli.trust").warning("%s", text)

    @contextmanager
    def _lock(self, *, wait: bool) -> Iterator[bool]:
        """Keep other processes and threads from asking too; yields False when not waiting and it is taken."""
        try:
            with self._place(".lock", make=True) as place:
                descriptor = place.open(os.O_RDONLY | os.O_CREAT | os.O_NONBLOCK)  # a pipe in its place does not block
                give_to_folder(descriptor, place.folder)
        except OSError as error:
            self._keep_in_memory(None, error)
            yield True
            return
        try:
            deadline = time.monotonic() + self._settings.fetch_timeout_s + 1
            while not (taken := _try_lock(descriptor)) and wait:
                if time.monotonic() > deadline:
                    raise KeysUnavailableError("another process has been fetching the keys for too long")
                time.sleep(_POLL_S)
            try:
                yield taken
            finally:
                if taken:
                    _unlock(descriptor)
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: at worst NAS is asked once per process
    return True


def _unlock(descriptor: int) -> None:
    """Release the lock outright: closing would leave it to a child that was forked meanwhile."""
    import fcntl

    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_UN)


_MOST: Final = 2**53
"""No time and no count of ours is larger than this."""
_FIELDS: Final = ("fetched_at", "lifetime_s", "asked_at", "ok", "sought_at", "attempts", "keys")


def _known(document: Any, settings: TrustSettings) -> KnownKeys | None:
    """Return the file's content, None unless it is what we write, for these settings. Raises ValueError."""
    if not isinstance(document, dict) or document.get("url") != settings.keys:
        return None
    values = {name: document.get(name) for name in _FIELDS}
    keys = values.pop("keys")
    numbers = [value for value in values.values() if isinstance(value, int | float) and abs(value) <= _MOST]
    if not isinstance(keys, list) or len(numbers) < len(values):
        return None
    values["lifetime_s"] = min(values["lifetime_s"], settings.max_age_s)  # type: ignore[type-var]
    return KnownKeys(**values, keys=tuple(filter(None, map(public_jwk, keys))))  # type: ignore[arg-type]
