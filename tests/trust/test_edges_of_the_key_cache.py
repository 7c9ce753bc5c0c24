"""The cache of NAS's keys at its edges: when NAS is asked, what is believed of a file, and how an answer is read."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest
import requests

from chronos_cli.errors import KeysUnavailableError
from chronos_cli.trust import fetch, jwks
from chronos_cli.trust.fetch import KeyDocument, fetch_jwks
from chronos_cli.trust.jwks import JwksCache, KnownKeys
from chronos_cli.trust.keys import MAX_KEYS_BYTES
from chronos_cli.trust.token_errors import FireTokenError, UnknownKeyError
from chronos_cli.trust.verifier import fire_verifier
from tests.fire_tokens import SigningKey
from tests.trust.test_edges_of_keys import EC, RSA
from tests.trust.trusting import make_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from chronos_cli.trust import TrustSettings

START = 1_800_000_000.0
URL = "https://nas.example.com/keys"
ONE, TWO = EC | {"kid": "1"}, EC | {"kid": "2"}


class Nas:
    """One whose answers a test sets; it counts how often it is asked. `down`: it does not answer."""

    def __init__(self) -> None:
        self.keys, self.max_age, self.down, self.asked = [ONE], None, False, 0

    def __call__(self, url: str, timeout_s: float) -> KeyDocument:
        self.asked += 1
        assert (url, timeout_s) == (URL, 5.0)
        if self.down:
            raise KeysUnavailableError("NAS is down")
        return KeyDocument(body=json.dumps({"keys": self.keys}).encode(), max_age=self.max_age)


class World:
    """A cache at its settings, a clock that stands, and NAS."""

    def __init__(self, settings: TrustSettings, nas: Nas) -> None:
        self.settings, self.nas, self.now = settings, nas, START
        self.cache = self.fresh()

    def fresh(self) -> JwksCache:
        """The cache of another process."""
        return JwksCache(self.settings, clock=lambda: self.now)

    def find(self, kid: str | None = "1", algorithm: str = "ES256") -> Any:
        return self.cache.find(algorithm, kid)

    def asks(self, kid: str | None = "1", *, later: float = 0.0) -> int:
        """How often NAS was asked by a token of that key, `later`; whatever comes of it."""
        self.now += later
        before = self.nas.asked
        with suppress(KeysUnavailableError, UnknownKeyError):
            self.find(kid)
        return self.nas.asked - before

    @property
    def path(self) -> Path:
        (found,) = (self.settings.cache_dir / "jwks").glob("*.json")
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    nas = Nas()
    monkeypatch.setattr(fetch, "fetch_jwks", nas)
    return World(make_settings(tmp_path, URL, max_age_s=600.0, max_stale_s=3600.0, cooldown_s=30.0), nas)


def test_keys_are_asked_for_when_their_time_is_over(world: World) -> None:
    """At its very end, not before."""
    assert world.find() == (ONE,)
    assert [world.asks(later=later) for later in (0, 299.9, 0.2, 299, 1.1)] == [0, 0, 1, 0, 1]
    world.cache = world.fresh()
    assert world.asks() == 0


@pytest.mark.parametrize(
    ("said", "lifetime"), [(None, 300), (0, 60), (59, 60), (61, 61), (600, 600), (601, 600), (10**9, 600)]
)
def test_nas_says_how_long_its_keys_last_within_bounds(world: World, said: int | None, lifetime: int) -> None:
    """From a minute to what is set."""
    world.nas.max_age = said
    world.find()
    known = world.cache.load()
    assert (known.lifetime_s, known.fetched_at, known.asked_at, known.ok, known.attempts) == (
        lifetime,
        START,
        START,
        True,
        1,
    )
    assert (known.fresh(START + lifetime - 1), known.fresh(START + lifetime)) == (True, False)


def test_a_key_that_is_not_known_is_asked_for_every_half_minute(world: World) -> None:
    """By whatever names it; what is known serves meanwhile."""
    world.find()
    assert [world.asks("2", later=later) for later in (1, 1, 28.9, 0.1, 29.9, 0.1)] == [1, 0, 0, 1, 0, 1]
    assert world.find() == (ONE,)
    with pytest.raises(UnknownKeyError) as caught:
        world.find("2")
    assert (caught.value.claim, caught.value.received) == ("kid", "2")
    world.nas.keys = [ONE, TWO]
    world.now += 30
    assert world.find("2") == (TWO,)
    assert world.cache.load().sought_at == world.now


def test_the_first_request_tells_that_a_key_is_unknown(world: World) -> None:
    """Nothing is asked twice for it, and the next half minute begins with what is asked because of it."""
    with pytest.raises(UnknownKeyError):
        world.find("2")
    assert (world.nas.asked, world.cache.load().sought_at) == (1, 0)
    assert [world.asks("2") for _ in range(2)] == [1, 0]


def test_keys_serve_on_while_nas_is_down_and_for_an_hour_at_most(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked every half minute; once nothing serves any more, every five seconds."""
    world.find()
    world.nas.down = True
    assert world.asks(later=300) == 1
    assert "NAS is down; keys fetched 300 s ago serve on" in caplog.text
    assert [world.asks(later=later) for later in (29.9, 0.1, 1)] == [0, 1, 0]
    world.now = START + 300 + 3599
    assert world.find() == (ONE,)
    world.now = START + 300 + 3600
    with pytest.raises(KeysUnavailableError, match="could not be fetched 1 s ago"):
        world.find()
    assert [world.asks(later=later) for later in (3.9, 0.1, 4.9, 0.1)] == [0, 1, 0, 1]
    world.now += 5
    with pytest.raises(KeysUnavailableError, match="NAS is down"):
        world.find()
    world.nas.down = False
    assert world.asks(later=5) == 1
    assert world.find() == (ONE,)


