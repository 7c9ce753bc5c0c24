"""What others write: installed as a package or dropped in as a folder, well made or broken, through the real commands."""

import importlib.util
import inspect
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import zipfile

import pytest

from chronos_cli.config import load_config
from chronos_cli.operations.assembly import ProcessEnvironment, open_home
from chronos_cli.providers.chronos import ChronosScheduler
from chronos_cli.providers.interface import Activation, CronScheduler
from tests.cli.conftest import ROOT, chronos, clean_environment, home, spawn, validate  # noqa: F401 - fixtures
from tests.nas_client.played_nas import played_nas

ACME = """
from chronos_cli.providers.interface import CronScheduler, Notified


class Acme(CronScheduler):
    def __init__(self, activation):
        self._home = activation.config.home

    @property
    def name(self):
        return "acme"

    def start(self, *args, **kwargs):
        pass

    def register_job(self, job_id):
        with open(self._home + "/told", "a") as file:
            print(job_id, file=file)
        return Notified(armed=True)
"""

HERMES = """
class Mine:
    def __init__(self, home):
        self._home = home

    name = "mine"

    def is_available(self):
        return True

    def start(self, stop_event, *, adapters=None, loop=None, interval=60):
        raise AssertionError("no command of ours starts hermes' ticker")

    def on_jobs_changed(self):
        with open(self._home + "/told", "a") as file:
            print("changed", file=file)

def register(ctx):
    from pathlib import Path
    ctx.register_hook("post_run", print)
    ctx.register_tool(name="x", schema={}, handler=print)
    ctx.register_cron_scheduler(Mine(str(Path(__file__).parent.parent.parent)))
"""

BROKEN = {
    "raises": ("raise RuntimeError('broken at import')", "RuntimeError: broken at import"),
    "exits": ("import sys\nprint('so long')\nsys.exit('leaving')", "SystemExit: leaving"),
    "registers-nothing": ("def register(ctx): pass", "registered no cron scheduler"),
    "has-no-register": ("x = 1", "LookupError: there is no register(ctx), and no class that is a cron scheduler"),
    "asks-wrongly": (HERMES.replace("return True", "print('hm')\n        raise OSError('asked too much')"), "asked too much"),
    "leaves-when-asked": (HERMES.replace("return True", "raise SystemExit('bye')"), "SystemExit: bye"),
    "says-no": (HERMES.replace("return True", "return False"), "not configured"),
    "nobody": (None, "there is no such provider"),
    "chronos": (None, "portal_url is not set"),
}  # fmt: skip


def drop_in(folder, name, body):
    """A plug-in folder in a home, and the home's provider set to it."""
    (folder / "config.yaml").write_text(f"timezone: UTC\ncron:\n  provider: {name}\n")
    if body is not None:
        plugin = folder / "plugins" / name
        plugin.mkdir(parents=True)
        (plugin / "plugin.yaml").write_text(f"name: {name}\n")
        (plugin / "__init__.py").write_text(textwrap.dedent(body))


def wheel(folder, name, module, body, entry):
    """A distribution as its author would publish it."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{module}.py": body,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[chronos.schedulers]\n{entry}\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in (*files.items(), (f"{info}/RECORD", record)):
            archive.writestr(inside, text)
    return path


def install(package, site):
    """Install a wheel as pip does; where there is no pip, an installer's whole work is to unpack it."""
    if importlib.util.find_spec("pip") is None:
        zipfile.ZipFile(package).extractall(site)
        return
    offline = ("--no-index", "--no-deps", "--no-compile", "--disable-pip-version-check", "--quiet")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", site, package], check=True, capture_output=True
    )


def test_an_installed_package_is_a_provider(home, tmp_path):  # noqa: F811
    """A third party's wheel, installed, is listed, resolved by its entry point's name, made with the activation, and told of a job."""
    site = tmp_path / "site"
    install(wheel(tmp_path, "acme_scheduler", "acme_scheduler", ACME, "acme = acme_scheduler:Acme"), site)
    (home / "config.yaml").write_text("timezone: UTC\ncron:\n  provider: acme\n")
    env = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    listed = spawn("provider", "list", "--json", home=home, env=env)
    row = next(row for row in validate(listed.out)["providers"] if row["name"] == "acme")
    assert (row["active"], row["available"], row["origin"]) == (True, True, "entry point acme_scheduler:Acme")
    added = spawn("job", "add", "@daily", "--id", "a", "--shell", "true", "--json", home=home, env=env)
    assert (added.code, added.err, validate(added.out)["arm"]["armed"]) == (0, "", True)
    assert (home / "told").read_text() == "a\n"


