"""A record that cannot be read stays alone, whatever it holds: in jobs.json, and in the configuration."""

from __future__ import annotations

import json
import time

import pytest

from chronos_cli.config.file import MAX_DEPTH, MAX_VALUES
from chronos_cli.operations.firing.fire import fire
from chronos_cli.operations.firing.launchers import InlineLauncher
from chronos_cli.operations.firing.tick import tick
from chronos_cli.strict_json import NotJsonError, is_deep, read_json
from tests.conftest import thoroughly
from tests.damage.rotten import SICK, WELL, deep, make_home
from tests.damage.test_bad_documents import context

NINES = "9" * 5_000
NESTED = "[" * 900 + "]" * 900
VERY_NESTED = "[" * 100_000 + "]" * 100_000
LONG = "0," * 300_000 + "0"
CRON = '{"kind": "cron", "expr": %s}'

# What the broken record holds beside its id, and a word of what is said of it.
BROKEN = {
    "a step of many digits": ('"schedule": ' + CRON % f'"*/{NINES} * * * *"', "characters is too long: at most 1000"),
    "a shorter step that is as odd": ('"schedule": ' + CRON % f'"*/{"9" * 900} * * * *"', "cron"),
    "an expression of 600 KB": ('"schedule": ' + CRON % f'"{LONG} * * * *"', "too long"),
    "a key nested 900 deep": (f'"x": {NESTED}', "nested"),
    "a key nested 100,000 deep": (f'"x": {VERY_NESTED}', "nested"),
    "a number of many digits": (f'"x": {NINES}', "digits"),
    "a number of many digits inside": (f'"chronos": {{"policy": {{"grace": {NINES}}}}}', "digits"),
    "an interval that is no number": ('"schedule": {"kind": "interval", "minutes": NaN}', "interval"),
    "an endless interval": ('"schedule": {"kind": "interval", "minutes": 1e999}', "interval"),
    "an endless grace": ('"chronos": {"policy": {"grace": 1e999}}', "policy"),
    "a grace of ages": ('"chronos": {"policy": {"grace": 1e300}}', "policy"),
    "a surrogate in the zone": ('"chronos": {"timezone": "\\ud800"}', "zone"),
    "a zone that is a list": ('"chronos": {"timezone": ["UTC"]}', "the time zone is no name of one"),
    "a long zone": (f'"chronos": {{"timezone": "{"x" * 5000}"}}', "zone"),
    "a run named as a path": ('"chronos": {"open": [{"run": "../../x", "kind": "run"}]}', "unlock"),
    "an entry that is a text": ('"chronos": {"open": ["x"]}', "unlock"),
    "a schedule that is a text": ('"schedule": "daily"', "schedule"),
    "a record that is a number": (None, "not an object"),
}


def with_record(home, text):
    """Put a record in place of the sick one: the text goes in as it is, with what a record needs before it."""
    path = home / "cron/jobs.json"
    jobs = json.loads(path.read_text())["jobs"]
    usual = {"id": SICK, "schedule": {"kind": "interval", "minutes": 60}, "enabled": True}
    broken = "7" if text is None else json.dumps(usual)[:-1] + f", {text}}}"
    path.write_text(f'{{"jobs": [{broken}, {json.dumps(jobs[1])}]}}')
    return "record 1" if text is None else SICK


