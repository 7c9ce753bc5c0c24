"""One gate for both programs: whatever a store, a NAS or a tenant says, no command steers the terminal that shows it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import closing

import pytest
import typer

from chronos_cli import streams
from chronos_cli.nas_server.cli import build
from chronos_cli.nas_server.cli import main as nas_main
from tests.cli.conftest import ROOT, spawn
from tests.cli.test_cli_surface import FACTS, WORDS
from tests.conftest import thoroughly
from tests.fire_tokens import AUDIENCE, SigningKey
from tests.nas_client.played_nas import PlayedNas
from tests.nas_process import run_nas
from tests.played_server import Answer

EVIL = (
    "x\x1b]0;owned\x07\x1b[31m\x00\x7f\x9b31m\x85a\u2028b\u2029c\u202ed\u2066e\u200bf\ufeffg\u3164"
    "\ufffe\r\x0b\x0c\x1c\U000e0041\nFAKE line\r\nFAKE too\ud800"
)
KEY = SigningKey.rs256()


def steering(text, *, lines="\n"):
    """What of a text a terminal, or a reader of one line a job, could be misled by."""
    found = {letter for letter in text if not (letter.isprintable() or letter in lines) or letter == "\u3164"}
    return found | {line for line in text.split("\n") if line.startswith("FAKE")}


def poisoned(value, *, spared=()):
    """A document with every text in it made hostile, but for members that are spared."""
    if isinstance(value, dict):
        return {key: old if key in spared else poisoned(old, spared=spared) for key, old in value.items()}
    if isinstance(value, list):
        return [poisoned(item, spared=spared) for item in value]
    return value + EVIL if isinstance(value, str) else value


def test_what_is_shown_of_every_character_there_is():
    """Printable ones are as they are; of the others none but a line end and a tab comes through, on one line not even these."""
    every = [chr(code) for code in range(0x110000)]
    assert steering(streams.shown("".join(every)), lines="\n\t") == set()
    plain = "".join(letter for letter in every if letter.isprintable() and letter not in "\u115f\u1160\u3164\uffa0")
    assert streams.shown(plain) == plain
    assert streams.one_line("".join(every)).isprintable()
    assert streams.one_line("a\x1bb\u202ec\U000e0001d\ne\tf") == "a\\x1bb\\u202ec\\U000e0001d e f"


@pytest.mark.parametrize("most", [10, 200])
def test_what_is_too_long_is_cut_and_says_so(most):
    """At most so many characters, escapes counted, and three dots for the rest."""
    for text in ("q" * 4000, "\x1b" * 4000, "q" * (most + 1)):
        cut = streams.one_line(text, most)
        assert len(cut) == most
        assert cut.endswith("...")
    assert streams.one_line("q" * most, most) == "q" * most


def test_only_our_own_sequences_pass_a_gate():
    """A style of ours is written as one; the same bytes in a text are shown."""
    under = io.StringIO()
    gate = streams.OutputGate(under)
    gate.write(f"{streams.MARK}[31mred\x1b[32m{streams.MARK}[0m\n")
    assert under.getvalue() == "\x1b[31mred\\x1b[32m\x1b[0m\n"


@pytest.fixture(scope="module")
def hostile_nas():
    """A NAS whose every text is hostile: `armed` in answers that are good, `failing` in errors."""

    def answer(call):
        if nas.hostile:
            return Answer(418, {"error": f"teapot{EVIL}", "message": f"no{EVIL}"})
        if call.path.startswith("/api/agent-cron/list"):
            return Answer(body={"armed": [{"job_id": f"j{EVIL}", "fire_at": f"2030-01-01T00:00:00+00:00{EVIL}",
                                           "schedule_id": EVIL}], "features": [EVIL]})  # fmt: skip
        return nas.by_contract(call)

    with PlayedNas() as nas:
        nas.hostile, nas.answer = False, answer
        yield nas


@pytest.fixture(scope="module")
def made(tmp_path_factory, hostile_nas):
    """A home in which every text that is not a key to something is hostile: records, rows, a plug-in."""
    tmp_path = tmp_path_factory.mktemp("hostile")
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text(
        f"timezone: UTC\ncron:\n  provider: chronos\n  chronos:\n    portal_url: {hostile_nas.url}\n"
        f"    callback_url: http://127.0.0.1:9\n    expected_audience: {AUDIENCE}\n    nas_jwks_url: {tmp_path}/keys.json\n"
    )
    (tmp_path / "keys.json").write_text(json.dumps(KEY.jwks()))
    env = {"CHRONOS_PROVIDER": "builtin"}
    for name, line in (("beat", "printf 'a\\033[31mb\\n'"), ("broken", "exit 3"), ("other", "true")):
        assert spawn("job", "add", "@yearly", "--id", name, "--shell", line, home=home, env=env).code == 0
    for name, code in (("beat", 0), ("broken", 10)):
        assert spawn("run", name, home=home, env=env).code == code
    path = home / "cron/jobs.json"
    jobs = json.loads(path.read_text())["jobs"]
    free = {"name": f"n{EVIL}", "prompt": EVIL, "deliver": EVIL, "workdir": EVIL, "last_error": EVIL,
            "last_delivery_error": EVIL, "paused_reason": EVIL, "last_status": "error", "skills": [EVIL]}  # fmt: skip
    keyed = ("id", "schedule", "enabled", "state", "chronos", "created_at", "next_run_at", "last_run_at", "last_status")
    records = [poisoned({**job, **free}, spared=keyed) for job in jobs]
    records[1] |= {"state": "paused", "enabled": False, "last_run_at": "2026-01-01T00:00:00+00:00"}
    records += [poisoned({**jobs[0], "id": "unusable", "name": "u"}, spared=("id",)), poisoned(jobs[0]), {"id": EVIL}]
    path.write_text(json.dumps({"jobs": records}))
    for row in (home / "cron/runs").rglob("*.json"):
        document = json.loads(row.read_text())
        told = {"reason": EVIL, "because": EVIL, "unhandled": [EVIL]}
        row.write_text(json.dumps({**document, **{key: value for key, value in told.items() if key in document}}))
    (home / "plugins" / "bad").mkdir(parents=True)
    (home / "plugins/bad/plugin.yaml").write_text("name: bad\n")
    (home / "plugins/bad/__init__.py").write_text(f"raise RuntimeError({EVIL!r})\n")
    (tmp_path / "token").write_text(KEY.token(iss=hostile_nas.url, job_id="beat"))
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": [poisoned(jobs[0], spared=("schedule", "chronos"))]}))
    return tmp_path


@pytest.fixture
def place(made, tmp_path):
    """The hostile home, for one test."""
    return shutil.copytree(made, tmp_path / "place", ignore=shutil.ignore_patterns("*.lock"))


def test_no_command_shows_a_store_or_a_nas_that_steers_the_terminal(chronos, place, hostile_nas):
    """Every command there is, over a hostile store, with a NAS whose answers and whose errors are hostile too.

    `logs` and `run` alone hand on bytes that are not ours, where no terminal is: what the job itself printed.
    """
    home = place / "home"
    env = {"CHRONOS_NAS_TOKEN": "t"}
    seen = []
    for hostile_nas.hostile in (False, True):
        if hostile_nas.hostile:
            (home / "ESTOP").write_text(EVIL, encoding="utf-8", errors="surrogatepass")
        for name, words in WORDS.items():
            given = [
                word.format(token=place / "token", jobs=place / "jobs.json", files=place / "files.yaml")
                for word in words
            ]
            if name == "init":
                continue  # it says its own words alone, and would replace the configuration
            for more in (["-v"], ["--json"]):
                done = chronos(*FACTS[name].words, *given, *more, home=home, env=env)
                out = done.out.replace("\x1b[31mb", "") if name in ("logs", "run") else done.out
                bad = steering(out + done.err)
                if bad or "Traceback" in done.err or "unexpected" in done.err:
                    seen.append((name, more, bad, done.err[:500]))
    assert seen == []


LAYOUTS = (
    *((*command, "-o", layout) for command in (("list",), ("job", "list"), ("status",), ("history",)) for layout in ("wide", "name", "json")),
    *(("timeline", kind, "/dev/stdout") for kind in ("--html", "--svg")), ("timeline", "beat"), ("history", "broken", "--since", "9000d"),
    ("job", "export", "-o", "apply"), *(("job", "export", "--format", kind, "--image", "i") for kind in ("crontab", "kubernetes")),
    ("job", "export", "--format", "systemd", "-o", "{units}"), *(("apply", "-f", "{files}", "--dry-run", "-o", layout) for layout in ("diff", "name", "json")),
    ("apply", "-f", "{files}"), ("apply", "-f", "{wrong}"), ("apply", "-f", "{wrong_key}", "--dry-run"), ("run", "beat", "--backfill", "2020-01-01..2024-01-01", "--dry-run"),
    ("job", "edit", "-l", "a=b", "--retries", "1", "--dry-run"),
    ("job", "import", "{jobs}", "--dry-run"), ("job", "import", "{files}", "--dry-run"), ("job", "import", "{crontab}", "--from", "crontab", "--dry-run"),
    ("job", "import", "{wrong}", "--from", "crontab"), ("job", "import", "{cluster}", "--from", "kubernetes", "--dry-run"),
    ("job", "import", "{cluster}", "--from", "kubernetes", "--local", "--dry-run"), ("job", "import", "{timers}", "--from", "systemd", "--dry-run"),
    ("reconcile", "--dry-run"), ("cancel", "--orphans", "--dry-run"), ("config", "show", "--origin"), ("job", "show", "broken"), ("logs", "broken"),
    ("status", "--exit-code"), ("job", "add", "every 5m", "--shell", "true", "--dry-run"), ("next", "every 5m", "--tz", "UTC"),
)  # fmt: skip
"""Further lines of every command that has layouts, plans or files of others: `{name}` is a file with hostile words."""


@pytest.fixture(scope="module")
def strangers_files(tmp_path_factory):
    """Files of jobs, a crontab, CronJobs and timers with hostile words wherever such a file may have words."""
    folder = tmp_path_factory.mktemp("files")
    said = EVIL.replace("\x00", "").replace("\ud800", "").replace("\ufffe", "")
    job = {
        "id": "new",
        "name": said,
        "schedule": "@yearly",
        "shell": f"echo {said}",
        "labels": {"a": "b"},
        "env": {"A": said},
    }
    plain = " ".join(said.split())
    container = {"name": plain, "image": plain, "command": ["echo", said], "env": [{"name": "A", "value": said}]}
    template = {"spec": {"template": {"spec": {"containers": [container], "restartPolicy": plain}}}}
    spec = {"schedule": "@yearly", "timeZone": "UTC", "jobTemplate": template, plain: plain}
    items = [
        {"kind": "CronJob", "metadata": {"name": "a", "namespace": "default", "labels": {plain: plain}}, "spec": spec},
        {"kind": plain, "metadata": {"name": plain}},
        {"kind": "CronJob", "metadata": {"name": said}, "spec": {"schedule": said}},
    ]
    texts = {
        "files": json.dumps({"set": "s", "jobs": [job]}),
        "wrong": f"a{said}: [{said}\n",
        "wrong_key": json.dumps({"jobs": [{**job, f"k{said}": said}]}),
        "jobs": json.dumps(
            {"jobs": [{"id": "in", "name": said, "prompt": said, "schedule": {"kind": "interval", "minutes": 5}}]}
        ),
        "crontab": f"# {plain}\nA={plain}\n@daily echo {plain}\n",
        "cluster": json.dumps({"kind": "List", "items": items}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    timers = folder / "timers"
    timers.mkdir()
    for name, event in (("good", "daily"), ("bad", plain)):
        (timers / f"{name}.timer").write_text(
            f"[Unit]\nX-{plain}={plain}\n[Timer]\nOnCalendar={event}\n", encoding="utf-8"
        )
        unit = f"[Unit]\nDescription={plain}\n[Service]\nExecStart=/bin/echo {plain}\nNice={plain}\n"
        (timers / f"{name}.service").write_text(unit, encoding="utf-8")
    return {name: str(folder / name) for name in (*texts, "timers")} | {"units": str(folder / "units")}


def test_no_layout_plan_or_strangers_file_steers_the_terminal(chronos, place, strangers_files, hostile_nas):
    """Tables of all widths, pages, pictures, plans of changes, and errors that name what stands in a file of somebody else."""
    hostile_nas.hostile = False
    seen = []
    for words in LAYOUTS:
        home = shutil.copytree(place / "home", place / "copy")
        done = chronos(*(word.format_map(strangers_files) for word in words), home=home, env={"CHRONOS_NAS_TOKEN": "t"})
        shutil.rmtree(home)
        bad = steering(done.out + done.err)
        if bad or "Traceback" in done.err or "unexpected" in done.err or done.code == 2:
            seen.append((words, done.code, bad, done.err[:500]))
    assert not (found := [one for one in seen if one[1] != 2 or "{wrong" not in str(one[0])]), "\n".join(
        map(repr, found)
    )


def test_no_layout_or_plan_is_hurt_by_a_stream_that_takes_nothing(place, strangers_files):
    """A full disk, a reader that went away: at most one line of error, and the exit code that it has elsewhere."""
    modes = ("pipe", "closed", "full")
    cases = [
        {"name": " ".join(words), "mode": mode, "on": mode, "argv": [word.format_map(strangers_files) for word in words],
         "environ": {"CHRONOS_NAS_TOKEN": "t"}, "home": str(place / "home")}
        for words in thoroughly(LAYOUTS, LAYOUTS[::3]) for mode in modes
    ]  # fmt: skip
    judge_ends(forked(cases), [case["name"] for case in cases[:: len(modes)]])


def forked(cases):
    """How each of these command lines ended, by name and mode."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CHRONOS_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cli.forked_commands"], input=json.dumps(cases), text=True, capture_output=True,
        env={**kept, "PYTHONPATH": str(ROOT)}, cwd=ROOT, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def judge_ends(ends, names):
    """Nothing but one line about the stream, and its exit code where something was to be said; else all as to a pipe."""
    wrong = []
    for name in names:
        plain = ends[f"{name} pipe"]
        for mode in ("closed", "full", "shut", "mute"):
            if f"{name} {mode}" not in ends:
                continue
            done = ends[f"{name} {mode}"]
            lost = mode != "closed" and plain["out"] and "/dev/stdout" not in name
            told = done["err"].count("standard output could not be written")
            expected = (plain["code"] or 1 if lost else plain["code"], int(bool(lost) and mode != "mute"))
            quiet = not any(
                word in done["err"] for word in ("Traceback", "Exception ignored", "Broken pipe", "unexpected")
            )
            if "/dev/stdout" in name or "the token of" in done["err"]:  # a file that was named, a token that is lost
                told = int("could not be written" in done["err"] or "the machine refused" in done["err"])
                expected, quiet = (1, int(mode != "mute")), quiet or mode == "closed"
            if (done["code"], told) != expected or not quiet:
                wrong.append((name, mode, plain["code"], expected, told, quiet, done["code"], plain["out"][:300]))
    assert not wrong, "\n".join(map(repr, wrong))


