"""Which files and rooms of the package a fire, an add, an arm and a reconcile pass through: `python tests/bench/rooms.py`.

Counts the files of which a function was entered, in the command's own process, the callback and the runner; NAS is
another program and is not counted. A room is a folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.agent_home import AgentHome  # noqa: E402 - the checkout comes first
from tests.nas_process import running_nas  # noqa: E402

CUSTOM = """
import os, sys, threading
into, seen = os.environ.get("FIRE_ROOMS"), set()
def entered(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_filename not in seen and code.co_flags & 1 and "/chronos_cli/" in code.co_filename:
        seen.add(code.co_filename)
        with open(into, "a") as out:
            out.write(code.co_filename.rpartition("/chronos_cli/")[2] + "\\n")
if into:
    threading.setprofile(entered)
    sys.setprofile(entered)
"""


def main() -> None:
    """Print a line for each of the four."""
    with tempfile.TemporaryDirectory() as name, running_nas(Path(name)) as nas:
        folder = Path(name)
        (folder / "sitecustomize.py").write_text(CUSTOM, encoding="utf-8")
        agent = AgentHome(folder / "home", nas)

        def noting(what: str) -> dict[str, str]:
            return {"PYTHONPATH": f"{folder}:{ROOT}", "FIRE_ROOMS": str(folder / what)}

        agent.start_shim(**noting("fire"))
        agent.chronos("job", "add", "every 2s", "--id", "a", "--command", "true", **noting("add"))
        agent.wait_for_row("a", state="ok")
        agent.stop_shim()
        agent.chronos("arm", "a", **noting("arm"))
        agent.chronos("reconcile", **noting("reconcile"))
        for what in ("fire", "add", "arm", "reconcile"):
            files = {Path(line) for line in (folder / what).read_text(encoding="utf-8").split()}
            rooms = sorted({str(file.parent) for file in files} - {"."})
            sys.stdout.write(f"{what}: {len(files)} files in {len(rooms)} rooms: {', '.join(rooms)}\n")


if __name__ == "__main__":
    main()
