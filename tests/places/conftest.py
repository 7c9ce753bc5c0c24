"""Fixtures for tests of what others on the machine, or in the store, may do to us."""

from tests.cli.conftest import chronos, clean_environment, home

__all__ = ["chronos", "clean_environment", "home"]