def test_a_hostile_name_is_one_line_with_its_escapes(chronos, place):
    """`list`, `status`, `job show` and `timeline` show the name as one line, its escapes readable."""
    for words in (["list", "--offline"], ["status", "--offline"], ["job", "show", "beat"], ["timeline"]):
        done = chronos(*words, home=place / "home", env={"CHRONOS_NAS_TOKEN": "t"})
        assert "x\\x1b]0;owned\\x07" in done.out, words


@pytest.mark.parametrize(
    "arguments",
    [["job", "show", EVIL], ["--home", f"/nowhere/{EVIL}", "job", "show", "a"], [EVIL], ["list", f"--{EVIL}"]],
)
def test_nor_do_the_arguments_of_a_command_that_fails(chronos, home, arguments):
    """What the user typed, or had pasted, is repeated in an error as it can be shown."""
    arguments = [word.replace("\x00", "").replace("\ud800", "\udc80") for word in arguments]
    done = chronos(*arguments, home=home)
    assert done.code != 0
    assert done.err.count("\n") == 1
    assert steering(done.out + done.err) == set()


def test_a_long_reason_is_cut_in_rows_and_whole_where_the_job_is_shown(chronos, home):
    """4,000 characters of `last_error`: 200 in `list` and `status`, all of them in `job show`; so with a long name."""
    (home / "cron").mkdir()
    job = {"id": "a1", "prompt": "p", "schedule": {"kind": "interval", "minutes": 60}, "enabled": True, "state": "scheduled",
           "next_run_at": "2099-01-01T00:00:00+00:00", "last_run_at": "2026-01-01T00:00:00+00:00", "last_status": "error"}  # fmt: skip
    (home / "cron/jobs.json").write_text(json.dumps({"jobs": [{**job, "name": "n" * 4000, "last_error": "q" * 4000}]}))
    for command in ("list", "status"):
        done = chronos(command, home=home)
        assert f"{'q' * 197}..." in done.out
        assert "q" * 198 not in done.out
        assert "n" * 198 not in done.out
        assert max(map(len, done.out.splitlines())) < 700
    shown = chronos("job", "show", "a1", home=home).out
    assert "q" * 4000 in shown
    assert chronos("list", "--json", home=home).json["jobs"][0]["last_run"]["reason"] == "q" * 4000


