"""How long a heartbeat takes into the database while a dozen people sit on a client with a long history."""

import asyncio
import contextlib
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from benchmarks.daemon import Daemon, installed
from benchmarks.figures import Figure, NotMeasured, Wanted, percentile
from benchmarks.fleet import beat, uuid_of
from benchmarks.line import Line
from benchmarks.rig import devices, running_broker
from benchmarks.sizes import Sizes
from infoscreen.wire import topics
from infoscreen.wire.messages import encode

READERS = 12
CLIENTS = 100
LOOK_SECONDS = 0.005
TOO_LATE_SECONDS = 60.0

FILL = """
INSERT INTO timeline (client_uuid, at, kind, level, data)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
SELECT ?, strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || (i / 10) || ' seconds'), 'log', 'info',
    '{"message": "line"}' FROM n
"""


async def _stored_after(sender: Line, database: sqlite3.Connection, number: int) -> float:
    """Say one heartbeat of one client, and return how many milliseconds later the database has it."""
    uuid, at, started = uuid_of(number), datetime.now(UTC), time.perf_counter()
    sender.publish(topics.heartbeat(uuid), encode(beat(number, uuid, at)))
    told = at.isoformat(" ", "milliseconds")[:23]
    while time.perf_counter() - started < TOO_LATE_SECONDS:
        row = database.execute("SELECT last_device_time FROM clients WHERE uuid = ?", (uuid,)).fetchone()
        if row[0] is not None and row[0] >= told:
            return (time.perf_counter() - started) * 1000
        await asyncio.sleep(LOOK_SECONDS)
    raise NotMeasured("a heartbeat was not stored within a minute")


@asynccontextmanager
async def _reading(daemon: Daemon) -> AsyncIterator[list[int]]:
    """Let a dozen people ask for the client's timeline again and again; yield the statuses of the answers."""
    statuses: list[int] = []
    paths = [
        f"/api/clients/{uuid_of(0)}/timeline?limit=500",
        f"/api/clients/{uuid_of(0)}/timeline?kind=operator",
    ]

    async def read(api: aiohttp.ClientSession, path: str) -> None:
        while True:
            async with api.get(path) as answer:
                await answer.read()
                statuses.append(answer.status)

    async with daemon.program() as api:
        tasks = [asyncio.create_task(read(api, paths[number % len(paths)])) for number in range(READERS)]
        try:
            yield statuses
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)


async def measure(sizes: Sizes) -> list[Figure]:
    """Measure without readers, then with them, in one run."""
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with (
            running_broker(folder / "broker") as rig,
            installed(rig, folder / "daemon", CLIENTS) as daemon,
        ):
            with closing(sqlite3.connect(daemon.database)) as filling, filling:
                filling.execute(FILL, (sizes.history, uuid_of(0)))
            await daemon.start()
            try:
                with closing(sqlite3.connect(daemon.database, isolation_level=None)) as database:
                    async with devices(rig, "beating") as sender:
                        alone = [
                            await _stored_after(sender, database, 1 + n % (CLIENTS - 1))
                            for n in range(sizes.commands)
                        ]
                        async with _reading(daemon) as statuses:
                            beside = [
                                await _stored_after(sender, database, 1 + n % (CLIENTS - 1))
                                for n in range(sizes.commands)
                            ]
            finally:
                await daemon.stop()
    if not statuses or set(statuses) - {200, 503}:
        raise NotMeasured(f"the readers were answered with {sorted(set(statuses))}")
    cut_off = statuses.count(503) / len(statuses)
    detail = (
        f"a heartbeat's way into the database, ms, p50 and p99: {percentile(alone, 50):.0f} and "
        f"{percentile(alone, 99):.0f} alone, {percentile(beside, 50):.0f} and {percentile(beside, 99):.0f} "
        f"beside {READERS} readers of {sizes.history:,} lines, who were answered {len(statuses):,} times, "
        f"{cut_off:.0%} of them cut off"
    )
    what = f"heartbeats beside {READERS} readers of {sizes.history:,} lines, p99"
    return [Figure(what, percentile(beside, 99), Wanted.AT_MOST, 1000, "ms", detail)]
