"""The former name of `chronos_cli.nas_server`, kept for one release."""
