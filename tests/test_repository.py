"""What holds for the repository as a whole: its words, its light start, and the promises its texts make."""

import ast
import email.parser
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import chronos_cli
from chronos_cli.errors import ChronosError, ExitCode
from tests.conftest import LAYERS, ROOT, require_module, require_program

# In pieces, so that the words do not occur here either.
BANNED_VENDORS = ("q" + "stash", "up" + "stash")
MACHINE_PATHS = ("/" + "root/", "/" + "work/", "/opt/" + "venvs")
STRANGER = "pip install " + "chronos-cli"
HEAVY = ("requests", "jwt", "yaml", "rich", "cryptography", "obstore", "asyncio", "sqlite3")


def _tracked():
    """Every file of the repository, by its path and text; files that are no text are left out."""
    require_program("git")
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip(f"git cannot list this checkout: {listed.stderr.decode().strip()}")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            try:
                yield name, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


@pytest.mark.parametrize("word", BANNED_VENDORS)
def test_no_scheduler_vendor_is_named(word):
    """The two vendor names that the contract bans occur in no file's name and no file's text."""
    found = [name for name, text in _tracked() if word in name.lower() or word in text.lower()]
    assert found == []


@pytest.mark.parametrize("path", MACHINE_PATHS)
def test_no_path_of_somebodys_machine_is_named(path):
    """Nothing depends on, or speaks of, a place that only one machine has."""
    assert [name for name, text in _tracked() if path in text] == []


def test_no_text_says_to_install_the_strangers_program():
    """The package index has another program under the command's name; no text ever says to install it."""
    assert [name for name, text in _tracked() if STRANGER in text] == []


def test_the_top_level_holds_what_it_should():
    """A newcomer finds few things at the top, each with a reason to be there."""
    top = {name.split("/")[0] for name, _ in _tracked()}
    assert top <= {
        ".ci", ".gitignore", ".github", ".pre-commit-config.yaml", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md",
        "SECURITY.md", "chronos_cli", "completions", "docs", "pyproject.toml", "tests",
    }  # fmt: skip


def test_the_command_line_starts_light():
    """Importing the command line brings in nothing that only some commands need."""
    code = f"import sys, chronos_cli.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip() == "[]"


def test_the_version_can_be_had_without_anything_else():
    """The version is a plain text of three numbers, and importing it loads no other module of ours."""
    assert re.fullmatch(r"\d+\.\d+\.\d+([.-]?(dev|a|b|rc)\d+)?", chronos_cli.__version__)
    code = "import sys, chronos_cli; print([name for name in sys.modules if name.startswith('chronos_cli.')])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.strip() == "[]"


def test_the_readme_has_the_one_table_of_exit_codes():
    """The README's table names every exit code there is, and no other."""
    rows = re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [int(code) for code in rows] == sorted(ExitCode)


def _errors(family=ChronosError):
    for child in family.__subclasses__():
        yield child
        yield from _errors(child)


def test_every_error_class_says_what_it_is():
    """Each class of the family has an exit code of the table, a status, and a hint that says what to do next."""
    for kind in [ChronosError, *_errors()]:
        assert kind.exit_code in ExitCode, kind
        assert 200 <= kind.http_status < 600, kind
        assert kind.default_hint, kind
        assert kind.__doc__, kind


