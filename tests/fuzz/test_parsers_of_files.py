"""As test_parsers.py, for the files of other schedulers, what a job's record says in words, and what lies in a store.

The table at the end names every module that reads JSON or YAML, so that a new one is fuzzed, or says why it need not be.
"""

from __future__ import annotations

import ast
import contextlib
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronos_cli.callback.request import bearer_token
from chronos_cli.cli.handlers.import_words import read_either
from chronos_cli.config.load import load_config
from chronos_cli.core.job import parse_job
from chronos_cli.core.labels import parse_labels, parse_selector, selects
from chronos_cli.core.schedule import from_record, to_record
from chronos_cli.core.schedule_text import parse_schedule
from chronos_cli.core.variables import read_header, read_value, read_variables, reference_of, shown_value
from chronos_cli.durations import parse_duration, parse_seconds
from chronos_cli.errors import ChronosError, ConfigError, UsageError
from chronos_cli.nas_client.tokens import HomeTokens
from chronos_cli.nas_server import bodies
from chronos_cli.nas_server.relay import proving
from chronos_cli.nas_server.relay.callbacks import CallbackReply
from chronos_cli.operations.arming import slot_memory
from chronos_cli.operations.doctor import callback_probe
from chronos_cli.operations.firing import probe
from chronos_cli.operations.foreign.crontab import Machine
from chronos_cli.operations.foreign.kubernetes import read_cronjobs
from chronos_cli.operations.foreign.systemd import read_timers
from chronos_cli.running import scripted_prompt
from chronos_cli.running.env_file import read_env_file
from chronos_cli.store import ticks
from chronos_cli.store.arms.pack import find_line, newest, pack_key, read_packs
from chronos_cli.store.holds import read_hold
from chronos_cli.store.interface import JOBS_KEY
from chronos_cli.store.listing import job_key
from chronos_cli.store.repository import Repository
from chronos_cli.store.split import read_rows
from tests.conftest import ROOT
from tests.core.making import HOME, T, record
from tests.fuzz.test_parsers import ARM, JSON, NOISE, TEXT, YAML, documents, fuzz, one_line
from tests.memory_store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 20, tzinfo=UTC)
MACHINE = Machine(user="u", folder="/home/u", zone_name="UTC", is_user=lambda name: name == "root", is_program=bool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the files of all examples; each overwrites the last."""
    return tmp_path_factory.mktemp("fuzz")


def read_or_refused(read: Callable[[], object], error_class: type[ChronosError] = UsageError) -> object:
    """Return what comes of reading; None where it is refused, which must be by one line of an error of ours."""
    try:
        return read()
    except error_class as error:
        one_line(error.line())
        return None


def lines(*words: str) -> st.SearchStrategy[str]:
    """Lines of these words and of anything, in any order."""
    word = st.sampled_from(words) | TEXT
    return st.lists(st.lists(word, max_size=6).map("".join), max_size=8).map("\n".join)


# -- jobs as code, and other schedulers' files -------------------------------------------------------------------------

WANTED = {
    "set": "s", "defaults": {"timezone": "UTC", "env": {"A": "b"}, "labels": {"a": "b"}},
    "jobs": [
        {"id": "a", "name": "A", "schedule": "every 5m", "shell": "true", "timeout": "5m", "retries": 2, "labels": {"k": "v"},
         "env": {"A": "env:B"}, "env_file": ["/x"], "grace": "1h", "overlap": "skip", "paused": False},
        {"id": "b", "schedule": "@daily", "command": ["a", "b"], "workdir": "/", "tags": ["x"]},
        {"id": "c", "schedule": "0 9 * * *", "http": {"url": "https://a.example", "method": "POST", "headers": {"A": "b"}}},
        {"id": "d", "schedule": "2030-01-01T00:00:00Z", "prompt": "p", "skills": ["s"], "deliver": "x"},
    ],
}  # fmt: skip
FLOW = YAML | lines("jobs:", "- id: a", "  schedule: ", "every 5m", "&a ", "*a", "<<: ", "? ", "!!binary ", "---", ": ", "  ", "|").map(
    lambda text: text.encode("utf-8", "surrogatepass")
)  # fmt: skip


@given(documents(WANTED) | FLOW, st.sampled_from(["jobs.json", "jobs.yaml"]))
@fuzz
def test_jobs_as_code_and_what_an_import_is_given(folder: Path, data: bytes, name: str) -> None:
    """A manifest, or a file to import: jobs, or an error that names the file."""
    (folder / name).write_bytes(data)
    read_or_refused(lambda: read_either(str(folder / name)))


CRONJOB = {
    "kind": "List", "items": [{
        "kind": "CronJob", "metadata": {"name": "a", "namespace": "n"},
        "spec": {
            "schedule": "*/5 * * * *", "timeZone": "Etc/UTC", "suspend": False, "concurrencyPolicy": "Forbid", "startingDeadlineSeconds": 9,
            "jobTemplate": {"spec": {"backoffLimit": 2, "activeDeadlineSeconds": 60, "template": {"spec": {
                "containers": [{"name": "c", "image": "i", "command": ["a"], "args": ["$(A)"], "workingDir": "/",
                                "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {}}], "envFrom": []}],
                "restartPolicy": "Never"}}}},
        },
    }],
}  # fmt: skip


@given((documents(CRONJOB) | FLOW).map(lambda data: data.decode("utf-8", "replace")), st.booleans())
@fuzz
def test_cron_jobs_of_a_cluster(text: str, local: bool) -> None:
    """What `kubectl get cronjobs -o yaml` printed, or did not."""
    read_or_refused(lambda: read_cronjobs(text, "f", zone_name="UTC", now=NOW, local=local))


TIMER = lines(
    "[Timer]", "[Unit]", "OnCalendar=", "*-*-* 04:00:00", "Mon..Fri *-*~07/1 25:61", "UTC", "OnUnitActiveSec=", "5min 20s", "1e9y",
    "RandomizedDelaySec=", "Persistent=", "AccuracySec=", "Unit=x.service", "hourly", "\\", "=", "[", "2026-02-30", "*/0", "999999999999",
)  # fmt: skip
SERVICE = lines(
    "[Service]", "ExecStart=", "/bin/sh -c 'a'", "Type=oneshot", "Environment=", "A=b", '"C=$D"', "EnvironmentFile=-/x", "%h", "%%", "%",
    "\\x0", "\\U99999999", "User=", "TimeoutStartSec=infinity", "WorkingDirectory=~", "$$", "${A}", "\\", "'",
)  # fmt: skip


@given(TIMER, SERVICE)
@fuzz
def test_timers_of_systemd(folder: Path, timer: str, service: str) -> None:
    """A timer and the service beside it."""
    (folder / "t.timer").write_bytes(f"[Timer]\n{timer}".encode("utf-8", "surrogatepass"))
    (folder / "t.service").write_bytes(f"[Service]\n{service}".encode("utf-8", "surrogatepass"))
    read_or_refused(lambda: read_timers(folder / "t.timer", MACHINE, zone_name="UTC", now=NOW))


@given(lines("A=", "export ", "b", "'", '"', "\\", "#", ";", "$", "`", "=", "\r", "\ufeff", "\0"))
@fuzz
def test_files_of_variables(text: str) -> None:
    """Variables without a NUL, or an error that names a line and no value."""
    with contextlib.suppress(ValueError):
        for name, value in read_env_file(text).items():
            assert name.isidentifier()
            assert "\0" not in value


# -- what a person, a manifest or a record says in words ---------------------------------------------------------------

WORDS = st.text(st.sampled_from("abz09 *,-/.:@#%~$\\'\"=!()[]{}<>\n\0\ud800\u0663\u202e"), max_size=40) | TEXT


@given(WORDS, st.dictionaries(TEXT, TEXT, max_size=3))
@fuzz
def test_selectors_and_labels(text: str, labels: dict[str, str]) -> None:
    """A selector that was read holds or does not; labels are texts."""
    selector = read_or_refused(lambda: parse_selector(text))
    if selector is not None:
        assert selects(selector, labels) in (True, False)  # type: ignore[arg-type]
    read_or_refused(lambda: parse_labels([text, *labels]))


@given(
    WORDS | st.tuples(st.sampled_from(["env:", "file:", "cmd:", "text:", "Bearer env:", "A=cmd:"]), WORDS).map("".join)
)
@fuzz
def test_variables_and_references(text: str) -> None:
    """A value is a text or a reference, and can be shown."""
    for read in (read_value, read_header):
        value = read_or_refused(lambda read=read: read(text))  # type: ignore[misc]
        if value is not None:
            assert reference_of(value) is None or isinstance(shown_value(value, "*"), str)
    read_or_refused(lambda: read_variables([text]))


@given(JSON)
@fuzz
def test_variables_that_a_record_holds(value: object) -> None:
    """A record may hold anything there."""
    assert isinstance(shown_value(value, "*"), str)
    made = record()
    made["chronos"] = {"env": {"A": value}, "labels": value, "env_file": value, "policy": value}
    read_or_refused(lambda: parse_job(made, HOME), ChronosError)


SCHEDULE = st.lists(
    st.sampled_from(["every", "monday", "weekdays", "at", "9am", "hour", "5m", "1.5h", "*/5", "0-60", "L", "W", "#3", "in", "daily",
                     "@", "TZ=UTC", "2030-02-30", "T", "+25:00", "12:60", "1e400", "-1", "\u0663"]) | TEXT, max_size=7,
)  # fmt: skip


@given(SCHEDULE.map(" ".join) | SCHEDULE.map("".join))
@fuzz
def test_schedules(text: str) -> None:
    """A schedule can be written down and read again; a length of time is one."""
    schedule = read_or_refused(lambda: parse_schedule(text, now=NOW, zone=UTC, allow_past=True), ChronosError)
    if schedule is not None:
        assert from_record(to_record(schedule, UTC), UTC) == schedule  # type: ignore[arg-type]
    for read in (parse_duration, parse_seconds):
        read_or_refused(lambda read=read: read(text), ChronosError)  # type: ignore[misc]


# -- documents of a store, and what others answer ----------------------------------------------------------------------


@given(
    documents({"reason": "r", "engaged_at": T.isoformat(), "expires_at": T.isoformat(), "by": "b", "generation": "g"})
)
@fuzz
def test_holds(data: bytes) -> None:
    """What cannot be read holds all the same, and can be written down again."""
    hold = read_hold(data)
    assert hold.reason
    assert hold.expires_at is None or hold.expires_at.tzinfo is not None


@given(documents({"at": T.isoformat(), "before": T.isoformat(), "installed": T.isoformat()}))
@fuzz
def test_notes_of_ticks_of_a_probe_and_of_the_slot(data: bytes) -> None:
    """What cannot be read is as good as not there."""
    found = ticks._read(data)
    assert all(moment is None or moment.tzinfo is not None for moment in (found.at, found.before, found.installed))
    probe._read(data)
    slot_memory._read(data)


@given(documents({"a": ARM, "b": ARM}))
@fuzz
def test_packs(data: bytes) -> None:
    """Lines of a pack are objects, or nothing."""
    store = MemoryStore()
    store.create(pack_key("p"), data)
    assert all(isinstance(line, dict) for line in newest(read_packs(store)).values())
    found = find_line(store, "a")
    assert found is None or isinstance(found, dict)


class Bucket(MemoryStore):
    """A place where jobs are kept apart."""

    keeps_jobs_apart = True


@given(
    documents({"jobs": "kept apart", "folder": "f", "listing": [{"id": "a", "name": "n", "schedule": "s"}]}),
    documents({"jobs": [record()], "moved": True}),
)
@fuzz
def test_listings_and_documents_of_jobs_that_are_kept_apart(listing: bytes, own: bytes) -> None:
    """What cannot be read is an error of the store, or one job's problem; a move refuses or leaves what can be read."""
    store = Bucket()
    store.create(JOBS_KEY, listing)
    store.create(job_key("f", "job"), own)
    home = Repository(store, sleep=lambda _: None, random=lambda: 0.5)
    read_or_refused(lambda: list(home.jobs().records), ChronosError)
    assert home.layout is not None
    if read_or_refused(home.layout.keep_together, ChronosError):
        assert [entry.problem for entry in home.jobs().records if entry.problem is not None] == []


@given(documents({"next_run_at": T.isoformat(), "state": "scheduled"}))
@fuzz
def test_rows_of_a_newer_hermes(tmp_path: Path, data: bytes) -> None:
    """Half of a job that lies in a database beside jobs.json is an object, or the store cannot be read."""
    path = tmp_path / "runtime.db"
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE job_runtime (job_id, state_json)")
        database.execute("INSERT INTO job_runtime VALUES (?, ?)", ("a", data))
    read_or_refused(lambda: read_rows(str(path), home="h", timeout_s=1), ChronosError)


@given(documents({"providers": {"nous": {"access_token": "a.b.c", "expires_at": T.isoformat()}}}), TEXT)
@fuzz
def test_logins_and_files_of_tokens(tmp_path: Path, data: bytes, text: str) -> None:
    """A token of one visible word, or an error without a word of what the file holds."""
    for name, content in (("auth.json", data), ("token", text.encode("utf-8", "surrogatepass"))):
        (tmp_path / name).write_bytes(content)
        tokens = HomeTokens(home=str(tmp_path), environ={}, token_file=str(tmp_path / name) if name == "token" else "")
        token = read_or_refused(tokens._read, ChronosError)
        assert token is None or (str(token).isascii() and str(token).isprintable() and " " not in str(token))


@given(
    documents(
        {"result": "started", "next": {"fire_at": T.isoformat(), "dedup_key": "k", "generation": 1, "accept": ["a"]}}
    )
)
@fuzz
def test_answers_of_an_agent(data: bytes) -> None:
    """An answer to a fire carries a next wake, or none; one to a challenge proves nothing; the doctor's probe reads any."""
    with contextlib.suppress(bodies.BadRequestError):
        assert bodies.next_wake(data) is None or data
    callback_probe._result_of(data)
    reply = CallbackReply(status=200, retry_after=None, body=data)
    assert not proving._judge(reply, "what no example holds").proved


@given(WORDS | st.tuples(st.sampled_from(["Bearer ", "bearer\t", "Basic "]), WORDS).map("".join))
@fuzz
def test_headers_of_a_call(text: str) -> None:
    """A bearer token of one word, or none."""
    token = bearer_token({"HTTP_AUTHORIZATION": text})
    assert token is None or token


@given(
    NOISE.map(lambda data: data.decode("utf-8", "replace").strip() or "x")
    | st.sampled_from(["[" * 9_000, "9" * 9_000, "{}"])
)
@fuzz
def test_the_last_line_of_a_script(text: str) -> None:
    """What a script printed wakes its prompt's runner, unless its last line says that it should not."""
    assert scripted_prompt._wakes(text) in (True, False)


# -- none is left out --------------------------------------------------------------------------------------------------

HERE = "tests/fuzz/test_parsers_of_files.py"
THERE = "tests/fuzz/test_parsers.py"
READERS = {
    "cli/complete.py": ("tests/cli/test_cli_completions.py", "test_completion_is_silent_whatever_the_store_is"),
    "cli/handlers/import_words.py": (HERE, "test_jobs_as_code_and_what_an_import_is_given"),
    "config/file.py": (THERE, "test_configuration"),
    "config/values.py": (HERE, "test_variables_of_settings"),
    "nas_client/answers.py": (THERE, "test_answers_of_the_nas"),
    "nas_client/tokens.py": (HERE, "test_logins_and_files_of_tokens"),
    "nas_server/bodies.py": (THERE, "test_bodies_that_the_nas_is_sent"),
    "nas_server/relay/proving.py": (HERE, "test_answers_of_an_agent"),
    "operations/arming/slot_memory.py": (HERE, "test_notes_of_ticks_of_a_probe_and_of_the_slot"),
    "operations/doctor/callback_probe.py": (HERE, "test_answers_of_an_agent"),
    "operations/firing/probe.py": (HERE, "test_notes_of_ticks_of_a_probe_and_of_the_slot"),
    "operations/firing/refused_token.py": (THERE, "test_the_note_of_a_refusal"),
    "operations/foreign/kubernetes.py": (HERE, "test_cron_jobs_of_a_cluster"),
    "operations/manifest/nodes.py": (HERE, "test_jobs_as_code_and_what_an_import_is_given"),
    "operations/manifest/node_values.py": (HERE, "test_jobs_as_code_and_what_an_import_is_given"),
    "running/scripted_prompt.py": (HERE, "test_the_last_line_of_a_script"),
    "store/holds.py": (HERE, "test_holds"),
    "store/jobsfile.py": (THERE, "test_jobs"),
    "store/layout.py": (HERE, "test_listings_and_documents_of_jobs_that_are_kept_apart"),
    "store/listing.py": (HERE, "test_listings_and_documents_of_jobs_that_are_kept_apart"),
    "store/arms/pack.py": (HERE, "test_packs"),
    "store/arms/store.py": (THERE, "test_arm_documents"),
    "store/documents.py": (THERE, "test_rows"),
    "store/split.py": (HERE, "test_rows_of_a_newer_hermes"),
    "store/ticks.py": (HERE, "test_notes_of_ticks_of_a_probe_and_of_the_slot"),
    "trust/jwks.py": ("tests/trust/test_jwks_cache.py", "test_damaged_cache_is_ignored_and_replaced"),
    "trust/keys.py": (THERE, "test_key_sets"),
    "trust/tokens.py": ("tests/trust/test_fire_token.py", "test_fuzzed_tokens"),
}
"""Who reads JSON or YAML, and the test that lets it read anything."""
OF_OUR_OWN = {
    "cli/commands/init.py": "what `chronos-nas agent add --json` printed into the pipe of the person who typed both",
    "cli/job_options.py": "an option that the person types",
    "demo/environment.py": "what our own program printed for the demonstration",
    "demo/events.py": "what our own programs wrote for the demonstration",
    "hermes/run.py": "what the plug-in hands its own child",
    "hermes/started.py": "what that child reports",
    "nas_server/conformance/probe.py": "answers of a NAS under examination, each judged by a test of its own",
    "nas_server/keys.py": "the NAS's own folder of keys, which nobody else may write",
    "nas_server/timers/audit.py": "what the NAS wrote into its own database",
    "operations/doctor/documents.py": "it reads by the readers of those documents, and tells their errors",
    "operations/firing/runner.py": "the claim that its starter hands it",
    "operations/firing/warm_runner.py": "variables that the server hands it",
    "operations/foreign/kubernetes_export.py": "it writes YAML",
    "operations/manifest/words.py": "it writes YAML",
    "running/detach.py": "messages of a runner of ours",
    "running/end_channel.py": "questions of runners of ours, and answers to them",
    "running/http_request.py": "what the run hands its own child",
    "running/lock.py": "a private lock file of ours that bears the run's token",
    "running/runner_channel.py": "secrets that its starter hands it",
    "store/bucket.py": "a version that the store gave out itself",
    "store/proof.py": "a document that the same command wrote",
    "strict_json.py": "the reader that the others read by",
}
"""Who reads only what we have just written, and what that is."""


def test_every_reader_is_fuzzed() -> None:
    """Each module that reads JSON or YAML is in one of the tables, and each test that they name is there."""
    found = set()
    package = ROOT / "chronos_cli"
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if calls & {"json.load", "json.loads", "read_json"} or any(call.startswith("yaml.") for call in calls):
            found.add(str(path.relative_to(package)))
    assert found == {*READERS, *OF_OUR_OWN}
    assert not READERS.keys() & OF_OUR_OWN.keys()
    for path, name in READERS.values():
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), (path, name)


@given(documents(["a", {"b": 1}]).map(lambda data: data.decode("utf-8", "replace").replace("\0", "")))
@fuzz
def test_variables_of_settings(folder: Path, text: str) -> None:
    """A variable that sets something is read, or is a configuration error of one line."""
    home = folder / "settings"
    home.mkdir(exist_ok=True)
    for name in (
        "CHRONOS_TOKEN_COMMAND",
        "CHRONOS_KEYS_MAX_AGE",
        "CHRONOS_STORE",
        "CHRONOS_NAS_JWKS_URL",
        "CHRONOS_TIMEZONE",
    ):
        read_or_refused(lambda name=name: load_config(environ={name: text}, home=str(home)), ConfigError)  # type: ignore[misc]