def test_the_svg_of_a_hostile_store_is_well_formed(chronos, place):
    """Names with what XML has no way to hold become escapes; the file can be parsed, and says the same."""
    done = chronos("timeline", "--svg", place / "out.svg", home=place / "home")
    assert done.code == 0
    text = (place / "out.svg").read_text(encoding="utf-8")
    assert steering(text) == set()
    words = "".join(ET.fromstring(text).itertext())
    assert "\\x1b]0;owned\\x07" in words


# -- what a job printed ------------------------------------------------------------------------------------------------


@pytest.fixture
def talkative(home):
    """A home in which a job has printed colours, a title, bytes that are no text, and line ends of another system."""
    said = r"printf '\033[31mred\033]0;owned\007\377\303\274\r\nend\n'"
    assert spawn("job", "add", "@yearly", "--id", "beat", "--shell", said, home=home).code == 0
    assert spawn("run", "beat", "--json", home=home).code == 0
    return home


SAID = b"\x1b[31mred\x1b]0;owned\x07\xff\xc3\xbc\r\nend\n"


@pytest.mark.parametrize("arguments", [["logs", "beat"], ["logs", "beat", "-f"], ["run", "beat"]])
def test_what_a_job_printed_is_bytes_to_a_pipe_and_shown_on_a_terminal(talkative, arguments):
    """Programs get what the job wrote; a terminal gets its text, and escapes for what would steer it."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CHRONOS_HOME": str(talkative), "PYTHONUTF8": "1", "TERM": "xterm"}
    command = [sys.executable, "-m", "chronos_cli", *arguments]
    piped = subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)
    assert piped.stdout == SAID
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL
    ) as child:
        os.close(theirs)
        data = b""
        try:
            while chunk := os.read(ours, 65536):
                data += chunk
        except OSError:  # how Linux ends a terminal
            pass
        assert child.wait(60) == 0
    os.close(ours)
    assert data.replace(b"\r\n", b"\n").decode() == "\\x1b[31mred\\x1b]0;owned\\x07\\xff\u00fc\nend\n"


# -- chronos-nas -------------------------------------------------------------------------------------------------------

NAS_WORDS = {
    "agent.add": ("new",), "agent.list": (), "agent.rotate": ("a",), "keys.list": (), "keys.rotate": (),
    "keys.retire": ("none",), "timers": (), "dead.list": (), "dead.show": ("s1",), "dead.redrive": ("s1",), "dead.drop": ("s2",),
    "conformance": (), "agent.revoke": ("a",), "audit": (), "db.status": (), "db.upgrade": (),
    "completions": ("bash",),
}  # fmt: skip
"""Words for every command but `serve`, whose log is JSON."""


def _nas_commands(command, before=()):
    children = getattr(command, "commands", None)
    if not children:
        yield ".".join(before)
        return
    for name, child in children.items():
        yield from _nas_commands(child, (*before, name))


def test_the_table_names_every_command_of_chronos_nas():
    """Nothing that shows something is left out."""
    assert set(_nas_commands(typer.main.get_command(build()))) - set(NAS_WORDS) == {"serve"}


@pytest.fixture
def nas_home(tmp_path):
    """A NAS in whose database every text of a tenant is hostile."""
    home = tmp_path / "nas"
    assert run_nas("agent", "add", "a", home=home).returncode == 0
    (database,) = home.glob("nas.sqlite")
    with closing(sqlite3.connect(database)) as store, store:
        said = EVIL.replace("\ud800", "")
        agent = store.execute("SELECT id FROM agents").fetchone()[0]
        columns = {
            table: [row[1:4] for row in store.execute(f"PRAGMA table_info({table})")] for table in ("dead", "timers")
        }
        for table, number in (("dead", 1), ("dead", 2), ("timers", 3)):
            values = {}
            for name, kind, needed in columns[table]:
                value = said if kind.upper() == "TEXT" else 1.0
                known = {"agent_id": agent, "schedule_id": f"s{number}", "job_id": f"j{number}{said}"}
                if needed or name in known or name == "last_error":
                    values[name] = known.get(name, value)
            marks = ", ".join("?" * len(values))
            store.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", list(values.values()))
        store.execute("UPDATE agents SET audience = audience || ?", (said,))
    return home


def test_no_command_of_chronos_nas_shows_a_tenant_that_steers_the_terminal(nas_home, hostile_nas, capsys, monkeypatch):
    """Every command over a database whose tenants' error bodies, URLs and names are hostile, and against a hostile NAS."""
    monkeypatch.setenv("CHRONOS_NAS_HOME", str(nas_home))
    monkeypatch.setenv("CHRONOS_PORTAL_URL", hostile_nas.url)
    monkeypatch.setenv("CHRONOS_NAS_TOKEN", "t")
    hostile_nas.hostile = True
    seen = []
    for name, words in NAS_WORDS.items():
        for more in ([], ["--json"]):
            capsys.readouterr()
            nas_main([*name.split("."), *words, *more])
            told = capsys.readouterr()
            bad = steering(told.out + told.err)
            if bad or "Traceback" in told.err:
                seen.append((name, more, bad, told.err[:500]))
            if name in ("dead.list", "dead.show", "timers") and not more:
                assert "\\x1b]0;owned\\x07" in told.out, (name, told)
    assert seen == []


