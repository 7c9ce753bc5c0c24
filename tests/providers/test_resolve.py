"""Which trigger is active: the configured one, or the built-in with one warning that says why. Never none."""

import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from chronos_cli.config import load_config
from chronos_cli.operations.assembly import Outside, open_home
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
    return resolve_provider(config, open_home(config, Outside(environ={}, secrets=secrets)))


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
    plugin(tmp_path, "chronos", "raise SystemExit('loaded')")
    assert [found.name for found in find_plugins(str(tmp_path))] == []
    assert "portal_url" in resolve(tmp_path, "chronos").warning


def test_an_installed_package_is_a_provider(tmp_path):
    """A third party's distribution with an entry point, installed as pip would, is found and made with the activation."""
    site = tmp_path / "site"
    info = site / "acme_scheduler-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-scheduler\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[chronos.schedulers]\nacme = acme_scheduler:Acme\n")
    (site / "acme_scheduler.py").write_text(
        textwrap.dedent(
            """
            from chronos_cli.providers.interface import CronScheduler, Notified
            class Acme(CronScheduler):
                def __init__(self, activation): self.home = activation.config.home
                name = "acme"
                def start(self, *a, **k): pass
                def register_job(self, job_id): return Notified(armed=True)
            """
        )
    )
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.yaml").write_text("timezone: UTC\ncron:\n  provider: acme\n")
    script = (
        "import os;from chronos_cli.config import load_config;"
        "from chronos_cli.operations.assembly import Outside, open_home;"
        "from chronos_cli.providers.resolve import resolve_provider;"
        "c=load_config(environ=os.environ);f=resolve_provider(c,open_home(c,Outside(environ={},secrets={})));"
        "print(f.provider.name, f.warning, f.provider.home==c.home, f.provider.register_job('x').armed)"
    )
    root = str(Path(__file__).resolve().parents[2])
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{root}", "CHRONOS_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["acme", "None", "True", "True"]


def test_the_interface_grows_only_by_methods_with_defaults():
    """The abstract surface stays name and start, so that what was written against it keeps working."""
    assert CronScheduler.__abstractmethods__ == {"name", "start"}
    wanted = {
        "is_available": [], "stop": [], "on_jobs_changed": [], "register_job": ["job_id"], "fire_due": ["job_id"],
        "reconcile": [],
    }  # fmt: skip
    for method, required in wanted.items():
        parameters = list(inspect.signature(getattr(CronScheduler, method)).parameters.values())[1:]
        needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        assert needed == required, method


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
