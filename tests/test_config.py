"""The configuration: what wins over what, where each value came from, and how a mistake is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chronos_cli.config import Config, find_home, iter_shown, load_config, settings, show
from chronos_cli.config.file import read_config, read_simple, read_yaml
from chronos_cli.errors import ConfigError

CONTRACT = """\
timezone: America/New_York        # IANA; else the machine's
cron:
  provider: chronos               # empty or "builtin": the built-in trigger
  chronos:
    portal_url: https://portal.example.com       # NAS base URL, and the expected issuer
    callback_url: https://agent.example.com      # this agent's public base URL
    expected_audience: agent:7f3
    nas_jwks_url: https://portal.example.com/.well-known/jwks.json
"""

WORDS = r"""
a b1 cron true Yes NO off null Null tRuE y n ~ 0 7 007 1_0 12 1e3 0x1 -3 .5 1:30 2020-01-01 a:b a: https://h/x agent:7f3
"q" 'q' "a'b" "" '' "\n" 'it''s' - -x a- # #c a#b [1] {a} & *a !t | > % @ ` é = << ? : , x,y a/b /p .. ---
"""


def load(tmp_path, text=None, environ=None, **options):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    etc = tmp_path / "etc"
    etc.mkdir(exist_ok=True)
    return load_config(environ={"TZ": "UTC", **(environ or {})}, home=str(tmp_path), etc=str(etc), **options)


def refusal(tmp_path, text=None, environ=None, **options):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environ, **options)
    line = caught.value.line()
    assert "\n" not in line
    assert caught.value.exit_code == 2
    return line


class TestPrecedence:
    def test_contract_example(self, tmp_path):
        """The contract's own example reads as it is meant, each value from the file."""
        config = load(tmp_path, CONTRACT)
        assert config.timezone == "America/New_York"
        assert config.provider == "chronos"
        assert config.portal_url == "https://portal.example.com"
        assert config.callback_url == "https://agent.example.com"
        assert config.expected_audience == "agent:7f3"
        assert config.nas_jwks_url == "https://portal.example.com/.well-known/jwks.json"
        assert config.origin("portal_url") == f"{tmp_path / 'config.yaml'}: cron.chronos.portal_url"

    def test_order(self, tmp_path):
        """A flag wins over a variable, a variable over the file, the file over the default."""
        text = "history: {keep: 7}\n"
        assert load(tmp_path).history_keep == 50
        config = load(tmp_path, text)
        assert (config.history_keep, config.origin("history_keep").endswith("history.keep")) == (7, True)
        config = load(tmp_path, text, {"CHRONOS_HISTORY_KEEP": "8"})
        assert (config.history_keep, config.origin("history_keep")) == (8, "CHRONOS_HISTORY_KEEP")
        config = load(tmp_path, text, {"CHRONOS_HISTORY_KEEP": "8"}, flags={"history_keep": 9, "history_days": None})
        assert (config.history_keep, config.origin("history_keep")) == (9, "flag")
        assert (config.history_days, config.origin("history_days")) == (30, "default")

    def test_empty_is_not_given(self, tmp_path):
        """Empty variables, and empty texts, nulls and sections in the file, leave the next source in force."""
        text = "store: ''\ntimezone:\ncron:\n  chronos:\n    portal_url: ''\ntrust:\nhistory: {keep: null}\n"
        config = load(tmp_path, text, {"CHRONOS_STORE": " ", "CHRONOS_PORTAL_URL": ""})
        assert (config.store, config.portal_url, config.history_keep) == ("", "", 50)
        assert config.origin("portal_url") == "default"

    @pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.key)
    def test_every_setting(self, tmp_path, setting):
        """Every setting can be given by its variable and in the file, and its default passes its own check."""
        samples = {
            "timezone": "Asia/Kolkata",
            "store": "s3://bucket/prefix",
            "token_command": '["vault", "read"]',
            "prompt_runner": "hermes chat -q",
            "profiles": f"one={tmp_path}",
            "require_bound_token": "true",
            "standby": "true",
            "callback_mode": "sync",
            "warm_runner": "off",
            "overlap": "queue",
            "inherit_env": "HTTPS_PROXY,AWS_*",
            "on_crash": "rerun",
            "retries": "3",
            "verifier": "package.module:function",
        }
        kind_samples = {"URL": "https://one.example.com/base", "URL, path or PEM": "https://one.example.com/jwks"}
        text = samples.get(setting.name) or kind_samples.get(setting.kind.name) or "20"
        by_variable = load(tmp_path, environ={setting.env: text})
        assert by_variable.origin(setting.name) == setting.env
        value = getattr(by_variable, setting.name)
        assert value != setting.default
        document: object = (
            dict(value) if setting.name == "profiles" else list(value) if isinstance(value, tuple) else value
        )
        for part in reversed(setting.key.split(".")):
            document = {part: document}
        by_file = load(tmp_path, yaml.safe_dump(document))
        assert getattr(by_file, setting.name) == value
        assert by_file.origin(setting.name).endswith(setting.key)
        if setting.default not in ("", (), None):
            assert setting.kind.read(setting.default) == setting.default

    def test_no_two_alike(self):
        """No two settings share a key, a variable or an attribute, and each has its sentence of help."""
        for attribute in ("key", "env", "name"):
            assert len({getattr(setting, attribute) for setting in settings()}) == len(settings())
        assert all(setting.help and setting.env.startswith("CHRONOS_") for setting in settings())

    def test_home(self, tmp_path):
        """The home is the flag's, else the variable's, else ~/.chronos, and always absolute."""
        environ = {"CHRONOS_HOME": str(tmp_path)}
        assert find_home("rel", environ) == (str(Path.cwd() / "rel"), "flag")
        assert find_home(None, environ) == (str(tmp_path), "CHRONOS_HOME")
        home, origin = find_home(None, {})
        assert origin == "default"
        assert home.endswith("/.chronos")
        assert "~" not in home

    def test_paths_of_the_file_are_relative_to_the_home(self, tmp_path):
        """A relative token_file in config.yaml is below the home; in a variable it is below the working folder."""
        text = "cron: {chronos: {token_file: nas.token}}\nprofiles: {b: sub/b, a: /srv/a}\n"
        config = load(tmp_path, text)
        assert config.token_file == str(tmp_path / "nas.token")
        assert config.profiles == (("a", "/srv/a"), ("b", str(tmp_path / "sub/b")))
        config = load(tmp_path, text, {"CHRONOS_NAS_TOKEN_FILE": "x/nas.token"})
        assert config.token_file == str(Path.cwd() / "x/nas.token")

    def test_references(self, tmp_path):
        """`${NAME}` in a text of the file is filled in as hermes does, but never in an argument list."""
        text = "cron: {chronos: {portal_url: 'https://${HOST}/p', expected_audience: '${NONE}', token_command: ['${HOST}']}}"
        config = load(tmp_path, text, {"HOST": "nas.example.com"})
        assert config.portal_url == "https://nas.example.com/p"
        assert config.expected_audience == "${NONE}"
        assert config.token_command == ("${HOST}",)

    def test_frozen(self, tmp_path):
        """A loaded configuration cannot be changed."""
        with pytest.raises(AttributeError):
            load(tmp_path).store = "elsewhere"

    def test_other_keys_are_left_alone(self, tmp_path):
        """A Hermes home's many other keys, of any shape, are none of our business."""
        text = CONTRACT + "model: {provider: x, api_key: y}\nterminal: [1, 2]\ncron_extra: {a: 1}\n"
        assert load(tmp_path, text.replace("  provider:", "  wrap_response: true\n  provider:")).provider == "chronos"

    def test_policy(self, tmp_path):
        """The default policy comes as the numbers that a job's own policy is made of."""
        config = load(tmp_path, "policy: {grace: 2h, timeout: 90s, pause_after_failures: never, overlap: queue}\n")
        assert config.policy == {
            "overlap": "queue",
            "grace": 7200,
            "timeout": 90,
            "retries": 0,
            "on_crash": "skip",
            "jitter": 0,
            "tolerance": 0,
            "pause_after_failures": 0,
            "inherit_env": None,
            "on_failure": (),
            "on_failure_again": 3600,
        }


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "cron: {chronos: {portal_url: 'http://nas.example.com'}}",
                "cron.chronos.portal_url must be an https:// URL",
            ),
            ("cron: {chronos: {portal_url: 7}}", "cron.chronos.portal_url must be an https:// URL"),
            ("cron: {chronos: {portal_url: 'https://'}}", "must be an https:// URL"),
            ("cron: {chronos: {portal_url: 'https://h:99999'}}", "must be an https:// URL"),
            ("cron: {chronos: {portal_url: 'https://h/?q=1'}}", "without ? and #"),
            ("cron: {chronos: {callback_url: 'ftp://h'}}", "cron.chronos.callback_url must be"),
            ("cron: {chronos: {callback_url: 'https://h/api/cron/fire'}}", "NAS adds that path itself"),
            ("cron: {chronos: {callback_url: 'https://h/x/api/cron/fire/'}}", "NAS adds that path itself"),
            ("cron: {chronos: {callback_url: 'https://h//api//cron/fire//'}}", "NAS adds that path itself"),
            ("trust: {zzz: 1}", "trust.zzz is not a setting: it may be one of verifier"),
            ("cron: {chronos: [1]}", "cron.chronos must hold `key: value` lines"),
            ("cron: chronos", "cron must hold `key: value` lines"),
            ("trust: {require_bound_tokens: true}", "trust.require_bound_tokens is not a setting"),
            ("trust: {require_bound_token: maybe}", "trust.require_bound_token must be true or false"),
            ("timezone: Mars/Olympus", "timezone must be an IANA time zone"),
            ("timezone: America", "timezone must be an IANA time zone"),
            ("timezone: ../../etc/passwd", "timezone must be an IANA time zone"),
            ("timezone: localtime", "timezone must be an IANA time zone"),
            ("timezone: 5", "timezone must be text"),
            ("lock_timeout: soon", "lock_timeout must be seconds or a duration"),
            ("lock_timeout: -1", "lock_timeout must be seconds or a duration"),
            ("lock_timeout: true", "lock_timeout must be seconds or a duration"),
            ("history: {keep: 0}", "history.keep must be a whole number from 1"),
            ("history: {keep: 2.5}", "history.keep must be a whole number"),
            ("history: {output_limit: 9999GiB}", "history.output_limit must be a size"),
            ("callback: {mode: off}", "callback.mode must be one of auto, sync, detached"),
            ("policy: {grace: 1.5}", "policy.grace must be whole seconds"),
            ("store: ftp://h/x", "store must be a folder or s3://"),
            ("store: 's3:///x'", "store must name a bucket"),
            ("cron: {chronos: {token_command: 'vault \"read'}}", "token_command must be a list of texts"),
            ("cron: {chronos: {token_command: [1]}}", "token_command must be a list of texts"),
            ("profiles: [a]", "profiles must map profile names"),
            ("profiles: {'../x': /srv}", "profiles must map profile names"),
            ("- a\n- b", "must hold `key: value` lines at its top, not a list"),
        ],
    )
    def test_in_the_file(self, tmp_path, text, said):
        """A mistake in the file is one line naming file, key and what is allowed."""
        line = refusal(tmp_path, text)
        assert said in line
        assert str(tmp_path / "config.yaml") in line

    @pytest.mark.parametrize(
        ("key", "said"), [("portal", "did you mean portal_url?"), ("sweep_interval", "it is left alone")]
    )
    def test_an_unknown_key_of_the_shared_section_is_no_mistake(self, tmp_path, key, said):
        """Hermes and its control plane write there too: the file is used, and the key is a warning."""
        config = load(tmp_path, CONTRACT.replace("  chronos:\n", f"  chronos:\n    {key}: 1\n"))
        assert config.portal_url == "https://portal.example.com"
        assert config.warnings == (f"{config.path}: cron.chronos.{key} is not a setting: {said}",)

    def test_in_a_variable(self, tmp_path):
        """A mistake in a variable names the variable."""
        assert refusal(tmp_path, environ={"CHRONOS_RETRIES": "many"}).startswith(
            "CHRONOS_RETRIES must be a whole number"
        )

    def test_in_a_flag(self, tmp_path):
        """A mistake in a flag names the flag."""
        assert refusal(tmp_path, flags={"timezone": "Nowhere"}).startswith("--timezone must be an IANA")

    @pytest.mark.parametrize("url", ["https://user:canary@h", "https://canary@h", "https://@h", "s3://canary@bucket/x"])
    def test_credentials_in_a_url(self, tmp_path, url):
        """Credentials in a URL are refused and not repeated."""
        key = "CHRONOS_STORE" if url.startswith("s3") else "CHRONOS_PORTAL_URL"
        line = refusal(tmp_path, environ={key: url})
        assert "must not hold credentials" in line
        assert "canary" not in line

    def test_not_yaml(self, tmp_path):
        """A file that is no YAML is told with the line of the mistake."""
        line = refusal(tmp_path, "timezone: UTC\ncron: [1\nhistory: {}\n")
        assert "config.yaml, line 3: not YAML" in line

    def test_not_text(self, tmp_path):
        """A file that is no text is told as such."""
        (tmp_path / "config.yaml").write_bytes(b"timezone: \xff\xfe\n")
        assert "is not UTF-8 text (byte 10)" in refusal(tmp_path)

    def test_not_a_file(self, tmp_path):
        """A folder in the place of the file is told, never taken for no configuration."""
        (tmp_path / "config.yaml").mkdir()
        assert "config.yaml cannot be read" in refusal(tmp_path)

    def test_dangling_link(self, tmp_path):
        """A link to nowhere counts as no file."""
        (tmp_path / "config.yaml").symlink_to(tmp_path / "nowhere")
        assert load(tmp_path).provider == ""

    def test_too_large(self, tmp_path):
        """A file beyond any sense is refused before it is parsed."""
        (tmp_path / "config.yaml").write_bytes(b"#" * (8 * 2**20 + 1))
        assert "is larger than" in refusal(tmp_path)

    def test_bomb(self, tmp_path):
        """Deep nesting ends in an error, not in a crash."""
        assert "not YAML" in refusal(tmp_path, "a: " + "[" * 5000)

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
    def test_loopback(self, tmp_path, host):
        """Plain http is fine to this machine."""
        url = f"http://{host}:8080"
        assert load(tmp_path, environ={"CHRONOS_PORTAL_URL": f"{url}/"}).portal_url == url

    @pytest.mark.parametrize(
        "host", ["localhost.evil.example", "127.0.0.1.evil.example", "0x7f.1", "10.0.0.1", "[::2]"]
    )
    def test_nearly_loopback(self, tmp_path, host):
        """A host that only looks like this machine gets no plain http."""
        assert "must be an https" in refusal(tmp_path, environ={"CHRONOS_PORTAL_URL": f"http://{host}"})


