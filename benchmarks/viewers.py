"""What open live views cost the daemon: its processor time with them, less that without, in one run."""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from benchmarks.daemon import Daemon, running
from benchmarks.figures import Figure, NotMeasured, Wanted
from benchmarks.rig import running_broker
from benchmarks.sizes import Sizes
from benchmarks.traffic import Traffic, beating

ONE_BROWSER = b"event: clients\n"
"""What a live view that works is told about heartbeats."""


class Browser:
    """Reads an event stream as fast as it comes."""

    def __init__(self, api: aiohttp.ClientSession) -> None:
        """Open nothing yet."""
        self.heard = 0
        self._api = api

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the whole fleet for as long as the block lasts."""
        async with self._api.get("/api/events", timeout=aiohttp.ClientTimeout(total=None)) as stream:
            if stream.status != 200:
                raise NotMeasured(f"a live view was answered with {stream.status}")
            reading = asyncio.create_task(self._read(stream))
            try:
                yield
            finally:
                reading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reading

    async def _read(self, stream: aiohttp.ClientResponse) -> None:
        async for chunk in stream.content.iter_any():
            self.heard += chunk.count(ONE_BROWSER)


async def share(daemon: Daemon, traffic: Traffic, seconds: float) -> float:
    """Return which share of a core the daemon uses."""
    async with traffic.watched():
        used, started = daemon.cpu_seconds, time.perf_counter()
        await asyncio.sleep(seconds)
        return (daemon.cpu_seconds - used) / (time.perf_counter() - started)


async def watched_share(
    daemon: Daemon, traffic: Traffic, viewers: int, seconds: float
) -> tuple[float, float]:
    """Return the same while so many browsers watch the whole fleet, and how often a second each is told."""
    async with daemon.program() as api, AsyncExitStack() as stack:
        browsers = [Browser(api) for _ in range(viewers)]
        for browser in browsers:
            await stack.enter_async_context(browser.watching())
        await asyncio.sleep(1)  # a flush or two later all are in their stride
        before, started = [browser.heard for browser in browsers], time.perf_counter()
        found = await share(daemon, traffic, seconds)
        told = [browser.heard - already for browser, already in zip(browsers, before, strict=True)]
        if not all(told):
            raise NotMeasured("not every browser was told of heartbeats")
        return found, min(told) / (time.perf_counter() - started)


async def measure(sizes: Sizes) -> list[Figure]:
    """Take turns: nobody watches, then all do."""
    clients = sizes.fleets[1]
    alone: list[float] = []
    watched: list[float] = []
    tellings: list[float] = []
    with tempfile.TemporaryDirectory(prefix="infoscreen-bench-") as name:
        folder = Path(name)
        async with (
            running_broker(folder / "broker") as rig,
            running(rig, folder / "daemon", clients) as daemon,
            beating(rig, daemon, clients, sizes.load) as traffic,
        ):
            for _ in range(sizes.rounds):
                alone.append(await share(daemon, traffic, sizes.seconds / 2))
                found, told = await watched_share(daemon, traffic, sizes.viewers, sizes.seconds / 2)
                watched.append(found)
                tellings.append(told)
    without, with_them = statistics.median(alone), statistics.median(watched)
    detail = (
        f"live view, share of a core: {without:.0%} with nobody watching, {with_them:.0%} with "
        f"{sizes.viewers} browsers on {clients:,} clients, each told {min(tellings):.1f} times a second at "
        f"least, under {sizes.load:,} heartbeats/s"
    )
    what = f"{sizes.viewers} browsers on the live view, more of a core"
    return [Figure(what, (with_them - without) * 100, Wanted.AT_MOST, 25, "%", detail)]
