"""The two HTTP interfaces in OpenAPI: what a NAS answers agents, and what the callback answers NAS."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import yaml

from chronos_cli import contract
from chronos_cli.callback.modes import Mode
from chronos_cli.contract import (
    BATCH_PATH,
    CANCEL_PATH,
    FIRE_PATH,
    JWKS_PATH,
    KEEP,
    LIST_PATH,
    MAX_BATCH,
    MAX_DEDUP_KEY,
    MAX_FIRE_BODY_BYTES,
    MAX_GENERATION,
    MAX_TOLERANCE_S,
    PROOF_PATH,
    PROOF_PURPOSE,
    PROVISION_PATH,
)
from chronos_cli.core.decision import Outcome
from chronos_cli.core.occurrence import MAX_RETRY_AFTER_S
from chronos_cli.nas_server.addresses import MAX_URL
from chronos_cli.nas_server.bodies import MAX_ACCEPTS
from chronos_cli.nas_server.http.agent_calls import MAX_PAGE
from chronos_cli.nas_server.keys import KeyAlgorithm
from chronos_cli.nas_server.timers.model import TimerState
from chronos_cli.operations.firing.answering import ACCEPTED
from described.shapes import (
    FLAG,
    INSTANT,
    OPEN,
    PACKAGE,
    TEXT,
    WHOLE,
    Part,
    many,
    maybe,
    obj,
    referred,
    said,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

SOME = {**TEXT, "minLength": 1}
NATURAL = {**WHOLE, "minimum": 0}
TRUE = {"const": True}
JOB_PATTERN = "^" + contract._JOB_ID.pattern.replace("\\Z", "$")  # noqa: SLF001 - the one pattern of a job's id
PROOF = said({**TEXT, "pattern": "^[0-9a-f]{64}$"}, "SHA-256 of callback-proof:NONCE:AUDIENCE, in hexadecimal")

JOB_ID = Part(name="JobId", shape={**TEXT, "pattern": JOB_PATTERN})
FIRE_AT = Part(
    name="FireAt",
    shape={**TEXT, "maxLength": 64, "description": "ISO 8601 with an offset, whole seconds; echoed as given.",
           "examples": ["2026-11-20T15:34:15+00:00"]},
)  # fmt: skip
NUMBER_OF_WISH = {**NATURAL, "maximum": MAX_GENERATION}
GENERATION = Part(name="Generation", shape=said(maybe(NUMBER_OF_WISH), "Orders the wishes for one job."))
SCHEDULE_ID = Part(name="ScheduleId", shape=SOME)
STATE = Part(name="State", shape=word(TimerState))
FEATURES = Part(name="Features", shape={**many(TEXT), "uniqueItems": True})
DEDUP_KEY = {**SOME, "maxLength": MAX_DEDUP_KEY}
TOLERANCE = Part(
    name="Tolerance",
    shape=said(maybe({**NATURAL, "maximum": MAX_TOLERANCE_S}), "The fire may come up to so many seconds after fire_at, "
               "by a part that agent and job decide."),
)  # fmt: skip
ACCEPTS = Part(
    name="Accepts",
    shape={**many(TEXT, "Features that this job's callbacks may use; arm-in-answer and callback-proof are known, "
                  "others are ignored."), "type": ["array", "null"], "maxItems": MAX_ACCEPTS},
)  # fmt: skip


def _open(members: dict[str, Any], text: str = "") -> dict[str, Any]:
    return obj(members, text, open_=True)


NEXT = Part(
    name="Next",
    shape={
        "description": "What a 2xx has to carry where the token says `arm` `answer`.",
        "oneOf": [
            _open({"fire_at": FIRE_AT, "dedup_key": DEDUP_KEY, "generation": NUMBER_OF_WISH, "tolerance?": TOLERANCE}),
            _open({"none": TRUE, "generation": NUMBER_OF_WISH}, "The job has no wake."),
            {"const": KEEP, "description": "Leave what is there."},
        ],
    },
    by=("bodies.next_wake", "bodies._instant", "bodies._generation", "bodies._tolerance",
        "bodies.next_wake(dedup_key)"),
)  # fmt: skip
PROVISION = Part(
    name="Provision",
    shape=_open({
        "job_id": JOB_ID,
        "fire_at": FIRE_AT,
        "agent_callback_url": said({**TEXT, "maxLength": MAX_URL}, "https, to a public address, unless the operator "
                                   "allows more."),
        "dedup_key?": said(maybe(DEDUP_KEY), "job_id:fire_at; instants decide."),
        "generation?": GENERATION,
        "accepts?": ACCEPTS,
        "tolerance?": TOLERANCE,
    }),
    by=("bodies.provision", "bodies._instant", "bodies._generation", "bodies._accepts", "bodies._tolerance"),
)  # fmt: skip
CANCEL = Part(
    name="Cancel",
    shape=_open({"job_id": JOB_ID, "generation?": GENERATION}),
    by=("bodies.cancel", "bodies._generation"),
)
BATCH = Part(
    name="Batch",
    shape=_open({"items": said(many({
        "description": 'A Provision or a Cancel, with `"op": "provision"` or `"op": "cancel"`. One that is malformed '
        "is refused in its place of the results, with the batch as a whole still 200.",
    }), f"At most {MAX_BATCH:,}; more are 413.")}),
    by=("bodies.batch",),
)  # fmt: skip
HELD = {"schedule_id": SCHEDULE_ID, "state": STATE}
DROPPED = {"cancelled": NATURAL}
PROVISIONED = Part(
    name="Provisioned",
    shape=_open({**HELD, "features": FEATURES}),
    by=("agent_calls._document(schedule_id state)", "AgentResponder._one"),
)
CANCELLED = Part(
    name="Cancelled",
    shape=_open({"ok": TRUE, **DROPPED}),
    by=("agent_calls._document(cancelled)", "AgentResponder._one"),
)
LIST = Part(
    name="List",
    shape=_open({
        "armed": many(_open({
            "job_id": JOB_ID,
            "fire_at": FIRE_AT,
            **HELD,
            "deliveries?": _open(
                {
                    "fire_at": FIRE_AT,
                    "attempts": {**WHOLE, "minimum": 1},
                    "last_error": maybe(TEXT),
                    "next_try": said(maybe(TEXT), "ISO 8601; null: right now."),
                },
                "A fire of the job that failed and is still owed.",
            ),
        })),
        "features": FEATURES,
        "next_cursor?": said(TEXT, "Absent on the last page."),
    }),
    by=("AgentResponder.list", "agent_calls._entry"),
)  # fmt: skip


def refusals() -> dict[str, set[int]]:
    """Return the codes of every refusal of this server, and the statuses that each comes with, from its source."""
    found: dict[str, set[int]] = {}
    for path in sorted((PACKAGE / "nas_server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Refusal", "BadRequestError"}:
                words = {passed.arg: passed.value for passed in node.keywords}
                codes = _codes(words.get("error", ast.Constant("invalid_request")))
                status = words.get("status", ast.Constant(400))
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "(code, text)":
                codes, status = _codes(node.value), ast.Constant(0)  # what the reader of HTTP refuses, of any status
            else:
                continue
            for code in codes:
                found.setdefault(code, set()).update({status.value} if isinstance(status, ast.Constant) else ())
    return found


def _codes(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    if isinstance(node, ast.IfExp):
        return _codes(node.body) | _codes(node.orelse)
    if isinstance(node, ast.Tuple):
        return _codes(node.elts[0])
    named = getattr(contract, ast.unparse(node), None)
    return {named} if isinstance(named, str) else set()


CODE = Part(
    name="Code",
    shape=said(word(sorted(refusals())), "Why a request is refused. More may come; the status says whether to try "
               "again."),
)  # fmt: skip
REFUSED = {
    "error": CODE,
    "message": TEXT,
    "generation?": said(WHOLE, "With `stale_generation`: the highest that was seen."),
    "limit?": said(WHOLE, "With `too_many_timers`: how many the agent may hold."),
    "retry_after?": said(WHOLE, "In seconds, as the header says it."),
}
EXTRAS = ("decide.decide(generation)", "decide._provision(limit)", "proof_gate._refusal(retry_after)")
REFUSAL = Part(name="Refusal", shape=_open(REFUSED), by=("web.refuse", *EXTRAS))
RESULTS = Part(
    name="Results",
    shape=_open({
        "results": many({"oneOf": [
            _open({"ok": TRUE, **HELD}),
            _open({"ok": TRUE, **DROPPED}),
            _open({"ok": {"const": False}, "status": WHOLE, **REFUSED}),
        ]}),
        "features": FEATURES,
    }),
    by=("AgentResponder.batch", "agent_calls._document", *EXTRAS),
)  # fmt: skip
KEY = Part(
    name="Key",
    shape=_open({"kty": word("RSA", "EC"), "kid": TEXT, "alg": word(KeyAlgorithm), "use": {"const": "sig"}}),
)

# -- the callback ------------------------------------------------------------------------------------------------------

RETRY_AFTER = {**WHOLE, "minimum": 1, "maximum": MAX_RETRY_AFTER_S}
FIRE = Part(
    name="Fire",
    shape=_open({"job_id": {**TEXT, "pattern": JOB_PATTERN}, "fire_at?": {
        "description": "ISO 8601 with offset; anything else, of any type, means whatever is due",
    }}),
    by=("Callback._route(job_id fire_at)",),
)  # fmt: skip
CARRIED = Part(
    name="Carried",
    shape={
        "description": "Only where the token says `arm: answer`: what NAS arms as it settles this delivery",
        "oneOf": [
            {"const": KEEP},
            obj({"none": TRUE, "generation": NATURAL}),
            obj({"fire_at": INSTANT, "dedup_key": TEXT, "generation": NATURAL,
                 "tolerance?": {**NATURAL, "maximum": MAX_TOLERANCE_S}}),
        ],
    },
    by=("carried.next_of",),
)  # fmt: skip
REPORT = Part(
    name="Report",
    shape=obj({
        "result": word(Outcome),
        "job_id": TEXT,
        "fire_at?": INSTANT,
        "reason?": TEXT,
        "retry_after?": RETRY_AFTER,
        "runs?": many(TEXT, "The runs that were started"),
        "status": said(word(ACCEPTED, Outcome), "The contract's word: accepted for a fire that was taken, else the "
                       "result again"),
        "next?": CARRIED,
    }),
    by=("FireReport.as_json", "answering.body_of", "answering.gone_body"),
)  # fmt: skip
ERROR_BODY = {"result": {"const": "error"}, "error": obj({"code": TEXT, "retryable": FLAG})}
BODY = ("answering.error_body",)
ERROR = Part(name="Error", shape=obj(ERROR_BODY), by=(*BODY, "app.fault"))
TOKEN_REFUSED = Part(name="Refused", shape=obj({"result": {"const": "refused"}}), by=("answering.error_body(result)",))
STANDBY = Part(
    name="Standby",
    shape=obj({"result": {"const": "standby"}}, "Verified, but this machine is on standby; the store was not read"),
    by=("answering.error_body(result)",),
)
PLAIN = Part(
    name="Plain", shape=obj({"result": word("not found", "method not allowed")}), by=("Callback._route(result)",)
)
PROVED = Part(name="Proof", shape=obj({"result": {"const": "proved"}, "proof": PROOF}), by=("proof.prove",))
HEALTH = Part(
    name="Health",
    shape=obj({
        "ok": TRUE,
        "version": TEXT,
        "mode": word(Mode),
        "because": TEXT,
        "runner": said(word("started", "warm"), "How the next fire has its runner made"),
        "runner_because": TEXT,
        "standby": FLAG,
    }),
    by=("Callback.health",),
)  # fmt: skip

# -- OpenAPI -----------------------------------------------------------------------------------------------------------

TEXT_HEADER = {"required": True, "schema": {**TEXT, "pattern": "^[0-9]+$"}}
AGENTS = ("invalid_token", contract.REFUSED_FOR_GOOD, "slow_down", "temporary")
BODIES = ("invalid_request", "too_large")


def _json(shape: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": shape}}}


def _answer(text: str, shape: Any = None, **headers: Any) -> dict[str, Any]:
    told = {"headers": {name.replace("_", "-"): value for name, value in headers.items()}} if headers else {}
    return {"description": text, **told, **({} if shape is None else _json(shape))}


LATER = _answer("Not now", REFUSAL, Retry_After=TEXT_HEADER)


def _refused(codes: Iterable[str]) -> dict[str, Any]:
    """Return the answers of a route of NAS that refuses with these codes."""
    known = refusals()
    statuses = sorted({status for code in codes for status in known[code]} - {0})
    kinds = {status: "Later" if status in {429, 503} else "Refused" for status in statuses}
    return {str(status): {"$ref": f"#/components/responses/{kind}"} for status, kind in kinds.items()}


def _call(name: str, text: str, ok: dict[str, Any], codes: Iterable[str] = (), **more: Any) -> dict[str, Any]:
    body = more.pop("body", None)
    sent = {} if body is None else {"requestBody": {"required": True, **_json(body)}}
    return {"operationId": name, "summary": text, **more, **sent, "responses": {"200": ok, **_refused(codes)}}


def nas() -> dict[str, Any]:
    """Return the contract of NAS."""
    unready = _answer("Not ready; the log has the reason", Retry_After=TEXT_HEADER)
    limit = {"name": "limit", "in": "query", "schema": {**WHOLE, "minimum": 1},
             "description": f"At most so many; a page never holds more than {MAX_PAGE:,}."}  # fmt: skip
    cursor = {"name": "cursor", "in": "query", "description": "The next_cursor of the page before.", "schema": TEXT}
    paths = {
        PROVISION_PATH: {"post": _call(
            "provision", "Be called back about a job at an instant, once.",
            _answer("Armed, or already so", PROVISIONED),
            (*AGENTS, *BODIES, "callback_refused", "stale_generation", "too_many_timers", contract.CALLBACK_UNPROVEN),
            body=PROVISION,
        )},
        CANCEL_PATH: {"post": _call(
            "cancel", "Hold nothing for a job; an unknown one is a no-op.",
            _answer("Nothing is held any more", CANCELLED), (*AGENTS, *BODIES, "stale_generation"), body=CANCEL,
        )},
        LIST_PATH: {"get": _call(
            "list", "What is held for this agent, one entry per job, by job id.", _answer("A page", LIST),
            (*AGENTS, "invalid_request"), parameters=[limit, cursor],
        )},
        BATCH_PATH: {"post": _call(
            "batch", f"Up to {MAX_BATCH:,} provisions and cancels in one transaction, each answered at its place.",
            _answer("Each item's result", RESULTS), (*AGENTS, *BODIES), body=BATCH,
        )},
        JWKS_PATH: {"get": _call(
            "keys", "The keys that fire tokens are signed with (RFC 7517).",
            _answer("All published keys", _open({"keys": {**many(KEY), "minItems": 1}}),
                    Cache_Control={"schema": TEXT}), security=[],
        )},
        "/healthz": {"get": _call("healthz", "Whether the process answers.",
                                  _answer("It does", Part(name="Ok", shape=_open({"ok": TRUE}))), security=[])},
        "/readyz": {"get": _call("readyz", "Whether the store can be read and due timers are being relayed.",
                                 _answer("Ready"), security=[])},
        "/metrics": {"get": _call(
            "metrics", "Counters for Prometheus, with the operators' token or on their own address.",
            {"description": "Text format 0.0.4", "content": {"text/plain": {"schema": TEXT}}},
            ("invalid_token", "not_found", "temporary"), security=[{"operator": []}],
        )},
        "/openapi.yaml": {"get": _call(
            "openapi", "This document.",
            {"description": "OpenAPI 3.1", "content": {"application/yaml": {"schema": TEXT}}}, security=[],
        )},
    }  # fmt: skip
    paths["/readyz"]["get"]["responses"]["503"] = unready
    delivery = {"name": "Chronos-Delivery", "in": "header", "required": True, "schema": TEXT,
                "description": "The same over all retries; equals schedule_id and jti."}  # fmt: skip
    fired = _call(
        "fire", f"At fire_at, POST {{agent_callback_url}}{FIRE_PATH}; repeated until it is answered 2xx.", {},
        security=[{"fireToken": []}], parameters=[delivery], body=_open({"job_id": JOB_ID, "fire_at": FIRE_AT}),
    )  # fmt: skip
    taken = "Durably taken. Where the token says `arm` `answer`, only with `next`; else the body is not read."
    fired["responses"] = {"2XX": _answer(taken, _open({"next?": NEXT})),
                          "default": _answer("Tried again, not before Retry-After")}  # fmt: skip
    asked = _call(
        "proof", f"Once per agent and callback URL, POST {{agent_callback_url}}{PROOF_PATH} asks whose callback it is.",
        _answer("It is this agent's", _open({"proof": PROOF})), security=[{"fireToken": []}], body=OPEN,
    )  # fmt: skip
    asked["responses"]["default"] = _answer("No proof")
    return _document(
        "chronos-nas",
        "The account service that keeps agents' timers.",
        "The contract between agent and NAS, as chronos-nas keeps it. What is left open by the contract and decided "
        "here stands in docs/nas/contract.md.",
        ("portal", "http://127.0.0.1:8787"),
        paths,
        {
            "agent": _bearer("The token that `chronos-nas agent add` showed."),
            "operator": _bearer("That of --metrics-token-file; without one the path is 404."),
            "fireToken": _bearer("RS256 or ES256; iss, aud, purpose, iat, exp, jti, job_id, fire_at; home, arm and "
                                 "generation where they apply.", bearerFormat="JWT"),
        },
        {"Refused": _answer("Refused, and why", REFUSAL), "Later": LATER},
        webhooks={"proof": {"post": asked}, "fire": {"post": fired}},
    )  # fmt: skip


def callback() -> dict[str, Any]:
    """Return the interface of the callback."""
    again = {"required": True, "schema": RETRY_AFTER}
    bearer = {"schema": {"const": "Bearer"}}
    large = f"A body over {MAX_FIRE_BODY_BYTES // 1024} KiB"
    method = {"405": {"$ref": "#/components/responses/Method"}}
    fired = {
        "200": _answer("Settled: the run has ended, or there is nothing to run", REPORT),
        "202": _answer("The run goes and the next wake is armed", REPORT),
        "400": _answer("Not a fire; the token held", ERROR),
        "401": _answer("The token is refused; the same bytes for every cause and every job", TOKEN_REFUSED,
                       WWW_Authenticate=bearer),
        "404": _answer("No such path, a profile's name that cannot be one included", PLAIN),
        **method,
        "413": _answer(large, ERROR),
        "500": _answer("A fault of the callback's own; deliver it again", ERROR),
        "503": _answer("Deliver it again after Retry-After seconds", {"anyOf": [REPORT, STANDBY, ERROR]},
                       Retry_After=again),
    }  # fmt: skip
    proved = {
        "200": _answer("It is the agent's that the token names", PROVED),
        "400": _answer("A body without a usable length", ERROR),
        "401": _answer("The token is refused, as a fire's is", TOKEN_REFUSED, WWW_Authenticate=bearer),
        "404": _answer("No such path or profile", PLAIN),
        **method,
        "413": _answer(large, ERROR),
        "500": _answer("A fault of the callback's own", ERROR),
        "503": _answer("The keys cannot be had just now", ERROR, Retry_After=again),
    }
    healthy = {
        "200": _answer("It is there", HEALTH),
        **method,
        "503": _answer("The configuration cannot be used", ERROR, Retry_After={"required": True, "schema": WHOLE}),
    }
    profile = [{"name": "profile", "in": "path", "required": True, "schema": {**TEXT, "pattern": JOB_PATTERN}}]
    body = {"requestBody": {"$ref": "#/components/requestBodies/Fire"}, "responses": fired}
    proof = {"security": [{"challenge": []}], "responses": proved}
    of_profile = {"operationId": "fireOfProfile", "summary": "The same for the home of a named profile; an unknown one "
                  "is answered like an unknown job.", **body}  # fmt: skip
    proof_of_profile = {"operationId": "proofOfProfile", "summary": "The same for the URL of a named profile.", **proof}
    return _document(
        "chronos callback",
        "What NAS calls when a job is due.",
        "One WSGI application, wherever it is hosted. Which answer a fire gets is the table of docs/protocol.md.",
        ("callback", "http://127.0.0.1:8790"),
        {
            FIRE_PATH: {"post": {"operationId": "fire", "summary": "Settle everything that is due for a job of the "
                                 "launching home, or of the profile that has it.", **body}},
            f"/p/{{profile}}{FIRE_PATH}": {"parameters": profile, "post": of_profile},
            PROOF_PATH: {"post": {"operationId": "proof", "summary": "Answer NAS's question whose callback this is. "
                                  "The store is not read, nothing is started.", **proof}},
            f"/p/{{profile}}{PROOF_PATH}": {"parameters": profile, "post": proof_of_profile},
            "/healthz": {"get": {"operationId": "health", "summary": "That it is there, and when it answers; nothing "
                                 "of the store is read.", "security": [], "responses": healthy}},
        },
        {
            "fire": _bearer("Signed by NAS; see docs/chronos-managed-cron-contract.md.", bearerFormat="JWT"),
            "challenge": _bearer(f"Signed by NAS, its purpose `{PROOF_PURPOSE}`; see docs/nas/contract.md.",
                                 bearerFormat="JWT"),
        },
        {"Method": _answer("Another method than the one allowed", PLAIN,
                           Allow={"required": True, "schema": word("POST", "GET")})},
        requestBodies={"Fire": {"required": True, **_json(FIRE)}},
    )  # fmt: skip


def _bearer(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "http", "scheme": "bearer", "description": text, **more}


def _document(
    title: str,
    summary: str,
    text: str,
    server: tuple[str, str],
    paths: dict[str, Any],
    tokens: dict[str, Any],
    responses: dict[str, Any],
    *,
    webhooks: dict[str, Any] | None = None,
    **components: Any,
) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    where, default = server
    outside = {} if webhooks is None else {"webhooks": webhooks}
    shown = referred({"paths": paths, **outside, "components": {"responses": responses, **components}},
                     "#/components/schemas/", parts)  # fmt: skip
    shown["components"] = {"securitySchemes": tokens, **shown["components"], "schemas": dict(sorted(parts.items()))}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "summary": summary, "description": text,
                 "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": f"{{{where}}}", "variables": {where: {"default": default}}}],
        "security": [{next(iter(tokens)): []}],
        **shown,
    }  # fmt: skip


class _Plain(yaml.SafeDumper):
    """YAML without aliases: what is shared stands under components already."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def files() -> dict[str, str]:
    """Return both documents, by their paths below docs/."""
    made = {"openapi/nas.yaml": nas(), "openapi/shim.yaml": callback()}
    return {
        path: yaml.dump(document, Dumper=_Plain, sort_keys=False, default_flow_style=None, width=120)
        for path, document in made.items()
    }
