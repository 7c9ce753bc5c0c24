"""The command line's fixtures, for the doctor's tests."""

from tests.cli.conftest import chronos, clean_environment, home

__all__ = ["chronos", "clean_environment", "home"]
