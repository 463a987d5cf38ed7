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
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, cast

import aiomqtt

from benchmarks.figures import Figure, Wanted
from benchmarks.fleet import heartbeats
from benchmarks.rig import Rig, load, running_broker
from benchmarks.sizes import Sizes
from infoscreen.clock import SystemClock
from infoscreen.domain.commands import Timeouts
from infoscreen.domain.presence import StalePolicy
from infoscreen.metrics import Metrics
from infoscreen.mqtt.connection import BrokerAddress
from infoscreen.mqtt.listener import BatchLimits, Listener
from infoscreen.services.bus import Bus
from infoscreen.services.ingest import Ingest, IngestPolicy
from infoscreen.services.ports import Incoming
from infoscreen.services.quota import Limit, QuotaPolicy, Quotas
from infoscreen.storage import schema
from infoscreen.storage.engine import Store
from infoscreen.wire import topics

FILTERS = (topics.DEVICE_FILTERS[1],)

_SECONDS = timedelta(seconds=1)
POLICY = IngestPolicy(
    StalePolicy(45, 180),
    Timeouts(120 * _SECONDS, 600 * _SECONDS, 120 * _SECONDS),
    auto_register=True,
)


class BatchQueue(asyncio.Queue[Any]):
    """A queue for aiomqtt whose ``get`` returns all that is waiting, as a list."""

    async def get(self) -> list[aiomqtt.Message]:
        """Wait for a message and return it with all that are there."""
        batch = [await super().get()]
        while not self.empty():
            batch.append(self.get_nowait())
        return batch


Drain = Callable[[BrokerAddress, int], Awaitable[None]]


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
    client._client.manual_ack_set(True)  # noqa: SLF001 - aiomqtt has no manual acknowledgement
    async with client:
        async for batch in client.messages:
            for message in cast("list[aiomqtt.Message]", batch):
                client._client.ack(message.mid, message.qos)  # noqa: SLF001 - as above
            count -= len(cast("list[aiomqtt.Message]", batch))
            if count <= 0:
                return


def stored(url: str, batch_limit: int, filters: Sequence[str] = FILTERS) -> Drain:
    """Return the daemon's own way: listener and ingest, stored durably, acknowledged after the commit."""

    async def drain(address: BrokerAddress, count: int) -> None:
        await schema.upgrade(url)
        store, done, left = Store(url), asyncio.Event(), count

        async def handle(batch: Sequence[Incoming], received_at: datetime) -> None:
            nonlocal left
            await ingest.handle(batch, received_at)
            left -= len(batch)
            if left <= 0:
                done.set()

        clock = SystemClock()
        quotas = Quotas(QuotaPolicy()._replace(logs=Limit(count)), clock)
        ingest = Ingest(store, clock, Bus(), POLICY, Metrics(), lambda: listener.state, quotas)
        limits = BatchLimits(messages=batch_limit, fewest=batch_limit)
        listener = Listener(address, clock, handle, filters, limits=limits)
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


async def rate(
    rig: Rig,
    name: str,
    messages: Iterator[tuple[str, bytes]],
    count: int,
    drain: Drain,
    filters: Sequence[str] = FILTERS,
) -> float:
    """Return how many messages per second ``drain`` takes from the backlog of a persistent session."""
    address = rig.address(f"bench-{name}")
    async with aiomqtt.Client(**_login(address)) as client:
        await client.subscribe([(one, 1) for one in filters])
    await load(rig, islice(messages, count))
    started = time.perf_counter()
    await drain(address, count)
    taken = time.perf_counter() - started
    # A session that is left behind would be sent a copy of every later backlog.
    async with aiomqtt.Client(**(_login(address) | {"clean_session": True})):
        pass
    return count / taken


async def one_round(rig: Rig, folder: Path, sizes: Sizes) -> dict[str, float]:
    """Drain the same backlog in every way, one after the other, and return the rates per second."""
    await asyncio.to_thread(folder.mkdir)
    count, few, said = sizes.backlog, sizes.backlog_one_by_one, heartbeats(sizes.fleets[0])
    at_once = stored(f"sqlite+aiosqlite:///{folder / 'batches.db'}", BatchLimits().messages)
    one_by_one = stored(f"sqlite+aiosqlite:///{folder / 'one.db'}", 1)
    return {
        "bare": await rate(rig, "bare", said, count, bare),
        "batches": await rate(rig, "batches", said, count, bare_batches),
        "stored": await rate(rig, "stored", said, count, at_once),
        "one by one": await rate(rig, "one", said, few, one_by_one),
    }


async def measure(sizes: Sizes) -> list[Figure]:
    """Return the medians of some rounds, compared."""
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with running_broker(folder / "broker") as rig:
            rounds = [await one_round(rig, folder / str(number), sizes) for number in range(sizes.rounds)]
    rates = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    detail = "ingest: " + ", ".join(f"{name} {value:,.0f}/s" for name, value in rates.items())
    return [
        Figure(
            f"ingest, durable / {words}", rates["stored"] / rates[name], Wanted.AT_LEAST, wanted, "", detail
        )
        for name, words, wanted in (
            ("bare", "bare aiomqtt", 0.70),
            ("batches", "bare aiomqtt in batches", 0.80),
            ("one by one", "one transaction per message", 10),
        )
    ]
