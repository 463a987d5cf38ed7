"""What real devices say, against heartbeats that say nothing new: messages per second, stored durably.

Per client a heartbeat every 30 s, health with changing readings every 60 s, a log line in ten minutes, and
1 % restarts an hour. One ingest stores both in turns, on one database of known clients.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random

from benchmarks.figures import Figure, Wanted
from benchmarks.fleet import beat, fill, heartbeats, uuid_of
from benchmarks.ingest import POLICY
from benchmarks.sizes import Sizes
from infoscreen.clock import SystemClock
from infoscreen.metrics import Metrics
from infoscreen.mqtt.listener import BatchLimits
from infoscreen.services.bus import Bus
from infoscreen.services.ingest import Ingest
from infoscreen.services.ports import Incoming
from infoscreen.services.quota import Limit, QuotaPolicy, Quotas
from infoscreen.storage.engine import Store
from infoscreen.wire import topics
from infoscreen.wire.messages import encode

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
        yield topics.heartbeat(uuid), encode(heartbeat.model_copy(update={"process_pid": pids[number]}))
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
    """Return the ratio of both rates, the median of some rounds."""
    clients, count = sizes.fleets[0], sizes.backlog
    random = Random(1)
    rates: dict[str, list[float]] = {"quiet": [], "mixed": []}
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        url = f"sqlite+aiosqlite:///{Path(name) / 'mix.db'}"
        await fill(url, clients)
        store, clock = Store(url), SystemClock()
        since = clock.now() - timedelta(hours=1)
        quotas = Quotas(QuotaPolicy()._replace(logs=Limit(count)), clock)
        ingest = Ingest(store, clock, Bus(), replace(POLICY), Metrics(), lambda: since, quotas)
        talk = {"quiet": heartbeats(clients), "mixed": mixed(clients, random)}
        try:
            for _ in range(sizes.rounds):
                for kind, messages in talk.items():
                    batch = [Incoming(*message) for message in islice(messages, count)]
                    rates[kind].append(await _rate(ingest, clock, batch))
        finally:
            await store.close()
    quiet, real = (statistics.median(rates[kind]) for kind in ("quiet", "mixed"))
    detail = f"mix: quiet heartbeats {quiet:,.0f}/s, a realistic mix {real:,.0f}/s"
    return [Figure("realistic mix / quiet heartbeats", real / quiet, Wanted.AT_LEAST, 0.8, "", detail)]


async def _rate(ingest: Ingest, clock: SystemClock, messages: list[Incoming]) -> float:
    size = BatchLimits().messages
    started = time.perf_counter()
    for start in range(0, len(messages), size):
        await ingest.handle(messages[start : start + size], clock.now())
        await asyncio.sleep(0)
    return len(messages) / (time.perf_counter() - started)
