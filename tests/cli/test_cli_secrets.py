"""A canary in every place that a secret can come from: in no output, no file of ours, no arguments and no environment."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import connect, spawn, spawn_program, tree
from tests.fire_tokens import AUDIENCE, SigningKey

KEY = SigningKey.rs256()

LOOK = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' || ps auxeww"
"""What a curious job can see of the processes around it."""

COMMANDS = (
    ("reconcile",), ("list",), ("arm", "a"), ("run", "a"), ("logs", "a"), ("status",), ("doctor",), ("history", "a"),
    ("job", "show", "a"), ("job", "edit", "a", "--retries", "1"), ("config", "show", "--origin"), ("provider", "list"),
    ("timeline",), ("tick",), ("cancel", "a"), ("job", "export"),
)  # fmt: skip


SOME = (("reconcile",), ("run", "a"), ("logs", "a"), ("list",), ("doctor",), ("cancel", "a"))
"""Those that look for the token in other ways than by the variable, and use it."""


@pytest.fixture
def curious_home(home, nas, agent):
    """A home with a job that looks around; its NAS token is nowhere yet."""
    connect(home, nas, agent, "http://127.0.0.1:9")
    (home / "nas-token").unlink()
    env = {"CHRONOS_PROVIDER": "builtin"}
    assert spawn("job", "add", "@yearly", "--id", "a", "--shell", LOOK, home=home, env=env).code == 0
    return home


def configure(home, line):
    """Put a line in place of the token file."""
    path = home / "config.yaml"
    path.write_text(path.read_text().replace("    token_file: nas-token\n", line))


def by_variable(home, token):
    """$CHRONOS_NAS_TOKEN."""
    configure(home, "")
    return {"CHRONOS_NAS_TOKEN": token}


def by_file(home, token):
    """`token_file`."""
    (home / "nas-token").write_text(token)
    return {}


def by_command(home, token):
    """`token_command`, which reads it where only it looks."""
    (home / "vault").write_text(token)
    configure(home, f"    token_command: [{sys.executable}, -c, 'print(open(\"{home}/vault\").read())']\n")
    return {}


def by_login(home, token):
    """The login of a Hermes home."""
    configure(home, "")
    ends = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    login = {"providers": {"nous": {"access_token": token, "expires_at": ends}}}
    (home / "auth.json").write_text(json.dumps(login))
    return {}


@pytest.mark.parametrize("source", [by_variable, by_file, by_command, by_login])
def test_the_token_for_nas_shows_nowhere(curious_home, agent, source):
    """Commands do their work with it at -vv, and a job that looks at every process finds it in none."""
    env = source(curious_home, agent.token)
    kept = {"nas-token", "vault", "auth.json"}
    said = ""
    for words in COMMANDS if source is by_variable else SOME:
        done = spawn_program("-vv", "--debug", *words, home=curious_home, env=env)
        assert done.code in ((0, 1) if words == ("doctor",) else (0,)), (words, done.err)
        said += done.out + done.err
    assert "CHRONOS_HOME=" in said  # the job did look
    assert agent.token not in said
    written = {name: data for name, data in tree(curious_home).items() if name not in kept}
    assert [name for name, data in written.items() if agent.token.encode() in data] == []


@pytest.mark.parametrize("source", ["variable", "file", "stdin", "argument"])
@pytest.mark.parametrize("good", [True, False], ids=["good", "refused"])
def test_the_fire_token_shows_nowhere(curious_home, nas, tmp_path, source, good):
    """Whether it is good or refused, and however it is handed over; the job that it fires finds it in no process."""
    text = (curious_home / "config.yaml").read_text()
    audience = next(line for line in text.splitlines() if "expected_audience" in line)
    keys = next(line for line in text.splitlines() if "nas_jwks_url" in line)
    text = text.replace(audience, f"    expected_audience: {AUDIENCE}").replace(
        keys, f"    nas_jwks_url: {tmp_path}/keys"
    )
    (curious_home / "config.yaml").write_text(text.replace("provider: chronos", "provider: builtin"))
    (tmp_path / "keys").write_text(json.dumps(KEY.jwks()))
    path = curious_home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
    at -= timedelta(
        seconds=at.second == 0
    )  # of another zone, a whole minute that its schedule does not give is put right
    document["jobs"][0]["next_run_at"] = at.isoformat()
    path.write_text(json.dumps(document))
    signer = KEY if good else SigningKey.rs256(other=True)
    token = signer.token(iss=nas.url, job_id="a", fire_at=at.isoformat())
    (tmp_path / "token").write_text(token)
    words, env, stdin = {
        "variable": ((), {"CHRONOS_FIRE_TOKEN": token}, ""),
        "file": (("--token-file", tmp_path / "token"), {}, ""),
        "stdin": (("--token", "-"), {}, token),
        "argument": (("--token", token), {}, ""),
    }[source]
    words = ("fire", "--job-id", "a", *words, "--json")
    done = spawn_program("-vv", "--debug", *words, home=curious_home, env=env, stdin=stdin)
    assert done.code in ((0, 75) if good else (4,)), done.err
    said = done.out + done.err
    if good:
        logs = spawn("logs", "a", home=curious_home)
        assert "CHRONOS_RUN_ID=" in logs.out
        said += logs.out
    signature = token.rpartition(".")[2]
    assert signature not in said
    assert [name for name, data in tree(curious_home).items() if signature.encode() in data] == []