def test_no_command_of_chronos_nas_is_hurt_by_a_stream_that_takes_nothing(nas_home):
    """As those of chronos: every command but the server, for each stream."""
    cases = [
        {"name": name, "mode": mode, "on": mode, "program": "chronos-nas", "argv": [*name.split("."), *words], "environ": {}, "home": str(nas_home)}
        for name, words in NAS_WORDS.items() for mode in ("pipe", "closed", "full", *thoroughly(("shut", "mute"), ()))
    ]  # fmt: skip
    ends = forked(cases)
    assert sum(bool(ends[f"{name} pipe"]["out"]) for name in NAS_WORDS) > len(NAS_WORDS) / 2
    judge_ends(ends, NAS_WORDS)


# -- streams that take nothing -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An empty home with the home of a NAS in it, which knows an agent. Nothing here changes it."""
    home = tmp_path_factory.mktemp("served")
    assert run_nas("agent", "add", "a", home=home / "nas").returncode == 0
    return home


def sh(text, *, home, **env):
    """What a shell made of a line in which `chronos` and `chronos-nas` are programs."""
    line = text.replace("chronos-nas", f"{sys.executable} -m chronos_cli.nas_server").replace(
        "chronos ", f"{sys.executable} -m chronos_cli "
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("CHRONOS_")}
    environment = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "CHRONOS_HOME": str(home),
        "CHRONOS_NAS_HOME": str(home / "nas"),
        **env,
    }
    return subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "command",
    [
        "chronos status",
        "chronos --version",
        "chronos --help",
        "chronos job list --json",
        "chronos-nas --help",
        "chronos-nas agent list",
    ],
)
@pytest.mark.parametrize(("stream", "why"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
def test_output_that_cannot_be_written_is_one_line_of_error(served, command, stream, why):
    """A full disk and a closed stdout: exit 1, one line that says so, no traceback."""
    done = sh(f"{command} {stream}", home=served)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "could not be written" in line]
    assert len(lines) == 1
    assert why in lines[0]
    assert lines[0].startswith(f"{command.split()[0]}: error: standard output could not be written: ")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    ("command", "stream"),
    [
        ("chronos job show none", "2>/dev/full"),
        ("chronos job show none", "2>&- <&-"),
        ("chronos job show none", ">&- 2>&- <&-"),
        ("chronos status", "2>&-"),
        ("chronos status", ">&- 2>&- <&-"),
        ("chronos-nas dead show none", ">&- 2>&- <&-"),
    ],
)
def test_a_stderr_that_takes_nothing_changes_nothing(served, command, stream):
    """What cannot be said is not said; the exit code still tells."""
    expected = 5 if "none" in command else 1 if ">&- 2" in stream else 0
    assert sh(f"{command} {stream}", home=served).returncode == expected