def test_an_installed_package_takes_no_bundled_name(home, tmp_path):  # noqa: F811
    """Entry points named `chronos` and `builtin` are never loaded: what is bundled cannot be replaced or removed."""
    site = tmp_path / "site"
    entries = "chronos = robber:never\nbuiltin = robber:never"
    install(wheel(tmp_path, "robber", "robber", "raise SystemExit('loaded')", entries), site)
    env = {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    listed = validate(spawn("provider", "list", "--json", home=home, env=env).out)["providers"]
    assert [(row["name"], row["origin"]) for row in listed] == [("builtin", "bundled"), ("chronos", "bundled")]


def test_a_hermes_folder_is_told_and_its_other_registrations_are_left_alone(chronos, home):  # noqa: F811
    """With hermes' own `register(ctx)`, hooks and tools beside the scheduler included, each change of a job reaches the provider."""
    drop_in(home, "mine", HERMES)
    added = chronos("job", "add", "@daily", "--id", "a", "--shell", "true", "--json", home=home)
    assert (added.code, added.err) == (0, "")
    assert chronos("job", "pause", "a", home=home).code == 0
    assert (home / "told").read_text() == "changed\n" * 2
    assert chronos("provider", "list", "--json", home=home).json["providers"][-1]["active"] is True


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "chronos"])
def test_no_plug_in_breaks_a_command(chronos, home, name):  # noqa: F811
    """Whatever is wrong with it: each command does its work under the built-in, with one warning, and its own JSON alone on stdout."""
    body, said = BROKEN[name]
    drop_in(home, name, body)
    start = f"chronos: warning: cron.provider '{name}' cannot be used ("
    for words in (
        ("job", "add", "@daily", "--id", "a", "--shell", "true"), ("status",), ("provider", "list"), ("run", "a"), ("tick",),
        ("job", "remove", "a", "--yes"),
    ):  # fmt: skip
        done = chronos(*words, "--json", home=home)
        assert done.code == 0, done
        warnings = [line for line in done.err.splitlines() if line.startswith("chronos: warning: ")]
        assert len(warnings) == 1, (words, done.err)
        assert warnings[0].startswith(start)
        assert said in warnings[0]
        assert warnings[0].endswith("the built-in trigger takes its place")


@pytest.mark.parametrize("name", BROKEN)
def test_status_and_doctor_say_what_is_wrong(chronos, home, name):  # noqa: F811
    """The same reason as on stderr, in `status` and as a warning of the doctor's, which the built-in's place makes no failure."""
    body, said = BROKEN[name]
    drop_in(home, name, body)
    provider = chronos("status", "--json", home=home).json["provider"]
    assert (provider["active"], provider["configured"]) == ("builtin", name)
    assert said in provider["warning"]
    shown = chronos("status", home=home)
    assert "builtin: " in shown.out
    assert said in shown.err
    done = chronos("doctor", "--json", home=home)
    check = next(check for check in done.json["checks"] if check["name"] == "provider")
    assert (check["level"], check["code"], check["mend"]) == ("WARN", "provider_fallback", "chronos provider list")
    assert said in check["text"]


@pytest.mark.parametrize("value", ["", "builtin"])
def test_the_built_in_needs_no_warning(chronos, home, value):  # noqa: F811
    """Empty or `builtin` is a choice, not a fallback: nothing is said on stderr, in status or by the doctor."""
    (home / "config.yaml").write_text(f"timezone: UTC\ncron:\n  provider: '{value}'\n")
    done = chronos("status", "--json", home=home)
    assert (done.err, done.json["provider"]) == ("", {"active": "builtin", "configured": "builtin", "warning": None})
    checks = chronos("doctor", "--json", home=home).json["checks"]
    assert {check["level"] for check in checks if check["name"] == "provider"} == {"OK"}