class TestZone:
    def zone(self, tmp_path, environ):
        config = load_config(environ=environ, home=str(tmp_path), etc=str(tmp_path))
        return config.timezone, config.origin("timezone")

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("Europe/Berlin", "Europe/Berlin"),
            (":Europe/Berlin", "Europe/Berlin"),
            ("/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo"),
            ("", "UTC"),
            ("UTC0", "UTC"),
            ("EST5EDT", "EST5EDT"),
        ],
    )
    def test_variable(self, tmp_path, text, name):
        """$TZ names the machine's zone, in each of its usual spellings."""
        assert self.zone(tmp_path, {"TZ": text}) == (name, "machine ($TZ)")

    def test_variable_without_a_name(self, tmp_path):
        """A $TZ that is a rule and no name is refused: jobs would run in another zone than the machine."""
        with pytest.raises(ConfigError, match="no IANA time zone"):
            self.zone(tmp_path, {"TZ": "<+03>-3"})
        assert load_config(environ={"TZ": "<+03>-3", "CHRONOS_TIMEZONE": "Asia/Riyadh"}, home=str(tmp_path)).timezone

    def test_link(self, tmp_path):
        """/etc/localtime names the zone by where it points, on Linux and on macOS."""
        for folder in ("/usr/share/zoneinfo", "/var/db/timezone/zoneinfo", "/usr/share/zoneinfo/posix"):
            link = tmp_path / "localtime"
            link.symlink_to(f"{folder}/America/Lima")
            assert self.zone(tmp_path, {})[0] == "America/Lima"
            link.unlink()

    def test_file(self, tmp_path):
        """/etc/timezone is next, where /etc/localtime is no link."""
        (tmp_path / "localtime").write_bytes(b"TZif")
        (tmp_path / "timezone").write_text("Asia/Tokyo\n")
        assert self.zone(tmp_path, {})[0] == "Asia/Tokyo"

    def test_none(self, tmp_path):
        """A machine that names no zone is in UTC, and the origin says so."""
        (tmp_path / "timezone").write_text("nonsense\n")
        assert self.zone(tmp_path, {}) == ("UTC", "machine (it names no zone)")


