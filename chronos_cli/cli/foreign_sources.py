"""The sources of `chronos job import --from KIND`: a file, a folder of files, or what the machine has."""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chronos_cli.config.zone import machine_zone
from chronos_cli.core.instant import named_zone
from chronos_cli.core.job import ours_of
from chronos_cli.errors import UsageError
from chronos_cli.frozen import frozen, replace
from chronos_cli.operations.foreign.crontab import Machine
from chronos_cli.operations.foreign.crontab_source import read_file, read_own
from chronos_cli.operations.foreign.upsert import ForeignJobs, ForeignSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chronos_cli.cli.invocation import Invocation
    from chronos_cli.operations.context import Context
    from chronos_cli.operations.foreign.crontab import Crontab
    from chronos_cli.operations.foreign.folders import FolderListing

_MOST_TOLD: Final = 30
_SYSTEM: Final = "/etc/crontab"
_SYSTEM_UNITS: Final = "/etc/systemd/system"


@frozen
class Options:
    """The options of an import from another scheduler; `kind` is crontab, kubernetes or systemd."""

    kind: str
    file: str | None
    dry_run: bool
    detailed: bool
    seconds: str | None
    system: bool
    prune: bool
    disable_source: bool
    local: bool
    skip_refused: bool
    zone_name: str | None


