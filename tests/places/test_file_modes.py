"""What either program makes is closed as its page says, whatever the umask; and it goes through nobody's link."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from chronos_cli.errors import ConfigError, KeysUnavailableError
from chronos_cli.files import make_folder, open_named, place_at, write_output
from chronos_cli.nas_server.keys import KeyRing
from chronos_cli.nas_server.serve import _write_ready
from chronos_cli.operations.firing.refused_token import last_refused, note_refused
from chronos_cli.trust.jti import check_memory
from chronos_cli.trust.jwks import JwksCache
from chronos_cli.trust.token_errors import JtiReusedError
from tests.agent_home import ROOT
from tests.cli.conftest import spawn
from tests.ports import free_port

SUFFIXES = {".svg", ".url", ".service", ".timer"}
SYSTEMCTL = "#!/bin/sh\nexit 0\n"


@pytest.fixture(params=[0, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def nas_of(folder, *arguments):
    env = {"CHRONOS_NAS_HOME": str(folder / "made" / "nas")}
    return spawn(*arguments, python=("-m", "chronos_cli.nas_server"), env=env)


def test_a_folder_that_another_makes_meanwhile_is_taken(tmp_path, monkeypatch):
    """Many processes begin in a new home at once: one that found nothing there meets what another has just made."""
    wanted, real = tmp_path / "home", os.open

    def late(path, flags, *more, **given):
        try:
            return real(path, flags, *more, **given)
        except FileNotFoundError:
            wanted.mkdir(exist_ok=True)
            raise

    monkeypatch.setattr(os, "open", late)
    make_folder(wanted)
    assert wanted.is_dir()


def serve(folder, port):
    """A NAS that is up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chronos_cli.nas_server", "serve", "--port", str(port), "--allow-private-callbacks",
         "--ready-file", str(folder / "nas.url"), "--log-file", str(folder / "nas.log")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CHRONOS_NAS_HOME": str(folder / "made" / "nas")},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 20
    while not (folder / "nas.url").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)
    return process


def ask_for_keys(cache):
    """Have the cache write down that NAS could not be asked."""
    settings = SimpleNamespace(
        cache_dir=cache, keys=f"http://127.0.0.1:{free_port()}/", fetch_timeout_s=1, cooldown_s=1, max_stale_s=1,
        max_age_s=60,
    )  # fmt: skip
    with pytest.raises(KeysUnavailableError):
        JwksCache(settings).find("ES256", "k")


def test_every_file_has_the_mode_that_its_page_says(chronos, umask, tmp_path):
    """Files are 0600 in folders of 0700, all that either program makes."""
    umasked = tmp_path / "all"
    umasked.mkdir(mode=0o755)
    home, port = umasked / "made" / "deep" / "home", free_port()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text(SYSTEMCTL)
    (tools / "systemctl").chmod(0o755)
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(umasked / "config")}
    agent = nas_of(umasked, "agent", "add", "a", "--json")
    assert agent.code == 0, agent
    nas = serve(umasked, port)
    try:
        given = ("--portal-url", f"http://127.0.0.1:{port}", "--callback-url", "http://127.0.0.1:9")
        assert spawn("init", "--agent", "-", *given, home=home, stdin=agent.out).code == 0
        for arguments in (
            ("job", "add", "every 1h", "--name", "hello", "--command", "true"), ("run", "hello"), ("tick",),
            ("reconcile",), ("doctor",), ("timeline", "--svg", str(umasked / "week.svg")),
            ("job", "export", "-o", str(umasked / "jobs.json")), ("tick", "--install", "systemd", "--yes"), ("list",),
            ("fire", "--job-id", "hello", "--token", "a.b.c"),
        ):  # fmt: skip
            done = chronos(*arguments, home=home, env=env)
            assert "machine refused" not in done.err, done
            assert done.code in (0, 1, 4, 75), (arguments, done)
    finally:
        nas.send_signal(signal.SIGTERM)
        nas.wait(20)
        nas.stderr.close()
    found = {path: path.lstat() for path in umasked.rglob("*") if not path.is_symlink()}
    for path, facts in found.items():
        mode = stat.S_IMODE(facts.st_mode)
        expected = 0o700 if path.is_dir() else 0o600
        assert oct(mode) == oct(expected), path
    names = {path.name for path in found} | {path.suffix for path in found}
    made = {"config.yaml", "nas-token", "jobs.json", "nas.log", "nas.sqlite", "nas.sqlite.lock", "keys.json"}
    assert made | SUFFIXES <= names, names


def test_the_memory_of_tokens_and_refusals_is_closed(umask, tmp_path):
    """The folders that a fire makes, in a home that has none yet."""
    cache = tmp_path / "h" / "cache"
    check_memory(cache)
    note_refused(cache, JtiReusedError(claim="jti"), now=SimpleNamespace(isoformat=lambda: "2026-11-20T00:00:00+00:00"))
    assert last_refused(cache) is not None
    ask_for_keys(cache)
    modes = {
        path.suffix if path.parent.name == "jwks" else path.name: oct(stat.S_IMODE(path.stat().st_mode))
        for path in (tmp_path / "h").rglob("*")
    }
    folders = dict.fromkeys(("cache", "jti", "jwks"), "0o700")
    assert modes == folders | dict.fromkeys(("refused.json", ".json", ".lock"), "0o600")


