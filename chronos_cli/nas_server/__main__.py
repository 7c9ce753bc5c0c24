"""`python -m chronos_cli.nas_server`: the same as `chronos-nas`."""

from chronos_cli.nas_server.cli import main

raise SystemExit(main())
