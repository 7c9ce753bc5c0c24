"""No hint of what commands do that is not the cure: of files of others, ticks installed, runs, and plug-ins."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_cli.operations import assembly
from chronos_cli.operations.foreign import crontab_source
from chronos_cli.operations.manifest import files as manifest_files
from tests.errors.hinted import tries
from tests.errors.hints_of_state import in_days
from tests.nas_client.played_nas import PlayedNas

UNIT = "[Timer]\nOnCalendar=daily\n", "[Service]\nExecStart=/bin/true\n"


def held(words, refused):
    """Hold that a command was refused on one line with the hint; return the command that stands in it, if one does."""
    assert refused.code not in (0, None), refused
    line = refused.err.strip().splitlines()[-1]
    assert words in line, refused.err
    return next(iter(re.findall(r"`chronos ([^`]+)`", line)[::-1]), "")


def cured(done):
    """Hold that a command went well."""
    assert done.code == 0, done
    return done


@pytest.fixture
def crontab(world, clean_environment):
    """The user's crontab, kept in a file by a program that does what `crontab` does: `.program(TEXT)` writes another."""

    class Crontab:
        file, bin = world.folder / "own", world.folder / "bin"

        def program(self, text):
            (self.bin / "crontab").write_text(f"#!/bin/sh\n{text}\n")
            (self.bin / "crontab").chmod(0o755)

        def works(self):
            self.program(
                f"case $1 in -l) exec cat {self.file};; -r) exec rm {self.file};; esac\nexec cat > {self.file}"
            )

    made = Crontab()
    made.bin.mkdir()
    made.file.write_text("0 9 * * * true\n0 8 * * * false\n")
    made.works()
    clean_environment.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    return made


OWN = ("job", "import", "--from", "crontab")


