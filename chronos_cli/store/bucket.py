"""A document store in an object store: S3, Google Cloud Storage, Azure Blob Storage and servers compatible with them.

Every write is conditional on what was read (`If-Match`, `If-None-Match`, a generation), so replicas on any number of
machines share one store. Credentials come from the provider's usual environment variables and metadata services and
are never part of a message: texts are made of the status and the error code that the service names, nothing else.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

from chronos_cli.errors import ChronosError, ConfigError, StoreError, TemporaryError
from chronos_cli.store.interface import (
    JOB_PREFIX,
    JOBS_KEY,
    Document,
    DocumentStore,
    OutcomeUnknown,
    VersionConflict,
    check_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from obstore.store import AzureStore, GCSStore, S3Store

    Place = S3Store | GCSStore | AzureStore

T = TypeVar("T")
S = TypeVar("S")

SCHEMES: Final = ("s3", "gs", "az")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_TIMEOUT_S: Final = 10.0
_CONNECT_TIMEOUT_S: Final = 5.0
_ATTEMPTS: Final = 3
_RETRY_TIMEOUT_S: Final = 20.0
_AT_ONCE: Final = 32
"""So many calls of one look are under way at a time."""

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_NO_PLACE: Final = re.compile(
    r"NoSuchBucket|ContainerNotFound|ContainerBeingDeleted|bucket does not exist", re.IGNORECASE
)
_NEVER_SENT: Final = ("kind: Connect", "dns error", "builder error")
_TOO_MANY: Final = frozenset({408, 429})
_SERVER_FAULT: Final = 500


class BucketStore(DocumentStore):
    """Documents as objects below `url` (`s3://bucket/prefix`, `gs://...`, `az://container/prefix`).

    `endpoint`: the URL of a compatible server, https or loopback. Raises ConfigError for URLs that cannot be meant,
    and where the optional dependency is not installed.
    """

    needs_proof: ClassVar[bool] = True
    keeps_jobs_apart: ClassVar[bool] = True

    def __init__(self, url: str, *, endpoint: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ConfigError(f"{_bare(url)} is not a store", hint="give s3://BUCKET/PREFIX, gs://... or az://...")
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                f"the URL of the store {_bare(url)} holds credentials or options",
                hint="credentials come from the provider's environment variables",
            )
        self._url = _bare(url)
        self._endpoint = _checked_endpoint(endpoint, parts.scheme)
        where = (parts.scheme, parts.netloc, parts.path.strip("/"), self._endpoint)
        self._place = _open(*where, attempts=_ATTEMPTS)
        # A write that is sent again by itself finds its own first attempt there and takes it for another's.
        self._writer = _open(*where, attempts=1)

    @property
    def location(self) -> str:
        """Return the URL, and the endpoint where it is not the provider's own."""
        return f"{self._url} at {self._endpoint}" if self._endpoint else self._url

    def read(self, key: str) -> Document | None:
        """Return the object, or None when the service says that it does not exist."""
        from obstore.exceptions import BaseError

        try:
            found = self._place.get(check_key(key))
            data = bytes(found.bytes())
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
            if key == JOBS_KEY:
                self.list("cron/")  # Some servers answer alike for a missing bucket; that is never "no jobs".
            return None
        except BaseError as error:
            raise self._read_error("read", key, error) from error
        return Document(data=data, version=_version(found.meta))

    def create(self, key: str, data: bytes, *, durable: bool = True) -> str:
        """Make the object under `If-None-Match: *`, or what the provider has for it."""
        del durable  # There is only one way to be stored there.
        return self._put(key, data, "create")

    def replace(self, key: str, data: bytes, version: str, *, durable: bool = True) -> str:
        """Replace the object if it still is what was read."""
        del durable  # As above.
        return self._put(key, data, json.loads(version))

    def list(self, prefix: str) -> list[str]:
        """Return the keys below `prefix`, sorted."""
        from obstore.exceptions import BaseError

        check_key(prefix.rstrip("/"))
        try:
            return sorted(item["path"] for chunk in self._place.list(prefix) for item in chunk)
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
            return []
        except BaseError as error:
            raise self._read_error("list", prefix, error) from error

    def delete(self, key: str, *, durable: bool = True) -> None:
        """Remove the object; one that is not there is fine."""
        from obstore.exceptions import BaseError

        del durable  # As above.
        # A job of that id may be added again at once: no second attempt may arrive after that.
        place = self._writer if key.startswith(JOB_PREFIX) else self._place
        try:
            place.delete(check_key(key))
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
        except BaseError as error:
            raise self._read_error("delete", key, error) from error

    def each(self, fn: Callable[[S], T], items: Sequence[S]) -> Sequence[T]:
        """Do as the interface says, in threads: what takes time is the way to the service and back."""
        if len(items) < 2:
            return [fn(item) for item in items]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(items), _AT_ONCE), thread_name_prefix="bucket") as pool:
            waiting = [pool.submit(fn, item) for item in items]
        return [one.result() for one in waiting]

    def _put(self, key: str, data: bytes, mode: Any) -> str:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        try:
            # One request: an upload in parts is finished by a request that some servers take without conditions.
            return _version(self._writer.put(check_key(key), data, mode=mode, use_multipart=False))
        except (AlreadyExistsError, PreconditionError) as error:
            raise VersionConflict(key) from error
        except FileNotFoundError as error:
            self._refuse_missing_bucket(error)
            raise VersionConflict(key) from error
        except BaseError as error:
            self._raise_put_error(key, error)

    def _raise_put_error(self, key: str, error: Exception) -> NoReturn:
        text = str(error)
        status = _status(text)
        if any(mark in text for mark in _NEVER_SENT) or status in _TOO_MANY:
            raise self._read_error("write", key, error) from error
        if status is None or status >= _SERVER_FAULT:
            # It may have been written before the answer was lost, or before the gateway gave up waiting.
            raise OutcomeUnknown(f"{key}: {_said(text)}") from error
        raise self._read_error("write", key, error) from error

    def _read_error(self, action: str, key: str, error: Exception) -> ChronosError:
        """Return what a failed request that changed nothing amounts to."""
        text = str(error)
        status = _status(text)
        what = f"cannot {action} {key} in {self.location}: {_said(text)}"
        if "builder error" in text:
            return StoreError(what, hint="plain http is for loopback only; give the server as CHRONOS_STORE_ENDPOINT")
        if status in {401, 403}:
            return StoreError(
                what, hint="check the credentials and their rights: reading, writing, deleting and listing are needed"
            )
        if status is None or status in _TOO_MANY or status >= _SERVER_FAULT:
            return TemporaryError(what, hint="try again; `chronos doctor` shows what the store answers")
        return StoreError(what, hint="nothing was changed; check the store's URL, region and endpoint")

    def _refuse_missing_bucket(self, error: Exception) -> None:
        if _NO_PLACE.search(str(error)):
            raise StoreError(
                f"{self.location} does not exist", hint="make the bucket (or container), or correct the store's URL"
            ) from error


