"""`python -m chronos_cli`."""

from chronos_cli.cli import main

raise SystemExit(main())