@pytest.mark.parametrize("name", BROKEN)
def test_one_bad_record_stays_alone(chronos, nas, tmp_path, name):
    """The other job is listed, fired and reconciled, the broken one says what is wrong, and the command named mends it."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    text, said = BROKEN[name]
    job_id = with_record(home, text)
    before = (home / "cron/jobs.json").read_text()
    began = time.process_time()
    jobs = {job["id"]: job for job in chronos("list", "--json", home=home).json["jobs"]}
    assert said in jobs[job_id]["problem"]
    assert len(jobs[job_id]["problem"]) < 1_000
    assert jobs[WELL]["problem"] is None
    for command in (
        ("status",),
        ("history",),
        ("job", "show", job_id),
        ("job", "show", WELL),
        ("timeline",),
        ("list",),
    ):
        done = chronos(*command, home=home)
        assert done.code == 0, (command, done.err)
    checks = {check["name"]: check for check in chronos("doctor", "--json", home=home).json["checks"]}
    assert (checks["records"]["level"], checks["store"]["level"]) == ("FAIL", "OK")
    came = fire(context(home), SICK, fire_at=None, delivery=None, launcher=InlineLauncher())
    assert came.outcome.value in ("ignored", "gone")
    assert fire(context(home), WELL, fire_at=None, delivery=None, launcher=InlineLauncher()).outcome.value == "claimed"
    assert tick(context(home), InlineLauncher()).failed == {}
    assert chronos("reconcile", home=home).code == 0
    assert WELL in nas.armed
    assert time.process_time() - began < 25  # of the processor: how busy the machine is does not count
    after = (home / "cron/jobs.json").read_text()
    assert before[: before.index(f'"id": "{WELL}"')] == after[: after.index(f'"id": "{WELL}"')]  # byte for byte
    mend = checks["records"]["mend"].partition("`")[2].partition("`")[0]
    assert mend.startswith("chronos job ")
    done = chronos(*mend.replace("'record 1'", "record_1").replace("record_1", "record 1").split(" ", 1)[1].split(" ")
                   if text is not None else ("job", "remove", "record 1", "--yes"), home=home)  # fmt: skip
    assert done.code == 0, done.err
    assert [job["problem"] for job in chronos("list", "--json", home=home).json["jobs"]].count(None) >= 1
    assert all(job["problem"] is None for job in chronos("list", "--json", home=home).json["jobs"])


KEYS = ("name", "state", "enabled", "next_run_at", "repeat", "fire_claim", "run_claim", "last_run_at", "last_status",
        "last_error", "paused_reason", "created_at", "prompt", "script", "workdir", "chronos", "deliver")  # fmt: skip
VALUES = ("7", '"x"', "[1]", "{}", "1e999", '"\\ud800"')


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for row, key in enumerate(KEYS) for column, value in enumerate(VALUES)
     if thoroughly(True, (row + column) % 3 == 0)]
)  # fmt: skip
def test_a_member_of_a_wrong_type_fails_nothing_else(chronos, nas, tmp_path, key, value):
    """Whatever a known member holds: no traceback, and the other job is listed as ever."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    with_record(home, f'"{key}": {value}')
    for command in (("list", "--offline"), ("status", "--offline"), ("job", "show", SICK)):
        done = chronos(*command, home=home)
        assert done.code == 0, (command, done.err)
    ticked = tick(context(home), InlineLauncher())
    assert WELL not in ticked.failed
    assert f"{WELL}/" not in "".join(ticked.failed)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, f"stands for more than {MAX_VALUES} values"),
        ("a: " + "[" * 150 + "]" * 150, f"nested deeper than {MAX_DEPTH} levels"),
        ("a: " + "[" * 90_000, "nest"),
        (f"a: {NINES} # é", "not YAML"),
        ("? [a, b]\n: c\n? {d: e}\n: f", "not YAML"),
        ("\0\0\0\0", "not YAML"),
        ("a: \ud800x", "UTF-8"),
        ("- a\n- b", "must hold"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_one_line(chronos, tmp_path, text, said):
    """An alias bomb, nesting, numbers without end: refused at once, naming the file."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    began = time.process_time()
    for command in ("list", "status", "doctor"):
        done = chronos(command, home=home)
        assert done.code in (1, 2), done.err
        assert "Traceback" not in done.err
        assert said in done.err + done.out
        assert "config.yaml" in done.err + done.out
    assert time.process_time() - began < 20


def test_few_aliases_are_as_good_as_ever(chronos, tmp_path):
    """What people write with anchors is read."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text("common: &common {grace: 1h}\npolicy:\n  <<: *common\ntimezone: UTC\n")
    assert chronos("list", home=home).code == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\0" * 9, "it holds nothing but zero bytes"),
        (b"{", "it is not JSON (line 1, column 2"),
        (b"\xff", "it is not UTF-8 text (byte 0)"),
        (b"[NaN]", "it holds NaN, which is no number of JSON"),
        (NINES.encode(), "a number in it has too many digits"),
        (deep(200), "it is nested deeper than 100 levels"),
        (deep(200_000), "it is nested deeper than 100 levels"),
        (b"[" * 200_000, "it is n"),
        (b"x" * 20, "it is larger than 10 bytes"),
    ],
)
def test_the_reader_of_json_has_one_error(data, said):
    """Each cause has its words, and no other exception comes through."""
    with pytest.raises(NotJsonError) as raised:
        read_json(data, **({"max_bytes": 10} if data == b"x" * 20 else {}))
    assert str(raised.value).startswith(said)


def test_what_is_good_is_read():
    """A byte order mark is skipped; depth is counted in levels and not in brackets."""
    assert read_json(b'\xef\xbb\xbf{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert len(read_json("[" + ",".join(["[]"] * 500) + "]")) == 500
    assert not is_deep(read_json("[" * 100 + "]" * 100))
    assert is_deep([[[]]], limit=2)


def test_jobs_that_are_no_json_as_a_whole_stay_an_error(chronos, nas, tmp_path):
    """A cut file, or one of zero bytes, is never read as no jobs: nothing is written, nobody is called."""
    home = tmp_path / "home"
    make_home(home, nas.url)
    path = home / "cron/jobs.json"
    for data in (path.read_bytes()[:-40], b"\0" * 100, b"", b"[" * 100_000):
        path.write_bytes(data)
        for command in (("list", "--offline"), ("tick",), ("reconcile",), ("job", "pause", WELL)):
            assert chronos(*command, home=home).code == 1
        assert path.read_bytes() == data
    assert nas.armed == {}
