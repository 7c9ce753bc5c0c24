"""`python -m chronos_cli.authority`: the same as `chronos-nas`."""

from chronos_cli.authority.cli import main

raise SystemExit(main())
