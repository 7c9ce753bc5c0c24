"""What the tests of trust share: settings, and other processes that judge a token."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from chronos_cli.trust import TrustSettings
from tests.fire_tokens import AUDIENCE, ISSUER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

JUDGE = """
import sys
from pathlib import Path
from chronos_cli.errors import ChronosError
from chronos_cli.trust import TrustSettings, verify_fire_token

audience, issuer, keys, cache = sys.argv[1:5]
settings = TrustSettings(expected_audience=audience, issuer=issuer, keys=keys, cache_dir=Path(cache))
sys.stdout.write("ready\\n")
sys.stdout.flush()
for token in sys.stdin.read().split():
    try:
        verify_fire_token(token, settings)
        print("ok")
    except ChronosError as error:
        print(error.code)
"""


def make_settings(tmp_path: Path, keys: str, **changes: Any) -> TrustSettings:
    """Settings for the tokens of tests/fire_tokens.py, with a cache below `tmp_path`."""
    values = {"expected_audience": AUDIENCE, "issuer": ISSUER, "keys": keys, "cache_dir": tmp_path / "cache", **changes}
    return TrustSettings(**values)


def judge_in_processes(tokens: Sequence[str], settings: TrustSettings) -> list[str]:
    """Judge each token in a process of its own, all at the same time: `ok` or the code of the error."""
    command = [sys.executable, "-c", JUDGE, settings.expected_audience, settings.issuer, settings.keys]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    judges = [
        subprocess.Popen([*command, str(settings.cache_dir)], stdin=pipe, stdout=pipe, text=True, env=environment)
        for _ in tokens
    ]
    try:
        for judge in judges:
            assert judge.stdout is not None
            assert judge.stdout.readline() == "ready\n"
        for judge, token in zip(judges, tokens, strict=True):  # all are up: only now do they get to work
            assert judge.stdin is not None
            judge.stdin.write(token)
            judge.stdin.close()
        return [judge.stdout.read().strip() for judge in judges if judge.stdout is not None]
    finally:
        for judge in judges:
            judge.kill()
            judge.wait()
            for stream in (judge.stdin, judge.stdout):
                if stream is not None:
                    stream.close()
