"""What the tests of the MQTT door share: an address, running it for a while, and what it handed on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import aiomqtt

from infoscreen.clock import SystemClock
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.listener import BatchLimits, Listener
from infoscreen.services.ports import Incoming
from infoscreen.wire.topics import DEVICE_FILTERS
from tests.broker import Broker
from tests.waiting import DEADLINE_SECONDS

DEVICE = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
HEARTBEAT = f"infoscreen/{DEVICE}/heartbeat"


def address_of(broker: Broker, suffix: str = "") -> BrokerAddress:
    """Return the broker's address for the daemon's account; ``suffix`` names another of its sessions."""
    client_id = f"infoscreen-server{suffix}"
    return BrokerAddress(broker.host, broker.port, broker.server_user, broker.server_password, client_id)


async def eventually(claim: Callable[[], object]) -> None:
    """Return once the claim holds; fail if it takes too long."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not claim():  # noqa: ASYNC110 - claims are about brokers and sockets, which set no event
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(run: Callable[[], Awaitable[Any]]) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a part in the background and stop it, in order, at the end. What it raises is raised here."""
    task = asyncio.ensure_future(run())
    try:
        yield task
    finally:
        if not task.cancelling():  # by the test: a second cancellation would be a harder one
            task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


class Shelf:
    """A batch handler that keeps what it gets; with the gate closed it is a store that takes its time."""

    def __init__(self) -> None:
        self.batches: list[list[Incoming]] = []
        self.finished = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def store(self, batch: Sequence[Incoming], received_at: datetime) -> None:
        assert received_at.tzinfo is not None
        self.batches.append(list(batch))
        await self.gate.wait()
        self.finished += 1

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for batch in self.batches for message in batch]


def listener_for(address: BrokerAddress, shelf: Shelf, *, batch_limit: int = 500) -> Listener:
    limits = BatchLimits(messages=batch_limit, fewest=min(batch_limit, 100))
    return Listener(address, SystemClock(), shelf.store, DEVICE_FILTERS, limits=limits)


@contextlib.asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a listener that has its subscriptions, and stop it in order."""
    async with running(listener.run) as task:
        await eventually(lambda: task.done() or listener.state.listening_since)
        yield task


@contextlib.asynccontextmanager
async def stranger(broker: Broker, account: str = DEVICE, **options: Any) -> AsyncIterator[aiomqtt.Client]:
    """Connect as a device, by default, that says much in a short time."""
    async with aiomqtt.Client(
        broker.host,
        broker.port,
        username=account,
        password=broker.passwords[account],
        **{"identifier": f"stranger-{account}", **options},
    ) as client:
        yield client


async def say(broker: Broker, *payloads: bytes, topic: str = HEARTBEAT) -> None:
    """Publish as the device at QoS 1, in order; return when the broker has acknowledged all."""
    async with stranger(broker, max_inflight_messages=0) as client:
        client.pending_calls_threshold = len(payloads)
        await asyncio.gather(*(client.publish(topic, payload, qos=1) for payload in payloads))
