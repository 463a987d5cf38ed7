"""The one async engine and its two kinds of transaction.

SQLite's own defaults open a transaction at the first write, so that the SELECT before it is not part of it;
measured, three to five of eight tasks then take the same one-way step. Every ``write()`` is therefore ``BEGIN
IMMEDIATE``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from infoscreen.domain.errors import StoreUnavailable

log = logging.getLogger(__name__)

Connection = AsyncConnection
"""What ``read()`` and ``write()`` yield, and what every storage function takes first."""

BUSY_ATTEMPTS, BUSY_TIMEOUT_MILLISECONDS = 10, 1_000
"""How often and how long a transaction waits for a lock of another process (a backup, an operator's sqlite3).

In short turns, because a thread that waits inside of SQLite cannot be cancelled, and a stop waits for it.
"""

SQLITE_READERS = 8


class Store:
    """The database. ``read()`` and ``write()`` are transactions; nothing slow belongs inside either."""

    def __init__(self, url: str, engine: AsyncEngine | None = None) -> None:
        """Prepare the engine; nothing is opened before the first use.

        Args:
            url: an SQLAlchemy URL for ``sqlite+aiosqlite`` or ``postgresql+asyncpg``.
            engine: the engine itself, when it is not made from the URL alone (see ``storage.memory``).
        """
        self.url = url
        self.engine: AsyncEngine = engine or _engine(url)
        self._is_sqlite = self.engine.dialect.name == "sqlite"
        # SQLite has one writer at a time anyway; queueing here is fair and does not burn the busy timeout.
        self._writer = asyncio.Lock()
        self.locked_elsewhere = False
        """True while a transaction has waited for another program's lock for a second or more."""
        if self._is_sqlite:
            event.listen(self.engine.sync_engine, "begin", self._begin_sqlite)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that sees one consistent state; raise ``StoreUnavailable`` when it cannot."""
        with _naming_passing_trouble():
            async with self.engine.connect() as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def write(self, *, at_once: bool = False) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits when the block ends and rolls back when it raises.

        Raises ``StoreUnavailable`` on passing trouble; then nothing of it was stored. With ``at_once`` it is
        trouble already that somebody else is writing: for what is not worth waiting for.
        """
        with _naming_passing_trouble():
            if not self._is_sqlite:
                async with self.engine.begin() as connection:
                    yield connection
                return
            if at_once and self._writer.locked():
                raise StoreUnavailable("Somebody else is writing just now.")
            async with self._writer, self.engine.connect() as connection:
                await connection.execution_options(infoscreen_immediate=True, infoscreen_at_once=at_once)
                async with connection.begin():
                    yield connection

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    def _begin_sqlite(self, connection: Any) -> None:
        options = connection.get_execution_options()
        if not options.get("infoscreen_immediate", False):
            connection.exec_driver_sql("BEGIN")
        elif not options.get("infoscreen_at_once", False):
            self._begin_immediate(connection)
        else:
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")

    def _begin_immediate(self, connection: Any) -> None:
        try:
            for attempt in range(1, BUSY_ATTEMPTS + 1):
                try:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                except DBAPIError as error:
                    if attempt == BUSY_ATTEMPTS or not is_passing(error):
                        raise
                    if not self.locked_elsewhere:
                        log.warning(
                            "another program holds the database's lock; whoever writes waits",
                            extra={"event": "store_locked"},
                        )
                    self.locked_elsewhere = True
                else:
                    if self.locked_elsewhere:
                        log.warning("the database's lock is free again", extra={"event": "store_unlocked"})
                    return
        finally:
            # Whoever gives up says so; nobody waits any more.
            self.locked_elsewhere = False


def _engine(url: str) -> AsyncEngine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_async_engine(url, pool_pre_ping=True)
    engine = create_async_engine(url, pool_size=SQLITE_READERS, max_overflow=0, pool_timeout=60)
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: DBAPIConnection, record: Any) -> None:
    # The driver must not open transactions by itself; _begin_sqlite does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MILLISECONDS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


@contextmanager
def _naming_passing_trouble() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        if is_passing(error):
            raise StoreUnavailable("The database does not answer just now.") from error
        raise


def is_passing(error: Exception) -> bool:
    """Tell whether an error is the world's (locked, disk full, server gone): trying again may help."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeoutError | OSError)
    words = str(error.orig).lower()
    return error.connection_invalidated or any(
        sign in words
        for sign in ("locked", "busy", "disk is full", "disk i/o", "unable to open", "deadlock detected")
    )
