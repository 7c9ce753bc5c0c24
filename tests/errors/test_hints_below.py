"""No hint below the commands that is not the cure: what a part of the house refuses it takes as its hint says."""

from __future__ import annotations

import io
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chronos_cli.callback.request import parse_fire, read_body
from chronos_cli.config.zone import machine_zone
from chronos_cli.core.edits import JobDraft, new_record
from chronos_cli.core.policy import Policy
from chronos_cli.core.schedule import Cron
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.errors import ChronosError
from chronos_cli.nas_client.client import NasClient
from chronos_cli.nas_client.tokens import HomeTokens
from chronos_cli.nas_server.keys import KeyAlgorithm, KeyRing
from chronos_cli.nas_server.timers.sqlite import SqliteBackend
from chronos_cli.running.lock_place import LockPlace
from chronos_cli.store.bucket import BucketStore, _checked_endpoint
from chronos_cli.store.open import open_store
from chronos_cli.trust.keys import file_keys, static_keys
from chronos_cli.trust.settings import TrustSettings
from chronos_cli.trust.tokens import check_binding, verify_fire_token
from chronos_cli.trust.verifier import call_verifier, load_verifier
from tests.conftest import require_module
from tests.fire_tokens import AUDIENCE, ISSUER, SigningKey

HERE = __name__
NO_FUNCTION = 5
KEY = SigningKey.es256()


def judge(*_, **__):
    """A verifier that judges."""
    return {"purpose": "cron_fire"}


def _made(schedule, year):
    draft = JobDraft(job_id="a", name="a", schedule=schedule, zone=UTC, zone_name="UTC", policy=Policy())
    return new_record(draft, now=datetime(year, 12, 31, tzinfo=UTC), token="t", defaults=Policy())


def fails(*_, **__):
    """One that fails."""
    raise ZeroDivisionError


def _settings(**more):
    return TrustSettings(**{"expected_audience": "a", "issuer": "i", "keys": "", "cache_dir": Path("/nowhere"), **more})


def _judged(token, **more):
    settings = _settings(**{"expected_audience": AUDIENCE, "issuer": ISSUER, "keys": json.dumps(KEY.jwks()), **more})
    return verify_fire_token(token, settings)


def _aged(by):
    return KEY.token(now=time.time() + by)


def _bound(*, require):
    check_binding(_judged(_aged(0)), "a", None, _settings(require_bound=require))


def nobody(*_, **__):
    """A verifier that refuses."""


def _keys(folder, text):
    (folder / "keys").write_text(text)
    return file_keys(str(folder / "keys"), "ES256", KEY.kid)


def _token(folder, text=None, **more):
    if text is not None:
        (folder / "t").write_text(text)
    return HomeTokens(home=str(folder), environ={}, **more).get(within_s=5)


def _login(folder, **login):
    (folder / "auth.json").write_text(json.dumps({"providers": {"nous": login}} if login else {}))
    return _token(folder)


def _command(folder, script):
    (folder / "c").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "c").chmod(0o755)
    return _token(folder, command=(str(folder / "c"),))


def _database(folder, good):
    (folder / "x").unlink(missing_ok=True)
    if not good:
        (folder / "x").write_text("no database, but long enough to be looked at as one" * 40)
    backend = SqliteBackend(folder / "x")
    backend.prepare()
    backend.close()


def _ring(folder, step):
    ring = KeyRing(folder, lambda: 1000.0)
    if step == "none":
        return ring.signing()
    ring.rotate(KeyAlgorithm.ES256, after=0) if step == "rotated" else ring.prepare()
    (record,) = ring.records()
    path = folder / f"{record.kid}.pem"
    if step == "gone":
        path.rename(folder / "kept")
    if step == "back":
        (folder / "kept").rename(path)
    if step == "open":
        path.chmod(0o644)
    if step == "closed":
        path.chmod(0o600)
    return KeyRing(folder, lambda: 1000.0).signing()


ONE = SigningKey.es256().private_pem
LOGIN = {"access_token": "t", "expires_at": "2099-01-01T00:00:00Z"}

