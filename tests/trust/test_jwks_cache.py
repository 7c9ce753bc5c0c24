"""How seldom NAS is asked for its keys, and what happens when it does not answer."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import stat
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from chronos_cli.errors import KeysUnavailableError
from chronos_cli.trust import get_fire_verifier, verify_fire_token
from chronos_cli.trust.token_errors import AlgorithmError, UnknownKeyError
from tests.fire_tokens import JwksServer, SigningKey, serve_jwks
from tests.trust.trusting import judge_in_processes, make_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chronos_cli.trust import TrustSettings

START = 1_800_000_000.0


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.es256()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nas(key: SigningKey) -> Iterator[JwksServer]:
    with serve_jwks(key) as server:
        yield server


@pytest.fixture
def settings(nas: JwksServer, tmp_path: Path) -> TrustSettings:
    return make_settings(tmp_path, nas.url)


def verify(key: SigningKey, settings: TrustSettings, clock: Clock) -> None:
    verify_fire_token(key.token(now=clock.at), settings, now=clock)


def cache_file(settings: TrustSettings) -> Path:
    (found,) = (settings.cache_dir / "jwks").glob("*.json")
    return found


@contextmanager
def nas_down(nas: JwksServer) -> Iterator[None]:
    nas.status = 503
    yield
    nas.status = 200


@pytest.mark.parametrize("many", [12, pytest.param(50, marks=pytest.mark.soak)])
def test_many_cold_processes_ask_once_and_warm_ones_never(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, many: int
) -> None:
    """Many fires at the same moment with nothing cached cost NAS one request; fires after that cost none."""
    nas.delay_s = 0.2
    assert judge_in_processes([key.token() for _ in range(many)], settings) == ["ok"] * many
    assert nas.count == 1
    assert judge_in_processes([key.token() for _ in range(5)], settings) == ["ok"] * 5
    assert nas.count == 1


def test_unknown_kid_asks_once_for_all_processes(key: SigningKey, nas: JwksServer, settings: TrustSettings) -> None:
    """Tokens with made-up key ids cause one request among all processes, then none until the cool-down is over."""
    assert judge_in_processes([key.token()], settings) == ["ok"]
    strangers = [SigningKey.es256(f"made-up-{number}").token() for number in range(8)]
    assert judge_in_processes(strangers, settings) == ["unknown_key"] * 8
    assert nas.count == 2
    assert judge_in_processes([strangers[0], key.token()], settings) == ["unknown_key", "ok"]
    assert nas.count == 2


def test_cold_with_an_unknown_kid_asks_once(nas: JwksServer, settings: TrustSettings, clock: Clock) -> None:
    """Keys that were fetched for this very token are not fetched again because it is not signed with one of them."""
    with pytest.raises(UnknownKeyError):
        verify(SigningKey.es256("other"), settings, clock)
    assert nas.count == 1


def test_cooldown_ends(nas: JwksServer, settings: TrustSettings, clock: Clock) -> None:
    """An unknown key id is asked for again once the cool-down is over, and only then."""
    stranger = SigningKey.es256("other")
    for moved, count in ((0, 1), (0, 2), (29, 2), (1, 3), (1, 3)):
        clock.at += moved
        with pytest.raises(UnknownKeyError):
            verify(stranger, settings, clock)
        assert nas.count == count


def test_rotation_in_mid_flight(key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock) -> None:
    """A new key counts from its first token on; the old one as long as NAS publishes it."""
    new = SigningKey.es256("ec-2")
    verify(key, settings, clock)
    nas.keys = [key, new]
    verify(new, settings, clock)
    verify(key, settings, clock)
    assert nas.count == 2
    nas.keys = [new]
    clock.at += 601
    verify(new, settings, clock)
    with pytest.raises(UnknownKeyError):
        verify(key, settings, clock)
    assert nas.count == 4  # the renewal, and the question for the old key


def test_key_of_another_kind_under_the_kid_is_no_reason_to_ask(
    nas: JwksServer, settings: TrustSettings, clock: Clock, key: SigningKey
) -> None:
    """A token whose algorithm does not fit the published key is refused from the cache."""
    verify(key, settings, clock)
    with pytest.raises(AlgorithmError):
        verify(SigningKey.rs256("ec-1"), settings, clock)
    assert nas.count == 1


@pytest.mark.parametrize(
    ("header", "lifetime"),
    [
        (None, 300),
        ("max-age=120", 120),
        ('public, Max-Age="240"', 240),
        ("max-age=1", 60),
        ("no-store", 60),
        ("no-cache, max-age=200", 60),
        ("max-age=99999999", 300),
        ("max-age=" + "9" * 5000, 300),
        ("max-age=-5, private", 300),
        ("max-age=\u0664", 300),
    ],
)
def test_lifetime_follows_cache_control_within_bounds(
    header: str | None, lifetime: int, key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """Keys are kept as long as NAS says, but at least a minute and at most `max_age_s`; five minutes if it says nothing."""
    if header is not None:
        nas.headers["Cache-Control"] = header.encode().decode("latin-1")
    verify(key, settings, clock)
    clock.at += lifetime - 1
    verify(key, settings, clock)
    assert nas.count == 1
    clock.at += 1
    verify(key, settings, clock)
    assert nas.count == 2


def test_key_taken_back_is_refused_within_five_minutes(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """Whatever NAS says of how long its list may be kept, and with other keys still in it."""
    nas.headers["Cache-Control"] = "public, max-age=86400"
    other = SigningKey.es256("other")
    nas.keys = [key, other]
    verify(key, settings, clock)
    nas.keys = [other]
    clock.at += 299
    verify(key, settings, clock)
    clock.at += 1
    with pytest.raises(UnknownKeyError):
        verify(key, settings, clock)


def test_nas_down_with_keys_in_the_cache(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Cached keys serve on for `max_stale_s` while NAS is down, asking once per cool-down; then it is 503, not 401."""
    verify(key, settings, clock)
    with nas_down(nas):
        for moved, count in ((300, 2), (1, 2), (28, 2), (1, 3), (3_200, 4), (369, 5)):
            clock.at += moved
            verify(key, settings, clock)
            assert nas.count == count
        assert "answered 503; keys fetched 300 s ago serve on" in caplog.messages[0]
        assert len(caplog.messages) == 4
        clock.at += 1
        with pytest.raises(KeysUnavailableError) as caught:
            verify(key, settings, clock)
        assert (caught.value.http_status, caught.value.exit_code) == (503, 75)
    clock.at += 5
    verify(key, settings, clock)


