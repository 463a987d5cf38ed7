"""What is asked about the whole fleet, on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infoscreen.domain.clients import Client, Condition
from infoscreen.storage import client_lists, client_totals, clients
from infoscreen.storage.engine import Store
from infoscreen.storage.tables import metadata
from tests.spine import MORNING, sqlite_url, uuid_of


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    made = Store(url, create=True)
    async with made.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield made
    await made.close()


async def enter(store: Store, *fleet: tuple[Condition, str | None]) -> None:
    """Create a client for each condition and site."""
    async with store.write() as connection:
        for number, (condition, site) in enumerate(fleet):
            client = Client(
                uuid=uuid_of(number), created_at=MORNING, status=condition, status_since=MORNING, site=site
            )
            await clients.create(connection, client)


async def test_the_totals_count_every_condition(store: Store) -> None:
    wanted = {condition: number for number, condition in enumerate(Condition, start=1)}
    await enter(store, *((condition, None) for condition, count in wanted.items() for _ in range(count)))
    async with store.read() as connection:
        assert await client_totals.totals(connection) == wanted


@pytest.mark.parametrize("only", [Condition.ONLINE, Condition.CRASHED, Condition.UNREACHABLE])
async def test_the_totals_of_a_fleet_in_one_condition_are_zero_elsewhere(
    store: Store, only: Condition
) -> None:
    await enter(store, (only, None), (only, None))
    async with store.read() as connection:
        assert await client_totals.totals(connection) == dict.fromkeys(Condition, 0) | {only: 2}


async def test_each_site_is_named_once_and_in_order(store: Store) -> None:
    named = ["Berlin", None, "Aachen", "Berlin", "Celle", None, "Aachen"]
    await enter(store, *((Condition.ONLINE, site) for site in named))
    async with store.read() as connection:
        assert await client_lists.sites(connection) == ["Aachen", "Berlin", "Celle"]


async def test_an_empty_fleet_has_no_totals_and_no_sites(store: Store) -> None:
    async with store.read() as connection:
        assert await client_totals.totals(connection) == dict.fromkeys(Condition, 0)
        assert await client_lists.sites(connection) == []
