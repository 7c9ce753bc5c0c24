"""Another user's home is not run: the two users are root and one without rights, so these need root."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from chronos_cli.callback.wsgi import CallbackApplication
from chronos_cli.cli import main
from chronos_cli.config import load_config
from chronos_cli.errors import ForeignHomeError
from chronos_cli.hermes import inside as inside_hermes
from chronos_cli.owners import require_own
from tests.cli.conftest import chronos, clean_environment, tree  # noqa: F401 - fixtures of the command line
from tests.conftest import ROOT, require_program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="making another user's files needs root")

STRANGER = 65534
OTHER = 12345
"""A user who is neither root nor the stranger; the machine need not know either."""

AS_ANOTHER = """
import contextlib, io, os, pwd, shlex, sys, encodings.utf_8_sig
from chronos_cli.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for provider in ("chronos", "none"):  # have everything imported while the interpreter's own files can be read
        os.environ["CHRONOS_PROVIDER"] = provider
        main(["--home", sys.argv[2], "status"])
del os.environ["CHRONOS_PROVIDER"]
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
sys.exit(main(sys.argv[3:]))
"""


def give(folder, uid):
    """Have a folder and all in it belong to somebody."""
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, uid, uid)
    folder.chmod(0o755)


@pytest.fixture
def place(tmp_path, clean_environment):  # noqa: F811
    """A stranger's home in which everything that could be run leaves a mark, for root to come across."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)  # pytest's own folders, which others have to come through here
    home = tmp_path / "strangers"
    marks = tmp_path / "marks"
    marks.mkdir(mode=0o777)
    marks.chmod(0o777)
    (home / "plugins/evil").mkdir(parents=True)
    (home / "plugins/evil/plugin.yaml").write_text("name: evil\n")
    (home / "plugins/evil/__init__.py").write_text(
        f"import os\nos.close(os.open({str(marks / 'plugin')!r}, os.O_CREAT))\n"
    )
    (home / "scripts").mkdir()
    (home / "scripts/s.sh").write_text(f"touch {marks}/script\n")
    (home / "cron").mkdir()
    job = {"id": "j", "name": "j", "schedule": {"kind": "interval", "minutes": 60}, "enabled": True, "state": "scheduled",
           "next_run_at": "2026-01-01T00:00:00+00:00", "script": "s.sh", "no_agent": True,
           "chronos": {"policy": {"on_failure": ["touch", str(marks / "alert")]}}}  # fmt: skip
    (home / "cron/jobs.json").write_text(json.dumps({"jobs": [job]}))
    write_config(home, marks, "evil")
    give(home, STRANGER)
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "warm/cron").mkdir(parents=True)
    (tmp_path / "warm/config.yaml").write_text((home / "config.yaml").read_text().replace("touch", "/bin/true"))
    (tmp_path / "warm/cron/jobs.json").write_text(json.dumps({"jobs": [job]}))
    clean_environment.setenv("HOME", str(tmp_path / "ours"))
    return tmp_path


def write_config(home, marks, provider):
    (home / "config.yaml").write_text(
        f"timezone: UTC\ncron:\n  provider: {provider}\n  chronos:\n    portal_url: http://127.0.0.1:9\n"
        "    callback_url: http://127.0.0.1:9\n    expected_audience: a\n    nas_jwks_url: http://127.0.0.1:9/k\n"
        f"    token_command: [touch, {marks}/token]\n"
    )


COMMANDS = [
    ["status"], ["list"], ["list", "--json"], ["reconcile"], ["arm", "--all"], ["tick"], ["run", "j"], ["job", "show", "j"],
    ["job", "pause", "j"], ["provider", "list"], ["config", "show"], ["doctor"], ["hold", "--reason", "x"], ["logs", "j"], ["history"],
    ["fire", "--job-id", "j", "--token", "x"], ["init", "--force"], ["timeline"], ["next", "@daily"], ["job", "export"],
]  # fmt: skip


