"""Where the NAS token comes from, and what happens when it has expired."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from chronos_cli.config import load_config
from chronos_cli.errors import AuthError, ChronosError, ConfigError, LockTimeoutError, TemporaryError
from chronos_cli.nas_client.tokens import HomeTokens
from tests.played_server import Answer

CANARY = "canary-71d9"
FAR = "2099-01-01T00:00:00+00:00"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def tokens(home, environ=None, **options):
    return HomeTokens(home=str(home), environ={"PATH": os.environ["PATH"], **(environ or {})}, **options)


def get(source, within_s=10.0):
    return source.get(within_s=within_s)


def failure(work, kind=ChronosError):
    with pytest.raises(kind) as caught:
        work()
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + caught.value.line()
    assert "\n" not in caught.value.line()
    return caught.value


def log_in(home, **state):
    document = {"version": 1, "active_provider": "nous", "providers": {"nous": state}}
    (home / "auth.json").write_text(json.dumps(document))


def script(home, text, name="give.py"):
    """A token_command that is a Python program."""
    path = home / name
    path.write_text(textwrap.dedent(text))
    return (sys.executable, str(path))


def jwt(**claims):
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "sig"])


class TestOrder:
    def test_order(self, home):
        """Variable, file, command, login: the first that is configured gives the token."""
        (home / "file").write_text("from-file\n")
        log_in(home, access_token="from-login", expires_at=FAR)
        command = script(home, "print('from-command')")
        options = {"token_file": str(home / "file"), "command": command}
        source = tokens(home, {"CHRONOS_NAS_TOKEN": " from-variable "}, **options)
        assert (get(source), source.origin) == ("from-variable", "CHRONOS_NAS_TOKEN")
        source = tokens(home, {"CHRONOS_NAS_TOKEN": " "}, **options)
        assert (get(source), source.origin) == ("from-file", f"token_file {home / 'file'}")
        source = tokens(home, command=command)
        assert (get(source), source.origin) == ("from-command", f"token_command {sys.executable}")
        source = tokens(home)
        assert (get(source), source.origin) == ("from-login", str(home / "auth.json"))
        assert all(item.configured() for item in (tokens(home, **options), tokens(home, command=command), source))

    def test_of_a_configuration(self, home):
        """The keys of config.yaml name the source."""
        (home / "config.yaml").write_text("cron:\n  chronos:\n    token_file: t\n")
        (home / "t").write_text("from-file")
        config = load_config(environ={"TZ": "UTC"}, home=str(home))
        assert get(HomeTokens.of(config, {})) == "from-file"

    def test_none(self, home):
        """Without any of them the error names all of them."""
        source = tokens(home)
        assert not source.configured()
        line = failure(lambda: get(source), AuthError).line()
        assert line == (
            "no NAS token is configured: set CHRONOS_NAS_TOKEN, cron.chronos.token_file or cron.chronos.token_command"
        )

    def test_a_broken_source_is_not_passed_over(self, home):
        """A token_file that is missing is an error, though a login would be there."""
        log_in(home, access_token="from-login", expires_at=FAR)
        source = tokens(home, token_file=str(home / "missing"))
        assert source.problem() == f"{home / 'missing'} does not exist"
        assert not source.configured()
        failure(lambda: get(source), AuthError)

    @pytest.mark.parametrize(
        "text", [f"{CANARY} two", f"{CANARY}\r\nX-Evil: 1", f"{CANARY}\x00", f"{CANARY}é", CANARY * 9999]
    )
    def test_no_token(self, home, text):
        """What could break out of a header, or is no token at all, is refused and not shown."""
        path = home / "file"
        path.write_text(text)
        failure(lambda: get(tokens(home, token_file=str(path))), ConfigError)

    def test_empty_file(self, home):
        """An empty file is no token."""
        (home / "file").write_text("\n")
        assert "holds no token" in failure(lambda: get(tokens(home, token_file=str(home / "file"))), AuthError).message

    def test_unreadable_file(self, home):
        """A file that cannot be read is told with its path."""
        assert "cannot be read" in failure(lambda: get(tokens(home, token_file=str(home))), AuthError).message

    def test_file_that_was_rotated(self, home):
        """After a 401 the file is read again, once: a new token in it is used, the old one is not."""
        path = home / "file"
        path.write_text("one")
        source = tokens(home, token_file=str(path))
        assert get(source) == "one"
        assert source.renew("one", within_s=1) is None
        path.write_text("two")
        source = tokens(home, token_file=str(path))
        assert source.renew("one", within_s=1) == "two"
        assert get(source) == "two"


class TestLogin:
    @pytest.mark.parametrize("ends", ["2020-01-01T00:00:00+00:00", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00"])
    def test_expired(self, home, ends):
        """An expired login is told with when it ended, and counts as not configured."""
        log_in(home, access_token=CANARY, refresh_token=CANARY, expires_at=ends)
        source = tokens(home)
        assert not source.configured()
        assert "expired at 2020-01-01T00:00:00Z" in failure(lambda: get(source), AuthError).message

    def test_of_a_profile(self, home):
        """A profile without a login of its own has its root's, as in Hermes; its own comes first, also a broken one."""
        profile = home / "profiles" / "work"
        profile.mkdir(parents=True)
        log_in(home, access_token="roots", expires_at=FAR)
        source = tokens(profile)
        assert (get(source), source.origin) == ("roots", str(home / "auth.json"))
        (profile / "auth.json").write_text('{"providers": {"other": {}}}')
        assert get(tokens(profile)) == "roots"
        log_in(profile, access_token="own", expires_at=FAR)
        assert get(tokens(profile)) == "own"
        (profile / "auth.json").write_text("{")
        assert str(profile / "auth.json") in failure(lambda: get(tokens(profile)), AuthError).message
        assert tokens(profile).problem() is not None
        (profile / "auth.json").unlink()
        (home / "elsewhere").mkdir()
        assert not tokens(home / "elsewhere").configured()

    def test_edge(self, home):
        """A login is good to its last second."""
        log_in(home, access_token="t", expires_at="2026-11-20T15:34:15Z")
        moment = 1795188855.0
        assert tokens(home, now=lambda: moment - 1).configured()
        assert not tokens(home, now=lambda: moment).configured()

    def test_expiry_in_the_token(self, home):
        """Where the login does not say when it ends, a JWT does itself."""
        log_in(home, access_token=jwt(exp=1_500_000_000))
        assert not tokens(home).configured()
        log_in(home, access_token=jwt(exp=4_000_000_000), expires_at=None)
        assert tokens(home).configured()

    @pytest.mark.parametrize("token", ["opaque", "a.b.c", "a.!!!.c", jwt(exp="soon"), jwt()])
    def test_no_expiry(self, home, token):
        """Where nothing says when it ends, NAS is the judge."""
        log_in(home, access_token=token, expires_at="who knows")
        assert get(tokens(home)) == token

    @pytest.mark.parametrize(
        "text",
        [
            f"{{{CANARY}",
            "[]",
            "null",
            "{}",
            '{"providers": []}',
            '{"providers": {"nous": null}}',
            '{"providers": {"nous": {"access_token": null, "refresh_token": "canary-71d9"}}}',
            '{"providers": {"nous": {"access_token": " "}}}',
            '{"providers": {"other": {"access_token": "canary-71d9"}}}',
            "[" * 100_000,
        ],
    )
    def test_other_shapes(self, home, text):
        """An auth.json of another shape holds no login, and nothing of it is shown."""
        (home / "auth.json").write_text(text)
        assert not tokens(home).configured()
        failure(lambda: get(tokens(home)), AuthError)


