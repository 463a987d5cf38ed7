"""How late the event loop is while a flood of heartbeats comes in, as the daemon itself measures it."""

import asyncio
import tempfile
from pathlib import Path

from benchmarks.daemon import running
from benchmarks.figures import Figure, Wanted, percentile
from benchmarks.rig import running_broker
from benchmarks.sizes import Sizes
from benchmarks.traffic import beating
from infoscreen.services.monitoring import LAG_SECONDS

SERIES = "infoscreen_event_loop_lag_seconds"


async def measure(sizes: Sizes) -> list[Figure]:
    """Read the daemon's gauge as often as it changes."""
    clients, lags = sizes.fleets[1], []
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
                for _ in range(round(2 * sizes.seconds / LAG_SECONDS)):
                    await asyncio.sleep(LAG_SECONDS)
                    lags.append(await daemon.counted(visitor, SERIES) * 1000)
            used = daemon.cpu_seconds - used
    detail = (
        f"event loop lag, ms: p50 {percentile(lags, 50):.1f}, p95 {percentile(lags, 95):.1f}, "
        f"p99 {percentile(lags, 99):.1f}, worst {max(lags):.1f} of {len(lags)} readings, under "
        f"{traffic.stored_per_second:,.0f} heartbeats/s, {used / (2 * sizes.seconds):.0%} of a core"
    )
    what = f"event loop lag, p99 under {sizes.flood:,} heartbeats/s"
    return [Figure(what, percentile(lags, 99), Wanted.AT_MOST, 20, "ms", detail)]
