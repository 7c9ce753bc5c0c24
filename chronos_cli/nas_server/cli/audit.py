"""`chronos-nas audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from chronos_cli.nas_server.cli.common import (
    DbOption,
    HomeOption,
    JsonOption,
    brief,
    existing,
    locate,
    moment,
    opened,
    rows,
    show,
)


def audit(
    limit: Annotated[int, typer.Option(min=1, help="The most entries.")] = 100,
    home: HomeOption = None,
    db: DbOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show who changed agents and keys, the latest first.

    Examples:
      chronos-nas audit --limit 20
    """
    from chronos_cli.nas_server.timers.audit import entries

    with opened(existing(locate(home, db))) as backend:
        found = entries(backend, limit)
    if json_output:
        listed = [
            {"at": moment(one.at), "actor": one.actor, "action": one.action, "subject": one.subject, **one.detail}
            for one in found
        ]
        show("audit", {"entries": listed})
        return
    cells = []
    for one in found:
        detail = ", ".join(f"{key} {value}" for key, value in one.detail.items() if value is not None)
        cells.append((moment(one.at) or "", brief(one.actor), one.action, brief(one.subject), brief(detail)))
    rows(("AT", "WHO", "WHAT", "OF", "DETAIL"), cells, "nothing was changed yet")
