"""The store's transactions: who waits for whom, and who does not."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from infoscreen.domain.errors import StoreUnavailable
from infoscreen.storage.engine import BUSY_TIMEOUT_MILLISECONDS, Store
from infoscreen.storage.tables import metadata
from tests.spine import sqlite_url
from tests.waiting import until


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(sqlite_url(tmp_path), create=True)
    async with made.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield made
    await made.close()


async def test_what_is_not_worth_waiting_for_does_not_wait_for_another_writer(store: Store) -> None:
    async with store.write():
        with pytest.raises(StoreUnavailable):
            async with store.write(at_once=True):
                pass


async def test_nor_for_another_process(store: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "test.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            async with store.write(at_once=True):
                pass
        other.execute("ROLLBACK")
    async with store.write(at_once=True) as connection:
        patience = await connection.exec_driver_sql("PRAGMA busy_timeout")
        assert patience.scalar() == BUSY_TIMEOUT_MILLISECONDS


async def fail_halfway(store: Store) -> None:
    async with store.write() as connection:
        await connection.exec_driver_sql("INSERT INTO login_failures VALUES ('x', 1, '2026-03-02')")
        raise ZeroDivisionError


async def test_a_transaction_that_raises_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        await fail_halfway(store)
    async with store.read() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM login_failures")).scalar() == 0


async def test_a_database_in_memory_has_one_connection_for_readers_and_writers() -> None:
    store = Store("sqlite+aiosqlite:///:memory:")
    async with store.write() as connection:
        await connection.run_sync(metadata.create_all)

    async def count(more: int) -> int:
        async with store.write() as connection:
            for _ in range(more):
                await connection.exec_driver_sql(
                    "INSERT INTO login_failures VALUES (hex(randomblob(8)), 1, '2026-03-02')"
                )
        async with store.read() as connection:
            return (await connection.exec_driver_sql("SELECT count(*) FROM login_failures")).scalar_one()

    counted = await asyncio.gather(*(count(3) for _ in range(10)))
    assert max(counted) == 30
    with pytest.raises(ZeroDivisionError):
        await fail_halfway(store)
    assert await count(0) == 30
    async with store.read():
        with pytest.raises(RuntimeError, match="inside of another"):
            async with store.read():
                pass
    await store.close()


async def test_a_connection_that_is_not_closed_in_time_is_no_error(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with store.read(), store.write():
        pass
    closing_it = asyncio.ensure_future(store.close())
    for _ in range(3):
        await asyncio.sleep(0)  # it has begun
    closing_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing_it
    await store.close()
    await until(lambda: not any("_connection_worker" in thread.name for thread in threading.enumerate()))
    assert caplog.records == []
