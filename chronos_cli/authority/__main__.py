"""`python -m chronos_cli.authority`: the same as `chronos-nas`."""

from chronos_cli.nas_server.cli import main

if __name__ == "__main__":
    main()
