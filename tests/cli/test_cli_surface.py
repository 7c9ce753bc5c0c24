"""What holds for every command alike: its JSON, what it does with a pipe, a terminal, a locale, and with a slip of the hand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from chronos_cli.cli import cli_model as surface
from chronos_cli.cli import lazy, table
from tests.cli.conftest import ROOT, connect, spawn, validate
from tests.conftest import thoroughly
from tests.fire_tokens import AUDIENCE, SigningKey
from tests.nas_process import Callback

KEY = SigningKey.rs256()
FACTS = {".".join(fact.words): fact for fact in surface.commands()}

WORDS = {
    "apply": ("-f", "{files}", "--dry-run"),
    "arm": ("beat",), "cancel": ("beat",), "list": (), "reconcile": (), "fire": ("--job-id", "beat", "--token-file", "{token}"),
    "job.add": ("@daily", "--name", "gr\u00fc\u00df", "--shell", "true"), "job.show": ("beat",), "job.list": (),
    "job.edit": ("beat", "--retries", "1"), "job.pause": ("beat",), "job.resume": ("beat",), "job.realign": ("beat",), "job.remove": ("beat", "--yes"),
    "job.unlock": ("beat", "--yes"), "job.import": ("{jobs}",), "job.export": (), "job.layout": (), "run": ("beat",), "next": ("@daily",),
    "tick": (), "status": (), "doctor": (), "history": ("beat",), "logs": ("beat",), "timeline": (), "hold": ("--reason", "\u00fc"),
    "provider.list": (), "init": ("--force",), "config.show": (), "config.path": (), "completions": ("bash",),
}  # fmt: skip
"""Words with which each command does its work in the home below. `demo` makes its own home, and is run elsewhere."""

CODES = {"doctor": 11}
"""Exit codes other than 0: the doctor finds the job that is due not armed."""

MODES = {
    "narrow": ("pipe", {"COLUMNS": "24"}),
    "closed": ("closed", {}),
    "dumb": ("terminal", {"TERM": "dumb"}),
    "plain": ("terminal", {"TERM": "xterm", "NO_COLOR": "1"}),
    "full": ("full", {}),
    "shut": ("shut", {}),
    "mute": ("mute", {}),
}

NOWHERE = ("full", "shut", "mute")

PAIRS = [(name, mode) for row, name in enumerate(WORDS) for column, mode in enumerate(MODES)
         if thoroughly(True, (row + column) % 3 == 0)]  # fmt: skip
"""Each command in each mode; by default two or three for each command, and ten commands for each mode."""

SILENT = frozenset({"fire"})
"""What writes nothing to stdout where all goes well."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, nas):
    """A home with three jobs, of which one has run, one has failed and one has a name that ASCII cannot show."""
    # It answers, and not well, so that what NAS tells of it is the same before and after the first call.
    with Callback(503) as later:
        yield _place(tmp_path_factory, nas, later)


def _place(tmp_path_factory, nas, later):
    folder = tmp_path_factory.mktemp("surface")
    home = folder / "home"
    home.mkdir()
    agent = nas.add_agent("surface")
    connect(home, nas, agent, later.url)
    text = (home / "config.yaml").read_text().replace(agent.audience, AUDIENCE)
    (home / "config.yaml").write_text(text.replace(f"{nas.url}/.well-known/jwks.json", str(folder / "keys.json")))
    (folder / "keys.json").write_text(json.dumps(KEY.jwks()))
    env = {"CHRONOS_PROVIDER": "builtin"}
    for name, line in (("beat", "echo s\u00fc\u00df"), ("broken", "exit 3"), ("caf\u00e9", "true"), ("beata", "true")):
        words = ("--id", name) if name.isascii() else ("--name", name)
        assert spawn("job", "add", "@yearly", *words, "--shell", line, home=home, env=env).code == 0
    for name, code in (("beat", 0), ("broken", 10)):
        assert spawn("run", name, home=home, env=env).code == code
    path = home / "cron" / "jobs.json"
    document = json.loads(path.read_text())
    due = (datetime.now(UTC) - timedelta(seconds=5)).replace(microsecond=0)
    document["jobs"][0]["next_run_at"] = due.isoformat()
    path.write_text(json.dumps(document))
    (folder / "token").write_text(KEY.token(iss=nas.url, job_id="beat", fire_at=due.isoformat()))
    (folder / "jobs.json").write_text(json.dumps({"jobs": document["jobs"][1:2]}))
    (folder / "files.yaml").write_text(
        "id: new\nname: caf\u00e9\nschedule: '@yearly'\nshell: 'true'\n", encoding="utf-8"
    )
    return folder


