"""What people and programs look at first, under load, and whether it takes longer the larger the fleet is.

Every fleet has the same number of unwell clients, so that every page shows the same.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.daemon import Daemon, running
from benchmarks.figures import Figure, NotMeasured, Wanted, percentile
from benchmarks.rig import Rig, running_broker
from benchmarks.sizes import Sizes
from benchmarks.traffic import beating
from infoscreen.storage.paging import encode_cursor

PAGES = {
    "panel, start page": "/",
    "panel, clients": "/clients",
    "panel, clients of a site by last heartbeat": "/clients?site=Site+01&sort=-last_alive",
    "panel, clients searched": "/clients?q=screen-0004",
    "API, overview of 100": "/api/monitoring/overview?limit=100",
    "API, clients": "/api/clients?limit=100",
    "API, clients, a page far down": "/api/clients?limit=100&cursor={cursor}",
    "API, clients online by status": "/api/clients?limit=100&status=online&sort=-status_since",
    "API, clients with a tag": "/api/clients?limit=100&tag=bench",
    "API, clients by last heartbeat": "/api/clients?limit=100&sort=-last_alive",
}
WARM_UP = 10


@dataclass(frozen=True, slots=True)
class Taken:
    """What the pages took with one fleet, in milliseconds by page: until they were here, and of a core."""

    waited: dict[str, list[float]]
    used: dict[str, float]


async def taken(rig: Rig, folder: Path, clients: int, sizes: Sizes) -> Taken:
    """Ask for each page again and again: for its cost in silence, for the waiting while heartbeats flow."""
    cursor = encode_cursor(f"screen {clients // 2:05}", "")
    pages = {name: path.format(cursor=cursor) for name, path in PAGES.items()}
    async with running(rig, folder, clients) as daemon, daemon.program() as visitor:
        for _ in range(WARM_UP):
            for path in pages.values():
                await _milliseconds(visitor, path)
        used = {name: await _cost(daemon, visitor, path, sizes.visits) for name, path in pages.items()}
        waited: dict[str, list[float]] = {name: [] for name in pages}
        async with beating(rig, daemon, clients, sizes.load) as traffic, traffic.watched():
            for _ in range(sizes.visits):
                for name, path in pages.items():
                    waited[name].append(await _milliseconds(visitor, path))
        return Taken(waited, used)


async def _milliseconds(visitor: aiohttp.ClientSession, path: str) -> float:
    started = time.perf_counter()
    async with visitor.get(path) as answer:
        await answer.read()
        if answer.status != 200:
            raise NotMeasured(f"{path} was answered with {answer.status}")
    return (time.perf_counter() - started) * 1000


async def _cost(daemon: Daemon, visitor: aiohttp.ClientSession, path: str, samples: int) -> float:
    """Return the processor time of one answer, which neighbours on the machine hardly change."""
    used = daemon.cpu_seconds
    for _ in range(samples):
        await _milliseconds(visitor, path)
    return (daemon.cpu_seconds - used) / samples * 1000


async def measure(sizes: Sizes) -> list[Figure]:
    """Measure each fleet size."""
    by_fleet: dict[int, Taken] = {}
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        for clients in (sizes.fleets[0], sizes.fleets[-1]):
            folder = Path(name) / str(clients)
            async with running_broker(folder) as rig:
                by_fleet[clients] = await taken(rig, folder / "daemon", clients, sizes)
    return [figure for page in PAGES for figure in _figures(page, by_fleet, sizes)]


def _figures(page: str, by_fleet: Mapping[int, Taken], sizes: Sizes) -> list[Figure]:
    small, large = sizes.fleets[0], sizes.fleets[-1]
    by_size = [
        f"{clients:,}: {percentile(each.waited[page], 50):.1f} and {percentile(each.waited[page], 95):.1f}, "
        f"{each.used[page]:.1f}"
        for clients, each in by_fleet.items()
    ]
    what = f"{page}, ms, p50 and p95 under {sizes.load:,} heartbeats/s, and processor time, by fleet"
    detail = f"{what}: {'; '.join(by_size)}"
    waited = percentile(by_fleet[large].waited[page], 95)
    # One tick of the clock that processor time is counted with, or a handful of answers would divide by zero.
    grown = by_fleet[large].used[page] / max(by_fleet[small].used[page], 10 / sizes.visits)
    return [
        Figure(f"{page}, {large:,} clients, p95", waited, Wanted.AT_MOST, 50, "ms", detail),
        Figure(
            f"{page}, processor time, {large:,} / {small:,} clients", grown, Wanted.AT_MOST, 1.2, "", detail
        ),
    ]
