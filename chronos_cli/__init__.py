"""chronos: scheduled jobs for processes that are not there."""

__version__ = "0.1.0"
