"""What people and programs look at first, under load, and whether it takes longer the larger the fleet is.

Every fleet has the same number of unwell clients, so that every page shows the same.
"""

import statistics
import tempfile
import time
from pathlib import Path

import aiohttp

from benchmarks.daemon import running
from benchmarks.figures import Figure, NotMeasured, Wanted, percentile
from benchmarks.rig import Rig, running_broker
from benchmarks.sizes import Sizes
from benchmarks.traffic import beating

PAGES = {
    "panel, start page": "/",
    "panel, clients": "/clients",
    "API, overview of 100": "/api/monitoring/overview?limit=100",
}
WARM_UP = 10

Taken = dict[str, list[float]]
"""Milliseconds by page."""


async def taken(rig: Rig, folder: Path, clients: int, sizes: Sizes) -> Taken:
    """Ask for each page in turn while heartbeats flow."""
    async with (
        running(rig, folder, clients) as daemon,
        daemon.program() as visitor,
        beating(rig, daemon, clients, sizes.load) as traffic,
    ):
        for _ in range(WARM_UP):
            for path in PAGES.values():
                await _milliseconds(visitor, path)
        found: Taken = {name: [] for name in PAGES}
        async with traffic.watched():
            for _ in range(sizes.samples):
                for name, path in PAGES.items():
                    found[name].append(await _milliseconds(visitor, path))
        return found


async def _milliseconds(visitor: aiohttp.ClientSession, path: str) -> float:
    started = time.perf_counter()
    async with visitor.get(path) as answer:
        await answer.read()
        if answer.status != 200:
            raise NotMeasured(f"{path} was answered with {answer.status}")
    return (time.perf_counter() - started) * 1000


async def measure(sizes: Sizes) -> list[Figure]:
    """Measure each fleet size."""
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        by_fleet: dict[int, Taken] = {}
        for clients in sizes.fleets:
            folder = Path(name) / str(clients)
            async with running_broker(folder) as rig:
                by_fleet[clients] = await taken(rig, folder / "daemon", clients, sizes)
    small, usual, large = sizes.fleets
    figures: list[Figure] = []
    for page in PAGES:
        detail = f"{page}, ms, p50 and p95 by fleet: " + ", ".join(
            f"{clients:,}: {percentile(found[page], 50):.1f} and {percentile(found[page], 95):.1f}"
            for clients, found in by_fleet.items()
        )
        grown = statistics.median(by_fleet[large][page]) / statistics.median(by_fleet[small][page])
        figures += [
            Figure(
                f"{page}, {usual:,} clients, p95",
                percentile(by_fleet[usual][page], 95),
                Wanted.AT_MOST,
                50,
                "ms",
                detail,
            ),
            Figure(f"{page}, p50 of {large:,} / {small:,} clients", grown, Wanted.AT_MOST, 1.2, "", detail),
        ]
    return figures
