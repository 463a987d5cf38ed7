"""What real devices say, against heartbeats that say nothing new: messages per second, stored durably.

Per client a heartbeat every 30 s, health with changing readings every 60 s, a log line in ten minutes, and
1 % restarts an hour. Backlogs of both are drained in turns by the daemon's listener and ingest, into one
database of known clients.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random

from msgspec.structs import replace

from benchmarks.figures import Figure, Wanted
from benchmarks.fleet import beat, fill, heartbeats, uuid_of
from benchmarks.ingest import POLICY, rate, stored
from benchmarks.rig import running_broker
from benchmarks.sizes import Sizes
from infoscreen.clock import SystemClock
from infoscreen.metrics import Metrics
from infoscreen.mqtt.listener import BatchLimits
from infoscreen.services.bus import Bus
from infoscreen.services.ingest import Ingest
from infoscreen.services.ports import Incoming, LinkState
from infoscreen.services.quota import Limit, QuotaPolicy, Quotas
from infoscreen.storage.engine import Store
from infoscreen.wire import topics
from infoscreen.wire.messages import encode
from infoscreen.wire.topics import DEVICE_FILTERS

HEALTH_EVERY, LOG_EVERY, RESTART_EVERY = 2, 20, 12_000
"""Heartbeats of one client from one to the next."""


def mixed(clients: int, random: Random) -> Iterator[tuple[str, bytes]]:
    """Yield topic and payload of what real devices say, without end."""
    pids = [1_000] * clients
    for turn, number in ((turn, number) for turn in iter(int, 1) for number in range(clients)):
        del turn
        uuid, now = uuid_of(number), datetime.now(UTC)
        if random.random() < 1 / RESTART_EVERY:
            pids[number] += 1
        heartbeat = beat(number, uuid, now)
        yield topics.heartbeat(uuid), encode(replace(heartbeat, process_pid=pids[number]))
        if random.random() < 1 / HEALTH_EVERY:
            yield topics.health(uuid), _health(number, pids[number], now, random)
        if random.random() < 1 / LOG_EVERY:
            line = {"timestamp": now.isoformat(), "message": f"played item {random.random()}"}
            yield topics.logs(uuid, topics.LogLevel.INFO), json.dumps(line).encode()


def _health(number: int, pid: int, now: datetime, random: Random) -> bytes:
    readings = {
        "cpu_percent": round(random.uniform(0, 100), 1),
        "memory_percent": round(random.uniform(20, 90), 1),
        "disk_percent": 41.5,
        "temperature_celsius": round(random.uniform(30, 80), 1),
        "uptime_seconds": random.randrange(10**6),
        "screen_on": True,
    }
    status = beat(number, uuid_of(number), now).process_status
    state = {"pid": pid, "status": status}
    broker = {"broker_reachable": True, "reconnect_count": 0}
    return json.dumps(
        {
            "timestamp": now.isoformat(),
            "actual_state": state,
            "health_metrics": readings,
            "broker_connection": broker,
        }
    ).encode()


async def measure(sizes: Sizes) -> list[Figure]:
    """Return the ratio of both rates: from the broker, and of ingest alone; medians of some rounds."""
    clients, count = sizes.fleets[0], sizes.backlog
    said = {"quiet": heartbeats(clients), "mixed": mixed(clients, Random(1))}
    drained: dict[str, list[float]] = {kind: [] for kind in said}
    handled: dict[str, list[float]] = {kind: [] for kind in said}
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        url = await fill(folder / "mix.db", clients)
        drain = stored(url, BatchLimits().messages, DEVICE_FILTERS)
        async with running_broker(folder / "broker") as rig:
            for _ in range(sizes.rounds):
                for kind, messages in said.items():
                    drained[kind].append(await rate(rig, kind, messages, count, drain, DEVICE_FILTERS))
        for _ in range(sizes.rounds):
            for kind, messages in said.items():
                handled[kind].append(await _handled(url, [Incoming(*one) for one in islice(messages, count)]))
    quiet, real = (statistics.median(drained[kind]) for kind in said)
    alone, real_alone = (statistics.median(handled[kind]) for kind in said)
    detail = (
        f"mix: from the broker quiet heartbeats {quiet:,.0f}/s, a realistic mix {real:,.0f}/s; "
        f"ingest alone {alone:,.0f}/s and {real_alone:,.0f}/s"
    )
    return [
        Figure("realistic mix / quiet heartbeats", real / quiet, Wanted.AT_LEAST, 0.8, "", detail),
        Figure("the same, ingest alone", real_alone / alone, Wanted.AT_LEAST, None, "", detail),
    ]


async def _handled(url: str, messages: list[Incoming]) -> float:
    """Return how many messages per second ingest stores that need not come from a broker."""
    store, clock = Store(url), SystemClock()
    since, size = clock.now() - timedelta(hours=1), BatchLimits().messages
    quotas = Quotas(QuotaPolicy()._replace(logs=Limit(len(messages))), clock)
    ingest = Ingest(store, clock, Bus(), POLICY, Metrics(), lambda: LinkState(True, since, 0, None), quotas)
    try:
        started = time.perf_counter()
        for start in range(0, len(messages), size):
            await ingest.handle(messages[start : start + size], clock.now())
            await asyncio.sleep(0)
        return len(messages) / (time.perf_counter() - started)
    finally:
        await store.close()
