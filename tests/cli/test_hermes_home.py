"""Commands in a home that Hermes and its control plane write to as well."""

import pytest

SHARED = "timezone: Europe/Berlin\ncron:\n  chronos:\n    calback_url: https://a.example.com\n    misfire_sweep: 10\n"
WARNING = "chronos: warning: {}: cron.chronos.{} is not a setting: {}"


@pytest.fixture
def shared(home):
    """A home in whose shared section a newer Hermes has a key, and a person a slip of the pen."""
    (home / "config.yaml").write_text(SHARED)
    return home


@pytest.mark.parametrize("words", [("list", "--offline"), ("job", "list"), ("status", "--offline"), ("tick",)])
def test_an_unknown_key_of_the_shared_section_stops_no_command(chronos, shared, words):
    """Each is said once, with the key that was probably meant, and the command does its work."""
    done = chronos(*words, home=shared)
    assert done.code == 0
    config = shared / "config.yaml"
    said = [line for line in done.err.splitlines() if "is not a setting" in line]
    assert said == [
        WARNING.format(config, "calback_url", "did you mean callback_url?"),
        WARNING.format(config, "misfire_sweep", "it is left alone"),
    ]


def test_doctor_lists_the_keys_that_are_no_settings(chronos, shared):
    """Its check of the configuration is a warning that names each of them."""
    check = next(
        check for check in chronos("doctor", "--json", home=shared).json["checks"] if check["name"] == "config"
    )
    assert (check["level"], check["code"]) == ("WARN", "unknown_keys")
    assert "did you mean callback_url?" in check["text"]
    assert "cron.chronos.misfire_sweep" in check["text"]


def test_our_own_sections_stay_strict(chronos, shared):
    """A slip in a section that is ours alone is still exit 2."""
    (shared / "config.yaml").write_text(SHARED + "trust:\n  require_bound_tokens: true\n")
    done = chronos("list", "--offline", home=shared)
    assert done.code == 2
    assert "trust.require_bound_tokens is not a setting: did you mean require_bound_token?" in done.err
