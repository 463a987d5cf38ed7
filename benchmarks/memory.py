"""What the daemon keeps in memory for a large fleet, and whether that grows as traffic goes on."""

import asyncio
import tempfile
from pathlib import Path

from benchmarks.daemon import Daemon, running
from benchmarks.figures import Figure, Wanted
from benchmarks.rig import running_broker
from benchmarks.sizes import Sizes
from benchmarks.traffic import beating

READINGS = 20
"""At the beginning and at the end of the traffic; the largest of each counts, as it breathes."""

WARM_UP_ROUNDS = 1
"""So often each client is heard before anything counts: what is kept for each is there by then."""


async def _largest(daemon: Daemon, seconds: float) -> float:
    largest = 0.0
    for _ in range(READINGS):
        largest = max(largest, daemon.memory)
        await asyncio.sleep(seconds / READINGS)
    return largest


async def measure(sizes: Sizes) -> list[Figure]:
    """Watch the memory of the largest fleet's daemon."""
    clients = sizes.fleets[2]
    part = sizes.traffic_seconds / 4
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with (
            running_broker(folder / "broker") as rig,
            running(rig, folder / "daemon", clients) as daemon,
        ):
            fresh = daemon.memory
            async with beating(rig, daemon, clients, sizes.load) as traffic, traffic.watched():
                await asyncio.sleep(WARM_UP_ROUNDS * clients / sizes.load)
                first = await _largest(daemon, part)
                await asyncio.sleep(sizes.traffic_seconds - 2 * part)
                last = await _largest(daemon, part)
    detail = (
        f"memory, MB: {fresh:.0f} when ready, {first:.0f} when each client had been heard, {last:.0f} "
        f"after {sizes.traffic_seconds:,.0f} s more of {traffic.stored_per_second:,.0f} heartbeats/s"
    )
    return [
        Figure(f"memory with {clients:,} clients", max(first, last), Wanted.AT_MOST, 250, "MB", detail),
        Figure(
            f"memory after {sizes.traffic_seconds:,.0f} s of traffic / before",
            last / first,
            Wanted.AT_MOST,
            1.02,
            "",
            detail,
        ),
    ]
