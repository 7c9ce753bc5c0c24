"""Judges what bandit and pip-audit found: the first against the exceptions that are explained, the second as it is."""

# ruff: noqa: INP001, T201 - a script of CI, which speaks to its log
from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

EXCEPTIONS = Path(__file__).with_name("bandit-exceptions.toml")


def bandit(document: dict[str, Any]) -> list[str]:
    """Return what is wrong: a finding that nobody explained, and an explanation of what is no longer found."""
    table = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    everywhere = set(table["everywhere"])
    in_file = {(test, name) for name, explained in table["file"].items() for test in explained}
    found = {(one["test_id"], Path(one["filename"]).name): one for one in document["results"]}
    wrong = [
        f"{one['filename']}:{one['line_number']}: {test}: {one['issue_text']}"
        for (test, name), one in found.items()
        if test not in everywhere and (test, name) not in in_file
    ]
    stale = [f"{name}: {test} is explained and not found" for test, name in sorted(in_file - found.keys())]
    return [*wrong, *stale, *(f"bandit could not read {one['filename']}" for one in document.get("errors", ()))]


def audit(document: dict[str, Any]) -> list[str]:
    """Return the known faults; says so where the service has no data, which is no fault."""
    asked = document.get("dependencies", [])
    unknown = [one["name"] for one in asked if "skip_reason" in one]
    if unknown:
        some = ", ".join(unknown)[:300]
        print(f"no data on {len(unknown)} of {len(asked)} distributions, so they are skipped: {some}")
    return [
        f"{one['name']} {one['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'no release'}"
        for one in asked
        for fault in one.get("vulns", ())
    ]


def main() -> int:
    """Judge one report; 1 where something is wrong."""
    judge, path = {"bandit": bandit, "audit": audit}[sys.argv[1]], Path(sys.argv[2])
    if not path.exists():
        print(f"{path} was not written: the service cannot be asked from here, so this is skipped")
        return 0 if judge is audit else 1
    wrong = judge(json.loads(path.read_text(encoding="utf-8")))
    print("\n".join(wrong) or "nothing found")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
