"""Debian's own reading of a crontab: its entry.c and env.c, built from the source package of this machine's archive."""

import os
import subprocess
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from chronos_cli.core.cron_fields import fields_of
from tests.conftest import ROOT, require_program

DOM_STAR, DOW_STAR, REBOOT, MIN_STAR, HR_STAR = 1, 2, 4, 8, 16


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a crontab as Debian's cron holds it. `flags`: which fields begin with a star."""

    flags: int
    fields: dict[str, frozenset[int]]
    env: dict[bytes, bytes]
    command: bytes


def same(expr, entry):
    """Whether both hold one and the same: the sets, the kind of job, and how the two days are joined."""
    mine = fields_of(expr)
    by_month = {month for month in range(1, 13) if month in mine.months}
    read = (set(mine.minutes), set(mine.hours), by_month, mine.starred)
    fields = entry.fields
    starred = bool(entry.flags & (MIN_STAR | HR_STAR))
    if read != (fields["minute"], fields["hour"], fields["month"], starred):
        return False
    both = entry.flags & (DOM_STAR | DOW_STAR)
    for number in range(0, 1461, 3):
        day = date(2024, 1, 1) + timedelta(days=number)
        dom, dow = day.day in fields["dom"], day.isoweekday() % 7 in fields["dow"]
        if mine.on_day(day) != ((dom and dow) if both else (dom or dow)):
            return False
    return True


def _run(*argv, cwd, env=None):
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"Debian's source of cron ({argv[0]}: {done.stderr.decode(errors='replace').strip()[-200:]})")
    return done.stdout.decode()


def _source(folder):
    """Where the source of cron is unpacked: what CHRONOS_TEST_CRON_SOURCE names, else fetched with apt."""
    if given := os.environ.get("CHRONOS_TEST_CRON_SOURCE"):
        return Path(given)
    apt = require_program("apt-get")
    require_program("dpkg-source")
    shown = _run(apt, "indextargets", "--format", "$(ORIGIN) $(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages",
                 cwd=folder)  # fmt: skip
    places = {line.split(maxsplit=1)[1] for line in shown.splitlines() if line.startswith("Debian ")}
    if not places:
        pytest.skip("no Debian archive is named here")
    (folder / "sources.list").write_text("".join(f"deb-src {place}\n" for place in sorted(places)))
    (folder / "lists" / "partial").mkdir(parents=True)
    here = ["-o", f"Dir::Etc::sourcelist={folder}/sources.list", "-o", "Dir::Etc::sourceparts=/dev/null",
            "-o", f"Dir::State::lists={folder}/lists", "-o", "APT::Sandbox::User=root"]  # fmt: skip
    _run(apt, *here, "update", cwd=folder)
    _run(apt, *here, "source", "cron", cwd=folder)
    return next(path.parent for path in folder.glob("*/entry.c"))


class DebianCron:
    """The reader, built once."""

    def __init__(self, folder):
        source = _source(folder)
        self._program = folder / "read-crontab"
        _run(require_program("gcc"), "-w", "-DDEBIAN", "-DPOSIX", "-DDEBUGGING=0", f"-I{source}", str(ROOT / "tests" / "debian_cron.c"),
             *(str(source / name) for name in ("entry.c", "env.c", "misc.c")), "-o", str(self._program), cwd=folder)  # fmt: skip
        self._table = folder / "table"

    def read(self, table):
        """The entries of a crontab (bytes), in order, and what Debian says of the first line that it refuses."""
        self._table.write_bytes(table)
        done = subprocess.run([self._program, self._table], capture_output=True, timeout=60, check=True)
        entries, env, flags, fields = [], {}, 0, {}
        for line in done.stdout.split(b"\n"):
            kind, _, rest = line.partition(b" ")
            if kind == b"bad":
                return entries, rest.decode()
            if kind == b"entry":
                flags, *spans = rest.decode().split()
                fields = {name: frozenset(map(int, found)) for name, *found in (span.split(",") for span in spans)}
                env = {}
            elif kind == b"env":
                name, _, value = rest.partition(b"=")
                env[name] = value
            elif kind == b"cmd":
                entries.append(Entry(flags=int(flags), fields=fields, env=env, command=rest))
        return entries, None
