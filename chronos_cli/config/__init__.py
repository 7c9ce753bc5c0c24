"""The configuration of one home: every setting, where its value came from, and what it may be."""

from __future__ import annotations

from chronos_cli.config.load import find_home, load_config
from chronos_cli.config.settings import Config, Setting, iter_shown, settings, show
from chronos_cli.config.values import is_loopback

__all__ = ["Config", "Setting", "find_home", "is_loopback", "iter_shown", "load_config", "settings", "show"]