def test_a_provider_that_fails_when_told_leaves_the_change_stored(chronos, home):  # noqa: F811
    """Its error is in the one line, with what was saved; exit 75, as after a NAS that could not be told."""
    drop_in(home, "mine", HERMES.replace('with open(self._home + "/told", "a") as file:', "raise KeyError('no such queue')")
            .replace('print("changed", file=file)', ""))  # fmt: skip
    added = chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home)
    assert added.code == 75
    assert "saved, not armed: the trigger provider mine failed: KeyError: 'no such queue'" in added.err
    assert chronos("job", "show", "a", home=home).code == 0
    assert chronos("hold", "--on", home=home).code == 0
    lifted = chronos("hold", "--off", home=home)
    assert lifted.code == 75
    assert "lifted, but not armed: the trigger provider mine failed: " in lifted.err
    exported = home.parent / "jobs.json"
    exported.write_text(chronos("job", "export", home=home).out.replace('"a"', '"b"'))
    imported = chronos("job", "import", exported, home=home)
    assert imported.code == 75
    assert "saved, not armed: the trigger provider mine failed: " in imported.err


nas = played_nas()


def chronos_scheduler(folder, nas, *, source):
    """Our own provider, configured for a NAS."""
    (folder / "config.yaml").write_text(
        f"timezone: UTC\ncron:\n  provider: chronos\n  chronos:\n    portal_url: {nas.url}\n"
        f"    callback_url: http://127.0.0.1:9\n    nas_jwks_url: {nas.url}/jwks.json\n    {source}\n"
    )
    config = load_config(environ={}, home=str(folder))
    return ChronosScheduler(
        Activation(config=config, context=open_home(config, ProcessEnvironment(environ={}, secrets={})))
    )


def test_is_available_looks_at_the_configuration_only(home, nas, tmp_path, monkeypatch):  # noqa: F811
    """No socket is made, no name is resolved, no program is started: not even the token_command that makes it available."""
    scheduler = chronos_scheduler(home, nas, source=f"token_command: [touch, {tmp_path / 'ran'}]")

    def never(*args, **kwargs):
        raise AssertionError((args, kwargs))

    for owner, name in (
        (socket, "socket"), (socket, "create_connection"), (socket, "getaddrinfo"), (subprocess, "Popen"), (os, "posix_spawn"),
        (os, "fork"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, never)
    assert scheduler.is_available()
    assert scheduler.unavailable_because() is None
    monkeypatch.undo()
    assert nas.connections == 0
    assert not (tmp_path / "ran").exists()


def test_start_arms_every_job_and_returns(chronos, home, nas):  # noqa: F811
    """Starting leaves each job armed at NAS, and nothing behind: no thread, no child; stop has nothing to let go of."""
    (home / "token").write_text("nas-token-of-tests")
    (home / "token").chmod(0o600)
    for job_id in ("a", "b"):
        assert chronos("job", "add", "@daily", "--id", job_id, "--shell", "true", home=home).code == 0
    scheduler = chronos_scheduler(home, nas, source="token_file: token")
    before = set(threading.enumerate()) | {nas.thread}
    scheduler.start()
    assert set(nas.armed) == {"a", "b"}
    ours = {thread for thread in set(threading.enumerate()) - before if "process_request_thread" not in thread.name}
    assert ours == set()
    scheduler.stop()
    assert set(nas.armed) == {"a", "b"}


FIRST = {
    "is_available": "(self)",
    "unavailable_because": "(self)",
    "start": "(self, *args, **kwargs)",
    "stop": "(self)",
    "on_jobs_changed": "(self)",
    "register_job": "(self, job_id)",
    "fire_due": "(self, job_id, **kwargs)",
    "reconcile": "(self)",
}
"""The methods that providers were written against, and how they are called. A line may be added here, none changed."""


def test_the_interface_grows_only_by_methods_with_defaults():
    """What is abstract stays name and start; no method goes, none needs more than it did; all new ones have a body."""
    assert CronScheduler.__abstractmethods__ == {"name", "start"}
    for method, called in FIRST.items():
        signature = inspect.signature(getattr(CronScheduler, method))
        bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
        kept = [p for p in bare if p.default is p.empty]
        assert str(signature.replace(parameters=kept, return_annotation=inspect.Signature.empty)) == called, method
    methods = {name for name, value in vars(CronScheduler).items() if inspect.isfunction(value)} - {"__init__"}
    assert methods >= set(FIRST)

    class Small(CronScheduler):
        name = "small"

        def start(self, *args, **kwargs):
            pass

    for method in methods:
        needed = list(inspect.signature(getattr(Small, method)).parameters.values())[1:]
        given = ["x" for p in needed if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        assert not [p for p in needed if p.default is p.empty and p.kind is p.KEYWORD_ONLY], method
        getattr(Small(), method)(*given)


def test_the_document_of_a_command_is_its_own(chronos, home):  # noqa: F811
    """A provider that prints as it loads, is asked and is told does not get between a script and the command's JSON."""
    noisy = "print('loading')\n" + HERMES.replace("return True", "print('asked')\n        return True")
    drop_in(home, "mine", noisy.replace('print("changed", file=file)', 'print("told")'))
    done = chronos("job", "add", "@daily", "--id", "a", "--shell", "true", "--json", home=home)
    assert json.loads(done.out)["ok"] is True
    assert done.err.splitlines() == ["loading", "asked", "told"]


RECORDS = """
from cron.scheduler_provider import CronScheduler

class Base(CronScheduler):
    pass

class Newer(Base):
    name = "newer"

    def start(self, stop_event, **kwargs):
        pass

    def on_jobs_changed(self):
        self.tell("changed")

    def register_job(self, job):
        self.tell(f"{job['id']} at {job['schedule']['display']}")

    def tell(self, text):
        from pathlib import Path
        with (Path(__file__).parent / "told").open("a") as file:
            print(text, file=file)
"""


def drop_in_bare(folder, name, body):
    """A plug-in folder without a manifest, chosen."""
    drop_in(folder, name, body)
    (folder / "plugins" / name / "plugin.yaml").unlink()
    return folder / "plugins" / name


def test_a_newer_providers_folder_loads_as_in_hermes_and_gets_records(chronos, home):  # noqa: F811
    """No manifest, no register, only a class of hermes' interface: it is told of a job by its record, and of others as changes."""
    folder = drop_in_bare(home, "newer", RECORDS)
    added = chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home)
    assert (added.code, added.err) == (0, "")
    assert chronos("job", "pause", "a", home=home).code == 0
    assert chronos("job", "remove", "a", "--yes", home=home).code == 0
    assert (folder / "told").read_text() == "a at @daily\nchanged\nchanged\n"
    assert "cron" not in sys.modules


def test_a_provider_that_inherits_hermes_default_hears_of_changes(chronos, home):  # noqa: F811
    """What hermes' own class does for a made job is nothing; such a provider is told that jobs changed."""
    start, end = RECORDS.index("    def register_job"), RECORDS.index("    def tell")
    folder = drop_in_bare(home, "newer", RECORDS[:start] + RECORDS[end:])
    assert chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home).code == 0
    assert (folder / "told").read_text() == "changed\n"


