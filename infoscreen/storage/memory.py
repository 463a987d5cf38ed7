"""A store in memory, for those who play time: empty, of the newest schema, gone when it is closed.

SQLite runs in the thread of the event loop here. A transaction in memory takes less time than handing it to
a thread and back; nobody else waits for that loop.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from infoscreen.storage.engine import Store
from infoscreen.storage.tables import metadata


async def in_memory() -> Store:
    """Return a store with all tables. It has one connection: transactions must not overlap."""
    engine = create_async_engine(
        "sqlite+aiosqlite://", poolclass=StaticPool, connect_args={"async_creator_fn": _connect}
    )
    store = Store("sqlite+aiosqlite://", engine)
    async with store.write() as connection:
        await connection.run_sync(metadata.create_all)
    return store


async def _connect(*_: object, **__: object) -> "_Connection":
    return _Connection()


class _Connection:
    """What SQLAlchemy needs of an aiosqlite connection, without its thread."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
        self._connection.execute("PRAGMA foreign_keys=ON")

    def cursor(self) -> "_Cursor":
        return _Cursor(self._connection.cursor())

    async def create_function(self, name: str, narg: int, function: Callable[..., Any], **more: Any) -> None:
        self._connection.create_function(name, narg, function, **more)

    async def commit(self) -> None:
        self._connection.commit()

    async def rollback(self) -> None:
        self._connection.rollback()

    async def close(self) -> None:
        self._connection.close()

    def stop(self) -> None:
        self._connection.close()


class _Cursor:
    """A cursor whose methods are awaited and do not wait."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    async def __aenter__(self) -> "_Cursor":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cursor.close()

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    @property
    def arraysize(self) -> int:
        return self._cursor.arraysize

    @arraysize.setter
    def arraysize(self, size: int) -> None:
        self._cursor.arraysize = size

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> "_Cursor":
        self._cursor.execute(statement, parameters)
        return self

    async def executemany(self, statement: str, parameters: Iterable[Sequence[Any]]) -> "_Cursor":
        self._cursor.executemany(statement, parameters)
        return self

    async def fetchone(self) -> Any:
        return self._cursor.fetchone()

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        return self._cursor.fetchmany(size or self._cursor.arraysize)

    async def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()
