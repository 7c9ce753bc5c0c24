"""What each dependency costs to install and to import: `python -m tests.bench.imports`.

Prints the table of docs/dependencies.md. Time (of the processor) and memory (resident, at its highest) are those of a fresh interpreter that imports the
module, less those of one that imports nothing: the median of eleven runs. Sizes are those of the files that each distribution recorded at its installation.
"""

import re
import statistics
import subprocess
import sys
from importlib import metadata

MODULES = {
    "typer": "typer", "rich": "rich.console", "requests": "requests", "pyjwt": "jwt",
    "cryptography": "cryptography.hazmat.primitives.asymmetric.rsa", "pyyaml": "yaml", "waitress": "waitress",
    "tzdata": "tzdata", "obstore": "obstore.store", "aiohttp": "aiohttp",
    "prometheus-client": "prometheus_client", "psycopg": "psycopg",
    "sphinx": "sphinx.application", "myst-parser": "myst_parser", "furo": "furo",
}  # fmt: skip
RUNS = 11
_CODE = """
import time
start = time.process_time()
{statement}
took = time.process_time() - start
with open("/proc/self/status") as status:  # not ru_maxrss, which starts at that of the parent
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
print(took * 1000, peak / 1024)
"""


def cost(statement):
    """Milliseconds and MiB of one statement in a fresh interpreter."""
    pairs = []
    for _ in range(RUNS):
        ran = subprocess.run(
            [sys.executable, "-c", _CODE.format(statement=statement)], capture_output=True, text=True, check=True
        )
        pairs.append([float(word) for word in ran.stdout.split()])
    return [statistics.median(column) for column in zip(*pairs, strict=True)]


def size(name):
    """MiB of a distribution's own files."""
    files = metadata.files(name) or []
    paths = [path.locate() for path in files if not path.name.endswith(".pyc")]
    return sum(path.stat().st_size for path in paths if path.is_file()) / 2**20


def brings(name, seen=None):
    """The distributions that one needs, itself included, without extras."""
    seen = set() if seen is None else seen
    if name.lower() in seen:
        return seen
    needs = metadata.requires(name) or []
    seen.add(name.lower())
    for text in needs:
        if "extra ==" not in text and "python_version <" not in text and "sys_platform ==" not in text:
            try:
                brings(re.split(r"[\s;\[<>=!~(]", text)[0], seen)
            except metadata.PackageNotFoundError:
                continue  # for another platform
    return seen


def main():
    base_ms, base_mib = cost("pass")
    print("| distribution | own size | with all it needs | import | memory |\n| --- | --- | --- | --- | --- |")
    for name, module in MODULES.items():
        try:
            own, whole = size(name), sum(size(one) for one in brings(name))
        except metadata.PackageNotFoundError:
            print(f"| {name} | not installed | | | |")
            continue
        took, memory = cost(f"import {module}")
        print(f"| {name} | {own:.1f} MiB | {whole:.1f} MiB | {took - base_ms:.0f} ms | {memory - base_mib:.0f} MiB |")
    for text in ("chronos_cli.cli.app", "chronos_cli.callback.app", "chronos_cli.nas_server.cli"):
        took, memory = cost(f"import {text}")
        print(f"| `{text}` | | | {took - base_ms:.0f} ms | {memory - base_mib:.0f} MiB |")


if __name__ == "__main__":
    main()
