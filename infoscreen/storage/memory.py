"""A store in memory, for those who play time: empty, of the newest schema, gone when it is closed.

SQLite runs in the thread of the event loop here, without SQLAlchemy's greenlets in between: a transaction in
memory takes less time than handing it to a thread and back, and nobody else waits for that loop.
"""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from sqlalchemy import Connection as SyncConnection
from sqlalchemy import CursorResult, Dialect, Executable, create_engine
from sqlalchemy.pool import StaticPool

from infoscreen.storage.engine import READ_SECONDS, Connection, Store
from infoscreen.storage.tables import metadata


async def in_memory() -> Store:
    """Return a store with all tables. It has one connection: transactions must not overlap."""
    return _StoreInMemory()


class _StoreInMemory(Store):
    """A ``Store`` on one connection that stays open."""

    def __init__(self) -> None:
        super().__init__("sqlite+aiosqlite://")
        engine = create_engine("sqlite://", creator=_connect, poolclass=StaticPool)
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        metadata.create_all(self._connection)
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - tells mypy
        self._driver = driver
        self._given = cast(Connection, _Awaited(self._connection))

    @asynccontextmanager
    async def read(self, *, seconds: float = READ_SECONDS) -> AsyncIterator[Connection]:
        """Wait for the connection; nobody writes meanwhile, and nothing is cut off."""
        async with self._in_turn():
            yield self._given

    @asynccontextmanager
    async def write(self, *, at_once: bool = False) -> AsyncIterator[Connection]:
        """Open a transaction that commits when the block ends and rolls back when it raises."""
        async with self._in_turn():
            self._driver.execute("BEGIN")
            try:
                yield self._given
            except BaseException:
                self._driver.rollback()
                raise
            self._driver.commit()

    async def close(self) -> None:
        """Let the database go."""
        self._connection.close()
        self._connection.engine.dispose()
        await super().close()


def _connect() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


class _Awaited:
    """As much of SQLAlchemy's ``AsyncConnection`` as the storage uses; its methods do not wait."""

    def __init__(self, connection: SyncConnection) -> None:
        self._connection = connection

    @property
    def dialect(self) -> Dialect:
        return self._connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.execute(statement, parameters)

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return self._connection.scalar(statement, parameters)

    async def scalars(self, statement: Executable, parameters: Any = None) -> Any:
        return self._connection.scalars(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.exec_driver_sql(statement, parameters)

    async def stream(self, statement: Executable, parameters: Any = None) -> "_Streamed":
        return _Streamed(self._connection.execute(statement, parameters))


class _Streamed:
    """As much of an ``AsyncResult``."""

    def __init__(self, result: CursorResult[Any]) -> None:
        self._result = result

    async def partitions(self, size: int) -> AsyncIterator[Sequence[Any]]:
        for rows in self._result.partitions(size):
            yield rows