class TestCommand:
    def test_runs_once(self, home):
        """One process runs the command once, however often and from however many threads it asks."""
        command = script(home, "open('runs', 'a').write('x'); print('t')")
        source = tokens(home, command=command)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: get(source), range(16))) == {"t"}
        assert (home / "runs").read_text() == "x"

    def test_configured_without_running(self, home):
        """Whether it is configured is known without running it."""
        command = script(home, "open('runs', 'a').write('x')")
        assert tokens(home, command=command).configured()
        assert not (home / "runs").exists()

    def test_environment(self, home):
        """It sees the environment, but none of our secrets; its folder is the home; it has no input."""
        code = """
            import json, os, sys
            assert sys.stdin.read() == ""
            json.dump([dict(os.environ), os.getcwd()], open("seen", "w"))
            print("t")
        """
        environ = {"CHRONOS_FIRE_TOKEN": CANARY, "VAULT_ADDR": "v"}
        get(tokens(home, environ, command=script(home, code)))
        seen, folder = json.loads((home / "seen").read_text())
        assert CANARY not in str(seen)
        assert (seen["VAULT_ADDR"], os.path.realpath(folder)) == ("v", os.path.realpath(home))

    @pytest.mark.parametrize(
        ("code", "kind", "said"),
        [
            (f"import sys; print('{CANARY}'); sys.exit('vault is sealed')", AuthError, "status 1 (vault is sealed)"),
            (f"import sys; print('{CANARY}'); sys.exit('got {CANARY}')", AuthError, "status 1:"),
            ("import os; os.kill(os.getpid(), 9)", AuthError, "status -9"),
            ("", AuthError, "holds no token"),
            (f"print('{CANARY} {CANARY}')", ConfigError, "no bearer token"),
            ("print('x' * 70000)", ConfigError, "printed 70001 bytes"),
        ],
    )
    def test_failures(self, home, code, kind, said):
        """A command that fails is told with its status and last words, never with what it printed."""
        assert said in failure(lambda: get(tokens(home, command=script(home, code))), kind).line()

    def test_not_there(self, home):
        """A command that does not exist is a mistake in the configuration."""
        error = failure(lambda: get(tokens(home, command=("no-such-program",))), ConfigError)
        assert "no-such-program cannot be started" in error.message

    def test_too_slow(self, home):
        """A command that does not end is ended, with its children."""
        code = """
            import subprocess, sys, time
            hold = "import time; pipe = open('alive', 'w'); pipe.write('x'); pipe.flush(); time.sleep(60)"
            subprocess.Popen([sys.executable, "-c", hold])
            time.sleep(60)
        """
        os.mkfifo(home / "alive")
        reader = os.open(home / "alive", os.O_RDONLY | os.O_NONBLOCK)
        start = time.monotonic()
        source = tokens(home, command=script(home, code), command_timeout_s=1.0)
        error = failure(lambda: get(source), TemporaryError)
        assert "has not ended within 1 s" in error.message
        assert time.monotonic() - start < 5
        assert os.read(reader, 1) == b"x"
        while _held(reader):
            assert time.monotonic() - start < 10
            time.sleep(0.02)
        os.close(reader)

    def test_within(self, home):
        """Inside a fire the command has no longer than the fire."""
        source = tokens(home, command=script(home, "import time; time.sleep(60)"))
        start = time.monotonic()
        failure(lambda: get(source, within_s=0.3), TemporaryError)
        assert time.monotonic() - start < 5

    def test_waiting_for_another(self, home):
        """A command that waits for another's says so when its time is up."""
        command = script(home, "open('started', 'w'); import time; time.sleep(0.6); print('t')")
        other = threading.Thread(target=lambda: get(tokens(home, command=command)))
        other.start()
        while not (home / "started").exists():
            time.sleep(0.01)
        error = failure(lambda: get(tokens(home, command=command), within_s=0.1), LockTimeoutError)
        assert "another command's token_command" in error.message
        other.join()

    def test_without_a_home(self, tmp_path):
        """A home that does not exist yet is no hindrance."""
        assert get(tokens(tmp_path / "none", command=script(tmp_path, "print('t')"))) == "t"

    def test_renewed(self, home):
        """After a 401 it is run once more; a token that stays the same is not tried again."""
        command = script(home, "import os; n = len(os.listdir('n')); open(f'n/{n}', 'w'); print(f't{min(n, 1)}')")
        (home / "n").mkdir()
        source = tokens(home, command=command)
        assert get(source) == "t0"
        assert source.renew("t0", within_s=10) == "t1"
        assert source.renew("t0", within_s=10) == "t1"  # a call that started with the old token
        assert source.renew("t1", within_s=10) is None
        assert source.renew("t1", within_s=10) is None
        assert len(list((home / "n").iterdir())) == 3

    REFRESHING = """
        # A login whose refresh token is good for one use: two runs at the same time would spend it twice.
        import json, os, sys, time
        state = json.load(open("state"))
        if state["access"] != "expired":
            print(state["access"])
            sys.exit()
        if not os.path.exists(state["refresh"]):
            sys.exit("refresh token already used")
        os.remove(state["refresh"])
        time.sleep(0.6)
        open("refreshes", "a").write("x")
        open("state.new", "w").write(json.dumps({"access": "fresh", "refresh": "gone"}))
        os.replace("state.new", "state")
        print("fresh")
    """

    def test_parallel_commands_refresh_once(self, home, nas):
        """Commands run in parallel with an expired token refresh it once, one after another, and all succeed."""
        nas.answer = lambda call: nas.by_contract(call) if "fresh" in call.headers["Authorization"] else Answer(401)
        (home / "once").touch()
        (home / "state").write_text(json.dumps({"access": "expired", "refresh": "once"}))
        command = script(home, self.REFRESHING)
        code = """
            import os, sys
            from chronos_cli.nas_client.client import NasClient
            from chronos_cli.nas_client.tokens import HomeTokens
            home, url, *command = sys.argv[1:]
            source = HomeTokens(home=home, environ=os.environ, command=tuple(command))
            with NasClient(url, source, attempts=1) as nas:
                print(len(nas.list().arms))
        """
        starter = script(home, code, "start.py")
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "LANG": "C.UTF-8"}
        started = [
            subprocess.Popen([*starter, str(home), nas.url, *command], env=environ, stdout=-1, stderr=-1, text=True)
            for _ in range(6)
        ]
        ended = [(*process.communicate(timeout=60), process.returncode) for process in started]
        assert ended == [("0\n", "", 0)] * 6
        assert (home / "refreshes").read_text() == "x"

    def test_nothing_on_disk(self, home):
        """The token is written to no file, and the lock leaves none behind."""
        command = script(home, "print('canary-' + '71d9')")
        before = set(home.rglob("*"))
        assert get(tokens(home, command=command)) == CANARY
        assert set(home.rglob("*")) == before
        assert not any(CANARY in path.read_text() for path in before)


def _held(pipe):
    """Whether anybody still has the other end of a pipe."""
    try:
        return os.read(pipe, 1) != b""
    except BlockingIOError:
        return True