def words(name, place):
    """The whole command."""
    given = [
        word.format(token=place / "token", jobs=place / "jobs.json", files=place / "files.yaml") for word in WORDS[name]
    ]
    return [*FACTS[name].words, *given]


@pytest.fixture(scope="module")
def ends(place):
    """How each command ended in each mode, in a locale that knows ASCII alone."""
    cases = [
        {
            "name": name,
            "mode": mode,
            "on": on,
            "argv": words(name, place),
            "environ": environ,
            "home": str(place / "home"),
        }
        for name, mode in PAIRS
        for on, environ in [MODES[mode]]
    ]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CHRONOS_", "COLUMNS", "NO_COLOR"))}
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.forked_commands"], input=json.dumps(cases), text=True, capture_output=True,
        env=kept | ascii_alone, cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_table_names_every_command():
    """Nothing of the surface is left out but the demo."""
    assert set(FACTS) - set(WORDS) == {"demo"}


@pytest.mark.parametrize("name", WORDS)
def test_every_success_is_a_document_of_its_schema(chronos, place, tmp_path, name):
    """Exit 0 and one object; the fixture holds it to the published schema."""
    home = tmp_path / "h"
    shutil.copytree(place / "home", home)
    done = chronos(*words(name, place), "--json", home=home)
    assert (done.code, done.json["ok"]) == (CODES.get(name, 0), name not in CODES), done.err
    assert done.json["schema"] == f"chronos.{name}/1"


@pytest.mark.parametrize(("name", "mode"), PAIRS)
def test_every_command_copes_with_where_its_output_goes(ends, name, mode):
    """In an ASCII locale: a narrow pipe, one that nobody reads, plain terminals, a full disk, and no stream at all."""
    done = ends[f"{name} {mode}"]
    lost = mode in NOWHERE and name not in SILENT
    assert done["code"] == (CODES.get(name, 0) or (1 if lost else 0)), done
    if lost and mode != "mute":
        assert done["err"].splitlines()[-1].startswith("chronos: error: standard output could not be written: "), done
        assert done["err"].count("could not be written") == 1
    text = done["out"] + done["err"]
    assert "Traceback" not in text
    assert all(ord(letter) < 128 for letter in text), text
    assert "\033" not in text
    if mode == "closed":
        assert "pipe" not in done["err"].lower()


@pytest.mark.parametrize("name", WORDS)
def test_every_command_can_be_quiet_and_say_more(chronos, place, tmp_path, name):
    """With -q nothing but what was asked for, and stderr stays empty; with -vv it does the same and ends alike."""
    for option in ("-q", "-vv"):
        home = tmp_path / option
        shutil.copytree(place / "home", home)
        done = chronos(option, *words(name, place), home=home)
        assert done.code == CODES.get(name, 0), done.err
        if option == "-q" and name not in CODES:
            assert done.err == ""


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_a_slip_in_a_command_or_an_option_is_answered_with_what_was_meant(chronos, home, fact):
    """The last word of the command, and each of its options, one letter short."""
    *before, last = fact.words
    done = chronos(*before, last[:-1] if len(last) > 3 else last + last[-1], home=home)
    assert done.code == 2
    # What takes something away is never guessed at.
    assert (f"did you mean '{last}'?" in done.err) is (last not in ("cancel", "remove", "unlock", "hold")), done.err
    options = [name for option in fact.options for name in option.names if name.startswith("--")]
    for option in options:
        slip = option[:-1] if len(option) > 5 else option + option[-1]
        done = chronos(*fact.words, slip, home=home)
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert f"there is no option '{slip}': did you mean '{option}'?" in done.err, done.err


