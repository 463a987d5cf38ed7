"""A request that costs the database too much time is cut off; nobody else is."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from infoscreen.domain.errors import QueryTooExpensive, StoreTrouble, StoreUnavailable
from infoscreen.storage import schema
from infoscreen.storage.budget import limited
from infoscreen.storage.engine import Store
from tests.spine import sqlite_url

ENDLESS = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)"
    " SELECT max(i) FROM n"
)
SHORT = text(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT max(i) FROM n"
)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    await schema.upgrade(url)
    store = Store(url)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with opened(url) as made:
        yield made


async def test_a_statement_beyond_the_budget_is_cut_off(store: Store) -> None:
    with limited(0.05, time.monotonic):
        with pytest.raises(QueryTooExpensive):
            async with store.read() as connection:
                await connection.execute(ENDLESS)
        with pytest.raises(QueryTooExpensive):  # nothing is left for a second one
            async with store.read() as connection:
                await connection.execute(SHORT)


async def test_its_connection_serves_the_next_one(store: Store) -> None:
    for _ in range(20):
        with limited(0.01, time.monotonic), pytest.raises(QueryTooExpensive):
            async with store.read() as connection:
                await connection.execute(ENDLESS)
        async with store.read() as connection:
            assert await connection.scalar(SHORT) == 3


async def test_others_and_writers_are_not_cut_off_with_it(store: Store) -> None:
    async def too_much() -> None:
        with limited(0.05, time.monotonic), pytest.raises(QueryTooExpensive):
            async with store.read() as connection:
                await connection.execute(ENDLESS)

    async def cheap() -> None:
        for _ in range(50):
            async with store.read() as connection:
                assert await connection.scalar(SHORT) == 3
            async with store.write() as connection:
                assert await connection.scalar(SHORT) == 3

    await asyncio.gather(*(too_much() for _ in range(12)), cheap(), cheap())


async def test_a_write_is_never_charged(store: Store) -> None:
    with limited(-1, time.monotonic):
        async with store.write() as connection:
            assert await connection.scalar(SHORT) == 3


async def test_time_spent_beside_the_database_is_not_charged(store: Store) -> None:
    now = 0.0
    with limited(1, lambda: now):
        async with store.read() as connection:
            now += 100
            assert await connection.scalar(SHORT) == 3
        async with store.read() as connection:
            assert await connection.scalar(SHORT) == 3


async def test_other_trouble_inside_a_budget_stays_what_it_is(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path))
    with limited(1, time.monotonic), pytest.raises(StoreUnavailable):
        async with store.read():
            pass
    await store.close()


async def test_a_read_that_is_of_no_request_is_cut_off_after_its_own_time(tmp_path: Path) -> None:
    async with opened(sqlite_url(tmp_path)) as store:
        with pytest.raises(StoreUnavailable) as caught:
            async with store.read(seconds=0.05) as connection:
                await connection.execute(ENDLESS)
        assert caught.value.trouble is StoreTrouble.TIMED_OUT
        async with store.read() as connection:
            assert await connection.scalar(SHORT) == 3


async def test_what_begins_within_such_a_read_has_a_time_of_its_own(tmp_path: Path) -> None:
    async with opened(sqlite_url(tmp_path)) as store, store.read(seconds=0):
        async with store.read() as connection:
            assert await connection.scalar(SHORT) == 3
        with limited(10, time.monotonic):
            async with store.read() as connection:
                assert await connection.scalar(SHORT) == 3


async def test_a_busy_loop_and_a_busy_host_are_not_charged(tmp_path: Path) -> None:
    """The answer of a cheap statement waits a second for the loop; what it cost is far less."""
    async with opened(sqlite_url(tmp_path)) as store:
        with limited(0.2, time.monotonic):
            for _ in range(2):
                async with store.read() as connection:
                    reading = asyncio.create_task(connection.scalar(SHORT))
                    await asyncio.sleep(0)
                    time.sleep(0.5)  # noqa: ASYNC251 - holds the loop up on purpose
                    assert await reading == 3
