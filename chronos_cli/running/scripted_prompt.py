"""The program for a prompt that has a script: run it, put its output before the prompt, become the prompt's runner.

The rules are hermes-agent's: no output means nothing to report, and a last line {"wakeAgent": false} says the same; a
failed script is reported to the runner instead. Started by its path, so it imports nothing of this package.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from typing import Any, Final

MAX_SCRIPT_BYTES: Final = 256 * 1024


def main() -> int:
    """Do what stdin describes; does not return if the runner is started."""
    spec = json.load(sys.stdin)
    status, captured = _run_script(spec["script"], spec["folder"])
    output = captured.decode("utf-8", "replace").strip()
    if status == 0 and (not output or not _wakes(output)):
        print("the script had nothing to report; the prompt was not run")
        return 0
    if status == 0:
        head = "The job's script ran just before this. What it printed:"
    else:
        head = f"The job's script failed with status {status}; say so in what you report. What it printed:"
    prompt = f"{head}\n\n```\n{output}\n```\n\n{spec['prompt']}"
    return _become(spec["runner"], prompt.encode("utf-8", "replace"))


def _run_script(argv: list[str], folder: str) -> tuple[int, bytes]:
    """Return its exit status and the end of what it said.

    What it leaves behind with the pipe open is not waited for.
    """
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        close_fds=False,  # the run's lock is among them
    ) as script:
        stream = script.stdout
        kept = bytearray()
        while stream is not None:
            ended = script.poll() is not None
            ready, _, _ = select.select([stream], [], [], 0 if ended else 0.05)
            chunk = os.read(stream.fileno(), 65536) if ready else b""
            if not chunk and (ready or ended):
                break
            kept += chunk
            del kept[: max(0, len(kept) - MAX_SCRIPT_BYTES)]
        return script.wait(), bytes(kept)


def _become(argv: list[str], prompt: bytes) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(prompt)
        file.seek(0)
        os.dup2(file.fileno(), 0)
        try:
            os.execvp(argv[0], argv)  # noqa: S606 - an argument list from the configuration
        except OSError as error:
            print(f"cannot run {argv[0]}: {error.strerror}")
    return 127


def _wakes(output: str) -> bool:
    try:
        gate: Any = json.loads(output.splitlines()[-1])
    except (ValueError, RecursionError):
        return True  # an ordinary last line
    return not (isinstance(gate, dict) and gate.get("wakeAgent") is False)


if __name__ == "__main__":
    sys.exit(main())