def _imports(path):
    """The modules that a file imports anywhere, annotations' own imports left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if (ROOT / inner.replace(".", "/")).with_suffix(".py").exists() else node.module


FORMER = {ROOT / "chronos_cli" / "providers" / "inside_hermes.py"}
GROUND = {
    "",
    "abandon",
    "authority",
    "collector",
    "connections",
    "contract",
    "durations",
    "errors",
    "files",
    "flock",
    "frozen",
    "help_text",
    "owners",
    "private_memory",
    "screen",
    "streams",
    "strict_json",
}
LONGEST_MODULE = 400
# Each room, and the rooms below it that it may use; any room may stand on the ground.
ROOMS = {
    "cli": {"callback", "config", "core", "demo", "operations", "providers", "running", "store", "trust"},
    "callback": {"config", "core", "nas_client", "operations", "providers", "running", "trust"},
    "hermes": {"config", "core", "operations", "providers", "running", "trust"},
    "providers": {"config", "core", "nas_client", "operations"},
    "demo": {"config", "core", "operations"},
    "operations": {"config", "core", "nas_client", "running", "store", "trust"},
    "store": {"core"},
    "running": {"core"},
    "nas_client": {"config"},
    "trust": set(),
    "config": set(),
    "core": set(),
    "nas_server": set(),
    "operations.doctor": {"arming", "context", "evaluate", "firing", "jobs", "views"},
    "operations.install": set(),
    "operations.views": {"context", "evaluate"},
    "operations.foreign": {"context", "evaluate", "jobs"},
    "operations.manifest": {"context", "evaluate", "jobs"},
    "operations.jobs": {"context", "evaluate", "firing", "witness"},
    "operations.firing": {"arming", "assembly", "context", "evaluate", "witness"},
    "operations.arming": {"context", "evaluate", "evaluate_all"},
    "operations.evaluate_all": {"context", "evaluate"},
    "operations.evaluate": {"context"},
    "operations.alerts": set(),
    "operations.assembly": {"context"},
    "operations.context": {"alerts"},
    "operations.witness": {"context"},
    "nas_server.cli": {"addresses", "conformance", "home", "http", "keys", "options", "relay", "serve", "timers"},
    "nas_server.serve": {"event_log", "http", "keys", "metrics", "open_files", "options", "pulse", "relay", "timers"},
    "nas_server.pulse": {"event_log", "timers"},
    "nas_server.options": {"addresses", "http", "relay"},
    "nas_server.http": {"addresses", "bodies", "keys", "metrics", "timers"},
    "nas_server.relay": {"addresses", "bodies", "timers"},
    "nas_server.bodies": {"addresses", "timers"},
    "nas_server.home": {"keys", "timers"},
    "nas_server.timers": set(),
    "nas_server.conformance": set(),
    "nas_server.addresses": set(),
    "nas_server.event_log": set(),
    "nas_server.keys": set(),
    "nas_server.metrics": set(),
    "nas_server.open_files": set(),
}


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_point_down(room):
    """A room imports only the ground and the rooms that stand below it."""
    house, _, inner = room.partition(".")
    place = ROOT / "chronos_cli" / house / inner
    prefix = f"chronos_cli.{house}." if inner else "chronos_cli."
    allowed = ROOMS[room] | {inner or house} | (set() if inner else GROUND)
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")])
        if path not in FORMER
        for module in _imports(path)
        if f"{module}.".startswith(prefix) and module[len(prefix) :].split(".")[0] not in allowed
    ]
    assert wrong == []


def test_every_package_is_a_room():
    """No package and no module of the two large rooms stands outside the plan above."""
    top = {path.name for path in (ROOT / "chronos_cli").iterdir() if (path / "__init__.py").exists()}
    assert top - GROUND == {room for room in ROOMS if "." not in room}
    for house in ("operations", "nas_server"):
        places = (ROOT / "chronos_cli" / house).iterdir()
        inside = {path.stem for path in places if path.suffix == ".py" or (path / "__init__.py").exists()}
        planned = {room.partition(".")[2] for room in ROOMS if room.startswith(f"{house}.")}
        assert inside - {"__init__", "__main__"} == planned, house


def test_no_module_is_long():
    """No file of the package is longer than a reader takes in at once; the longest are read by one idea each."""
    package = ROOT / "chronos_cli"
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in package.rglob("*.py")}
    long = {path.relative_to(package).as_posix() for path, lines in lengths.items() if lines > LONGEST_MODULE}
    assert long == set()


def test_the_core_is_pure():
    """The core imports the standard library, the errors, records and itself, and no part of the library that does I/O."""
    io = {"os", "subprocess", "socket", "pathlib", "shutil", "tempfile", "time", "random", "secrets", "threading"}
    for path in sorted((ROOT / "chronos_cli" / "core").rglob("*.py")):
        for module in _imports(path):
            first = module.split(".")[0]
            ours = (
                module.startswith(
                    ("chronos_cli.core", "chronos_cli.durations", "chronos_cli.errors", "chronos_cli.frozen")
                )
                or module == "chronos_cli"
            )
            assert ours or (first in sys.stdlib_module_names and first not in io), (path, module)


def test_documents_are_reached_by_the_repository():
    """Outside the store nobody reaches past the repository, which knows what a conflict and a lost answer ask for."""
    files = [path for path in (ROOT / "chronos_cli").rglob("*.py") if "store" not in path.parts]
    assert [str(path) for path in files if "repository.documents" in path.read_text(encoding="utf-8")] == []


WRITES = {
    "ask_to_end", "begin", "change", "change_arm", "change_many", "change_together", "create_pack", "create_row", "delete", "drop_arm",
    "end_leftovers", "evaluate", "evaluate_all", "evaluate_together", "forget", "mend_store_id", "prune_rows",
    "replace_row", "send_alerts", "set_aside", "swap_arm", "sweep", "unlink", "update", "write_bytes", "write_text",
}  # fmt: skip


def test_views_write_nothing_and_signal_nothing():
    """No function of a view calls what writes to the store, settles a job, or ends a process."""
    found = {
        f"{path.name}:{node.lineno} {name}"
        for path in (ROOT / "chronos_cli" / "operations" / "views").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and (name := ast.unparse(node.func).rpartition(".")[2]) in WRITES
    }
    assert found == set()


def test_the_nas_shares_only_the_ground():
    """The NAS is a program of its own: of the agent's side it knows the wire contract, the errors and the records."""
    allowed = (
        "chronos_cli.nas_server",
        "chronos_cli.contract",
        "chronos_cli.errors",
        "chronos_cli.frozen",
        "chronos_cli.files",
        "chronos_cli.durations",
        "chronos_cli.help_text",
        "chronos_cli.private_memory",
        "chronos_cli.screen",
        "chronos_cli.connections",
        "chronos_cli.streams",
        "chronos_cli.strict_json",
    )
    for path in sorted((ROOT / "chronos_cli" / "nas_server").rglob("*.py")):
        for module in _imports(path):
            assert not module.startswith("chronos_cli.") or module.startswith(allowed), (path, module)


