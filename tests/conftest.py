"""Fixtures for every test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.fakes import FakeClock
from tests.postgres import postgres, postgres_server
from tests.programs import find_free_port
from tests.web import Site, serving

__all__ = ["postgres", "postgres_server"]

os.environ["INFOSCREEN_CONFIG_DIR"] = "/nonexistent"  # an installation on this machine is not ours


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests first, so that at the end no worker waits for another one's long test."""
    items.sort(key=lambda item: [item.get_closest_marker(name) is None for name in ("system", "slow")])


@pytest.fixture
def free_port() -> int:
    """Return a TCP port on loopback on which nobody listens."""
    return find_free_port()


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that moves only when told to."""
    return FakeClock()


@pytest.fixture
async def broker(tmp_path: Path, free_port: int) -> AsyncIterator[Broker]:
    """Yield a running mosquitto with password file and ACL."""
    async with Broker(tmp_path / "broker", free_port).running() as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Yield the web application on a fresh database."""
    async with serving(tmp_path) as running:
        yield running
