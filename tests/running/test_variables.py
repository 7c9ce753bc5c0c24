"""Variables of a run: what every run has, what a record refers to, files of variables, and masks of output."""

import os
import pwd
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_processes import is_running, read_pid

from chronos_cli.core import variables
from chronos_cli.core.variables import read_header, read_value, shown_value, words_of
from chronos_cli.errors import UsageError
from chronos_cli.running import references, secrecy
from chronos_cli.running.actions import _variables
from chronos_cli.running.env_file import read_env_file
from chronos_cli.running.environment import run_environment
from chronos_cli.running.errors import ActionError
from chronos_cli.running.mask import Mask
from chronos_cli.running.references import MAX_VALUE_BYTES, Lookup

MADE = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TZ", "USER")


@pytest.fixture
def lookup(lock, tmp_path):
    """Looks up in `{"A": "of the starter"}`."""
    return Lookup(
        started_with={"A": "of the starter"},
        environment={"PATH": os.environ["PATH"], "GIVEN": "g"},
        folder=str(tmp_path),
        lock_fd=lock.fd,
    )


def test_our_tokens_are_named_alike_where_they_are_refused_and_where_they_are_dropped():
    """The core cannot import who drops them."""
    assert variables.SECRETS == secrecy.SECRET_NAMES


@pytest.mark.parametrize(
    "starter",
    [
        {},
        {
            "HOME": "/x",
            "PATH": "/x",
            "LANG": "xx",
            "TZ": "Asia/Tokyo",
            "USER": "x",
            "LOGNAME": "x",
            "SHELL": "/x",
            "E": "e",
        },
    ],
)
def test_what_every_run_has_does_not_come_from_its_starter(starter):
    """The account, the machine and the job's zone decide; nothing else is there."""
    given_ = run_environment(starter, inherit=(), zone_name="Europe/Berlin", home="/h")
    me = pwd.getpwuid(os.geteuid())
    assert sorted(given_) == sorted([*MADE, "CHRONOS_HOME"])
    assert (given_["HOME"], given_["USER"], given_["LOGNAME"]) == (me.pw_dir, me.pw_name, me.pw_name)
    assert (given_["TZ"], given_["CHRONOS_HOME"]) == ("Europe/Berlin", "/h")
    assert given_["PATH"].startswith("/usr/local/sbin:")


@pytest.mark.parametrize(
    ("inherit", "there", "zone"),
    [(("A", "B_*"), {"A", "B_1", "B_"}, "UTC"), (("*",), {"A", "B_1", "B_", "C", "TZ"}, "X"), ((), set(), "UTC")],
)
def test_a_policy_names_what_comes_in(inherit, there, zone):
    """By name, by how names begin, or all; what comes in goes before what every run has."""
    starter = {"A": "1", "B_1": "2", "B_": "3", "C": "4", "TZ": "X"}
    found = run_environment(starter, inherit=inherit, zone_name="UTC", home="/h")
    assert (set(found) - set(MADE) - {"CHRONOS_HOME"}, found["TZ"]) == (there - set(MADE), zone)


def test_without_a_policy_a_run_inherits_as_before_and_lacks_nothing():
    """What is there stays as it is; the zone of a job of before is the machine's."""
    found = run_environment({"PATH": "/mine", "C": "4"}, inherit=None, zone_name="Asia/Tokyo", home="/h")
    assert (found["PATH"], found["C"], "TZ" in found, "HOME" in found) == ("/mine", "4", False, True)


@pytest.mark.parametrize("kind", ["env", "file", "cmd"])
def test_each_kind_of_reference(lookup, tmp_path, kind):
    """Without the newline at the end, and with everything else as it is."""
    (tmp_path / "f").write_bytes(b" a\nb\xff \r\n")
    text = {"env": "env:A", "file": f"file:{tmp_path}/f", "cmd": "cmd:sh -c 'printf \" a\\nb\\377 \\r\\n\"; pwd >&2'"}[
        kind
    ]
    wanted = "of the starter" if kind == "env" else " a\nb\udcff "
    assert lookup.value({"from": text}, "the variable X") == wanted
    assert lookup.value({"before": "Bearer ", "from": text}, "the header X") == f"Bearer {wanted}"
    assert lookup.found == [wanted, wanted]
    assert lookup.value("env:A", "the variable X") == "env:A"