def test_with_keys_that_are_young_an_unknown_one_is_unknown_also_while_nas_is_down(world: World) -> None:
    """NAS was asked for it and did not answer: then nothing is known of it."""
    world.find()
    world.nas.down = True
    with pytest.raises(KeysUnavailableError, match="NAS is down"):
        world.find("2")
    with pytest.raises(KeysUnavailableError, match="none in the cache fits"):
        world.find("2")
    assert world.find() == (ONE,)


def test_what_another_process_asked_meanwhile_is_not_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its answer was that there is no such key."""
    other = world.fresh()
    lock = JwksCache._lock

    def meanwhile(cache: JwksCache, *, wait: bool) -> Any:
        if cache is world.cache:
            other.find("ES256", "1")
        return lock(cache, wait=wait)

    monkeypatch.setattr(JwksCache, "_lock", meanwhile)
    assert world.find() == (ONE,)
    assert world.nas.asked == 1
    world.now += 400
    with pytest.raises(UnknownKeyError):
        world.find("2")
    assert world.nas.asked == 2


def test_of_keys_that_still_serve_one_process_renews_and_nobody_waits(world: World) -> None:
    """Who has none waits, and for the lock no longer than for an answer."""
    world.find()
    world.now += 300
    lock = os.open(world.path.with_suffix(".lock"), os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert world.find() == (ONE,)
        assert world.nas.asked == 1
        waits = [0.0]

        def pause(seconds: float) -> None:
            waits[0] += 1.0
            assert seconds > 0
            if waits[0] == 3:
                fcntl.flock(lock, fcntl.LOCK_UN)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                jwks, "time", SimpleNamespace(monotonic=lambda: waits[0], sleep=pause, time=lambda: world.now)
            )
            assert world.asks("2") == 1
            fcntl.flock(lock, fcntl.LOCK_EX)
            world.now += 60
            with pytest.raises(KeysUnavailableError, match="for too long"):
                world.find("2")
            assert waits[0] == 3 + 7  # six seconds are allowed: past them it is over
    finally:
        os.close(lock)
    assert world.asks("2") == 1


def test_a_lock_is_let_go_and_nothing_stays_open(world: World) -> None:
    """Also where a child has a copy of it; a machine whose files know no locks asks all the same."""
    world.find()
    opened = len(os.listdir("/dev/fd"))  # noqa: PTH208 - numbers
    for _ in range(3):
        world.asks(later=400)
        with world.cache._lock(wait=False) as taken:
            assert taken
            again = world.fresh()._lock(wait=False)
            with again as second:
                assert not second
    assert len(os.listdir("/dev/fd")) == opened  # noqa: PTH208 - numbers
    with pytest.MonkeyPatch.context() as patch:

        def none(*_: object) -> None:
            raise OSError("no locks here")

        patch.setattr(fcntl, "flock", none)
        assert world.asks(later=400) == 1
    with world.cache._lock(wait=False):
        child = os.dup(max(int(name) for name in os.listdir("/dev/fd") if _is_lock(name)))  # noqa: PTH208
    try:
        with world.cache._lock(wait=False) as taken:
            assert taken
    finally:
        os.close(child)


def _is_lock(number: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{number}").endswith(".lock")  # noqa: PTH115 - what is open
    except OSError:
        return False


def test_the_later_of_file_and_memory_counts_and_a_machine_that_cannot_write_is_warned_of_once(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys in memory spare NAS as those of the file do."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left")

    monkeypatch.setattr(jwks, "write_file", full)
    assert world.asks() == 1
    assert caplog.text.count("No space left") == 1
    assert [world.asks(later=later) for later in (1, 299, 1)] == [0, 1, 0]
    assert caplog.text.count("No space left") == 1
    assert world.cache.load().attempts == 2
    monkeypatch.undo()
    monkeypatch.setattr(fetch, "fetch_jwks", world.nas)
    world.asks(later=400)
    assert world.fresh().load().attempts == world.cache.load().attempts == 3


@pytest.mark.parametrize(
    ("mode", "believed"), [(0o600, True), (0o644, True), (0o611, True), (0o620, False), (0o602, False), (0o666, False)]
)
def test_a_file_that_others_may_write_is_not_believed(world: World, mode: int, *, believed: bool) -> None:
    """They could have put their keys there."""
    world.find()
    world.path.chmod(mode)
    assert world.asks() == (0 if believed else 1)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://other"}, {"keys": {}}, {"keys": None}, {"ok": "yes"}, {"attempts": None}, {"attempts": 2**53 + 1}, {"fetched_at": 2**53 + 2},
        {"fetched_at": -(2**53) - 2}, {"lifetime_s": []}, {"keys": [5]}, {"keys": []},
    ],
    ids=str,
)  # fmt: skip
def test_a_file_that_is_not_what_we_write_is_as_good_as_none(world: World, change: dict[str, Any]) -> None:
    """Whoever wrote it."""
    world.find()
    stored = json.loads(world.path.read_text())
    world.path.write_text(json.dumps(stored | change))
    assert world.asks() == 1


def test_keys_of_no_lifetime_are_asked_for_each_time_and_an_unknown_one_is_unknown(
    world: World, tmp_path: Path
) -> None:
    """It was NAS's answer of just now."""
    world.settings = make_settings(tmp_path, URL, max_age_s=0.0)
    world.cache = world.fresh()
    assert [world.asks(), world.asks()] == [1, 1]
    with pytest.raises(UnknownKeyError):
        world.find("2")