@tries("operations/foreign/crontab_source.py", "give a FILE", "give a FILE: chronos job import FILE --from crontab")
def test_a_crontab_that_cannot_be_asked_is_read_from_a_file(world, crontab, monkeypatch):
    """Nobody has one, and there is no such program: with a file, as the hint says, its lines come in."""
    crontab.program("echo no crontab for you >&2; exit 1")
    held("give a FILE", world(*OWN))
    cured(world("job", "import", "{tab}", "--from", "crontab", "--dry-run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(world.folder / "nowhere"))
        refused = world(*OWN)
    held("give a FILE: chronos job import FILE --from crontab", refused)
    words = refused.err.rpartition("give a FILE: chronos ")[2].replace("FILE", "{tab}").split()
    cured(world(*words))


@tries("operations/foreign/crontab_source.py", "import it again")
def test_a_crontab_that_changes_meanwhile_is_imported_again(world, crontab):
    """Nothing is taken out of what nobody has read; the same command again takes it all."""
    once = world.folder / "once"
    crontab.program(
        f'case $1 in -l) cat {crontab.file}; [ -e {once} ] || echo "0 7 * * * date" >> {crontab.file}; exec touch {once};;\n'
        f" -r) exec rm {crontab.file};; esac\nexec cat > {crontab.file}"
    )
    held("import it again", world(*OWN, "--disable-source"))
    assert len(crontab.file.read_text().splitlines()) == 3
    cured(world(*OWN, "--disable-source"))
    assert not crontab.file.exists()


@tries(
    "operations/foreign/crontab_source.py",
    "nothing was taken out; see that it can be written there, and import it again",
    "see why, and import it again; what it held is in",
)
def test_lines_that_could_not_be_taken_out_are_taken_out_by_another_import(world, crontab, monkeypatch):
    """The backup that cannot be written, and the crontab that takes no change: both are followed, and the lines go."""
    there = crontab.file.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(crontab_source, "place_at", _no_room)
        held(
            "nothing was taken out; see that it can be written there, and import it again",
            world(*OWN, "--disable-source"),
        )
    assert crontab.file.read_text() == there
    crontab.program(f"[ $1 = -l ] && exec cat {crontab.file}\necho no space >&2; exit 1")
    refused = world(*OWN, "--disable-source")
    held("see why, and import it again; what it held is in", refused)
    kept = refused.err.strip().rpartition("what it held is in ")[2]
    assert Path(kept).read_text() == there
    Path(kept).unlink()  # it is named by the second
    crontab.works()
    cured(world(*OWN, "--disable-source"))
    assert not crontab.file.exists()


def _no_room(path):
    raise OSError(28, "No space left on device")


def _units(world, name, timer=UNIT[0]):
    folder = world.folder / "units"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.timer").write_text(timer)
    (folder / f"{name}.service").write_text(UNIT[1])
    return folder


@tries("operations/foreign/systemd.py", "name the timer, not the service", "save it as UTF-8", "rename the unit")
@tries("operations/foreign/upsert.py", "leave out one of the two", "rename it where it comes from")
def test_units_that_are_named_as_the_hint_says_are_taken(world):
    """The service in the timer's place, a name that is no id, a text that is none, and names that two would have."""

    def bring(path):
        return world("job", "import", path, "--from", "systemd", "--dry-run")

    folder = _units(world, "x")
    held("name the timer, not the service", bring(folder / "x.service"))
    cured(bring(folder / "x.timer"))
    (folder / "x.service").write_bytes(b"[Service]\nExecStart=/bin/true\n# \xff\n")
    held("save it as UTF-8", bring(folder / "x.timer"))
    (folder / "x.service").write_text("[Service]\nExecStart=/bin/true\n# \xff\n", encoding="utf-8")
    cured(bring(folder / "x.timer"))
    for end in ("timer", "service"):
        (folder / f"x.{end}").rename(folder / f"x y.{end}")
    held("rename the unit", bring(folder / "x y.timer"))
    for end in ("timer", "service"):
        (folder / f"x y.{end}").rename(folder / f"x_y.{end}")
    cured(bring(folder / "x_y.timer"))
    _units(world, "two", "[Timer]\nOnCalendar=daily\nOnCalendar=hourly\n")
    _units(world, "two-2")
    held("leave out one of the two", bring(folder))
    (folder / "two-2.timer").unlink()
    cured(bring(folder))
    _units(world, "a")
    held("rename it where it comes from", bring(folder))
    for end in ("timer", "service"):
        (folder / f"a.{end}").rename(folder / f"another.{end}")
    cured(bring(folder))


@tries(
    "operations/install/__init__.py",
    "install by hand what the same command prints without --yes",
    "take out by hand what `chronos tick --install",
)
def test_a_tick_is_installed_and_removed_by_hand_as_the_hint_says(world, crontab):
    """What the command prints without --yes is what it would write: put there by hand it is found installed."""
    crontab.program(f"[ $1 = -l ] && exec cat {crontab.file}\necho full >&2; exit 1")
    install = ("tick", "--install", "crontab")
    held("install by hand what the same command prints without --yes", world(*install, "--yes"))
    line = cured(world(*install)).out
    before = crontab.file.read_text()
    crontab.file.write_text(before + line)
    crontab.works()
    assert "installed already" in cured(world(*install, "--yes")).out
    crontab.program(f"[ $1 = -l ] && exec cat {crontab.file}\necho full >&2; exit 1")
    command = held(
        "take out by hand what `chronos tick --install crontab` prints", world(*install, "--remove", "--yes")
    )
    line = cured(world(*shlex.split(command))).out
    crontab.file.write_text(crontab.file.read_text().replace(line, ""))
    assert crontab.file.read_text() == before
    crontab.works()
    assert "removed already" in cured(world(*install, "--remove", "--yes")).out


@pytest.mark.parametrize("kind", ["crontab", "systemd"])
@tries(
    "operations/install/__init__.py",
    "rename the home",
    "a value without one",
    "install chronos where its path has none",
)
def test_a_home_or_a_variable_that_no_unit_can_say_is_renamed(world, monkeypatch, kind):
    """A line break in the path of the home, and in a variable that the tick is handed: without it, it is said."""
    broken = world.folder / "a\nb"
    world.home.rename(broken)
    held("rename the home", world("--home", broken, "tick", "--install", kind))
    broken.rename(world.home)
    cured(world("tick", "--install", kind))
    monkeypatch.setenv("CHRONOS_SAFE_HOMES", "/a\n/b")
    held("give CHRONOS_SAFE_HOMES a value without one", world("tick", "--install", kind))
    monkeypatch.setenv("CHRONOS_SAFE_HOMES", "/a:/b")
    cured(world("tick", "--install", kind))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(world.folder / "p\nq" / "python"))
        patch.setenv("PATH", str(world.folder))
        held("install chronos where its path has none", world("tick", "--install", kind))
    cured(world("tick", "--install", kind))


@tries("operations/manifest/files.py", "apply them in several steps", "give a file")
@tries("operations/manifest/nodes.py", "put the file right", "take it apart into several files")
def test_files_of_jobs_that_are_too_large_are_taken_in_parts(world, monkeypatch):
    """Too many jobs, too many bytes on standard input, nothing there to be read, and JSON that nests without end."""

    def apply(text, *words):
        stdin = io.TextIOWrapper(io.BytesIO(text if isinstance(text, bytes) else text.encode()))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin)
            return world("apply", *(words or ("-f", "-")), "--set", "s", "--dry-run")

    job = "- {id: %s, schedule: '@daily', shell: 'true'}\n"
    with monkeypatch.context() as patch:
        patch.setattr(manifest_files, "MAX_JOBS", 2)
        held("apply them in several steps", apply("".join(job % name for name in "xyz")))
        cured(apply(job % "x"))
        cured(apply(job % "y" + job % "z"))
    held("take it apart into several files", apply(job % "x" + "#" * (8 << 20)))
    cured(apply(job % "x"))
    held("put the file right", apply("[" * 3000 + "]" * 3000))
    cured(apply("[]"))
    with monkeypatch.context() as patch, Path(os.devnull).open("wb", buffering=0) as shut:
        patch.setattr(sys, "stdin", SimpleNamespace(buffer=shut))
        held("give a file", world("apply", "-f", "-"))
    cured(world("apply", "-f", "{set}", "--dry-run"))