def test_a_command_gets_the_jobs_environment_and_not_its_starters(lookup):
    """So it finds the same from whichever door the run starts."""
    assert lookup.value({"from": "cmd:sh -c 'echo $GIVEN$A'"}, "x") == "g"


BROKEN = [
    ("env:B", "env:B is not set where this run starts"),
    ("file:/not/there", "file:/not/there cannot be read: No such file or directory"),
    ("file:/", "file:/ is no file"),
    ("file:/dev/zero", "file:/dev/zero is no file"),
    ("file:here", "file:here is no whole path"),
    ("cmd:sh -c 'echo hunter2; echo hunter2 >&2; exit 3'", "cmd:sh ... exited with status 3"),
    ("cmd:sh -c 'kill -9 $$'", "cmd:sh ... was ended by SIGKILL"),
    ("cmd:sh -c 'kill -40 $$'", "cmd:sh ... was ended by signal 40"),
    ("cmd:not-a-program hunter2", "cmd:not-a-program ... cannot be started"),
    ("cmd:yes hunter2", f"cmd:yes ... printed more than {MAX_VALUE_BYTES} bytes"),
    ("cmd:printf 'a\\0b'", "cmd:printf ... has a NUL in it"),
    ("cmd:'", "cmd: names no command"),
    ("vault:x", "the variable X has a reference of no known kind"),
]


@pytest.mark.parametrize(("reference", "reason"), BROKEN)
def test_what_cannot_be_had_is_one_reason_without_a_secret(lookup, reference, reason):
    """The reason names where was looked; neither what a command printed nor its arguments are in it."""
    with pytest.raises(ActionError) as caught:
        lookup.value({"from": reference}, "the variable X")
    assert reason in caught.value.message
    assert "hunter2" not in caught.value.line()
    assert "\n" not in caught.value.line()


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(lookup, tmp_path, monkeypatch):
    """All commands of a run share one time; nothing is left of the one that is cut off."""
    monkeypatch.setattr(references, "COMMANDS_WITHIN_S", 0.3)
    lookup._left_s = 0.3
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(ActionError, match="took longer than"):
            lookup.value({"from": f"cmd:sh -c 'sleep 60 & echo $! >> {tmp_path}/pid; wait'"}, "x")
    assert time.monotonic() - began < 2
    pid = int(Path(tmp_path / "pid").read_text().split()[0])
    assert not is_running(pid) or read_pid(tmp_path / "pid") < 0


@given(
    st.text(alphabet=st.characters(exclude_characters="\0")),
    st.sampled_from(["", "env:", "text:", "Bearer cmd:", "file:/"]),
)
def test_a_value_in_words_reads_back_the_same(text, start):
    """A text that looks like a reference is marked as none."""
    stored = start + text
    assert read_value(words_of(stored)) == stored
    assert read_header(words_of(stored)) == stored


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("Bearer env:TOKEN", {"before": "Bearer ", "from": "env:TOKEN"}),
        ("cmd:pass show x", {"from": "cmd:pass show x"}),
        ("see also: env:X", "see also: env:X"),
        ("text:env:X", "env:X"),
    ],
)
def test_headers_may_have_a_word_before_a_reference(text, stored):
    """As schemes of authorization have it; any other text is a text."""
    assert read_header(text) == stored
    assert words_of(stored).replace("text:", "") == text.replace("text:", "")


def test_of_a_command_only_its_program_is_shown():
    """Its arguments may hold a secret, as those of a token_command may."""
    assert shown_value({"from": "cmd:curl -H 'X: hunter2' y"}, "***") == "cmd:curl ..."
    assert shown_value("hunter2", "***") == "***"


ENV_FILE = r"""
# a comment
; another
PLAIN=some words here@@
export EXPORTED=1
EMPTY=
SPACED = around
QUOTED="a \"b\" \\ \$x \n c" tail
SINGLE='it\'
TWO="first
second"
JOINED=one\
two
ESCAPED=a\@\@
HASH=a#b
"""


