"""Which trigger is active: the configured one, or the built-in with one warning that says why. Never none."""

import textwrap

import pytest

from chronos_cli.config import load_config
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.providers.interface import Activation, CronScheduler
from chronos_cli.providers.plugins import find_plugins
from chronos_cli.providers.resolve import resolve_provider

CHRONOS = """\
    portal_url: https://portal.example.com
    callback_url: https://agent.example.com
"""


def resolve(home, provider, *, chronos="", environ=None):
    home.mkdir(exist_ok=True)
    text = f"timezone: UTC\ncron:\n  provider: {provider}\n"
    (home / "config.yaml").write_text(text + (f"  chronos:\n{chronos}" if chronos else ""))
    environ = environ or {}
    config = load_config(environ=environ, home=str(home))
    secrets = {k: v for k, v in environ.items() if k == "CHRONOS_NAS_TOKEN"}
    return resolve_provider(config, open_home(config, ProcessEnvironment(environ={}, secrets=secrets)))


def plugin(home, name, body, manifest="name: x\n"):
    folder = home / "plugins" / name
    folder.mkdir(parents=True)
    (folder / "plugin.yaml").write_text(manifest)
    (folder / "__init__.py").write_text(textwrap.dedent(body))
    return folder


GOOD = """
    class Mine:
        name = "mine"
        told = []
        def is_available(self): return True
        def start(self, *args, **kwargs): pass
        def on_jobs_changed(self): self.told.append("changed")
    def register(ctx): ctx.register_cron_scheduler(Mine())
"""


@pytest.mark.parametrize("value", ['""', "builtin", "in-process"])
def test_empty_and_builtin_mean_the_built_in(tmp_path, value):
    """No name, or the built-in's, is the built-in, without a warning."""
    found = resolve(tmp_path, value)
    assert found.provider.name == "builtin"
    assert found.warning is None


def test_a_configured_chronos_is_active(tmp_path):
    """With both URLs and a token source, chronos is active; no network is touched to say so."""
    found = resolve(tmp_path, "chronos", chronos=CHRONOS, environ={"CHRONOS_NAS_TOKEN": "t"})
    assert found.provider.name == "chronos"
    assert found.warning is None


@pytest.mark.parametrize(
    ("chronos", "environ", "said"),
    [
        ("", {"CHRONOS_NAS_TOKEN": "t"}, "portal_url"),
        ("    portal_url: https://p.example.com\n", {"CHRONOS_NAS_TOKEN": "t"}, "callback_url"),
        (CHRONOS, {}, "token"),
    ],
)
def test_an_unavailable_chronos_gives_way_to_the_built_in(tmp_path, chronos, environ, said):
    """Whatever is missing is named in the one warning, and the built-in takes over."""
    found = resolve(tmp_path, "chronos", chronos=chronos, environ=environ)
    assert found.provider.name == "builtin"
    assert said in found.warning
    assert "built-in" in found.warning


def test_no_token_command_is_run_to_find_out(tmp_path):
    """A configured token_command counts as a source without being run."""
    chronos = CHRONOS + f"    token_command: [touch, {tmp_path / 'ran'}]\n"
    assert resolve(tmp_path / "home", "chronos", chronos=chronos).provider.name == "chronos"
    assert not (tmp_path / "ran").exists()


def test_an_unknown_name_gives_way_to_the_built_in(tmp_path):
    """A provider that does not exist is a warning, not an error."""
    found = resolve(tmp_path, "nobody")
    assert found.provider.name == "builtin"
    assert "no such provider" in found.warning


def test_a_folder_in_the_home_is_a_provider(tmp_path):
    """A plug-in folder with hermes' registration is found, loaded and told of changes."""
    plugin(tmp_path, "mine", GOOD)
    found = resolve(tmp_path, "mine")
    assert (found.provider.name, found.warning) == ("mine", None)
    assert found.provider.register_job("any").armed is None
    assert found.provider._inner.told == ["changed"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('broken at import')", "broken at import"),
        ("def register(ctx): pass", "registered no cron scheduler"),
        ("import no_such_module_anywhere", "no_such_module_anywhere"),
        (GOOD.replace("return True", "raise OSError('asked too much')"), "asked too much"),
        (GOOD.replace("return True", "return False"), "not configured"),
        ("def register(ctx): ctx.register_cron_scheduler(object())", "no cron scheduler"),
    ],
)
def test_a_plug_in_that_fails_gives_way_to_the_built_in(tmp_path, body, said):
    """Raising at import, registering nothing, raising in is_available, saying no: one warning, and jobs keep a trigger."""
    plugin(tmp_path, "mine", body)
    found = resolve(tmp_path, "mine")
    assert found.provider.name == "builtin"
    assert said in found.warning


def test_a_bundled_name_cannot_be_taken(tmp_path):
    """A folder named like a bundled provider is never loaded."""
    for name in ("chronos", "builtin"):
        plugin(tmp_path, name, "raise SystemExit('loaded')")
    assert [found.name for found in find_plugins(str(tmp_path))] == []
    assert "portal_url" in resolve(tmp_path, "chronos").warning


def test_the_smallest_provider_works(tmp_path):
    """Name and start are enough; everything else does the harmless thing."""

    class Small(CronScheduler):
        name = "small"

        def start(self, *args, **kwargs):
            pass

    small = Small()
    assert small.is_available()
    assert small.register_job("x").armed is None
    assert small.fire_due("x") is False
    assert small.reconcile() is None
    small.stop()
    assert Activation.__dataclass_fields__.keys() == {"config", "context"}