CALLS = [
    # file, words of the hint, what is refused, and what the hint says
    ("config/zone.py", "set timezone in config.yaml or CHRONOS_TIMEZONE to a name", lambda _: machine_zone({"TZ": "Mars"}, etc="/nowhere"), lambda _: machine_zone({"TZ": "Europe/Berlin"}, etc="/nowhere")),
    ("callback/request.py", "send the JSON object of a fire, with its length, as NAS does", lambda _: read_body({}), lambda _: read_body({"CONTENT_LENGTH": "2", "wsgi.input": io.BytesIO(b"{}")})),
    ("callback/request.py", "send the JSON object of a fire, with its length, as NAS does", lambda _: parse_fire(b"[]"), lambda _: parse_fire(b"{}")),
    ("callback/request.py", "send at most 64 KiB", lambda _: read_body({"CONTENT_LENGTH": "65537"}), lambda _: read_body({"CONTENT_LENGTH": "65536", "wsgi.input": io.BytesIO(b" " * 65536)})),
    ("core/edits.py", "give one that does", lambda _: _made(Cron(expr="0 0 1 1 *"), 9999), lambda _: _made(Cron(expr="0 0 1 1 *"), 9998)),
    ("core/schedule_text.py", "give a nearer time", lambda _: parse_schedule("in 90d", now=datetime(9999, 12, 31, tzinfo=UTC), zone=UTC), lambda _: parse_schedule("in 1h", now=datetime(9999, 12, 31, tzinfo=UTC), zone=UTC)),
    ("nas_client/client.py", "set cron.chronos.portal_url or CHRONOS_PORTAL_URL", lambda _: NasClient("", None), lambda _: NasClient("https://nas.example", None)),
    ("errors.py", "put that setting right", lambda _: NasClient("ftp://x", None), lambda _: NasClient("https://nas.example", None)),
    ("nas_client/tokens.py", "it must hold the token alone", lambda at: _token(at, "x" * 200_000, token_file=str(at / "t")), lambda at: _token(at, "x", token_file=str(at / "t"))),
    ("nas_client/tokens.py", "log in with hermes, or", _login, lambda at: _login(at, **LOGIN)),
    ("nas_client/tokens.py", "let hermes renew it, or", lambda at: _login(at, access_token="t", expires_at="2020-01-01T00:00:00Z"), lambda at: _login(at, **LOGIN)),
    ("nas_client/tokens.py", "log in again, or", lambda at: ((at / "auth.json").write_text("no json"), _token(at)), lambda at: _login(at, **LOGIN)),
    ("nas_client/token_command.py", "it must print the token alone", lambda at: _command(at, "yes | head -c 100000"), lambda at: _command(at, "echo t")),
    ("nas_client/token_command.py", "name a program that can be started in cron.chronos.token_command", lambda at: _token(at, command=("/nowhere/c",)), lambda at: _command(at, "echo t")),
    ("nas_client/token_command.py", "run it by hand to see what it prints", lambda at: _command(at, "exit 3"), lambda at: _command(at, "echo t")),
    ("nas_server/keys.py", "run `chronos-nas keys rotate --now`", lambda at: _ring(at, "none"), lambda at: _ring(at, "rotated")),
    ("nas_server/keys.py", "put it back", lambda at: _ring(at, "gone"), lambda at: _ring(at, "back")),
    ("nas_server/keys.py", "chmod 600", lambda at: _ring(at, "open"), lambda at: _ring(at, "closed")),
    ("nas_server/keys.py", "RSA or P-256, unencrypted", lambda at: KeyRing(at, lambda: 0.0, pem="x"), lambda at: KeyRing(at, lambda: 0.0, pem=ONE)),
    ("nas_server/keys.py", "RSA of 2,048 bits or more, or P-256", lambda at: KeyRing(at, lambda: 0.0, pem=SigningKey.es384().private_pem), lambda at: KeyRing(at, lambda: 0.0, pem=ONE)),
    ("nas_server/timers/sqlite.py", "name another with --db or --home, or move that file away", lambda at: _database(at, good=False), lambda at: _database(at, good=True)),
    ("running/lock_place.py", "put cron/store.json right", lambda at: LockPlace(None, lambda: "../x").make(), lambda at: LockPlace(at, lambda: "x").make()),
    ("store/open.py", "give a path, or s3://, gs:// or az:// BUCKET/PREFIX", lambda _: open_store("ftp://x", lock_timeout_s=1), lambda at: open_store(at, lock_timeout_s=1)),
    ("store/bucket.py", "give s3://BUCKET/PREFIX, gs://... or az://...", lambda _: BucketStore("s3://"), lambda _: BucketStore("s3://b/x")),
    ("store/bucket.py", "credentials come from the provider's environment variables", lambda _: BucketStore("s3://me:pw@b/x"), lambda _: BucketStore("s3://b/x")),
    ("store/bucket.py", "leave CHRONOS_STORE_ENDPOINT away", lambda _: _checked_endpoint("https://x", "gs"), lambda _: _checked_endpoint("", "gs")),
    ("store/bucket.py", "give https://HOST[:PORT]", lambda _: _checked_endpoint("x", "s3"), lambda _: _checked_endpoint("https://x:9000", "s3")),
    ("store/bucket.py", "use https", lambda _: _checked_endpoint("http://far.example", "s3"), lambda _: _checked_endpoint("https://far.example", "s3")),
    ("trust/token_errors.py", "send `Authorization: Bearer <token>`", lambda _: _judged(None), lambda _: _judged(_aged(0))),
    ("trust/token_errors.py", "set cron.chronos.nas_jwks_url", lambda _: _judged(_aged(0), keys=""), lambda _: _judged(_aged(0))),
    ("trust/token_errors.py", "set cron.chronos.expected_audience", lambda _: _judged(_aged(0), expected_audience=""), lambda _: _judged(_aged(0))),
    ("trust/token_errors.py", "set cron.chronos.portal_url", lambda _: _judged(_aged(0), issuer=""), lambda _: _judged(_aged(0))),
    ("trust/token_errors.py", "set the clock that is wrong: `chronos doctor` compares this machine's with NAS's", lambda _: _judged(_aged(-900)), lambda _: _judged(_aged(0))),
    ("trust/token_errors.py", "set the clock that is wrong: `chronos doctor` compares this machine's with NAS's", lambda _: _judged(KEY.token(nbf=int(time.time()) + 900)), lambda _: _judged(_aged(0))),
    ("trust/token_errors.py", "NAS has to mint short-lived tokens, or raise trust.max_token_life", lambda _: _judged(KEY.token(exp=int(time.time()) + 7000)), lambda _: _judged(KEY.token(exp=int(time.time()) + 7000), max_life_s=9000)),
    ("trust/token_errors.py", "NAS has to put job_id and fire_at into the token, or set trust.require_bound_token to false", lambda _: _bound(require=True), lambda _: _bound(require=False)),
    ("trust/token_errors.py", "see why the function that trust.verifier names does", lambda _: _judged("t", verifier=f"{HERE}:nobody"), lambda _: load_verifier(f"{HERE}:judge")),
    ("trust/keys.py", "the key setting takes an https URL, a PEM file or a JWKS file", lambda at: _keys(at, "x"), lambda at: _keys(at, KEY.public_pem)),
    ("trust/keys.py", "set cron.chronos.nas_jwks_url to a JWKS, a PEM or where one is", lambda _: static_keys("{}", "ES256", KEY.kid), lambda _: static_keys(json.dumps(KEY.jwks()), "ES256", KEY.kid)),
    ("trust/settings.py", "use https (plain http only to this machine", lambda _: _settings(keys="http://far.example/k"), lambda _: _settings(keys="https://far.example/k")),
    ("trust/settings.py", "keys are public: give their URL without user or password", lambda _: _settings(keys="https://a:b@x.example"), lambda _: _settings(keys="https://x.example")),
    ("trust/settings.py", "set cron.chronos.nas_jwks_url without them", lambda _: _settings(keys="https://x y"), lambda _: _settings(keys="https://x")),
    ("trust/settings.py", "or an importable module:function", lambda _: _settings(verifier="x y"), lambda _: _settings(verifier=f"{HERE}:judge")),
    ("trust/settings.py", "write a number of seconds, not negative", lambda _: _settings(max_age_s=-1), lambda _: _settings(max_age_s=1)),
    ("trust/verifier.py", "name a module that can be imported: is its folder on PYTHONPATH?", lambda _: load_verifier("nowhere:x"), lambda _: load_verifier(f"{HERE}:judge")),
    ("trust/verifier.py", "name a function as module:function", lambda _: load_verifier(f"{HERE}:NO_FUNCTION"), lambda _: load_verifier(f"{HERE}:judge")),
    ("trust/verifier.py", "put the function right that it names", lambda _: call_verifier("t", _settings(verifier=f"{HERE}:fails")), lambda _: load_verifier(f"{HERE}:judge")),
]  # fmt: skip


