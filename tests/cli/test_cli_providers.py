"""`chronos provider list`: what is bundled, what others wrote, and why something of it cannot be used."""

import pytest

GOOD = """
class Mine:
    name = "mine"
    def is_available(self): return {available}
    def start(self, *args, **kwargs): pass
def register(ctx): ctx.register_cron_scheduler(Mine())
"""

PLUGINS = {
    "mine": (GOOD.format(available=True), None),
    "unready": (GOOD.format(available=False), "it is not configured"),
    "noisy": ("print('hello from a plug-in')\n" + GOOD.format(available=True), None),
    "broken": ("import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    "leaving": ("import sys\nsys.exit('no')\n", "SystemExit: no"),
    "other": ("def register(ctx): pass\n", "LookupError: register(ctx) registered no cron scheduler"),
    "moody": (GOOD.format(available="1 / 0"), "ZeroDivisionError: division by zero"),
    "chronos": (GOOD.format(available=True), "never seen: the name is bundled"),
}


@pytest.fixture
def plugged_home(home):
    """A home with a plug-in of every kind."""
    for name, (body, _) in PLUGINS.items():
        folder = home / "plugins" / name
        folder.mkdir(parents=True)
        (folder / "plugin.yaml").write_text(f"name: {name}\n")
        (folder / "__init__.py").write_text(body)
    return home


def test_plug_ins_that_are_found_are_listed_with_what_is_wrong(chronos, plugged_home):
    """Each is there with its folder: usable though inactive, or with its error in one line; none ends the command."""
    done = chronos("provider", "list", "--json", home=plugged_home)
    assert done.code == 0
    found = {row["name"]: row for row in done.json["providers"]}
    assert list(found)[:2] == ["builtin", "chronos"]
    assert found["builtin"]["active"] is True
    assert found["chronos"]["origin"] == "bundled"
    for name, (_, problem) in PLUGINS.items():
        if name == "chronos":
            continue
        row = found[name]
        assert (row["active"], row["available"]) == (False, problem is None), row
        assert row["origin"] == str(plugged_home / "plugins" / name)
        assert row["because"] is None or problem in row["because"]
    assert "hello from a plug-in" in done.err
    lines = chronos("provider", "list", home=plugged_home).out.splitlines()
    assert any("broken" in line and "No module named" in line for line in lines)


def test_the_active_plug_in_is_marked(chronos, plugged_home):
    """The one that `cron.provider` names is active; one that fails has the built-in in its place, with the reason."""
    active = chronos("provider", "list", home=plugged_home, env={"CHRONOS_PROVIDER": "mine"})
    assert [line.split()[1] for line in active.out.splitlines() if line.startswith("*")] == ["mine"]
    failed = chronos("provider", "list", "--json", home=plugged_home, env={"CHRONOS_PROVIDER": "broken"})
    assert [row["name"] for row in failed.json["providers"] if row["active"]] == ["builtin"]
    assert "No module named 'nothing_of_this_name'" in failed.json["warning"]
    assert "No module named 'nothing_of_this_name'" in failed.err