def _open(scheme: str, bucket: str, prefix: str, endpoint: str | None, *, attempts: int) -> Place:
    """Return the provider's client, which sends a request up to `attempts` times. Raises ConfigError."""
    from datetime import timedelta

    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore, S3Store
    except ImportError as error:
        raise ConfigError(
            f"a store at {scheme}:// needs a package that is not installed",
            hint="install the extra: in the checkout, pip install '.[bucket]'",
        ) from error

    def seconds(value: float) -> timedelta:
        return timedelta(seconds=value)

    kinds: Mapping[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    options: dict[str, Any] = {
        "client_options": {
            "allow_http": endpoint is not None and endpoint.startswith("http://"),
            "timeout": seconds(_TIMEOUT_S),
            "connect_timeout": seconds(_CONNECT_TIMEOUT_S),
        },
        "retry_config": {
            "max_retries": attempts - 1,
            "retry_timeout": seconds(_RETRY_TIMEOUT_S),
            "backoff": {"init_backoff": seconds(0.05), "max_backoff": seconds(1.0), "base": 2},
        },
    }
    if endpoint is not None:
        options["endpoint"] = endpoint
    try:
        return kinds[scheme](bucket, prefix=prefix or None, **options)  # type: ignore[no-any-return]
    except BaseError as error:
        # Its text may quote the environment: only what it is about is told.
        raise ConfigError(
            f"the environment does not describe access to {scheme}://{bucket} ({type(error).__name__})",
            hint="set the provider's usual variables: AWS_*, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_*",
        ) from error


def _checked_endpoint(endpoint: str | None, scheme: str) -> str | None:
    if not endpoint:
        return None
    parts = urlsplit(endpoint)
    if scheme == "gs":
        raise ConfigError("a store at gs:// has no other endpoint", hint="leave CHRONOS_STORE_ENDPOINT away")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise ConfigError(f"{_bare(endpoint)} is not an endpoint", hint="give https://HOST[:PORT]")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigError(f"{_bare(endpoint)} is plain http to another machine", hint="use https")
    return endpoint.rstrip("/")


def _version(meta: Mapping[str, Any]) -> str:
    """Return what has to be handed back for a conditional write; members that are None would be refused there."""
    return json.dumps({name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None})


def _status(text: str) -> int | None:
    found = _STATUS.search(text)
    return int(found[1]) if found else None


def _said(text: str) -> str:
    """Return what the service answered, in words that cannot hold a secret."""
    status, code = _status(text), _CODE.search(text)
    if status is not None:
        return f"the service answered {status}" + (f" ({code[1]})" if code else "")
    if "builder error" in text:
        return "its endpoint is refused"
    if "kind: Connect" in text:
        return "it cannot be reached"
    if "redirect" in text:
        return "it answers with a redirect, as for a wrong region"
    return "its answer did not come"


def _bare(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