BUCKETS = [words for _, words, *_ in CALLS if words.startswith(("give s3://", "credentials come"))]


@pytest.mark.parametrize(("words", "bad", "good"), [case[1:] for case in CALLS], ids=[case[1] for case in CALLS])
def test_what_a_part_refuses_it_takes_as_its_hint_says(tmp_path, words, bad, good):
    """It is refused with the hint; done as that says, it is taken."""
    if words in BUCKETS:
        require_module("obstore")
    with pytest.raises(ChronosError) as refused:
        bad(tmp_path)
    assert words in refused.value.hint
    good(tmp_path)


IMPORTS = [
    # file, words of the hint, what is wrong with the record, and as the hint says
    ("operations/jobs/transfer.py", "put that record right", lambda job: job.update(id="a b"), lambda job: job.update(id="b")),
    ("operations/jobs/transfer.py", "did you mean", lambda job: job["chronos"].update(polcy={}), lambda job: job["chronos"].update(policy={})),
    ("operations/jobs/transfer.py", "it may have", lambda job: job["chronos"].update(zzzzzz=1), lambda job: job["chronos"].update(env={})),
    ("operations/jobs/transfer.py", "give it a prompt, a script or an action", lambda job: job["chronos"].pop("action"), lambda job: job["chronos"].update(action={"shell": "x"})),
    ("core/job.py", "give it what it shall run: a prompt, a script or an action", lambda job: (job.pop("chronos"), job.update(payload={"kind": "x"})), lambda job: job["chronos"].update(action={"shell": "x"})),
    ("core/policy.py", "put that record right", lambda job: job["chronos"].update(policy=5), lambda job: job["chronos"].update(policy={"retries": 5})),
    ("core/policy.py", "put that record right", lambda job: job["chronos"].update(policy={"overlap": 5}), lambda job: job["chronos"].update(policy={"retries": 5})),
    ("core/job.py", "use an IANA name such as Europe/Berlin, or UTC", lambda job: job["chronos"].update(timezone=5), lambda job: job["chronos"].update(timezone="UTC")),
    ("core/job.py", "name an IANA zone such as Europe/Berlin", lambda job: (job["chronos"].pop("timezone"), job.update(tz=5)), lambda job: job["chronos"].update(timezone="Europe/Berlin")),
    ("core/schedule.py", "give it another schedule", lambda job: job.update(schedule="now and then"), lambda job: job.update(schedule="every 5m")),
]  # fmt: skip


@pytest.mark.parametrize(("words", "bad", "good"), [case[1:] for case in IMPORTS], ids=[case[1] for case in IMPORTS])
def test_a_record_put_right_as_its_hint_says_comes_in(world, words, bad, good):
    """The document is refused with the hint; written as it says, the job comes in."""
    path = world.folder / "jobs"
    right = json.loads(path.read_text())

    def bring(change):
        document = json.loads(json.dumps(right))
        change(document["jobs"][0])
        path.write_text(json.dumps(document))
        return world("job", "import", path, "--dry-run")

    refused = bring(bad)
    assert (refused.code, words in refused.err) == (2, True), refused
    assert bring(good).code == 0