def test_a_file_of_variables_is_read_as_systemd_reads_it():
    """Comments, blanks, quotes, joined lines; nothing is filled in."""
    assert read_env_file("\ufeff" + ENV_FILE.replace("@", " ").replace("\n", "\r\n")) == {
        "PLAIN": "some words here",
        "EXPORTED": "1",
        "EMPTY": "",
        "SPACED": "around",
        "QUOTED": 'a "b" \\ $x \\n c tail',
        "SINGLE": "it\\",
        "TWO": "first\nsecond",
        "JOINED": "onetwo",
        "ESCAPED": "a  ",
        "HASH": "a#b",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [("A=1\nhunter2\n", "has no NAME=VALUE on line 2"), ("A='hunter2", "has a quote without its end on line 1"),
     ("1A=x", "has no NAME=VALUE on line 1"), ("A=a\0b", "has a NUL on line 1")],
)  # fmt: skip
def test_a_line_that_is_none_is_named_by_its_number(text, reason):
    """What stands there may be a secret."""
    with pytest.raises(ValueError, match=reason) as caught:
        read_env_file(text)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_need_not_be_there(lookup, tmp_path):
    """With a dash it may be absent, and nothing else may be wrong with it."""
    (tmp_path / "a").write_text("A=1\nB=1\n")
    (tmp_path / "b").write_text("B=2\n")
    assert lookup.files([f"{tmp_path}/a", f"-{tmp_path}/not", f"-{tmp_path}/b"]) == {"A": "1", "B": "2"}
    for paths, reason in (
        ([f"{tmp_path}/not"], "No such file"),
        ([f"-{tmp_path}"], "is no file"),
        ([1], "not a list of paths"),
    ):
        with pytest.raises(ActionError, match=reason):
            lookup.files(paths)


@given(st.lists(st.sampled_from([b"hunter2", b"hunt", b"er2", b"hun", b"x", b"\n", b"tiger-tiger"]), max_size=12))
def test_no_value_gets_past_a_mask_however_it_comes(parts):
    """Cut anywhere, what comes out is what the whole text would come out as."""
    mask = Mask(["hunter2", "tiger-tiger"])
    out = b"".join(mask.masked(part) for part in parts) + mask.rest()
    assert out == b"".join(parts).replace(b"tiger-tiger", b"***").replace(b"hunter2", b"***")


def test_lines_of_a_key_are_masked_and_short_values_are_not():
    """A key is printed in lines; a `yes` is no secret worth a spoilt output."""
    mask = Mask(["-----BEGIN KEY-----\nAAAABBBBCCCCDDDD\n", "yes"])
    assert mask.masked(b"got AAAABBBBCCCCDDDD yes\n") == b"got *** yes\n"


@pytest.mark.parametrize("text", ["a\0b", "text:a\0b"])
def test_a_value_that_no_variable_can_hold_is_refused(text):
    """The kernel ends a variable at its first NUL."""
    with pytest.raises(UsageError, match="a value has a NUL in it, which no variable can hold"):
        read_value(text)


@pytest.mark.parametrize("files", ["one", {"a": 1}, [7]])
def test_files_that_are_no_list_of_paths_fail_the_run(run, lookup, files):
    """A record may hold anything."""
    with pytest.raises(ActionError, match="the job's env_file is not a list of paths"):
        _variables({"chronos": {"env_file": files}}, lookup, Path("/nowhere"))


@pytest.mark.parametrize(("text", "said"), [(None, "is no file"), ("A=1\nno variable\n", "")])
def test_a_file_of_variables_that_is_none_fails_the_run(tmp_path, lookup, text, said):
    """The reason begins with the file: `the env_file /home/ann/report.env ...`."""
    path = tmp_path / "v.env"
    if text is not None:
        path.write_text(text)
    else:
        path.mkdir()
    with pytest.raises(ActionError, match=f"the env_file {path} .*{said}"):
        lookup.files([str(path)])