class TestShow:
    def test_rows(self, tmp_path):
        """`config show` has every setting, with its value in JSON's own types and its origin."""
        import json

        config = load(tmp_path, CONTRACT, {"CHRONOS_PROFILES": "a=/srv/a"})
        rows = {setting.key: (value, origin) for setting, value, origin in iter_shown(config)}
        assert json.loads(json.dumps(rows))["profiles"] == [{"a": "/srv/a"}, "CHRONOS_PROFILES"]
        assert len(rows) == len(settings())

    def test_arguments_are_cut(self):
        """The arguments of a command, where people put secrets, are not shown."""
        config = Config(home="/h", token_command=("sh", "-c", "echo canary"), prompt_runner=("x",))
        shown = {setting.name: show(config, setting) for setting in settings()}
        assert shown["token_command"] == ["sh", "... 2 more"]
        assert shown["prompt_runner"] == ["x"]


class TestReaders:
    def test_contract_example_needs_no_library(self):
        """The contract's own example is within the plain core, and reads there as it does by the library."""
        assert read_simple(CONTRACT) == yaml.safe_load(CONTRACT)

    words = st.sampled_from(WORDS.split())

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 4), st.one_of(words, st.just("k"), st.just("l")), st.sampled_from([":", ": ", " : ", ":  "]),
                st.lists(words, max_size=3), st.sampled_from(["", " ", " # note", " #", "\r"]),
            ),
            max_size=7,
        )
    )  # fmt: skip
    def test_two_readers_agree(self, lines):
        """Whatever the plain reader takes on, it reads as the library does."""
        text = "\n".join(" " * i + key + sep + " ".join(rest) + end for i, key, sep, rest, end in lines)
        simple = read_simple(text)
        if simple is not None:
            assert repr(simple) == repr(yaml.safe_load(text) or {})

    @given(st.text(alphabet="ab: \n#'\"-\t01", max_size=40))
    def test_two_readers_agree_on_anything(self, text):
        """The same for texts of no shape at all."""
        simple = read_simple(text)
        if simple is not None:
            assert repr(simple) == repr(yaml.safe_load(text) or {})

    def test_same_errors_without_the_fast_loader(self, tmp_path, monkeypatch):
        """Where PyYAML was built without its C part, the Python part reads the same."""
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
        assert read_yaml("a: [1, 'x']", "p") == {"a": [1, "x"]}
        with pytest.raises(ConfigError, match="line 1"):
            read_yaml("a: [", "p")

    def test_byte_order_mark(self, tmp_path):
        """An editor's byte order mark is no part of the first key."""
        path = tmp_path / "config.yaml"
        path.write_bytes(b"\xef\xbb\xbftimezone: UTC\r\n")
        assert read_config(str(path)) == {"timezone": "UTC"}

    @pytest.mark.parametrize("has_file", [False, True])
    def test_no_library_is_imported(self, tmp_path, has_file):
        """Without a file, or with a plain one, neither the YAML library nor JSON is imported."""
        if has_file:
            (tmp_path / "config.yaml").write_text(CONTRACT)
        code = (
            "import sys; from chronos_cli.config import load_config;"
            f"load_config(environ={{}}, home={str(tmp_path)!r});"
            "assert not {'yaml', 'json', 'requests', 'typing_extensions', 'logging'} & set(sys.modules), 'imported'"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