@pytest.mark.parametrize("provider", ["evil", "chronos", "builtin"])
def test_no_command_runs_anything_of_a_strangers_home(chronos, place, provider):  # noqa: F811
    """Every command of root's is refused with exit 4 and one line; no plug-in, token_command, job or alert runs, nothing is written."""
    home = place / "strangers"
    write_config(home, place / "marks", provider)
    give(home, STRANGER)
    before = tree(home)
    for words in COMMANDS:
        done = chronos(*words, home=home)
        assert done.code == (1 if words == ["doctor"] else 4), (words, done)
        said = done.out if words == ["doctor"] else done.err
        assert f"the home {home} is not used: {home} belongs to " in said, (words, done)
        assert "CHRONOS_SAFE_HOMES" in said
        assert "and what stands in it would be run" in said
        if words != ["doctor"]:
            assert done.err.count("\n") == 1
    assert list((place / "marks").iterdir()) == []
    assert tree(home) == before


def test_an_unprivileged_user_is_kept_from_a_strangers_home_too(place):
    """A third user gets the same refusal; with the home named in the variable its plug-in runs, as was asked for."""

    def status(**env):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        command = [
            sys.executable,
            "-c",
            AS_ANOTHER,
            str(OTHER),
            str(place / "warm"),
            "--home",
            str(place / "strangers"),
            "status",
        ]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    done = status()
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done
    assert (
        f"not to the user with id {OTHER}, and what stands in it would be run: if you trust that user: " in done.stderr
    )
    assert list((place / "marks").iterdir()) == []
    done = status(CHRONOS_SAFE_HOMES=f"/elsewhere:{place}/strangers/")
    assert "the home" not in done.stderr
    assert (place / "marks/plugin").stat().st_uid == OTHER


def test_roots_own_home_may_be_used_by_others(place):
    """Root can do anything to anybody anyway: its home is as trusted as the system."""
    home = place / "strangers"
    give(home, 0)
    command = [
        sys.executable,
        "-c",
        AS_ANOTHER,
        str(OTHER),
        str(place / "warm"),
        "--home",
        str(home),
        "list",
        "--offline",
    ]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("named", ["plain", "with  two blanks", "quote's", "a:b", "-n", "tab\there"])
def test_the_cure_of_the_message_works(chronos, place, named):  # noqa: F811
    """What the line says, pasted into a shell, lets the home in: this one, and no other."""
    require_program("sh")
    home = (place / "strangers").rename(place / named)
    done = chronos("list", "--offline", "--json", home=home)
    assert done.code == 4
    cure = re.search(r"if you trust that user: (.*) \(or name it in", done.json["error"]["hint"])[1]
    if "\t" not in named:
        assert cure in done.err
    subprocess.run(["sh", "-c", cure], check=True, cwd=place)
    assert chronos("list", "--offline", home=home).code == 0
    other = home.with_name("other")
    other.mkdir()
    give(other, STRANGER)
    assert chronos("list", "--offline", home=other).code == 4


def test_the_variable_names_several_homes(chronos, place):  # noqa: F811
    """A list with colons; a path through a link means the same home, a relative one none."""
    home = place / "strangers"
    (place / "link").symlink_to(home)
    for value, code in (
        (f"/x:{home}", 0),
        (f"{place}/link", 0),
        (str(place), 4),
        (f"{home}/cron", 4),
        ("strangers", 4),
        (":", 4),
    ):
        assert chronos("list", "--offline", home=home, env={"CHRONOS_SAFE_HOMES": value}).code == code, value


def test_a_strangers_word_for_a_home_does_not_count(chronos, place):  # noqa: F811
    """With HOME left at the stranger's, as `su` leaves it, their own list of safe homes is not read; nor one anybody may write."""
    home = place / "strangers"
    safe = home / ".config/chronos/safe-homes"
    safe.parent.mkdir(parents=True)
    safe.write_text(f"{home}\n")
    give(home, STRANGER)
    done = chronos("list", home=home, env={"HOME": str(home)})
    assert done.code == 4
    assert "~/" not in done.err
    os.chown(home, 0, 0)
    assert chronos("list", home=home, env={"HOME": str(home)}).code == 4
    give(home, STRANGER)
    ours = place / "ours/.config/chronos/safe-homes"
    ours.parent.mkdir(parents=True)
    ours.write_text(f"# a comment\n\n{home}\n")
    assert chronos("list", "--offline", home=home).code == 0
    ours.chmod(0o666)
    assert chronos("list", "--offline", home=home).code == 4
    ours.chmod(0o664)
    os.chown(ours, 0, STRANGER)
    assert chronos("list", "--offline", home=home).code == 4, "a group of others may write it"
    os.chown(ours, 0, os.getegid())
    assert chronos("list", "--offline", home=home).code == 0, "the mode that a umask of 002 makes"
    ours.chmod(0o644)
    os.chown(ours, STRANGER, STRANGER)
    assert chronos("list", "--offline", home=home).code == 4


