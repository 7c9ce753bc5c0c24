"""Commands in a home that Hermes and its control plane write to as well."""

import json
from datetime import UTC, datetime, timedelta

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


def test_a_hold_with_an_end(chronos, home):
    """`--ttl` is written as Hermes reads it, shown with its end, and kept when only the reason changes."""
    done = chronos("hold", "--reason", "window", "--ttl", "2h", "--json", home=home)
    document = json.loads((home / "ESTOP").read_text())
    ends = datetime.fromisoformat(document["expires_at"])
    assert timedelta(minutes=119) < ends - datetime.now(UTC) <= timedelta(hours=2)
    assert document["reason"] == "window"
    assert datetime.fromisoformat(document["engaged_at"]) + timedelta(hours=2) == ends
    assert done.json["expires_at"] == document["expires_at"]
    assert done.json["held"] == f"window (until {document['expires_at']})"
    chronos("hold", "--reason", "longer than we thought", home=home)
    after = json.loads((home / "ESTOP").read_text())
    assert (after["reason"], after["expires_at"]) == ("longer than we thought", document["expires_at"])
    assert after["generation"] != document["generation"]
    assert chronos("tick", home=home).code == 75
    document["expires_at"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    (home / "ESTOP").write_text(json.dumps(document))
    assert chronos("tick", home=home).code == 0
    assert chronos("status", "--offline", "--json", home=home).json["held"] is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--ttl", "0s"), "a hold that ends at once holds nothing: give a --ttl above zero, or lift it with --off"),
        (("--ttl", "soon"), "cannot read the duration 'soon'"),
        (("--ttl", "2h", "--off"), "--off and --ttl contradict each other: give one of them"),
    ],
)
def test_an_end_that_cannot_be_meant_holds_nothing(chronos, home, words, line):
    """Exit 2, and no hold."""
    done = chronos("hold", *words, home=home)
    assert (done.code, line in done.err) == (2, True), done.err
    assert not (home / "ESTOP").exists()
