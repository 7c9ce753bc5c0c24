"""Places that hold documents: a folder, a real S3 API, a real Azure API; and processes that use them."""

import base64
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chronos_cli.store.open import open_store
from tests.callback.hosts import serving
from tests.conftest import require_module, require_program

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
S3_SECRET = "s3-secret-that-no-text-may-show"
# The account of the emulator: published, the same everywhere.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a store is, in terms that other processes understand."""

    url: str
    endpoint: str | None = None
    environment: dict = field(default_factory=dict)

    def open(self, **more):
        return open_store(self.url, endpoint=self.endpoint, **{"lock_timeout_s": 30.0, **more})

    def start(self, action, **given):
        """Start a worker; it waits for `go` on its standard input."""
        text = json.dumps({"url": self.url, "endpoint": self.endpoint, **given})
        environment = {
            **os.environ,
            **self.environment,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        quick = ["-S"] if self.endpoint is None else []  # The local store needs nothing that is installed.
        return subprocess.Popen(
            [sys.executable, *quick, str(HERE / "store_worker.py"), action, text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def race(self, workers, *, check=True):
        """Let all of them go at once; what each printed."""
        try:
            for worker in workers:
                assert worker.stdout.readline() == "ready\n", worker.stderr.read()
            for worker in workers:
                worker.stdin.close()
                worker.stdin = None
            printed = []
            for worker in workers:
                out, err = worker.communicate(timeout=90)
                assert not check or worker.returncode == 0, err
                printed.append(out.strip())
            return printed
        finally:
            for worker in workers:  # Only where something went wrong is any of them left.
                if worker.poll() is None:
                    worker.kill()
                    worker.communicate()


@pytest.fixture
def folder(tmp_path):
    return Place(url=str(tmp_path / "home"))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """The address of a real S3 API."""
    for name in ("obstore", "moto", "flask"):
        require_module(name)
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as said:
        server = subprocess.Popen(
            [sys.executable, str(HERE / "s3_server.py")], stdout=subprocess.PIPE, stderr=said, text=True
        )
    try:
        ready, _, _ = select.select([server.stdout], [], [], 60)
        port = server.stdout.readline() if ready else ""
        assert port.strip().isdecimal(), f"the S3 server did not start: {port}{log.read_text()}"
        yield f"127.0.0.1:{int(port)}"
    finally:
        server.terminate()
        server.wait(10)
        server.stdout.close()


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory):
    """The address of a real Azure Blob API."""
    require_module("obstore")
    program = require_program("azurite-blob")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("azurite")
    command = [program, "--disableTelemetry", "--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1"]
    command += ["--blobPort", str(port), "--location", str(folder)]
    with serving(command, port, folder / "log"):
        yield f"127.0.0.1:{port}"


@pytest.fixture
def s3(s3_server, monkeypatch):
    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    assert ask(s3_server, "PUT", f"/{bucket}", {}) == 200
    environment = {
        "AWS_ACCESS_KEY_ID": "key-id",
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Place(url=f"s3://{bucket}/some/prefix", endpoint=f"http://{s3_server}", environment=environment)


@pytest.fixture
def azure(azure_server, monkeypatch):
    container = f"container-{uuid.uuid4().hex[:12]}"
    make_container(azure_server, container)
    environment = {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Place(
        url=f"az://{container}/some/prefix", endpoint=f"http://{azure_server}/{AZURE_ACCOUNT}", environment=environment
    )


@pytest.fixture(params=["folder", "s3", pytest.param("azure", marks=pytest.mark.service)])
def place(request):
    """Each kind of place in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["s3", pytest.param("azure", marks=pytest.mark.service)])
def bucket(request):
    """Each kind of bucket in turn."""
    return request.getfixturevalue(request.param)


def ask(address, method, path, headers):
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def make_container(address, container):
    """Make a container by a request signed with the account's key, as the service's manual describes it."""
    date, version = email.utils.formatdate(usegmt=True), "2021-08-06"
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{container}\nrestype:container"
    text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
    digest = hmac.new(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    assert ask(address, "PUT", f"/{AZURE_ACCOUNT}/{container}?restype=container", headers) == 201