def test_nas_down_with_nothing_cached(key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock) -> None:
    """With no key at all no token can be judged: 503, and the next attempt waits a moment for all processes."""
    with nas_down(nas):
        for moved, count in ((0, 1), (0, 1), (4, 1), (1, 2)):
            clock.at += moved
            with pytest.raises(KeysUnavailableError):
                verify(key, settings, clock)
            assert nas.count == count
        tokens = [key.token() for _ in range(5)]
        assert judge_in_processes(tokens, settings) == ["keys_unavailable"] * 5
        assert nas.count <= 3
    clock.at += 5
    verify(key, settings, clock)


def test_nas_down_and_an_unknown_kid(key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock) -> None:
    """It may be a new key that cannot be fetched: that token is not refused as a stranger's, known keys still serve."""
    new = SigningKey.es256("ec-2")
    verify(key, settings, clock)
    with nas_down(nas):
        for _ in range(3):
            with pytest.raises(KeysUnavailableError):
                verify(new, settings, clock)
            verify(key, settings, clock)
        assert nas.count == 2
    nas.keys = [new]
    clock.at += 30
    verify(new, settings, clock)


def test_while_one_renews_the_others_do_not_wait(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """When the keys' time is up and NAS is slow, one fire waits for it and the others use what is cached."""
    verify(key, settings, clock)
    clock.at += 601
    nas.delay_s = 1.0
    renewing = threading.Thread(target=verify, args=(key, settings, clock))
    renewing.start()
    while nas.count < 2:
        time.sleep(0.005)
    verify(key, settings, clock)
    assert renewing.is_alive()
    renewing.join()
    assert nas.count == 2


def test_request_shows_who_asks_and_no_secret(
    key: SigningKey,
    nas: JwksServer,
    settings: TrustSettings,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The request has our own User-Agent and no credentials, not even those that ~/.netrc has for the host."""
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    verify(key, settings, clock)
    (headers,) = nas.requests
    assert headers["User-Agent"].startswith("chronos-cron/")
    assert not {"authorization", "cookie"} & {name.lower() for name in headers}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(
    status: int, key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """Keys from where NAS points to are not NAS's keys: the second server is never asked."""
    with serve_jwks(key) as elsewhere:
        nas.status, nas.headers["Location"] = status, elsewhere.url
        with pytest.raises(KeysUnavailableError, match="redirects are not followed"):
            verify(key, settings, clock)
        assert elsewhere.count == 0


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404, 429, 500])
def test_any_answer_but_200_is_no_keys(
    status: int, key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """A refusal of the key endpoint says nothing about the token."""
    nas.status = status
    with pytest.raises(KeysUnavailableError, match=str(status)):
        verify(key, settings, clock)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"keys": []}', b"[" * 9000, b"\xff", b'{"keys": [7]}']
)
def test_answers_without_keys(
    body: bytes, key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """An answer that holds no usable key leaves what is cached alone."""
    nas.body = body
    with pytest.raises(KeysUnavailableError, match="cannot be used"):
        verify(key, settings, clock)
    clock.at, nas.body = clock.at + 5, None
    verify(key, settings, clock)
    clock.at, nas.body = clock.at + 601, body
    verify(key, settings, clock)


def test_answer_that_is_too_large(key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock) -> None:
    """No more than 256 KiB are read, even of a valid JWKS."""
    nas.body = json.dumps(key.jwks()).encode() + b" " * 300_000
    with pytest.raises(KeysUnavailableError, match="larger than 262144 bytes"):
        verify(key, settings, clock)


@pytest.mark.parametrize("slowness", [{"delay_s": 3.0}, {"drip_s": 0.02}])
def test_time_limit_counts_for_the_whole_request(
    slowness: dict[str, float], key: SigningKey, nas: JwksServer, tmp_path: Path, clock: Clock
) -> None:
    """A server that is silent, or drips a byte now and then, is left after the time for one request."""
    for name, value in slowness.items():
        setattr(nas, name, value)
    nas.body = b" " * 500
    began = time.monotonic()
    with pytest.raises(KeysUnavailableError, match=r"within 0\.3 s|took too long"):
        verify(key, make_settings(tmp_path, nas.url, fetch_timeout_s=0.3), clock)
    assert time.monotonic() - began < 2.5


def test_nobody_listens(key: SigningKey, nas: JwksServer, tmp_path: Path, clock: Clock) -> None:
    """A refused connection is said in a few words."""
    with serve_jwks() as gone:
        url = gone.url
    with pytest.raises(KeysUnavailableError) as caught:
        verify(key, make_settings(tmp_path, url), clock)
    assert caught.value.message == f"the keys at {url} could not be fetched: the connection failed"


def damage(document: dict[str, Any]) -> list[bytes]:
    texts = [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 9000]
    changes: list[dict[str, Any]] = [
        {"url": "https://other.example.com"},
        {"keys": 7},
        {"keys": [7, {"kty": "oct", "k": "AAAA"}]},
        {"keys": []},
        {"fetched_at": "now"},
        {"lifetime_s": None},
        {"attempts": []},
        {"ok": "yes"},
    ]
    return texts + [json.dumps({**document, **change}).encode() for change in changes]


def test_damaged_cache_is_ignored_and_replaced(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """Whatever stands in the cache file, the keys are fetched and the file is good again."""
    verify(key, settings, clock)
    path = cache_file(settings)
    good = json.loads(path.read_bytes())
    for number, data in enumerate(damage(good)):
        path.write_bytes(data)
        verify(key, settings, clock)
        assert nas.count == number + 2
        assert json.loads(path.read_bytes())["keys"] == good["keys"]


def test_cache_that_others_may_write_is_not_believed(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """A cache file open to other users could hold their keys: it is replaced by one that is not."""
    stranger = SigningKey.es256("ec-1")
    verify(key, settings, clock)
    path = cache_file(settings)
    path.write_text(
        path.read_text().replace(key.jwk()["x"], stranger.jwk()["x"]).replace(key.jwk()["y"], stranger.jwk()["y"])
    )
    path.chmod(0o666)
    verify(key, settings, clock)
    assert nas.count == 2
    assert stat.S_IMODE(cache_file(settings).stat().st_mode) == 0o600
    assert stat.S_IMODE((settings.cache_dir / "jwks").stat().st_mode) == 0o700


def test_nothing_but_the_cache_and_its_lock_stays(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """Writing the cache leaves no temporary file, and only public key material."""
    for _ in range(3):
        verify(key, settings, clock)
        clock.at += 601
    assert {path.suffix for path in (settings.cache_dir / "jwks").iterdir()} == {".json", ".lock"}
    assert set(json.loads(cache_file(settings).read_text())["keys"][0]) == {"kty", "crv", "x", "y", "kid", "alg"}


def test_cache_folder_that_cannot_be_made(
    key: SigningKey, nas: JwksServer, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a cache a one-shot process asks each time and says why; a process that stays keeps the keys in memory."""
    (tmp_path / "cache").write_text("a file")
    settings = make_settings(tmp_path, nas.url)
    for count in (1, 2):
        verify(key, settings, clock)
        assert nas.count == count
    assert all("cannot be used (Not a directory)" in message for message in caplog.messages)
    judge = get_fire_verifier(settings)
    caplog.clear()
    for _ in range(5):
        judge(key.token())
        with pytest.raises(UnknownKeyError):
            judge(SigningKey.es256("other").token())
    assert nas.count == 4  # once for the keys, once for the unknown one
    assert len(caplog.messages) == 1


def test_cache_file_that_cannot_be_replaced(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder in the place of the cache file costs a warning and no fire."""
    verify(key, settings, clock)
    path = cache_file(settings)
    path.unlink()
    path.mkdir()
    caplog.set_level(logging.WARNING)
    verify(key, settings, clock)
    assert "keys are fetched more often" in caplog.text
    assert {entry.suffix for entry in (settings.cache_dir / "jwks").iterdir()} == {".json", ".lock"}


def test_clock_set_back(key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock) -> None:
    """Keys from the future have no known age: they are fetched anew, and a cool-down from the future has no end."""
    verify(key, settings, clock)
    with pytest.raises(UnknownKeyError):
        verify(SigningKey.es256("other"), settings, clock)
    clock.at -= 7 * 86_400
    verify(key, settings, clock)
    assert nas.count == 3
    with pytest.raises(UnknownKeyError):
        verify(SigningKey.es256("other"), settings, clock)
    assert nas.count == 4


def test_dead_process_does_not_hold_the_lock(
    key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock
) -> None:
    """A lock file that somebody left behind is no lock; one that somebody holds is waited for, but not for ever."""
    folder = settings.cache_dir / "jwks"
    verify(key, settings, clock)
    (lock,) = folder.glob("*.lock")
    cache_file(settings).unlink()
    verify(key, settings, clock)
    cache_file(settings).unlink()
    descriptor = os.open(lock, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(KeysUnavailableError, match="another process"):
            verify(key, make_settings(settings.cache_dir.parent, nas.url, fetch_timeout_s=0.0), clock)
    finally:
        os.close(descriptor)
    assert nas.count == 2


def test_two_key_urls_do_not_mix(key: SigningKey, nas: JwksServer, settings: TrustSettings, clock: Clock) -> None:
    """One cache folder serves several NAS, each with its own keys."""
    other = SigningKey.es256("ec-1")
    with serve_jwks(other) as second:
        verify(key, settings, clock)
        verify(other, make_settings(settings.cache_dir.parent, second.url), clock)
        assert (nas.count, second.count) == (1, 1)


def test_self_signed_certificate_is_refused(key: SigningKey, tmp_path: Path, clock: Clock) -> None:
    """An https server that nobody vouches for is not NAS."""
    import ssl

    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serve_jwks(key, tls=context) as server:
        assert server.url.startswith("https://")
        with pytest.raises(KeysUnavailableError, match="certificate was not accepted"):
            verify(key, make_settings(tmp_path, server.url), clock)
        assert server.count == 0


def self_signed(tmp_path: Path) -> Path:
    from datetime import timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    key = SigningKey.es256()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key.private, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_text(key.private_pem + certificate.public_bytes(Encoding.PEM).decode())
    return path
