"""A stop in the middle of a flood: what was stored is acknowledged, however much is still under way."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiomqtt
import pytest

from infoscreen.wire import topics
from infoscreen.wire.topics import LogLevel
from tests.broker import Broker
from tests.daemon import Daemon, installed
from tests.waiting import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

U = "3f0c9a52-7d1e-4b7c-9f55-6a1d2c3b4e5f"
LINES = 3_000
STREAMS = 20
AT_ONCE = 100


@pytest.fixture
async def broker(tmp_path: Path, free_port: int) -> AsyncIterator[Broker]:
    """A broker that saves by the clock, as in production; saving every change keeps it busy."""
    running = Broker(tmp_path / "broker", free_port, save_every_change=False)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


@pytest.fixture
async def daemon(tmp_path: Path, broker: Broker) -> AsyncIterator[Daemon]:
    async with installed(
        tmp_path / "daemon", broker, LOG_LINES_PER_MINUTE=10**6, LOG_BYTES_PER_MINUTE=2**30
    ) as made:
        yield made


async def talk(broker: Broker, password: str, lines: int) -> None:
    """Publish numbered log lines at QoS 1, as fast as the broker takes them, and wait for every PUBACK."""
    slots = asyncio.Semaphore(AT_ONCE)
    async with aiomqtt.Client(
        broker.host, broker.port, username=U, password=password, identifier=U, timeout=60
    ) as device:
        device.pending_calls_threshold = lines

        async def say(number: int) -> None:
            async with slots:
                line = {"timestamp": "2026-03-02T07:00:00Z", "message": f"line {number}"}
                await device.publish(topics.logs(U, LogLevel.INFO), json.dumps(line), qos=1)

        async with asyncio.TaskGroup() as group:
            for number in range(lines):
                group.create_task(say(number))


def stored(daemon: Daemon) -> list[str]:
    return [row[0] for row in daemon.rows("SELECT text FROM timeline WHERE kind = 'log'")]


async def taken_in(daemon: Daemon) -> int:
    """Return how many log lines this run of the daemon has received and stored."""
    async with daemon.visitor() as api, api.get("/metrics") as answer:
        found = re.search(r'messages_total\{kind="logs",outcome="stored"\} (\S+)', await answer.text())
    return int(float(found[1])) if found else 0


async def test_a_stop_in_a_flood_is_clean_and_what_was_stored_is_not_delivered_again(
    daemon: Daemon, broker: Broker
) -> None:
    password = await broker.add_device(U)
    await daemon.start()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(daemon.program())
        streams = [await stack.enter_async_context(api.get("/api/events")) for _ in range(STREAMS)]
        for stream in streams:
            assert await stream.content.readline()
        talking = asyncio.create_task(talk(broker, password, LINES))
        await until(lambda: len(stored(daemon)) > LINES // 10)
        assert await daemon.stop() == 0
        for stream in streams:
            await stream.content.read()  # returns only because the stream has ended
        await talking
    before = stored(daemon)
    assert len(before) < LINES, "the stop came too late to be one under load"
    await daemon.start()
    await until(lambda: len(stored(daemon)) == LINES)
    assert set(stored(daemon)) == {f"line {number}" for number in range(LINES)}
    assert await taken_in(daemon) == LINES - len(before)
    assert "Traceback" not in daemon.log
