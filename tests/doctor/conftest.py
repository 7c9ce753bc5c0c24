"""The command line's fixtures, for the doctor's tests."""

import os

import pytest

from tests.cli.conftest import chronos, clean_environment, home

__all__ = ["chronos", "clean_environment", "home"]


@pytest.fixture(autouse=True)
def usual_umask():
    """What tests write is not its group's to change, on every machine."""
    before = os.umask(0o022)
    yield
    os.umask(before)
