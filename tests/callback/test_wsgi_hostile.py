"""The outside as an enemy: whatever arrives, one bounded answer leaves, no process starts and no store is touched."""

import io
import json
import sys
from pathlib import Path
from wsgiref.validate import validator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.callback.shim_home import PATH, call, children
from tests.conftest import thoroughly
from tests.fire_tokens import SigningKey

EXPECTED = {200, 400, 401, 404, 405, 413}


class Starved(io.BytesIO):
    """A body whose connection breaks in the middle."""

    def read(self, size=-1):
        raise ConnectionResetError("the client went away")


@pytest.fixture
def no_store(home, monkeypatch):
    """A home whose store must not be touched, and where no process may be started."""

    def touched(*_, **__):
        raise AssertionError("touched before the token held")

    for name in ("read", "create", "replace", "list", "exclusive"):
        monkeypatch.setattr(f"chronos_cli.store.local.LocalStore.{name}", touched)
    monkeypatch.setattr("chronos_cli.running.detach.start_runner", touched)
    home.health_first = home.request(REQUEST_METHOD="GET", path="/healthz")
    return home


@pytest.mark.parametrize(
    "length", ["", "-1", "+5", "0x10", "1e3", " 5", "5 ", "5,5", "\u0665", "\u00b2", "9" * 400, "NaN", "5\r\nX: y"]
)
def test_a_nonsense_length_is_a_400(no_store, length):
    """Only plain digits are a length; without one a server that does not delimit the body is not trusted with it."""
    reply = no_store.request(b'{"job_id": "x"}', CONTENT_LENGTH=length, token=no_store.token(), checked=False)
    assert reply.status in (400, 413)


def test_a_missing_length_is_a_400(no_store):
    """Nobody waits for a body that may never end."""
    assert no_store.request(b'{"job_id": "x"}', CONTENT_LENGTH=None, token=no_store.token()).status == 400


def test_a_short_or_broken_body_is_a_400(no_store):
    """A client that promises more than it sends, or goes away, is not guessed at."""
    token = no_store.token()
    assert no_store.request(b'{"job_id": "x"}', CONTENT_LENGTH="16", token=token).status == 400
    assert no_store.request(b"{}", **{"wsgi.input": Starved()}, token=token).status == 400


def test_a_chunked_body_is_taken_where_the_server_ends_it(home):
    """With `wsgi.input_terminated` the body may come without a length, and is bounded all the same."""
    chunked = {"CONTENT_LENGTH": None, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert home.request(b'{"job_id": "x"}', token=home.token(), **chunked).json["result"] == "gone"
    huge = {**chunked, "wsgi.input": io.BytesIO(b" " * 70_000)}
    assert home.request(token=home.token(), **huge).status == 413


@pytest.mark.parametrize(
    "header",
    [
        "Bearer", "Bearer ", "bearer", "Basic YTpi", "Bearer a b", "Bearer\ta.b.c", "Bearer " + "a" * 70_000, "Bearer a.b.c,Bearer d.e.f",
        "Bearer \x00.\x00.\x00", "Bearer \xff.\xff.\xff", "Digest x", "", " ", "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer ..", "Bearer " + "." * 10_000,
    ],
)  # fmt: skip
def test_an_odd_authorization_is_the_plain_401(no_store, header):
    """No shape of the header leads anywhere."""
    reply = no_store.request(b'{"job_id": "x"}', HTTP_AUTHORIZATION=header, checked=False)
    assert (reply.status, reply.body) == (401, b'{"result": "refused"}')


def test_a_flood_of_headers_changes_nothing(no_store):
    """Other headers are not looked at, however many the server lets in."""
    flood = {f"HTTP_X_{number}": "v" * 200 for number in range(5_000)}
    assert no_store.request(b"{}", **flood).status == 401


def test_the_address_in_a_header_is_not_believed(no_store):
    """Forwarded names, method overrides and paths in headers have no effect."""
    lies = {"HTTP_X_HTTP_METHOD_OVERRIDE": "GET", "HTTP_X_ORIGINAL_URL": "/healthz", "HTTP_X_FORWARDED_PREFIX": "/p/x"}
    assert no_store.request(b"{}", **lies).status == 401


TEXT = st.text(max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=300),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"job_id": JSON}, optional={"fire_at": JSON, "more": JSON}).map(
        lambda value: json.dumps(value).encode()
    ),
)
LATIN = st.text(st.characters(max_codepoint=255), max_size=80)
WORD = st.text("abcdefghijklmnopqrstuvwxyzABC._-0123456789", max_size=30)
HEADERS = st.one_of(
    LATIN, LATIN.map("Bearer {}".format), st.tuples(WORD, WORD, WORD).map(lambda parts: "Bearer " + ".".join(parts))
)
PATHS = st.one_of(
    st.just(PATH), st.just("/healthz"), LATIN.map("/{}".format), LATIN.map(f"/p/{{}}{PATH}".format), st.just("")
)
LENGTHS = st.one_of(st.none(), LATIN, st.integers().map(str))
METHODS = st.one_of(st.just("POST"), st.sampled_from(["GET", "HEAD", "PUT", "BREW", ""]), WORD)


