"""A small NAS that keeps its timers in memory, and can be told to break any one clause of the contract."""

from __future__ import annotations

import json
import secrets
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt

from chronos_cli.contract import parse_fire_at
from chronos_cli.nas_server.keys import KeyAlgorithm, generate

TOKEN = "token-of-the-test"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class _Follow(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, fp, code, msg, headers, new):
        return urllib.request.Request(new, request.data, request.headers, method="POST")


class BrokenNas:
    """`fault` names what it gets wrong; None for nothing. `.url` and TOKEN are what a probe needs."""

    def __init__(self, fault: str | None = None, *, extras: bool = False) -> None:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        self.fault = fault
        self.extras = extras
        self.said: dict[str, dict] = {}
        self.slots: dict[str, dict] = {}
        self.generations: dict[str, int] = {}
        self.asked: set[str] = set()
        self.lock = threading.Lock()
        self.key = load_pem_private_key(generate(KeyAlgorithm.ES256), None)
        self.stopped = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    body = json.loads(raw)
                except ValueError:
                    body = None
                try:
                    self.reply(*outer.post(self.path, body, self.headers.get("Authorization")))
                except ConnectionAbortedError:
                    self.close_connection = True

            def do_GET(self):
                self.reply(*outer.get(self.path, self.headers.get("Authorization")))

            def reply(self, status, document):
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        threading.Thread(target=self.timing, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()

    def refused(self, authorization):
        return self.fault != "no-auth" and authorization != f"Bearer {TOKEN}"

    def get(self, path, authorization):
        if path.startswith("/.well-known"):
            jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
            return 200, {"keys": [jwk | {"kid": "k1", "alg": "ES256", "use": "sig"}]}
        if self.refused(authorization):
            return 401, {"error": "invalid_token"}
        with self.lock:
            armed = [
                {"job_id": job_id, "fire_at": slot["fire_at"], "schedule_id": slot["id"]}
                for job_id, slot in self.slots.items()
            ]
        if self.fault == "wrong-time":
            armed = [one | {"fire_at": "2031-01-01T00:00:00+00:00"} for one in armed]
        if self.fault == "no-armed":
            return 200, {"items": armed}
        if self.fault == "bad-paging" and "limit=2" in path:
            armed = armed[:2]
        if self.extras:
            for entry in armed:
                slot = self.slots.get(entry["job_id"], {})
                if slot.get("failed") and self.fault != "tells-nothing":
                    entry["deliveries"] = {"attempts": 1, "last_error": "answered 503", "next_try": None}
            return 200, {
                "armed": armed,
                "features": ["generation", "arm-in-answer", "spread", "deliveries", "callback-proof"],
            }
        named = (
            ["generation", "keeps-slot"] if self.fault in {"ignores-generation", "forgets-cancel", "not-owed"} else []
        )
        return 200, {"armed": armed, "features": named}

    def post(self, path, body, authorization):
        if self.refused(authorization):
            return 401, {"error": "invalid_token"}
        if path.endswith("/cancel"):
            with self.lock:
                gone = (
                    self.slots.get(body["job_id"])
                    if self.fault == "no-cancel"
                    else self.slots.pop(body["job_id"], None)
                )
            if gone is None and self.fault == "unknown-404":
                return 404, {"error": "unknown"}
            return 200, {"ok": True}
        try:
            when, job_id = parse_fire_at(body["fire_at"]), body["job_id"]
        except (TypeError, KeyError, ValueError):
            if self.fault == "malformed-breaks-off":
                raise ConnectionAbortedError from None
            return (500 if self.fault == "malformed-500" else 400), {"error": "invalid_request"}
        slot = {
            "id": secrets.token_hex(8),
            "fire_at": body["fire_at"],
            "due": when.timestamp(),
            "url": body["agent_callback_url"],
            "accepts": self.extras and "arm-in-answer" in body.get("accepts", []),
            "generation": body.get("generation", 0),
        }
        if self.extras and body.get("tolerance"):
            slot["due"] += body["tolerance"] / 2 if self.fault != "early" else -body["tolerance"]
            if self.fault == "shifts":
                slot["shown"] = "2031-01-01T00:00:00+00:00"
        if self.extras and "callback-proof" in body.get("accepts", []) and self.fault != "never-asks":
            with self.lock:
                new = slot["url"] not in self.asked
                self.asked.add(slot["url"])
            if new or self.fault == "asks-each-time":
                self.challenge(slot["url"])
        with self.lock:
            if self.fault == "forgets-cancel":
                if slot["generation"] < self.generations.get(job_id, 0):
                    return 409, {"error": "stale_generation", "generation": self.generations[job_id]}
                self.generations[job_id] = slot["generation"]
            held = self.slots.get(job_id)
            if not (held and (held["fire_at"] == slot["fire_at"] or self.fault == "no-upsert")):
                self.slots[job_id] = slot
        return 200, {} if self.fault == "no-schedule-id" else {"schedule_id": self.slots[job_id]["id"]}

    def timing(self):
        while not self.stopped.wait(0.05):
            with self.lock:
                due = [(job_id, slot) for job_id, slot in self.slots.items() if slot["due"] <= time.time()]
                for _, slot in due:
                    slot["due"] = time.time() + 3600
            for job_id, slot in due:
                threading.Thread(target=self.relay, args=(job_id, slot), daemon=True).start()

    def relay(self, job_id, slot):
        status, wait = self.call(job_id, slot)
        again = status >= 300 if self.fault != "never-retries" else False
        if slot["accepts"] and status < 300:
            wanted = self.said.pop(job_id, None)
            if wanted is None:
                again, wait = self.fault != "any-2xx", 0.5
            elif self.fault != "drops-next":
                with self.lock:
                    newest = self.slots.get(job_id, slot)["generation"]
                    if wanted["generation"] > newest or self.fault == "takes-old":
                        due = parse_fire_at(wanted["fire_at"]).timestamp()
                        self.slots[job_id] = slot | wanted | {"due": due}
        slot["failed"] = status >= 300
        with self.lock:
            if again or (self.fault == "delivers-twice" and not slot.get("twice")):
                slot["twice"] = True
                slot["due"] = time.time() + (0.2 if self.fault == "ignores-retry-after" else wait)
                if self.fault != "not-owed" and self.slots.get(job_id) is not slot:
                    threading.Timer(wait, self.relay, (job_id, slot)).start()
            elif self.slots.get(job_id) is slot or self.fault == "drops-newer":
                self.slots.pop(job_id, None)

    def challenge(self, url):
        now = int(time.time())
        claims = {"iss": self.url, "aud": "agent:test", "exp": now + 60, "nonce": secrets.token_hex(16)}
        claims["purpose"] = "cron_fire" if self.fault == "asks-with-a-fire" else "callback_proof"
        if self.fault == "asks-without-nonce":
            del claims["nonce"]
        token = jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": "k1"})
        if self.fault == "asks-unsigned":
            token = token.rpartition(".")[0] + "." + "A" * 86
        headers = {"Authorization": f"Bearer {token}"}
        with urllib.request.urlopen(urllib.request.Request(f"{url}/api/cron/proof", b"{}", headers), timeout=5):
            pass

    def call(self, job_id, slot):
        now = int(time.time())
        claims = {
            "iss": "https://other.example" if self.fault == "wrong-issuer" else self.url,
            "aud": "somebody" if self.fault == "wrong-audience" else "agent:test",
            "purpose": "login" if self.fault == "wrong-purpose" else "cron_fire",
            "exp": now + (86400 if self.fault == "long-lived" else 90),
            "job_id": "another" if self.fault == "unbound" else job_id,
            "fire_at": slot["fire_at"],
        }
        token = jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": "k1"})
        if slot["accepts"] and self.fault != "silent":
            token = jwt.encode(claims | {"arm": "answer"}, self.key, algorithm="ES256", headers={"kid": "k1"})
        if self.fault == "symmetric":
            token = jwt.encode(
                claims, "a secret of thirty-two bytes and more", algorithm="HS256", headers={"kid": "k1"}
            )
        shown = "2031-01-01T00:00:00+00:00" if self.fault == "wrong-body" else slot.get("shown", slot["fire_at"])
        request = urllib.request.Request(
            slot["url"] + "/api/cron/fire",
            json.dumps({"job_id": job_id, "fire_at": shown}).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        follows = _Follow if self.fault == "follows-redirects" else _Stay
        # No proxy: looking for one reads the environment, which a test may be changing.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), follows)
        try:
            with opener.open(request, timeout=15) as reply:
                document = json.loads(reply.read() or b"{}")
                if "next" in document:
                    self.said[job_id] = document["next"]
                return reply.status, 1.0
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, float(error.headers.get("Retry-After") or 1)
        except OSError:
            return 599, 1.0
