"""Heartbeats of others, and the daemon's memory, while one device floods.

The flood: log lines with contexts of 60 KB, pictures of 1 MB that are refused, and pictures of 512 KiB.
"""

import asyncio
import contextlib
import json
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.daemon import Daemon, running
from benchmarks.figures import Figure, NotMeasured, Wanted, percentile
from benchmarks.fleet import uuid_of
from benchmarks.line import Line
from benchmarks.rig import devices, running_broker
from benchmarks.sizes import Sizes
from infoscreen.wire import topics

FLOODER, PROBE = uuid_of(0), uuid_of(1)
IN_FLIGHT = 50
LATEST_SECONDS = 60.0
LOOK_SECONDS = 0.005
PICTURE = b"\xff\xd8\xff" + bytes(512 * 1024 - 5) + b"\xff\xd9"


async def _flood(sender: Line) -> None:
    number = 0
    while True:
        number += 1
        line = {
            "timestamp": datetime.now(UTC).isoformat(),
            "message": f"flood {number}",
            "context": {"dump": "x" * 60_000},
        }
        sender.publish(topics.logs(FLOODER, topics.LogLevel.ERROR), json.dumps(line).encode())
        if number % 20 == 0:
            sender.publish(topics.screenshot(FLOODER), PICTURE)
            sender.publish(topics.screenshot(FLOODER), bytes(1_000_000))
        if sender.sent % IN_FLIGHT == 0:
            await sender.settled()


async def _probed(daemon: Daemon, sender: Line, pid: int) -> float:
    """Return how many seconds a heartbeat takes until it is stored."""
    beat = {"timestamp": datetime.now(UTC).isoformat(), "process_status": "running", "process_pid": pid}
    started = time.perf_counter()
    sender.publish(topics.heartbeat(PROBE), json.dumps(beat).encode())
    while await asyncio.to_thread(_stored_pid, daemon.database) != pid:
        if time.perf_counter() - started > LATEST_SECONDS:
            raise NotMeasured(f"a heartbeat was not stored within {LATEST_SECONDS:g} s of a flood")
        await asyncio.sleep(LOOK_SECONDS)
    return time.perf_counter() - started


def _stored_pid(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        row = connection.execute("SELECT process_pid FROM clients WHERE uuid = ?", (PROBE,)).fetchone()
        return int(row[0] or 0)


async def measure(sizes: Sizes) -> list[Figure]:
    """Return the slow end of the heartbeats' times, and the most memory."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with (
            running_broker(folder / "broker") as rig,
            running(rig, folder / "daemon", sizes.fleets[0]) as daemon,
            devices(rig, "flooder") as flooder,
            devices(rig, "probe") as probe,
        ):
            memory = daemon.memory
            flooding = asyncio.create_task(_flood(flooder))
            until = time.perf_counter() + sizes.seconds
            try:
                while time.perf_counter() < until and not flooding.done():
                    seconds.append(await _probed(daemon, probe, 2_000 + len(seconds)))
                    memory = max(memory, daemon.memory)
            finally:
                flooding.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await flooding
            sent = flooder.sent
    p50, p99 = percentile(seconds, 50), percentile(seconds, 99)
    detail = (
        f"flood: {sent:,} messages of one device in {sizes.seconds:g} s; {len(seconds)} heartbeats of "
        f"another were stored after p50 {p50:.3f} s, p99 {p99:.3f} s; memory up to {memory:.0f} MB"
    )
    return [
        Figure("heartbeat to database while one device floods, p99", p99, Wanted.AT_MOST, 1, "s", detail),
        Figure("memory while one device floods", memory, Wanted.AT_MOST, 250, "MB", detail),
    ]
