"""What a container needs: recipes that linters accept, and replicas that share no disk but a bucket."""

import contextlib
import json
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from chronos_cli.config import load_config
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from tests.callback.hosts import Caller, recipe, serving
from tests.callback.shim_home import ShimHome, add_job
from tests.conftest import require_module, require_program
from tests.ports import free_port
from tests.store.conftest import s3, s3_server  # noqa: F401 - fixtures


def beside(name):
    path = Path(sys.executable).with_name(name)
    return str(path) if path.exists() else require_program(name)


@pytest.mark.service
def test_the_container_file_is_what_its_linter_expects():
    """The linter has nothing to say, at any level."""
    text = recipe("container.md", "FROM ")
    done = subprocess.run([beside("hadolint"), "-"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    for option in json.loads(text.partition("CMD ")[2]):
        assert not option.startswith("--") or option in Path("chronos_cli/callback/serve.py").read_text()


@pytest.mark.service
def test_the_manifests_are_valid(tmp_path):
    """Kubernetes' own schemas accept ours; the others are at least what they claim to be."""
    require_module("kubernetes_validate")
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text(recipe("container.md", "kind: Deployment"))
    done = subprocess.run(
        [beside("kubernetes-validate"), "--strict", str(manifest)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert tomllib.loads(recipe("container.md", "http_service"))["http_service"]["internal_port"] == 8790
    assert yaml.safe_load(recipe("container.md", "serving.knative.dev"))["kind"] == "Service"


@pytest.mark.service
@pytest.mark.parametrize("mode", ["detached", pytest.param("sync", marks=pytest.mark.soak)])
def test_two_replicas_without_a_shared_disk_run_a_job_once(tmp_path, key, nas, monkeypatch, s3, mode):  # noqa: F811
    """Every fire reaches both replicas at the same moment, twice; the bucket lets each occurrence run once."""
    diary = tmp_path / "diary"
    ports, homes = [], []
    with contextlib.ExitStack() as running:
        for name in ("one", "two"):
            folder = tmp_path / name
            extra = f"store: {s3.url}\nstore_endpoint: {s3.endpoint}\ncallback:\n  mode: {mode}\n"
            home = ShimHome(folder, key, nas.url, monkeypatch, extra=extra)
            (folder / "tmp").mkdir()
            port = free_port()
            argv = [
                sys.executable,
                "-m",
                "chronos_cli.callback.serve",
                "--listen",
                f"127.0.0.1:{port}",
                "--wait-for-runs",
            ]
            variables = {
                "CHRONOS_HOME": str(home.home),
                "TMPDIR": str(folder / "tmp"),
            }
            running.enter_context(serving(argv, port, tmp_path / f"{name}.log", **variables))
            ports.append(port)
            homes.append(home)
        names = [f"job-{number}" for number in range(4)]
        for name in names:
            add_job(homes[0].home, name, "every 1h", f"echo $CHRONOS_JOB_ID >> {diary}", ago=1)
        answers = {name: [] for name in names}

        def fire(name, port):
            reply = Caller(port)(json.dumps({"job_id": name}).encode(), token=homes[0].token())
            answers[name].append((reply.status, reply.json["result"]))

        threads = [threading.Thread(target=fire, args=(name, port)) for name in names for port in ports * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        context = open_home(
            load_config(environ={}, home=str(homes[1].home)), ProcessEnvironment(environ={}, secrets={}), armed=False
        )
        until = time.monotonic() + 30
        while any(row.state.value != "ok" for name in names for row in context.repository.rows.of(name)):
            assert time.monotonic() < until
            time.sleep(0.1)
    for name in names:
        assert len(list(context.repository.rows.of(name))) == 1
        assert {status for status, _ in answers[name]} <= {200, 202, 503}, answers
        assert "claimed" in {result for _, result in answers[name]}
    assert sorted(diary.read_text().split()) == names
    assert not (homes[0].home / "cron").exists()
    assert set(nas.armed) == set(names)