def test_a_picture_stays_readable_for_whom_it_was(tmp_path):
    """A file that was more closed stays so; one that was more open is closed; a stream is written as it is."""
    picture, export = tmp_path / "a.svg", tmp_path / "a.json"
    picture.touch(0o600)
    export.touch()
    export.chmod(0o666)
    write_output(picture, b"1", shared=True)
    write_output(export, b"2")
    assert [oct(path.stat().st_mode & 0o777) for path in (picture, export)] == ["0o600", "0o600"]
    picture.chmod(0o666)
    write_output(picture, b"1", shared=True)
    assert oct(picture.stat().st_mode & 0o777) == "0o644"
    write_output("/dev/null", b"3")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    link = tmp_path / "link"
    link.symlink_to(picture.name)
    write_output(link, b"4")
    assert (link.is_symlink(), picture.read_bytes()) == (True, b"4")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, b"5")
    assert os.read(reader, 9) == b"5"
    os.close(reader)
    with pytest.raises(IsADirectoryError):
        write_output(f"{tmp_path}/", b"6")


def test_a_server_whose_ready_file_has_no_place_says_so(tmp_path):
    """It would be waited for in vain."""
    with pytest.raises(ConfigError, match=r"cannot write .*/missing/nas.url: No such file or directory"):
        _write_ready(tmp_path / "missing" / "nas.url", "http://127.0.0.1:1")


def test_pages_have_secrets_written_closed_to_others():
    """A block that has a shell write a token sets the mask first: here alone a umask decides."""
    written = re.compile(r"^(?=.*(token|secret|agent (add|rotate))).*[^->|]> *[~/$\w]", re.MULTILINE)
    blocks = [
        block
        for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
        if written.search(block)
    ]
    assert blocks
    for block in blocks:
        assert block.startswith("umask 077\n"), block


def test_an_output_may_be_the_commands_own_stdout(chronos, home):
    """`-o /dev/stdout` is written and not replaced."""
    done = spawn("job", "export", "-o", "/dev/stdout", home=home)
    assert done.code == 0, done
    assert json.loads(done.out[: done.out.rindex("}") + 1])["jobs"] == []


@pytest.mark.skipif(os.getuid() != 0, reason="playing two users needs root")
class TestStrangers:
    """Root writes where somebody else could put links."""

    USER = 65534

    @pytest.fixture
    def folder(self, tmp_path):
        place = tmp_path / "theirs"
        place.mkdir()
        os.chown(place, self.USER, self.USER)
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").write_text("kept")
        return place

    def link(self, path, target):
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)
        os.chown(path, self.USER, self.USER, follow_symlinks=False)

    @pytest.mark.parametrize("target", ["file", "missing"])
    @pytest.mark.parametrize(
        "write",
        [
            lambda path: write_output(path, b"x"),
            lambda path: os.close(open_named(path, os.O_WRONLY | os.O_APPEND)),
            lambda path: os.close(open_named(path, os.O_RDWR, make=True)),
            lambda path: place_at(path).open(os.O_WRONLY | os.O_CREAT),
        ],
        ids=["output", "log", "database", "place"],
    )
    def test_no_file_is_written_through_a_strangers_link(self, folder, tmp_path, write, target):
        self.link(folder / "out", tmp_path / "precious" / target)
        with pytest.raises(OSError, match="a link of user 65534 is not followed"):
            write(folder / "out")
        assert [path.read_text() for path in (tmp_path / "precious").iterdir()] == ["kept"]

    def test_no_cache_is_kept_through_a_users_link(self, folder, tmp_path):
        """The memory of tokens, the refused token, and the keys of NAS."""
        self.link(folder / "cache", tmp_path / "precious")
        with pytest.raises(OSError, match="a link of user 65534 is not followed"):
            check_memory(folder / "cache")
        now = SimpleNamespace(isoformat=lambda: "")
        note_refused(folder / "cache", JtiReusedError(claim="jti"), now=now)
        assert [path.name for path in (tmp_path / "precious").iterdir()] == ["file"]

    def test_no_keys_are_kept_through_a_users_link(self, folder, tmp_path):
        self.link(folder / "keys", tmp_path / "precious")
        with pytest.raises(OSError, match="a link of user 65534 is not followed"):
            KeyRing(folder / "keys", time.time).prepare()
        assert [path.name for path in (tmp_path / "precious").iterdir()] == ["file"]

    def test_the_keys_cache_goes_on_in_memory(self, folder, tmp_path):
        """Where its folder is a link of somebody else's nothing is written, and nothing fails but the fetch."""
        self.link(folder / "cache", tmp_path / "precious")
        ask_for_keys(folder / "cache")
        assert [path.name for path in (tmp_path / "precious").iterdir()] == ["file"]

    def test_a_strangers_file_in_a_folder_for_all_is_not_appended_to(self, tmp_path):
        """As a log in /tmp that somebody made before us, to read along."""
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o1777)
        (shared / "nas.log").touch()
        os.chown(shared / "nas.log", self.USER, self.USER)
        with pytest.raises(PermissionError, match="it belongs to user 65534"):
            open_named(shared / "nas.log", os.O_WRONLY | os.O_APPEND)

    def test_what_root_makes_is_the_folders_owners(self, folder):
        make_folder(folder / "a" / "b")
        write_output(folder / "a" / "x.svg", b"x")
        os.close(open_named(folder / "nas.log", os.O_WRONLY | os.O_APPEND))
        assert {path.stat().st_uid for path in folder.rglob("*")} == {self.USER}