@given(method=METHODS, path=PATHS, header=HEADERS, length=LENGTHS, body=BODIES, data=st.data())
@settings(max_examples=thoroughly(120, 40), deadline=None)
def test_no_request_without_a_token_gets_past_the_door(no_store, method, path, header, length, body, data):
    """Any environ at all: a known status, JSON, the length it says, no exception; the store would raise if touched."""
    said = str(len(body)) if data.draw(st.booleans()) else length
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "HTTP_AUTHORIZATION": header,
        "wsgi.input": io.BytesIO(body),
    }
    if said is not None:
        environ["CONTENT_LENGTH"] = said
    reply = call(no_store.application, checked=False, **environ)
    assert reply.status in EXPECTED - {400, 413} | ({400} if path == PATH else set())
    assert reply.header("Content-Length") == str(len(reply.body)) or method == "HEAD"
    if method != "HEAD":
        json.loads(reply.body)


@given(body=BODIES, length=LENGTHS, exact=st.booleans(), profile=st.one_of(st.none(), WORD))
@settings(max_examples=thoroughly(120, 40), deadline=None)
def test_no_body_with_a_good_token_makes_a_fault(home, body, length, exact, profile):
    """A caller that has a token still gets only the answers of the table, and jobs that do not exist are `gone`."""
    path = PATH if profile is None else f"/p/{profile}{PATH}"
    said = str(len(body)) if exact else length
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "HTTP_AUTHORIZATION": f"Bearer {home.token()}"}
    if said is not None:
        environ["CONTENT_LENGTH"] = said
    reply = call(home.application, checked=False, **environ, **{"wsgi.input": io.BytesIO(body)})
    assert reply.status in EXPECTED
    assert reply.status != 200 or reply.json["result"] == "gone"


def resident_kib():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_thousands_of_junk_requests_start_nothing_and_leave_memory_flat(no_store, capsys):
    """Half bad tokens, half good tokens over malformed bodies: no child, no descriptor, no growth."""
    stranger = SigningKey.es256(kid=no_store.key.kid)
    bad = [stranger.token(iss=no_store.issuer), no_store.token(aud="agent:other"), "a.b.c", "x" * 9000, None]
    bodies = [b"{", b"[" * 60_000, b"\xff" * 1000, b'{"job_id": "../x"}', b'{"job_id": "a", "job_id": "b"}']
    good = no_store.token()
    before = children()

    def junk(rounds):
        for number in range(rounds):
            assert no_store.request(bodies[3], token=bad[number % 5], checked=False).status == 401
            assert no_store.request(bodies[number % 5], token=good, checked=False).status == 400
            if number % 100 == 0:
                capsys.readouterr()

    junk(500)
    start = resident_kib()
    junk(thoroughly(4_500, 1_000))
    assert resident_kib() - start < 4 * 1024
    assert children() == before


def test_the_application_is_what_a_server_expects(home):
    """The validator of the standard library has nothing to object to, on any kind of answer."""
    checked = validator(home.application)
    assert callable(checked)
    for method, path in (("POST", PATH), ("GET", "/healthz"), ("HEAD", "/healthz"), ("GET", "/nothing"), ("GET", PATH)):
        assert home.request(REQUEST_METHOD=method, path=path).status < 500