@pytest.mark.parametrize(
    "command",
    [
        "chronos status",
        "chronos --help",
        "chronos job show none",
        "chronos-nas agent list --json",
        "chronos config show",
    ],
)
def test_a_reader_that_went_away_is_told_nothing(served, command):
    """Neither a traceback nor a line about pipes, and the command's own exit code."""
    done = sh(f"({command}; echo code=$? >&2) | true", home=served)
    assert "Traceback" not in done.stderr
    assert "ipe" not in done.stderr
    assert f"code={5 if 'none' in command else 0}" in done.stderr


def test_a_command_whose_reader_went_away_does_its_work(home):
    """A closed pipe stops the showing, not the doing: the job that was to be added is there."""
    done = sh("chronos job add @daily --id a1 --shell true | true; sleep 0.5; chronos job list -q", home=home)
    assert done.stdout == "a1\n"


def test_a_command_may_be_followed_until_its_reader_goes(home):
    """`logs -f` of a run that goes on ends once nobody reads it any more."""
    line = "for n in $(seq 200); do echo line; sleep 0.1; done"
    assert spawn("job", "add", "@yearly", "--id", "long", "--shell", line, home=home).code == 0
    assert spawn("run", "long", "--detach", home=home).code == 0
    done = sh("time timeout 20 chronos logs long -f | head -n 1", home=home)
    assert done.stdout.split() == ["line"]
    assert "ipe" not in done.stderr
    assert float(re.search(r"real\s+0m([\d.]+)s", done.stderr)[1]) < 10


