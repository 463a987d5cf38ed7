"""How late the event loop is while a flood of heartbeats comes in, as the daemon itself measures it."""

import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp

from benchmarks.daemon import Daemon, running
from benchmarks.figures import Figure, Wanted, percentile
from benchmarks.idle import lateness
from benchmarks.rig import running_broker
from benchmarks.sizes import Sizes
from benchmarks.traffic import beating
from infoscreen.services.monitoring import LAG_SECONDS

SERIES = "infoscreen_event_loop_lag_seconds"


async def readings(daemon: Daemon, visitor: aiohttp.ClientSession, seconds: float) -> list[float]:
    """Read the daemon's gauge, in ms, as often as it changes."""
    lags: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        await asyncio.sleep(LAG_SECONDS)
        lags.append(await daemon.counted(visitor, SERIES) * 1000)
    return lags


async def measure(sizes: Sizes) -> list[Figure]:
    """Watch the event loop of the middle fleet's daemon."""
    clients, seconds = sizes.fleets[1], 2 * sizes.seconds
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with (
            running_broker(folder / "broker") as rig,
            running(rig, folder / "daemon", clients) as daemon,
            daemon.visitor() as visitor,
            beating(rig, daemon, clients, sizes.flood) as traffic,
        ):
            used = daemon.cpu_seconds
            async with traffic.watched():
                lags, idle = await asyncio.gather(readings(daemon, visitor, seconds), lateness(seconds))
            used = daemon.cpu_seconds - used
    detail = (
        f"event loop lag, ms: p50 {percentile(lags, 50):.1f}, p95 {percentile(lags, 95):.1f}, "
        f"p99 {percentile(lags, 99):.1f}, worst {max(lags):.1f} of {len(lags)} readings, under "
        f"{traffic.stored_per_second:,.0f} heartbeats/s, {used / seconds:.0%} of a core; of an idle process "
        f"meanwhile: p99 {percentile(idle, 99):.1f}, worst {max(idle):.1f}"
    )
    what = f"event loop lag, p99 under {sizes.flood:,} heartbeats/s"
    return [Figure(what, percentile(lags, 99), Wanted.AT_MOST, 20, "ms", detail)]
