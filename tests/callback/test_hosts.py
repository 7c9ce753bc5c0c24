"""The callback in the real servers of the recipes, on loopback."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chronos_cli.callback.wsgi import CallbackApplication
from tests.callback.hosts import Caller, check, chunked, command, recipe, serving, which
from tests.callback.shim_home import PATH, ROOT, Reply
from tests.conftest import require_module
from tests.ports import free_port

SERVERS = {"waitress": "waitress-serve", "gunicorn": "gunicorn", "granian": "granian"}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.service
def test_a_wsgi_server_runs_it_as_its_recipe_says(home, nas, tmp_path, server):
    """The recipe's own command, the whole loop over HTTP, a body in chunks included."""
    require_module(server)
    port = free_port()
    with serving(command("wsgi.md", SERVERS[server], port), port, tmp_path / "log"):
        check(home, Caller(port), nas, mode="detached")
        assert chunked(port, b'{"job_id": "nobody"}', home.token()) == 200
        assert chunked(port, b" " * 50, "a.b.c") == 401
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_the_standard_librarys_server_runs_it(home, nas, tmp_path):
    """The example is pasted as it stands."""
    port = free_port()
    program = recipe("wsgi.md", "make_server").replace("8790", str(port))
    with serving([sys.executable, "-c", program], port, tmp_path / "log"):
        check(home, Caller(port), nas, mode="detached")


def test_a_run_outlives_its_server(home, nas, tmp_path):
    """The web worker is stopped in the middle of a run: the run ends well and arms what is next."""
    port = free_port()
    home.add("long", "every 1h", "sleep 1.5", ago=1)
    with serving(command("wsgi.md", "waitress-serve", port), port, tmp_path / "log"):
        assert Caller(port)(b'{"job_id": "long"}', token=home.token()).status == 202
    assert [row["state"] for row in home.rows("long")] == ["running"]
    home.wait_for_rows("long", state="ok")
    assert "long" in nas.armed