def test_a_provider_of_ids_goes_on_getting_them(chronos, home):  # noqa: F811
    """Which of the two a provider wants is told by the name of its parameter."""
    folder = drop_in_bare(home, "newer", RECORDS.replace("register_job(self, job)", "register_job(self, job_id)")
                          .replace("f\"{job['id']} at {job['schedule']['display']}\"", "job_id"))  # fmt: skip
    assert chronos("job", "add", "@daily", "--id", "a", "--shell", "true", home=home).code == 0
    assert (folder / "told").read_text() == "a\n"


@pytest.mark.parametrize("name", ["_private", ".hidden", "tools"])
def test_other_folders_are_no_providers(chronos, home, name):  # noqa: F811
    """A plug-in of another kind, without a manifest, or one that is hidden, is passed by as hermes does."""
    body = "def register(ctx): ctx.register_tool('x')" if name == "tools" else RECORDS
    drop_in_bare(home, name, body)
    listed = chronos("provider", "list", "--json", home=home).json["providers"]
    assert [row["name"] for row in listed] == ["builtin", "chronos"]


@pytest.mark.parametrize("body", [HERMES.replace("return True", "print('pa55word')\n        raise OSError('pa55word')"),
                                  "import sys\nprint('pa55word', file=sys.stderr)\nraise OSError('pa55word')",
                                  HERMES.replace('with open(self._home + "/told", "a") as file:', "raise OSError('pa55word')")
                                  .replace('print("changed", file=file)', "")])  # fmt: skip
def test_what_a_broken_plug_in_said_stays_out_of_a_public_log(chronos, home, body):  # noqa: F811
    """A CI's log is read by anybody: the kind of error is named there, and its words, which may quote a secret, are not."""
    drop_in(home, "mine", body)
    words = ("job", "add", "@daily", "--id", "a", "--shell", "true")
    for more in ((), ("--json",)):
        done = chronos(*words, *more, home=home, env={"CI": "true"})
        assert "pa55word" not in done.out + done.err
        assert "OSError (its words are kept out of a CI's log)" in done.err
    assert "pa55word" in chronos(*words, home=home, env={"CI": "false"}).err