@pytest.mark.parametrize("part", ["config.yaml", "cron", "cron/jobs.json"])
def test_one_strangers_file_in_a_home_of_ours_is_enough(chronos, place, part):  # noqa: F811
    """Configuration and jobs decide what runs, so each has to be ours; the message names the one that is not."""
    home = place / "strangers"
    give(home, 0)
    assert chronos("list", "--offline", home=home).code == 0
    os.chown(home / part, STRANGER, STRANGER)
    done = chronos("list", "--offline", home=home)
    assert done.code == 4
    assert f"{home / part} belongs to" in done.err


@pytest.mark.parametrize("part", ["", "config.yaml", "cron", "cron/jobs.json"])
def test_a_strangers_link_to_what_is_ours_is_not_taken(chronos, place, tmp_path, part):  # noqa: F811
    """Who owns the link can turn it to what is theirs, between our look and our reading."""
    ours, home = tmp_path / "ours", place / "linked"
    (ours / "cron").mkdir(parents=True)
    (ours / "config.yaml").write_text("timezone: UTC\n")
    (ours / "cron" / "jobs.json").write_text('{"jobs": []}')
    if part:
        (home / part).parent.mkdir(parents=True)
    (home / part).symlink_to(ours / part)
    assert chronos("list", "--offline", home=home).code == 0, "a link of our own"
    os.chown(home / part, STRANGER, STRANGER, follow_symlinks=False)
    done = chronos("list", "--offline", home=home)
    assert (done.code, str(STRANGER) in done.err) == (4, True), done


def test_who_may_change_a_folder_above_a_home_has_a_say_in_what_is_run(chronos, place):  # noqa: F811
    """A home of ours below a folder that is a stranger's, or that anybody may write, could be another one a moment later."""
    above = place / "above"
    above.mkdir()
    home = (place / "strangers").rename(above / "home")
    write_config(home, place / "marks", "builtin")
    give(home, 0)
    list_it = ("list", "--offline")
    assert chronos(*list_it, home=home).code == 0
    os.chown(above, STRANGER, STRANGER)
    done = chronos(*list_it, home=home)
    assert (done.code, f"the home {home} is not used: {above} above it belongs to" in done.err) == (4, True), done
    assert chronos(*list_it, home=home, env={"SUDO_UID": str(STRANGER)}).code == 0, "who called sudo is trusted"
    assert chronos(*list_it, home=home, env={"CHRONOS_SAFE_HOMES": str(home)}).code == 0
    os.chown(above, 0, 0)
    above.chmod(0o777)
    done = chronos(*list_it, home=home)
    assert (done.code, f"{above} above it can be written by anybody" in done.err) == (4, True), done
    above.chmod(0o1777)
    assert chronos(*list_it, home=home).code == 0, "there nobody takes away what is another's"
    assert chronos(*list_it, home=above / "none yet").code == 0
    above.chmod(0o777)
    assert chronos(*list_it, home=above / "none yet").code == 4, "it may be there a moment later"


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777])
def test_nor_may_the_folder_of_a_link_that_leads_to_it_be_a_strangers(chronos, place, mode):  # noqa: F811
    """Each link on the way is looked at where it lies, links to links too: its folder says who can turn it elsewhere."""
    home = place / "strangers"
    write_config(home, place / "marks", "builtin")
    give(home, 0)
    theirs = place / "theirs"
    theirs.mkdir()
    (theirs / "on").symlink_to("../strangers")
    (place / "first").symlink_to(theirs / "on")
    assert chronos("list", "--offline", home=place / "first").code == 0
    if mode == 0o755:
        os.chown(theirs, STRANGER, STRANGER)
    theirs.chmod(mode)
    os.chown(theirs / "on", STRANGER, STRANGER, follow_symlinks=False)
    done = chronos("list", "--offline", home=place / "first")
    assert (done.code, f"{theirs} above it" in done.err) == (4, True), done