@tries("providers/plugins.py", "put the plug-in right, see `chronos provider list`")
def test_a_plug_in_that_fails_is_put_right_as_the_hint_says(world):
    """The change is kept, `provider list` names the plug-in, and once it is right the next change goes through."""
    folder = world.home / "plugins" / "mine"
    folder.mkdir(parents=True)
    text = (
        "from chronos_cli.providers.interface import CronScheduler\n\n\nclass Mine(CronScheduler):\n    name = 'mine'\n\n"
        "    def start(self, *_, **__):\n        pass\n"
    )
    (folder / "__init__.py").write_text(
        text + "\n    def register_job(self, job_id):\n        raise OSError('no bell')\n"
    )
    (world.home / "config.yaml").write_text("timezone: UTC\ncron: {provider: mine}\n")
    refused = world("job", "edit", "a", "--retries", "3")
    command = held("put the plug-in right, see `chronos provider list`", refused)
    assert str(folder) in cured(world(*shlex.split(command), "--json")).out
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    (folder / "__init__.py").write_text(text)
    cured(world("job", "edit", "a", "--retries", "4"))


def _record(world, **fields):
    document = json.loads(world.path.read_text())
    document["jobs"][0]["chronos"].pop("action", None)
    document["jobs"][0].update(fields)
    document["jobs"][0] = {name: value for name, value in document["jobs"][0].items() if value is not None}
    world.path.write_text(json.dumps(document))


def _script(world, name, text):
    (world.home / "scripts").mkdir(exist_ok=True)
    (world.home / "scripts" / name).write_text(text)


@tries(
    "running/actions.py",
    "fire it through hermes, or take that field out",
    "give its whole path",
    "install bash, or write the script in Python",
)
def test_scripts_of_hermes_run_once_their_record_is_right(world, monkeypatch):
    """A field that only hermes reads, an interpreter that is no program, and a shell that is not there."""
    _script(world, "x.py", "print(5)\n")
    _record(world, script="x.py", no_agent=True, monitor_url="https://x.example")
    held("fire it through hermes, or take that field out", world("run", "a"))
    _record(world, monitor_url=None)
    cured(world("run", "a"))
    _record(world, interpreter="python-of-nobody")
    held("give its whole path", world("run", "a"))
    _record(world, interpreter=sys.executable)
    cured(world("run", "a"))
    _script(world, "x.sh", "true\n")
    _record(world, script="x.sh", interpreter=None)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(world.folder / "nowhere"))
        held("install bash, or write the script in Python", world("run", "a"))
        _record(world, script="x.py")
        cured(world("run", "a"))
    _record(world, script="x.sh")
    cured(world("run", "a"))