@frozen
class ImportSource:
    """The result of reading: the sources, what was said about them, and of a crontab its bytes.

    `refused`: what cannot be understood, and did not come in. `within`: see import_foreign.
    """

    sources: tuple[ForeignSource, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[UsageError, ...] = ()
    within: str | None = None
    ignored: tuple[str, ...] = ()
    table: bytes = b""


def read_sources(invocation: Invocation, options: Options, context: Context) -> ImportSource:
    """Read what an import names. Raises UsageError where nothing of it can be taken over."""
    read = {"crontab": _crontab, "kubernetes": _kubernetes, "systemd": _systemd}[options.kind]
    return read(invocation, options, context)


def _folder(options: Options) -> Path | None:
    """Return the folder that FILE is, None where it is a file or no FILE is given."""
    place = Path(options.file or "-").expanduser()
    return place if options.file not in (None, "-") and place.is_dir() else None


# -- crontabs -------------------------------------------------------------------------------------------------------


def _crontab(invocation: Invocation, options: Options, context: Context) -> ImportSource:
    from chronos_cli.operations.foreign.crontab import be_of

    machine = machine_of(invocation.environ)
    if (place := _folder(options)) is not None:
        return _crontabs(place, machine, invocation, options, context)
    file = options.file or (_SYSTEM if options.system else None)
    table = read_own(invocation.environ) if file is None else read_file(file)
    found, wrong = _table(table, "", machine, invocation, options, context)
    if not wrong:
        be_of(machine, (found,))
    path = Path(str(file)).expanduser()
    source = (
        _system_source(path, "", found, machine, wrong)
        if options.system
        else _own_source([("", found)], machine, wrong)
    )
    return _found([("", found)], [source], wrong, table=table)


def _crontabs(
    place: Path, machine: Machine, invocation: Invocation, options: Options, context: Context
) -> ImportSource:
    """Read a folder of crontabs: with --system as cron reads `/etc/cron.d`, where each file is a source of its own."""
    from chronos_cli.operations.foreign.crontab import be_of
    from chronos_cli.operations.foreign.folders import own_crontabs, system_crontabs

    folder = system_crontabs(place) if options.system else own_crontabs(place, machine)
    tables: list[tuple[str, Crontab]] = []
    sources: list[ForeignSource] = []
    refused: list[UsageError] = []
    for path in folder.files:
        table = b""
        try:
            table = read_file(str(path))
            quiet = table.startswith(b"#!")
            found, wrong = _table(table, path.name, machine, invocation, options, context, tell=not quiet)
        except UsageError as error:
            refused.append(_of_file(path.name, _programs_fault() if table.startswith(b"#!") else error))
            sources.append(ForeignSource(name=_system_name(path), still_there=_every))
            continue
        tables.append((path.name, found))
        refused += wrong
        sources.append(_system_source(path, path.name, found, machine, wrong))
    within = f"{_system_name(place / 'x')[:-1]}" if options.system else None
    if not options.system:
        sources = [_own_source(tables, machine, refused)]
    if not folder.files and not _is_known(context, within or "crontab"):
        _tell_ignored(invocation, folder)
        raise UsageError(f"{place} has no crontab", hint="name a folder of crontabs, or one file")
    if refused and not any(found.entries for _, found in tables):
        _tell_refused(invocation, refused[1:])
        raise refused[0]
    if not refused:
        be_of(machine, [found for _, found in tables])
    return _found(tables, sources, refused, within=within, ignored=folder.ignored)


def _table(
    table: bytes,
    name: str,
    machine: Machine,
    invocation: Invocation,
    options: Options,
    context: Context,
    *,
    tell: bool = True,
) -> tuple[Crontab, list[UsageError]]:
    """Return a crontab, and why lines of it are left out. Raises UsageError where that is not asked for."""
    from chronos_cli.operations.foreign.crontab import read_crontab

    wrong: list[UsageError] = []
    found = read_crontab(
        table,
        machine,
        zone_name=options.zone_name or context.home.zone_name,
        now=context.clock(),
        seconds=options.seconds,
        system=options.system,
        wrong=wrong,
    )
    if wrong and not (options.skip_refused and found.entries):
        if tell:
            _tell_refused(invocation, [_of_file(name, error) for error in wrong[1:]])
        first = wrong[0]
        more = "; --skip-refused imports the other lines" if found.entries else ""
        raise UsageError(first.message, hint=f"{first.hint}{more}")
    return found, [_of_file(name, error) for error in wrong]


def _system_name(path: Path) -> str:
    return f"system:{os.path.realpath(path.parent)}/{path.name}"


def _system_source(
    path: Path, name: str, found: Crontab, machine: Machine, wrong: Sequence[UsageError]
) -> ForeignSource:
    from chronos_cli.operations.foreign.crontab_import import jobs_of, settled

    source = _system_name(path)
    jobs, _ = jobs_of([(name, found)], source=source, cron_zone=named_zone(machine.zone_name))
    was = f"system:{os.path.realpath(path)}"
    still_there = _every if wrong else _no
    return ForeignSource(name=source, was=was, jobs=jobs, settle=settled, still_there=still_there)


def _own_source(tables: list[tuple[str, Crontab]], machine: Machine, wrong: Sequence[UsageError]) -> ForeignSource:
    from chronos_cli.operations.foreign.crontab_import import jobs_of, settled

    jobs, earlier = jobs_of(tables, source="crontab", cron_zone=named_zone(machine.zone_name))
    still_there = _every if wrong else _no
    return ForeignSource(name="crontab", jobs=jobs, earlier=earlier, settle=settled, still_there=still_there)


def _found(
    tables: list[tuple[str, Crontab]],
    sources: list[ForeignSource],
    refused: Sequence[UsageError],
    *,
    table: bytes = b"",
    within: str | None = None,
    ignored: tuple[str, ...] = (),
) -> ImportSource:
    left_out = [f"{name}: {text}" if name else text for name, found in tables for text in found.left_out]
    notes: dict[str, list[str]] = {}
    for name, found in tables:
        for note in found.notes:
            notes.setdefault(note, []).append(name)
    said = [f"{', '.join(names)}: {note}" if names[0] else note for note, names in notes.items()]
    if refused:
        said.append("of a file with lines that are refused, what is gone is not told")
    return ImportSource(
        sources=tuple(sources),
        left_out=tuple(left_out),
        notes=tuple(said),
        refused=tuple(refused),
        within=within,
        ignored=ignored,
        table=table,
    )


def _is_known(context: Context, begins: str) -> bool:
    """Return True where a stored job came from a source of this name, or of one that begins so."""
    records = (stored.value for stored in context.repository.jobs().records)
    found = (ours_of(record).get("imported") for record in records if isinstance(record, dict))
    return any(isinstance(one, dict) and str(one.get("source")).startswith(begins) for one in found)


def _programs_fault() -> UsageError:
    return UsageError("it is a program, no crontab", hint="import the crontab with the line that starts it")


def _of_file(name: str, error: UsageError) -> UsageError:
    return UsageError(f"{name}: {error.message}", hint=error.hint) if name else error


def _tell_refused(invocation: Invocation, errors: Sequence[UsageError]) -> None:
    for error in errors[:_MOST_TOLD]:
        invocation.output.warn(f"refused: {error.line()}")
    if len(errors) > _MOST_TOLD:
        invocation.output.warn(f"refused: {len(errors) - _MOST_TOLD} more")


def _tell_ignored(invocation: Invocation, folder: FolderListing) -> None:
    for text in folder.ignored:
        invocation.output.warn(f"ignored: {text}")


def _every(_: str) -> bool:
    return True


def _no(_: str) -> bool:
    return False


# -- CronJobs and timers --------------------------------------------------------------------------------------------


def _kubernetes(invocation: Invocation, options: Options, context: Context) -> ImportSource:
    from chronos_cli.operations.foreign.folders import manifests

    if options.file is None:
        raise UsageError("which CronJobs is not said", hint="give FILE, or - for `kubectl get cronjobs -o yaml`")
    place = _folder(options)
    if place is None:
        jobs = _cronjobs(options.file, options, context)
        source = ForeignSource(name="kubernetes", jobs=jobs.jobs, still_there=jobs.refused.__contains__)
        return ImportSource(sources=(source,), left_out=jobs.left_out, notes=jobs.notes)
    folder, refused, read = manifests(place), list[UsageError](), list[tuple[str, ForeignJobs]]()
    for path in folder.files:
        try:
            read.append((path.name, _cronjobs(str(path), options, context, many=True)))
        except UsageError as error:
            refused.append(_of_file(path.name, error))
    if not any(jobs.jobs or jobs.refused for _, jobs in read):
        _tell_ignored(invocation, folder)
        _tell_refused(invocation, refused[1:])
        raise (
            refused[0]
            if refused
            else UsageError(f"{place} has no CronJob", hint="name a folder of manifests, or a file")
        )
    held = frozenset(key for _, jobs in read for key in jobs.refused)
    source = ForeignSource(
        name="kubernetes",
        jobs=tuple(replace(job, where=f"{name}: {job.where}", file=name) for name, jobs in read for job in jobs.jobs),
        still_there=_every if refused else held.__contains__,
    )
    return ImportSource(
        sources=(source,),
        left_out=tuple(f"{name}: {text}" for name, jobs in read for text in jobs.left_out),
        notes=tuple(dict.fromkeys(note for _, jobs in read for note in jobs.notes)),
        refused=tuple(refused),
        ignored=folder.ignored,
    )


def _cronjobs(file: str, options: Options, context: Context, *, many: bool = False) -> ForeignJobs:
    from chronos_cli.operations.foreign.kubernetes import read_cronjobs

    try:
        text = read_file(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text", hint="save it as UTF-8") from error
    zone_name = options.zone_name or "UTC"
    return read_cronjobs(text, file, zone_name=zone_name, now=context.clock(), local=options.local, many=many)


def _systemd(invocation: Invocation, options: Options, context: Context) -> ImportSource:
    from chronos_cli.operations.foreign.systemd import read_timers

    environ = invocation.environ
    own = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~", ".config").expanduser())
    place = Path(options.file or (_SYSTEM_UNITS if options.system else Path(own, "systemd", "user"))).expanduser()
    jobs = read_timers(
        place,
        machine_of(environ),
        zone_name=options.zone_name or context.home.zone_name,
        now=context.clock(),
        system=options.system,
    )
    one = None if place.is_dir() else place.name

    def still_there(key: str) -> bool:
        """Return whether a job of this key must stay: a look at one named timer tells nothing of the others."""
        timer = key.partition("#")[0]
        return timer in jobs.refused or one not in (None, timer)

    name = "systemd:system" if options.system else "systemd"
    source = ForeignSource(name=name, jobs=jobs.jobs, still_there=still_there)
    return ImportSource(sources=(source,), left_out=jobs.left_out, notes=jobs.notes)


def machine_of(environ: Mapping[str, str]) -> Machine:
    """Return the machine and the user that imports, as cron knows them."""
    try:
        own = pwd.getpwuid(os.geteuid())
        user, folder = own.pw_name, own.pw_dir
    except KeyError:  # a user without an entry, as in some containers
        user, folder = str(os.geteuid()), "/"
    search = f"{environ.get('PATH', '')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    given = environ.get("HOME", "")
    return Machine(
        user=user,
        folder=given if given.startswith("/") else folder,
        zone_name=machine_zone(environ, etc="/etc")[0],
        is_user=_is_user,
        is_program=lambda name, path: shutil.which(name, path=f"{path}:{search}") is not None,
    )


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
