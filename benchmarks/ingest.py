"""How fast messages are taken in when each is durably stored before it is acknowledged.

A session's backlog of heartbeats is drained four times in one run: by bare aiomqtt, by bare aiomqtt in
batches with manual acknowledgement (the ceiling of performance.md), by the daemon's own listener and ingest
into SQLite, and by the same with one transaction for each message.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid5

import aiomqtt

from benchmarks.figures import Figure
from benchmarks.rig import Rig, load, running_broker
from infoscreen.clock import SystemClock
from infoscreen.domain.commands import Timeouts
from infoscreen.domain.presence import StalePolicy
from infoscreen.metrics import Metrics
from infoscreen.mqtt.client import BatchQueue
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.listener import BATCH_LIMIT, Listener
from infoscreen.services.bus import Bus
from infoscreen.services.ingest import Ingest, IngestPolicy
from infoscreen.services.ports import Incoming
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from infoscreen.wire import topics
from infoscreen.wire.messages import Heartbeat, encode

ROUNDS = 3
MESSAGES = 60_000
MESSAGES_ONE_BY_ONE = 1_500
CLIENTS = 1_000
FILTERS = (topics.DEVICE_FILTERS[1],)

_NAMESPACE = UUID("6d5a3c1e-4f0b-4d6e-9b4a-0c6a4b8f7e21")
_SECONDS = timedelta(seconds=1)
_POLICY = IngestPolicy(
    StalePolicy(45, 180),
    Timeouts(120 * _SECONDS, 600 * _SECONDS, 120 * _SECONDS),
    auto_register=True,
)

Drain = Callable[[BrokerAddress, int], Awaitable[None]]


def heartbeats(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield heartbeats as field devices send them: the client's facts repeat, the time goes on."""
    uuids = [str(uuid5(_NAMESPACE, str(number))) for number in range(CLIENTS)]
    start = datetime.now(UTC)
    for number in range(count):
        uuid = uuids[number % CLIENTS]
        beat = Heartbeat(
            timestamp=start + timedelta(milliseconds=number),
            process_pid=1000,
            boot_id=uuid[:13],
            ip="10.0.0.1",
        )
        yield topics.heartbeat(uuid), encode(beat)


async def bare(address: BrokerAddress, count: int) -> None:
    """Take messages as aiomqtt's documentation shows it: one by one, acknowledged at once, nothing stored."""
    async with aiomqtt.Client(**_login(address)) as client:
        async for _ in client.messages:
            count -= 1
            if not count:
                return


async def bare_batches(address: BrokerAddress, count: int) -> None:
    """Take messages in batches, acknowledged by hand, nothing stored: the ceiling of performance.md."""
    client = aiomqtt.Client(**_login(address), queue_type=BatchQueue)
    client._client.manual_ack_set(True)  # noqa: SLF001 - what the daemon's own listener wraps
    async with client:
        async for batch in client.messages:
            for message in cast("list[aiomqtt.Message]", batch):
                client._client.ack(message.mid, message.qos)  # noqa: SLF001 - as above
            count -= len(cast("list[aiomqtt.Message]", batch))
            if count <= 0:
                return


def stored(folder: Path, batch_limit: int) -> Drain:
    """Return the daemon's own way: listener and ingest, stored durably, acknowledged after the commit."""

    async def drain(address: BrokerAddress, count: int) -> None:
        url = f"sqlite+aiosqlite:///{folder / f'ingest-{batch_limit}.db'}"
        await schema.upgrade(url)
        store, done, left = Store(url), asyncio.Event(), count

        async def handle(batch: Sequence[Incoming], received_at: datetime) -> None:
            nonlocal left
            await ingest.handle(batch, received_at)
            left -= len(batch)
            if left <= 0:
                done.set()

        clock = SystemClock()
        ingest = Ingest(store, clock, Bus(), _POLICY, Metrics(), lambda: listener.state.listening_since)
        listener = Listener(address, clock, handle, FILTERS, batch_limit=batch_limit)
        running = asyncio.create_task(listener.run())
        waiting = asyncio.create_task(done.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running  # raises what went wrong
        running.cancel()
        await asyncio.wait([running])
        await store.close()

    return drain


def _login(address: BrokerAddress) -> dict[str, Any]:
    return {
        "hostname": address.host,
        "port": address.port,
        "username": address.user,
        "password": address.password,
        "identifier": address.client_id,
        "clean_session": False,
    }


async def rate(rig: Rig, name: str, count: int, drain: Drain) -> float:
    """Return how many messages per second ``drain`` takes from the backlog of a persistent session."""
    address = rig.address(f"bench-{name}")
    async with aiomqtt.Client(**_login(address)) as client:
        await client.subscribe(FILTERS[0], qos=1)
    await load(rig, heartbeats(count))
    started = time.perf_counter()
    await drain(address, count)
    taken = time.perf_counter() - started
    # A session that is left behind would be sent a copy of every later backlog.
    async with aiomqtt.Client(**(_login(address) | {"clean_session": True})):
        pass
    return count / taken


async def one_round(rig: Rig, folder: Path) -> dict[str, float]:
    """Drain the same backlog in every way, one after the other, and return the rates per second."""
    await asyncio.to_thread(folder.mkdir)
    return {
        "bare": await rate(rig, "bare", MESSAGES, bare),
        "batches": await rate(rig, "batches", MESSAGES, bare_batches),
        "stored": await rate(rig, "stored", MESSAGES, stored(folder, BATCH_LIMIT)),
        "one by one": await rate(rig, "one", MESSAGES_ONE_BY_ONE, stored(folder, 1)),
    }


async def measure() -> list[Figure]:
    """Return the medians of some rounds, compared."""
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with running_broker(folder / "broker") as rig:
            rounds = [await one_round(rig, folder / str(number)) for number in range(ROUNDS)]
    rates = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    detail = ", ".join(f"{name} {value:,.0f}/s" for name, value in rates.items())
    return [
        Figure("ingest, durable / bare aiomqtt", rates["stored"] / rates["bare"], 0.70, detail),
        Figure("ingest, durable / bare aiomqtt in batches", rates["stored"] / rates["batches"], 0.70, detail),
        Figure(
            "ingest, durable / one transaction per message", rates["stored"] / rates["one by one"], 10, detail
        ),
    ]
