"""The command line in this process, and a NAS to reconcile with."""

import pytest

from tests.cli.conftest import chronos, clean_environment
from tests.nas_client.played_nas import PlayedNas

__all__ = ["chronos", "clean_environment"]


@pytest.fixture
def nas(clean_environment, monkeypatch, tmp_path):
    """A NAS that keeps to the contract, and this process's way to it."""
    clean_environment.setenv("TMPDIR", str(tmp_path))
    # A fire under way is given a second before its job counts as unarmed: here none is.
    monkeypatch.setattr("chronos_cli.operations.doctor.jobs.AGAIN_AFTER_S", 0.0)
    with PlayedNas() as played:
        yield played