SWAP = """
import os, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
os.chdir(sys.argv[2])
print("swapping", flush=True)
while True:
    for one, other in (("home", "aside"), ("evil", "home"), ("home", "evil"), ("aside", "home")):
        os.rename(one, other)
"""


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_race_for_a_home_is_never_won_from_above(chronos, place, mode):  # noqa: F811
    """While a neighbour swaps our home for theirs as fast as can be, nothing of theirs is imported or run by root."""
    above = place / "above"
    above.mkdir()
    evil = (place / "strangers").rename(above / "evil")
    ours = above / "home"
    ours.mkdir()
    (ours / "config.yaml").write_text("timezone: UTC\n")
    if mode == 0o755:
        os.chown(above, STRANGER, STRANGER)
    above.chmod(mode)
    racer = subprocess.Popen([sys.executable, "-c", SWAP, str(STRANGER), str(above)], stdout=subprocess.PIPE)
    try:
        racer.stdout.readline()
        for words in (("status", "--offline"), ("tick",), ("provider", "list")) * 8:
            chronos(*words, home=ours)
        assert racer.poll() is None
    finally:
        racer.kill()
        racer.communicate()
    assert evil.exists() or ours.exists()
    assert list((place / "marks").iterdir()) == []


@pytest.mark.parametrize("part", ["plugins", "plugins/evil", "plugins/evil/__init__.py", "plugins/evil/more/x.pyc"])
def test_a_strangers_plug_in_is_not_imported(chronos, place, part):  # noqa: F811
    """In a home of ours a plug-in with anything of somebody else's is left alone, said, and the built-in trigger takes over."""
    home = place / "strangers"
    (home / "plugins/evil/more").mkdir()
    (home / "plugins/evil/more/x.pyc").write_bytes(b"")
    give(home, 0)
    os.chown(home / part, STRANGER, STRANGER)
    for words in (["status", "--offline"], ["provider", "list"]):
        done = chronos(*words, home=home)
        assert done.code == 0
        assert f"{home / part} belongs to" in done.out + done.err
    assert not (place / "marks/plugin").exists()
    os.chown(home / part, 0, 0)
    chronos("status", "--offline", home=home)
    assert (place / "marks/plugin").exists()


@pytest.mark.parametrize("optional", ["", "-"])
def test_a_strangers_variables_are_not_taken(chronos, place, optional):  # noqa: F811
    """A file of variables that somebody else writes decides by PATH what is run: the run fails with the reason."""
    variables = place / "beside/variables"
    variables.parent.mkdir(mode=0o755)
    variables.write_text("WHO=us\n")
    words = ("job", "add", "@yearly", "--id", "v", "--env-file", f"{optional}{variables}", "--shell", "echo ran")
    assert chronos(*words, home=place / "ours").code == 0

    def refused_since():
        """What history says of a run that was refused, or 0."""
        done = chronos("run", "v", home=place / "ours")
        return done.code and chronos("history", "v", "--json", home=place / "ours").out

    assert refused_since() == 0
    os.chown(variables.parent, STRANGER, STRANGER)
    assert f"{variables.parent} above {variables} belongs to" in refused_since()
    os.chown(variables.parent, 0, 0)
    variables.parent.chmod(0o777)
    assert f"{variables.parent} above {variables} can be written by anybody" in refused_since()
    variables.parent.chmod(0o1777)
    assert refused_since() == 0
    os.lchown(variables, STRANGER, STRANGER)
    assert f"{variables} belongs to" in refused_since()