def test_our_own_server_stops_when_nobody_comes(home, nas, tmp_path):
    """With --idle it exits by itself; a strangers' oversized body is refused before it is read."""
    port = free_port()
    argv = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}", "--idle", "1.5"]
    with serving(argv, port, tmp_path / "log") as process:
        check(home, Caller(port), nas, mode="detached")
        assert Caller(port)(b" " * 70_000).status == 413
        assert process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_our_own_server_waits_for_its_runs_when_asked(home, tmp_path):
    """In a container, what is stopped takes everything with it: told so, the server ends after its runs."""
    port = free_port()
    argv = [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", f"127.0.0.1:{port}", "--wait-for-runs"]
    home.add("long", "every 1h", "sleep 1.2", ago=1)
    with serving(argv, port, tmp_path / "log") as process:
        assert Caller(port)(b'{"job_id": "long"}', token=home.token()).status == 202
        process.terminate()
        assert process.wait(20) == 0
    assert [row["state"] for row in home.rows("long")] == ["ok"]


@pytest.mark.parametrize(("listen", "code"), [("8790", 2), ("127.0.0.1:x", 2), ("127.0.0.1:99999", 2)])
def test_our_own_server_says_what_it_cannot_listen_on(listen, code, tmp_path):
    """One line, no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "chronos_cli.callback.serve", "--listen", listen],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.count("\n") == 1


@pytest.mark.service
def test_systemd_starts_it_with_the_first_call_and_nothing_stays(home, nas, tmp_path):
    """Before the first call only the holder of the socket is there; after it, and a quiet while, nobody is."""
    which("systemd-socket-activate")
    port = free_port()
    argv = command("systemd.md", "systemd-socket-activate", port)
    argv = [word.replace("30", "1") if word == "30" else sys.executable if word == "python" else word for word in argv]
    variables = [f"--setenv={name}" for name in ("PYTHONPATH",)]
    argv[1:1] = variables
    with serving(argv, port, tmp_path / "log", ready=False) as process:
        time.sleep(0.3)
        assert b"callback.serve" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert "systemd-socket" in Path(f"/proc/{process.pid}/comm").read_text()
        until = time.monotonic() + 10
        while True:
            try:
                check(home, Caller(port), nas, mode="detached")
                break
            except ConnectionRefusedError:
                assert time.monotonic() < until
                time.sleep(0.05)
        assert process.wait(20) == 0


@pytest.mark.service
@pytest.mark.parametrize("proxy", ["nginx", "caddy"])
def test_a_proxy_passes_the_token_on(home, nas, tmp_path, proxy):
    """The recipe's own configuration, on plain http here; what is no fire path does not reach the worker."""
    program = which(proxy)
    port, behind = free_port(), free_port()
    if proxy == "nginx":
        text = recipe("proxy.md", "server_name")
        lines = [line for line in text.splitlines() if "ssl_certificate" not in line]
        server = "\n".join(lines).replace("443 ssl", f"127.0.0.1:{port}").replace("8790", str(behind))
        scratch = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = f"daemon off;\npid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{scratch}{server}\n}}\n"
        if os.getuid() == 0:
            config = "user root;\n" + config
        argv = [program, "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "config")]
    else:
        text = recipe("proxy.md", "reverse_proxy").replace("agent.example.com", f"http://127.0.0.1:{port}")
        config = "{\n\tadmin off\n\tauto_https off\n}\n" + text.replace("8790", str(behind))
        argv = [program, "run", "--adapter", "caddyfile", "--config", str(tmp_path / "config")]
    (tmp_path / "config").write_text(config)
    call = Caller(port)

    def through(body, *, path=PATH, method="POST", token=None):
        direct = Caller(behind) if path == "/healthz" or method == "GET" else call
        return direct(body, path=path, method=method, token=token)

    with (
        serving(command("wsgi.md", "waitress-serve", behind), behind, tmp_path / "worker.log"),
        serving(argv, port, tmp_path / "proxy.log", HOME=str(tmp_path)),
    ):
        check(home, through, nas, mode="detached")
        assert call(b" " * 80_000, token=home.token()).status in (413, 502)  # caddy 2.6 says either
        assert call(b"", path="/healthz", method="GET").status == 404
        assert call(b'{"job_id": "x"}', path=f"/p/nobody{PATH}", token=home.token()).json["result"] == "gone"


@pytest.mark.service
def test_google_cloud_functions_runs_it(home, nas, tmp_path):
    """The real functions-framework with the recipe's main.py; the answer comes after the end."""
    require_module("functions_framework")
    (tmp_path / "main.py").write_text(recipe("google-cloud-functions.md", "functions_framework.http"))
    port = free_port()
    argv = command("google-cloud-functions.md", "functions-framework --source", port)
    argv = [str(tmp_path / "main.py") if word == "main.py" else word for word in argv]
    with serving(argv, port, tmp_path / "log", FUNCTION_TARGET="fire"):
        check(home, Caller(port), nas, mode="sync")
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.service
def test_azure_functions_runs_it(home, nas, monkeypatch):
    """The recipe's function, called in process through the real WsgiMiddleware, which never closes an answer."""
    require_module("azure.functions")
    import azure.functions as func

    monkeypatch.setenv("FUNCTIONS_WORKER_RUNTIME", "python")
    monkeypatch.setattr("chronos_cli.callback.wsgi.application", CallbackApplication())
    space = {}
    exec(recipe("azure-functions.md", "WsgiMiddleware"), space)
    assert json.loads(recipe("azure-functions.md", "routePrefix"))["extensions"]["http"]["routePrefix"] == ""
    function = space["callback"]._function.get_user_function()

    def call(body, *, path=PATH, method="POST", token=None):
        headers = {"content-type": "application/json"} | ({} if token is None else {"authorization": f"Bearer {token}"})
        request = func.HttpRequest(method=method, url=f"https://agent.example.com{path}", headers=headers, body=body)
        answer = function(request, None)
        return Reply(answer.status_code, list(answer.headers.items()), answer.get_body())

    check(home, call, nas, mode="sync")


class RuntimeApi:
    """The Lambda runtime API: hands out one event at a time and takes the function's answers."""

    def __init__(self):
        self.events, self.answers, self.ready = [], {}, threading.Condition()
        self.count, self.over = 0, False
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                with api.ready:
                    api.ready.wait_for(lambda: api.events or api.over, timeout=60)
                    number, event, left = api.events.pop(0) if api.events else ("over", {}, 1)
                body = json.dumps(event).encode()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", number)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + left) * 1000)))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:x:1:function:f")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with api.ready:
                    api.answers[self.path.split("/")[-2]] = (self.path.rpartition("/")[2], body)
                    api.ready.notify_all()
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def invoke(self, event, *, left=30.0):
        with self.ready:
            self.count += 1
            number = f"r{self.count}"
            self.events.append((number, event, left))
            self.ready.notify_all()
            assert self.ready.wait_for(lambda: number in self.answers, timeout=60)
        kind, body = self.answers[number]
        assert kind == "response", body
        return json.loads(body)

    def close(self):
        self.over = True
        with self.ready:
            self.ready.notify_all()
        self.server.shutdown()
        self.server.server_close()


def event_v2(body, path, method, token, stage="$default"):
    headers = {"content-type": "application/json", "content-length": str(len(body)), "host": "x"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    http = {"method": method, "path": path, "sourceIp": "1.2.3.4", "protocol": "HTTP/1.1", "userAgent": "nas"}
    return {
        "version": "2.0", "routeKey": "$default", "rawPath": path if stage == "$default" else f"/{stage}{path}",
        "rawQueryString": "", "headers": headers, "requestContext": {"http": http, "stage": stage},
        "body": body.decode(), "isBase64Encoded": False,
    }  # fmt: skip


def event_v1(body, path, method, token):
    headers = {"Content-Type": "application/json", "Host": "x"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return {
        "version": "1.0", "httpMethod": method, "path": path, "resource": "/{proxy+}", "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()}, "queryStringParameters": None,
        "multiValueQueryStringParameters": None, "requestContext": {"stage": "prod", "httpMethod": method},
        "body": body.decode(), "isBase64Encoded": False,
    }  # fmt: skip


@pytest.fixture
def runtime():
    api = RuntimeApi()
    yield api
    api.close()


@pytest.mark.service
@pytest.mark.parametrize("kind", ["function URL", "API Gateway v2", "API Gateway v1"])
def test_aws_lambda_runs_it(home, nas, runtime, tmp_path, kind):
    """The real runtime client against a local runtime API, with each kind of event; the answer comes after the end."""
    for module in ("awslambdaric", "apig_wsgi"):
        require_module(module)

    def call(body, *, path=PATH, method="POST", token=None):
        event = event_v1(body, path, method, token) if kind.endswith("v1") else event_v2(
            body, path, method, token, "prod" if kind.startswith("API") else "$default"
        )  # fmt: skip
        answer = runtime.invoke(event)
        headers = answer.get("headers") or {name: values[0] for name, values in answer["multiValueHeaders"].items()}
        return Reply(answer["statusCode"], list(headers.items()), answer["body"].encode())

    argv = [sys.executable, "-m", "awslambdaric", "chronos_cli.callback.aws_lambda.handler"]
    variables = {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime.port}",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_LOG_GROUP_NAME": "g",
        "AWS_LAMBDA_LOG_STREAM_NAME": "s",
        "AWS_REGION": "x",
        "LAMBDA_TASK_ROOT": str(tmp_path),
    }
    with serving(argv, 0, tmp_path / "log", ready=False, **variables) as process:
        check(home, call, nas, mode="sync")
        if kind == "function URL":
            home.add("long", "every 1h", "sleep 30", ago=1)
            started = time.monotonic()
            runtime.invoke(event_v2(b'{"job_id": "long"}', PATH, "POST", home.token()), left=8)
            assert time.monotonic() - started < 8
            assert [row["state"] for row in home.rows("long")] == ["timeout"]
        process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_only_sockets_meant_for_this_process_are_taken(monkeypatch):
    """sd_listen_fds(3): another process's variables are passed over, and taken out either way."""
    from chronos_cli.callback.serve import inherited_sockets

    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "KEPT": "1"}
    assert inherited_sockets(environ) == []
    assert environ == {"KEPT": "1"}
    assert inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "no"}) == []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        monkeypatch.setattr("chronos_cli.callback.serve.FIRST_FD", os.dup(listening.fileno()))
        (taken,) = inherited_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
        assert taken.getsockname() == listening.getsockname()
        taken.close()
