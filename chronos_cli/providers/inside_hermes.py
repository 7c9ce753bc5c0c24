"""The former place of `chronos_cli.hermes.inside`: plug-in folders that were copied into a Hermes home import it."""

from chronos_cli.hermes.inside import *  # noqa: F403  (for one release)