def test_the_former_name_of_the_nas_still_starts_it():
    """`python -m chronos_cli.authority` is `chronos-nas`, for one release."""
    ran = subprocess.run(
        [sys.executable, "-m", "chronos_cli.authority", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "serve" in ran.stdout


def test_a_wheel_is_whole_and_named_right(tmp_path):
    """The built wheel is chronos-cron, has both commands and the typing mark, and its texts name no stranger."""
    require_module("hatchling")
    code = "import os, sys; os.chdir(sys.argv[1]); from hatchling.build import build_wheel; build_wheel(sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, str(ROOT), str(tmp_path)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        folder = next(name for name in names if name.endswith("/METADATA")).rsplit("/", 1)[0]
        metadata = archive.read(f"{folder}/METADATA").decode()
        points = archive.read(f"{folder}/entry_points.txt").decode()
    head = email.parser.Parser().parsestr(metadata)
    assert head["Name"] == "chronos-cron"
    assert head["Version"] == chronos_cli.__version__
    assert STRANGER not in metadata
    assert "chronos = chronos_cli.cli:main" in points
    assert "chronos-nas = chronos_cli.nas_server.cli:main" in points
    assert {"chronos_cli/py.typed", "chronos_cli/nas_server/openapi.yaml"} <= set(names)
    assert not [name for name in names if not name.startswith(("chronos_cli/", "chronos_cron-"))]


def test_the_test_extra_is_light():
    """Running the tests needs five packages, none of them a server."""
    extras = tomllib.loads(Path(ROOT, "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {re.split(r"[\[>=]", item)[0] for item in extras["test"]} == {
        "greenlet",
        "hypothesis",
        "jsonschema",
        "pytest",
        "pytest-xdist",
    }


def test_no_two_test_files_share_a_name():
    """A test file is imported by its bare name, so two of one name cannot be collected together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


QUESTIONS = {"What", "Whether", "Who", "Whoever", "How", "Why"}
NO_VERBS = QUESTIONS | {
    "A", "After", "All", "An", "Another", "As", "At", "Before", "By", "Called", "Each", "Every", "Everything", "From", "Its", "Names",
    "No", "None", "Nothing", "Of", "One", "Our", "Seconds", "So", "The", "These", "This", "Those", "True", "Until", "When", "Where",
    "With", "Without",
}  # fmt: skip
"""Words with which a description begins that has no verb."""


def _docstrings():
    """Every docstring of the package, with its place and what it describes."""
    package = ROOT / "chronos_cli"
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    yield f"{path.relative_to(package)}:{getattr(node, 'lineno', 1)}", node, text


def test_docstrings_begin_with_a_verb_or_a_noun():
    """A function's begins with a verb, a class's and a module's with no question and no gerund: "Read", not "Reading"."""
    found = {}
    for place, node, text in _docstrings():
        first = re.split(r"[\s.,;:]", text, maxsplit=1)[0]
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        gerund = (
            isinstance(node, ast.Module)
            and re.fullmatch(r"[A-Z][a-z]{2,}ing", first)
            and first not in ("String", "Timing")
        )
        if first in (NO_VERBS if is_function else QUESTIONS) or gerund:
            found[place] = text.splitlines()[0]
    assert found == {}
    asking = re.compile(rf'\s*r?"""({"|".join(QUESTIONS)})\b')  # descriptions of values, which no syntax tree has
    package = ROOT / "chronos_cli"
    lines = {
        f"{path.relative_to(package)}:{number}"
        for path in package.rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if asking.match(line)
    }
    assert lines == set()


def _public_classes():
    for path in sorted((ROOT / "chronos_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path.relative_to(ROOT).as_posix()


def test_no_class_name_has_two_meanings():
    """A public class's name stands for one thing in the whole house, the two databases' sessions and their likes apart."""
    places = {}
    for name, path in _public_classes():
        places.setdefault(name, []).append(path)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


ORDINARY = """Absent Activation Algorithm All Application Arms Backend Backoff Backup Bar Batch Bounds Cache Cancel Change Changes Check
    Child Choice Circuit Claims Clause Client Clock Code Column Command Commit Config Conflict Connection Container Context
    Crash Cron Crontab Decision Defaults Dialect Doubt Draft Echo Edit Effect End Engine Entry Environment Error Event
    Export Fact Factory Facts Fate Field Fields File Finding Gate Group Guard Health Homes Interrupts Interval
    Invocation Item Items Jobs Judge Keys Kind Lane Level Limits Line List Listener Listing Liveness Log Lookup Machine
    Mask Member Memory Meta Metrics Mode Mount Node Note Notified Once Open Operations Options Origin Outage Output
    Page Patience Phase Piece Place Play Plugin Pool Preview Probe Process Processes Pulse Purpose Rates Reason Refusal Register
    Registry Removals Reply Report Reporter Repository Request Responder Response Result Retention Ring Role Route Rows
    Runners Running Runs Scheduler Server Session Setting Settings Shift Source Standing Start State Status Step
    Style Subject Surroundings Target Task Term Ticks Timeline Timers Timetable Timing Tokens Transport Trigger Trouble
    Trust Unit Unknown Value Verdict View Watch Watcher Way"""
"""Words of any program, and plurals, that a class's name may end with beside those of the list of words."""


def test_no_stranger_is_among_the_names_of_classes():
    """A public class is named by a word of the list of words, or by an ordinary one: who needs another adds it there."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = text[text.index("## The words") : text.index("## Decisions")]
    words = re.findall(r"^\| ([\w ]+) \| ", listed, flags=re.MULTILINE)[1:]
    assert words == sorted(set(words), key=str.lower)
    known = {word.rpartition(" ")[2].capitalize() for word in words} | {"Evaluation", "Nas"} | set(ORDINARY.split())
    heads = {
        re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]+", name)[-1].capitalize(): name for name, _ in _public_classes()
    }
    assert {head: name for head, name in heads.items() if head not in known} == {}


FORMER_NAMES = {
    "look", "looked", "carry_out", "see_through", "in_hand", "InHand", "may_go", "meant", "UNSETTLING", "PEEK", "Wish", "Wire", "Outside",
    "Admitted", "shared_nas", "Answerer", "bring_in", "Looked", "Sent", "Inline", "Detached", "RunHold",
}  # fmt: skip


def test_former_names_do_not_come_back():
    """No public function, class or module has a name that was given up for a clearer one."""
    found = set()
    for path in sorted((ROOT / "chronos_cli").rglob("*.py")):
        found.add(path.stem)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found |= {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    assert found & FORMER_NAMES == set()


def test_the_map_of_the_tests_names_what_is_there():
    """tests/README.md has each folder and each marker, and names no stand-in that is gone."""
    text = (ROOT / "tests/README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.]+)`", text))
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} | {"bench"}
    assert folders - named == set()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert {line.partition(":")[0] for line in settings["markers"]} - named == set()
    for name in named:
        module, _, thing = name.rpartition(".")
        place = ROOT / "tests" / (module.replace(".", "/") + ".py")
        if module and thing != "py" and not (ROOT / "tests" / (name.replace(".", "/") + ".py")).exists():
            assert re.search(rf"^(?:class|def) {thing}\b", place.read_text(encoding="utf-8"), re.MULTILINE), name


def test_every_test_has_its_layer(request):
    """Whoever asks for all layers gets all tests."""
    for item in request.session.items:
        assert any(map(item.get_closest_marker, ("unit", "process", *LAYERS))), item.nodeid
