"""Memory for what is received and not stored is bounded: the socket is not read while too much waits."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.line import line
from benchmarks.packets import publish
from infoscreen.clock import SystemClock
from infoscreen.domain.errors import BrokerUnavailable
from infoscreen.mqtt.client import READS_PER_TURN, RECEIVE_BYTES
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.inbox import OVERHEAD_BYTES
from infoscreen.mqtt.listener import BatchLimits, Listener
from infoscreen.mqtt.listening import ListeningClient
from infoscreen.wire.topics import BULK_FILTERS, DEVICE_FILTERS
from tests.broker import Broker
from tests.doors import DEVICE, Shelf, address_of, eventually, listening, running
from tests.programs import find_free_port

SCREENSHOT = f"infoscreen/{DEVICE}/screenshot"
BUDGET = 4 * 2**20
ONE_TURN = READS_PER_TURN * RECEIVE_BYTES
TOO_LARGE, LARGEST = 1_000_000, 512 * 1024
PINGREQ = b"\xc0\x00"


@pytest.mark.broker
@pytest.mark.parametrize("size", [TOO_LARGE, LARGEST, 100])
async def test_a_flood_while_nothing_can_be_stored_stays_within_the_budget(
    tmp_path: Path, free_port: int, size: int
) -> None:
    broker = Broker(tmp_path / "broker", free_port, save_every_change=False)
    await broker.add_device(DEVICE)
    await broker.start()
    shelf = Shelf()
    shelf.gate.clear()
    limits = BatchLimits(waiting_bytes=BUDGET, size=2**20, messages=1_000)
    listener = Listener(address_of(broker), SystemClock(), shelf.store, DEVICE_FILTERS, limits=limits)
    count = 3 * BUDGET // (size + 200)
    most = BUDGET + ONE_TURN * (1 + OVERHEAD_BYTES / size)
    said = [number.to_bytes(4) + bytes(size - 4) for number in range(count)]
    try:
        async with listening(listener):
            await flood(broker, said)
            await eventually(lambda: listener.paused)
            assert listener.held_bytes <= most
            shelf.gate.set()
            await eventually(lambda: len(shelf.payloads) == count)
            assert shelf.payloads == said
            assert listener.state.reconnects == 0
            assert listener.most_held_bytes <= most
            await eventually(lambda: listener.held_bytes == 0)
            assert max(sum(map(len, (m.payload for m in batch))) for batch in shelf.batches) <= 2**20
    finally:
        await broker.stop()


async def flood(broker: Broker, said: Sequence[bytes]) -> None:
    """Publish as the device, as fast as the broker takes it."""
    async with line(broker.port, DEVICE, DEVICE, broker.passwords[DEVICE]) as device:
        for payload in said:
            await device.room()
            device.publish(SCREENSHOT, payload)
        await device.settled()


class Server:
    """A broker as it may be: it accepts one connection, and says what it is told to."""

    def __init__(self) -> None:
        self.pings = 0
        self.writer: asyncio.StreamWriter | None = None
        self.answers_pings = True

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(b"\x20\x02\x00\x00")
        self.writer = writer
        while data := await reader.read(1_000):
            self.pings += data.count(PINGREQ)
            if self.answers_pings:
                writer.write(b"\xd0\x00" * data.count(PINGREQ))
        writer.close()


@asynccontextmanager
async def connected(budget: int) -> AsyncIterator[tuple[Server, ListeningClient]]:
    server, port = Server(), find_free_port()
    address = BrokerAddress("127.0.0.1", port, None, None, "daemon")
    async with (
        await asyncio.start_server(server.answer, "127.0.0.1", port),
        ListeningClient(address, None, budget, keepalive=2) as client,
    ):
        await eventually(lambda: server.writer)
        yield server, client


@pytest.mark.slow
async def test_the_broker_is_pinged_and_not_given_up_while_it_is_not_read() -> None:
    async with connected(1_000) as (server, client):
        assert server.writer is not None
        server.writer.write(publish(SCREENSHOT, bytes(300_000), 1))
        batch = await client.next_batch(10, 10**9)
        await eventually(lambda: client.paused)
        server.writer.write(publish(SCREENSHOT, bytes(300_000), 2))
        pings = server.pings
        await eventually(lambda: server.pings >= pings + 5)  # longer than it waits for an answer
        client.raise_if_lost()
        assert client.inbox.waiting == 0
        client.acknowledge(batch)
        assert len((await client.next_batch(10, 10**9)).messages) == 1


@pytest.mark.slow
async def test_a_broker_that_answers_no_ping_is_given_up() -> None:
    async with connected(10**6) as (server, client):
        server.answers_pings = False
        with pytest.raises(BrokerUnavailable):
            await client.next_batch(10, 10**9)
        assert server.pings >= 2


async def test_a_session_with_more_than_the_budget_is_taken_before_the_subscription_is_answered(
    free_port: int,
) -> None:
    count = 20

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        writer.write(b"\x20\x02\x01\x00")
        subscribe = await reader.read(1_000)
        for number in range(1, count + 1):
            writer.write(publish(SCREENSHOT, bytes(100_000), number))
        await writer.drain()
        writer.write(bytes((0x90, 2 + len(BULK_FILTERS))) + subscribe[2:4] + b"\x01" * len(BULK_FILTERS))
        await reader.read()
        writer.close()

    shelf = Shelf()
    address = BrokerAddress("127.0.0.1", free_port, None, None, "daemon")
    limits = BatchLimits(waiting_bytes=200_000)
    listener = Listener(address, SystemClock(), shelf.store, BULK_FILTERS, limits=limits)
    async with await asyncio.start_server(answer, "127.0.0.1", free_port), running(listener.run):
        await eventually(lambda: listener.state.listening_since)
        await eventually(lambda: len(shelf.payloads) == count)
        assert listener.most_held_bytes <= 200_000 + ONE_TURN


async def test_batches_shrink_when_storing_takes_long_and_grow_again(free_port: int) -> None:
    listener = Listener(
        BrokerAddress("127.0.0.1", free_port, None, None, "daemon"),
        SystemClock(),
        Shelf().store,
        BULK_FILTERS,
    )
    sizes = []
    for messages, seconds in ((5_000, 4.0), (1_250, 50.0), (100, 0.1), (200, 0.1)):
        listener._adapt(messages, seconds)
        sizes.append(listener._at_once)
    assert sizes == [1_250, 100, 200, 400]