def test_once_nothing_serves_nas_is_asked_after_five_seconds_from_the_very_end(world: World) -> None:
    """Not after the half minute of what still serves."""
    world.find()
    world.nas.down = True
    assert [world.asks(later=later) for later in (300 + 3594, 6)] == [1, 1]


def test_without_a_folder_keys_are_kept_in_memory_beyond_their_time(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """As they would be in a file; that is told once."""
    world.settings.cache_dir.write_text("a file")
    assert [world.asks(later=later) for later in (0, 1, 300)] == [1, 0, 1]
    world.nas.down = True
    assert world.asks(later=300) == 1
    assert world.find() == (ONE,)
    assert caplog.text.count("cannot be used") == 1


def test_a_lock_that_cannot_be_taken_is_told_and_its_keys_are_had_all_the_same(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Something else has its name."""
    world.find()
    lock = world.path.with_suffix(".lock")
    lock.unlink()
    lock.mkdir()
    assert [world.asks(later=300), world.asks(later=300)] == [1, 1]
    assert caplog.text.count("cannot be used") == 1
    assert world.fresh().load().attempts == 3


def test_a_verifier_of_these_keys_goes_by_the_clock_that_it_is_given(world: World) -> None:
    """For the keys and for the token."""
    key = SigningKey.es256()
    world.nas.keys = [key.jwk()]
    verify = fire_verifier(world.settings, now=lambda: datetime.fromtimestamp(world.now, UTC))
    assert verify(key.token(now=START, job_id="j")).job_id == "j"
    world.now += 300
    with pytest.raises(FireTokenError, match="has expired"):
        verify(key.token(now=START))
    assert world.nas.asked == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_cache_is_that_of_its_folders_owner_and_only_his_and_roots_keys_are_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has just served a callback as root."""
    world.find()
    os.chown(world.path.parent, 12345, 54321)
    for left in world.path.parent.iterdir():
        left.unlink()
    world.find()
    files = list(world.path.parent.iterdir())
    assert {(path.stat().st_uid, path.stat().st_gid) for path in files} == {(12345, 54321)}
    assert len(files) == 2
    assert world.asks() == 1  # it is neither root's nor ours
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert world.asks() == 0
    os.chown(world.path, 0, 0)
    assert world.asks() == 0
    os.chown(world.path, 1, 1)
    assert world.fresh().load() == KnownKeys()


def test_a_file_may_not_make_keys_last_longer_nor_hide_good_ones(world: World) -> None:
    """It is read as it was written, and no further."""
    world.find()
    stored = json.loads(world.path.read_text())
    private = ONE | {"d": "secret"}
    world.path.write_text(
        json.dumps(stored | {"lifetime_s": 10**6, "keys": [5, private, RSA], "asked_at": 2**53, "later": 1})
    )
    known = world.fresh().load()
    assert (known.lifetime_s, known.keys, known.asked_at) == (600.0, (ONE, RSA), 2**53)
    world.path.write_text("[]")
    assert world.fresh().load() == KnownKeys()


def test_a_clock_that_was_set_back_far_knows_no_age(world: World) -> None:
    """By less than five minutes it does."""
    known = KnownKeys(keys=(ONE,), fetched_at=START, lifetime_s=300)
    assert [known.age(START + by) for by in (0, -299.9, 5)] == [0, pytest.approx(-299.9), 5]
    assert [known.age(START - 300), KnownKeys(fetched_at=START).age(START)] == [float("inf")] * 2
    world.find()
    world.asks("2")
    assert [world.asks("2", later=-299), world.asks("2", later=-1), world.asks("2", later=-400)] == [1, 1, 1]


class Response:
    """An answer of requests', as far as it is read."""

    status_code, is_redirect = 200, False

    def __init__(self, *chunks: bytes, **headers: str) -> None:
        self.chunks, self.headers = chunks, {name.replace("_", "-"): value for name, value in headers.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def iter_content(self, size: int) -> Iterator[bytes]:
        assert size == 16 * 1024
        return iter(self.chunks)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Answers, or what is raised in their place, and afterwards the sessions and options of each request."""
    told: list[Any] = []

    def get(session: Any, url: str, **options: Any) -> Response:
        answer = told.pop(0)
        told.append((session, url, options))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(requests.Session, "get", get)
    return told


def test_a_request_follows_nothing_and_sends_nothing_secret(answers: list[Any]) -> None:
    """For this machine no proxy is asked, for another those of the environment are."""
    others = set(threading.enumerate())  # of other tests, one of which may still be fetching
    answers += [Response(b"a", b"b", Cache_Control="max-age=7")]
    assert fetch_jwks(URL, 5.0) == KeyDocument(body=b"ab", max_age=7)
    session, url, options = answers.pop()
    request = SimpleNamespace()
    assert (url, options["timeout"], options["allow_redirects"], options["stream"]) == (URL, 5.0, False, True)
    assert (session.trust_env, session.auth(request)) == (True, request)
    assert set(options["headers"]) == {"User-Agent", "Accept"}
    answers += [Response(b"")]
    assert fetch_jwks("http://127.0.0.1/x", 5.0) == KeyDocument(body=b"", max_age=None)
    assert answers.pop()[0].trust_env is False
    assert all(thread.name != "chronos-jwks" for thread in set(threading.enumerate()) - others)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (requests.Timeout(), "no answer within 5 s"), (requests.exceptions.SSLError(), "certificate was not accepted"),
        (requests.ConnectionError(), "the connection failed"), (requests.exceptions.InvalidURL(), "InvalidURL"),
    ],
)  # fmt: skip
def test_a_request_that_fails_says_why(answers: list[Any], error: Exception, said: str) -> None:
    """In words, and in one line."""
    answers.append(error)
    with pytest.raises(KeysUnavailableError, match=said):
        fetch_jwks(URL, 5.0)


def test_an_answer_of_another_status_is_none(answers: list[Any]) -> None:
    """One that leads elsewhere says so."""
    for redirects in (True, False):
        answer = Response(b"x")
        answer.status_code, answer.is_redirect = 302, redirects
        answers[:] = [answer]
        with pytest.raises(KeysUnavailableError) as caught:
            fetch_jwks(URL, 5.0)
        assert ("not followed" in caught.value.message) is redirects


def test_an_answer_is_bounded_in_size_and_time(answers: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """By its whole, however it comes."""
    half = b"x" * (MAX_KEYS_BYTES // 2)
    answers += [Response(half, half)]
    assert len(fetch_jwks(URL, 5.0).body) == MAX_KEYS_BYTES
    answers[:] = [Response(half, half, b"x")]
    with pytest.raises(KeysUnavailableError, match="larger than"):
        fetch_jwks(URL, 5.0)
    times = iter([10.0, 15.0, 15.0, 10.0, 15.1])
    monkeypatch.setattr(fetch, "time", SimpleNamespace(monotonic=lambda: next(times)))
    answers[:] = [Response(b"x", b"y")]
    assert fetch_jwks(URL, 5.0).body == b"xy"
    answers[:] = [Response(b"x")]
    with pytest.raises(KeysUnavailableError, match="took too long"):
        fetch_jwks(URL, 5.0)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("", None), ("public", None), ("max-age=60", 60), ("public, MAX-AGE=5 ", 5), ('max-age="7"', 7), ("no-store", 0),
        ("max-age=60, no-cache", 0), ("no-cache, max-age=60", 0), ("max-age=x", None), ("max-age=-1", None), ("s-maxage=5", None),
        ("max-age=9999999999", 9_999_999_999), ("max-age=10000000000", None), ("max-age=٣", None), ("max-age=1, max-age=2", 2),
        ("max-age", None), ("max-age=60;x", None),
    ],
)  # fmt: skip
def test_what_an_answer_says_of_its_age(text: str, age: int | None) -> None:
    """As far as it is a number of seconds; what is not to be kept has none."""
    assert fetch._max_age(Response(Cache_Control=text)) == age  # type: ignore[arg-type]
