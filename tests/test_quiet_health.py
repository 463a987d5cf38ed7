"""Health that changes readings only is written without the rest of its client."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infoscreen.storage import heartbeats
from tests.spine import Spine, open_spine, sqlite_url, uuid_of, zulu

U = uuid_of(1)
RUNNING = {"process": "player", "pid": 7, "status": "running"}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def spine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Spine]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres")
    async with open_spine(url) as parts:
        yield parts


async def health(spine: Spine, **told: Any) -> None:
    await spine.hear((f"{U}/health", {"timestamp": zulu(spine.clock.now()), **told}))


async def beat(spine: Spine) -> None:
    await spine.beat(U, process_status="running", current_process="player", process_pid=7)


async def said(spine: Spine) -> int:
    async with spine.store.read() as connection:
        return (await heartbeats.pulses(connection, [U]))[U].said


async def test_readings_are_kept_and_the_next_heartbeat_stays_a_quiet_one(spine: Spine) -> None:
    await beat(spine)
    before = await said(spine)
    for number in range(3):
        spine.clock.advance(60)
        await health(
            spine,
            actual_state=RUNNING,
            health_metrics={"cpu_percent": float(number)},
            broker_connection={"reconnect_count": number},
        )
        client = await spine.client(U)
        assert client.health is not None
        assert client.health["health_metrics"] == {"cpu_percent": float(number)}
        assert client.health["actual_state"] == RUNNING
        assert client.mqtt_reconnect_count == number
        assert client.health_at == client.last_heard_at == spine.clock.now()
        assert await said(spine) == before
    await health(spine)
    client = await spine.client(U)
    assert client.mqtt_reconnect_count == 2  # what is not said stays
    assert client.health == {"timestamp": zulu(spine.clock.now())}


async def test_health_that_contradicts_the_heartbeat_counts_and_is_corrected_by_the_next_one(
    spine: Spine,
) -> None:
    await beat(spine)
    await health(spine, actual_state={**RUNNING, "status": "crashed"})
    assert (await spine.client(U)).status == "crashed"
    await beat(spine)
    assert (await spine.client(U)).status == "online"


async def test_of_several_in_one_batch_the_newest_counts_with_what_only_earlier_ones_said(
    spine: Spine,
) -> None:
    await beat(spine)
    now = zulu(spine.clock.now())
    await spine.hear(
        (f"{U}/health", {"timestamp": now, "broker_connection": {"reconnect_count": 5}}),
        (f"{U}/health", {"timestamp": now, "health_metrics": {"cpu_percent": 1.0}}),
    )
    client = await spine.client(U)
    assert client.mqtt_reconnect_count == 5
    assert client.health == {"timestamp": now, "health_metrics": {"cpu_percent": 1.0}}


async def test_what_cannot_be_read_of_it_is_shown_until_it_can(spine: Spine) -> None:
    await beat(spine)
    await health(spine, health_metrics={"cpu_percent": "much"})
    assert any(name.startswith("health.") for name in (await spine.client(U)).unread_fields)
    await health(spine, health_metrics={"cpu_percent": 2.0})
    assert (await spine.client(U)).unread_fields == {}
