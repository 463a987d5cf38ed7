"""The counters of clients agree with a count after any history, on both databases and with two writers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection as SyncConnection
from sqlalchemy import delete, func, insert, select, text, update

from infoscreen.domain.clients import Client, Condition
from infoscreen.storage import client_lists, client_totals, clients, counting, schema, tables
from infoscreen.storage.client_lists import ClientQuery
from infoscreen.storage.engine import Connection, Store
from infoscreen.storage.metadata import metadata
from tests.spine import MORNING, sqlite_url, uuid_of

SITES = (None, "", "Berlin", "Celle")
CONDITIONS = (Condition.ONLINE, Condition.CRASHED, Condition.UNREACHABLE)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    await schema.upgrade(url)
    made = Store(url)
    yield made
    await made.close()


def client_of(number: int, status: Condition, site: str | None) -> Client:
    return Client(uuid=uuid_of(number), created_at=MORNING, status=status, status_since=MORNING, site=site)


async def counted(connection: Connection, site: str | None = None) -> dict[Condition, int]:
    c = tables.clients.c
    where = [] if site is None else [c.site == site]
    rows = await connection.execute(select(c.status, func.count()).where(*where).group_by(c.status))
    return dict.fromkeys(Condition, 0) | {row[0]: row[1] for row in rows}


async def assert_true(store: Store) -> None:
    async with store.read() as connection:
        assert await client_totals.totals(connection) == await counted(connection)
        for site in ("Berlin", "Celle"):
            assert await client_totals.totals(connection, site) == await counted(connection, site)
        assert (await connection.execute(client_totals.DIFFERENCE)).all() == []


number, condition, site = st.integers(0, 5), st.sampled_from(CONDITIONS), st.sampled_from(SITES)
step = st.one_of(
    st.tuples(st.just("register"), st.lists(number, min_size=1, max_size=3)),
    st.tuples(st.just("create"), number, condition, site),
    st.tuples(st.just("save"), number, condition, site),
    st.tuples(st.just("crowd"), condition),
    st.tuples(st.just("rename"), number),
    st.tuples(st.just("remove"), number),
    st.tuples(st.just("by hand"), condition, site),
    st.tuples(st.just("fold")),
)
transaction = st.tuples(st.lists(step, min_size=1, max_size=4), st.booleans())


class AbandonedError(Exception):
    """The transaction is to be rolled back."""


async def take(connection: Connection, step: tuple[Any, ...]) -> None:
    match step:
        case ("register", numbers):
            await clients.register(connection, sorted({uuid_of(one) for one in numbers}), MORNING)
        case ("create", one, status, site):
            if await clients.get(connection, uuid_of(one)) is None:
                await clients.create(connection, client_of(one, status, site))
        case ("save", one, status, site):
            before = await clients.get(connection, uuid_of(one))
            if before is not None:
                await clients.save_changes(connection, before, client_of(one, status, site))
        case ("crowd", status):
            known = (await clients.for_change(connection, [uuid_of(one) for one in range(6)])).values()
            changes = [(one, replace(one, status=status), None) for one in known]
            await clients.save_all_changes(connection, changes)
        case ("rename", one):
            before = await clients.get(connection, uuid_of(one))
            if before is not None:
                await clients.save_changes(connection, before, replace(before, name="other"))
        case ("remove", one):
            await clients.remove(connection, uuid_of(one))
        case ("by hand", status, site):
            await connection.execute(update(tables.clients).values(status=status, site=site))
        case ("fold",):
            await client_totals.fold(connection)


@given(history=st.lists(transaction, max_size=8))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_counters_agree_with_a_count_after_any_history(store: Store, history: Any) -> None:
    for steps, kept in history:
        with suppress(AbandonedError):
            async with store.write() as connection:
                for one in steps:
                    await take(connection, one)
                if not kept:
                    raise AbandonedError
        await assert_true(store)
    async with store.write() as connection:
        await connection.execute(delete(tables.clients))
    await assert_true(store)


async def test_two_writers_at_once_neither_miscount_nor_wait_for_each_other(store: Store) -> None:
    """Each holds counters that the other wants, while it waits for a client that the other holds."""
    async with store.write() as connection:
        for one in range(40):
            await clients.create(connection, client_of(one, Condition.ONLINE, "Berlin"))
    second = Store(store.url)

    async def work(own: Store, seed: int) -> None:
        random = Random(seed)
        for _ in range(30):
            async with own.write() as connection:
                picked = sorted(random.sample(range(40), 8))
                for one in picked:
                    before = (await clients.for_change(connection, [uuid_of(one)]))[uuid_of(one)]
                    after = client_of(one, random.choice(CONDITIONS), random.choice(SITES))
                    await clients.save_changes(connection, before, after)
                if random.random() < 0.3:
                    await client_totals.fold(connection)

    try:
        async with asyncio.timeout(120):
            await asyncio.gather(work(store, 1), work(second, 2), work(store, 3))
    finally:
        await second.close()
    await assert_true(store)


async def test_folding_keeps_the_totals_and_leaves_few_rows(store: Store) -> None:
    async with store.write() as connection:
        for one in range(client_totals.WORTH_FOLDING):
            await clients.create(connection, client_of(one, Condition.ONLINE, "Berlin"))
    async with store.write() as connection:
        await client_totals.fold(connection)
    async with store.read() as connection:
        assert not await client_totals.is_worth_folding(connection)
        assert (await client_totals.totals(connection))[Condition.ONLINE] == client_totals.WORTH_FOLDING
        rows = select(func.count()).select_from(tables.client_totals)
        assert await connection.scalar(rows) == 2
    await assert_true(store)


async def test_counters_that_differ_are_repaired(store: Store) -> None:
    async with store.write() as connection:
        for one in range(5):
            await clients.create(connection, client_of(one, Condition.ONLINE, "Berlin"))
        await client_totals.fold(connection)
        await connection.execute(update(tables.client_totals).values(clients=17))
        await connection.execute(
            insert(tables.client_totals).values(site="Gone", status="crashed", clients=3)
        )
    assert await client_totals.repair(store) == 3
    await assert_true(store)
    assert await client_totals.repair(store) == 0


async def test_a_migration_that_copies_the_clients_keeps_them_counted(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path))
    await schema.upgrade(store.url)

    def copy(connection: SyncConnection) -> None:
        operations = Operations(MigrationContext.configure(connection))
        with operations.batch_alter_table("clients", recreate="always"):
            pass
        # As migrations/env.py does after every migration.
        assert counting.restore_triggers(connection)
        assert not counting.restore_triggers(connection)

    async with schema.migration(store.url) as connection:
        await clients.create(connection, client_of(1, Condition.ONLINE, "Berlin"))
        await connection.run_sync(copy)
        await clients.create(connection, client_of(2, Condition.ONLINE, "Berlin"))
    await assert_true(store)
    await store.close()


TRIGGERS = {
    "sqlite": "SELECT sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name",
    "postgresql": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname",
}


async def test_migrated_triggers_are_those_of_the_models(store: Store) -> None:
    statement = text(TRIGGERS[store.engine.dialect.name])
    async with store.read() as connection:
        migrated = (await connection.execute(statement)).all()
    async with store.write() as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    async with store.read() as connection:
        assert (await connection.execute(statement)).all() == migrated != []


async def test_lists_take_their_totals_from_the_counters_where_they_can(store: Store) -> None:
    async with store.write() as connection:
        for one in range(6):
            status, site = (Condition.CRASHED if one < 2 else Condition.ONLINE), SITES[one % 4]
            await clients.create(connection, client_of(one, status, site))
    async with store.read() as connection:
        for query in (
            ClientQuery(),
            ClientQuery(status=frozenset({Condition.CRASHED})),
            ClientQuery(status=frozenset({Condition.CRASHED, Condition.ONLINE}), site="Berlin"),
            ClientQuery(site="Celle"),
            ClientQuery(q="-"),
        ):
            whole = await client_lists.search(connection, query, 100)
            first = await client_lists.search(connection, query, 1)
            assert whole.total == first.total == len(whole.items), query