def test_a_home_that_takes_no_agent_says_that_the_token_is_gone(home):
    """The reader of a pipe refuses what it read: it says so, as whoever wrote the token cannot know."""
    done = sh("chronos-nas agent add piped --json | chronos init --agent -", home=home)
    assert done.returncode == 6
    assert "the token of --agent was not kept: `chronos-nas agent rotate piped` makes another" in done.stderr


@pytest.mark.parametrize("stream", [">/dev/full", ">&-", "--json | (exec <&-; sleep 2)"])
@pytest.mark.parametrize("verb", ["add", "rotate"])
def test_a_token_that_did_not_arrive_is_not_lost_in_silence(home, verb, stream):
    """What is shown once and could not be written: an error that says so, and how another is had; that works."""
    if verb == "rotate":
        assert run_nas("agent", "add", "laptop", home=home / "nas").returncode == 0
    done = sh(f"set -o pipefail; chronos-nas agent {verb} laptop {stream}", home=home)
    assert done.returncode == 1
    (line,) = [
        line for line in done.stderr.splitlines() if "the token of laptop could not be written, and is lost" in line
    ]
    assert line.endswith("`chronos-nas agent rotate laptop` makes another")
    assert "Traceback" not in done.stderr
    again = run_nas("agent", "rotate", "laptop", "--json", home=home / "nas")
    assert json.loads(again.stdout)["token"]
