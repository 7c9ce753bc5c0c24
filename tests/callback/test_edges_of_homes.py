"""The jobs that no callback answers for, as they are told to a fire that finds none."""

from types import SimpleNamespace

from chronos_cli.callback import homes
from chronos_cli.callback.homes import Homes
from chronos_cli.operations.context import FleetJobs


def test_jobs_of_homes_that_are_served_are_left_out_of_those_that_are_not(monkeypatch):
    """Those that have a job, and those that may only have a wake, each by themselves."""
    fleet = FleetJobs(profile_of={"a": "served", "b": "not"}, may_wake={"c": "not", "d": "served", "e": "both"})
    monkeypatch.setattr(homes, "served_profiles", lambda _: {"served": "/s", "both": "/b"})
    monkeypatch.setattr(homes, "unserved_profiles", lambda _: {"not": "/n", "both": "/b"})
    asked = SimpleNamespace(main=SimpleNamespace(context=SimpleNamespace(elsewhere=lambda: fleet)), _config=None)
    found = Homes.unserved(asked)
    assert (found.profile_of, found.may_wake) == ({"b": "not"}, {"c": "not", "e": "both"})