@tries("running/process.py", "see that it can be written")
@tries("running/errors.py", "try again later, or allow this user more: `ulimit -a` shows what it may have")
def test_what_a_run_lacks_is_given_to_it_as_the_hint_says(world, monkeypatch):
    """A file in the place of its output, and no process to spare: then it runs."""
    output = world.home / "cron" / "output"
    shutil.rmtree(output)
    output.write_text("")
    held("cron/output: Not a directory: see that the file can be used, and try again", world("run", "a"))
    output.unlink()
    cured(world("run", "a"))
    (log,) = (output / "a").iterdir()
    at = in_days(0) - timedelta(minutes=1)
    _record(world, next_run_at=at.isoformat(), chronos={"action": {"shell": "true"}})
    way = output / "a" / f"{at:%Y%m%dT%H%M%SZ}{log.suffix}"
    way.mkdir()
    held("see that it can be written", world("tick"))
    way.rmdir()
    _record(world, next_run_at=at.isoformat(), chronos={"action": {"shell": "true"}})
    cured(world("run", "a"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", _none_to_spare)
        patch.setattr(os, "posix_spawn", _none_to_spare)
        refused = world("run", "a")
    held("try again later, or allow this user more: `ulimit -a` shows what it may have", refused)
    cured(world("run", "a"))


@tries("running/references.py", "put it there, or change the job with `chronos job edit`")
def test_what_a_job_refers_to_is_put_there_as_the_hint_says(world):
    """A variable from a file that is not there, and a file of variables: put there, or named no more, the job runs."""
    files = world.folder / "secret", world.folder / "vars"
    cured(world("job", "edit", "a", "--env", f"T=file:{files[0]}", "--env-file", files[1]))
    for path in files[::-1]:
        held("put it there, or change the job with `chronos job edit`", world("run", "a"))
        path.write_text("A=1\n")
        path.chmod(0o600)
    cured(world("run", "a"))
    files[0].unlink()
    held("put it there, or change the job with `chronos job edit`", world("run", "a"))
    cured(world("job", "edit", "a", "--unset-env", "T"))
    cured(world("run", "a"))


def _none_to_spare(*_, **__):
    raise OSError(11, "Resource temporarily unavailable")


@pytest.fixture
def played(world, monkeypatch):
    """A NAS, and the home configured for it, with the job a alone."""
    nas = PlayedNas()
    monkeypatch.setattr("chronos_cli.nas_client.client._BACKOFF_S", 0.01)
    document = json.loads(world.path.read_text())
    world.path.write_text(json.dumps({**document, "jobs": document["jobs"][:1]}))
    text = (
        f"timezone: UTC\ncron: {{provider: chronos, chronos: {{portal_url: {nas.url}, callback_url: 'http://127.0.0.1:9', "
        "token_file: token, expected_audience: a}}\n"
    )
    (world.home / "config.yaml").write_text(text)
    (world.home / "token").write_text("t")
    (world.home / "token").chmod(0o600)
    nas.home = world.home
    yield nas
    nas.close()


@tries("operations/jobs/edit.py", "put it right first: `date -u` shows it")
@tries("operations/firing/tick.py", "compare the clock (date -u), and try again when NAS answers")
def test_a_clock_that_nas_contradicts_is_put_right_as_the_hint_says(world, played, monkeypatch):
    """Set years ahead: `realign` vouches for nothing, and `tick` leaves a job alone where NAS is silent as well."""
    ahead = in_days(5000)
    _record(world, next_run_at=ahead.isoformat())
    document = json.loads(world.path.read_text())
    document["jobs"][0]["chronos"]["action"] = {"shell": "true"}
    world.path.write_text(json.dumps(document))
    clock = assembly._now
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "_now", lambda: clock() + (in_days(4000) - in_days(0)))
        held("put it right first: `date -u` shows it", world("job", "realign", "a"))
    cured(world("job", "realign", "a"))
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "_now", lambda: clock() + (in_days(4000) - in_days(0)))
        patch.setattr("socket.socket.connect", _nobody)
        held("compare the clock (date -u), and try again when NAS answers", world("tick"))
    cured(world("tick"))


def _nobody(*_):
    raise ConnectionRefusedError(111, "Connection refused")