@pytest.mark.parametrize("name", [name for name, fact in FACTS.items() if fact.takes_job])
def test_a_job_that_is_misspelled_or_ambiguous_is_answered_with_candidates(chronos, place, tmp_path, name):
    """Every command that names jobs finds them alike: the near miss, and, for a beginning of two, both."""
    home = tmp_path / "h"
    shutil.copytree(place / "home", home)
    more = [word for word in WORDS[name] if word.startswith("--") or word == "1"]
    for slip, code, said in (
        ("brokem", 5, "did you mean 'broken'?"),
        ("bea", 6, "'bea' could be beat (beat), beata (beata)"),
    ):
        done = chronos(*FACTS[name].words, slip, *more, home=home)
        assert (done.code, done.err.count("\n")) == (code, 1), done.err
        assert said in done.err, (slip, done.err)


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_each_variable_is_named_as_its_option_and_read(clean_environment, fact):
    """CHRONOS_, the command's words, the option's longest name; the help says so on one line."""
    del clean_environment
    command = lazy.build(table.find(list(fact.words)))
    prefix = "_".join(("CHRONOS", *fact.words)).upper().replace("-", "_")
    with command.make_context("x", [], auto_envvar_prefix=prefix, resilient_parsing=True) as ctx:
        text = command.get_help(ctx)
        (line,) = [line for line in text.splitlines() if line.startswith("Variables: ")]
        assert len(line) <= 80
        assert "docs/environment.md" in line
        read = {name: param for param in command.params for name in param.opts}
        for option in fact.options:
            named = f"{prefix}_{max(option.names, key=len).lstrip('-').upper().replace('-', '_')}"
            assert option.variable in (named, "CHRONOS_MAX_PARALLEL"), option
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv(option.variable, "1")
                assert read[option.names[0]].value_from_envvar(ctx) is not None, option


VARIANTS = (
    ("list", "--offline"), ("list", "-o", "json"), ("job", "list", "-o", "json"), ("status", "--offline"),
    ("status", "--exit-code"), ("status", "-o", "json"), ("history",), ("history", "-n", "1"), ("history", "-o", "json"),
    ("timeline", "--last", "1h", "--next", "1h"), ("timeline", "beat"), ("reconcile", "--dry-run"),
    ("reconcile", "--dry-run", "--detailed-exitcode"), ("arm", "--all"), ("cancel", "--orphans", "--yes"),
    ("job", "add", "every 5m", "--shell", "true", "--dry-run"), ("job", "edit", "beat", "--timeout", "5m", "--dry-run"),
    ("job", "import", "{jobs}", "--dry-run"), ("job", "export", "beat"), ("next", "every 90s", "-n", "3"),
    ("next", "0 9 * * 1-5", "--tz", "Europe/Berlin"), ("hold", "--on"), ("hold", "--off"), ("tick", "--install", "crontab"),
    ("tick", "--install", "systemd"), ("tick", "--detach"), ("config", "show", "--origin"), ("completions", "zsh"),
    ("completions", "fish"),
)  # fmt: skip
"""Further command lines, beside one of each command above."""

MAY_END = {0, 3, 10, 11}
"""What is no failure: done, changes are pending, a job failed, a job needs a look."""


def test_forty_eight_command_lines_say_something_published(chronos, place, tmp_path):
    """Every line that a person may type gives one document of a published schema, and none of them is empty."""
    lines = [words(name, place) for name in WORDS]
    lines += [[word.format(jobs=place / "jobs.json") for word in line] for line in VARIANTS]
    assert len(lines) >= 48
    published = {path.stem for path in (ROOT / "docs" / "schemas").glob("*.json")}
    for number, line in enumerate(lines):
        home = tmp_path / str(number)  # each its own: what a line has started may still be writing
        shutil.copytree(place / "home", home)
        done = chronos(*line, *([] if "json" in line else ["--json"]), home=home)
        document = validate(done.out)
        assert done.code in MAY_END, (line, done.err)
        assert document["schema"].replace("/", ".") in published, line
        assert document.keys() - {"schema", "ok", "error"}, line
