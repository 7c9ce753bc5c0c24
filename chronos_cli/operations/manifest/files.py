"""Read the jobs that `-f` names: of a file, a folder of files, or standard input."""

from __future__ import annotations

import os
import stat
import sys
from errno import EFBIG
from typing import TYPE_CHECKING, Final

from chronos_cli.config.file import MAX_BYTES
from chronos_cli.errors import UsageError
from chronos_cli.files import read_file
from chronos_cli.operations.manifest.bring import WantedJobs
from chronos_cli.operations.manifest.keys import EXTENSION, FILE, LONGEST_SET, NAMES, POLICY_NAMES
from chronos_cli.operations.manifest.node_values import nearest_key, text_of
from chronos_cli.operations.manifest.nodes import read_nodes
from chronos_cli.operations.manifest.spec import defaults_of, spec_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chronos_cli.operations.manifest.nodes import Node
    from chronos_cli.operations.manifest.spec import DescribedJob

ENDINGS: Final = (".yaml", ".yml", ".json")
MAX_JOBS: Final = 100_000


def read_wanted(names: Iterable[str], *, set_name: str | None = None, owned: bool = True) -> WantedJobs:
    """Return the jobs of files, folders or `-`, each with its set. Raises UsageError with the line and column.

    `set_name` is the set of all of them; else a file says it, and where it does not its jobs belong to the absolute
    path of what was named. `owned` False: the jobs get no set, also where the file names one.
    """
    specs: list[DescribedJob] = []
    sets: dict[str, None] = {} if set_name is None else {set_name: None}
    seen: dict[str, DescribedJob] = {}
    for name in names:
        path = None if name == "-" else os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111 - links stay
        for file, data in _files(name, path):
            found = _Reader(set_name or path, fixed=set_name is not None)
            for node in read_nodes(data, file):
                found.take(node)
            sets |= dict.fromkeys(found.sets) if found.sets or path is None else {path: None}
            for spec in found.specs:
                _refuse_twice(seen, spec)
                specs.append(spec)
        if path is not None and os.path.isdir(path) and set_name is None:  # noqa: PTH112
            sets[path] = None
    if len(specs) > MAX_JOBS:
        raise UsageError(f"there are more than {MAX_JOBS} jobs", hint="apply them in several steps")
    return WantedJobs(specs=tuple(specs), sets=tuple(sets) if owned else (), owned=owned)


def wanted_of(nodes: Iterable[Node]) -> WantedJobs:
    """Return the jobs of documents that were read, without a set: for an import."""
    seen: dict[str, DescribedJob] = {}
    found = _Reader(None, fixed=True)
    for node in nodes:
        found.take(node)
    for spec in found.specs:
        _refuse_twice(seen, spec)
    return WantedJobs(specs=tuple(found.specs), owned=False)


def _refuse_twice(seen: dict[str, DescribedJob], spec: DescribedJob) -> None:
    """Refuse an id that another job of the files has, in whatever case: file systems differ there."""
    other = seen.setdefault(spec.job_id.lower(), spec)
    if other is not spec:
        alike = "" if other.job_id == spec.job_id else f", as '{other.job_id}'"
        raise UsageError(f"{spec.at}: job '{spec.job_id}' is in {other.at} already{alike}", hint="take one of them out")


class _Reader:
    """Takes the documents of one file; `set` and `defaults` hold from where they stand."""

    def __init__(self, set_name: str | None, *, fixed: bool) -> None:
        self.specs: list[DescribedJob] = []
        self.sets: list[str] = []
        self._set = set_name
        self._fixed = fixed
        self._defaults: dict[str, Node] = {}

    def take(self, node: Node) -> None:
        """Take one document: a list of jobs, a job, or an object with `set`, `defaults`, `jobs`. Raises UsageError."""
        if node.kind == "list":
            self._jobs(node)
        elif node.kind != "map":
            raise node.wrong("there are no jobs here, but a text", "write `jobs:` and a list of them")
        elif {key.text for key, _ in node.pairs} & {"id", "schedule"}:
            self._add(node)
        else:
            self._file(node)

    def _file(self, node: Node) -> None:
        names = [key.name for key in FILE]
        said: dict[str, Node] = {}
        for key, value in node.pairs:
            if key.text == "schema" and value.text.startswith("chronos.export/"):
                raise key.wrong("this is what `chronos job export` wrote", "`chronos job import` reads it")
            if key.text in names:
                said[key.text] = value
            elif key.text != "$schema" and not key.text.startswith(EXTENSION):
                known = names if key.text not in (*NAMES, *POLICY_NAMES) else ["defaults"]
                hint = nearest_key(key.text, names) if known is names else "put it under 'defaults', or into each job"
                raise key.wrong(f"a file has no key '{key.text[:60]}'", hint)
        if "set" in said:
            name = text_of(said["set"], "set").strip()
            if len(name) > LONGEST_SET or not name.isprintable():
                raise said["set"].wrong("the name of the set is no line of text", "give it a short name")
            if not self._fixed:
                self._set = name
                self.sets.append(name)
        if "defaults" in said:
            node = said["defaults"]
            self._defaults = {} if node.kind == "null" else defaults_of(node)
        if "jobs" in said:
            self._jobs(said["jobs"])

    def _jobs(self, node: Node) -> None:
        if node.kind == "null":
            return
        if node.kind != "list":
            raise node.wrong("jobs is a list", "write each job after a dash")
        for item in node.items:
            self._add(item)

    def _add(self, node: Node) -> None:
        if node.kind == "map" and any(key.text == "schedule" and value.kind == "map" for key, value in node.pairs):
            raise node.wrong("this is a record of a store", "`chronos job import` reads it")
        self.specs.append(spec_of(node, self._defaults, set_name=self._set))
        if self._set is not None and self._set not in self.sets:
            self.sets.append(self._set)


def _files(name: str, path: str | None) -> Iterable[tuple[str, bytes]]:
    """Yield the name and the bytes of each file that is named."""
    if path is None:
        yield "-", _stdin()
        return
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", hint="check the name") from error
    if not stat.S_ISDIR(mode):
        yield name, _read(name, path)
        return
    inside = sorted(entry for entry in os.listdir(path) if not entry.startswith("."))  # noqa: PTH208
    chosen = [entry for entry in inside if entry.endswith(ENDINGS)]
    for entry in chosen:
        yield os.path.join(name, entry), _read(os.path.join(name, entry), os.path.join(path, entry))  # noqa: PTH118


def _read(name: str, path: str) -> bytes:
    try:
        return read_file(path, most=MAX_BYTES)
    except OSError as error:
        if error.errno == EFBIG:
            raise UsageError(f"{name} is larger than {MAX_BYTES} bytes", hint="take it apart") from error
        raise UsageError(f"{name} cannot be read: {error.strerror}", hint="check the name, or move it away") from error


def _stdin() -> bytes:
    try:
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"- cannot be read: {error.strerror}", hint="give a file") from error


def is_manifest(nodes: Iterable[Node]) -> bool:
    """Say whether documents are jobs in the words of `chronos apply`, and not records of a store."""
    for node in nodes:
        said = {key.text: value for key, value in node.pairs}
        jobs = said["jobs"].items if "jobs" in said and said["jobs"].kind == "list" else node.items or (node,)
        if "schema" in said or not (node.kind == "list" or {"jobs", "id", "schedule"} & said.keys()):
            return False
        for job in jobs:
            keys: Mapping[str, Node] = {key.text: value for key, value in job.pairs}
            if "chronos" in keys or ("schedule" in keys and keys["schedule"].kind in ("map", "null")):
                return False
    return True