@pytest.mark.parametrize("part", ["scripts", "scripts/below", "scripts/below/s.sh"])
def test_a_strangers_script_is_not_run(chronos, place, part):  # noqa: F811
    """In a home of ours a job whose script, or a folder that it lies in, belongs to somebody else fails with the reason."""
    home = place / "strangers"
    write_config(home, place / "marks", "builtin")
    (home / "scripts/below").mkdir()
    (home / "scripts/s.sh").rename(home / "scripts/below/s.sh")
    jobs = home / "cron/jobs.json"
    jobs.write_text(jobs.read_text().replace('"s.sh"', '"below/s.sh"'))
    give(home, 0)
    os.chown(home / part, STRANGER, STRANGER)
    done = chronos("run", "j", home=home)
    assert done.code == 10
    assert f"{home / part} belongs to" in done.err
    assert not (place / "marks/script").exists()


def test_a_store_elsewhere_has_to_be_ours_as_well(chronos, place, tmp_path):  # noqa: F811
    """A home of ours may name a folder for its jobs: one of a stranger is refused, and can be named as safe."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "config.yaml").write_text(f"store: {place}/strangers\n")
    done = chronos("list", "--offline", home=mine)
    assert done.code == 4
    assert f"the home {place}/strangers is not used" in done.err
    assert chronos("list", "--offline", home=mine, env={"CHRONOS_SAFE_HOMES": f"{place}/strangers"}).code == 0


def test_a_bucket_has_no_owner_but_its_configuration_has(place):
    """What counts for a home whose jobs are in a bucket is who wrote its config.yaml."""
    home = place / "bucket"
    home.mkdir()
    (home / "config.yaml").write_text("store: s3://somebodys/bucket\n")
    load_config(environ={}, home=str(home))
    os.chown(home / "config.yaml", STRANGER, STRANGER)
    with pytest.raises(ForeignHomeError, match="belongs to"):
        load_config(environ={}, home=str(home))


def test_who_became_root_by_sudo_may_use_their_own_home(place):
    """As git does; the variable means nothing to anybody else, nor does another number in it."""
    home = str(place / "strangers")
    require_own(home, [home], {"SUDO_UID": str(STRANGER)})
    for value in ("0", "1", "", "x", "\u0663", str(STRANGER + 1)):
        with pytest.raises(ForeignHomeError):
            require_own(home, [home], {"SUDO_UID": value})


def test_the_callback_answers_503_and_logs_why(place, clean_environment, capsys):  # noqa: F811
    """The door to the network has the same rule; a caller learns no more than that it is not configured."""
    clean_environment.setenv("CHRONOS_HOME", str(place / "strangers"))
    answers = []
    environ = {"PATH_INFO": "/api/cron/fire", "REQUEST_METHOD": "POST"}
    body = b"".join(CallbackApplication()(environ, lambda status, headers: answers.append(status)))
    assert answers[0].startswith("503 ")
    assert b"strangers" not in body
    assert f"{place}/strangers belongs to" in capsys.readouterr().err
    assert list((place / "marks").iterdir()) == []


def test_nor_does_hermes_plug_in_work_in_one(place, monkeypatch, caplog):
    """Inside hermes: not available, no token holds, nothing is armed; each time the log says why."""
    monkeypatch.setattr(inside_hermes, "_home", lambda: place / "strangers")
    assert inside_hermes.is_available() is False
    assert inside_hermes._JUDGE.verifier()("token") is None
    inside_hermes.follow()
    assert caplog.text.count("belongs to") == 3
    assert list((place / "marks").iterdir()) == []


def test_the_candidates_of_a_shell_do_not_come_from_one(place, capsys):
    """Somebody is typing: a home that is refused completes nothing, and says nothing."""
    assert main(["__complete", "jobs", "", str(place / "strangers")]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


def test_init_makes_no_home_of_a_strangers_folder(chronos, place):  # noqa: F811
    """An empty folder, one with a config.yaml, one with somebody's plug-ins: refused, and left as it is."""
    empty = place / "empty"
    empty.mkdir()
    give(empty, STRANGER)
    planted = place / "planted"
    (planted / "plugins").mkdir(parents=True)
    os.chown(planted / "plugins", STRANGER, STRANGER)
    for folder in (empty, planted, place / "strangers"):
        before = tree(folder)
        done = chronos("init", "--force", home=folder)
        assert done.code == 4
        assert "belongs to" in done.err
        assert tree(folder) == before
    assert chronos("init", home=place / "new").code == 0
