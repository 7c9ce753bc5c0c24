"""The tables of PgQueuer: installed where they are missing, and brought to the release of it that is installed here.

PgQueuer compares what is there with what it declares and names the statements between the two. It writes no version, so
the release that was last brought up is kept in our `meta`; nothing is compared while that is the one at hand.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar

from chronos_cli.errors import ConfigError
from chronos_cli.nas_server.timers.schema import read_meta, refuse_newer, write_meta

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from chronos_cli.nas_server.timers.interface import Session

T = TypeVar("T")

_META: Final = "pgqueuer_version"
_CONNECT_S: Final = 5


def pending(session: Session, url: str) -> list[str]:
    """Return the statements that PgQueuer's tables need. Raises ConfigError where a newer release made them."""
    if _is_current(session):
        return []

    async def work(queries: Any) -> list[str]:
        return list((await queries.plan_upgrade()).statements)

    return _run(url, work)


def bring_up(session: Session, url: str) -> list[str]:
    """Run them, on a connection of their own (they cannot share a transaction), while the caller holds the lock."""
    if _is_current(session):
        return []

    async def work(queries: Any) -> list[str]:
        if not await queries.schema_is_installed():
            await queries.install()
            return ["install PgQueuer"]
        statements = (await queries.plan_upgrade()).statements
        for statement in statements:
            await queries.driver.execute(statement)
        return [f"bring PgQueuer to {version('pgqueuer')}"] if statements else []

    done = _run(url, work)
    write_meta(session, _META, version("pgqueuer"))
    return done


def _is_current(session: Session) -> bool:
    known = read_meta(session, _META)
    if known is not None:
        refuse_newer("PgQueuer's tables", known, version("pgqueuer"))
    return known == version("pgqueuer")


def _run(url: str, work: Callable[[Any], Awaitable[T]]) -> T:
    import psycopg
    from pgqueuer.domain.errors import SchemaDriftError
    from pgqueuer.queries import Queries

    async def connected() -> T:
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=_CONNECT_S
        ) as connection:
            return await work(Queries.from_psycopg_connection(connection))

    try:
        return asyncio.run(connected())
    except SchemaDriftError as error:
        raise ConfigError(
            f"PgQueuer's tables cannot be brought up: {error}", hint="see PgQueuer's upgrade notes"
        ) from error
